/** A node as its host meets it, on a network, disks and a time of the test's making. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { encodeUtf8 } from "../../../src/base/bytes.ts";
import { epoch } from "../../../src/base/epoch.ts";
import { InvariantViolation } from "../../../src/base/invariant.ts";
import { PaxosReplica } from "../../../src/paxos/core/replica.ts";
import { decodeRun, replayRun } from "../../../src/paxos/recorder.ts";
import { MemoryVolume, openMemory } from "../../../src/paxos/storage/memory.ts";
import { openWal } from "../../../src/paxos/storage/wal.ts";
import { FaultyDisk } from "../../../src/testing/faulty-disk.ts";
import { NodeWorld } from "../../support/node-world.ts";

let world: NodeWorld;
beforeEach(() => {
  world = new NodeWorld();
});
afterEach(async () => {
  vi.restoreAllMocks();
  await world.end();
});

/** All that run have applied the same, and as much as the leader. */
async function converged(): Promise<readonly string[]> {
  const { machine } = await world.leader();
  const running = world.ids.filter((id) => world.isRunning(id)).map((id) => world.running(id));
  await world.until("all have applied the same", () => running.every((each) => each.machine.commands.length === machine.commands.length));
  for (const each of running) expect(each.machine.commands).toEqual(machine.commands);
  return machine.commands;
}

describe("a cluster", () => {
  test("is formed by its nodes, elects a leader, and applies the same everywhere", async () => {
    await world.startAll();
    for (let count = 1; count <= 20; count++) await world.apply(`command ${count}`);
    expect(await converged()).toEqual(Array.from({ length: 20 }, (_, index) => `command ${index + 1}`));
    const { node } = await world.leader();
    expect(await node.propose(encodeUtf8("one more"))).toMatchObject({ type: "applied", result: encodeUtf8("21") });
  });

  test("goes on without its leader, which comes back as a follower and learns what it missed", async () => {
    await world.startAll();
    await world.apply("before");
    const leader = (await world.leader()).node.node;
    world.crash(leader);
    await world.apply("between");
    await world.start(leader);
    await world.apply("after");
    expect(await converged()).toEqual(["before", "between", "after"]);
    expect(world.running(leader).node.status()).toMatchObject({ boot: 2, founding: "formed" });
  });

  test("that lost power as a whole has all it had acknowledged", async () => {
    await world.startAll();
    for (let round = 1; round <= 3; round++) {
      await world.apply(`round ${round}`);
      for (const id of world.ids) world.crash(id);
      await world.startAll();
    }
    await world.apply("the end");
    expect(await converged()).toEqual(["round 1", "round 2", "round 3", "the end"]);
  });

  test("of one node forms when told to, and not otherwise", async () => {
    world = new NodeWorld(1);
    await expect(world.start(1)).rejects.toThrow(/TSO_INVALID_OPTION: the list of peers has node 1 alone.*--init/);
    await world.start(1, { init: true });
    await world.apply("alone");
    world.crash(1);
    await world.start(1);
    await world.apply("again");
    expect(await converged()).toEqual(["alone", "again"]);
  });

  test("without a quorum decides nothing, and says so to whoever asks", async () => {
    await world.startAll();
    await world.apply("before");
    const { node, machine } = await world.leader();
    for (const id of world.ids) if (id !== node.node) world.crash(id);
    const outcome = node.propose(encodeUtf8("alone"));
    await expect(node.barrier()).rejects.toThrow(/TSO_NO_LEADER/);
    await world.until("it steps down", () => node.status().role === "follower");
    expect(await node.propose(encodeUtf8("later"))).toMatchObject({ type: "not-applied", reason: "not-leader" });
    expect(machine.commands).toEqual(["before"]);
    await node.close();
    expect(await outcome).toEqual({ type: "unknown", reason: "closed" });
  });
});

