import { describe, expect, test } from "vitest";
import { type NodeId, type Slot, slot } from "../../../src/base/ids.ts";
import { createPrng } from "../../../src/base/prng.ts";
import type { Ballot } from "../../../src/paxos/core/ballot.ts";
import type { Input } from "../../../src/paxos/core/effects.ts";
import { createEntry, type Entry } from "../../../src/paxos/core/entry.ts";
import { genesisOf } from "../../../src/paxos/core/genesis.ts";
import type { ProtocolMessage } from "../../../src/paxos/core/messages.ts";
import { resolveCoreOptions } from "../../../src/paxos/core/options.ts";
import { PaxosReplica } from "../../../src/paxos/core/replica.ts";

const genesis = genesisOf([1, 2, 3].map((id) => ({ id: id as NodeId, storageId: `disk-${id}`, role: "voter", address: "", prio: 0 }) as const));

function ballot(round: number, node: number): Ballot {
  return { round, prio: 0, node: node as NodeId };
}

function extend(log: readonly Entry[], origin: Ballot, ...texts: string[]): Entry[] {
  const longer = [...log];
  for (const text of texts) {
    const before = longer.at(-1);
    const payload = new TextEncoder().encode(text);
    longer.push(createEntry({ slot: slot((before?.slot ?? 0) + 1), origin, kind: "app", payload, previousChain: before?.chain ?? 0 }));
  }
  return longer;
}

interface Held {
  readonly log: readonly Entry[];
  readonly promised: Ballot;
  readonly accepted: Ballot;
  readonly decided: number;
  /** The first slot that is in memory. */
  readonly cachedFrom?: number;
}

/** Node 1 as it starts with this on its disk. */
function replica({ log, promised, accepted, decided, cachedFrom = 1 }: Held): PaxosReplica {
  const last = log.at(-1) ?? genesis.entries[0];
  if (last === undefined) throw new TypeError("a log has a first entry");
  const ends = { last: last.slot, lastOrigin: last.origin, lastChain: last.chain, decidedThrough: slot(decided) };
  const image = { ...genesis.image, promised, accepted, ...ends };
  const runs = log.map(({ slot: from, origin }) => ({ from, origin }));
  const recovered = { node: 1 as NodeId, storageId: "disk-1", boot: 1, image, runs, tail: log.slice(cachedFrom - 1) };
  return new PaxosReplica(recovered, resolveCoreOptions(), createPrng(1));
}

function from(node: number, message: ProtocolMessage): Input {
  return { type: "message", from: node as NodeId, storageId: `disk-${node}`, boot: 1, message };
}

test("while the end of the log is being replaced, nothing of it is served from the disk, where the old end still stands", () => {
  const facts = extend(genesis.entries, ballot(1, 3), ...Array.from({ length: 39 }, (_, index) => `fact ${index}`));
  const mine = extend(facts, ballot(1, 3), "old", "old");
  const decided = extend(facts, ballot(2, 2), "new", "new");
  const node = replica({ log: mine, promised: ballot(2, 2), accepted: ballot(1, 3), decided: 40, cachedFrom: 40 });
  const sync = {
    ballot: ballot(2, 2),
    base: slot(40),
    baseOrigin: ballot(1, 3),
    entries: decided.slice(40),
    floor: slot(42),
    decidedThrough: slot(42),
  };
  const request = { id: { boot: 1, count: 1 }, kind: "facts", after: slot(10), afterOrigin: ballot(1, 3), maxBytes: 2 ** 20 } as const;
  const { persist, serve } = node.step([from(2, { type: "sync", ...sync }), from(3, { type: "fetch-request", ...request })], 0);
  expect(persist?.ops).toMatchObject([{ type: "truncate", from: 41 }, { type: "append" }]);
  expect(serve).toMatchObject([{ to: 3, after: 10, through: 40, decidedThrough: 40 }]);
});

