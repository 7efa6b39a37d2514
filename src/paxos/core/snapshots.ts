/**
 * Snapshots, as far as the protocol goes (S2 to S4): when one takes the place of a log's beginning, and how much of the log it makes superfluous. What is in a snapshot, and how
 * its bytes travel, is no business of this core; who is asked for one stands in `catchup.ts` (S1).
 */
import { maxSlot, minSlot, type Slot, slot } from "../../base/ids.ts";
import { InvariantViolation } from "../../base/invariant.ts";
import { mark } from "../../base/marks.ts";
import { sameBallot } from "./ballot.ts";
import type { Effects } from "./effects.ts";
import type { LogPoint, SnapshotMeta } from "./snapshot.ts";
import { pointOf, type Replica } from "./state.ts";

/** Whether this node gets on by it: its log does not reach so far, or nothing is there to apply it to. */
export function isOfUse({ snapshots, decidedThrough, log }: Replica, meta: SnapshotMeta): boolean {
  return meta.slot > decidedThrough || (snapshots.missing && meta.slot >= log.compactedThrough);
}

/** A node that is about to become what a snapshot says, or has nothing to apply to, leads nobody: it could not answer. */
export function needsSnapshot({ snapshots }: Replica): boolean {
  return snapshots.missing || snapshots.pulling !== undefined || snapshots.installing !== undefined;
}

/** S2. The log begins after the snapshot from here on, in memory; in one batch on the disk; and then for the machine (S3). */
export function onSnapshotPulled(replica: Replica, meta: SnapshotMeta): void {
  const { snapshots, log, role } = replica;
  snapshots.pulling = undefined;
  // P7: only a follower takes facts that its log does not lead up to.
  if (role.type !== "follower" || snapshots.installing !== undefined || !isOfUse(replica, meta)) return discard(replica, meta);
  snapshots.installing = meta;
  if (meta.slot <= replica.decidedThrough) return; // the log is there, and only the machine is not
  const keepTail = meta.slot <= log.last && sameBallot(log.originAt(meta.slot), meta.origin);
  mark(keepTail ? "snapshot-keeps-tail" : log.last > replica.decidedThrough ? "snapshot-drops-tail" : "snapshot-install");
  if (!keepTail && log.last > replica.decidedThrough) replica.cut += 1; // no ballot explains what goes
  skipProposals(replica, meta.slot);
  log.install(meta, keepTail);
  replica.ops.push({ type: "install", point: pointOf(meta), keepTail });
  replica.setDecided(meta.slot, meta.configuration);
  replica.handedOut = meta.slot;
  replica.dirty = true;
  role.synced = false;
  role.match = slot(0);
}

export function onSnapshotFailed({ snapshots }: Replica, id: string): void {
  if (snapshots.pulling?.meta.id !== id) return;
  mark("snapshot-restart");
  snapshots.pulling = undefined;
}

/** D4. What stood there, and whether it was a proposal of this process, nobody here will ever see. */
function skipProposals(replica: Replica, through: Slot): void {
  for (const [at, waiting] of replica.proposals) {
    if (at > through) continue;
    mark("outcome-unknown-snapshot");
    replica.proposals.delete(at);
    replica.openProposals -= waiting.length;
    for (const { id } of waiting) replica.proposalResults.push({ id, type: "unknown" });
  }
}

/** The machine of this node was written down as of a slot that it had applied. */
export function onSnapshotMade(replica: Replica, meta: SnapshotMeta): void {
  const { snapshots } = replica;
  if (meta.slot <= (snapshots.newest?.slot ?? 0) || snapshots.installing !== undefined) return discard(replica, meta); // another came meanwhile
  snapshots.made = meta;
}

/** At the end of a step: what the disk has acknowledged is built upon. @returns the snapshot that the machine must now become. */
export function settleSnapshots(replica: Replica): Effects["install"] {
  const { snapshots, images } = replica;
  const { installing, made } = snapshots;
  if (made !== undefined && images.durable.decidedThrough >= made.slot) {
    snapshots.made = undefined;
    snapshots.newest = made;
    snapshots.points.push({ point: pointOf(made), appendedBytes: replica.appendedBytes });
  }
  compact(replica);
  if (installing === undefined || images.durable.decidedThrough < installing.slot) return undefined;
  snapshots.installing = undefined;
  snapshots.missing = false;
  snapshots.newest = installing;
  snapshots.points = [{ point: pointOf(installing), appendedBytes: replica.appendedBytes }];
  replica.handedOut = maxSlot(replica.handedOut, installing.slot);
  return installing;
}

/**
 * S4. The log begins after the snapshot before the newest: that is the tail for those who are briefly away. While a peer pulls an older one, it begins after that, so
 * that the peer can go on from there; but not for ever.
 */
function compact(replica: Replica): void {
  const { snapshots, log, images, options } = replica;
  const limit = snapshots.points.at(-2)?.point.slot ?? slot(0);
  const reachable = snapshots.points.filter(({ point }) => point.slot > log.compactedThrough && point.slot <= limit);
  const { servedFrom } = snapshots;
  let target: LogPoint | undefined;
  for (const { point, appendedBytes } of reachable) {
    const isNeeded = servedFrom !== undefined && point.slot > servedFrom;
    if (isNeeded && replica.appendedBytes - appendedBytes <= options.maxRetainedBytes) {
      mark("compact-waits");
      break;
    }
    target = point;
  }
  if (target === undefined) return;
  if (target.slot > minSlot(images.durable.decidedThrough, replica.appliedThrough) || target.slot > (snapshots.newest?.slot ?? 0))
    throw new InvariantViolation("only what a snapshot covers is let go (S4)", { target, newest: snapshots.newest?.slot });
  mark("compact");
  log.compact(target);
  snapshots.points = snapshots.points.filter(({ point }) => point.slot >= log.compactedThrough);
  replica.dirty = true;
}

function discard(replica: Replica, meta: SnapshotMeta): void {
  mark("snapshot-discard");
  replica.discardSnapshot = meta;
}
