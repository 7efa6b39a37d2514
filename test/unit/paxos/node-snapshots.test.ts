/** Nodes that take snapshots, let go of their logs, and give each other what is no longer in them. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { encodeUtf8 } from "../../../src/base/bytes.ts";
import type { SnapshotView } from "../../../src/log.ts";
import type { PaxosNodeOptions } from "../../../src/paxos/node-options.ts";
import { ListMachine, NodeWorld, type RunningNode } from "../../support/node-world.ts";

let world: NodeWorld;
beforeEach(() => {
  world = new NodeWorld();
});
afterEach(() => world.end());

/** A snapshot every ten entries, in pieces of a few commands; and nothing in memory for peers that are behind. */
const SMALL = { snapshotEntries: 10, snapshotBytes: 100_000, snapshotChunkBytes: 64, snapshotWindowBytes: 256, cacheBytes: 0 } as const;

async function startAll(core: PaxosNodeOptions["core"] = SMALL): Promise<void> {
  for (const id of world.ids) await world.start(id, { core });
}

async function applyMany(count: number, name = "command"): Promise<void> {
  for (let each = 1; each <= count; each++) await world.apply(`${name} ${each}`);
}

function isSame(a: RunningNode, b: RunningNode): boolean {
  return JSON.stringify(a.machine.commands) === JSON.stringify(b.machine.commands);
}

function snapshotFiles(id: number): Promise<readonly string[]> {
  return world.disk(id).list("/data/snapshots");
}

/** Of any log but that of the leader. */
async function follower(): Promise<RunningNode> {
  const { node } = await world.leader();
  return world.running(world.ids.find((id) => id !== node.node) ?? 0);
}

describe("the log is let go of", () => {
  test("as snapshots are taken: one snapshot is kept, and the log since the one before", async () => {
    await startAll();
    await applyMany(100);
    await world.until("all have compacted", () => world.ids.every((id) => (world.running(id).node.status().compactedThrough ?? 0) > 70));
    for (const id of world.ids) {
      const { last = 0, compactedThrough = 0, snapshot } = world.running(id).node.status();
      expect(last - compactedThrough).toBeLessThan(35);
      expect(snapshot?.slot).toBeGreaterThan(compactedThrough);
      await world.until("older ones are gone", () => world.running(id).storage.snapshots().length === 1);
      expect(await snapshotFiles(id)).toHaveLength(2);
    }
  });

  test("and a start begins with the snapshot, and applies what followed", async () => {
    world = new NodeWorld(1);
    await world.start(1, { core: SMALL, init: true });
    await applyMany(47);
    const commands = [...world.running(1).machine.commands];
    for (let start = 0; start < 3; start++) {
      world.crash(1);
      await world.start(1, { core: SMALL });
      await world.until("it has all", () => world.running(1).machine.commands.length === commands.length);
      expect(world.running(1).machine.commands).toEqual(commands);
    }
    await world.apply("one more");
    expect(world.running(1).machine.commands.at(-1)).toBe("one more");
  });

  test("not before the log has grown by a quarter of the last snapshot", async () => {
    world = new NodeWorld(1);
    await world.start(1, { core: { ...SMALL, snapshotEntries: 2 }, init: true });
    await world.apply("x".repeat(4_000));
    await world.apply("second");
    await world.until("one is there", () => (world.running(1).node.status().snapshot?.bytes ?? 0) > 4_000);
    const { snapshot } = world.running(1).node.status();
    await applyMany(10, "short");
    await world.pass(100);
    expect(world.running(1).node.status().snapshot).toEqual(snapshot);
    await applyMany(20, "short");
    await world.until("another is there", () => world.running(1).node.status().snapshot?.slot !== snapshot?.slot);
  });
});

