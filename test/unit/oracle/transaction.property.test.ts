import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeUtf8 } from "../../../src/base/bytes.ts";
import { epoch } from "../../../src/base/epoch.ts";
import { InvariantViolation } from "../../../src/base/invariant.ts";
import { commandCodec, outcomeCodec } from "../../../src/oracle/rules/codec.ts";
import { OracleMachine, type Transaction } from "../../../src/oracle/rules/machine.ts";
import { type OracleChange, OracleDraft, OracleTables } from "../../../src/oracle/rules/state.ts";
import { at, commitOne, issuedIn, OracleLife, observe, snapshotOf } from "../../support/oracle-life.ts";
import { anyLife, type Issued } from "../../support/oracle-steps.ts";
import { property } from "../../support/property.ts";

property(
  "apply is deterministic: the same commands give the same bytes, outcome by outcome and in the snapshot",
  fc.property(anyLife, (steps) => {
    const [one, other] = [new OracleMachine(), new OracleMachine()];
    for (const { command, epoch } of issuedIn(steps)) {
      const encoded = commandCodec.encode(command);
      expect(other.apply(encoded, at(epoch))).toEqual(one.apply(encoded, at(epoch)));
    }
    expect(snapshotOf(other)).toEqual(snapshotOf(one));
  }),
);

property(
  "bytes that are no command are refused as malformed and change nothing",
  fc.property(anyLife, fc.uint8Array({ maxLength: 40 }), (steps, noise) => {
    const life = new OracleLife().live(steps);
    const before = snapshotOf(life.machine);
    expect(new OracleMachine().apply(noise, at(epoch(1n)))).toEqual(life.machine.apply(noise, at(epoch(1n))));
    expect(snapshotOf(life.machine)).toEqual(before);
  }),
);

