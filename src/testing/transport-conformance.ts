/**
 * What every `PeerTransport` must do, as data: run each test with the runner of your choice. The network under test is the caller's, and so is what may go wrong
 * in it: connections that break, and places between which nothing gets through.
 */
import assert from "node:assert/strict";
import type { NodeId, Slot } from "../base/ids.ts";
import { bulk, CLUSTER, CONFLICT, heartbeat, OTHER_CLUSTER, Stage, storageOf, type TransportNetwork, transfer, turn } from "./transport-stage.ts";

export interface TransportConformanceTest {
  readonly name: string;
  run(): Promise<void>;
}

/** A test fails by throwing, or by not ending. Each calls `make` once, and closes all that it made. */
export function transportConformance(make: () => Promise<TransportNetwork>): readonly TransportConformanceTest[] {
  const test = (name: string, body: (stage: Stage) => Promise<void>): TransportConformanceTest => ({
    name,
    run: async () => {
      const stage = new Stage(await make());
      try {
        await body(stage);
      } finally {
        await stage.end();
      }
    },
  });
  return [
    test("delivers what is said, and by whom", delivers),
    test("keeps the order within a lane", keepsOrder),
    test("carries a message that is longer than a frame", carriesLongMessages),
    test("says to each peer what is meant for it", severalPeers),
    test("connects to a peer that starts later", connectsLater),
    test("tells of a problem once, and forgets it when it is over", tellsOnce),
    test("speaks with no node of another cluster", wrongCluster),
    test("speaks with no node but the one that it looks for", wrongNode),
    test("takes only forming messages from a node without a cluster", formingOnly),
    test("joins a cluster with fresh streams, and raises nothing", joins),
    test("hears a restarted process, and its predecessor no more", zombie),
    test("hears neither of two processes on one disk, until one is started anew", duplicate),
    test("has no stream with a node that has its own number", ownNumber),
    test("raises nothing for a process that said bye", byeRaisesNothing),
    test("raises the loss of a process that was killed", killed),
    test("raises the loss of a process that abandons its connections", abandons),
    test("raises the loss of a process when a later one is there", laterBoot),
    test("raises nothing for a connection that comes back", comesBack),
    test("raises the loss of a process that does not come back", doesNotComeBack),
    test("raises nothing for silence, and finds it", silence),
    test("raises nothing for the silence of a process that only listens", listenerSilence),
    test("bounds what waits for bulk, and says when it is blocked", bulkBounds),
    test("keeps the newest of what waits for control", controlBounds),
    test("keeps streams to its peers alone, and leaves others with a bye", removesPeers),
    test("closes, and is silent from then on", closes),
  ];
}

const SHORT = { connectTimeoutMs: 200, reconnectMaxMs: 50, silenceMs: 300 };

async function delivers(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair();
  a.say(2, heartbeat(1));
  a.say(2, bulk(1, 10));
  a.say(2, transfer(1));
  a.transport.sendForming(2 as NodeId, CONFLICT);
  await stage.until("b heard all", () => b.heard.length === 3 && b.formed.length === 1);
  assert.deepEqual(new Set(b.heard.map(({ message }) => message.type)), new Set(["heartbeat", "accept", "fetch-reply"]));
  assert.deepEqual(b.formed[0]?.message, CONFLICT);
  for (const { from } of [...b.heard, ...b.formed]) assert.deepEqual(from, a.claim, "it says whose process speaks");
  const accept = b.heard.find(({ message }) => message.type === "accept")?.message;
  assert.deepEqual(accept, bulk(1, 10), "what arrives is what was said");
  assert.deepEqual(a.heard, [], "and only to whom it was said");
}

async function keepsOrder(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair();
  for (let round = 1; round <= 300; round++) {
    a.say(2, heartbeat(round));
    a.say(2, bulk(round, round % 7 === 0 ? 50_000 : 10));
    if (round % 50 === 0) await turn(); // some leave alone, some together
  }
  await stage.until("b heard all", () => b.heard.length === 600);
  const rounds = b.heard.flatMap(({ message }) => (message.type === "heartbeat" ? [message.round] : []));
  const bases = b.heard.flatMap(({ message }) => (message.type === "accept" ? [Number(message.base)] : []));
  const inOrder = Array.from({ length: 300 }, (_, index) => index + 1);
  assert.deepEqual(rounds, inOrder, "control");
  assert.deepEqual(bases, inOrder, "bulk");
}

