/** What the oracle's rules stand on. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compareUtf8, decodeUtf8Strict, encodeUtf8 } from "../../../src/base/bytes.ts";
import { EPOCH_ZERO, epoch, epochFromParts, epochParts } from "../../../src/base/epoch.ts";
import { ERROR_OUTCOMES, messageOf, OracleError } from "../../../src/base/errors.ts";
import { armFailpoint, failpoint, failpointsArmed } from "../../../src/base/failpoints.ts";
import { slot } from "../../../src/base/ids.ts";
import { InvariantViolation, invariant, unreachable } from "../../../src/base/invariant.ts";
import { wholeOption } from "../../../src/base/options.ts";
import { createPrng } from "../../../src/base/prng.ts";
import { property } from "../../support/property.ts";

const U64_MAX = 2n ** 64n - 1n;
const anyHalf = fc.oneof(fc.bigInt({ min: 0n, max: U64_MAX }), fc.constantFrom(0n, 1n, U64_MAX));

describe("an epoch", () => {
  property(
    "is two halves of 64 bits, ordered by the upper one first",
    fc.property(anyHalf, anyHalf, anyHalf, anyHalf, (hi, lo, otherHi, otherLo) => {
      const [one, other] = [epochFromParts(hi, lo), epochFromParts(otherHi, otherLo)];
      expect(epochParts(one)).toEqual({ hi, lo });
      expect(one < other).toBe(hi < otherHi || (hi === otherHi && lo < otherLo));
      expect(one === other).toBe(hi === otherHi && lo === otherLo);
    }),
  );

  test("that differs in its upper half alone is another epoch", () => {
    expect(epochFromParts(1n, 7n)).not.toBe(epochFromParts(2n, 7n));
    expect(epochFromParts(1n, 0n)).toBe(2n ** 64n);
  });

  test("has 128 bits, and each half 64", () => {
    expect(epoch(2n ** 128n - 1n)).toBe(epochFromParts(U64_MAX, U64_MAX));
    expect(EPOCH_ZERO).toBe(epoch(0n));
    for (const value of [-1n, 2n ** 128n]) expect(() => epoch(value)).toThrow(InvariantViolation);
    for (const half of [-1n, 2n ** 64n]) {
      expect(() => epochFromParts(half, 0n)).toThrow("upper half");
      expect(() => epochFromParts(0n, half)).toThrow("lower half");
    }
  });
});

describe("UTF-8", () => {
  property(
    "of well-formed text comes back",
    fc.property(fc.string({ unit: "binary" }), (text) => {
      expect(decodeUtf8Strict(encodeUtf8(text))).toBe(text);
      expect(decodeUtf8Strict(encodeUtf8(`\ufeff${text}`)), "a byte order mark is text").toBe(`\ufeff${text}`);
    }),
  );

  test.each([
    ["a continuation byte alone", [0x80]],
    ["a character cut short", [0xe2, 0x82]],
    ["a longer form than needed", [0xc0, 0x80]],
    ["a surrogate", [0xed, 0xa0, 0x80]],
    ["beyond U+10FFFF", [0xf4, 0x90, 0x80, 0x80]],
    ["a byte that is in no text", [0x61, 0xff]],
  ])("that is not well-formed is none: %s", (_, bytes) => {
    expect(decodeUtf8Strict(Uint8Array.from(bytes))).toBeUndefined();
  });

  property(
    "orders texts as their bytes are ordered",
    fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (start, a, b) => {
      expect(Math.sign(compareUtf8(start + a, start + b))).toBe(Buffer.compare(Buffer.from(start + a), Buffer.from(start + b)));
    }),
  );

  test("orders a character of two code units above those of one, as code units would not", () => {
    expect(compareUtf8("\u{1f600}", "\uffff")).toBeGreaterThan(0);
  });
});

describe("the seeded generator", () => {
  test("gives the same numbers for the same seed, on every machine", () => {
    const random = createPrng(42);
    expect([random.below(1_000), random.below(1_000), random.below(1_000), random.next()]).toEqual([601, 448, 852, 0.6697340414393693]);
    expect(draw(createPrng(7))).toEqual(draw(createPrng(7)));
    expect(draw(createPrng(7))).not.toEqual(draw(createPrng(8)));
  });

  property(
    "stays below the bound, and meets all of a small one",
    fc.property(fc.nat(), fc.integer({ min: 1, max: 6 }), (seed, bound) => {
      const random = createPrng(seed);
      const seen = new Set(Array.from({ length: 200 }, () => random.below(bound)));
      expect([...seen].sort()).toEqual(Array.from({ length: bound }, (_, value) => value));
    }),
  );

  test("is right about chances, and picks every item", () => {
    const random = createPrng(1);
    const hits = Array.from({ length: 10_000 }, () => random.chance(0.25)).filter(Boolean).length;
    expect(hits).toBeGreaterThan(2_350);
    expect(hits).toBeLessThan(2_650);
    expect(new Set(Array.from({ length: 100 }, () => random.pick(["a", "b", "c"])))).toEqual(new Set(["a", "b", "c"]));
  });

  function draw(random: ReturnType<typeof createPrng>): number[] {
    return Array.from({ length: 10 }, () => random.next());
  }
});

describe("a failpoint", () => {
  test("does nothing until it is armed, and nothing once it is disarmed", async () => {
    expect([failpoint("site"), failpointsArmed()]).toEqual([undefined, false]);
    const disarm = armFailpoint("site", () => Promise.reject(new Error("planted")));
    expect(failpointsArmed()).toBe(true);
    expect(failpoint("another site")).toBeUndefined();
    await expect(failpoint("site")).rejects.toThrow("planted");
    disarm();
    expect([failpoint("site"), failpointsArmed()]).toEqual([undefined, false]);
  });

  test("is armed by one test at a time, and disarmed for itself alone", () => {
    const disarm = armFailpoint("site", () => undefined);
    const disarmOther = armFailpoint("another site", () => undefined);
    expect(() => armFailpoint("site", () => undefined)).toThrow(InvariantViolation);
    disarm();
    expect(failpointsArmed()).toBe(true);
    disarmOther();
    expect(failpointsArmed()).toBe(false);
  });
});

test("a broken invariant says what did not hold, with its details, bigints too", () => {
  expect(() => invariant(false, "two is three", { two: 2n })).toThrow('does not hold: two is three {"two":"2"}');
  expect(() => invariant(true, "two is two")).not.toThrow();
  expect(() => unreachable("surprise" as never)).toThrow('every case is handled {"value":"surprise"}');
});

test("a slot is a whole number from 0 up", () => {
  expect(slot(0)).toBe(0);
  for (const value of [-1, 1.5, Number.NaN, 2 ** 53]) expect(() => slot(value)).toThrow(InvariantViolation);
});

test("an option out of its range is refused, with its name and range", () => {
  expect(wholeOption("heartbeatTicks", 3, { from: 1, through: 3 })).toBe(3);
  for (const value of [0, 4, 1.5, Number.NaN]) {
    expect(() => wholeOption("heartbeatTicks", value, { from: 1, through: 3 })).toThrow(
      `TSO_INVALID_OPTION: heartbeatTicks ${value} must be a whole number from 1 to 3`,
    );
  }
});

test("an error knows whether the work may still happen, and begins with its code", () => {
  const error = new OracleError("TSO_STORAGE", "the disk is full", { cause: new Error("ENOSPC") });
  expect([error.outcome, error.message, messageOf(error.cause)]).toEqual([ERROR_OUTCOMES.TSO_STORAGE, "TSO_STORAGE: the disk is full", "ENOSPC"]);
  expect(messageOf("no error at all")).toBe("no error at all");
});
