import { getEventListeners } from "node:events";
import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { OracleError } from "../../../src/base/errors.ts";
import type { ClientMetrics, ClientOptions } from "../../../src/client/index.ts";
import { OracleClient } from "../../../src/client/oracle-client.ts";
import { type Behaviour, type Conduct, type Reachable, ScriptedWorld } from "../../support/client-world.ts";

const NODES = ["a:1", "b:1", "c:1"];
const doing = (what: Conduct, more: Partial<Behaviour> = {}): Behaviour => ({ workMs: 1, replyMs: 1, hint: "right", what, ...more });
const honest = doing({ type: "honest" });
const silent = doing({ type: "silent", done: true });

function living(
  options: {
    readonly script?: readonly Behaviour[];
    readonly client?: ClientOptions;
    readonly leader?: string | undefined;
    readonly nodes?: readonly string[];
    readonly random?: () => number;
  } = {},
) {
  const nodes = options.nodes ?? NODES;
  const world = new ScriptedWorld({ nodes, script: options.script ?? [], random: options.random ?? (() => 0.5) });
  if (!("leader" in options)) world.lead("a:1");
  else if (options.leader !== undefined) world.lead(options.leader);
  const client = OracleClient.inWorld(
    nodes.filter((node) => node !== "d:1"),
    options.client ?? {},
    world,
  );
  const counts: number[] = [];
  world.onTimestamps = (count) => counts.push(count);
  return { world, client, counts };
}

/** What came of a promise so far. */
function watched<T>(promise: Promise<T>, world: ScriptedWorld) {
  const state: { result?: T; error?: unknown; at?: number } = {};
  promise.then(
    (result) => Object.assign(state, { result, at: world.now }),
    (error: unknown) => Object.assign(state, { error, at: world.now }),
  );
  return state;
}

test("callers of one turn share a request; those who come while it is under way share the next", async () => {
  const { world, client, counts } = living({ nodes: ["a:1"] });
  const calls = [client.getTs(), client.getTs(), client.getTsRange(3)].map((each) => watched<unknown>(each, world));
  await world.run(0);
  calls.push(watched(client.getTs(), world), watched(client.getTs(), world)); // there is no connection yet
  await world.run(2);
  calls.push(watched(client.getTs(), world)); // the first request is under way
  await world.run(100);
  expect(counts).toEqual([7, 1]);
  for (const { error, result } of calls) expect({ error, result }).toEqual({ error: undefined, result: expect.anything() });
});

test("a caller who is answered and asks again, even a few steps later, is in the next request with all the others", async () => {
  const { world, client, counts } = living({ nodes: ["a:1"] });
  await primed(client, world);
  const caller = async (steps: number): Promise<void> => {
    for (let round = 0; round < 3; round++) {
      await client.getTs();
      for (let step = 0; step < steps; step++) await undefined;
    }
  };
  const all = Promise.all([0, 1, 5, 10].map(caller));
  await world.run(200);
  await all;
  expect(counts.slice(1)).toEqual([4, 4, 4]);
});

test("more than one grant can hold goes in several requests, each caller's block whole", async () => {
  const { world, client, counts } = living({ nodes: ["a:1"] });
  const blocks = [200_000, 100_000, 262_144, 1].map((count) => watched(client.getTsRange(count), world));
  await world.run(500);
  expect(counts).toEqual([200_000, 100_000, 262_144, 1]);
  expect(blocks.map(({ result }) => result?.count)).toEqual([200_000, 100_000, 262_144, 1]);
});

test("more callers than queueMax are refused at once, and the others are served", async () => {
  const { world, client } = living({ client: { queueMax: 3 } });
  const waiting = [client.getTs(), client.getTs(), client.getTs()].map((each) => watched(each, world));
  await expect(client.getTs()).rejects.toThrow("TSO_OVERLOADED: queueMax 3 callers wait for timestamps already");
  await world.run(100);
  expect(waiting.map(({ error }) => error)).toEqual([undefined, undefined, undefined]);
  const after = watched(client.getTs(), world);
  await world.run(200);
  expect(after.result, "there is room again").toBeDefined();
});

test("room is made at once by those who give up, however many they are", async () => {
  const { world, client } = living({ client: { queueMax: 2 }, script: [silent] });
  for (let i = 0; i < 3_000; i++) {
    const controller = new AbortController();
    const call = client.getTs({ signal: controller.signal });
    controller.abort("enough");
    await expect(call).rejects.toBe("enough");
  }
  await world.run(10);
});

