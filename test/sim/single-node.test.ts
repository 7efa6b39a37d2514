import { describe, expect, test } from "vitest";
import { simulateSingleNode } from "../../src/testing/single-node.ts";

describe("a simulated single node", () => {
  test("breaks no promise, in 60 worlds with power cuts", async () => {
    let powerCuts = 0;
    for (let seed = 1; seed <= 60; seed++) {
      const report = await simulateSingleNode(seed);
      expect(report.violations, `seed ${seed}: npm run sim -- --seed ${seed} --seeds 1`).toEqual([]);
      powerCuts += report.powerCuts;
    }
    expect(powerCuts).toBeGreaterThan(60);
  });

  test("leaves the same trace for the same seed, and another for another", async () => {
    const [first, again, other] = [await simulateSingleNode(7), await simulateSingleNode(7), await simulateSingleNode(8)];
    expect(again.trace).toBe(first.trace);
    expect(other.trace).not.toBe(first.trace);
  });
});
