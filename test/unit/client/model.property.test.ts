import type { status } from "@grpc/grpc-js";
import fc from "fast-check";
import { expect } from "vitest";
import { OracleError } from "../../../src/base/errors.ts";
import { createPrng } from "../../../src/base/prng.ts";
import { OracleClient } from "../../../src/client/oracle-client.ts";
import { type Behaviour, type Conduct, DOWNGRADE, type Flaw, type HintKind, NOWHERE, ScriptedWorld, UPGRADE } from "../../support/client-world.ts";
import { property } from "../../support/property.ts";

const CONFIGURED = ["a:1", "b:1", "c:1"];
const NODES = [...CONFIGURED, "d:1"]; // one that only hints name

/** How much later than its deadline a call may end. */
const GRACE_MS = 250;
const LAST_PHASE_MS = 60_000;

const anyHint = fc.constantFrom<HintKind[]>(
  "right",
  "right",
  "absent",
  "empty",
  "stale",
  "looping",
  "malformed",
  "http",
  "https",
  "garbage",
  "no epoch",
  "nowhere",
);
const anyCode = fc.constantFrom(...Array.from({ length: 16 }, (_, index): status => index + 1));
const anyFlaw = fc.constantFrom<Flaw[]>("count", "key", "epoch", "range", "empty");
const anyConduct: fc.Arbitrary<Conduct> = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Conduct>({ type: "honest" }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("status" as const), code: anyCode, done: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("silent" as const), done: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("dropped" as const), done: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant<Conduct>({ type: "unsent" }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("wrong" as const), done: fc.boolean(), how: anyFlaw }) },
  { weight: 1, arbitrary: fc.constant<Conduct>({ type: "forgetful" }) },
  { weight: 1, arbitrary: fc.constant<Conduct>({ type: "stale" }) },
);
const anyDelay = fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 0, max: 20 }) }, { weight: 1, arbitrary: fc.integer({ min: 0, max: 5_000 }) });
const anyBehaviour: fc.Arbitrary<Behaviour> = fc.record({ workMs: anyDelay, replyMs: anyDelay, what: anyConduct, hint: anyHint });

type Asked =
  | { readonly type: "ts" | "seq" | "seqs" | "acquire" | "renew" | "release" | "frontier" | "safe" }
  | { readonly type: "range" | "batch"; readonly count: number };
interface Arrival {
  readonly at: number;
  readonly asked: Asked;
  readonly deadlineMs: number;
  readonly abortAfter: number | undefined;
}
const anyTime = fc.oneof(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 3_000 }));
const anyArrival: fc.Arbitrary<Arrival> = fc.record({
  at: anyTime,
  asked: fc.oneof(
    { weight: 5, arbitrary: fc.record({ type: fc.constant("ts" as const) }) },
    {
      weight: 2,
      arbitrary: fc.record({ type: fc.constantFrom("range" as const, "batch" as const), count: fc.constantFrom(1, 2, 5, 1_000, 100_000, 262_144) }),
    },
    { weight: 6, arbitrary: fc.record({ type: fc.constantFrom("seq" as const, "seqs" as const) }) },
    {
      weight: 3,
      arbitrary: fc.record({ type: fc.constantFrom("acquire" as const, "renew" as const, "release" as const, "frontier" as const, "safe" as const) }),
    },
  ),
  deadlineMs: fc.oneof(fc.constant(10_000), fc.integer({ min: 1, max: 6_000 })),
  abortAfter: fc.option(fc.integer({ min: 0, max: 4_000 }), { nil: undefined, freq: 4 }),
});
const anyTurmoil = fc.record({
  at: anyTime,
  what: fc.oneof(
    fc.record({ type: fc.constant("lead" as const), node: fc.constantFrom(...NODES, undefined) }),
    fc.record({
      type: fc.constant("reach" as const),
      node: fc.constantFrom(...NODES),
      reachable: fc.constantFrom("up" as const, "refused" as const, "silent" as const),
    }),
  ),
});
const anyLife = fc.record({
  seed: fc.integer(),
  secure: fc.boolean(),
  script: fc.array(anyBehaviour, { maxLength: 30 }),
  arrivals: fc.array(anyArrival, { minLength: 1, maxLength: 25 }),
  turmoil: fc.array(anyTurmoil, { maxLength: 8 }),
  firstLeader: fc.constantFrom(...NODES, undefined),
  lastLeader: fc.constantFrom(...CONFIGURED),
});
type Life = typeof anyLife extends fc.Arbitrary<infer T> ? T : never;

property("whatever the nodes do, callers are told the truth, in time", fc.asyncProperty(anyLife, checkLife));

/** A call, what came of it, and when: in virtual ms and in steps of the world. */
interface Call {
  readonly id: string;
  readonly arrival: Arrival;
  readonly startedAt: number;
  readonly startedStep: number;
  readonly epochAtStart: bigint;
  endedAt: number | undefined;
  endedStep: number;
  result: unknown;
  error: unknown;
}

const ABORTED = new Error("aborted by the test");

