/** `tsoracle doctor` as an operator meets it: what it says of sound directories, of damaged ones, and of what is no such directory. It changes nothing, ever. */
import { createHash } from "node:crypto";
import { cpSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { SECTOR } from "../../src/disk/frame.ts";
import type { LogStorage } from "../../src/paxos/storage/log-storage.ts";
import { openWal } from "../../src/paxos/storage/wal.ts";
import { formAlone, type LogHistory } from "../../src/testing/log-history.ts";
import { type Ended, Processes } from "../support/server-process.ts";

const NODE = 4 as NodeId;
const SNAPSHOT = { id: "5".repeat(32), bytes: new Uint8Array(3_000).fill(7) };

const processes = new Processes();
let root: string;

/** Each directory that the tests look at, made once; a test that damages one takes a copy. */
beforeAll(async () => {
  root = processes.directory();
  await (await openWal({ directory: join(root, "unformed"), node: NODE })).close();
  const storage = await openWal({ directory: join(root, "node"), node: NODE });
  const history = await formAlone(storage);
  for (let batch = 0; batch < 20; batch++) await storage.write(history.next({ append: [100, 2_000], decide: 2 }));
  await stageSnapshot(storage, history);
  await storage.close();
});

afterAll(() => processes.end());

async function stageSnapshot(storage: LogStorage, { state: { image, entries } }: LogHistory): Promise<void> {
  const last = entries[image.decidedThrough - 1];
  if (last === undefined) throw new Error("nothing is decided");
  const { slot, origin, chain } = last;
  const { id, bytes } = SNAPSHOT;
  const sink = await storage.stageSnapshot(id);
  await sink.write(bytes);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  await sink.finish({ id, slot, origin, chain, configuration: image.configuration, bytes: bytes.length, sha256 });
}

const copyOf = (name: string): string => {
  const directory = join(processes.directory(), "data");
  cpSync(join(root, name), directory, { recursive: true });
  return directory;
};

/** Every file with its bytes and times. */
function stateOf(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .map((path) => `${path} ${statSync(path).mtimeMs} ${createHash("sha256").update(readFileSync(path)).digest("hex")}`);
}

/** @throws where one file is not as it was */
async function doctor(directory: string, ...flags: readonly string[]): Promise<Ended> {
  const before = stateOf(directory);
  const ended = await processes.run(["doctor", "--data-dir", directory, ...flags]);
  expect(stateOf(directory), "nothing is changed").toEqual(before);
  expect(ended.stderr, "no stack").not.toMatch(/^ {4}at /m);
  return ended;
}

const newestSegment = (directory: string): string => join(directory, "log", readdirSync(join(directory, "log")).sort().at(-1) ?? "");

describe.concurrent("a directory that is sound", () => {
  test("of a node: who it is, its cluster, its log, its snapshots", async () => {
    const directory = join(root, "node");
    const { code, stdout, stderr } = await doctor(directory);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.replace(/disk [0-9a-f]{32}/, "disk X")).toBe(
      [
        `directory    ${directory}`,
        "kind         a node of the log, engine wal",
        "node         4, disk X, boot 1",
        `cluster      ${"c".repeat(32)}, members 4=127.0.0.1:1`,
        "log          entries 1 to 41, decided through 41",
        "promised     0.0.4, accepted 0.0.4",
        "files        23 frames, in segment 1",
        "end          clean",
        `snapshots    ${SNAPSHOT.id} through entry 41, 3000 bytes`,
        "sound: every record reads back, and nothing was changed",
        "",
      ].join("\n"),
    );
  });

  test("the same for a script", async () => {
    const { code, stdout } = await doctor(copyOf("node"), "--json");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      kind: "node of the log",
      node: 4,
      founding: "formed",
      log: { from: 1, through: 41, decidedThrough: 41 },
      torn: false,
      snapshots: [{ id: SNAPSHOT.id, slot: 41 }],
      unusable: [],
    });
  });

  test("of a node that belongs to no cluster yet", async () => {
    const { code, stdout } = await doctor(join(root, "unformed"));
    expect(code).toBe(0);
    expect(stdout).toMatch(/^cluster {6}none yet$/m);
    expect(stdout).toMatch(/^log {10}none yet$/m);
  });

  test("of a single node's server", async () => {
    const directory = join(processes.directory(), "server");
    const server = await processes.serve(directory);
    await processes.run(["seq", "next", "invoices", "--endpoint", server.address]);
    await server.stop();
    const { code, stdout } = await doctor(directory);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^kind {9}a single node's server$/m);
    expect(stdout).toMatch(/^holds {8}1 sequences, 0 leases$/m);
    expect(stdout).toMatch(/^sound: /m);
  });

  test("whose last write a crash interrupted: that is said, and is no damage", async () => {
    const directory = copyOf("unformed");
    const storage = await openWal({ directory, node: NODE });
    const history = await formAlone(storage);
    const segment = newestSegment(directory);
    const before = readFileSync(segment);
    await storage.write(history.next({ append: [5_000] }));
    await storage.close();
    const after = readFileSync(segment);
    const written = Array.from({ length: before.length / SECTOR }, (_, index) => index * SECTOR).filter(
      (at) => !before.subarray(at, at + SECTOR).equals(after.subarray(at, at + SECTOR)),
    );
    expect(written.length).toBeGreaterThan(5);
    for (const at of written.slice(3)) after.fill(0, at, at + SECTOR);
    writeFileSync(segment, after);
    const { code, stdout } = await doctor(directory);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^end {10}a write that a crash interrupted/m);
    expect(stdout).toMatch(/^log {10}entries 1 to 1,/m);
  });
});

