/** A machine driven as a log drives it, through bytes; and what can be seen of its state, in a form that compares. */
import type { Epoch } from "../../src/base/epoch.ts";
import { slot } from "../../src/base/ids.ts";
import { invariant } from "../../src/base/invariant.ts";
import type { AppliedAt, Prepared, SnapshotView } from "../../src/log.ts";
import { commandCodec, outcomeCodec } from "../../src/oracle/rules/codec.ts";
import type { OracleOutcome } from "../../src/oracle/rules/command.ts";
import { isExpired } from "../../src/oracle/rules/lease.ts";
import { OracleMachine } from "../../src/oracle/rules/machine.ts";
import type { Lease, OracleTables } from "../../src/oracle/rules/state.ts";
import type { Observed } from "./oracle-model.ts";
import { type Issued, issue, type Step } from "./oracle-steps.ts";

export class OracleLife {
  readonly machine: OracleMachine;
  /** Of all leases ever granted, the newest last. */
  readonly ids: number[] = [];

  constructor(machine: OracleMachine = new OracleMachine()) {
    this.machine = machine;
  }

  /** What `step` asks of the machine as it stands. */
  issue(step: Step): Issued {
    return issue(step, this.machine.state, this.ids);
  }

  apply(issued: Issued): OracleOutcome {
    const outcome = applyBytes(this.machine, issued);
    if (outcome.type === "lease" && !this.ids.includes(outcome.lease.id)) this.ids.push(outcome.lease.id);
    return outcome;
  }

  live(steps: readonly Step[]): this {
    for (const step of steps) this.apply(this.issue(step));
    return this;
  }
}

/** The commands of a life, as one machine would meet them. */
export function issuedIn(steps: readonly Step[]): readonly Issued[] {
  const life = new OracleLife();
  return steps.map((step) => {
    const issued = life.issue(step);
    life.apply(issued);
    return issued;
  });
}

export function applyBytes(machine: OracleMachine, { command, epoch }: Issued): OracleOutcome {
  return unbuffered(outcomeCodec.decode(machine.apply(commandCodec.encode(command), at(epoch))));
}

/** As a store would: decided, and made part of the state at once. */
export function commitOne(machine: OracleMachine, { command, epoch }: Issued): OracleOutcome {
  const transaction = machine.begin(at(epoch));
  const outcome = transaction.apply(command);
  transaction.commit();
  return outcome;
}

/** A copy in which bytes are Uint8Arrays and never Buffers: the two do not compare. */
export function unbuffered<T>(value: T): T {
  return structuredClone(value);
}

/** The oracle looks at nothing but the epoch. */
export function at(epoch: Epoch): AppliedAt {
  return { slot: slot(1), epoch, earlier: [] };
}

/** Of a holder's leases only the live one is looked up: which of those past their time comes last makes no difference to any command. */
export function observe(tables: OracleTables): Observed {
  const { limits, clock, highWater, fence, sequenceCount, leaseCount, frontier } = tables;
  const leases = [...tables.leases()].sort((a, b) => a.id - b.id);
  for (const lease of leases) invariant(tables.lease(lease.id) === lease, "a lease is found under its id", { id: lease.id });
  const isLive = (lease: Lease | undefined): boolean => lease !== undefined && !isExpired(tables, lease);
  return {
    ...{ limits, clock, highWater, fence, sequenceCount, leaseCount, frontier },
    sequences: [...tables.sequences()].map(([key]) => ({ key, ...tables.sequence(key) })).sort((a, b) => (a.key < b.key ? -1 : 1)),
    leases: unbuffered(leases),
    liveIds: leases.map(({ holder }) => tables.leaseOf(holder)).map((lease) => (isLive(lease) ? lease?.id : undefined)),
  };
}

export function snapshotOf(machine: OracleMachine): Uint8Array[] {
  return chunksOf(machine.capture());
}

export function chunksOf(view: SnapshotView): Uint8Array[] {
  const chunks = view.chunks();
  invariant(Symbol.iterator in chunks, "an oracle's snapshot never waits");
  return [...chunks];
}

/** A new machine with the state of this snapshot. @throws OracleError TSO_WRONG_FORMAT */
export function restored(chunks: readonly Uint8Array[]): OracleMachine {
  const machine = new OracleMachine();
  prepare(machine, chunks).install();
  return machine;
}

/** @throws OracleError TSO_WRONG_FORMAT */
export function prepare(machine: OracleMachine, chunks: readonly Uint8Array[]): Prepared {
  const sink = machine.stage();
  for (const chunk of chunks) atOnce(sink.write(chunk));
  return atOnce(sink.finish());
}

/** The interface lets other machines wait; the oracle's snapshots are there at once. */
export function atOnce<T>(value: T | Promise<T>): T {
  invariant(!(value instanceof Promise), "an oracle's snapshot never waits");
  return value;
}
