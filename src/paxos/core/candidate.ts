/**
 * The candidate: its own promise first (W2), then everyone's (P4, P5), then the log of the best promiser (P6). Once phase 1 is complete it leads.
 */
import { minSlot, type NodeId, slot } from "../../base/ids.ts";
import { mark } from "../../base/marks.ts";
import { appendMissing } from "./acceptor.ts";
import { type Ballot, compareBallots, sameBallot } from "./ballot.ts";
import { fetchFacts, ingestFacts } from "./catchup.ts";
import { isVoter, quorumOf, votersOf } from "./configuration.ts";
import type { RoleReason } from "./effects.ts";
import type { Entry } from "./entry.ts";
import { becomeLeader } from "./leader.ts";
import type { FetchReplyMessage, PromiseMessage, RejectMessage } from "./messages.ts";
import { advanceDecided, becomeFollower, coolDown } from "./roles.ts";
import type { Candidate, PromiseInfo, Pull, Recovery, Replica } from "./state.ts";
import { logState } from "./vouch.ts";

/** E4, Q3. Whether it should is decided elsewhere (`election.ts`); safety does not depend on that. */
export function startCampaign(replica: Replica, reason: "campaign" | "rebid"): void {
  if (replica.role.type !== "follower") becomeFollower(replica, reason); // a leader that bids again gives up its reign first
  const { election, options } = replica;
  const prio = replica.configuration.members.find(({ id }) => id === replica.node)?.prio ?? 0;
  // Facts may come from a reign that this node heard of in no other way.
  const round = Math.max(replica.promised.round, election.maxRound, replica.log.lastOrigin.round) + 1;
  const ballot: Ballot = { round, prio, node: replica.node };
  replica.snapshots.offers.clear();
  replica.pull = undefined; // P7: from here on it takes facts from one source only, the one whose log it adopts
  replica.promised = ballot;
  replica.dirty = true;
  replica.role = {
    type: "candidate",
    ballot,
    phase: "self",
    promises: new Map(),
    refusals: new Set(),
    deadline: replica.now + options.campaignTicks,
    recovery: undefined,
  };
  election.happy = false;
  if (reason === "rebid") mark("rebid");
  else if (replica.voters.length === 1) mark("single-voter-election");
  else if (election.hint !== undefined) mark("hint-campaign");
  replica.events.push({ type: "role", role: "candidate", ballot, reason });
}

/** W2, E5. Nobody hears of the ballot before the disk has it: a ballot is used in one life of one process only (INV-1). */
export function onOwnPromiseDurable(replica: Replica): void {
  const { role } = replica;
  if (role.type !== "candidate" || role.phase !== "self" || !sameBallot(replica.images.durable.promised, role.ballot)) return;
  role.phase = "promising";
  role.promises.set(replica.node, {
    ...logState(replica),
    storageId: replica.storageId,
    boot: replica.boot,
    configuration: replica.configuration,
    compactedThrough: replica.log.compactedThrough,
  });
  sendPrepares(replica, role);
  evaluate(replica, role);
}

/** To everyone who may count and has not answered. Sent again every round. */
export function sendPrepares(replica: Replica, role: Candidate): void {
  if (role.phase !== "promising") return;
  const { accepted, last, lastOrigin, decidedThrough } = logState(replica);
  for (const to of prepareTargets(replica, role)) {
    replica.send(to, { type: "prepare", ballot: role.ballot, decidedThrough, accepted, last, lastOrigin });
  }
}

function prepareTargets(replica: Replica, role: Candidate): readonly NodeId[] {
  const targets = new Set(replica.voters);
  for (const { configuration } of role.promises.values()) for (const id of votersOf(configuration)) targets.add(id);
  return [...targets].filter((id) => id !== replica.node && !role.promises.has(id)).sort((a, b) => a - b);
}

/** P4. Counts for exactly its own ballot. */
export function onPromise(replica: Replica, role: Candidate, from: NodeId, m: PromiseMessage, speaker: { storageId: string; boot: number }): void {
  if (!sameBallot(m.ballot, role.ballot)) return replica.drop(from, "promise", "other-ballot");
  if (role.phase !== "promising") return replica.drop(from, "promise", "recovering");
  const known = role.promises.size;
  role.promises.set(from, { ...m, ...speaker });
  if (role.promises.size > known && configurationIsNews(replica, m)) sendPrepares(replica, role);
  evaluate(replica, role);
}

function configurationIsNews(replica: Replica, m: PromiseMessage): boolean {
  return m.configuration.version > replica.configuration.version;
}

/**
 * P5. The promisers must be a majority of the newest configuration that any of them knows, whatever this node believed when it began: that makes them meet every
 * quorum that may have chosen something (INV-9).
 */
