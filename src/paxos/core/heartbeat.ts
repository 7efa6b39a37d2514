/** Heartbeats: rounds of question and answer (E1, E2). An answered round proves that both directions of a link work, and nothing else does. */
import type { NodeId } from "../../base/ids.ts";
import { learnDecided } from "./acceptor.ts";
import { compareBallots, sameBallot } from "./ballot.ts";
import type { HeartbeatMessage, HeartbeatReplyMessage } from "./messages.ts";
import type { Replica } from "./state.ts";
import { durableVote } from "./vouch.ts";

/** Opens a round: answers to it will prove that a link worked after this moment. */
export function openRound(replica: Replica): void {
  const { election, options } = replica;
  election.round += 1;
  election.openedAt.set(election.round, replica.now);
  for (const [round, openedAt] of election.openedAt) {
    if (replica.now - openedAt <= patienceTicks(replica)) break; // in order
    election.openedAt.delete(round);
  }
  election.nextRoundAt = replica.now + (election.hint === undefined ? options.heartbeatTicks : Math.max(1, Math.floor(options.heartbeatTicks / 5)));
  sendHeartbeats(replica, replica.others);
}

function patienceTicks({ options }: Replica): number {
  return (options.heartbeatSlack + 1) * options.heartbeatTicks;
}

export function sendHeartbeats(replica: Replica, targets: readonly NodeId[]): void {
  const { role, election } = replica;
  const message: HeartbeatMessage = {
    type: "heartbeat",
    round: election.round,
    ballot: role.type === "leader" ? role.ballot : undefined,
    decidedThrough: replica.decidedThrough,
    readSeq: role.type === "leader" ? role.reads.seq : 0,
    configVersion: replica.configuration.version,
  };
  for (const to of targets) if (to !== replica.node) replica.send(to, message);
}

/** E2. */
export function onHeartbeat(replica: Replica, from: NodeId, m: HeartbeatMessage): void {
  const { role, images, claims } = replica;
  const reign = m.ballot !== undefined && m.ballot.node === from && sameBallot(m.ballot, replica.promised);
  if (reign && role.type === "follower") {
    role.leader = m.ballot;
    learnDecided(replica, role, m.decidedThrough);
  }
  const { durable } = images;
  replica.send(from, {
    type: "heartbeat-reply",
    round: m.round,
    promised: replica.promised,
    leader: role.type === "leader" ? role.ballot : role.type === "follower" ? role.leader : undefined,
    happy: replica.election.happy,
    hasRoom: replica.room === "enough",
    configVersion: replica.configuration.version,
    decidedThrough: durable.decidedThrough,
    last: durable.last,
    accepted: durableVote(replica),
    readSeq: reign ? m.readSeq : 0,
    seen: claims.get(from),
  });
}

/** The round of an answer, if the answer says anything about now. */
export function noteAnswer(replica: Replica, from: NodeId, m: HeartbeatReplyMessage): boolean {
  const { election } = replica;
  const openedAt = election.openedAt.get(m.round);
  if (openedAt === undefined || m.round < (election.answersFrom.get(from) ?? 0)) return false;
  const newest = election.answers.get(from);
  if (newest !== undefined && newest.round > m.round) return false;
  election.answerTicks.set(from, Math.max(replica.now - openedAt, 0.98 * (election.answerTicks.get(from) ?? 0)));
  const { round, promised, leader, happy, hasRoom, configVersion, decidedThrough } = m;
  election.answers.set(from, { round, openedAt, promised, leader, happy, hasRoom, configVersion, decidedThrough });
  return true;
}

/** E1. The newest round it answered was opened a short while ago. */
export function isConnected(replica: Replica, peer: NodeId): boolean {
  const answer = replica.election.answers.get(peer);
  return answer !== undefined && replica.now - answer.openedAt <= patienceTicks(replica);
}

/** I3. True if a peer has heard this disk vouch for more than it holds: it went back in time, and must not vote. */
export function diskWentBack(replica: Replica, seen: NonNullable<HeartbeatReplyMessage["seen"]>): boolean {
  const { durable } = replica.images;
  if (compareBallots(seen.promised, durable.promised) > 0) return true;
  return (compareBallots(seen.accepted, durable.accepted) || seen.cut - durable.cut || seen.last - durable.last) > 0;
}
