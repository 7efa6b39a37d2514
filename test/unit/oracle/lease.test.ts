import { expect, test } from "vitest";
import { epoch } from "../../../src/base/epoch.ts";
import { Allocator } from "../../../src/oracle/rules/allocator.ts";
import type { LeaseAcquireCommand, OracleCommand, OracleOutcome } from "../../../src/oracle/rules/command.ts";
import { DEFAULT_LIMITS, type OracleLimits } from "../../../src/oracle/rules/limits.ts";
import { OracleMachine } from "../../../src/oracle/rules/machine.ts";
import { type Lease, OracleTables } from "../../../src/oracle/rules/state.ts";
import { PHYSICAL_MS_MAX } from "../../../src/oracle/rules/timestamp.ts";
import { commitOne } from "../../support/oracle-life.ts";

const LEADER = epoch(1n);
const ALICE = Uint8Array.of(1);
const BOB = Uint8Array.of(2);

test("a lease's bound lies above all that was granted, and above the clock by its ttl", () => {
  const oracle = ledOracle(); // clock 1,000, high water 1,050
  expect(acquire(oracle, ALICE, { ttlMs: 300 })).toMatchObject({ id: 1_300, bound: 1_300, expiresAtMs: 1_300 });
  expect(acquire(oracle, BOB, { ttlMs: 100 }), "the high water is ahead of the clock").toMatchObject({ id: 1_301, bound: 1_301, expiresAtMs: 1_100 });
  expect(oracle.state.highWater).toBe(1_301);
});

test("an acquire by the holder and epoch that hold it already answers with the lease as it stands", () => {
  const oracle = ledOracle();
  const lease = acquire(oracle, ALICE, { holderEpoch: 4n, ttlMs: 300 });
  ask(oracle, { type: "advance", epoch: LEADER, now: 1_100, atLeast: 5_000 });
  const again = ask(oracle, acquireCommand(ALICE, { now: 1_200, holderEpoch: 4n, ttlMs: 9_000 }));
  expect(again).toEqual({ type: "lease", lease, highWater: 5_000 });
});

test("a higher holder epoch takes over at once, and the lease it supersedes holds the frontier until it expires", () => {
  const oracle = ledOracle();
  const old = acquire(oracle, ALICE, { holderEpoch: 1n, ttlMs: 300 });
  const lease = acquire(oracle, ALICE, { holderEpoch: 2n, ttlMs: 900 });
  expect(lease.bound).toBeGreaterThan(old.bound);
  expect(oracle.state.lease(old.id)).toEqual({ ...old, supersededBy: 2n });
  expect(oracle.state.leaseOf(ALICE)).toEqual(lease);
  expect(oracle.state.frontier).toBe(old.bound);

  expect(ask(oracle, { type: "lease-renew", epoch: LEADER, now: 1_000, id: old.id })).toEqual(
    refusal({ reason: "lease-superseded", id: old.id, by: 2n }),
  );
  expect(ask(oracle, { type: "expire", epoch: LEADER, now: old.expiresAtMs })).toEqual({ type: "expired", count: 1 });
  expect(oracle.state.frontier).toBe(lease.bound);
});

test("a lower holder epoch is refused while the lease is live", () => {
  const oracle = ledOracle();
  const lease = acquire(oracle, ALICE, { holderEpoch: 5n, ttlMs: 300 });
  const stale = acquireCommand(ALICE, { holderEpoch: 4n, now: lease.expiresAtMs - 1 });
  expect(ask(oracle, stale)).toEqual(refusal({ reason: "stale-holder-epoch", asked: 4n, active: 5n }));
  expect(ask(oracle, { ...stale, now: lease.expiresAtMs })).toMatchObject({ type: "lease", lease: { holderEpoch: 4n } });
});

test("a lease whose time has passed holds the frontier until its expiry is applied, and is its holder's no more", () => {
  const oracle = ledOracle();
  const lease = acquire(oracle, ALICE, { ttlMs: 300 });
  ask(oracle, { type: "advance", epoch: LEADER, now: lease.expiresAtMs, atLeast: 5_000 });
  expect(oracle.state.frontier).toBe(lease.bound);
  const renew = ask(oracle, { type: "lease-renew", epoch: LEADER, now: 0, id: lease.id });
  expect(renew).toEqual(refusal({ reason: "lease-expired", id: lease.id, expiresAtMs: lease.expiresAtMs }));
  expect(acquire(oracle, ALICE).id, "the same holder and epoch, a new lease").toBeGreaterThan(5_000);
  expect(oracle.state.frontier).toBe(lease.bound);
  expect(ask(oracle, { type: "expire", epoch: LEADER, now: 0 })).toEqual({ type: "expired", count: 1 });
  expect(oracle.state.frontier).toBeGreaterThan(5_000);
});

