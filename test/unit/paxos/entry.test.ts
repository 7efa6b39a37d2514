/** Records are on disks and on the wire between releases: a row that must change is a change of both formats. */
import { crc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { InvariantViolation } from "../../../src/base/invariant.ts";
import { continues, createEntry, decodeEntry, type NewEntry, PAYLOAD_BYTES_MAX, RECORD_OVERHEAD } from "../../../src/paxos/core/entry.ts";
import { fromHex, toHex } from "../../support/decoding.ts";

const fields = (values: object): NewEntry => values as NewEntry;
const origin = { round: 2 ** 32 + 5, prio: 0x0102, node: 0x0a0b0c0d };
const start = fields({ slot: 1, origin: { round: 1, prio: 0, node: 1 }, kind: "start", payload: new Uint8Array(), previousChain: 0 });
const app = fields({ slot: 2, origin, kind: "app", payload: Uint8Array.of(0xff, 0, 1), previousChain: 0x25668e9c });
const config = fields({ slot: Number.MAX_SAFE_INTEGER, origin, kind: "config", payload: Uint8Array.of(7), previousChain: 0xffff_ffff });

/** Computed by another program, from the format's description. Magic, kind, flags | slot | round | prio | node | length | payload | chain | checksum. */
const GOLDEN: readonly (readonly [name: string, fields: NewEntry, hex: string])[] = [
  ["start", start, "e7000000 0100000000000000 0100000000000000 0000 01000000 00000000 9c8e6625 6cfef841"],
  ["app", app, "e7010000 0200000000000000 0500000001000000 0201 0d0c0b0a 03000000 ff0001 c25e19ea 7ba93eef"],
  ["config", config, "e7020000 ffffffffffff1f00 0500000001000000 0201 0d0c0b0a 01000000 07 7ef98e82 a41176cb"],
];

describe.each(GOLDEN)("a record of kind %s", (_, values, spaced) => {
  const hex = spaced.replaceAll(" ", "");

  test("has these bytes", () => {
    const entry = createEntry(values);
    expect(toHex(entry.record)).toBe(hex);
    expect(decodeEntry(fromHex(hex))).toEqual(entry);
    const { previousChain, ...said } = values;
    expect(entry).toMatchObject(said);
    expect(entry.record).toHaveLength(RECORD_OVERHEAD + said.payload.length);
  });

  test("is refused with any bit flipped", () => {
    for (let bit = 0; bit < 4 * hex.length; bit++) {
      const flipped = fromHex(hex).map((byte, index) => (index === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
      expect(() => decodeEntry(flipped), `bit ${bit}`).toThrow("TSO_WRONG_FORMAT: not a log record: ");
    }
  });

  test("is refused cut short, and with anything after it or before it", () => {
    for (let length = 0; length < hex.length / 2; length++) {
      expect(() => decodeEntry(fromHex(hex).subarray(0, length)), `${length} bytes`).toThrow("TSO_WRONG_FORMAT: not a log record: ");
    }
    for (const other of [`${hex}00`, `00${hex}`, hex + hex]) expect(() => decodeEntry(fromHex(other))).toThrow("TSO_WRONG_FORMAT");
  });

  test("continues the chain it was made to follow, and no other", () => {
    const entry = decodeEntry(fromHex(hex));
    expect(continues(values.previousChain, entry)).toBe(true);
    for (let bit = 0; bit < 32; bit++) expect(continues((values.previousChain ^ (1 << bit)) >>> 0, entry), `bit ${bit}`).toBe(false);
  });
});

test("a chain stands for everything before it: one other byte, and no later entry continues it", () => {
  const log = (first: number) => {
    const payloads = [Uint8Array.of(first), Uint8Array.of(2), Uint8Array.of(3)];
    let previousChain = 0;
    return payloads.map((payload, index) => {
      const entry = createEntry(fields({ slot: index + 1, origin, kind: "app", payload, previousChain }));
      previousChain = entry.chain;
      return entry;
    });
  };
  const [ours, theirs] = [log(1), log(9)];
  for (const [index, entry] of ours.entries()) expect(entry.chain).not.toBe(theirs[index]?.chain);
  const [first, second, third] = ours;
  expect(second && third && continues(second.chain, third)).toBe(true);
  expect(first && third && continues(first.chain, third), "with one left out").toBe(false);
});

describe("a record whose checksum is right, and that means nothing, is refused", () => {
  test.each([
    ["a kind that nobody knows", 1, "03", "kind 3 is none of start, app, config"],
    ["flags", 2, "0001", "its flags are not 0"],
    ["the slot before the log", 4, "0000000000000000", "its slot is 0"],
    ["a slot of 54 bits", 4, "0000000000002000", "a number at byte 4 is above 2^53-1"],
    ["a round of 54 bits", 12, "0000000000002000", "a number at byte 12 is above 2^53-1"],
  ])("%s", (_, at, hex, why) => {
    const record = new Uint8Array(createEntry(app).record);
    record.set(fromHex(hex), at);
    new DataView(record.buffer).setUint32(record.length - 4, crc32(record.subarray(0, -4)), true);
    expect(() => decodeEntry(record)).toThrow(`TSO_WRONG_FORMAT: not a log record: ${why}`);
  });
});

test("a record is its own copy of the payload, and what is decoded is a view into what it was decoded from", () => {
  const payload = Uint8Array.of(1, 2, 3);
  const { record, ...entry } = createEntry({ ...app, payload });
  payload.fill(0);
  expect([...entry.payload]).toEqual([1, 2, 3]);
  expect(entry.payload.buffer).toBe(record.buffer);

  const among = new Uint8Array(100).fill(0xaa);
  among.set(record, 7);
  const found = decodeEntry(among.subarray(7, 7 + record.length));
  expect([...found.payload]).toEqual([1, 2, 3]);
  expect(found.payload.buffer).toBe(among.buffer);
});

test("a payload of the largest size fits a record, one byte more does not", () => {
  const payload = new Uint8Array(PAYLOAD_BYTES_MAX + 1);
  const { record } = createEntry({ ...app, payload: payload.subarray(1) });
  expect(decodeEntry(record).payload).toHaveLength(PAYLOAD_BYTES_MAX);
  expect(() => createEntry({ ...app, payload })).toThrow(InvariantViolation);
});
