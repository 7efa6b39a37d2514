/** The journal on a disk that fails as real ones do: `docs/protocol.md` 5.2 to 5.4. Its crashes and refusals have files of their own. */
import { describe, expect, test } from "vitest";
import { OracleError } from "../../src/base/errors.ts";
import type { Disk } from "../../src/disk/disk.ts";
import { hasJournal, openJournal } from "../../src/disk/journal.ts";
import { FaultyDisk, type Operation, systemError } from "../../src/testing/faulty-disk.ts";
import { withoutLock } from "../support/crashes.ts";
import {
  contentOf,
  DIRECTORY,
  entriesOn,
  filledDisk,
  makeJournal,
  range,
  refusalOf,
  reopen,
  SEGMENT_BYTES,
  segmentPath,
} from "../support/journals.ts";

const SEGMENT_ENTRIES = 7;

describe("a journal", () => {
  test("replays what was appended, in order, over segments of their own size", async () => {
    const disk = await filledDisk(new FaultyDisk(), 3 * SEGMENT_ENTRIES);
    expect(await disk.list(DIRECTORY)).toEqual([1, 2, 3].map((number) => segmentPath(number).slice(DIRECTORY.length + 1)));
    for (const number of [1, 2, 3]) expect(disk.bytesOf(segmentPath(number))).toHaveLength(SEGMENT_BYTES);
    const { journal, entries, kinds, opens } = await reopen(disk);
    expect(entries).toEqual(range(1, 3 * SEGMENT_ENTRIES));
    expect(new Set(kinds)).toEqual(new Set(["batch"]));
    expect({ opens, torn: journal.torn, segment: journal.segment, firstSegment: journal.firstSegment }).toEqual({
      ...{ opens: 2, torn: false },
      ...{ segment: 4, firstSegment: 1 },
    });
  });

  test("replays the newest entry once, however often it was opened, and never appends to a segment of an earlier process", async () => {
    const disk = await filledDisk(new FaultyDisk(), 3);
    const before = disk.bytesOf(segmentPath(1)).slice();
    for (const opens of [2, 3, 4]) {
      const { journal, ...opened } = await reopen(disk);
      expect(opened).toEqual({ entries: [1, 2, 3], kinds: ["batch", "batch", opens === 2 ? "batch" : "recover"], opens });
      expect(journal.segment).toBe(opens);
      await journal.close();
    }
    expect(disk.bytesOf(segmentPath(1))).toEqual(before);
  });

  test("prepares the next segment once this one is half full, and not before", async () => {
    const disk = new FaultyDisk();
    const journal = await makeJournal(disk);
    const isReady = async (): Promise<boolean> => (await disk.list(DIRECTORY)).some((name) => name.endsWith(".tmp"));
    const readyAt: number[] = [];
    for (let entry = 1; entry <= 4 * SEGMENT_ENTRIES; entry++) {
      const before = journal.segment;
      await journal.append(contentOf(entry));
      const rolled = journal.segment !== before;
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
      if (rolled) expect(await isReady(), `entry ${entry} began segment ${journal.segment}`).toBe(false);
      else if (await isReady()) readyAt.push(entry);
    }
    expect(readyAt.length).toBeGreaterThan(3);
    await journal.close();
  });

  test("keeps the identity of its directory, and no two directories have the same", async () => {
    const disk = new FaultyDisk();
    const made = await makeJournal(disk);
    await made.close();
    const { journal } = await reopen(disk);
    expect([...journal.storageId]).toEqual([...made.storageId]);
    expect([...(await makeJournal(new FaultyDisk())).storageId]).not.toEqual([...made.storageId]);
  });

  test("rolls where a frame does not fit, and says so before", async () => {
    const journal = await makeJournal(new FaultyDisk());
    for (let entry = 2; entry < SEGMENT_ENTRIES; entry++) await journal.append(contentOf(entry));
    expect(journal.segment).toBe(1);
    expect(journal.wouldRoll(2 * 512)).toBe(true);
    await journal.append(contentOf(SEGMENT_ENTRIES, { bytes: 512 }));
    expect(journal.segment).toBe(2);
    expect(journal.wouldRoll(2 * 512)).toBe(false);
  });

  test("takes a frame that is larger than a segment", async () => {
    const disk = new FaultyDisk();
    const journal = await makeJournal(disk);
    await journal.append(contentOf(2, { bytes: 3 * SEGMENT_BYTES }));
    await journal.append(contentOf(3));
    await journal.close();
    expect(journal.segment).toBe(3);
    expect(disk.bytesOf(segmentPath(2)).length).toBeGreaterThan(3 * SEGMENT_BYTES);
    expect(await entriesOn(disk)).toEqual([1, 2, 3]);
  });

  test("rolls when it is told to, and drops the segments before `firstSegment` once the frame that says so is durable", async () => {
    const disk = await filledDisk(new FaultyDisk(), 2 * SEGMENT_ENTRIES);
    const { journal } = await reopen(disk);
    const operations = watched(disk);
    await journal.append(contentOf(15), { roll: true, firstSegment: journal.segment + 1 });
    expect(operations.slice(operations.indexOf("create"))).toEqual(
      ...[["create", "write", "datasync", "link", "remove", "syncDirectory", "remove", "remove", "remove"]],
    );
    expect({ segment: journal.segment, firstSegment: journal.firstSegment }).toEqual({ segment: 4, firstSegment: 4 });

    operations.length = 0;
    await journal.append(contentOf(16), { roll: true });
    await journal.append(contentOf(17), { firstSegment: 5 });
    expect(operations.slice(-3)).toEqual(["write", "datasync", "remove"]);
    await journal.close();
    expect(await disk.list(DIRECTORY)).toHaveLength(1);
    expect(await entriesOn(disk)).toEqual([16, 17]);
  });

  test("never counts a segment again that no longer counted, nor one that does not exist", async () => {
    const journal = await makeJournal(new FaultyDisk());
    await journal.append(contentOf(2), { roll: true, firstSegment: 2 });
    await expect(journal.append(contentOf(3), { firstSegment: 1 })).rejects.toThrow(/what still counts moves forward only/);
    await expect(journal.append(contentOf(3), { firstSegment: 3 })).rejects.toThrow(/the newest segment always counts/);
    await journal.append(contentOf(3)); // a bug of the caller's is no failure of the disk
  });

  test("writes one frame at a time", async () => {
    const journal = await makeJournal(new FaultyDisk());
    const first = journal.append(contentOf(2));
    await expect(journal.append(contentOf(3))).rejects.toThrow(/one frame is written at a time/);
    await first;
  });

  test("is durable when it says so: one write, one flush", async () => {
    const disk = new FaultyDisk();
    const journal = await makeJournal(disk);
    const operations = watched(disk);
    await journal.append(contentOf(2));
    expect(operations).toEqual(["write", "datasync"]);
    expect(await entriesOn(disk.powerCut("drops"))).toEqual([1, 2]);
  });

  test("is held by one process, and given back by `close`, which may be called twice", async () => {
    const disk = new FaultyDisk();
    const journal = await makeJournal(disk);
    expect(await refusalOf(reopen(disk))).toMatchObject({ code: "TSO_LOCKED" });
    await journal.close();
    await journal.close();
    expect(await refusalOf(journal.append(contentOf(2)))).toMatchObject({ code: "TSO_CLOSED", message: expect.stringContaining(DIRECTORY) });
    expect(await entriesOn(disk)).toEqual([1]);
  });

  test("is made once, in a directory that holds nothing else", async () => {
    const disk = await filledDisk(new FaultyDisk(), 1);
    expect(await refusalOf(makeJournal(disk))).toMatchObject({ code: "TSO_WRONG_FORMAT", message: expect.stringContaining(DIRECTORY) });
    expect(await entriesOn(disk), "and the refusal gave the directory back").toEqual([1]);
  });

  test("is none in a directory that is missing, or that a crash left half made", async () => {
    const disk = new FaultyDisk();
    expect(await hasJournal({ disk, directory: DIRECTORY })).toBe(false);
    await disk.makeDirectory(DIRECTORY);
    expect(await hasJournal({ disk, directory: DIRECTORY })).toBe(false);
    const half = await disk.create(segmentPath(1).replace(".seg", ".tmp"));
    await half.write(new Uint8Array(100), 0);
    expect(await hasJournal({ disk, directory: DIRECTORY })).toBe(false);
    expect(await refusalOf(reopen(disk))).toMatchObject({ code: "TSO_WRONG_FORMAT", message: expect.stringContaining("holds no journal") });
    const journal = await makeJournal(disk);
    await journal.close();
    expect(await disk.list(DIRECTORY)).toEqual([segmentPath(1).slice(DIRECTORY.length + 1)]);
    expect(await hasJournal({ disk, directory: DIRECTORY })).toBe(true);
  });
});

