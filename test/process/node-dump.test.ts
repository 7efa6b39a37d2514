/** What a node leaves that stops on a broken invariant, and what `npm run sim -- --replay` makes of it. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { Runtime } from "../../src/paxos/runtime.ts";
import { NodeWorld } from "../support/node-world.ts";
import { Processes } from "../support/server-process.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const processes = new Processes();
let dump: string;

/** A node that is told of a write which nobody asked for. */
beforeAll(async () => {
  const dumpDirectory = processes.directory();
  const put = vi.spyOn(Runtime.prototype, "put");
  const world = new NodeWorld(1);
  const { node } = await world.start(1, { init: true, dumpDirectory });
  await world.apply("before");
  const runtime: unknown = put.mock.contexts[0];
  put.mockRestore();
  Reflect.apply(Runtime.prototype.put, runtime, [{ type: "persisted", seq: 999_999 }]); // no type lets it through
  await expect(node.done).rejects.toThrow("a completed write is one that is in flight");
  expect(node.status().lastFault).toContain("a completed write is one that is in flight");
  const [name] = readdirSync(dumpDirectory);
  dump = join(dumpDirectory, name ?? "");
  expect(world.lines).toContainEqual({
    node: 1,
    level: "error",
    file: dump,
    text: "the inputs that led to it are kept: `npm run sim -- --replay FILE` makes the run again",
  });
});
afterAll(() => processes.end());

function replay(file: string) {
  return spawnSync(process.execPath, ["--import", "tsx", "scripts/sim.ts", "--replay", file], { cwd: root, encoding: "utf8" });
}

test("its dump is run again, step by step, to the same end", () => {
  const { status, stdout, stderr } = replay(dump);
  expect(status).toBe(1);
  expect(stdout).toMatch(/node: 1,\n.*boot: 1,\n.*role: 'leader'/);
  expect(stderr).toContain("a completed write is one that is in flight");
  expect(stderr).toMatch(/^step \d+ stopped the node, as it did before$/m);
});

test.each([
  ["cut off", (bytes: Buffer) => bytes.subarray(0, bytes.length / 2)],
  ["changed", (bytes: Buffer) => Buffer.from(bytes.map((byte, index) => (index === 200 ? byte ^ 1 : byte)))],
])("one that is %s is refused, in one line", (_, damage) => {
  const file = join(processes.directory(), "damaged.bin");
  writeFileSync(file, damage(readFileSync(dump)));
  const { status, stdout, stderr } = replay(file);
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  expect(stderr.trimEnd().split("\n")).toEqual([expect.stringMatching(new RegExp(`^${file}: `))]);
});
