import fc from "fast-check";
import { expect, test } from "vitest";
import { OracleError } from "../../../src/base/errors.ts";
import {
  GRANT_COUNT_MAX,
  LOGICAL_MAX,
  logicalOf,
  PHYSICAL_MS_MAX,
  packTimestamp,
  physicalMsOf,
  timestamp,
} from "../../../src/oracle/rules/timestamp.ts";
import { property } from "../../support/property.ts";

const anyParts = fc.record({ physicalMs: fc.integer({ min: 0, max: PHYSICAL_MS_MAX }), logical: fc.integer({ min: 0, max: LOGICAL_MAX }) });

test("a timestamp is the milliseconds since 1970, then 18 bits of logical number", () => {
  expect(packTimestamp({ physicalMs: 0, logical: 0 })).toBe(0n);
  expect(packTimestamp({ physicalMs: 0, logical: 1 })).toBe(1n);
  expect(packTimestamp({ physicalMs: 1, logical: 0 })).toBe(262_144n);
  expect(packTimestamp({ physicalMs: 1_700_000_000_000, logical: 5 })).toBe(445_644_800_000_000_005n);
});

test("the two parts fill 64 bits, and reach the year 4199", () => {
  expect(packTimestamp({ physicalMs: PHYSICAL_MS_MAX, logical: LOGICAL_MAX })).toBe(2n ** 64n - 1n);
  expect(new Date(PHYSICAL_MS_MAX).getUTCFullYear()).toBe(4199);
  expect(GRANT_COUNT_MAX, "a whole millisecond").toBe(LOGICAL_MAX + 1);
});

property(
  "the parts come back",
  fc.property(anyParts, (parts) => {
    const packed = packTimestamp(parts);
    expect({ physicalMs: physicalMsOf(packed), logical: logicalOf(packed) }).toEqual(parts);
  }),
);

property(
  "packed timestamps are ordered as their parts are: first by physical, then by logical",
  fc.property(anyParts, anyParts, (a, b) => {
    const expected = a.physicalMs - b.physicalMs || a.logical - b.logical;
    const [packedA, packedB] = [packTimestamp(a), packTimestamp(b)];
    expect(packedA < packedB).toBe(expected < 0);
    expect(packedA === packedB).toBe(expected === 0);
  }),
);

test.each([
  { physicalMs: PHYSICAL_MS_MAX + 1, logical: 0 },
  { physicalMs: -1, logical: 0 },
  { physicalMs: 1.5, logical: 0 },
  { physicalMs: Number.NaN, logical: 0 },
  { physicalMs: 0, logical: LOGICAL_MAX + 1 },
  { physicalMs: 0, logical: -1 },
  { physicalMs: 0, logical: 0.5 },
])("parts out of range are refused, and named: $physicalMs, $logical", (parts) => {
  const name = parts.logical === 0 ? "physicalMs" : "logical";
  expect(() => packTimestamp(parts)).toThrow(`TSO_INVALID_ARGUMENT: ${name}`);
});

test("any unsigned 64-bit number is a timestamp, and no other", () => {
  for (const value of [0n, 1n, 2n ** 64n - 1n]) expect(timestamp(value)).toBe(value);
  for (const value of [-1n, 2n ** 64n]) expect(() => timestamp(value)).toThrow(OracleError);
});
