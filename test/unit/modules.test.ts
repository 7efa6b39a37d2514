import fc from "fast-check";
import { expect, test } from "vitest";
import { readModule, readSource, sourceFiles, tokenize } from "../support/modules.ts";
import { property } from "../support/property.ts";

const targets = (source: string): readonly (string | undefined)[] => readModule(source).imports.map(({ specifier }) => specifier);
const words = (source: string): readonly string[] =>
  tokenize(source)
    .filter(({ type }) => type === "word")
    .map(({ text }) => text);

interface Piece {
  readonly source: string;
  readonly words: readonly string[];
}

/** Statements that hide `hidden` in every place where it is no code, and show the words listed. */
const { statement } = fc.letrec<{ statement: Piece; template: Piece }>((tie) => ({
  statement: fc.oneof(
    fc.constantFrom<Piece>(
      { source: "// hidden ' \" ` ${ /*\n", words: [] },
      { source: "/* hidden ' \" ` ${ //\n */", words: [] },
      { source: '"hidden \\" \' ` ${ // \\\\";', words: [] },
      { source: "'hidden \\' \" /* \\\n hidden';", words: [] },
      { source: "`hidden \\` \\${ ' \" // $`;", words: [] },
      { source: "one = /hidden[/'\"`]\\/hidden/g.test(two);", words: ["one", "test", "two"] },
      { source: "if (one) /hidden'/.test(two);", words: ["if", "one", "test", "two"] },
      { source: "for await (one of two) /hidden'/;", words: ["for", "await", "one", "of", "two"] },
      { source: "return /hidden'/;", words: ["return"] },
      { source: "one = (two) / three / 4e-3 / five[6] / seven;", words: ["one", "two", "three", "five", "seven"] },
      { source: "one++ / two.return / .5;", words: ["one", "two", "return"] },
      { source: "{ one?.two ? .3 : 0xf } /hidden'/;", words: ["one", "two"] },
      { source: "this.#one = ({ ...two }) => 1_000n / three;", words: ["this", "#one", "two", "three"] },
    ),
    tie("template"),
  ),
  template: tie("statement").map(({ source, words }) => ({
    source: `one = \`hidden ' \${{ a() {${source}} }} hidden " \` / two;`,
    words: ["one", "a", ...words, "two"],
  })),
}));

property(
  "the tokenizer sees every word of the code and none of its comments, texts and patterns",
  fc.property(fc.array(statement), (pieces) => {
    expect(words(pieces.map(({ source }) => source).join("\n"))).toEqual(pieces.flatMap(({ words }) => words));
  }),
);

test("finds the target of every form of import", () => {
  expect(targets('import "a";import b from "b"; import * as c from \'c\'; import d, { e as f, "g h" as i } from "d"')).toEqual(["a", "b", "c", "d"]);
  expect(targets('import type A from "a"; import type { B } from "b"; import { type C } from "c"; type D = import("d").D;')).toEqual([
    "a",
    "b",
    "c",
    "d",
  ]);
  expect(
    targets('export * from "a"; export * as b from "b"; export { c, "d e" as f } from "c"; export type { D } from "d"; export type * from "e";'),
  ).toEqual(["a", "b", "c", "d", "e"]);
  expect(targets(`await import("a"); import(\`b\`, { with: { type: "json" } }); import(\`c\${d}\`); import("e" + f); require("g");`)).toEqual([
    "a",
    "b",
    undefined,
    undefined,
    "g",
  ]);
});

test("takes nothing else for an import", () => {
  const source =
    'import.meta.url; a.import("b"); const c = { import: "d" }; export const from = "e"; export { from }; "f"; export type G = "h"; const require = 1;';
  expect(targets(source)).toEqual([]);
});

test("knows the line of an import and of an export without a name", () => {
  const { imports, unnamedExports } = readModule(`/*\n*/ import a from "a"; \`\n\${b}\n\`;\nexport default c;\nexport * from "d";`);
  expect(imports.map(({ line }) => line)).toEqual([2, 6]);
  expect(unnamedExports).toEqual([5, 6]);
});

test.each(["'", "`${", "a = /[/", "(", "import a;", "\\u0061"])("refuses what it cannot read: %s", (source) => {
  expect(() => readModule(source)).toThrow();
});

test("skips the line that names the interpreter", () => {
  expect(words("#!/usr/bin/env node\none;")).toEqual(["one"]);
});

test("reads every file of this project", () => {
  const root = new URL("../../", import.meta.url);
  for (const folder of ["src/", "test/", "scripts/"]) {
    for (const file of sourceFiles(new URL(folder, root))) expect(() => readModule(readSource(new URL(folder, root), file)), file).not.toThrow();
  }
});
