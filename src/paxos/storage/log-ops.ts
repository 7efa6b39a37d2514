/**
 * Bytes of a batch's operations, as they stand in a frame (protocol, 5.2), little-endian: `1 u8 | 0 x 7 | from u64 | last u64` truncates,
 * `2 u8 | 0 x 3 | count u32 | records` appends, and `3 u8 | keepTail u8 | prio u16 | node u32 | slot u64 | round u64 | chain u32` begins the log after a snapshot. Records are as they were sent, so one can be read from the disk by itself.
 */
import { OracleError } from "../../base/errors.ts";
import { type NodeId, slot } from "../../base/ids.ts";
import { invariant, unreachable } from "../../base/invariant.ts";
import { type FrameAddress, OP_LENGTH_BYTES } from "../../disk/frame.ts";
import { decodeEntry, type Entry, RECORD_OVERHEAD, recordLength } from "../core/entry.ts";
import type { PersistOp } from "../core/image.ts";

const TRUNCATE = 1;
const APPEND = 2;
const INSTALL = 3;
const TRUNCATE_BYTES = 24;
const INSTALL_BYTES = 28;

/** Where the first record stands in an append. */
const RECORDS_AT = 8;

export function encodeOp(op: PersistOp): Uint8Array {
  switch (op.type) {
    case "truncate": {
      const bytes = new Uint8Array(TRUNCATE_BYTES);
      const view = new DataView(bytes.buffer);
      bytes[0] = TRUNCATE;
      view.setBigUint64(8, BigInt(op.from), true);
      view.setBigUint64(16, BigInt(op.last), true);
      return bytes;
    }
    case "append": {
      const bytes = new Uint8Array(op.entries.reduce((sum, { record }) => sum + record.length, RECORDS_AT));
      bytes[0] = APPEND;
      new DataView(bytes.buffer).setUint32(4, op.entries.length, true);
      let at = RECORDS_AT;
      for (const { record } of op.entries) {
        bytes.set(record, at);
        at += record.length;
      }
      return bytes;
    }
    case "install": {
      const { slot: at, origin, chain } = op.point;
      const bytes = new Uint8Array(INSTALL_BYTES);
      const view = new DataView(bytes.buffer);
      bytes[0] = INSTALL;
      bytes[1] = op.keepTail ? 1 : 0;
      view.setUint16(2, origin.prio, true);
      view.setUint32(4, origin.node, true);
      view.setBigUint64(8, BigInt(at), true);
      view.setBigUint64(16, BigInt(origin.round), true);
      view.setUint32(24, chain, true);
      return bytes;
    }
    default:
      return unreachable(op);
  }
}

/** The entries are views into `bytes`. @throws OracleError TSO_WRONG_FORMAT */
export function decodeOp(bytes: Uint8Array): PersistOp {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[0] === TRUNCATE && bytes.length === TRUNCATE_BYTES) {
    return { type: "truncate", from: slot(Number(view.getBigUint64(8, true))), last: slot(Number(view.getBigUint64(16, true))) };
  }
  if (bytes[0] === INSTALL && bytes.length === INSTALL_BYTES && (bytes[1] ?? 2) <= 1) {
    const origin = { round: Number(view.getBigUint64(16, true)), prio: view.getUint16(2, true), node: view.getUint32(4, true) as NodeId };
    return {
      type: "install",
      point: { slot: slot(Number(view.getBigUint64(8, true))), origin, chain: view.getUint32(24, true) },
      keepTail: bytes[1] === 1,
    };
  }
  if (bytes[0] !== APPEND || bytes.length < RECORDS_AT) throw new OracleError("TSO_WRONG_FORMAT", "not an operation of the log");
  const count = view.getUint32(4, true);
  const entries = decodeRecords(bytes, RECORDS_AT);
  if (entries.length !== count) throw new OracleError("TSO_WRONG_FORMAT", `an append has ${entries.length} records, and says ${count}`);
  return { type: "append", entries };
}

/** Where the first record of an operation is, if it has records. */
export interface OpAddress {
  readonly segment: number;
  readonly recordsAt: number;
}

/** Of the operations of a frame. */
export function addressesOf(ops: readonly Uint8Array[], { segment, opsAt }: FrameAddress): readonly OpAddress[] {
  let at = opsAt;
  return ops.map((op) => {
    const recordsAt = at + OP_LENGTH_BYTES + RECORDS_AT;
    at += OP_LENGTH_BYTES + op.length;
    return { segment, recordsAt };
  });
}

/** Records that stand one after the other from `at` on, to the end. The entries are views. @throws OracleError TSO_WRONG_FORMAT */
function decodeRecords(bytes: Uint8Array, at: number): readonly Entry[] {
  const entries: Entry[] = [];
  while (at < bytes.length) {
    const length = recordLength(bytes, at);
    invariant(length >= RECORD_OVERHEAD, "reading a list of records moves on", { length });
    entries.push(decodeEntry(bytes.subarray(at, at + length)));
    at += length;
  }
  return entries;
}
