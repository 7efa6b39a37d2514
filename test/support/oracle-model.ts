/**
 * The oracle once more, dumb: plain arrays, linear scans, the whole state copied before each command. Written from the design, not from the
 * code; it shares nothing with src but the types of commands and outcomes.
 */
import type { Epoch } from "../../src/base/epoch.ts";
import type { GroupOutcome, OracleCommand, OracleOutcome, Refusal, SequenceGroup } from "../../src/oracle/rules/command.ts";
import type { OracleLimits } from "../../src/oracle/rules/limits.ts";
import type { Lease } from "../../src/oracle/rules/state.ts";

const MS_MAX = 70_368_744_177_663;
const U64_MAX = 18_446_744_073_709_551_615n;

export interface ModelState {
  limits: OracleLimits | undefined;
  clock: number;
  highWater: number;
  fence: Epoch;
  sequences: { key: string; first: bigint; next: bigint }[];
  leases: Lease[];
}

/** All there is to see of an oracle. */
export interface Observed extends Readonly<Omit<ModelState, "sequences" | "leases">> {
  readonly sequenceCount: number;
  readonly leaseCount: number;
  readonly frontier: number;
  readonly sequences: readonly object[];
  /** By id. */
  readonly leases: readonly Lease[];
  /** For each lease, which lease of its holder is neither superseded nor past its time. */
  readonly liveIds: readonly (number | undefined)[];
}

export class OracleModel {
  state: ModelState = { limits: undefined, clock: 0, highWater: 0, fence: 0n as Epoch, sequences: [], leases: [] };

  apply(command: OracleCommand, entryEpoch: Epoch): OracleOutcome {
    const before = this.state;
    const after = structuredClone(before);
    const outcome = decide(after, command, entryEpoch);
    if (outcome.type === "fenced") return outcome; // nothing moves
    this.state = outcome.type === "refused" ? { ...before, clock: after.clock } : after; // nothing but the clock on record moves
    return outcome;
  }

  observe(): Observed {
    const { sequences, leases, ...rest } = structuredClone(this.state);
    return {
      ...rest,
      sequenceCount: sequences.length,
      leaseCount: leases.length,
      frontier: Math.min(rest.highWater, ...leases.map((lease) => lease.bound)),
      sequences: sequences.sort((a, b) => (a.key < b.key ? -1 : 1)),
      leases: leases.sort((a, b) => a.id - b.id),
      liveIds: leases.map(({ holder }) => liveLeases(this.state, holder)[0]?.id),
    };
  }
}

function decide(state: ModelState, command: OracleCommand, entryEpoch: Epoch): OracleOutcome {
  if (command.epoch !== undefined) {
    const good = command.epoch === entryEpoch && (command.type === "take-over" ? command.epoch >= state.fence : command.epoch === state.fence);
    if (!good) return { type: "fenced", by: entryEpoch > state.fence ? entryEpoch : state.fence };
  }
  if (command.type === "take-over") return takeOver(state, command);
  if (state.limits === undefined) return refuse({ reason: "no-limits" });
  if ("now" in command) {
    if (command.now > MS_MAX) return refuse({ reason: "out-of-range", value: command.now });
    state.clock = Math.max(state.clock, command.now);
  }
  if (command.type === "advance") {
    if (command.atLeast > MS_MAX) return refuse({ reason: "out-of-range", value: command.atLeast });
    state.highWater = Math.max(state.highWater, command.atLeast);
    return { type: "advanced", highWater: state.highWater };
  }
  if (command.type === "expire") {
    const kept = state.leases.filter((lease) => lease.expiresAtMs > state.clock);
    const count = state.leases.length - kept.length;
    state.leases = kept;
    return { type: "expired", count };
  }
  if (command.type === "lease-release") {
    state.leases = state.leases.filter((lease) => lease.id !== command.id);
    return { type: "released" };
  }
  if (command.type === "lease-renew") return renew(state, command.id);
  if (command.type === "lease-acquire") return acquire(state, state.limits, command);
  if (command.type === "sequence-init") return init(state, state.limits, command.key, command.first);
  const groups: GroupOutcome[] = [];
  for (const group of command.groups) groups.push(grant(state, state.limits, group));
  return { type: "sequence", groups };
}

function takeOver(state: ModelState, command: Extract<OracleCommand, { type: "take-over" }>): OracleOutcome {
  if (state.limits !== undefined) {
    for (const name of ["maxKeys", "maxKeyBytes", "maxCount", "maxBatchKeys", "maxLeases", "maxHolderBytes"] as const) {
      const [kept, asked] = [state.limits[name], command.limits[name]];
      if (kept !== asked) return refuse({ reason: "limits-differ", name, kept, asked });
    }
  }
  const { highWater, clock } = state;
  const isFirst = highWater === 0; // nothing to compare a clock with
  if (!isFirst && command.now - command.maxClockJumpMs > Math.max(highWater, clock)) {
    return refuse({ reason: "clock-too-far", now: command.now, highWater: Math.max(highWater, clock), maxClockJumpMs: command.maxClockJumpMs });
  }
  const floor = Math.max(highWater + 1, clock, command.now);
  const reach = floor + command.failoverAdvanceMs;
  if (reach > MS_MAX) return refuse({ reason: "out-of-range", value: reach });
  state.fence = command.epoch;
  state.limits ??= command.limits;
  state.clock = Math.max(clock, command.now);
  state.highWater = reach;
  return { type: "taken-over", floor, highWater: reach };
}

