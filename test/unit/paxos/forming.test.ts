/** Rule I7, scenario by scenario. What must hold in all of them, `FormingWorld` checks at every step. */
import { describe, expect, test } from "vitest";
import { OracleError } from "../../../src/base/errors.ts";
import type { NodeId } from "../../../src/base/ids.ts";
import { InvariantViolation } from "../../../src/base/invariant.ts";
import { ADDRESS_LENGTH_MAX, type Charter } from "../../../src/paxos/core/charter.ts";
import { answerForming, Forming, HEARD_TICKS } from "../../../src/paxos/core/forming.ts";
import type { FormingPeer } from "../../../src/paxos/core/forming-effects.ts";
import { resolvePeerList } from "../../../src/paxos/core/forming-list.ts";
import type { FormingMessage, ListedNode } from "../../../src/paxos/core/forming-messages.ts";
import type { Founding } from "../../../src/paxos/core/founding.ts";
import { addressOf, FormingWorld, genesisConfiguration, listed, type Packet } from "../../support/forming-world.ts";

const one = 1 as NodeId;
const two = 2 as NodeId;
const three = 3 as NodeId;
const idOf = (letter: string): string => letter.repeat(32);
/** Rounds in which three nodes that hear each other form, and doubts pass. */
const ENOUGH = 3 + HEARD_TICKS;

/** Who is formed, by name. */
const formedNames = (world: FormingWorld): readonly string[] => world.names.filter((name) => world.formed(name) !== undefined);
const faultsOf = (world: FormingWorld, name: string): readonly string[] => [
  ...new Set(world.told.filter((told) => told.name === name).map(({ problem }) => problem.fault)),
];
const isOf = (type: FormingMessage["type"]) => (packet: Packet) => packet.message.type === type;

/** Node 1 has drawn a charter and its pledge is durable and spoken of; nothing has arrived yet. */
function pledgedWriter(): FormingWorld {
  const world = new FormingWorld().start(1, 2, 3);
  world.rounds(5, isOf("form-pledge"));
  expect(world.names.map((name) => world.disk(name).founding.type)).toEqual(["pledged", "unformed", "unformed"]);
  return world;
}

/** All have pledged, and nobody knows it of all the others. */
function allPledged(): FormingWorld {
  const world = pledgedWriter();
  world.tick("1");
  world.settle((packet) => packet.from.node !== 1);
  expect(world.names.map((name) => world.disk(name).founding.type)).toEqual(["pledged", "pledged", "pledged"]);
  return world;
}

describe("a cluster is formed", () => {
  test.each([2, 3, 5, 7])("of %i nodes, which hold the same charter of their own disks", (count) => {
    const ids = Array.from({ length: count }, (_, index) => index + 1);
    const world = new FormingWorld().start(...ids);
    world.rounds(3);
    const charter = world.formed("1");
    expect(charter?.founders).toEqual(ids.map((id) => ({ id, storageId: world.disk(`${id}`).storageId, address: addressOf(id) })));
    for (const name of world.names) expect(world.formed(name)).toEqual(charter);
    expect(world.told).toEqual([]);
  });

  test("only by the lowest id, once every other has said hello and hears it", () => {
    const world = new FormingWorld().start(1, 2, 3);
    world.crash("3");
    world.rounds(ENOUGH);
    expect(world.names.map((name) => world.disk(name).founding.type)).toEqual(["unformed", "unformed", "unformed"]);
    world.restart("3");
    world.crash("1");
    world.rounds(ENOUGH);
    expect(world.disk("2").founding.type).toBe("unformed");
    world.restart("1");
    world.rounds(3);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
  });

  test("not with a peer that was last heard long ago: its disk may be another by now", () => {
    const world = new FormingWorld().start(1, 2, 3);
    world.crash("3");
    world.rounds(2);
    world.crash("2");
    world.rounds(HEARD_TICKS);
    world.restart("3");
    world.rounds(2);
    expect(world.disk("1").founding.type).toBe("unformed");
    world.wipe("2");
    world.restart("2");
    world.rounds(3);
    expect(world.formed("1")?.founders[1]?.storageId).toBe(world.disk("2").storageId);
    expect(world.told).toEqual([]);
  });

  test("whatever is lost on the way, as long as what is said again arrives in the end", () => {
    const world = new FormingWorld().start(1, 2, 3);
    for (const type of ["form-hello", "form-pledge"] as const) world.rounds(5, isOf(type));
    expect(formedNames(world)).toEqual([]);
    world.rounds(3, isOf("pledged"));
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
  });
});

