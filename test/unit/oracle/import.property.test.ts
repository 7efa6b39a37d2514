import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ExportReader, exportBytes } from "../../../src/oracle/portable.ts";
import { importChanges } from "../../../src/oracle/rules/import.ts";
import { type Lease, type OracleChange, OracleTables } from "../../../src/oracle/rules/state.ts";
import { OracleLife, observe } from "../../support/oracle-life.ts";
import { anyLife } from "../../support/oracle-steps.ts";
import { property } from "../../support/property.ts";

function tablesOf(...changes: readonly OracleChange[]): OracleTables {
  const tables = new OracleTables();
  for (const change of changes) tables.change(change);
  return tables;
}

function merged(current: OracleTables, imported: OracleTables): OracleTables {
  const tables = tablesOf(...current.capture());
  for (const change of importChanges(current, imported)) tables.change(change);
  return tables;
}

const sequence = (key: string, first: bigint, next: bigint): OracleChange => ({ type: "sequence", key, first, next });
const lease = (change: Partial<Lease> = {}): OracleChange => ({
  type: "lease",
  lease: { id: 7, holder: Uint8Array.of(1), holderEpoch: 1n, ttlMs: 10, bound: 7, expiresAtMs: 20, ...change },
});

property(
  "a new oracle that takes in another is as far as that one in everything but its epoch, and taking it in again changes nothing",
  fc.property(anyLife, (steps) => {
    const { state } = new OracleLife().live(steps).machine;
    const taken = merged(new OracleTables(), state);
    expect({ ...observe(taken), fence: 0 }).toEqual({ ...observe(state), fence: 0 });
    expect(importChanges(taken, state)).toEqual([]);
  }),
);

property(
  "what is exported is read back, from pieces of any size; cut off it is refused",
  fc.property(anyLife, fc.integer({ min: 1, max: 300 }), fc.nat(), (steps, size, drawn) => {
    const { state } = new OracleLife().live(steps).machine;
    const bytes = new Uint8Array(Buffer.concat([...exportBytes(state, 5)]));
    const read = (part: Uint8Array) => {
      const reader = new ExportReader();
      for (let at = 0; at < part.length; at += size) reader.push(part.subarray(at, at + size));
      return reader.finish();
    };
    const { head, tables } = read(bytes);
    expect(head).toEqual({ exportedAtMs: 5, highWater: state.highWater, sequences: state.sequenceCount, leases: state.leaseCount });
    expect(observe(tables)).toEqual(observe(state));
    expect(() => read(bytes.subarray(0, drawn % bytes.length))).toThrow("TSO_WRONG_FORMAT");
  }),
);

describe("floors only move up", () => {
  test("the clock, the high water and a sequence that one side knows more of", () => {
    const ahead = tablesOf({ type: "clock", clock: 9 }, { type: "high-water", highWater: 30 }, sequence("a", 1n, 50n));
    const behind = tablesOf({ type: "clock", clock: 3 }, { type: "high-water", highWater: 20 }, sequence("a", 1n, 40n));
    expect(importChanges(ahead, behind)).toEqual([]);
    expect(importChanges(behind, ahead)).toEqual([{ type: "clock", clock: 9 }, { type: "high-water", highWater: 30 }, sequence("a", 1n, 50n)]);
  });

  test("a sequence that was only prepared takes the values of the one that was used", () => {
    const prepared = tablesOf(sequence("a", 100n, 100n));
    const used = tablesOf(sequence("a", 1n, 7n));
    expect(merged(prepared, used).sequence("a")).toEqual({ first: 1n, next: 7n });
    expect(importChanges(used, prepared)).toEqual([]);
  });

  test("a lease keeps its higher bound and its later end", () => {
    const ours = tablesOf(lease({ bound: 9, expiresAtMs: 20 }));
    const theirs = tablesOf(lease({ bound: 8, expiresAtMs: 30 }));
    expect(merged(ours, theirs).lease(7)).toMatchObject({ bound: 9, expiresAtMs: 30 });
  });
});

describe("what does not go together is refused, and nothing is changed", () => {
  const limits = { maxKeys: 5, maxKeyBytes: 5, maxCount: 5, maxBatchKeys: 5, maxLeases: 5, maxHolderBytes: 5 };
  test.each<[string, readonly OracleChange[], readonly OracleChange[], string]>([
    ["other limits", [{ type: "limits", limits }], [{ type: "limits", limits: { ...limits, maxKeys: 6 } }], "maxKeys is 5 here, and 6 there"],
    ["a sequence of another beginning", [sequence("a", 1n, 5n)], [sequence("a", 3n, 9n)], 'sequence "a" began with 1 here and with 3 there'],
    ["a lease of another holder", [lease()], [lease({ holder: Uint8Array.of(2) })], "lease 7 is held by another here than there"],
    ["another lease of the same holder", [lease()], [lease({ id: 8, bound: 8 })], "the holder of lease 8 has another lease here"],
  ])("%s", (_, ours, theirs, why) => {
    const current = tablesOf(...ours);
    const before = observe(current);
    expect(() => importChanges(current, tablesOf(...theirs))).toThrow(`TSO_INVALID_ARGUMENT: the two oracles do not go together: ${why}`);
    expect(observe(current)).toEqual(before);
  });
});