function acquire(state: ModelState, limits: OracleLimits, command: Extract<OracleCommand, { type: "lease-acquire" }>): OracleOutcome {
  const { holder, holderEpoch, ttlMs } = command;
  if (holder.length === 0 || holder.length > limits.maxHolderBytes) {
    return refuse({ reason: "invalid-holder", length: holder.length, max: limits.maxHolderBytes });
  }
  const [live] = liveLeases(state, holder);
  if (live?.holderEpoch === holderEpoch) return { type: "lease", lease: live, highWater: state.highWater };
  if (live !== undefined && live.holderEpoch > holderEpoch) {
    return refuse({ reason: "stale-holder-epoch", asked: holderEpoch, active: live.holderEpoch });
  }
  if (state.leases.length + 1 > limits.maxLeases) return refuse({ reason: "lease-limit", limit: limits.maxLeases });
  const expiresAtMs = state.clock + ttlMs;
  const bound = Math.max(state.highWater + 1, expiresAtMs);
  if (bound > MS_MAX) return refuse({ reason: "out-of-range", value: bound });
  const lease: Lease = { id: bound, holder, holderEpoch, ttlMs, bound, expiresAtMs };
  state.highWater = bound;
  state.leases = [...state.leases.map((other) => (other === live ? { ...other, supersededBy: holderEpoch } : other)), lease];
  return { type: "lease", lease, highWater: bound };
}

function renew(state: ModelState, id: number): OracleOutcome {
  const index = state.leases.findIndex((lease) => lease.id === id);
  const lease = state.leases[index];
  if (lease === undefined) return refuse({ reason: "unknown-lease", id });
  if (lease.supersededBy !== undefined) return refuse({ reason: "lease-superseded", id, by: lease.supersededBy });
  if (lease.expiresAtMs <= state.clock) return refuse({ reason: "lease-expired", id, expiresAtMs: lease.expiresAtMs });
  const expiresAtMs = state.clock + lease.ttlMs;
  const bound = Math.max(state.highWater, expiresAtMs);
  if (bound > MS_MAX) return refuse({ reason: "out-of-range", value: bound });
  const renewed: Lease = { ...lease, bound, expiresAtMs };
  state.leases[index] = renewed;
  state.highWater = bound;
  return { type: "lease", lease: renewed, highWater: bound };
}

function init(state: ModelState, limits: OracleLimits, key: string, first: bigint): OracleOutcome {
  if (!keyFits(key, limits)) return refuse({ reason: "invalid-key" });
  const existing = state.sequences.find((sequence) => sequence.key === key);
  if (existing !== undefined && existing.next > existing.first) return refuse({ reason: "already-granted", ...existing });
  if (existing === undefined && state.sequences.length === limits.maxKeys) return refuse({ reason: "key-limit", limit: limits.maxKeys });
  state.sequences = [...state.sequences.filter((sequence) => sequence.key !== key), { key, first, next: first }];
  return { type: "sequence-ready", sequence: { first, next: first } };
}

/** All blocks are added to a copy, and the copy becomes the state unless something in it is wrong. */
function grant(state: ModelState, limits: OracleLimits, group: SequenceGroup): GroupOutcome {
  const refused = (refusal: Refusal): GroupOutcome => ({ type: "refused", refusal });
  if (group.length === 0) return refused({ reason: "empty-group" });
  if (group.length > limits.maxBatchKeys) return refused({ reason: "too-many-keys", count: group.length, max: limits.maxBatchKeys });
  const twice = group.find(({ key }, index) => group.slice(0, index).some((earlier) => earlier.key === key));
  if (twice !== undefined)
    return refused(Buffer.byteLength(twice.key) <= limits.maxKeyBytes ? { reason: "duplicate-key", key: twice.key } : { reason: "invalid-key" });
  for (const { key, count } of group) {
    if (count === 0 || count > limits.maxCount) return refused({ reason: "invalid-count", count, max: limits.maxCount });
    if (!keyFits(key, limits)) return refused({ reason: "invalid-key" });
  }
  const sequences = structuredClone(state.sequences);
  const starts: bigint[] = [];
  for (const { key, count } of group) {
    let sequence = sequences.find((candidate) => candidate.key === key);
    if (sequence === undefined) {
      sequence = { key, first: 0n, next: 0n };
      sequences.push(sequence);
    }
    starts.push(sequence.next);
    sequence.next += BigInt(count);
  }
  const over = group.findIndex(({ key }) => sequences.some((sequence) => sequence.key === key && sequence.next > U64_MAX));
  if (over >= 0) return refused({ reason: "sequence-overflow", key: group[over]?.key ?? "", next: starts[over] ?? 0n });
  if (sequences.length > limits.maxKeys) return refused({ reason: "key-limit", limit: limits.maxKeys });
  state.sequences = sequences;
  return { type: "granted", starts };
}

function keyFits(key: string, limits: OracleLimits): boolean {
  const bytes = Buffer.from(key, "utf8");
  return bytes.toString("utf8") === key && bytes.length >= 1 && bytes.length <= limits.maxKeyBytes; // a lone surrogate does not come back
}

function liveLeases(state: ModelState, holder: Uint8Array): Lease[] {
  return state.leases.filter((lease) => `${lease.holder}` === `${holder}` && lease.supersededBy === undefined && lease.expiresAtMs > state.clock);
}

function refuse(refusal: Refusal): OracleOutcome {
  return { type: "refused", refusal };
}