describe("a node that was away while the log was let go of", () => {
  test("gets a snapshot, and what followed it, while the others go on", async () => {
    await startAll();
    await applyMany(20);
    const { node } = await follower();
    const id = node.node;
    world.crash(id);
    await applyMany(150, "later");
    const { machine } = await world.start(id, { core: SMALL });
    await applyMany(30, "meanwhile");
    await world.until("it has caught up", () => machine.commands.length === 200);
    for (const other of world.ids) await world.until("all are alike", () => isSame(world.running(other), world.running(id)));
    const said = world.lines.filter((line) => line.node === id).map(({ text }) => text);
    expect(said).toContain("a snapshot is pulled from a peer");
    expect(said).toContain("a snapshot was installed");
  });

  test("is told of in the status of both ends, with bytes and percent", async () => {
    world = new NodeWorld(3, 3);
    await startAll({ ...SMALL, snapshotChunkBytes: 16, snapshotWindowBytes: 16 });
    await applyMany(20);
    const { node } = await follower();
    world.crash(node.node);
    await applyMany(60, "later");
    await world.start(node.node, { core: { ...SMALL, snapshotChunkBytes: 16, snapshotWindowBytes: 16 } });
    const receiving = await world.until("it pulls", () =>
      world
        .running(node.node)
        .node.status()
        .work.find(({ type, bytes }) => type === "receiving" && bytes > 100),
    );
    expect(receiving.percent).toBe(Math.floor((100 * receiving.bytes) / (receiving.of ?? 0)));
    const source = world.running(receiving.peer ?? 0).node.status().work;
    expect(source).toMatchObject([{ type: "sending", peer: node.node, slot: receiving.slot, of: receiving.of }]);
    await world.until("it is over", () => world.running(node.node).machine.commands.length === 80);
    await world.until("and nobody tells of it any more", () => world.ids.every((id) => world.running(id).node.status().work.length === 0));
  });

  test("asks another when its source dies, and begins anew", async () => {
    const core = { ...SMALL, snapshotChunkBytes: 16, snapshotWindowBytes: 16, snapshotTicks: 100 };
    world = new NodeWorld(5, 3);
    await startAll(core);
    await applyMany(10);
    const { node } = await follower();
    world.crash(node.node);
    await applyMany(40, "later");
    await world.start(node.node, { core });
    const { peer = 0 } = await world.until("it pulls", () =>
      world
        .running(node.node)
        .node.status()
        .work.find(({ bytes }) => bytes > 100),
    );
    world.crash(peer);
    await world.until("it has caught up", () => world.running(node.node).machine.commands.length === 50);
    expect(world.lines.filter((line) => line.node === node.node && line.text === "a snapshot is pulled from a peer").length).toBeGreaterThan(1);
  });

  test("dies in the middle of a transfer, at any piece of work, and gets it all the same", async () => {
    await startAll();
    await applyMany(20);
    const { node } = await follower();
    const id = node.node;
    world.crash(id);
    await applyMany(40, "later");
    let operations = 0;
    for (let dies = 1; dies < 60; dies++) {
      const disk = world.disk(id);
      const begun = disk.operations;
      const { machine, node: again } = await world.start(id, { core: SMALL });
      let isDead = false;
      void again.done.catch(() => undefined);
      disk.before = ({ number }) => {
        if (number < begun + dies * 3 || isDead) return;
        isDead = true;
        disk.kill();
      };
      await world.until("it died, or is whole", () => isDead || machine.commands.length >= 60);
      operations = Math.max(operations, disk.operations - begun);
      disk.before = undefined;
      if (isDead) world.crash(id);
      else break;
    }
    if (!world.isRunning(id)) await world.start(id, { core: SMALL });
    await world.until("it has caught up", () => world.running(id).machine.commands.length === 60);
    expect(isSame(world.running(id), await world.leader())).toBe(true);
  });
});

describe("a snapshot that cannot be read", () => {
  async function damage(id: number): Promise<void> {
    for (const name of await snapshotFiles(id)) {
      if (!name.endsWith(".data")) continue;
      const bytes = world.disk(id).bytesOf(`/data/snapshots/${name}`);
      const at = Math.floor(bytes.length / 2);
      bytes[at] = (bytes[at] ?? 0) ^ 1;
    }
  }

  test("does not keep a node from voting: it applies nothing, and gets another", async () => {
    await startAll();
    await applyMany(60);
    const { node } = await follower();
    world.crash(node.node, "keeps");
    await damage(node.node);
    const { machine } = await world.start(node.node, { core: SMALL });
    await world.until("it has another", () => machine.commands.length === 60);
    const lines = world.lines.filter((line) => line.node === node.node && line.level === "error").map(({ text }) => text);
    expect(lines[0]).toBe("a snapshot cannot be read");
    expect(lines[1]).toMatch(/no snapshot of what came before can be read: this node votes, and applies nothing until a peer has given it one$/);
    await world.apply("and on");
  });

  // Found by seed 102183 of the simulator, profile crash-storm.
  test("is made anew by a peer, where those that the others have end before this log begins", async () => {
    for (const id of world.ids) await world.start(id, { core: { ...SMALL, snapshotEntries: id === 3 ? 10 : 45 } });
    await applyMany(80);
    await world.until("it has let go of more than the others' snapshots hold", () => (world.running(3).node.status().compactedThrough ?? 0) > 50);
    world.crash(3, "keeps");
    await damage(3);
    const { machine } = await world.start(3, { core: SMALL });
    await world.until("it has another", () => machine.commands.length === 80);
  });

  test("ends the start of the only node, and its files are left as they are", async () => {
    world = new NodeWorld(1);
    await world.start(1, { core: SMALL, init: true });
    await applyMany(60);
    await world.until("older ones are gone", () => world.running(1).storage.snapshots().length === 1);
    world.crash(1, "keeps");
    await damage(1);
    const before = await snapshotFiles(1);
    const { node } = await world.start(1, { core: SMALL });
    await expect(node.done).rejects.toThrow(
      /TSO_STORAGE: the log begins after entry \d+, and no snapshot .* this is the only node, so restore its directory from a copy/,
    );
    await expect(node.close()).resolves.toBeUndefined();
    world.forget(1);
    expect(await snapshotFiles(1)).toEqual(before);
  });
});