describe("proposals", () => {
  test("are taken by the leader alone, which a follower names", async () => {
    await world.startAll();
    await world.apply("one");
    const leader = (await world.leader()).node.node;
    const follower = world.ids.find((id) => id !== leader) ?? leader;
    await world.until("it knows", () => world.running(follower).node.status().leader === leader);
    expect(await world.running(follower).node.propose(encodeUtf8("two"))).toEqual({ type: "not-applied", reason: "not-leader", leader });
  });

  test("of another epoch are refused", async () => {
    await world.startAll();
    const { node } = await world.leader();
    const mine = node.status().epoch;
    expect(await node.propose(encodeUtf8("a"), { epoch: epoch(1n) })).toMatchObject({ type: "not-applied", reason: "epoch-differs" });
    expect(await node.propose(encodeUtf8("a"), { epoch: mine })).toMatchObject({ type: "applied", epoch: mine });
  });

  test("that are aborted before anybody saw them are not applied, and later nobody knows", async () => {
    await world.startAll();
    const { node, machine } = await world.leader();
    expect(await node.propose(encodeUtf8("never"), { signal: AbortSignal.abort() })).toEqual({ type: "not-applied", reason: "aborted" });
    const early = new AbortController();
    const unseen = node.propose(encodeUtf8("unseen"), { signal: early.signal });
    early.abort();
    expect(await unseen).toEqual({ type: "not-applied", reason: "aborted" });
    const late = new AbortController();
    const seen = node.propose(encodeUtf8("seen"), { signal: late.signal });
    await new Promise((resolve) => setImmediate(resolve));
    late.abort();
    expect(await seen).toEqual({ type: "unknown", reason: "aborted" });
    await world.apply("end");
    expect(machine.commands).toEqual(["seen", "end"]);
  });

  test("are copied: what the caller does with its bytes later changes nothing", async () => {
    await world.startAll();
    const { node } = await world.leader();
    for (const bytes of [encodeUtf8("as proposed"), Buffer.from("as proposed")]) {
      const outcome = node.propose(bytes);
      bytes.fill(0x78);
      expect(await outcome).toMatchObject({ type: "applied" });
    }
    expect(await converged()).toEqual(["as proposed", "as proposed"]);
  });

  test("are bytes, and nothing else: a node does not stop for it", async () => {
    await world.startAll();
    const { node } = await world.leader();
    for (const [command, kind] of [
      ["text", "a String"],
      [undefined, "undefined"],
      [[1, 2], "an Array"],
      [new ArrayBuffer(1), "an ArrayBuffer"],
      [new DataView(new ArrayBuffer(1)), "a DataView"],
    ] as const) {
      const proposed = Reflect.apply(node.propose, node, [command]);
      await expect(proposed).rejects.toThrow(`TSO_INVALID_ARGUMENT: a command is a Uint8Array, and this is ${kind}`);
    }
    await world.apply("after");
    expect(await converged()).toEqual(["after"]);
  });

  test("that are too large are refused", async () => {
    await world.startAll();
    const { node } = await world.leader();
    expect(await node.propose(new Uint8Array(5_000_000))).toMatchObject({ type: "not-applied", reason: "too-large" });
  });

  test("beyond the limit are refused at once, and none is lost", async () => {
    for (const id of world.ids) await world.start(id, { core: { maxProposals: 32, maxUncommittedEntries: 32 } });
    const { node, machine } = await world.leader();
    const outcomes = await Promise.all(Array.from({ length: 100 }, (_, index) => node.propose(encodeUtf8(`command ${index}`))));
    expect(outcomes.filter(({ type }) => type === "applied")).toHaveLength(32);
    for (const outcome of outcomes.slice(32)) expect(outcome).toMatchObject({ type: "not-applied", reason: "overloaded" });
    expect(machine.commands).toHaveLength(32);
  });
});

describe("reads", () => {
  test("a barrier at any node waits for what was decided before", async () => {
    await world.startAll();
    for (let count = 1; count <= 10; count++) {
      await world.apply(`command ${count}`);
      for (const id of world.ids) {
        const { node, machine } = world.running(id);
        await node.barrier();
        expect(machine.commands).toHaveLength(count);
      }
    }
  });

  test("a barrier that nobody waits for any more ends with the signal's reason", async () => {
    await world.startAll();
    const { node } = await world.leader();
    for (const id of world.ids) if (id !== node.node) world.crash(id);
    const controller = new AbortController();
    const asked = node.barrier({ signal: controller.signal });
    controller.abort(new Error("enough"));
    await expect(asked).rejects.toThrow("enough");
    await expect(node.barrier({ signal: controller.signal })).rejects.toThrow("enough");
  });

  test("a leader confirms its own epoch, and no other", async () => {
    await world.startAll();
    const { node } = await world.leader();
    const mine = node.status().epoch ?? epoch(0n);
    expect(await node.confirm(mine)).toBe(true);
    expect(await node.confirm(epoch(1n))).toBe(false);
    world.network.hold("node-1:7000", "node-2:7000", true);
    world.network.hold("node-1:7000", "node-3:7000", true);
    world.network.hold("node-2:7000", "node-3:7000", true);
    expect(await node.confirm(mine)).toBe(false);
  });
});

