/**
 * What goes wrong, and when it is put right again. Only what the protocol promises to stand is in here: no disk forgets what it has acknowledged, and a copy of a
 * disk speaks only where its original is known. A fault is data: whoever knows all of them can bring them about again, or leave some out.
 */
import { OracleError } from "../../base/errors.ts";
import { createPrng, type Prng } from "../../base/prng.ts";
import type { Cluster } from "./cluster.ts";
import { Nemesis } from "./nemesis.ts";
import { drawBetween, type Link } from "./network.ts";
import type { SimulatedProcess } from "./process.ts";
import type { FaultKind } from "./settings.ts";

/** With everything about it decided. Nodes have their numbers, from 1 up; `forUs` is virtual time until it is put right. */
export type Fault =
  | { readonly type: "crash" | "pause" | "diskStall" | "duplicate"; readonly node: number; readonly forUs: number }
  /** The disk has no room, or little (rule F6). Writes succeed: what is left is for votes. */
  | { readonly type: "diskRoom"; readonly node: number; readonly room: "low" | "none"; readonly forUs: number }
  /** It crashes, and none of its snapshots can be read afterwards. */
  | { readonly type: "snapshotLoss"; readonly node: number; readonly forUs: number }
  /** The next write fails, though it may be on the disk. */
  | { readonly type: "writeError"; readonly node: number }
  /** These links are cut, and no others. `flaps`: so often they come and go meanwhile. */
  | { readonly type: "topology"; readonly name: string; readonly cut: readonly Link[]; readonly forUs: number; readonly flaps?: number }
  /** `node` is told that the process of `about` has ended, and it has not. */
  | { readonly type: "falseHint"; readonly node: number; readonly about: number }
  /** The buffers of `node` towards these peers are full. */
  | { readonly type: "sendBlocked"; readonly node: number; readonly peers: readonly number[]; readonly forUs: number };

export interface ScheduledFault {
  readonly atUs: number;
  readonly fault: Fault;
}

/** @throws OracleError TSO_INVALID_OPTION for a fault at a node that is not there, naming it */
function checkScript(script: readonly ScheduledFault[], nodes: number): void {
  for (const [place, { fault }] of script.entries()) {
    const wrong = nodesOf(fault).find((node) => !Number.isSafeInteger(node) || node < 1 || node > nodes);
    if (wrong !== undefined) throw new OracleError("TSO_INVALID_OPTION", `faults.script[${place}] is about node ${wrong}: there are 1 to ${nodes}`);
  }
}

function nodesOf(fault: Fault): readonly number[] {
  switch (fault.type) {
    case "topology":
      return fault.cut.flat();
    case "falseHint":
      return [fault.node, fault.about];
    case "sendBlocked":
      return [fault.node, ...fault.peers];
    default:
      return [fault.node];
  }
}

export class Faults {
  /** Those that struck, in order. */
  readonly struck: ScheduledFault[] = [];
  readonly #cluster: Cluster;
  readonly #nemesis: Nemesis;
  /** How long it takes until a node is started again that stopped by itself. Apart from what the nemesis draws: with a script that draws nothing. */
  readonly #restarts: Prng;
  readonly #repairs: (() => void)[] = [];
  /** Nodes that were put right for good: whatever still happens to them is repaired. */
  readonly #mended = new Set<number>();
  readonly #blocked: { readonly process: SimulatedProcess; readonly peer: number }[] = [];
  /** The process whose copy was running: its peers may no longer believe it. */
  #disputed: SimulatedProcess | undefined;
  /** Of shapes of the network: a repair of an older one comes too late. */
  #shape = 0;
  #frozen = false;
  /** Faults of the script that have not had their turn, in order of time. */
  #script: readonly ScheduledFault[] = [];

  constructor(cluster: Cluster, prng: Prng) {
    checkScript(cluster.settings.faults.script ?? [], cluster.nodes.length);
    this.#cluster = cluster;
    this.#restarts = createPrng(prng.below(2 ** 32));
    this.#nemesis = new Nemesis(cluster, prng);
  }

