/**
 * Chooses what goes wrong next: one fault from the weights of the seed, or several that are aimed together at a rule of the protocol. It sees who leads, and who is
 * down; it changes nothing.
 */
import { createPrng, type Prng } from "../../base/prng.ts";
import type { Cluster } from "./cluster.ts";
import type { Fault, ScheduledFault } from "./faults.ts";
import { drawBetween, type Link } from "./network.ts";
import type { FaultKind, FaultSettings } from "./settings.ts";
import { type Reach, reachOf } from "./topology.ts";

const NOTHING: readonly ScheduledFault[] = [];
const FLAPS = 5;
/** A duplicate outlives its detection only for a while, or nothing else happens. */
const DUPLICATE_LASTS = 0.3;

export class Nemesis {
  readonly counts: Record<FaultKind, number> = {
    crash: 0,
    pause: 0,
    topology: 0,
    flapping: 0,
    diskStall: 0,
    writeError: 0,
    falseHint: 0,
    sendBlocked: 0,
    duplicate: 0,
    attack: 0,
    diskRoom: 0,
    snapshotLoss: 0,
  };
  readonly #cluster: Cluster;
  readonly #settings: FaultSettings;
  readonly #prng: Prng;
  readonly #fullDisks: Prng;
  readonly #losses: Prng;
  /** Of the slowest node. */
  readonly #electionUs: number;
  /** An attack goes on until then: nothing comes between. */
  #busyUntil = 0;

  constructor(cluster: Cluster, prng: Prng) {
    const { settings, options } = cluster;
    this.#cluster = cluster;
    this.#settings = settings.faults;
    this.#prng = prng;
    this.#fullDisks = createPrng(settings.faults.fullDisk.seed);
    this.#losses = createPrng(settings.faults.lostSnapshots?.seed ?? 0);
    this.#electionUs = options.electionTicks * Math.max(...settings.ticksUs);
  }