describe("a node whose disk fails", () => {
  test.each(["write", "datasync"] as const)("stops with the reason after a failed %s, and the others go on", async (operation) => {
    await world.startAll();
    await world.apply("before");
    const { node } = await world.leader();
    await world.pass(500); // its followers have heard that it leads
    world.disk(node.node).before = ({ name }) => {
      if (name === operation) throw new Error("EIO: input/output error");
    };
    const outcome = await node.propose(encodeUtf8("doubtful"));
    expect(outcome).toEqual({ type: "unknown", reason: "closed" });
    await expect(node.done).rejects.toThrow(/TSO_STORAGE: .*EIO/);
    expect(node.status()).toMatchObject({ role: "stopped", epoch: undefined, lastFault: expect.stringMatching(/EIO/) });
    expect(await node.propose(encodeUtf8("later"))).toEqual({ type: "not-applied", reason: "closed" });
    await expect(node.barrier()).rejects.toThrow("TSO_CLOSED");
    expect(await node.confirm(epoch(1n))).toBe(false);
    expect(world.lines).toContainEqual(expect.objectContaining({ node: node.node, level: "error", text: "the node stops" }));
    world.forget(node.node);
    const stoppedAt = world.timers.now();
    await world.apply("after");
    expect(world.timers.now() - stoppedAt, "its peers did not wait for it").toBeLessThan(700);
    expect(await converged()).toContain("after");
  });

  test("that is full, stops as well, and has what it had when there is room again", async () => {
    world = new NodeWorld(1);
    await world.start(1, { init: true });
    await world.apply("before");
    const { node } = await world.leader();
    world.disk(1).capacityBytes = 0;
    const outcomes = await Promise.all(Array.from({ length: 600 }, () => node.propose(new Uint8Array(1_000))));
    expect(outcomes.some(({ type }) => type === "unknown")).toBe(true);
    await expect(node.done).rejects.toThrow(/TSO_STORAGE: .*ENOSPC/);
    world.crash(1);
    await world.start(1);
    await world.apply("after");
    expect((await converged())[0]).toBe("before");
  });

  test("tells whoever follows its leadership, and then ends", async () => {
    world = new NodeWorld(1);
    const { node } = await world.start(1, { init: true });
    const roles: string[] = [];
    const following = (async () => {
      for await (const { role } of node.leadership()) roles.push(role);
    })();
    await world.apply("before");
    world.disk(1).before = ({ name }) => {
      if (name === "datasync") throw new Error("EIO");
    };
    await node.propose(encodeUtf8("doubtful"));
    await following;
    expect(roles).toEqual(["unknown", "leader"]);
    for await (const { role } of node.leadership()) expect.unreachable(role);
  });
});

describe("a bug", () => {
  test("of the host's machine stops every replica alike, as long as there is a quorum to decide anything", async () => {
    await world.startAll();
    const { node } = await world.leader();
    void node.propose(encodeUtf8("throw"));
    await expect(node.done).rejects.toThrow("the host's machine has a bug");
    world.forget(node.node);
    const { node: successor } =
      (await world.until("its successor stops too", () =>
        world.ids.map((id) => world.isRunning(id) && world.running(id)).find((each) => each && each.node.status().role === "stopped"),
      )) || expect.unreachable();
    await expect(successor.done).rejects.toThrow("the host's machine has a bug");
  });

  test.each([
    { returned: Promise.resolve(encodeUtf8("later")), kind: "a Promise" },
    { returned: undefined, kind: "undefined" },
    { returned: "text", kind: "a String" },
  ])("of a machine that returns $kind stops the node, with the entry", async ({ returned, kind }) => {
    world = new NodeWorld(1);
    const { node, machine } = await world.start(1, { init: true });
    await world.apply("before");
    Object.assign(machine, { apply: () => returned });
    void node.propose(encodeUtf8("next"));
    await expect(node.done).rejects.toThrow(`the state machine returned ${kind} for entry 4, and not a Uint8Array`);
  });

  test("of ours leaves the run that led to it, which can be made again", async () => {
    const dumpDirectory = await mkdtemp(join(tmpdir(), "tsoracle-dump-"));
    world = new NodeWorld(1);
    const { node } = await world.start(1, { init: true, dumpDirectory });
    await world.apply("before");
    const { step } = PaxosReplica.prototype;
    const { last } = node.status();
    vi.spyOn(PaxosReplica.prototype, "step").mockImplementation(function (this: PaxosReplica, ...args: Parameters<typeof step>) {
      const effects = step.apply(this, args);
      if (this.state.log.last > (last ?? 0)) throw new InvariantViolation("the log is short", { last: this.state.log.last });
      return effects;
    });
    void node.propose(encodeUtf8("one too many"));
    await expect(node.done).rejects.toThrow("does not hold: the log is short");
    vi.restoreAllMocks();
    const [name] = await readdir(dumpDirectory);
    expect(name).toBe("paxos-run-node-1-boot-1.bin");
    const { replica, fault } = replayRun(decodeRun(await readFile(join(dumpDirectory, name ?? ""))));
    expect(fault).toBeUndefined(); // the bug was the test's
    expect(replica.state.log.last).toBe((last ?? 0) + 1);
    await rm(dumpDirectory, { recursive: true });
  });
});