async function carriesLongMessages(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair({}, { bulkBytesMax: 1_000_000, bulkBlockedBytes: 900_000, bulkFreeBytes: 0 });
  const sent = [bulk(1, 3_000_000), bulk(2, 0), bulk(3, 262_144), bulk(4, 262_100)];
  for (const message of sent) {
    a.say(2, message); // longer than what may wait, and taken all the same while nothing else does
    await stage.until("it has left", () => a.link(2).queuedBytes === 0);
  }
  await stage.until("b heard all", () => b.heard.length === sent.length);
  for (const [index, message] of sent.entries()) assert.deepEqual(b.heard[index]?.message, message, `message ${index}`);
}

async function severalPeers(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair();
  const c = await stage.open({ place: "c", node: 3 });
  a.knows([2, "b"], [3, "c"]);
  await stage.until("a reaches both", () => a.reaches(2) && a.reaches(3));
  const [one, other] = [bulk(1, 100), bulk(2, 100)];
  const later = { ...one, decidedThrough: 1 as Slot };
  for (const [first, second] of [
    [one, { ...one }],
    [one, other],
    [other, later],
    [later, one],
  ] as const) {
    a.say(2, first);
    a.say(3, second);
  }
  await stage.until("both heard all", () => b.heard.length === 4 && c.heard.length === 4);
  assert.deepEqual(
    b.heard.map(({ message }) => message),
    [one, one, other, later],
  );
  assert.deepEqual(
    c.heard.map(({ message }) => message),
    [one, other, later, one],
  );
}

async function connectsLater(stage: Stage): Promise<void> {
  const a = await stage.open({ place: "a", node: 1, options: SHORT });
  a.knows([2, "b"]);
  await stage.until("a has tried", () => a.problems.length > 0);
  assert.equal(a.problems[0]?.fault, "unreachable");
  assert.deepEqual(a.link(2).open, []);
  a.say(2, heartbeat(1));
  assert.equal(a.link(2).dropped, 1, "what is said to nobody is dropped");
  const b = await stage.open({ place: "b", node: 2 });
  await stage.until("a reaches b", () => a.reaches(2));
  a.say(2, heartbeat(2));
  await stage.until("b heard it", () => b.heard.length === 1);
  assert.deepEqual(b.heard[0]?.message, heartbeat(2));
  assert.deepEqual(a.lost, [], "nobody was there to be lost");
}

async function tellsOnce(stage: Stage): Promise<void> {
  const a = await stage.open({ place: "a", node: 1, options: { reconnectMaxMs: 20 } });
  const b = await stage.open({ place: "b", node: 2, clusterId: OTHER_CLUSTER, options: { reconnectMaxMs: 20 } });
  a.knows([2, "b"]);
  b.knows([1, "a"]);
  await stage.until("both are told", () => a.link(2).problem !== undefined && b.link(1).problem !== undefined);
  await stage.attempts(a, 9);
  const faults = a.problems.map(({ fault }) => fault);
  assert.ok(faults.length <= 2, `told for who dials and for who is dialled, once each, and not ${faults.length} times`);
  await stage.kill(b);
  await stage.open({ place: "b", node: 2, boot: 2 });
  await stage.until("a reaches the right one", () => a.reaches(2));
  assert.equal(a.link(2).problem, undefined);
}

async function wrongCluster(stage: Stage): Promise<void> {
  const a = await stage.open({ place: "a", node: 1 });
  const b = await stage.open({ place: "b", node: 2, clusterId: OTHER_CLUSTER });
  a.knows([2, "b"]);
  const problem = await stage.problemOf(a, 2);
  assert.equal(problem.fault, "wrong-cluster");
  for (const word of ["node 1", CLUSTER, "node 2", OTHER_CLUSTER]) assert.ok(problem.detail.includes(word), `"${problem.detail}" says ${word}`);
  assert.equal((await stage.problemOf(b, 1)).fault, "wrong-cluster", "both sides say so");
  a.say(2, heartbeat(1));
  a.transport.sendForming(2 as NodeId, CONFLICT);
  await stage.attempts(a, 3);
  assert.deepEqual([b.heard, b.formed, a.link(2).open], [[], [], []]);
}

