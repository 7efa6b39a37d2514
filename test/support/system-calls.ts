/** Reads what `strace -f -yy -xx` wrote: which calls there were, on what, with which bytes, and where they stand in the order in which they happened. */

/** The calls by which bytes leave a process or become durable. Those with `?` do not exist everywhere. */
export const TRACED_CALLS = "execve,openat,write,writev,pwrite64,?pwritev,?pwritev2,sendmsg,sendto,fdatasync,fsync";

export interface SystemCall {
  readonly pid: number;
  readonly name: string;
  /** The file or the connection: what the descriptor stood for. */
  readonly target: string;
  /** What was written. */
  readonly bytes: Buffer;
  /** Lines of the trace: it was entered at the one, and had returned at the other. A call that never returned has no end. */
  readonly entered: number;
  readonly returned: number | undefined;
  readonly result: string;
  /** Of a write: to a file that was opened so that each write is flushed before it returns (O_DSYNC). */
  readonly flushes: boolean;
}

/**
 * A traced process stands still until strace has taken note of it, so the order of the lines is one in which things happened: what follows from
 * the return of a call is always below it.
 */
export function readTrace(trace: string): readonly SystemCall[] {
  const calls: SystemCall[] = [];
  const durable = new Set<string>();
  const open = new Map<number, { readonly index: number; readonly name: string }>();
  trace.split("\n").forEach((line, at) => {
    const [, pid = "", rest = ""] = /^(\d+) +(.*)$/.exec(line) ?? [];
    const [, resumed, ending = ""] = /^<\.\.\. (\w+) resumed>(.*)$/.exec(rest) ?? [];
    const started = open.get(Number(pid));
    if (resumed !== undefined) {
      const before = started === undefined ? undefined : calls[started.index];
      if (started === undefined || before === undefined || started.name !== resumed) throw new Error(`line ${at + 1} resumes nothing: ${line}`);
      calls[started.index] = { ...before, returned: at, result: resultOf(ending) };
      open.delete(Number(pid));
      return;
    }
    const [, name, args = ""] = /^(\w+)\((.*)$/.exec(rest) ?? [];
    if (name === undefined) return;
    if (name === "openat") {
      const [, path = "", flags = ""] = /, "((?:\\x[0-9a-f]{2})*)", (O_[A-Z_|]+)/.exec(args) ?? [];
      if (flags.split("|").includes("O_DSYNC")) durable.add(decoded(path).toString());
    }
    const isUnfinished = args.endsWith("<unfinished ...>");
    if (isUnfinished) open.set(Number(pid), { index: calls.length, name });
    const target = decoded(/^\d+<((?:[^<>]|->)*)>/.exec(args)?.[1] ?? "").toString();
    const bytes = Buffer.concat([...args.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map(([, hex = ""]) => decoded(hex)));
    const result = isUnfinished ? "" : resultOf(args);
    calls.push({ pid: Number(pid), name, target, bytes, entered: at, returned: isUnfinished ? undefined : at, result, flushes: durable.has(target) });
  });
  return calls;
}

/** What became of the grant whose key no other has. */
export interface GrantTrail {
  /** The write of the journal that holds it. */
  readonly written: SystemCall | undefined;
  /** The write itself, where it flushes; else the first flush of that file that was begun when the write had returned. */
  readonly flushed: SystemCall | undefined;
  /** The first bytes with it that were given to a connection. */
  readonly replied: SystemCall | undefined;
}

export function trailOf(calls: readonly SystemCall[], key: string): GrantTrail {
  const holdsIt = ({ bytes }: SystemCall): boolean => bytes.includes(key);
  const written = calls.find((call) => call.name.startsWith("pwrite") && isJournal(call) && holdsIt(call));
  if (written?.flushes === true) return { written, flushed: Number(written.result) > 0 ? written : undefined, replied: repliedOf(calls, holdsIt) };
  const flushed = calls.find(
    (call) =>
      isFlush(call) && call.target === written?.target && written.returned !== undefined && call.entered > written.returned && call.result === "0",
  );
  return { written, flushed, replied: repliedOf(calls, holdsIt) };
}

function repliedOf(calls: readonly SystemCall[], holdsIt: (call: SystemCall) => boolean): SystemCall | undefined {
  return calls.find((call) => call.target.startsWith("TCP") && holdsIt(call));
}

/** Whether the reply was given to the connection only when the flush that covers its grant had returned. */
export function isFlushedFirst({ written, flushed, replied }: GrantTrail): boolean {
  if (written === undefined || flushed?.returned === undefined || replied === undefined) return false;
  return replied.entered > flushed.returned;
}

export function isFlush({ name, target, flushes }: SystemCall): boolean {
  return (name === "fdatasync" || name === "fsync" || (name.startsWith("pwrite") && flushes)) && target.includes("/wal-");
}

function isJournal({ target }: SystemCall): boolean {
  return target.includes("/wal-");
}

function resultOf(text: string): string {
  return /\) += (-?\w+)/.exec(text)?.[1] ?? "?";
}

/** Of `\x61\x62`; other text stands for itself. */
function decoded(text: string): Buffer {
  if (!/^(?:\\x[0-9a-f]{2})*$/.test(text)) return Buffer.from(text);
  return Buffer.from(text.replaceAll("\\x", ""), "hex");
}
