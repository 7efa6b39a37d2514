/**
 * What a node holds in memory, and the few ways in which the rules touch the world. `Replica` has no rule in it: the rules are functions in the files beside this
 * one, each file for one part of the protocol. Durable state is changed through `promised`, `accepted`, `append`, `truncateFrom` and `decidedThrough` alone, and
 * reaches the disk as one image a step (rule W1); a role's own state is changed by that role's functions.
 */

import type { Epoch } from "../../base/epoch.ts";
import { minSlot, type NodeId, type Slot, slot } from "../../base/ids.ts";
import { InvariantViolation } from "../../base/invariant.ts";
import type { Prng } from "../../base/prng.ts";
import type { Ballot } from "./ballot.ts";
import { type Configuration, quorumOf, votersOf } from "./configuration.ts";
import type {
  CoreEvent,
  DiskRoom,
  DropReason,
  FactsToServe,
  ProposalResult,
  ReadResult,
  Recovered,
  RequestNumber,
  SnapshotToPull,
} from "./effects.ts";
import type { Entry } from "./entry.ts";
import { type Image, ImageQueue, keptBy, type PersistOp } from "./image.ts";
import { EntryLog } from "./log.ts";
import type { DiskClaims, LogState, Outgoing, PrepareMessage, ProtocolMessage, RequestId } from "./messages.ts";
import type { CoreOptions } from "./options.ts";
import type { LogPoint, SnapshotMeta } from "./snapshot.ts";

/** Follows `leader`, if it knows one for its promise. `synced` and `match`: this log is the leader's through `match`. */
export interface Follower {
  readonly type: "follower";
  leader: Ballot | undefined;
  synced: boolean;
  match: Slot;
  /** The most that a leader said is decided. */
  hintDecided: Slot;
  /** An answer that waits until memory and disk are the same (rule W2, I3). */
  owed: { readonly type: "promise"; readonly prepare: PrepareMessage } | { readonly type: "sync-request"; readonly fromDecided: boolean } | undefined;
  /** Not before this tick does another SyncRequest leave. */
  syncRequestAt: number;
  /** What was acknowledged last, in this reign. */
  ackedThrough: Slot;
  /** Something came that was here already: say again what is durable. */
  ackDue: boolean;
}

export interface PromiseInfo extends LogState {
  readonly storageId: string;
  readonly boot: number;
  readonly configuration: Configuration;
  readonly compactedThrough: Slot;
  readonly tail?: { readonly after: Slot; readonly entries: readonly Entry[] } | undefined;
}

export interface Candidate {
  readonly type: "candidate";
  readonly ballot: Ballot;
  /** `self`: the own promise is on its way to the disk. `promising`: prepares are out. `recovering`: the best promiser's log is fetched. */
  phase: "self" | "promising" | "recovering";
  readonly promises: Map<NodeId, PromiseInfo>;
  readonly refusals: Set<NodeId>;
  deadline: number;
  recovery: Recovery | undefined;
}

/** Phase 1 is complete; `source` has the log to adopt. */
export interface Recovery {
  readonly source: NodeId;
  readonly info: LogState;
  /** The state of the promiser that knew most to be decided. Its facts are adopted only where the source's log has them. */
  readonly facts: LogState;
  /** This log is the source's through here. */
  agreedThrough: Slot;
  /** What follows, not yet in this log. */
  readonly staged: Entry[];
  pull: Pull | undefined;
}

export interface Pull {
  readonly id: RequestId;
  readonly from: NodeId;
  readonly kind: "facts" | "tail" | "snapshot";
  readonly after: Slot;
  readonly sentAt: number;
}

/** `unpromised`: prepare it. `catchup`: too far behind, it pulls facts. `syncing`: Sync is out. `streaming`: it follows. */
export type PeerState = "unpromised" | "catchup" | "syncing" | "streaming";

export interface Peer {
  readonly id: NodeId;
  state: PeerState;
  /** Its durable log is this leader's through here. */
  match: Slot;
  /** The next slot to send. */
  next: Slot;
  /** What it last said of its log: where Sync begins. */
  info: LogState | undefined;
  boot: number;
  /** Ends and sizes of messages that are not acknowledged, in order. */
  inflight: { readonly through: Slot; readonly bytes: number }[];
  inflightBytes: number;
  /** After a loss: one message at a time, until one is acknowledged. */
  probing: boolean;
  /** The transport's buffer is full. */
  blocked: boolean;
  pausedUntil: number;
  progressAt: number;
  sentDecided: Slot;
  /** Its disk went back in time: not counted in this reign (rule I3). */
  suspect: boolean;
  readAck: number;
  /** Answers to earlier rounds may have been given before it promised. */
  answersFrom: number;
}

