/** Nodes whose clocks do not agree, jump, or stand still: their order never depends on it, and who leads hardly (protocol Q0, F5, section 6). */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { PeerTimers } from "../../../src/paxos/transport/wire.ts";
import { NodeWorld } from "../../support/node-world.ts";

/** A node's own view of the time that passes. */
class OwnClock implements PeerTimers {
  readonly #world: PeerTimers;
  #rate = 1;
  #at = 0;
  #since = 0;

  constructor(world: PeerTimers) {
    this.#world = world;
  }

  /** How fast it runs from now on; 0 stands still, and timers wait with it. */
  run(rate: number): void {
    this.#at = this.now();
    this.#since = this.#world.now();
    this.#rate = rate;
  }

  jump(ms: number): void {
    this.#at += ms;
  }

  now(): number {
    return this.#at + (this.#world.now() - this.#since) * this.#rate;
  }

  after(ms: number, run: () => void): () => void {
    const dueAt = this.now() + ms;
    let cancel = (): void => undefined;
    const wait = (): void => {
      const left = dueAt - this.now();
      cancel = this.#world.after(this.#rate > 0 ? Math.max(0, left) / this.#rate : 10, () => (this.now() >= dueAt ? run() : wait()));
    };
    wait();
    return () => cancel();
  }

  soon(run: () => void): void {
    this.#world.soon(run);
  }
}

let world: NodeWorld;
let clocks: ReadonlyMap<number, OwnClock>;
beforeEach(async () => {
  world = new NodeWorld();
  clocks = new Map(world.ids.map((id) => [id, new OwnClock(world.timers)]));
  for (const id of world.ids) await world.start(id, { timers: clockOf(id) });
});
afterEach(() => world.end());

function clockOf(id: number): OwnClock {
  return clocks.get(id) ?? expect.unreachable();
}

const leadingId = async (): Promise<number> => (await world.leader()).node.node;
const followers = (leader: number): readonly number[] => world.ids.filter((id) => id !== leader);

/** Applies commands over a few seconds of the world's time; everybody ends with all of them, in one order. */
async function goesOn(what: string): Promise<void> {
  for (let count = 1; count <= 10; count++) {
    await world.apply(`${what} ${count}`);
    await world.pass(500);
  }
  const all = world.ids.map((id) => world.running(id).machine.commands);
  await world.until("all have applied the same", () => all.every(({ length }) => length === all[0]?.length));
  for (const commands of all) expect(commands).toEqual(all[0]);
  expect(all[0]?.filter((command) => command.startsWith(what))).toEqual(Array.from({ length: 10 }, (_, index) => `${what} ${index + 1}`));
}

describe("the leader stays, and every command is applied once, where", () => {
  test.each([
    { name: "a follower's clock runs a tenth fast", of: "follower", change: (clock: OwnClock) => clock.run(1.1) },
    { name: "a follower's clock runs a tenth slow", of: "follower", change: (clock: OwnClock) => clock.run(0.9) },
    { name: "the leader's clock runs a tenth fast", of: "leader", change: (clock: OwnClock) => clock.run(1.1) },
    { name: "the leader's clock runs a tenth slow", of: "leader", change: (clock: OwnClock) => clock.run(0.9) },
    { name: "a follower's clock jumps an hour ahead", of: "follower", change: (clock: OwnClock) => clock.jump(3_600_000) },
    { name: "the leader's clock jumps an hour ahead", of: "leader", change: (clock: OwnClock) => clock.jump(3_600_000) },
    { name: "a follower's clock stands still", of: "follower", change: (clock: OwnClock) => clock.run(0) },
    { name: "the leader's clock stands still: it still answers all that is asked", of: "leader", change: (clock: OwnClock) => clock.run(0) },
  ])("$name", async ({ of, change }) => {
    await world.apply("before");
    const leader = await leadingId();
    const { epoch } = world.running(leader).node.status();
    const changed = of === "leader" ? leader : (followers(leader)[0] ?? expect.unreachable());
    change(clockOf(changed));
    await goesOn("changed");
    clockOf(changed).run(1);
    expect(world.running(leader).node.status(), "nobody else led meanwhile").toMatchObject({ role: "leader", epoch });
  });
});

test("all clocks jump at once, by days that differ: no harm", async () => {
  await world.apply("before");
  for (let round = 1; round <= 5; round++) {
    for (const id of world.ids) clockOf(id).jump(round * id * 86_400_000);
    await goesOn(`round ${round} `);
  }
});
