/**
 * The long campaign, for the background: seeds of all profiles on every core, the exhaustive scopes, elections, mutants, single nodes, fuzz targets and properties. What is done
 * is kept in `.nightly/<commit>/`, so that the same command goes on where it was stopped; and written to `docs/campaigns/`.
 *
 *     npm run nightly -- [--minutes N] [--only seeds,mutants,...] [--from SEED] [--seeds N] [--jobs N] [--fresh] [--out FOLDER]
 *
 * --minutes: for all of it, 60 if not said; half of it is for the seeds. --seeds: of each profile, at most. --fresh: begins anew. --out: where `.nightly` and `docs/campaigns` are, if not here. Ends with 1 where anything goes wrong, a mutant lives, or
 * a coverage mark was not reached.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { countMarks, type Mark } from "../src/base/marks.ts";
import { PROFILES } from "../src/testing/cluster/settings.ts";
import { runScenario } from "../test/support/data-driven.ts";
import { PaxosWorld } from "../test/support/paxos-world.ts";
import { campaignPage, missingMarks } from "./campaign/report.ts";
import { type ChunkName, Results } from "./campaign/results.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "60" },
    only: { type: "string" },
    from: { type: "string", default: "100001" },
    seeds: { type: "string", default: "Infinity" },
    jobs: { type: "string", default: String(availableParallelism()) },
    fresh: { type: "boolean", default: false },
    out: { type: "string" },
  },
});

interface Step {
  readonly name: string;
  /** A script with its arguments, or vitest's. */
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Lines of its output that go into the report. */
  readonly lines: number;
}

const CHUNK = 250;
const SEEDS_SHARE = 0.5;
const root = fileURLToPath(new URL("../", import.meta.url));
const minutes = Number(values.minutes);
const only = values.only?.split(",");
const commit = commitName();
const out = values.out ?? root;
const folder = join(out, ".nightly", commit);
if (values.fresh) rmSync(folder, { recursive: true, force: true });
const results = new Results(folder);
const seed = String(Math.floor(Date.now() / 1000));

let failure: string | undefined;
if (isWanted("seeds")) await simulateSeeds();
for (const step of steps()) if (failure === undefined) await run(step);
report();

/** Half of the time, but for what is fixed; how long each takes on two cores stands beside it. */
function steps(): readonly Step[] {
  const share = (part: number): string => String(Math.max(1, Math.floor(minutes * 60 * part)));
  const fuzzTargets = readdirSync(join(root, "fuzz")).filter((name) => name !== "harness.ts");
  const all: readonly Step[] = [
    { name: "scopes", args: ["scripts/scopes.ts", "--minutes", String(Math.min(10, Math.max(1, minutes / 6)))], lines: 60 },
    { name: "elections", args: ["scripts/elections.ts", "--seeds", String(Math.min(2_000, Math.round(minutes * 10)))], lines: 20 },
    { name: "mutants", args: ["scripts/mutants.ts", "--seeds", String(Math.min(2_000, Math.round(minutes * 20)))], lines: 400 },
    { name: "single nodes", args: ["scripts/sim.ts", "--single-node", "--seed", seed, "--seconds", share(0.05)], lines: 5 },
    { name: "wal", args: ["scripts/wal-seeds.ts", "--from", seed, "--seconds", share(0.05)], lines: 6 },
    {
      name: "log kill",
      args: ["node_modules/vitest/vitest.mjs", "run", "test/process/log-kill.test.ts"],
      env: { ROUNDS: String(Math.max(6, Math.min(50, Math.round(minutes)))), SEED: seed },
      lines: 8,
    },
    ...fuzzTargets.map((target): Step => {
      const args = [`fuzz/${target}`, "--seed", seed, "--seconds", share(0.1 / fuzzTargets.length)];
      return { name: `fuzz ${target.replace(".ts", "")}`, args, lines: 5 };
    }),
    {
      name: "properties",
      args: ["node_modules/vitest/vitest.mjs", "run", "property"],
      env: { RUNS: String(Math.max(100, Math.round(minutes * 50))) },
      lines: 6,
    },
  ];
  const done = new Set(results.steps().map(({ name }) => name));
  return all.filter(({ name }) => isWanted(name) && !done.has(name));
}

function isWanted(name: string): boolean {
  return only === undefined || only.some((wanted) => name.startsWith(wanted));
}

