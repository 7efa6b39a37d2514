import fc from "fast-check";
import { expect, test } from "vitest";
import { EPOCH_ZERO, epochParts } from "../../../src/base/epoch.ts";
import type { NodeId } from "../../../src/base/ids.ts";
import { BALLOT_ZERO, type Ballot, ballotText, compareBallots, epochOf, maxBallot, sameBallot } from "../../../src/paxos/core/ballot.ts";
import { anyBallot } from "../../support/paxos-values.ts";
import { property } from "../../support/property.ts";

/** Often the same but for one part. */
const anyPair = fc.oneof(
  fc.tuple(anyBallot, anyBallot),
  fc.tuple(anyBallot, anyBallot, fc.constantFrom("round", "prio", "node")).map(([a, b, part]) => [a, { ...a, [part]: b[part] }] as const),
);

property(
  "ballots are in the order of their epochs, and a ballot is the same as none but itself",
  fc.property(anyPair, ([a, b]) => {
    const [epochA, epochB] = [epochOf(a), epochOf(b)];
    expect(Math.sign(compareBallots(a, b))).toBe(epochA < epochB ? -1 : epochA > epochB ? 1 : 0);
    expect(sameBallot(a, b)).toBe(epochA === epochB);
    expect(sameBallot(a, { ...a })).toBe(true);
    expect(
      [a, b]
        .map(epochOf)
        .toSorted((x, y) => (x < y ? -1 : 1))
        .at(-1),
    ).toBe(epochOf(maxBallot(a, b)));
  }),
);

property(
  "the order of ballots is total",
  fc.property(anyBallot, anyBallot, anyBallot, (a, b, c) => {
    const before = (x: Ballot, y: Ballot) => compareBallots(x, y) < 0;
    expect(Number(before(a, b)) + Number(before(b, a)) + Number(sameBallot(a, b)), "exactly one of three").toBe(1);
    if (before(a, b) && before(b, c)) expect(before(a, c)).toBe(true);
    expect(compareBallots(BALLOT_ZERO, a)).toBeLessThanOrEqual(0);
  }),
);

property(
  "an epoch says its ballot, and its lowest 16 bits are 0",
  fc.property(anyBallot, (ballot) => {
    const { hi, lo } = epochParts(epochOf(ballot));
    expect({ round: Number(hi), prio: Number(lo >> 48n), node: Number((lo >> 16n) & 0xffff_ffffn) }).toEqual(ballot);
    expect(lo & 0xffffn).toBe(0n);
  }),
);

property(
  "a sorted list of ballots is sorted by round, then prio, then node",
  fc.property(fc.array(anyBallot, { maxLength: 10 }), (ballots) => {
    // A second implementation: texts of one length, in the order of texts.
    const key = ({ round, prio, node }: Ballot) => [round, prio, node].map((part) => String(part).padStart(16, "0")).join(".");
    expect(ballots.toSorted(compareBallots).map(key)).toEqual(ballots.map(key).toSorted());
  }),
);

test("the rounds of two ballots are told apart up to the largest", () => {
  const at = (round: number): Ballot => ({ round, prio: 0, node: 1 as NodeId });
  const most = Number.MAX_SAFE_INTEGER;
  expect(compareBallots(at(most), at(most - 1))).toBeGreaterThan(0);
  expect(compareBallots(at(0), at(most))).toBeLessThan(0);
});

test("no ballot is the same as no other, and the zero is below all", () => {
  expect(sameBallot(undefined, undefined)).toBe(true);
  expect(sameBallot(undefined, BALLOT_ZERO)).toBe(false);
  expect(sameBallot(BALLOT_ZERO, undefined)).toBe(false);
  expect(epochOf(BALLOT_ZERO)).toBe(EPOCH_ZERO);
});

test("a ballot reads round, prio, node", () => {
  expect(ballotText({ round: 7, prio: 5, node: 2 as NodeId })).toBe("7.5.2");
});