async function checkLife(life: Life): Promise<void> {
  const prng = createPrng(life.seed);
  const world = new ScriptedWorld({ nodes: NODES, script: life.script, random: () => prng.next() });
  const client = OracleClient.inWorld(CONFIGURED, life.secure ? { tls: true } : {}, world);
  const calls: Call[] = [];
  world.lead(life.firstLeader);
  for (const { at, what } of life.turmoil)
    world.at(at, () => (what.type === "lead" ? world.lead(what.node) : world.reach(what.node, what.reachable)));
  for (const arrival of life.arrivals) world.at(arrival.at, () => calls.push(start(client, world, arrival, `call ${calls.length}`)));
  const pending = (): readonly Call[] => calls.filter(({ arrival, endedAt }) => endedAt === undefined && isTimestamps(arrival.asked));
  world.onTimestamps = (count) => {
    expect(count, "a request is for no more than a grant can hold").toBeLessThanOrEqual(262_144);
    expect(count, "a request is for those who wait, and for nobody else").toBeLessThanOrEqual(
      pending().reduce((sum, { arrival }) => sum + countOf(arrival.asked), 0),
    );
  };
  let isWell = false;
  let epoch = -1n;
  const watch = (): void => {
    if (!isWell && pending().length === 0) expect(world.isQuiet, "nothing is under way when nobody waits").toBe(true);
    expect(client.epoch ?? -1n, "the epoch never goes back").toBeGreaterThanOrEqual(epoch);
    epoch = client.epoch ?? -1n;
  };
  await world.run(20_000, watch);
  for (const call of calls) checkCall(call, world);
  checkOrder(calls);
  expect(world.violations).toEqual([]);
  expect(world.asked.has(life.secure ? DOWNGRADE : UPGRADE), "a hint that changes the security").toBe(false);
  const known = [...NODES, NOWHERE, life.secure ? UPGRADE : DOWNGRADE];
  expect(
    [...world.asked].filter((endpoint) => !known.includes(endpoint)),
    "what is no endpoint is not asked",
  ).toEqual([]);
  // Whatever happened: once the nodes are well, so is the client.
  isWell = true;
  world.heal();
  world.lead(life.lastLeader);
  world.onTimestamps = () => undefined;
  const last = start(client, world, { at: 0, asked: { type: "ts" }, deadlineMs: 10_000, abortAfter: undefined }, "last");
  const lastBlock = start(client, world, { at: 0, asked: { type: "seq" }, deadlineMs: 10_000, abortAfter: undefined }, "last block");
  await world.run(LAST_PHASE_MS, watch);
  for (const call of [last, lastBlock]) {
    checkCall(call, world);
    expect(call.error, `${call.id}, with the nodes well`).toBeUndefined();
  }
  checkOrder([...calls, last]);
  expect(client.epoch, "the epoch is that of the last answer").toBe(world.epoch);
  await client.close();
}

function start(client: OracleClient, world: ScriptedWorld, arrival: Arrival, id: string): Call {
  const call: Call = {
    id,
    arrival,
    startedAt: world.now,
    startedStep: world.step,
    epochAtStart: client.epoch ?? -1n,
    endedAt: undefined,
    endedStep: -1,
    result: undefined,
    error: undefined,
  };
  const controller = new AbortController();
  if (arrival.abortAfter !== undefined) world.at(world.now + arrival.abortAfter, () => controller.abort(ABORTED));
  const options = { deadlineMs: arrival.deadlineMs, signal: controller.signal };
  const end = (): void => {
    expect(call.endedAt, "a call ends once").toBeUndefined();
    call.endedAt = world.now;
    call.endedStep = world.step;
  };
  ask(client, arrival.asked, id, options).then(
    (result) => {
      call.result = result;
      end();
    },
    (error: unknown) => {
      call.error = error;
      end();
    },
  );
  return call;
}

function ask(
  client: OracleClient,
  asked: Asked,
  id: string,
  options: { readonly deadlineMs: number; readonly signal: AbortSignal },
): Promise<unknown> {
  switch (asked.type) {
    case "ts":
      return client.getTs(options);
    case "range":
      return client.getTsRange(asked.count, options);
    case "batch":
      return client.getTsBatch(asked.count, options);
    case "seq":
      return client.getSeq(id, 3, options);
    case "seqs":
      return client.getSeqBatch(
        [
          { key: id, count: 2 },
          { key: `${id}, too`, count: 1 },
        ],
        options,
      );
    case "acquire":
      return client.acquireLease(id, options);
    case "renew":
      return client.renewLease(leaseOf(id), options);
    case "release":
      return client.releaseLease(leaseOf(id), options);
    case "frontier":
      return client.getSafeFrontier(options);
    case "safe":
      return client.getCurrentMaxSafe(options);
    default:
      return asked satisfies never;
  }
}

function isTimestamps({ type }: Asked): boolean {
  return type === "ts" || type === "range" || type === "batch";
}

function countOf(asked: Asked): number {
  return "count" in asked ? asked.count : 1;
}

/** Each call its own lease, so that what was done can be told apart. */
function leaseOf(id: string): bigint {
  return BigInt(`0x${Buffer.from(id).toString("hex").slice(-14)}`);
}

