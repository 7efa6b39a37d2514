import { expect, test } from "vitest";
import { DEFAULT_LIMITS, differingLimit, LIMIT_NAMES, LIMIT_RANGES, resolveLimits } from "../../../src/oracle/rules/limits.ts";

test("limits that are not said have their defaults", () => {
  expect(resolveLimits()).toEqual({ maxKeys: 10_000, maxKeyBytes: 128, maxCount: 65_536, maxBatchKeys: 128, maxLeases: 10_000, maxHolderBytes: 128 });
  expect(resolveLimits({ maxKeys: 5, maxCount: undefined })).toEqual({ ...DEFAULT_LIMITS, maxKeys: 5 });
});

test("every limit has a range, which its default is in, and a name in the order of comparison", () => {
  expect([...LIMIT_NAMES].sort()).toEqual(Object.keys(DEFAULT_LIMITS).sort());
  for (const name of LIMIT_NAMES) {
    const { from, through } = LIMIT_RANGES[name];
    expect(resolveLimits({ [name]: from })[name]).toBe(from);
    expect(resolveLimits({ [name]: through })[name]).toBe(through);
    expect(from, name).toBeGreaterThanOrEqual(1);
    expect(DEFAULT_LIMITS[name], name).toBeLessThanOrEqual(through);
  }
});

test.each(LIMIT_NAMES)("%s outside its range is refused, and the range is named", (name) => {
  const { from, through } = LIMIT_RANGES[name];
  for (const value of [from - 1, through + 1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => resolveLimits({ [name]: value })).toThrow(`TSO_INVALID_OPTION: ${name} ${value} must be a whole number from ${from} to ${through}`);
  }
});

test.each(LIMIT_NAMES)("two configurations that differ in %s are told apart by its name", (name) => {
  expect(differingLimit(DEFAULT_LIMITS, { ...DEFAULT_LIMITS, [name]: DEFAULT_LIMITS[name] - 1 })).toBe(name);
  expect(differingLimit(DEFAULT_LIMITS, { ...DEFAULT_LIMITS })).toBeUndefined();
});
