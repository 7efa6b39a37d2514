import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Epoch } from "../../../src/base/epoch.ts";
import type { LogFields, Logger } from "../../../src/base/logger.ts";
import { silentLogger } from "../../../src/base/logger.ts";
import type { ConsensusDriver } from "../../../src/oracle/driver.ts";
import { type FileDriverOptions, fileDriver, initFileDirectory } from "../../../src/oracle/drivers/file.ts";
import type { OracleCommand } from "../../../src/oracle/rules/command.ts";
import { resolveLimits } from "../../../src/oracle/rules/limits.ts";
import { PHYSICAL_MS_MAX } from "../../../src/oracle/rules/timestamp.ts";
import { FaultyDisk } from "../../../src/testing/faulty-disk.ts";
import { range, refusalOf, segmentPath } from "../../support/journals.ts";
import { printView } from "../../support/oracle-runs.ts";

const DIRECTORY = "/data";
const NOW = 1_700_000_000_000;
const DAY_MS = 86_400_000;

describe("a directory that is made with a seed", () => {
  test("gives timestamps above it, and no epoch yet", async () => {
    const place = inMemory();
    await initFileDirectory({ ...place, seedPhysicalMs: NOW + 5_000 });
    const { driver, reign } = await open(place);
    expect(reign).toBe(1n);
    expect(await driver.submit(takeOver(reign))).toMatchObject({ outcome: { type: "taken-over", floor: NOW + 5_001, highWater: NOW + 5_101 } });
  });

  test("of nothing begins with the clock", async () => {
    const place = inMemory();
    await initFileDirectory(place);
    const { driver, reign } = await open(place);
    expect(await driver.submit(takeOver(reign))).toMatchObject({ outcome: { type: "taken-over", floor: NOW } });
  });

  test.each([-1, 1.5, Number.NaN, PHYSICAL_MS_MAX + 1])("of %d is refused, and nothing is made", async (seedPhysicalMs) => {
    const place = inMemory();
    expect(await refusalOf(initFileDirectory({ ...place, seedPhysicalMs }))).toMatchObject({
      code: "TSO_INVALID_OPTION",
      message: expect.stringContaining("seedPhysicalMs"),
    });
    expect(place.disk.operations).toBe(0);
  });

  test("at the end of the range has no timestamp left to give, and says so", async () => {
    const place = inMemory();
    await initFileDirectory({ ...place, seedPhysicalMs: PHYSICAL_MS_MAX });
    const { driver, reign } = await open(place);
    expect(await driver.submit(takeOver(reign))).toMatchObject({ outcome: { type: "refused", refusal: { reason: "out-of-range" } } });
  });

  test("must be empty before: neither data nor anything else is overwritten", async () => {
    const place = inMemory();
    await initFileDirectory({ ...place, seedPhysicalMs: 5 });
    const refused = { code: "TSO_WRONG_FORMAT", message: expect.stringContaining(DIRECTORY) };
    expect(await refusalOf(initFileDirectory({ ...place, seedPhysicalMs: 7 }))).toMatchObject(refused);
    const foreign = inMemory();
    await foreign.disk.makeDirectory(DIRECTORY);
    await foreign.disk.create(`${DIRECTORY}/notes.txt`);
    expect(await refusalOf(initFileDirectory(foreign))).toMatchObject({ code: "TSO_WRONG_FORMAT", message: expect.stringContaining("notes.txt") });
    expect(await foreign.disk.list(DIRECTORY)).toEqual(["notes.txt"]);
  });

  test("must not be in use", async () => {
    const place = inMemory();
    await open(place);
    expect(await refusalOf(initFileDirectory(place))).toMatchObject({ code: "TSO_LOCKED" });
    expect(await refusalOf(fileDriver(place))).toMatchObject({ code: "TSO_LOCKED" });
  });
});

describe("a directory without data", () => {
  test("is made, and said so, unless `create` is false", async () => {
    const place = inMemory();
    const said = recorded();
    expect(await refusalOf(fileDriver({ ...place, create: false }))).toMatchObject({
      code: "TSO_WRONG_FORMAT",
      message: expect.stringContaining(`${DIRECTORY} holds no data`),
    });
    expect(await place.disk.list(DIRECTORY).catch(() => "missing")).toBe("missing");
    const { driver, reign } = await open({ ...place, logger: said.logger });
    expect(reign).toBe(1n);
    expect(said.lines).toEqual(["info: there is no data here yet: beginning at zero"]);
    await driver.close();
    expect((await open({ ...place, create: false })).reign).toBe(2n);
  });

  test("but half made is one too", async () => {
    const place = inMemory();
    await place.disk.makeDirectory(DIRECTORY);
    await place.disk.create(segmentPath(1).replace(".seg", ".tmp"));
    expect((await open(place)).reign).toBe(1n);
  });
});

