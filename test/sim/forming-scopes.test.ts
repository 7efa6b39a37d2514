/**
 * Every life of three nodes that form a cluster, within some bounds (rule I7): nothing is left to chance. The numbers of states stand here so that a scope which lost its
 * meaning is seen: whoever changes what nodes do or say changes them.
 */
import { expect, test } from "vitest";
import { exploreForming, type FormingScope } from "../support/forming-explorer.ts";

const LONG = 120_000; // some seconds each on a machine that does nothing else

test.each<readonly [string, FormingScope, { readonly states: number; readonly formed: number }]>([
  ["to which nothing happens form", { ticks: 1 }, { states: 10_869, formed: 3_577 }],
  [
    "of which one process dies, before or after its write, form",
    { ticks: 1, accident: { at: [1, 2, 3], how: ["lost", "kept"] } },
    { states: 201_329, formed: 61_527 },
  ],
  [
    "of which one disk is wiped form without it, or say why not",
    { ticks: 1, accident: { at: [2], how: ["wipe"] } },
    { states: 316_651, formed: 21_462 },
  ],
])("in every order of ticks, deliveries and writes, three nodes %s", { timeout: LONG }, (_, scope, counts) => {
  expect(exploreForming(scope)).toMatchObject(counts);
});
