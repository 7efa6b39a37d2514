/** What a node says of its disk, held against that disk at the moment of speaking (INV-8), and what a disk may never take back (INV-5, rule I3). */
import type { NodeId, Slot } from "../../base/ids.ts";
import { BALLOT_ZERO, type Ballot, ballotText, compareBallots, sameBallot } from "../../paxos/core/ballot.ts";
import type { Image } from "../../paxos/core/image.ts";
import type { DiskClaims, HeartbeatReplyMessage, LogState } from "../../paxos/core/messages.ts";
import { type ObservedDisk, type ObservedProcess, Violation } from "./observed.ts";
import { ancestorAt, entryText, type LogNode } from "./safety-log.ts";
import type { ChosenLog, Reign } from "./safety-votes.ts";

/** A disk over all processes that use it. */
export interface DiskHistory {
  readonly node: NodeId;
  readonly storageId: string;
  boot: number;
  image: Image;
  /** Until the newest write. A process that has not heard of that write yet may still speak of this. */
  before: Image;
  /** End of its log. */
  log: LogNode;
  /** A fault took something from it: what is there now is the new beginning. */
  damaged: boolean;
}

/** A process may be told of a disk that went back only where somebody damaged it. */
export function assertRises({ node, storageId, image: before }: DiskHistory, after: Image): void {
  const fail = (claim: string, details: Readonly<Record<string, unknown>>): never => {
    throw new Violation("mono", claim, { node, storageId, ...details });
  };
  const accepted = compareBallots(after.accepted, before.accepted);
  if (compareBallots(after.promised, before.promised) < 0)
    fail("a disk's promise never goes down", { before: ballotText(before.promised), after: ballotText(after.promised) });
  if (accepted < 0) fail("a disk's accepted ballot never goes down", { before: ballotText(before.accepted), after: ballotText(after.accepted) });
  if (compareBallots(after.accepted, after.promised) > 0)
    fail("nothing is accepted above the promise", { accepted: ballotText(after.accepted), promised: ballotText(after.promised) });
  if (after.decidedThrough < before.decidedThrough)
    fail("what a disk knows to be decided stays so", { before: before.decidedThrough, after: after.decidedThrough });
  if (after.decidedThrough > after.last) fail("what is decided is in the log", { decidedThrough: after.decidedThrough, last: after.last });
  if (accepted === 0 && (after.cut < before.cut || (after.cut === before.cut && after.last < before.last)))
    fail("(accepted, cut, last) never goes down", { before: [before.cut, before.last], after: [after.cut, after.last] });
}

/** Whether a disk vouched for more than it holds now (rule I3). */
export function wentBack(disk: Image, { promised, accepted, cut, last }: DiskClaims): boolean {
  const order = compareBallots(accepted, disk.accepted);
  const isMore = cut > disk.cut || (cut === disk.cut && last > disk.last);
  return compareBallots(promised, disk.promised) > 0 || order > 0 || (order === 0 && isMore);
}

/** Gate of a prepare, a sync and an accept. */
export function assertPromiseDurable(process: ObservedProcess, message: string, ballot: Ballot): void {
  const { promised } = process.disk.image;
  if (!sameBallot(promised, ballot))
    throw new Violation("ack-durable", `the ballot of a ${message} is promised on the sender's disk`, {
      node: process.node,
      ballot: ballotText(ballot),
      promised: ballotText(promised),
    });
}

/** Promise and sync-request: the state of the log is that of the disk. Facts may be ahead of it, where nothing else is: they are checked as facts. */
export function assertStateDurable(
  process: ObservedProcess,
  disk: DiskHistory,
  chosen: ChosenLog,
  message: LogState & { readonly type: string },
): void {
  const { image } = process.disk;
  const { decidedThrough } = message;
  const fail = (claim: string, says: unknown, has: unknown): never => {
    throw new Violation("ack-durable", `${claim} in a ${message.type} is the disk's`, { node: process.node, says, has });
  };
  // A sync-request with nothing but facts asks the leader to begin at what is decided (rule A2).
  const factsOnly = message.type === "sync-request" && sameBallot(message.accepted, BALLOT_ZERO) && message.last === decidedThrough;
  if (!factsOnly) {
    if (!sameBallot(message.accepted, image.accepted)) fail("the accepted ballot", ballotText(message.accepted), ballotText(image.accepted));
    if (message.last !== image.last) fail("the end of the log", message.last, image.last);
  }
  if (message.last > image.last) fail("the end of the log", message.last, image.last);
  const last = ancestorAt(disk.log, message.last);
  if (!sameBallot(message.lastOrigin, last.origin)) fail("the last origin", ballotText(message.lastOrigin), ballotText(last.origin));
  if (message.cut !== image.cut) fail("the number of cuts", message.cut, image.cut);
  if (decidedThrough < image.decidedThrough || decidedThrough > image.last) fail("what is decided", decidedThrough, image.decidedThrough);
  const decided = ancestorAt(disk.log, decidedThrough);
  if (chosen.at(decidedThrough) !== decided) fail("what is decided", entryText(decided), "not chosen");
  if (!sameBallot(message.decidedOrigin, decided.origin)) fail("the decided origin", ballotText(message.decidedOrigin), ballotText(decided.origin));
}

/** Accepted, and the same in a heartbeat-reply: the disk's log is the leader's through there. */
export function assertAcceptedDurable(
  process: ObservedProcess,
  reign: Reign | undefined,
  { ballot, through, cut }: { readonly ballot: Ballot; readonly through: Slot; readonly cut: number },
): asserts reign is Reign {
  const { image } = process.disk;
  const { node } = process;
  if (!sameBallot(image.accepted, ballot))
    throw new Violation("ack-durable", "what is acknowledged is accepted on the disk, at that ballot", {
      node,
      ballot: ballotText(ballot),
      accepted: ballotText(image.accepted),
    });
  if (image.last < through) throw new Violation("ack-durable", "what is acknowledged is on the disk", { node, through, last: image.last });
  if (image.cut !== cut) throw new Violation("ack-durable", "an acknowledgement says how often the log was cut", { node, cut, has: image.cut });
  if (reign === undefined) throw new Violation("ack-durable", "only what a leader sent is acknowledged", { node, ballot: ballotText(ballot) });
  if (reign.tip.slot < through)
    throw new Violation("ack-durable", "no more is acknowledged than the leader has", { node, through, last: entryText(reign.tip) });
  const chain = chainOf(process.disk, through);
  if (chain !== undefined && chain !== ancestorAt(reign.tip, through).chain)
    throw new Violation("ack-durable", "what is acknowledged is the leader's log", {
      node,
      through,
      leader: entryText(ancestorAt(reign.tip, through)),
    });
}

/** A heartbeat-reply speaks of the disk as the process last heard of it. */
export function assertReplyDurable(process: ObservedProcess, disk: DiskHistory, { decidedThrough, last }: HeartbeatReplyMessage): void {
  const { node } = process;
  const { image } = process.disk;
  if (decidedThrough > image.decidedThrough)
    throw new Violation("ack-durable", "a heartbeat-reply says decided what the disk says", { node, decidedThrough, has: image.decidedThrough });
  if (last > image.last && last > disk.before.last)
    throw new Violation("ack-durable", "a heartbeat-reply says the log ends where the disk's does", { node, last, has: image.last });
}

/** Absent where the log was compacted. */
function chainOf(disk: ObservedDisk, at: Slot): number | undefined {
  return disk.entry(at)?.chain;
}
