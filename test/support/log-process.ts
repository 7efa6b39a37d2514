/**
 * A node of the log as a process: what it logs and who leads goes to stdout, a JSON object a line; a parent proposes by messages. It ends with 1, and the reason on stderr, where it must
 * not go on.
 */
import { Buffer } from "node:buffer";
import { armFailpoint } from "../../src/base/failpoints.ts";
import type { Logger } from "../../src/base/logger.ts";
import { PaxosNode } from "../../src/paxos/node.ts";
import type { PaxosNodeOptions } from "../../src/paxos/node-options.ts";
import { openWal } from "../../src/paxos/storage/wal.ts";
import { grpcTransport } from "../../src/paxos/transport/grpc.ts";
import { BlobMachine } from "./blob-machine.ts";

/** The first argument, as JSON. */
export interface LogProcessOptions extends Pick<PaxosNodeOptions, "init" | "core" | "diskRoom"> {
  readonly node: number;
  readonly peers: string;
  readonly listen: string;
  readonly directory: string;
  readonly segmentBytes?: number | undefined;
  /** Its machine keeps so many commands, and counts the others. */
  readonly forgets?: number | undefined;
  /** It kills itself there. */
  readonly dies?: Arm | undefined;
}

/** From the parent, and back. */
export interface Asked {
  readonly number: number;
  /** To be proposed; the whole list is asked for if there is none. */
  readonly text?: string | undefined;
  readonly what?: "status" | undefined;
  readonly arm?: Arm | undefined;
  /** So many proposals a second, for so long. */
  readonly load?: { readonly perSecond: number; readonly seconds: number; readonly bytes?: number } | undefined;
}
/** What a load saw. */
export interface LoadFigures {
  readonly applied: number;
  readonly others: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly mostMs: number;
  readonly heapBytesMost: number;
  readonly rssBytesMost: number;
}
export interface Arm {
  readonly site: string;
  readonly nth: number;
}
export interface Told {
  readonly number: number;
  readonly answer: unknown;
}

const json = (value: unknown): string => JSON.stringify(value, (_, part) => (typeof part === "bigint" ? `${part}` : part));
const say = (line: object): void => void process.stdout.write(`${json(line)}\n`);
const at = (level: string) => (fields: object, text: string) => say({ level, text, ...fields });
const logger: Logger = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };

/** Dies when the site is reached for the `nth` time, counted from when it is armed. */
function dieAt({ site, nth }: Arm): void {
  let reached = 0;
  armFailpoint(site, () => {
    reached += 1;
    if (reached === nth) process.kill(process.pid, "SIGKILL");
  });
}

async function run({ node: id, peers, listen, directory, segmentBytes, init, core, diskRoom, dies, forgets }: LogProcessOptions): Promise<void> {
  const machine = new BlobMachine(forgets);
  if (dies !== undefined) dieAt(dies);
  const storage = await openWal({ directory, node: id, segmentBytes });
  const node = await PaxosNode.start({ storage, machine, peers, init, core, diskRoom, logger, transport: grpcTransport({ listen }) });
  process.on("message", async ({ number, text, what, arm, load }: Asked) => {
    if (arm !== undefined) dieAt(arm);
    const answer =
      load !== undefined
        ? await underLoad(node, load)
        : what === "status"
          ? statusOf(node)
          : text === undefined
            ? await all(node, machine)
            : await node.propose(Buffer.from(text));
    process.send?.({ number, answer: JSON.parse(json(answer)) } satisfies Told);
  });
  for await (const { role } of node.leadership()) say({ role });
  await node.done;
}

function statusOf(node: PaxosNode): object {
  const { heapUsed, rss } = process.memoryUsage();
  return { ...node.status(), heapBytes: heapUsed, rssBytes: rss };
}

/** Proposals at their times, whether or not those before have been answered. */
async function underLoad(node: PaxosNode, { perSecond, seconds, bytes = 100 }: NonNullable<Asked["load"]>): Promise<LoadFigures> {
  const times: number[] = [];
  let others = 0;
  let [heapBytesMost, rssBytesMost] = [0, 0];
  const propose = async (): Promise<void> => {
    const began = performance.now();
    const { type } = await node.propose(new Uint8Array(bytes));
    if (type === "applied") times.push(performance.now() - began);
    else others += 1;
  };
  const open = new Set<Promise<void>>();
  const began = performance.now();
  for (let count = 0; performance.now() - began < seconds * 1000; ) {
    for (const due = ((performance.now() - began) / 1000) * perSecond; count < due; count++) {
      const one = propose().finally(() => open.delete(one));
      open.add(one);
    }
    const { heapUsed, rss } = process.memoryUsage();
    [heapBytesMost, rssBytesMost] = [Math.max(heapBytesMost, heapUsed), Math.max(rssBytesMost, rss)];
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all([...open]);
  times.sort((a, b) => a - b);
  const at = (part: number): number => times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? Number.NaN;
  return { applied: times.length, others, p50Ms: at(0.5), p99Ms: at(0.99), mostMs: at(1), heapBytesMost, rssBytesMost };
}

/** What is decided by now, or why that cannot be told. */
async function all(node: PaxosNode, machine: BlobMachine): Promise<unknown> {
  try {
    await node.barrier();
    return machine.commands;
  } catch (error) {
    return String(error);
  }
}

run(JSON.parse(process.argv[2] ?? "{}")).catch((fault: unknown) => {
  process.stderr.write(`${fault instanceof Error ? fault.message : fault}\n`, () => process.exit(1));
});
