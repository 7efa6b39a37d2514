/** What the messages of the log need beside the shapes of the oracle, and what no decoder may be made to do. */
import { describe, expect, test } from "vitest";
import { OracleError } from "../../../src/base/errors.ts";
import { boolean, bytes, createCodec, list, refined, type Shape, whole } from "../../../src/base/shape.ts";
import { fromHex, tryDecode } from "../../support/decoding.ts";

const range = refined<readonly number[]>(list(whole()), ([from = 0, to = 0]) => (from <= to ? undefined : `expected ${from} up to ${to}`));

describe("what a shape does not describe is refused, in both directions", () => {
  test.each<readonly [string, Shape<unknown>, unknown, string]>([
    ["a number for a boolean", boolean, 1, "expected true or false, got 1"],
    ["nothing for a boolean", boolean, null, "expected true or false, got null"],
    ["a value with a fault", range, [5, 3], "expected 5 up to 3"],
    ["a list that is too long", list(whole(), 2), [1, 2, 3], "expected a list of at most 2, got a list of 3"],
  ])("%s", (_, shape, value, why) => {
    for (const act of [() => shape.read(value), () => shape.write(value)]) expect(act).toThrow(new OracleError("TSO_WRONG_FORMAT", why));
  });
});

test("what a shape describes comes back", () => {
  const cases: readonly (readonly [Shape<unknown>, unknown])[] = [
    [boolean, true],
    [boolean, false],
    [range, [3, 5]],
    [list(whole(), 2), [1, 2]],
  ];
  for (const [shape, value] of cases) expect(shape.read(shape.write(value))).toEqual(value);
});

test("a list that is too long is refused before its values are read", () => {
  const watched: Shape<number> = {
    write: (value) => value,
    read: () => {
      throw new Error("read");
    },
  };
  expect(() => list(watched, 2).read([1, 2, 3])).toThrow("at most 2");
});

test("minus zero is read as zero", () => {
  const decoded = createCodec("a number", 1, whole()).decode(fromHex("9201cb8000000000000000"));
  expect(Object.is(decoded, 0)).toBe(true);
});

test("one value that is named many times is refused: a few bytes must not become many", () => {
  const codec = createCodec<unknown>("a list", 1, list(bytes));
  expect(codec.decode(fromHex("920192 c40107 c40107".replaceAll(" ", "")))).toEqual([Uint8Array.of(7), Uint8Array.of(7)]);
  expect(tryDecode(codec, fromHex("920192 d66900000001 c40107 d67000000001".replaceAll(" ", "")))).toBeUndefined();
});
