/**
 * Three real nodes under load, killed, paused, and killed together: what their clients saw has an order that explains it, and the nodes hold the same in the end. `ROUNDS=50` for the
 * long run.
 */
import { afterAll, expect, test } from "vitest";
import { createPrng } from "../../src/base/prng.ts";
import { checkLinearizability, historyText } from "../../src/testing/linearizability.ts";
import { MapCluster, MapLoad } from "../support/map-cluster.ts";

const ROUNDS = Number(process.env["ROUNDS"] ?? 6);
/** Successful operations between two faults. */
const PER_ROUND = 240;
const KEYS = Array.from({ length: 8 }, (_, index) => `key ${index}`);
const FAULTS = ["kill the leader", "kill one", "pause the leader", "kill all"] as const;
/** For one step to be seen: only a hang takes as long. */
const PATIENCE_MS = 60_000;

let cluster: MapCluster | undefined;
afterAll(() => cluster?.end());

async function until(what: string, holds: () => boolean): Promise<void> {
  const endsAt = performance.now() + PATIENCE_MS;
  while (!holds()) {
    if (performance.now() > endsAt) throw new Error(`it never came about that ${what}; ${cluster?.stderr}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test(`${ROUNDS} rounds of kills and pauses leave what clients saw linearizable`, { timeout: 60_000 + ROUNDS * 60_000 }, async () => {
  const prng = createPrng(Number(process.env["SEED"] ?? 1));
  const nodes = await MapCluster.start();
  cluster = nodes;
  const load = new MapLoad(nodes, { keys: KEYS, workers: 16, random: () => prng.next() });
  const progress = (operations: number): Promise<void> => {
    const before = load.done;
    return until(`${operations} operations more succeed`, () => load.done >= before + operations);
  };
  await progress(20);
  const counts: Record<string, number> = {};
  for (let round = 0; round < ROUNDS; round++) {
    const fault = FAULTS[round % FAULTS.length] ?? "kill one";
    counts[fault] = (counts[fault] ?? 0) + 1;
    const { leader } = nodes;
    switch (fault) {
      case "kill the leader":
        await nodes.kill(leader);
        await progress(PER_ROUND);
        break;
      case "kill one":
        await nodes.kill(prng.below(3));
        await progress(PER_ROUND);
        break;
      case "pause the leader": {
        const { reigns } = nodes;
        nodes.signal(leader, "SIGSTOP");
        await until("another leads", () => nodes.reigns > reigns);
        await progress(PER_ROUND);
        nodes.signal(leader, "SIGCONT");
        await progress(20);
        break;
      }
      default:
        for (const index of [0, 1, 2]) nodes.signal(index, "SIGKILL");
        await until("all are gone", () => [0, 1, 2].every((index) => !nodes.isUp(index)));
    }
    for (const index of [0, 1, 2]) nodes.startNode(index);
    await progress(20);
  }
  await load.stop();
  const contents = [await nodes.contents(0, KEYS), await nodes.contents(1, KEYS), await nodes.contents(2, KEYS)];
  expect(contents[1]).toEqual(contents[0]);
  expect(contents[2]).toEqual(contents[0]);
  process.stdout.write(`log: ${JSON.stringify({ rounds: ROUNDS, ...counts, ...load.counts, reigns: nodes.reigns })}\n`);
  const verdict = checkLinearizability(load.history);
  if (verdict.type === "violation") throw new Error(`no order explains what clients saw of ${verdict.key}:\n${historyText(verdict.excerpt)}`);
  expect(verdict).toEqual({ type: "linearizable" });
  expect(nodes.stderr).toBe("");
});
