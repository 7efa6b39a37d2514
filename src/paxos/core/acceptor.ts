/** The acceptor, in every node: it promises (P1, P2), and takes the leader's log for its own (A2, A4). What it then says of it is in `vouch.ts`. */
import { maxSlot, minSlot, type NodeId, type Slot, slot } from "../../base/ids.ts";
import { mark } from "../../base/marks.ts";
import { BALLOT_ZERO, type Ballot, compareBallots, sameBallot } from "./ballot.ts";
import { continues, type Entry } from "./entry.ts";
import type { AcceptMessage, DecideMessage, PrepareMessage, RejectReason, SyncMessage } from "./messages.ts";
import { advanceDecided, becomeFollower, isHappyLeader, restartPatience } from "./roles.ts";
import type { Follower, Replica } from "./state.ts";

/** P1. */
export function onPrepare(replica: Replica, from: NodeId, m: PrepareMessage): void {
  const order = compareBallots(m.ballot, replica.promised);
  if (order < 0) return reject(replica, from, m.ballot, "ballot");
  if (order === 0) return promiseAgain(replica, from, m);
  const why = stickiness(replica, from);
  if (why !== undefined) {
    mark(why === "happy" ? "sticky-reject" : "grace-reject");
    return reject(replica, from, m.ballot, why);
  }
  setPromised(replica, from, m);
}

/** The promise may have been lost. It says nothing new, and a follower that is in step need not say it. */
function promiseAgain(replica: Replica, from: NodeId, m: PrepareMessage): void {
  const { role } = replica;
  if (role.type !== "follower" || m.ballot.node !== from) return replica.drop(from, "prepare", "wrong-role");
  if (role.synced && sameBallot(replica.accepted, m.ballot)) return replica.drop(from, "prepare", "duplicate");
  mark("promise-re-same-ballot");
  role.owed = { type: "promise", prepare: m };
}

/** Why this node would rather keep what it has. A candidate has nothing to keep: it always yields to a higher ballot (rule E5). */
function stickiness(replica: Replica, from: NodeId): "happy" | "grace" | undefined {
  const { role, election } = replica;
  if (role.type === "candidate") return undefined;
  if (role.type === "leader" && isHappyLeader(replica)) return "happy";
  if (role.type === "follower" && election.happy && role.leader?.node !== from) return "happy";
  const inGrace = replica.now < election.graceUntil && election.graceFor !== from && election.hint === undefined;
  return inGrace ? "grace" : undefined;
}

/** P2. Whoever is asked promises, whatever it believes to be in its own configuration: the asker counts by its own. */
function setPromised(replica: Replica, from: NodeId, m: PrepareMessage): void {
  const { role } = replica;
  if (role.type === "leader") mark("deposed-by-prepare");
  else if (role.type === "candidate") mark("candidate-yields");
  const hintDecided = role.type === "follower" ? role.hintDecided : slot(0);
  const follower = becomeFollower(replica, "prepare");
  replica.promised = m.ballot;
  replica.dirty = true;
  const { election } = replica;
  election.graceFor = from;
  election.graceSince = replica.now;
  election.graceUntil = replica.now + replica.options.graceTicks;
  election.hint = undefined;
  restartPatience(replica);
  follower.hintDecided = hintDecided;
  follower.owed = { type: "promise", prepare: m };
  follower.syncRequestAt = replica.now + replica.options.retransmitTicks; // a promise is answered by Sync, unasked
}

/** A2. "Let your log be mine." Written with the ballot it makes accepted, in one batch or not at all. */
export function onSync(replica: Replica, from: NodeId, m: SyncMessage): void {
  const follower = reignOf(replica, from, m);
  if (follower === undefined) return;
  const { log } = replica;
  if (m.base > log.last || !log.agrees(m.base, m.baseOrigin)) {
    if (m.base <= replica.decidedThrough) return rejectStaleSync(replica, from, m);
    mark("sync-base-mismatch");
    follower.owed = { type: "sync-request", fromDecided: true };
    follower.syncRequestAt = replica.now;
    return replica.drop(from, "sync", "base-mismatch");
  }
  if (!fits(replica, m)) return replica.drop(from, "sync", "malformed");
  const end = slot(m.base + m.entries.length);
  if (end < m.floor) return replica.drop(from, "sync", "stale"); // half of what was adopted would outrank the whole of an older reign
  const differs = firstDifference(replica, m.entries);
  if (differs !== undefined && replica.room === "none") {
    mark("sync-without-room");
    return replica.drop(from, "sync", "no-room"); // it comes again
  }
  const conflict = differs !== undefined && differs.slot <= log.last;
  const sameReign = sameBallot(replica.accepted, m.ballot);
  if (sameReign) {
    // Never truncates: a message of this reign that was overtaken would cut off what has been acknowledged since.
    if (conflict) return contradiction(replica, from, m.ballot, differs);
    if (end > log.last) mark("sync-same-ballot-extend");
  } else {
    const cutFrom = differs?.slot ?? slot(maxSlot(end, replica.decidedThrough) + 1);
    if (cutFrom <= replica.decidedThrough) return rejectStaleSync(replica, from, m);
    if (cutFrom <= log.last) mark("sync-truncates");
    replica.truncateFrom(cutFrom);
    replica.accepted = m.ballot;
    replica.dirty = true;
  }
  if (!appendMissing(replica, m.entries)) return;
  follower.match = sameReign ? maxSlot(follower.match, end) : end;
  follower.synced = true;
  follower.owed = undefined;
  follower.ackDue = true;
  advanceDecided(replica, minSlot(m.decidedThrough, follower.match));
}

