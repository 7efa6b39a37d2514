/**
 * Bytes of a journal: segment headers and frames (`docs/protocol.md` 5.2). All numbers are little-endian. A frame begins on a sector and fills whole
 * sectors, so no sector is shared by two frames; a byte once written is never written again.
 */
import { crc32 } from "node:zlib";
import { invariant } from "../base/invariant.ts";

/** What a disk writes whole or not at all. */
export const SECTOR = 512;

export const FORMAT = 1;

const SEGMENT_MAGIC = 0x31535754; // "TWS1"
const FRAME_MAGIC = 0x31465754; // "TWF1"
const HEAD = 80;
const NONCE = 16;

/** A frame holds at most this much, so that one length field can be trusted. */
export const FRAME_BYTES_MAX = 256 * 1024 * 1024;

export interface SegmentHeader {
  readonly number: number;
  /** Random, and in every frame of this segment: bytes of another segment inside a payload are never taken for a frame. */
  readonly nonce: Uint8Array;
  /** Random, drawn once for the directory. */
  readonly storageId: Uint8Array;
  /** The last frame before this segment, and its body's checksum; 0 for the first segment. */
  readonly prevSeq: number;
  readonly prevBodyCrc: number;
  /** The length of the file, which it has before it gets its name: a shorter one was cut off. */
  readonly fileBytes: number;
}

/** `batch`: written by the process that decided it. `recover`: the newest frame of an earlier process, written again by its successor. */
export type FrameKind = "batch" | "recover";

export interface FrameContent {
  /** The caller's image of its whole small state; the newest frame's counts. */
  readonly meta: Uint8Array;
  /** The caller's operations, replayed in order. */
  readonly ops: readonly Uint8Array[];
}

export interface Frame extends FrameContent {
  readonly kind: FrameKind;
  readonly seq: number;
  /** The newest frame whose datasync had returned when this one was built. */
  readonly syncedThrough: number;
  /** The oldest segment that still counts. */
  readonly firstSegment: number;
}

/** Where a frame stands in its segment. */
export interface FramePlace {
  readonly nonce: Uint8Array;
  readonly prevBodyCrc: number;
}

export interface EncodedFrame {
  /** Padded to whole sectors. */
  readonly bytes: Uint8Array;
  readonly bodyCrc: number;
  /** Where the operations begin in it. */
  readonly opsAt: number;
}

/** Before each operation of a frame stands its length. */
export const OP_LENGTH_BYTES = 4;

/** Where a frame's operations are on disk: one after the other. */
export interface FrameAddress {
  readonly segment: number;
  /** Of the first operation's length, in the segment's file. */
  readonly opsAt: number;
}

export function encodeSegmentHeader(header: SegmentHeader): Uint8Array {
  const sector = new Uint8Array(SECTOR);
  const view = viewOf(sector);
  view.setUint32(0, SEGMENT_MAGIC, true);
  view.setUint16(8, FORMAT, true);
  view.setUint16(10, SECTOR, true);
  setU64(view, 16, header.number);
  sector.set(header.nonce, 24);
  sector.set(header.storageId, 40);
  setU64(view, 56, header.prevSeq);
  view.setUint32(64, header.prevBodyCrc, true);
  setU64(view, 72, header.fileBytes);
  view.setUint32(4, crc32(sector.subarray(8)), true);
  return sector;
}

export type DecodedSegmentHeader = SegmentHeader | { readonly newerFormat: number } | undefined;

/** `undefined` where it is damaged or no segment at all. */
export function decodeSegmentHeader(segment: Uint8Array): DecodedSegmentHeader {
  if (segment.length < SECTOR) return undefined;
  const view = viewOf(segment);
  if (view.getUint32(0, true) !== SEGMENT_MAGIC || view.getUint32(4, true) !== crc32(segment.subarray(8, SECTOR))) return undefined;
  const format = view.getUint16(8, true);
  if (format > FORMAT) return { newerFormat: format };
  if (format !== FORMAT || view.getUint16(10, true) !== SECTOR) return undefined;
  return {
    number: getU64(view, 16),
    nonce: segment.subarray(24, 40),
    storageId: segment.subarray(40, 56),
    prevSeq: getU64(view, 56),
    prevBodyCrc: view.getUint32(64, true),
    fileBytes: getU64(view, 72),
  };
}

export function encodeFrame(frame: Frame, place: FramePlace): EncodedFrame {
  const opsLength = frame.ops.reduce((sum, op) => sum + 4 + op.length, 0);
  const payload = frame.meta.length + opsLength;
  let mapLength = 1;
  while (mapLength * 7 * SECTOR < HEAD + mapLength + payload) mapLength += 1;
  const length = HEAD + mapLength + payload;
  invariant(length <= FRAME_BYTES_MAX, "a frame fits its length field", { length, max: FRAME_BYTES_MAX });

  const bytes = new Uint8Array(Math.ceil(length / SECTOR) * SECTOR);
  const view = viewOf(bytes);
  let at = HEAD + mapLength;
  bytes.set(frame.meta, at);
  at += frame.meta.length;
  const opsAt = at;
  for (const op of frame.ops) {
    view.setUint32(at, op.length, true);
    bytes.set(op, at + 4);
    at += 4 + op.length;
  }
  writeZeroMap(bytes, mapLength);

  const bodyCrc = crc32(bytes.subarray(HEAD, length));
  view.setUint32(0, FRAME_MAGIC, true);
  bytes.set(place.nonce, 8);
  setU64(view, 24, frame.seq);
  setU64(view, 32, frame.syncedThrough);
  setU64(view, 40, frame.firstSegment);
  view.setUint32(48, length, true);
  view.setUint32(52, bodyCrc, true);
  view.setUint32(56, place.prevBodyCrc, true);
  view.setUint32(60, mapLength, true);
  view.setUint32(64, frame.meta.length, true);
  view.setUint32(68, frame.ops.length, true);
  view.setUint8(72, frame.kind === "batch" ? 1 : 2);
  view.setUint32(76, crc32(bytes.subarray(HEAD, HEAD + mapLength)), true);
  view.setUint32(4, crc32(bytes.subarray(8, HEAD)), true);
  return { bytes, bodyCrc, opsAt };
}

