/**
 * Scenarios as text: blocks of commands, `----`, and what they print, a blank line between blocks, `#` for comments. A test runs the commands and compares. With
 * UPDATE=1 the file is rewritten with what was printed: read the difference before it is committed.
 */
import { readFileSync, writeFileSync } from "node:fs";

interface Block {
  readonly comments: readonly string[];
  readonly commands: readonly string[];
}

/** @returns the file as it is, and as it would be if it told of what happens. */
export function runScenario(file: URL, run: (command: readonly string[]) => string): { readonly written: string; readonly happened: string } {
  const written = readFileSync(file, "utf8");
  const blocks = parse(written);
  const happened = blocks
    .map(({ comments, commands }) => {
      const output = commands
        .map((command) => run(command.split(/\s+/)))
        .filter((text) => text !== "")
        .join("\n");
      return [...comments, ...commands, "----", ...(output === "" ? [] : [output])].join("\n");
    })
    .join("\n\n");
  if (process.env["UPDATE"] === "1") writeFileSync(file, `${happened}\n`);
  return { written: written.trimEnd(), happened };
}

function parse(text: string): readonly Block[] {
  return text
    .trimEnd()
    .split(/\n{2,}/)
    .map((block) => {
      const lines = block.split("\n");
      const rule = lines.indexOf("----");
      const before = rule < 0 ? lines : lines.slice(0, rule);
      return {
        comments: before.filter((line) => line.startsWith("#")),
        commands: before.filter((line) => !line.startsWith("#")),
      };
    });
}
