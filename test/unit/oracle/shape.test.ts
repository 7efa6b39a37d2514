import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { epochFromParts } from "../../../src/base/epoch.ts";
import { OracleError } from "../../../src/base/errors.ts";
import {
  bytes,
  type Codec,
  createCodec,
  empty,
  epochShape,
  list,
  oneOf,
  optional,
  record,
  type Shape,
  text,
  u64,
  union,
  whole,
} from "../../../src/base/shape.ts";
import { checkDecoder, fromHex, toHex, tryDecode } from "../../support/decoding.ts";
import { property } from "../../support/property.ts";

interface Point {
  readonly x: number;
  readonly label?: string | undefined;
}
type Figure = { readonly kind: "dot"; readonly at: Point } | { readonly kind: "path"; readonly points: readonly Point[] } | { readonly kind: "none" };

const point = record<Point>({ x: whole(1_000), label: optional(text) });
const figure = union<Figure, "kind">("kind", {
  dot: [1, record({ at: point })],
  path: [7, record({ points: list(point) })],
  none: [9, empty],
});

const anyU64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const anyText = fc.string({ unit: "binary" });
const anyPoint: fc.Arbitrary<Point> = fc.record({ x: fc.nat(1_000), label: anyText }, { requiredKeys: ["x"] });
const anyFigure: fc.Arbitrary<Figure> = fc.oneof(
  fc.record({ kind: fc.constant("dot" as const), at: anyPoint }),
  fc.record({ kind: fc.constant("path" as const), points: fc.array(anyPoint) }),
  fc.record({ kind: fc.constant("none" as const) }),
);

checkShape("whole", whole(), fc.maxSafeNat());
checkShape("u64", u64, anyU64);
checkShape("text", text, anyText);
checkShape("bytes", bytes, fc.uint8Array());
checkShape("epoch", record({ epoch: epochShape }), fc.record({ epoch: fc.tuple(anyU64, anyU64).map(([hi, lo]) => epochFromParts(hi, lo)) }));
checkShape("optional", optional(u64), fc.option(anyU64, { nil: undefined }));
checkShape("oneOf", oneOf(["red", "green"]), fc.constantFrom("red", "green"));
checkShape("list", list(list(whole())), fc.array(fc.array(fc.nat())));
checkShape("record", point, anyPoint);
checkShape("union", figure, anyFigure);
checkShape("empty", empty, fc.constant({}));

describe("what a shape does not describe is refused", () => {
  test.each<readonly [string, Shape<unknown>, unknown]>([
    ["a number above its maximum", whole(5), 6],
    ["a negative number", whole(), -1],
    ["a fraction", whole(), 0.5],
    ["not a number", whole(), Number.NaN],
    ["a number that is not exact", whole(), 2 ** 53],
    ["a bigint for a number", whole(), 5n],
    ["a number for a bigint", u64, 5],
    ["a negative bigint", u64, -1n],
    ["a bigint of 65 bits", u64, 2n ** 64n],
    ["an epoch with a half of 65 bits", epochShape, [2n ** 64n, 0n]],
    ["half an epoch", epochShape, [1n]],
    ["a lone surrogate", text, "\ud800"],
    ["a number for a text", text, 5],
    ["a text for bytes", bytes, "five"],
    ["an unknown index", oneOf(["red"]), 1],
    ["an index before the first", oneOf(["red"]), -1],
    ["a name for an index", oneOf(["red"]), "red"],
    ["one thing for a list", list(whole()), 5],
    ["a field too few", point, [1]],
    ["a field too many", point, [1, null, 2]],
    ["fields by name", point, { x: 1 }],
    ["nothing where something must be", point, [null, null]],
    ["an unknown tag", figure, [2, [[1, null]]]],
    ["a tag that is no number", figure, ["1", [[1, null]]]],
    ["a tag alone", figure, [1]],
    ["a case by name", figure, ["none", []]],
    ["another case's fields", figure, [9, [[]]]],
    ["nothing", figure, null],
    ["something where nothing is", empty, [1]],
  ])("%s", (_, shape, raw) => {
    expect(() => shape.read(raw)).toThrow(OracleError);
    expect(() => shape.read(raw)).toThrow("TSO_WRONG_FORMAT: expected");
  });
});