describe("after one failed write or flush nothing succeeds, even if the disk works again", () => {
  const failing: readonly Operation["name"][] = ["write", "datasync"];
  const failingRoll: readonly Operation["name"][] = ["close", "create", "write", "datasync", "link", "remove", "syncDirectory"];
  const cases = [...failing.map((name) => ({ name, roll: false })), ...failingRoll.map((name) => ({ name, roll: true }))];

  test.each(cases)("$name (roll: $roll)", async ({ name, roll }) => {
    const disk = await filledDisk(new FaultyDisk(), 2);
    const { journal } = await reopen(disk);
    disk.before = (operation) => {
      if (operation.name === name) throw systemError("EIO", operation.path);
    };
    const failure = await refusalOf(journal.append(contentOf(3), { roll }));
    expect(failure).toMatchObject({ code: "TSO_STORAGE", outcome: "unknown", cause: { code: "EIO" } });
    expect(failure.message).toMatch(/^TSO_STORAGE: the disk under \/data failed: EIO: \/data/);

    disk.before = undefined;
    const { operations } = disk;
    expect(journal.failure).toBe(failure);
    expect(await refusalOf(journal.append(contentOf(3)))).toBe(failure);
    expect(await refusalOf(journal.append(contentOf(3), { roll: true }))).toBe(failure);
    expect(disk.operations, "and nothing is tried").toBe(operations);
    await journal.close();
    // What the next process finds is the caller's question; either answer is right, and it stays.
    const { journal: next, entries } = await reopen(disk);
    expect([2, 3]).toContain(entries.at(-1));
    await next.close();
    expect(await entriesOn(disk.powerCut("drops"))).toEqual(entries);
  });
});

