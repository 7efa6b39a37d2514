/** Runs of the simulator, their disks played again on the wal. More by `npm run nightly` (part `wal`). */
import { expect, test } from "vitest";
import { PROFILES } from "../../src/testing/cluster/settings.ts";
import { playRun } from "../support/wal-tape.ts";

const SEEDS = 3;

test.each(PROFILES.filter((profile) => profile !== "calm"))("what the wal finds at every start is what the simulator gave: %s", async (profile) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { starts, writes } = await playRun(seed, profile);
    expect(starts).toBeGreaterThanOrEqual(2);
    expect(writes).toBeGreaterThan(10);
  }
});
