import fc from "fast-check";
import { Packr } from "msgpackr";
import { describe, expect, test } from "vitest";
import type { Slot } from "../../../src/base/ids.ts";
import type { Codec } from "../../../src/base/shape.ts";
import { BALLOT_ZERO } from "../../../src/paxos/core/ballot.ts";
import { configurationCodec } from "../../../src/paxos/core/configuration.ts";
import { continues, createEntry, decodeEntry, type Entry } from "../../../src/paxos/core/entry.ts";
import { imageCodec } from "../../../src/paxos/core/image-codec.ts";
import { messageCodec } from "../../../src/paxos/core/message-codec.ts";
import type { PaxosMessage } from "../../../src/paxos/core/messages.ts";
import { MESSAGE_BYTES_MAX, MESSAGE_ENTRIES_MAX } from "../../../src/paxos/core/options.ts";
import { fromHex, toHex } from "../../support/decoding.ts";
import {
  anyConfiguration,
  anyEntries,
  anyEntry,
  anyImage,
  anyMessage,
  anyMessageOf,
  checkPaxosDecoder,
  MESSAGE_TYPES,
  type Piece,
} from "../../support/paxos-values.ts";
import { property } from "../../support/property.ts";

for (const type of MESSAGE_TYPES) {
  property(
    `a message of type ${type} comes back from its bytes`,
    fc.property(anyMessageOf(type), (message) => {
      const encoded = messageCodec.encode(message);
      for (const source of [encoded, Buffer.from(encoded)]) expect(messageCodec.decode(source)).toEqual(message);
    }),
  );
}

checkCodec("a message", messageCodec, anyMessage);
checkCodec("an image", imageCodec, anyImage);
checkCodec("a configuration", configurationCodec, anyConfiguration);

property(
  "an entry comes back from its record",
  fc.property(anyEntry, (entry) => {
    expect(decodeEntry(entry.record)).toEqual(entry);
  }),
);

property(
  "each of several entries continues the one before it, and none of the others",
  fc.property(anyEntries, ({ baseChain, entries }) => {
    const chains = [baseChain, ...entries.map(({ chain }) => chain)];
    for (const [index, entry] of entries.entries()) {
      chains.forEach((chain, after) => {
        expect(continues(chain, entry)).toBe(chain === chains[index] || after === index);
      });
    }
  }),
);

/** Messages that carry entries, and what the bytes of each say: only so can bytes be made that no encoder would write. */
const ballot = { round: 1, prio: 0, node: 1 };
const configuration = { version: 0, slot: 0, members: [], nextNodeId: 1 };
const state = { accepted: ballot, last: 0, lastOrigin: ballot, decidedThrough: 0, decidedOrigin: ballot, cut: 0 };
const [b, none] = [
  [1, 0, 1],
  [0, 0, [], 1],
];
const CARRIERS: readonly (readonly [type: PaxosMessage["type"], message: (piece: Piece) => object, raw: (piece: Piece) => unknown])[] = [
  [
    "promise",
    ({ base, entries }) => ({ ballot, ...state, compactedThrough: 0, configuration, tail: { after: base, entries } }),
    ({ base, entries }) => [4, [b, b, 0, b, 0, b, 0, 0, none, [base, recordsOf(entries)]]],
  ],
  [
    "sync",
    ({ base, entries }) => ({ ballot, base, baseOrigin: ballot, entries, floor: base, decidedThrough: 0 }),
    ({ base, entries }) => [6, [b, base, b, recordsOf(entries), base, 0]],
  ],
  [
    "accept",
    (piece) => ({ ballot, ...piece, decidedThrough: 0 }),
    ({ base, baseChain, entries }) => [8, [b, base, baseChain, recordsOf(entries), 0]],
  ],
  [
    "fetch-reply",
    ({ base, entries }) => ({ id: { boot: 1, count: 1 }, after: base, entries, decidedThrough: 0 }),
    ({ base, entries }) => [14, [[1, 1], base, recordsOf(entries), 0, null, null]],
  ],
];
const packer = new Packr({ useRecords: false });

