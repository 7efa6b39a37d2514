/**
 * Bytes of messages. Entries travel as the records they are stored as. A receiver never meets a message that its type excludes, nor entries that do not follow
 * each other: what the rules rely on within one message is checked here. Whether it fits what the receiver knows is for them.
 */
import { OracleError } from "../../base/errors.ts";
import type { Slot } from "../../base/ids.ts";
import { boolean, bytes, type Codec, createCodec, list, oneOf, optional, record, refined, type Shape, union, whole } from "../../base/shape.ts";
import { randomId } from "./charter.ts";
import { configurationShape, slotShape } from "./configuration.ts";
import { continues, decodeEntry, type Entry } from "./entry.ts";
import { ballotShape, chainShape, cutShape } from "./image-codec.ts";
import type {
  AcceptMessage,
  DiskClaims,
  FetchReplyMessage,
  HeartbeatReplyMessage,
  PaxosMessage,
  PromiseMessage,
  RequestId,
  SyncMessage,
} from "./messages.ts";
import { MESSAGE_BYTES_MAX, MESSAGE_ENTRIES_MAX } from "./options.ts";
import { snapshotMetaShape } from "./snapshot.ts";

/** Of all messages: a peer that does not know one field of a message must not act on the rest. */
const FORMAT = 1;

type Fields<M> = Omit<M, "type">;

const counter = whole();
const requestId = record<RequestId>({ boot: counter, count: counter });
const records = list(bytes, MESSAGE_ENTRIES_MAX);

/** Contiguous, each made to follow the one before it. Read as copies, so an entry that is kept keeps nothing else of its message in memory. */
const entries: Shape<readonly Entry[]> = refined(
  {
    write: (values) => records.write(values.map((entry) => entry.record)),
    read: (raw) => records.read(raw).map(decodeEntry),
  },
  (values) => {
    let previous: Entry | undefined;
    for (const entry of values) {
      const fault = previous && (faultAt(previous.slot, entry) ?? faultOfChain(previous.chain, entry));
      if (fault !== undefined) return fault;
      previous = entry;
    }
    return undefined;
  },
);

const logState = {
  accepted: ballotShape,
  last: slotShape,
  lastOrigin: ballotShape,
  decidedThrough: slotShape,
  decidedOrigin: ballotShape,
  cut: cutShape,
};

type Tail = NonNullable<PromiseMessage["tail"]>;
const tail = refined(record<Tail>({ after: slotShape, entries }), (value) => faultOfStart(value.after, value.entries));

const sync = refined(
  record<Fields<SyncMessage>>({
    ballot: ballotShape,
    base: slotShape,
    baseOrigin: ballotShape,
    entries,
    floor: slotShape,
    decidedThrough: slotShape,
  }),
  ({ base, entries, floor }) => {
    // Less than the whole adopted tail is not Sync: the receiver would vouch for a log that the leader never had (INV-6).
    const through = base + entries.length;
    return faultOfStart(base, entries) ?? (through < floor ? `expected entries through slot ${floor}, got them through ${through}` : undefined);
  },
);

const accept = refined(
  record<Fields<AcceptMessage>>({ ballot: ballotShape, base: slotShape, baseChain: chainShape, entries, decidedThrough: slotShape }),
  ({ base, baseChain, entries: [first] }) => first && (faultAt(base, first) ?? faultOfChain(baseChain, first)),
);

const fetched = refined(
  record<Fields<FetchReplyMessage>>({
    id: requestId,
    after: slotShape,
    entries,
    decidedThrough: slotShape,
    problem: optional(oneOf(["mismatch", "facts-first"])),
    snapshot: optional(snapshotMetaShape),
  }),
  (value) => faultOfStart(value.after, value.entries),
);