export interface Leader {
  readonly type: "leader";
  readonly ballot: Ballot;
  readonly epoch: Epoch;
  /** End of the log at the beginning of this reign, Start counted. */
  readonly floor: Slot;
  /** The same without Start, and whose log it was. */
  readonly adoptedLast: Slot;
  readonly sourceAccepted: Ballot;
  /** Of this reign's Start entry; undefined while a configuration of an earlier reign is undecided. */
  reignSlot: Slot | undefined;
  /** An undecided configuration: nothing is appended after it (rule M3). */
  pendingConfig: Slot | undefined;
  readonly peers: Map<NodeId, Peer>;
  uncommittedBytes: number;
  lastQuorumTick: number;
  lastQuorumMs: number;
  lastDecidedTick: number;
  stuckSince: number | undefined;
  /** With little room on its disk it gives way to a voter that has more, but not before this tick (rule F6). */
  givesWayFrom: number;
  readonly reads: LeaderReads;
}

/** Who asked: this process, or a follower. */
export type ReadTicket =
  | { readonly type: "read"; readonly id: RequestNumber; readonly askedAt: number }
  | { readonly type: "confirm"; readonly id: RequestNumber; readonly askedAt: number }
  | { readonly type: "remote"; readonly to: NodeId; readonly id: RequestId; readonly askedAt: number };

export interface LeaderReads {
  seq: number;
  /** Join the next batch, whose heartbeat has not left. */
  open: ReadTicket[];
  /** In order of `seq`. */
  readonly batches: { readonly seq: number; readonly through: Slot; readonly tickets: readonly ReadTicket[] }[];
}

/** What a peer answered to the newest round it answered. */
export interface PeerAnswer {
  readonly round: number;
  readonly openedAt: number;
  readonly promised: Ballot;
  readonly leader: Ballot | undefined;
  readonly happy: boolean;
  readonly hasRoom: boolean;
  readonly configVersion: number;
  readonly decidedThrough: Slot;
}

export interface Election {
  round: number;
  /** When the rounds that may still be answered were opened. */
  readonly openedAt: Map<number, number>;
  nextRoundAt: number;
  readonly answers: Map<NodeId, PeerAnswer>;
  /** How long answers of a peer take, at most, of late: ticks. */
  readonly answerTicks: Map<NodeId, number>;
  /** After a lost connection: answers to earlier rounds prove nothing. */
  readonly answersFrom: Map<NodeId, number>;
  happy: boolean;
  /** Whether this node, or a voter that it reaches, had a leader when the last round was closed. */
  calm: boolean;
  /** When that last changed, or a promise was made. */
  patientSince: number;
  /** How long a node without calm waits before it campaigns. */
  delay: number;
  maxRound: number;
  cooldownUntil: number;
  backoff: number;
  graceUntil: number;
  graceSince: number;
  graceFor: NodeId | undefined;
  /** Of a follower with undecided entries: since when nothing more is decided, in this reign. */
  stalled: { readonly decidedThrough: Slot; readonly since: number } | undefined;
  /** The connection to the leader was lost: until when, from which round on answers count, and not before when. */
  hint: { readonly until: number; readonly fromRound: number; readonly fireAt: number } | undefined;
}

/** What this node knows of snapshots: its own, and those that it is after (`snapshots.ts`). */
export interface Snapshots {
  /** On this disk, and through entries that the disk knows to be decided. */
  newest: SnapshotMeta | undefined;
  /** On this disk, and not yet that. */
  made: SnapshotMeta | undefined;
  /** Of own snapshots, oldest first: where the log may begin. `appendedBytes` is as of when each was the newest. */
  points: { readonly point: LogPoint; readonly appendedBytes: number }[];
  /** The lowest slot whose snapshot a peer pulls from here. */
  servedFrom: Slot | undefined;
  /** Peers that were asked, and what they have; nothing where they could not help. */
  readonly offers: Map<NodeId, SnapshotMeta | undefined>;
  /** That is being pulled. */
  pulling: SnapshotToPull | undefined;
  /** The log begins after it, in memory; not yet on the disk. */
  installing: SnapshotMeta | undefined;
  /** The log has been compacted, and no snapshot is there to begin with: nothing can be applied, and this node leads nobody (rule S3). */
  missing: boolean;
}

