/** The one check before anything lands: its steps in order, a line each, until the first that fails. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

interface Step {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
}

const root = fileURLToPath(new URL("../", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "tsoracle-verify-"));
const report = join(scratch, "tests.json");

const step = (name: string, command: string, ...args: readonly string[]): Step => ({ name, command, args });
const steps: readonly Step[] = [
  step("format", "biome", "check", "--linter-enabled=false"),
  step("types", "tsc"),
  step("lint", "biome", "lint", "--error-on-warnings"),
  step("proto", "buf", "lint"),
  step("generated code", "tsx", "scripts/check-generated.ts"),
  step("layers", "vitest", "run", "test/unit/layers.test.ts"),
  step("unused code", "knip"),
  step("package", "npm", "run", "check:package"),
  step("simulation", "tsx", "scripts/sim.ts", "--seconds", "60"),
  step("tests", "npm", "test", "--", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`),
];

const TAIL_LINES = 100;

try {
  process.exitCode = steps.every(passes) ? 0 : 1;
  if (process.exitCode === 0) console.log(countTests());
} finally {
  if (process.exitCode === 0) rmSync(scratch, { recursive: true });
}

function passes({ name, command, args }: Step): boolean {
  process.stdout.write(`${name.padEnd(15)} `);
  const started = performance.now();
  const { status, signal, error, output } = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, PATH: [join(root, "node_modules/.bin"), process.env["PATH"]].join(delimiter), NO_COLOR: "1" },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 1 << 30,
  });
  const ok = status === 0;
  console.log(`${ok ? "ok    " : "FAILED"} ${((performance.now() - started) / 1000).toFixed(1).padStart(7)} s`);
  if (!ok) explain(`${command} ${args.join(" ")}`, `${(output ?? []).join("")}${error?.message ?? ""}`, status ?? signal ?? "no process");
  return ok;
}

function explain(command: string, output: string, end: number | string): void {
  const log = join(scratch, "failed.log");
  writeFileSync(log, output);
  const lines = output.trimEnd().split("\n");
  console.error(`\n${lines.slice(-TAIL_LINES).join("\n")}\n\n${command} ended with ${end}. All ${lines.length} lines: ${log}`);
}

/** The closing line, in a form that other tools read too. */
function countTests(): string {
  const { numPassedTests, numFailedTests, numPendingTests }: Record<string, number> = JSON.parse(readFileSync(report, "utf8"));
  return `${numPassedTests} passed, ${numFailedTests} failed${numPendingTests === 0 ? "" : `, ${numPendingTests} skipped`}`;
}