test("fields are written in their order and without names, cases by their numbers", () => {
  expect(point.write({ x: 5 })).toEqual([5, null]);
  expect(figure.write({ kind: "path", points: [{ x: 5 }] })).toEqual([7, [[[5, null]]]]);
  expect(oneOf(["red", "green"]).write("green")).toBe(1);
});

test("a field that is absent is left out, not set to undefined", () => {
  expect(Object.keys(point.read([5, null]))).toEqual(["x"]);
});

test("the encoding is the version and the value", () => {
  expect(toHex(createCodec("a number", 3, whole()).encode(5))).toBe("920305");
});

test("a later version is refused and named, an earlier one and none are malformed", () => {
  const codec = createCodec("a number", 3, whole());
  expect(() => codec.decode(fromHex("920405"))).toThrow("TSO_WRONG_FORMAT: a number has format 4, and this release reads up to 3");
  expect(() => codec.decode(fromHex("9204c3")), "whatever its value is").toThrow("has format 4");
  for (const hex of ["920205", "9203", "93030505", "05", "c0", "80", ""]) {
    expect(() => codec.decode(fromHex(hex))).toThrow("TSO_WRONG_FORMAT: a number is malformed");
  }
});

test("a refused value says where it came from, and why in its cause", () => {
  const codec = createCodec("a point", 1, point);
  const cause = expect.objectContaining({ message: expect.stringMatching(/^TSO_WRONG_FORMAT: expected .*text, got true$/) });
  expect(() => codec.decode(fromHex("92019207c3"))).toThrow(expect.objectContaining({ message: "TSO_WRONG_FORMAT: a point is malformed", cause }));
});

test("what cannot be read again is not written", () => {
  const wrong: readonly (readonly [Shape<unknown>, unknown])[] = [
    ...[-1, 1.5, 2 ** 53, Number.NaN, 6].map((value) => [whole(5), value] as const),
    ...[-1n, 2n ** 64n].map((value) => [u64, value] as const),
    ...["\ud800", "a\udfff"].map((value) => [text, value] as const),
  ];
  for (const [shape, value] of wrong) expect(() => shape.write(value), `${value}`).toThrow("TSO_WRONG_FORMAT: expected");
});

test("nesting without end is refused, and the next value is read as ever", () => {
  const codec = createCodec("a number", 1, whole());
  expect(tryDecode(codec, new Uint8Array(1_000_000).fill(0x91))).toBeUndefined();
  expect(codec.decode(fromHex("920105"))).toBe(5);
});

test("a length beyond the end is refused before anything is made of it", () => {
  const codec = createCodec<unknown>("a list", 1, list(bytes));
  for (const length of ["ddffffffff", "dd01ffffff", "91c6ffffffff", "91dbffffffff", "dfffffffff"]) {
    expect(tryDecode(codec, fromHex(`9201${length}`)), length).toBeUndefined();
  }
});

function checkShape<T>(name: string, shape: Shape<T>, any: fc.Arbitrary<T>): void {
  const codec: Codec<T> = createCodec(`a ${name}`, 1, shape);

  property(
    `a value of shape ${name} comes back, alone and from among others`,
    fc.property(any, any, (value, other) => {
      const encoded = new Uint8Array(codec.encode(value));
      codec.encode(other);
      expect(codec.decode(encoded)).toEqual(value);
    }),
  );

  property(
    `damaged bytes of shape ${name} are refused, or read as another value of it`,
    fc.property(any, fc.nat(), fc.uint8Array({ maxLength: 9 }), (value, place, noise) => {
      const encoded = new Uint8Array(codec.encode(value));
      checkDecoder(
        codec,
        encoded.map((byte, index) => (index === (place >> 3) % encoded.length ? byte ^ (1 << (place & 7)) : byte)),
      );
      checkDecoder(codec, Uint8Array.of(0x92, 1, ...noise));
      for (let length = 0; length < Math.min(encoded.length, 30); length++) expect(checkDecoder(codec, encoded.subarray(0, length))).toBe("refused");
    }),
  );
}