describe("segmentBytes", () => {
  test.each([0, 4_095, 4_096.5, Number.NaN, 2 ** 30 + 1, -4_096])("%d is refused before the disk is touched", async (segmentBytes) => {
    const place = { ...inMemory(), segmentBytes };
    for (const work of [fileDriver(place), initFileDirectory(place)]) {
      expect(await refusalOf(work)).toMatchObject({ code: "TSO_INVALID_OPTION", message: expect.stringContaining("segmentBytes") });
    }
    expect(place.disk.operations).toBe(0);
  });

  test("may differ from start to start", async () => {
    const place = inMemory();
    let next = 0n;
    for (const segmentBytes of [4_096, 16_384, 4_096, undefined]) {
      const { driver } = await led({ ...place, segmentBytes });
      for (let i = 0; i < 20; i++) expect(await driver.submit(grant("key"))).toMatchObject({ outcome: { groups: [{ starts: [next++] }] } });
      await driver.close();
    }
  });
});

describe("restarts", () => {
  test("keep the state, and the number of segments bounded, however many there are", async () => {
    const place = inMemory();
    const { driver: first } = await led(place);
    await first.submit({ type: "sequence", groups: range(1, 100).map((key) => [{ key: `key ${key}`, count: key }]) });
    await first.close();
    let most = 0;
    for (let restart = 1; restart <= 50; restart++) {
      const { driver, reign } = await open(place);
      expect(reign).toBe(BigInt(restart + 1));
      await driver.submit({ type: "sequence", groups: [] });
      expect(driver.view().sequence("key 100")).toEqual({ first: 0n, next: 100n });
      await driver.close();
      most = Math.max(most, (await place.disk.list(DIRECTORY)).length);
    }
    expect(most).toBeLessThanOrEqual(6);
  });

  test("after each commit keep everything that was committed", async () => {
    const place = inMemory();
    let shown = "";
    for (let restart = 0; restart < 30; restart++) {
      const { driver, reign } = await open(place);
      await driver.submit({ type: "sequence", groups: [] });
      if (restart > 0) expect(printView(driver.view())).toBe(shown);
      await driver.submit(takeOver(reign));
      await driver.submit({ type: "lease-acquire", epoch: reign, now: NOW, holder: Uint8Array.of(restart), holderEpoch: 1n, ttlMs: 1_000 });
      await driver.submit(grant(`key ${restart}`));
      shown = printView(driver.view());
      await driver.close();
    }
  });
});

describe("compaction", () => {
  test("keeps the state and drops what is behind it, in a run that never ends", async () => {
    const place = inMemory();
    const { driver, reign } = await led(place);
    const written = { bytes: 0, most: 0 };
    place.disk.before = async ({ name }) => {
      if (name === "link") written.bytes += 4_096;
    };
    for (let turn = 0; turn < 2_000; turn++) {
      await Promise.all([driver.submit(grant(`key ${turn % 50}`)), driver.submit(advance(reign, NOW + turn))]);
      if (turn % 20 === 0) written.most = Math.max(written.most, (await place.disk.list(DIRECTORY)).length);
    }
    expect(written.bytes).toBeGreaterThan(100 * 4_096);
    expect(written.most).toBeLessThanOrEqual(12);
    const shown = printView(driver.view());
    await driver.close();
    const { driver: next } = await open({ ...place, disk: place.disk.powerCut("drops") });
    await next.submit({ type: "sequence", groups: [] });
    expect(printView(next.view())).toBe(shown);
  });

  test("costs in proportion to what is written: a large state is not written again at every roll", async () => {
    const place = inMemory();
    const { driver } = await led(place);
    for (let part = 0; part < 4; part++) {
      await driver.submit({ type: "sequence", groups: range(1, 1_000).map((key) => [{ key: `${part} ${key}`, count: 1 }]) });
    }
    let bytes = 0;
    const observed = place.disk.before;
    place.disk.before = (operation) => {
      if (operation.name === "link") bytes += 4_096;
      return observed?.(operation);
    };
    // The base is some 60 kB: ten segments, or more where parts are large.
    for (let turn = 0; turn < 300; turn++) await driver.submit(grant("0 1"));
    expect(bytes).toBeLessThan(3 * 300 * 512);
  });
});