describe("a list of one", () => {
  const alone = { node: one, storageId: idOf("a"), list: listed(1), founding: { type: "unformed" }, newClusterId: () => idOf("c") } as const;

  test("forms at once when it was told to", () => {
    const forming = new Forming({ ...alone, init: true });
    const charter: Charter = { clusterId: idOf("c"), founders: [{ id: one, storageId: idOf("a"), address: addressOf(1) }] };
    expect(forming.step([{ type: "tick" }])).toMatchObject({ persist: { type: "pledged", charter }, sends: [] });
    expect(forming.step([{ type: "written" }])).toMatchObject({ persist: { type: "formed", charter } });
    expect(forming.step([{ type: "written" }])).toMatchObject({ formed: charter });
  });

  test("does not form without a word: a lost mount must not become an empty cluster", () => {
    expect(() => new Forming(alone)).toThrow(/^TSO_INVALID_OPTION: the list of peers has node 1 alone.*--init/);
  });

  test("that is pledged goes on without a word: it had one", () => {
    const world = new FormingWorld();
    world.place("1", { id: 1, list: listed(1), init: true });
    world.restart("1");
    world.tick("1");
    world.crash("1", "kept");
    world.relist("1", listed(1));
    world.restart("1");
    world.rounds(1);
    expect(formedNames(world)).toEqual(["1"]);
  });
});

describe("lists that differ", () => {
  test("keep everybody waiting, and both sides say both lists", () => {
    const world = new FormingWorld();
    world.place("1", { id: 1, list: listed(1, 2) });
    world.place("2", { id: 2, list: listed(1, 2, 3) });
    for (const name of world.names) world.restart(name);
    world.rounds(ENOUGH);
    expect(formedNames(world)).toEqual([]);
    const [short, long] = ["1=node-1:4000,2=node-2:4000", "1=node-1:4000,2=node-2:4000,3=node-3:4000"];
    expect(world.told).toEqual([
      { name: "2", problem: { fault: "other-list", detail: `node 1 has another list of peers, ${short}; here it is ${long}: ${SAME}` } },
      { name: "1", problem: { fault: "other-list", detail: `node 2 has another list of peers, ${long}; here it is ${short}: ${SAME}` } },
    ]);
    world.crash("2");
    world.relist("2", listed(1, 2));
    world.restart("2");
    world.rounds(3);
    expect(formedNames(world)).toEqual(["1", "2"]);
  });

  test("an address where nobody listens costs nothing: no disk is pledged, and a right list forms", () => {
    const world = new FormingWorld();
    const wrong: readonly ListedNode[] = [...listed(1, 2), { id: three, address: "nobody:1" }];
    for (const id of [1, 2, 3]) world.place(`${id}`, { id, list: wrong });
    for (const name of world.names) world.restart(name);
    world.rounds(ENOUGH);
    expect(world.disk("1").founding.type).toBe("unformed"); // node 3 says hello, and hears nothing
    for (const name of world.names) {
      world.crash(name);
      world.relist(name, listed(1, 2, 3));
      world.restart(name);
    }
    world.rounds(3);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
  });

  test("a pledged disk keeps to the list of its charter, and says so", () => {
    const world = allPledged();
    world.crash("2");
    world.relist("2", listed(1, 2));
    world.restart("2");
    world.rounds(3);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
    expect(world.told.map(({ name, problem }) => [name, problem.fault])).toEqual([["2", "other-list"]]);
    const [long, short] = ["1=node-1:4000,2=node-2:4000,3=node-3:4000", "1=node-1:4000,2=node-2:4000"];
    const detail = `the disk of node 2 is pledged to cluster ${world.formed("2")?.clusterId} of ${long}, and keeps to that list; it was started with ${short}`;
    expect(world.told[0]?.problem.detail).toBe(detail);
  });

  test("a node is not pledged to a charter of another list", () => {
    const world = pledgedWriter();
    world.crash("3");
    world.relist("3", listed(2, 3));
    world.restart("3");
    world.rounds(ENOUGH);
    expect(world.disk("2").founding.type).toBe("pledged");
    expect(world.disk("3").founding.type).toBe("unformed");
    expect(faultsOf(world, "3")).toEqual(["other-list"]);
    expect(formedNames(world)).toEqual([]);
  });
});

