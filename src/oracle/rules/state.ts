import { EPOCH_ZERO, type Epoch } from "../../base/epoch.ts";
import { unreachable } from "../../base/invariant.ts";
import { SnapshotMap } from "../../base/snapshot-map.ts";
import type { OracleLimits } from "./limits.ts";

/** A key's dense counter: everything in `[first, next)` was granted, once. */
export interface SequenceState {
  readonly first: bigint;
  readonly next: bigint;
}

/** The right of `holder` to stamp records up to `bound` until `expiresAtMs`. */
export interface Lease {
  /** The bound it was acquired with: the high water rises with each acquire, so no id is used twice. */
  readonly id: number;
  readonly holder: Uint8Array;
  readonly holderEpoch: bigint;
  readonly ttlMs: number;
  /** Inclusive, physical ms; at most the high water. */
  readonly bound: number;
  readonly expiresAtMs: number;
  /** The holder epoch that took over from this one. Such a lease still holds the frontier until it expires. */
  readonly supersededBy?: bigint | undefined;
}

/** What a command did, in absolute values: applying it twice is applying it once. A state is itself a list of these. */
export type OracleChange =
  | { readonly type: "limits"; readonly limits: OracleLimits }
  | { readonly type: "clock"; readonly clock: number }
  | { readonly type: "high-water"; readonly highWater: number }
  | { readonly type: "fence"; readonly fence: Epoch }
  | { readonly type: "sequence"; readonly key: string; readonly first: bigint; readonly next: bigint }
  | { readonly type: "lease"; readonly lease: Lease }
  | { readonly type: "lease-dropped"; readonly id: number };

/** Everything the rules may look at. */
export interface OracleState {
  /** Set by the first take-over. */
  readonly limits: OracleLimits | undefined;
  /** The highest clock reading that any leader put on record, ms since 1970. Expiry looks at nothing else. */
  readonly clock: number;
  /** Inclusive bound on every physical ms that was or may be granted. */
  readonly highWater: number;
  /** The epoch of the last take-over. */
  readonly fence: Epoch;
  readonly sequenceCount: number;
  readonly leaseCount: number;
  sequence(key: string): SequenceState | undefined;
  lease(id: number): Lease | undefined;
  /** The holder's lease that no other has superseded; it may have expired. */
  leaseOf(holder: Uint8Array): Lease | undefined;
  leases(): Iterable<Lease>;
}

/** The committed state. Changed only by `change`. */
export class OracleTables implements OracleState {
  limits: OracleLimits | undefined;
  clock = 0;
  highWater = 0;
  fence: Epoch = EPOCH_ZERO;
  readonly #sequences = new SnapshotMap<string, SequenceState>();
  readonly #leases = new SnapshotMap<number, Lease>();
  /** Derived: holder to the id of its unsuperseded lease. */
  readonly #current = new Map<string, number>();
  #frontier: number | undefined;

  get sequenceCount(): number {
    return this.#sequences.size;
  }

  get leaseCount(): number {
    return this.#leases.size;
  }

  sequence(key: string): SequenceState | undefined {
    return this.#sequences.get(key);
  }

  lease(id: number): Lease | undefined {
    return this.#leases.get(id);
  }

  leaseOf(holder: Uint8Array): Lease | undefined {
    const id = this.#current.get(holderKey(holder));
    const lease = id === undefined ? undefined : this.#leases.get(id);
    return lease?.supersededBy === undefined ? lease : undefined;
  }

  leases(): Iterable<Lease> {
    return this.#leases.values();
  }

  sequences(): Iterable<readonly [string, SequenceState]> {
    return this.#sequences;
  }

  /** The lowest bound that any lease on record, or the window, is held to. */
  get frontier(): number {
    this.#frontier ??= frontierOf(this);
    return this.#frontier;
  }

