import { describe, expect, test } from "vitest";
import { type NodeId, slot } from "../../src/base/ids.ts";
import { createPrng } from "../../src/base/prng.ts";
import type { Ballot } from "../../src/paxos/core/ballot.ts";
import type { Input, RequestNumber } from "../../src/paxos/core/effects.ts";
import { createEntry, type EntryKind } from "../../src/paxos/core/entry.ts";
import { genesisOf } from "../../src/paxos/core/genesis.ts";
import { resolveCoreOptions } from "../../src/paxos/core/options.ts";
import { PaxosReplica } from "../../src/paxos/core/replica.ts";
import { explore } from "../support/scopes/explore.ts";
import { type Frozen, freeze, frozenText, NO_CHANCE, storageOf, thaw } from "../support/scopes/frozen.ts";
import { Judge, type Past } from "../support/scopes/judge.ts";
import { type Log, Logs, prefix, runsOf } from "../support/scopes/logs.ts";
import { SCOPES } from "../support/scopes/scopes.ts";

const [one, two, three] = [1, 2, 3] as NodeId[];

test.each(["one-ballot", "two-ballots"])(
  "every run of the scope %s is right (more by `npm run scopes`)",
  (name) => {
    const scope = SCOPES.find((known) => known.name === name);
    if (scope === undefined) throw new Error(`no scope ${name}`);
    const { frontier, violation, states, locals } = explore(scope, { seconds: Number.POSITIVE_INFINITY, states: 1_000_000 });
    expect(violation?.path).toBeUndefined();
    expect(frontier).toBe("empty");
    expect(states).toBeGreaterThan(20_000);
    expect(locals).toBeGreaterThan(500);
  },
  300_000,
);

test("a scope that is too large says so", () => {
  const scope = { name: "large", campaigners: [[1], [2, 3], [1]], bounds: { proposals: 3, crashes: 3, rounds: 3, givenUp: 3 }, lost: [] };
  expect(explore(scope, { seconds: 0, states: 1_000 }).frontier).toBe("time");
  expect(explore(scope, { seconds: Number.POSITIVE_INFINITY, states: 1_000 }).frontier).toBe("memory");
});

describe("a replica that is taken apart and put together again goes on as one that is not", () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])("run %i", (seed) => {
    const prng = createPrng(seed);
    // For the one that goes on, too, all that waits has always waited long enough.
    const core = { ...resolveCoreOptions(), heartbeatTicks: 0, graceTicks: 0, retransmitTicks: 0 };
    const nodes = [one, two, three].flatMap((id) => (id === undefined ? [] : [new Pair(id, core)]));
    const wires: { readonly to: NodeId; readonly input: Input }[] = [];
    for (let step = 0; step < 1_000; step++) {
      const pair = nodes[prng.below(3)];
      if (pair === undefined) continue;
      const waiting = wires[wires.length - 1 - prng.below(Math.min(wires.length + 1, 16))];
      const chance = prng.next();
      const [receiver, input]: readonly [Pair | undefined, Input | undefined] =
        chance < 0.005
          ? [pair, { type: "campaign" }]
          : chance < 0.1
            ? [pair, { type: "propose", id: step as RequestNumber, payload: Buffer.from(`p${step}`) }]
            : chance < 0.35
              ? [pair, pair.completion()]
              : [nodes.find(({ node }) => node === waiting?.to), waiting?.input];
      if (receiver === undefined || input === undefined) continue;
      for (const { to, message } of receiver.step(input)) {
        wires.push({ to, input: { type: "message", from: receiver.node, storageId: storageOf(receiver.node), boot: 1, message } });
      }
    }
    expect(nodes.some(({ decidedThrough }) => decidedThrough > 3)).toBe(true);
  });
});

/** A replica that lives on, and one that is made anew before every step. */
class Pair {
  readonly node: NodeId;
  readonly #core: ReturnType<typeof resolveCoreOptions>;
  readonly #logs = new Logs();
  readonly #living: PaxosReplica;
  #frozen: Frozen;
  readonly #seqs: number[] = [];
  #nowMs = 0;

  constructor(node: NodeId, core: ReturnType<typeof resolveCoreOptions>) {
    this.node = node;
    this.#core = core;
    const { image, entries } = genesisOf(
      [one, two, three].flatMap((id) => (id === undefined ? [] : [{ id, storageId: storageOf(id), role: "voter", address: "", prio: 0 }])),
    );
    const log = this.#logs.of(entries);
    const recovered = { node, storageId: storageOf(node), boot: 1, image, runs: runsOf(log), tail: entries };
    this.#living = new PaxosReplica(recovered, core, NO_CHANCE);
    this.#living.state.probation = undefined;
    const other = new PaxosReplica(recovered, core, NO_CHANCE);
    this.#frozen = freeze(other.state, this.#logs, { disk: { image, log }, batches: [] });
  }