describe("a process ends, and the next one finds the same disk", () => {
  test.each(["lost", "kept"] as const)("the writer, with its pledge not spoken of and %s", (write) => {
    const world = new FormingWorld().start(1, 2, 3);
    for (let round = 0; round < 3 && !world.isWriting("1"); round++) {
      for (const name of world.names) world.tick(name);
      while (world.net.length > 0) world.deliver(0);
    }
    expect(world.isWriting("1")).toBe(true);
    world.crash("1", write);
    world.rounds(2);
    expect(formedNames(world)).toEqual([]);
    world.restart("1");
    world.rounds(3);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
    expect(world.told).toEqual([]);
  });

  test("the writer, after its pledge reached one peer: that one relays it, and the others form without the writer", () => {
    const world = pledgedWriter();
    world.tick("1");
    world.crash("1");
    world.settle(({ from, to }) => to === 3 || from.node === 2);
    expect(world.names.map((name) => world.disk(name).founding.type)).toEqual(["pledged", "pledged", "unformed"]);
    world.rounds(3);
    // Node 2 knows that node 1 has pledged: the charter came from it. Node 3 has the charter from node 2, and is told that it is formed.
    expect(formedNames(world)).toEqual(["2", "3"]);
    world.restart("1");
    world.rounds(2);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
  });

  test("each of them, after its pledge", () => {
    const world = allPledged();
    for (const name of world.names) world.crash(name);
    for (const name of world.names) world.restart(name);
    world.rounds(2);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
  });

  test.each(["lost", "kept"] as const)("while it writes that it is formed, and that is %s", (write) => {
    const world = allPledged();
    world.tick("2");
    while (world.net.length > 0) world.deliver(0);
    expect(world.isWriting("2")).toBe(true);
    world.crash("2", write);
    expect(formedNames(world)).toEqual(write === "kept" ? ["2"] : []);
    world.restart("2");
    world.rounds(2);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
  });

  test("a late one learns it from one that is formed, even if a third, whose pledge it never heard of, is gone for good", () => {
    const world = allPledged();
    world.rounds(2, ({ to }) => to === 2);
    expect(formedNames(world)).toEqual(["1", "3"]);
    world.crash("3");
    world.rounds(1);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
  });
});

