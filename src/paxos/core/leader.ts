/**
 * The leader: appends (A3), decides (D1), and knows where each peer stands. How entries reach the peers is in `replication.ts`; when it must give up, in
 * `election.ts`.
 */
import { type NodeId, type Slot, slot } from "../../base/ids.ts";
import { InvariantViolation } from "../../base/invariant.ts";
import { mark, marksCounted } from "../../base/marks.ts";
import { type Ballot, epochOf, sameBallot } from "./ballot.ts";
import type { Input } from "./effects.ts";
import { createEntry, type Entry, type EntryKind } from "./entry.ts";
import type { AcceptedMessage, NackMessage, PromiseMessage, RejectMessage, SyncRequestMessage } from "./messages.ts";
import { newReads } from "./reads.ts";
import { acknowledged, askForPromise, newPeer, resendAfter, syncPeer } from "./replication.ts";
import { advanceDecided, becomeFollower, knownLeader } from "./roles.ts";
import type { Candidate, Leader, Peer, Replica } from "./state.ts";

const NOTHING = new Uint8Array();

/** P6, second half: the log is adopted, in memory; its batch leaves with this step, and so do the first Syncs (rule W3). */
export function becomeLeader(replica: Replica, campaign: Candidate, sourceAccepted: Ballot): void {
  const { log } = replica;
  const adoptedLast = log.last;
  const pendingConfig = pendingConfigOf(replica);
  const role: Leader = {
    type: "leader",
    ballot: campaign.ballot,
    epoch: epochOf(campaign.ballot),
    floor: pendingConfig === undefined ? slot(adoptedLast + 1) : adoptedLast,
    adoptedLast,
    sourceAccepted,
    reignSlot: undefined,
    pendingConfig,
    peers: new Map(),
    uncommittedBytes: log.bytesBetween(replica.decidedThrough, adoptedLast),
    lastQuorumTick: replica.now,
    lastQuorumMs: replica.nowMs,
    lastDecidedTick: replica.now,
    stuckSince: undefined,
    givesWayFrom: replica.room === "enough" ? 0 : replica.now + replica.options.progressTicks, // they had their turn, and did not win
    reads: newReads(),
  };
  replica.role = role;
  replica.election.backoff = 1;
  replica.election.happy = true;
  replica.events.push({ type: "role", role: "leader", ballot: campaign.ballot, reason: "elected" });
  if (pendingConfig === undefined) startReign(replica, role);
  for (const id of replica.others) {
    const peer = newPeer(id, replica.now);
    role.peers.set(id, peer);
    const info = campaign.promises.get(id);
    if (info === undefined) {
      askForPromise(replica, role, id);
    } else {
      peer.boot = info.boot;
      if (!syncPeer(replica, role, peer, info)) return;
    }
  }
}

/** M3. At most one, and then it is the last entry. */
function pendingConfigOf(replica: Replica): Slot | undefined {
  return replica.log.last > replica.decidedThrough && replica.log.entryAt(replica.log.last)?.kind === "config" ? replica.log.last : undefined;
}

/** The first entry of a reign is Start, so an entry's origin is its epoch for every state machine. */
function startReign(replica: Replica, role: Leader): void {
  role.reignSlot = appendOwn(replica, role, "start", NOTHING).slot;
}

/** A3. */
function appendOwn(replica: Replica, role: Leader, kind: EntryKind, payload: Uint8Array): Entry {
  if (role.pendingConfig !== undefined) throw new InvariantViolation("nothing follows an undecided configuration (M3)", { at: role.pendingConfig });
  const { log } = replica;
  const entry = createEntry({ slot: slot(log.last + 1), origin: role.ballot, kind, payload, previousChain: log.lastChain });
  replica.append(entry);
  role.uncommittedBytes += entry.record.length;
  return entry;
}

/** D4, F1: appended here and now, or not at all. Nothing is forwarded (rule D5). */
export function onPropose(replica: Replica, { id, payload, epoch }: Extract<Input, { type: "propose" }>): void {
  const { role, options, log } = replica;
  if (role.type !== "leader" || role.reignSlot === undefined) {
    replica.proposalResults.push({ id, type: "not-applied", reason: "not-leader", leader: knownLeader(replica) });
    return;
  }
  if (epoch !== undefined && epoch !== role.epoch) {
    replica.proposalResults.push({ id, type: "not-applied", reason: "epoch-differs", leader: replica.node });
    return;
  }
  const full =
    role.uncommittedBytes >= options.maxUncommittedBytes ||
    log.last - replica.decidedThrough >= options.maxUncommittedEntries ||
    replica.openProposals >= options.maxProposals ||
    replica.decidedThrough - replica.appliedThrough >= options.maxUnappliedEntries;
  const refusal = replica.room !== "enough" ? "disk-low" : full ? "overloaded" : payload.length > options.maxEntryBytes ? "too-large" : undefined;
  if (refusal !== undefined) {
    if (refusal !== "too-large") mark(refusal === "overloaded" ? "overload-drop" : "disk-low-drop");
    replica.proposalResults.push({ id, type: "not-applied", reason: refusal, leader: replica.node });
    return;
  }
  const entry = appendOwn(replica, role, "app", payload);
  const proposal = { id, origin: role.ballot };
  const waiting = replica.proposals.get(entry.slot);
  if (waiting === undefined) replica.proposals.set(entry.slot, [proposal]);
  else waiting.push(proposal);
  replica.openProposals += 1;
}