describe("a clock that is too far ahead", () => {
  test("is refused by take-over, and accepted where more is allowed", async () => {
    const place = inMemory();
    const { driver: first } = await led(place);
    await first.close();
    const { driver, reign } = await open(place);
    const [now, maxClockJumpMs] = [NOW + 2 * DAY_MS, DAY_MS];
    expect(await driver.submit(takeOver(reign, { now, maxClockJumpMs }))).toEqual({
      type: "applied",
      outcome: { type: "refused", refusal: { reason: "clock-too-far", now, highWater: NOW + 100, maxClockJumpMs } },
    });
    expect(await driver.submit(grant("key")), "and its reign has not begun").toMatchObject({ type: "applied", outcome: { type: "sequence" } });
    expect(driver.view().fence).toBe(1n);
    expect(await driver.submit(takeOver(reign, { now, maxClockJumpMs: 3 * DAY_MS }))).toMatchObject({ outcome: { type: "taken-over", floor: now } });
  });

  test("is compared with the seed too", async () => {
    const place = inMemory();
    await initFileDirectory({ ...place, seedPhysicalMs: NOW });
    const { driver, reign } = await open(place);
    const late = takeOver(reign, { now: NOW + 2 * DAY_MS, maxClockJumpMs: DAY_MS });
    expect(await driver.submit(late)).toMatchObject({ outcome: { type: "refused", refusal: { reason: "clock-too-far" } } });
  });
});

