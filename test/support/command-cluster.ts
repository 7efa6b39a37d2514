/**
 * Three nodes for random commands, and what is known of them by someone who sees everything: which entries are decided, what became of proposals, what reads promised. `check`
 * compares the two after each command; the messages are checked as they leave.
 */
import type { NodeId, Slot } from "../../src/base/ids.ts";
import { InvariantViolation, invariant } from "../../src/base/invariant.ts";
import { compareBallots, sameBallot } from "../../src/paxos/core/ballot.ts";
import type { RequestNumber } from "../../src/paxos/core/effects.ts";
import type { Entry } from "../../src/paxos/core/entry.ts";
import type { CoreOptions } from "../../src/paxos/core/options.ts";
import type { Actions } from "../../src/paxos/turn.ts";
import { type ClusterNode, PaxosCluster, type Waiting } from "./paxos-cluster.ts";
import { describe, entryText, messageText } from "./paxos-text.ts";

const NODES = 3;
const QUORUM = 2;
/** Many times what an election takes, backed off and all. */
const RECOVERY_TICKS = 400;
/** Copies of messages that may still arrive: few, so that each of them does. */
const LATE_MAX = 8;
const HEARTBEATS: ReadonlySet<string> = new Set(["heartbeat", "heartbeat-reply"]);
const CAMPAIGN: ReadonlySet<string> = new Set([...HEARTBEATS, "prepare", "promise"]);
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

export class CommandCluster {
  readonly #cluster: PaxosCluster;
  readonly #late: Waiting[] = [];
  #requests = 0;
  /** `chosen[0]` is slot 1: what anyone has known to be decided. */
  readonly #chosen: Entry[] = [];
  readonly #valuesChosen = new Set<string>();
  /** Proposals that were said not to be applied. */
  readonly #refused = new Set<string>();
  /** What a read must cover: all that anyone knew to be decided when it was asked. */
  readonly #readFloors = new Map<number, number>();
  /** By process, and by disk: what never goes down. */
  readonly #decided = new Map<string, number>();
  readonly #promised = new Map<NodeId, ClusterNode["disk"]["image"]["promised"]>();

