import fc from "fast-check";
import { expect, test } from "vitest";
import { ddmin } from "../../../src/testing/cluster/ddmin.ts";
import { property } from "../../support/property.ts";

/** Some items, those of them that are needed, and one that spoils it where it stands an odd number of times: a part may fail of which a smaller one does not. */
const cases = fc
  .array(fc.nat(20), { maxLength: 30 })
  .chain((all) => fc.record({ all: fc.constant(all), needed: fc.subarray(all), spoiler: fc.option(fc.nat(20), { nil: undefined }) }));

property(
  "what is left fails, is a part in the same order, and nothing of it can be left out",
  fc.property(cases, ({ all, needed, spoiler }) => {
    const isSpoilt = (part: readonly number[]): boolean => spoiler !== undefined && part.filter((item) => item === spoiler).length % 2 === 1;
    const fails = (part: readonly number[]): boolean => !isSpoilt(part) && needed.every((item) => part.includes(item));
    fc.pre(fails(all));
    const kept = ddmin(all, fails);
    expect(fails(kept)).toBe(true);
    let at = -1;
    for (const item of kept) {
      at = all.indexOf(item, at + 1);
      expect(at).toBeGreaterThanOrEqual(0);
    }
    for (let place = 0; place < kept.length; place++) expect(fails(kept.toSpliced(place, 1))).toBe(false);
  }),
);

test("a hundred items of which two matter are found in few tries", () => {
  let tries = 0;
  const kept = ddmin(
    Array.from({ length: 100 }, (_, item) => item),
    (part) => {
      tries += 1;
      return part.includes(17) && part.includes(80);
    },
  );
  expect(kept).toEqual([17, 80]);
  expect(tries).toBeLessThan(60);
});