/** A configuration, and what is asked of it at every step. */
interface Electorate {
  readonly configuration: Configuration;
  readonly voters: readonly NodeId[];
  readonly others: readonly NodeId[];
  readonly quorum: number;
}

function electorateOf(configuration: Configuration, self: NodeId): Electorate {
  const others = configuration.members.map(({ id }) => id).filter((id) => id !== self);
  return { configuration, voters: votersOf(configuration), others, quorum: quorumOf(configuration) };
}

export class Replica {
  readonly node: NodeId;
  readonly storageId: string;
  readonly boot: number;
  readonly options: CoreOptions;
  readonly random: Prng;
  readonly images: ImageQueue;
  readonly log: EntryLog;

  /** Ticks since the start of this process. */
  now = 0;
  /** Monotonic, as of this step (rule F5). */
  nowMs = 0;

  promised: Ballot;
  accepted: Ballot;
  cut: number;
  #decidedThrough: Slot;
  #electorate: Electorate;

  role: Follower | Candidate | Leader = newFollower();
  readonly election: Election;
  /** Facts that this follower is pulling. */
  pull: Pull | undefined;
  /** What peers have claimed of their disks, by node (rule I3). */
  readonly claims = new Map<NodeId, DiskClaims>();
  readonly boots = new Map<NodeId, number>();
  /** While it lasts nothing is vouched for: voters that were heard, and the end (rule I4). */
  probation: { readonly until: number; readonly heard: Set<NodeId> } | undefined;
  /** Proposals of this process that have a slot; they survive its reign (rule D4). */
  readonly proposals = new Map<Slot, { readonly id: RequestNumber; readonly origin: Ballot }[]>();
  openProposals = 0;
  /** Reads that were sent on to a leader, by `RequestId.count`. */
  readonly forwarded = new Map<number, { readonly id: RequestNumber; readonly to: NodeId; readonly askedAt: number }>();
  /** That were ever made: numbers the next. */
  requests = 0;
  appliedThrough: Slot;
  /** The last slot that was handed out to be applied. */
  handedOut: Slot;

  readonly snapshots: Snapshots;
  /** Of records, by this process: tells how much came between two moments. */
  appendedBytes = 0;

  /** Of the disk, as the runtime last saw it (rule F6). */
  room: DiskRoom = "enough";
  ops: PersistOp[] = [];
  opsBytes = 0;
  dirty = false;
  /** Since when something is decided that no image says. */
  decidedUnsavedSince: number | undefined;

  sends: Outgoing[] = [];
  proposalResults: ProposalResult[] = [];
  readResults: ReadResult[] = [];
  serve: FactsToServe[] = [];
  pullSnapshot: SnapshotToPull | undefined;
  discardSnapshot: SnapshotMeta | undefined;
  snapshotWanted = false;
  events: CoreEvent[] = [];
  fenced: string | undefined;

  constructor(recovered: Recovered, options: CoreOptions, random: Prng) {
    const { image } = recovered;
    this.node = recovered.node;
    this.storageId = recovered.storageId;
    this.boot = recovered.boot;
    this.options = options;
    this.random = random;
    this.images = new ImageQueue(image);
    this.log = new EntryLog(recovered);
    this.promised = image.promised;
    this.accepted = image.accepted;
    this.cut = image.cut;
    this.#decidedThrough = image.decidedThrough;
    this.#electorate = electorateOf(image.configuration, this.node);
    this.snapshots = newSnapshots(recovered);
    this.appliedThrough = recovered.snapshot?.slot ?? image.compactedThrough;
    this.handedOut = this.appliedThrough;
    this.probation = this.voters.length > 1 ? { until: options.probationTicks, heard: new Set() } : undefined;
    // Rounds begin at a tick of each node's own: nodes that were started together would otherwise campaign together.
    this.election = newElection({
      maxRound: image.promised.round,
      delay: options.electionTicks + random.below(options.electionTicks),
      nextRoundAt: 1 + random.below(options.heartbeatTicks),
    });
  }

  get decidedThrough(): Slot {
    return this.#decidedThrough;
  }

  get configuration(): Configuration {
    return this.#electorate.configuration;
  }

  /** Of the configuration, in order. */
  get voters(): readonly NodeId[] {
    return this.#electorate.voters;
  }

  /** All members but this node, in order. */
  get others(): readonly NodeId[] {
    return this.#electorate.others;
  }

  get quorum(): number {
    return this.#electorate.quorum;
  }

