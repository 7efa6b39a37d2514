/** What every `LogStorage` must do, as data: run each test with the runner of your choice. An engine that passes may stand under a node. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { OracleError } from "../base/errors.ts";
import { type NodeId, slot } from "../base/ids.ts";
import { InvariantViolation } from "../base/invariant.ts";
import { createPrng } from "../base/prng.ts";
import { configurationCodec } from "../paxos/core/configuration.ts";
import type { LogStorage, SnapshotMeta } from "../paxos/storage/log-storage.ts";
import type { ConformanceTest } from "./driver-conformance.ts";
import { assertHolds, assertRecovered, drawPlan, formAlone, type LogHistory, soleCharter } from "./log-history.ts";

/** A place for one node's durable state, which nobody has used. */
export interface StoragePlace {
  /** Opens it, as a process does that starts. Rejects while it is open. */
  open(node: NodeId): Promise<LogStorage>;
  /** Called at the end of the test, however it ended, when all that was opened is closed. */
  cleanUp?(): void | Promise<void>;
}

const NODE = 3 as NodeId;
const MIB = 1024 * 1024;

/** A test fails by throwing, or by not ending. Each calls `make` once, or twice where it compares two. */
export function storageConformance(make: () => Promise<StoragePlace>): readonly ConformanceTest[] {
  const test = (name: string, body: (test: StorageTest) => Promise<void>): ConformanceTest => ({
    name,
    run: async () => {
      const running = new StorageTest(make);
      try {
        await body(running);
      } finally {
        await running.end();
      }
    },
  });
  return [
    test("a new place is a disk of its own, and belongs to no cluster", newPlace),
    test("counts the processes on it", countsBoots),
    test("is open in one place at a time", openOnce),
    test("belongs to one node", oneNode),
    test("keeps a pledge, and never exchanges it", keepsPledge),
    test("begins with genesis, at once and after a start", beginsWithGenesis),
    test("holds what was written, at once and after a start", holdsBatches),
    test("cuts off and appends in one batch, and in one that was merged", cutsOff),
    test("reads as many bytes as were asked for, and one entry at least", readsInParts),
    test("reads while it writes", readsWhileWriting),
    test("lets go of what is compacted, and of nothing else", compacts),
    test("begins anew after a snapshot, with what followed it or without", installs),
    test("holds the largest entries, and many small ones", sizes),
    test("holds the same as a simple model, over many histories and starts", histories),
    test("a snapshot is there once it is finished, as a whole", stagesSnapshots),
    test("a snapshot whose bytes are not what was promised is refused", refusesSnapshots),
    test("a snapshot that was not finished leaves nothing", forgetsStaged),
    test("closes twice", closesTwice),
  ];
}

async function newPlace(test: StorageTest): Promise<void> {
  const [one, other] = [await test.open(), await test.open({ place: await test.place() })];
  assert.match(one.storageId, /^[0-9a-f]{32}$/);
  assert.notEqual(one.storageId, other.storageId, "an empty disk is another disk");
  for (const storage of [one, other]) {
    assert.equal(storage.boot, 1);
    assert.equal(storage.node, NODE);
    assert.deepEqual(storage.founding, { type: "unformed" });
    assert.deepEqual(storage.repairs, []);
    assert.throws(() => storage.recovered(), InvariantViolation, "there is no log yet");
  }
}

async function countsBoots(test: StorageTest): Promise<void> {
  const { storageId } = await test.open();
  for (const boot of [2, 3, 4]) {
    const storage = await test.reopen();
    assert.equal(storage.boot, boot);
    assert.equal(storage.storageId, storageId, "a restart is no other disk");
  }
}

async function openOnce(test: StorageTest): Promise<void> {
  await test.open();
  await rejectsWith("TSO_LOCKED", test.open());
  await test.close();
  await test.open();
}

async function oneNode(test: StorageTest): Promise<void> {
  await test.open();
  await test.close();
  await rejectsWith("TSO_WRONG_FORMAT", test.open({ node: 4 as NodeId }), /node 3.*node 4/);
  assert.equal((await test.open()).boot, 2, "who was refused is not counted");
}

async function keepsPledge(test: StorageTest): Promise<void> {
  const storage = await test.open();
  const charter = soleCharter(storage);
  await storage.found({ type: "pledged", charter });
  assert.deepEqual(storage.founding, { type: "pledged", charter });
  const again = await test.reopen();
  assert.deepEqual(again.founding, { type: "pledged", charter });
  assert.throws(() => again.recovered(), InvariantViolation);
  const other = { ...charter, clusterId: "d".repeat(32) };
  await assert.rejects(again.found({ type: "pledged", charter: other }), InvariantViolation);
  await assert.rejects(again.found({ type: "formed", charter: other }), InvariantViolation);
  assert.deepEqual((await test.reopen()).founding, { type: "pledged", charter });
}

