/**
 * Who should lead (E3 to E6), and when a leader must give up (Q1, Q3, Q4). All of it is about time and patience: safety never depends on it. A node takes over only
 * if it is unhappy, reaches a quorum, and nobody it reaches is happy; so a working leader is left alone, and no ballot is spent on a campaign that cannot win.
 */
import type { NodeId } from "../../base/ids.ts";
import { mark } from "../../base/marks.ts";
import { compareBallots, sameBallot } from "./ballot.ts";
import { startCampaign, superviseCampaign } from "./candidate.ts";
import { pullFacts } from "./catchup.ts";
import { isVoter } from "./configuration.ts";
import type { DiskRoom } from "./effects.ts";
import { isConnected, openRound } from "./heartbeat.ts";
import { expireReads } from "./reads.ts";
import { retransmit } from "./replication.ts";
import { becomeFollower, coolDown, isHappyLeader, restartPatience } from "./roles.ts";
import { needsSnapshot } from "./snapshots.ts";
import type { Follower, Leader, Replica } from "./state.ts";

/** A leader that can do something about it has given up after `progressTicks` (rule Q4). */
const HELD_UP = 2;

/** Election timeouts that a node with little room leaves to those that have more (rule F6). */
const LOW_DISK_WAITS = 4;

export function onTick(replica: Replica): void {
  replica.now += 1;
  if (replica.probation !== undefined && replica.now >= replica.probation.until) {
    mark("probation-timeout");
    replica.probation = undefined;
  }
  if (replica.now >= replica.election.nextRoundAt) closeRound(replica);
}

/** Asked to, by whoever drives this core. */
export function onCampaign(replica: Replica): void {
  if (!isVoter(replica.configuration, replica.node, replica.storageId) || replica.probation !== undefined) return;
  if (replica.room === "none" || needsSnapshot(replica)) return;
  startCampaign(replica, replica.role.type === "leader" ? "rebid" : "campaign");
}

/** F6. Without room nobody leads: a reign writes. What is vouched for stays so, and promises are given as before: they are small, and others need them. */
export function onDiskRoom(replica: Replica, room: DiskRoom): void {
  replica.room = room;
  if (room !== "none" || replica.role.type === "follower") return;
  if (replica.role.type === "leader") giveUp(replica, "full-disk");
  else becomeFollower(replica, "full-disk");
}

/** E1. Judges by the answers so far, then asks again. */
export function closeRound(replica: Replica): void {
  const { election } = replica;
  if (election.hint !== undefined && replica.now >= election.hint.until) election.hint = undefined;
  expireReads(replica);
  superviseRole(replica);
  openRound(replica);
}

function superviseRole(replica: Replica): void {
  const { role } = replica;
  switch (role.type) {
    case "leader":
      return superviseReign(replica, role);
    case "candidate":
      return superviseCampaign(replica, role);
    default:
      superviseFollower(replica, role);
  }
}

function superviseFollower(replica: Replica, follower: Follower): void {
  const { election } = replica;
  const connected = connectedVoters(replica);
  election.happy = isHappyFollower(replica, follower) && !isHeldUp(replica, follower, connected);
  if (election.happy) election.hint = undefined;
  const calm = election.happy || connected.some((id) => election.answers.get(id)?.happy === true);
  // Patience is reckoned from when nobody near had a leader: who lacks one all the time must not jump at a neighbour's moment of doubt.
  if (calm !== election.calm) restartPatience(replica);
  election.calm = calm;
  if (!calm && mayCampaign(replica, connected)) startCampaign(replica, "campaign");
  else pullFacts(replica, follower);
}

function connectedVoters(replica: Replica): readonly NodeId[] {
  return replica.voters.filter((id) => id !== replica.node && isConnected(replica, id));
}

/** E3. Follows a node that answers, that says it leads this very reign, and that is happy itself: a leader that was started again says it does not. */
function isHappyFollower(replica: Replica, { leader }: Follower): boolean {
  if (leader === undefined || !isConnected(replica, leader.node)) return false;
  const answer = replica.election.answers.get(leader.node);
  return answer?.happy === true && sameBallot(answer.leader, leader);
}

/**
 * E3. Nothing of what its leader sent is decided, for long, and there is a quorum without that leader. Of those that the leader reaches one may be far behind, or have a disk that
 * hangs: they answer, so it stays in office, and would keep this node from those who could decide.
 */
function isHeldUp(replica: Replica, { leader }: Follower, connected: readonly NodeId[]): boolean {
  const { election, log, decidedThrough, now, options } = replica;
  if (log.last === decidedThrough || election.stalled?.decidedThrough !== decidedThrough) election.stalled = { decidedThrough, since: now };
  if (now - election.stalled.since <= HELD_UP * options.progressTicks) return false;
  const self = replica.voters.includes(replica.node) ? 1 : 0;
  if (connected.filter((id) => id !== leader?.node).length + self < replica.quorum) return false;
  mark("held-up");
  return true;
}