  /** When it strikes next. */
  nextAt(): number | undefined {
    const { everyUs } = this.#settings;
    return everyUs === undefined ? undefined : Math.max(this.#cluster.now, this.#busyUntil) + drawBetween(this.#prng, everyUs);
  }

  /** How long something lasts. */
  #duration(): number {
    return drawBetween(this.#prng, this.#settings.lastsUs);
  }

  /** In order of time; the first of them now. */
  draw(): readonly ScheduledFault[] {
    const kind = this.#drawKind();
    const faults = kind === undefined ? NOTHING : kind === "attack" ? this.#attack() : this.#now(this.#single(kind));
    if (kind !== undefined && faults.length > 0) this.counts[kind] += 1;
    return [...this.#besides(), ...faults];
  }

  #besides(): readonly ScheduledFault[] {
    const { fullDisk, lostSnapshots } = this.#settings;
    const besides: Fault[] = [];
    if (this.#fullDisks.chance(fullDisk.chance)) {
      this.counts.diskRoom += 1;
      besides.push(this.#fullDisk());
    }
    if (lostSnapshots !== undefined && this.#losses.chance(lostSnapshots.chance)) {
      this.counts.snapshotLoss += 1;
      const node = 1 + this.#losses.below(this.#cluster.nodes.length);
      besides.push({ type: "snapshotLoss", node, forUs: drawBetween(this.#losses, this.#settings.lastsUs) });
    }
    return besides.map((fault) => ({ atUs: this.#cluster.now, fault }));
  }

  /** The leader's disk, half of the time; in the end perhaps all of them. */
  #fullDisk(): Fault {
    const { leader, nodes } = this.#cluster;
    const prng = this.#fullDisks;
    const any = prng.below(nodes.length);
    const index = leader !== undefined && prng.chance(0.5) ? leader.index : any;
    return { type: "diskRoom", node: index + 1, room: prng.pick(["low", "none", "none"]), forUs: drawBetween(prng, this.#settings.lastsUs) };
  }

  #now(fault: Fault | undefined): readonly ScheduledFault[] {
    return fault === undefined ? NOTHING : [{ atUs: this.#cluster.now, fault }];
  }

  #drawKind(): keyof FaultSettings["weights"] | undefined {
    const weights = Object.entries(this.#settings.weights) as [keyof FaultSettings["weights"], number][];
    let left = this.#prng.next() * weights.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [kind, weight] of weights) {
      left -= weight;
      if (left < 0) return kind;
    }
    return undefined;
  }

  #single(kind: Exclude<FaultKind, "attack" | "diskRoom" | "snapshotLoss">): Fault | undefined {
    const index = this.#victim();
    const { nodes } = this.#cluster;
    const node = index + 1;
    const process = this.#cluster.processAt(index);
    switch (kind) {
      case "crash":
        return process === undefined || this.#isEnough() ? undefined : { type: kind, node, forUs: this.#duration() };
      case "pause":
        return process === undefined || process.paused || this.#isEnough() ? undefined : { type: kind, node, forUs: this.#duration() };
      case "topology":
      case "flapping":
        return nodes.length === 1 ? undefined : this.#topology(index, kind === "flapping" ? FLAPS : undefined);
      case "diskStall":
        return { type: kind, node, forUs: this.#duration() };
      case "writeError":
        return { type: kind, node };
      case "falseHint":
        return process === undefined ? undefined : { type: kind, node: 1 + this.#prng.below(nodes.length), about: node };
      case "sendBlocked":
        return process === undefined ? undefined : this.#blocked(index);
      case "duplicate":
        return process === undefined ? undefined : { type: kind, node, forUs: 1 + Math.floor(this.#duration() * DUPLICATE_LASTS) };
    }
  }

  #victim(): number {
    const { leader, nodes } = this.#cluster;
    const anyNode = this.#prng.below(nodes.length);
    return leader !== undefined && this.#prng.chance(this.#settings.atLeader) ? leader.index : anyNode;
  }

  /** Where most nodes are down nothing happens, so that is rare. */
  #isEnough(): boolean {
    const { nodes } = this.#cluster;
    const down = nodes.filter(({ process }) => process === undefined || process.paused).length;
    return down >= Math.floor((nodes.length - 1) / 2) && this.#prng.chance(nodes.length < 3 ? 0.4 : 0.8);
  }

  #topology(special: number, flaps: number | undefined): Fault {
    const name = this.#prng.pick(this.#settings.topologies);
    const cut = this.#cutBy(reachOf(name, this.#order(special), this.#prng));
    return { type: "topology", name, cut, forUs: this.#duration(), ...(flaps === undefined ? {} : { flaps }) };
  }

  #cutBy(reach: Reach): readonly Link[] {
    const nodes = this.#cluster.nodes.map(({ index }) => index);
    return nodes.flatMap((from) => nodes.filter((to) => from !== to && !reach(from, to)).map((to): Link => [from + 1, to + 1]));
  }

  /** All nodes, `first` before the others, which are shuffled. */
  #order(first: number): number[] {
    const others = this.#cluster.nodes.map(({ index }) => index).filter((index) => index !== first);
    const order = [first];
    while (others.length > 0) order.push(...others.splice(this.#prng.below(others.length), 1));
    return order;
  }

  /** One peer, or all: a leader whose heartbeats pass, and nothing else (rule Q4). */
  #blocked(index: number): Fault | undefined {
    const others = this.#order(index).slice(1);
    const one = others[0];
    if (one === undefined) return undefined;
    const all = this.#prng.chance(0.3);
    const peers = (all ? others : [one]).map((peer) => peer + 1);
    return { type: "sendBlocked", node: index + 1, peers, forUs: all ? 8 * this.#electionUs : this.#duration() };
  }

  #attack(): readonly ScheduledFault[] {
    const order = this.#order(this.#victim()).map((index) => index + 1);
    if (order.length < 5) return NOTHING;
    return this.#prng.chance(0.5) ? this.#factsFromAbove(order) : this.#sleepingLeader(order);
  }

  /**
   * P5, P6: `candidate` campaigns with the votes of two others. While the promise of one of them waits for its disk, or its log is fetched, that one pulls facts that a
   * higher reign decides without it. It or the candidate has led before, and has a tail that nobody else has.
   */
  #factsFromAbove([leader = 1, other = 2, between = 3, successor = 4, source = 5]: readonly number[]): readonly ScheduledFault[] {
    const [candidate, slow] = this.#prng.chance(0.5) ? [leader, other] : [other, leader];
    const [waits, succeeds] = [this.#elections(1.5, 3), this.#elections(0.3, 2)];
    const stalls = this.#prng.chance(0.6) ? waits + succeeds + this.#elections(-0.3, 0.3) : 0;
    const succession = [...pairs([between, successor, source]), [slow, source]] satisfies Link[];
    return this.#script([
      [0, this.#shaped("attack: all alone", [])],
      [this.#elections(1, 1.5), { type: "diskStall", node: slow, forUs: stalls }],
      [
        0,
        this.#shaped("attack: a campaign", [
          [candidate, slow],
          [candidate, between],
          [successor, source],
        ]),
      ],
      [waits, this.#shaped("attack: a succession without them", succession)],
      [succeeds, this.#shaped("attack: they meet again", [...succession, [candidate, slow]])],
    ]);
  }

  /** A1, A2, A4: a leader sleeps through its succession; `follower` learns what its successor decides from another node, and only then hears of the old leader again. */
  #sleepingLeader([leader = 1, follower = 2, ...rest]: readonly number[]): readonly ScheduledFault[] {
    const [, source = 4] = rest;
    const sleeps = this.#elections(2, 4);
    const together: readonly Link[] = this.#prng.chance(0.5) ? [[leader, follower]] : [];
    return this.#script([
      [0, this.#shaped("attack: two apart", [...together, ...pairs(rest)])],
      [this.#elections(0.1, 0.6), { type: "pause", node: leader, forUs: sleeps }],
      [0, this.#shaped("attack: a succession without them", [...pairs(rest), [follower, source]])],
      [sleeps - this.#elections(0, 0.3), this.#shaped("attack: they meet again", [...pairs(rest), [follower, source], [leader, follower]])],
    ]);
  }

  /** Each so long after the one before it. */
  #script(steps: readonly (readonly [afterUs: number, fault: Fault])[]): readonly ScheduledFault[] {
    let atUs = this.#cluster.now;
    const script = steps.map(([afterUs, fault]) => {
      atUs += afterUs;
      return { atUs, fault };
    });
    this.#busyUntil = atUs + this.#electionUs;
    return script;
  }

  #elections(least: number, most: number): number {
    return Math.floor(this.#electionUs * (least + (most - least) * this.#prng.next()));
  }

  /** All links are cut but these, which are open both ways. */
  #shaped(name: string, open: readonly Link[]): Fault {
    const reach: Reach = (from, to) => open.some(([a, b]) => (a === from + 1 && b === to + 1) || (b === from + 1 && a === to + 1));
    return { type: "topology", name, cut: this.#cutBy(reach), forUs: 4 * this.#electionUs };
  }
}

function pairs(nodes: readonly number[]): readonly Link[] {
  return nodes.flatMap((a, place) => nodes.slice(place + 1).map((b): Link => [a, b]));
}
