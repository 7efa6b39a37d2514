/**
 * A journal's process dies at each of its disk's operations, and again while the next one recovers: `docs/protocol.md` 5.4. What was acknowledged is
 * there, what was not is there whole or not at all, and what a process was shown stays.
 */
import { describe, expect, test } from "vitest";
import { createPrng } from "../../src/base/prng.ts";
import type { Disk } from "../../src/disk/disk.ts";
import { hasJournal, type Journal } from "../../src/disk/journal.ts";
import { FaultyDisk, type Operation, type PowerCut } from "../../src/testing/faulty-disk.ts";
import { type Death, dyingDisk, isDeath } from "../support/crashes.ts";
import { contentOf, DIRECTORY, entriesOn, filledDisk, makeJournal, range, reopen, segmentPath } from "../support/journals.ts";

interface Append {
  readonly bytes?: number;
  readonly roll?: boolean;
  /** Drops all segments but the one that this entry is in. */
  readonly release?: boolean;
}

/** The entries of each process that has the journal open, one after the other. */
type Life = readonly (readonly Append[])[];

const LIFE: Life = [
  [{}, { bytes: 1_500 }, {}, { bytes: 2_000 }, {}], // rolls once by itself
  [{}, { roll: true }, { bytes: 700 }, { release: true }, {}, { bytes: 3_000 }],
  [], // opened and closed
  [{ roll: true, release: true }, {}, { bytes: 5_000 }, {}, { release: true }, {}],
];
const ENTRIES = 1 + LIFE.flat().length;

/** How far a life came. */
interface Reached {
  /** The newest entry whose append returned, and the newest that was begun. */
  acknowledged: number;
  begun: number;
}

/** What one whole life showed: where each entry is, and from where on segments count. */
interface Course {
  readonly segmentOf: Map<number, number>;
  readonly firstSegmentAt: Map<number, number>;
  readonly operations: number;
}

async function live(disk: Disk, reached: Reached, seen: (entry: number, journal: Journal) => void = () => undefined): Promise<void> {
  const done = (journal: Journal): void => {
    reached.acknowledged = reached.begun;
    seen(reached.begun, journal);
  };
  for (const [index, appends] of LIFE.entries()) {
    if (index === 0) reached.begun = 1;
    const journal = index === 0 ? await makeJournal(disk) : (await reopen(disk)).journal;
    if (index === 0) done(journal);
    for (const { bytes = 0, roll = false, release = false } of appends) {
      reached.begun += 1;
      const firstSegment = release ? journal.segment + (roll ? 1 : 0) : undefined;
      await journal.append(contentOf(reached.begun, { bytes }), { roll, firstSegment });
      done(journal);
    }
    await journal.close();
  }
}

async function wholeCourse(): Promise<Course> {
  const disk = new FaultyDisk();
  const segmentOf = new Map<number, number>();
  const firstSegmentAt = new Map<number, number>();
  await live(disk, { acknowledged: 0, begun: 0 }, (entry, journal) => {
    segmentOf.set(entry, journal.segment);
    firstSegmentAt.set(entry, journal.firstSegment);
  });
  return { segmentOf, firstSegmentAt, operations: disk.operations };
}

/** The disk that a life leaves which dies so, and how far it came. */
async function crashed(death: Death): Promise<{ readonly disk: FaultyDisk; readonly reached: Reached }> {
  const disk = new FaultyDisk();
  const reached = { acknowledged: 0, begun: 0 };
  await dies(live(dyingDisk(disk, death), reached));
  return { disk, reached };
}

async function dies(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!isDeath(error)) throw error;
  });
}

/** A start, as whoever uses a journal does it. @returns the entries found, none where it had to be made */
async function start(disk: Disk): Promise<readonly number[]> {
  if (await hasJournal({ disk, directory: DIRECTORY })) return entriesOn(disk);
  await (await makeJournal(disk)).close();
  return [];
}