test("more calls than callsMax are refused at once, and the others are served", async () => {
  const { world, client } = living({ client: { callsMax: 2 } });
  const calls = [client.getSeq("x"), client.getSafeFrontier()].map((each) => watched<unknown>(each, world));
  await expect(client.getSeq("y")).rejects.toThrow("TSO_OVERLOADED: callsMax 2 calls are under way already");
  await world.run(100);
  expect(calls.map(({ error }) => error)).toEqual([undefined, undefined]);
  const after = watched(client.getSeq("y"), world);
  await world.run(200);
  expect(after.result).toBeDefined();
});

test("10,000 callers of a server that is slow, then silent, then well: each has an answer or an error in time, and the queue its bound", async () => {
  const slow = doing({ type: "honest" }, { workMs: 1_500 });
  const { world, client } = living({
    nodes: ["a:1"],
    client: { queueMax: 4_000, deadlineMs: 5_000 },
    script: [slow, slow, silent, silent, silent, silent, slow, ...Array<Behaviour>(200).fill(honest)],
  });
  const ends = { answers: 0, late: 0, codes: new Map<string, number>(), perCaller: new Set<number>() };
  let isOver = false;
  let nextRound: Promise<void>;
  const round = (): void => {
    nextRound = new Promise((resolve) => {
      world.at(world.now + 400, () => {
        resolve();
        if (!isOver) round();
      });
    });
  };
  round();
  const caller = async (number: number): Promise<void> => {
    while (!isOver) {
      const startedAt = world.now;
      try {
        await client.getTs();
        ends.answers += 1;
        ends.perCaller.add(number);
      } catch (error) {
        const code = error instanceof OracleError ? error.code : String(error);
        ends.codes.set(code, (ends.codes.get(code) ?? 0) + 1);
      }
      if (world.now - startedAt > 5_250) ends.late += 1;
      await nextRound;
    }
  };
  const all = Promise.all(Array.from({ length: 10_000 }, (_, number) => caller(number)));
  await world.run(20_000);
  isOver = true;
  await world.run(40_000);
  await all;
  expect(ends.late).toBe(0);
  expect([...ends.codes.keys()].toSorted()).toEqual(["TSO_DEADLINE", "TSO_OVERLOADED"]);
  expect(ends.perCaller.size, "everyone was served in the end").toBe(10_000);
  expect(world.violations).toEqual([]);
});

test("an election is ridden out", async () => {
  const { world, client } = living({ leader: undefined });
  const calls = [client.getTs(), client.getSeq("x"), client.getSafeFrontier(), client.acquireLease("h")].map((each) => watched<unknown>(each, world));
  world.at(7_000, () => world.lead("b:1"));
  await world.run(8_000);
  expect(calls.map(({ error }) => error)).toEqual([undefined, undefined, undefined, undefined]);
  for (const { at } of calls) expect(at).toBeGreaterThan(7_000);
});

test.each([
  ["no leader", (world: ScriptedWorld) => world.lead(undefined), /TSO_NO_LEADER: no leader within \d+ ms/],
  ["no node", (world: ScriptedWorld) => reachAll(world, "refused"), /TSO_DEADLINE: no answer within \d+ ms; [abc]:1: scripted/],
  ["no word", (world: ScriptedWorld) => reachAll(world, "silent"), /TSO_DEADLINE: no answer within \d+ ms/],
] as const)("with %s until the deadline, that is what callers are told", async (_, trouble, message) => {
  const { world, client } = living();
  trouble(world);
  const calls = [client.getTs({ deadlineMs: 700 }), client.getSeq("x", 1, { deadlineMs: 700 })].map((each) => watched<unknown>(each, world));
  await world.run(2_000);
  for (const { error, at } of calls) {
    expect(String(error)).toMatch(message);
    expect(error).toMatchObject({ outcome: "not-applied" });
    expect(at).toBeLessThanOrEqual(950);
  }
});

