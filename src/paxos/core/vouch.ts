/**
 * The one place that puts this node's votes into words (W2, P3). A vote is never prepared and kept: it is computed from the durable image when it leaves.
 */
import { minSlot } from "../../base/ids.ts";
import { mark } from "../../base/marks.ts";
import { BALLOT_ZERO, compareBallots, sameBallot } from "./ballot.ts";
import type { AcceptedMessage, LogState, PrepareMessage, PromiseMessage } from "./messages.ts";
import type { Follower, Replica } from "./state.ts";

/**
 * W2. Called at the end of every step: says whatever the durable image now vouches for. A promise and a request for Sync speak of the whole log, so they wait until
 * nothing is in flight; an acknowledgement speaks of one reign's entries, and does not.
 */
export function vouch(replica: Replica): void {
  const { role } = replica;
  if (role.type !== "follower" || replica.probation !== undefined) return;
  acknowledge(replica, role);
  if (role.owed === undefined || !replica.settled) return;
  const { durable } = replica.images;
  if (role.owed.type === "promise") {
    const { prepare } = role.owed;
    role.owed = undefined;
    if (!sameBallot(durable.promised, prepare.ballot)) return;
    replica.send(prepare.ballot.node, promiseFor(replica, prepare));
    return;
  }
  if (role.leader === undefined || replica.now < role.syncRequestAt) return;
  const { fromDecided } = role.owed;
  role.owed = undefined;
  role.syncRequestAt = replica.now + replica.options.heartbeatTicks;
  const state = logState(replica);
  // `accepted` zero makes the leader begin at what is decided.
  const anchored = fromDecided ? { ...state, accepted: BALLOT_ZERO, last: state.decidedThrough, lastOrigin: state.decidedOrigin } : state;
  replica.send(role.leader.node, { type: "sync-request", ballot: role.leader, ...anchored });
}

function acknowledge(replica: Replica, follower: Follower): void {
  const vote = durableVote(replica);
  if (vote === undefined || (vote.through <= follower.ackedThrough && !follower.ackDue)) return;
  follower.ackDue = false;
  follower.ackedThrough = vote.through;
  replica.send(vote.ballot.node, { type: "accepted", ...vote });
}

/** How far this disk holds the log of the leader that this node follows; undefined if it cannot say. */
export function durableVote(replica: Replica): Pick<AcceptedMessage, "ballot" | "through" | "cut"> | undefined {
  const { role, images } = replica;
  const { durable } = images;
  if (role.type !== "follower" || !role.synced || replica.probation !== undefined || !sameBallot(durable.accepted, replica.promised))
    return undefined;
  return { ballot: durable.accepted, through: minSlot(role.match, durable.last), cut: durable.cut };
}

/** The durable log of this node; only while nothing is in flight is it also the one in memory. */
export function logState(replica: Replica): LogState {
  const { durable } = replica.images;
  return {
    accepted: durable.accepted,
    last: durable.last,
    lastOrigin: durable.lastOrigin,
    decidedThrough: durable.decidedThrough,
    decidedOrigin: replica.log.originAt(durable.decidedThrough),
    cut: durable.cut,
  };
}

/** P3. Carries what the candidate lacks if that is little, so that the usual change of leader needs no fetch. */
function promiseFor(replica: Replica, prepare: PrepareMessage): PromiseMessage {
  const state = logState(replica);
  const { durable } = replica.images;
  return {
    type: "promise",
    ballot: prepare.ballot,
    ...state,
    compactedThrough: durable.compactedThrough,
    configuration: durable.configuration,
    tail: inlineTail(replica, prepare, state),
  };
}

function inlineTail(replica: Replica, prepare: PrepareMessage, state: LogState): PromiseMessage["tail"] {
  const { log, options } = replica;
  const order = compareBallots(state.accepted, prepare.accepted);
  if (order < 0 || (order === 0 && state.last <= prepare.last)) return undefined;
  const sameLog = order === 0 && log.agrees(prepare.last, prepare.lastOrigin);
  const after = sameLog ? prepare.last : prepare.decidedThrough;
  if (after >= state.last || after + 1 < log.cachedFrom) return undefined;
  if (log.bytesBetween(after, state.last) > options.promiseInlineBytes) return undefined;
  mark("promise-inline-tail");
  return { after, entries: log.slice(after, state.last, Number.MAX_SAFE_INTEGER) };
}
