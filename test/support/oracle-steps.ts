/** Random lives of an oracle. A step says what to do relative to the state it meets, so that limits, fences and deadlines are met often. */
import fc from "fast-check";
import { type Epoch, epoch } from "../../src/base/epoch.ts";
import { unreachable } from "../../src/base/invariant.ts";
import type { BlockRequest, OracleCommand } from "../../src/oracle/rules/command.ts";
import { LIMIT_NAMES, type OracleLimits } from "../../src/oracle/rules/limits.ts";
import { PHYSICAL_MS_MAX } from "../../src/oracle/rules/timestamp.ts";

/** So small that every cap is reached. */
export const SMALL_LIMITS: OracleLimits = { maxKeys: 4, maxKeyBytes: 4, maxCount: 10, maxBatchKeys: 3, maxLeases: 4, maxHolderBytes: 2 };

/** A moment, or a place in the range of timestamps, relative to what the state holds. */
export interface Point {
  readonly from: "zero" | "clock" | "high-water" | "maximum";
  readonly plus: number;
}

/** Whose command it is: how far its epoch is from the fence, and its entry's from its own. "none": it names no epoch. */
export interface Author {
  readonly epoch: bigint | "none";
  readonly entry: bigint;
}

type Body =
  | {
      readonly type: "take-over";
      readonly now: Point;
      readonly failoverAdvanceMs: number;
      readonly maxClockJumpMs: number;
      readonly limits: OracleLimits;
    }
  | { readonly type: "advance"; readonly now: Point; readonly atLeast: Point }
  | { readonly type: "expire"; readonly now: Point }
  | { readonly type: "sequence"; readonly groups: readonly (readonly BlockRequest[])[] }
  | { readonly type: "sequence-init"; readonly key: string; readonly first: bigint }
  | { readonly type: "lease-acquire"; readonly now: Point; readonly holder: Uint8Array; readonly holderEpoch: bigint; readonly ttlMs: number }
  | { readonly type: "lease-renew"; readonly now: Point; readonly lease: number }
  | { readonly type: "lease-release"; readonly now: Point; readonly lease: number };

export type Step = Body & { readonly by: Author };

export interface Landmarks {
  readonly clock: number;
  readonly highWater: number;
  readonly fence: Epoch;
}

export interface Issued {
  readonly command: OracleCommand;
  /** The epoch of the entry that carries the command. */
  readonly epoch: Epoch;
}

