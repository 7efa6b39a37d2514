/** Every ballot, entry, configuration, image and message that the types allow, whether or not a replica would ever say it. */
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import type { NodeId, Slot } from "../../src/base/ids.ts";
import { invariant } from "../../src/base/invariant.ts";
import type { Codec } from "../../src/base/shape.ts";
import type { Ballot } from "../../src/paxos/core/ballot.ts";
import type { Configuration, Member } from "../../src/paxos/core/configuration.ts";
import { createEntry, decodeEntry, type Entry } from "../../src/paxos/core/entry.ts";
import type { Image } from "../../src/paxos/core/image.ts";
import type { LogState, PaxosMessage } from "../../src/paxos/core/messages.ts";
import type { SnapshotMeta } from "../../src/paxos/core/snapshot.ts";
import { tryDecode } from "./decoding.ts";

/** Lower bounds of the ranges in which numbers are written differently. */
const WIDTHS = [0, 2 ** 7, 2 ** 8, 2 ** 16, 2 ** 31, 2 ** 32, 2 ** 45];

const upTo = (max: number): fc.Arbitrary<number> =>
  fc.oneof(fc.nat(100), fc.integer({ min: 0, max }), fc.constantFrom(max, ...WIDTHS.filter((width) => width < max)));
const counter = upTo(Number.MAX_SAFE_INTEGER);
const u32 = upTo(0xffff_ffff);
const u16 = upTo(0xffff);

const anyNodeId = u32 as fc.Arbitrary<NodeId>;
const anySlot = counter as fc.Arbitrary<Slot>;
/** Few enough that two of them are often the same, or differ in one part alone. */
const fewBallots = fc.record({ round: fc.nat(2), prio: fc.nat(2), node: fc.nat(2) as fc.Arbitrary<NodeId> });

export const anyBallot: fc.Arbitrary<Ballot> = fc.oneof(fewBallots, fc.record({ round: counter, prio: u16, node: anyNodeId }));

const anyText = fc.oneof(fc.string({ unit: "binary", maxLength: 20 }), fc.constantFrom("", "\ufeffa", "10.0.0.1:4321"));
const anyStorageId = fc.string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: 32, maxLength: 32 });
const anyMember: fc.Arbitrary<Member> = fc.record({
  id: fc.integer({ min: 1, max: 0xffff_fffe }) as fc.Arbitrary<NodeId>,
  storageId: anyStorageId,
  role: fc.constantFrom("voter", "learner"),
  address: anyText,
  prio: u16,
});

/** Members in order, each id once, at most seven; any number of voters. */
export const anyConfiguration: fc.Arbitrary<Configuration> = fc
  .tuple(counter, anySlot, fc.uniqueArray(anyMember, { maxLength: 7, selector: ({ id }) => id }))
  .map(([version, slot, members]) => {
    const ordered = members.toSorted((a, b) => a.id - b.id);
    return { version, slot, members: ordered, nextNodeId: ((ordered.at(-1)?.id ?? 0) + 1) as NodeId };
  });

const anyKind = fc.constantFrom("start", "app", "config");
const anyPayload = fc.oneof(
  fc.uint8Array({ maxLength: 20 }),
  fc.nat(300).map((length) => new Uint8Array(length).fill(0xc1)),
);

/** One entry at any slot, behind any other. */
export const anyEntry: fc.Arbitrary<Entry> = fc
  .record({
    slot: fc.oneof(fc.integer({ min: 1, max: 100 }), fc.constant(Number.MAX_SAFE_INTEGER)),
    origin: anyBallot,
    kind: anyKind,
    payload: anyPayload,
    previousChain: u32,
  })
  .map(({ slot, ...rest }) => createEntry({ slot: slot as Slot, ...rest }));

/** A piece of a log: `entries` follow the slot `base`, whose chain is `baseChain`. */
export interface Piece {
  readonly base: Slot;
  readonly baseChain: number;
  readonly entries: readonly Entry[];
}

/** Contiguous and chained entries behind any slot; perhaps none. There is always a slot after them. */
export const anyEntries: fc.Arbitrary<Piece> = fc
  .record({
    base: fc.oneof(upTo(Number.MAX_SAFE_INTEGER - 6), fc.constant(Number.MAX_SAFE_INTEGER - 6)),
    baseChain: u32,
    parts: fc.array(fc.record({ origin: anyBallot, kind: anyKind, payload: anyPayload }), { maxLength: 5 }),
  })
  .map(({ base, baseChain, parts }) => ({ base: base as Slot, baseChain, entries: chained({ base, baseChain, parts }) }));

