/** The fence, and how serving ends. Nothing of gRPC, of real time or of real storage. */
import { describe, expect, test } from "vitest";
import { epoch } from "../../../src/base/epoch.ts";
import type { Submitted } from "../../../src/oracle/driver.ts";
import type { OracleOutcome } from "../../../src/oracle/rules/command.ts";
import { PHYSICAL_MS_MAX } from "../../../src/oracle/rules/timestamp.ts";
import { deferred } from "../../support/deferred.ts";
import { packed, START_MS } from "../../support/served.ts";
import { applied, DAY_MS, LEASE, NOT_LEADER, one, runServing, type ServingWorld, settle, startServing, value } from "../../support/serving.ts";

/** Everything that a client can ask for. */
const REQUESTS: readonly (readonly [string, (world: ServingWorld) => Promise<unknown>])[] = [
  ["getTs", ({ serving }) => serving.getTs(1)],
  ["getBlocks", ({ serving }) => serving.getBlocks([{ key: "k", count: 1 }])],
  ["initSequence", ({ serving }) => serving.initSequence("k", 1n)],
  ["readView", ({ serving }) => serving.readView()],
  ["acquireLease", ({ serving }) => serving.acquireLease(LEASE)],
  ["renewLease", ({ serving }) => serving.renewLease(7n)],
  ["releaseLease", ({ serving }) => serving.releaseLease(7n)],
];

async function expectNothingServed(world: ServingWorld): Promise<void> {
  for (const [name, ask] of REQUESTS) expect(await ask(world), name).toEqual(NOT_LEADER);
  expect(await world.serving.safePoint()).toBeUndefined();
  expect(await world.serving.frontier()).toBeUndefined();
  expect(world.serving.unconfirmedSafePoint()).toBe(0);
}