const upTo = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max });
const mostly = <T>(usual: fc.Arbitrary<T>, weight: number, rare: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  fc.oneof({ arbitrary: usual, weight }, { arbitrary: rare, weight: 1 });
const from = (place: Point["from"], plus: fc.Arbitrary<number>): fc.Arbitrary<Point> => plus.map((value) => ({ from: place, plus: value }));

/** Clocks go on, stand still, go back, and jump to the edge of what a take-over accepts. */
const anySaneNow = fc.oneof(
  { arbitrary: from("clock", upTo(25)), weight: 8 },
  { arbitrary: from("clock", fc.integer({ min: -100, max: 0 })), weight: 4 },
  { arbitrary: from("high-water", fc.integer({ min: -2, max: 2 })), weight: 2 },
  { arbitrary: from("high-water", fc.integer({ min: 999, max: 1_001 })), weight: 1 },
);
/** The ends of the range are rare: there is no way back from them. */
const anyNow = mostly(anySaneNow, 150, mostly(from("maximum", fc.integer({ min: -50, max: 2 })), 1, from("zero", upTo(2 ** 52 - 1))));

const authors = (epochs: fc.Arbitrary<Author["epoch"]>): fc.Arbitrary<Author> =>
  fc.record({ epoch: epochs, entry: mostly(fc.constant(0n), 15, fc.bigInt({ min: -2n, max: 2n })) });
const anyLeader = authors(mostly(fc.constant(0n), 15, fc.bigInt({ min: -2n, max: 2n })));
// The last differs from the fence in the upper half alone.
const anyNewLeader = authors(mostly(fc.constant(1n), 4, fc.constantFrom(-1n, 0n, 2n, 2n ** 64n)));
const anyGrantor = authors(mostly<Author["epoch"]>(fc.constant("none"), 2, fc.bigInt({ min: -1n, max: 1n })));

const anyLimits = mostly(
  fc.constant(SMALL_LIMITS),
  20,
  fc
    .record({ name: fc.constantFrom(...LIMIT_NAMES), value: fc.integer({ min: 1, max: 6 }) })
    .map(({ name, value }) => ({ ...SMALL_LIMITS, [name]: value })),
);
const anyTtl = mostly(upTo(120), 60, fc.integer({ min: 2 ** 45, max: 2 ** 52 - 1 }));
const anyHolder = mostly<readonly number[]>(fc.constantFrom([1], [2], [3], [1, 2]), 20, fc.constantFrom([], [1, 2, 3])).map((bytes) =>
  Uint8Array.from(bytes),
);
/** Five keys fit; "éé" has four bytes, "ééé" six, the face four. */
const anyKey = mostly(fc.constantFrom("a", "b", "éé", "abcd", "\u{1f600}"), 15, fc.constantFrom("", "abcde", "ééé"));
const anyBlock = fc.record({ key: anyKey, count: mostly(fc.integer({ min: 1, max: 10 }), 20, fc.constantFrom(0, 11, 0xffff_ffff)) });
const anyFirst = mostly(
  upTo(20).map(BigInt),
  1,
  upTo(25).map((below) => 2n ** 64n - 1n - BigInt(below)),
);

/** How many leases ago it was granted. */
const anyRecent = mostly(upTo(2), 6, upTo(8));

const takeOver = fc.record({
  type: fc.constant("take-over"),
  by: anyNewLeader,
  now: anyNow,
  failoverAdvanceMs: mostly(upTo(50), 40, upTo(2 ** 52 - 1)),
  maxClockJumpMs: mostly(fc.constant(1_000), 3, fc.constant(0)),
  limits: anyLimits,
});
const advance = fc.record({
  type: fc.constant("advance"),
  by: anyLeader,
  now: anyNow,
  atLeast: mostly(from("high-water", fc.integer({ min: -20, max: 60 })), 40, from("maximum", fc.integer({ min: -50, max: 2 }))),
});
const expire = fc.record({ type: fc.constant("expire"), by: anyLeader, now: anyNow });
const sequence = fc.record({
  type: fc.constant("sequence"),
  by: anyGrantor,
  groups: fc.array(fc.array(anyBlock, { maxLength: 4 }), { maxLength: 4 }),
});
const sequenceInit = fc.record({ type: fc.constant("sequence-init"), by: anyGrantor, key: anyKey, first: anyFirst });
const acquire = fc.record({
  type: fc.constant("lease-acquire"),
  by: anyLeader,
  now: anyNow,
  holder: anyHolder,
  holderEpoch: upTo(3).map(BigInt),
  ttlMs: anyTtl,
});
const renew = fc.record({ type: fc.constant("lease-renew"), by: anyLeader, now: anyNow, lease: anyRecent });
const release = fc.record({ type: fc.constant("lease-release"), by: anyLeader, now: anyNow, lease: anyRecent });

const anyLeaseStep = fc.oneof(
  { arbitrary: acquire, weight: 4 },
  { arbitrary: renew, weight: 4 },
  { arbitrary: release, weight: 1 },
  { arbitrary: expire, weight: 2 },
  { arbitrary: advance, weight: 2 },
  { arbitrary: takeOver, weight: 1 },
);

const FIRST_TAKE_OVER: Step = {
  type: "take-over",
  by: { epoch: 1n, entry: 0n },
  now: { from: "zero", plus: 1_000 },
  failoverAdvanceMs: 50,
  maxClockJumpMs: 1_000,
  limits: SMALL_LIMITS,
};

/** A life that begins, nine times in ten, with a take-over that succeeds: without one there is little to see. */
const lives = (steps: fc.Arbitrary<Step>, most: number): fc.Arbitrary<readonly Step[]> =>
  fc
    .tuple(mostly<readonly Step[]>(fc.constant([FIRST_TAKE_OVER]), 9, fc.constant([])), fc.array(steps, { maxLength: most, size: "max" }))
    .map(([first, rest]) => [...first, ...rest]);

/** Every command there is. */
export const anyLife = lives(mostly<Step>(anyLeaseStep, 2, fc.oneof(sequence, sequenceInit)), 60);

/** Leases, the high water and changes of leader. */
export const anyLeaseLife = lives(anyLeaseStep, 80);

/** What `step` asks of an oracle in the state `landmarks`; `ids` are those of all leases ever granted, the newest last. */
export function issue(step: Step, landmarks: Landmarks, ids: readonly number[]): Issued {
  const named = step.by.epoch === "none" ? undefined : offset(landmarks.fence, step.by.epoch);
  return { command: commandOf(step, named ?? landmarks.fence, landmarks, ids, named), epoch: offset(named ?? landmarks.fence, step.by.entry) };
}

function commandOf(step: Step, leader: Epoch, landmarks: Landmarks, ids: readonly number[], named: Epoch | undefined): OracleCommand {
  const resolve = ({ from, plus }: Point): number =>
    Math.max(0, { zero: 0, clock: landmarks.clock, "high-water": landmarks.highWater, maximum: PHYSICAL_MS_MAX }[from] + plus);
  switch (step.type) {
    case "take-over": {
      const { failoverAdvanceMs, maxClockJumpMs, limits } = step;
      return { type: step.type, epoch: leader, now: resolve(step.now), failoverAdvanceMs, maxClockJumpMs, limits };
    }
    case "advance":
      return { type: step.type, epoch: leader, now: resolve(step.now), atLeast: resolve(step.atLeast) };
    case "expire":
      return { type: step.type, epoch: leader, now: resolve(step.now) };
    case "sequence":
      return { type: step.type, epoch: named, groups: step.groups };
    case "sequence-init":
      return { type: step.type, epoch: named, key: step.key, first: step.first };
    case "lease-acquire": {
      const { holder, holderEpoch, ttlMs } = step;
      return { type: step.type, epoch: leader, now: resolve(step.now), holder, holderEpoch, ttlMs };
    }
    case "lease-renew":
    case "lease-release":
      return { type: step.type, epoch: leader, now: resolve(step.now), id: ids.at(-1 - step.lease) ?? 7 };
    default:
      return unreachable(step);
  }
}

function offset(from: Epoch, by: bigint): Epoch {
  return epoch(from + by < 0n ? 0n : from + by);
}