  change(change: OracleChange): void {
    switch (change.type) {
      case "limits":
        this.limits = change.limits;
        return;
      case "clock":
        this.clock = change.clock;
        return;
      case "high-water":
        this.highWater = change.highWater;
        this.#frontier = undefined;
        return;
      case "fence":
        this.fence = change.fence;
        return;
      case "sequence":
        this.#sequences.set(change.key, { first: change.first, next: change.next });
        return;
      case "lease":
        this.#leases.set(change.lease.id, change.lease);
        keepNewest(this.#current, change.lease);
        this.#frontier = undefined;
        return;
      case "lease-dropped": {
        const lease = this.#leases.get(change.id);
        if (lease === undefined) return;
        this.#leases.delete(change.id);
        const key = holderKey(lease.holder);
        if (this.#current.get(key) === change.id) this.#current.delete(key);
        this.#frontier = undefined;
        return;
      }
      default:
        return unreachable(change);
    }
  }

  /** The whole state as the changes that build it, frozen now, whatever its size; made one by one as they are asked for, once. `release` it where it is not read to its end. */
  capture(): CapturedState {
    const { limits, clock, highWater, fence } = this;
    const sequences = this.#sequences.freeze();
    const leases = this.#leases.freeze();
    return {
      *[Symbol.iterator]() {
        if (limits !== undefined) yield { type: "limits", limits } as const;
        yield { type: "clock", clock } as const;
        yield { type: "high-water", highWater } as const;
        yield { type: "fence", fence } as const;
        for (const [key, { first, next }] of sequences) yield { type: "sequence", key, first, next } as const;
        for (const [, lease] of leases) yield { type: "lease", lease } as const;
      },
      release: () => {
        sequences.release();
        leases.release();
      },
    };
  }
}

export interface CapturedState extends Iterable<OracleChange> {
  release(): void;
}

/**
 * A draft over a state: reads see its changes, the state below does not, until whoever owns that state applies `changes`.
 * So a command is decided first, made durable next, and published last.
 */
export class OracleDraft implements OracleState {
  readonly changes: OracleChange[] = [];
  readonly #base: OracleState;
  limits: OracleLimits | undefined;
  clock: number;
  highWater: number;
  fence: Epoch;
  sequenceCount: number;
  leaseCount: number;
  readonly #sequences = new Map<string, SequenceState>();
  readonly #leases = new Map<number, Lease | undefined>();
  readonly #current = new Map<string, number>();

  constructor(base: OracleState) {
    this.#base = base;
    this.limits = base.limits;
    this.clock = base.clock;
    this.highWater = base.highWater;
    this.fence = base.fence;
    this.sequenceCount = base.sequenceCount;
    this.leaseCount = base.leaseCount;
  }

  sequence(key: string): SequenceState | undefined {
    return this.#sequences.get(key) ?? this.#base.sequence(key);
  }

  lease(id: number): Lease | undefined {
    return this.#leases.has(id) ? this.#leases.get(id) : this.#base.lease(id);
  }

  leaseOf(holder: Uint8Array): Lease | undefined {
    const id = this.#current.get(holderKey(holder)) ?? this.#base.leaseOf(holder)?.id;
    const lease = id === undefined ? undefined : this.lease(id);
    return lease?.supersededBy === undefined ? lease : undefined;
  }

  *leases(): Iterable<Lease> {
    for (const lease of this.#base.leases()) if (!this.#leases.has(lease.id)) yield lease;
    for (const lease of this.#leases.values()) if (lease !== undefined) yield lease;
  }

  change(change: OracleChange): void {
    this.changes.push(change);
    switch (change.type) {
      case "limits":
        this.limits = change.limits;
        return;
      case "clock":
        this.clock = change.clock;
        return;
      case "high-water":
        this.highWater = change.highWater;
        return;
      case "fence":
        this.fence = change.fence;
        return;
      case "sequence":
        if (this.sequence(change.key) === undefined) this.sequenceCount += 1;
        this.#sequences.set(change.key, { first: change.first, next: change.next });
        return;
      case "lease":
        if (this.lease(change.lease.id) === undefined) this.leaseCount += 1;
        this.#leases.set(change.lease.id, change.lease);
        keepNewest(this.#current, change.lease);
        return;
      case "lease-dropped":
        if (this.lease(change.id) !== undefined) this.leaseCount -= 1;
        this.#leases.set(change.id, undefined);
        return;
      default:
        return unreachable(change);
    }
  }
}

function frontierOf(state: OracleState): number {
  let frontier = state.highWater;
  for (const lease of state.leases()) frontier = Math.min(frontier, lease.bound);
  return frontier;
}

/** Ids rise, so the newest lease of a holder is the one with the highest, in whatever order leases are read. */
function keepNewest(current: Map<string, number>, { id, holder, supersededBy }: Lease): void {
  const key = holderKey(holder);
  if (supersededBy === undefined && id >= (current.get(key) ?? 0)) current.set(key, id);
}

/** Holders are compared by bytes. */
function holderKey(holder: Uint8Array): string {
  let key = "";
  for (const byte of holder) key += String.fromCharCode(byte);
  return key;
}