describe.concurrent("a directory that is not", () => {
  test("a bit that flipped in the log: file and offset", async () => {
    const directory = copyOf("node");
    const segment = newestSegment(directory);
    const bytes = readFileSync(segment);
    const at = bytes.indexOf(Buffer.alloc(64, 1)); // inside the payload of an entry
    bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at);
    writeFileSync(segment, bytes);
    const { code, stdout, stderr } = await doctor(directory);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    const [, offset] = new RegExp(`^error: TSO_STORAGE: ${segment} at byte (\\d+): `, "m").exec(stderr) ?? [];
    expect(Number(offset), stderr).toBeLessThanOrEqual(at);
    expect(Number(offset)).toBeGreaterThan(at - 5_000);
  });

  test("a bit that flipped in a snapshot: the rest is shown, and it ends with 1", async () => {
    const directory = copyOf("node");
    const data = join(directory, "snapshots", `${SNAPSHOT.id}.data`);
    const bytes = readFileSync(data);
    bytes.writeUInt8(6, 1_234);
    writeFileSync(data, bytes);
    const { code, stdout, stderr } = await doctor(directory);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^log {10}entries 1 to 41, decided through 41$/m);
    expect(stdout).not.toContain("sound");
    expect(stderr).toBe(`error: 1 of 1 snapshots cannot be used: ${data}: its bytes are not those of snapshot ${SNAPSHOT.id}\n`);
  });

  test("in use", async () => {
    const directory = copyOf("node");
    const storage = await openWal({ directory, node: NODE });
    try {
      const { code, stderr } = await doctor(directory);
      expect(code).toBe(1);
      expect(stderr).toMatch(/^error: TSO_LOCKED: .* in use by another process/);
    } finally {
      await storage.close();
    }
  });

  test("empty, or somebody else's", async () => {
    const directory = processes.directory();
    expect(await doctor(directory)).toMatchObject({ code: 1, stderr: `error: TSO_WRONG_FORMAT: ${directory} holds no journal\n` });
    writeFileSync(join(directory, "notes.txt"), "mine");
    expect(await doctor(directory)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^error: TSO_WRONG_FORMAT: .*notes\.txt is not a file of this program/),
    });
  });

  test("missing, or a file; or not named", async () => {
    const directory = processes.directory();
    const missing = join(directory, "nowhere");
    expect(await processes.run(["doctor", "--data-dir", missing])).toMatchObject({
      code: 2,
      stderr: `error: --data-dir ${missing}: there is no such directory\n`,
    });
    const file = join(directory, "file");
    writeFileSync(file, "");
    expect(await processes.run(["doctor", "--data-dir", file])).toMatchObject({ code: 2, stderr: `error: --data-dir ${file} is not a directory\n` });
    expect(await processes.run(["doctor"])).toMatchObject({ code: 2, stderr: expect.stringContaining("'--data-dir <dir>' not specified") });
    expect(readdirSync(directory)).toEqual(["file"]);
  });

  test("of another engine, or format", async () => {
    for (const [line, expected] of [
      ["tsoracle log, engine memory, format 1\n", /kept by the engine memory/],
      ["tsoracle log, engine wal, format 9\n", /has format 9, and this release reads 1/],
      ["hello\n", /does not name an engine: it reads "hello/],
    ] as const) {
      const directory = copyOf("node");
      writeFileSync(join(directory, "ENGINE"), line);
      const { code, stderr } = await doctor(directory);
      expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(expected) });
    }
  });
});