/** What the next process finds: everything from the oldest segment that counts through an entry that is neither forgotten nor made up. */
async function check(disk: FaultyDisk, reached: Reached, { segmentOf, firstSegmentAt }: Course): Promise<number> {
  const entries = await start(disk);
  const newest = entries.at(-1) ?? 0;
  if (newest === 0) expect(reached.acknowledged).toBe(0);
  if (newest === 0) return 0;
  expect(newest).toBeGreaterThanOrEqual(reached.acknowledged);
  expect(newest).toBeLessThanOrEqual(reached.begun);
  const firstSegment = firstSegmentAt.get(newest) ?? 0;
  const oldest = range(1, newest).find((entry) => (segmentOf.get(entry) ?? 0) >= firstSegment);
  expect(entries).toEqual(range(oldest ?? 0, newest));
  return newest;
}

/** And it goes on from there. */
async function checkUsable(disk: FaultyDisk): Promise<void> {
  const { journal, entries } = await reopen(disk);
  const next = (entries.at(-1) ?? 0) + 1;
  await journal.append(contentOf(next, { bytes: 1_000 }));
  await journal.append(contentOf(next + 1), { roll: true });
  await journal.close();
  expect((await entriesOn(disk.powerCut("drops"))).at(-1)).toBe(next + 1);
}

const TEARS = 6;
/** The same cut each time it is asked for. */
const CUTS: readonly (() => PowerCut)[] = [() => "drops", () => "keeps", ...range(1, TEARS).map((seed) => () => createPrng(seed))];
const WHEN: readonly [Death["when"], Death["when"]] = ["before", "after"];

// Thousands of lives and recoveries: the limit is one that only a hang can meet.
describe("a process that dies at each operation", { timeout: 120_000 }, async () => {
  const course = await wholeCourse();
  const deaths = range(1, course.operations).flatMap((operation) => WHEN.map((when) => ({ operation, when })));

  test("the life meets what it is meant to meet", () => {
    expect(course.segmentOf.size).toBe(ENTRIES);
    expect(new Set(course.firstSegmentAt.values()).size).toBe(4);
    expect(course.operations).toBeGreaterThan(100);
  });

  test("by a power cut that drops, keeps or tears what was not flushed", async () => {
    const fates = { lost: 0, kept: 0 };
    for (const death of deaths) {
      const { disk, reached } = await crashed(death);
      for (const cut of CUTS) {
        const found = disk.powerCut(cut());
        const newest = await check(found, reached, course);
        if (newest > 0) await checkUsable(found);
        if (reached.begun > reached.acknowledged) fates[newest === reached.begun ? "kept" : "lost"] += 1;
      }
    }
    expect(fates.lost).toBeGreaterThan(100);
    expect(fates.kept).toBeGreaterThan(100);
  });

  test("by a kill, and what its successor was shown survives a power cut at once", async () => {
    for (const death of deaths) {
      for (const cut of CUTS) {
        const { disk, reached } = await crashed(death);
        const found = disk.kill();
        const shown = await check(found, reached, course);
        if (shown > 0) expect(await check(found.powerCut(cut()), { ...reached, acknowledged: shown }, course)).toBe(shown);
      }
    }
  });

  test("and whose successor dies at each operation of its recovery", async () => {
    const prng = createPrng(5);
    const draw = (): PowerCut => prng.pick<PowerCut>(["drops", "keeps", createPrng(prng.below(1_000_000)), createPrng(prng.below(1_000_000))]);
    let recoveries = 0;
    for (const death of deaths) {
      const { disk, reached } = await crashed(death);
      for (let operation = 1, died = true; died; operation++) {
        const recovering = disk.powerCut(draw());
        await dies(start(dyingDisk(recovering, { operation, when: prng.pick(WHEN) })));
        died = recovering.operations >= operation;
        await check(prng.chance(0.3) ? recovering.kill() : recovering.powerCut(draw()), reached, course);
        recoveries += 1;
      }
    }
    process.stdout.write(`journal: ${deaths.length} crashes, ${recoveries} crashes of the recovery after one\n`);
  });

  test("by a kill, and whose successor dies by a power cut at each operation of its recovery", async () => {
    const prng = createPrng(6);
    for (const death of deaths) {
      for (let operation = 1, died = true; died; operation++) {
        const { disk, reached } = await crashed(death);
        const recovering = disk.kill();
        await dies(start(dyingDisk(recovering, { operation, when: prng.pick(WHEN) })));
        died = recovering.operations >= operation;
        await check(recovering.powerCut(prng.pick<PowerCut>(["drops", "keeps", createPrng(prng.below(1_000_000))])), reached, course);
      }
    }
  });
});

