/**
 * A node's storage whose process dies at each of its disk's operations, and again while the next one recovers (protocol, section 5: the crash matrix). What a replica
 * begins with is the state after some batch: no earlier than the last that was acknowledged, for that one it may have vouched for.
 */
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { createPrng } from "../../src/base/prng.ts";
import type { Disk } from "../../src/disk/disk.ts";
import { mergeBatches } from "../../src/paxos/core/image.ts";
import type { LogStorage } from "../../src/paxos/storage/log-storage.ts";
import { inspectWal, openWal } from "../../src/paxos/storage/wal.ts";
import { FaultyDisk, type Operation, type PowerCut } from "../../src/testing/faulty-disk.ts";
import { assertHolds, assertRecovered, type BatchPlan, formAlone, LogHistory, type LogState, soleCharter } from "../../src/testing/log-history.ts";
import { type Death, dyingDisk, isDeath } from "../support/crashes.ts";

const DIRECTORY = "/data";
const NODE = 1 as NodeId;

/** What each process writes that has the storage open, one after the other. An array is written as one batch: merged. */
const LIFE: readonly (readonly (BatchPlan | readonly BatchPlan[])[])[] = [
  [{ append: [10] }, { decide: 2 }, { reign: true }, { append: [700, 0, 30] }], // the segment is full
  [
    { reign: true, truncate: 2, append: [5, 900] },
    { truncate: 9, reign: true },
    { append: [1, 2, 3], decide: 2 },
  ],
  [],
  [
    [{ append: [4] }, { reign: true, truncate: 1 }, { append: [50, 60], decide: 3 }],
    { compact: 4 },
    { append: [1_500, 1], decide: 5 },
    { compact: 3 },
  ],
  [{ append: [3_000] }, { decide: 9, compact: 99 }, { append: [7] }, { append: [3_000], decide: 1 }],
  [
    { append: [9, 9, 9], install: { beyond: 20, keepTail: false } },
    { install: { beyond: 1, keepTail: true } },
    [{ append: [2_000] }, { install: { beyond: 7, keepTail: false } }, { append: [8, 8], decide: 1 }],
    { append: [3_000], compact: 1 },
  ],
];

/** How far a life came: the newest state whose write returned, and the newest that was begun. 0: nothing; 1: pledged; 2: formed; then the batches. */
interface Reached {
  acknowledged: number;
  begun: number;
}

interface Life extends Reached {
  readonly disk: FaultyDisk;
  /** By their numbers. The first two have no log. */
  readonly states: (LogState | undefined)[];
  /** The greatest boot count that any process was told. */
  boot: number;
}

async function live(disk: Disk, life: Life): Promise<void> {
  const { states } = life;
  let formed: LogHistory | undefined;
  const writes = async (work: () => Promise<void>, state: LogState | undefined): Promise<void> => {
    life.begun += 1;
    states[life.begun] = state;
    await work();
    life.acknowledged = life.begun;
  };
  for (const plans of LIFE) {
    const storage = await openWal({ directory: DIRECTORY, node: NODE, disk, segmentBytes: 4_096 });
    life.boot = storage.boot;
    const charter = soleCharter(storage);
    const history = formed ?? LogHistory.of(charter);
    if (formed === undefined) {
      await writes(() => storage.found({ type: "pledged", charter }), undefined);
      await writes(() => storage.found({ type: "formed", charter }), history.state);
      formed = history;
    }
    for (const plan of plans) {
      const merged = mergeBatches([plan].flat().map((each) => history.next(each)));
      assert.ok(merged !== undefined);
      await writes(() => storage.write(merged), history.state);
    }
    await storage.close();
  }
}

async function crashed(death: Death): Promise<Life> {
  const life: Life = { disk: new FaultyDisk(), states: [undefined], acknowledged: 0, begun: 0, boot: 0 };
  await dies(live(dyingDisk(life.disk, death), life));
  return life;
}

async function dies(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!isDeath(error)) throw error;
  });
}

function start(disk: Disk): Promise<LogStorage> {
  return openWal({ directory: DIRECTORY, node: NODE, disk, segmentBytes: 4_096 });
}

/** What the next process finds: the number of a state, and how often the disk was opened. */
async function check(disk: FaultyDisk, life: Life): Promise<Pick<Life, "acknowledged" | "boot">> {
  const storage = await start(disk);
  expect(storage.boot).toBeGreaterThan(life.boot);
  const acknowledged = await stateOf(storage, life);
  expect(acknowledged).toBeGreaterThanOrEqual(life.acknowledged);
  expect(acknowledged).toBeLessThanOrEqual(life.begun);
  await storage.close();
  return { acknowledged, boot: storage.boot };
}

async function stateOf(storage: LogStorage, { states, begun }: Life): Promise<number> {
  if (storage.founding.type !== "formed") return storage.founding.type === "pledged" ? 1 : 0;
  const recovered = storage.recovered();
  for (let number = begun; number >= 2; number--) {
    const state = states[number];
    if (state === undefined || !isDeepStrictEqual(state.image, recovered.image)) continue;
    assertRecovered(recovered, state);
    await assertHolds(storage, state);
    return number;
  }
  throw new Error(`no batch left this image: ${JSON.stringify(recovered.image)}`);
}

/** And it goes on from there, whatever happened to the files. */
async function checkUsable(disk: FaultyDisk, found: number, { states }: Life): Promise<void> {
  const state = states[found];
  const storage = await start(disk);
  if (state === undefined) {
    await storage.found({ type: "formed", charter: soleCharter(storage) });
    return storage.close();
  }
  const history = LogHistory.from(state);
  storage.recovered();
  await storage.write(history.next({ reign: true, truncate: 1, append: [1_000, 2] }));
  await storage.write(history.next({ append: [3_000], decide: 1 }));
  await storage.close();
  const again = await start(disk.powerCut("drops"));
  assertRecovered(again.recovered(), history.state);
  await assertHolds(again, history.state);
  await again.close();
}

