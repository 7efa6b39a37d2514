import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { countMarks, MARKS, type Mark, mark, marksCounted } from "../../../src/base/marks.ts";

describe("marks", () => {
  test("are counted from the moment that someone counts", () => {
    mark("rebid");
    expect(marksCounted()).toBe(false);
    const counting = countMarks();
    try {
      expect(marksCounted()).toBe(true);
      expect(() => countMarks()).toThrow(/by one at a time/);
      mark("rebid");
      mark("rebid");
      mark("busy-nack");
    } finally {
      counting.stop();
    }
    mark("rebid");
    expect([...counting.counts]).toEqual([
      ["rebid", 2],
      ["busy-nack", 1],
    ]);
  });

  const paxos = new URL("../../../src/paxos/", import.meta.url);
  const sources = readdirSync(paxos, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => readFileSync(new URL(name, paxos), "utf8"))
    .join("\n");

  test.each(Object.keys(MARKS) as Mark[])("%s has a place in the code", (name) => {
    expect(sources).toContain(`"${name}"`);
  });
});
