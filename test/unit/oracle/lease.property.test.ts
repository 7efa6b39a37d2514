/** The promises that leases make, each checked from what was answered, not from how it is kept. */
import fc from "fast-check";
import { expect } from "vitest";
import { invariant } from "../../../src/base/invariant.ts";
import type { OracleOutcome } from "../../../src/oracle/rules/command.ts";
import type { Lease, OracleTables } from "../../../src/oracle/rules/state.ts";
import { OracleLife } from "../../support/oracle-life.ts";
import { anyLeaseLife, type Issued, type Step } from "../../support/oracle-steps.ts";
import { property } from "../../support/property.ts";

property(
  "a bound is at most the high water that its outcome tells, and that is durable",
  fc.property(anyLeaseLife, (steps) => {
    for (const { outcome, state } of lifeOf(steps)) {
      if (outcome.type !== "lease") continue;
      expect(outcome.lease.bound).toBeLessThanOrEqual(outcome.highWater);
      expect(outcome.highWater).toBeLessThanOrEqual(state.highWater);
    }
  }),
);

property(
  "the bound of a new lease lies above every timestamp that can have been granted before",
  fc.property(anyLeaseLife, (steps) => {
    for (const { outcome, isNew, highWaterBefore } of lifeOf(steps)) {
      if (outcome.type === "lease" && isNew) expect(outcome.lease.bound).toBeGreaterThan(highWaterBefore);
    }
  }),
);

property(
  "an acquire answers with a lease that its holder and epoch hold already, or with an id that was never used, not even long ago",
  fc.property(anyLeaseLife, (steps) => {
    for (const { outcome, issued, told, heldBefore } of lifeOf(steps)) {
      if (outcome.type !== "lease" || issued.command.type !== "lease-acquire") continue;
      const { id, holder, holderEpoch } = outcome.lease;
      expect({ holder, holderEpoch }).toEqual({ holder: issued.command.holder, holderEpoch: issued.command.holderEpoch });
      const held = heldBefore.find((lease) => lease.id === id);
      if (held !== undefined) expect(outcome.lease).toEqual(held);
      else expect(told.has(id)).toBe(false);
    }
  }),
);

property(
  "a holder has at most one lease that is neither superseded nor past its time",
  fc.property(anyLeaseLife, (steps) => {
    for (const { state } of lifeOf(steps)) {
      const holders = [...state.leases()].filter((lease) => lease.supersededBy === undefined && lease.expiresAtMs > state.clock).map(holderOf);
      expect(new Set(holders).size).toBe(holders.length);
    }
  }),
);

property(
  "a renewal keeps the id, the holder and the ttl, and lowers neither bound nor deadline",
  fc.property(anyLeaseLife, (steps) => {
    for (const { outcome, issued, told } of lifeOf(steps)) {
      if (outcome.type !== "lease" || issued.command.type !== "lease-renew") continue;
      const before = told.get(issued.command.id);
      invariant(before !== undefined, "what is renewed was granted");
      const { bound, expiresAtMs, ...kept } = outcome.lease;
      expect(kept).toEqual({ id: before.id, holder: before.holder, holderEpoch: before.holderEpoch, ttlMs: before.ttlMs });
      expect(bound).toBeGreaterThanOrEqual(before.bound);
      expect(expiresAtMs).toBeGreaterThanOrEqual(before.expiresAtMs);
      expect(expiresAtMs).toBeGreaterThanOrEqual(issued.command.now + before.ttlMs);
    }
  }),
);

property(
  "the frontier never exceeds the bound of a lease that was answered, and that was neither released nor expired by an applied command",
  fc.property(anyLeaseLife, (steps) => {
    for (const { held, state } of lifeOf(steps)) {
      expect(state.frontier).toBeLessThanOrEqual(state.highWater);
      for (const lease of held.values()) {
        expect(state.lease(lease.id)?.bound, "it holds").toBe(lease.bound);
        expect(state.frontier).toBeLessThanOrEqual(lease.bound);
      }
    }
  }),
);

property(
  "the frontier never goes down, across leaders too, and is no lower than it must be",
  fc.property(anyLeaseLife, (steps) => {
    let last = 0;
    for (const { held, state } of lifeOf(steps)) {
      expect(state.frontier).toBeGreaterThanOrEqual(last);
      last = state.frontier;
      expect(state.frontier).toBe(Math.min(state.highWater, ...[...held.values()].map((lease) => lease.bound)));
    }
  }),
);

property(
  "an expiry drops what is past its time and nothing else, and says how many",
  fc.property(anyLeaseLife, (steps) => {
    for (const { outcome, state, heldBefore } of lifeOf(steps)) {
      if (outcome.type !== "expired") continue;
      const passed = heldBefore.filter((lease) => lease.expiresAtMs <= state.clock);
      expect(outcome.count).toBe(passed.length);
      for (const lease of heldBefore) expect(state.lease(lease.id) === undefined).toBe(passed.includes(lease));
    }
  }),
);

interface Moment {
  readonly issued: Issued;
  readonly outcome: OracleOutcome;
  readonly state: OracleTables;
  readonly highWaterBefore: number;
  readonly isNew: boolean;
  /** As last answered before this command, by id, dropped ones too. */
  readonly told: ReadonlyMap<number, Lease>;
  /** What holds by the answers alone: granted or renewed, and neither released nor past its time at an applied expiry. */
  readonly held: ReadonlyMap<number, Lease>;
  readonly heldBefore: readonly Lease[];
}

function* lifeOf(steps: readonly Step[]): Generator<Moment> {
  const life = new OracleLife();
  const told = new Map<number, Lease>();
  const held = new Map<number, Lease>();
  for (const step of steps) {
    const { highWater: highWaterBefore } = life.machine.state;
    const heldBefore = [...held.values()];
    const issued = life.issue(step);
    const outcome = life.apply(issued);
    const { state } = life.machine;
    if (outcome.type === "released" && issued.command.type === "lease-release") held.delete(issued.command.id);
    if (outcome.type === "expired") for (const lease of heldBefore) if (lease.expiresAtMs <= state.clock) held.delete(lease.id);
    const isNew = outcome.type === "lease" && !told.has(outcome.lease.id);
    if (outcome.type === "lease") held.set(outcome.lease.id, outcome.lease);
    yield { issued, outcome, state, highWaterBefore, isNew, told, held, heldBefore };
    if (outcome.type === "lease") told.set(outcome.lease.id, outcome.lease);
  }
}

function holderOf(lease: Lease): string {
  return `${lease.holder}`;
}
