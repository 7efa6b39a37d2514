/**
 * What a directory of segments still says after any crash (`docs/protocol.md` 5.4). Reads only. A torn tail, which no one can have vouched for, is cut;
 * anything else that does not fit is damage, and damage is refused: a record that was acknowledged may not be forgotten in silence.
 */
import { join } from "node:path";
import { OracleError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import { type Disk, isErrno } from "./disk.ts";
import {
  decodeFrameBody,
  decodeFrameHead,
  decodeSegmentHeader,
  type Frame,
  type FrameAddress,
  type FrameHead,
  hasUnwrittenSector,
  isZero,
  opsAtOf,
  paddedLength,
  SECTOR,
  type SegmentHeader,
} from "./frame.ts";

const SEGMENT_NAME = /^wal-([0-9a-f]{16})\.seg$/;
const UNFINISHED_NAME = /^wal-[0-9a-f]{16}\.tmp$/;
/** The lock of macOS is a file; and what a file system keeps in its root. */
const IGNORED_NAMES = new Set(["LOCK", "lost+found"]);

export function segmentName(number: number): string {
  return `wal-${number.toString(16).padStart(16, "0")}.seg`;
}

/** The name of a segment while it is made: it counts only once it has its other name. */
export function unfinishedName(number: number): string {
  return `wal-${number.toString(16).padStart(16, "0")}.tmp`;
}

export interface DirectoryContents {
  /** Numbers of the segments, ascending. */
  readonly segments: readonly number[];
  /** Names of what a crash left half made. */
  readonly unfinished: readonly string[];
}

/** @throws OracleError TSO_WRONG_FORMAT where the directory holds anything that is not ours. */
export async function listSegments(disk: Disk, directory: string): Promise<DirectoryContents> {
  const segments: number[] = [];
  const unfinished: string[] = [];
  for (const name of await listOrNothing(disk, directory)) {
    const number = SEGMENT_NAME.exec(name)?.[1];
    if (number !== undefined) segments.push(Number.parseInt(number, 16));
    else if (UNFINISHED_NAME.test(name)) unfinished.push(name);
    else if (!IGNORED_NAMES.has(name)) {
      throw new OracleError("TSO_WRONG_FORMAT", `${join(directory, name)} is not a file of this program: use an empty directory, or the right one`);
    }
  }
  return { segments: segments.sort((a, b) => a - b), unfinished };
}

/** A segment as far as it can be trusted. */
interface SegmentRead {
  readonly path: string;
  readonly header: SegmentHeader;
  readonly frames: readonly PlacedFrame[];
  /** Whether a torn frame was cut off behind the last good one. */
  readonly torn: boolean;
}

/** A frame, and where it is. */
export interface PlacedFrame extends Frame, FrameAddress {
  readonly bodyCrc: number;
}

export interface Recovered {
  readonly storageId: Uint8Array;
  /** All that count, in order: the newest frame is the last. */
  readonly frames: AsyncIterable<PlacedFrame>;
  /** The newest good frame: the only one that can be in doubt. It is written again before anything relies on it. */
  readonly newest: Frame;
  /** The frame before it. */
  readonly before: { readonly seq: number; readonly bodyCrc: number };
  readonly lastSegment: number;
  /** Segments that no longer count. */
  readonly stale: readonly number[];
  /** What was cut: a write that a crash interrupted. */
  readonly torn: boolean;
}

/** @throws OracleError TSO_STORAGE for damage, with file and offset; TSO_WRONG_FORMAT for another format or a foreign directory. */
export async function recoverSegments(disk: Disk, directory: string, numbers: readonly number[]): Promise<Recovered> {
  const last = numbers.at(-1);
  invariant(last !== undefined, "a journal has a segment");
  const newestSegment = await readSegment(disk, directory, { number: last });
  const newest = newestSegment.frames.at(-1);
  if (newest === undefined) throw damaged(newestSegment.path, SECTOR, "its first frame, which was durable before the file had its name, is gone");
  const first = newest.firstSegment;
  const live = numbers.filter((number) => number >= first);
  live.forEach((number, index) => {
    if (number !== first + index) throw damaged(directory, 0, `segment ${segmentName(first + index)} is missing`);
  });

  const { header } = newestSegment;
  const previous = newestSegment.frames.at(-2);
  async function* frames(): AsyncIterable<PlacedFrame> {
    for (const [index, number] of live.slice(0, -1).entries()) {
      const successor = await readHeader(disk, directory, live[index + 1] ?? number);
      const segment = await readSegment(disk, directory, { number, successor });
      if (!sameBytes(segment.header.storageId, header.storageId)) throw damaged(segment.path, 0, "it belongs to another directory");
      yield* segment.frames;
    }
    yield* newestSegment.frames;
  }
  return {
    storageId: new Uint8Array(header.storageId),
    frames: frames(),
    newest,
    before: previous ?? { seq: header.prevSeq, bodyCrc: header.prevBodyCrc },
    lastSegment: last,
    stale: numbers.filter((number) => number < first),
    torn: newestSegment.torn,
  };
}

interface SegmentToRead {
  readonly number: number;
  /** The next segment's header, which says where this one ends; absent for the newest. */
  readonly successor?: SegmentHeader | undefined;
}

async function readSegment(disk: Disk, directory: string, { number, successor }: SegmentToRead): Promise<SegmentRead> {
  const path = join(directory, segmentName(number));
  const bytes = await disk.read(path);
  const header = checkHeader(path, number, bytes);
  if (bytes.length < header.fileBytes)
    throw damaged(path, bytes.length, `the file was cut off: it had ${header.fileBytes} bytes before it had its name`);
  const frames: PlacedFrame[] = [];
  let at = SECTOR;
  let expected = { seq: header.prevSeq + 1, prevBodyCrc: header.prevBodyCrc };
  let torn = false;
  while (successor === undefined || expected.seq <= successor.prevSeq) {
    const head = decodeFrameHead(bytes, at, header.nonce);
    const frame = head === undefined ? undefined : goodFrame({ bytes, number }, at, head, expected);
    if (head === undefined || frame === undefined) {
      if (successor !== undefined) throw damaged(path, at, `frame ${expected.seq}, which was durable, does not read back`);
      torn = classifyEnd(path, bytes, { at, head, expectedSeq: expected.seq, nonce: header.nonce }) === "torn";
      break;
    }
    frames.push(frame);
    at += paddedLength(head.length);
    expected = { seq: head.seq + 1, prevBodyCrc: head.bodyCrc };
  }
  const continues = successor === undefined || (successor.prevSeq === expected.seq - 1 && successor.prevBodyCrc === expected.prevBodyCrc);
  if (!continues) {
    throw damaged(path, at, `segment ${segmentName(number + 1)} continues another history`);
  }
  return { path, header, frames, torn };
}

function goodFrame(
  { bytes, number }: { readonly bytes: Uint8Array; readonly number: number },
  at: number,
  head: FrameHead,
  expected: { readonly seq: number; readonly prevBodyCrc: number },
): PlacedFrame | undefined {
  if (head.seq !== expected.seq || head.prevBodyCrc !== expected.prevBodyCrc) return undefined;
  const content = decodeFrameBody(bytes, at, head);
  if (content === undefined) return undefined;
  const { kind, seq, syncedThrough, firstSegment, bodyCrc } = head;
  return { kind, seq, syncedThrough, firstSegment, bodyCrc, segment: number, opsAt: opsAtOf(at, head), ...content };
}

interface FirstBadPlace {
  readonly at: number;
  readonly head: FrameHead | undefined;
  readonly expectedSeq: number;
  readonly nonce: Uint8Array;
}

/** The first place that is not the next good frame, in the newest segment: rule 3 of `docs/protocol.md` 5.4. */
function classifyEnd(path: string, bytes: Uint8Array, { at, head, expectedSeq, nonce }: FirstBadPlace): "clean" | "torn" {
  if (isZero(bytes, at, bytes.length)) return "clean";
  for (let later = at + SECTOR; later + SECTOR <= bytes.length; later += SECTOR) {
    const found = decodeFrameHead(bytes, later, nonce);
    if (found !== undefined && found.syncedThrough >= expectedSeq) {
      throw damaged(path, at, `frame ${expectedSeq} does not read back, and frame ${found.seq} behind it says that it was durable`);
    }
  }
  if (head === undefined) {
    if (isZero(bytes, at, Math.min(at + SECTOR, bytes.length))) return "torn";
    throw damaged(path, at, "no frame begins here, and it is not empty");
  }
  if (head.seq !== expectedSeq) throw damaged(path, at, `frame ${head.seq} stands where frame ${expectedSeq} belongs`);
  if (hasUnwrittenSector(bytes, at, head)) return "torn";
  throw damaged(path, at, `frame ${expectedSeq} was written whole, and its checksum is wrong`);
}

async function readHeader(disk: Disk, directory: string, number: number): Promise<SegmentHeader> {
  const path = join(directory, segmentName(number));
  return checkHeader(path, number, await disk.readPart(path, 0, SECTOR));
}

function checkHeader(path: string, number: number, bytes: Uint8Array): SegmentHeader {
  const header = decodeSegmentHeader(bytes);
  if (header === undefined) throw damaged(path, 0, "its header is damaged, or it is not a segment");
  if ("newerFormat" in header) throw new OracleError("TSO_WRONG_FORMAT", `${path} has format ${header.newerFormat}, and this release reads up to 1`);
  if (header.number !== number) throw damaged(path, 0, `it is segment ${header.number} under another name`);
  return header;
}

async function listOrNothing(disk: Disk, directory: string): Promise<readonly string[]> {
  try {
    return await disk.list(directory);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

/** What does not fit, and where. */
export function damaged(path: string, offset: number, what: string): OracleError {
  return new OracleError("TSO_STORAGE", `${path} at byte ${offset}: ${what}`);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