function evaluate(replica: Replica, role: Candidate): void {
  let newest = replica.configuration;
  for (const { configuration } of role.promises.values()) if (configuration.version > newest.version) newest = configuration;
  if (!isVoter(newest, replica.node, replica.storageId)) return endCampaign(replica, "removed");
  let count = 0;
  for (const [id, { storageId }] of role.promises) if (isVoter(newest, id, storageId)) count += 1;
  if (count < quorumOf(newest)) return;

  let source = replica.node;
  let best: PromiseInfo | undefined = role.promises.get(replica.node);
  let facts: PromiseInfo | undefined;
  for (const [id, info] of role.promises) {
    if (facts === undefined || info.decidedThrough > facts.decidedThrough) facts = info;
    // The longest log of the highest accepted ballot holds everything that may have been chosen (INV-6). Among equals, the own: nothing to fetch.
    const order = best === undefined ? 1 : compareBallots(info.accepted, best.accepted) || info.last - best.last;
    if (order > 0) [source, best] = [id, info];
  }
  if (best === undefined || facts === undefined) return;
  // What was chosen below this ballot is in the best log (INV-6). A fact that is not was decided by a later reign, and a promiser has pulled it since it promised.
  if (best.last < facts.decidedThrough) return giveWay(replica);
  if (best.compactedThrough > replica.decidedThrough) return pullInstead(replica, source);
  if (replica.log.last < facts.decidedThrough) mark("adopt-with-gap");
  role.recovery = { source, info: best, facts, agreedThrough: replica.log.last, staged: [], pull: undefined };
  if (source === replica.node) return adopt(replica, role, role.recovery);
  role.phase = "recovering";
  if (best.tail !== undefined) takeTail(replica, role, role.recovery, best.tail.after, best.tail.entries);
  else fetchTail(replica, role.recovery, sameBallot(best.accepted, replica.accepted) && replica.log.last <= best.last ? "last" : "decided");
}

/** P6, S1. What this log lacks is no longer entries anywhere: not as a candidate can it become what it must be. */
function pullInstead(replica: Replica, source: NodeId): void {
  mark("adopt-needs-snapshot");
  endCampaign(replica, "needs-snapshot");
  fetchFacts(replica, source);
}

/** P6. From the end of this log if it may be a prefix of the source's, which the source will say; else from what is decided. */
function fetchTail(replica: Replica, recovery: Recovery, from: "last" | "decided"): void {
  recovery.staged.length = 0;
  recovery.agreedThrough = from === "last" ? replica.log.last : replica.decidedThrough;
  fetchMore(replica, recovery, "tail");
}

function fetchMore(replica: Replica, recovery: Recovery, kind: Pull["kind"]): void {
  const staged = recovery.staged.at(-1);
  const after = kind === "facts" ? replica.decidedThrough : (staged?.slot ?? recovery.agreedThrough);
  const afterOrigin = kind === "tail" && staged !== undefined ? staged.origin : replica.log.originAt(after);
  const id = replica.nextRequestId();
  recovery.pull = { id, from: recovery.source, kind, after, sentAt: replica.now };
  if (kind === "facts" && replica.overfull) return; // asked later, as if it had been lost
  replica.send(recovery.source, {
    type: "fetch-request",
    id,
    kind,
    ballot: replica.promised,
    after,
    afterOrigin,
    maxBytes: replica.options.maxFetchBytes,
  });
}

/** From the source alone. */
export function onRecoveryFetched(replica: Replica, role: Candidate, from: NodeId, m: FetchReplyMessage): void {
  const { recovery } = role;
  const pull = recovery?.pull;
  if (recovery === undefined || pull === undefined || from !== pull.from || m.id.boot !== pull.id.boot || m.id.count !== pull.id.count) {
    return replica.drop(from, "fetch-reply", "unknown-request");
  }
  recovery.pull = undefined;
  if (m.entries.length > 0) role.deadline = replica.now + replica.options.campaignTicks; // it makes progress
  if (m.snapshot !== undefined) return pullInstead(replica, from);
  if (m.problem === "facts-first") {
    mark("adopt-facts-first");
    return fetchMore(replica, recovery, "facts");
  }
  if (m.problem === "mismatch") {
    if (pull.after <= m.decidedThrough && pull.after <= replica.decidedThrough)
      return replica.fence(`slot ${pull.after} is decided here, and another entry stands there at node ${from}`);
    // Undecided at the source, and a fact here: a later reign decided it.
    if (pull.after <= replica.decidedThrough) return endCampaign(replica, "deposed");
    mark("adopt-tail-mismatch");
    return fetchTail(replica, recovery, "decided");
  }
  // It promised with more: facts of a later reign have cut its tail since, and there is nothing to wait for.
  if (pull.kind === "tail" && m.entries.length === 0 && pull.after < recovery.info.last) {
    mark("adopt-source-cut-short");
    return endCampaign(replica, "deposed");
  }
  if (pull.kind === "tail") return takeTail(replica, role, recovery, pull.after, m.entries);
  if (m.entries.some((entry) => compareBallots(entry.origin, role.ballot) >= 0)) return endCampaign(replica, "deposed");
  if (!ingestFacts(replica, m.entries)) return;
  if (m.entries.length > 0 && replica.decidedThrough < m.decidedThrough) fetchMore(replica, recovery, "facts");
  else fetchTail(replica, recovery, "decided");
}

