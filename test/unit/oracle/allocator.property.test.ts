import fc from "fast-check";
import { expect } from "vitest";
import { type Epoch, epoch } from "../../../src/base/epoch.ts";
import { unreachable } from "../../../src/base/invariant.ts";
import { Allocator, type GrantOutcome } from "../../../src/oracle/rules/allocator.ts";
import { GRANT_COUNT_MAX, PHYSICAL_MS_MAX, packTimestamp } from "../../../src/oracle/rules/timestamp.ts";
import { AllocatorModel } from "../../support/allocator-model.ts";
import { property } from "../../support/property.ts";

const AHEAD_MS = 30;

type Step =
  | { readonly type: "clock"; readonly by: number }
  | { readonly type: "grant"; readonly count: number }
  | { readonly type: "safe-point" }
  /** What the leader asks for becomes durable at once, and its answer arrives `late` steps later: perhaps when another leads. */
  | { readonly type: "extend"; readonly late: number }
  /** An answer of an earlier reign, above everything that is durable. */
  | { readonly type: "extend-fenced"; readonly reigns: number; readonly by: number }
  | { readonly type: "gain"; readonly failoverAdvanceMs: number }
  | { readonly type: "lose" };

/** One call of the allocator, with what it returned and what was durable then. */
type Call = { readonly now: number; readonly durable: number } & (
  | { readonly type: "lead"; readonly epoch: Epoch; readonly floor: number; readonly highWater: number }
  | { readonly type: "clear" }
  | { readonly type: "grant"; readonly count: number; readonly outcome: GrantOutcome }
  | { readonly type: "safe-point"; readonly safePoint: number }
  | { readonly type: "target"; readonly target: number; readonly before: number }
  | { readonly type: "extend"; readonly epoch: Epoch; readonly highWater: number; readonly isOwn: boolean; readonly extended: boolean }
);

const anyCount = fc.oneof(
  { arbitrary: fc.integer({ min: 1, max: 5 }), weight: 4 },
  { arbitrary: fc.constantFrom(GRANT_COUNT_MAX / 2, GRANT_COUNT_MAX - 5, GRANT_COUNT_MAX - 1, GRANT_COUNT_MAX), weight: 4 },
  { arbitrary: fc.integer({ min: 1, max: GRANT_COUNT_MAX }), weight: 2 },
  { arbitrary: fc.constantFrom(0, -1, 1.5, Number.NaN, GRANT_COUNT_MAX + 1, Number.POSITIVE_INFINITY), weight: 1 },
);
const anyTick = fc.oneof(
  { arbitrary: fc.integer({ min: 0, max: 10 }), weight: 6 },
  { arbitrary: fc.integer({ min: -30, max: 0 }), weight: 3 },
  { arbitrary: fc.integer({ min: -100_000, max: 100_000 }), weight: 1 },
);
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { arbitrary: fc.record({ type: fc.constant("grant"), count: anyCount }), weight: 10 },
  { arbitrary: fc.record({ type: fc.constant("clock"), by: anyTick }), weight: 4 },
  { arbitrary: fc.record({ type: fc.constant("extend"), late: fc.nat(3) }), weight: 3 },
  { arbitrary: fc.record({ type: fc.constant("extend-fenced"), reigns: fc.integer({ min: 1, max: 2 }), by: fc.nat(100) }), weight: 1 },
  { arbitrary: fc.record({ type: fc.constant("safe-point") }), weight: 3 },
  { arbitrary: fc.record({ type: fc.constant("gain"), failoverAdvanceMs: fc.nat(40) }), weight: 1 },
  { arbitrary: fc.record({ type: fc.constant("lose") }), weight: 1 },
);
/** The calls of a life that begins at the epoch, today, or where the range ends. */
const anyCalls = fc
  .tuple(fc.constantFrom(0, 1_700_000_000_000, PHYSICAL_MS_MAX - 60), fc.nat(40), fc.array(anyStep, { maxLength: 80, size: "max" }))
  .map(([start, failoverAdvanceMs, steps]) => callsOf(start, [{ type: "gain", failoverAdvanceMs }, ...steps]));

property(
  "timestamps strictly increase over a whole life, each grant within one millisecond and within what is durable",
  fc.property(anyCalls, (calls) => {
    let last = -1n;
    for (const call of calls) {
      if (call.type !== "grant" || call.outcome.type !== "granted") continue;
      const { physicalMs, logicalStart, count } = call.outcome.grant;
      expect(count).toBe(call.count);
      expect(physicalMs).toBeLessThanOrEqual(call.durable);
      expect(packTimestamp({ physicalMs, logical: logicalStart })).toBeGreaterThan(last);
      last = packTimestamp({ physicalMs, logical: logicalStart + count - 1 }); // throws where the grant straddles two
    }
  }),
);