async function wrongNode(stage: Stage): Promise<void> {
  const a = await stage.open({ place: "a", node: 1 });
  const c = await stage.open({ place: "c", node: 3 });
  a.knows([2, "c"]);
  const problem = await stage.problemOf(a, 2);
  assert.equal(problem.fault, "wrong-node");
  for (const word of ["node 1", "node 2", "node 3"]) assert.ok(problem.detail.includes(word), `"${problem.detail}" says ${word}`);
  a.say(2, heartbeat(1));
  await stage.attempts(a, 3);
  assert.deepEqual([c.heard, a.link(2).open], [[], []]);
}

async function formingOnly(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair({ clusterId: undefined });
  a.say(2, heartbeat(1));
  a.transport.sendForming(2 as NodeId, CONFLICT);
  b.say(1, heartbeat(1));
  b.transport.sendForming(1 as NodeId, CONFLICT);
  await stage.until("forming messages go both ways", () => a.formed.length === 1 && b.formed.length === 1);
  assert.equal(b.formed[0]?.from.clusterId, undefined);
  assert.deepEqual([a.heard, b.heard], [[], []], "a message about a log is for its cluster");
}

async function joins(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair({ clusterId: undefined });
  a.transport.joinCluster(CLUSTER);
  b.transport.joinCluster(CLUSTER);
  await stage.until("they are one cluster", () => a.link(2).claim?.clusterId === CLUSTER && b.link(1).claim?.clusterId === CLUSTER);
  await stage.until("a is heard", () => {
    a.say(2, heartbeat(1));
    return b.heard.length > 0;
  });
  assert.equal(b.heard[0]?.from.clusterId, CLUSTER);
  assert.deepEqual([a.lost, b.lost], [[], []]);
  await stage.kill(b);
  await stage.until("a lost b", () => a.lost.length > 0);
  assert.deepEqual(a.lost, [{ node: 2, boot: 1 }], "once, when it was killed, and not when it joined");
}

async function zombie(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair();
  await stage.kill(b);
  const later = await stage.open({ place: "b", node: 2, boot: 2 });
  later.knows([1, "a"]);
  await stage.until("a and the later one speak", () => a.link(2).claim?.boot === 2 && a.reaches(2) && later.reaches(1));
  const old = await stage.open({ place: "old", node: 2, boot: 1 });
  old.knows([1, "a"]);
  const problem = await stage.problemOf(old, 1);
  assert.equal(problem.fault, "older-boot");
  for (const word of ["node 1", "node 2", "process 1", "process 2"]) assert.ok(problem.detail.includes(word), `"${problem.detail}" says ${word}`);
  old.say(1, heartbeat(7));
  later.say(1, heartbeat(8));
  await stage.until("a heard the later one", () => a.heard.length > 0);
  assert.deepEqual(
    a.heard.map(({ from, message }) => [from.boot, message]),
    [[2, heartbeat(8)]],
  );
  assert.ok(a.reaches(2), "the old one disturbed nothing");
}

async function duplicate(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair();
  const copy = await stage.open({ place: "copy", node: 2, nonce: 99 });
  copy.knows([1, "a"]);
  assert.equal((await stage.problemOf(copy, 1)).fault, "duplicate-process");
  await stage.until("a speaks with neither", () => a.link(2).open.length === 0 && b.link(1).open.length === 0);
  const problem = a.problems.find(({ fault }) => fault === "duplicate-process");
  assert.match(problem?.detail ?? "", /two processes .*node 2.*node 1/, "a is told as well");
  b.say(1, heartbeat(1));
  copy.say(1, heartbeat(2));
  await stage.attempts(copy, 3);
  assert.deepEqual(a.heard, []);
  await stage.kill(b);
  const anew = await stage.open({ place: "b", node: 2, boot: 2 });
  anew.knows([1, "a"]);
  await stage.until("a speaks with the one that was started anew", () => anew.reaches(1) && a.link(2).claim?.boot === 2);
  anew.say(1, heartbeat(3));
  await stage.until("a heard it", () => a.heard.length === 1);
}

async function ownNumber(stage: Stage): Promise<void> {
  const a = await stage.open({ place: "a", node: 1 });
  const twin = await stage.open({ place: "twin", node: 1, storageId: storageOf(9) });
  const b = await stage.open({ place: "b", node: 2 });
  a.knows([1, "twin"], [2, "b"]);
  await stage.until("a reaches b", () => a.reaches(2));
  assert.deepEqual(
    a.transport.links().map(({ node }) => node),
    [2],
    "what is said of this node itself is ignored",
  );
  assert.deepEqual([twin.heard, b.problems], [[], []]);
}

