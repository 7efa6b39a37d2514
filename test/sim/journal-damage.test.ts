/** What is refused, and what is only torn: `docs/protocol.md` 5.4. A record that was acknowledged is never forgotten in silence. */
import { crc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { createPrng } from "../../src/base/prng.ts";
import { isErrno } from "../../src/disk/disk.ts";
import { decodeFrameHead, encodeFrame, type Frame, SECTOR } from "../../src/disk/frame.ts";
import { createJournal, hasJournal } from "../../src/disk/journal.ts";
import { FaultyDisk } from "../../src/testing/faulty-disk.ts";
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

/** Entries of a sector each: segments 1 and 2 are full, segment 3 has entries 15 to 18. */
const ENTRIES = 18;
const CUT_OFF = `the file was cut off: it had ${SEGMENT_BYTES} bytes before it had its name`;
const WAY_OUT = /^TSO_STORAGE: (\/data[^ ]*) at byte (\d+): (.*)\. Nothing was changed\. /;

interface Refusal {
  readonly path: string;
  readonly offset: number;
  readonly what: string;
}

describe("refused, with file and offset, and nothing is written:", () => {
  test("a bad header, in the newest segment", async () => {
    await expectDamage((disk) => flip(disk, 3, 30), { ...at(3, 0), what: "its header is damaged, or it is not a segment" });
  });

  test("a bad header, in an older segment", async () => {
    await expectDamage((disk) => flip(disk, 1, 30), { ...at(1, 0), what: "its header is damaged, or it is not a segment" });
  });

  test("a segment that is missing in the middle", async () => {
    await expectDamage((disk) => disk.remove(segmentPath(2)), { ...directory, what: "segment wal-0000000000000002.seg is missing" });
  });

  test("the oldest segment that counts, missing", async () => {
    await expectDamage((disk) => disk.remove(segmentPath(1)), { ...directory, what: "segment wal-0000000000000001.seg is missing" });
  });

  test("a flipped bit in the middle of the newest segment", async () => {
    await expectDamage((disk) => flip(disk, 3, 2 * SECTOR + 100), {
      ...at(3, 2 * SECTOR),
      what: "frame 16 does not read back, and frame 17 behind it says that it was durable",
    });
  });

  test("a flipped bit in the head of a frame in the middle of the newest segment", async () => {
    await expectDamage((disk) => flip(disk, 3, 2 * SECTOR + 30), {
      ...at(3, 2 * SECTOR),
      what: "frame 16 does not read back, and frame 17 behind it says that it was durable",
    });
  });

  test("a flipped bit in the tail frame", async () => {
    await expectDamage((disk) => flip(disk, 3, 4 * SECTOR + 100), {
      ...at(3, 4 * SECTOR),
      what: "frame 18 was written whole, and its checksum is wrong",
    });
  });

  test("a flipped bit in the head of the tail frame", async () => {
    await expectDamage((disk) => flip(disk, 3, 4 * SECTOR + 30), { ...at(3, 4 * SECTOR), what: "no frame begins here, and it is not empty" });
  });

  test("a frame that is gone from the middle of the newest segment, whole", async () => {
    await expectDamage((disk) => disk.bytesOf(segmentPath(3)).fill(0, 2 * SECTOR, 3 * SECTOR), {
      ...at(3, 2 * SECTOR),
      what: "frame 16 does not read back, and frame 17 behind it says that it was durable",
    });
  });

  test("a frame that stands twice", async () => {
    await expectDamage((disk) => disk.bytesOf(segmentPath(3)).copyWithin(5 * SECTOR, 4 * SECTOR, 5 * SECTOR), {
      ...at(3, 5 * SECTOR),
      what: "frame 18 stands where frame 19 belongs",
    });
  });

  test("a frame that was exchanged for another one, with checksums that fit", async () => {
    await expectDamage((disk) => exchange(disk, 2 * SECTOR, (frame) => ({ ...frame, ...contentOf(frame.seq, { opens: 7 }) })), {
      ...at(3, 3 * SECTOR),
      what: "frame 17 does not read back, and frame 18 behind it says that it was durable",
    });
  });

  test("a frame of another number, with checksums that fit", async () => {
    await expectDamage((disk) => exchange(disk, 4 * SECTOR, (frame) => ({ ...frame, seq: 25, ...contentOf(25) })), {
      ...at(3, 4 * SECTOR),
      what: "frame 25 stands where frame 18 belongs",
    });
  });

  test("something behind the last frame", async () => {
    await expectDamage((disk) => disk.bytesOf(segmentPath(3)).fill(1, 5 * SECTOR, 5 * SECTOR + 1), {
      ...at(3, 5 * SECTOR),
      what: "no frame begins here, and it is not empty",
    });
  });

  test("a newest segment whose first frame is gone", async () => {
    await expectDamage((disk) => disk.bytesOf(segmentPath(3)).fill(0, SECTOR), {
      ...at(3, SECTOR),
      what: "its first frame, which was durable before the file had its name, is gone",
    });
  });

  test.each([
    ["the body", 100],
    ["the head", 30],
  ])("a flipped bit in an older segment, in %s of a frame", async (_, offset) => {
    await expectDamage((disk) => flip(disk, 1, 3 * SECTOR + offset), {
      ...at(1, 3 * SECTOR),
      what: "frame 3, which was durable, does not read back",
    });
  });

  test("a frame that is gone from the end of an older segment", async () => {
    await expectDamage((disk) => disk.bytesOf(segmentPath(2)).fill(0, 7 * SECTOR), {
      ...at(2, 7 * SECTOR),
      what: "frame 14, which was durable, does not read back",
    });
  });

  test("an older segment that was cut off", async () => {
    await expectDamage((disk) => disk.truncate(segmentPath(1), 4 * SECTOR), { ...at(1, 4 * SECTOR), what: CUT_OFF });
  });

  test.each([0, 100, SECTOR - 1])("a segment cut to %i bytes", async (length) => {
    await expectDamage((disk) => disk.truncate(segmentPath(3), length), { ...at(3, 0), what: "its header is damaged, or it is not a segment" });
  });

  test.each([
    ["in the middle of its newest frame", 7 * SECTOR],
    ["between two frames", 5 * SECTOR],
    ["behind its newest frame", SEGMENT_BYTES - 1],
  ])("a newest segment cut off %s", async (_, length) => {
    const disk = await filledDisk(new FaultyDisk(), ENTRIES);
    const { journal } = await reopen(disk);
    for (const entry of [19, 20, 21]) await journal.append(contentOf(entry));
    await journal.append(contentOf(22, { bytes: 2 * SECTOR }));
    await journal.close();
    disk.truncate(segmentPath(4), length);
    expect(refusal(await refusalOf(reopen(disk)))).toEqual({ ...at(4, length), what: CUT_OFF });
  });

  test("a segment of another directory", async () => {
    const other = await filledDisk(new FaultyDisk(), ENTRIES);
    await expectDamage((disk) => disk.bytesOf(segmentPath(2)).set(other.bytesOf(segmentPath(2))), {
      ...at(2, 0),
      what: "it belongs to another directory",
    });
  });

  test("a newest segment of another directory", async () => {
    const other = await filledDisk(new FaultyDisk(), ENTRIES);
    await expectDamage((disk) => disk.bytesOf(segmentPath(3)).set(other.bytesOf(segmentPath(3))), {
      ...at(1, 0),
      what: "it belongs to another directory",
    });
  });

  test("a segment of this directory from another time", async () => {
    const past = await filledDisk(new FaultyDisk(), 7);
    const [one, two] = [past.powerCut("keeps"), past.powerCut("keeps")];
    for (const disk of [one, two]) {
      const { journal } = await reopen(disk);
      await journal.append(contentOf(8, { bytes: disk === one ? 1 : 2 }));
      await journal.append(contentOf(9), { roll: true });
      await journal.close();
    }
    two.bytesOf(segmentPath(3)).set(one.bytesOf(segmentPath(3)));
    expect(refusal(await refusalOf(reopen(two)))).toEqual({
      ...at(2, 3 * SECTOR),
      what: "segment wal-0000000000000003.seg continues another history",
    });
  });

  test("a segment under another name", async () => {
    await expectDamage(
      async (disk) => {
        await disk.link(segmentPath(3), segmentPath(4));
        await disk.remove(segmentPath(3));
      },
      { ...at(4, 0), what: "it is segment 3 under another name" },
    );
  });

  test("an older segment under another name", async () => {
    await expectDamage(
      async (disk) => {
        await disk.remove(segmentPath(2));
        await disk.link(segmentPath(1), segmentPath(2));
      },
      { ...at(2, 0), what: "it is segment 1 under another name" },
    );
  });

  test("a disk that cannot read a segment", async () => {
    const disk = await filledDisk(new FaultyDisk(), ENTRIES);
    disk.before = ({ name, path }) => {
      if (name === "read" && path === segmentPath(2)) throw Object.assign(new Error(`EIO: ${path}`), { code: "EIO" });
    };
    const failure = await refusalOf(reopen(disk));
    expect(failure).toMatchObject({ code: "TSO_STORAGE", message: `TSO_STORAGE: the disk under /data failed: EIO: ${segmentPath(2)}` });
    expect(isErrno(failure.cause, "EIO")).toBe(true);
  });
});

describe("of another format:", () => {
  test("a newer one is named", async () => {
    const disk = await filledDisk(new FaultyDisk(), ENTRIES);
    const header = disk.bytesOf(segmentPath(3));
    const view = new DataView(header.buffer, header.byteOffset);
    view.setUint16(8, 2, true);
    view.setUint32(4, crc32(header.subarray(8, SECTOR)), true);
    expect(await refusalOf(reopen(disk))).toMatchObject({
      code: "TSO_WRONG_FORMAT",
      message: `TSO_WRONG_FORMAT: ${segmentPath(3)} has format 2, and this release reads up to 1`,
    });
  });

  test.each(["data.json", "wal-1.seg", "wal-000000000000000G.seg", "wal-0000000000000001.seg.bak"])("a foreign file: %s", async (name) => {
    const disk = await filledDisk(new FaultyDisk(), 1);
    await disk.create(`${DIRECTORY}/${name}`);
    const refused = { code: "TSO_WRONG_FORMAT", message: expect.stringContaining(`${DIRECTORY}/${name} is not a file of this program`) };
    expect(await refusalOf(reopen(disk))).toMatchObject(refused);
    expect(await refusalOf(hasJournal({ disk, directory: DIRECTORY }))).toMatchObject(refused);
    expect(await refusalOf(makeJournal(disk))).toMatchObject(refused);
  });

  test("the lock file of macOS is no foreign file", async () => {
    const disk = await filledDisk(new FaultyDisk(), 1);
    await disk.create(`${DIRECTORY}/LOCK`);
    expect(await entriesOn(disk)).toEqual([1]);
  });
});

describe("torn, and cut off without a word to the caller but `torn`:", () => {
  test.each(range(0, 3))("a last frame of four sectors without sector %i", async (missing) => {
    const disk = await filledDisk(new FaultyDisk(), 2);
    const { journal } = await reopen(disk);
    await journal.append(contentOf(3, { bytes: 3 * SECTOR }));
    await journal.close();
    const from = (2 + missing) * SECTOR;
    disk.bytesOf(segmentPath(2)).fill(0, from, from + SECTOR);
    const { journal: next, entries } = await reopen(disk);
    expect({ entries, torn: next.torn }).toEqual({ entries: [1, 2], torn: true });
    await next.append(contentOf(3));
    await next.close();
    expect(await entriesOn(disk), "and what was cut is never met again").toEqual([1, 2, 3]);
  });

  test("but a clean end is not torn, nor is one at the end of the file", async () => {
    for (const entries of [5, 7, 14]) {
      const { journal } = await reopen(await filledDisk(new FaultyDisk(), entries));
      expect(journal.torn).toBe(false);
    }
  });

  test("but not a frame of zeros that reads back", async () => {
    const disk = new FaultyDisk();
    const zeros = { meta: new Uint8Array(2 * SECTOR), ops: [new Uint8Array(5 * SECTOR)] };
    const journal = await createJournal({ disk, directory: DIRECTORY, segmentBytes: 8 * SEGMENT_BYTES }, zeros);
    await journal.append(zeros);
    await journal.close();
    // Damage in it is told from a tear all the same: the last sector's one byte that is not zero is wrong.
    const bytes = disk.bytesOf(segmentPath(1));
    const last = bytes.findLastIndex((byte) => byte !== 0);
    expect(last).toBeGreaterThan(9 * SECTOR);
    bytes[last] = (bytes[last] ?? 0) ^ 0xff;
    expect(refusal(await refusalOf(reopen(disk)))).toEqual({
      ...at(1, 9 * SECTOR + 0),
      what: "frame 2 was written whole, and its checksum is wrong",
    });
  });
});

test("frames of another journal inside a payload are never taken for frames", async () => {
  const other = await filledDisk(new FaultyDisk(), ENTRIES);
  const disk = await filledDisk(new FaultyDisk(), 5);
  const { journal } = await reopen(disk);
  // On a sector boundary of the new frame, and newer than it: they say that all of it was durable.
  const theirs = other.bytesOf(segmentPath(3)).slice(SECTOR, 4 * SECTOR);
  const before = new Uint8Array(SECTOR - (80 + 1 + 4 + 4)).fill(1);
  await journal.append({ meta: new Uint8Array(0), ops: [before, theirs] });
  await journal.close();
  const bytes = disk.bytesOf(segmentPath(2));
  expect(bytes.slice(3 * SECTOR, 6 * SECTOR)).toEqual(theirs);
  bytes.fill(0, 2 * SECTOR, 3 * SECTOR); // its first sector was never written
  const { journal: next, entries } = await reopen(disk);
  expect({ entries, torn: next.torn }).toEqual({ entries: range(1, 5), torn: true });
});

// Twelve thousand recoveries: the limit is one that only a hang can meet.
test("one flipped bit anywhere in what counts is refused, or makes no difference", { timeout: 60_000 }, async () => {
  const prng = createPrng(1);
  const disk = await filledDisk(new FaultyDisk(), 9);
  const { journal } = await reopen(disk);
  await journal.append(contentOf(10, { bytes: 1_000 }));
  await journal.close();
  const counts = { refused: 0, harmless: 0 };
  for (const segment of [1, 2, 3]) {
    for (let offset = 0; offset < SEGMENT_BYTES; offset++) {
      const rotten = disk.powerCut("keeps");
      flip(rotten, segment, offset, prng.below(8));
      const found = await entriesOn(rotten).catch((error: unknown) => error);
      if (Array.isArray(found)) expect(found, `segment ${segment}, byte ${offset}`).toEqual(range(1, 10));
      else expect(refusal(found).path, `segment ${segment}, byte ${offset}`).toBe(segmentPath(segment));
      counts[Array.isArray(found) ? "harmless" : "refused"] += 1;
    }
  }
  expect(counts.refused).toBeGreaterThan(3_000);
  expect(counts.harmless).toBeGreaterThan(1_000);
});

const directory = { path: DIRECTORY, offset: 0 };

function at(segment: number, offset: number) {
  return { path: segmentPath(segment), offset };
}

/** Damages a good directory: it is refused, each time, and neither a byte nor a name of it changes. */
async function expectDamage(damage: (disk: FaultyDisk) => unknown, expected: Refusal): Promise<void> {
  const disk = await filledDisk(new FaultyDisk(), ENTRIES);
  await damage(disk);
  const before = await contentsOf(disk);
  for (let attempt = 1; attempt <= 2; attempt++) {
    expect(refusal(await refusalOf(reopen(disk)))).toEqual(expected);
    expect(await contentsOf(disk)).toEqual(before);
  }
}

function refusal(error: unknown): Refusal {
  expect(error).toMatchObject({ code: "TSO_STORAGE" });
  const [, path = "", offset = "", what = ""] = WAY_OUT.exec(String((error as Error).message)) ?? [];
  return { path, offset: Number(offset), what };
}

/** Puts another frame in the place of one of a sector in segment 3. */
function exchange(disk: FaultyDisk, place: number, change: (frame: Frame) => Frame): void {
  const bytes = disk.bytesOf(segmentPath(3));
  const nonce = bytes.slice(24, 40);
  const head = decodeFrameHead(bytes, place, nonce);
  if (head === undefined) throw new Error("a frame begins there");
  const { kind, seq, syncedThrough, firstSegment, prevBodyCrc } = head;
  const other = change({ kind, seq, syncedThrough, firstSegment, ...contentOf(seq) });
  bytes.set(encodeFrame(other, { nonce, prevBodyCrc }).bytes, place);
}

async function contentsOf(disk: FaultyDisk): Promise<ReadonlyMap<string, string>> {
  const names = await disk.list(DIRECTORY);
  return new Map(names.map((name) => [name, Buffer.from(disk.bytesOf(`${DIRECTORY}/${name}`)).toString("base64")]));
}

function flip(disk: FaultyDisk, segment: number, offset: number, bit = 0): void {
  const bytes = disk.bytesOf(segmentPath(segment));
  bytes[offset] = (bytes[offset] ?? 0) ^ (1 << bit);
}
