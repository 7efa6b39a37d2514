/** For `scripts/mutants.ts`: simulates seeds 1 to N, profile after profile, until a run goes wrong, and says after how many. */
import { type SimulationFailure, simulateCluster } from "../src/testing/cluster/simulation.ts";

const PROFILES = ["default", "slow-disk", "partitions", "crash-storm"] as const;
const seeds = Number(process.argv[2]);

console.log(firstFailure() ?? `alive after ${seeds} seeds`);

function firstFailure(): string | undefined {
  for (let seed = 1; seed <= seeds; seed++) {
    const profile = PROFILES[seed % PROFILES.length] ?? "default";
    try {
      simulateCluster({ seed, profile });
    } catch (error) {
      const { cause } = error as SimulationFailure;
      return `killed by seed ${seed} (${profile}): ${cause instanceof Error ? cause.message.split("\n")[0] : String(cause)}`;
    }
  }
  return undefined;
}