/** It contradicts facts: a later reign decided them. */
function rejectStaleSync(replica: Replica, from: NodeId, m: SyncMessage): void {
  mark("sync-reject-stale");
  reject(replica, from, m.ballot, "stale");
}

/** A4. Appends what the leader sends; says nothing yet: only a completed write may vouch for it. */
export function onAccept(replica: Replica, from: NodeId, m: AcceptMessage): void {
  const follower = reignOf(replica, from, m);
  if (follower === undefined) return;
  const { log } = replica;
  if (!follower.synced || !sameBallot(replica.accepted, m.ballot)) {
    follower.hintDecided = maxSlot(follower.hintDecided, m.decidedThrough);
    askForSync(follower);
    return replica.drop(from, "accept", "stale");
  }
  const refusal = m.base > follower.match ? "gap" : replica.overfull ? "busy" : undefined;
  if (refusal !== undefined) {
    mark(refusal === "gap" ? "accept-gap-nack" : "busy-nack");
    return replica.send(from, { type: "nack", ballot: m.ballot, match: follower.match, reason: refusal });
  }
  const chain = log.chainAt(m.base);
  if (chain !== undefined && chain !== m.baseChain)
    return replica.fence(`the log through slot ${m.base} is not the leader's, though its origins are`);
  if (!fits(replica, m)) return replica.drop(from, "accept", "malformed");
  const differs = firstDifference(replica, m.entries);
  if (differs !== undefined && differs.slot <= log.last) {
    if (differs.slot <= replica.decidedThrough) mark("accept-vs-facts");
    return contradiction(replica, from, m.ballot, differs);
  }
  if (m.base < log.last && m.entries.length > 0) mark("accept-dup-prefix");
  const before = log.last;
  if (!appendMissing(replica, m.entries)) return;
  follower.match = maxSlot(follower.match, slot(m.base + m.entries.length));
  if (log.last === before) follower.ackDue = true; // nothing to wait for: the acknowledgement may have been lost
  // Never beyond `match`: past it, this log may still hold another leader's entries.
  advanceDecided(replica, minSlot(m.decidedThrough, follower.match));
}

/** D3. */
export function onDecide(replica: Replica, from: NodeId, m: DecideMessage): void {
  const follower = reignOf(replica, from, m);
  if (follower !== undefined) learnDecided(replica, follower, m.decidedThrough);
}

/** A leader's word on what is decided: a fact about slots, but only through `match` is it known to be about these entries (INV-7). */
export function learnDecided(replica: Replica, follower: Follower, through: Slot): void {
  if (follower.synced) advanceDecided(replica, minSlot(through, follower.match));
  else askForSync(follower); // a leader that has nothing to send would never notice that this node was started again
  follower.hintDecided = maxSlot(follower.hintDecided, through);
}

export function askForSync(follower: Follower): void {
  follower.owed ??= { type: "sync-request", fromDecided: false };
}

/** This node as the follower of `m.ballot`; undefined, and answered, where it is not. */
function reignOf(replica: Replica, from: NodeId, m: SyncMessage | AcceptMessage | DecideMessage): Follower | undefined {
  const { role } = replica;
  const order = compareBallots(m.ballot, replica.promised);
  if (order !== 0) {
    reject(replica, from, m.ballot, order < 0 ? "ballot" : "unpromised");
    return undefined;
  }
  if (role.type !== "follower" || m.ballot.node !== from) {
    replica.drop(from, m.type, "wrong-role");
    return undefined;
  }
  role.leader = m.ballot;
  return role;
}

/** INV-4, for what a peer sends: origins rise from that of the base, and to the reign at most. */
function fits({ log }: Replica, { base, entries, ballot }: SyncMessage | AcceptMessage): boolean {
  let before = base < log.compactedThrough ? BALLOT_ZERO : log.originAt(base);
  for (const { origin } of entries) {
    if (compareBallots(origin, before) < 0 || compareBallots(origin, ballot) > 0) return false;
    before = origin;
  }
  return true;
}

/** The first entry that this log lacks, or has another one for. */
function firstDifference(replica: Replica, entries: readonly Entry[]): Entry | undefined {
  const { log } = replica;
  const first = entries[0];
  if (first === undefined || first.slot > log.last) return first; // the usual case
  return entries.find((entry) => entry.slot > log.last || !log.agrees(entry.slot, entry.origin));
}

/** Within one reign a slot has one entry. Where a fact says otherwise the leader is deposed; where not, one of two disks is damaged. */
function contradiction(replica: Replica, from: NodeId, ballot: Ballot, entry: Entry): void {
  if (entry.slot <= replica.decidedThrough) return reject(replica, from, ballot, "stale");
  replica.fence(`slot ${entry.slot} has two entries in one reign`);
}

/** False, and fenced, if a record does not belong where it is put. */
export function appendMissing(replica: Replica, entries: readonly Entry[]): boolean {
  for (const entry of entries) {
    if (entry.slot <= replica.log.last) continue;
    if (!continues(replica.log.lastChain, entry)) {
      replica.fence(`the record of slot ${entry.slot} does not continue this log, though its origins do`);
      return false;
    }
    replica.append(entry);
  }
  return true;
}

export function reject(replica: Replica, to: NodeId, re: Ballot, reason: RejectReason): void {
  replica.send(to, { type: "reject", re, reason, promised: replica.promised, decidedThrough: replica.decidedThrough });
}