async function beginsWithGenesis(test: StorageTest): Promise<void> {
  const storage = await test.open();
  const history = await formAlone(storage);
  const charter = soleCharter(storage);
  assertRecovered(storage.recovered(), history.state);
  await assertHolds(storage, history.state);
  const again = await test.reopen();
  assert.deepEqual(again.founding, { type: "formed", charter });
  const recovered = again.recovered();
  assertRecovered(recovered, history.state);
  assert.deepEqual([recovered.node, recovered.storageId, recovered.boot], [NODE, storage.storageId, 2], "the replica is of this process");
  const [genesis] = await again.read({ after: 0 as never, through: 1 as never, maxBytes: 1 });
  assert.equal(configurationCodec.decode(genesis?.payload ?? new Uint8Array()).members[0]?.storageId, storage.storageId);
  await assert.rejects(again.found({ type: "formed", charter }), InvariantViolation, "a cluster is formed once");
}

async function holdsBatches(test: StorageTest): Promise<void> {
  const history = await test.formed();
  await test.write(history, { append: [10, 0, 300], decide: 1 });
  await test.write(history, { reign: true });
  await test.write(history, { append: [5], decide: 4 });
  await assertHolds(test.storage, history.state);
  const again = await test.reopen();
  assertRecovered(again.recovered(), history.state);
  await assertHolds(again, history.state);
  await test.write(history, { append: [7, 8] });
  await assertHolds(again, history.state);
  assertRecovered((await test.reopen()).recovered(), history.state);
}

async function cutsOff(test: StorageTest): Promise<void> {
  const history = await test.formed();
  await test.write(history, { append: [1, 2, 3, 4, 5, 6] });
  await test.write(history, { reign: true, truncate: 3, append: [30, 40], decide: 2 });
  await assertHolds(test.storage, history.state);
  await test.write(history, { reign: true, truncate: 1 });
  await assertHolds(test.storage, history.state);
  const merged = [
    history.next({ append: [9, 9] }),
    history.next({ reign: true, truncate: 2, append: [8] }),
    history.next({ truncate: 1, append: [7, 7] }),
  ];
  const newest = merged.at(-1);
  assert.ok(newest !== undefined);
  await test.storage.write({ ...newest, ops: merged.flatMap(({ ops }) => ops) });
  await assertHolds(test.storage, history.state);
  const again = await test.reopen();
  assertRecovered(again.recovered(), history.state);
  await assertHolds(again, history.state);
}

async function readsInParts(test: StorageTest): Promise<void> {
  const history = await test.formed();
  for (let batch = 0; batch < 10; batch++) await test.write(history, { append: [100, 100, 100, 100, 100], decide: 5 });
  const { image } = history.state;
  for (const maxBytes of [1, 137, 138, 139, 500, 100_000]) await assertHolds(test.storage, history.state, { maxBytes });
  const read = async (after: number, through: number, maxBytes = 1_000_000): Promise<readonly number[]> =>
    (await test.storage.read({ after: after as never, through: through as never, maxBytes })).map(({ slot }) => slot);
  assert.deepEqual(await read(3, 6), [4, 5, 6]);
  assert.deepEqual(await read(3, 1_000_000, 1), [4]);
  assert.equal((await read(3, 1_000_000)).at(-1), image.last);
  assert.deepEqual(await read(image.last, 1_000_000), []);
  assert.deepEqual(await read(7, 7), []);
}

async function readsWhileWriting(test: StorageTest): Promise<void> {
  const history = await test.formed();
  await test.write(history, { append: Array.from({ length: 200 }, () => 50), decide: 200 });
  const before = history.state;
  const reads: Promise<void>[] = [];
  for (let batch = 0; batch < 20; batch++) {
    reads.push(assertHolds(test.storage, before));
    await test.write(history, { append: [400, 400], decide: 2 });
  }
  await Promise.all(reads);
  await assertHolds(test.storage, history.state);
}

