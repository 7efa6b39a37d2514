/**
 * What goes wrong, and when it is put right again. Only what the protocol promises to stand is in here: no disk forgets what it has acknowledged, and a copy of a
 * disk speaks only where its original is known.
 */
import type { Prng } from "../../base/prng.ts";
import type { Cluster, SimulatedNode } from "./cluster.ts";
import { drawBetween } from "./network.ts";
import type { SimulatedProcess } from "./process.ts";
import type { FaultKind, FaultSettings } from "./settings.ts";
import { type Reach, reachOf } from "./topology.ts";

const FULL: Reach = () => true;
const FLAPS = 6;
/** A duplicate outlives its detection only for a while, or nothing else happens. */
const DUPLICATE_LASTS = 0.3;

export class Faults {
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
  };
  readonly #cluster: Cluster;
  readonly #settings: FaultSettings;
  readonly #prng: Prng;
  readonly #repairs: (() => void)[] = [];
  /** Nodes that were put right for good: whatever still happens to them is repaired. */
  readonly #mended = new Set<number>();
  readonly #blocked: { readonly process: SimulatedProcess; readonly peer: SimulatedNode }[] = [];
  /** The process whose copy was running: its peers may no longer believe it. */
  #disputed: SimulatedProcess | undefined;
  /** Of shapes of the network: a repair of an older one comes too late. */
  #shape = 0;
  #frozen = false;

  constructor(cluster: Cluster, prng: Prng) {
    this.#cluster = cluster;
    this.#settings = cluster.settings.faults;
    this.#prng = prng;
  }

  get total(): number {
    return Object.values(this.counts).reduce((sum, count) => sum + count, 0);
  }

  start(): void {
    this.#next();
  }

  /** From here on nothing breaks any more, and nothing repairs itself. */
  freeze(): void {
    this.#frozen = true;
  }

  onFault(): void {
    if (this.#frozen) return;
    const kind = this.#drawKind();
    if (kind !== undefined && this.#strike(kind)) this.counts[kind] += 1;
    this.#next();
  }

  onRepair(repair: number): void {
    if (!this.#frozen) this.#repairs[repair]?.();
  }

  /** The node stopped by itself: somebody will start it again. */
  onFenced(process: SimulatedProcess): void {
    const { index } = process;
    if (this.#mended.has(index)) this.#cluster.start(index);
    else this.#later(this.#duration(), () => this.#cluster.start(index));
  }

  /** Puts everything right at these nodes, and between them. */
  mend(nodes: readonly number[]): void {
    const cluster = this.#cluster;
    cluster.endDuplicate();
    cluster.network.heal(nodes);
    for (const index of nodes) {
      this.#mended.add(index);
      const { disk, process } = cluster.node(index);
      disk.stalledUntil = 0;
      disk.failing = false;
      disk.clean = true;
      if (process !== undefined && process === this.#disputed) cluster.crash(index);
      cluster.start(index);
      const running = cluster.processAt(index);
      if (running !== undefined) cluster.resume(running);
    }
    for (const { process, peer } of this.#blocked) {
      if (nodes.includes(process.index) && nodes.includes(peer.index)) this.#block(process, peer, false);
    }
  }

  #next(): void {
    const { everyUs } = this.#settings;
    if (everyUs !== undefined) this.#cluster.at(this.#cluster.now + drawBetween(this.#prng, everyUs), { type: "fault" });
  }

  #later(delay: number, repair: () => void): void {
    this.#repairs.push(repair);
    this.#cluster.at(this.#cluster.now + delay, { type: "repair", repair: this.#repairs.length - 1 });
  }

  #duration(): number {
    return drawBetween(this.#prng, this.#settings.lastsUs);
  }

  #drawKind(): FaultKind | undefined {
    const weights = Object.entries(this.#settings.weights) as [FaultKind, number][];
    let left = this.#prng.next() * weights.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [kind, weight] of weights) {
      left -= weight;
      if (left < 0) return kind;
    }
    return undefined;
  }

  /** @returns whether it could be done. */
  #strike(kind: FaultKind): boolean {
    const index = this.#victim();
    const process = this.#cluster.processAt(index);
    switch (kind) {
      case "crash":
        return process !== undefined && !this.#isEnough() && this.#crash(index);
      case "pause":
        return process !== undefined && !process.paused && !this.#isEnough() && this.#pause(process);
      case "topology":
        return this.#cluster.nodes.length > 1 && this.#cutLinks(index);
      case "flapping":
        return this.#cluster.nodes.length > 1 && this.#flap(index);
      case "diskStall":
        this.#cluster.note(index, "disk stalls");
        this.#cluster.node(index).disk.stalledUntil = this.#cluster.now + this.#duration();
        return true;
      case "writeError":
        this.#cluster.node(index).disk.failing = true;
        return true;
      case "falseHint":
        return this.#lie(index);
      case "sendBlocked":
        return this.#blockSome(index);
      case "duplicate":
        return process !== undefined && this.#duplicate(process);
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

  #crash(index: number): boolean {
    this.#cluster.crash(index);
    this.#later(this.#duration(), () => this.#cluster.start(index));
    return true;
  }

  #pause(process: SimulatedProcess): boolean {
    this.#cluster.note(process.index, "pause");
    process.paused = true;
    this.#later(this.#duration(), () => this.#cluster.resume(process));
    return true;
  }

  #cutLinks(special: number): boolean {
    const topology = this.#prng.pick(this.#settings.topologies);
    this.#reshape(reachOf(topology, this.#order(special), this.#prng), topology);
    const shape = this.#shape;
    this.#later(this.#duration(), () => {
      if (this.#shape === shape) this.#reshape(FULL, "full");
    });
    return true;
  }

  #flap(special: number): boolean {
    const torn = reachOf(this.#prng.pick(this.#settings.topologies), this.#order(special), this.#prng);
    const step = 1 + Math.floor(this.#duration() / FLAPS);
    this.#reshape(torn, "flapping");
    const shape = this.#shape;
    for (let flap = 1; flap <= FLAPS; flap++) {
      this.#later(flap * step, () => {
        if (this.#shape !== shape) return;
        this.#cluster.network.shape(flap % 2 === 0 && flap < FLAPS ? torn : FULL);
      });
    }
    return true;
  }

  #reshape(reach: Reach, name: string): void {
    this.#shape += 1;
    this.#cluster.note(undefined, "topology", name);
    this.#cluster.network.shape(reach);
  }

  /** All nodes, `first` before the others, which are shuffled. */
  #order(first: number): number[] {
    const others = this.#cluster.nodes.map(({ index }) => index).filter((index) => index !== first);
    const order = [first];
    while (others.length > 0) order.push(...others.splice(this.#prng.below(others.length), 1));
    return order;
  }

  /** Somebody is told that a process has ended, and it has not. */
  #lie(index: number): boolean {
    const about = this.#cluster.processAt(index);
    const to = this.#cluster.processAt(this.#prng.below(this.#cluster.nodes.length));
    if (about === undefined || to === undefined || to === about || !to.believes(about)) return false;
    const input = { type: "connection-lost", peer: about.node, boot: about.boot } as const;
    this.#cluster.at(this.#cluster.now, { type: "input", process: to, input });
    return true;
  }

  #blockSome(index: number): boolean {
    const process = this.#cluster.processAt(index);
    const peer = this.#cluster.node(this.#prng.below(this.#cluster.nodes.length));
    if (process === undefined || peer.index === index) return false;
    this.#blocked.push({ process, peer });
    this.#block(process, peer, true);
    this.#later(this.#duration(), () => this.#block(process, peer, false));
    return true;
  }

  #block(process: SimulatedProcess, peer: SimulatedNode, blocked: boolean): void {
    if (!process.alive) return;
    this.#cluster.at(this.#cluster.now, { type: "input", process, input: { type: "send-blocked", peer: peer.id, blocked } });
  }

  /** One at a time, and only where every node is up and knows the original: who meets the copy first would take it for that. */
  #duplicate(process: SimulatedProcess): boolean {
    const { nodes } = this.#cluster;
    if (this.#cluster.duplicate !== undefined || nodes.length < 3) return false;
    const known = nodes.every((node) => node.process !== undefined && (node.process === process || node.process.believes(process)));
    if (!known) return false;
    this.#disputed = process;
    this.#cluster.startDuplicate(process.index);
    this.#later(1 + Math.floor(this.#duration() * DUPLICATE_LASTS), () => {
      this.#cluster.endDuplicate();
      if (!process.alive) return;
      this.#cluster.crash(process.index);
      this.#cluster.start(process.index);
    });
    return true;
  }
}