describe("a disk is wiped", () => {
  test("before the pledge was drawn: its new one is named, after a while in which nobody is sure", () => {
    const world = new FormingWorld().start(1, 2, 3);
    world.crash("3");
    world.rounds(2);
    world.wipe("2");
    world.restart("2");
    world.restart("3");
    world.rounds(2);
    expect(world.disk("1").founding.type).toBe("unformed");
    expect(faultsOf(world, "1")).toEqual(["two-disks"]);
    world.rounds(ENOUGH);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
    expect(world.formed("1")?.founders[1]?.storageId).toBe(world.disk("2").storageId);
  });

  test("between its hello and the pledge that names it: nobody forms, and everyone who knows says why", () => {
    const world = pledgedWriter();
    world.wipe("2");
    world.restart("2");
    world.rounds(ENOUGH);
    expect(formedNames(world)).toEqual([]);
    expect(world.disk("2").founding.type).toBe("unformed");
    for (const name of world.names) expect(faultsOf(world, name)).toEqual(["disk-gone"]);
    const named = world.said.map(({ message }) => message).find((message) => message.type === "form-pledge")?.charter.founders[1]?.storageId;
    expect(world.told[0]?.problem.detail).toContain(`names disk ${named} for node 2, which has disk ${world.disk("2").storageId}: `);
    expect(world.told[0]?.problem.detail).toContain("nothing was decided: stop them and wipe their directories");
    for (const name of world.names) world.wipe(name);
    for (const name of world.names) world.restart(name);
    world.rounds(ENOUGH);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
  });

  test("after its pledge was heard of: the others form with the disk that is gone, and its node must get a new id", () => {
    const world = allPledged();
    world.tick("2");
    world.settle((packet) => packet.from.node === 3);
    world.wipe("2");
    world.restart("2");
    world.rounds(3);
    expect(formedNames(world)).toEqual(["1", "3"]);
    const cluster = world.formed("1")?.clusterId;
    expect(world.exits.get("2")).toEqual({
      fault: "bound-elsewhere",
      detail: `node 2 is bound to another disk in cluster ${cluster}: remove node 2 and add a new id with --join`,
    });
  });

  test("after forming, the writer's: it draws no second charter", () => {
    const world = new FormingWorld().start(1, 2, 3);
    world.rounds(3);
    world.wipe("1");
    world.restart("1");
    world.rounds(ENOUGH);
    expect(world.clusters).toHaveLength(1);
    expect(world.exits.get("1")?.fault).toBe("bound-elsewhere");
  });

  test("the writer's, after its pledge: two disks are pledged to different charters, nobody forms, and both say so", () => {
    const world = pledgedWriter();
    world.tick("1");
    world.settle((packet) => packet.to === 3 || packet.from.node === 2);
    expect(world.disk("2").founding.type).toBe("pledged");
    // Node 2 cannot be reached by node 3, nor can node 1 be by node 2, but for what it said before: so the new writer thinks that all is well.
    const before = world.said.find(({ from, to, message }) => from.node === 2 && to === 1 && message.type === "form-hello");
    world.wipe("1");
    world.restart("1");
    const apart = ({ from, to }: Packet): boolean => from.node === 2 || to === 2;
    for (let tick = 0; tick < 3; tick++) {
      if (before !== undefined) {
        const heard = world.disk("1").storageId;
        world.net.push({ ...before, message: { type: "form-hello", list: listed(1, 2, 3), heard } });
        world.deliver(world.net.length - 1);
      }
      world.rounds(1, apart);
    }
    expect(world.disk("3").founding.type).toBe("pledged");
    world.rounds(ENOUGH);
    expect(formedNames(world)).toEqual([]);
    for (const name of world.names) expect(faultsOf(world, name)).toContain("conflict");
    expect(world.told.find(({ problem }) => problem.fault === "conflict")?.problem.detail).toMatch(
      /^node \d is pledged to cluster c0.* and this node to c0/,
    );
  });
});

describe("two processes with one id", () => {
  /** A second node 2, on a disk of its own and on another machine: the others hear it, and it hears nobody. */
  function doubled(ids: readonly number[]): FormingWorld {
    const world = new FormingWorld();
    for (const id of ids) world.place(`${id}`, { id, list: listed(1, 2, 3) });
    world.place("2b", { id: 2, list: listed(1, 2, 3), address: "elsewhere:4000" });
    for (const name of world.names) world.restart(name);
    return world;
  }

  test("keep everybody waiting, and the disks of both are named, until one is stopped", () => {
    const world = doubled([1, 2, 3]);
    world.rounds(ENOUGH);
    expect(formedNames(world)).toEqual([]);
    const disks = [world.disk("2").storageId, world.disk("2b").storageId];
    const twoDisks = `disks ${disks[0]} and ${disks[1]} both speak for node 2: if two processes run as node 2, stop one of them`;
    expect(world.told.find(({ name }) => name === "1")?.problem).toEqual({ fault: "two-disks", detail: twoDisks });
    expect(world.told.filter(({ name }) => name === "1")).toHaveLength(1);
    world.crash("2b");
    world.rounds(ENOUGH);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
  });

  test("one of them alone, where its list does not say, is pledged by nobody: the right one forms later", () => {
    const world = doubled([1, 3]);
    world.rounds(ENOUGH);
    expect(world.disk("1").founding.type).toBe("unformed");
    world.crash("2b");
    world.place("2", { id: 2, list: listed(1, 2, 3) });
    world.restart("2");
    world.rounds(2 * ENOUGH);
    expect(formedNames(world)).toEqual(["1", "3", "2"]);
  });

  test("a process that says that it is this node is not heard, and told of", () => {
    const forming = newForming();
    const effects = forming.step([message({ ...peer(2), node: one }, { type: "form-hello", list: listed(1, 2, 3), heard: idOf("1") })]);
    expect(effects).toMatchObject({ dropped: ["contradiction"], problems: [{ fault: "two-disks" }] });
  });

  test("a disk that speaks for two nodes is a copy, and no charter names it twice", () => {
    const forming = newForming();
    const hello: FormingMessage = { type: "form-hello", list: listed(1, 2, 3), heard: idOf("1") };
    expect(forming.step([message(peer(2), hello), message({ ...peer(3), storageId: idOf("2") }, hello)]).dropped).toEqual(["contradiction"]);
    expect(forming.step([message({ ...peer(3), storageId: idOf("1") }, hello)]).dropped).toEqual(["contradiction"]);
    expect(forming.step([message(peer(3), hello)]).persist?.charter.founders.map(({ storageId }) => storageId)).toEqual(["1", "2", "3"].map(idOf));
  });
});

