/** `tsoracle bench`: callers in a closed loop, each asking again as soon as it is answered; a live line a second, and a report for an issue. */
import { arch, cpus, release, type } from "node:os";
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import { type Command, Option } from "commander";
import { messageOf, OracleError } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import type { OracleClient } from "../client/index.ts";
import { GRANT_COUNT_MAX } from "../oracle/rules/timestamp.ts";
import { type ConnectionFlags, withClient, withConnection } from "./connection.ts";
import { CliError, EXIT, usageError } from "./exit-codes.ts";
import { print } from "./print.ts";
import { formatDuration, parseDurationBetween, parseWhole } from "./values.ts";

const MODES = ["ts", "batch", "seq"] as const;

interface BenchFlags extends ConnectionFlags {
  readonly mode: (typeof MODES)[number];
  readonly batch: number;
  readonly key: string;
  readonly callers: number;
  readonly duration: number;
  readonly warmup: number;
}

export function addBench(program: Command): void {
  withConnection(program.command("bench"))
    .description("measure a server: calls and values a second, latencies, errors")
    .addOption(
      new Option("--mode <mode>", "ts: a call takes a timestamp; batch: a block of them; seq: a value of a sequence, which is used up")
        .choices(MODES)
        .default("ts"),
    )
    .addOption(new Option("--batch <n>", "timestamps a call, with --mode batch").argParser(parseWhole(1, GRANT_COUNT_MAX)).default(100))
    .option("--key <key>", "the sequence whose values --mode seq uses up", "tsoracle-bench")
    .addOption(new Option("--callers <n>", "callers, each with one call at a time").argParser(parseWhole(1, 10_000)).default(64))
    .addOption(new Option("--duration <time>", "how long to measure").argParser(parseDurationBetween("100ms", "1d")).default(10_000, "10s"))
    .addOption(new Option("--warmup <time>", "how long to run before that").argParser(parseDurationBetween("0s", "1h")).default(1_000, "1s"))
    .action(async (flags: BenchFlags, command: Command) => {
      for (const [name, mode] of [
        ["batch", "batch"],
        ["key", "seq"],
      ] as const) {
        if (flags.mode === mode || command.getOptionValueSource(name) !== "cli") continue;
        throw usageError(`--${name} ${flags[name]} is for --mode ${mode}, and the mode is ${flags.mode}`);
      }
      await bench(flags);
    });
}

async function bench(flags: BenchFlags): Promise<void> {
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  process.once("SIGINT", interrupt); // once: a second one ends the command at once
  const load = new Load();
  let interrupted = false;
  try {
    await withClient(
      flags,
      async (client) => {
        await run(load, askOf(client, flags), flags, stop.signal);
        interrupted = stop.signal.aborted;
      },
      { callsMax: flags.callers },
    );
  } finally {
    stop.abort();
    process.off("SIGINT", interrupt);
  }
  const report = reportOf(load, flags, interrupted);
  await print(flags, report, textOf(report));
  if (!report.succeeded) throw new CliError(EXIT.notApplied, `not one call succeeded${load.lastFailure}`);
}

function askOf(client: OracleClient, { mode, batch, key }: BenchFlags): () => Promise<unknown> {
  switch (mode) {
    case "ts":
      return () => client.getTs();
    case "batch":
      return () => client.getTsRange(batch);
    case "seq":
      return () => client.getSeq(key);
    default:
      return mode satisfies never;
  }
}

/** Returns once every caller has ended: what was asked for is counted, also where its answer comes after the time. */
async function run(load: Load, ask: () => Promise<unknown>, { callers, duration, warmup }: BenchFlags, signal: AbortSignal): Promise<void> {
  const phases = async (): Promise<void> => {
    if (!(await pause(warmup, signal))) return;
    load.measure();
    await pause(duration, signal);
  };
  const live = new LiveLine(load);
  try {
    const calling = Promise.all(Array.from({ length: callers }, () => load.keepAsking(ask)));
    await Promise.race([calling, phases()]); // callers end by themselves only where there is no use in going on
    load.end();
    await calling;
  } finally {
    load.end();
    live.end();
  }
}

/** Returns whether `ms` have passed; not if `signal` was aborted first. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  const until = performance.now() + ms;
  try {
    // A timer may be a millisecond early.
    for (let left = ms; left > 0; left = until - performance.now()) await delay(Math.ceil(left), undefined, { signal });
    return true;
  } catch (error) {
    if (!signal.aborted) throw error;
    return false;
  }
}

/** How long a caller waits after a failure: a server that is down must not be asked in a loop that spins. */
const AFTER_FAILURE_MS = 100;

/** Longer than any call may take. */
const LATENCY_MAX_US = 86_400_000_000;