/** D1. What a quorum has on its disks, this one's own disk counted like any other. */
export function tryDecide(replica: Replica, role: Leader): void {
  const through = quorumMatch(replica, role);
  if (through <= replica.decidedThrough) return;
  if (through < role.floor) throw new InvariantViolation("a reign decides its whole adopted log first (INV-6)", { through, floor: role.floor });
  if (role.pendingConfig !== undefined && through > role.pendingConfig)
    throw new InvariantViolation("nothing follows an undecided configuration (M3)", { through });
  role.lastDecidedTick = replica.now;
  if (marksCounted()) markDecision(replica, role, through);
  advanceDecided(replica, through);
  if (role.pendingConfig !== undefined && through >= role.pendingConfig) {
    role.pendingConfig = undefined;
    startReign(replica, role);
  }
}

/** Whose disk it was that was waited for. */
function markDecision(replica: Replica, role: Leader, through: Slot): void {
  const own = ownMatch(replica, role);
  if (own < through) return mark("quorum-without-leader-disk");
  const ahead = replica.voters.filter((id) => (role.peers.get(id)?.match ?? 0) > own);
  if (own === through && ahead.length >= replica.quorum - 1 && ahead.length > 0) mark("self-ack-last-to-arrive");
}

function quorumMatch(replica: Replica, role: Leader): Slot {
  const matches: Slot[] = [];
  for (const id of replica.voters) {
    if (id === replica.node) {
      matches.push(ownMatch(replica, role));
      continue;
    }
    const peer = role.peers.get(id);
    matches.push(peer !== undefined && peer.state === "streaming" && !peer.suspect ? peer.match : slot(0));
  }
  matches.sort((a, b) => b - a);
  return matches[replica.quorum - 1] ?? slot(0);
}

/** What the own disk has of this reign. */
function ownMatch(replica: Replica, role: Leader): Slot {
  const { durable } = replica.images;
  return sameBallot(durable.accepted, role.ballot) ? durable.last : slot(0);
}

/** A5. Also from a heartbeat's reply, which makes up for one that was lost. */
export function onAccepted(replica: Replica, role: Leader, from: NodeId, m: Pick<AcceptedMessage, "ballot" | "through">): void {
  const peer = role.peers.get(from);
  if (peer === undefined || !sameBallot(m.ballot, role.ballot)) return replica.drop(from, "accepted", "other-ballot");
  if (m.through > replica.log.last) return replica.drop(from, "accepted", "stale");
  acknowledged(replica, peer, m.through);
}

/** P4, A1. One that comes late, or from a follower that was started again. */
export function onLatePromise(replica: Replica, role: Leader, from: NodeId, m: PromiseMessage, boot: number): void {
  const peer = role.peers.get(from);
  if (peer === undefined || !sameBallot(m.ballot, role.ballot)) return replica.drop(from, "promise", "other-ballot");
  if (peer.state !== "unpromised" && boot <= peer.boot) return replica.drop(from, "promise", "duplicate");
  restarted(role, peer, m, boot);
  syncPeer(replica, role, peer, m);
}

/** A1. */
export function onSyncRequest(replica: Replica, role: Leader, from: NodeId, m: SyncRequestMessage, boot: number): void {
  const peer = role.peers.get(from);
  if (peer === undefined || !sameBallot(m.ballot, role.ballot)) return replica.drop(from, "sync-request", "other-ballot");
  restarted(role, peer, m, boot);
  syncPeer(replica, role, peer, m);
}

/** I3. A follower that was started again and holds less of this reign than it vouched for has lost what was counted. */
function restarted(role: Leader, peer: Peer, info: PromiseMessage | SyncRequestMessage, boot: number): void {
  if (boot > peer.boot && sameBallot(info.accepted, role.ballot) && info.last < peer.match) peer.suspect = true;
  peer.boot = boot;
}

/** A6. */
export function onNack(replica: Replica, role: Leader, from: NodeId, m: NackMessage): void {
  const peer = role.peers.get(from);
  if (peer === undefined || peer.state !== "streaming" || !sameBallot(m.ballot, role.ballot)) return replica.drop(from, "nack", "stale");
  resendAfter(replica, peer, m.match);
  if (m.reason === "busy") peer.pausedUntil = replica.now + replica.options.heartbeatTicks;
}

/** Q1, A0. A log that contradicts facts cannot win; a follower that never promised is asked. */
export function onLeaderRejected(replica: Replica, role: Leader, from: NodeId, m: RejectMessage): void {
  if (!sameBallot(m.re, role.ballot)) return replica.drop(from, "reject", "other-ballot");
  if (m.reason === "stale") becomeFollower(replica, "stale");
  else if (m.reason === "unpromised") askForPromise(replica, role, from);
}
