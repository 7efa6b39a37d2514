import { type LeaseAcquireCommand, type OracleOutcome, outOfRange, type Refusal } from "./command.ts";
import type { OracleLimits } from "./limits.ts";
import type { Lease, OracleDraft } from "./state.ts";
import { PHYSICAL_MS_MAX } from "./timestamp.ts";

/**
 * Grants a lease whose bound lies above every timestamp that could have been granted so far, and raises the high water to it: so no later
 * window begins below what the holder may stamp. An acquire by the holder and epoch that hold it already answers with the lease as it stands.
 */
export function acquireLease(draft: OracleDraft, limits: OracleLimits, command: LeaseAcquireCommand): OracleOutcome {
  const { holder, holderEpoch, ttlMs } = command;
  if (holder.length < 1 || holder.length > limits.maxHolderBytes) {
    return refused({ reason: "invalid-holder", length: holder.length, max: limits.maxHolderBytes });
  }
  const last = draft.leaseOf(holder);
  const active = last !== undefined && !isExpired(draft, last) ? last : undefined;
  if (active !== undefined && active.holderEpoch === holderEpoch) return held(draft, active);
  if (active !== undefined && active.holderEpoch > holderEpoch) {
    return refused({ reason: "stale-holder-epoch", asked: holderEpoch, active: active.holderEpoch });
  }
  if (draft.leaseCount >= limits.maxLeases) return refused({ reason: "lease-limit", limit: limits.maxLeases });
  const bound = Math.max(draft.highWater + 1, draft.clock + ttlMs);
  if (bound > PHYSICAL_MS_MAX) return refused(outOfRange(bound));

  if (active !== undefined) draft.change({ type: "lease", lease: { ...active, supersededBy: holderEpoch } });
  draft.change({ type: "high-water", highWater: bound });
  const lease: Lease = { id: bound, holder, holderEpoch, ttlMs, bound, expiresAtMs: draft.clock + ttlMs };
  draft.change({ type: "lease", lease });
  return held(draft, lease);
}

/**
 * Gives a live lease another `ttlMs`. Its bound becomes at least the high water, and so never falls; unlike an acquire it need not exceed it,
 * because a renewal takes no new id: so renewals, however many, leave the high water at most one ttl ahead of the clock.
 */
export function renewLease(draft: OracleDraft, id: number): OracleOutcome {
  const lease = draft.lease(id);
  if (lease === undefined) return refused({ reason: "unknown-lease", id });
  if (lease.supersededBy !== undefined) return refused({ reason: "lease-superseded", id, by: lease.supersededBy });
  if (isExpired(draft, lease)) return refused({ reason: "lease-expired", id, expiresAtMs: lease.expiresAtMs });
  const bound = Math.max(draft.highWater, draft.clock + lease.ttlMs);
  if (bound > PHYSICAL_MS_MAX) return refused(outOfRange(bound));

  if (bound > draft.highWater) draft.change({ type: "high-water", highWater: bound });
  const renewed: Lease = { ...lease, bound, expiresAtMs: draft.clock + lease.ttlMs };
  draft.change({ type: "lease", lease: renewed });
  return held(draft, renewed);
}

/** Ends a lease at once, superseded or not. An unknown id is no error: it may have expired a moment before. */
export function releaseLease(draft: OracleDraft, id: number): OracleOutcome {
  if (draft.lease(id) !== undefined) draft.change({ type: "lease-dropped", id });
  return { type: "released" };
}

/** Drops the leases whose time has passed by the machine's clock. */
export function expireLeases(draft: OracleDraft): OracleOutcome {
  const expired = [...draft.leases()].filter((lease) => isExpired(draft, lease));
  for (const { id } of expired) draft.change({ type: "lease-dropped", id });
  return { type: "expired", count: expired.length };
}

/** By the machine's clock alone: no replica reads its own. */
export function isExpired(state: { readonly clock: number }, lease: Lease): boolean {
  return state.clock >= lease.expiresAtMs;
}

function held(draft: OracleDraft, lease: Lease): OracleOutcome {
  return { type: "lease", lease, highWater: draft.highWater };
}

function refused(refusal: Refusal): OracleOutcome {
  return { type: "refused", refusal };
}
