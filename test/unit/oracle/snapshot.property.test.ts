import fc from "fast-check";
import { expect, test } from "vitest";
import { epoch } from "../../../src/base/epoch.ts";
import { OracleError } from "../../../src/base/errors.ts";
import { createPrng } from "../../../src/base/prng.ts";
import { snapshotChunks } from "../../../src/oracle/rules/codec.ts";
import type { OracleCommand } from "../../../src/oracle/rules/command.ts";
import { DEFAULT_LIMITS, type OracleLimits } from "../../../src/oracle/rules/limits.ts";
import { OracleMachine } from "../../../src/oracle/rules/machine.ts";
import type { Lease } from "../../../src/oracle/rules/state.ts";
import { applyBytes, atOnce, chunksOf, commitOne, OracleLife, observe, prepare, restored, snapshotOf } from "../../support/oracle-life.ts";
import { anyLife, SMALL_LIMITS } from "../../support/oracle-steps.ts";
import { property } from "../../support/property.ts";

property(
  "a snapshot is the state of the moment of capture, whatever is applied before it is read",
  fc.property(anyLife, fc.nat(), (steps, seed) => {
    const { machine } = new OracleLife().live(steps);
    const captured = observe(machine.state);
    const view = machine.capture();
    applyRandomly(machine, 1_000, seed);
    expect(observe(restored(chunksOf(view)).state)).toEqual(captured);
  }),
);

property(
  "what is restored goes on as the original does, byte for byte, and nothing of the state before is left",
  fc.property(anyLife, anyLife, anyLife, (steps, replaced, later) => {
    const original = new OracleLife().live(steps);
    const { machine } = new OracleLife().live(replaced);
    prepare(machine, snapshotOf(original.machine)).install();
    expect(snapshotOf(machine)).toEqual(snapshotOf(original.machine));
    for (const step of later) {
      const issued = original.issue(step);
      expect(applyBytes(machine, issued)).toEqual(original.apply(issued));
    }
    expect(snapshotOf(machine)).toEqual(snapshotOf(original.machine));
  }),
);

property(
  "until it is installed, a snapshot changes nothing: unfinished, discarded or prepared",
  fc.property(anyLife, anyLife, fc.nat(3), (steps, other, written) => {
    const { machine } = new OracleLife().live(steps);
    const chunks = snapshotOf(new OracleLife().live(other).machine);
    const [seen, before] = [observe(machine.state), snapshotOf(machine)];

    const unfinished = machine.stage();
    for (const chunk of chunks.slice(0, written)) atOnce(unfinished.write(chunk));
    const discarded = machine.stage();
    for (const chunk of chunks) atOnce(discarded.write(chunk));
    discarded.discard();
    prepare(machine, chunks).discard();

    expect(observe(machine.state)).toEqual(seen);
    expect(snapshotOf(machine)).toEqual(before);
  }),
);

property(
  "a capture is of its own moment, also where another is begun, or is let go half read",
  fc.property(anyLife, fc.nat(), fc.nat({ max: 3 }), (steps, seed, read) => {
    const { machine } = new OracleLife().live(steps);
    const captured = observe(machine.state);
    const first = machine.capture();
    applyRandomly(machine, 100, seed);
    const later = observe(machine.state);
    const second = machine.capture();
    applyRandomly(machine, 100, seed + 1);
    const third = machine.capture();
    const chunks = third.chunks();
    if (Symbol.iterator in chunks) for (const _ of [...Array(read).keys()]) chunks[Symbol.iterator]().next();
    third.release();
    expect(observe(restored(chunksOf(first)).state)).toEqual(captured);
    expect(observe(restored(chunksOf(second)).state)).toEqual(later);
  }),
);

test("a large state is captured in several chunks, and restored from them", () => {
  expect(largeChunks).toHaveLength(4);
  expect(observe(restored(largeChunks).state)).toEqual(observe(large.state));
});

test("a snapshot that ends too early, or lacks any one of its chunks, is refused", () => {
  for (let length = 0; length < largeChunks.length; length++) {
    expectRefused(largeChunks.slice(0, length));
    expectRefused(largeChunks.toSpliced(length, 1));
  }
});

test("a snapshot that goes on after its end is refused", () => {
  const small = snapshotOf(new OracleMachine());
  expect(tryRestored(small)).toBeDefined();
  expectRefused([...small, ...largeChunks.slice(small.length)]);
});

property(
  "chunks in another order are refused",
  fc.property(fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 }), (order) => {
    fc.pre(order.some((chunk, index) => chunk !== index));
    expectRefused(order.map(chunkAt));
  }),
);

property(
  "a chunk that comes twice is refused, whether it is one more or stands for another",
  fc.property(fc.nat(3), fc.nat(4), fc.boolean(), (chunk, place, isInstead) => {
    fc.pre(!isInstead || chunk !== place);
    expectRefused(largeChunks.toSpliced(place, isInstead ? 1 : 0, chunkAt(chunk)));
  }),
);

