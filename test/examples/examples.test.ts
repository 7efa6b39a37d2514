import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { memoryDriver } from "../../src/oracle/drivers/memory.ts";
import { OracleServer } from "../../src/server/index.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Runs an example as its first lines say, and returns what it prints. It fails the test if it exits with anything but 0. */
async function output(name: string): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", `examples/${name}.ts`], { cwd: root });
  return stdout;
}

/** The block of the README that begins with `first`, as a stranger would paste it. */
async function readmeBlock(first: string): Promise<string> {
  const blocks = (await readFile(`${root}README.md`, "utf8")).matchAll(/```ts\n([\s\S]*?)```/g);
  const [block] = [...blocks].map(([, text = ""]) => text).filter((text) => text.startsWith(first));
  if (block === undefined) throw new Error(`the README has no block that begins with ${first}`);
  return block;
}

test("the README's client does what it says, in 10 lines", async () => {
  const block = await readmeBlock("import { OracleClient");
  expect(block.split("\n").filter((line) => line !== "").length).toBeLessThanOrEqual(10);
  const driver = memoryDriver();
  const server = await OracleServer.start({ driver, listen: "127.0.0.1:0", heartbeatMs: 0 });
  try {
    const program = block.replace("127.0.0.1:50551", server.address ?? "");
    expect(program).not.toBe(block);
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program], { cwd: root });
    expect(stdout).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z: invoices 0 to 2 are mine\nmay stamp records up to \d+ ms\n$/);
  } finally {
    await server.close();
    await driver.close();
  }
});

describe("each example runs, and prints what it is there to show", () => {
  test("embedded-server: a restart loses nothing", async () => {
    const [first = "", second = ""] = (await output("embedded-server")).split("\n");
    const [, firstTimestamp = "0"] = /^first start: timestamp (\d+), invoices from 0 on$/.exec(first) ?? [];
    const [, secondTimestamp = "0"] = /^second start: timestamp (\d+), invoices from 3 on$/.exec(second) ?? [];
    expect(BigInt(firstTimestamp)).toBeGreaterThan(0n);
    expect(BigInt(secondTimestamp)).toBeGreaterThan(BigInt(firstTimestamp));
  });

  test("single-node: what it decided is there when it is started again", async () => {
    expect(await output("single-node")).toBe(
      [
        "start 1 on this directory: the counter stands at 0",
        "plus 1 is entry 3, durable, and makes 1",
        "plus 2 is entry 4, durable, and makes 3",
        "plus 3 is entry 5, durable, and makes 6",
        "start 2 on this directory: the counter stands at 6",
        "plus 1 is entry 7, durable, and makes 7",
        "plus 2 is entry 8, durable, and makes 9",
        "plus 3 is entry 9, durable, and makes 12",
        "",
      ].join("\n"),
    );
  });

  test("replicated-map: a leader that is killed takes nothing with it", async () => {
    const lines = (await output("replicated-map")).split("\n");
    const [, killed] = /^100 keys put; node ([123]) leads: kill -9$/.exec(lines[0] ?? "") ?? [];
    const [, successor] = /^100 more put; node ([123]) leads now$/.exec(lines[1] ?? "") ?? [];
    expect(killed).toBeDefined();
    expect(successor).toBeDefined();
    expect(successor).not.toBe(killed);
    expect(lines.slice(2)).toEqual(["each of the 3 nodes asked for each of the 200 keys: 0 missing", ""]);
  });

  test("lease-worker: a second worker of the same name takes over", async () => {
    expect(await output("lease-worker")).toBe(
      [
        "first: holds the lease",
        "second: has taken over",
        "first: TSO_LEASE_LOST, at its next renewal",
        "both wrote: true",
        "the frontier lies ahead of the clock: true",
        "",
      ].join("\n"),
    );
  });

  test("failover-demo: timestamps rise over a change of leaders and a clock that goes back", async () => {
    const lines = (await output("failover-demo")).split("\n");
    expect(lines.filter((line) => line.includes("not leader"))).toHaveLength(2);
    expect(lines).toContain("4 timestamps, each above the one before");
  });

  test("custom-driver: a second writer takes over without a gap", async () => {
    expect(await output("custom-driver")).toBe(
      [
        "A grants invoices 0 (3 of them)",
        "B has taken over, and grants invoices 3 (2 of them)",
        "A is told: 9 FAILED_PRECONDITION: not leader",
        "B goes on with 5 (1 of them)",
        "",
      ].join("\n"),
    );
  });

  test("custom-driver: the store itself takes less than 60 lines", async () => {
    const text = await readFile(`${root}examples/custom-driver.ts`, "utf8");
    const store = text.slice(text.indexOf("class SharedDirectory"), text.indexOf("const directory = "));
    expect(store.split("\n").length).toBeLessThan(60);
  });
});
