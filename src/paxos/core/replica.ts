/**
 * One node's Paxos: `step(inputs) -> effects`. It awaits nothing, reads no clock and touches no disk, so a run is a start and a list of inputs. The rules stand in the
 * files beside this one; here is who gets which input, and in which order a step ends.
 */
import { minSlot, type NodeId, type Slot, slot } from "../../base/ids.ts";
import { InvariantViolation, unreachable } from "../../base/invariant.ts";
import { mark } from "../../base/marks.ts";
import type { Prng } from "../../base/prng.ts";
import { onAccept, onDecide, onPrepare, onSync } from "./acceptor.ts";
import { type Ballot, compareBallots, maxBallot } from "./ballot.ts";
import { onOwnPromiseDurable, onPromise, onRecoveryFetched, onReject } from "./candidate.ts";
import { onCatchupHint, onFactsFetched, onFetch } from "./catchup.ts";
import type { Effects, Input, OriginRun, Recovered } from "./effects.ts";
import { onCampaign, onConnectionLost, onDiskRoom, onTick } from "./election.ts";
import type { Entry } from "./entry.ts";
import { diskWentBack, noteAnswer, onHeartbeat, sendHeartbeats } from "./heartbeat.ts";
import type { Image, PersistBatch } from "./image.ts";
import { onAccepted, onLatePromise, onLeaderRejected, onNack, onPropose, onSyncRequest, tryDecide } from "./leader.ts";
import type { DiskClaims, HeartbeatReplyMessage, ProtocolMessage } from "./messages.ts";
import type { CoreOptions } from "./options.ts";
import { onConfirm, onRead, onReadEcho, onReadReply, onReadRequest, openReadBatch, waitingReads } from "./reads.ts";
import { replicate } from "./replication.ts";
import { onSnapshotFailed, onSnapshotMade, onSnapshotPulled, settleSnapshots } from "./snapshots.ts";
import { Replica } from "./state.ts";
import { vouch } from "./vouch.ts";

/** What may be looked at from outside; nothing in here may be changed. */
export interface ReplicaView {
  readonly node: NodeId;
  readonly storageId: string;
  readonly boot: number;
  readonly role: "follower" | "candidate" | "leader" | "fenced";
  /** The ballot it leads or campaigns with, or follows. */
  readonly ballot: Ballot | undefined;
  /** At a leader: its Start entry; absent while one of an earlier reign must be decided first. */
  readonly reignSlot: Slot | undefined;
  /** At a leader: end of the log when its reign began, its Start entry counted. */
  readonly floor: Slot | undefined;
  readonly happy: boolean;
  /** As the rules see it now, ahead of the disk. */
  readonly image: Image;
  /** As the disk has acknowledged. */
  readonly durable: Image;
  readonly runs: readonly OriginRun[];
  /** Everything that could grow: each has a limit in the options. */
  readonly sizes: {
    readonly cachedEntries: number;
    readonly cachedBytes: number;
    readonly openProposals: number;
    readonly waitingReads: number;
    readonly uncommittedEntries: number;
    readonly uncommittedBytes: number;
    /** The most that is in flight to one peer. */
    readonly inflightMessages: number;
    readonly inflightBytes: number;
    readonly stagedEntries: number;
  };
}

type MessageInput = Extract<Input, { readonly type: "message" }>;

export class PaxosReplica {
  readonly #replica: Replica;

  constructor(recovered: Recovered, options: CoreOptions, random: Prng) {
    this.#replica = new Replica(recovered, options, random);
  }

  /**
   * Total and deterministic.
   *
   * @param nowMs monotonic, never decreasing.
   * @throws InvariantViolation for a bug, or for damage that only looks like one: the node must stop, as for `fence`.
   */
  step(inputs: readonly Input[], nowMs: number): Effects {
    const replica = this.#replica;
    replica.nowMs = Math.max(replica.nowMs, nowMs);
    // Before anything new comes: what the last step decided has had its chance to be applied from memory. What was not is read from the disk.
    replica.log.evict(minSlot(replica.storedThrough, replica.decidedThrough), replica.options.cacheBytes);
    for (const input of inputs) {
      if (replica.fenced !== undefined) break;
      onInput(replica, input);
    }
    if (replica.fenced === undefined) onOwnPromiseDurable(replica);
    return replica.fenced === undefined ? flush(replica) : fencedEffects(replica, replica.fenced);
  }

