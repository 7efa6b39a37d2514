import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ERROR_OUTCOMES, OracleError } from "../../src/base/errors.ts";

const page = readFileSync(new URL("../../docs/errors.md", import.meta.url), "utf8");
const rows = [...page.matchAll(/^\| `(TSO_\w*)` *\| `([\w-]*)` *\| (.*?) *\| (.*?) *\|$/gm)].map(
  ([, code = "", outcome = "", when = "", then = ""]) => ({
    code,
    outcome,
    when,
    then,
  }),
);

test("docs/errors.md has one row for each code, with its outcome, and no other", () => {
  expect(rows.map(({ code }) => code).sort(), "a code twice").toEqual([...new Set(rows.map(({ code }) => code))].sort());
  expect(Object.fromEntries(rows.map(({ code, outcome }) => [code, outcome]))).toEqual(ERROR_OUTCOMES);
});

test("every row of docs/errors.md is read, and says when and what to do", () => {
  expect(page.match(/^\| `/gm)).toHaveLength(rows.length);
  for (const { code, when, then } of rows) expect([when, then], code).not.toContain("");
});

test("an error says all of itself in JSON", () => {
  const error = new OracleError("TSO_LIMIT_REACHED", "key cap 3 reached");
  expect(JSON.parse(JSON.stringify({ error }))).toEqual({
    error: { name: "OracleError", code: "TSO_LIMIT_REACHED", outcome: "not-applied", detail: "key cap 3 reached" },
  });
});
