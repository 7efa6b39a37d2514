/** Benches in rounds: both sides of each in turn, JSON lines on stdout. `bench/README.md` says what the lines and the flags mean. */
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Measurement, machineCpuUs, medianRatio, medians, round3 } from "./figures.ts";
import type { Side } from "./sides.ts";

type Figure = "perSecond" | "p50Us";

/** One side, under the load of so many callers. */
export interface Part<SideName extends string> {
  readonly side: SideName;
  readonly callers: number;
}

export interface Bench<SideName extends string> {
  readonly name: string;
  /** The baseline first, then what is held against it. */
  readonly parts: readonly [Part<SideName>] | readonly [Part<SideName>, Part<SideName>];
  /** What the second part over the first is to be. */
  readonly aim?: { readonly figure: Figure; readonly atMost: number } | { readonly figure: Figure; readonly atLeast: number };
  /** What such a baseline does on this kind of machine when it is quiet: bench/README.md. */
  readonly limit?: { readonly figure: Figure; readonly value: number };
}

/** What a side may use while the benches run. */
export interface Place {
  /** Its own, and not made yet. */
  readonly directory: string;
  /** Where a server of its own writes a CPU profile. */
  readonly profile: string | undefined;
}

/** Below this part of its limit a baseline needs an explanation: something else had the machine. */
const LIMIT_PART = 0.6;
/** With `--quiet`: what others may use of the machine in a round that counts. */
const QUIET_CORES = 0.3;
const QUIET_MS = 500;

interface Settings {
  readonly seconds: number;
  readonly rounds: number;
  readonly quiet: boolean;
}

/** Runs those of `all` that the command line names; `open` makes a side when the first bench needs it. Benches with a side that cannot be had are left out. */
export async function runBenches<SideName extends string>(
  all: readonly Bench<SideName>[],
  open: (side: SideName, place: Place) => Promise<Side | undefined>,
): Promise<void> {
  const { values: flags } = parseArgs({
    options: {
      seconds: { type: "string", default: "1" },
      rounds: { type: "string", default: "9" },
      only: { type: "string", multiple: true, default: [] },
      quiet: { type: "boolean", default: false },
      profile: { type: "string" },
    },
  });
  const settings = { seconds: Number(flags.seconds), rounds: Number(flags.rounds), quiet: flags.quiet };
  const { seconds, rounds } = settings;
  const benches = all.filter(({ name }) => flags.only.length === 0 || flags.only.some((only) => name === only || name.startsWith(`${only}-`)));
  if (!(seconds > 0) || !(rounds >= 1) || benches.length === 0) throw new RangeError(`nothing to measure with ${process.argv.slice(2).join(" ")}`);

  const directory = mkdtempSync(join(tmpdir(), "tsoracle-bench-"));
  const sides = new Map<SideName, Side>();
  try {
    const fileSystem = `0x${statfsSync(directory).type.toString(16)}`;
    print({ line: "machine", cores: cpus().length, cpu: cpus()[0]?.model, node: process.version, fileSystem, seconds, rounds });
    for (const name of new Set(benches.flatMap(({ parts }) => parts.map(({ side }) => side)))) {
      const profile = flags.profile === undefined ? undefined : join(flags.profile, name);
      const side = await open(name, { directory: join(directory, name), profile });
      if (side !== undefined) sides.set(name, side);
    }
    const measured = new Map<Bench<SideName>, Measurement[][]>();
    for (const bench of benches) {
      if (bench.parts.every(({ side }) => sides.has(side))) measured.set(bench, await measureRounds(bench, sides, settings));
    }
    for (const [bench, found] of measured) conclude(bench, sides, found);
  } finally {
    for (const each of sides.values()) await each.close();
    rmSync(directory, { recursive: true });
  }
}

/** Each part once a round, in turn. */
async function measureRounds<SideName extends string>(
  { name, parts }: Bench<SideName>,
  sides: ReadonlyMap<SideName, Side>,
  { seconds, rounds, quiet }: Settings,
): Promise<Measurement[][]> {
  const measured: Measurement[][] = [];
  while (measured.length < rounds) {
    if (quiet) await quietMachine();
    const found: Measurement[] = [];
    for (const { side, callers } of parts) found.push(await sideOf(sides, side).measure({ callers, seconds }));
    const counts = !quiet || found.every(({ otherCores }) => otherCores <= QUIET_CORES);
    if (counts) measured.push(found);
    const line = counts ? "measurement" : "disturbed";
    parts.forEach((part, index) => {
      const figures = shown(sideOf(sides, part.side), found[index]);
      print({ line, bench: name, ...part, round: measured.length, ...figures, load: round3(loadavg()[0]) });
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

function conclude<SideName extends string>(
  { name, parts, aim, limit }: Bench<SideName>,
  sides: ReadonlyMap<SideName, Side>,
  measured: readonly (readonly Measurement[])[],
): void {
  for (const [index, part] of parts.entries()) {
    const typical = medians(measured.flatMap((round) => round[index] ?? []));
    print({ line: "median", bench: name, ...part, ...shown(sideOf(sides, part.side), typical) });
    if (index > 0 || limit === undefined) continue;
    const reached = limit.figure === "p50Us" ? limit.value / typical.p50Us : typical[limit.figure] / limit.value;
    const { side } = part;
    print({ line: "baseline", bench: name, side, figure: limit.figure, limit: limit.value, part: round3(reached), reached: reached >= LIMIT_PART });
  }
  const [over, of] = parts;
  if (of === undefined) return;
  const ratio = (figure: keyof Measurement): number | undefined => round3(medianRatio(figure, measured));
  const reached = aim === undefined ? undefined : medianRatio(aim.figure, measured);
  const met = aim === undefined || reached === undefined ? undefined : "atMost" in aim ? reached <= aim.atMost : reached >= aim.atLeast;
  const named =
    over.side === of.side ? { of: `${of.side} of ${of.callers}`, over: `${over.side} of ${over.callers}` } : { of: of.side, over: over.side };
  print({
    line: "ratio",
    bench: name,
    ...named,
    perSecond: ratio("perSecond"),
    p50: ratio("p50Us"),
    clientCpu: ratio("clientCpuUs"),
    serverCpu: ratio("serverCpuUs"),
    aim,
    met,
  });
}

function sideOf<SideName extends string>(sides: ReadonlyMap<SideName, Side>, name: SideName): Side {
  const side = sides.get(name);
  if (side === undefined) throw new TypeError(`${name} was not opened`);
  return side;
}

function shown({ unit }: Side, figures: Measurement | undefined): object {
  if (figures === undefined) throw new TypeError("every part was measured");
  const { perSecond, p50Us, p99Us, clientCpuUs, serverCpuUs, flushesPerRequest, otherCores } = figures;
  return {
    [`${unit}PerSecond`]: Math.round(perSecond),
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
