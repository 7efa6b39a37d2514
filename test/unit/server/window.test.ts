/** The clock, the window and who may grant from it: on a clock that the test moves. */
import { describe, expect, test } from "vitest";
import { type Epoch, epoch } from "../../../src/base/epoch.ts";
import type { Submitted } from "../../../src/oracle/driver.ts";
import { type Deferred, deferred } from "../../support/deferred.ts";
import { packed, START_MS } from "../../support/served.ts";
import {
  applied,
  DAY_MS,
  firstOf,
  hintOf,
  LEASE,
  NOT_LEADER,
  one,
  runServing,
  type ServingWorld,
  settle,
  startServing,
  value,
} from "../../support/serving.ts";

describe("the clock", () => {
  const AWAY_MS = 100 * DAY_MS;

  test("up to the limit beyond the durable high water it is followed, and at a take-over as well", async () => {
    const world = await startServing({ maxClockJumpMs: 5_000, memory: { highWater: START_MS - 5_000 } });
    world.clock.now = START_MS + 1_000 + 5_000;
    expect(await one(world)).toBe(packed(START_MS + 6_000));
  });

  test.each<[string, (world: ServingWorld) => Promise<unknown>]>([
    ["a request that needs a new window", ({ serving }) => serving.getTs(1)],
    ["an acquired lease", ({ serving }) => serving.acquireLease(LEASE)],
    ["a renewed lease", ({ serving }) => serving.renewLease(BigInt(START_MS + 10_000))],
    ["a released lease", ({ serving }) => serving.releaseLease(BigInt(START_MS + 10_000))],
    ["upkeep", ({ pass }) => pass(1_000).then(() => NOT_LEADER)],
  ])("one that runs away ends the server, and %s puts nothing of it on record", async (_, ask) => {
    const world = await startServing();
    value(await world.serving.acquireLease(LEASE));
    const { highWater } = world.driver.view();
    world.clock.now = highWater + DAY_MS + 1;
    expect(await ask(world)).toEqual(NOT_LEADER);
    await settle();
    expect(await world.ended).toEqual({ error: expect.objectContaining({ code: "TSO_LIMIT_REACHED" }) });
    expect(world.driver.view()).toMatchObject({ highWater, clock: START_MS, leaseCount: 1 });
    expect(world.commands.filter((command) => "now" in command && command.now > START_MS)).toEqual([]);
  });

  test("one wrong reading gets on no record, though the next is right", async () => {
    const readings: number[] = [];
    const world = await startServing({ clock: () => readings.shift() ?? START_MS });
    readings.push(START_MS + AWAY_MS);
    await world.serving.getTs(1);
    await settle();
    expect(world.driver.view()).toMatchObject({ highWater: START_MS + 1_000, clock: START_MS });
  });

  test("what it read while another extension was on its way gets on no record, though it was put right meanwhile", async () => {
    const world = await startServing();
    const commit = deferred<"committed">();
    world.driver.script(commit.promise);
    world.clock.now = START_MS + 1_001;
    const first = world.serving.getTs(1);
    await settle();
    world.clock.now = START_MS + AWAY_MS;
    const second = world.serving.getTs(1);
    await settle();
    world.clock.now = START_MS + 1_002;
    commit.resolve("committed");
    await Promise.all([first, second]);
    expect(world.driver.view().highWater).toBeLessThan(START_MS + 10_000);
  });

  test("a jump is accepted once, also after a passing trouble, and the next is not", async () => {
    const world = runServing({ acceptClockJump: true, memory: { highWater: START_MS - AWAY_MS } });
    world.driver.script(new Error("no route"));
    await settle();
    await world.pass(25);
    expect(await one(world)).toBe(packed(START_MS));
    world.clock.now += AWAY_MS;
    world.driver.lead();
    await settle();
    expect(await world.ended).toEqual({ error: expect.objectContaining({ code: "TSO_LIMIT_REACHED" }) });
  });

  test("a jump is not accepted unless it was asked for", async () => {
    const world = runServing({ memory: { highWater: START_MS - AWAY_MS } });
    expect(await world.ended).toEqual({ error: expect.objectContaining({ code: "TSO_LIMIT_REACHED" }) });
  });

  test("one that goes back, or stands still, costs nothing", async () => {
    const world = await startServing();
    const first = await one(world);
    world.clock.now -= AWAY_MS;
    expect(await one(world)).toBe(first + 1n);
    await world.pass(5_000);
    expect(world.of("advance")).toEqual([]);
  });

  test("a fraction is dropped", async () => {
    let now = START_MS + 0.9;
    const world = await startServing({ clock: () => now });
    expect(await one(world)).toBe(packed(START_MS));
    now += 5;
    expect(await one(world)).toBe(packed(START_MS + 5));
    expect(world.driver.view()).toMatchObject({ clock: START_MS, highWater: START_MS + 1_000 });
  });

  test("one that stops telling the time ends the server", async () => {
    let now = START_MS;
    const world = await startServing({ clock: () => now });
    now = Number.NaN;
    await world.pass(1_000);
    expect(await world.ended).toEqual({ error: expect.objectContaining({ code: "TSO_INVALID_OPTION" }) });
  });

  test("is read once for a request that the window covers", async () => {
    let readings = 0;
    const world = await startServing({
      clock: () => {
        readings += 1;
        return START_MS;
      },
    });
    const before = readings;
    await one(world);
    expect(readings - before).toBe(1);
  });
});