  constructor(options: Partial<CoreOptions>) {
    this.#cluster = new PaxosCluster({
      nodes: NODES,
      options,
      observer: {
        sent: (waiting) => this.#checkVote(waiting),
        turned: (node, actions) => this.#checkAnswers(node, actions),
      },
    });
  }

  deliver(at: number): void {
    const { wires } = this.#cluster;
    for (const waiting of wires.splice(at % Math.max(1, wires.length), 1)) this.#cluster.deliver(waiting);
  }

  /** Messages that wait now, `count` of them, `stride` apart. */
  shuffle(count: number, stride: number): void {
    for (let delivered = 0; delivered < count; delivered++) this.deliver(delivered * stride);
  }

  drop(at: number): void {
    const { wires } = this.#cluster;
    wires.splice(at % Math.max(1, wires.length), 1);
  }

  duplicate(at: number): void {
    const { wires } = this.#cluster;
    for (const waiting of picked(wires, at)) this.#cluster.deliver(waiting);
  }

  /** A copy stays somewhere in the network, for hours perhaps. */
  remember(at: number): void {
    this.#late.push(...picked(this.#cluster.wires, at));
    if (this.#late.length > LATE_MAX) this.#late.shift();
  }

  /** One of those copies arrives, and may do so again. */
  recall(at: number): void {
    for (const waiting of picked(this.#late, at)) this.#cluster.deliver(waiting);
  }

  /** A tick, and heartbeats alone overtake everything else. */
  pulse(id: number): void {
    this.#cluster.tick(this.#node(id));
    this.#deliverOnly(HEARTBEATS);
  }

  /** Time passes until somebody leads anew; what the reign is to begin with is still under way. */
  elect(): void {
    const leads = ({ turn }: ClusterNode): boolean => turn?.replica.leading !== undefined;
    const before = this.#cluster.nodes.filter(leads);
    for (let rounds = 0; rounds < 30; rounds++) {
      for (const node of this.#cluster.nodes) {
        this.#cluster.tick(node);
        this.#cluster.persist(node);
      }
      this.#deliverOnly(CAMPAIGN);
      if (this.#cluster.nodes.some((node) => leads(node) && !before.includes(node))) return;
    }
  }

  /** Of these types, and the answers. */
  #deliverOnly(types: ReadonlySet<string>): void {
    for (let rounds = 0; rounds < 2; rounds++) {
      const { wires } = this.#cluster;
      const chosen = wires.filter(({ message }) => types.has(message.type));
      this.#cluster.wires = wires.filter((waiting) => !chosen.includes(waiting));
      for (const waiting of chosen) this.#cluster.deliver(waiting);
    }
  }

  tick(id: number, count: number): void {
    for (let ticks = 0; ticks < count; ticks++) this.#cluster.tick(this.#node(id));
  }

  settle(count: number): void {
    for (let ticks = 0; ticks < count; ticks++) this.#cluster.settle();
  }

  persist(id: number): void {
    this.#cluster.persist(this.#node(id));
  }

  crash(id: number, write: "lost" | "kept"): void {
    this.#cluster.crash(this.#node(id), write);
  }

  restart(id: number): void {
    const node = this.#node(id);
    if (node.turn === undefined) this.#cluster.start(node);
  }

  isolate(id: number): void {
    for (const { id: other } of this.#cluster.nodes) {
      this.#cluster.cut(id as NodeId, other);
      this.#cluster.cut(other, id as NodeId);
    }
  }

  heal(): void {
    this.#cluster.heal();
  }

  /** A value that nobody proposed before: its request's number. */
  propose(id: number): void {
    this.#requests += 1;
    this.#cluster.put(this.#leader(id), { type: "propose", id: this.#requests as RequestNumber, payload: ENCODER.encode(`${this.#requests}`) });
  }

  /** At a node, or at one that leads. */
  read(id: number, at: "node" | "leader"): void {
    this.#requests += 1;
    this.#readFloors.set(this.#requests, this.#chosen.length);
    this.#cluster.put(at === "node" ? this.#node(id) : this.#leader(id), { type: "read", id: this.#requests as RequestNumber });
  }

  /** One that leads, or believes so; the node itself if none does. */
  #leader(id: number): ClusterNode {
    const leaders = this.#cluster.nodes.filter(({ turn }) => turn?.replica.leading !== undefined);
    return picked(leaders, id)[0] ?? this.#node(id);
  }

  /** At the end: with every node up and every link healed, somebody leads, and everyone has everything. Then a proposal goes through, with nothing else to push it. */
  recover(): void {
    this.heal();
    for (const { id } of this.#cluster.nodes) this.restart(id);
    this.#wait("a healed cluster comes to rest", () => this.#isCalm());
    const before = this.#chosen.length;
    this.propose(1);
    this.#wait("a healed cluster decides", () => this.#chosen.length > before && this.#isCalm());
  }

  #wait(claim: string, isThere: () => boolean): void {
    for (let ticks = 0; ticks < RECOVERY_TICKS; ticks++) {
      this.#cluster.settle();
      this.check();
      if (isThere()) return;
    }
    throw new InvariantViolation(claim, { nodes: this.#cluster.nodes.map(describe) });
  }

  /** One leads, all are happy with it, and all have applied whatever is decided. */
  #isCalm(): boolean {
    const { nodes } = this.#cluster;
    const views = nodes.map(({ turn }) => turn?.replica.inspect());
    const oneLeads = views.filter((view) => view?.role === "leader").length === 1;
    return oneLeads && views.every((view) => view?.happy) && nodes.every(({ turn }) => turn?.appliedThrough === this.#chosen.length);
  }

  /** After each command. A broken rule throws. */
  check(): void {
    for (const node of this.#cluster.nodes) {
      const { turn, disk } = node;
      if (turn !== undefined) this.#checkDecided(node, `process ${node.id}.${disk.boot}`, turn.replica.decidedThrough);
      this.#checkDecided(node, `disk ${node.id}`, disk.image.decidedThrough);
      invariant((turn?.appliedThrough ?? 0) <= disk.image.last, "what is applied is on this disk (W7)", { node: node.id, last: disk.image.last });
      const promised = this.#promised.get(node.id) ?? disk.image.promised;
      invariant(compareBallots(disk.image.promised, promised) >= 0, "a promise on a disk never goes down", { node: node.id });
      this.#promised.set(node.id, disk.image.promised);
    }
  }

  /** By the chain, the last entry stands for all before it. */
  #checkDecided(node: ClusterNode, owner: string, through: Slot): void {
    invariant(through >= (this.#decided.get(owner) ?? 0), "what is decided stays so", { owner, through });
    this.#decided.set(owner, through);
    for (let at = this.#chosen.length + 1; at <= through; at++) this.#choose(entryOf(node, at));
    const entry = entryOf(node, through);
    const chosen = this.#chosen[through - 1];
    const agrees = entry.chain === chosen?.chain;
    invariant(agrees, "nodes agree on what is decided", { owner, has: entryText(entry), chosen: chosen && entryText(chosen) });
  }

  #choose(entry: Entry): void {
    const copies = this.#cluster.nodes.filter(({ disk }) => disk.entries[entry.slot - 1]?.chain === entry.chain).length;
    invariant(copies >= QUORUM, "what is decided is on a majority of disks", { entry: entryText(entry), copies });
    this.#chosen.push(entry);
    if (entry.kind !== "app") return;
    const value = DECODER.decode(entry.payload);
    invariant(!this.#refused.has(value), "what was said not to be applied is never decided", { entry: entryText(entry) });
    invariant(!this.#valuesChosen.has(value), "a proposal is decided once", { entry: entryText(entry) });
    this.#valuesChosen.add(value);
  }

  #checkAnswers(node: ClusterNode, { settled, answered, fence }: Actions): void {
    invariant(fence === undefined, "no node fences itself: nothing happened to its disk", { node: node.id, fence });
    const decidedHere = node.turn?.replica.decidedThrough ?? 0;
    if (settled.length > 0 || answered.length > 0) for (let at = this.#chosen.length + 1; at <= decidedHere; at++) this.#choose(entryOf(node, at));
    for (const { id, outcome } of settled) {
      if (outcome.type === "applied") {
        const chosen = this.#chosen[outcome.slot - 1];
        const isThere = chosen !== undefined && DECODER.decode(chosen.payload) === `${id}`;
        invariant(isThere, "what is said to be applied is decided in that slot", { id, slot: outcome.slot, chosen: chosen && entryText(chosen) });
      } else if (outcome.type === "not-applied") {
        invariant(!this.#valuesChosen.has(`${id}`), "what is decided is not said not to be applied", { id, reason: outcome.reason });
        this.#refused.add(`${id}`);
      }
    }
    for (const { id, ok, through = 0 } of answered) {
      const floor = this.#readFloors.get(id) ?? 0;
      invariant(!ok || through >= floor, "a read covers all that was decided before it was asked", { id, through, floor });
      const applied = node.turn?.appliedThrough ?? 0;
      invariant(!ok || applied >= through, "a read is answered once its slot is applied", { id, through, applied });
    }
  }

  /** INV-8: a vote says what its sender's disk holds at that moment. */
  #checkVote({ from, message }: Waiting): void {
    const { image } = this.#node(from).disk;
    switch (message.type) {
      case "promise":
      case "prepare": {
        const kept = compareBallots(image.promised, message.ballot) >= 0 && image.last >= message.last;
        return invariant(kept, "a promise is on the disk when it leaves", { from, says: messageText(message) });
      }
      case "accepted":
        return this.#checkAccepted(from, message);
      case "heartbeat-reply":
        return message.accepted === undefined ? undefined : this.#checkAccepted(from, message.accepted);
      default:
    }
  }

  #checkAccepted(from: NodeId, { ballot, through }: { readonly ballot: ClusterNode["disk"]["image"]["accepted"]; readonly through: Slot }): void {
    const { image } = this.#node(from).disk;
    invariant(sameBallot(image.accepted, ballot), "an acknowledgement is of the reign on the disk", { from, ballot, image });
    invariant(image.last >= through, "what is acknowledged is on the disk", { from, through, last: image.last });
  }

  #node(id: number): ClusterNode {
    const node = this.#cluster.nodes[id - 1];
    invariant(node !== undefined, "a command names a node that there is", { id });
    return node;
  }
}

/** The item that a number means, if there is any. */
function picked<T>(items: readonly T[], at: number): readonly T[] {
  const index = at % Math.max(1, items.length);
  return items.slice(index, index + 1);
}

function entryOf({ turn, disk }: ClusterNode, at: number): Entry {
  const entry = turn?.replica.cachedEntry(at as Slot) ?? disk.entries[at - 1];
  invariant(entry !== undefined, "what is decided is in memory or on the disk", { at });
  return entry;
}