async function compacts(test: StorageTest): Promise<void> {
  const history = await test.formed();
  for (let batch = 0; batch < 12; batch++) {
    await test.write(history, { append: [300, 300, 300], decide: 3, compact: batch % 3 });
    assert.deepEqual(
      await test.storage
        .read({ after: 0 as never, through: history.state.image.compactedThrough, maxBytes: 1 })
        .then((read) => (batch === 0 ? [] : read)),
      [],
    );
    await assertHolds(test.storage, history.state);
  }
  const again = await test.reopen();
  assertRecovered(again.recovered(), history.state);
  await assertHolds(again, history.state);
  await test.write(history, { compact: 1_000, decide: 1_000 });
  await test.write(history, { append: [1], reign: true });
  await assertHolds(test.storage, history.state);
  const last = await test.reopen();
  assertRecovered(last.recovered(), history.state);
  await assertHolds(last, history.state);
}

async function sizes(test: StorageTest): Promise<void> {
  const history = await test.formed();
  await test.write(history, { append: [4 * MIB], decide: 1 });
  await test.write(history, { append: Array.from({ length: 20_000 }, () => 0), decide: 20_000 });
  await test.write(history, { append: [0, 3 * MIB, 1] });
  await assertHolds(test.storage, history.state, { maxBytes: MIB });
  const again = await test.reopen();
  assertRecovered(again.recovered(), history.state);
  await assertHolds(again, history.state, { maxBytes: MIB });
}

async function histories(test: StorageTest): Promise<void> {
  for (let seed = 1; seed <= 10; seed++) {
    const prng = createPrng(seed);
    const history = await test.formed({ place: await test.place() });
    for (let batch = 0; batch < 60; batch++) {
      await test.write(history, drawPlan(prng));
      if (prng.chance(0.2)) await assertHolds(test.storage, history.state, { maxBytes: 1 + prng.below(5_000) });
      if (prng.chance(0.1)) assertRecovered((await test.reopen()).recovered(), history.state);
    }
    assertRecovered((await test.reopen()).recovered(), history.state);
    await assertHolds(test.storage, history.state);
  }
}

async function stagesSnapshots(test: StorageTest): Promise<void> {
  const history = await test.formed();
  await test.write(history, { append: [1, 2, 3, 4, 5], decide: 5 });
  const bytes = Uint8Array.from({ length: 300_000 }, (_, index) => index % 253);
  const newer = await stage(test.storage, metaOf("b", history, 5, bytes), bytes);
  const older = await stage(test.storage, metaOf("a", history, 2, bytes.subarray(0, 10)), bytes.subarray(0, 10));
  for (const storage of [test.storage, await test.reopen()]) {
    assert.deepEqual(storage.snapshots(), [older, newer], "the usable ones, oldest first");
    assert.deepEqual(await storage.readSnapshot(newer.id, 0, 1_000_000), bytes);
    assert.deepEqual(await storage.readSnapshot(newer.id, 70_001, 3), bytes.subarray(70_001, 70_004));
    assert.equal((await storage.readSnapshot(newer.id, 300_000, 10)).length, 0);
  }
  await rejectsWith("TSO_INVALID_ARGUMENT", test.storage.stageSnapshot(newer.id), /there already/);
  await test.storage.dropSnapshot(older.id);
  await test.storage.dropSnapshot(older.id);
  await rejectsWith("TSO_INVALID_ARGUMENT", test.storage.readSnapshot(older.id, 0, 1), /no snapshot/);
  assert.deepEqual((await test.reopen()).snapshots(), [newer]);
}

async function refusesSnapshots(test: StorageTest): Promise<void> {
  const history = await test.formed();
  const bytes = Uint8Array.of(1, 2, 3);
  const meta = metaOf("a", history, 1, bytes);
  for (const wrong of [
    { ...meta, bytes: 4 },
    { ...meta, sha256: "0".repeat(64) },
  ]) {
    const sink = await test.storage.stageSnapshot(meta.id);
    await sink.write(bytes);
    await rejectsWith("TSO_WRONG_FORMAT", sink.finish(wrong));
    assert.deepEqual(test.storage.snapshots(), []);
  }
  await stage(test.storage, meta, bytes);
  assert.deepEqual((await test.reopen()).snapshots(), [meta]);
}

async function forgetsStaged(test: StorageTest): Promise<void> {
  const history = await test.formed();
  const bytes = Uint8Array.of(1, 2, 3);
  const meta = metaOf("a", history, 1, bytes);
  const discarded = await test.storage.stageSnapshot(meta.id);
  await discarded.write(bytes);
  await discarded.discard();
  await discarded.discard();
  const abandoned = await test.storage.stageSnapshot(meta.id);
  await abandoned.write(bytes);
  assert.deepEqual((await test.reopen()).snapshots(), []);
  const earlier = await test.storage.stageSnapshot(meta.id);
  await earlier.write(bytes);
  const later = await test.storage.stageSnapshot(meta.id);
  await later.write(bytes);
  await earlier.discard();
  await later.finish(meta);
  assert.deepEqual(test.storage.snapshots(), [meta]);
  assert.deepEqual(await test.storage.readSnapshot(meta.id, 0, 10), bytes, "who was there before cannot harm it");
}

