/** What goes through the driver: sequences, leases, and how much of it may wait. */
import { status } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { epoch } from "../../../src/base/epoch.ts";
import type { OracleCommand } from "../../../src/oracle/rules/command.ts";
import { deferred } from "../../support/deferred.ts";
import { packed, START_MS } from "../../support/served.ts";
import { LEASE, NOT_LEADER, one, type ServingWorld, settle, startServing, value } from "../../support/serving.ts";

describe("sequences", () => {
  test("requests that come in one turn share one command, and each gets its own", async () => {
    const world = await startServing();
    const { commits } = world.driver;
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, index) => world.serving.getBlocks([{ key: `k${index % 3}`, count: 1 + (index % 2) }])),
    );
    expect(world.of("sequence")).toHaveLength(1);
    expect(world.driver.commits - commits).toBe(1);
    const next = new Map<string, bigint>();
    for (const [index, answer] of answers.entries()) {
      const key = `k${index % 3}`;
      const start = next.get(key) ?? 0n;
      expect(value(answer)).toEqual({ starts: [start], epoch: 1n });
      next.set(key, start + BigInt(1 + (index % 2)));
    }
    expect(world.serving.counters.sequenceValuesIssued).toBe(450);
  });

  test("one that is refused harms none of those it shares a command with", async () => {
    const world = await startServing({ limits: { maxKeys: 1 } });
    const [a, b, c] = await Promise.all(["a", "b", "a"].map((key) => world.serving.getBlocks([{ key, count: 1 }])));
    expect([a?.ok, b?.ok, c?.ok]).toEqual([true, false, true]);
    expect(world.driver.view().sequence("a")?.next).toBe(2n);
  });

  test.each([
    ["stored", "lost" as const, 1n],
    ["not stored", new Error("no route"), 0n],
  ])("one whose outcome is unknown is submitted once: it counts once where it was %s", async (_, commit, next) => {
    const world = await startServing();
    world.driver.script(commit);
    expect(await world.serving.getBlocks([{ key: "k", count: 1 }])).toMatchObject({ failure: { code: status.UNAVAILABLE } });
    expect(world.of("sequence")).toHaveLength(1);
    expect(value(await world.serving.getBlocks([{ key: "k", count: 1 }])).starts).toEqual([next]);
  });

  test("a command has a bound: 1024 requests, and 8192 blocks", async () => {
    const world = await startServing();
    await Promise.all(Array.from({ length: 2_000 }, () => world.serving.getBlocks([{ key: "k", count: 1 }])));
    expect(world.of("sequence").map(({ groups }) => groups.length)).toEqual([1_024, 976]);
    const batch = Array.from({ length: 128 }, (_, index) => ({ key: `k${index}`, count: 1 }));
    await Promise.all(Array.from({ length: 100 }, () => world.serving.getBlocks(batch)));
    expect(world.of("sequence").map(({ groups }) => groups.length)).toEqual([1_024, 976, 64, 36]);
  });

  test("requests of two reigns never share a command", async () => {
    const world = await startServing();
    const first = world.serving.getBlocks([{ key: "k", count: 1 }]);
    // The next reign begins before the turn ends: nothing here waits for a turn.
    world.driver.lead();
    for (let passed = 0; passed < 100 && world.serving.state.type !== "not-serving"; passed++) await undefined;
    for (let passed = 0; passed < 100 && world.serving.state.type !== "serving"; passed++) await undefined;
    expect(world.serving.state).toEqual({ type: "serving", epoch: 2n });
    const second = world.serving.getBlocks([{ key: "k", count: 1 }]);
    expect(await first).toEqual(NOT_LEADER);
    expect(value(await second)).toEqual({ starts: [0n], epoch: 2n });
    expect(world.of("sequence").map((command) => command.epoch)).toEqual([1n, 2n]);
  });

  test("a driver that fences one does not end the reign: only its leadership can", async () => {
    const world = await startServing();
    world.driver.answer = () => ({ type: "fenced", by: epoch(9n) });
    expect(await world.serving.getBlocks([{ key: "k", count: 1 }])).toEqual(NOT_LEADER);
    expect(world.serving.state).toEqual({ type: "serving", epoch: 1n });
    expect(world.serving.counters.notLeader).toBe(1);
  });
});

