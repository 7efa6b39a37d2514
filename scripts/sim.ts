/**
 * Simulates clusters, a seed each; every 50th seed runs twice and must leave the same trace.
 *
 *     npm run sim -- [--seeds N] [--from S] [--profile P] [--seconds N]    clusters, of all profiles in turn if none is named
 *     npm run sim -- --single-node [--seeds N] [--seed S] [--seconds N]    single nodes with their oracle
 *     npm run sim -- --replay FILE                                         one run, with everything that happened; or what a node recorded that stopped
 *     npm run sim -- --replay FILE --html OUT [--events N]                 the same as a page (docs/diagrams.md), of its last N events
 *     npm run sim -- --shrink SEED [--profile P], --shrink FILE            the smallest run that still fails like this one
 *
 * With --seconds alone, single nodes have a quarter of the time. A failure prints the seed, what was violated and the command that runs that seed alone, and
 * leaves the settings in `sim-failure-<profile>-<seed>.json`.
 */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { inspect, parseArgs } from "node:util";
import { decodeRun, isRecordedRun, type RecordedRun, replayRun } from "../src/paxos/recorder.ts";
import type { Fault } from "../src/testing/cluster/faults.ts";
import { type ClusterSettings, PROFILES, type Profile } from "../src/testing/cluster/settings.ts";
import { shrinkFailure } from "../src/testing/cluster/shrink.ts";
import { type ClusterReport, SimulationFailure, simulateCluster } from "../src/testing/cluster/simulation.ts";
import { type TraceEvent, TraceRecorder } from "../src/testing/cluster/trace.ts";
import { traceDiagram } from "../src/testing/diagram/diagram.ts";
import { traceText } from "../src/testing/diagram/trace-text.ts";
import { type SingleNodeReport, simulateSingleNode } from "../src/testing/single-node.ts";
import { ENOUGH, ROWS, type Row, TWICE_EVERY } from "./campaign/results.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string" },
    seeds: { type: "string" },
    from: { type: "string" },
    seed: { type: "string" },
    profile: { type: "string" },
    replay: { type: "string" },
    html: { type: "string" },
    events: { type: "string" },
    shrink: { type: "string" },
    "single-node": { type: "boolean" },
  },
});
const seconds = Number(values.seconds ?? (values.seeds === undefined ? 60 : Number.POSITIVE_INFINITY));
const seeds = Number(values.seeds ?? Number.POSITIVE_INFINITY);
const first = Number(values.from ?? values.seed ?? 1);

if (values.replay === undefined && (values.html ?? values.events) !== undefined) refuse("--html and --events are for --replay FILE");
if (values.replay !== undefined) {
  replay(values.replay);
} else if (values.shrink !== undefined) {
  shrink(values.shrink);
} else if (values["single-node"] === true) {
  await singleNodes(seconds);
} else {
  const both = values.seconds !== undefined && values.seeds === undefined && values.profile === undefined;
  if (both) await singleNodes(seconds / 4);
  clusters(both ? (seconds * 3) / 4 : seconds, profilesNamed(values.profile));
}

function profilesNamed(name: string | undefined): readonly Profile[] {
  if (name === undefined) return PROFILES.filter((profile) => profile !== "calm");
  const profile = PROFILES.find((known) => known === name);
  if (profile !== undefined) return [profile];
  console.error(`--profile ${name} is none of ${PROFILES.join(", ")}`);
  process.exit(2);
}

/** Round robin: with two profiles, seed 1 of both, then seed 2 of both. `--seeds` counts them for each. */
function clusters(forSeconds: number, profiles: readonly Profile[]): void {
  const began = performance.now();
  const endsAt = began + forSeconds * 1000;
  const figures = profiles.map((profile) => ({ profile, rows: newRows() }));
  let shown = began;
  for (let seed = first; seed < first + seeds && performance.now() < endsAt; seed++) {
    for (const { profile, rows } of figures) {
      const report = simulate(seed, profile);
      for (const name of ROWS) rows[name].push(report[name]);
    }
    if (performance.now() - shown > (process.stdout.isTTY ? 200 : 5_000)) {
      shown = performance.now();
      progress(seed, rate(figures, began));
    }
  }
  if (process.stdout.isTTY) process.stdout.write("\r\x1b[K");
  for (const { profile, rows } of figures) summarize(profile, rows);
  console.log(
    JSON.stringify({
      simulation: "cluster",
      from: first,
      seconds: round((performance.now() - began) / 1000),
      ...rate(figures, began),
      violations: 0,
    }),
  );
}

type Rows = Record<Row, number[]>;

function newRows(): Rows {
  return { events: [], decided: [], leaderChanges: [], campaigns: [], maxRound: [], coreSettledMs: [], convergedMs: [], undecidedKeys: [] };
}