describe("an option that is wrong is named, with what it must be, and the storage is closed:", () => {
  const noTransport = "transport is undefined, and must be a function: grpcTransport({ listen })";
  test.each<[given: object, message: string]>([
    [{ storage: undefined }, "storage is undefined without write(), and must be an open LogStorage"],
    [{ storage: Promise.resolve() }, "storage is a Promise without write(), and must be an open LogStorage: await openWal({ directory, node })"],
    [{ machine: undefined }, "machine is undefined without apply(), and must be a StateMachine"],
    [{ machine: { apply: () => undefined } }, "machine is an Object without capture(), and must be a StateMachine"],
    [{ logger: { info: () => undefined } }, "logger is an Object without debug(), and must be a Logger"],
    [{ transport: undefined }, noTransport],
    [{ peers: undefined }, "peers is undefined, and must be a text, 1=HOST:PORT,2=HOST:PORT, or a list of { id, address }"],
    [{ peers: 1 }, "peers is a Number, and must be a text"],
    [{ core: { tickMs: "10" } }, 'tickMs "10" must be a whole number from 1 to'],
    [{ core: { ticksMs: 10 } }, "ticksMs is no option of the log: there are tickMs,"],
    [{ diskRoom: { lowBytes: -1 } }, "diskRoom.lowBytes -1 must be a whole number from 0 to"],
    [{ dumpdirectory: "/tmp" }, "dumpdirectory is no option of a node: there are storage,"],
  ])("%j", async (given, message) => {
    world = new NodeWorld(1);
    await expect(world.start(1, { init: true, ...given })).rejects.toThrow(`TSO_INVALID_OPTION: ${message}`);
    if ("storage" in given) return;
    const { node } = await world.start(1, { init: true });
    expect(node.status().boot).toBe(2);
  });

  test("where a directory or a node's number is none", async () => {
    const disk = new FaultyDisk();
    const open = (options: object): Promise<unknown> => Reflect.apply(openWal, undefined, [{ directory: "/data", node: 1, disk, ...options }]);
    await expect(open({ directory: undefined })).rejects.toThrow("TSO_INVALID_OPTION: directory is undefined, and must be a path");
    await expect(open({ directory: "" })).rejects.toThrow("TSO_INVALID_OPTION: directory is empty, and must be a path");
    await expect(open({ node: "1" })).rejects.toThrow('TSO_INVALID_OPTION: node "1" must be a whole number from 1 to 4294967294');
    await expect(openMemory({ volume: new MemoryVolume(), node: 0 })).rejects.toThrow("TSO_INVALID_OPTION: node 0 must be");
    await expect(Reflect.apply(openMemory, undefined, [{ node: 1 }])).rejects.toThrow("volume is undefined, and must be a MemoryVolume");
  });
});