describe("what waits for the driver", () => {
  const overloaded = (details: string) => ({ ok: false, failure: { code: status.RESOURCE_EXHAUSTED, details } });

  test("has a bound, across sequences, leases and timestamps, and is taken again when the driver has answered", async () => {
    const world = await startServing({ pendingMax: 3 });
    const commit = deferred<"committed">();
    world.driver.script(commit.promise);
    const sequence = world.serving.getBlocks([{ key: "k", count: 1 }]);
    const lease = world.serving.acquireLease(LEASE);
    await settle();
    world.clock.now += 1_001;
    const timestamps = world.serving.getTs(1);
    await settle();
    const full = "3 requests wait for the log (limit 3)";
    expect(await world.serving.getBlocks([{ key: "k", count: 1 }])).toEqual(overloaded(`overloaded: ${full}`));
    expect(await world.serving.initSequence("i", 1n)).toEqual(overloaded(`overloaded: ${full}`));
    expect(await world.serving.acquireLease(LEASE)).toEqual(overloaded(`overloaded: persist leases: ${full}`));
    expect(await world.serving.getTs(1)).toEqual(overloaded(`overloaded: ${full}`));
    commit.resolve("committed");
    expect([(await sequence).ok, (await lease).ok, (await timestamps).ok]).toEqual([true, true, true]);
    expect(value(await world.serving.getBlocks([{ key: "k", count: 1 }])).starts).toEqual([1n]);
  });

  test("counts those that wait for a confirmation", async () => {
    const world = await startServing({ pendingMax: 2 });
    const confirmed = deferred<boolean>();
    world.driver.confirms = () => confirmed.promise;
    const waiting = [world.serving.getTs(1), world.serving.readView()];
    const full = "2 requests wait for the log (limit 2)";
    expect(await world.serving.getTs(1)).toEqual(overloaded(`overloaded: ${full}`));
    expect(await world.serving.readView()).toEqual(overloaded(`overloaded: ${full}`));
    expect(await world.serving.safePoint()).toBeUndefined();
    expect(await world.serving.frontier()).toBeUndefined();
    confirmed.resolve(true);
    expect((await Promise.all(waiting)).map(({ ok }) => ok)).toEqual([true, true]);
  });

  test("is counted off where it fails, too", async () => {
    const world = await startServing({ pendingMax: 1 });
    for (let tries = 0; tries < 3; tries++) {
      world.driver.script(new Error("no route"));
      expect(await world.serving.getBlocks([{ key: "k", count: 1 }])).toMatchObject({ failure: { code: status.UNAVAILABLE } });
    }
    expect((await world.serving.getBlocks([{ key: "k", count: 1 }])).ok).toBe(true);
  });

  test("a request that the rules refuse never waits", async () => {
    const world = await startServing({ pendingMax: 1 });
    const commit = deferred<"committed">();
    world.driver.script(commit.promise);
    void world.serving.getBlocks([{ key: "k", count: 1 }]);
    await settle();
    expect(await world.serving.getBlocks([{ key: "", count: 1 }])).toMatchObject({ failure: { details: "invalid sequence key" } });
    expect(await world.serving.initSequence("", 1n)).toMatchObject({ failure: { details: "invalid sequence key" } });
    expect((await world.serving.acquireLease({ ...LEASE, ttlMs: 1n })).ok).toBe(false);
  });
});

describe("a driver that rejects, though its contract says that it never does", () => {
  const rejecting = async (type: OracleCommand["type"]): Promise<ServingWorld> => {
    const world = await startServing();
    const { submit } = world.driver;
    world.driver.submit = (command) => (command.type === type ? Promise.reject(new Error("a bug of the driver's")) : submit(command));
    return world;
  };
  const unknown = (prefix: string) => ({
    ok: false,
    failure: { code: status.INTERNAL, details: `${prefix}a bug of the driver's (the outcome is unknown)` },
  });

  test("makes what was asked uncertain, and nobody waits for ever", async () => {
    const block = [{ key: "k", count: 1 }];
    const sequences = await rejecting("sequence");
    const answers = await Promise.all([sequences.serving.getBlocks(block), sequences.serving.getBlocks(block)]);
    expect(answers).toEqual([unknown(""), unknown("")]);
    const leases = await rejecting("lease-acquire");
    expect(await leases.serving.acquireLease(LEASE)).toEqual(unknown("persist leases: "));
    const timestamps = await rejecting("advance");
    timestamps.clock.now += 1_001;
    expect(await timestamps.serving.getTs(1)).toEqual(unknown("persist: "));
  });

  test("does no harm where nobody waits", async () => {
    const ahead = await rejecting("advance");
    ahead.clock.now += 700;
    await one(ahead);
    await settle();
    expect(ahead.serving.lastFault).toBe("persist: a bug of the driver's (the outcome is unknown)");
    const upkeep = await rejecting("expire");
    value(await upkeep.serving.acquireLease({ ...LEASE, ttlMs: 5_000n }));
    upkeep.clock.now += 5_000;
    await upkeep.pass(1_000);
    expect(upkeep.of("expire").length).toBeGreaterThan(1);
  });

  test("confirms nothing", async () => {
    const world = await startServing();
    world.driver.confirms = () => Promise.reject(new Error("a bug of the driver's"));
    expect(await world.serving.getTs(1)).toEqual(NOT_LEADER);
  });
});