async function byeRaisesNothing(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair();
  await b.transport.close();
  const later = await stage.open({ place: "b", node: 2, boot: 2 });
  later.knows([1, "a"]);
  await stage.until("a and the later one speak", () => a.link(2).claim?.boot === 2 && later.reaches(1));
  later.say(1, heartbeat(1));
  await stage.until("a heard it", () => a.heard.length === 1);
  assert.deepEqual(a.lost, [], "a later boot would have told of a process that was missed");
}

async function killed(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair({}, { probeMs: 3_600_000 });
  await stage.kill(b);
  await stage.until("a lost b", () => a.lost.length > 0);
  assert.deepEqual(a.lost, [{ node: 2, boot: 1 }]);
  assert.ok(a.attempts < 30, `at once, for nobody listens there, and not after ${a.attempts} attempts`);
  await stage.open({ place: "b", node: 2, boot: 2 });
  await stage.until("a reaches the later one", () => a.link(2).claim?.boot === 2);
  assert.equal(a.lost.length, 1, "once");
}

async function abandons(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair();
  await b.transport.abandon();
  await stage.until("its loss is raised", () => a.lost.length > 0);
  assert.deepEqual(a.lost, [{ node: 2, boot: 1 }]);
  assert.deepEqual(b.lost, [], "and whoever abandons hears of nothing");
}

async function laterBoot(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair({}, { probeMs: 3_600_000 });
  stage.network.hold("a", "b", true); // nothing tells of the end of the first
  const later = await stage.open({ place: "later", node: 2, boot: 2 });
  later.knows([1, "a"]);
  await stage.until("a lost the first", () => a.lost.length > 0);
  assert.deepEqual(a.lost, [{ node: 2, boot: 1 }]);
  assert.deepEqual(b.lost, []);
}

async function comesBack(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair({}, { probeMs: 2_000 }); // a connection may take its time where much else is going on
  const attempts = a.attempts + b.attempts;
  await stage.network.cut("a", "b");
  await stage.until("both dial again", () => a.attempts + b.attempts >= attempts + 6);
  await stage.until("both are back", () => a.reaches(2) && b.reaches(1));
  a.say(2, heartbeat(1));
  b.say(1, heartbeat(1));
  await stage.until("both are heard", () => a.heard.length > 0 && b.heard.length > 0);
  a.knows([2, "b"], [3, "nobody"]);
  await stage.until("more than that time has passed", () => a.link(3).attempts >= 24);
  assert.deepEqual([a.lost, b.lost], [[], []]);
  await stage.kill(b);
  await stage.until("a lost b", () => a.lost.length > 0);
  assert.deepEqual(a.lost, [{ node: 2, boot: 1 }], "once, when it was killed, and not when the connection broke");
}

async function doesNotComeBack(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair();
  stage.network.hold("a", "b", true);
  await stage.network.cut("a", "b");
  await stage.until("both lost the other", () => a.lost.length > 0 && b.lost.length > 0);
  assert.deepEqual([a.lost, b.lost], [[{ node: 2, boot: 1 }], [{ node: 1, boot: 1 }]]);
  stage.network.hold("a", "b", false);
  await stage.until("they meet again", () => a.reaches(2) && b.reaches(1));
}

async function silence(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair({}, SHORT);
  stage.network.hold("a", "b", true);
  a.say(2, heartbeat(1));
  b.say(1, heartbeat(1));
  await stage.until("both found it", () => a.problems.length > 0 && b.problems.length > 0);
  assert.match(a.problems[0]?.detail ?? "", /node 1 dialled node 2 .*silent for 300 ms/);
  await stage.attempts(a, 3);
  assert.deepEqual([a.lost, b.lost], [[], []]);
  stage.network.hold("a", "b", false);
  await stage.until("they meet again", () => a.reaches(2) && b.reaches(1));
  assert.deepEqual([a.lost, b.lost], [[], []]);
}