describe("entries that no leader of this reign can have sent are dropped, and the node goes on", () => {
  const log = extend(genesis.entries, ballot(5, 2), "a");
  const reign = ballot(6, 2);
  test.each<readonly [what: string, origin: Ballot]>([
    ["an origin below the one before it", ballot(3, 2)],
    ["an origin above the reign", ballot(9, 2)],
  ])("%s", (_, origin) => {
    const node = replica({ log, promised: reign, accepted: ballot(5, 2), decided: 2 });
    const entries = extend(log, origin, "b").slice(-1);
    const sync = { ballot: reign, base: slot(2), baseOrigin: ballot(5, 2), entries, floor: slot(3), decidedThrough: slot(3) };
    const { events, fence } = node.step([from(2, { type: "sync", ...sync })], 0);
    expect(events).toContainEqual({ type: "dropped", from: 2, message: "sync", reason: "malformed" });
    expect(fence).toBeUndefined();
    expect(node.inspect().image.last).toBe(2);
  });

  test("in Accept, too", () => {
    const node = replica({ log, promised: reign, accepted: ballot(5, 2), decided: 2 });
    const start = extend(log, reign, "b");
    const sync = { ballot: reign, base: slot(2), baseOrigin: ballot(5, 2), entries: start.slice(-1), floor: slot(3), decidedThrough: slot(3) };
    const entries = extend(start, ballot(9, 2), "c").slice(-1);
    const accept = { ballot: reign, base: slot(3) as Slot, baseChain: start.at(-1)?.chain ?? 0, entries, decidedThrough: slot(3) };
    const { events } = node.step([from(2, { type: "sync", ...sync }), from(2, { type: "accept", ...accept })], 0);
    expect(events).toContainEqual({ type: "dropped", from: 2, message: "accept", reason: "malformed" });
    expect(node.inspect().image.last).toBe(3);
  });
});

test("a stranger teaches no rounds: the next ballot is as if it had not spoken", () => {
  const log = extend(genesis.entries, ballot(5, 2), "a");
  const node = replica({ log, promised: ballot(5, 2), accepted: ballot(5, 2), decided: 2 });
  const heartbeat = { round: 1, ballot: ballot(2 ** 53 - 1, 99), decidedThrough: slot(0), readSeq: 0, configVersion: 0 };
  node.step([{ type: "message", from: 99 as NodeId, storageId: "who", boot: 1, message: { type: "heartbeat", ...heartbeat } }], 0);
  for (let tick = 1; node.inspect().role === "follower" && tick < 1_000; tick++) {
    const { sends } = node.step([{ type: "tick" }], tick * 10);
    for (const { to, message } of sends) {
      if (message.type !== "heartbeat") continue;
      const answer = {
        round: message.round,
        promised: ballot(5, 2),
        happy: false,
        hasRoom: true,
        configVersion: 1,
        decidedThrough: slot(2),
        last: slot(2),
        readSeq: 0,
      };
      node.step([from(to, { type: "heartbeat-reply", ...answer })], tick * 10);
    }
  }
  expect(node.inspect()).toMatchObject({ role: "candidate", ballot: { round: 6 } });
});

describe("a campaign that is asked for", () => {
  const start = { log: [...genesis.entries], promised: ballot(0, 1), accepted: genesis.image.accepted, decided: 1 };
  const tick: Input = { type: "tick" };
  const campaign: Input = { type: "campaign" };
  const probation = Array.from({ length: resolveCoreOptions().probationTicks }, () => tick);

  test("begins at once, for a follower and for a candidate that has begun one, with a ballot never used before", () => {
    const node = replica(start);
    node.step(probation, 0);
    const first = node.step([campaign], 0);
    expect(node.inspect()).toMatchObject({ role: "candidate", ballot: { round: 1, node: 1 } });
    expect(first.sends).toEqual([]); // nobody hears of it before the disk has it (W2)
    expect(first.persist?.image.promised).toMatchObject({ round: 1, node: 1 });
    node.step([campaign], 0);
    expect(node.inspect()).toMatchObject({ role: "candidate", ballot: { round: 2, node: 1 } });
  });

  test("not in probation (I4)", () => {
    const node = replica(start);
    expect(node.step([campaign], 0).persist).toBeUndefined();
    expect(node.inspect().role).toBe("follower");
  });

  test("not without a vote", () => {
    const image = { ...genesis.image, promised: ballot(0, 1) };
    const recovered = { node: 1 as NodeId, storageId: "another disk", boot: 1, image, runs: [{ from: slot(1), origin: image.lastOrigin }] };
    const node = new PaxosReplica({ ...recovered, tail: genesis.entries }, resolveCoreOptions(), createPrng(1));
    node.step(probation, 0);
    expect(node.step([campaign], 0).persist).toBeUndefined();
    expect(node.inspect().role).toBe("follower");
  });
});