test("a lease expires at its deadline, not a millisecond earlier, by the clock on record alone", () => {
  const oracle = ledOracle();
  const lease = acquire(oracle, ALICE, { ttlMs: 300 });
  expect(ask(oracle, { type: "expire", epoch: LEADER, now: lease.expiresAtMs - 1 })).toEqual({ type: "expired", count: 0 });
  expect(oracle.state.lease(lease.id)).toEqual(lease);
  expect(ask(oracle, { type: "expire", epoch: LEADER, now: lease.expiresAtMs })).toEqual({ type: "expired", count: 1 });
  expect(oracle.state.lease(lease.id)).toBeUndefined();
});

test("a renewal lasts another ttl from the clock on record, and its bound rises to the high water at least", () => {
  const oracle = ledOracle();
  const { id } = acquire(oracle, ALICE, { ttlMs: 300 });
  const renew = { type: "lease-renew", epoch: LEADER, id } as const;
  expect(ask(oracle, { ...renew, now: 1_200 })).toMatchObject({ lease: { id, bound: 1_500, expiresAtMs: 1_500 }, highWater: 1_500 });
  expect(ask(oracle, { ...renew, now: 900 }), "a clock that went back").toMatchObject({ lease: { bound: 1_500, expiresAtMs: 1_500 } });
  ask(oracle, { type: "advance", epoch: LEADER, now: 0, atLeast: 2_000 });
  expect(ask(oracle, { ...renew, now: 1_300 })).toMatchObject({ lease: { bound: 2_000, expiresAtMs: 1_600 }, highWater: 2_000 });
});

test("a release ends a lease at once, superseded or not, and an unknown one is no error", () => {
  const oracle = ledOracle();
  const superseded = acquire(oracle, ALICE, { holderEpoch: 1n });
  const lease = acquire(oracle, ALICE, { holderEpoch: 2n });
  for (const { id } of [superseded, lease, lease]) {
    expect(ask(oracle, { type: "lease-release", epoch: LEADER, now: 0, id })).toEqual({ type: "released" });
  }
  expect(oracle.state.leaseCount).toBe(0);
  expect(oracle.state.frontier).toBe(oracle.state.highWater);
  expect(ask(oracle, { type: "lease-renew", epoch: LEADER, now: 0, id: lease.id })).toEqual(refusal({ reason: "unknown-lease", id: lease.id }));
  expect(acquire(oracle, ALICE, { holderEpoch: 1n }).id, "and its id stays used").toBeGreaterThan(lease.id);
});

test("a lease goes on under the next leader, above whose floor its bound never lies", () => {
  const oracle = ledOracle();
  const lease = acquire(oracle, ALICE, { ttlMs: 10_000 });
  const next = epoch(2n);
  const limits = DEFAULT_LIMITS;
  const takeOver = { type: "take-over", epoch: next, now: 1_500, failoverAdvanceMs: 50, maxClockJumpMs: 1_000, limits } as const;
  expect(ask(oracle, takeOver)).toEqual({ type: "taken-over", floor: lease.bound + 1, highWater: lease.bound + 51 });
  expect(oracle.state.frontier).toBe(lease.bound);
  expect(ask(oracle, { type: "lease-renew", epoch: next, now: 1_600, id: lease.id })).toMatchObject({ lease: { id: lease.id, expiresAtMs: 11_600 } });
});

test("a holder has 1 to `maxHolderBytes` bytes and is compared by them", () => {
  const oracle = ledOracle();
  const longest = new Uint8Array(128).fill(0xff);
  expect(acquire(oracle, longest).id).not.toBe(acquire(oracle, longest.subarray(1)).id);
  for (const length of [0, 129]) {
    expect(ask(oracle, acquireCommand(new Uint8Array(length)))).toEqual(refusal({ reason: "invalid-holder", length, max: 128 }));
  }
});

test("superseded leases count towards the limit, and so do those whose expiry is not applied", () => {
  const oracle = ledOracle({ ...DEFAULT_LIMITS, maxLeases: 2 });
  acquire(oracle, ALICE, { holderEpoch: 1n, ttlMs: 10 });
  const lease = acquire(oracle, ALICE, { holderEpoch: 2n, ttlMs: 500 });
  const late = { now: 1_010, holderEpoch: 3n };
  expect(ask(oracle, acquireCommand(BOB, late))).toEqual(refusal({ reason: "lease-limit", limit: 2 }));
  expect(ask(oracle, acquireCommand(ALICE, late))).toEqual(refusal({ reason: "lease-limit", limit: 2 }));
  expect(oracle.state.lease(lease.id), "a refused acquire supersedes nothing").toEqual(lease);
  ask(oracle, { type: "expire", epoch: LEADER, now: 1_010 });
  expect(ask(oracle, acquireCommand(BOB, late))).toMatchObject({ type: "lease" });
});