async function installs(test: StorageTest): Promise<void> {
  const history = await test.formed();
  await test.write(history, { append: [10, 20, 30, 40], decide: 1 });
  await test.write(history, { install: { beyond: 1, keepTail: true } });
  await assertHolds(test.storage, history.state);
  assert.equal(history.state.image.last, 5, "what followed is still there");
  assertRecovered((await test.reopen()).recovered(), history.state);
  await test.write(history, { append: [50], decide: 1 });
  await test.write(history, { install: { beyond: 40, keepTail: false }, append: [60, 70] });
  await assertHolds(test.storage, history.state);
  const { image } = history.state;
  const before = await test.storage.read({ after: slot(4), through: image.last, maxBytes: 1_000 });
  assert.deepEqual(before, [], "nothing of what stood before is read");
  const storage = await test.reopen();
  assertRecovered(storage.recovered(), history.state);
  await assertHolds(storage, history.state);
  await test.write(history, { append: [80], decide: 2, compact: 1 });
  await assertHolds(test.storage, history.state);
  await test.write(history, { install: { beyond: 9, keepTail: false } });
  assertRecovered((await test.reopen()).recovered(), history.state);
}

async function closesTwice(test: StorageTest): Promise<void> {
  const history = await test.formed();
  const { storage } = test;
  await storage.close();
  await storage.close();
  await rejectsWith("TSO_CLOSED", storage.write(history.next({ append: [1] })));
}

function metaOf(digit: string, { state }: LogHistory, at: number, bytes: Uint8Array): SnapshotMeta {
  const entry = state.entries[at - 1];
  assert.ok(entry !== undefined);
  const { slot, origin, chain } = entry;
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return { id: digit.repeat(32), slot, origin, chain, configuration: state.image.configuration, bytes: bytes.length, sha256 };
}

async function stage(storage: LogStorage, meta: SnapshotMeta, bytes: Uint8Array): Promise<SnapshotMeta> {
  const sink = await storage.stageSnapshot(meta.id);
  for (let at = 0; at < bytes.length; at += 65_536) await sink.write(bytes.subarray(at, at + 65_536));
  assert.equal(
    storage.snapshots().some(({ id }) => id === meta.id),
    false,
    "a snapshot is not there before it is finished",
  );
  await sink.finish(meta);
  await sink.discard();
  return meta;
}

async function rejectsWith(code: OracleError["code"], work: Promise<unknown>, message = /./): Promise<void> {
  await assert.rejects(work, (error: unknown) => error instanceof OracleError && error.code === code && message.test(error.message));
}

/** The places and storages of one test. */
class StorageTest {
  readonly #make: () => Promise<StoragePlace>;
  readonly #places: StoragePlace[] = [];
  readonly #opened: LogStorage[] = [];

  constructor(make: () => Promise<StoragePlace>) {
    this.#make = make;
  }

  /** Another place than those before. */
  async place(): Promise<StoragePlace> {
    const place = await this.#make();
    this.#places.push(place);
    return place;
  }

  /** Opened last. */
  get storage(): LogStorage {
    const storage = this.#opened.at(-1);
    assert.ok(storage !== undefined, "a storage is open");
    return storage;
  }

  /** At the place that was made last, unless another is given. */
  async open({ place, node = NODE }: { readonly place?: StoragePlace; readonly node?: NodeId } = {}): Promise<LogStorage> {
    const storage = await (place ?? this.#places.at(-1) ?? (await this.place())).open(node);
    this.#opened.push(storage);
    return storage;
  }

  /** A storage of a member, and its log. */
  async formed({ place }: { readonly place?: StoragePlace } = {}): Promise<LogHistory> {
    const storage = await (place === undefined ? this.open() : this.open({ place }));
    return formAlone(storage);
  }

  async write(history: LogHistory, plan: Parameters<LogHistory["next"]>[0]): Promise<void> {
    await this.storage.write(history.next(plan));
  }

  async close(): Promise<void> {
    await this.storage.close();
  }

  async reopen(): Promise<LogStorage> {
    await this.close();
    return this.open();
  }

  async end(): Promise<void> {
    for (const storage of this.#opened) await storage.close();
    for (const place of this.#places) await place.cleanUp?.();
  }
}
