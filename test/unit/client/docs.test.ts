import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { OracleClient } from "../../../src/client/index.ts";
import { resolveClientOptions } from "../../../src/client/options.ts";

const read = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), "utf8");
const docs = read("docs/client.md");
const rowsOf = (heading: string): string[][] => {
  const section = docs.split(`\n## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
  const rows = section.split("\n").filter((line) => line.startsWith("| `"));
  return rows.map((row) => row.split("|").map((cell) => cell.trim().replaceAll("`", "")));
};

describe("docs/client.md", () => {
  test("has every option, with its default and its range", () => {
    const source = read("src/client/options.ts").split("export interface ClientOptions {")[1]?.split("\n}")[0] ?? "";
    const names = [...source.matchAll(/readonly (\w+)\?:/g)].map(([, name = ""]) => name);
    const rows = rowsOf("Options");
    expect(rows.map(([, name]) => name)).toEqual(names);
    const { backoff, ...resolved } = resolveClientOptions("a:1", {});
    const defaults: Readonly<Record<string, unknown>> = { ...resolved, backoffBaseMs: backoff.baseMs, backoffMaxMs: backoff.maxMs };
    for (const [, name = "", value] of rows) {
      if (typeof defaults[name] === "number") expect(value, name).toBe(String(defaults[name]));
    }
  });

  test("has every metric", () => {
    const names = [...read("src/client/metrics.ts").matchAll(/"(tsoracle_client_\w+)"/g)].map(([, name = ""]) => name);
    expect(
      rowsOf("Metrics")
        .map(([, name]) => name)
        .toSorted(),
    ).toEqual([...new Set(names)].toSorted());
  });

  test("has every call", () => {
    const text = rowsOf("Calls")
      .map(([, call = ""]) => call)
      .join(" ");
    const inner = ["constructor", "close"];
    for (const name of Object.getOwnPropertyNames(OracleClient.prototype).filter((each) => !inner.includes(each))) expect(text).toContain(name);
  });

  test("speaks of codes that exist", () => {
    const codes = [...docs.matchAll(/TSO_[A-Z_]+/g)].map(([code]) => code);
    const known = read("docs/errors.md");
    for (const code of codes) expect(known).toContain(`| \`${code}\` |`);
  });
});
