/** What nodes without a cluster say to each other, and what their disks hold, comes back from its bytes; and what no node may say is refused in both directions. */
import fc from "fast-check";
import { Packr } from "msgpackr";
import { describe, expect, test } from "vitest";
import type { NodeId } from "../../../src/base/ids.ts";
import { type Codec, createCodec } from "../../../src/base/shape.ts";
import { ADDRESS_LENGTH_MAX, type Charter, charterCodec, FOUNDER_ID_MAX } from "../../../src/paxos/core/charter.ts";
import { type FormingMessage, formingCodec, type ListedNode } from "../../../src/paxos/core/forming-messages.ts";
import { type Founding, foundingShape } from "../../../src/paxos/core/founding.ts";
import { fromHex, toHex } from "../../support/decoding.ts";
import { anyConfiguration, checkPaxosDecoder } from "../../support/paxos-values.ts";
import { property } from "../../support/property.ts";

const foundingCodec: Codec<Founding> = createCodec("a founding", 1, foundingShape);

const anyRandomId = fc.string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: 32, maxLength: 32 });
const anyAddress = fc.oneof(fc.string({ unit: "binary", maxLength: 20 }), fc.constantFrom("", "10.0.0.1:4321", "a".repeat(ADDRESS_LENGTH_MAX)));
const anyFounderId = fc.oneof(
  fc.integer({ min: 1, max: 300 }),
  fc.integer({ min: 1, max: FOUNDER_ID_MAX }),
  fc.constant(FOUNDER_ID_MAX),
) as fc.Arbitrary<NodeId>;
const anyFounder = fc.record({ id: anyFounderId, storageId: anyRandomId, address: anyAddress });
const anyCharter: fc.Arbitrary<Charter> = fc.record({
  clusterId: anyRandomId,
  founders: fc
    .uniqueArray(anyFounder, { minLength: 1, maxLength: 7, comparator: (a, b) => a.id === b.id || a.storageId === b.storageId })
    .map((founders) => founders.toSorted((a, b) => a.id - b.id)),
});
const anyListed: fc.Arbitrary<ListedNode> = fc.record({ id: fc.integer({ min: 0, max: 0xffff_ffff }) as fc.Arbitrary<NodeId>, address: anyAddress });

const anyMessage: fc.Arbitrary<FormingMessage> = fc.oneof(
  fc.record(
    { type: fc.constant("form-hello" as const), list: fc.array(anyListed, { maxLength: 7 }), heard: anyRandomId },
    { requiredKeys: ["type", "list"] },
  ),
  fc.record({ type: fc.constant("form-pledge" as const), charter: anyCharter }),
  fc.record({ type: fc.constantFrom("pledged" as const, "conflict" as const), clusterId: anyRandomId }),
  fc.record({ type: fc.constant("formed" as const), charter: anyCharter, configuration: anyConfiguration }),
);
const anyFounding: fc.Arbitrary<Founding> = fc.oneof(
  fc.constant({ type: "unformed" } as const),
  fc.record({ type: fc.constantFrom("pledged" as const, "formed" as const), charter: anyCharter }),
);

checkCodec("a charter", charterCodec, anyCharter);
checkCodec("a forming message", formingCodec, anyMessage);
checkCodec("a founding", foundingCodec, anyFounding);

