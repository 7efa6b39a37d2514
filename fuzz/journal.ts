/**
 * A journal's directory, damaged by small programs that write, cut, copy, move and sometimes repair checksums. It opens with everything that was
 * acknowledged, or is refused by an OracleError; a frame may be missing only where some sector of it reads as one that was never written.
 */
import { crc32 } from "node:zlib";
import { EPOCH_ZERO } from "../src/base/epoch.ts";
import { OracleError } from "../src/base/errors.ts";
import { InvariantViolation } from "../src/base/invariant.ts";
import { isZero, SECTOR } from "../src/disk/frame.ts";
import { createJournal, openJournal } from "../src/disk/journal.ts";
import { segmentName } from "../src/disk/recovery.ts";
import { fileDriver } from "../src/oracle/drivers/file.ts";
import { DEFAULT_LIMITS } from "../src/oracle/rules/limits.ts";
import { FaultyDisk } from "../src/testing/faulty-disk.ts";
import { main } from "./harness.ts";

const DIRECTORY = "/data";
const SEGMENT_BYTES = 4_096;
const HEAD = 80;
const FRAME_MAGIC = 0x31465754;
const INSTRUCTION = 8;

type Files = ReadonlyMap<number, Uint8Array>;

/** Where a frame of the newest segment stands. */
interface Place {
  readonly seq: number;
  readonly from: number;
  readonly to: number;
}

interface Valid {
  /** By segment number. */
  readonly files: Files;
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly newestSegment: number;
  readonly places: readonly Place[];
}

const valid = await makeDirectory();
const driverFiles = await makeDriverDirectory();

await main({
  name: "journal",
  corpus: [
    program(),
    program([1, 2, 520, 0, 3]), // a flipped bit
    program([3, 9, 3_584, 512, 0]), // a sector of zeros
    program([2, 4, 600, 40, 7], [6, 4, 0, 0, 0]), // other bytes, and checksums that fit them
    program([4, 1, 512, 700, 3], [6, 1, 0, 0, 0]), // bytes of another place
    program([5, 9, 2_000, 0, 0]), // cut off
    program([7, 2, 0, 0, 0], [8, 3, 0, 0, 6]), // removed, and under another name
    program([1, 9, 590, 0, 1], [6, 9, 0, 0, 0], [3, 9, 512, 512, 0]),
  ],
  run: async (bytes) => {
    const { files, repaired } = execute(bytes, valid.files);
    await checkDriver(bytes);
    const disk = await diskWith(files);
    const found = await open(disk);
    if (found instanceof Error) return checkRefusal(found, repaired);
    if (!repaired) checkEntries(found, files);
    const again = await open(disk); // what was accepted once is accepted again, and is the same
    if (again instanceof Error || `${again}` !== `${found}`) throw new Error("the second open differs from the first", { cause: again });
  },
});

/** The same damage to a driver's directory: it leads and answers, or is refused as well. */
async function checkDriver(bytes: Uint8Array): Promise<void> {
  const { files, repaired } = execute(bytes, driverFiles);
  const disk = await diskWith(files);
  try {
    const driver = await fileDriver({ directory: DIRECTORY, segmentBytes: SEGMENT_BYTES, disk, create: false });
    await driver.leadership()[Symbol.asyncIterator]().next();
    await driver.submit({ type: "sequence", groups: [[{ key: "a", count: 1 }]] });
    await driver.close();
  } catch (error) {
    checkRefusal(error instanceof Error ? error : new Error("something else was thrown", { cause: error }), repaired);
  }
}

function checkRefusal(refusal: Error, repaired: boolean): void {
  if (!(refusal instanceof OracleError)) throw new Error("refused by an error of another kind", { cause: refusal });
  if (refusal.code !== "TSO_STORAGE" || refusal.cause === undefined) return; // a decoder's refusal, or damage that was recognized
  // What the disk throws has a code. Entries that contradict themselves can be made only with checksums that fit; anything else is a bug of ours.
  const { cause } = refusal;
  const isFault = cause instanceof Error && "code" in cause;
  if (!isFault && !(cause instanceof InvariantViolation && repaired)) throw new Error("something broke inside", { cause: refusal });
}

/** Each entry is there, or no longer counts, or has a sector that looks as if it had never been written; then nothing behind it is there. */
function checkEntries(found: readonly number[], files: Files): void {
  const last = found.at(-1) ?? 0;
  const whole = found.every((entry, index) => entry === valid.firstSeq + index);
  if (!whole) throw new Error(`entries are missing in the middle: ${found}`);
  if (last === valid.lastSeq) return;
  const newest = files.get(valid.newestSegment);
  if (newest === undefined) return; // a newest segment that is lost is a disk rolled back: no journal can see that alone
  const lost = valid.places.filter(({ seq }) => seq > last);
  for (const place of lost) if (!looksUnwritten(newest, place)) throw new Error(`entry ${place.seq} is forgotten, and entry ${last} is the last`);
}