describe("the window", () => {
  test("a thousand requests that find it exhausted share one extension, and are granted what follows", async () => {
    const world = await startServing();
    world.clock.now += 1_001;
    const answers = await Promise.all(Array.from({ length: 1_000 }, () => world.serving.getTs(3)));
    const firsts = answers.map((answer) => firstOf(value(answer))).sort((a, b) => Number(a - b));
    expect(firsts).toEqual(Array.from({ length: 1_000 }, (_, index) => packed(START_MS + 1_001, index * 3)));
    expect(world.of("advance")).toEqual([{ type: "advance", epoch: 1n, now: START_MS + 1_001, atLeast: START_MS + 2_001 }]);
    expect(world.serving.counters).toMatchObject({ extensions: 1, waitedForExtension: 1_000, timestampsIssued: 3_000 });
  });

  test("in a minute of steady load nobody waits for an extension, though each takes 200 ms", async () => {
    const world = await startServing({ windowAheadMs: 3_000 });
    const { submit } = world.driver;
    world.driver.submit = async (command) => {
      if (command.type === "advance") await world.later(200);
      return submit(command);
    };
    let last = 0n;
    for (let ms = 0; ms < 60_000; ms += 10) {
      const first = firstOf(value(await world.serving.getTs(1 + (ms % 100))));
      expect(first).toBeGreaterThan(last);
      last = first;
      world.clock.now += 10;
      await world.pass(10);
    }
    expect(world.serving.counters.waitedForExtension).toBe(0);
    expect(world.serving.counters.extensions).toBeGreaterThan(20);
    expect(world.serving.counters.extensions).toBeLessThan(60); // no more than one for each half of a window
  });

  test("the first request after quiet hours does not wait", async () => {
    const world = await startServing();
    for (let minutes = 0; minutes < 120; minutes++) {
      world.clock.now += 60_000;
      await world.pass(60_000);
    }
    expect(await one(world)).toBe(packed(START_MS + 120 * 60_000));
    expect(world.serving.counters.waitedForExtension).toBe(0);
  });

  test("is extended ahead of need by requests as well: more than the clock's worth of timestamps does not wait", async () => {
    const world = await startServing();
    for (let ms = 0; ms < 5_000; ms++) {
      expect(firstOf(value(await world.serving.getTs(262_144)))).toBe(packed(START_MS + ms));
    }
    expect(world.serving.counters.waitedForExtension).toBe(0);
  });

  test("a burst that needs one window after the other is granted whole, each extension for all that wait", async () => {
    const world = await startServing({ windowAheadMs: 20, failoverAdvanceMs: 20 });
    const answers = await Promise.all(Array.from({ length: 100 }, () => world.serving.getTs(262_144)));
    const firsts = answers.map((answer) => firstOf(value(answer))).sort((a, b) => Number(a - b));
    expect(firsts).toEqual(Array.from({ length: 100 }, (_, index) => packed(START_MS + index)));
    expect(world.of("advance").length).toBeLessThan(10);
  });

  test("is raised by leases, and so needs no extension below their bound", async () => {
    const world = await startServing();
    value(await world.serving.acquireLease(LEASE));
    world.clock.now += 9_000;
    expect(await one(world)).toBe(packed(START_MS + 9_000));
    value(await world.serving.renewLease(BigInt(START_MS + 10_000)));
    world.clock.now += 9_000;
    expect(await one(world)).toBe(packed(START_MS + 18_000));
    expect(world.of("advance")).toEqual([]);
  });

  /** Answers `advance` when the test says so, in place of the rules. */
  function holdAdvances(world: ServingWorld): Deferred<Submitted>[] {
    const held: Deferred<Submitted>[] = [];
    const { submit } = world.driver;
    world.driver.submit = (command) => {
      if (command.type !== "advance") return submit(command);
      const answer = deferred<Submitted>();
      held.push(answer);
      return answer.promise;
    };
    return held;
  }

  test.each<[string, (world: ServingWorld) => Epoch | undefined, (world: ServingWorld) => Epoch | undefined]>([
    ["ended", ({ driver }) => void driver.loseLeader() as undefined, ({ driver }) => driver.lead()],
    ["was followed by another", ({ driver }) => driver.lead(), () => undefined],
    ["was followed by another of the same epoch", ({ driver }) => void driver.loseLeader() as undefined, ({ driver }) => driver.lead(epoch(1n))],
  ])("an extension that comes back after its reign %s is ignored", async (_, before, after) => {
    const world = await startServing();
    const held = holdAdvances(world);
    world.clock.now += 1_001;
    const waiting = world.serving.getTs(1);
    await settle();
    before(world);
    await settle();
    held[0]?.resolve(applied({ type: "advanced", highWater: START_MS + 900_000 }));
    expect(await waiting).toEqual(NOT_LEADER);
    await settle();
    after(world);
    await settle();
    expect(world.serving.state.type).toBe("serving");
    world.clock.now = START_MS + 500_000; // which only the late answer would cover
    void world.serving.getTs(1);
    await settle();
    expect(held).toHaveLength(2);
    expect(world.serving.counters).toMatchObject({ timestampsIssued: 0, extensionsIgnored: 1 });
  });

  test("an extension of an earlier reign holds up nobody in the next", async () => {
    const world = await startServing();
    const held = holdAdvances(world);
    world.clock.now += 1_001;
    void world.serving.getTs(1);
    await settle();
    world.driver.lead();
    await settle();
    world.clock.now += 2_001;
    const next = world.serving.getTs(1);
    await settle();
    held[1]?.resolve(applied({ type: "advanced", highWater: START_MS + 900_000 }));
    expect(firstOf(value(await next))).toBe(packed(START_MS + 3_002));
  });

  test("an extension that fails is tried again by those who waited for it, once for all of them", async () => {
    const world = await startServing();
    world.clock.now += 1_001;
    world.driver.script(new Error("no route"));
    const answers = await Promise.all(Array.from({ length: 10 }, () => world.serving.getTs(1)));
    expect(answers.map(({ ok }) => ok)).toEqual([false, ...Array.from({ length: 9 }, () => true)]);
    expect(world.of("advance")).toHaveLength(2);
  });

  test("an extension that is fenced ends the reign for everyone who waits", async () => {
    const world = await startServing();
    world.clock.now += 1_001;
    world.driver.answer = () => ({ type: "fenced", by: epoch(9n) });
    const answers = await Promise.all(Array.from({ length: 10 }, () => world.serving.getTs(1)));
    for (const answer of answers) expect(answer).toEqual(NOT_LEADER);
    expect(world.of("advance")).toHaveLength(1);
    expect(world.serving.state).toEqual({ type: "not-serving", role: "follower", hint: { epoch: 9n } });
  });

  test("an extension that is fenced tells everyone who waits by which epoch", async () => {
    const world = await startServing();
    world.clock.now += 1_001;
    world.driver.answer = () => ({ type: "fenced", by: epoch(9n) });
    const answers = await Promise.all(Array.from({ length: 10 }, () => world.serving.getTs(1)));
    expect(answers.map(hintOf)).toEqual(answers.map(() => ({ epoch: 9n })));
  });

  test("an extension ahead of need that fails is reported, and tried again when it is needed", async () => {
    const world = await startServing();
    world.driver.script(new Error("no route"));
    world.clock.now += 700;
    await one(world);
    await settle();
    expect(world.serving.lastFault).toBe("persist: no route (the outcome is unknown)");
    expect(world.serving.state.type).toBe("serving");
    await one(world);
    await settle();
    expect(world.serving.counters.extensions).toBe(1);
  });
});

