/** Bytes of commands, outcomes, changes and snapshots. The rules never meet a value that their types exclude: shapes check all they read. */
import { OracleError } from "../../base/errors.ts";
import { bytes, createCodec, empty, epochShape, list, oneOf, optional, record, text, u64, union, whole } from "../../base/shape.ts";
import type { BlockRequest, GroupOutcome, OracleCommand, OracleOutcome, Refusal } from "./command.ts";
import { LIMIT_NAMES, LIMIT_RANGES, type OracleLimits } from "./limits.ts";
import type { Lease, OracleChange, SequenceState } from "./state.ts";
import { PHYSICAL_MS_MAX } from "./timestamp.ts";

/** The version of every encoding in this file. */
const FORMAT = 1;

/** Changes in one chunk of a snapshot, at most. */
const CHUNK_CHANGES = 1_000;

const physicalMs = whole(PHYSICAL_MS_MAX);
/** What a clock or a caller asked for may lie outside the range: the machine refuses it, by name. */
const askedMs = whole();

const limit = (name: keyof OracleLimits) => whole(LIMIT_RANGES[name].through, LIMIT_RANGES[name].from);

const limits = record<OracleLimits>({
  maxKeys: limit("maxKeys"),
  maxKeyBytes: limit("maxKeyBytes"),
  maxCount: limit("maxCount"),
  maxBatchKeys: limit("maxBatchKeys"),
  maxLeases: limit("maxLeases"),
  maxHolderBytes: limit("maxHolderBytes"),
});

const sequence = record<SequenceState>({ first: u64, next: u64 });

const lease = record<Lease>({
  id: physicalMs,
  holder: bytes,
  holderEpoch: u64,
  ttlMs: askedMs,
  bound: physicalMs,
  expiresAtMs: askedMs,
  supersededBy: optional(u64),
});

const command = union<OracleCommand, "type">("type", {
  "take-over": [1, record({ epoch: epochShape, now: askedMs, failoverAdvanceMs: askedMs, maxClockJumpMs: askedMs, limits })],
  advance: [2, record({ epoch: epochShape, now: askedMs, atLeast: askedMs })],
  expire: [3, record({ epoch: epochShape, now: askedMs })],
  sequence: [4, record({ epoch: optional(epochShape), groups: list(list(record<BlockRequest>({ key: text, count: whole(0xffff_ffff) }))) })],
  "sequence-init": [5, record({ epoch: optional(epochShape), key: text, first: u64 })],
  "lease-acquire": [6, record({ epoch: epochShape, now: askedMs, holder: bytes, holderEpoch: u64, ttlMs: askedMs })],
  "lease-renew": [7, record({ epoch: epochShape, now: askedMs, id: askedMs })],
  "lease-release": [8, record({ epoch: epochShape, now: askedMs, id: askedMs })],
});

const refusal = union<Refusal, "reason">("reason", {
  malformed: [1, record({ detail: text })],
  "no-limits": [2, empty],
  "limits-differ": [3, record({ name: oneOf(LIMIT_NAMES), kept: whole(), asked: whole() })],
  "clock-too-far": [4, record({ now: askedMs, highWater: physicalMs, maxClockJumpMs: askedMs })],
  "out-of-range": [5, record({ value: askedMs })],
  "invalid-key": [6, empty],
  "invalid-count": [7, record({ count: whole(), max: whole() })],
  "empty-group": [8, empty],
  "too-many-keys": [9, record({ count: whole(), max: whole() })],
  "duplicate-key": [10, record({ key: text })],
  "key-limit": [11, record({ limit: whole() })],
  "sequence-overflow": [12, record({ key: text, next: u64 })],
  "already-granted": [13, record({ key: text, first: u64, next: u64 })],
  "invalid-holder": [14, record({ length: whole(), max: whole() })],
  "lease-limit": [15, record({ limit: whole() })],
  "stale-holder-epoch": [16, record({ asked: u64, active: u64 })],
  "unknown-lease": [17, record({ id: askedMs })],
  "lease-expired": [18, record({ id: askedMs, expiresAtMs: askedMs })],
  "lease-superseded": [19, record({ id: askedMs, by: u64 })],
});