/** What a frame's first sector says, checked by its own checksum. */
export interface FrameHead {
  readonly kind: FrameKind;
  readonly seq: number;
  readonly syncedThrough: number;
  readonly firstSegment: number;
  readonly length: number;
  readonly bodyCrc: number;
  readonly prevBodyCrc: number;
  readonly mapLength: number;
  readonly mapCrc: number;
  readonly metaLength: number;
  readonly opCount: number;
}

/** `undefined` where no frame of this segment begins at `at`. */
export function decodeFrameHead(segment: Uint8Array, at: number, nonce: Uint8Array): FrameHead | undefined {
  if (at + HEAD > segment.length) return undefined;
  const view = viewOf(segment);
  if (view.getUint32(at, true) !== FRAME_MAGIC) return undefined;
  if (view.getUint32(at + 4, true) !== crc32(segment.subarray(at + 8, at + HEAD))) return undefined;
  for (let i = 0; i < NONCE; i++) if (segment[at + 8 + i] !== nonce[i]) return undefined;
  return {
    kind: view.getUint8(at + 72) === 1 ? "batch" : "recover",
    seq: getU64(view, at + 24),
    syncedThrough: getU64(view, at + 32),
    firstSegment: getU64(view, at + 40),
    length: view.getUint32(at + 48, true),
    bodyCrc: view.getUint32(at + 52, true),
    prevBodyCrc: view.getUint32(at + 56, true),
    mapLength: view.getUint32(at + 60, true),
    mapCrc: view.getUint32(at + 76, true),
    metaLength: view.getUint32(at + 64, true),
    opCount: view.getUint32(at + 68, true),
  };
}

/** The content of a frame whose body is whole, else `undefined`. */
export function decodeFrameBody(segment: Uint8Array, at: number, head: FrameHead): FrameContent | undefined {
  if (at + head.length > segment.length) return undefined;
  if (crc32(segment.subarray(at + HEAD, at + head.length)) !== head.bodyCrc) return undefined;
  const view = viewOf(segment);
  const end = at + head.length;
  let position = at + HEAD + head.mapLength;
  if (position + head.metaLength > end) return undefined;
  const meta = new Uint8Array(segment.subarray(position, position + head.metaLength)); // a copy: a view would keep the segment alive
  position += head.metaLength;
  const ops: Uint8Array[] = [];
  for (let i = 0; i < head.opCount; i++) {
    if (position + 4 > end) return undefined;
    const length = view.getUint32(position, true);
    if (position + 4 + length > end) return undefined;
    ops.push(new Uint8Array(segment.subarray(position + 4, position + 4 + length)));
    position += 4 + length;
  }
  return { meta, ops };
}

/** Where the operations begin of a frame that begins at `at`. */
export function opsAtOf(at: number, { mapLength, metaLength }: FrameHead): number {
  return at + HEAD + mapLength + metaLength;
}

/** Bytes on disk of a frame of `length` bytes. */
export function paddedLength(length: number): number {
  return Math.ceil(length / SECTOR) * SECTOR;
}

/**
 * Whether some sector of the frame was never written: it is all zero, or beyond the end of the file, and the frame does not say that it is zero on
 * purpose. Such a frame never became durable as a whole, so nothing vouched for it. Without such a sector a wrong checksum means damage; so does a map
 * whose sectors were all written and which fails its own checksum, for then it cannot be asked.
 */
export function hasUnwrittenSector(segment: Uint8Array, at: number, head: FrameHead): boolean {
  const sectors = paddedLength(head.length) / SECTOR;
  if (at + sectors * SECTOR > segment.length) return true;
  const isUnwritten = (sector: number): boolean => isZero(segment, at + sector * SECTOR, at + (sector + 1) * SECTOR);
  const firstAfterMap = Math.ceil((HEAD + head.mapLength) / SECTOR);
  for (let i = 1; i < firstAfterMap; i++) if (isUnwritten(i)) return true;
  const map = segment.subarray(at + HEAD, at + HEAD + head.mapLength);
  if (crc32(map) !== head.mapCrc) return false;
  for (let i = firstAfterMap; i < sectors; i++) {
    const zeroOnPurpose = ((map[Math.floor(i / 7)] ?? 0) & (1 << (i % 7))) !== 0;
    if (!zeroOnPurpose && isUnwritten(i)) return true;
  }
  return false;
}

export function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false;
  return true;
}

/**
 * Bit i says that sector i of the frame is zero on purpose. Seven bits a byte, and the eighth always set: so no sector of the map itself can be
 * zero, and one that is was never written.
 */
function writeZeroMap(bytes: Uint8Array, mapLength: number): void {
  const firstAfterMap = Math.ceil((HEAD + mapLength) / SECTOR);
  bytes.fill(0x80, HEAD, HEAD + mapLength);
  for (let i = firstAfterMap; i < bytes.length / SECTOR; i++) {
    if (!isZero(bytes, i * SECTOR, (i + 1) * SECTOR)) continue;
    const at = HEAD + Math.floor(i / 7);
    bytes[at] = (bytes[at] ?? 0) | (1 << (i % 7));
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function setU64(view: DataView, at: number, value: number): void {
  invariant(Number.isSafeInteger(value) && value >= 0, "a counter on disk is a whole number", { value });
  view.setBigUint64(at, BigInt(value), true);
}

function getU64(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}