function chained({
  base,
  baseChain,
  parts,
}: {
  base: number;
  baseChain: number;
  parts: readonly Pick<Entry, "origin" | "kind" | "payload">[];
}): Entry[] {
  const entries: Entry[] = [];
  for (const [index, part] of parts.entries()) {
    entries.push(createEntry({ ...part, slot: (base + 1 + index) as Slot, previousChain: entries.at(-1)?.chain ?? baseChain }));
  }
  return entries;
}

export const anyImage: fc.Arbitrary<Image> = fc.record({
  promised: anyBallot,
  accepted: anyBallot,
  last: anySlot,
  lastOrigin: anyBallot,
  lastChain: u32,
  decidedThrough: anySlot,
  configuration: anyConfiguration,
  cut: u32,
  compactedThrough: anySlot,
  compactedOrigin: anyBallot,
  compactedChain: u32,
});

function anyHex(length: number): fc.Arbitrary<string> {
  return fc
    .array(fc.integer({ min: 0, max: 15 }), { minLength: length, maxLength: length })
    .map((digits) => digits.map((digit) => digit.toString(16)).join(""));
}

const anySnapshotMeta: fc.Arbitrary<SnapshotMeta> = fc.record({
  id: anyHex(32),
  slot: anySlot,
  origin: anyBallot,
  chain: u32,
  configuration: anyConfiguration,
  bytes: counter,
  sha256: anyHex(64),
});

type MessageType = PaxosMessage["type"];
type Fields<Type extends MessageType> = Omit<Extract<PaxosMessage, { readonly type: Type }>, "type">;

const anyId = fc.record({ boot: counter, count: counter });
const claims = fc.record({ promised: anyBallot, accepted: anyBallot, cut: u32, last: anySlot });
const acknowledged = fc.record({ ballot: anyBallot, through: anySlot, cut: u32 });
const logState: { readonly [Name in keyof LogState]: fc.Arbitrary<LogState[Name]> } = {
  accepted: anyBallot,
  last: anySlot,
  lastOrigin: anyBallot,
  decidedThrough: anySlot,
  decidedOrigin: anyBallot,
  cut: u32,
};

const FIELDS: { readonly [Type in MessageType]: fc.Arbitrary<Fields<Type>> } = {
  heartbeat: fc.record(
    { round: counter, ballot: anyBallot, decidedThrough: anySlot, readSeq: counter, configVersion: counter },
    { requiredKeys: ["round", "decidedThrough", "readSeq", "configVersion"] },
  ),
  "heartbeat-reply": fc.record(
    {
      round: counter,
      promised: anyBallot,
      leader: anyBallot,
      happy: fc.boolean(),
      hasRoom: fc.boolean(),
      configVersion: counter,
      decidedThrough: anySlot,
      last: anySlot,
      accepted: acknowledged,
      readSeq: counter,
      seen: claims,
    },
    { requiredKeys: ["round", "promised", "happy", "hasRoom", "configVersion", "decidedThrough", "last", "readSeq"] },
  ),
  prepare: fc.record({ ballot: anyBallot, decidedThrough: anySlot, accepted: anyBallot, last: anySlot, lastOrigin: anyBallot }),
  promise: fc.record(
    {
      ballot: anyBallot,
      ...logState,
      compactedThrough: anySlot,
      configuration: anyConfiguration,
      tail: anyEntries.map(({ base, entries }) => ({ after: base, entries })),
    },
    { requiredKeys: ["ballot", "accepted", "last", "lastOrigin", "decidedThrough", "decidedOrigin", "cut", "compactedThrough", "configuration"] },
  ),
  reject: fc.record({
    re: anyBallot,
    reason: fc.constantFrom("ballot", "unpromised", "happy", "grace", "stale"),
    promised: anyBallot,
    decidedThrough: anySlot,
  }),
  sync: fc
    .tuple(anyEntries, counter, fc.record({ ballot: anyBallot, baseOrigin: anyBallot, decidedThrough: anySlot }))
    .map(([{ base, entries }, floor, rest]) => ({ ...rest, base, entries, floor: Math.min(floor, base + entries.length) as Slot })),
  "sync-request": fc.record({ ballot: anyBallot, ...logState }),
  accept: fc.tuple(anyEntries, fc.record({ ballot: anyBallot, decidedThrough: anySlot })).map(([piece, rest]) => ({ ...rest, ...piece })),
  accepted: acknowledged,
  nack: fc.record({ ballot: anyBallot, match: anySlot, reason: fc.constantFrom("gap", "busy") }),
  decide: fc.record({ ballot: anyBallot, decidedThrough: anySlot }),
  "catchup-hint": fc.record({ ballot: anyBallot, decidedThrough: anySlot }),
  "fetch-request": fc.record(
    { id: anyId, kind: fc.constantFrom("facts", "tail", "snapshot"), ballot: anyBallot, after: anySlot, afterOrigin: anyBallot, maxBytes: counter },
    { requiredKeys: ["id", "kind", "after", "afterOrigin", "maxBytes"] },
  ),
  "fetch-reply": fc
    .tuple(
      anyEntries,
      fc.record(
        { id: anyId, decidedThrough: anySlot, problem: fc.constantFrom("mismatch", "facts-first"), snapshot: anySnapshotMeta },
        { requiredKeys: ["id", "decidedThrough"] },
      ),
    )
    .map(([{ base, entries }, rest]) => ({ ...rest, after: base, entries })),
  "read-request": fc.record({ id: anyId }),
  "read-reply": fc.record({ id: anyId, through: anySlot }, { requiredKeys: ["id"] }),
  "snapshot-request": fc.record({ snapshot: anyHex(32), position: counter, length: counter }),
  "snapshot-chunk": fc.record(
    { snapshot: anyHex(32), position: counter, bytes: anyPayload, crc: u32 },
    { requiredKeys: ["snapshot", "position", "crc"] },
  ),
};