describe("a node that does not fit is told so, and does no harm:", () => {
  test("its disk was wiped, and its cluster is formed", async () => {
    await world.startAll();
    await world.apply("before");
    world.crash(3);
    world.setDisk(3, new FaultyDisk());
    const { node } = await world.start(3);
    await expect(node.done).rejects.toThrow(/TSO_INVALID_OPTION: .*node 3.*another disk/);
    world.forget(3);
    await world.apply("after");
    expect(await converged()).toEqual(["before", "after"]);
  });

  test("its disk belongs to another cluster", async () => {
    const other = new NodeWorld();
    await other.startAll();
    await other.apply("elsewhere");
    await other.end();
    await world.startAll();
    await world.apply("here");
    world.crash(3);
    world.setDisk(3, other.disk(3).kill());
    await world.start(3);
    await world.until("somebody says so", () => world.lines.some(({ node, fault }) => node !== 3 && fault === "wrong-cluster"));
    await world.until("it is told so", () => world.lines.some(({ node, fault }) => node === 3 && fault === "wrong-cluster"));
    expect(world.running(3).node.status().peers[0]?.problem).toMatch(/cluster/);
    await world.apply("after");
    expect(world.running(3).machine.commands).not.toContain("after");
  });

  test("its list is another, before the cluster is formed", async () => {
    await world.start(1);
    await world.start(2, { peers: [...world.peers.slice(0, 2), { id: 4, address: "node-4:7000" }] });
    await world.until("it says so", () =>
      world
        .running(1)
        .node.status()
        .problems.some((problem) => /another list of peers/.test(problem)),
    );
    expect(world.running(1).node.status()).toMatchObject({ founding: "unformed", role: "forming" });
    expect(await world.running(1).node.propose(encodeUtf8("early"))).toEqual({ type: "not-applied", reason: "not-leader" });
    await expect(world.running(1).node.barrier()).rejects.toThrow("TSO_NO_LEADER");
  });

  test("its list is another, after the cluster is formed: the membership counts", async () => {
    await world.startAll();
    await world.apply("before");
    world.crash(2);
    await world.start(2, { peers: [...world.peers.slice(0, 2), { id: 4, address: "node-4:7000" }] });
    await world.apply("after");
    expect(await converged()).toEqual(["before", "after"]);
    expect(world.lines).toContainEqual(
      expect.objectContaining({ node: 2, level: "warn", text: expect.stringMatching(/not the cluster's membership/) }),
    );
  });

  test("it is not in its own list", async () => {
    await expect(world.start(3, { peers: world.peers.slice(0, 2) })).rejects.toThrow(/TSO_INVALID_OPTION: peers does not have this node, 3/);
    await world.start(3); // the storage was closed
  });
});

describe("closing", () => {
  test("frees the disk, and can be done twice", async () => {
    await world.startAll();
    await world.apply("before");
    for (const id of world.ids) {
      const { node } = world.running(id);
      await Promise.all([node.close(), node.close()]);
      await node.done;
      expect(node.status().role).toBe("stopped");
    }
    await world.startAll();
    await world.apply("after");
    expect(await converged()).toEqual(["before", "after"]);
  });

  test("settles what is open", async () => {
    await world.startAll();
    const { node } = await world.leader();
    const open = node.propose(encodeUtf8("open"));
    await new Promise((resolve) => setImmediate(resolve));
    const unseen = node.propose(encodeUtf8("unseen"));
    const barrier = node.barrier();
    const closed = node.close();
    expect(await unseen).toEqual({ type: "not-applied", reason: "closed" });
    expect(["unknown", "applied"]).toContain((await open).type);
    await expect(barrier).rejects.toThrow("TSO_CLOSED");
    await closed;
  });
});

test("a slow machine holds up neither messages nor other work: what is left is applied in later turns", async () => {
  world = new NodeWorld(1);
  const { node, machine } = await world.start(1, { init: true });
  await world.leader();
  const { apply } = machine;
  const at: number[] = [];
  machine.apply = (command) => {
    at.push(turns);
    world.timers.sleep(1);
    return apply.call(machine, command);
  };
  let turns = 0;
  let isOver = false;
  const count = (): void => {
    turns += 1;
    if (!isOver) setImmediate(count);
  };
  count();
  const outcomes = await Promise.all(Array.from({ length: 200 }, (_, index) => node.propose(encodeUtf8(`${index}`))));
  isOver = true;
  expect(outcomes.every(({ type }) => type === "applied")).toBe(true);
  const largest = Math.max(...at.map((turn) => at.filter((other) => other === turn).length));
  expect(largest).toBe(16);
  expect(new Set(at).size).toBe(13);
});

test("a process that was late delivers two ticks, and no more", async () => {
  world = new NodeWorld(1);
  const { node } = await world.start(1, { init: true });
  await world.leader();
  const ticks: number[] = [];
  const { step } = PaxosReplica.prototype;
  vi.spyOn(PaxosReplica.prototype, "step").mockImplementation(function (this: PaxosReplica, ...args: Parameters<typeof step>) {
    ticks.push(args[0].filter(({ type }) => type === "tick").length);
    return step.apply(this, args);
  });
  world.timers.sleep(10_000);
  await world.until("some turns have run", () => ticks.length > 5);
  expect(Math.max(...ticks)).toBe(2);
  expect(ticks.reduce((sum, count) => sum + count, 0)).toBeLessThan(ticks.length + 2);
  expect(node.status().role).toBe("leader");
});
