/**
 * What a single node costs beside the bare transport, and its disk beside memory. Both sides of a ratio alternate in one run, called by the same
 * client code in this process. JSON lines on stdout; `bench/README.md` says what each means.
 *
 *     npm run bench -- --only ts --seconds 0.5 --rounds 25
 */
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { measureDisk } from "./baseline/disk.ts";
import { type Measurement, machineCpuUs, medianRatio, medians, percentiles, processCpuUs, round3 } from "./figures.ts";
import type { Method } from "./raw-caller.ts";
import { type Served, type ServerProcess, start } from "./served.ts";

type SideName = "echo" | "get-ts" | "memory" | "file" | "disk";
type Figure = "perSecond" | "p50Us";

interface Bench {
  readonly name: string;
  readonly callers: number;
  /** The baseline first, then what is held against it. */
  readonly sides: readonly [SideName] | readonly [SideName, SideName];
  /** What the second side over the first is to be. */
  readonly aim?: { readonly figure: Figure; readonly atMost: number } | { readonly figure: Figure; readonly atLeast: number };
  /** What such a baseline does on this kind of machine when it is quiet: bench/README.md. */
  readonly limit?: { readonly figure: Figure; readonly value: number };
}

const BENCHES: readonly Bench[] = [
  { name: "ts-1", callers: 1, sides: ["echo", "get-ts"], aim: { figure: "p50Us", atMost: 1.15 }, limit: { figure: "p50Us", value: 200 } },
  { name: "ts-64", callers: 64, sides: ["echo", "get-ts"], aim: { figure: "perSecond", atLeast: 0.9 }, limit: { figure: "perSecond", value: 9_100 } },
  { name: "seq-1", callers: 1, sides: ["memory", "file"] },
  { name: "seq-64", callers: 64, sides: ["memory", "file"], aim: { figure: "perSecond", atLeast: 0.7 } },
  { name: "seq-256", callers: 256, sides: ["memory", "file"] },
  { name: "disk-1", callers: 1, sides: ["disk"], limit: { figure: "p50Us", value: 149 } },
  { name: "disk-64", callers: 64, sides: ["disk"], limit: { figure: "perSecond", value: 340_000 } },
  { name: "disk-256", callers: 256, sides: ["disk"], limit: { figure: "perSecond", value: 902_000 } },
];

const ECHO: Method = { path: "/bench.Echo/Echo", request: Buffer.of(0x08, 1) };
const GET_TS: Method = { path: "/tsoracle.v1.TsoService/GetTs", request: Buffer.of(0x08, 1) };
const GET_SEQ: Method = { path: "/tsoracle.v1.TsoService/GetSeq", request: Buffer.of(0x0a, 1, 0x6b, 0x10, 1) }; // one value of the sequence "k"

/** Below this part of its limit a baseline needs an explanation: something else had the machine. */
const LIMIT_PART = 0.6;
/** Calls before anything is measured: until the compilers of both processes have done their work. */
const WARM = { callers: 64, seconds: 2 };
/** With `--quiet`: what others may use of the machine in a round that counts. */
const QUIET_CORES = 0.3;
const QUIET_MS = 500;

const { values: flags } = parseArgs({
  options: {
    seconds: { type: "string", default: "1" },
    rounds: { type: "string", default: "9" },
    only: { type: "string", multiple: true, default: [] },
    quiet: { type: "boolean", default: false },
    profile: { type: "string" },
  },
});
const seconds = Number(flags.seconds);
const rounds = Number(flags.rounds);
const benches = BENCHES.filter(({ name }) => flags.only.length === 0 || flags.only.some((only) => name === only || name.startsWith(`${only}-`)));
if (!(seconds > 0) || !(rounds >= 1) || benches.length === 0) throw new RangeError(`nothing to measure with ${process.argv.slice(2).join(" ")}`);

const directory = mkdtempSync(join(tmpdir(), "tsoracle-bench-"));
const served = new Map<SideName, Served>();
try {
  const fileSystem = `0x${statfsSync(directory).type.toString(16)}`;
  print({ line: "machine", cores: cpus().length, cpu: cpus()[0]?.model, node: process.version, fileSystem, seconds, rounds });
  for (const side of new Set(benches.flatMap(({ sides }) => sides))) {
    const server = serverOf(side);
    if (server === undefined) continue;
    const started = await start({ ...server, profile: flags.profile === undefined ? undefined : join(flags.profile, side) });
    served.set(side, started);
    await started.caller.run(WARM);
  }
  const measured = new Map<Bench, Measurement[][]>();
  for (const bench of benches) measured.set(bench, await measureRounds(bench));
  for (const [bench, found] of measured) conclude(bench, found);
} finally {
  for (const each of served.values()) await each.close();
  rmSync(directory, { recursive: true });
}

function serverOf(side: SideName): ServerProcess | undefined {
  switch (side) {
    case "echo":
      return { script: "baseline/echo-server.ts", method: ECHO };
    case "get-ts":
      return { script: "node.ts", args: ["file", join(directory, side)], method: GET_TS };
    case "memory":
      return { script: "node.ts", args: ["memory"], method: GET_SEQ };
    case "file":
      return { script: "node.ts", args: ["file", join(directory, side)], method: GET_SEQ };
    case "disk":
      return undefined;
  }
}