describe("a node that joins", () => {
  test("says nothing and obeys nobody, before the cluster is formed and after", () => {
    const world = new FormingWorld().start(1, 2, 3);
    world.place("4", { id: 4, list: listed(1, 2, 3, 4), join: true });
    world.restart("4");
    world.rounds(3);
    expect(formedNames(world)).toEqual(["1", "2", "3"]);
    expect(world.said.filter(({ from, to }) => from.node === 4 || to === 4)).toEqual([]);
    const { state: before } = newForming({ join: true });
    const joining = newForming({ join: true });
    for (const [sender, said] of everything()) {
      expect(joining.step([message(sender, said)])).toEqual({ sends: [], problems: [], dropped: ["joining"] });
    }
    expect(joining.step([{ type: "tick" }])).toEqual({ sends: [], problems: [], dropped: [] });
    expect(joining.state).toEqual(before);
  });

  test("has a disk that is not pledged", () => {
    expect(() => newForming({ join: true, founding: { type: "pledged", charter } })).toThrow(
      /^TSO_INVALID_OPTION: the disk is pledged to cluster c+: it cannot/,
    );
  });
});

/** Nodes 1, 2 and 3 with the disks 11…, 22… and 33…, and their cluster. */
const charter: Charter = {
  clusterId: idOf("c"),
  founders: [1, 2, 3].map((id) => ({ id: id as NodeId, storageId: idOf(`${id}`), address: addressOf(id) })),
};
const configuration = genesisConfiguration(charter);
const pledged: Founding = { type: "pledged", charter };
const other: Charter = { ...charter, clusterId: idOf("e") };

function peer(id: number, clusterId?: string): FormingPeer {
  return { node: id as NodeId, storageId: idOf(`${id}`), clusterId };
}

function message(from: FormingPeer, said: FormingMessage) {
  return { type: "message", from, message: said } as const;
}

function newForming(options: Partial<ConstructorParameters<typeof Forming>[0]> = {}): Forming {
  const node = options.node ?? one;
  const list = listed(1, 2, 3);
  return new Forming({ node, storageId: idOf(`${node}`), list, founding: { type: "unformed" }, newClusterId: () => idOf("f"), ...options });
}

/** One of each, from peers that may say it. */
function everything(): readonly (readonly [FormingPeer, FormingMessage])[] {
  return [
    [peer(2), { type: "form-hello", list: listed(1, 2, 3), heard: idOf("1") }],
    [peer(2), { type: "form-pledge", charter }],
    [peer(2), { type: "pledged", clusterId: charter.clusterId }],
    [peer(2), { type: "conflict", clusterId: other.clusterId }],
    [peer(2, charter.clusterId), { type: "formed", charter, configuration }],
  ];
}

