/**
 * Nodes, their disks and the network between them, in virtual time. It carries out what a turn wants and brings about what happens next; what a message says, and
 * whether a node does the right thing, it does not know.
 */
import type { NodeId } from "../../base/ids.ts";
import { createPrng, type Prng } from "../../base/prng.ts";
import type { Leadership } from "../../log.ts";
import type { DiskRoom, FactsToServe } from "../../paxos/core/effects.ts";
import { type Genesis, genesisOf } from "../../paxos/core/genesis.ts";
import { messageCodec } from "../../paxos/core/message-codec.ts";
import type { PaxosMessage } from "../../paxos/core/messages.ts";
import { type CoreOptions, resolveCoreOptions } from "../../paxos/core/options.ts";
import type { Actions, Answered, Settled, TurnInput } from "../../paxos/turn.ts";
import { SimulatedDisk } from "./disk.ts";
import { EventQueue } from "./event-queue.ts";
import type { Fault } from "./faults.ts";
import { type Arrivals, Network } from "./network.ts";
import type { ClusterObserver } from "./observed.ts";
import { SimulatedProcess } from "./process.ts";
import type { ClusterSettings } from "./settings.ts";
import type { SnapshotStep } from "./snapshots.ts";
import type { MessageFate, Trace } from "./trace.ts";
import { TraceHash } from "./trace-hash.ts";
import { Tracer } from "./tracer.ts";

export type ClusterEvent =
  | { readonly type: "tick"; readonly process: SimulatedProcess }
  | { readonly type: "turn"; readonly process: SimulatedProcess }
  | { readonly type: "deliver"; readonly to: number; readonly from: SimulatedProcess; readonly message: PaxosMessage; readonly traced: number }
  | { readonly type: "written"; readonly process: SimulatedProcess }
  | { readonly type: "load"; readonly process: SimulatedProcess; readonly after: number; readonly through: number }
  | { readonly type: "serve"; readonly process: SimulatedProcess; readonly facts: FactsToServe }
  | { readonly type: "input"; readonly process: SimulatedProcess; readonly input: TurnInput }
  | { readonly type: "snapshot"; readonly process: SimulatedProcess; readonly step: SnapshotStep }
  | { readonly type: "client"; readonly client: number }
  | { readonly type: "patience"; readonly client: number; readonly round: number }
  /** Undefined for one that is still to be thought of. */
  | { readonly type: "fault"; readonly fault: Fault | undefined }
  | { readonly type: "repair"; readonly repair: number };

/** Everything but the host's side of it. */
export type NodeEvent = Exclude<ClusterEvent, { readonly type: "client" | "patience" | "fault" | "repair" }>;

export interface SimulatedNode {
  readonly id: NodeId;
  readonly index: number;
  readonly disk: SimulatedDisk;
  readonly tickUs: number;
  process: SimulatedProcess | undefined;
}

/** Who uses the nodes, and who breaks them. */
export interface ClusterHost {
  settled(process: SimulatedProcess, settled: readonly Settled[]): void;
  answered(process: SimulatedProcess, answered: readonly Answered[]): void;
  /** `fenced`: it stopped by itself. */
  stopped(process: SimulatedProcess, fenced: boolean): void;
  /** Before anybody hears of it. */
  writeFailed(node: SimulatedNode): void;
}

/** From the end of a process to its peers' knowledge of it, at most. */
const TOLD_WITHIN_US = 3_000;
const LOADED_AT_ONCE_BYTES = 600;

export class Cluster {
  readonly settings: ClusterSettings;
  readonly options: CoreOptions;
  readonly nodes: readonly SimulatedNode[];
  readonly network: Network;
  readonly hash = new TraceHash();
  readonly counts = { events: 0, turns: 0, reigns: 0, campaigns: 0, refused: 0, starts: 0 };
  readonly #queue = new EventQueue<ClusterEvent>();
  readonly #prng: Prng;
  readonly #observers: readonly ClusterObserver[];
  readonly #tracer: Tracer | undefined;
  readonly #codes = new Map<string, number>();
  readonly #genesis: Genesis;
  #host: ClusterHost | undefined;
  #now = 0;
  /** A process under a node's name, on another disk than that node's. Nobody but its peers looks at what it does. */
  impostor: SimulatedProcess | undefined;
  /** The last that said that it leads. */
  leader: SimulatedProcess | undefined;