test("three callers in a row who had no time for an answer are enough to look elsewhere; fewer, or an answer between, are not", async () => {
  const { world, client } = living({ nodes: ["a:1"], script: [silent] });
  await primed(client, world, honest);
  const impatient = async (): Promise<boolean> => {
    const call = watched(client.getTs({ deadlineMs: 30 }), world);
    await world.run(world.now + 100);
    expect(call.error).toMatchObject({ code: "TSO_DEADLINE" });
    return client.cachedLeader !== undefined;
  };
  expect([await impatient(), await impatient()]).toEqual([true, true]);
  await primed(client, world, honest);
  expect([await impatient(), await impatient(), await impatient()]).toEqual([true, true, false]);
});

test("callers of one turn with different deadlines each have their own", async () => {
  const { world, client } = living({ leader: undefined });
  const calls = [3_000, 100, 9_000, 700].map((deadlineMs) => watched(client.getTs({ deadlineMs }), world));
  await world.run(2_000);
  calls.push(watched(client.getTs({ deadlineMs: 500 }), world));
  world.at(4_000, () => world.lead("b:1"));
  await world.run(20_000);
  expect(calls.map(({ result }) => result !== undefined)).toEqual([false, false, true, false, false]);
  for (const [index, at] of [3_000, 100, 4_000, 700, 2_500].entries()) {
    expect(calls[index]?.at, `call ${index}`).toBeGreaterThanOrEqual(at - 1);
    expect(calls[index]?.at, `call ${index}`).toBeLessThanOrEqual(at + (index === 2 ? 600 : 50));
  }
});

test("a caller who comes after others gave up does not wait for their pause", async () => {
  const { world, client } = living({ leader: undefined, client: { backoffBaseMs: 50_000 } });
  const first = watched(client.getTs({ deadlineMs: 100 }), world);
  await world.run(500);
  expect(first.error).toMatchObject({ code: "TSO_NO_LEADER" });
  world.lead("c:1");
  const second = watched(client.getTs(), world);
  await world.run(600);
  expect(second.result, "the pause would have lasted 25 s").toBeDefined();
});

test("however long there was no leader, one that only hints name is found when it is there", async () => {
  const { world, client } = living({ nodes: [...NODES, "d:1"], leader: undefined, script: [doing({ type: "honest" }, { hint: "nowhere" })] });
  world.lead("a:1"); // there is an epoch for hints to name
  world.lead(undefined);
  const codes = new Set<unknown>();
  for (let at = 0; at < 60_000; at += 500) {
    world.at(at, () => void client.getTs().catch((error: unknown) => codes.add((error as OracleError).code)));
  }
  await world.run(60_000);
  expect([...codes], "while there was none").toEqual(["TSO_NO_LEADER"]);
  world.heal();
  world.lead("d:1");
  const found = watched(client.getTs(), world);
  await world.run(75_000);
  expect(found.error).toBeUndefined();
  expect(client.cachedLeader).toMatchObject({ endpoint: "d:1" });
});

test("a sequence is not sent when its time is up, and then nothing has happened", async () => {
  const { world, client } = living({ nodes: ["a:1"] });
  const call = watched(client.getSeq("x", 1, { deadlineMs: 1 }), world); // connecting takes 1 ms
  await world.run(500);
  expect(call.error).toMatchObject({ outcome: "not-applied" });
  expect(world.blocks.size).toBe(0);
});

test("a sequence is not begun again with so little time that it would end unknown", async () => {
  const { world, client } = living({ nodes: ["a:1"], script: [doing({ type: "unsent" }, { workMs: 850 })] });
  const call = watched(client.getSeq("x", 1, { deadlineMs: 1_000 }), world);
  await world.run(500_000);
  expect(call.error).toMatchObject({ code: "TSO_DEADLINE", outcome: "not-applied" });
  expect(call.at).toBeLessThan(1_000);
});

test("the answer to a sequence's request is waited for until the deadline, that to a read is asked for again", async () => {
  const { world, client } = living({ nodes: ["a:1"], script: [doing({ type: "honest" }, { workMs: 7_000 })] });
  const calls = [client.getSeq("x"), client.getTs()].map((each) => watched<unknown>(each, world));
  const asked: number[] = [];
  world.onTimestamps = () => asked.push(world.now);
  await world.run(20_000);
  expect(calls[0]?.result).toMatchObject({ key: "x" });
  expect(asked.length, "requests for timestamps").toBeGreaterThan(3);
});

