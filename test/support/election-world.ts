/**
 * Elections of the real core on a fixed topology, in ticks: after a prefix of chaos the links stay as they are, and what counts is who leads then, since when, and whether
 * anything changes afterwards. The disks answer at once. The topologies are those of `docs/models/election-model.js`, by its own seeds.
 */
import { createRequire } from "node:module";
import type { NodeId } from "../../src/base/ids.ts";
import { createPrng } from "../../src/base/prng.ts";
import { genesisOf } from "../../src/paxos/core/genesis.ts";
import { resolveCoreOptions } from "../../src/paxos/core/options.ts";
import { type Actions, Turn } from "../../src/paxos/turn.ts";

/** `links[a][b]`: what a sends, b gets. */
export type Links = readonly (readonly boolean[])[];

const model: { run(seed: number, options: object): { readonly link: Links } } = createRequire(import.meta.url)("../../docs/models/election-model.js");

export function modelLinks(seed: number): Links {
  return model.run(seed, {}).link;
}

export type Shape = "star" | "chain" | "ring";

/** The hub of a star is drawn; a chain and a ring are in order of the ids. */
export function shapedLinks(shape: Shape, seed: number): Links {
  const prng = createPrng(seed);
  const count = 3 + prng.below(5);
  const hub = prng.below(count);
  const near = (a: number, b: number): boolean => {
    if (shape === "star") return a === hub || b === hub;
    return Math.abs(a - b) === 1 || (shape === "ring" && Math.abs(a - b) === count - 1);
  };
  return Array.from({ length: count }, (_, a) => Array.from({ length: count }, (__, b) => a === b || near(a, b)));
}

export interface ElectionReport {
  /** Whether some node reaches a quorum, both ways: then there must be a leader, and else there is none to expect. */
  readonly winnable: boolean;
  /** Leaders at the end that follow what they say: happy, and at the promise of a quorum that they reach. */
  readonly leaders: number;
  /** From the beginning of the fixed topology to the last time anyone began to lead, ticks. */
  readonly settledAfter: number;
  /** New reigns and spent ballots in the second half of the time. */
  readonly lateReigns: number;
  readonly lateCampaigns: number;
  /** Members that the leader reaches and that are not at its ballot. */
  readonly outside: number;
}

export interface ElectionRun {
  readonly seed: number;
  readonly links: Links;
  /** Chance, per node and round, of a false word that the connection to the leader was lost. */
  readonly falseHints?: number | undefined;
}

const CHAOS = 1_500;
const SETTLE = 3_000;
const WATCH = 3_000;
const TICK_MS = 10;