describe("taking over", () => {
  test("serves nothing before its take-over is applied, and then from the floor that the take-over gave", async () => {
    const taken = deferred<"committed">();
    const world = runServing({ memory: { highWater: START_MS + 40 } });
    world.driver.script(taken.promise);
    await settle();
    expect(world.serving.state).toEqual({ type: "not-serving", role: "leader", hint: {} });
    await expectNothingServed(world);
    expect(world.commands).toEqual([expect.objectContaining({ type: "take-over", epoch: 1n, now: START_MS })]);
    taken.resolve("committed");
    await settle();
    expect(world.serving.state).toEqual({ type: "serving", epoch: 1n });
    expect(await one(world)).toBe(packed(START_MS + 41));
  });

  test("whoever is told that it serves finds a window, and whoever is told that it does not finds none", async () => {
    const world = runServing();
    const windows: (readonly [state: string, window: boolean])[] = [];
    const reading = (async () => {
      for await (const { type } of world.serving.states()) windows.push([type, world.serving.unconfirmedSafePoint() > 0]);
    })();
    for (const happens of [() => world.driver.loseLeader(), () => world.driver.lead(), () => world.serving.stop()]) {
      await settle();
      happens();
    }
    await reading;
    expect(windows.length).toBeGreaterThan(4);
    for (const [state, window] of windows) expect(window).toBe(state === "serving");
  });

  test("has a window before it says that it serves, and none when it says that it does not", async () => {
    // Nobody else can look in between, for it all happens in one step; but the time of a transition is taken just before it is told.
    const looks: (readonly [before: string, window: boolean])[] = [];
    let observed: ServingWorld | undefined;
    const look = (world: ServingWorld): void => {
      observed = undefined; // what is looked at reads the clock as well
      looks.push([world.serving.state.type, world.serving.unconfirmedSafePoint() > 0]);
      observed = world;
    };
    const clock = (): number => {
      if (observed !== undefined) look(observed);
      return START_MS;
    };
    const world = runServing({ clock });
    observed = world;
    await settle();
    expect(looks.at(-1)).toEqual(["not-serving", true]);
    world.driver.loseLeader();
    await settle();
    expect(looks.at(-1)).toEqual(["serving", false]);
  });

  test("the newest event wins over a take-over that is still on its way", async () => {
    const first = deferred<"committed">();
    const world = runServing();
    world.driver.script(first.promise);
    await settle();
    world.driver.lead();
    await settle();
    expect(world.serving.state).toMatchObject({ type: "not-serving", role: "leader" });
    first.resolve("committed");
    await settle();
    expect(world.serving.state).toEqual({ type: "serving", epoch: 2n });
    expect(world.of("take-over").map((command) => command.epoch)).toEqual([1n, 2n]);
    const { highWater } = world.driver.view();
    expect(await one(world)).toBe(packed(highWater - 1_000)); // the floor of the second, not of the first
    expect(world.serving.counters.transitions).toBe(1);
  });

  test.each([
    [
      "another node leads",
      (world: ServingWorld) => world.driver.follow({ epoch: epoch(9n), endpoint: "b:1" }),
      { role: "follower", hint: { epoch: 9n, endpoint: "b:1" } },
    ],
    ["nobody is known to lead", (world: ServingWorld) => world.driver.loseLeader(), { role: "unknown", hint: {} }],
  ])("a take-over that is applied after %s serves nothing", async (_, happens, state) => {
    const taken = deferred<"committed">();
    const world = runServing();
    world.driver.script(taken.promise);
    await settle();
    happens(world);
    await settle();
    taken.resolve("committed");
    await settle();
    expect(world.serving.state).toEqual({ type: "not-serving", ...state });
    await expectNothingServed(world);
  });

  test.each<Submitted>([
    ...(["unavailable", "overloaded", "aborted", "closed", "superseded", "transferring"] as const).map((reason) => ({
      type: "not-applied" as const,
      reason,
    })),
    ...(["deadline", "unavailable", "aborted", "snapshot", "closed", "storage"] as const).map((reason) => ({ type: "unknown" as const, reason })),
  ])("tries again after $type, $reason", async (submitted) => {
    const world = runServing();
    let troubles = 2;
    world.driver.answer = () => (troubles-- > 0 ? submitted : undefined);
    await settle();
    expect(world.serving.state.type).toBe("not-serving");
    expect(world.serving.lastFault).toBe(`take-over: ${submitted.type === "fenced" || submitted.type === "applied" ? "" : submitted.reason}`);
    await world.pass(25 + 50);
    expect(world.serving.state).toEqual({ type: "serving", epoch: 1n });
    expect(world.serving.counters.fenceRetries).toBe(2);
    expect(world.serving.lastFault).toBeUndefined();
  });

  test("tries again for as long as it leads, after 25 ms at first and never more than 250", async () => {
    const world = runServing();
    world.driver.answer = () => ({ type: "not-applied", reason: "unavailable", detail: "no route" });
    await settle();
    for (const [tries, ms] of [25, 50, 100, 200, 250, 250, 250].entries()) {
      await world.pass(ms - 1);
      expect(world.of("take-over")).toHaveLength(tries + 1);
      await world.pass(1);
      expect(world.of("take-over")).toHaveLength(tries + 2);
    }
    world.clock.now += 5_000;
    world.driver.answer = undefined;
    await world.pass(250);
    expect(world.serving.state.type).toBe("serving");
    expect(world.of("take-over").at(-1)?.now).toBe(START_MS + 5_000); // the time of this try, not of the first
  });

  test("says that it tries again at first, and then now and again", async () => {
    const world = runServing();
    world.driver.answer = () => ({ type: "not-applied", reason: "unavailable" });
    await settle();
    await world.pass(25 + 50 + 100 + 200 + 250 * 40);
    const told = world.log.filter(({ level }) => level === "warn").map(({ fields }) => fields["times"]);
    expect(told).toEqual([1, 8, 20, 40]);
  });

  test("a newer event does not wait for the next try", async () => {
    const world = runServing();
    world.driver.script(new Error("no route"));
    await settle();
    world.driver.lead();
    await settle();
    expect(world.serving.state).toEqual({ type: "serving", epoch: 2n });
  });

  test("stops trying when it no longer leads", async () => {
    const world = runServing();
    world.driver.script(new Error("no route"));
    await settle();
    world.driver.follow();
    await settle();
    await world.pass(10_000);
    expect(world.of("take-over")).toHaveLength(1);
    expect(world.serving.state.type).toBe("not-serving");
  });

  test.each<[string, Submitted, object]>([
    ["it was fenced", { type: "fenced", by: epoch(9n) }, { epoch: 9n }],
    ["it was fenced by nobody knows whom", { type: "fenced" }, {}],
    ["the driver does not lead", { type: "not-applied", reason: "not-leader" }, {}],
    ["the driver leads another reign", { type: "not-applied", reason: "epoch-differs" }, {}],
  ])("steps down where %s, and waits for the next event", async (_, submitted, hint) => {
    const world = runServing();
    world.driver.answer = () => submitted;
    await settle();
    await world.pass(10_000);
    expect(world.of("take-over")).toHaveLength(1);
    expect(world.serving.state).toEqual({ type: "not-serving", role: "follower", hint });
    world.driver.answer = undefined;
    world.driver.lead();
    await settle();
    expect(world.serving.state).toEqual({ type: "serving", epoch: 2n });
  });

  test("the same epoch announced twice is the same reign", async () => {
    const world = await startServing();
    const before = await one(world);
    world.driver.lead(epoch(1n));
    await settle();
    expect(world.of("take-over")).toHaveLength(1);
    expect(await one(world)).toBe(before + 1n);
  });

  test("an epoch that is lost and led again is a new reign, above all that the first could grant", async () => {
    const world = await startServing();
    await one(world);
    world.driver.loseLeader();
    await settle();
    world.driver.lead(epoch(1n));
    await settle();
    expect(world.serving.state).toEqual({ type: "serving", epoch: 1n });
    expect(world.of("take-over")).toHaveLength(2);
    expect(await one(world)).toBe(packed(START_MS + 1_001));
    expect(world.serving.counters.transitions).toBe(3);
  });

  test("an epoch of 128 bits is kept whole", async () => {
    const world = runServing({ memory: { leads: false } });
    world.driver.lead(epoch(7n));
    await settle();
    world.driver.lead(epoch(2n ** 64n + 7n)); // not the same, though its lower half is
    await settle();
    expect(value(await world.serving.getTs(1)).epoch).toBe(2n ** 64n + 7n);
  });
});