test.each<readonly [string, Conduct]>([
  ["the connection broke", { type: "dropped", done: true }],
  ["its node was unavailable", { type: "status", code: status.UNAVAILABLE, done: true }],
  ["its node failed", { type: "status", code: status.INTERNAL, done: true }],
  ["it was no answer", { type: "wrong", done: true, how: "key" }],
])("a sequence whose answer was lost because %s is not asked again: no value is left out without its caller knowing", async (_, conduct) => {
  const { world, client } = living({ nodes: ["a:1"], script: [doing(conduct)] });
  const calls = [client.getSeq("x", 3), client.getSeqBatch([{ key: "y", count: 3 }])].map((each) => watched<unknown>(each, world));
  await world.run(3);
  world.replaceScript([honest]);
  await world.run(20_000);
  for (const { error } of calls) expect(error).toMatchObject({ code: "TSO_OUTCOME_UNKNOWN" });
  expect([world.blocks.get("x")?.length, world.blocks.get("y")?.length]).toEqual([1, 1]);
});

test("a sequence follows the leader also where little time is left", async () => {
  const { world, client } = living();
  world.lead("c:1");
  const call = watched(client.getSeq("x", 1, { deadlineMs: 50 }), world);
  await world.run(500);
  expect(call.result).toMatchObject({ key: "x", count: 1 });
});

