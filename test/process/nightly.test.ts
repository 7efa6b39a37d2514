/** The campaign goes on where it was stopped, and says in its report what it did. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const out = mkdtempSync(join(tmpdir(), "tsoracle-nightly-"));
afterAll(() => rmSync(out, { recursive: true }));

function nightly(...args: readonly string[]): { readonly status: number | null; readonly stdout: string } {
  const all = ["--import", "tsx", "scripts/nightly.ts", "--minutes", "10", "--only", "seeds", "--from", "1", "--out", out, ...args];
  return spawnSync(process.execPath, all, { cwd: root, encoding: "utf8" });
}

function report(): string {
  const [name = ""] = readdirSync(join(out, "docs/campaigns"));
  return readFileSync(join(out, "docs/campaigns", name), "utf8");
}

test("seeds that are done are not run again, a longer run takes the place of a shorter one, and marks that nothing reached fail it", () => {
  const first = nightly("--seeds", "1");
  expect(first.stdout).toContain("aimed: seeds 1 to 1\n");
  expect(first.stdout).toMatch(/FAILED: marks that were not reached: .*adopt-tail-mismatch/);
  expect(first.status).toBe(1);
  expect(report()).toMatch(/\n\| partitions \| 1 to 1 \| 1 \| [\d,]+ \|/);

  expect(nightly("--seeds", "1").stdout).not.toContain("seeds 1 to");

  expect(nightly("--seeds", "2").stdout).toContain("aimed: seeds 1 to 2\n");
  expect(report()).toMatch(/\n\| partitions \| 1 to 2 \| 2 \| [\d,]+ \|/);
  expect(report()).toMatch(/10 runs of clusters/);
});
