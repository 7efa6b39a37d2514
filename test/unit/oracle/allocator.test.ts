import { expect, test } from "vitest";
import { epoch } from "../../../src/base/epoch.ts";
import { InvariantViolation } from "../../../src/base/invariant.ts";
import { Allocator, type Grant } from "../../../src/oracle/rules/allocator.ts";
import { GRANT_COUNT_MAX, PHYSICAL_MS_MAX } from "../../../src/oracle/rules/timestamp.ts";

const reign = { epoch: epoch(1n), floor: 1_000, highWater: 2_000 };

test("grants begin at the floor and follow the clock", () => {
  const allocator = leading();
  expect(granted(allocator, 3, 0)).toEqual({ physicalMs: 1_000, logicalStart: 0, count: 3 });
  expect(granted(allocator, 2, 1_000)).toEqual({ physicalMs: 1_000, logicalStart: 3, count: 2 });
  expect(granted(allocator, 1, 1_500)).toEqual({ physicalMs: 1_500, logicalStart: 0, count: 1 });
});

test("a clock that goes back costs nothing: the window goes on by logical numbers", () => {
  const allocator = leading();
  granted(allocator, 1, 1_500);
  expect(granted(allocator, 1, 3)).toEqual({ physicalMs: 1_500, logicalStart: 1, count: 1 });
});

test("a grant that would straddle two milliseconds begins with the next one", () => {
  const allocator = leading();
  granted(allocator, GRANT_COUNT_MAX - 1, 0);
  expect(granted(allocator, 2, 0)).toEqual({ physicalMs: 1_001, logicalStart: 0, count: 2 });
});

test("a grant that fills its millisecond leaves the next one whole", () => {
  const allocator = leading();
  granted(allocator, 1, 0);
  expect(granted(allocator, GRANT_COUNT_MAX - 1, 0)).toEqual({ physicalMs: 1_000, logicalStart: 1, count: GRANT_COUNT_MAX - 1 });
  expect(allocator.remainingMs(0), "from 1,001 on").toBe(999);
  expect(granted(allocator, GRANT_COUNT_MAX, 0)).toEqual({ physicalMs: 1_001, logicalStart: 0, count: GRANT_COUNT_MAX });
});

test("the last millisecond of the window is granted from, the one after it is not", () => {
  const allocator = leading();
  granted(allocator, GRANT_COUNT_MAX - 1, 2_000);
  expect(allocator.grant(2, 2_000)).toEqual({ type: "window-exhausted" });
  expect(allocator.grant(1, 2_001), "a clock beyond the window").toEqual({ type: "window-exhausted" });
  expect(granted(allocator, 1, 2_000)).toEqual({ physicalMs: 2_000, logicalStart: GRANT_COUNT_MAX - 1, count: 1 });
  expect(allocator.remainingMs(0), "used up").toBe(-1);
});

test("the end of the range is told from the end of the window", () => {
  const allocator = new Allocator();
  allocator.lead({ epoch: epoch(1n), floor: PHYSICAL_MS_MAX, highWater: PHYSICAL_MS_MAX });
  granted(allocator, GRANT_COUNT_MAX, 0);
  expect(allocator.grant(1, 0)).toEqual({ type: "out-of-range", physicalMs: PHYSICAL_MS_MAX + 1 });
});

test("nothing is granted, and nothing is safe, while not leading", () => {
  const allocator = leading();
  allocator.clear();
  expect(allocator.grant(1, 1_500)).toEqual({ type: "not-leading" });
  expect([allocator.epoch, allocator.highWater, allocator.safePoint(1_500, 10), allocator.remainingMs(0)]).toEqual([undefined, 0, 0, 0]);
  expect(allocator.extend(reign.epoch, 3_000)).toBe(false);
  expect(() => allocator.extensionTarget(0, 10)).toThrow(InvariantViolation);
});

test("a window is extended by a higher water mark of its own reign only", () => {
  const allocator = leading();
  expect(allocator.extend(epoch(2n), 3_000), "of another reign").toBe(false);
  expect(allocator.extend(reign.epoch, 2_000), "known already").toBe(false);
  expect(allocator.extend(reign.epoch, 3_000)).toBe(true);
  expect([allocator.epoch, allocator.highWater]).toEqual([reign.epoch, 3_000]);
  expect(granted(allocator, 1, 3_000).physicalMs).toBe(3_000);
});

test("the window to ask for reaches ahead of the clock and of the last grant, and always beyond the present one", () => {
  const allocator = leading();
  expect(allocator.extensionTarget(0, 5_000), "ahead of the next grant").toBe(6_000);
  expect(allocator.extensionTarget(1_800, 5_000), "ahead of the clock").toBe(6_800);
  expect(allocator.extensionTarget(1_000, 10), "beyond the present one").toBe(2_001);
});

test("near the end of the range the window shrinks to what is left", () => {
  const allocator = leading();
  expect(allocator.extensionTarget(PHYSICAL_MS_MAX - 5, 3_000)).toBe(PHYSICAL_MS_MAX);
  allocator.extend(reign.epoch, PHYSICAL_MS_MAX);
  expect(allocator.extensionTarget(0, 3_000), "which the machine refuses").toBe(PHYSICAL_MS_MAX + 1);
});

test("the safe point of an idle leader follows its clock, up to the window's end less what is ahead", () => {
  const allocator = leading();
  expect(allocator.safePoint(1_000, 100)).toBe(999);
  expect(allocator.safePoint(1_700, 100)).toBe(1_699);
  expect(allocator.safePoint(1_950, 100)).toBe(1_899);
  expect(allocator.safePoint(9_000, 100), "a clock beyond the window").toBe(1_899);
  expect(granted(allocator, 1, 0), "the window itself does not go beyond its end").toEqual({ physicalMs: 2_000, logicalStart: 0, count: 1 });
});

test("a safe point is never below 0", () => {
  expect(leading().safePoint(1_500, 5_000)).toBe(0);
});

test("a reign begins on a cleared allocator, within a window that fits the range", () => {
  const allocator = new Allocator();
  expect(() => allocator.lead({ ...reign, floor: 2_001 })).toThrow("floor is at most its high water");
  expect(() => allocator.lead({ ...reign, floor: -1 })).toThrow(InvariantViolation);
  expect(() => allocator.lead({ ...reign, highWater: PHYSICAL_MS_MAX + 1 })).toThrow("46 bits");
  allocator.lead(reign);
  expect(() => allocator.lead({ ...reign, epoch: epoch(2n) }), "a window is never carried across reigns").toThrow(InvariantViolation);
  expect(() => allocator.extend(reign.epoch, PHYSICAL_MS_MAX + 1)).toThrow("46 bits");
});

test.each([0, -1, 1.5, Number.NaN, GRANT_COUNT_MAX + 1])("a count of %d is refused", (count) => {
  expect(leading().grant(count, 1_000)).toEqual({ type: "invalid-count", count });
});

function leading(): Allocator {
  const allocator = new Allocator();
  allocator.lead(reign);
  return allocator;
}

function granted(allocator: Allocator, count: number, now: number): Grant {
  const outcome = allocator.grant(count, now);
  if (outcome.type !== "granted") throw new Error(`not granted but ${outcome.type}`);
  return outcome.grant;
}
