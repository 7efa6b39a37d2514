/**
 * For `scripts/mutants.ts`: simulates seeds 1 to N, of one profile after the other, until a check tells that a run went wrong, and prints after how many. What ends a run without
 * being a check's word (an assertion in the code, a TypeError) is told too: it kills where assertions are on, and where they are off the search goes on.
 *
 *     tsx scripts/seeds-to-kill.ts SEEDS assertions|checkers
 */
import { Violation } from "../src/testing/cluster/observed.ts";
import { PROFILES } from "../src/testing/cluster/settings.ts";
import { type SimulationFailure, simulateCluster } from "../src/testing/cluster/simulation.ts";

const profiles = PROFILES.filter((profile) => profile !== "calm");
const [seeds, by] = [Number(process.argv[2]), process.argv[3]];
let others = 0;

const killed = firstFailure();
console.log(`${killed ?? `alive after ${seeds} seeds`}${others === 0 ? "" : ` (${others} runs before ended otherwise)`}`);

function firstFailure(): string | undefined {
  for (let seed = 1; seed <= seeds; seed++) {
    const profile = profiles[seed % profiles.length] ?? "default";
    try {
      simulateCluster({ seed, profile });
    } catch (error) {
      const { cause } = error as SimulationFailure;
      if (cause instanceof Violation) return `killed by seed ${seed} (${profile}): ${cause.message.split("\n")[0]}`;
      if (by === "assertions") return `killed by seed ${seed} (${profile}): ${cause instanceof Error ? cause.message.split("\n")[0] : String(cause)}`;
      others += 1;
    }
  }
  return undefined;
}