/** What the callers do, and what is counted of it. */
class Load {
  /** Latencies of the measured calls, µs. */
  readonly measured = newHistogram();
  /** Of all that ended since the live line was last written. */
  readonly recent = newHistogram();
  /** Calls that succeeded before the measured time, or after it. */
  unmeasured = 0;
  /** Of the whole run, by code. */
  readonly errors = new Map<string, number>();
  lastFailure = "";
  elapsedMs = 0;
  #phase: "warm-up" | "measured" | "over" = "warm-up";
  #beganAt = 0;

  get phase(): string {
    return this.#phase;
  }

  measure(): void {
    this.#phase = "measured";
    this.#beganAt = performance.now();
  }

  end(): void {
    if (this.#phase === "measured") this.elapsedMs = performance.now() - this.#beganAt;
    this.#phase = "over";
  }

  /** One caller. @throws OracleError TSO_INVALID_ARGUMENT: every other call would be refused as this one was. */
  async keepAsking(ask: () => Promise<unknown>): Promise<void> {
    for (let askedAt = performance.now(); this.#phase !== "over"; ) {
      try {
        await ask();
      } catch (error) {
        this.#failed(error);
        if (!this.#isOver()) await delay(AFTER_FAILURE_MS);
        askedAt = performance.now();
        continue;
      }
      const now = performance.now();
      this.#answered(Math.max(1, Math.round((now - askedAt) * 1_000)));
      askedAt = now; // one reading of the clock a call
    }
  }

  #answered(latencyUs: number): void {
    this.recent.record(latencyUs);
    if (this.#phase === "measured") this.measured.record(latencyUs);
    else this.unmeasured += 1;
  }

  #failed(error: unknown): void {
    if (!(error instanceof OracleError) || error.code === "TSO_INVALID_ARGUMENT") throw error;
    this.errors.set(error.code, (this.errors.get(error.code) ?? 0) + 1);
    this.lastFailure = `: ${messageOf(error)}`;
  }

  #isOver(): boolean {
    return this.#phase === "over";
  }
}

function newHistogram(): RecordableHistogram {
  return createHistogram({ lowest: 1, highest: LATENCY_MAX_US, figures: 3 });
}

/** On stderr, so that stdout holds the report alone. */
class LiveLine {
  readonly #load: Load;
  readonly #timer: NodeJS.Timeout;
  readonly #startedAt = performance.now();
  #writtenAt = performance.now();

  constructor(load: Load) {
    this.#load = load;
    this.#timer = setInterval(() => this.#write(), 1_000);
  }