  constructor(settings: ClusterSettings, seed: number, observers: readonly ClusterObserver[], trace: Trace | undefined) {
    const prng = createPrng(seed ^ 0x5eed);
    this.settings = settings;
    this.options = resolveCoreOptions(settings.core);
    this.#prng = prng;
    this.#observers = observers;
    this.#tracer = trace === undefined ? undefined : new Tracer(trace, () => this.#now);
    this.network = new Network(settings.nodes, settings.network, split(prng));
    const members = settings.prios.map((prio, index) => {
      const id = (index + 1) as NodeId;
      return { id, storageId: storageIdOf(index), role: "voter" as const, address: `node-${id}`, prio };
    });
    const genesis = genesisOf(members);
    this.#genesis = genesis;
    this.nodes = members.map(({ id, storageId }, index) => ({
      id,
      index,
      disk: new SimulatedDisk(storageId, genesis, settings.disk, split(prng)),
      tickUs: settings.ticksUs[index] ?? 10_000,
      process: undefined,
    }));
  }

  get now(): number {
    return this.#now;
  }

  attach(host: ClusterHost): void {
    this.#host = host;
  }

  at(time: number, event: ClusterEvent): void {
    this.#queue.push(time, event);
  }

  /** The next event. Time is then its time. */
  next(): ClusterEvent {
    this.#now = this.#queue.nextAt;
    const event = this.#queue.pop();
    if (event === undefined) throw new Error("a simulation in which nothing happens any more");
    return event;
  }

  processAt(index: number): SimulatedProcess | undefined {
    return this.nodes[index]?.process;
  }

  node(index: number): SimulatedNode {
    const node = this.nodes[index];
    if (node === undefined) throw new RangeError(`there is no node ${index}`);
    return node;
  }

