/** Damage on real disks: a bit that flipped in what was acknowledged is found, whichever it is, and named; and a directory that cannot be written is refused as it is. */
import { chmod, cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { createPrng } from "../../src/base/prng.ts";
import { decodeFrameHead, decodeSegmentHeader, paddedLength, SECTOR } from "../../src/disk/frame.ts";
import { inspectWal, openWal } from "../../src/paxos/storage/wal.ts";
import { assertHolds, assertRecovered, drawPlan, formAlone, type LogHistory } from "../../src/testing/log-history.ts";

const NODE = 1 as NodeId;
const FLIPS = 400;

let root: string;
let history: LogHistory;

/** Three lives, over several segments. */
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "tsoracle-flips-"));
  const prng = createPrng(11);
  const options = { directory: join(root, "good"), node: NODE, segmentBytes: 65_536 };
  const first = await openWal(options);
  history = await formAlone(first);
  await first.close();
  for (let life = 0; life < 3; life++) {
    const storage = await openWal(options);
    for (let batch = 0; batch < 80; batch++) await storage.write(history.next({ ...drawPlan(prng), compact: 0, install: undefined }));
    await storage.close();
  }
});

afterAll(() => rm(root, { recursive: true }));

/** Every bit of a header or a frame that was acknowledged, as ranges of bytes. */
async function acknowledgedBytes(directory: string): Promise<readonly { readonly path: string; readonly from: number; readonly length: number }[]> {
  const log = join(directory, "log");
  const segments = (await readdir(log)).sort();
  const ranges: { path: string; from: number; length: number }[] = [];
  for (const [index, name] of segments.entries()) {
    const path = join(log, name);
    const bytes = await readFile(path);
    const header = decodeSegmentHeader(bytes);
    if (header === undefined || "newerFormat" in header) throw new Error(`${path} is no segment`);
    const successor = segments[index + 1] === undefined ? undefined : decodeSegmentHeader(await readFile(join(log, segments[index + 1] ?? "")));
    const through = successor === undefined || "newerFormat" in successor ? Number.POSITIVE_INFINITY : successor.prevSeq;
    ranges.push({ path, from: 0, length: SECTOR });
    for (let at = SECTOR, head = decodeFrameHead(bytes, at, header.nonce); head !== undefined; head = decodeFrameHead(bytes, at, header.nonce)) {
      if (head.seq <= through) ranges.push({ path, from: at, length: head.length });
      at += paddedLength(head.length);
    }
  }
  return ranges;
}

describe("a directory with one bit flipped", () => {
  test(`is refused, with file and offset, in ${FLIPS} of ${FLIPS} places`, async () => {
    const directory = join(root, "good");
    const ranges = await acknowledgedBytes(directory);
    const total = ranges.reduce((sum, { length }) => sum + length, 0);
    expect(ranges.length).toBeGreaterThan(200);
    expect(new Set(ranges.map(({ path }) => path)).size).toBeGreaterThan(4);
    const prng = createPrng(2026);
    for (let flip = 0; flip < FLIPS; flip++) {
      const range = ranges[prng.below(ranges.length)];
      if (range === undefined) throw new Error("there is a frame");
      const offset = range.from + prng.below(flip % 4 === 0 ? 80 : range.length); // a head is small, and says the most
      const bytes = await readFile(range.path);
      const mask = 1 << prng.below(8);
      bytes[offset] = (bytes[offset] ?? 0) ^ mask;
      await writeFile(range.path, bytes);
      const refusal = await inspectWal({ directory }).then(
        () => "opened",
        (error: unknown) => String(error),
      );
      expect(refusal, `${range.path} ${offset} ${mask}`).toMatch(/TSO_STORAGE: .*\/log\/wal-[0-9a-f]{16}\.seg at byte \d+: /);
      expect(refusal).toContain("remove the node from the cluster");
      bytes[offset] = (bytes[offset] ?? 0) ^ mask;
      await writeFile(range.path, bytes);
    }
    process.stdout.write(`wal: ${FLIPS} of ${total * 8} bits in ${ranges.length} frames and headers flipped, one at a time; all refused\n`);
    const storage = await openWal({ directory, node: NODE });
    assertRecovered(storage.recovered(), history.state);
    await assertHolds(storage, history.state);
    await storage.close();
  });

  test("an opening refuses it as an inspection does, and leaves it as it was", async () => {
    const directory = join(root, "damaged");
    await cp(join(root, "good"), directory, { recursive: true });
    const [range] = (await acknowledgedBytes(directory)).slice(3);
    const path = range?.path ?? "";
    const bytes = await readFile(path);
    bytes[(range?.from ?? 0) + 100] = 0x77;
    await writeFile(path, bytes);
    const before = await readdir(join(directory, "log"));
    await expect(openWal({ directory, node: NODE })).rejects.toThrow(`${path} at byte ${range?.from}`);
    expect(await readdir(join(directory, "log"))).toEqual(before);
    expect(await readFile(path)).toEqual(bytes);
  });
});

// A process of root may write everywhere.
test.skipIf(process.getuid?.() === 0)("a directory that may not be written is refused with its name, and nothing is changed", async () => {
  const directory = join(root, "read-only");
  await cp(join(root, "good"), directory, { recursive: true });
  await chmod(join(directory, "log"), 0o555);
  await expect(openWal({ directory, node: NODE })).rejects.toThrow(/TSO_STORAGE: the disk under .*read-only\/log failed: EACCES/);
  await chmod(join(directory, "log"), 0o755);
  expect((await inspectWal({ directory })).node).toBe(NODE);
});