/** E4, and E6 where the connection to the leader was lost. That nobody near has a leader, the caller has seen. */
function mayCampaign(replica: Replica, connected: readonly NodeId[]): boolean {
  const { election, options, now, configuration } = replica;
  if (!isVoter(configuration, replica.node, replica.storageId) || replica.probation !== undefined || now < election.cooldownUntil) return false;
  if (replica.room === "none" || needsSnapshot(replica)) return false;
  if (connected.length + 1 < replica.quorum) return false;
  if (diskIsSlow(replica, options.campaignTicks)) return false; // the ballot would not even reach this disk in time
  // Somebody knows a newer configuration, which this node must learn first.
  if (connected.some((id) => (election.answers.get(id)?.configVersion ?? 0) > configuration.version)) return false;
  if (election.hint !== undefined && replica.room === "enough") return hintSuffices(replica, connected, election.hint);
  const patience = replica.room === "low" && othersHaveRoom(replica, connected) ? LOW_DISK_WAITS * options.electionTicks : 0;
  return now >= election.graceUntil && now - election.patientSince >= patience + (replica.voters.length === 1 ? 0 : election.delay);
}

/** F6. They should lead rather than this node. */
function othersHaveRoom({ election }: Replica, connected: readonly NodeId[]): boolean {
  return connected.some((id) => election.answers.get(id)?.hasRoom === true);
}

/** E6. A quorum said, after the connection was lost, that it has no leader either. */
function hintSuffices(replica: Replica, connected: readonly NodeId[], hint: NonNullable<typeof replica.election.hint>): boolean {
  const { election, options, now } = replica;
  const shortGrace = Math.min(election.graceUntil, election.graceSince + Math.ceil(1.5 * options.heartbeatTicks));
  if (now < hint.fireAt || (election.graceFor !== undefined && now < shortGrace)) return false;
  const agreeing = connected.filter((id) => (election.answers.get(id)?.round ?? 0) >= hint.fromRound).length;
  return agreeing + 1 >= replica.quorum;
}

/** E6. The transport saw an established session with `peer` end without a word. What it answered before proves nothing any more. */
export function onConnectionLost(replica: Replica, peer: NodeId, boot: number): void {
  const { election, role, options } = replica;
  if (boot < (replica.boots.get(peer) ?? 0)) return; // an earlier life, whose successor was heard
  election.answers.delete(peer);
  election.answersFrom.set(peer, election.round + 1);
  if (election.graceFor === peer) election.graceUntil = replica.now;
  if (role.type !== "follower" || role.leader?.node !== peer || !election.happy) return; // it had no leader to lose
  election.happy = false;
  // Should the word be false, the leader answers within this time, and all is as before: a follower must not take its own deafness for the leader's death.
  const answerTicks = Math.ceil(3 * (election.answerTicks.get(peer) ?? 0));
  election.hint = {
    until: replica.now + options.hintTicks,
    fromRound: election.round + 1,
    fireAt: replica.now + answerTicks + replica.random.below(3),
  };
  closeRound(replica);
}

/** A reign ends when it can no longer decide (Q1, Q4), and begins anew when a member is stuck above it (Q3). */
function superviseReign(replica: Replica, role: Leader): void {
  const { options, now, election } = replica;
  const connected = replica.others.filter((id) => isConnected(replica, id));
  const voters = connected.filter((id) => replica.voters.includes(id));
  const hasPromisedAbove = (id: NodeId): boolean => compareBallots(election.answers.get(id)?.promised ?? role.ballot, role.ballot) > 0;
  const following = voters.filter((id) => !hasPromisedAbove(id)).length;
  const self = replica.voters.includes(replica.node) ? 1 : 0;
  const hasQuorum = following + self >= replica.quorum;
  if (hasQuorum) {
    role.lastQuorumTick = now;
    role.lastQuorumMs = replica.nowMs;
  }
  const lost = replica.voters.filter(hasPromisedAbove).length;
  if (now - role.lastQuorumTick > options.checkQuorumTicks || replica.voters.length - lost < replica.quorum) return giveUp(replica, "check-quorum");
  if (diskIsSlow(replica, options.diskStallTicks)) return giveUp(replica, "stalled-disk");
  if (isStuck(replica, role)) return giveUp(replica, "no-progress");
  if (replica.room === "low" && now >= role.givesWayFrom && othersHaveRoom(replica, voters)) return giveUp(replica, "low-disk");
  election.happy = isHappyLeader(replica);

  role.stuckSince = connected.some(hasPromisedAbove) ? (role.stuckSince ?? now) : undefined;
  if (role.stuckSince !== undefined && now - role.stuckSince >= options.rebidTicks && hasQuorum) return startCampaign(replica, "rebid");
  retransmit(replica, role);
}

const GIVEN_UP = {
  "check-quorum": "check-quorum-stepdown",
  "stalled-disk": "disk-stall-abdicate",
  "low-disk": "disk-low-abdicate",
  "full-disk": "disk-full-abdicate",
  "no-progress": "no-progress-abdicate",
} as const;

/** Steps down, and lets others try first. */
function giveUp(replica: Replica, reason: keyof typeof GIVEN_UP): void {
  mark(GIVEN_UP[reason]);
  becomeFollower(replica, reason);
  if (reason !== "check-quorum") coolDown(replica);
}

function diskIsSlow({ images, now }: Replica, ticks: number): boolean {
  return images.oldestSinceTick !== undefined && now - images.oldestSinceTick > ticks;
}

/** Q4. Heartbeats alone must not keep a leader in office that decides nothing although its quorum is there. */
function isStuck(replica: Replica, role: Leader): boolean {
  if (replica.log.last === replica.decidedThrough) {
    role.lastDecidedTick = replica.now;
    return false;
  }
  if (replica.now - role.lastDecidedTick <= replica.options.progressTicks) return false;
  const streaming = [...role.peers.values()].filter(
    ({ id, state }) => state === "streaming" && replica.voters.includes(id) && isConnected(replica, id),
  );
  return streaming.length + 1 >= replica.quorum;
}