  /** Starts a process on a node that has none. */
  start(index: number): void {
    const node = this.node(index);
    if (node.process !== undefined) return;
    // A process that has heard nobody yet might take the copy for the original, and no protocol stands that.
    this.endImpostor();
    const process = this.#newProcess(node, node.disk, this.#observers, "started");
    node.process = process;
    this.#tracer?.began(process);
    this.note(index, "start", { boot: process.boot });
    for (const observer of this.#observers) observer.started(process);
    this.#begin(process);
    if (node.disk.room !== "enough") this.at(this.#now, { type: "input", process, input: { type: "disk-room", room: node.disk.room } });
  }

  /** Cuts the power of a node. */
  crash(index: number): void {
    const { process } = this.node(index);
    if (process !== undefined) this.#stop(process, false);
  }

  /** As somebody has it who formats a disk for this cluster once more. */
  emptyDisk(): SimulatedDisk {
    return new SimulatedDisk("f".repeat(32), this.#genesis, this.settings.disk, split(this.#prng));
  }

  /** @param how `copied`: with the boot count of the process whose disk was copied, as if it had been started together with that. */
  startImpostor(index: number, disk: SimulatedDisk, how: "started" | "copied"): void {
    const process = this.#newProcess(this.node(index), disk, [], how);
    this.impostor = process;
    this.#tracer?.began(process);
    this.#noteOf(process, "an impostor starts", { disk: disk.storageId, boot: process.boot });
    this.#begin(process);
  }

  /** What it said and nobody has heard is lost with it. */
  endImpostor(): void {
    if (this.impostor === undefined) return;
    this.impostor.alive = false;
    this.#noteOf(this.impostor, "the impostor ends");
    this.impostor = undefined;
  }

  /** Whoever runs there hears of it. */
  setRoom(index: number, room: DiskRoom): void {
    const { disk, process } = this.node(index);
    if (disk.room === room) return;
    disk.room = room;
    this.note(index, "disk room", { room });
    if (process !== undefined) this.at(this.#now, { type: "input", process, input: { type: "disk-room", room } });
  }

  resume(process: SimulatedProcess): void {
    if (!process.alive || !process.paused) return;
    this.note(process.index, "resume");
    process.resume();
    this.touch(process);
  }

  /** Lets a process have its turn, now or soon. */
  touch(process: SimulatedProcess): void {
    if (process.paused || process.turnIsDue) return;
    if (this.settings.turnDelayUs === 0) return this.#run(process);
    process.turnIsDue = true;
    this.at(this.#now + this.settings.turnDelayUs, { type: "turn", process });
  }

  /** For the trace. */
  note(node: number | undefined, what: string, details?: unknown): void {
    this.hash.note(this.#code(what));
    this.#tracer?.note(node, what, details);
  }

  /** For the trace. */
  failed(error: unknown): void {
    this.#tracer?.failed(error);
  }

  #noteOf(impostor: SimulatedProcess, what: string, details?: unknown): void {
    this.hash.note(this.#code(what));
    this.#tracer?.noteOf(impostor, what, details);
  }

  handle(event: NodeEvent): void {
    if (event.type === "deliver") return this.#deliver(event);
    const { process } = event;
    if (!process.alive) return;
    if (event.type === "turn") {
      process.turnIsDue = false;
      if (!process.paused) this.#run(process);
      return;
    }
    this.count(event.type, process.index);
    switch (event.type) {
      case "tick":
        this.at(this.#now + process.tickUs, event);
        process.tick();
        break;
      case "written":
        if (!this.#endWrite(process)) return;
        break;
      case "load":
        process.put({ type: "loaded", entries: process.disk.read(event.after, event.through, LOADED_AT_ONCE_BYTES) });
        break;
      case "serve": {
        const { after, through, maxBytes } = event.facts;
        process.put({ type: "served", request: event.facts, entries: process.disk.read(after, through, maxBytes) });
        break;
      }
      case "input":
        process.put(event.input);
        break;
      case "snapshot": {
        const { input, next } = process.snapshots.carryOut(event.step);
        if (next !== undefined) this.#later(process, next);
        if (input === undefined) return;
        process.put(input);
        break;
      }
    }
    this.touch(process);
  }

  /** An event, of which there is a trace. */
  count(what: string, index: number): void {
    if (!what.startsWith("snapshot")) this.counts.events += 1; // they come by the hundred, and are not what a run is about
    this.hash.note(this.#code(what) + index * 64);
    this.hash.note(this.#now);
  }

  #deliver({ to, from, message, traced }: Extract<NodeEvent, { readonly type: "deliver" }>): void {
    if (from.impostor && !from.alive) return this.#tracer?.received(to, traced, from, message, "forgotten");
    const process = this.#listener(to);
    if (process === undefined) return this.#tracer?.received(to, traced, from, message, "dead");
    this.count(message.type, to);
    const accepted = process.receive(from, this.settings.encoded ? messageCodec.decode(messageCodec.encode(message)) : message);
    this.#tracer?.received(process, traced, from, message, accepted ? "accepted" : "refused");
    if (accepted) this.touch(process);
    else this.counts.refused += 1;
  }

  /** Who answers at the address of a node. */
  #listener(index: number): SimulatedProcess | undefined {
    const { impostor } = this;
    const process = this.processAt(index);
    return impostor?.index === index && (process === undefined || this.#prng.chance(0.5)) ? impostor : process;
  }

  #newProcess(node: SimulatedNode, disk: SimulatedDisk, observers: readonly ClusterObserver[], how: "started" | "copied"): SimulatedProcess {
    const { id, index, tickUs } = node;
    const nonce = this.#prng.below(2 ** 32);
    const impostor = disk !== node.disk;
    this.counts.starts += 1;
    const random = split(this.#prng);
    return new SimulatedProcess({
      node: id,
      index,
      disk,
      nonce,
      options: this.options,
      random,
      tickUs,
      observers,
      how,
      impostor,
      tracer: this.#tracer,
    });
  }

  #begin(process: SimulatedProcess): void {
    this.at(this.#now + this.#prng.below(process.tickUs), { type: "tick", process });
  }

  #stop(process: SimulatedProcess, fenced: boolean): void {
    const node = this.node(process.index);
    process.alive = false;
    node.process = undefined;
    this.note(process.index, fenced ? "fenced" : "crash");
    if (this.leader === process) this.leader = undefined;
    this.#tracer?.acts(process);
    const written = process.disk.cutPower();
    this.#tracer?.writeEnded(process, "cut", written);
    if (written) for (const observer of this.#observers) observer.written(process);
    this.#tracer?.rests();
    for (const observer of this.#observers) observer.stopped(process);
    this.#host?.stopped(process, fenced);
    for (const { process: peer } of this.nodes) {
      if (peer === undefined || !this.network.isOpen(process.index, peer.index) || !peer.believes(process)) continue;
      if (!this.#prng.chance(this.settings.faults.told)) continue;
      const input: TurnInput = { type: "connection-lost", peer: process.node, boot: process.boot };
      this.at(this.#now + this.#prng.below(TOLD_WITHIN_US), { type: "input", process: peer, input });
    }
  }

  /** @returns false if there is nobody left to tell. */
  #endWrite(process: SimulatedProcess): boolean {
    const { disk } = process;
    if (disk.failing && !process.impostor) this.#host?.writeFailed(this.node(process.index));
    const before = disk.image;
    this.#tracer?.acts(process);
    const ok = disk.end();
    this.#tracer?.writeEnded(process, ok ? "done" : "failed", disk.image !== before);
    if (disk.image !== before && !process.impostor) for (const observer of this.#observers) observer.written(process);
    this.#tracer?.rests();
    process.put(ok ? { type: "written" } : { type: "write-failed", reason: "injected" });
    return process.alive;
  }

  #run(process: SimulatedProcess): void {
    this.#tracer?.acts(process);
    const actions = process.turn.run(this.#now / 1000);
    this.counts.turns += 1;
    this.#tracer?.turned(process, actions);
    if (!process.impostor) for (const observer of this.#observers) observer.turned(process, actions);
    for (const { to, message } of actions.sends) this.#send(process, to, message);
    if (actions.write !== undefined) {
      const endsAt = process.disk.begin(actions.write, this.#now);
      this.#tracer?.writeBegun(process, actions.write, endsAt);
      this.at(endsAt, { type: "written", process });
    }
    if (actions.load !== undefined) {
      const { from, through } = actions.load;
      this.at(this.#now + process.disk.readDelay(), { type: "load", process, after: from - 1, through });
    }
    if (actions.capture !== undefined) this.#later(process, process.snapshots.captured(actions.capture));
    for (const step of actions.snapshots) this.#later(process, step);
    for (const facts of actions.serve) this.at(this.#now + process.disk.readDelay(), { type: "serve", process, facts });
    this.#tracer?.carriedOut(process, actions);
    if (!process.impostor) this.#tellHost(process, actions);
    if (actions.fence !== undefined) {
      if (process === this.impostor) return this.endImpostor();
      return this.#stop(process, true);
    }
    if (process.turn.hasWork && !process.turnIsDue) {
      process.turnIsDue = true;
      this.at(this.#now + 1, { type: "turn", process });
    }
  }

  /** After all that was begun before. */
  #later(process: SimulatedProcess, step: SnapshotStep): void {
    const { snapshots, disk } = process;
    snapshots.busyUntil = Math.max(snapshots.busyUntil, this.#now) + disk.readDelay();
    this.at(snapshots.busyUntil, { type: "snapshot", process, step });
  }

  #tellHost(process: SimulatedProcess, { settled, answered, leadership, events }: Actions): void {
    for (const event of events) if (event.type === "role" && event.role === "candidate") this.counts.campaigns += 1;
    if (leadership !== undefined) this.#onLeadership(process, leadership);
    if (settled.length > 0) this.#host?.settled(process, settled);
    if (answered.length > 0) this.#host?.answered(process, answered);
  }

  #onLeadership(process: SimulatedProcess, leadership: Leadership): void {
    process.leads = leadership.role === "leader" ? leadership.epoch : undefined;
    if (leadership.role !== "leader") {
      if (this.leader === process) this.leader = undefined;
      return;
    }
    this.counts.reigns += 1;
    this.leader = process;
  }

  #send(process: SimulatedProcess, to: NodeId, message: PaxosMessage): void {
    const index = to - 1;
    if (index < 0 || index >= this.nodes.length || index === process.index) {
      this.#tracer?.sent(process, to, message, { type: "nowhere" });
      return;
    }
    const arrivals = this.network.send(this.#now, process.index, index, bytesOf(message));
    const traced = this.#tracer?.sent(process, to, message, this.#fateOf(process.index, index, arrivals)) ?? 0;
    for (const at of arrivals) this.at(at, { type: "deliver", to: index, from: process, message, traced });
  }

  #fateOf(from: number, to: number, atUs: Arrivals): MessageFate {
    if (atUs.length > 0) return { type: "arrives", atUs };
    return { type: this.network.isCut(from, to) ? "cut" : "lost" };
  }

  /** A number for a word, the same in each run: they are given out in the order of first use. */
  #code(word: string): number {
    let code = this.#codes.get(word);
    if (code === undefined) {
      code = this.#codes.size;
      this.#codes.set(word, code);
    }
    return code;
  }
}

function storageIdOf(index: number): string {
  return (index + 1).toString(16).padStart(32, "0");
}

function split(prng: Prng): Prng {
  return createPrng(prng.below(2 ** 32));
}

const MESSAGE_BYTES = 60;

/** About. The only look that is taken into a message. */
function bytesOf(message: PaxosMessage): number {
  let bytes = MESSAGE_BYTES;
  if ("bytes" in message) bytes += message.bytes?.length ?? 0;
  if ("entries" in message) for (const { record } of message.entries) bytes += record.length;
  return bytes;
}