/** What is decided goes into this log at once; what is not is staged, and adopted as a whole. */
function takeTail(replica: Replica, role: Candidate, recovery: Recovery, after: number, entries: readonly Entry[]): void {
  if (recovery.staged.length === 0) recovery.agreedThrough = slot(after);
  for (const entry of entries) {
    if (compareBallots(entry.origin, role.ballot) >= 0) return endCampaign(replica, "deposed"); // a later reign has decided there
    const next = (recovery.staged.at(-1)?.slot ?? recovery.agreedThrough) + 1;
    if (entry.slot > recovery.info.last) break; // came after the promise: nothing that this quorum speaks of
    if (entry.slot !== next) return replica.drop(recovery.source, "fetch-reply", "stale");
    if (entry.slot <= recovery.info.decidedThrough) {
      // Agreed up to here and decided there, at the source itself: this prefix is a fact.
      advanceDecided(replica, minSlot(slot(entry.slot - 1), replica.log.last));
      if (!ingestFacts(replica, [entry])) return;
      recovery.agreedThrough = entry.slot;
    } else {
      recovery.staged.push(entry);
    }
  }
  const reached = recovery.staged.at(-1)?.slot ?? recovery.agreedThrough;
  if (reached >= recovery.info.last) return adopt(replica, role, recovery);
  fetchMore(replica, recovery, "tail");
}

/** What a promiser knows to be decided is not in the best log: a later reign decided it, and this ballot comes too late. */
function giveWay(replica: Replica): void {
  mark("adopt-facts-from-above");
  endCampaign(replica, "deposed");
}

/** P6. The source's log becomes this one, and this ballot its owner, in one batch: the step that makes a candidate the leader. */
function adopt(replica: Replica, role: Candidate, { source, info, facts, agreedThrough, staged }: Recovery): void {
  const known = staged.find(({ slot: at }) => at === facts.decidedThrough);
  const holds = known === undefined ? replica.log.agrees(facts.decidedThrough, facts.decidedOrigin) : sameBallot(known.origin, facts.decidedOrigin);
  if (!holds) return giveWay(replica);
  if (source !== replica.node) {
    if (staged.length > 0) mark("adopt-foreign-suffix");
    const differs = staged.find((entry) => !replica.log.agrees(entry.slot, entry.origin));
    replica.truncateFrom(differs?.slot ?? slot(Math.max(agreedThrough, staged.at(-1)?.slot ?? 0) + 1));
    if (!appendMissing(replica, staged)) return;
  }
  replica.accepted = role.ballot;
  replica.dirty = true;
  advanceDecided(replica, facts.decidedThrough);
  becomeLeader(replica, role, info.accepted);
}

/** E5. */
export function onReject(replica: Replica, role: Candidate, from: NodeId, m: RejectMessage): void {
  if (!sameBallot(m.re, role.ballot)) return replica.drop(from, "reject", "other-ballot");
  role.refusals.add(from);
  const refusing = replica.voters.filter((id) => role.refusals.has(id) && !role.promises.has(id)).length;
  if (refusing > replica.voters.length - replica.quorum) endCampaign(replica, "campaign-refused");
}

/** Called every round. */
export function superviseCampaign(replica: Replica, role: Candidate): void {
  if (replica.now > role.deadline) return endCampaign(replica, "campaign-timeout");
  const pull = role.recovery?.pull;
  if (role.recovery !== undefined && pull !== undefined && replica.now - pull.sentAt >= replica.options.retransmitTicks) {
    fetchMore(replica, role.recovery, pull.kind);
  }
  sendPrepares(replica, role);
}

export function endCampaign(replica: Replica, reason: RoleReason): void {
  if (reason === "campaign-refused") mark("candidate-refused");
  else if (reason === "campaign-timeout") mark("candidate-timeout");
  becomeFollower(replica, reason);
  coolDown(replica);
}