function rate(figures: readonly { readonly rows: Rows }[], began: number): { seeds: number; events: number; eventsPerSecond: number } {
  const events = figures.reduce((sum, { rows }) => sum + rows.events.reduce((a, b) => a + b, 0), 0);
  const runs = figures.reduce((sum, { rows }) => sum + rows.events.length, 0);
  return { seeds: runs, events, eventsPerSecond: Math.round((1000 * events) / (performance.now() - began)) };
}

function progress(seed: number, now: ReturnType<typeof rate>): void {
  const line = `seed ${seed}: ${now.seeds} runs, ${now.events} events, ${now.eventsPerSecond} a second`;
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${line}`);
  else console.log(line);
}

function summarize(profile: Profile, rows: Rows): void {
  const runs = rows.events.length;
  if (runs === 0) return;
  console.log(`${profile}: ${runs} runs; a run: least, median, 99th percentile, most`);
  for (const name of ROWS) {
    const sorted = rows[name].toSorted((a, b) => a - b);
    const at = (share: number): number => round(sorted[Math.min(runs - 1, Math.floor(share * runs))] ?? 0);
    console.log(`  ${name.padEnd(14)} ${[0, 0.5, 0.99, 1].map((share) => String(at(share)).padStart(9)).join("")}`);
  }
  for (const name of ["decided", "leaderChanges"] as const) {
    const few = rows[name].filter((value) => value < ENOUGH[name]).length;
    console.log(`  below ${ENOUGH[name]} ${name}: ${few} runs`);
  }
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function simulate(seed: number, profile: Profile): ClusterReport {
  try {
    const report = simulateCluster({ seed, profile });
    if (seed % TWICE_EVERY === 0 && simulateCluster({ seed, profile }).traceHash !== report.traceHash) {
      console.error(`seed ${seed}, profile ${profile}: the same seed left another trace`);
      process.exit(1);
    }
    return report;
  } catch (error) {
    if (!(error instanceof SimulationFailure)) throw error;
    return failCluster(error);
  }
}

function failCluster({ seed, profile, settings, cause, again }: SimulationFailure): never {
  const file = `sim-failure-${profile}-${seed}.json`;
  writeFileSync(file, `${JSON.stringify({ seed, profile, settings }, undefined, 2)}\n`);
  if (process.stdout.isTTY) process.stdout.write("\n");
  console.error(`seed ${seed}, profile ${profile}:`);
  console.error(inspect(cause, { depth: 8 }));
  console.error(`settings: ${JSON.stringify(settings)}`);
  console.error(`again: ${again}`);
  console.error(`all of it: npm run sim -- --replay ${file}`);
  console.error(`a picture: npm run sim -- --replay ${file} --html ${file.replace(/json$/, "html")}`);
  console.error(`smaller: npm run sim -- --shrink ${file}`);
  process.exit(1);
}

/** @param what a seed, or a file that a failure has left. */
function shrink(what: string): void {
  const failure = failureOf(what);
  console.log(`seed ${failure.seed}, profile ${failure.profile}, ${failure.faults.length} faults: ${claimOf(failure)}`);
  let shownAt = performance.now();
  const {
    failure: smallest,
    runs,
    isSmallest,
  } = shrinkFailure(failure, {
    onSmaller: ({ faults }, runs) => {
      if (performance.now() - shownAt < 1_000) return;
      shownAt = performance.now();
      console.log(`  ${runs} runs: ${faults.length} faults`);
    },
  });
  const { seed, profile, settings, faults } = smallest;
  const file = `sim-failure-${profile}-${seed}-small.json`;
  writeFileSync(file, `${JSON.stringify({ seed, profile, settings }, undefined, 2)}\n`);
  console.log(`${isSmallest ? "nothing more can be left out" : "not the smallest: too many runs"}, after ${runs} runs`);
  console.log(inspect(smallest.cause, { depth: 8 }));
  console.log(`${settings.nodes} nodes, ${faults.length} faults:`);
  for (const { atUs, fault } of faults) console.log(`  ${(atUs / 1000).toFixed(3).padStart(10)} ms ${faultText(fault)}`);
  console.log(`settings: ${JSON.stringify({ ...settings, faults: undefined })}`);
  console.log(`all of it: npm run sim -- --replay ${file}`);
  console.log(`a picture: npm run sim -- --replay ${file} --html ${file.replace(/json$/, "html")}`);
}

/** Of the profile that was asked for, else of the first in which this seed fails. */
function failureOf(what: string): SimulationFailure {
  const isSeed = /^\d+$/.test(what);
  const { seed, profiles, settings } = isSeed
    ? { seed: Number(what), profiles: profilesNamed(values.profile), settings: undefined }
    : failureFile(what);
  for (const profile of profiles) {
    try {
      simulateCluster({ seed, profile, settings });
    } catch (error) {
      if (error instanceof SimulationFailure) return error;
      throw error;
    }
  }
  console.error(`--shrink ${what}: nothing fails here (${profiles.join(", ")})`);
  process.exit(2);
}

function failureFile(file: string): { seed: number; profiles: readonly Profile[]; settings: ClusterSettings } {
  const { seed, profile, settings }: FailureFile = readFailure(file);
  return { seed, profiles: [profile], settings };
}

interface FailureFile {
  readonly seed: number;
  readonly profile: Profile;
  readonly settings: ClusterSettings;
}

/** What a failure has left, or what somebody made of it. */
function readFailure(file: string): FailureFile {
  let problem = "it has no seed, profile and settings";
  try {
    const found: Partial<FailureFile> | null = JSON.parse(readFileSync(file, "utf8"));
    const { seed, profile, settings } = found ?? {};
    if (seed !== undefined && profile !== undefined && settings !== undefined) return { seed, profile, settings };
  } catch (error) {
    problem = error instanceof Error ? error.message : String(error);
  }
  console.error(`${file} is no file of a failed run: ${problem}`);
  process.exit(2);
}

function claimOf({ cause }: SimulationFailure): string {
  return cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : String(cause);
}

function faultText({ type, ...details }: Fault): string {
  return [type, ...Object.entries(details).map(([name, value]) => `${name} ${JSON.stringify(value)}`)].join(" ");
}

/**
 * A run that a node recorded is made again step by step; one of the simulator is simulated again: everything that happened, as lines, or as a page where `--html`
 * names a file.
 */
function replay(file: string): void {
  const bytes = statSync(file, { throwIfNoEntry: false })?.isFile() === true ? readFileSync(file) : undefined;
  if (bytes !== undefined && isRecordedRun(bytes)) return replayNode(file, bytes);
  const { seed, profile, settings } = readFailure(file);
  const { html } = values;
  const recorder = new TraceRecorder({ maxEvents: eventsAtMost() });
  const trace = html === undefined ? (event: TraceEvent): void => console.log(traceText(event)) : recorder.trace;
  try {
    console.log(JSON.stringify(simulateCluster({ seed, profile, settings, trace }), undefined, 2));
  } catch (error) {
    console.error(inspect(error instanceof SimulationFailure ? error.cause : error, { depth: 8 }));
    process.exitCode = 1;
  }
  if (html !== undefined) draw(html, recorder.events, `seed ${seed}, profile ${profile}`);
}

function replayNode(file: string, bytes: Uint8Array): void {
  const { steps, fault, replica } = replayRun(readRun(file, bytes));
  const { node, boot, role, ballot, image, sizes } = replica.inspect();
  console.log(inspect({ node, boot, role, ballot, image, sizes }, { depth: 8 }));
  if (fault === undefined) {
    console.log(`${steps} steps made again, and every one went well: what stopped the node was not in the protocol's core`);
    return;
  }
  console.error(inspect(fault, { depth: 8 }));
  console.error(`step ${steps} stopped the node, as it did before`);
  process.exitCode = 1;
}