describe("what a node is told of a cluster that is formed", () => {
  const told = (forming: Forming, changes: { charter?: Charter; configuration?: typeof configuration } = {}, from = peer(2, idOf("c"))) =>
    forming.step([message(from, { type: "formed", charter, configuration, ...changes })]);

  test("makes a pledged founder form", () => {
    const forming = newForming({ founding: pledged });
    expect(told(forming)).toMatchObject({ persist: { type: "formed", charter } });
    expect(forming.step([{ type: "written" }])).toEqual({ sends: [], problems: [], dropped: [], formed: charter });
  });

  test("ends a node that has another disk than the cluster binds its id to", () => {
    expect(told(newForming({ storageId: idOf("9") })).fatal?.detail).toBe(
      `node 1 is bound to another disk in cluster ${charter.clusterId}: remove node 1 and add a new id with --join`,
    );
  });

  test("ends a node that is none of its members", () => {
    const four = 4 as NodeId;
    const forming = newForming({ node: four, list: listed(1, 2, 3, 4) });
    expect(told(forming).fatal).toEqual({
      fault: "not-a-member",
      detail: `the peers have formed cluster ${charter.clusterId}, and node 4 is not a founder of it: use --join`,
    });
    const added = {
      ...configuration,
      members: [...configuration.members, { id: four, storageId: idOf("5"), role: "learner", address: "", prio: 0 }],
    } as const;
    expect(told(newForming({ node: four, list: listed(1, 2, 3, 4) }), { configuration: added }).fatal?.fault).toBe("bound-elsewhere");
  });

  test("ends a founder that was removed since", () => {
    const members = configuration.members.filter(({ id }) => id !== 1);
    expect(told(newForming({ founding: pledged }), { configuration: { ...configuration, members } }).fatal?.detail).toBe(
      `node 1 was removed from cluster ${charter.clusterId}: add a new id with --join`,
    );
  });

  test("ends a node that is pledged to another", () => {
    expect(told(newForming({ founding: { type: "pledged", charter: other } })).fatal?.fault).toBe("other-cluster");
  });

  // The rule said once: a founder with its own disk forms, if it is not pledged to another. But without a pledge it is no longer what it was.
  test("ends a founder whose disk has forgotten its pledge, and with it whatever it voted for since", () => {
    const world = new FormingWorld().start(1, 2, 3);
    world.rounds(3);
    world.crash("2");
    world.disk("2").founding = { type: "unformed" }; // a copy of the directory from before
    world.restart("2");
    world.rounds(2);
    expect(formedNames(world)).toEqual(["1", "3"]);
    expect(world.exits.get("2")?.fault).toBe("pledge-lost");
    expect(world.exits.get("2")?.detail).toContain("an older copy. remove node 2 and add a new id with --join");
  });

  test("ends it as well while a pledge is on its way to the disk: nobody can know of that one", () => {
    const forming = newForming({ node: two });
    expect(forming.step([message(peer(1), { type: "form-pledge", charter })]).persist).toEqual(pledged);
    expect(told(forming, {}, peer(1, idOf("c"))).fatal?.fault).toBe("pledge-lost");
  });

  test.each<readonly [string, FormingPeer]>([
    ["a process that belongs to no cluster", peer(2)],
    ["a process of another cluster", peer(2, idOf("e"))],
    ["a process on another disk", { ...peer(2, idOf("c")), storageId: idOf("9") }],
  ])("is not believed of %s", (_, from) => {
    expect(told(newForming({ founding: pledged }), {}, from)).toEqual({ sends: [], problems: [], dropped: ["contradiction"] });
  });

  test("is not believed of one that is not listed", () => {
    expect(told(newForming({ founding: pledged }), {}, peer(4, idOf("c"))).dropped).toEqual(["not-listed"]);
  });

  test("is the end: whatever comes later, nothing follows", () => {
    const forming = newForming({ storageId: idOf("9") });
    expect(told(forming).fatal).toBeDefined();
    for (const [sender, said] of everything()) expect(forming.step([message(sender, said)])).toEqual({ sends: [], problems: [], dropped: ["over"] });
    expect(forming.step([{ type: "tick" }])).toEqual({ sends: [], problems: [], dropped: [] });
  });
});