  /** From memory: everything after `decidedThrough`, and recent facts. */
  cachedEntry(at: Slot): Entry | undefined {
    return this.#replica.log.entryAt(at);
  }

  get leading(): { readonly ballot: Ballot; readonly reignSlot: Slot | undefined } | undefined {
    const { role } = this.#replica;
    return role.type === "leader" ? role : undefined;
  }

  get following(): Ballot | undefined {
    const { role } = this.#replica;
    return role.type === "follower" ? role.leader : undefined;
  }

  get decidedThrough(): Slot {
    return this.#replica.decidedThrough;
  }

  /** All of it, for who compares whole states; nothing in here may be changed. */
  get state(): Replica {
    return this.#replica;
  }

  inspect(): ReplicaView {
    const replica = this.#replica;
    const { role, log } = replica;
    const leader = role.type === "leader" ? role : undefined;
    const peers = [...(leader?.peers.values() ?? [])];
    return {
      node: replica.node,
      storageId: replica.storageId,
      boot: replica.boot,
      role: replica.fenced === undefined ? role.type : "fenced",
      ballot: role.type === "follower" ? role.leader : role.ballot,
      reignSlot: leader?.reignSlot,
      floor: leader?.floor,
      happy: replica.election.happy,
      image: replica.image(),
      durable: replica.images.durable,
      runs: log.runs,
      sizes: {
        cachedEntries: log.cachedEntries,
        cachedBytes: log.cachedBytes,
        openProposals: replica.openProposals,
        waitingReads: waitingReads(replica),
        uncommittedEntries: log.last - replica.decidedThrough,
        uncommittedBytes: leader?.uncommittedBytes ?? 0,
        inflightMessages: Math.max(0, ...peers.map(({ inflight }) => inflight.length)),
        inflightBytes: Math.max(0, ...peers.map(({ inflightBytes }) => inflightBytes)),
        stagedEntries: role.type === "candidate" ? (role.recovery?.staged.length ?? 0) : 0,
      },
    };
  }
}

function onInput(replica: Replica, input: Input): void {
  switch (input.type) {
    case "tick":
      return onTick(replica);
    case "message":
      return onMessage(replica, input);
    case "persisted":
      return replica.images.acknowledge(input.seq);
    case "persist-failed":
      return replica.fence(`a write to the log failed: ${input.reason}`); // memory is ahead of the disk, and nobody knows by how much
    case "propose":
      return onPropose(replica, input);
    case "read":
      return onRead(replica, input.id);
    case "confirm":
      return onConfirm(replica, input);
    case "applied":
      replica.appliedThrough = input.through;
      return;
    case "connection-lost":
      return onConnectionLost(replica, input.peer, input.boot);
    case "campaign":
      return onCampaign(replica);
    case "send-blocked": {
      const peer = replica.role.type === "leader" ? replica.role.peers.get(input.peer) : undefined;
      if (peer !== undefined) peer.blocked = input.blocked;
      return;
    }
    case "disk-room":
      return onDiskRoom(replica, input.room);
    case "snapshot-made":
      return onSnapshotMade(replica, input.meta);
    case "snapshot-pulled":
      return onSnapshotPulled(replica, input.meta);
    case "snapshot-failed":
      return onSnapshotFailed(replica, input.id);
    case "snapshot-served":
      replica.snapshots.servedFrom = input.from;
      return;
    default:
      return unreachable(input);
  }
}

/** I1. What a stranger says is not heard, but for what lets a node with an old configuration find its way. */
function onMessage(replica: Replica, input: MessageInput): void {
  const { from, storageId, boot, message } = input;
  const member = replica.configuration.members.find(({ id }) => id === from);
  const isHeard = member === undefined ? OPEN_TO_STRANGERS.has(message.type) : member.storageId === storageId;
  if (!isHeard || from === replica.node) {
    mark("identity-drop");
    return replica.drop(from, message.type, "identity");
  }
  const known = replica.boots.get(from) ?? 0;
  if (boot < known) return replica.drop(from, message.type, "old-boot");
  if (boot > known && member !== undefined) replica.boots.set(from, boot);
  if (member !== undefined) learnRound(replica, message);
  dispatch(replica, input);
}