describe("confirmation", () => {
  /** Answers every confirmation when the test says so. */
  function holdConfirmations(world: ServingWorld): Deferred<boolean>[] {
    const held: Deferred<boolean>[] = [];
    world.driver.confirms = () => {
      const answer = deferred<boolean>();
      held.push(answer);
      return answer.promise;
    };
    return held;
  }

  test("is asked after the request came, for its epoch, and nothing is taken before the answer", async () => {
    const world = await startServing();
    const before = await one(world);
    const asked: Epoch[] = [];
    const answer = deferred<boolean>();
    world.driver.confirms = (reign) => {
      asked.push(reign);
      return asked.length === 1 ? answer.promise : true;
    };
    await settle();
    expect(asked).toEqual([]);
    const slow = world.serving.getTs(1);
    await settle();
    expect(asked).toEqual([1n]);
    expect(await one(world)).toBe(before + 1n); // the slow one has taken nothing
    answer.resolve(true);
    expect(firstOf(value(await slow))).toBe(before + 2n);
  });

  test("is never one that had begun before the request", async () => {
    const world = await startServing();
    const held = holdConfirmations(world);
    const first = world.serving.getTs(1);
    await settle();
    const begun = held.length;
    const second = world.serving.getTs(1);
    await settle();
    expect(held.length).toBeGreaterThan(begun);
    for (const answer of held.slice(0, begun)) answer.resolve(true);
    expect((await first).ok).toBe(true);
    for (const answer of held.slice(begun)) answer.resolve(false);
    expect(await second).toEqual(NOT_LEADER);
  });

  test("that fails is answered with not leader, and consumes nothing", async () => {
    const world = await startServing();
    const before = await one(world);
    world.driver.confirms = () => false;
    for (let asked = 0; asked < 10; asked++) expect(await world.serving.getTs(100)).toEqual(NOT_LEADER);
    world.driver.confirms = undefined;
    expect(await one(world)).toBe(before + 1n);
    expect(world.serving.counters).toMatchObject({ timestampsIssued: 2, notLeader: 10 });
  });

  test("guards everything that is answered from memory", async () => {
    const world = await startServing();
    world.driver.confirms = () => false;
    expect(await world.serving.getTs(1)).toEqual(NOT_LEADER);
    expect(await world.serving.readView()).toEqual(NOT_LEADER);
    expect(await world.serving.safePoint()).toBeUndefined();
    expect(await world.serving.frontier()).toBeUndefined();
  });

  test.each<[string, (world: ServingWorld) => unknown]>([
    ["ended", (world) => world.driver.loseLeader()],
    ["was followed by another", (world) => world.driver.lead()],
    [
      "ended and began again with the same epoch",
      async (world) => {
        world.driver.loseLeader();
        await settle();
        world.driver.lead(epoch(1n));
      },
    ],
  ])("that comes back after the reign %s is worth nothing, though it says yes", async (_, happens) => {
    const world = await startServing();
    const held = holdConfirmations(world);
    const answers = [world.serving.getTs(1), world.serving.readView()];
    const bounds = [world.serving.safePoint(), world.serving.frontier()];
    await settle();
    await happens(world);
    await settle();
    for (const answer of held) answer.resolve(true);
    expect(await Promise.all(answers)).toEqual([NOT_LEADER, NOT_LEADER]);
    expect(await Promise.all(bounds)).toEqual([undefined, undefined]);
  });

  /** Asks, and lets the confirmation come and the reign end as many steps apart: the reign first where that is below zero. */
  async function askAcross<T>(apart: number, ask: (world: ServingWorld) => Promise<T>): Promise<T> {
    const world = await startServing();
    const held = holdConfirmations(world);
    const answer = ask(world);
    await settle();
    const happenings = [() => world.driver.lead(), () => held[0]?.resolve(true)];
    if (apart > 0) happenings.reverse();
    for (const [index, happens] of happenings.entries()) {
      happens();
      for (let steps = 0; index === 0 && steps < Math.abs(apart); steps++) await undefined;
    }
    return answer;
  }
  const STEPS = Array.from({ length: 41 }, (_, index) => index - 20);

  test("however it falls together with the end of the reign, what is granted is the reign's", async () => {
    const answers = await Promise.all(STEPS.map((apart) => askAcross(apart, ({ serving }) => serving.getTs(1))));
    const granted = answers.filter(({ ok }) => ok).map((answer) => value(answer));
    for (const answer of granted) expect(answer).toEqual({ grant: { physicalMs: START_MS, logicalStart: 0, count: 1 }, epoch: 1n });
    expect(granted.length).toBeGreaterThan(0);
    expect(granted.length).toBeLessThan(answers.length);
  });

  test("however it falls together with the end of the reign, a safe point is whole or there is none", async () => {
    const answers = await Promise.all(STEPS.map((apart) => askAcross(apart, ({ serving }) => serving.safePoint())));
    const told = answers.filter((answer) => answer !== undefined);
    for (const answer of told) expect(answer).toEqual({ physicalMs: START_MS - 1, epoch: 1n });
  });
});