describe("a charter is pledged by nobody", () => {
  const offered = (offer: Charter, from = peer(1)) => newForming({ node: two }).step([message(from, { type: "form-pledge", charter: offer })]);
  const [first, second, third] = charter.founders;
  if (first === undefined || second === undefined || third === undefined) throw new Error("there are three");

  test("but by those that it names, with a list that is theirs", () => {
    expect(offered(charter)).toEqual({ sends: [], problems: [], dropped: [], persist: pledged });
  });

  test.each<readonly [string, Charter, string]>([
    ["without this node", { ...charter, founders: [first, third] }, "other-list"],
    ["with one node more", { ...charter, founders: [first, second, third, { id: 4 as NodeId, storageId: idOf("4"), address: "x:1" }] }, "other-list"],
    ["with another address", { ...charter, founders: [first, second, { ...third, address: "x:1" }] }, "other-list"],
    ["with another disk for this node", { ...charter, founders: [first, { ...second, storageId: idOf("9") }, third] }, "disk-gone"],
  ])("%s", (_, offer, fault) => {
    expect(offered(offer)).toMatchObject({ sends: [], problems: [{ fault }] });
    expect(offered(offer).persist).toBeUndefined();
  });

  test.each<readonly [string, FormingPeer]>([
    ["that does not name the disk of who says that it pledged it", { ...peer(1), storageId: idOf("9") }],
    ["of a process that is no founder", peer(4)],
    ["of a process that belongs to a cluster", peer(1, idOf("c"))],
  ])("%s", (_, from) => {
    expect(offered(charter, from)).toEqual({ sends: [], problems: [], dropped: ["contradiction"] });
  });
});

describe("a pledge", () => {
  test("is not spoken of before it is durable, and to everybody from then on", () => {
    const forming = newForming({ node: two });
    const quiet = forming.step([
      message(peer(1), { type: "form-pledge", charter }),
      message(peer(1), { type: "form-pledge", charter }),
      { type: "tick" },
    ]);
    expect(quiet).toEqual({ sends: [], problems: [], dropped: ["busy"], persist: pledged });
    expect(forming.step([message(peer(3), { type: "form-hello", list: listed(1, 2, 3) })]).dropped).toEqual(["busy"]);
    const offer = { type: "form-pledge", charter };
    expect(forming.step([{ type: "written" }]).sends).toEqual([
      { to: one, message: offer },
      { to: three, message: offer },
    ]);
    expect(forming.step([message(peer(1), { type: "form-pledge", charter })]).sends).toEqual([
      { to: one, message: { type: "pledged", clusterId: charter.clusterId } },
    ]);
    expect(forming.step([message(peer(3), { type: "form-hello", list: listed(1, 2, 3) })]).sends).toEqual([{ to: three, message: offer }]);
  });

  test("is not exchanged, and another one is told of it: neither while it is written nor afterwards", () => {
    const forming = newForming({ node: two });
    forming.step([message(peer(1), { type: "form-pledge", charter })]);
    const offer = message(peer(3), { type: "form-pledge", charter: other });
    expect(forming.step([offer])).toMatchObject({ sends: [], dropped: ["busy"], problems: [{ fault: "conflict" }] });
    forming.step([{ type: "written" }]);
    const refusal = { sends: [{ to: three, message: { type: "conflict", clusterId: charter.clusterId } }], problems: [], dropped: [] };
    expect(forming.step([offer])).toEqual(refusal);
    expect(forming.state.disk).toEqual(pledged);
  });

  test("counts only from the disk that the charter names, and not for another cluster", () => {
    const forming = newForming({ founding: pledged });
    const said = (clusterId: string): FormingMessage => ({ type: "pledged", clusterId });
    expect(forming.step([message({ ...peer(2), storageId: idOf("9") }, said(charter.clusterId))]).dropped).toEqual(["contradiction"]);
    expect(forming.step([message(peer(2), said(other.clusterId))]).problems).toMatchObject([{ fault: "conflict" }]);
    expect(forming.step([message(peer(3), said(charter.clusterId))]).persist).toBeUndefined();
    expect(forming.step([message(peer(2), said(charter.clusterId))]).persist).toEqual({ type: "formed", charter });
  });

  test("of the same id and with other words is another", () => {
    const forming = newForming({ node: two, founding: pledged });
    const forged: Charter = { ...charter, founders: charter.founders.map((founder) => ({ ...founder, address: `${founder.address}0` })) };
    expect(forming.step([message(peer(1), { type: "form-pledge", charter: forged })]).sends).toMatchObject([{ message: { type: "conflict" } }]);
  });

  test("of a disk that is another's is a bug, or a copy of a directory", () => {
    expect(() => newForming({ storageId: idOf("9"), founding: pledged })).toThrow(InvariantViolation);
    expect(() => newForming({ founding: pledged }).step([{ type: "written" }])).toThrow(InvariantViolation);
  });
});