function readRun(file: string, bytes: Uint8Array): RecordedRun {
  try {
    return decodeRun(bytes);
  } catch (error) {
    return refuse(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function eventsAtMost(): number | undefined {
  if (values.events === undefined) return undefined;
  const count = Number(values.events);
  return Number.isSafeInteger(count) && count > 0 ? count : refuse(`--events ${values.events} is not a number of events, from 1 up`);
}

function draw(file: string, events: readonly TraceEvent[], title: string): void {
  try {
    writeFileSync(file, traceDiagram(events, { title }));
  } catch (error) {
    refuse(`--html ${file} cannot be written: ${error instanceof Error ? error.message : String(error)}`);
  }
  console.log(`${events.length} events drawn: ${file}`);
}

function refuse(why: string): never {
  console.error(why);
  process.exit(2);
}

async function singleNodes(forSeconds: number): Promise<void> {
  const total = { seeds: 0, powerCuts: 0, requests: 0, uncertain: 0, timestamps: 0, diskOperations: 0 };
  const endsAt = performance.now() + forSeconds * 1000;
  for (let seed = first; seed < first + seeds && performance.now() < endsAt; seed++) {
    const report = await simulateNode(seed);
    if (report.violations.length > 0) failNode(seed, "a promise was broken", report);
    if (seed % TWICE_EVERY === 0 && (await simulateNode(seed)).trace !== report.trace) failNode(seed, "the same seed left another trace", report);
    total.seeds += 1;
    for (const name of ["powerCuts", "requests", "uncertain", "timestamps", "diskOperations"] as const) total[name] += report[name];
  }
  console.log(JSON.stringify({ simulation: "single node", from: first, ...total, violations: 0 }));
}

async function simulateNode(seed: number): Promise<SingleNodeReport> {
  try {
    return await simulateSingleNode(seed);
  } catch (error) {
    return failNode(seed, "the run ended with an error", error);
  }
}

function failNode(seed: number, what: string, details: unknown): never {
  console.error(`seed ${seed}: ${what}`);
  console.error(
    details instanceof Error ? details.stack : JSON.stringify(details, (_, value) => (typeof value === "bigint" ? String(value) : value), 2),
  );
  console.error(`again: npm run sim -- --single-node --seed ${seed} --seeds 1`);
  process.exit(1);
}