async function listenerSilence(stage: Stage): Promise<void> {
  const a = await stage.open({ place: "a", node: 1, options: SHORT });
  const b = await stage.open({ place: "b", node: 2, options: SHORT });
  a.knows([2, "b"]);
  await stage.until("a reaches b", () => a.reaches(2));
  stage.network.hold("a", "b", true);
  a.say(2, heartbeat(1));
  await stage.until("a found it", () => a.problems.length > 0);
  await stage.attempts(a, 3);
  stage.network.hold("a", "b", false);
  await stage.until("a reaches b again", () => a.reaches(2));
  assert.deepEqual([a.lost, b.lost], [[], []]);
}

async function bulkBounds(stage: Stage): Promise<void> {
  const limits = { bulkBytesMax: 8_000_000, bulkBlockedBytes: 1_000_000, bulkFreeBytes: 100_000 };
  const [a, b] = await stage.pair({}, limits);
  stage.network.hold("a", "b", true);
  let sent = 0;
  while (a.link(2).dropped === 0) {
    sent += 1;
    assert.ok(sent <= 1_000, "there is a bound");
    a.say(2, bulk(sent, 100_000));
    assert.ok(a.link(2).queuedBytes <= limits.bulkBytesMax + 1_000_000, `${a.link(2).queuedBytes} bytes wait`);
  }
  assert.deepEqual(a.blocked, [], "not from within a call");
  await stage.until("a is blocked", () => a.blocked.length > 0);
  assert.deepEqual(a.blocked, [true]);
  const { dropped } = a.link(2);
  stage.network.hold("a", "b", false);
  await stage.until("b heard the rest", () => b.heard.length === sent - dropped);
  await stage.until("a is free", () => a.blocked.length > 1);
  assert.deepEqual(a.blocked, [true, false]);
  const bases = b.heard.flatMap(({ message }) => (message.type === "accept" ? [Number(message.base)] : []));
  assert.deepEqual(
    bases,
    bases.map((_, index) => index + 1),
    "the newest were dropped: nothing comes after a gap",
  );
  await stage.until("nothing waits", () => a.link(2).queuedBytes === 0);
}

async function controlBounds(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair({}, { laneMessagesMax: 10 });
  stage.network.hold("a", "b", true);
  for (let round = 1; round <= 100; round++) a.say(2, heartbeat(round));
  const { dropped } = a.link(2);
  assert.equal(dropped, 90);
  stage.network.hold("a", "b", false);
  await stage.until("b heard the rest", () => b.heard.length === 10);
  const rounds = b.heard.flatMap(({ message }) => (message.type === "heartbeat" ? [message.round] : []));
  assert.deepEqual(
    rounds,
    Array.from({ length: 10 }, (_, index) => 91 + index),
    "the oldest were dropped",
  );
  assert.deepEqual(a.blocked, [], "that is said of bulk alone");
}

async function removesPeers(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair();
  a.knows();
  await stage.until("b's peer is gone from a", () => a.transport.links().length === 0);
  a.say(2, heartbeat(1));
  await stage.until("b is heard still", () => {
    b.say(1, heartbeat(2));
    return a.heard.length > 0;
  });
  a.knows([2, "b"]);
  await stage.until("a reaches b again", () => a.reaches(2));
  a.say(2, heartbeat(3));
  await stage.until("b heard it", () => b.heard.length > 0);
  assert.deepEqual(b.heard[0]?.message, heartbeat(3));
  b.knows();
  await b.transport.close();
  await stage.until("a knows that b closed", () => !a.reaches(2));
  const later = await stage.open({ place: "b", node: 2, boot: 2 });
  later.knows([1, "a"]);
  await stage.until("a and the later one speak", () => a.link(2).claim?.boot === 2 && later.reaches(1));
  assert.deepEqual([a.lost, b.lost], [[], []]);
}

async function closes(stage: Stage): Promise<void> {
  const [a, b] = await stage.pair();
  a.say(2, heartbeat(1));
  b.say(1, heartbeat(1));
  const events = b.count;
  const closing = b.transport.close();
  assert.equal(b.transport.close(), closing, "closing twice is closing once");
  await closing;
  assert.deepEqual(b.transport.links(), []);
  b.say(1, heartbeat(2));
  b.knows([1, "a"]);
  await stage.until("a knows", () => a.link(2).problem !== undefined);
  a.say(2, heartbeat(3));
  await stage.attempts(a, 3);
  assert.equal(b.count, events, "nothing is received any more");
  assert.deepEqual(a.lost, []);
}
