/** Leaving a role, and what every role does with what is decided. */
import { type NodeId, type Slot, slot } from "../../base/ids.ts";
import { InvariantViolation } from "../../base/invariant.ts";
import { mark } from "../../base/marks.ts";
import { compareBallots, sameBallot } from "./ballot.ts";
import { configurationCodec } from "./configuration.ts";
import type { RoleReason } from "./effects.ts";
import { failReads, waitingReads } from "./reads.ts";
import { type Follower, newFollower, type Replica } from "./state.ts";

/**
 * Q2. Gives up whatever it is, for good: no reign is ever taken up again. Entries that were appended stay, and so do their proposals: each of them may still be
 * decided (rule D4). Reads fail.
 */
export function becomeFollower(replica: Replica, reason: RoleReason): Follower {
  const { role } = replica;
  if (role.type === "leader") {
    if (waitingReads(replica) > replica.forwarded.size) mark("read-failed-stepdown");
    failReads(replica, role, "not-leader");
  }
  if (role.type !== "follower") replica.events.push({ type: "role", role: "follower", ballot: replica.promised, reason });
  const follower = newFollower();
  replica.role = follower;
  replica.election.happy = false;
  replica.election.stalled = undefined;
  restartPatience(replica);
  return follower;
}

/** How long nobody near must have had a leader before this node campaigns: drawn anew, so that two do not keep meeting. */
export function restartPatience(replica: Replica): void {
  const { electionTicks } = replica.options;
  replica.election.patientSince = replica.now;
  replica.election.delay = electionTicks + replica.random.below(electionTicks);
}

/** Not before this tick does the node campaign again: twice as far away each time, up to eight (rule E5). */
export function coolDown(replica: Replica): void {
  const { election, options } = replica;
  const span = election.hint === undefined ? election.backoff * options.electionTicks : options.heartbeatTicks;
  election.cooldownUntil = replica.now + replica.random.below(span);
  election.backoff = Math.min(8, election.backoff * 2);
}

/** D2. Everything through `through` is a fact. The caller knows that this log holds it. */
export function advanceDecided(replica: Replica, through: Slot): void {
  const { log, role } = replica;
  const before = replica.decidedThrough;
  if (through <= before) return;
  if (through > log.last) throw new InvariantViolation("what is decided is in the log", { through, last: log.last });
  let configuration = replica.configuration;
  for (let at = slot(before + 1); at <= through; at = slot(at + 1)) {
    const entry = log.entryAt(at);
    if (entry === undefined) throw new InvariantViolation("what is not decided is in memory", { at });
    if (entry.kind === "config") configuration = configurationCodec.decode(entry.payload);
    if (role.type === "leader") role.uncommittedBytes -= entry.record.length;
    if (replica.openProposals > 0) resolveProposals(replica, at);
  }
  replica.setDecided(through, configuration === replica.configuration ? undefined : configuration);
}

/** D4. By slot and origin, never by content: a fact is this process's own proposal if this process appended it under that very ballot. */
function resolveProposals(replica: Replica, at: Slot): void {
  const waiting = replica.proposals.get(at);
  if (waiting === undefined) return;
  replica.proposals.delete(at);
  replica.openProposals -= waiting.length;
  const decided = replica.log.originAt(at);
  for (const { id, origin } of waiting) {
    if (!sameBallot(origin, decided)) mark("outcome-dropped-by-origin");
    replica.proposalResults.push(
      sameBallot(origin, decided)
        ? { id, type: "decided", slot: at, origin }
        : { id, type: "not-applied", reason: "superseded", leader: knownLeader(replica) },
    );
  }
}

/** Q0, E3. By the clock too: a process that slept would otherwise refuse its successor out of a happiness that has long passed. */
export function isHappyLeader(replica: Replica): boolean {
  const { role, options } = replica;
  if (role.type !== "leader") return false;
  const patienceTicks = options.heartbeatSlack * options.heartbeatTicks;
  const ticks = replica.now - role.lastQuorumTick;
  return ticks <= patienceTicks && replica.nowMs - role.lastQuorumMs <= 2 * patienceTicks * options.tickMs;
}

/** Whom a caller might ask instead: the leader of the highest ballot that this node or any other has told of, for it may be cut off from the one it should follow. */
export function knownLeader({ node, role, election }: Replica): NodeId | undefined {
  if (role.type === "leader") return node;
  let best = role.type === "follower" ? role.leader : undefined;
  for (const { leader } of election.answers.values())
    if (leader !== undefined && (best === undefined || compareBallots(leader, best) > 0)) best = leader;
  return best?.node === node ? undefined : best?.node;
}
