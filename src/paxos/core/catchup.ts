/**
 * Catch-up by facts (C1 to C4): who is behind pulls decided entries from anyone who has them. A leader pushes from memory only, so a slow node costs it nothing, and a
 * node that the leader cannot reach still learns.
 */
import { maxSlot, minSlot, type NodeId, slot } from "../../base/ids.ts";
import { mark } from "../../base/marks.ts";
import { appendMissing, askForSync } from "./acceptor.ts";
import { sameBallot } from "./ballot.ts";
import type { SnapshotToPull } from "./effects.ts";
import type { Entry } from "./entry.ts";
import { isConnected } from "./heartbeat.ts";
import type { CatchupHintMessage, FetchReplyMessage, FetchRequestMessage } from "./messages.ts";
import { advanceDecided } from "./roles.ts";
import type { SnapshotMeta } from "./snapshot.ts";
import { isOfUse } from "./snapshots.ts";
import type { Follower, Replica } from "./state.ts";

export function onCatchupHint(replica: Replica, from: NodeId, m: CatchupHintMessage): void {
  const { role } = replica;
  if (role.type !== "follower" || !sameBallot(m.ballot, replica.promised)) return replica.drop(from, "catchup-hint", "wrong-role");
  role.hintDecided = maxSlot(role.hintDecided, m.decidedThrough);
  if (replica.decidedThrough >= m.decidedThrough) askForSync(role);
  else if (replica.pull === undefined) fetchFacts(replica, from);
}

/** C1. Once a round, and when something came that was asked for. */
export function pullFacts(replica: Replica, follower: Follower): void {
  const { pull, options, snapshots } = replica;
  if (snapshots.pulling !== undefined || snapshots.installing !== undefined) return;
  if (pull !== undefined) {
    if (replica.now - pull.sentAt < options.retransmitTicks) return;
    replica.pull = undefined;
    if (snapshots.offers.size > 0) return seekSnapshot(replica, pull.from, undefined);
  }
  if (snapshots.missing) return askForSnapshot(replica, pull?.from);
  const source = bestSource(replica, follower, pull?.from);
  if (source !== undefined) fetchFacts(replica, source);
}

/** The leader, if it is there and ahead; else whoever has most. After a fetch that was not answered, someone else. */
function bestSource(replica: Replica, follower: Follower, silent: NodeId | undefined): NodeId | undefined {
  const { election } = replica;
  const leader = follower.leader?.node;
  const behindLeader = follower.hintDecided > replica.log.last;
  if (leader !== undefined && isConnected(replica, leader)) {
    if (!behindLeader) return undefined; // it sends what is missing
    if (leader !== silent) return leader;
  }
  let best: NodeId | undefined;
  let most = replica.decidedThrough;
  for (const id of replica.others) {
    const answer = election.answers.get(id);
    if (id === silent || answer === undefined || !isConnected(replica, id) || answer.decidedThrough <= most) continue;
    best = id;
    most = answer.decidedThrough;
  }
  return best ?? (behindLeader ? leader : undefined);
}

export function fetchFacts(replica: Replica, from: NodeId): void {
  const { pulling, installing } = replica.snapshots;
  if (replica.overfull || pulling !== undefined || installing !== undefined) return; // the disk is behind what came already; the next round asks again
  ask(replica, from, "facts");
}

/** What is asked for begins after `after`: entries after what is decided here; a snapshot that reaches to where this log begins, at least. */
function ask(replica: Replica, from: NodeId, kind: "facts" | "snapshot"): void {
  const id = replica.nextRequestId();
  const after = kind === "facts" ? replica.decidedThrough : replica.log.compactedThrough;
  replica.pull = { id, from, kind, after, sentAt: replica.now };
  replica.send(from, { type: "fetch-request", id, kind, after, afterOrigin: replica.log.originAt(after), maxBytes: replica.options.maxFetchBytes });
}

/** S3. Whoever is there, one after the other. */
function askForSnapshot(replica: Replica, silent: NodeId | undefined): void {
  const connected = replica.others.filter((id) => isConnected(replica, id));
  const next = connected.find((id) => id > (silent ?? 0)) ?? connected[0];
  if (next !== undefined && !replica.overfull) ask(replica, next, "snapshot");
}

/**
 * S1. `from` answered that its log begins later, with its snapshot; or did not answer. Before a snapshot is pulled everyone who knows more is asked: a peer that has the entries
 * still spares it, and one that does not lead has more time. Who was asked without a word is not waited for.
 */
function seekSnapshot(replica: Replica, from: NodeId, offered: SnapshotMeta | undefined): void {
  const { snapshots, election } = replica;
  const { offers } = snapshots;
  offers.set(from, offered);
  const isAhead = (id: NodeId): boolean => (election.answers.get(id)?.decidedThrough ?? 0) > replica.decidedThrough;
  const next = snapshots.missing ? undefined : replica.others.find((id) => !offers.has(id) && isConnected(replica, id) && isAhead(id));
  if (next !== undefined && !replica.overfull) return fetchFacts(replica, next);
  const best = bestOffer(replica);
  offers.clear();
  if (best === undefined) return;
  mark("snapshot-pull");
  snapshots.pulling = best;
  replica.pullSnapshot = best;
}

