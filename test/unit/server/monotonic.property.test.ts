import fc from "fast-check";
import { expect, test } from "vitest";
import { property } from "../../support/property.ts";
import { type Happening, type Outcome, type Question, SharedWorld, type Which } from "../../support/shared-world.ts";

const anyNode = fc.constantFrom<Which[]>("first", "second", "newest", "newest", "newest");
const anyOutcome = fc.constantFrom<Outcome[]>("fails", "stored", "fenced", "goes well");
const anyBlock = fc.record({ key: fc.constantFrom("a", "b"), count: fc.integer({ min: 1, max: 4 }) });

/** Answered from memory, once it is confirmed that the node leads. */
const anyRead: fc.Arbitrary<Question> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ type: fc.constant("timestamps"), count: fc.constantFrom(1, 1, 100, 262_144) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constantFrom("safe point", "frontier", "read") }) },
);
/** Decided by the store. */
const anyWrite: fc.Arbitrary<Question> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant("blocks"),
      blocks: fc.uniqueArray(anyBlock, { minLength: 1, maxLength: 2, selector: ({ key }) => key }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("acquire"), holder: fc.constantFrom(1, 2), holderEpoch: fc.constantFrom(1n, 2n, 3n) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constantFrom("renew", "renew", "give back"), ago: fc.nat(2) }) },
);
const anyAskFor = (what: fc.Arbitrary<Question>): fc.Arbitrary<Happening> => fc.record({ type: fc.constant("ask"), node: anyNode, what });
const anyAsk = anyAskFor(fc.oneof({ weight: 3, arbitrary: anyRead }, { weight: 2, arbitrary: anyWrite }));
const anyChange: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ type: fc.constant("clock"), node: anyNode, by: fc.constantFrom(1, 5, 5, 30, 200, -3, -1_000) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("lead"), node: anyNode }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("time"), ms: fc.constantFrom(5, 25, 100) }) },
  { weight: 3, arbitrary: fc.constant<Happening>({ type: "settle" }) },
);

const settles = fc.constant<readonly Happening[]>([{ type: "settle" }]);
const some = (happenings: fc.Arbitrary<Happening>, maxLength: number): fc.Arbitrary<readonly Happening[]> =>
  fc.array(happenings, { minLength: 1, maxLength });
const inTurn = (...parts: readonly fc.Arbitrary<readonly Happening[]>[]): fc.Arbitrary<readonly Happening[]> =>
  fc.tuple(...parts).map((all) => all.flat());

const anyScene: fc.Arbitrary<readonly Happening[]> = fc.oneof(
  { weight: 6, arbitrary: inTurn(some(anyAsk, 6), settles) },
  // Something changes, and some ask before the nodes have taken notice.
  { weight: 4, arbitrary: inTurn(some(anyChange, 3), some(anyAsk, 3)) },
  // Nobody leads for a while.
  {
    weight: 1,
    arbitrary: inTurn(
      some(fc.record({ type: fc.constantFrom("follow", "lose"), node: anyNode }), 2),
      some(fc.oneof(anyAsk, anyChange), 4),
      some(fc.record({ type: fc.constant("lead"), node: anyNode }), 1),
      settles,
    ),
  },
  // The store fails under those who ask.
  {
    weight: 3,
    arbitrary: inTurn(
      some(
        fc.record({ type: fc.constant("trouble"), node: anyNode, on: fc.constantFrom("commit", "commit", "commit", "open"), outcome: anyOutcome }),
        2,
      ),
      fc.oneof(some(anyAskFor(anyWrite), 5), some(anyAsk, 5)),
      settles,
    ),
  },
  // The store stalls, and the world goes on.
  {
    weight: 3,
    arbitrary: inTurn(
      some(fc.record({ type: fc.constant("stall"), node: anyNode, what: fc.constantFrom("commit", "answer") }), 1),
      fc.oneof(some(anyAskFor(anyWrite), 4), some(anyAsk, 4)),
      settles,
      some(fc.oneof(anyAsk, anyChange), 5),
      some(fc.record({ type: fc.constant("release"), outcome: anyOutcome }), 2),
      settles,
    ),
  },
);
/** A proof of leadership is on its way back while another node takes over and answers, and the one that waits for it is asked once more. */
const lateProof: fc.Arbitrary<readonly Happening[]> = inTurn(
  fc.constant<readonly Happening[]>([
    { type: "lead", node: "first" },
    { type: "settle" },
    { type: "stall", node: "first", what: "answer" },
    { type: "ask", node: "first", what: { type: "timestamps", count: 1 } },
    { type: "settle" },
    { type: "lead", node: "second" },
    { type: "settle" },
    { type: "ask", node: "second", what: { type: "timestamps", count: 1 } },
    { type: "settle" },
  ]),
  some(fc.record({ type: fc.constant("ask"), node: fc.constant("first"), what: anyRead }), 3),
  fc.constant<readonly Happening[]>([{ type: "release", outcome: "goes well" }, { type: "settle" }]),
);
const anyLife = fc
  .array(fc.oneof({ weight: 15, arbitrary: anyScene }, { weight: 1, arbitrary: lateProof }), { minLength: 5, maxLength: 25, size: "max" })
  .map((scenes) => scenes.flat());

async function run(happenings: readonly Happening[]): Promise<SharedWorld> {
  const world = new SharedWorld();
  for (const next of happenings) await world.happen(next);
  await world.heal();
  return world;
}

property(
  "whoever leads, and whatever fails: timestamps rise in real time, sequences have no gap, leases and the frontier hold, and the oracle goes on",
  fc.asyncProperty(anyLife, async (happenings) => {
    const world = await run(happenings);
    expect(world.violations()).toEqual([]);
  }),
);

test("random lives have grants, refusals, uncertain answers, and two nodes that both believe that they lead", async () => {
  const seen = { granted: 0, refused: 0, uncertain: 0, bothServed: 0 };
  for (const happenings of fc.sample(anyLife, { seed: 1, numRuns: 50 })) {
    const world = await run(happenings);
    seen.granted += world.seen.granted;
    seen.refused += world.seen.refused;
    seen.uncertain += world.seen.uncertain;
    seen.bothServed += world.seen.bothServed ? 1 : 0;
  }
  expect(seen.granted).toBeGreaterThan(400);
  expect(seen.refused).toBeGreaterThan(100);
  expect(seen.uncertain).toBeGreaterThan(20);
  expect(seen.bothServed).toBeGreaterThan(3);
});

/** A node that was deposed and has not heard of it: its window is open, and lies below what its successor has granted. */
const DEPOSED: readonly Happening[] = [
  { type: "lead", node: "first" },
  { type: "settle" },
  { type: "ask", node: "first", what: { type: "timestamps", count: 1 } },
  { type: "settle" },
  { type: "lead", node: "second" },
  { type: "settle" },
];

test("a deposed leader that has not heard of it answers nothing from memory", async () => {
  const world = await run([
    ...DEPOSED,
    { type: "ask", node: "second", what: { type: "timestamps", count: 1 } },
    { type: "settle" },
    { type: "ask", node: "first", what: { type: "timestamps", count: 1 } },
    { type: "ask", node: "first", what: { type: "safe point" } },
    { type: "ask", node: "first", what: { type: "frontier" } },
    { type: "settle" },
  ]);
  expect(world.seen).toMatchObject({ bothServed: true, refused: 1 });
  expect(world.violations()).toEqual([]);
});
