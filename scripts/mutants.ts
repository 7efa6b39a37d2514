/**
 * Plants each mutant of `test/mutants/` in a copy of the sources, and looks for somebody who tells: simulated clusters, seed after seed; where none does, the scenarios of
 * `test/sim`; or the tests that the mutant names. Each twice: with the assertions of the code, and without them, so that somebody else than the code itself finds it.
 *
 *     npm run mutants -- [--seeds N] [--only TEXT]
 *
 * Prints who it was, and after how many seeds; ends with 1 where a mutant lives.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ASSERTION, type Edit, type Mutant } from "../test/mutants/mutant.ts";
import { NODE_MUTANTS } from "../test/mutants/node.ts";
import { ORACLE_MUTANTS } from "../test/mutants/oracle.ts";
import { PROTOCOL_MUTANTS } from "../test/mutants/protocol.ts";

const { values } = parseArgs({ options: { seeds: { type: "string", default: "2000" }, only: { type: "string", default: "" } } });
const SCENARIOS = ["test/sim/scenarios.test.ts"];
/** A run that goes round in circles is ended, and has killed nothing. */
const PATIENCE_MS = 15 * 60_000;
const PARTS = [
  "src",
  "scripts",
  "test",
  "docs",
  "examples",
  "proto",
  "bin",
  "package.json",
  "tsconfig.json",
  "tsconfig.build.json",
  "vitest.config.ts",
];

const root = fileURLToPath(new URL("../", import.meta.url));
const copies = mkdtempSync(join(tmpdir(), "tsoracle-mutants-"));

type Way = "assertions" | "checkers";

/** By folder and files. */
const baselines = new Map<string, ReadonlySet<string>>();

try {
  const folders: readonly (readonly [Way, string])[] = [
    ["assertions", copyOfSources("assertions")],
    ["checkers", copyOfSources("checkers")],
  ];
  silenceAssertions(join(copies, "checkers"));
  let [count, living] = [0, 0];
  for (const mutant of [...PROTOCOL_MUTANTS, ...NODE_MUTANTS, ...ORACLE_MUTANTS].filter(({ name }) => name.includes(values.only))) {
    console.log(mutant.name);
    count += 1;
    for (const [way, folder] of folders) if (!isKilled(mutant, way, folder)) living += 1;
  }
  console.log(`${count} mutants, each with assertions and without; ${living === 0 ? "none lives" : `alive: ${living}`}`);
  process.exitCode = living === 0 && count > 0 ? 0 : 1;
} finally {
  rmSync(copies, { recursive: true });
}

function copyOfSources(name: string): string {
  const folder = join(copies, name);
  for (const part of PARTS) cpSync(join(root, part), join(folder, part), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  return folder;
}

/** In all that a node consists of, and not in who judges it. */
function silenceAssertions(folder: string): void {
  for (const name of readdirSync(join(folder, "src"), { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".ts") || name.startsWith("testing")) continue;
    const path = join(folder, "src", name);
    writeFileSync(path, readFileSync(path, "utf8").replaceAll(ASSERTION.find, ASSERTION.replace));
  }
}

function isKilled({ name, edits, tests }: Mutant, way: Way, folder: string): boolean {
  const before = edits.map(({ file }) => [join(folder, file), readFileSync(join(folder, file), "utf8")] as const);
  const suite = tests ?? SCENARIOS;
  const failingAnyway = baseline(suite, folder);
  const began = performance.now();
  try {
    for (const edit of edits) plant(name, edit, folder);
    const verdicts = tests === undefined ? [searched(way, folder)] : [];
    if (verdicts[0]?.startsWith("killed") !== true) verdicts.push(tested(suite, folder, failingAnyway));
    const killed = verdicts.some((verdict) => verdict.startsWith("killed"));
    const seconds = Math.round((performance.now() - began) / 1000);
    console.log(`    ${way === "assertions" ? "with assertions" : "without"}: ${killed ? "" : "ALIVE: "}${verdicts.join("; ")}; ${seconds} s`);
    return killed;
  } finally {
    for (const [path, source] of before) writeFileSync(path, source);
  }
}

function searched(way: Way, folder: string): string {
  const { stdout, stderr, error } = node(folder, "--import", "tsx", "scripts/seeds-to-kill.ts", values.seeds, way);
  return stdout.trim() || (error?.message ?? stderr.trim());
}

/** Whether a test fails that passes without the mutant: tests of assertions fail where those are silenced. None may fail for want of time. */
function tested(files: readonly string[], folder: string, failingAnyway: ReadonlySet<string>): string {
  const failed = failures(files, folder).filter(({ fullName }) => !failingAnyway.has(fullName));
  const [first] = failed.filter(({ failureMessages }) => failureMessages.every((message) => !message.includes("timed out")));
  if (first === undefined) return `not by ${files.join(", ")}`;
  return `killed by the test "${first.title}"${failed.length > 1 ? ` and ${failed.length - 1} others` : ""}`;
}

/** Names of tests that fail while no mutant is planted. */
function baseline(files: readonly string[], folder: string): ReadonlySet<string> {
  const key = [folder, ...files].join(" ");
  const known = baselines.get(key);
  if (known !== undefined) return known;
  const names = new Set(failures(files, folder).map(({ fullName }) => fullName));
  baselines.set(key, names);
  return names;
}

function failures(files: readonly string[], folder: string): readonly TestCase[] {
  const { stdout, error } = node(folder, "node_modules/vitest/vitest.mjs", "run", ...files, "--reporter=json");
  const at = stdout.indexOf("{");
  if (error !== undefined || at < 0) throw error ?? new Error(`${files.join(", ")} did not run: ${stdout}`);
  const { testResults }: { readonly testResults: readonly { readonly assertionResults: readonly TestCase[] }[] } = JSON.parse(stdout.slice(at));
  return testResults.flatMap(({ assertionResults }) => assertionResults.filter(({ status }) => status === "failed"));
}

interface TestCase {
  readonly status: string;
  readonly title: string;
  readonly fullName: string;
  readonly failureMessages: readonly string[];
}

function node(cwd: string, ...args: readonly string[]): { readonly stdout: string; readonly stderr: string; readonly error?: Error | undefined } {
  return spawnSync(process.execPath, args, { cwd, encoding: "utf8", timeout: PATIENCE_MS, maxBuffer: 1 << 28 });
}

function plant(name: string, { file, find, replace }: Edit, folder: string): void {
  const path = join(folder, file);
  const source = readFileSync(path, "utf8");
  const places = source.split(find).length - 1;
  if (places !== 1) throw new Error(`${name}: its text stands ${places} times in ${file}`);
  writeFileSync(
    path,
    source.replace(find, () => replace),
  );
}