describe("what is refused, clearly, and without a write:", () => {
  const damages: readonly (readonly [name: string, segment: number, damage: (bytes: Uint8Array) => void, message: RegExp])[] = [
    ["damage in the middle", 2, (bytes) => flip(bytes, 2 * 512 + 90), /wal-0+2\.seg at byte 1024: frame \d+ does not read back, and frame \d+ /],
    [
      "damage in the tail",
      2,
      (bytes) => flip(bytes, newestFrame(bytes) + 90),
      /wal-0+2\.seg at byte \d+: frame \d+ was written whole, and its checksum/,
    ],
    ["damage in an older segment", 1, (bytes) => flip(bytes, 512 + 82), /wal-0+1\.seg at byte 512: frame 1, which was durable, does not read back/],
    ["a damaged header", 2, (bytes) => flip(bytes, 20), /wal-0+2\.seg at byte 0: its header is damaged/],
  ];

  test.each(damages)("%s", async (_, segment, damage, message) => {
    const { disk } = await twoSegments();
    damage(disk.bytesOf(segmentPath(segment)));
    await expectRefusal(disk, "TSO_STORAGE", message);
  });

  test("an older segment that is missing", async () => {
    const { disk } = await twoSegments();
    await disk.remove(segmentPath(1));
    await expectRefusal(disk, "TSO_STORAGE", /segment wal-0+1\.seg is missing/);
  });

  test("an older segment that was cut off", async () => {
    const { disk } = await twoSegments();
    disk.truncate(segmentPath(1), 512);
    await expectRefusal(disk, "TSO_STORAGE", /wal-0+1\.seg at byte 512: /);
  });

  test("a newest segment that was cut off", async () => {
    const { disk } = await twoSegments();
    disk.truncate(segmentPath(2), 1_024);
    await expectRefusal(disk, "TSO_STORAGE", /wal-0+2\.seg at byte /);
  });

  test("a journal of a later release, which is named", async () => {
    const { disk } = await twoSegments();
    const bytes = disk.bytesOf(segmentPath(2));
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    view.setUint16(8, 2, true);
    view.setUint32(4, crc32(bytes.subarray(8, 512)), true);
    await expectRefusal(disk, "TSO_WRONG_FORMAT", /has format 2, and this release reads up to 1/);
  });

  test("entries of a later release, which is named", async () => {
    const { disk } = await twoSegments();
    changeNewestFrame(disk.bytesOf(segmentPath(2)), (body) => {
      const image = body.findIndex((byte, at) => byte === 0x92 && body[at + 1] === 1); // msgpack: [1, ...]
      body[image + 1] = 3;
    });
    await expectRefusal(disk, "TSO_WRONG_FORMAT", /the journal's image has format 3, and this release reads up to 1/);
  });

  /** Whoever restores the file that is damaged opens the directory again. */
  async function expectRefusal(disk: FaultyDisk, code: string, message: RegExp): Promise<void> {
    const before = await contentsOf(disk);
    for (const create of [true, false]) {
      const refusal = await refusalOf(fileDriver({ ...inMemory(disk), create }));
      expect(refusal).toMatchObject({ code, message: expect.stringMatching(message) });
      expect(await contentsOf(disk)).toEqual(before);
    }
  }
});

test("a write that a crash interrupted is cut off, and said so", async () => {
  const place = inMemory();
  const { driver } = await led(place);
  place.disk.before = ({ name }) => {
    if (name === "datasync") throw new Error("EIO");
  };
  const groups = range(1, 10).map((key) => [{ key: `${key}`.padEnd(100, "x"), count: 1 }]);
  expect(await driver.submit({ type: "sequence", groups })).toMatchObject({ type: "unknown", reason: "storage" });
  const [torn, said] = [place.disk.powerCut("keeps"), recorded()];
  torn.bytesOf(segmentPath(1)).fill(0, 3 * 512, 4 * 512); // of the frame that was not flushed
  const { driver: next } = await open({ ...inMemory(torn), logger: said.logger });
  expect(said.lines).toEqual(["warn: a write that a crash had interrupted was cut off; nobody was told that it succeeded"]);
  await next.submit({ type: "sequence", groups: [] });
  expect([next.view().sequenceCount, next.view().highWater]).toEqual([0, NOW + 100]);
});

test("a device without room ends the driver with a clear error, and nothing is lost", async () => {
  const place = inMemory();
  const { driver, reign } = await led(place);
  place.disk.capacityBytes = 4_096 + 100;
  let highWater = 0;
  for (let turn = 1; ; turn++) {
    const submitted = await driver.submit(advance(reign, NOW + 1_000 * turn));
    if (submitted.type === "applied") {
      highWater = NOW + 1_000 * turn;
      continue;
    }
    expect(submitted).toMatchObject({
      type: "unknown",
      reason: "storage",
      detail: expect.stringContaining(`the disk under ${DIRECTORY} failed: ENOSPC`),
    });
    break;
  }
  await driver.close();
  expect(await refusalOf(fileDriver(place))).toMatchObject({ code: "TSO_STORAGE", message: expect.stringContaining("ENOSPC") });
  place.disk.capacityBytes = Number.POSITIVE_INFINITY;
  const { driver: next } = await open(place);
  await next.submit({ type: "sequence", groups: [] });
  expect(next.view().highWater).toBeGreaterThanOrEqual(highWater);
  expect(highWater).toBeGreaterThan(NOW);
});

test("a failed disk ends the leadership with its error, and everything after it is not applied", async () => {
  const place = inMemory();
  const { driver, reign, events } = await led(place);
  const ended = events.next();
  place.disk.before = ({ name, path }) => {
    if (name === "datasync") throw Object.assign(new Error(`EIO: ${path}`), { code: "EIO" });
  };
  expect(await driver.submit(grant("key"))).toMatchObject({ type: "unknown", reason: "storage" });
  await expect(ended).rejects.toThrow(`TSO_STORAGE: the disk under ${DIRECTORY} failed: EIO: ${DIRECTORY}/wal-`);
  place.disk.before = undefined;
  expect(await driver.submit(grant("key")), "even if the disk works again").toMatchObject({ type: "not-applied", reason: "unavailable" });
  expect(await driver.confirm(reign)).toBe(false);
});

describe("on the file system", () => {
  let parent: string;
  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), "tsoracle-file-driver-"));
  });
  afterEach(async () => {
    await rm(parent, { recursive: true });
  });

  test("a driver leaves segments of their full size and nothing else, and takes up where it was", async () => {
    const directory = join(parent, "some", "where");
    const place = { directory, segmentBytes: 4_096 };
    await initFileDirectory({ ...place, seedPhysicalMs: NOW });
    let next = 0n;
    for (let restart = 1; restart <= 12; restart++) {
      const { driver } = await led(place);
      for (let i = 0; i < 10; i++) expect(await driver.submit(grant("key"))).toMatchObject({ outcome: { groups: [{ starts: [next++] }] } });
      await driver.close();
    }
    const names = await readdir(directory);
    expect(names.filter((name) => !/^wal-[0-9a-f]{16}\.seg$/.test(name) && name !== "LOCK")).toEqual([]);
    expect(names.length).toBeLessThan(8);
    for (const name of names) if (name !== "LOCK") expect(await readFile(join(directory, name))).toHaveLength(4_096);
  });

  test("damage is refused, and the file that is restored opens again", async () => {
    const place = { directory: parent, segmentBytes: 4_096 };
    const { driver } = await led(place);
    await driver.submit(grant("key"));
    await driver.close();
    const path = join(parent, (await readdir(parent)).filter((name) => name.endsWith(".seg"))[0] ?? "");
    const good = await readFile(path);
    const bad = new Uint8Array(good);
    flip(bad, newestFrame(bad) + 90);
    await writeFile(path, bad);
    await expect(fileDriver(place)).rejects.toThrow(`TSO_STORAGE: ${path} at byte `);
    await truncate(path, 100);
    await expect(fileDriver(place)).rejects.toThrow(`TSO_STORAGE: ${path} at byte 0: its header is damaged`);
    await writeFile(path, good);
    const { driver: next } = await led(place);
    expect(await next.submit(grant("key"))).toMatchObject({ outcome: { groups: [{ starts: [1n] }] } });
    await next.close();
  });
});

