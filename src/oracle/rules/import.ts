/** Taking over what another oracle has granted. */
import { OracleError } from "../../base/errors.ts";
import { differingLimit } from "./limits.ts";
import type { Lease, OracleChange, OracleTables, SequenceState } from "./state.ts";

/**
 * What makes `current` grant nothing that `imported` has granted: every floor moves up, and none down. What is on both sides must be of one history: a sequence of which one side
 * knows more than the other, a lease of the same holder.
 * @throws OracleError TSO_INVALID_ARGUMENT: what does not go together, and why. Nothing is changed then.
 */
export function importChanges(current: OracleTables, imported: OracleTables): readonly OracleChange[] {
  const changes: OracleChange[] = [];
  const { limits } = imported;
  if (limits !== undefined) {
    const name = current.limits && differingLimit(current.limits, limits);
    if (name !== undefined)
      throw refused(`${name} is ${current.limits?.[name]} here, and ${limits[name]} there: limits are fixed by the first start`);
    if (current.limits === undefined) changes.push({ type: "limits", limits });
  }
  if (imported.clock > current.clock) changes.push({ type: "clock", clock: imported.clock });
  if (imported.highWater > current.highWater) changes.push({ type: "high-water", highWater: imported.highWater });
  for (const [key, theirs] of imported.sequences()) {
    const raised = raisedSequence(key, current.sequence(key), theirs);
    if (raised !== undefined) changes.push({ type: "sequence", key, ...raised });
  }
  for (const lease of imported.leases()) {
    const raised = raisedLease(current, lease);
    if (raised !== undefined) changes.push({ type: "lease", lease: raised });
  }
  return changes;
}

/** Nothing where it is known already. One that was only given a first value gives way to one that was used. */
function raisedSequence(key: string, ours: SequenceState | undefined, theirs: SequenceState): SequenceState | undefined {
  if (ours === undefined) return theirs;
  if (isUsed(ours) !== isUsed(theirs)) return isUsed(theirs) ? theirs : undefined;
  if (isUsed(ours) && ours.first !== theirs.first)
    throw refused(`sequence ${JSON.stringify(key)} began with ${ours.first} here and with ${theirs.first} there: one of them would get a gap`);
  return theirs.next > ours.next ? theirs : undefined;
}

function isUsed({ first, next }: SequenceState): boolean {
  return next > first;
}

function raisedLease(current: OracleTables, lease: Lease): Lease | undefined {
  const ours = current.lease(lease.id);
  if (ours !== undefined) {
    if (!sameBytes(ours.holder, lease.holder) || ours.holderEpoch !== lease.holderEpoch)
      throw refused(`lease ${lease.id} is held by another here than there`);
    if (lease.expiresAtMs <= ours.expiresAtMs && lease.bound <= ours.bound && lease.supersededBy === ours.supersededBy) return undefined;
    const supersededBy = ours.supersededBy ?? lease.supersededBy;
    return { ...ours, bound: Math.max(ours.bound, lease.bound), expiresAtMs: Math.max(ours.expiresAtMs, lease.expiresAtMs), supersededBy };
  }
  if (lease.supersededBy === undefined && current.leaseOf(lease.holder) !== undefined)
    throw refused(`the holder of lease ${lease.id} has another lease here: let one of them end first`);
  return lease;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

function refused(why: string): OracleError {
  return new OracleError("TSO_INVALID_ARGUMENT", `the two oracles do not go together: ${why}`);
}
