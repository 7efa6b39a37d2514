/**
 * The long run, for the background: new seeds of the simulation and every fuzz target, each for a share of the time; and then every property, on fifty
 * cases for each minute of it, which takes a few minutes more.
 *
 *     npm run nightly -- [--minutes N]
 */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("../", import.meta.url));
const { values } = parseArgs({ options: { minutes: { type: "string" } } });
const seconds = Number(values.minutes ?? 60) * 60;
const targets = readdirSync(`${root}fuzz`).filter((name) => name !== "harness.ts");
const seed = Math.floor(Date.now() / 1000);

run("scripts/sim.ts", seconds / 2);
for (const target of targets) run(`fuzz/${target}`, seconds / 2 / targets.length);
checkProperties(Math.max(100, Math.round((seconds / 60) * 50)));

function checkProperties(cases: number): void {
  console.log(`properties, ${cases} cases each`);
  const env = { ...process.env, RUNS: String(cases) };
  const { status } = spawnSync(process.execPath, ["node_modules/vitest/vitest.mjs", "run", "property"], { cwd: root, stdio: "inherit", env });
  if (status !== 0) process.exit(1);
}

function run(script: string, share: number): void {
  const args = ["--import", "tsx", script, "--seconds", String(Math.max(1, Math.floor(share))), "--seed", String(seed)];
  console.log(`${script}, ${Math.floor(share)} s, seed ${seed}`);
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" });
  if (status !== 0) process.exit(1);
}