interface Led {
  readonly driver: ConsensusDriver;
  readonly reign: Epoch;
  readonly events: AsyncIterator<unknown>;
}

function inMemory(disk: FaultyDisk = new FaultyDisk()) {
  return { directory: DIRECTORY, segmentBytes: 4_096, disk };
}

async function open(options: FileDriverOptions): Promise<Led> {
  const driver = await fileDriver(options);
  const events = driver.leadership()[Symbol.asyncIterator]();
  const { value } = await events.next();
  if (value?.role !== "leader") throw new Error("who opens a directory leads at once");
  return { driver, reign: value.epoch, events };
}

/** Opened, and taken over. */
async function led(options: FileDriverOptions): Promise<Led> {
  const opened = await open(options);
  expect(await opened.driver.submit(takeOver(opened.reign))).toMatchObject({ type: "applied", outcome: { type: "taken-over" } });
  return opened;
}

/** A closed directory: one full segment, and a second one with some frames in it. */
async function twoSegments() {
  const place = inMemory();
  const { driver, reign } = await led(place);
  const { length } = await place.disk.list(DIRECTORY);
  expect(length).toBe(1);
  for (let turn = 1; turn <= 2; turn++) await driver.submit(advance(reign, NOW + 1_000 * turn));
  await driver.close();
  const { driver: next, reign: later } = await led(place);
  for (let turn = 1; turn <= 3; turn++) await next.submit(advance(later, NOW + 10_000 * turn));
  await next.close();
  expect(await place.disk.list(DIRECTORY)).toHaveLength(2);
  return place;
}

function takeOver(epoch: Epoch, { now = NOW, maxClockJumpMs = DAY_MS } = {}): OracleCommand {
  return { type: "take-over", epoch, now, failoverAdvanceMs: 100, maxClockJumpMs, limits: resolveLimits() };
}

function advance(epoch: Epoch, atLeast: number): OracleCommand {
  return { type: "advance", epoch, now: NOW, atLeast };
}

function grant(key: string): OracleCommand {
  return { type: "sequence", groups: [[{ key, count: 1 }]] };
}

function recorded(): { readonly logger: Logger; readonly lines: string[] } {
  const lines: string[] = [];
  const line = (level: string) => (fields: LogFields, message: string) => {
    expect(fields).toEqual({ directory: DIRECTORY });
    lines.push(`${level}: ${message}`);
  };
  return { logger: { ...silentLogger, info: line("info"), warn: line("warn"), error: line("error") }, lines };
}

function flip(bytes: Uint8Array, at: number): void {
  bytes[at] = (bytes[at] ?? 0) ^ 1;
}

/** Where the last frame of a segment begins, all frames being of one sector. */
function newestFrame(bytes: Uint8Array): number {
  return bytes.findLastIndex((byte) => byte !== 0) & ~511;
}

/** Writes another body into the last frame, with checksums that fit it. */
function changeNewestFrame(bytes: Uint8Array, change: (body: Uint8Array) => void): void {
  const frame = bytes.subarray(newestFrame(bytes));
  const view = new DataView(frame.buffer, frame.byteOffset);
  const body = frame.subarray(80, view.getUint32(48, true));
  change(body);
  view.setUint32(52, crc32(body), true);
  view.setUint32(4, crc32(frame.subarray(8, 80)), true);
}

async function contentsOf(disk: FaultyDisk): Promise<readonly string[]> {
  const names = await disk.list(DIRECTORY);
  return names.map((name) => `${name} ${Buffer.from(disk.bytesOf(`${DIRECTORY}/${name}`)).toString("base64")}`);
}
