/** Whether src/gen is what proto/ generates, byte for byte. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const fresh = mkdtempSync(join(tmpdir(), "tsoracle-gen-"));
try {
  const run = spawnSync(join(root, "node_modules/.bin/buf"), ["generate", "--output", fresh], { cwd: root, stdio: "inherit" });
  if (run.status !== 0) throw new Error(`buf generate ended with ${run.status ?? run.signal ?? run.error?.message}`);
  const faults = compareTrees(join(fresh, "src/gen"), join(root, "src/gen"));
  if (faults.length > 0) {
    console.error(`src/gen is not what proto/ generates:\n${faults.join("\n")}\nRun "npm run generate", and never edit src/gen by hand.`);
    process.exitCode = 1;
  }
} finally {
  rmSync(fresh, { recursive: true });
}

function compareTrees(wanted: string, found: string): string[] {
  const names = new Set([...filesBelow(wanted), ...filesBelow(found)]);
  return [...names].sort().flatMap((name) => {
    if (!filesBelow(found).includes(name)) return [`  ${name} is missing`];
    if (!filesBelow(wanted).includes(name)) return [`  ${name} comes from no .proto file`];
    return firstDifference(name, readFileSync(join(wanted, name)), readFileSync(join(found, name)));
  });
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => statSync(join(folder, name)).isFile());
}

function firstDifference(name: string, wanted: Buffer, found: Buffer): string[] {
  if (wanted.equals(found)) return [];
  const [wantedLines, foundLines] = [wanted.toString().split("\n"), found.toString().split("\n")];
  const at = wantedLines.findIndex((line, i) => line !== foundLines[i]);
  const line = at === -1 ? wantedLines.length : at; // src/gen has more lines at its end
  return [`  ${name}, line ${line + 1}`, `    generated: ${wantedLines[line] ?? "(end)"}`, `    src/gen:   ${foundLines[line] ?? "(end)"}`];
}