function checkCall(call: Call, world: ScriptedWorld): void {
  const { arrival, error, id } = call;
  const endedAt = call.endedAt ?? Number.POSITIVE_INFINITY;
  expect(endedAt - call.startedAt, `${id} ends within its deadline`).toBeLessThanOrEqual(arrival.deadlineMs + GRACE_MS);
  if (arrival.abortAfter !== undefined) expect(endedAt - call.startedAt, `${id} ends when it is aborted`).toBeLessThanOrEqual(arrival.abortAfter + 1);
  if (error !== undefined && error !== ABORTED) expect(error, id).toBeInstanceOf(OracleError);
  const done = timesDone(call, world);
  const outcome = error instanceof OracleError ? error.outcome : "not-applied";
  switch (arrival.asked.type) {
    case "ts":
    case "range":
    case "batch":
      if (error === undefined) checkFresh(call, world);
      return;
    case "seq":
    case "seqs":
      expect(done, `${id} is done at most once`).toBeLessThanOrEqual(1);
      if (error === undefined) expect(startOf(call.result), `${id} is told its block`).toBe(world.blocks.get(id)?.[0]?.start);
      else if (outcome === "not-applied") expect(done, `${id} was told that nothing was done: ${String(error)}`).toBe(0);
      return;
    case "acquire":
    case "renew":
    case "release":
      if (error === undefined) expect(done, `${id} was told that it was done`).toBeGreaterThan(0);
      else if (outcome === "not-applied" && !isOver(error)) expect(done, `${id} was told that nothing was done: ${String(error)}`).toBe(0);
      return;
    case "frontier":
    case "safe":
      if (error === undefined) checkBound(call);
      return;
    default:
      arrival.asked satisfies never;
  }
}

/** What is said of the lease itself holds whatever was done to it before. */
function isOver(error: unknown): boolean {
  return error instanceof OracleError && (error.code === "TSO_LEASE_LOST" || error.code === "TSO_FENCED");
}

function timesDone({ id, arrival }: Call, world: ScriptedWorld): number {
  const { type } = arrival.asked;
  if (type === "seq" || type === "seqs") return world.blocks.get(id)?.length ?? 0;
  if (type === "acquire") return world.leases.get(`acquire ${id}`) ?? 0;
  if (type === "renew" || type === "release") return world.leases.get(`${type}Lease ${leaseOf(id)}`) ?? 0;
  return 0;
}

function checkBound({ id, result, epochAtStart }: Call): void {
  const { physicalMs, epoch } = result as { readonly physicalMs: number; readonly epoch: bigint };
  expect(physicalMs, `${id} has a bound`).toBeGreaterThan(0);
  expect(epoch, `${id} has a bound of no earlier leader than was known`).toBeGreaterThanOrEqual(epochAtStart);
}

function startOf(result: unknown): bigint | undefined {
  const block = Array.isArray(result) ? result[0] : result;
  return (block as { readonly start: bigint } | undefined)?.start;
}

/** The block as `[first, end)`. */
function blockOf({ result }: Call): { readonly first: bigint; readonly end: bigint } {
  if (typeof result === "bigint") return { first: result, end: result + 1n };
  if (Array.isArray(result)) {
    expect(
      result.findIndex((each, index) => each !== result[0] + BigInt(index)),
      "a batch is one block",
    ).toBe(-1);
    return { first: result[0], end: result[0] + BigInt(result.length) };
  }
  const { first, count } = result as { readonly first: bigint; readonly count: number };
  return { first, end: first + BigInt(count) };
}

/** It lies whole in one answer, to a request that left after the call had begun. */
function checkFresh(call: Call, world: ScriptedWorld): void {
  const { first, end } = blockOf(call);
  expect(end - first, `${call.id} has as many as it asked for`).toBe(BigInt(countOf(call.arrival.asked)));
  const whole = world.allocations.filter((each) => each.first <= first && end <= each.first + BigInt(each.count));
  expect(whole, `${call.id} has one block of one answer`).not.toEqual([]);
  const fresh = whole.filter(({ askedAt, decidedAt }) => askedAt >= call.startedStep && decidedAt <= call.endedStep);
  expect(fresh, `${call.id} has what was asked for after it began`).not.toEqual([]);
}

/** Nothing twice, and what was asked for after another was received is above it. */
function checkOrder(calls: readonly Call[]): void {
  const granted = calls.filter(({ arrival, endedAt, error }) => isTimestamps(arrival.asked) && endedAt !== undefined && error === undefined);
  for (const [index, call] of granted.entries()) {
    const block = blockOf(call);
    for (const other of granted.slice(index + 1)) {
      const otherBlock = blockOf(other);
      expect(block.end <= otherBlock.first || otherBlock.end <= block.first, `${call.id} and ${other.id} share a timestamp`).toBe(true);
      if (call.endedStep < other.startedStep) expect(otherBlock.first, `${other.id} came after ${call.id}`).toBeGreaterThanOrEqual(block.end);
      if (other.endedStep < call.startedStep) expect(block.first, `${call.id} came after ${other.id}`).toBeGreaterThanOrEqual(otherBlock.end);
    }
  }
}
