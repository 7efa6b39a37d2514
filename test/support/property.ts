import fc from "fast-check";
import { test } from "vitest";

const [only = "", seed = "", path = ""] = (process.env["REPLAY"] ?? "").split("|");
const numRuns = Number(process.env["RUNS"] ?? 100);

/**
 * A test named `name` that checks a property on 100 random cases, or `RUNS`. A failure prints how to see it again: `REPLAY='name|seed|path'`
 * runs that one failing case and skips the other properties.
 */
export function property<Ts>(name: string, check: fc.IProperty<Ts> | fc.IAsyncProperty<Ts>): void {
  // More runs take longer, and hang no more than 100 do: the runner's limit grows with them.
  const timeout = 60_000 * Math.max(1, numRuns / 100);
  test.skipIf(only !== "" && only !== name)(name, { timeout }, async () => {
    const replay = only === "" ? {} : { seed: Number(seed), path, endOnFailure: true };
    const r = await fc.check(check, { numRuns, ...replay });
    if (r.failed) {
      const message = `${fc.defaultReportMessage(r)}\nagain: REPLAY='${name}|${r.seed}|${r.counterexamplePath ?? ""}' npm test`;
      throw new Error(message, { cause: r.errorInstance });
    }
  });
}