const heartbeatReply = record<Fields<HeartbeatReplyMessage>>({
  round: counter,
  promised: ballotShape,
  leader: optional(ballotShape),
  happy: boolean,
  hasRoom: boolean,
  configVersion: counter,
  decidedThrough: slotShape,
  last: slotShape,
  accepted: optional(record({ ballot: ballotShape, through: slotShape, cut: cutShape })),
  readSeq: counter,
  seen: optional(record<DiskClaims>({ promised: ballotShape, accepted: ballotShape, cut: cutShape, last: slotShape })),
});

/** A type's number is its own for ever, and so is the place of every reason in its list. */
const message = union<PaxosMessage, "type">("type", {
  heartbeat: [1, record({ round: counter, ballot: optional(ballotShape), decidedThrough: slotShape, readSeq: counter, configVersion: counter })],
  "heartbeat-reply": [2, heartbeatReply],
  prepare: [3, record({ ballot: ballotShape, decidedThrough: slotShape, accepted: ballotShape, last: slotShape, lastOrigin: ballotShape })],
  promise: [4, record({ ballot: ballotShape, ...logState, compactedThrough: slotShape, configuration: configurationShape, tail: optional(tail) })],
  reject: [
    5,
    record({
      re: ballotShape,
      reason: oneOf(["ballot", "unpromised", "happy", "grace", "stale"]),
      promised: ballotShape,
      decidedThrough: slotShape,
    }),
  ],
  sync: [6, sync],
  "sync-request": [7, record({ ballot: ballotShape, ...logState })],
  accept: [8, accept],
  accepted: [9, record({ ballot: ballotShape, through: slotShape, cut: cutShape })],
  nack: [10, record({ ballot: ballotShape, match: slotShape, reason: oneOf(["gap", "busy"]) })],
  decide: [11, record({ ballot: ballotShape, decidedThrough: slotShape })],
  "catchup-hint": [12, record({ ballot: ballotShape, decidedThrough: slotShape })],
  "fetch-request": [
    13,
    record({
      id: requestId,
      kind: oneOf(["facts", "tail", "snapshot"]),
      ballot: optional(ballotShape),
      after: slotShape,
      afterOrigin: ballotShape,
      maxBytes: counter,
    }),
  ],
  "fetch-reply": [14, fetched],
  "read-request": [15, record({ id: requestId })],
  "read-reply": [16, record({ id: requestId, through: optional(slotShape) })],
  "snapshot-request": [17, record({ snapshot: randomId, position: counter, length: counter })],
  "snapshot-chunk": [18, record({ snapshot: randomId, position: counter, bytes: optional(bytes), crc: chainShape })],
});

const unbounded = createCodec("a paxos message", FORMAT, message);

/**
 * Messages and their bytes. What is decoded shares no memory with the bytes it came from; each entry's `payload` is a view into its `record`, which has a
 * buffer of its own.
 *
 * @throws OracleError TSO_WRONG_FORMAT from both directions, and nothing else: what could not be decoded is not sent.
 */
export const messageCodec: Codec<PaxosMessage> = {
  encode: (value) => bounded(unbounded.encode(value)),
  decode: (encoded) => unbounded.decode(bounded(encoded)),
};

function bounded(encoded: Uint8Array): Uint8Array {
  if (encoded.length > MESSAGE_BYTES_MAX)
    throw new OracleError("TSO_WRONG_FORMAT", `a paxos message of ${encoded.length} bytes is above the limit of ${MESSAGE_BYTES_MAX}`);
  return encoded;
}

/** Where entries say after which slot they come. */
function faultOfStart(after: Slot, [first]: readonly Entry[]): string | undefined {
  return first && faultAt(after, first);
}

function faultAt(after: Slot, entry: Entry): string | undefined {
  return entry.slot === after + 1 ? undefined : `expected an entry at slot ${after + 1}, got one at slot ${entry.slot}`;
}

function faultOfChain(previousChain: number, entry: Entry): string | undefined {
  return continues(previousChain, entry) ? undefined : `expected the entry at slot ${entry.slot} to continue the chain ${previousChain}`;
}
