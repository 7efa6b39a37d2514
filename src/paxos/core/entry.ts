/**
 * Entries of the log and their records. A record is encoded once, by the leader that appends it: the same bytes are stored, sent and served. `(slot, origin)`
 * names one value and, by the chain, one whole prefix (INV-2, INV-3).
 */
import { crc32 } from "node:zlib";
import { OracleError } from "../../base/errors.ts";
import type { NodeId, Slot } from "../../base/ids.ts";
import { invariant } from "../../base/invariant.ts";
import type { Ballot } from "./ballot.ts";

/** `start`: the first entry of a reign, of no value. `app`: the host's bytes. `config`: who takes part from the next slot on. */
export type EntryKind = "start" | "app" | "config";

export interface Entry {
  readonly slot: Slot;
  /** The ballot of the leader that first proposed it. Never changes, and is never compared with a promise. */
  readonly origin: Ballot;
  readonly kind: EntryKind;
  /** The host's bytes, a view into `record`. */
  readonly payload: Uint8Array;
  /** Checksum over this entry and all before it. */
  readonly chain: number;
  /** Checksum over this entry alone: the record up to its chain. */
  readonly bodyCrc: number;
  /** The whole record, as stored and sent. */
  readonly record: Uint8Array;
}

const KINDS: readonly EntryKind[] = ["start", "app", "config"];
const MAGIC = 0xe7;
const HEAD = 30;
const TAIL = 8;

/** What each byte does to a checksum, as in `crc32`. */
const CRC_OF_BYTE = Int32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = (rest >>> 1) ^ (rest & 1 ? 0xedb88320 : 0);
  return rest;
});

/** What a record adds to its payload. */
export const RECORD_OVERHEAD = HEAD + TAIL;
/** A payload's length at most, so that a damaged length field is never believed. */
export const PAYLOAD_BYTES_MAX = 64 * 1024 * 1024;

export interface NewEntry {
  readonly slot: Slot;
  readonly origin: Ballot;
  readonly kind: EntryKind;
  /** Copied. */
  readonly payload: Uint8Array;
  /** Of the entry before it; 0 for the first slot. */
  readonly previousChain: number;
}

/**
 * `magic u8 | kind u8 | flags u16 | slot u64 | round u64 | prio u16 | node u32 | len u32 | payload | chain u32 | crc u32`, little-endian. The slot is under the
 * checksum, so that a record read from the wrong place is found.
 */
export function createEntry({ slot, origin, kind, payload, previousChain }: NewEntry): Entry {
  invariant(payload.length <= PAYLOAD_BYTES_MAX, "a payload fits a record", { bytes: payload.length });
  const bytes = new Uint8Array(RECORD_OVERHEAD + payload.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = MAGIC;
  bytes[1] = KINDS.indexOf(kind);
  setU64(view, 4, slot);
  setU64(view, 12, origin.round);
  view.setUint16(20, origin.prio, true);
  view.setUint32(22, origin.node, true);
  view.setUint32(26, payload.length, true);
  bytes.set(payload, HEAD);
  const end = HEAD + payload.length;
  const bodyCrc = crc32(bytes.subarray(0, end));
  const chain = crcAfter(previousChain, bodyCrc);
  view.setUint32(end, chain, true);
  view.setUint32(end + 4, crcAfter(bodyCrc, chain), true);
  return { slot, origin, kind, payload: bytes.subarray(HEAD, end), chain, bodyCrc, record: bytes };
}

/** Reads one whole record; checks everything but that its chain continues another's (`continues`). @throws OracleError TSO_WRONG_FORMAT */
export function decodeEntry(record: Uint8Array): Entry {
  if (record.length < RECORD_OVERHEAD) throw malformed(`${record.length} bytes are fewer than the ${RECORD_OVERHEAD} of the smallest record`);
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  if (record[0] !== MAGIC) throw malformed(`it begins with ${record[0]}, not with ${MAGIC}`);
  const length = view.getUint32(26, true);
  if (length !== record.length - RECORD_OVERHEAD)
    throw malformed(`its payload has ${length} bytes by its head, and ${record.length - RECORD_OVERHEAD} by its end`);
  const end = HEAD + length;
  const bodyCrc = crc32(record.subarray(0, end));
  const chain = view.getUint32(end, true);
  if (view.getUint32(end + 4, true) !== crcAfter(bodyCrc, chain)) throw malformed("its checksum does not match");
  const kind = KINDS[view.getUint8(1)];
  if (kind === undefined) throw malformed(`kind ${view.getUint8(1)} is none of ${KINDS.join(", ")}`);
  if (view.getUint16(2, true) !== 0) throw malformed("its flags are not 0");
  const slot = getU64(view, 4);
  if (slot < 1) throw malformed("its slot is 0");
  const origin: Ballot = { round: getU64(view, 12), prio: view.getUint16(20, true), node: view.getUint32(22, true) as NodeId };
  return { slot: slot as Slot, origin, kind, payload: record.subarray(HEAD, end), chain, bodyCrc, record };
}

/** Length of the record that begins at `at`, as its head says; what is not there yet is not counted. @throws OracleError TSO_WRONG_FORMAT where no head fits */
export function recordLength(bytes: Uint8Array, at: number): number {
  if (at + RECORD_OVERHEAD > bytes.length) throw malformed(`${bytes.length - at} bytes are fewer than the ${RECORD_OVERHEAD} of the smallest record`);
  return RECORD_OVERHEAD + new DataView(bytes.buffer, bytes.byteOffset + at + 26, 4).getUint32(0, true);
}

/** Whether `entry` was made to follow an entry with this chain. */
export function continues(previousChain: number, entry: Entry): boolean {
  return crcAfter(previousChain, entry.bodyCrc) === entry.chain;
}

/** The checksum `crc`, taken on over the four bytes of `word`, little-endian. `crc32` of zlib costs more to call than these four steps. */
function crcAfter(crc: number, word: number): number {
  let rest = ~crc ^ word;
  for (let byte = 0; byte < 4; byte++) rest = (rest >>> 8) ^ (CRC_OF_BYTE[rest & 0xff] ?? 0);
  return ~rest >>> 0;
}

function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

function getU64(view: DataView, at: number): number {
  const value = view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
  if (!Number.isSafeInteger(value)) throw malformed(`a number at byte ${at} is above 2^53-1`);
  return value;
}

function malformed(why: string): OracleError {
  return new OracleError("TSO_WRONG_FORMAT", `not a log record: ${why}`);
}
