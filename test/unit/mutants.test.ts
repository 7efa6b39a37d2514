import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { NODE_MUTANTS } from "../mutants/node.ts";
import { ORACLE_MUTANTS } from "../mutants/oracle.ts";
import { PROTOCOL_MUTANTS } from "../mutants/protocol.ts";

describe("each mutant changes a text that stands in its file exactly once", () => {
  test.each([...PROTOCOL_MUTANTS, ...NODE_MUTANTS, ...ORACLE_MUTANTS])("$name", ({ edits }) => {
    for (const { file, find, replace } of edits) {
      const source = readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");
      expect(source.split(find)).toHaveLength(2);
      expect(replace).not.toBe(find);
    }
  });
});