function looksUnwritten(segment: Uint8Array, { from, to }: Place): boolean {
  const before = valid.files.get(valid.newestSegment) ?? new Uint8Array(0);
  for (let at = from; at < to; at += SECTOR) {
    const isThere = at + SECTOR <= segment.length; // a file that was cut off is no file that was never written
    if (isThere && isZero(segment, at, at + SECTOR) && !isZero(before, at, at + SECTOR)) return true;
  }
  return false;
}

/** The numbers of the entries, or what it was refused with. A frame that is not as it was written is refused by the replay. */
async function open(disk: FaultyDisk): Promise<readonly number[] | Error> {
  const found: number[] = [];
  try {
    const journal = await openJournal({
      ...{ disk, directory: DIRECTORY, segmentBytes: SEGMENT_BYTES },
      replay: ({ seq, ops }) => {
        if (new TextDecoder().decode(ops[0]) !== `entry ${seq}`) throw new OracleError("TSO_WRONG_FORMAT", `frame ${seq} holds another entry`);
        found.push(seq);
      },
      revive: (meta) => meta,
    });
    await journal.close();
    return found;
  } catch (error) {
    return error instanceof Error ? error : new Error("something else was thrown", { cause: error });
  }
}

/** Segments that no longer count, a segment of recovery alone, frames of many sectors, sectors that are zero on purpose. */
async function makeDirectory(): Promise<Valid> {
  const disk = new FaultyDisk();
  const options = () => ({ disk, directory: DIRECTORY, segmentBytes: SEGMENT_BYTES });
  const entry = (seq: number, bytes = 0) => ({
    meta: new Uint8Array(3),
    ops: [new TextEncoder().encode(`entry ${seq}`), new Uint8Array(bytes), new Uint8Array(bytes === 0 ? 0 : 40).fill(seq)],
  });
  let journal = await createJournal(options(), entry(1));
  const places: Place[] = [];
  let seq = 1;
  const append = async (bytes: number, choices = {}): Promise<void> => {
    seq += 1;
    await journal.append(entry(seq, bytes), choices);
  };
  const restart = async (): Promise<void> => {
    await journal.close();
    journal = await openJournal({ ...options(), replay: () => undefined, revive: (meta) => meta });
  };
  for (let i = 0; i < 10; i++) await append(i % 3 === 0 ? 1_100 : 0);
  await restart();
  const dropped = await filesOn(disk); // a power cut may bring back what no longer counts
  await append(0, { roll: true, firstSegment: journal.segment + 1 });
  for (const bytes of [0, 600, 1_600, 0, 0, 2_000]) await append(bytes);
  await restart();
  await restart();
  for (const bytes of [0, 700, 0, 1_000]) await append(bytes);
  const { segment: newestSegment, firstSegment } = journal;
  await journal.close();
  const files = new Map([...dropped, ...(await filesOn(disk))]);
  const newest = files.get(newestSegment) ?? new Uint8Array(0);
  const view = new DataView(newest.buffer, newest.byteOffset);
  for (let at = SECTOR; at < newest.length && view.getUint32(at, true) === FRAME_MAGIC; ) {
    const to = at + Math.ceil(view.getUint32(at + 48, true) / SECTOR) * SECTOR;
    places.push({ seq: Number(view.getBigUint64(at + 24, true)), from: at, to });
    at = to;
  }
  const firstHeader = files.get(firstSegment) ?? newest;
  const firstSeq = Number(new DataView(firstHeader.buffer, firstHeader.byteOffset).getBigUint64(56, true)) + 1;
  return { files, firstSeq, lastSeq: seq, newestSegment, places };
}

/** Several processes, a base in the middle, sequences and leases. */
async function makeDriverDirectory(): Promise<Files> {
  const disk = new FaultyDisk();
  for (let process = 1; process <= 3; process++) {
    const driver = await fileDriver({ directory: DIRECTORY, segmentBytes: SEGMENT_BYTES, disk });
    const { value } = await driver.leadership()[Symbol.asyncIterator]().next();
    const [epoch, now] = [value?.role === "leader" ? value.epoch : EPOCH_ZERO, 1_000 * process];
    await driver.submit({ type: "take-over", epoch, now, failoverAdvanceMs: 10, maxClockJumpMs: 10_000, limits: DEFAULT_LIMITS });
    for (let i = 0; i < 6; i++) {
      await driver.submit({ type: "sequence", groups: [[{ key: "a", count: 1 + i }], [{ key: `key ${i}`, count: 1 }]] });
      await driver.submit({ type: "lease-acquire", epoch, now, holder: new Uint8Array(100 * i + 1), holderEpoch: 1n, ttlMs: 5_000 });
    }
    await driver.close();
  }
  return filesOn(disk);
}