const TEARS = 3;
/** The same cut each time it is asked for. */
const CUTS: readonly (() => PowerCut)[] = [() => "drops", () => "keeps", ...Array.from({ length: TEARS }, (_, seed) => () => createPrng(seed + 1))];
const WHEN: readonly [Death["when"], Death["when"]] = ["before", "after"];

// Thousands of lives and recoveries: the limit is one that only a hang can meet.
describe("a process that dies at each operation", { timeout: 240_000 }, async () => {
  const whole: Life = { disk: new FaultyDisk(), states: [undefined], acknowledged: 0, begun: 0, boot: 0 };
  await live(whole.disk, whole);
  const deaths = Array.from({ length: whole.disk.operations }, (_, index) => WHEN.map((when) => ({ operation: index + 1, when }))).flat();

  test("the life meets what it is meant to meet", async () => {
    const { segments, frames } = await inspectWal({ directory: DIRECTORY, disk: whole.disk });
    expect(whole.begun).toBe(2 + LIFE.flat().length);
    expect(whole.boot).toBe(LIFE.length);
    expect(segments.first).toBeGreaterThan(3);
    expect(segments.last).toBeGreaterThan(segments.first);
    expect(frames).toBeGreaterThan(2);
    expect(whole.disk.operations).toBeGreaterThan(200);
  });

  test("by a power cut that drops, keeps or tears what was not flushed", async () => {
    const fates = { lost: 0, kept: 0 };
    for (const death of deaths) {
      const life = await crashed(death);
      for (const cut of CUTS) {
        const disk = life.disk.powerCut(cut());
        const { acknowledged: found } = await check(disk, life);
        await checkUsable(disk, found, life);
        if (life.begun > life.acknowledged) fates[found === life.begun ? "kept" : "lost"] += 1;
      }
    }
    process.stdout.write(
      `wal: ${deaths.length} crashes, ${deaths.length * CUTS.length} power cuts; of the writes in flight ${fates.kept} were kept, ${fates.lost} lost\n`,
    );
    expect(fates.lost).toBeGreaterThan(100);
    expect(fates.kept).toBeGreaterThan(100);
  });

  test("by a kill, and what its successor was shown, and may have vouched for, survives a power cut at once", async () => {
    let vouched = 0;
    for (const death of deaths) {
      for (const cut of CUTS) {
        const life = await crashed(death);
        const killed = life.disk.kill();
        const shown = await check(killed, life);
        if (shown.acknowledged > life.acknowledged) vouched += 1;
        expect((await check(killed.powerCut(cut()), { ...life, ...shown })).acknowledged).toBe(shown.acknowledged);
      }
    }
    expect(vouched).toBeGreaterThan(100);
  });

  test("and whose successor dies at each operation of its recovery", async () => {
    const prng = createPrng(7);
    const draw = (): PowerCut => prng.pick<PowerCut>(["drops", "keeps", createPrng(prng.below(1_000_000)), createPrng(prng.below(1_000_000))]);
    let recoveries = 0;
    for (const death of deaths.filter((_, index) => index % 4 === prng.below(4))) {
      for (let operation = 1, died = true; died; operation++) {
        const life = await crashed(death);
        const recovering = prng.chance(0.3) ? life.disk.kill() : life.disk.powerCut(draw());
        await dies(start(dyingDisk(recovering, { operation, when: prng.pick(WHEN) })).then((storage) => storage.close()));
        died = recovering.operations >= operation;
        await check(prng.chance(0.3) ? recovering.kill() : recovering.powerCut(draw()), life);
        recoveries += 1;
      }
    }
    process.stdout.write(`wal: ${recoveries} crashes of the recovery after one\n`);
  });
});

describe("an engine whose disk fails takes nothing more", () => {
  test.each<Operation["name"]>(["write", "datasync"])("after a failed %s, whatever the disk says later", async (name) => {
    const disk = new FaultyDisk();
    const storage = await start(disk);
    const history = await formAlone(storage);
    disk.before = (operation) => {
      if (operation.name === name) throw new Error("EIO: input/output error");
    };
    await expect(storage.write(history.next({ append: [1] }))).rejects.toThrow(/TSO_STORAGE: the disk under \/data\/log failed: EIO/);
    disk.before = undefined;
    await expect(storage.write(history.next({ append: [1] }))).rejects.toThrow(/TSO_STORAGE: .*EIO/);
  });

  test("after the disk was full, and the directory opens again where it stood", async () => {
    const disk = new FaultyDisk({ capacityBytes: 20_000 });
    const storage = await start(disk);
    const history = await formAlone(storage);
    const states: LogState[] = [history.state];
    await expect(
      (async () => {
        for (;;) {
          await storage.write(history.next({ append: [600], decide: 1 }));
          states.push(history.state);
        }
      })(),
    ).rejects.toThrow(/TSO_STORAGE: .*ENOSPC/);
    const killed = disk.kill();
    await expect(start(killed)).resolves.toBeDefined();
    const cut = killed.powerCut("drops");
    cut.capacityBytes = Number.POSITIVE_INFINITY;
    const again = await start(cut);
    const newest = states.at(-1);
    assert.ok(newest !== undefined);
    assertRecovered(again.recovered(), newest);
    await assertHolds(again, newest);
  });
});