test("no lease reaches beyond the range of timestamps", () => {
  const oracle = ledOracle();
  const most = PHYSICAL_MS_MAX - 1_000;
  expect(ask(oracle, acquireCommand(ALICE, { ttlMs: most + 1 }))).toEqual(refusal({ reason: "out-of-range", value: PHYSICAL_MS_MAX + 1 }));
  const { id, bound } = acquire(oracle, ALICE, { ttlMs: most });
  expect(bound).toBe(PHYSICAL_MS_MAX);
  const renew = ask(oracle, { type: "lease-renew", epoch: LEADER, now: 1_001, id });
  expect(renew).toEqual(refusal({ reason: "out-of-range", value: PHYSICAL_MS_MAX + 1 }));
});

test.each<readonly [string, clock: (step: number) => number]>([
  ["goes on", (step) => 33 * step],
  ["stands still", () => 0],
  ["goes back by five seconds, again and again", (step) => 33 * step - 5_000 * (Math.floor(step / 100) % 2)],
])("10,000 renewals leave the high water at most a ttl and a window ahead of a clock that %s", (_, clock) => {
  const [start, ttlMs, windowAheadMs, holders] = [1_700_000_000_000, 10_000, 3_000, 100];
  const oracle = new OracleMachine();
  const takeOver = { type: "take-over", epoch: LEADER, failoverAdvanceMs: 1_000, maxClockJumpMs: 0, limits: DEFAULT_LIMITS } as const;
  const allocator = new Allocator();
  const taken = ask(oracle, { ...takeOver, now: start });
  if (taken.type !== "taken-over") throw new Error(taken.type);
  allocator.lead({ epoch: LEADER, floor: taken.floor, highWater: taken.highWater });
  const ids = Array.from({ length: holders }, (_, index) => acquire(oracle, Uint8Array.of(index), { now: start, ttlMs }).id);

  for (let step = 0; step < 10_000; step++) {
    const now = start + clock(step);
    const renewed = ask(oracle, { type: "lease-renew", epoch: LEADER, now, id: ids[step % holders] ?? 0 });
    if (renewed.type !== "lease") throw new Error(JSON.stringify(renewed));
    allocator.extend(LEADER, renewed.highWater);
    allocator.grant(1_000, now);
    if (allocator.remainingMs(now) < windowAheadMs / 2) {
      const extended = ask(oracle, { type: "advance", epoch: LEADER, now, atLeast: allocator.extensionTarget(now, windowAheadMs) });
      if (extended.type === "advanced") allocator.extend(LEADER, extended.highWater);
    }
    expect(oracle.state.highWater - oracle.state.clock).toBeLessThanOrEqual(ttlMs + windowAheadMs);
  }
  expect(oracle.state.leaseCount, "none has lapsed").toBe(holders);
});

/** Led since 1,000 by its first leader, with a window up to 1,050. */
function ledOracle(limits: OracleLimits = DEFAULT_LIMITS): OracleMachine {
  const oracle = new OracleMachine();
  ask(oracle, { type: "take-over", epoch: LEADER, now: 1_000, failoverAdvanceMs: 50, maxClockJumpMs: 0, limits });
  return oracle;
}

function acquireCommand(holder: Uint8Array, options: Partial<LeaseAcquireCommand> = {}): LeaseAcquireCommand {
  return { type: "lease-acquire", epoch: LEADER, now: 1_000, holder, holderEpoch: 0n, ttlMs: 300, ...options };
}

function acquire(oracle: OracleMachine, holder: Uint8Array, options?: Partial<LeaseAcquireCommand>): Lease {
  const outcome = ask(oracle, acquireCommand(holder, options));
  if (outcome.type !== "lease") throw new Error(`no lease but ${JSON.stringify(outcome)}`);
  return outcome.lease;
}

function ask(oracle: OracleMachine, command: OracleCommand): OracleOutcome {
  return commitOne(oracle, { command, epoch: command.epoch ?? LEADER });
}

function refusal(refusal: Extract<OracleOutcome, { type: "refused" }>["refusal"]): OracleOutcome {
  return { type: "refused", refusal };
}

test("the newest lease of a holder is its current one, in whatever order a store hands them back", () => {
  const holder = Uint8Array.of(1);
  const old: Lease = { id: 100, holder, holderEpoch: 1n, ttlMs: 5, bound: 100, expiresAtMs: 5 };
  const live: Lease = { ...old, id: 200, bound: 200, expiresAtMs: 500 };
  for (const leases of [
    [old, live],
    [live, old],
  ]) {
    const tables = new OracleTables();
    for (const lease of leases) tables.change({ type: "lease", lease });
    expect(tables.leaseOf(holder)).toEqual(live);
  }
});