test("such a refusal has words of ours alone, and none of the bytes: it is alike on every replica, and can be read", () => {
  // The library quotes what it read, cut off after 100 characters: here in the midst of one.
  const quoted = [0xd9, 104, ...encodeUtf8(`${"k".repeat(98)}\u{1f600}kk`), 0];
  for (const bytes of [quoted, [0xc1], [0x92, 1], [0xc7, 2, 0x74, 99, 0], []]) {
    const outcome = outcomeCodec.decode(new OracleMachine().apply(Uint8Array.from(bytes), at(epoch(1n))));
    expect(outcome).toMatchObject({
      refusal: { reason: "malformed", detail: expect.stringMatching(/^TSO_WRONG_FORMAT: an oracle command is malformed[^"]{0,20}$/) },
    });
  }
});

property(
  "deciding a run of commands in one transaction equals a transaction each, with the same outcomes",
  fc.property(anyLife, fc.nat(60), fc.nat(60), (steps, skipped, most) => {
    const issued = issuedIn(steps);
    const first = issued.slice(0, skipped);
    // A transaction is of one epoch.
    const rest = issued.slice(skipped, skipped + most);
    const run = rest.filter(({ epoch }) => epoch === rest[0]?.epoch);
    const [apart, together] = [new OracleMachine(), new OracleMachine()];
    for (const { command, epoch } of first) {
      commitOne(apart, { command, epoch });
      commitOne(together, { command, epoch });
    }

    const expected = run.map((one) => commitOne(apart, one));
    const transaction = together.begin(at(run[0]?.epoch ?? epoch(0n)));
    const outcomes = run.map(({ command }) => transaction.apply(command));
    transaction.commit();

    expect(outcomes).toEqual(expected);
    expect(observe(together.state)).toEqual(observe(apart.state));
    expect(snapshotOf(together)).toEqual(snapshotOf(apart));
  }),
);

property(
  "a transaction that is abandoned leaves no trace",
  fc.property(anyLife, fc.nat(60), (steps, kept) => {
    const issued = issuedIn(steps);
    const machine = new OracleMachine();
    for (const one of issued.slice(0, kept)) commitOne(machine, one);
    const before = { seen: observe(machine.state), snapshot: snapshotOf(machine) };

    const transaction = machine.begin(at(issued[kept]?.epoch ?? epoch(1n)));
    for (const { command } of issued.slice(kept)) transaction.apply(command);
    expect({ seen: observe(machine.state), snapshot: snapshotOf(machine) }, "while it is open").toEqual(before);
    transaction.abandon();
    expect({ seen: observe(machine.state), snapshot: snapshotOf(machine) }, "when it has ended").toEqual(before);
  }),
);

property(
  "the changes of a life build its state, and applying each twice is applying it once",
  fc.property(anyLife, (steps) => {
    const machine = new OracleMachine();
    const [once, twice] = [new OracleTables(), new OracleTables()];
    for (const one of issuedIn(steps)) {
      const transaction = machine.begin(at(one.epoch));
      transaction.apply(one.command);
      for (const change of transaction.changes) {
        once.change(change);
        twice.change(change);
        twice.change(change);
      }
      transaction.commit();
    }
    expect(observe(once)).toEqual(observe(machine.state));
    expect(observe(twice)).toEqual(observe(machine.state));
  }),
);

property(
  "a draft reads, after each change, as the state will once it has that change",
  fc.property(anyLife, fc.nat(60), (steps, kept) => {
    const { early, late } = changesOf(issuedIn(steps), kept);
    const base = new OracleTables();
    const expected = new OracleTables();
    for (const change of early) {
      base.change(change);
      expected.change(change);
    }
    const draft = new OracleDraft(base);
    for (const change of late) {
      draft.change(change);
      expected.change(change);
      expect(read(draft)).toEqual(read(expected));
    }
    expect(draft.changes).toEqual(late);
  }),
);

test("a state and a draft over it agree on a holder's lease between its supersession and the next acquire", () => {
  const lease = { id: 7, holder: Uint8Array.of(1), holderEpoch: 1n, ttlMs: 5, bound: 7, expiresAtMs: 9 };
  const [base, tables] = [new OracleTables(), new OracleTables()];
  for (const each of [base, tables]) each.change({ type: "lease", lease });
  const draft = new OracleDraft(base);
  for (const each of [draft, tables]) each.change({ type: "lease", lease: { ...lease, supersededBy: 2n } });
  expect(draft.leaseOf(lease.holder), "in the draft").toBeUndefined();
  expect(tables.leaseOf(lease.holder), "in the state").toBeUndefined();
});

test("one transaction is open at a time, and it ends once", () => {
  const machine = new OracleMachine();
  const transaction = machine.begin(at(epoch(1n)));
  expect(() => machine.begin(at(epoch(1n)))).toThrow(InvariantViolation);
  transaction.commit();
  const ends: ((ended: Transaction) => void)[] = [
    (ended) => ended.commit(),
    (ended) => ended.abandon(),
    (ended) => ended.apply({ type: "expire", epoch: epoch(1n), now: 1 }),
  ];
  for (const use of ends) expect(() => use(transaction)).toThrow(InvariantViolation);
  machine.begin(at(epoch(1n))).abandon();
});

/** The changes of the first `kept` commands, and those of the others. */
function changesOf(issued: readonly Issued[], kept: number): { early: readonly OracleChange[]; late: readonly OracleChange[] } {
  const machine = new OracleMachine();
  const changes = issued.map(({ command, epoch }) => {
    const transaction = machine.begin(at(epoch));
    transaction.apply(command);
    transaction.commit();
    return transaction.changes;
  });
  return { early: changes.slice(0, kept).flat(), late: changes.slice(kept).flat() };
}

/** Everything that the rules can ask of a state. */
function read(state: OracleDraft | OracleTables): object {
  const { limits, clock, highWater, fence, sequenceCount, leaseCount } = state;
  const leases = [...state.leases()].sort((a, b) => a.id - b.id);
  const sequences = ["a", "b", "éé", "abcd", "\u{1f600}"].map((key) => state.sequence(key));
  const holders = [[1], [2], [3], [1, 2]].map((bytes) => state.leaseOf(Uint8Array.from(bytes)));
  return { limits, clock, highWater, fence, sequenceCount, leaseCount, sequences, holders, leases, found: leases.map(({ id }) => state.lease(id)) };
}