export function runElection({ seed, links, falseHints = 0 }: ElectionRun): ElectionReport {
  const prng = createPrng(seed);
  const count = links.length;
  const options = resolveCoreOptions();
  const members = links.map((_, index) => ({ id: (index + 1) as NodeId, storageId: `disk-${index}`, role: "voter", address: "", prio: 0 }) as const);
  const genesis = genesisOf(members);
  const boots = links.map(() => 0);
  const images = links.map(() => genesis.image);
  const logs = links.map(() => [...genesis.entries]);
  const queues: {
    readonly at: number;
    readonly from: number;
    readonly boot: number;
    readonly to: number;
    readonly message: Actions["sends"][number]["message"];
  }[][] = [];
  let now = 0;
  let chaos = links.map((row) => row.map(() => true));
  let reigns = 0;
  let campaigns = 0;
  let lastReignAt = 0;

  const start = (index: number): Turn => {
    boots[index] = (boots[index] ?? 0) + 1;
    const entries = logs[index] ?? [];
    const runs = entries.map(({ slot, origin }) => ({ from: slot, origin })); // a run for each entry is one run too many, and no harm
    const recovered = {
      node: (index + 1) as NodeId,
      storageId: `disk-${index}`,
      boot: boots[index] ?? 1,
      image: images[index] ?? genesis.image,
      runs,
      tail: entries,
    };
    return new Turn({
      recovered,
      options,
      random: createPrng(prng.below(2 ** 32)),
      machine: { apply: (command) => command, capture: unused, stage: unused },
    });
  };
  const nodes = links.map((_, index) => start(index));

  const passes = (from: number, to: number): boolean =>
    now < CHAOS ? (chaos[from]?.[to] ?? false) && !prng.chance(0.02) : (links[from]?.[to] ?? false);
  const turn = (index: number): void => {
    const node = nodes[index];
    while (node?.hasWork) {
      const actions = node.run(now * TICK_MS);
      for (const event of actions.events) {
        if (event.type !== "role") continue;
        if (event.role === "leader") {
          reigns += 1;
          lastReignAt = now;
        } else if (event.role === "candidate") campaigns += 1;
      }
      for (const { to, message } of actions.sends) {
        const at = now + 1 + prng.below(3);
        (queues[at] ??= []).push({ at, from: index, boot: boots[index] ?? 0, to: to - 1, message });
      }
      if (actions.write !== undefined) {
        for (const op of actions.write.ops) {
          const log = logs[index] ?? [];
          if (op.type === "truncate") log.length = op.from - 1;
          else log.push(...op.entries);
        }
        images[index] = actions.write.image;
        node.put({ type: "written" });
      }
      for (const request of actions.serve) node.put({ type: "served", request, entries: (logs[index] ?? []).slice(request.after, request.through) });
    }
  };

  let reignsBefore = 0;
  let campaignsBefore = 0;
  for (; now < CHAOS + SETTLE + WATCH; now++) {
    if (now < CHAOS) {
      if (prng.chance(0.01)) chaos = chaos.map((row) => row.map((up) => (prng.chance(0.3) ? prng.chance(0.5) : up)));
      if (prng.chance(0.002)) {
        const index = prng.below(count);
        nodes[index] = start(index);
      }
    }
    if (now === CHAOS + SETTLE) [reignsBefore, campaignsBefore] = [reigns, campaigns];
    for (const { from, boot, to, message } of queues[now] ?? []) {
      if (!passes(from, to) || boot !== boots[from]) continue;
      nodes[to]?.put({ type: "message", from: (from + 1) as NodeId, storageId: `disk-${from}`, boot, message });
      turn(to);
    }
    delete queues[now];
    for (const [index, node] of nodes.entries()) {
      const leader = node.replica.following?.node;
      if (leader !== undefined && now > CHAOS + SETTLE && prng.chance(falseHints / options.heartbeatTicks)) {
        node.put({ type: "connection-lost", peer: leader, boot: boots[leader - 1] ?? 0 });
      }
      node.put({ type: "tick" });
      turn(index);
    }
  }

  const quorum = Math.floor(count / 2) + 1;
  const views = nodes.map((node) => node.replica.inspect());
  const reached = (index: number): number[] =>
    links.flatMap((_, other) => (other !== index && links[index]?.[other] && links[other]?.[index] ? [other] : []));
  const at = (index: number, ballot: unknown): boolean => JSON.stringify(views[index]?.image.promised) === JSON.stringify(ballot);
  const leaders = views.flatMap(({ role, happy, ballot }, index) =>
    role === "leader" && happy && 1 + reached(index).filter((other) => at(other, ballot)).length >= quorum ? [index] : [],
  );
  const [leader] = leaders;
  return {
    winnable: links.some((_, index) => 1 + reached(index).length >= quorum),
    leaders: leaders.length,
    settledAfter: Math.max(0, lastReignAt - CHAOS),
    lateReigns: reigns - reignsBefore,
    lateCampaigns: campaigns - campaignsBefore,
    outside: leader === undefined ? 0 : reached(leader).filter((other) => !at(other, views[leader]?.ballot)).length,
  };
}

function unused(): never {
  throw new TypeError("no snapshots here");
}