describe("what no retry can mend ends the server", () => {
  /** It ended for the reason, told its readers, and serves nothing. */
  async function expectEnd(world: ServingWorld, code: string, message: string): Promise<void> {
    await settle();
    expect(await world.ended).toEqual({ error: expect.objectContaining({ name: "OracleError", code, message: `${code}: ${message}` }) });
    expect(world.serving.lastFault).toBe(`${code}: ${message}`);
    expect(world.log).toContainEqual(expect.objectContaining({ level: "error" }));
    const states: unknown[] = [];
    for await (const state of world.serving.states()) states.push(state);
    expect(states).toEqual([]);
    await expectNothingServed(world);
  }

  test("limits that differ from those of the first start", async () => {
    const first = await startServing();
    first.serving.stop();
    await first.ended;
    const world = runServing({ on: first.driver, limits: { maxLeases: 5, maxKeys: 6 } });
    await expectEnd(world, "TSO_INVALID_OPTION", "maxKeys is 10000 here since the first start, and 6 was asked for: it cannot change");
    expect(first.driver.view().limits?.maxKeys).toBe(10_000);
  });

  test("a clock that is too far beyond the durable high water, before anything of it is on record", async () => {
    const highWater = START_MS - DAY_MS - 1;
    const world = runServing({ memory: { highWater } });
    await expectEnd(
      world,
      "TSO_LIMIT_REACHED",
      "the clock reads 2023-11-14T22:13:20.000Z, more than 86400000 ms beyond the durable high water 2023-11-13T22:13:19.999Z: following it would burn " +
        "the range between them for ever. Set the clock right, or accept it once with --accept-clock-jump (acceptClockJump)",
    );
    expect(world.driver.view()).toMatchObject({ highWater, clock: 0 });
  });

  test("a clock beyond the range of timestamps", async () => {
    const world = runServing({ acceptClockJump: true, clock: () => PHYSICAL_MS_MAX - 999 });
    await expectEnd(world, "TSO_LIMIT_REACHED", `physical ms ${2 ** 46} exceeds the 46-bit timestamp field: is the clock right?`);
  });

  test.each<[string, Exclude<OracleOutcome, { type: "fenced" }>]>([
    ["advanced", { type: "advanced", highWater: START_MS }],
    ["taken-over", { type: "taken-over", floor: START_MS, highWater: START_MS - 1 }],
  ])("a driver that answers a take-over with %s and no window", async (type, outcome) => {
    const world = runServing();
    world.driver.answer = () => applied(outcome);
    await expectEnd(world, "TSO_STORAGE", `the driver answered a take-over with ${type}, which gives no window`);
  });

  test("a driver that rejects", async () => {
    const world = runServing();
    world.driver.answer = () => {
      throw new Error("a bug of the driver's");
    };
    await settle();
    expect(await world.ended).toEqual({ error: new Error("a bug of the driver's") });
  });

  test("a driver whose leadership fails", async () => {
    const world = await startServing();
    world.driver.fail(new Error("the disk is gone"));
    await settle();
    expect(await world.ended).toEqual({ error: new Error("the disk is gone") });
    expect(world.serving.lastFault).toBe("the disk is gone");
    await expectNothingServed(world);
  });

  test("a driver whose leadership ends", async () => {
    const world = await startServing();
    await world.driver.close();
    await settle();
    expect(await world.ended).toEqual({ error: expect.objectContaining({ code: "TSO_CLOSED" }) });
    await expectNothingServed(world);
  });

  test("a second server on the same driver, while the first goes on", async () => {
    const first = await startServing();
    const second = runServing({ on: first.driver });
    await settle();
    expect(await second.ended).toEqual({ error: expect.objectContaining({ code: "TSO_ALREADY_SUBSCRIBED" }) });
    await expectNothingServed(second);
    await one(first);
  });
});