const groupOutcome = union<GroupOutcome, "type">("type", {
  granted: [1, record({ starts: list(u64) })],
  refused: [2, record({ refusal })],
});

const outcome = union<OracleOutcome, "type">("type", {
  fenced: [1, record({ by: epochShape })],
  refused: [2, record({ refusal })],
  "taken-over": [3, record({ floor: physicalMs, highWater: physicalMs })],
  advanced: [4, record({ highWater: physicalMs })],
  expired: [5, record({ count: whole() })],
  sequence: [6, record({ groups: list(groupOutcome) })],
  "sequence-ready": [7, record({ sequence })],
  lease: [8, record({ lease, highWater: physicalMs })],
  released: [9, empty],
});

/** One change, for whoever keeps changes among things of its own. */
export const changeShape = union<OracleChange, "type">("type", {
  limits: [1, record({ limits })],
  clock: [2, record({ clock: physicalMs })],
  "high-water": [3, record({ highWater: physicalMs })],
  fence: [4, record({ fence: epochShape })],
  sequence: [5, record({ key: text, first: u64, next: u64 })],
  lease: [6, record({ lease })],
  "lease-dropped": [7, record({ id: physicalMs })],
});

/** `index` counts the chunks of one snapshot, so that one that is missing, comes twice or comes early is found. */
type Chunk =
  | { readonly type: "changes"; readonly index: number; readonly changes: readonly OracleChange[] }
  | { readonly type: "end"; readonly index: number };

const chunk = union<Chunk, "type">("type", {
  changes: [1, record({ index: whole(), changes: list(changeShape) })],
  end: [2, record({ index: whole() })],
});

export const commandCodec = createCodec("an oracle command", FORMAT, command);
export const outcomeCodec = createCodec("an oracle outcome", FORMAT, outcome);
export const changesCodec = createCodec("a list of oracle changes", FORMAT, list(changeShape));
const chunkCodec = createCodec("a chunk of an oracle snapshot", FORMAT, chunk);

/** A snapshot is the state as changes, in numbered chunks, and a last chunk that ends it. */
export function* snapshotChunks(changes: Iterable<OracleChange>): Iterable<Uint8Array> {
  let pending: OracleChange[] = [];
  let index = 0;
  for (const next of changes) {
    pending.push(next);
    if (pending.length < CHUNK_CHANGES) continue;
    yield chunkCodec.encode({ type: "changes", index, changes: pending });
    index += 1;
    pending = [];
  }
  if (pending.length > 0) {
    yield chunkCodec.encode({ type: "changes", index, changes: pending });
    index += 1;
  }
  yield chunkCodec.encode({ type: "end", index });
}

/** Takes the chunks of one snapshot, in order. Both throw OracleError TSO_WRONG_FORMAT: `finish` unless the last chunk came. */
export function snapshotReader(onChange: (change: OracleChange) => void): { write(bytes: Uint8Array): void; finish(): void } {
  let expected = 0;
  let ended = false;
  return {
    write: (encoded) => {
      if (ended) throw new OracleError("TSO_WRONG_FORMAT", "something follows the end of an oracle snapshot");
      const decoded = chunkCodec.decode(encoded);
      if (decoded.index !== expected)
        throw new OracleError("TSO_WRONG_FORMAT", `chunk ${decoded.index} of an oracle snapshot came as chunk ${expected}`);
      expected += 1;
      if (decoded.type === "end") ended = true;
      else for (const next of decoded.changes) onChange(next);
    },
    finish: () => {
      if (!ended) throw new OracleError("TSO_WRONG_FORMAT", `an oracle snapshot ends after ${expected} chunks, before its last one`);
    },
  };
}