describe("what a disk will not take of a snapshot", () => {
  test("is left: the log goes on, and another is taken when there is room", async () => {
    world = new NodeWorld(1);
    const diskRoom = { lowBytes: 2_000, noneBytes: 1_000 };
    await world.start(1, { core: { ...SMALL, snapshotTicks: 20 }, init: true, diskRoom });
    await applyMany(15);
    await world.until("the first is there", () => world.running(1).node.status().snapshot);
    const { snapshot } = world.running(1).node.status();
    const disk = world.disk(1);
    disk.before = ({ name, path }) => {
      if (name === "write" && path.startsWith("/data/snapshots")) throw Object.assign(new Error("EIO"), { code: "EIO" });
    };
    await applyMany(30, "more");
    expect(world.running(1).node.status()).toMatchObject({ snapshot, lastFault: undefined });
    expect(world.lines.some(({ text }) => text === "a snapshot cannot be written; the log goes on without it")).toBe(true);
    disk.before = undefined;
    await world.until("another is there", () => (world.running(1).node.status().snapshot?.slot ?? 0) > 40);
    expect(await snapshotFiles(1)).toHaveLength(2);
  });
});

describe("a machine whose snapshots fail stops its node, with the reason", () => {
  class Failing extends ListMachine {
    readonly #view: () => SnapshotView;
    constructor(view: () => SnapshotView) {
      super();
      this.#view = view;
    }
    override capture(): SnapshotView {
      return this.#view();
    }
  }
  const released: string[] = [];
  test.each<[string, () => SnapshotView, RegExp]>([
    [
      "capture throws",
      () => {
        throw new Error("the capture has a bug");
      },
      /the capture has a bug/,
    ],
    [
      "its chunks throw",
      () => ({
        *chunks() {
          yield encodeUtf8("one");
          throw new Error("the chunks have a bug");
        },
        release: () => void released.push("chunks"),
      }),
      /the chunks have a bug/,
    ],
    [
      "a chunk is too long",
      () => ({ chunks: () => [new Uint8Array(16 * 1024 * 1024 + 1)], release: () => void released.push("long") }),
      /TSO_INVALID_ARGUMENT: a chunk of the state machine's snapshot has 16777217 bytes, and may have 16777216/,
    ],
  ])("%s", async (_, view, reason) => {
    world = new NodeWorld(1);
    const { node } = await world.start(1, { core: SMALL, init: true, machine: new Failing(view) });
    await world.leader();
    for (let each = 0; each < 9; each++) void node.propose(encodeUtf8("command"));
    await expect(node.done).rejects.toThrow(reason);
    await node.close();
    world.forget(1);
  });

  test("and what was captured was let go of", () => {
    expect(released).toEqual(["chunks", "long"]);
  });
});

test("a node that is closed while it writes a snapshot frees its directory when it touches no file any more", async () => {
  world = new NodeWorld(1);
  const { node } = await world.start(1, { core: SMALL, init: true });
  const disk = world.disk(1);
  let isHeld = false;
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  disk.before = async ({ name, path }) => {
    if (name !== "write" || !path.startsWith("/data/snapshots")) return;
    isHeld = true;
    await held;
  };
  await applyMany(12);
  await world.until("it is being written", () => isHeld);
  let closed = false;
  const closing = node.close().then(() => {
    closed = true;
  });
  await world.pass(1_000);
  expect(closed).toBe(false);
  release();
  await closing;
  world.forget(1);
  const { operations } = disk;
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(disk.operations).toBe(operations);
  expect(await snapshotFiles(1), "nothing of it is left").toEqual([]);
});
