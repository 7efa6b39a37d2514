import { expect, test } from "vitest";
import { epoch } from "../../../src/base/epoch.ts";
import type { GroupOutcome, OracleOutcome, Refusal, SequenceGroup } from "../../../src/oracle/rules/command.ts";
import { DEFAULT_LIMITS, type OracleLimits } from "../../../src/oracle/rules/limits.ts";
import { OracleMachine } from "../../../src/oracle/rules/machine.ts";
import { isSequenceKey, validateGroup } from "../../../src/oracle/rules/sequence.ts";
import { commitOne } from "../../support/oracle-life.ts";

const LEADER = epoch(1n);
const LAST = 2n ** 64n - 1n;

test("a sequence begins at 0 and is dense: each block begins where the last one ended", () => {
  const oracle = ledOracle();
  expect(grant(oracle, [{ key: "orders", count: 3 }])).toEqual(starts(0n));
  expect(grant(oracle, [{ key: "orders", count: 1 }])).toEqual(starts(3n));
  expect(grant(oracle, [{ key: "invoices", count: 1 }]), "every key counts for itself").toEqual(starts(0n));
  expect(grant(oracle, [{ key: "orders", count: 1 }])).toEqual(starts(4n));
});

test("a group is answered in its own order, and groups of one command see each other", () => {
  const oracle = ledOracle();
  const [a, b] = [
    { key: "a", count: 2 },
    { key: "b", count: 5 },
  ] as const;
  expect(
    ask(oracle, [
      [a, b],
      [b, a],
    ]),
  ).toEqual([starts(0n, 0n), starts(5n, 2n)]);
});

test("groups of one command see each other also where the sequence was there before", () => {
  const oracle = ledOracle();
  grant(oracle, [{ key: "a", count: 7 }]);
  expect(ask(oracle, [[{ key: "a", count: 2 }], [{ key: "a", count: 3 }], [{ key: "a", count: 1 }]])).toEqual([starts(7n), starts(9n), starts(12n)]);
  expect(grant(oracle, [{ key: "a", count: 1 }])).toEqual(starts(13n));
});

test("a group is granted whole or not at all, and a refused one does not touch its neighbours", () => {
  const oracle = ledOracle();
  const groups = [
    [{ key: "a", count: 1 }],
    [
      { key: "a", count: 1 },
      { key: "", count: 1 },
    ],
    [{ key: "a", count: 1 }],
  ];
  expect(ask(oracle, groups)).toEqual([starts(0n), refused({ reason: "invalid-key" }), starts(1n)]);
  expect(oracle.state.sequence("a")).toEqual({ first: 0n, next: 2n });
});

test("a key has 1 to 128 bytes, which is fewer characters where they are not ASCII", () => {
  const accepted = ["a", "a".repeat(128), "é".repeat(64), "\u{1f600}".repeat(32), " ", "\0", "\ufeff", "a/b.c"];
  const rejected = ["", "a".repeat(129), "é".repeat(65), `${"é".repeat(64)}a`, "\u{1f600}".repeat(33)];
  expect(accepted.filter((key) => !isSequenceKey(key, DEFAULT_LIMITS))).toEqual([]);
  expect(rejected.filter((key) => isSequenceKey(key, DEFAULT_LIMITS))).toEqual([]);
});

test("keys are compared as they are written: neither case nor Unicode composition is folded", () => {
  const oracle = ledOracle();
  for (const key of ["straße", "STRASSE", "\u00e9", "e\u0301"]) expect(grant(oracle, [{ key, count: 1 }])).toEqual(starts(0n));
  expect(oracle.state.sequenceCount).toBe(4);
});

test("a key with a lone surrogate is refused: all of them would be stored as one", () => {
  for (const key of ["\ud800", "\udfff", "a\ud83d", "\ude00\ud83d"]) {
    expect(isSequenceKey(key, DEFAULT_LIMITS)).toBe(false);
    expect(grant(ledOracle(), [{ key, count: 1 }])).toEqual(refused({ reason: "invalid-key" }));
  }
  expect(isSequenceKey("\ud83d\ude00", DEFAULT_LIMITS), "a pair is a character").toBe(true);
});

test("a count is a whole number from 1 to the limit", () => {
  const max = DEFAULT_LIMITS.maxCount;
  for (const count of [0, -1, max + 1, 1.5, Number.NaN]) {
    expect(validateGroup(DEFAULT_LIMITS, [{ key: "a", count }])).toEqual({ reason: "invalid-count", count, max });
  }
  for (const count of [1, max]) expect(validateGroup(DEFAULT_LIMITS, [{ key: "a", count }])).toBeUndefined();
});

test("a group is not empty, has at most 128 keys, and each of them once", () => {
  const keys = (length: number): SequenceGroup => Array.from({ length }, (_, index) => ({ key: `${index}`, count: 1 }));
  expect(validateGroup(DEFAULT_LIMITS, [])).toEqual({ reason: "empty-group" });
  expect(validateGroup(DEFAULT_LIMITS, keys(128))).toBeUndefined();
  expect(validateGroup(DEFAULT_LIMITS, keys(129))).toEqual({ reason: "too-many-keys", count: 129, max: 128 });
  expect(validateGroup(DEFAULT_LIMITS, [...keys(2), { key: "1", count: 0 }])).toEqual({ reason: "duplicate-key", key: "1" });
});

