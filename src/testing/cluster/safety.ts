/**
 * Judges a simulated cluster after every event (protocol, 3.13): what was chosen is reckoned from disks and acknowledgements, apart from the core, and everything
 * that a node says, applies or answers is held against it. Each look costs a few comparisons, however long the logs are: it happens hundreds of millions of times.
 */
import type { NodeId, Slot } from "../../base/ids.ts";
import { type Ballot, ballotText, sameBallot } from "../../paxos/core/ballot.ts";
import type { Configuration } from "../../paxos/core/configuration.ts";
import type { CoreEvent, RequestNumber } from "../../paxos/core/effects.ts";
import type { Entry } from "../../paxos/core/entry.ts";
import type { Image, PersistBatch } from "../../paxos/core/image.ts";
import type { PaxosMessage } from "../../paxos/core/messages.ts";
import type { CoreOptions } from "../../paxos/core/options.ts";
import type { ReplicaView } from "../../paxos/core/replica.ts";
import type { LogPoint, SnapshotMeta } from "../../paxos/core/snapshot.ts";
import type { Actions } from "../../paxos/turn.ts";
import { type ClusterObserver, type ObservedDisk, type ObservedProcess, Violation } from "./observed.ts";
import { ask, assertApplied, assertFresh, assertSkipped, type Callers, createCallers, Proposals } from "./safety-clients.ts";
import { assertAcceptedDurable, assertPromiseDurable, assertReplyDurable, assertRises, assertStateDurable, type DiskHistory } from "./safety-disk.ts";
import { assertSizes } from "./safety-limits.ts";
import { ancestorAt, entryText, hasEntry, type LogNode, LogTree } from "./safety-log.ts";
import { ChosenLog, type Reign } from "./safety-votes.ts";

/** What is known of one life of a node. */
interface Life {
  readonly process: ObservedProcess;
  readonly disk: DiskHistory;
  readonly callers: Callers;
  /** End of its log in memory. */
  log: LogNode;
  /** End of the log once everything is written that was handed out. */
  handedOut: LogNode;
  decidedThrough: Slot;
  /** The newest that it led, and whether it still does. */
  reign: Reign | undefined;
  leads: boolean;
}

export interface SafetyOptions {
  /** Of the nodes: how much they may hold. */
  readonly core: CoreOptions;
  /** Ballot rounds that one fault may cost. @defaultValue 20 */
  readonly roundsPerFault?: number | undefined;
}

export class SafetyChecker implements ClusterObserver {
  readonly #options: SafetyOptions;
  readonly #tree: LogTree;
  readonly #chosen: ChosenLog;
  readonly #proposals = new Proposals();
  readonly #lives = new Map<ObservedProcess, Life>();
  /** A copied disk is a disk of its own, whatever name it bears. */
  readonly #disks = new Map<ObservedDisk, DiskHistory>();
  readonly #mayFence = new Set<NodeId>();
  /** The highest slot that any node has known to be decided. */
  #decidedThrough: Slot;
  #highestRound = 0;
  #begun = false;

  constructor(options: SafetyOptions) {
    this.#options = options;
    this.#tree = new LogTree((entry) => this.#proposals.onEntry(entry));
    this.#chosen = new ChosenLog(this.#tree, (entry) => this.#proposals.onChosen(entry));
    this.#decidedThrough = this.#tree.root.slot;
  }

  /** The last slot that is chosen, whoever knows. */
  get chosenThrough(): Slot {
    return this.#chosen.tip.slot;
  }

  /** `payload`, which is like no other, is proposed to `process`. To be called before the turn that takes it. */
  proposed(process: ObservedProcess, id: RequestNumber, payload: Uint8Array): void {
    this.#proposals.proposed(this.#life(process).callers, id, payload);
  }

