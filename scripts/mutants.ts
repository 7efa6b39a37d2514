/**
 * Plants each mutant of `test/mutants/` in a copy of the sources and simulates clusters until one run goes wrong; where none does, the
 * scenarios of `test/sim` must tell otherwise than written.
 *
 *     npm run mutants -- [--seeds N] [--only TEXT]
 *
 * Prints how many seeds it took, and which check it was; exits with 1 where a mutant lives.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type Edit, type Mutant, PROTOCOL_MUTANTS } from "../test/mutants/protocol.ts";

const { values } = parseArgs({ options: { seeds: { type: "string" }, only: { type: "string" } } });
const seeds = values.seeds ?? "2000";
const root = fileURLToPath(new URL("../", import.meta.url));
const copy = mkdtempSync(join(tmpdir(), "tsoracle-mutants-"));

try {
  for (const name of ["src", "scripts", "test", "docs", "package.json", "tsconfig.json", "vitest.config.ts"])
    cpSync(join(root, name), join(copy, name), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  for (const mutant of PROTOCOL_MUTANTS) if (values.only === undefined || mutant.name.includes(values.only)) attack(mutant);
} finally {
  rmSync(copy, { recursive: true });
}

function attack({ name, edits }: Mutant): void {
  for (const edit of edits) plant(name, edit);
  const { stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", "scripts/seeds-to-kill.ts", seeds], { cwd: copy, encoding: "utf8" });
  const scenarios = stdout.startsWith("killed") ? "" : scenariosThatDiffer();
  for (const { file } of edits) cpSync(join(root, file), join(copy, file));
  const verdict = stdout.trim();
  console.log(`${name}\n    ${verdict === "" ? stderr.trim() : verdict}${scenarios === "" ? "" : `; killed by ${scenarios}`}`);
  if (!verdict.startsWith("killed") && scenarios === "") process.exitCode = 1;
}

/** For what is too rare for seeds. */
function scenariosThatDiffer(): string {
  const { stdout } = spawnSync(process.execPath, ["node_modules/vitest/vitest.mjs", "run", "test/sim/scenarios.test.ts", "--reporter=json"], {
    cwd: copy,
    encoding: "utf8",
  });
  const { testResults }: { testResults: readonly { assertionResults: readonly { status: string; title: string }[] }[] } = JSON.parse(stdout);
  const failed = testResults.flatMap(({ assertionResults }) => assertionResults.filter(({ status }) => status === "failed"));
  return failed.map(({ title }) => `the scenario ${title}`).join(", ");
}

function plant(name: string, { file, find, replace }: Edit): void {
  const path = join(copy, file);
  const source = readFileSync(path, "utf8");
  const places = source.split(find).length - 1;
  if (places !== 1) throw new Error(`${name}: its text stands ${places} times in ${file}`);
  writeFileSync(
    path,
    source.replace(find, () => replace),
  );
}