describe("a device without room", () => {
  const roomFor = async (disk: FaultyDisk): Promise<number> => (await disk.list(DIRECTORY)).length * SEGMENT_BYTES;

  test("fails a roll, and nothing that was acknowledged is lost", async () => {
    const disk = await filledDisk(new FaultyDisk(), SEGMENT_ENTRIES);
    const { journal } = await reopen(disk);
    disk.capacityBytes = await roomFor(disk);
    await journal.append(contentOf(8));
    const failure = await refusalOf(journal.append(contentOf(9), { roll: true }));
    expect(failure).toMatchObject({ code: "TSO_STORAGE", message: expect.stringMatching(/^TSO_STORAGE: the disk under \/data failed: ENOSPC/) });
    await journal.close();
    const after = disk.powerCut("keeps");
    expect(await entriesOn(after)).toEqual(range(1, 8));
  });

  test("fails an open with a clear error each time, and lets go of the directory; once there is room again everything is there", async () => {
    const disk = await filledDisk(new FaultyDisk(), 10);
    const files = await disk.list(DIRECTORY);
    disk.capacityBytes = (await roomFor(disk)) + 1_000;
    for (let attempt = 1; attempt <= 3; attempt++) {
      expect(await refusalOf(reopen(disk))).toMatchObject({ code: "TSO_STORAGE", message: expect.stringContaining("ENOSPC") });
    }
    expect((await disk.list(DIRECTORY)).filter((name) => name.endsWith(".seg"))).toEqual(files);
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    expect(await entriesOn(disk)).toEqual(range(1, 10));
  });

  test("that cuts a write short leaves a torn frame, which is cut when there is room again", async () => {
    const disk = new FaultyDisk();
    const journal = await makeJournal(disk);
    disk.capacityBytes = 4 * 512; // the header, entry 1 and a sector and a half of what comes: less than the file was promised
    expect(await refusalOf(journal.append(contentOf(2, { bytes: 3 * 512 })))).toMatchObject({ code: "TSO_STORAGE" });
    await journal.close();
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    const { journal: next, entries } = await reopen(disk);
    expect({ entries, torn: next.torn }).toEqual({ entries: [1], torn: true });
  });

  test("fails the making of a journal, which then can be made", async () => {
    const disk = new FaultyDisk({ capacityBytes: 100 });
    expect(await refusalOf(makeJournal(disk))).toMatchObject({ code: "TSO_STORAGE", message: expect.stringContaining("ENOSPC") });
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    await (await makeJournal(disk)).close();
    expect(await entriesOn(disk)).toEqual([1]);
  });
});

