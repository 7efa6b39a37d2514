/**
 * Elections of the real core on a fixed topology, in ticks: after a prefix of chaos the links stay as they are, and what counts is who leads then, since when, and whether
 * anything changes afterwards. The disks answer at once. The topologies are those of `docs/models/election-model.js`, by its own seeds.
 */
import { createRequire } from "node:module";
import type { NodeId } from "../../src/base/ids.ts";
import { createPrng, type Prng } from "../../src/base/prng.ts";
import { type Ballot, sameBallot } from "../../src/paxos/core/ballot.ts";
import type { Entry } from "../../src/paxos/core/entry.ts";
import { genesisOf } from "../../src/paxos/core/genesis.ts";
import type { Image, PersistBatch } from "../../src/paxos/core/image.ts";
import type { PaxosMessage } from "../../src/paxos/core/messages.ts";
import { resolveCoreOptions } from "../../src/paxos/core/options.ts";
import { Turn } from "../../src/paxos/turn.ts";

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

export function runElection(run: ElectionRun): ElectionReport {
  const world = new ElectionWorld(run);
  for (let tick = 0; tick < CHAOS + SETTLE + WATCH; tick++) world.tick();
  return world.report();
}

interface Node {
  readonly index: number;
  readonly id: NodeId;
  boot: number;
  image: Image;
  readonly log: Entry[];
  turn: Turn;
}

interface UnderWay {
  readonly from: Node;
  readonly boot: number;
  readonly to: number;
  readonly message: PaxosMessage;
}

class ElectionWorld {
  readonly #run: ElectionRun;
  readonly #prng: Prng;
  readonly #options = resolveCoreOptions();
  readonly #nodes: readonly Node[];
  readonly #arriving = new Map<number, UnderWay[]>();
  #chaos: Links;
  #now = 0;
  #reigns = 0;
  #campaigns = 0;
  #lastReignAt = 0;
  /** As they were when the topology had had time to settle. */
  #settled = { reigns: 0, campaigns: 0 };

  constructor(run: ElectionRun) {
    this.#run = run;
    this.#prng = createPrng(run.seed);
    this.#chaos = run.links.map((row) => row.map(() => true));
    const ids = run.links.map((_, index) => (index + 1) as NodeId);
    const { image, entries } = genesisOf(ids.map((id) => ({ id, storageId: diskOf(id), role: "voter", address: "", prio: 0 })));
    this.#nodes = ids.map((id, index) => {
      const node = { index, id, boot: 0, image, log: [...entries] };
      return Object.assign(node, { turn: this.#start(node) });
    });
  }

  tick(): void {
    if (this.#now < CHAOS) this.#makeChaos();
    if (this.#now === CHAOS + SETTLE) this.#settled = { reigns: this.#reigns, campaigns: this.#campaigns };
    for (const { from, boot, to, message } of this.#arriving.get(this.#now) ?? []) {
      const node = this.#nodes[to];
      if (node === undefined || boot !== from.boot || !this.#passes(from.index, to)) continue;
      node.turn.put({ type: "message", from: from.id, storageId: diskOf(from.id), boot, message });
      this.#turn(node);
    }
    this.#arriving.delete(this.#now);
    for (const node of this.#nodes) {
      this.#lie(node);
      node.turn.put({ type: "tick" });
      this.#turn(node);
    }
    this.#now += 1;
  }

  report(): ElectionReport {
    const quorum = Math.floor(this.#nodes.length / 2) + 1;
    const views = this.#nodes.map(({ turn }) => turn.replica.inspect());
    const at = (index: number, ballot: Ballot | undefined): boolean => sameBallot(views[index]?.image.promised, ballot);
    const leaders = views.flatMap(({ role, happy, ballot }, index) => {
      const followers = this.#reached(index).filter((other) => at(other, ballot));
      return role === "leader" && happy && 1 + followers.length >= quorum ? [index] : [];
    });
    const [leader] = leaders;
    return {
      winnable: this.#nodes.some(({ index }) => 1 + this.#reached(index).length >= quorum),
      leaders: leaders.length,
      settledAfter: Math.max(0, this.#lastReignAt - CHAOS),
      lateReigns: this.#reigns - this.#settled.reigns,
      lateCampaigns: this.#campaigns - this.#settled.campaigns,
      outside: leader === undefined ? 0 : this.#reached(leader).filter((other) => !at(other, views[leader]?.ballot)).length,
    };
  }

  #start(node: Omit<Node, "turn">): Turn {
    node.boot += 1;
    const runs = node.log.map(({ slot, origin }) => ({ from: slot, origin })); // a run for each entry is more than there are, and no harm
    return new Turn({
      recovered: { node: node.id, storageId: diskOf(node.id), boot: node.boot, image: node.image, runs, tail: node.log },
      options: this.#options,
      random: createPrng(this.#prng.below(2 ** 32)),
      machine: { apply: (command) => command, capture: unused, stage: unused },
    });
  }

  #makeChaos(): void {
    const prng = this.#prng;
    if (prng.chance(0.01)) this.#chaos = this.#chaos.map((row) => row.map((up) => (prng.chance(0.3) ? prng.chance(0.5) : up)));
    const node = this.#nodes[prng.below(this.#nodes.length)];
    if (node !== undefined && prng.chance(0.002)) node.turn = this.#start(node);
  }

  /** Says that the connection to the leader was lost, and it was not. */
  #lie({ turn }: Node): void {
    const { falseHints = 0 } = this.#run;
    const leader = this.#nodes[(turn.replica.following?.node ?? 0) - 1];
    if (leader === undefined || this.#now <= CHAOS + SETTLE || !this.#prng.chance(falseHints / this.#options.heartbeatTicks)) return;
    turn.put({ type: "connection-lost", peer: leader.id, boot: leader.boot });
  }

  #turn(node: Node): void {
    while (node.turn.hasWork) {
      const actions = node.turn.run(this.#now * TICK_MS);
      for (const event of actions.events) if (event.type === "role") this.#note(event.role);
      for (const { to, message } of actions.sends) {
        const at = this.#now + 1 + this.#prng.below(3);
        const arriving = this.#arriving.get(at) ?? [];
        arriving.push({ from: node, boot: node.boot, to: to - 1, message });
        this.#arriving.set(at, arriving);
      }
      if (actions.write !== undefined) write(node, actions.write);
      for (const request of actions.serve) node.turn.put({ type: "served", request, entries: node.log.slice(request.after, request.through) });
    }
  }

  #note(role: "follower" | "candidate" | "leader"): void {
    if (role === "candidate") this.#campaigns += 1;
    if (role !== "leader") return;
    this.#reigns += 1;
    this.#lastReignAt = this.#now;
  }

  #passes(from: number, to: number): boolean {
    if (this.#now >= CHAOS) return this.#run.links[from]?.[to] ?? false;
    return (this.#chaos[from]?.[to] ?? false) && !this.#prng.chance(0.02);
  }

  /** Both ways, when all is settled. */
  #reached(index: number): readonly number[] {
    const { links } = this.#run;
    return links.flatMap((_, other) => (other !== index && links[index]?.[other] && links[other]?.[index] ? [other] : []));
  }
}

/** The disk answers at once. */
function write(node: Node, { ops, image }: PersistBatch): void {
  for (const op of ops) {
    if (op.type === "install") unused();
    else if (op.type === "truncate") node.log.length = op.from - 1;
    else node.log.push(...op.entries);
  }
  node.image = image;
  node.turn.put({ type: "written" });
}

function diskOf(id: NodeId): string {
  return `disk-${id}`;
}

function unused(): never {
  throw new TypeError("no snapshots here");
}