  /** Whether the disk has everything that memory has, but for what is decided. */
  get settled(): boolean {
    return !this.dirty && !this.images.inFlight;
  }

  /** Through here the disk holds what memory holds, whatever of this step is not handed out yet. */
  get storedThrough(): Slot {
    let through = this.images.storedThrough;
    for (const op of this.ops) through = minSlot(through, keptBy(op));
    return through;
  }

  /** Nothing that can wait is taken in: more is on its way to the disk than should be (rule F3), or the disk has no room for it (rule F6). */
  get overfull(): boolean {
    return this.room === "none" || this.images.bytesInFlight + this.opsBytes > this.options.maxUnpersistedBytes;
  }

  /** `advanceDecided` is the only caller. */
  setDecided(through: Slot, configuration: Configuration | undefined): void {
    this.#decidedThrough = through;
    this.decidedUnsavedSince ??= this.now;
    if (configuration !== undefined) this.#electorate = electorateOf(configuration, this.node);
  }

  append(entry: Entry): void {
    if (this.room === "none") throw new InvariantViolation("a disk without room takes no entries (F6)", { slot: entry.slot });
    this.log.append(entry);
    const op = this.ops.at(-1);
    if (op?.type === "append") (op.entries as Entry[]).push(entry);
    else this.ops.push({ type: "append", entries: [entry] });
    this.opsBytes += entry.record.length;
    this.appendedBytes += entry.record.length;
    this.dirty = true;
  }

  /** Removes `from` and everything after it, none of it decided. Proposals stay: they may still be decided elsewhere (rule D4). */
  truncateFrom(from: Slot): void {
    const { last } = this.log;
    if (from > last) return;
    if (from <= this.#decidedThrough)
      throw new InvariantViolation("what is decided is never removed (INV-7)", { from, decidedThrough: this.#decidedThrough });
    this.log.truncateFrom(from);
    this.ops.push({ type: "truncate", from, last });
    this.dirty = true;
    if (this.role.type === "follower" && this.role.match >= from) {
      this.role.synced = false;
      this.role.match = slot(0);
    }
  }

  image(): Image {
    const { log } = this;
    return {
      promised: this.promised,
      accepted: this.accepted,
      last: log.last,
      lastOrigin: log.lastOrigin,
      lastChain: log.lastChain,
      decidedThrough: this.#decidedThrough,
      configuration: this.configuration,
      cut: this.cut,
      compactedThrough: log.begin.slot,
      compactedOrigin: log.begin.origin,
      compactedChain: log.begin.chain,
    };
  }

  send(to: NodeId, message: ProtocolMessage): void {
    this.sends.push({ to, message });
  }

  nextRequestId(): RequestId {
    this.requests += 1;
    return { boot: this.boot, count: this.requests };
  }

  drop(from: NodeId, message: ProtocolMessage["type"], reason: DropReason): void {
    this.events.push({ type: "dropped", from, message, reason });
  }

  /** This node must stop; nothing that follows leaves it (rule I5). */
  fence(reason: string): void {
    this.fenced ??= reason;
  }
}

function newSnapshots({ image, snapshot }: Recovered): Snapshots {
  return {
    newest: snapshot,
    made: undefined,
    points: snapshot === undefined ? [] : [{ point: pointOf(snapshot), appendedBytes: 0 }],
    servedFrom: undefined,
    offers: new Map(),
    pulling: undefined,
    installing: undefined,
    missing: snapshot === undefined && image.compactedThrough > 0,
  };
}

export function pointOf({ slot: at, origin, chain }: LogPoint): LogPoint {
  return { slot: at, origin, chain };
}

export function newFollower(): Follower {
  return {
    type: "follower",
    leader: undefined,
    synced: false,
    match: slot(0),
    hintDecided: slot(0),
    owed: undefined,
    syncRequestAt: 0,
    ackedThrough: slot(0),
    ackDue: false,
  };
}

function newElection({ maxRound, delay, nextRoundAt }: Pick<Election, "maxRound" | "delay" | "nextRoundAt">): Election {
  return {
    round: 0,
    openedAt: new Map(),
    nextRoundAt,
    answers: new Map(),
    answerTicks: new Map(),
    answersFrom: new Map(),
    happy: false,
    calm: false,
    patientSince: 0,
    delay,
    maxRound,
    cooldownUntil: 0,
    backoff: 1,
    graceUntil: 0,
    graceSince: 0,
    graceFor: undefined,
    stalled: undefined,
    hint: undefined,
  };
}