describe("two processes that do not see each other's lock", () => {
  test("cannot both make a segment: the second to roll is fenced", async () => {
    const disk = await filledDisk(new FaultyDisk(), 2);
    const { journal: old } = await reopen(withoutLock(disk));
    const { journal: young } = await reopen(withoutLock(disk));
    const failure = await refusalOf(old.append(contentOf(3), { roll: true }));
    expect(failure.code).toBe("TSO_LOCKED");
    expect(failure.message).toContain(`${segmentPath(3)} was made by another process`);
    expect(await refusalOf(old.append(contentOf(3))), "for good").toBe(failure);
    await young.append(contentOf(3));
    await young.close();
    expect(await entriesOn(disk)).toEqual([1, 2, 3]);
  });

  test("cannot both make a journal", async () => {
    const disk = new FaultyDisk();
    const attempts = await Promise.allSettled([makeJournal(withoutLock(disk)), makeJournal(withoutLock(disk))]);
    expect(attempts.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(await entriesOn(disk)).toEqual([1]);
  });
});

describe("a failure while opening", () => {
  test("of the caller's replay refuses the directory, writes nothing and lets go of it", async () => {
    const disk = await filledDisk(new FaultyDisk(), 3);
    const operations = watched(disk);
    const refusal = new OracleError("TSO_WRONG_FORMAT", "an entry of a kind unknown here");
    const refused = openJournal({
      ...{ disk, directory: DIRECTORY, segmentBytes: SEGMENT_BYTES },
      replay: () => {
        throw refusal;
      },
      revive: (meta) => meta,
    });
    const told = await refusalOf(refused);
    expect(told.cause).toBe(refusal);
    expect(told.message).toMatch(/^TSO_WRONG_FORMAT: \/data\/wal-0{15}1\.seg at byte 600: an entry of a kind unknown here$/);
    expect(new Set(operations)).toEqual(new Set(["lock", "list", "read"]));
    expect(await entriesOn(disk)).toEqual([1, 2, 3]);
  });

  test("of any operation leaves everything as it was for the next attempt", async () => {
    const entries = range(1, 2 * SEGMENT_ENTRIES);
    let failures = 0;
    for (let opened = false; !opened; failures++) {
      const disk = await filledDisk(new FaultyDisk(), entries.length);
      const failing = disk.operations + failures + 1;
      disk.before = ({ number, path }) => {
        if (number === failing) throw systemError("EIO", path);
      };
      const attempt = reopen(disk);
      opened = await attempt.then(
        () => true,
        () => false,
      );
      if (!opened) expect(await refusalOf(attempt)).toMatchObject({ code: "TSO_STORAGE", cause: { code: "EIO" } });
      disk.before = undefined;
      if (opened) await (await attempt).journal.close();
      expect(await entriesOn(disk), `after operation ${failures + 1} failed`).toEqual(entries);
    }
    expect(failures).toBeGreaterThan(8);
  });

  test("of any operation leaves no file open, also where segments are still to be dropped", async () => {
    let dropped = 0;
    for (let failing = 1; failing <= 20; failing++) {
      const faulty = await filledDisk(new FaultyDisk(), 1);
      const { journal } = await reopen(faulty);
      faulty.before = ({ name, path }) => {
        if (name === "remove" && path.endsWith(".seg")) throw systemError("EIO", path);
      };
      await refusalOf(journal.append(contentOf(2), { roll: true, firstSegment: 3 }));
      await journal.close();
      const [open, first] = [{ files: 0 }, faulty.operations];
      faulty.before = ({ number, name, path }) => {
        if (number !== first + failing || name === "close") return;
        if (name === "remove" && path.endsWith(".seg")) dropped += 1;
        throw systemError("EIO", path);
      };
      const next = await reopen(countingDisk(faulty, open)).catch(() => undefined);
      await next?.journal.close();
      expect(open.files, `operation ${failing} failed`).toBe(0);
    }
    expect(dropped).toBe(2);
  });

  test("of any operation of a new journal, or of its rolls, leaves no file open", async () => {
    for (let failing = 1; failing <= 60; failing++) {
      const faulty = new FaultyDisk();
      const open = { files: 0 };
      const disk = countingDisk(faulty, open);
      faulty.before = ({ number, name, path }) => {
        if (number === failing && name !== "close") throw systemError("EIO", path);
      };
      const journal = await makeJournal(disk).catch(() => undefined);
      for (let entry = 2; entry <= 4; entry++) await journal?.append(contentOf(entry), { roll: true }).catch(() => undefined);
      await journal?.close();
      const next = await reopen(disk).catch(() => undefined);
      await next?.journal.close();
      expect(open.files, `operation ${failing} failed`).toBe(0);
    }
  });
});

/** Counts the files that are open. */
function countingDisk(disk: Disk, open: { files: number }): Disk {
  return {
    ...withoutLock(disk),
    create: async (path) => {
      const file = await disk.create(path);
      let isOpen = true;
      open.files += 1;
      const close = async (): Promise<void> => {
        if (isOpen) open.files -= 1;
        isOpen = false;
        await file.close();
      };
      return { ...file, close };
    },
  };
}

/** The names of the operations from here on. */
function watched(disk: FaultyDisk): Operation["name"][] {
  const names: Operation["name"][] = [];
  disk.before = ({ name }) => void names.push(name);
  return names;
}