test("a key that is twice in a group is named unless it is too long for one: a refusal does not grow with its request", () => {
  const limits = { ...DEFAULT_LIMITS, maxKeyBytes: 4 };
  const twice = (key: string): SequenceGroup => [
    { key, count: 1 },
    { key, count: 1 },
  ];
  for (const key of ["abcd", "éé", ""]) expect(validateGroup(limits, twice(key)), key).toEqual({ reason: "duplicate-key", key });
  for (const key of ["abcde", "ééé", "a".repeat(100_000)]) expect(validateGroup(limits, twice(key)), key).toEqual({ reason: "invalid-key" });
});

test("new keys of a whole group count towards the limit, known ones do not", () => {
  const oracle = ledOracle({ ...DEFAULT_LIMITS, maxKeys: 3 });
  const group = (...keys: string[]): SequenceGroup => keys.map((key) => ({ key, count: 1 }));
  expect(ask(oracle, [group("a", "b"), group("c", "d"), group("b", "c"), group("d"), group("c", "a", "b")])).toEqual([
    starts(0n, 0n),
    refused({ reason: "key-limit", limit: 3 }),
    starts(1n, 0n),
    refused({ reason: "key-limit", limit: 3 }),
    starts(1n, 1n, 2n),
  ]);
  expect(init(oracle, "d", 1n)).toEqual({ type: "refused", refusal: { reason: "key-limit", limit: 3 } });
});

test("a sequence ends where its next value would not fit 64 bits, and is refused as a whole block", () => {
  const oracle = ledOracle();
  init(oracle, "a", LAST - 5n);
  expect(grant(oracle, [{ key: "a", count: 6 }])).toEqual(refused({ reason: "sequence-overflow", key: "a", next: LAST - 5n }));
  expect(
    grant(oracle, [
      { key: "b", count: 1 },
      { key: "a", count: 6 },
    ]),
  ).toEqual(refused({ reason: "sequence-overflow", key: "a", next: LAST - 5n }));
  expect(grant(oracle, [{ key: "a", count: 5 }])).toEqual(starts(LAST - 5n));
  expect(grant(oracle, [{ key: "a", count: 1 }])).toEqual(refused({ reason: "sequence-overflow", key: "a", next: LAST }));
  expect(oracle.state.sequence("b"), "all or none").toBeUndefined();
});

test("the first value can be set, and set again, until something was granted", () => {
  const oracle = ledOracle();
  for (const first of [7n, 3n, LAST, 100n]) expect(init(oracle, "a", first)).toEqual({ type: "sequence-ready", sequence: { first, next: first } });
  expect(grant(oracle, [{ key: "a", count: 2 }])).toEqual(starts(100n));
  expect(init(oracle, "a", 100n)).toEqual({ type: "refused", refusal: { reason: "already-granted", key: "a", first: 100n, next: 102n } });
  expect(init(oracle, "", 1n)).toEqual({ type: "refused", refusal: { reason: "invalid-key" } });
  expect(init(oracle, "b", LAST + 1n)).toEqual({ type: "refused", refusal: { reason: "sequence-overflow", key: "b", next: LAST + 1n } });
  expect(oracle.state.sequenceCount).toBe(1);
});

test("after a grant the first value moves neither down nor up: down grants values twice, up leaves a gap", () => {
  const oracle = ledOracle();
  init(oracle, "a", 100n);
  grant(oracle, [{ key: "a", count: 2 }]);
  for (const first of [0n, 99n, 101n, 102n, 103n, LAST]) {
    expect(init(oracle, "a", first)).toEqual({ type: "refused", refusal: { reason: "already-granted", key: "a", first: 100n, next: 102n } });
  }
  expect(grant(oracle, [{ key: "a", count: 1 }])).toEqual(starts(102n));
});

function ledOracle(limits: OracleLimits = DEFAULT_LIMITS): OracleMachine {
  const oracle = new OracleMachine();
  const takeOver = { type: "take-over", epoch: LEADER, now: 1_000, failoverAdvanceMs: 50, maxClockJumpMs: 0, limits } as const;
  commitOne(oracle, { command: takeOver, epoch: LEADER });
  return oracle;
}

function ask(oracle: OracleMachine, groups: readonly SequenceGroup[]): readonly GroupOutcome[] {
  const outcome = commitOne(oracle, { command: { type: "sequence", groups }, epoch: LEADER });
  if (outcome.type !== "sequence") throw new Error(outcome.type);
  return outcome.groups;
}

function grant(oracle: OracleMachine, group: SequenceGroup): GroupOutcome | undefined {
  return ask(oracle, [group])[0];
}

function init(oracle: OracleMachine, key: string, first: bigint): OracleOutcome {
  return commitOne(oracle, { command: { type: "sequence-init", key, first }, epoch: LEADER });
}

function starts(...values: bigint[]): GroupOutcome {
  return { type: "granted", starts: values };
}

function refused(refusal: Refusal): GroupOutcome {
  return { type: "refused", refusal };
}
