/**
 * Explores small scopes of the core in full: every order of deliveries, writes and crashes (docs/scopes.md).
 *
 *     npm run scopes -- [--minutes N] [--scope NAME]
 *
 * Prints what was seen of each; exits with 1 where something was wrong, with a shortest path to it.
 */
import { parseArgs } from "node:util";
import { countMarks } from "../src/base/marks.ts";
import { explore } from "../test/support/scopes/explore.ts";
import { explorationText, MOST_STATES, SCOPES, scopeText } from "../test/support/scopes/scopes.ts";

const { values } = parseArgs({ options: { minutes: { type: "string" }, scope: { type: "string" } } });
const end = performance.now() + Number(values.minutes ?? 10) * 60_000;
const scopes = SCOPES.filter(({ name }) => values.scope === undefined || values.scope === name);
if (scopes.length === 0) {
  console.error(`--scope ${values.scope} is none of ${SCOPES.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}

for (const scope of scopes) {
  console.log(scopeText(scope));
  const marks = countMarks();
  const found = explore(scope, { seconds: (end - performance.now()) / 1_000, states: MOST_STATES });
  marks.stop();
  console.log(`    ${explorationText(found)}`);
  console.log(`    been through: ${[...marks.counts.keys()].sort().join(" ")}`);
  if (found.violation === undefined) continue;
  console.log(found.violation.path);
  process.exitCode = 1;
}