/** Not the leader's, if another is to be had; of those the newest. */
function bestOffer({ role, snapshots }: Replica): SnapshotToPull | undefined {
  const leader = role.type === "follower" ? role.leader?.node : undefined;
  let best: SnapshotToPull | undefined;
  for (const [from, meta] of snapshots.offers) {
    if (meta === undefined) continue;
    const better = best === undefined || (best.from === leader) > (from === leader) || (from !== leader && meta.slot > best.meta.slot);
    if (better) best = { from, meta };
  }
  return best;
}

/** C2. Facts from memory, or, where it does not reach, from the disk by whoever drives this core. A tail from memory, for the candidate that was promised. */
export function onFetch(replica: Replica, from: NodeId, m: FetchRequestMessage): void {
  const { log, images, options } = replica;
  const { durable } = images;
  const maxBytes = Math.min(m.maxBytes, options.maxFetchBytes);
  const end = m.kind === "tail" ? durable.last : minSlot(replica.decidedThrough, replica.storedThrough);
  if (m.kind === "tail") {
    if (replica.role.type !== "follower" || !sameBallot(m.ballot, replica.promised) || !sameBallot(m.ballot, durable.promised)) {
      return replica.drop(from, "fetch-request", "other-ballot");
    }
    if (m.after > log.last || !log.agrees(m.after, m.afterOrigin)) return answer(replica, from, m, [], "mismatch");
    if (m.after + 1 < log.cachedFrom) return answer(replica, from, m, [], "facts-first");
  } else {
    if (m.kind === "snapshot" || m.after < log.compactedThrough) return offerSnapshot(replica, from, m);
    if (m.after >= end) return answer(replica, from, m, []);
    if (!log.agrees(m.after, m.afterOrigin)) return answer(replica, from, m, [], "mismatch");
    if (m.after + 1 < log.cachedFrom) {
      mark("serve-from-disk");
      replica.serve.push({ to: from, id: m.id, after: m.after, through: end, maxBytes, decidedThrough: end });
      return;
    }
  }
  answer(replica, from, m, log.slice(m.after, minSlot(end, log.last), maxBytes));
}

/** S1. Instead of entries. */
function offerSnapshot(replica: Replica, to: NodeId, m: FetchRequestMessage): void {
  const { newest } = replica.snapshots;
  if (newest === undefined || newest.slot < m.after) replica.snapshotWanted = true; // the next one will do, when it is asked for again
  answer(replica, to, m, [], undefined, newest);
}

function answer(
  replica: Replica,
  to: NodeId,
  { id, after }: FetchRequestMessage,
  entries: readonly Entry[],
  problem?: FetchReplyMessage["problem"],
  snapshot?: SnapshotMeta,
): void {
  const decidedThrough = minSlot(replica.decidedThrough, replica.storedThrough);
  replica.send(to, { type: "fetch-reply", id, after, entries, decidedThrough, problem, snapshot });
}

/** C3, C4. For a follower; a candidate's own fetch goes to `candidate.ts`, and a leader asks for nothing (P7). */
export function onFactsFetched(replica: Replica, follower: Follower, from: NodeId, m: FetchReplyMessage): void {
  const { pull } = replica;
  if (pull === undefined || pull.from !== from || pull.id.boot !== m.id.boot || pull.id.count !== m.id.count) {
    return replica.drop(from, "fetch-reply", "unknown-request");
  }
  replica.pull = undefined;
  if (m.problem !== undefined) {
    if (m.problem === "mismatch" && pull.after <= m.decidedThrough)
      replica.fence(`slot ${pull.after} is decided here, and another entry stands there at node ${from}`);
    return;
  }
  if (replica.room === "none") return replica.drop(from, "fetch-reply", "no-room");
  if (m.snapshot !== undefined && isOfUse(replica, m.snapshot)) return seekSnapshot(replica, from, m.snapshot);
  if (m.entries.length === 0 && replica.snapshots.offers.size > 0) return seekSnapshot(replica, from, undefined);
  replica.snapshots.offers.clear();
  if (m.entries.length > 0 && !follower.synced) mark("facts-while-unsynced");
  if (!ingestFacts(replica, m.entries)) return;
  if (m.entries.length > 0 && replica.decidedThrough < m.decidedThrough) fetchFacts(replica, from);
  else if (follower.leader !== undefined && (!follower.synced || follower.match < replica.decidedThrough)) askForSync(follower);
}

/**
 * C3. Puts decided entries into this log, in place of whatever stands there undecided. `accepted` stays what it is: facts belong to no reign. What was removed is counted
 * in `cut`, for no ballot explains it (I3).
 *
 * @returns false, and fenced, if a record does not belong where it is put.
 */
export function ingestFacts(replica: Replica, entries: readonly Entry[]): boolean {
  const { log } = replica;
  let end = replica.decidedThrough;
  for (const entry of entries) {
    if (entry.slot <= end) continue;
    if (entry.slot !== end + 1) return true; // a hole: noise, and nothing after it can be used
    if (entry.slot <= log.last && !log.agrees(entry.slot, entry.origin)) {
      mark("facts-truncate");
      replica.truncateFrom(entry.slot);
      replica.cut += 1;
    }
    if (!appendMissing(replica, [entry])) return false;
    end = slot(end + 1);
    advanceDecided(replica, end);
  }
  return true;
}