  /** The disk of `node` was damaged: it may stop for that, and what its disk takes back this time is no violation. */
  expectFence(node: NodeId): void {
    this.#mayFence.add(node);
    for (const disk of this.#disks.values()) if (disk.node === node) disk.damaged = true;
  }

  started(process: ObservedProcess): void {
    const disk = this.#openDisk(process);
    const { decidedThrough } = process.disk.image;
    const life: Life = {
      process,
      disk,
      callers: createCallers(process),
      log: disk.log,
      handedOut: disk.log,
      decidedThrough,
      reign: undefined,
      leads: false,
    };
    this.#lives.set(process, life);
    this.#assertDecided(life, decidedThrough);
  }

  written(process: ObservedProcess): void {
    const life = this.#life(process);
    const { image } = process.disk;
    this.#rememberDisk(life.disk, process);
    // The leader's own vote is what its disk holds, and nobody is told of it.
    if (life.leads && life.reign !== undefined && sameBallot(image.accepted, life.reign.ballot) && hasEntry(life.reign.tip, life.disk.log)) {
      this.#chosen.vote(life.reign, process.node, process.storageId, image.last);
    }
  }

  turned(process: ObservedProcess, actions: Actions): void {
    const life = this.#life(process);
    if (actions.fence !== undefined) {
      if (!this.#mayFence.has(process.node))
        throw new Violation("fence", "a node stops only where its disk was damaged", { node: process.node, reason: actions.fence });
      for (const settled of actions.settled) this.#proposals.settled(life.callers, settled, this.#chosen);
      return;
    }
    const view = process.turn.replica.inspect();
    this.#followLog(life, view.image);
    for (const event of actions.events) this.#onEvent(life, event, view);
    if (life.leads && life.reign !== undefined) this.#chosen.extend(life.reign, life.log);
    if (actions.write !== undefined) this.#onWrite(life, actions.write);
    for (const { message } of actions.sends) this.#onSend(life, message);
    if (actions.installed !== undefined) this.#onInstalled(life, actions.installed);
    if (view.role !== "leader") life.leads = false;
    else this.#assertLeads(life, view);
    this.#assertDecided(life, view.image.decidedThrough);
    assertSkipped(life.callers, process.turn.appliedThrough, this.#chosen);
    if (life.callers.applied > view.image.decidedThrough)
      throw new Violation("apply-order", "only what is known to be decided is applied", { node: process.node, applied: life.callers.applied });
    for (const settled of actions.settled) this.#proposals.settled(life.callers, settled, this.#chosen);
    for (const answered of actions.answered) assertFresh(life.callers, answered, life.reign);
    assertSizes(process.node, view.sizes, this.#options.core);
    if (view.image.promised.round > this.#highestRound) this.#highestRound = view.image.promised.round;
  }

  applied(process: ObservedProcess, at: Slot, payload: Uint8Array): void {
    assertApplied(this.#life(process).callers, at, payload, this.#chosen);
  }

  asked(process: ObservedProcess, id: RequestNumber, kind: "read" | "confirm"): void {
    ask(this.#life(process).callers, id, { kind, decidedThrough: this.#decidedThrough, ballot: this.#chosen.newest?.ballot });
  }

  stopped(process: ObservedProcess): void {
    this.#lives.delete(process);
  }

  /** Ballots grow with what goes wrong, and not with time. */
  checkBallots(faults: number): void {
    const allowed = (this.#options.roundsPerFault ?? 20) * (faults + 1);
    if (this.#highestRound > allowed)
      throw new Violation("ballot-growth", "rounds grow with the number of faults only", { round: this.#highestRound, allowed, faults });
  }

  /** After a calm end: all of `processes` know the same, and as much as anyone ever did. */
  checkConvergence(processes: readonly ObservedProcess[]): void {
    for (const { node, turn } of processes) {
      const { image } = turn.replica.inspect();
      if (image.decidedThrough !== this.#decidedThrough)
        throw new Violation("convergence", "everybody knows what is decided", {
          node,
          decided: image.decidedThrough,
          elsewhere: this.#decidedThrough,
        });
      const tip = this.#tree.known(image.last, image.lastOrigin, image.lastChain, node);
      const decided = tip === undefined ? undefined : ancestorAt(tip, image.decidedThrough);
      if (decided === undefined || decided !== this.#chosen.at(image.decidedThrough))
        throw new Violation("convergence", "everybody has the same log", { node, decided: decided === undefined ? "unknown" : entryText(decided) });
    }
  }

  #life(process: ObservedProcess): Life {
    const life = this.#lives.get(process);
    if (life === undefined) throw new Error(`process ${process.boot} of node ${process.node} was not announced, or was stopped`);
    return life;
  }

  #openDisk(process: ObservedProcess): DiskHistory {
    const { node, storageId, boot } = process;
    const { image } = process.disk;
    const known = this.#disks.get(process.disk);
    if (known !== undefined) {
      if (boot <= known.boot && !known.damaged)
        throw new Violation("mono", "every process of a disk has a higher number", { node, boot, before: known.boot });
      known.boot = boot;
      this.#rememberDisk(known, process);
      return known;
    }
    const disk: DiskHistory = { node, storageId, boot, image, before: image, log: this.#readLog(process), damaged: false };
    this.#disks.set(process.disk, disk);
    assertRises(disk, image);
    if (!this.#begun) {
      this.#begun = true;
      this.#chosen.genesis(image.accepted, disk.log, image.decidedThrough, image.configuration);
    }
    return disk;
  }

  /** A new disk's whole log: once in its life. */
  #readLog({ node, disk }: ObservedProcess): LogNode {
    const { compactedThrough, compactedOrigin, compactedChain } = disk.image;
    let log = this.#tree.known(compactedThrough, compactedOrigin, compactedChain, node) ?? this.#tree.root;
    while (log.slot < disk.image.last) {
      const entry = disk.entry((log.slot + 1) as Slot);
      if (entry === undefined) throw new Violation("prefix", "a log has no holes", { node, after: entryText(log), last: disk.image.last });
      log = this.#tree.see(entry, log, node);
    }
    return log;
  }

  #rememberDisk(history: DiskHistory, { node, disk }: ObservedProcess): void {
    const { image } = disk;
    if (image === history.image) return;
    if (!history.damaged) assertRises(history, image);
    history.damaged = false;
    history.before = history.image;
    history.image = image;
    const { last } = image;
    const log = this.#tree.known(last, image.lastOrigin, image.lastChain, node);
    const there = last > image.compactedThrough ? disk.entry(last)?.chain : image.lastChain;
    if (log === undefined || there !== image.lastChain)
      throw new Violation("prefix", "a disk holds the log that its image names", { node, last, has: there, image: image.lastChain });
    history.log = log;
  }

  /** Finds the process's log in the tree, and adds what it appended in this turn: that is not decided, so it is in memory. */
  #followLog(life: Life, image: Image): void {
    const { last, lastOrigin, lastChain } = image;
    if (life.log.slot === last && life.log.chain === lastChain) return;
    const { node, turn } = life.process;
    const known = this.#tree.known(last, lastOrigin, lastChain, node);
    if (known !== undefined) {
      life.log = known;
      return;
    }
    const fresh: Entry[] = [];
    let log = this.#tree.root;
    for (let at = last; at > 0; at--) {
      if (at === image.compactedThrough) {
        log = this.#tree.known(at, image.compactedOrigin, image.compactedChain, node) ?? log;
        break;
      }
      const entry = turn.replica.cachedEntry(at);
      if (entry === undefined) throw new Violation("prefix", "what is not decided is in memory", { node, at, last });
      const there = this.#tree.known(entry.slot, entry.origin, entry.chain, node);
      if (there !== undefined) {
        log = there;
        break;
      }
      fresh.push(entry);
    }
    for (let i = fresh.length - 1; i >= 0; i--) {
      const entry = fresh[i];
      if (entry !== undefined) log = this.#tree.see(entry, log, node);
    }
    if (log.slot !== last || log.chain !== lastChain)
      throw new Violation("prefix", "an image names the end of the log", { node, last, has: entryText(log) });
    life.log = log;
  }

  #onEvent(life: Life, event: CoreEvent, { image }: ReplicaView): void {
    if (event.type !== "role") return;
    life.leads = event.role === "leader";
    if (!life.leads) {
      if (life.reign !== undefined && sameBallot(image.accepted, life.reign.ballot) && hasEntry(life.log, life.reign.tip)) life.reign.tip = life.log;
      return;
    }
    life.reign = this.#chosen.begin(event.ballot, life.process, life.log, image.configuration);
  }

  #assertLeads({ process, reign, leads }: Life, { ballot }: ReplicaView): void {
    if (!leads || reign === undefined || !sameBallot(reign.ballot, ballot))
      throw new Violation("one-leader-per-ballot", "who leads has said so", { node: process.node, ballot: ballot && ballotText(ballot) });
  }

  #onWrite(life: Life, { image, ops }: PersistBatch): void {
    const { node } = life.process;
    let log = life.handedOut;
    for (const op of ops) {
      if (op.type === "append") {
        for (const entry of op.entries) log = this.#tree.see(entry, log, node);
        continue;
      }
      if (op.type === "install") {
        const point = this.#assertChosen(node, op.point);
        if (op.keepTail && !hasEntry(log, point))
          throw new Violation("prefix", "what follows a snapshot is kept only in a log that has its entry", {
            node,
            at: op.point.slot,
            has: entryText(log),
          });
        if (!op.keepTail && hasEntry(log, point) && log.slot > point.slot)
          throw new Violation("prefix", "what follows a snapshot is kept", { node, at: op.point.slot, has: entryText(log) });
        if (!op.keepTail) log = point;
        continue;
      }
      if (op.from <= life.disk.image.decidedThrough)
        throw new Violation("agreement", "what is decided is never removed", { node, from: op.from, decidedThrough: life.disk.image.decidedThrough });
      if (op.last !== log.slot) throw new Violation("prefix", "a truncation names the end of the log", { node, says: op.last, has: entryText(log) });
      log = ancestorAt(log, op.from - 1);
    }
    if (image.last !== log.slot || image.lastChain !== log.chain)
      throw new Violation("prefix", "the image of a write names the log after it", { node, last: image.last, has: entryText(log) });
    life.handedOut = log;
  }

  /** The machine is now as of there: what it was not given is in what it was given. */
  #onInstalled({ process, callers }: Life, meta: SnapshotMeta): void {
    const { node, disk } = process;
    this.#assertChosen(node, meta);
    if (meta.slot < callers.applied)
      throw new Violation("apply-order", "a machine never goes back", { node, to: meta.slot, applied: callers.applied });
    if (disk.image.compactedThrough > meta.slot || disk.image.decidedThrough < meta.slot)
      throw new Violation("apply-order", "a machine becomes what its own disk has as its beginning", {
        node,
        at: meta.slot,
        begins: disk.image.compactedThrough,
      });
    callers.applied = meta.slot;
  }

  /** A snapshot, or a log's beginning, is of what was chosen, configuration and all. */
  #assertChosen(node: NodeId, point: LogPoint & { readonly configuration?: Configuration }): LogNode {
    const chosen = this.#chosen.at(point.slot);
    if (chosen === undefined || !sameBallot(chosen.origin, point.origin) || chosen.chain !== point.chain)
      throw new Violation("agreement", "a snapshot is of what is chosen", { node, point: entryText(point), chosen: chosen && entryText(chosen) });
    if (point.configuration !== undefined && point.configuration.version !== this.#chosen.configurationAt(point.slot).version)
      throw new Violation("config-lemma", "a snapshot has the configuration of its slot", {
        node,
        point: entryText(point),
        version: point.configuration.version,
      });
    return chosen;
  }

  #onSend(life: Life, message: PaxosMessage): void {
    const { process } = life;
    switch (message.type) {
      case "heartbeat-reply":
        assertReplyDurable(process, life.disk, message);
        if (message.accepted !== undefined) this.#onAccepted(life, message.accepted);
        return;
      case "accepted":
        this.#onAccepted(life, message);
        return;
      case "promise":
        assertPromiseDurable(process, message.type, message.ballot);
        assertStateDurable(process, life.disk, this.#chosen, message);
        if (message.tail !== undefined) this.#entriesSent(life, message.tail.after, message.tail.entries);
        return;
      case "sync-request":
        assertPromiseDurable(process, message.type, message.ballot);
        assertStateDurable(process, life.disk, this.#chosen, message);
        return;
      case "prepare":
        assertPromiseDurable(process, message.type, message.ballot);
        return;
      case "sync": {
        const reign = this.#reignOf(life, message.type, message.ballot);
        const base = this.#entriesSent(life, message.base, message.entries, reign);
        if (base !== undefined && !sameBallot(base.origin, message.baseOrigin))
          throw new Violation("prefix", "a sync names the origin before its entries", { node: process.node, base: entryText(base) });
        return;
      }
      case "accept": {
        const reign = this.#reignOf(life, message.type, message.ballot);
        const base = this.#entriesSent(life, message.base, message.entries, reign);
        if (base !== undefined && base.chain !== message.baseChain)
          throw new Violation("prefix", "an accept names the chain before its entries", { node: process.node, base: entryText(base) });
        return;
      }
      case "fetch-reply":
        this.#entriesSent(life, message.after, message.entries);
        if (message.snapshot !== undefined) this.#assertChosen(process.node, message.snapshot);
        return;
      default: // nothing in the others can be held against a disk or a log
    }
  }

  #onAccepted(life: Life, claim: { readonly ballot: Ballot; readonly through: Slot; readonly cut: number }): void {
    const reign = this.#chosen.reign(claim.ballot);
    assertAcceptedDurable(life.process, reign, claim);
    this.#chosen.vote(reign, life.process.node, life.process.storageId, claim.through);
  }

  #reignOf({ process, reign }: Life, message: string, ballot: Ballot): Reign {
    assertPromiseDurable(process, message, ballot);
    if (reign === undefined || !sameBallot(reign.ballot, ballot))
      throw new Violation("one-leader-per-ballot", `only its leader sends a ${message} of a ballot`, {
        node: process.node,
        ballot: ballotText(ballot),
      });
    return reign;
  }

  /** Entries that leave are known, and follow each other. @returns the one before them, where that can be told. */
  #entriesSent({ process }: Life, after: Slot, entries: readonly Entry[], reign?: Reign): LogNode | undefined {
    const { node } = process;
    let before: LogNode | undefined;
    for (const entry of entries) {
      const sent = this.#tree.known(entry.slot, entry.origin, entry.chain, node);
      if (sent === undefined) throw new Violation("prefix", "what is sent is in a log", { node, entry: entryText(entry) });
      if (before === undefined ? sent.parent.slot !== after : sent.parent !== before)
        throw new Violation("prefix", "entries that are sent follow each other", { node, entry: entryText(entry), after });
      before = sent;
    }
    if (reign === undefined) return undefined;
    if (before !== undefined && !hasEntry(reign.tip, before))
      throw new Violation("prefix", "a leader sends what is in its log", { node, entry: entryText(before), last: entryText(reign.tip) });
    return ancestorAt(reign.tip, after);
  }

  /** Nobody knows more than is chosen, or anything else; and what a process has known once stays in its log. */
  #assertDecided(life: Life, decidedThrough: Slot): void {
    const { node } = life.process;
    if (decidedThrough < life.decidedThrough)
      throw new Violation("mono", "what is known to be decided stays so", { node, before: life.decidedThrough, after: decidedThrough });
    if (decidedThrough > life.log.slot)
      throw new Violation("agreement", "what is decided is in the log", { node, decidedThrough, last: life.log.slot });
    const here = ancestorAt(life.log, decidedThrough);
    const chosen = this.#chosen.at(decidedThrough);
    if (here !== chosen) {
      throw new Violation("agreement", "what a node knows to be decided is chosen", {
        node,
        decided: entryText(here),
        chosen: chosen === undefined ? `through ${entryText(this.#chosen.tip)}` : entryText(chosen),
      });
    }
    life.decidedThrough = decidedThrough;
    if (decidedThrough > this.#decidedThrough) this.#decidedThrough = decidedThrough;
  }
}