test("an abort rejects with its reason; with an unknown outcome where the block may be used up", async () => {
  const { world, client } = living({ script: [silent] });
  await primed(client, world, honest);
  const reason = new Error("enough");
  const abortedAt = async (ms: number) => {
    const controller = new AbortController();
    world.at(world.now + ms, () => controller.abort(reason));
    const { signal } = controller;
    const calls = [
      client.getTs({ signal }),
      client.getSeq("x", 1, { signal }),
      client.renewLease(1n, { signal }),
      client.getSafeFrontier({ signal }),
    ];
    const states = calls.map((each) => watched<unknown>(each, world));
    await world.run(world.now + 2_500);
    return states.map(({ error }) => error);
  };
  const unknown = expect.objectContaining({ code: "TSO_OUTCOME_UNKNOWN", cause: reason });
  expect(await abortedAt(5), "after it was sent").toEqual([reason, unknown, unknown, reason]);
  reachAll(world, "silent");
  expect(await abortedAt(5), "while there was no connection").toEqual([reason, reason, reason, reason]);
  await expect(client.getSeq("x", 1, { signal: AbortSignal.abort(reason) }), "before it began").rejects.toBe(reason);
  await expect(client.getTs({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});

test("one signal for many calls has one listener, and none when they have ended", async () => {
  const { world, client } = living();
  const { signal } = new AbortController();
  for (let i = 0; i < 100; i++) void client.getTs({ signal });
  for (let i = 0; i < 100; i++) void client.getSeq(`${i}`, 1, { signal });
  expect(getEventListeners(signal, "abort")).toHaveLength(1);
  await world.run(500);
  expect(getEventListeners(signal, "abort")).toHaveLength(0);
});

test("closing ends every call at once, and says what is unknown", async () => {
  const { world, client } = living({ script: [silent] });
  await primed(client, world, honest);
  const calls = [client.getTs(), client.getSeq("x"), client.acquireLease("h"), client.getSafeFrontier()].map((each) => watched<unknown>(each, world));
  await world.run(world.now + 5);
  await client.close();
  await client.close();
  await world.run(world.now + 1);
  expect(calls.map(({ error }) => (error as OracleError).code)).toEqual(["TSO_CLOSED", "TSO_OUTCOME_UNKNOWN", "TSO_OUTCOME_UNKNOWN", "TSO_CLOSED"]);
  for (const call of [client.getTs(), client.getSeq("x"), client.getSafeFrontier(), client.withLease("h", {}, () => 1)]) {
    await expect(call).rejects.toMatchObject({ code: "TSO_CLOSED" });
  }
  expect(client.cachedLeader).toBeDefined();
  await world.run(world.now + 60_000);
  expect(client.cachedLeader, "forgotten in time, with nobody to tell").toBeUndefined();
});

test("who leads can be followed", async () => {
  const { world, client } = living({ leader: "b:1" });
  const seen: unknown[] = [];
  const reading = (async () => {
    for await (const leader of client.leaderChanges()) seen.push(leader === undefined ? undefined : `${leader.endpoint} ${leader.epoch}`);
  })();
  await primed(client, world);
  world.lead("c:1");
  await primed(client, world);
  await client.close();
  await reading;
  expect(seen[0]).toBeUndefined();
  expect(seen).toContain("b:1 1");
  expect(seen.at(-1)).toBe("c:1 2");
});

test("the deadline of one call says nothing of the node: others go on with the same connection and the same leader", async () => {
  const { world, client } = living({ nodes: ["a:1"], script: [doing({ type: "honest" }, { workMs: 80 })] });
  let dropped = 0;
  const { connect, send } = world.transport;
  world.transport.send = (...args) => {
    const cancel = send(...args);
    return (connection) => {
      if (connection === "drop") dropped += 1;
      cancel(connection);
    };
  };
  world.transport.connect = (...args) => {
    const cancel = connect(...args);
    return (connection) => {
      if (connection === "drop") dropped += 1;
      cancel(connection);
    };
  };
  await primed(client, world, honest);
  for (let i = 0; i < 20; i++) {
    const calls = [client.getSafeFrontier({ deadlineMs: 50 }), client.getSeq("x", 1, { deadlineMs: 50 }), client.getTs({ deadlineMs: 50 })];
    const patient = watched(client.getSafeFrontier(), world);
    for (const call of calls) call.catch(() => undefined);
    await world.run(world.now + 200);
    expect(patient.error).toBeUndefined();
    expect(client.cachedLeader).toBeDefined();
  }
  expect(dropped).toBe(0);
});

test("a node that never answers a sequence's request is left for the next one", async () => {
  const { world, client } = living({ leader: "b:1", random: () => 0 });
  await primed(client, world);
  world.replaceScript([silent]);
  const first = watched(client.getSeq("x", 1, { deadlineMs: 3_000 }), world);
  await world.run(world.now + 4_000);
  expect(first.error).toMatchObject({ code: "TSO_OUTCOME_UNKNOWN" });
  world.replaceScript([]);
  world.lead("c:1");
  world.reach("b:1", "silent");
  const second = watched(client.getSeq("y"), world);
  await world.run(world.now + 100);
  expect(second.error).toBeUndefined();
  expect(second.result, "asked of another node, at once").toBeDefined();
});

test("what keeps a lease is not refused for the load of others", async () => {
  const { world, client } = living({ client: { callsMax: 1 }, script: [doing({ type: "honest" }, { workMs: 500 })] });
  const calls = [client.getSeq("x"), client.renewLease(1n), client.releaseLease(1n)].map((each) => watched<unknown>(each, world));
  await expect(client.acquireLease("h")).rejects.toMatchObject({ code: "TSO_OVERLOADED" });
  await world.run(5_000);
  expect(calls.map(({ error }) => error)).toEqual([undefined, undefined, undefined]);
});

test("however short the deadlines, a search in vain goes slower and slower", async () => {
  const { world, client, counts } = living({ leader: undefined, client: { deadlineMs: 1 } });
  const call = watched(client.getTs({ deadlineMs: 10_000 }), world);
  await world.run(11_000);
  expect(call.error).toMatchObject({ code: "TSO_NO_LEADER" });
  expect(counts.length, "requests").toBeLessThan(200);
});

test("an earlier epoch than is known is told as what it is", async () => {
  const { world, client } = living({ nodes: ["a:1"] });
  world.lead("a:1"); // of epoch 2
  await primed(client, world);
  world.forgetEpochs();
  world.lead("a:1");
  const calls = [client.getTs({ deadlineMs: 500 }), client.getSafeFrontier({ deadlineMs: 500 })].map((each) => watched<unknown>(each, world));
  await world.run(world.now + 1_000);
  for (const { error } of calls) expect(String(error)).toMatch(/TSO_NO_LEADER.*answered in epoch 1, and an answer of epoch 2 was seen before/);
});

test.each(["ask again", "give up", "close"] as const)("metrics that %s in the middle hurt nobody", async (what) => {
  const reason = new Error("enough");
  for (let at = 0; at < 40; at++) {
    let told = 0;
    let signals = new AbortController();
    const states: ReturnType<typeof watched<unknown>>[] = [];
    const act = (): void => {
      if (told++ !== at) return;
      if (what === "ask again") states.push(watched<unknown>(client.getTs(), world), watched<unknown>(client.getSafeFrontier(), world));
      else if (what === "give up") signals.abort(reason);
      else void client.close();
    };
    const metrics: ClientMetrics = { add: act, set: act, observe: act };
    const { world, client } = living({
      client: { metrics },
      script: [doing({ type: "status", code: status.UNAVAILABLE, done: false }), honest, honest],
    });
    const { signal } = signals;
    const calls = [
      client.getTs({ signal }),
      client.getTs(),
      client.getSafeFrontier({ signal }),
      client.acquireLease("h", { signal }),
      client.getSeq("x", 1, { signal }),
    ];
    const asked = calls.map((each) => watched<unknown>(each, world));
    await world.run(2_000);
    states.push(...asked);
    signals = new AbortController();
    await world.run(15_000);
    for (const { result, error } of states) expect(result ?? error, `told ${at}`).toBeDefined();
    const block = states.at(-1)?.error;
    if (!(block instanceof OracleError && block.outcome === "unknown")) expect(world.blocks.size, `told ${at}`).toBe(block === undefined ? 1 : 0);
    if (what === "ask again") expect(states.slice(0, -1).map(({ error }) => error)).toEqual(states.slice(0, -1).map(() => undefined));
    expect(world.violations).toEqual([]);
    expect(world.isQuiet).toBe(true);
  }
});

test("a sequence that a metric gives up is not done if its caller is told so", async () => {
  for (let at = 0; at < 5; at++) {
    const controller = new AbortController();
    let told = 0;
    const act = (): void => {
      if (told++ === at) controller.abort("enough");
    };
    const { world, client } = living({ nodes: ["a:1"], client: { metrics: { add: act, set: act, observe: act } } });
    const call = watched(client.getSeq("x", 1, { signal: controller.signal }), world);
    await world.run(2_000);
    if (call.error === "enough") expect(world.blocks.size, `told ${at}`).toBe(0);
    else expect(call.result ?? call.error).toBeDefined();
  }
});

test("metrics tell of redirects, retries, connections and the queue; one that throws is told of once, and hurts nobody", async () => {
  const told: string[] = [];
  const metrics: ClientMetrics = {
    add: (name, amount, labels) => told.push(`${name}${labels === undefined ? "" : `{${labels.reason}}`} ${amount}`),
    set: (name, value) => told.push(`${name} ${value}`),
    observe: (name, seconds) => told.push(`${name} ${seconds >= 0}`),
  };
  const { world, client } = living({ leader: "c:1", client: { metrics } });
  await primed(client, world);
  expect(told).toEqual(
    expect.arrayContaining([
      "tsoracle_client_not_leader_total 1",
      "tsoracle_client_retries_total{not_leader} 1",
      "tsoracle_client_connect_duration_seconds true",
      "tsoracle_client_in_flight 1",
      "tsoracle_client_in_flight 0",
      "tsoracle_client_queue_depth 0",
      "tsoracle_client_timestamps_total 1",
    ]),
  );
  const errors: string[] = [];
  const logger = {
    debug: () => undefined,
    info: () => undefined,
    warn: () => undefined,
    error: (_: object, message: string) => errors.push(message),
  };
  const throws = (): never => {
    throw new Error("no disk");
  };
  const rejects = (): void => Promise.reject(new Error("no disk")) as unknown as void;
  for (const fails of [throws, rejects]) {
    const hurt = living({ leader: "c:1", client: { metrics: { add: fails, set: fails, observe: fails }, logger } });
    await primed(hurt.client, hurt.world);
    expect(errors.splice(0)).toEqual(["the metrics threw, and are not called any more"]);
  }
  const mute = living({ leader: "c:1", client: { metrics: { add: throws, set: throws, observe: throws }, logger: { ...logger, error: throws } } });
  await primed(mute.client, mute.world);
});

test("where a node refuses a value and does not name it, the error does", async () => {
  const { world, client } = living({ nodes: ["a:1"], script: [doing({ type: "status", code: status.INVALID_ARGUMENT, done: false })] });
  const keys = ["a", "b", "c", "d"].map((key) => ({ key, count: 70_000 }));
  const calls = [client.getSeq("é", 70_000), client.getSeqBatch(keys), client.acquireLease("h", { ttlMs: 1 })].map((each) =>
    watched<unknown>(each, world),
  );
  await world.run(100);
  expect(calls.map(({ error }) => (error as OracleError).detail)).toEqual([
    'a:1: scripted; asked for 70000 of "é" (2 bytes)',
    'a:1: scripted; asked for 4 keys: 70000 of "a" (1 bytes), 70000 of "b" (1 bytes), 70000 of "c" (1 bytes), ...',
    "a:1: scripted; asked for ttlMs 1, holder of 1 bytes",
  ]);
});

test("a status that is no end is followed by the next node", async () => {
  const { world, client } = living({ script: [doing({ type: "status", code: status.INTERNAL, done: false }), honest] });
  const call = watched(client.getTs(), world);
  await world.run(100);
  expect(call.result).toBeDefined();
});

test("where every node fails, callers are told so, and which", async () => {
  const { world, client } = living({ script: [doing({ type: "status", code: status.INTERNAL, done: false })] });
  const calls = [client.getTs(), client.getSafeFrontier(), client.acquireLease("h")].map((each) => watched<unknown>(each, world));
  await world.run(100);
  const [ts, frontier, lease] = calls.map(({ error }) => error);
  expect(String(ts)).toMatch(/^OracleError: TSO_SERVER_ERROR: [abc]:1: scripted \(INTERNAL\)$/);
  expect(String(frontier)).toMatch(/^OracleError: TSO_SERVER_ERROR: /);
  expect(lease, "which may have been granted").toMatchObject({ code: "TSO_OUTCOME_UNKNOWN" });
});

test.each([
  ["getTsRange of 0", (client: OracleClient) => client.getTsRange(0), "count 0 must be a whole number from 1 to 262144"],
  ["getTsBatch of too many", (client: OracleClient) => client.getTsBatch(262_145), "count 262145 must be a whole number from 1 to 262144"],
  ["a deadline of 0", (client: OracleClient) => client.getTs({ deadlineMs: 0 }), "deadlineMs 0 must be a whole number from 1 to 3600000"],
  ["an empty key", (client: OracleClient) => client.getSeq(""), 'key "" of 0 bytes must have 1 to 1024'],
  ["a long key", (client: OracleClient) => client.getSeq("é".repeat(513)), "of 1026 bytes must have 1 to 1024"],
  ["a lone surrogate", (client: OracleClient) => client.getSeq("\ud800"), "has a lone surrogate"],
  ["a count of a sequence", (client: OracleClient) => client.getSeq("a", 2 ** 32), "count 4294967296 must be a whole number from 1 to 4294967295"],
  ["an empty batch", (client: OracleClient) => client.getSeqBatch([]), "a batch of 0 keys must have 1 to 1024"],
  ["a key twice", (client: OracleClient) => client.getSeqBatch(["a", "b", "a"].map((key) => ({ key, count: 1 }))), 'key "a" is in the batch twice'],
  ["an empty holder", (client: OracleClient) => client.acquireLease(""), "holder of 0 bytes must have 1 to 1024"],
  ["a ttl of 0", (client: OracleClient) => client.acquireLease("h", { ttlMs: 0 }), "ttlMs 0 must be a whole number from 1 to"],
  [
    "a holder epoch below 0",
    (client: OracleClient) => client.acquireLease("h", { holderEpoch: -1n }),
    "holderEpoch -1 must be a bigint from 0 to 2^64-1",
  ],
  ["a lease id too large", (client: OracleClient) => client.renewLease(2n ** 64n), "lease id 18446744073709551616 must be a bigint from 0 to 2^64-1"],
] as const)("%s is refused before anything is sent", async (_, ask, message) => {
  const { world, client } = living();
  const error: unknown = await ask(client).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ code: "TSO_INVALID_ARGUMENT", message: expect.stringContaining(message) });
  expect(world.asked.size).toBe(0);
});

function reachAll(world: ScriptedWorld, reachable: Reachable): void {
  for (const node of NODES) world.reach(node, reachable);
}

/** Connects, so that what follows leaves at once; with `behaviour` in place of the script's. */
async function primed(client: OracleClient, world: ScriptedWorld, behaviour?: Behaviour): Promise<void> {
  const before = behaviour === undefined ? undefined : world.replaceScript([behaviour]);
  const call = client.getTs();
  await world.run(world.now + 50);
  await call;
  if (before !== undefined) world.replaceScript(before);
}