  end(): void {
    clearInterval(this.#timer);
    if (process.stderr.isTTY && this.#writtenAt > this.#startedAt) process.stderr.write("\n");
  }

  #write(): void {
    const { recent, errors, phase } = this.#load;
    const now = performance.now();
    const perSecond = recent.count / ((now - this.#writtenAt) / 1_000);
    const latencies = ([50, 99, 99.9] as const).map((each) => `p${String(each).replace(".", "")} ${microseconds(recent.percentile(each))}`);
    const line = [
      `${Math.round((now - this.#startedAt) / 1_000)} s ${phase === "over" ? "ending" : phase}`,
      `${whole(perSecond)} calls/s`,
      `errors ${whole(sum(errors.values()))}`,
      ...(recent.count === 0 ? [] : latencies),
    ].join("  ");
    const { isTTY, columns } = process.stderr;
    process.stderr.write(isTTY ? `\r${line.slice(0, Math.max(40, columns) - 1)}\u001b[K` : `${line}\n`); // one that wraps could not be written over
    this.#writtenAt = now;
    recent.reset();
  }
}

/** What is printed with --json. Optional parts are there where they mean something. */
interface Report {
  /** The command line that says the same, defaults too. */
  readonly command: string;
  readonly version: string;
  readonly node: string;
  readonly os: string;
  readonly cpus: { readonly count: number; readonly model: string };
  readonly endpoints: readonly string[];
  readonly mode: string;
  readonly batch?: number;
  readonly key?: string;
  readonly callers: number;
  readonly durationMs: number;
  readonly warmupMs: number;
  readonly timeoutMs: number;
  /** Whether any call of the run succeeded. */
  readonly succeeded: boolean;
  readonly interrupted: boolean;
  readonly elapsedMs: number;
  readonly calls: number;
  readonly values: number;
  readonly callsPerSecond: number;
  readonly valuesPerSecond: number;
  readonly latency?: { readonly p50Us: number; readonly p90Us: number; readonly p99Us: number; readonly p999Us: number; readonly maxUs: number };
  readonly unmeasured: { readonly calls: number; readonly values: number };
  readonly errors: Readonly<Record<string, number>>;
}

function reportOf({ measured, unmeasured, errors, elapsedMs }: Load, flags: BenchFlags, interrupted: boolean): Report {
  const { mode, batch, key } = flags;
  const perCall = mode === "batch" ? batch : 1;
  const calls = measured.count;
  const callsPerSecond = elapsedMs === 0 ? 0 : calls / (elapsedMs / 1_000);
  const machine = cpus();
  return {
    command: commandOf(flags),
    version: VERSION,
    node: process.version,
    os: `${type()} ${release()} ${arch()}`,
    cpus: { count: machine.length, model: machine[0]?.model ?? "unknown" },
    endpoints: flags.endpoint,
    mode,
    ...(mode === "batch" ? { batch } : {}),
    ...(mode === "seq" ? { key } : {}),
    callers: flags.callers,
    durationMs: flags.duration,
    warmupMs: flags.warmup,
    timeoutMs: flags.timeout,
    succeeded: calls + unmeasured > 0,
    interrupted,
    elapsedMs: Math.round(elapsedMs),
    calls,
    values: calls * perCall,
    callsPerSecond: Math.round(callsPerSecond),
    valuesPerSecond: Math.round(callsPerSecond * perCall),
    ...(calls === 0 ? {} : { latency: latencyOf(measured) }),
    unmeasured: { calls: unmeasured, values: unmeasured * perCall },
    errors: Object.fromEntries([...errors].sort(([, a], [, b]) => b - a)),
  };
}

function latencyOf(measured: RecordableHistogram): NonNullable<Report["latency"]> {
  const [p50Us, p90Us, p99Us, p999Us] = [measured.percentile(50), measured.percentile(90), measured.percentile(99), measured.percentile(99.9)];
  return { p50Us, p90Us, p99Us, p999Us, maxUs: measured.max };
}

function commandOf(flags: BenchFlags): string {
  const { mode, batch, key, callers, duration, warmup, timeout, endpoint, clientTlsCa, clientTlsCert, clientTlsKey, json } = flags;
  const words: readonly (readonly [name: string, value: string | number | undefined])[] = [
    ["endpoint", endpoint.join(",")],
    ["mode", mode],
    ["batch", mode === "batch" ? batch : undefined],
    ["key", mode === "seq" ? key : undefined],
    ["callers", callers],
    ["duration", formatDuration(duration)],
    ["warmup", formatDuration(warmup)],
    ["timeout", formatDuration(timeout)],
    ["client-tls-ca", clientTlsCa],
    ["client-tls-cert", clientTlsCert],
    ["client-tls-key", clientTlsKey],
  ];
  const said = words.flatMap(([name, value]) => (value === undefined ? [] : [`--${name} ${quoted(String(value))}`]));
  return ["tsoracle bench", ...said, ...(json === true ? ["--json"] : [])].join(" ");
}

/** As a shell reads it. */
function quoted(word: string): string {
  return /^[\w./:,[\]@%+=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function textOf(report: Report): readonly string[] {
  const { latency, errors, unmeasured } = report;
  return [
    report.command,
    `versions      tsoracle ${report.version}, node ${report.node}`,
    `machine       ${report.os}, ${report.cpus.count} x ${report.cpus.model}`,
    `endpoints     ${report.endpoints.join(", ")}`,
    `measured      ${(report.elapsedMs / 1_000).toFixed(2)} s${report.interrupted ? ", ended early by SIGINT" : ""}`,
    `calls         ${whole(report.calls)}, ${whole(report.callsPerSecond)}/s`,
    `values        ${whole(report.values)}, ${whole(report.valuesPerSecond)}/s`,
    `latency       ${latency === undefined ? "-" : shownLatency(latency)}`,
    `not measured  ${whole(unmeasured.calls)} calls, ${whole(unmeasured.values)} values: in the warm-up, or answered after the time`,
    `errors        ${Object.keys(errors).length === 0 ? "none" : ""}`.trimEnd(),
    ...Object.entries(errors).map(([code, count]) => `  ${code} ${whole(count)}`),
    ...(report.succeeded ? [] : ["NOT ONE CALL SUCCEEDED"]),
  ];
}

function shownLatency({ p50Us, p90Us, p99Us, p999Us, maxUs }: NonNullable<Report["latency"]>): string {
  const all = { p50: p50Us, p90: p90Us, p99: p99Us, p999: p999Us, max: maxUs };
  return Object.entries(all)
    .map(([name, us]) => `${name} ${microseconds(us)}`)
    .join("  ");
}

function microseconds(us: number): string {
  return us < 1_000 ? `${us} µs` : `${(us / 1_000).toFixed(2)} ms`;
}

function whole(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
