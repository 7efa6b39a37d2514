import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

const root = new URL("../../", import.meta.url);
const lines = readFileSync(new URL("docs/guarantees.md", root), "utf8").split("\n");
const rows = lines.filter((line) => line.startsWith("| ")).slice(1);

describe("docs/guarantees.md", () => {
  test("has rows", () => {
    expect(rows.length).toBeGreaterThan(10);
  });

  test.each(rows.map((row) => row.split("|").slice(1, -1)))("%s", (...cells) => {
    const [promise = "", argument = "", tests = "", violations = ""] = cells.map((cell) => cell.trim());
    for (const cell of [promise, argument, violations]) expect(cell.length).toBeGreaterThan(10);
    const files = [...tests.matchAll(/`([^`]+)`/g)].map(([, file = ""]) => file);
    expect(files.length, "it names its tests").toBeGreaterThan(0);
    for (const file of files) expect(existsSync(new URL(file, root)), file).toBe(true);
  });
});