const OPEN_TO_STRANGERS: ReadonlySet<ProtocolMessage["type"]> = new Set(["heartbeat", "prepare", "fetch-request"]);

/** E4. Learning that a round was used keeps the next ballot above it. It never raises a promise: that would let ballots chase each other for ever. */
function learnRound({ election }: Replica, message: ProtocolMessage): void {
  const ballot = "promised" in message ? message.promised : "ballot" in message ? message.ballot : undefined;
  if (ballot !== undefined && ballot.round > election.maxRound) election.maxRound = ballot.round;
}

function dispatch(replica: Replica, { from, storageId, boot, message }: MessageInput): void {
  const { role } = replica;
  switch (message.type) {
    case "heartbeat":
      return onHeartbeat(replica, from, message);
    case "heartbeat-reply":
      return onHeartbeatReply(replica, from, message);
    case "prepare":
      return onPrepare(replica, from, message);
    case "sync":
      return onSync(replica, from, message);
    case "accept":
      return onAccept(replica, from, message);
    case "decide":
      return onDecide(replica, from, message);
    case "catchup-hint":
      return onCatchupHint(replica, from, message);
    case "fetch-request":
      return onFetch(replica, from, message);
    case "read-request":
      return onReadRequest(replica, from, message);
    case "read-reply":
      return onReadReply(replica, from, message);
    case "promise":
      noteClaims(replica, from, { promised: message.ballot, accepted: message.accepted, cut: message.cut, last: message.last });
      if (role.type === "candidate") return onPromise(replica, role, from, message, { storageId, boot });
      if (role.type === "leader") return onLatePromise(replica, role, from, message, boot);
      return replica.drop(from, message.type, "wrong-role");
    case "accepted":
      noteClaims(replica, from, { promised: message.ballot, accepted: message.ballot, cut: message.cut, last: message.through });
      if (role.type === "leader") return onAccepted(replica, role, from, message);
      return replica.drop(from, message.type, "wrong-role");
    case "sync-request":
      noteClaims(replica, from, { promised: message.ballot, accepted: message.accepted, cut: message.cut, last: message.last });
      if (role.type === "leader") return onSyncRequest(replica, role, from, message, boot);
      return replica.drop(from, message.type, "wrong-role");
    case "nack":
      if (role.type === "leader") return onNack(replica, role, from, message);
      return replica.drop(from, message.type, "wrong-role");
    case "reject":
      if (role.type === "candidate") return onReject(replica, role, from, message);
      if (role.type === "leader") return onLeaderRejected(replica, role, from, message);
      return replica.drop(from, message.type, "wrong-role");
    case "fetch-reply":
      if (role.type === "candidate") return onRecoveryFetched(replica, role, from, message);
      if (role.type === "follower") return onFactsFetched(replica, role, from, message);
      return replica.drop(from, message.type, "wrong-role"); // P7
    default:
      return unreachable(message);
  }
}

/** E1, E2, A5, R3, I3, I4: an answer is evidence of many things at once. */
function onHeartbeatReply(replica: Replica, from: NodeId, m: HeartbeatReplyMessage): void {
  if (m.seen !== undefined && diskWentBack(replica, m.seen)) {
    mark("reversion-fence");
    return replica.fence(`node ${from} heard this disk vouch for more than it holds: it was rolled back`);
  }
  if (noteAnswer(replica, from, m)) endProbation(replica, from);
  else replica.drop(from, m.type, "old-round");
  const { role } = replica;
  if (role.type !== "leader") return;
  if (m.accepted !== undefined) onAccepted(replica, role, from, m.accepted);
  onReadEcho(replica, role, from, m);
}

/** I4. Enough peers have had the chance to say that this disk forgot something. */
function endProbation(replica: Replica, from: NodeId): void {
  const { probation } = replica;
  if (probation === undefined || !replica.voters.includes(from)) return;
  probation.heard.add(from);
  if (probation.heard.size >= replica.quorum - 1) replica.probation = undefined;
}

