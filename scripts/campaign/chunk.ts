/**
 * A part of a campaign, in a process of its own: simulates `count` seeds of one profile, and writes what they came to. Every 50th seed runs twice and must leave the same
 * trace. Ends with 1 where one goes wrong, and leaves its settings beside the output.
 *
 *     tsx scripts/campaign/chunk.ts PROFILE FROM COUNT OUTPUT
 */
import { renameSync, writeFileSync } from "node:fs";
import { inspect } from "node:util";
import { countMarks } from "../../src/base/marks.ts";
import type { Profile } from "../../src/testing/cluster/settings.ts";
import { SimulationFailure, simulateCluster } from "../../src/testing/cluster/simulation.ts";
import { type Chunk, ROWS, TWICE_EVERY } from "./results.ts";

const [profile, from = "", count = "", output = ""] = process.argv.slice(2) as [Profile, string, string, string];
const began = performance.now();
const marks = countMarks();
const runs: number[][] = [];

try {
  for (let seed = Number(from); seed < Number(from) + Number(count); seed++) {
    const report = simulateCluster({ seed, profile });
    runs.push(ROWS.map((row) => report[row]));
    if (seed % TWICE_EVERY === 0 && simulateCluster({ seed, profile }).traceHash !== report.traceHash)
      throw new Error(`seed ${seed}, profile ${profile}: the same seed left another trace`);
  }
  const seconds = (performance.now() - began) / 1000;
  const chunk: Chunk = { profile, from: Number(from), seconds, runs, marks: Object.fromEntries(marks.counts) };
  writeFileSync(`${output}.part`, JSON.stringify(chunk));
  renameSync(`${output}.part`, output);
} catch (error) {
  if (error instanceof SimulationFailure) {
    const { seed, settings } = error;
    writeFileSync(`sim-failure-${profile}-${seed}.json`, `${JSON.stringify({ seed, profile, settings }, undefined, 2)}\n`);
  }
  console.error(inspect(error, { depth: 8 }));
  process.exitCode = 1;
}
