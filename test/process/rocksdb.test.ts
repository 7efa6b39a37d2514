/** The optional engine: the published suite, as an application runs it that has the package; a node on it; and what is said where it cannot be used. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { MemoryNetwork, openWal, PaxosNode } from "tsoracle";
import { openRocksdb } from "tsoracle/storage/rocksdb";
import { type StoragePlace, storageConformance } from "tsoracle/testing";
import { describe, expect, test } from "vitest";

const run = promisify(execFile);

/** Where its binding ends the process: on a processor that it was not built for. */
async function whyNot(): Promise<string | undefined> {
  const directory = await mkdtemp(join(tmpdir(), "tsoracle-rocksdb-"));
  try {
    await (await openRocksdb({ directory, node: 1 })).close();
    return undefined;
  } catch (error) {
    return String(error);
  } finally {
    await rm(directory, { recursive: true });
  }
}

const unusable = await whyNot();
if (unusable !== undefined) process.stderr.write(`the tests of the engine rocksdb are left out: ${unusable}\n`);

async function newPlace(): Promise<StoragePlace> {
  const directory = await mkdtemp(join(tmpdir(), "tsoracle-rocksdb-"));
  return { open: (node) => openRocksdb({ directory, node }), cleanUp: () => rm(directory, { recursive: true }) };
}

describe.skipIf(unusable !== undefined)("rocksdb", () => {
  for (const { name, run: check } of storageConformance(newPlace)) test(name, { timeout: 60_000 }, check);

  test("a node on it takes snapshots, lets go of its log, and begins with them when it is started again", async () => {
    const directory = await mkdtemp(join(tmpdir(), "tsoracle-rocksdb-"));
    const machine = () => {
      let count = 0;
      return {
        get count() {
          return count;
        },
        apply: () => Uint8Array.of(++count % 256),
        capture: () => {
          const frozen = Buffer.from(String(count));
          return { chunks: () => [frozen], release: () => undefined };
        },
        stage: () => {
          let staged = 0;
          return {
            write: (chunk: Uint8Array) => {
              staged = Number(Buffer.from(chunk).toString());
            },
            finish: () => ({
              install: () => {
                count = staged;
              },
              discard: () => undefined,
            }),
            discard: () => undefined,
          };
        },
      };
    };
    const start = async (host: ReturnType<typeof machine>) =>
      PaxosNode.start({
        storage: await openRocksdb({ directory, node: 1 }),
        machine: host,
        peers: "1=one:1",
        init: true,
        transport: async (claim, receiver) => new MemoryNetwork().open({ claim, receiver, address: "one:1" }),
        core: { snapshotEntries: 20, electionTicks: 50 },
      });
    const first = await start(machine());
    for await (const { role } of first.leadership()) if (role === "leader") break;
    for (let count = 0; count < 100; count++) expect((await first.propose(Uint8Array.of(1))).type).toBe("applied");
    const { compactedThrough, snapshot, engine } = first.status();
    expect(engine).toBe("rocksdb");
    expect(compactedThrough).toBeGreaterThan(20);
    expect(snapshot?.slot).toBeGreaterThan(compactedThrough ?? 0);
    await first.close();
    const host = machine();
    const second = await start(host);
    await second.barrier().catch(() => undefined);
    for await (const { role } of second.leadership()) if (role === "leader") break;
    await second.barrier();
    expect(host.count).toBe(100);
    await second.close();
    await expect(openWal({ directory, node: 1 })).rejects.toThrow(/TSO_WRONG_FORMAT: .* is kept by the engine rocksdb, and this node is to use wal/);
    await rm(directory, { recursive: true });
  });
});

test("where the package is missing, that is said, and what to do", async () => {
  const program = `
    import { createRequire, Module } from "node:module";
    const resolve = Module._resolveFilename;
    Module._resolveFilename = (name, ...rest) => { if (name === "@nxtedition/rocksdb") throw new Error("none"); return resolve(name, ...rest); };
    const { openRocksdb } = await import("tsoracle/storage/rocksdb");
    await openRocksdb({ directory: "/nowhere", node: 1 }).catch((error) => console.log(error.message));`;
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", program]);
  expect(stdout).toBe(
    "TSO_INVALID_OPTION: the engine rocksdb needs the package @nxtedition/rocksdb, which is not installed: npm install @nxtedition/rocksdb, or use the wal\n",
  );
});
