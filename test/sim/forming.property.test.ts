/**
 * Random lives of a few nodes that are to form a cluster: messages are lost, doubled and reordered, processes die on either side of a write, disks are wiped, lists differ, and a
 * second process has one of the ids. `FormingWorld` checks at every step what must never be; here the world is healed in the end, and must come to something.
 */
import fc from "fast-check";
import { expect } from "vitest";
import type { NodeId } from "../../src/base/ids.ts";
import { HEARD_TICKS } from "../../src/paxos/core/forming.ts";
import type { ListedNode } from "../../src/paxos/core/forming-messages.ts";
import { addressOf, FormingWorld, listed, type Packet } from "../support/forming-world.ts";
import { property } from "../support/property.ts";

interface Life {
  readonly count: number;
  readonly wipes: boolean;
  /** By the index of a node: how its list differs from that of the others. */
  readonly odd: readonly (readonly [node: number, how: "fewer" | "more" | "elsewhere"])[];
  /** A second process with this index's id, where it is not looked for. */
  readonly double: number | undefined;
  readonly acts: readonly Act[];
}

type Act = readonly [type: keyof typeof ACTS, at: number];

const NET_MAX = 100;

const ACTS = {
  deliver: (world: FormingWorld, at: number) => world.deliver(at % Math.max(1, world.net.length)),
  double: (world: FormingWorld, at: number) => world.deliver(at % Math.max(1, world.net.length), true),
  lose: (world: FormingWorld, at: number) => void world.net.splice(at % Math.max(1, world.net.length), 1),
  tick: (world: FormingWorld, at: number) => onNode(world, at, (name) => world.isUp(name) && world.tick(name)),
  write: (world: FormingWorld, at: number) => onNode(world, at, (name) => world.write(name)),
  crash: (world: FormingWorld, at: number) => onNode(world, at, (name) => world.crash(name, at % 2 === 0 ? "lost" : "kept")),
  restart: (world: FormingWorld, at: number) => onNode(world, at, (name) => world.isUp(name) || world.restart(name)),
  wipe: (world: FormingWorld, at: number) => onNode(world, at, (name) => world.wipe(name)),
  /** Everyone ticks, and what comes of it arrives and is written: all, or all but what one node says, or hears. */
  round: (world: FormingWorld, at: number) => world.rounds(1, lossOf(world, at)),
};

/** How often each is drawn, by how often it stands here. */
const OFTEN = ["deliver", "deliver", "deliver", "deliver", "deliver", "tick", "tick", "write", "write", "round", "round", "round"] as const;
const SELDOM = ["double", "lose", "crash", "restart", "restart", "wipe"] as const;

const act: fc.Arbitrary<Act> = fc.tuple(fc.constantFrom<Act[0][]>(...OFTEN, ...OFTEN, ...SELDOM), fc.nat(999));
const acts = fc.array(act, { maxLength: 120, size: "max" });
const count = fc.integer({ min: 2, max: 5 });
const how = fc.constantFrom("fewer" as const, "more" as const, "elsewhere" as const);

const plain = fc.record({ count, acts, wipes: fc.constant(false), odd: fc.constant([]), double: fc.constant(undefined) });
const wiped = fc.record({ count, acts, wipes: fc.constant(true), odd: fc.constant([]), double: fc.constant(undefined) });
const strange = fc.record({
  count,
  acts,
  wipes: fc.boolean(),
  odd: fc.array(fc.tuple(fc.nat(4), how), { maxLength: 2 }),
  double: fc.option(fc.nat(4), { nil: undefined }),
});

property(
  "nodes whose processes die and whose messages are lost all form one cluster in the end",
  fc.property(plain, (life) => {
    const world = live(life);
    heal(world);
    const charter = world.formed("1");
    expect(charter?.founders).toHaveLength(life.count);
    for (const name of world.names) expect(world.formed(name), name).toEqual(charter);
    expect(world.told).toEqual([]);
  }),
);

property(
  "nodes whose disks are wiped form one cluster, or are told why they do not",
  fc.property(wiped, (life) => {
    const world = live(life);
    heal(world);
    for (const name of world.names) {
      const problems = world.forming(name)?.state.problems.size ?? 0;
      expect([world.formed(name) !== undefined, world.exits.has(name), problems > 0], `${name} waits in silence`).toContain(true);
    }
    const clusters = new Set(world.names.flatMap((name) => world.formed(name)?.clusterId ?? []));
    if (world.names.some((name) => world.formed(name) === undefined)) return;
    expect(clusters.size, "nobody forms with a disk that heard of another cluster").toBe(1);
  }),
);

property(
  "nodes with other lists, and processes with the id of another, never form what not every disk of it has pledged",
  fc.property(strange, (life) => {
    heal(live(life));
  }),
);

/** Everything is said and heard from here on, and what is down is started; then once more, for what made a process exit may be gone, and its word have come late. */
function heal(world: FormingWorld): void {
  for (const _ of ["first", "again"]) {
    for (const name of world.names) if (!world.isUp(name)) world.restart(name);
    world.settle();
    world.rounds(HEARD_TICKS + 4);
  }
}

function live({ count, wipes, odd, double, acts }: Life): FormingWorld {
  const ids = Array.from({ length: count }, (_, index) => index + 1);
  const world = new FormingWorld();
  for (const id of ids) {
    const differs = odd.find(([node]) => node + 1 === id)?.[1];
    world.place(`${id}`, { id, list: listOfKind(id, ids, differs) });
  }
  if (double !== undefined) world.place("double", { id: 1 + (double % count), list: listed(...ids), address: "elsewhere:4000" });
  for (const name of world.names) world.restart(name);
  for (const [type, at] of acts) {
    if (type === "wipe" && !wipes) continue;
    ACTS[type](world, at);
    world.net.splice(0, Math.max(0, world.net.length - NET_MAX));
  }
  return world;
}

function listOfKind(id: number, ids: readonly number[], differs: Life["odd"][number][1] | undefined): readonly ListedNode[] {
  const last = ids.filter((other) => other !== id).at(-1) ?? 0;
  switch (differs) {
    case undefined:
      return listed(...ids);
    case "fewer":
      return ids.length > 2 ? listed(...ids.filter((other) => other !== last)) : listed(...ids);
    case "more":
      return listed(...ids, 9);
    case "elsewhere":
      return [...listed(...ids.filter((other) => other !== last)), { id: last as NodeId, address: `not-${addressOf(last)}` }];
    default:
      return differs satisfies never;
  }
}

function lossOf(world: FormingWorld, at: number): ((packet: Packet) => boolean) | undefined {
  const node = 1 + (at % world.names.length);
  if (at % 3 === 0) return ({ from }) => from.node === node;
  return at % 3 === 1 ? ({ to }) => to === node : undefined;
}

function onNode(world: FormingWorld, at: number, change: (name: string) => unknown): void {
  const name = world.names[(at >> 1) % world.names.length];
  if (name !== undefined) change(name);
}
