/** `snapshot inspect`, `export` and `import` as an operator meets them. */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { chunkHead, snapshotEnd, snapshotHead } from "../../src/disk/snapshot-format.ts";
import { openWal } from "../../src/paxos/storage/wal.ts";
import { formAlone } from "../../src/testing/log-history.ts";
import { type Ended, Processes } from "../support/server-process.ts";

const processes = new Processes();
let root: string;
/** Of a server that gave three blocks of the sequence `invoice`, 0 to 29, and a lease. */
let used: string;
let exported: string;
let last: bigint;
let lease: string | undefined;

beforeAll(async () => {
  root = processes.directory();
  used = join(root, "used");
  exported = join(root, "oracle.export");
  const server = await processes.serve(used);
  for (let block = 0; block < 3; block++) await processes.run(["seq", "next", "invoice", "-n", "10", "--endpoint", server.address]);
  lease = (await processes.run(["lease", "acquire", "worker", "--ttl", "30s", "--endpoint", server.address])).stdout.split("\n")[0];
  last = BigInt((await processes.run(["ts", "--endpoint", server.address])).stdout.trim());
  await server.stop();
  const { code, stderr } = await processes.run(["export", "--data-dir", used, exported]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
});
afterAll(() => processes.end());

function refusedWith(ended: Ended, code: number, why: RegExp): void {
  expect(ended.stderr, "no stack").not.toMatch(/^ {4}at /m);
  expect(ended.stderr).toMatch(why);
  expect(ended.code).toBe(code);
}

describe.concurrent("an oracle that is carried to another place", () => {
  test("goes on above everything that was granted", async () => {
    const directory = join(root, "carried");
    const { code, stdout } = await processes.run(["import", "--data-dir", directory, exported]);
    expect(code).toBe(0);
    expect(stdout).toBe(`imported ${exported} into ${directory}: 1 sequences and 1 leases were raised or added\n`);
    const again = await processes.run(["import", "--data-dir", directory, exported]);
    expect(again.stdout).toBe(`everything in ${exported} is known in ${directory} already\n`);
    const server = await processes.serve(directory);
    const next = await processes.run(["seq", "next", "invoice", "-n", "2", "--endpoint", server.address]);
    expect(next.stdout).toBe("30\n31\n");
    const timestamp = await processes.run(["ts", "--endpoint", server.address]);
    expect(BigInt(timestamp.stdout.trim())).toBeGreaterThan(last);
    const held = await processes.run(["lease", "acquire", "worker", "--ttl", "30s", "--endpoint", server.address]);
    expect(held.stdout.split("\n")[0], "the lease is there").toBe(lease);
    await server.stop();
    const older = await processes.run(["import", "--data-dir", directory, exported]);
    expect(older.stdout, "floors only move up").toMatch(/is known in/);
  });

  test("is inspected, for people and for scripts", async () => {
    const { code, stdout } = await processes.run(["snapshot", "inspect", exported]);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^an exported oracle: 1 sequences, 1 leases, high water \d+ ms\nexported at .*, \d+ bytes, sha256 [0-9a-f]{64}\nsound: every value reads back\n$/,
    );
    const json = JSON.parse((await processes.run(["snapshot", "inspect", exported, "--json"])).stdout);
    expect(json).toMatchObject({ path: exported, kind: "exported oracle", sequences: 1, leases: 1, bytes: statSync(exported).size });
  });

  test("is refused where it goes together with nothing", async () => {
    const other = join(root, "other");
    const server = await processes.serve(other);
    await processes.run(["seq", "init", "invoice", "--first", "500", "--endpoint", server.address]);
    await processes.run(["seq", "next", "invoice", "--endpoint", server.address]);
    refusedWith(await processes.run(["import", "--data-dir", other, exported]), 1, /TSO_LOCKED/);
    await server.stop();
    refusedWith(await processes.run(["import", "--data-dir", other, exported]), 2, /sequence "invoice" began with 500 here and with 0 there/);
    const listed = await processes.serve(other);
    expect((await processes.run(["seq", "next", "invoice", "--endpoint", listed.address])).stdout).toBe("501\n");
    await listed.stop();
  });

  test("is refused where the file is damaged, cut off, or of something else; nothing is made of it", async () => {
    const bytes = readFileSync(exported);
    const bad = Buffer.from(bytes);
    bad[bad.length - 30] = (bad[bad.length - 30] ?? 0) ^ 4;
    for (const [name, content, why] of [
      ["damaged", bad, /is no exported oracle, or is damaged: not a snapshot: the checksum of chunk \d does not match/],
      ["cut", bytes.subarray(0, -20), /is damaged: not a snapshot: it ends after/],
      ["text", Buffer.from("hello, this is a text"), /is no exported oracle, or is damaged: not a snapshot: it does not begin like one/],
      ["machine", machineSnapshot(), /is no exported oracle, or is damaged/],
    ] as const) {
      const file = join(root, `${name}.export`);
      writeFileSync(file, content);
      const directory = join(root, `of-${name}`);
      refusedWith(await processes.run(["import", "--data-dir", directory, file]), 1, why);
      expect(existsSync(directory), "nothing is made").toBe(false);
    }
    refusedWith(await processes.run(["snapshot", "inspect", join(root, "damaged.export")]), 1, /the checksum of chunk/);
  });

  test("is refused where there is no file, or no directory", async () => {
    refusedWith(await processes.run(["import", "--data-dir", join(root, "x"), join(root, "nowhere")]), 2, /there is no .*nowhere/);
    refusedWith(await processes.run(["export", "--data-dir", join(root, "nowhere"), join(root, "y")]), 1, /holds no journal|no such/i);
    refusedWith(await processes.run(["export", "--data-dir", used, exported]), 2, /oracle\.export is there already, and is not written over/);
    refusedWith(await processes.run(["export", "--data-dir", used, join(root, "no", "dir")]), 2, /cannot be made: there is no directory/);
    expect(readdirSync(root).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });
});

function machineSnapshot(): Buffer {
  const chunks = [Buffer.from("one"), Buffer.from("two, which is longer")];
  return Buffer.concat([snapshotHead(), ...chunks.flatMap((chunk) => [chunkHead(chunk), chunk]), snapshotEnd(chunks.length)]);
}

describe.concurrent("the directory of a node of the log", () => {
  async function nodeWith(name: string, bytes: Buffer): Promise<string> {
    const directory = join(root, name);
    const storage = await openWal({ directory, node: 4 as NodeId });
    const history = await formAlone(storage);
    await storage.write(history.next({ append: [10, 20], decide: 9 }));
    const { image, entries } = history.state;
    const { slot, origin, chain } = entries[2] ?? { ...image, slot: image.last, origin: image.lastOrigin, chain: image.lastChain };
    const sink = await storage.stageSnapshot("ab".repeat(16));
    await sink.write(bytes);
    await sink.finish({ slot, origin, chain, configuration: image.configuration });
    await storage.close();
    return directory;
  }

  test("has its snapshots listed, and verified to the last byte", async () => {
    const directory = await nodeWith("node", machineSnapshot());
    const { code, stdout } = await processes.run(["snapshot", "inspect", directory]);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^node 4: 1 snapshots, the log begins after entry 0\n(ab){16} {2}through entry 3, configuration 1, \d+ bytes, sha256 [0-9a-f]{64}\n$/,
    );
    const file = join(directory, "snapshots", `${"ab".repeat(16)}.data`);
    const one = await processes.run(["snapshot", "inspect", file]);
    expect(one.stdout).toMatch(
      /^a machine's snapshot: 2 chunks, the largest of 20 bytes, \d+ bytes in all\nsha256 [0-9a-f]{64}\nsound: every chunk has its checksum\n$/,
    );
    const bytes = readFileSync(file);
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    refusedWith(await processes.run(["snapshot", "inspect", directory]), 1, /1 of 1 snapshots cannot be used: .*its bytes are not those/);
    refusedWith(await processes.run(["snapshot", "inspect", used]), 2, /is not the directory of a node of the log/);
    refusedWith(await processes.run(["export", "--data-dir", directory, join(root, "z")]), 2, /only a single node's directory can be exported/);
    refusedWith(await processes.run(["import", "--data-dir", directory, exported]), 2, /only a single node's directory can be imported into/);
  });
});