property(
  "a chunk that is cut short is refused",
  fc.property(anyLife, fc.nat(3), fc.nat(), (steps, chunk, length) => {
    const chunks = snapshotOf(new OracleLife().live(steps).machine);
    const index = chunk % chunks.length;
    const cut = chunks[index] ?? new Uint8Array();
    expectRefused(chunks.with(index, cut.subarray(0, length % cut.length)));
  }),
);

property(
  "a snapshot with a flipped bit is refused, or is one of another state",
  fc.property(anyLife, fc.infiniteStream(fc.nat()), (steps, places) => {
    const chunks = snapshotOf(new OracleLife().live(steps).machine);
    for (const place of places.take(20)) expectRefusedOrWhole(withFlippedBit(chunks, place));
  }),
);

test("any single flipped bit of a snapshot is refused, or leaves one of another state", () => {
  const machine = new OracleMachine();
  applyRandomly(machine, 60, 1, SMALL_LIMITS);
  const chunks = snapshotOf(machine);
  const bits = 8 * chunks.reduce((total, chunk) => total + chunk.length, 0);
  for (let place = 0; place < bits; place++) expectRefusedOrWhole(withFlippedBit(chunks, place));
});

test("a snapshot with a holder of any length is refused, or restored", () => {
  const holder = new Uint8Array(150_000).fill(7);
  const lease: Lease = { id: 7, holder, holderEpoch: 0n, ttlMs: 1, bound: 7, expiresAtMs: 1 };
  expectRefusedOrWhole([...snapshotChunks([{ type: "lease", lease }])]);
});

const large = new OracleMachine();
applyRandomly(large, 6_000, 7);
const largeChunks = snapshotOf(large);

function chunkAt(index: number): Uint8Array {
  return largeChunks[index] ?? new Uint8Array();
}

/** Valid commands of a few holders, thousands of keys and a new leader now and then. */
function applyRandomly(machine: OracleMachine, count: number, seed: number, limits: OracleLimits = DEFAULT_LIMITS): void {
  const random = createPrng(seed);
  for (let i = 0; i < count; i++) {
    const isNew = machine.state.limits === undefined || random.chance(0.01);
    const leader = epoch(machine.state.fence + (isNew ? 1n : 0n));
    const now = machine.state.clock + random.below(20);
    const command: OracleCommand = isNew
      ? { type: "take-over", epoch: leader, now, failoverAdvanceMs: 100, maxClockJumpMs: 1_000, limits: machine.state.limits ?? limits }
      : random.pick<OracleCommand>([
          { type: "advance", epoch: leader, now, atLeast: machine.state.highWater + random.below(50) },
          { type: "expire", epoch: leader, now },
          { type: "sequence", groups: [[{ key: `${random.below(4_000)}`, count: 1 + random.below(9) }]] },
          { type: "sequence", groups: [[{ key: `${random.below(4_000)}`, count: 1 + random.below(9) }]] },
          { type: "sequence-init", key: `${random.below(4_000)}`, first: BigInt(random.below(1_000)) },
          { type: "lease-acquire", epoch: leader, now, holder: Uint8Array.of(random.below(50)), holderEpoch: BigInt(random.below(4)), ttlMs: 300 },
        ]);
    commitOne(machine, { command, epoch: leader });
  }
}

/** Damage is noticed, or what is left can itself be captured and restored: nothing in it is of the wrong type. */
function expectRefusedOrWhole(chunks: readonly Uint8Array[]): void {
  const damaged = tryRestored(chunks);
  if (damaged !== undefined) expect(snapshotOf(restored(snapshotOf(damaged)))).toEqual(snapshotOf(damaged));
}

function expectRefused(chunks: readonly Uint8Array[]): void {
  expect(tryRestored(chunks), "refused").toBeUndefined();
}

/** Undefined where it is refused; any other error is a failure. */
function tryRestored(chunks: readonly Uint8Array[]): OracleMachine | undefined {
  try {
    return restored(chunks);
  } catch (error) {
    if (error instanceof OracleError && error.code === "TSO_WRONG_FORMAT") return undefined;
    throw error;
  }
}

function withFlippedBit(chunks: readonly Uint8Array[], place: number): readonly Uint8Array[] {
  const bits = 8 * chunks.reduce((total, chunk) => total + chunk.length, 0);
  let bit = place % bits;
  return chunks.map((chunk) => {
    const flipped = new Uint8Array(chunk);
    const byte = flipped[bit >> 3];
    if (bit >= 0 && byte !== undefined) flipped[bit >> 3] = byte ^ (1 << (bit & 7));
    bit -= 8 * chunk.length;
    return flipped;
  });
}