/** I3. The highest of each: what a disk has vouched for it can never un-say. */
function noteClaims(replica: Replica, from: NodeId, claims: DiskClaims): void {
  const known = replica.claims.get(from);
  if (known === undefined) {
    replica.claims.set(from, claims);
    return;
  }
  const order = compareBallots(claims.accepted, known.accepted) || claims.cut - known.cut || claims.last - known.last;
  const promised = maxBallot(claims.promised, known.promised);
  if (order > 0 || promised !== known.promised) replica.claims.set(from, { ...(order > 0 ? claims : known), promised });
}

/** The end of a step: one batch at most, then whatever may now be said. */
function flush(replica: Replica): Effects {
  if (replica.role.type === "leader") tryDecide(replica, replica.role);
  const install = settleSnapshots(replica);
  const persist = handOutBatch(replica);
  vouch(replica);
  const { role } = replica;
  if (role.type === "leader") {
    replicate(replica, role);
    if (openReadBatch(replica, role)) sendHeartbeats(replica, replica.voters);
  }
  const apply = handOutFacts(replica);
  return takeEffects(replica, { persist, apply, install });
}

/** W1, W5, W6: the whole image goes with the entries, so whatever is above an undecided configuration's slot carries that it is decided. */
function handOutBatch(replica: Replica): PersistBatch | undefined {
  const { options, now, decidedUnsavedSince } = replica;
  const idle = decidedUnsavedSince !== undefined && now - decidedUnsavedSince >= options.decidedFlushTicks && !replica.images.inFlight;
  if (!replica.dirty && !idle) return undefined;
  const image = replica.image();
  assertBarrier(replica);
  const seq = replica.images.handOut(image, replica.ops, { tick: now, bytes: replica.opsBytes });
  const batch: PersistBatch = { seq, image, ops: replica.ops };
  replica.ops = [];
  replica.opsBytes = 0;
  replica.dirty = false;
  replica.decidedUnsavedSince = undefined;
  return batch;
}

/** M3: nothing stands after an undecided configuration. */
function assertBarrier(replica: Replica): void {
  for (const op of replica.ops) {
    if (op.type !== "append") continue;
    for (const entry of op.entries) {
      if (
        entry.kind === "config" &&
        entry.slot > replica.decidedThrough &&
        entry.slot < replica.log.last &&
        replica.log.agrees(entry.slot, entry.origin)
      ) {
        throw new InvariantViolation("nothing follows an undecided configuration (M3)", { at: entry.slot, last: replica.log.last });
      }
    }
  }
}

/** W7. Applied is only what this disk holds: after a restart the machine is never ahead of the log. */
function handOutFacts(replica: Replica): Effects["apply"] {
  if (replica.snapshots.missing) return undefined; // there is no machine to apply it to
  const through = minSlot(replica.decidedThrough, replica.storedThrough);
  if (through <= replica.handedOut) return undefined;
  const from = slot(replica.handedOut + 1);
  replica.handedOut = through;
  return { from, through };
}

function takeEffects(replica: Replica, { persist, apply, install }: Pick<Effects, "persist" | "apply" | "install">): Effects {
  const { sends, proposalResults, readResults, serve, events } = replica;
  if (sends.length > 0) replica.sends = [];
  if (proposalResults.length > 0) replica.proposalResults = [];
  if (readResults.length > 0) replica.readResults = [];
  if (serve.length > 0) replica.serve = [];
  if (events.length > 0) replica.events = [];
  const { pullSnapshot: pull, discardSnapshot: discard, snapshotWanted } = replica;
  replica.pullSnapshot = undefined;
  replica.discardSnapshot = undefined;
  replica.snapshotWanted = false;
  return { sends, persist, apply, install, pull, discard, snapshotWanted, proposals: proposalResults, reads: readResults, serve, events };
}

/** I5. */
function fencedEffects(replica: Replica, fence: string): Effects {
  return { sends: [], proposals: [], reads: [], serve: [], events: takeEffects(replica, {}).events, fence };
}