describe.each(CARRIERS)("entries in a message of type %s", (type, messageOf, raw) => {
  const encodeUnchecked = (piece: Piece): Uint8Array => packer.pack([1, raw(piece)]);
  const refused = (piece: Piece): void => {
    expect(() => messageCodec.encode({ type, ...messageOf(piece) } as PaxosMessage)).toThrow("TSO_WRONG_FORMAT: expected");
    expect(() => messageCodec.decode(encodeUnchecked(piece))).toThrow("TSO_WRONG_FORMAT: a paxos message is malformed");
  };

  property(
    `follow what the ${type} says they follow, and each other, or are refused`,
    fc.property(
      anyEntries.filter(({ entries }) => entries.length >= 3),
      fc.nat(),
      (piece, drawn) => {
        const { base, entries } = piece;
        expect(messageCodec.decode(encodeUnchecked(piece)), "in order they are read").toEqual({ type, ...messageOf(piece) });

        refused({ ...piece, base: (base + 1) as Slot });
        if (base > 0) refused({ ...piece, base: (base - 1) as Slot });
        const at = drawn % entries.length;
        refused({ ...piece, entries: entries.toReversed() });
        refused({ ...piece, entries: entries.toSpliced(at, 0, ...entries.slice(at, at + 1)) });
        if (at < entries.length - 1) refused({ ...piece, entries: entries.toSpliced(at, 1) });
        // From some entry on: of another log, or one slot on in this one. Only an Accept says what its first entry follows.
        if (at > 0 || type === "accept") refused({ ...piece, entries: rebuilt(piece, { at, flip: 1, skip: 0 }) });
        refused({ ...piece, entries: rebuilt(piece, { at, flip: 0, skip: 1 }) });
      },
    ),
  );

  property(
    `are refused in the ${type} where any of their bits is flipped`,
    fc.property(
      anyEntries.filter(({ entries }) => entries.length >= 1),
      fc.nat(),
      fc.nat(),
      (piece, drawn, bit) => {
        const at = drawn % piece.entries.length;
        const damaged = piece.entries.map((entry, index) => {
          if (index !== at) return entry;
          const place = (bit >> 3) % entry.record.length;
          return { ...entry, record: entry.record.map((byte, i) => (i === place ? byte ^ (1 << (bit & 7)) : byte)) };
        });
        expect(() => messageCodec.decode(encodeUnchecked({ ...piece, entries: damaged }))).toThrow("TSO_WRONG_FORMAT: a paxos message is malformed");
      },
    ),
  );

  test("are refused where there are too many, and the limit is named", () => {
    const crowd = new Array<Entry>(MESSAGE_ENTRIES_MAX + 1).fill(
      createEntry({ slot: 1 as Slot, origin: BALLOT_ZERO, kind: "app", payload: new Uint8Array(), previousChain: 0 }),
    );
    const piece: Piece = { base: 0 as Slot, baseChain: 0, entries: crowd };
    const why = `expected a list of at most ${MESSAGE_ENTRIES_MAX}, got a list of ${MESSAGE_ENTRIES_MAX + 1}`;
    const cause = expect.objectContaining({ message: expect.stringContaining(why) });
    expect(() => messageCodec.decode(encodeUnchecked(piece))).toThrow(expect.objectContaining({ cause }));
  });
});

test("a Sync that ends before the tail that was adopted is refused (INV-6)", () => {
  const sync = (floor: number): PaxosMessage =>
    ({ type: "sync", ballot, base: 4, baseOrigin: ballot, entries: [], floor, decidedThrough: 0 }) as unknown as PaxosMessage;
  expect(messageCodec.decode(messageCodec.encode(sync(4)))).toEqual(sync(4));
  expect(() => messageCodec.encode(sync(5))).toThrow("TSO_WRONG_FORMAT: expected entries through slot 5, got them through 4");
  expect(() => messageCodec.decode(packer.pack([1, [6, [b, 4, b, [], 5, 0]]]))).toThrow("TSO_WRONG_FORMAT: a paxos message is malformed");
});

test("a message that is too long is refused before it is read, and the limit is named", () => {
  const why = `a paxos message of ${MESSAGE_BYTES_MAX + 1} bytes is above the limit of ${MESSAGE_BYTES_MAX}`;
  expect(() => messageCodec.decode(new Uint8Array(MESSAGE_BYTES_MAX + 1))).toThrow(`TSO_WRONG_FORMAT: ${why}`);
});

describe("a number, a reason or a type outside its range is refused, sent and received", () => {
  const most = Number.MAX_SAFE_INTEGER;
  const raw = (message: unknown) => packer.pack([1, message]);
  const decide = (round: unknown, prio: unknown, node: unknown, through: unknown) => raw([11, [[round, prio, node], through]]);

  test("as far as the range goes, it is read", () => {
    const edge = { type: "decide", ballot: { round: most, prio: 0xffff, node: 0xffff_ffff }, decidedThrough: most };
    expect(messageCodec.decode(decide(most, 0xffff, 0xffff_ffff, most))).toEqual(edge);
  });

  test.each<readonly [string, Uint8Array]>([
    ["a round of 54 bits", decide(most + 1, 0, 1, 1)],
    ["a round that is a fraction", decide(0.5, 0, 1, 1)],
    ["a round in 64 bits", decide(2n ** 40n, 0, 1, 1)],
    ["a negative round", decide(-1, 0, 1, 1)],
    ["a prio of 17 bits", decide(1, 0x1_0000, 1, 1)],
    ["a node of 33 bits", decide(1, 0, 0x1_0000_0000, 1)],
    ["a slot below 0", decide(1, 0, 1, -1)],
    ["no ballot", raw([11, [null, 1]])],
    ["a field too few", raw([11, [b]])],
    ["a field too many", raw([11, [b, 1, null]])],
    ["a type that nobody knows", raw([0, [b, 1]])],
    ["a type after the last", raw([17, [b, 1]])],
    ["a reason that nobody knows", raw([5, [b, 5, b, 0]])],
    ["a cut of 33 bits", raw([9, [b, 1, 0x1_0000_0000]])],
    ["a chain of 33 bits", raw([8, [b, 1, 0x1_0000_0000, [], 0]])],
    ["a number for a boolean", raw([2, [1, b, null, 1, 0, 0, 0, null, 0, null]])],
    ["a text for a record", raw([8, [b, 0, 0, ["a record"], 0]])],
    ["one record for a list", raw([8, [b, 0, 0, new Uint8Array(38), 0]])],
    ["a role that nobody knows", raw([4, [b, b, 0, b, 0, b, 0, 0, [0, 0, [[1, new Uint8Array(), 2, new Uint8Array(), 0]], 1], null]])],
  ])("%s", (_, bytes) => {
    expect(() => messageCodec.decode(bytes)).toThrow("TSO_WRONG_FORMAT: a paxos message is malformed");
  });

  test.each([{ round: most + 1 }, { round: -1 }, { prio: 0x1_0000 }, { node: 0x1_0000_0000 }, { node: 0.5 }])("%o is not sent", (part) => {
    const message = { type: "decide", ballot: { ...ballot, ...part }, decidedThrough: 0 } as unknown as PaxosMessage;
    expect(() => messageCodec.encode(message)).toThrow("TSO_WRONG_FORMAT: expected a whole number");
  });
});