describe("leases", () => {
  test("upkeep drops one when its time has passed, and not before", async () => {
    const world = await startServing();
    value(await world.serving.acquireLease({ ...LEASE, ttlMs: 5_000n }));
    world.clock.now += 4_999;
    await world.pass(1_000);
    expect(world.of("expire")).toEqual([]);
    world.clock.now += 1;
    await world.pass(1_000);
    expect(world.of("expire")).toEqual([{ type: "expire", epoch: 1n, now: START_MS + 5_000 }]);
    expect(world.driver.view().leaseCount).toBe(0);
  });

  test("upkeep asks once at a time, and again where it failed", async () => {
    const world = await startServing();
    value(await world.serving.acquireLease({ ...LEASE, ttlMs: 5_000n }));
    const commit = deferred<Error>();
    world.driver.script(commit.promise);
    world.clock.now += 5_000;
    await world.pass(5_000);
    expect(world.of("expire")).toHaveLength(1);
    commit.resolve(new Error("no route"));
    await settle();
    expect(world.driver.view().leaseCount).toBe(1);
    await world.pass(1_000);
    expect(world.of("expire")).toHaveLength(2);
    expect(world.driver.view().leaseCount).toBe(0);
  });

  test("upkeep drops one that has passed by the clock on record, though this node's is behind", async () => {
    const world = await startServing();
    value(await world.serving.acquireLease({ ...LEASE, ttlMs: 5_000n }));
    world.clock.now += 6_000;
    value(await world.serving.acquireLease({ ...LEASE, holder: new Uint8Array([2]) }));
    world.clock.now -= 6_000;
    await world.pass(1_000);
    expect(world.driver.view().leaseCount).toBe(1);
  });

  test("upkeep that is fenced ends the reign", async () => {
    const world = await startServing();
    value(await world.serving.acquireLease({ ...LEASE, ttlMs: 5_000n }));
    world.clock.now += 5_000;
    world.driver.answer = () => ({ type: "fenced", by: epoch(9n) });
    await world.pass(1_000);
    expect(world.serving.state).toEqual({ type: "not-serving", role: "follower", hint: { epoch: 9n } });
  });

  test("an end of leases that is still on its way holds up nobody in the next reign", async () => {
    const world = await startServing();
    value(await world.serving.acquireLease({ ...LEASE, ttlMs: 5_000n }));
    const { submit } = world.driver;
    world.driver.submit = (command) => (command.type === "expire" && command.epoch === 1n ? new Promise(() => undefined) : submit(command));
    world.clock.now += 5_000;
    await world.pass(1_000);
    expect(world.driver.view().leaseCount).toBe(1);
    world.driver.lead();
    await settle();
    await world.pass(1_000);
    expect(world.driver.view().leaseCount).toBe(0);
  });

  test("upkeep asks nothing where this node does not serve", async () => {
    const world = await startServing();
    value(await world.serving.acquireLease({ ...LEASE, ttlMs: 5_000n }));
    world.driver.follow();
    await settle();
    const before = world.commands.length;
    world.clock.now += 60_000;
    await world.pass(60_000);
    expect(world.commands).toHaveLength(before);
  });

  test("the frontier is the lowest bound on record, or the window's, and stays where it is through a failed commit", async () => {
    const world = await startServing();
    const frontier = async () => (await world.serving.frontier())?.physicalMs;
    expect(await frontier()).toBe(START_MS + 1_000);
    const first = value(await world.serving.acquireLease({ ...LEASE, ttlMs: 5_000n })).lease;
    const second = value(await world.serving.acquireLease({ ...LEASE, holder: new Uint8Array([2]), ttlMs: 9_000n })).lease;
    expect([first.bound, second.bound]).toEqual([START_MS + 5_000, START_MS + 9_000]);
    expect(await frontier()).toBe(START_MS + 5_000);
    world.driver.script(new Error("no route"));
    await world.serving.getBlocks([{ key: "k", count: 1 }]);
    expect(await frontier()).toBe(START_MS + 5_000);
    value(await world.serving.releaseLease(BigInt(first.id)));
    expect(await frontier()).toBe(START_MS + 9_000);
  });

  test("the safe point follows the clock of an idle leader, below everything that it grants later", async () => {
    const world = await startServing({ windowAheadMs: 1_000, failoverAdvanceMs: 10_000 });
    const safePoint = async () => (await world.serving.safePoint())?.physicalMs;
    expect(await safePoint()).toBe(START_MS - 1);
    world.clock.now += 500;
    expect(await safePoint()).toBe(START_MS + 499);
    world.clock.now -= 500;
    expect(await one(world)).toBe(packed(START_MS + 500));
    world.clock.now += 1_000_000;
    expect(await safePoint()).toBe(START_MS + 10_000 - 1_000 - 1); // as far as the window allows
  });
});