function checkCodec<T>(what: string, codec: Codec<T>, any: fc.Arbitrary<T>): void {
  describe(what, () => {
    property(
      `${what} comes back from its bytes, and from a Buffer`,
      fc.property(any, (value) => {
        const encoded = codec.encode(value);
        for (const source of [encoded, Buffer.from(encoded)]) expect(codec.decode(source)).toEqual(value);
        expect(checkPaxosDecoder(codec, encoded)).toBe("decoded");
      }),
    );

    property(
      `${what} that is cut short, or goes on, is refused`,
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

const idOf = (letter: string): string => letter.repeat(32);
const founder = (id: number, storageId: string, address = `node-${id}:1`) => ({ id: id as NodeId, storageId, address });

describe("a charter that no disk could pledge is refused, written and read", () => {
  const packer = new Packr({ useRecords: false });
  const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
  /** The bytes that an encoder without checks would write. */
  const unchecked = ({ clusterId, founders }: Charter): Uint8Array =>
    packer.pack([1, [utf8(clusterId), founders.map(({ id, storageId, address }) => [id, utf8(storageId), utf8(address)])]]);

  test("one that is good is read from bytes that were made by hand", () => {
    const good: Charter = { clusterId: idOf("c"), founders: [founder(1, idOf("a")), founder(FOUNDER_ID_MAX, idOf("b"))] };
    expect(charterCodec.decode(unchecked(good))).toEqual(good);
    expect(toHex(charterCodec.encode(good))).toBe(toHex(unchecked(good)));
  });

  test.each<readonly [string, Charter]>([
    ["of nobody", { clusterId: idOf("c"), founders: [] }],
    ["of node 0", { clusterId: idOf("c"), founders: [founder(0, idOf("a"))] }],
    ["of a node after which there is no other", { clusterId: idOf("c"), founders: [founder(FOUNDER_ID_MAX + 1, idOf("a"))] }],
    ["of one node twice", { clusterId: idOf("c"), founders: [founder(1, idOf("a")), founder(1, idOf("b"))] }],
    ["out of order", { clusterId: idOf("c"), founders: [founder(2, idOf("a")), founder(1, idOf("b"))] }],
    ["of one disk twice", { clusterId: idOf("c"), founders: [founder(1, idOf("a")), founder(2, idOf("a"))] }],
    ["of eight", { clusterId: idOf("c"), founders: Array.from({ length: 8 }, (_, index) => founder(index + 1, idOf(`${index}`))) }],
    ["of a disk whose name is short", { clusterId: idOf("c"), founders: [founder(1, "a")] }],
    ["of a cluster whose name is no hex", { clusterId: idOf("g"), founders: [founder(1, idOf("a"))] }],
    ["of a cluster in capitals", { clusterId: idOf("C"), founders: [founder(1, idOf("a"))] }],
    ["with an address that is too long", { clusterId: idOf("c"), founders: [founder(1, idOf("a"), "a".repeat(ADDRESS_LENGTH_MAX + 1))] }],
  ])("%s", (_, charter) => {
    expect(() => charterCodec.encode(charter)).toThrow("TSO_WRONG_FORMAT: expected");
    expect(() => charterCodec.decode(unchecked(charter))).toThrow("TSO_WRONG_FORMAT: a charter is malformed");
    for (const type of ["pledged", "formed"] as const) expect(() => foundingCodec.encode({ type, charter })).toThrow("TSO_WRONG_FORMAT: expected");
    expect(() => formingCodec.encode({ type: "form-pledge", charter })).toThrow("TSO_WRONG_FORMAT: expected");
  });
});

describe("a forming message that no node says is refused", () => {
  test.each<readonly [string, FormingMessage]>([
    ["a list of eight", { type: "form-hello", list: Array.from({ length: 8 }, (_, id) => ({ id: id as NodeId, address: "a:1" })) }],
    ["an address that is too long", { type: "form-hello", list: [{ id: 1 as NodeId, address: "a".repeat(ADDRESS_LENGTH_MAX + 1) }] }],
    ["a disk that has no name", { type: "form-hello", list: [], heard: "" }],
    ["a cluster that has no name", { type: "pledged", clusterId: "" }],
  ])("%s", (_, message) => {
    expect(() => formingCodec.encode(message)).toThrow("TSO_WRONG_FORMAT: expected");
  });
});

/** Nodes of two releases say these to each other: a row that must change is a change of the format, and of its version. */
test("the bytes of every message", () => {
  const charter: Charter = { clusterId: idOf("c"), founders: [founder(1, idOf("a"), "a:1")] };
  const [cluster, disk, address] = [`c420${"63".repeat(32)}`, `c420${"61".repeat(32)}`, "c403613a31"];
  const rows: readonly (readonly [FormingMessage, string])[] = [
    [{ type: "form-hello", list: [{ id: 1 as NodeId, address: "a:1" }] }, `9201920192919201${address}c0`],
    [{ type: "form-hello", list: [], heard: idOf("a") }, `920192019290${disk}`],
    [{ type: "form-pledge", charter }, `920192029192${cluster}919301${disk}${address}`],
    [{ type: "pledged", clusterId: idOf("c") }, `9201920391${cluster}`],
    [{ type: "conflict", clusterId: idOf("c") }, `9201920491${cluster}`],
    [
      { type: "formed", charter, configuration: { version: 0, slot: 0 as never, members: [], nextNodeId: 1 as NodeId } },
      `920192059292${cluster}919301${disk}${address}9400009001`,
    ],
  ];
  for (const [message, hex] of rows) {
    expect(toHex(formingCodec.encode(message))).toBe(hex);
    expect(formingCodec.decode(fromHex(hex))).toEqual(message);
  }
});