test("what is decoded keeps nothing of the bytes it came from, and one entry nothing of another", () => {
  const [first] = fc.sample(
    anyEntries.filter(({ entries }) => entries.length === 3),
    { numRuns: 1, seed: 1 },
  );
  if (first === undefined) throw new Error("a sample of one has one");
  const message = { type: "accept", ballot, ...first, decidedThrough: 0 } as unknown as PaxosMessage;
  const encoded = messageCodec.encode(message);
  const decoded = messageCodec.decode(encoded);
  encoded.fill(0);
  expect(decoded).toEqual(message);
  const buffers = decoded.type === "accept" ? decoded.entries.map(({ record }) => record.buffer) : [];
  expect(new Set(buffers).size).toBe(3);
  expect(buffers.map(({ byteLength }) => byteLength)).toEqual(first.entries.map(({ record }) => record.length));
});

/** The entries of `piece`, those from `at` on made anew: `skip` slots later, and after an entry whose chain differs in the bits of `flip`. */
function rebuilt({ baseChain, entries }: Piece, { at, flip, skip }: { readonly at: number; readonly flip: number; readonly skip: number }): Entry[] {
  const result = entries.slice(0, at);
  for (const { slot, ...entry } of entries.slice(at)) {
    const before = result.at(-1)?.chain ?? baseChain;
    const previousChain = result.length === at ? (before ^ flip) >>> 0 : before;
    result.push(createEntry({ ...entry, slot: (slot + skip) as Slot, previousChain }));
  }
  return result;
}

function recordsOf(entries: readonly Entry[]): readonly Uint8Array[] {
  return entries.map(({ record }) => record);
}

function checkCodec<T>(what: string, codec: Codec<T>, any: fc.Arbitrary<T>): void {
  describe(what, () => {
    property(
      `${what} comes back from its bytes, which depend on nothing else`,
      fc.property(any, any, (value, other) => {
        const encoded = toHex(codec.encode(value));
        codec.encode(other);
        expect(toHex(codec.encode(value))).toBe(encoded);
        expect(codec.decode(fromHex(encoded))).toEqual(value);
        expect(checkPaxosDecoder(codec, fromHex(encoded))).toBe("decoded");
      }),
    );

    property(
      `${what} that is cut short is refused`,
      fc.property(any, fc.array(fc.nat(), { minLength: 1, maxLength: 10 }), (value, lengths) => {
        const encoded = codec.encode(value);
        for (const length of lengths) expect(checkPaxosDecoder(codec, encoded.subarray(0, length % encoded.length))).toBe("refused");
        expect(checkPaxosDecoder(codec, Uint8Array.of(...encoded, 0))).toBe("refused");
      }),
    );

    property(
      `${what} with flipped bits, or noise, is refused, or read as another`,
      fc.property(any, fc.array(fc.nat(), { minLength: 1, maxLength: 3 }), fc.uint8Array({ maxLength: 60 }), (value, places, noise) => {
        const flipped = new Uint8Array(codec.encode(value));
        for (const place of places) flipped.set([(flipped[(place >> 3) % flipped.length] ?? 0) ^ (1 << (place & 7))], (place >> 3) % flipped.length);
        checkPaxosDecoder(codec, flipped);
        checkPaxosDecoder(codec, Uint8Array.of(0x92, 1, ...noise));
      }),
    );

    property(
      `${what} of a later format is refused, and the format is named`,
      fc.property(any, fc.integer({ min: 2, max: 0x7f }), (value, format) => {
        const later = new Uint8Array(codec.encode(value));
        later[1] = format;
        expect(() => codec.decode(later)).toThrow(new RegExp(`^TSO_WRONG_FORMAT: .* has format ${format}, and this release reads up to 1$`));
      }),
    );
  });
}