/** Chunk after chunk, each in a process of its own, the profiles in turn, until the time is up. What an earlier call has done counts. */
async function simulateSeeds(): Promise<void> {
  const jobs = Number(values.jobs);
  const spent = results.chunks().reduce((sum, { seconds }) => sum + seconds, 0) / jobs;
  const share = only === undefined ? SEEDS_SHARE : 1;
  const endsAt = performance.now() + 1000 * (minutes * 60 * share - spent);
  const chunks = openChunks();
  await Promise.all(
    Array.from({ length: jobs }, async () => {
      while (failure === undefined && performance.now() < endsAt) {
        const next = chunks.next();
        if (next.done === true) return;
        await simulateChunk(next.value);
      }
    }),
  );
}

/** Each begins a multiple of `CHUNK` after seed 1, so that no two overlap, whatever was asked for before. */
function* openChunks(): Generator<ChunkName> {
  const first = Math.floor((Number(values.from) - 1) / CHUNK) * CHUNK + 1;
  const end = first + Number(values.seeds);
  for (let from = first; from < end; from += CHUNK) {
    for (const profile of PROFILES) {
      const chunk = { profile, from, count: Math.min(CHUNK, end - from) };
      if (profile !== "calm" && !results.hasChunk(chunk)) yield chunk;
    }
  }
}

async function simulateChunk(chunk: ChunkName): Promise<void> {
  const { profile, from, count } = chunk;
  const args = ["--import", "tsx", "scripts/campaign/chunk.ts", profile, String(from), String(count), results.chunkFile(chunk)];
  const { status, output } = await finished(args, {});
  if (status === 0) return console.log(`${profile}: seeds ${from} to ${from + count - 1}`);
  failure ??= `profile ${profile}, seeds ${from} to ${from + count - 1}`;
  console.error(output);
}

async function run({ name, args, env = {}, lines }: Step): Promise<void> {
  const began = performance.now();
  console.log(`${name}: ${args.join(" ")}`);
  const isScript = args[0]?.endsWith(".ts") === true;
  const { status, output } = await finished(isScript ? ["--import", "tsx", ...args] : args, env);
  const seconds = (performance.now() - began) / 1000;
  if (status === 0) {
    results.add({ name, command: args.join(" "), seconds, output: output.trimEnd().split("\n").slice(-lines).join("\n") });
    return;
  }
  failure ??= name;
  console.error(output);
}

async function finished(args: readonly string[], env: Readonly<Record<string, string>>): Promise<{ status: number; output: string }> {
  const child = spawn(process.execPath, args, { cwd: root, env: { ...process.env, NO_COLOR: "1", ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  const [status] = await once(child, "close");
  return { status: status ?? 1, output };
}

function report(): void {
  const chunks = results.chunks();
  const scenarioMarks = marksOfScenarios();
  if (failure === undefined && chunks.length > 0) {
    const missing = missingMarks({ chunks, scenarioMarks });
    if (missing.length > 0) failure = `marks that were not reached: ${missing.join(", ")}`;
  }
  const date = new Date().toISOString().slice(0, 10);
  const command = `npm run nightly -- ${process.argv.slice(2).join(" ")}`.trim();
  const machine = `Node ${process.versions.node}, ${values.jobs} cores (${cpus()[0]?.model ?? "unknown"})`;
  const page = campaignPage({ date, commit, command, machine, chunks, steps: results.steps(), scenarioMarks, failure });
  const file = `docs/campaigns/${date}-${commit}.md`;
  mkdirSync(join(out, "docs/campaigns"), { recursive: true });
  writeFileSync(join(out, file), `${page.trimEnd()}\n`);
  console.log(failure === undefined ? `no violation: ${file}` : `FAILED: ${failure}; ${file}`);
  if (failure !== undefined) process.exitCode = 1;
}

/** Rare things that no seed may come to are in the scenarios. */
function marksOfScenarios(): ReadonlyMap<Mark, number> {
  const marks = countMarks();
  try {
    const scenarios = new URL("../test/sim/scenarios/", import.meta.url);
    for (const name of readdirSync(scenarios)) {
      const world = new PaxosWorld();
      runScenario(new URL(name, scenarios), (command) => world.run(command));
    }
    return new Map(marks.counts);
  } finally {
    marks.stop();
  }
}

/** Changes that are not committed are another commit, of the day. */
function commitName(): string {
  const git = (...args: readonly string[]): string => spawnSync("git", args, { cwd: root, encoding: "utf8" }).stdout?.trim() ?? "";
  const name = git("rev-parse", "--short", "HEAD");
  if (name === "") return "unknown";
  return git("status", "--porcelain", "--untracked-files=no") === "" ? name : `${name}-changed`;
}
