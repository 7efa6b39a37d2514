import { afterEach, describe, expect, test } from "vitest";
import { encodeUtf8 } from "../../../src/base/bytes.ts";
import { resolveDiskRoom, roomOf } from "../../../src/paxos/disk-room.ts";
import { NodeWorld } from "../../support/node-world.ts";

const LIMITS = { lowBytes: 1_000, noneBytes: 400 };
const DISK_ROOM = { lowBytes: 1_000_000, noneBytes: 500_000 };

describe("what is free", () => {
  test.each([
    [1_000, "enough", "enough"],
    [999, "enough", "low"],
    [400, "enough", "low"],
    [399, "enough", "none"],
    [0, "enough", "none"],
    [1_249, "low", "low"],
    [1_250, "low", "enough"],
    [399, "low", "none"],
    [499, "none", "none"],
    [500, "none", "low"],
    [1_249, "none", "low"],
    [1_250, "none", "enough"],
    [Number.POSITIVE_INFINITY, "none", "enough"],
  ] as const)("%d bytes, after %s, are %s", (freeBytes, before, after) => {
    expect(roomOf(freeBytes, LIMITS, before)).toBe(after);
  });

  test("limits of nothing are never reached", () => {
    expect(roomOf(0, { lowBytes: 0, noneBytes: 0 }, "enough")).toBe("enough");
  });
});

test.each([
  [{ lowBytes: -1 }, "diskRoom.lowBytes -1 must be a whole number from 0 to 1125899906842624"],
  [{ lowBytes: 1.5 }, "diskRoom.lowBytes 1.5 must"],
  [{ lowBytes: 10, noneBytes: 11 }, "diskRoom.noneBytes 11 must be a whole number from 0 to 10"],
])("%j is refused, and the limit named", (options, message) => {
  expect(() => resolveDiskRoom(options)).toThrow(message);
});

describe("a cluster of which", () => {
  let world: NodeWorld;
  afterEach(() => world.end());

  /** Leaves so much on the disk of a node. */
  async function leave(id: number, bytes: number): Promise<void> {
    const disk = world.disk(id);
    disk.capacityBytes = Number.MAX_SAFE_INTEGER;
    disk.capacityBytes -= (await disk.freeBytes("/data")) - bytes;
  }

  async function start(): Promise<void> {
    world = new NodeWorld();
    for (const id of world.ids) await world.start(id, { diskRoom: DISK_ROOM });
    await world.apply("before");
    await world.pass(2_000);
  }

  test("the leader's disk is nearly full: it refuses, another leads, and when there is room again nothing is missing", async () => {
    await start();
    const { node } = await world.leader();
    await leave(node.node, 900_000);
    await world.until("it is seen", () => node.status().diskRoom === "low");
    expect(await node.propose(encodeUtf8("refused"))).toEqual({ type: "not-applied", reason: "disk-low", leader: node.node });
    await world.until("another leads", () => world.ids.some((id) => id !== node.node && world.running(id).node.status().epoch !== undefined));
    await world.apply("after");
    await leave(node.node, 2_000_000);
    await world.until("that is seen", () => node.status().diskRoom === "enough");
    await world.until("it has all", () => world.running(node.node).machine.commands.includes("after"));
    const told = world.lines.filter((line) => line.node === node.node && "freeBytes" in line);
    expect(told.map(({ level, text }) => `${level}: ${text}`)).toEqual([
      "warn: the disk is nearly full: no proposals are taken",
      "info: the disk has room again",
    ]);
    expect(told[0]).toMatchObject({ limit: DISK_ROOM.lowBytes });
  });

  test("two disks are full but for votes: nothing is decided, nobody stops, and all is well when there is room again", async () => {
    await start();
    const { node: leader } = await world.leader();
    const others = world.ids.filter((id) => id !== leader.node);
    for (const id of others) await leave(id, 300_000);
    await world.until("it is seen", () => others.every((id) => world.running(id).node.status().diskRoom === "none"));
    const outcome = leader.propose(encodeUtf8("waits"));
    await world.pass(3_000);
    expect(others.map((id) => world.running(id).machine.commands)).toEqual([["before"], ["before"]]);
    for (const id of others) await leave(id, 2_000_000);
    await world.apply("after");
    expect(["applied", "not-applied", "unknown"]).toContain((await outcome).type);
    await world.until("all have all", () => world.ids.every((id) => world.running(id).machine.commands.includes("after")));
    for (const id of world.ids) expect(world.running(id).node.status()).toMatchObject({ diskRoom: "enough", lastFault: undefined });
  });

  test("how much is free cannot be read: that is said once, and all goes on", async () => {
    world = new NodeWorld(1);
    const disk = world.disk(1);
    disk.freeBytes = async () => {
      throw new Error("ENOSYS: statfs");
    };
    const { node } = await world.start(1, { init: true });
    await world.apply("before");
    await world.pass(5_000);
    expect(world.lines.filter(({ text }) => text === "how much of the disk is free cannot be read")).toHaveLength(1);
    expect(node.status()).toMatchObject({ role: "leader", diskRoom: "enough" });
  });
});