describe("stopping", () => {
  test("a take-over that fails in whatever way after the end concerns nobody", async () => {
    const world = runServing();
    let reject: (error: Error) => void = () => undefined;
    world.driver.submit = () =>
      new Promise((_, late) => {
        reject = late;
      });
    await settle();
    world.serving.stop();
    expect(await world.ended).toEqual({});
    reject(new Error("a bug of the driver's"));
    await settle();
  });

  test("ends quietly, serves nothing, and leaves the driver to the next server", async () => {
    const world = await startServing();
    const last = await one(world);
    world.serving.stop();
    expect(await world.ended).toEqual({});
    await expectNothingServed(world);
    const next = await startServing({ on: world.driver });
    expect(await one(next)).toBeGreaterThan(last);
  });

  test("what waits for the driver is still answered", async () => {
    const world = await startServing();
    const commit = deferred<"committed">();
    world.driver.script(commit.promise);
    const blocks = world.serving.getBlocks([{ key: "k", count: 2 }]);
    await settle();
    world.serving.stop();
    expect(await world.ended).toEqual({});
    commit.resolve("committed");
    expect(value(await blocks)).toEqual({ starts: [0n], epoch: 1n });
  });
});

test("a bug is told to the client, and to the operator in full", async () => {
  const world = await startServing();
  const bug = new Error("it does not hold");
  expect(world.serving.bug(bug)).toBe("internal error: it does not hold");
  expect(world.serving.lastFault).toBe("it does not hold");
  expect(world.log).toContainEqual({ level: "error", message: "a request met a bug", fields: { error: bug.stack } });
});