describe("rule 5.4.5: the newest frame is written again before anything relies on it", () => {
  test("what an open replayed after a kill between write and flush is still there after a power cut", async () => {
    const disk = await filledDisk(new FaultyDisk(), 2);
    const { journal } = await reopen(disk);
    disk.before = ({ name }) => {
      if (name === "datasync") disk.kill();
    };
    await dies(journal.append(contentOf(3)));
    const killed = disk.kill();
    const { entries } = await reopen(killed);
    expect(entries).toEqual([1, 2, 3]);
    expect(await entriesOn(killed.powerCut("drops"))).toEqual([1, 2, 3]);
  });

  test("what an open replayed after a failed flush is still there after a power cut", async () => {
    const disk = await filledDisk(new FaultyDisk(), 2);
    const { journal } = await reopen(disk);
    disk.before = ({ name }) => {
      if (name === "datasync") throw new Error("EIO");
    };
    await expect(journal.append(contentOf(3))).rejects.toThrow("EIO");
    const exited = disk.kill();
    const { entries } = await reopen(exited);
    expect(entries).toEqual([1, 2, 3]);
    expect(await entriesOn(exited.powerCut("drops"))).toEqual([1, 2, 3]);
  });

  test("and segments that it releases are dropped only then", async () => {
    const disk = await filledDisk(new FaultyDisk(), 2);
    const { journal } = await reopen(disk);
    disk.before = ({ name }) => {
      if (name === "datasync") disk.kill();
    };
    await dies(journal.append(contentOf(3), { firstSegment: journal.segment }));
    const killed = disk.kill();
    killed.before = ({ name }) => {
      if (name === "link") killed.kill();
    };
    await dies(reopen(killed));
    for (const cut of CUTS) expect(await entriesOn(killed.powerCut(cut())), String(cut)).toContain(2);
  });

  test("and a name that a kill left without its sync does not vanish behind its successor's", async () => {
    const disk = await filledDisk(new FaultyDisk(), 2);
    const { journal } = await reopen(disk);
    const killedAt = (victim: FaultyDisk, operation: Operation["name"]): void => {
      let links = 0;
      victim.before = ({ name }) => {
        if (name === "link") links += 1;
        if (name === operation && links > 0) victim.kill();
      };
    };
    killedAt(disk, "syncDirectory");
    await dies(journal.append(contentOf(3), { roll: true }));
    const killed = disk.kill();
    killedAt(killed, "syncDirectory");
    await dies(reopen(killed));
    for (let seed = 0; seed < 20; seed++) expect([2, 3]).toContain((await entriesOn(killed.powerCut(createPrng(seed)))).at(-1));
  });

  test("segments that no longer count are dropped in any order, and come back after a power cut in any", async () => {
    for (let seed = 0; seed < 50; seed++) {
      const disk = await filledDisk(new FaultyDisk(), 30);
      const { journal } = await reopen(disk);
      await journal.append(contentOf(31), { roll: true, firstSegment: journal.segment + 1 });
      const [first, last] = [journal.firstSegment, journal.segment];
      const cut = disk.powerCut(createPrng(seed));
      expect(await entriesOn(cut)).toEqual([31]);
      expect(await cut.list(DIRECTORY)).toEqual([first, last + 1].map((number) => segmentPath(number).slice(DIRECTORY.length + 1)));
    }
  });
});