/** Each side once a round, in turn. */
async function measureRounds({ name, callers, sides }: Bench): Promise<Measurement[][]> {
  const measured: Measurement[][] = [];
  while (measured.length < rounds) {
    if (flags.quiet) await quietMachine();
    const found: Measurement[] = [];
    for (const side of sides) found.push(side === "disk" ? await measureWriters(callers) : await measureCallers(served.get(side), callers));
    const counts = !flags.quiet || found.every(({ otherCores }) => otherCores <= QUIET_CORES);
    if (counts) measured.push(found);
    const line = counts ? "measurement" : "disturbed";
    found.forEach((figures, index) => {
      const side = sides[index];
      print({ line, bench: name, side, callers, round: measured.length, ...shown(side, figures), load: round3(loadavg()[0]) });
    });
  }
  return measured;
}

/** Returns when others have left the machine alone for a moment. */
async function quietMachine(): Promise<void> {
  for (;;) {
    const before = machineCpuUs();
    await delay(QUIET_MS);
    if (machineCpuUs() - before <= QUIET_CORES * QUIET_MS * 1000) return;
  }
}

async function measureCallers(server: Served | undefined, callers: number): Promise<Measurement> {
  if (server === undefined) throw new TypeError("every side but the disk has a server");
  await server.caller.run({ callers, seconds: seconds / 4 }); // after the other side's turn its caches are cold
  const before = { server: await server.counters(), clientUs: processCpuUs(), machineUs: machineCpuUs() };
  const { calls, seconds: took, latenciesUs } = await server.caller.run({ callers, seconds });
  const after = { machineUs: machineCpuUs(), clientUs: processCpuUs(), server: await server.counters() };
  const clientUs = after.clientUs - before.clientUs;
  const serverUs = after.server.cpuUs - before.server.cpuUs;
  return {
    perSecond: calls / took,
    ...percentiles(latenciesUs),
    clientCpuUs: clientUs / calls,
    serverCpuUs: serverUs / calls,
    flushesPerRequest: (after.server.flushes - before.server.flushes) / calls,
    otherCores: coresUsed(after.machineUs - before.machineUs - clientUs - serverUs, took),
  };
}

async function measureWriters(writers: number): Promise<Measurement> {
  const before = { ownUs: processCpuUs(), machineUs: machineCpuUs() };
  const { records, seconds: took, flushes, latenciesUs } = await measureDisk({ directory, writers, seconds });
  const otherUs = machineCpuUs() - before.machineUs - (processCpuUs() - before.ownUs);
  return { perSecond: records / took, ...percentiles(latenciesUs), flushesPerRequest: flushes / records, otherCores: coresUsed(otherUs, took) };
}

/** The system counts in ticks of 10 ms, so a small remainder may come out below 0. */
function coresUsed(cpuUs: number, took: number): number {
  return Math.max(0, cpuUs / (took * 1e6));
}

function conclude({ name, callers, sides, aim, limit }: Bench, measured: readonly (readonly Measurement[])[]): void {
  for (const [index, side] of sides.entries()) {
    const typical = medians(measured.flatMap((round) => round[index] ?? []));
    print({ line: "median", bench: name, side, callers, ...shown(side, typical) });
    if (index > 0 || limit === undefined) continue;
    const part = limit.figure === "p50Us" ? limit.value / typical.p50Us : typical[limit.figure] / limit.value;
    print({ line: "baseline", bench: name, side, figure: limit.figure, limit: limit.value, part: round3(part), reached: part >= LIMIT_PART });
  }
  if (sides.length < 2) return;
  const ratio = (figure: keyof Measurement): number | undefined => round3(medianRatio(figure, measured));
  const reached = aim === undefined ? undefined : medianRatio(aim.figure, measured);
  const met = aim === undefined || reached === undefined ? undefined : "atMost" in aim ? reached <= aim.atMost : reached >= aim.atLeast;
  print({
    line: "ratio",
    bench: name,
    of: sides[1],
    over: sides[0],
    perSecond: ratio("perSecond"),
    p50: ratio("p50Us"),
    clientCpu: ratio("clientCpuUs"),
    serverCpu: ratio("serverCpuUs"),
    aim,
    met,
  });
}

function shown(side: SideName | undefined, figures: Measurement): object {
  const { perSecond, p50Us, p99Us, clientCpuUs, serverCpuUs, flushesPerRequest, otherCores } = figures;
  return {
    [side === "disk" ? "recordsPerSecond" : "rpcPerSecond"]: Math.round(perSecond),
    p50Us: Math.round(p50Us),
    p99Us: Math.round(p99Us),
    clientCpuUs: round3(clientCpuUs),
    serverCpuUs: round3(serverCpuUs),
    flushesPerRequest: round3(flushesPerRequest),
    otherCores: round3(otherCores),
  };
}

function print(line: object): void {
  console.log(JSON.stringify(line));
}