/** Every type of message, in the order of the protocol. */
export const MESSAGE_TYPES = Object.keys(FIELDS) as readonly MessageType[];

export function anyMessageOf(type: MessageType): fc.Arbitrary<PaxosMessage> {
  return (FIELDS[type] as fc.Arbitrary<object>).map((fields) => ({ type, ...fields }) as PaxosMessage);
}

/** Each type as often as any other. */
export const anyMessage: fc.Arbitrary<PaxosMessage> = fc.oneof(...MESSAGE_TYPES.map(anyMessageOf));

/**
 * "refused" by TSO_WRONG_FORMAT, or "decoded" into a value that is well formed, shares no memory with the bytes, and is read again from its own bytes as the
 * very same. Throws otherwise.
 */
export function checkPaxosDecoder<T>(codec: Codec<T>, bytes: Uint8Array): "refused" | "decoded" {
  const decoded = tryDecode(codec, bytes);
  if (decoded === undefined) return "refused";
  checkWellFormed("", decoded.value, bytes.buffer);
  invariant(isDeepStrictEqual(codec.decode(codec.encode(decoded.value)), decoded.value), "a decoded value comes back from its own bytes");
  return "decoded";
}

function checkWellFormed(name: string, value: unknown, source: ArrayBufferLike): void {
  if (typeof value === "number") invariant(Number.isSafeInteger(value) && value >= 0, "a number is whole, from 0 up", { name, value });
  else if (typeof value === "string") invariant(value.isWellFormed(), "a text is well-formed", { name });
  else if (typeof value === "boolean") return;
  else if (value instanceof Uint8Array) {
    invariant(Object.getPrototypeOf(value) === Uint8Array.prototype, "bytes are no Buffer", { name });
    invariant(value.buffer !== source, "bytes are copied", { name });
  } else {
    invariant(typeof value === "object" && value !== null, "a value is a number, text, true or false, bytes, a list or an object", { name });
    if ("record" in value) checkEntry(value as Entry);
    const lists = Object.entries(value).filter(([key]) => key === "entries");
    for (const [, entries] of lists) checkPiece(value, entries as readonly Entry[]);
    for (const [key, part] of Object.entries(value)) checkWellFormed(Array.isArray(value) ? name : key, part, source);
  }
}

function checkEntry(entry: Entry): void {
  invariant(isDeepStrictEqual(decodeEntry(entry.record), entry), "an entry is what its record says", { slot: entry.slot });
}

/** What the codec promises of entries, said a second time and simply. */
function checkPiece(
  anchor: { readonly base?: Slot; readonly after?: Slot; readonly baseChain?: number; readonly floor?: Slot },
  entries: readonly Entry[],
): void {
  const base = anchor.base ?? anchor.after ?? -1;
  for (const [index, { slot, origin, kind, payload, chain }] of entries.entries()) {
    invariant(slot === base + 1 + index, "entries begin after their base and have no gap", { base, index, slot });
    const previousChain = index === 0 ? anchor.baseChain : entries[index - 1]?.chain;
    if (previousChain === undefined) continue;
    invariant(createEntry({ slot, origin, kind, payload, previousChain }).chain === chain, "an entry continues the one before it", { slot });
  }
  invariant(base + entries.length >= (anchor.floor ?? 0), "a sync reaches its floor", { base, floor: anchor.floor });
}