property(
  "the allocator equals the model",
  fc.property(anyCalls, (calls) => {
    const model = new AllocatorModel();
    for (const call of calls) {
      if (call.type === "lead") model.lead(call.floor, call.highWater);
      else if (call.type === "clear") model.clear();
      else if (call.type === "grant") expect(call.outcome).toEqual(model.grant(call.count, call.now));
      else if (call.type === "safe-point") expect(call.safePoint).toBe(model.safePoint(call.now, AHEAD_MS));
      else if (call.type === "target") expect(call.target).toBe(model.extensionTarget(call.now, AHEAD_MS));
      else expect(call.extended).toBe(call.isOwn && model.extend(call.highWater));
    }
  }),
);

property(
  "a call that fails leaves the state as it was: without all that failed, the others answer the same",
  fc.property(anyCalls, (calls) => {
    const other = new Allocator();
    for (const call of calls) {
      if (call.type === "lead") other.lead(call);
      else if (call.type === "clear") other.clear();
      else if (call.type === "grant" && call.outcome.type === "granted") expect(other.grant(call.count, call.now)).toEqual(call.outcome);
      else if (call.type === "safe-point") expect(other.safePoint(call.now, AHEAD_MS)).toBe(call.safePoint);
      else if (call.type === "target") expect(other.extensionTarget(call.now, AHEAD_MS)).toBe(call.target);
      else if (call.type === "extend" && call.extended) expect(other.extend(call.epoch, call.highWater)).toBe(true);
    }
  }),
);

property(
  "a safe point is below every timestamp granted after it, and never decreases while a reign lasts",
  fc.property(anyCalls, (calls) => {
    let ever = 0;
    let inReign = 0;
    for (const call of calls) {
      if (call.type === "clear") inReign = 0;
      if (call.type === "grant" && call.outcome.type === "granted") expect(call.outcome.grant.physicalMs).toBeGreaterThan(ever);
      if (call.type !== "safe-point") continue;
      expect(call.safePoint).toBeGreaterThanOrEqual(inReign);
      inReign = call.safePoint;
      ever = Math.max(ever, call.safePoint);
    }
  }),
);

property(
  "an extension asks for more than there is, and for no more than the range holds",
  fc.property(anyCalls, (calls) => {
    for (const call of calls) {
      if (call.type !== "target") continue;
      expect(call.target).toBeGreaterThan(call.before);
      if (call.before < PHYSICAL_MS_MAX) expect(call.target).toBeLessThanOrEqual(PHYSICAL_MS_MAX);
    }
  }),
);

property(
  "an answer of another reign never extends the window",
  fc.property(anyCalls, (calls) => {
    for (const call of calls) if (call.type === "extend" && !call.isOwn) expect(call.extended).toBe(false);
  }),
);

/** Lives through the steps as a server and its driver would: the floor of every reign is above all that was durable before it. */
function callsOf(start: number, steps: readonly Step[]): readonly Call[] {
  const allocator = new Allocator();
  const calls: Call[] = [];
  const late: { readonly due: number; readonly epoch: Epoch; readonly highWater: number }[] = [];
  let [now, durable, reign] = [start, 0, 0n];
  // Two reigns differ in the upper half alone.
  const epochOf = (number: bigint): Epoch => epoch(number << 64n);
  const extend = (of: Epoch, highWater: number): void => {
    const isOwn = allocator.epoch === of;
    calls.push({ type: "extend", now, durable, epoch: of, highWater, isOwn, extended: allocator.extend(of, highWater) });
  };
  for (const [index, step] of steps.entries()) {
    for (const answer of late.filter(({ due }) => due === index)) extend(answer.epoch, answer.highWater);
    switch (step.type) {
      case "clock":
        now = Math.max(0, now + step.by);
        break;
      case "grant":
        calls.push({ type: "grant", now, durable, count: step.count, outcome: allocator.grant(step.count, now) });
        break;
      case "safe-point":
        calls.push({ type: "safe-point", now, durable, safePoint: allocator.safePoint(now, AHEAD_MS) });
        break;
      case "extend": {
        if (allocator.epoch === undefined) break;
        const before = allocator.highWater;
        const target = allocator.extensionTarget(now, AHEAD_MS);
        calls.push({ type: "target", now, durable, target, before });
        if (target > PHYSICAL_MS_MAX) break; // the machine refuses it
        durable = Math.max(durable, target);
        late.push({ due: index + 1 + step.late, epoch: allocator.epoch, highWater: durable });
        break;
      }
      case "extend-fenced":
        extend(epochOf(reign > BigInt(step.reigns) ? reign - BigInt(step.reigns) : 0n), Math.min(durable + step.by, PHYSICAL_MS_MAX));
        break;
      case "gain": {
        const floor = Math.max(durable + 1, now);
        const highWater = floor + step.failoverAdvanceMs;
        allocator.clear();
        calls.push({ type: "clear", now, durable });
        if (highWater > PHYSICAL_MS_MAX) break; // refused
        [durable, reign] = [highWater, reign + 1n];
        allocator.lead({ epoch: epochOf(reign), floor, highWater });
        calls.push({ type: "lead", now, durable, epoch: epochOf(reign), floor, highWater });
        break;
      }
      case "lose":
        allocator.clear();
        calls.push({ type: "clear", now, durable });
        break;
      default:
        unreachable(step);
    }
  }
  return calls;
}
