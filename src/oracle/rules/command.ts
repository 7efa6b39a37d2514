/** The vocabulary of the machine: what can be asked, what is answered, what is refused. */
import type { Epoch } from "../../base/epoch.ts";
import type { OracleLimits } from "./limits.ts";
import type { Lease, SequenceState } from "./state.ts";

/** Every command but a sequence's carries the epoch under which it was issued: a late one of a deposed leader changes nothing. */
export type OracleCommand =
  | TakeOverCommand
  | AdvanceCommand
  | ExpireCommand
  | SequenceCommand
  | SequenceInitCommand
  | LeaseAcquireCommand
  | LeaseRenewCommand
  | LeaseReleaseCommand;

/** Raises the fence and gives the new leader its first window. */
export interface TakeOverCommand {
  readonly type: "take-over";
  readonly epoch: Epoch;
  /** The leader's clock, ms since 1970. */
  readonly now: number;
  readonly failoverAdvanceMs: number;
  /** A clock further than this beyond what is durable is refused: it would burn the range of timestamps. */
  readonly maxClockJumpMs: number;
  readonly limits: OracleLimits;
}

/** Raises the high water to at least `atLeast`. */
export interface AdvanceCommand {
  readonly type: "advance";
  readonly epoch: Epoch;
  readonly now: number;
  readonly atLeast: number;
}

/** Drops the leases whose time has passed. Until this is applied they hold. */
export interface ExpireCommand {
  readonly type: "expire";
  readonly epoch: Epoch;
  readonly now: number;
}

/** Several callers' requests in one entry. Without an epoch it is valid under any leader: its result is fixed when it is applied. */
export interface SequenceCommand {
  readonly type: "sequence";
  readonly epoch?: Epoch | undefined;
  readonly groups: readonly SequenceGroup[];
}

/** One caller's atomic set: all blocks or none. */
export type SequenceGroup = readonly BlockRequest[];

export interface BlockRequest {
  readonly key: string;
  readonly count: number;
}

/** Sets a sequence's first value, before its first grant. */
export interface SequenceInitCommand {
  readonly type: "sequence-init";
  readonly epoch?: Epoch | undefined;
  readonly key: string;
  readonly first: bigint;
}

export interface LeaseAcquireCommand {
  readonly type: "lease-acquire";
  readonly epoch: Epoch;
  readonly now: number;
  readonly holder: Uint8Array;
  readonly holderEpoch: bigint;
  readonly ttlMs: number;
}

export interface LeaseRenewCommand {
  readonly type: "lease-renew";
  readonly epoch: Epoch;
  readonly now: number;
  readonly id: number;
}

export interface LeaseReleaseCommand {
  readonly type: "lease-release";
  readonly epoch: Epoch;
  readonly now: number;
  readonly id: number;
}

export type OracleOutcome =
  | { readonly type: "fenced"; readonly by: Epoch }
  | { readonly type: "refused"; readonly refusal: Refusal }
  /** Grants begin at `floor`; `highWater` is durable. */
  | { readonly type: "taken-over"; readonly floor: number; readonly highWater: number }
  | { readonly type: "advanced"; readonly highWater: number }
  | { readonly type: "expired"; readonly count: number }
  /** An outcome per group, in order. */
  | { readonly type: "sequence"; readonly groups: readonly GroupOutcome[] }
  | { readonly type: "sequence-ready"; readonly sequence: SequenceState }
  /** The lease as it stands, and the high water that covers its bound. */
  | { readonly type: "lease"; readonly lease: Lease; readonly highWater: number }
  | { readonly type: "released" };

export type GroupOutcome =
  /** The first value of each block, in the order of the group. */
  { readonly type: "granted"; readonly starts: readonly bigint[] } | { readonly type: "refused"; readonly refusal: Refusal };

/** Refusals are ordinary outcomes, equal on every replica; nothing but the clock on record moves. */
export type Refusal =
  | { readonly reason: "malformed"; readonly detail: string }
  /** Nobody has taken over yet, so the limits are not known. */
  | { readonly reason: "no-limits" }
  | { readonly reason: "limits-differ"; readonly name: keyof OracleLimits; readonly kept: number; readonly asked: number }
  | { readonly reason: "clock-too-far"; readonly now: number; readonly highWater: number; readonly maxClockJumpMs: number }
  | { readonly reason: "out-of-range"; readonly value: number }
  | { readonly reason: "invalid-key" }
  | { readonly reason: "invalid-count"; readonly count: number; readonly max: number }
  | { readonly reason: "empty-group" }
  | { readonly reason: "too-many-keys"; readonly count: number; readonly max: number }
  | { readonly reason: "duplicate-key"; readonly key: string }
  | { readonly reason: "key-limit"; readonly limit: number }
  | { readonly reason: "sequence-overflow"; readonly key: string; readonly next: bigint }
  | { readonly reason: "already-granted"; readonly key: string; readonly first: bigint; readonly next: bigint }
  | { readonly reason: "invalid-holder"; readonly length: number; readonly max: number }
  | { readonly reason: "lease-limit"; readonly limit: number }
  | { readonly reason: "stale-holder-epoch"; readonly asked: bigint; readonly active: bigint }
  | { readonly reason: "unknown-lease"; readonly id: number }
  | { readonly reason: "lease-expired"; readonly id: number; readonly expiresAtMs: number }
  | { readonly reason: "lease-superseded"; readonly id: number; readonly by: bigint };

/** A physical ms beyond the 46 bits. Sums of what was asked for may be beyond what can be written down exactly: then the largest that can stands for them. */
export function outOfRange(value: number): Refusal {
  return { reason: "out-of-range", value: Math.min(value, Number.MAX_SAFE_INTEGER) };
}