  get decidedThrough(): number {
    return this.#living.decidedThrough;
  }

  /** Of the oldest write. */
  completion(): Input | undefined {
    const seq = this.#seqs[0];
    return seq === undefined ? undefined : { type: "persisted", seq };
  }

  step(input: Input): ReturnType<PaxosReplica["step"]>["sends"] {
    this.#nowMs += 1_000_000;
    const { disk, batches } = this.#frozen;
    const copy = thaw(this.#frozen, this.node, this.#core);
    const done = input.type === "persisted" ? batches[0] : undefined;
    const living = this.#living.step([input], this.#nowMs);
    const copied = copy.step([done === undefined ? input : { type: "persisted", seq: 1 }], 1);
    expect(copied.sends).toEqual(living.sends);
    expect(copied.proposals).toEqual(living.proposals);
    expect({ ...copied.persist, seq: 0 }).toEqual({ ...living.persist, seq: 0 });
    expect(copied.fence).toBe(living.fence);
    if (done !== undefined) this.#seqs.shift();
    if (living.persist !== undefined) this.#seqs.push(living.persist.seq);
    const left = done === undefined ? batches : batches.slice(1);
    this.#frozen = freeze(copy.state, this.#logs, {
      disk: done === undefined ? disk : { image: done.image, log: this.#logs.after(disk.log, done.ops) },
      batches: copied.persist === undefined ? left : [...left, copied.persist],
    });
    const again = freeze(thaw(this.#frozen, this.node, this.#core).state, this.#logs, this.#frozen);
    expect(frozenText(again)).toBe(frozenText(this.#frozen));
    expect(copy.inspect().image).toEqual(this.#living.inspect().image);
    return living.sends;
  }
}

describe("the judge sees", () => {
  const logs = new Logs();
  const low: Ballot = { round: 1, prio: 0, node: 1 as NodeId };
  const high: Ballot = { round: 2, prio: 0, node: 2 as NodeId };
  const genesis = grown(logs.of([]), low, "config", "");
  const lowLog = grown(genesis, low, "app", "a");
  const highLog = grown(lowLog, high, "start", "");
  const otherLog = grown(genesis, high, "start", "");
  const nobody = { reigns: [], votes: [], refused: [], decided: genesis };
  const voted = (...votes: readonly (readonly [Ballot, Log])[]) => ({ votes: votes.map(([ballot, log]) => ({ ballot, log, acked: 0 })) });

  test.each<[string, readonly Partial<Past>[]]>([
    [
      "",
      [
        { reigns: [{ ballot: low, log: lowLog }] },
        { reigns: [{ ballot: high, log: highLog }], ...voted([low, lowLog], [high, highLog]) },
        voted([low, lowLog]),
      ],
    ],
    [
      "completeness",
      [{ reigns: [{ ballot: low, log: lowLog }] }, { reigns: [{ ballot: high, log: otherLog }], ...voted([low, lowLog]) }, voted([low, lowLog])],
    ],
    ["agreement", [{ reigns: [{ ballot: low, log: lowLog }] }, { decided: lowLog, ...voted([low, lowLog]) }, {}]],
    ["ack-durable", [{}, voted([low, lowLog]), {}]],
    ["ack-durable", [{ reigns: [{ ballot: low, log: genesis }] }, { votes: [{ ballot: low, log: lowLog, acked: 2 }] }, {}]],
    ["outcome", [{ reigns: [{ ballot: low, log: lowLog }], refused: ["a"] }, voted([low, lowLog]), voted([low, lowLog])]],
    ["slot-origin-unique", [{ reigns: [{ ballot: low, log: lowLog }] }, voted([low, grown(genesis, low, "app", "b")]), {}]],
  ])("%s", (check, pasts) => {
    const judge = new Judge(genesis);
    const all = pasts.map((past, index) => ({ ...nobody, ...past, id: index, node: (index + 1) as NodeId }));
    if (check === "") expect(() => judge.judge(all)).not.toThrow();
    else expect(() => judge.judge(all)).toThrow(expect.objectContaining({ check }));
  });

  function grown(log: Log, origin: Ballot, kind: EntryKind, payload: string): Log {
    const entry = createEntry({ slot: slot(log.last + 1), origin, kind, payload: Buffer.from(payload), previousChain: log.entry?.chain ?? 0 });
    return logs.of([...prefix(log, log.last).entries, entry]);
  }
});
