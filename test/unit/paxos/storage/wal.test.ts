/** What the wal refuses although every checksum is right: a log that no node can have written. */
import { beforeEach, describe, expect, test } from "vitest";
import { encodeUtf8 } from "../../../../src/base/bytes.ts";
import { type NodeId, type Slot, slot } from "../../../../src/base/ids.ts";
import type { Ballot } from "../../../../src/paxos/core/ballot.ts";
import { createEntry, type Entry } from "../../../../src/paxos/core/entry.ts";
import type { Image } from "../../../../src/paxos/core/image.ts";
import type { LogStorage } from "../../../../src/paxos/storage/log-storage.ts";
import { inspectWal, openWal } from "../../../../src/paxos/storage/wal.ts";
import { FaultyDisk } from "../../../../src/testing/faulty-disk.ts";
import { formAlone } from "../../../../src/testing/log-history.ts";

const NODE = 1 as NodeId;
const LATER: Ballot = { round: 5, prio: 0, node: NODE };
const EARLIER: Ballot = { round: 0, prio: 0, node: NODE };

let disk: FaultyDisk;
let storage: LogStorage;
/** As of the last write. */
let image: Image;
let last: Entry;

beforeEach(async () => {
  disk = new FaultyDisk();
  storage = await openWal({ directory: "/data", node: NODE, disk, segmentBytes: 65_536 });
  const { state } = await formAlone(storage);
  image = state.image;
  const [genesis] = await storage.read({ after: slot(0), through: slot(1), maxBytes: 1_000 });
  if (genesis === undefined) throw new Error("a cluster begins with an entry");
  last = genesis;
  await write([entry()], {});
});

function entry(change: { readonly at?: number; readonly origin?: Ballot; readonly chain?: number } = {}): Entry {
  const { at = last.slot + 1, origin = LATER, chain = last.chain } = change;
  return createEntry({ slot: at as Slot, origin, kind: "app", payload: encodeUtf8(`entry ${at}`), previousChain: chain });
}

async function write(entries: readonly Entry[], change: Partial<Image>): Promise<void> {
  const end = entries.at(-1) ?? last;
  image = { ...image, promised: LATER, accepted: LATER, last: end.slot, lastOrigin: end.origin, lastChain: end.chain, ...change };
  await storage.write({ seq: 1, image, ops: entries.length === 0 ? [] : [{ type: "append", entries }] });
  last = end;
}

async function refusal(): Promise<string> {
  await storage.close();
  const [opened, inspected] = await Promise.allSettled([openWal({ directory: "/data", node: NODE, disk: disk.kill() })]).then(async ([first]) => [
    first,
    (await Promise.allSettled([inspectWal({ directory: "/data", disk: disk.kill() })]))[0],
  ]);
  if (opened?.status !== "rejected" || inspected?.status !== "rejected") return "opened";
  expect(String(inspected.reason), "an inspection finds what a start does").toBe(String(opened.reason));
  return String(opened.reason);
}

describe("is refused, with file, place and the way out:", () => {
  test.each<readonly [what: string, write: () => Promise<void>, says: RegExp]>([
    ["a gap", () => expect(write([entry({ at: last.slot + 2 })], {})).rejects.toThrow("the index of the log has no hole"), /entry 4 follows entry 2/],
    ["an entry twice", () => write([entry({ at: last.slot })], {}), /entry 2 follows entry 2/],
    ["an entry that continues another log", () => write([entry({ chain: 7 })], {}), /entry 3 does not continue the chain of the entry before it/],
    ["an origin that goes back", () => write([entry({ origin: EARLIER })], {}), /entry 3 has an older origin than the entry before it/],
    ["an image of a longer log", () => write([], { last: slot(9) }), /the log ends at entry 2, and the image says 9/],
    ["an image of another log", () => write([], { lastChain: 7 }), /entry 2 has another chain than the image says/],
    ["an image of another reign", () => write([], { lastOrigin: EARLIER }), /entry 2 has another origin than the image says/],
    ["more that is decided than there is", () => write([], { decidedThrough: slot(9) }), /entry 9 is decided, and the log ends at 2/],
    [
      "a decided entry that is cut off",
      async () => {
        await write([], { decidedThrough: last.slot });
        await storage.write({
          seq: 3,
          image: { ...image, last: slot(1), decidedThrough: slot(1) },
          ops: [{ type: "truncate", from: slot(2), last: slot(2) }],
        });
      },
      /entry 2 is decided, and is cut off/,
    ],
  ])("%s", async (_, damage, says) => {
    await damage();
    const reason = await refusal();
    expect(reason).toMatch(says);
    expect(reason).toMatch(/TSO_STORAGE: \/data\/log\/wal-[0-9a-f]{16}\.seg at byte \d+: .*Nothing was changed\. .*remove the node from the cluster/);
  });
});

test("what was written as it should be is opened", async () => {
  await write([entry()], { decidedThrough: slot(3) });
  expect(await refusal()).toBe("opened");
});

test("an entry of the newest frame is read from where a start wrote it again: what a cache held of the first writing may be gone (5.4.5)", async () => {
  await write([entry()], {});
  await storage.close();
  const after = disk.kill();
  const names = (await after.list("/data/log")).filter((name) => name.endsWith(".seg"));
  const again = await openWal({ directory: "/data", node: NODE, disk: after });
  const bytes = after.bytesOf(`/data/log/${names.at(-1)}`);
  const at = Buffer.from(bytes).indexOf(encodeUtf8(`entry ${last.slot}`));
  expect(at).toBeGreaterThan(0);
  bytes.fill(0, at, at + 4);
  expect(await again.read({ after: slot(last.slot - 1), through: last.slot, maxBytes: 1_000 })).toMatchObject([
    { slot: last.slot, chain: last.chain },
  ]);
});

describe("a directory whose ENGINE file", () => {
  test.each([
    ["names another engine", "tsoracle log, engine rocksdb, format 1\n", "/data is kept by the engine rocksdb, and this node is to use wal"],
    ["names a later format", "tsoracle log, engine wal, format 2\n", "/data has format 2, and this release reads 1"],
    ["names nothing", "hello\n", '/data/ENGINE does not name an engine: it reads "hello'],
    ["is empty", "", '/data/ENGINE does not name an engine: it reads ""'],
  ])("%s is refused, and left as it is", async (_, text, says) => {
    await storage.close();
    const after = disk.kill();
    const before = await after.list("/data/log");
    await after.remove("/data/ENGINE");
    const file = await after.create("/data/ENGINE");
    await file.write(encodeUtf8(text), 0);
    await file.close();
    for (const refused of [openWal({ directory: "/data", node: NODE, disk: after }), inspectWal({ directory: "/data", disk: after })])
      await expect(refused).rejects.toThrow(`TSO_WRONG_FORMAT: ${says}`);
    expect(await after.list("/data/log")).toEqual(before);
    expect(await after.read("/data/ENGINE")).toEqual(encodeUtf8(text));
  });
});
