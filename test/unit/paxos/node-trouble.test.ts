/** A node whose surroundings do not answer: a disk that hangs or is full, a transport that is slow or fails. Nobody waits without an end, and nothing is held for ever. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { encodeUtf8 } from "../../../src/base/bytes.ts";
import { resolveDiskRoom } from "../../../src/paxos/disk-room.ts";
import { openWal } from "../../../src/paxos/storage/wal.ts";
import type { RunningNode } from "../../support/node-world.ts";
import { NodeWorld } from "../../support/node-world.ts";

const MIB = 1024 * 1024;

let world: NodeWorld;
beforeEach(() => {
  world = new NodeWorld();
});
afterEach(() => world.end());

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** A follower that takes no entries, for its disk is full, while the others go on. */
async function fullFollower(core: { readonly maxWaitingReads?: number } = {}): Promise<RunningNode> {
  for (const id of world.ids) await world.start(id, { diskRoom: { lowBytes: 2_000, noneBytes: 1_000 }, core });
  await world.apply("one");
  const leader = (await world.leader()).node.node;
  const id = world.ids.find((each) => each !== leader) ?? leader;
  const disk = world.disk(id);
  disk.capacityBytes = 10 * MIB;
  disk.capacityBytes -= (await disk.freeBytes("/data/log")) - 500;
  await world.until("it is seen", () => world.running(id).node.status().diskRoom === "none");
  await world.apply("two");
  return world.running(id);
}

describe("a barrier at a node that cannot get as far", () => {
  test("ends after `readTicks`, and says so", async () => {
    const { node } = await fullFollower();
    const askedAt = world.timers.now();
    await expect(node.barrier()).rejects.toThrow("TSO_NO_LEADER");
    expect(world.timers.now() - askedAt).toBeLessThan(2_500);
  });

  test("does not fill the node, where nobody waits for it any more", async () => {
    const { node } = await fullFollower({ maxWaitingReads: 50 });
    const reasons = new Set<string>();
    for (let count = 0; count < 60; count++) {
      const patience = new AbortController();
      const asked = node.barrier({ signal: patience.signal }).catch((error: Error) => reasons.add(error.message));
      await world.pass(100);
      patience.abort(new Error("no patience left"));
      await asked;
    }
    expect([...reasons]).toEqual(["no patience left"]);
  });
});

test("a fault is told, and leadership given up, though a write hangs", async () => {
  world = new NodeWorld(1);
  const { node } = await world.start(1, { init: true });
  await world.apply("one");
  await world.pass(1_000);
  const stuck: (() => void)[] = [];
  world.disk(1).before = ({ name }) => (name === "write" ? new Promise<void>((resolve) => stuck.push(resolve)) : undefined);
  void node.propose(encodeUtf8("throw"));
  await turns(10);
  void node.propose(encodeUtf8("stuck"));
  await turns(10);
  stuck[0]?.();
  await expect(node.done).rejects.toThrow("the host's machine has a bug");
  expect(node.status()).toMatchObject({ role: "stopped", epoch: undefined });
  expect(stuck, "one write is in flight still").toHaveLength(2);
  world.disk(1).before = undefined;
  stuck[1]?.();
  await node.close();
  const again = await openWal({ directory: "/data", node: 1, disk: world.disk(1) });
  await again.close();
});

test("a node that is started again while the cluster is formed takes part, however long its transport takes to be there", async () => {
  await world.startAll();
  let release = (): void => undefined;
  world.disk(3).before = ({ name }) =>
    name === "write"
      ? new Promise<void>((resolve) => {
          release = resolve; // its pledge is not durable yet
        })
      : undefined;
  await world.until("the others are pledged", () => [1, 2].every((id) => world.running(id).node.status().founding === "pledged"));
  world.crash(3);
  release();
  await world.start(3, {
    transport: async (claim, receiver) => {
      const transport = await world.network.open({ claim, receiver, address: "node-3:7000" });
      await world.pass(2_000);
      return transport;
    },
  });
  await world.apply("formed");
  await world.until("it has it too", () => world.running(3).machine.commands.length === 1);
});

test("the directory is free though the transport failed to close", async () => {
  world = new NodeWorld(1);
  const { node } = await world.start(1, {
    init: true,
    transport: async (claim, receiver) => {
      const transport = await world.network.open({ claim, receiver, address: "node-1:7000" });
      const { close } = transport;
      return Object.assign(transport, {
        close: async () => {
          await close.call(transport);
          throw new Error("the socket was gone");
        },
      });
    },
  });
  await world.apply("one");
  world.forget(1);
  await expect(node.close()).rejects.toThrow("the socket was gone");
  await expect(node.done).rejects.toThrow("the socket was gone");
  const again = await openWal({ directory: "/data", node: 1, disk: world.disk(1) });
  await again.close();
});

test("what counts as room follows the size of a segment, for one is filled before it is used", async () => {
  expect(resolveDiskRoom()).toEqual({ lowBytes: 256 * MIB, noneBytes: 96 * MIB });
  expect(resolveDiskRoom({}, 64 * MIB)).toEqual({ lowBytes: 256 * MIB, noneBytes: 96 * MIB });
  expect(resolveDiskRoom({}, 768 * MIB)).toEqual({ lowBytes: 2304 * MIB, noneBytes: 1152 * MIB });
  expect(resolveDiskRoom({ lowBytes: 1 }, 768 * MIB)).toEqual({ lowBytes: 1, noneBytes: 1 });
  const storage = await openWal({ directory: "/data", node: 1, disk: world.disk(1), segmentBytes: 1 * MIB });
  expect(storage.reserveBytes).toBe(2 * MIB);
  await storage.close();
});