async function filesOn(disk: FaultyDisk): Promise<Files> {
  const files = new Map<number, Uint8Array>();
  for (const name of await disk.list(DIRECTORY)) files.set(Number.parseInt(name.slice(4, -4), 16), disk.bytesOf(`${DIRECTORY}/${name}`).slice());
  return files;
}

async function diskWith(files: Files): Promise<FaultyDisk> {
  const disk = new FaultyDisk();
  await disk.makeDirectory(DIRECTORY);
  for (const [number, bytes] of files) {
    const file = await disk.create(`${DIRECTORY}/${segmentName(number)}`);
    await file.write(bytes, 0);
    await file.datasync();
  }
  await disk.syncDirectory(DIRECTORY);
  return disk;
}

type Instruction = readonly [operation: number, segment: number, offset: number, length: number, value: number];

function program(...instructions: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(instructions.length * INSTRUCTION);
  const view = new DataView(bytes.buffer);
  for (const [index, [operation, segment, offset, length, value]] of instructions.entries()) {
    const at = index * INSTRUCTION;
    view.setUint8(at, operation);
    view.setUint8(at + 1, segment);
    view.setUint16(at + 2, offset);
    view.setUint16(at + 4, length);
    view.setUint16(at + 6, value);
  }
  return bytes;
}

/** The files that a program leaves of those it is given. */
function execute(bytes: Uint8Array, given: Files): { readonly files: Files; readonly repaired: boolean } {
  const files = new Map([...given].map(([number, file]) => [number, file.slice()]));
  const numbers = [...files.keys()];
  let repaired = false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + INSTRUCTION <= bytes.length; at += INSTRUCTION) {
    const number = numbers[view.getUint8(at + 1) % numbers.length] ?? 1;
    const file = files.get(number);
    if (file === undefined) continue;
    const offset = view.getUint16(at + 2) % SEGMENT_BYTES;
    const length = view.getUint16(at + 4) % SEGMENT_BYTES;
    const value = view.getUint16(at + 6);
    const sector = offset - (offset % SECTOR);
    switch (view.getUint8(at) % 9) {
      case 1:
        if (offset < file.length) file[offset] = (file[offset] ?? 0) ^ (1 << (value % 8));
        break;
      case 2:
        file.fill(value, offset, offset + length);
        break;
      case 3:
        file.fill(0, sector, sector + Math.max(SECTOR, length - (length % SECTOR)));
        break;
      case 4: {
        const source = files.get(numbers[value % numbers.length] ?? number) ?? file;
        const from = (value >> 4) * SECTOR;
        file.set(source.slice(from, from + length).subarray(0, Math.max(0, file.length - sector)), Math.min(sector, file.length));
        break;
      }
      case 5:
        files.set(number, file.slice(0, offset));
        break;
      case 6:
        repaired = true;
        repair(file);
        break;
      case 7:
        files.delete(number);
        break;
      case 8:
        files.delete(number);
        files.set(value % 16, file);
        break;
      default: // nothing
    }
  }
  return { files, repaired };
}

/** Gives the header, and all that looks like a frame, checksums that fit: so that what stands behind the checksums is met as well. */
function repair(file: Uint8Array): void {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < SECTOR) return;
  view.setUint32(4, crc32(file.subarray(8, SECTOR)), true);
  let previous = view.getUint32(64, true);
  for (let at = SECTOR; at + HEAD <= file.length; at += SECTOR) {
    if (view.getUint32(at, true) !== FRAME_MAGIC) continue;
    const end = at + view.getUint32(at + 48, true);
    const mapEnd = at + HEAD + view.getUint32(at + 60, true);
    const bodyCrc = crc32(file.subarray(at + HEAD, Math.max(at + HEAD, end)));
    view.setUint32(at + 52, bodyCrc, true);
    view.setUint32(at + 56, previous, true);
    view.setUint32(at + 76, crc32(file.subarray(at + HEAD, Math.max(at + HEAD, mapEnd))), true);
    view.setUint32(at + 4, crc32(file.subarray(at + 8, at + HEAD)), true);
    previous = bodyCrc;
  }
}
