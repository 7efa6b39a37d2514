/**
 * Simulates single nodes, a seed each, until the time is up; every 50th seed runs twice and must leave the same trace.
 *
 *     npm run sim -- [--seconds N] [--seed N] [--seeds N]
 *
 * A failure prints the seed, its settings, what was violated and the command that runs that seed alone.
 */
import { parseArgs } from "node:util";
import { type SingleNodeReport, simulateSingleNode } from "../src/testing/single-node.ts";

const { values } = parseArgs({ options: { seconds: { type: "string" }, seed: { type: "string" }, seeds: { type: "string" } } });
const seconds = Number(values.seconds ?? 60);
const first = Number(values.seed ?? 1);
const seeds = Number(values.seeds ?? Number.POSITIVE_INFINITY);
const total = { seeds: 0, powerCuts: 0, requests: 0, uncertain: 0, timestamps: 0, diskOperations: 0 };

const endsAt = performance.now() + seconds * 1000;
for (let seed = first; seed < first + seeds && performance.now() < endsAt; seed++) {
  const report = await run(seed);
  if (report.violations.length > 0) fail(seed, "a promise was broken", report);
  if (seed % 50 === 0 && (await run(seed)).trace !== report.trace) fail(seed, "the same seed left another trace", report);
  total.seeds += 1;
  for (const name of ["powerCuts", "requests", "uncertain", "timestamps", "diskOperations"] as const) total[name] += report[name];
}
console.log(JSON.stringify({ simulation: "single node", from: first, ...total, violations: 0 }));

async function run(seed: number): Promise<SingleNodeReport> {
  try {
    return await simulateSingleNode(seed);
  } catch (error) {
    return fail(seed, "the run ended with an error", error);
  }
}

function fail(seed: number, what: string, details: unknown): never {
  console.error(`seed ${seed}: ${what}`);
  console.error(
    details instanceof Error ? details.stack : JSON.stringify(details, (_, value) => (typeof value === "bigint" ? String(value) : value), 2),
  );
  console.error(`again: npm run sim -- --seed ${seed} --seeds 1`);
  process.exit(1);
}