test("a problem is told when it begins, and again when it has gone and come back", () => {
  const forming = newForming({ node: two });
  const hello = (list: readonly ListedNode[]) => forming.step([message(peer(3), { type: "form-hello", list })]).problems;
  expect(hello(listed(1, 3))).toHaveLength(1);
  expect(hello(listed(1, 3))).toHaveLength(0);
  expect(forming.state.problems.get(three)?.fault).toBe("other-list");
  expect(hello(listed(1, 2, 3))).toHaveLength(0);
  expect(forming.state.problems.size).toBe(0);
  expect(hello(listed(1, 3))).toHaveLength(1);
  for (let id = 10; id < 1_000; id++) forming.step([message(peer(id), { type: "form-hello", list: listed(id) })]);
  expect(forming.state.problems.size).toBe(2);
});

test("what a formed node says to whoever belongs to no cluster, and that it says nothing else", () => {
  const answers = everything().map(([from, said]) => answerForming({ charter, configuration }, { ...from, clusterId: undefined }, said));
  const formed = { to: two, message: { type: "formed", charter, configuration } };
  expect(answers).toEqual([formed, formed, undefined, undefined, undefined]);
  const hello: FormingMessage = { type: "form-hello", list: listed(1, 2) };
  expect(answerForming({ charter, configuration }, peer(2, idOf("e")), hello)).toBeUndefined();
});

describe("a list of peers", () => {
  const list = (...entries: readonly (readonly [id: number, address: string])[]) => entries.map(([id, address]) => ({ id: id as NodeId, address }));

  test("is put in order of the ids", () => {
    expect(resolvePeerList(list([3, "c:3"], [1, "[::1]:65535"], [4_294_967_294, "b:1"]), one).map(({ id }) => id)).toEqual([1, 3, 4_294_967_294]);
  });

  test.each<readonly [ReturnType<typeof list>, RegExp]>([
    [list(), /peers does not have this node, 1/],
    [list([2, "a:1"]), /peers does not have this node, 1: 2=a:1/],
    [list([0, "a:1"], [1, "b:1"]), /the id of a peer 0 must be a whole number from 1 to 4294967294/],
    [list([1.5, "a:1"]), /the id of a peer 1.5 must be/],
    [list([Number.NaN, "a:1"]), /the id of a peer NaN must be/],
    [list([1, "a:1"], [4_294_967_295, "b:1"]), /the id of a peer 4294967295 must be/],
    [list([1, "a:1"], [2, "b:1"], [1, "c:1"]), /peers has node 1 twice/],
    [list([1, "a:1"], [2, "a:1"]), /nodes 1 and 2 have one address, a:1/],
    ...["a", "a:", "a:0", "a:65536", ":1", "a b:1", "::1:1", "http://a:1", "a:1x", `${"a".repeat(ADDRESS_LENGTH_MAX)}:1`].map(
      (address) => [list([1, address]), /the address ".*" of node 1 is not HOST:PORT, with a port from 1 to 65535/] as const,
    ),
    [
      list(...Array.from({ length: 8 }, (_, index) => [index + 1, `a:${index + 1}`] as const)),
      /peers has 8 nodes, and a cluster begins with at most 7/,
    ],
  ])("%o is refused", (peers, why) => {
    expect(() => resolvePeerList(peers, one)).toThrow(OracleError);
    expect(() => resolvePeerList(peers, one)).toThrow(why);
    expect(() => resolvePeerList(peers, one)).toThrow("TSO_INVALID_OPTION");
  });
});

const SAME = "start every node with the same list";