  /** How often each kind struck. */
  get counts(): Readonly<Record<FaultKind, number>> {
    return this.#nemesis.counts;
  }

  /** Whether the script has more. */
  get isAwaited(): boolean {
    return this.#script.length > 0;
  }

  start(): void {
    this.#script = (this.#cluster.settings.faults.script ?? []).toSorted((a, b) => a.atUs - b.atUs);
    this.#next();
  }

  /** From here on nothing breaks any more, and nothing repairs itself. */
  freeze(): void {
    this.#frozen = true;
  }

  /** @param fault whatever the nemesis thinks of, if undefined. */
  onFault(fault: Fault | undefined): void {
    if (this.#frozen) return;
    if (this.#script.length > 0) return this.#followScript();
    if (fault !== undefined) return this.#strike(fault);
    for (const { atUs, fault } of this.#nemesis.draw()) {
      if (atUs === this.#cluster.now) this.#strike(fault);
      else this.#cluster.at(atUs, { type: "fault", fault });
    }
    this.#next();
  }

  onRepair(repair: number): void {
    if (!this.#frozen) this.#repairs[repair]?.();
  }

  /** The node stopped by itself: somebody will start it again. */
  onFenced(process: SimulatedProcess): void {
    const { index } = process;
    if (this.#mended.has(index)) this.#cluster.start(index);
    else this.#later(drawBetween(this.#restarts, this.#cluster.settings.faults.lastsUs), () => this.#cluster.start(index));
  }

  /** Puts everything right at these nodes, and between them. */
  mend(nodes: readonly number[]): void {
    const cluster = this.#cluster;
    cluster.endImpostor();
    cluster.network.heal(nodes);
    for (const index of nodes) {
      this.#mended.add(index);
      const { disk, process } = cluster.node(index);
      disk.stalledUntil = 0;
      disk.failing = false;
      disk.clean = true;
      cluster.setRoom(index, "enough");
      if (process !== undefined && process === this.#disputed) cluster.crash(index);
      cluster.start(index);
      const running = cluster.processAt(index);
      if (running !== undefined) cluster.resume(running);
    }
    for (const { process, peer } of this.#blocked) if (nodes.includes(process.index) && nodes.includes(peer)) this.#block(process, peer, false);
  }

  /** Those of now together, and only then the next: what happens at one moment has one order, whether it was drawn or written down. */
  #followScript(): void {
    for (const { atUs, fault } of this.#script) {
      if (atUs > this.#cluster.now) break;
      this.#script = this.#script.slice(1);
      this.#strike(fault);
    }
    this.#next();
  }

  #next(): void {
    if (this.#cluster.settings.faults.script !== undefined) {
      const [first] = this.#script;
      if (first !== undefined) this.#cluster.at(first.atUs, { type: "fault", fault: first.fault });
      return;
    }
    const at = this.#nemesis.nextAt();
    if (at !== undefined) this.#cluster.at(at, { type: "fault", fault: undefined });
  }

  #later(delay: number, repair: () => void): void {
    this.#repairs.push(repair);
    this.#cluster.at(this.#cluster.now + delay, { type: "repair", repair: this.#repairs.length - 1 });
  }

  #strike(fault: Fault): void {
    this.struck.push({ atUs: this.#cluster.now, fault }); // before: it may be what ends the run
    if (!this.#carryOut(fault)) this.struck.pop();
  }

  /** @returns whether it could be done. */
  #carryOut(fault: Fault): boolean {
    const cluster = this.#cluster;
    if (fault.type === "topology") return this.#reshape(fault);
    const index = fault.node - 1;
    const process = cluster.processAt(index);
    switch (fault.type) {
      case "crash":
        if (process === undefined) return false;
        cluster.crash(index);
        this.#later(fault.forUs, () => cluster.start(index));
        return true;
      case "pause":
        if (process === undefined || process.paused) return false;
        cluster.note(index, "pause");
        process.paused = true;
        this.#later(fault.forUs, () => cluster.resume(process));
        return true;
      case "diskStall":
        cluster.note(index, "disk stalls");
        cluster.node(index).disk.stalledUntil = cluster.now + fault.forUs;
        return true;
      case "diskRoom":
        cluster.setRoom(index, fault.room);
        this.#later(fault.forUs, () => cluster.setRoom(index, "enough"));
        return true;
      case "snapshotLoss": {
        // One at a time, and where others know what it had: a state that nobody has cannot come back.
        const others = cluster.nodes.some(({ disk }) => disk.lacksSnapshot);
        if (process === undefined || others || cluster.nodes.length < 3) return false;
        cluster.crash(index);
        cluster.node(index).disk.loseSnapshots();
        this.#later(fault.forUs, () => cluster.start(index));
        return true;
      }
      case "writeError":
        cluster.node(index).disk.failing = true;
        return true;
      case "falseHint":
        return this.#lie(process, cluster.processAt(fault.about - 1));
      case "sendBlocked":
        if (process === undefined) return false;
        for (const peer of fault.peers) this.#blockFor(process, peer - 1, fault.forUs);
        return true;
      case "duplicate":
        return process !== undefined && this.#duplicate(process, fault.forUs);
    }
  }

  #reshape({ name, cut, forUs, flaps = 0 }: Extract<Fault, { type: "topology" }>): boolean {
    const cluster = this.#cluster;
    this.#shape += 1;
    const shape = this.#shape;
    const links = cut.map(([from, to]): Link => [from - 1, to - 1]);
    cluster.note(undefined, "topology", { name, cut });
    cluster.network.shape(links);
    for (let flap = 1; flap <= flaps; flap++) {
      this.#later(Math.ceil((flap * forUs) / (flaps + 1)), () => {
        if (this.#shape === shape) cluster.network.shape(flap % 2 === 0 ? links : []);
      });
    }
    this.#later(forUs, () => {
      if (this.#shape !== shape) return;
      cluster.note(undefined, "topology", { name: "full", cut: [] });
      cluster.network.shape([]);
    });
    return true;
  }

  /** Somebody is told that a process has ended, and it has not. */
  #lie(to: SimulatedProcess | undefined, about: SimulatedProcess | undefined): boolean {
    if (about === undefined || to === undefined || to === about || !to.believes(about)) return false;
    const input = { type: "connection-lost", peer: about.node, boot: about.boot } as const;
    this.#cluster.at(this.#cluster.now, { type: "input", process: to, input });
    return true;
  }

  #blockFor(process: SimulatedProcess, peer: number, forUs: number): void {
    this.#blocked.push({ process, peer });
    this.#block(process, peer, true);
    this.#later(forUs, () => this.#block(process, peer, false));
  }

  #block(process: SimulatedProcess, peer: number, blocked: boolean): void {
    if (!process.alive) return;
    this.#cluster.at(this.#cluster.now, { type: "input", process, input: { type: "send-blocked", peer: this.#cluster.node(peer).id, blocked } });
  }

  /** One at a time, and only where every node is up and knows the original: who meets the copy first would take it for that. */
  #duplicate(process: SimulatedProcess, forUs: number): boolean {
    const { nodes } = this.#cluster;
    if (this.#cluster.impostor !== undefined || nodes.length < 3) return false;
    const known = nodes.every((node) => node.process !== undefined && (node.process === process || node.process.believes(process)));
    if (!known) return false;
    this.#disputed = process;
    this.#cluster.startImpostor(process.index, this.#cluster.node(process.index).disk.copy(), "copied");
    this.#later(forUs, () => {
      this.#cluster.endImpostor();
      if (!process.alive) return;
      this.#cluster.crash(process.index);
      this.#cluster.start(process.index);
    });
    return true;
  }
}
