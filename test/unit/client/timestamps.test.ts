import fc from "fast-check";
import { expect, test } from "vitest";
import { Timestamps } from "../../../src/client/index.ts";
import { LOGICAL_MAX, PHYSICAL_MS_MAX, timestamp } from "../../../src/oracle/rules/timestamp.ts";
import { property } from "../../support/property.ts";

const anyParts = fc.record({ physicalMs: fc.integer({ min: 0, max: PHYSICAL_MS_MAX }), logical: fc.integer({ min: 0, max: LOGICAL_MAX }) });
const anyTimestamp = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(timestamp);

property(
  "a timestamp comes back from its parts",
  fc.property(anyParts, (parts) => {
    const value = Timestamps.fromParts(parts);
    expect({ physicalMs: Timestamps.physicalMs(value), logical: Timestamps.logical(value) }).toEqual(parts);
    expect(Timestamps.toDate(value).getTime()).toBe(parts.physicalMs);
  }),
);

property(
  "texts come back, and sort as timestamps do",
  fc.property(anyTimestamp, anyTimestamp, (a, b) => {
    expect(Timestamps.fromText(Timestamps.toText(a))).toBe(a);
    expect(Timestamps.toText(a) < Timestamps.toText(b)).toBe(a < b);
  }),
);

test("any bigint of 64 bits is a timestamp", () => {
  expect(Timestamps.of(42n)).toBe(42n);
  expect(Timestamps.physicalMs((1n << 18n) + 1n)).toBe(1);
  for (const value of [-1n, 2n ** 64n]) {
    for (const take of [Timestamps.of, Timestamps.toText, Timestamps.toDate, Timestamps.logical]) {
      expect(() => take(value)).toThrow(`TSO_INVALID_ARGUMENT: timestamp ${value} must be from 0 to 2^64-1`);
    }
  }
});

test("text is twenty digits", () => {
  expect(Timestamps.toText(timestamp(0n))).toBe("00000000000000000000");
  expect(Timestamps.toText(timestamp(2n ** 64n - 1n))).toBe("18446744073709551615");
  expect(Timestamps.fromText("42")).toBe(42n);
});

test.each(["", "-1", "1.0", "0x10", " 1", "1e3", "123456789012345678901", "99999999999999999999", "١"])("%j is no timestamp", (text) => {
  expect(() => Timestamps.fromText(text)).toThrow(expect.objectContaining({ code: "TSO_INVALID_ARGUMENT" }));
});

test.each([
  { physicalMs: -1, logical: 0 },
  { physicalMs: PHYSICAL_MS_MAX + 1, logical: 0 },
  { physicalMs: 0.5, logical: 0 },
  { physicalMs: 0, logical: LOGICAL_MAX + 1 },
  { physicalMs: Number.NaN, logical: 0 },
])("$physicalMs and $logical are no parts of a timestamp", (parts) => {
  expect(() => Timestamps.fromParts(parts)).toThrow(expect.objectContaining({ code: "TSO_INVALID_ARGUMENT" }));
});

test("JSON has a timestamp as text", () => {
  const value = Timestamps.fromParts({ physicalMs: 1_795_377_059_116, logical: 7 });
  expect(JSON.stringify({ at: value, n: 1 }, Timestamps.bigintsAsText)).toBe(`{"at":"${value}","n":1}`);
});
