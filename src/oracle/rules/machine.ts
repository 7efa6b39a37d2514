import type { Epoch } from "../../base/epoch.ts";
import { OracleError } from "../../base/errors.ts";
import { invariant, unreachable } from "../../base/invariant.ts";
import type { AppliedAt, Prepared, RestoreSink, SnapshotView, StateMachine } from "../../log.ts";
import { commandCodec, outcomeCodec, snapshotChunks, snapshotReader } from "./codec.ts";
import { type OracleCommand, type OracleOutcome, outOfRange, type Refusal, type TakeOverCommand } from "./command.ts";
import { acquireLease, expireLeases, releaseLease, renewLease } from "./lease.ts";
import { differingLimit } from "./limits.ts";
import { grantGroup, initSequence } from "./sequence.ts";
import { type OracleChange, OracleDraft, OracleTables } from "./state.ts";
import { PHYSICAL_MS_MAX } from "./timestamp.ts";

/** Commands decided but not yet part of the state. Ends with `commit` or `abandon`; one at a time. */
export interface Transaction {
  /** Decides one command on the state and all that this transaction decided before. */
  apply(command: OracleCommand): OracleOutcome;
  /** What has been decided so far, for whoever makes it durable. */
  readonly changes: readonly OracleChange[];
  /** Makes the changes part of the state. */
  commit(): void;
  abandon(): void;
}

/**
 * The oracle as a replicated state machine. Deterministic: it reads no clock and draws nothing; what it needs comes in the commands. It decides
 * and commits apart, so that the same rules serve a log (decided first, applied here), a store (decided here, then made durable) and compound entries.
 */
export class OracleMachine implements StateMachine {
  #tables: OracleTables;
  #open: OracleDraft | undefined;

  constructor(tables: OracleTables = new OracleTables()) {
    this.#tables = tables;
  }

  /** What is applied here. The same object until a snapshot is installed. */
  get state(): OracleTables {
    return this.#tables;
  }

  /** Begins to decide, under the epoch that the entry (or the store) vouches for. */
  begin(at: Pick<AppliedAt, "epoch">): Transaction {
    invariant(this.#open === undefined, "one transaction is open at a time");
    const draft = new OracleDraft(this.#tables);
    this.#open = draft;
    const close = (): void => {
      invariant(this.#open === draft, "a transaction ends once");
      this.#open = undefined;
    };
    return {
      changes: draft.changes,
      apply: (command) => {
        invariant(this.#open === draft, "a transaction that has ended decides nothing");
        return decide(draft, command, at.epoch);
      },
      commit: () => {
        close();
        for (const change of draft.changes) this.#tables.change(change);
      },
      abandon: close,
    };
  }

  apply(command: Uint8Array, at: AppliedAt): Uint8Array {
    const transaction = this.begin(at);
    const outcome = applyEncoded(transaction, command);
    transaction.commit();
    return outcomeCodec.encode(outcome);
  }

  capture(): SnapshotView {
    const changes = this.#tables.capture();
    return { chunks: () => snapshotChunks(changes), release: () => changes.release() };
  }

  stage(): RestoreSink {
    const tables = new OracleTables();
    const reader = snapshotReader((change) => tables.change(change));
    const install = (): void => {
      invariant(this.#open === undefined, "nothing is being decided while a snapshot is installed");
      this.#tables = tables;
    };
    return {
      write: (chunk) => reader.write(chunk),
      finish: (): Prepared => {
        reader.finish();
        return { install, discard: () => undefined };
      },
      discard: () => undefined,
    };
  }
}

/** Bytes that are no command are refused alike on every replica: whoever proposed them did no harm to the others. */
function applyEncoded(transaction: Transaction, bytes: Uint8Array): OracleOutcome {
  let command: OracleCommand;
  try {
    command = commandCodec.decode(bytes);
  } catch (error) {
    if (!(error instanceof OracleError)) throw error;
    return refused({ reason: "malformed", detail: error.message });
  }
  return transaction.apply(command);
}

/** The one place where commands meet the state. */
function decide(draft: OracleDraft, command: OracleCommand, entryEpoch: Epoch): OracleOutcome {
  const fenced = fencedBy(draft, command, entryEpoch);
  if (fenced !== undefined) return { type: "fenced", by: fenced };
  if (command.type === "take-over") return takeOver(draft, command);
  const { limits } = draft;
  if (limits === undefined) return refused({ reason: "no-limits" });
  if ("now" in command) {
    if (command.now > PHYSICAL_MS_MAX) return refused(outOfRange(command.now));
    advanceClock(draft, command.now);
  }
  switch (command.type) {
    case "advance":
      if (command.atLeast > PHYSICAL_MS_MAX) return refused(outOfRange(command.atLeast));
      if (command.atLeast > draft.highWater) draft.change({ type: "high-water", highWater: command.atLeast });
      return { type: "advanced", highWater: draft.highWater };
    case "expire":
      return expireLeases(draft);
    case "sequence":
      return { type: "sequence", groups: command.groups.map((group) => grantGroup(draft, limits, group)) };
    case "sequence-init": {
      const refusal = initSequence(draft, limits, command);
      if (refusal !== undefined) return refused(refusal);
      return { type: "sequence-ready", sequence: { first: command.first, next: command.first } };
    }
    case "lease-acquire":
      return acquireLease(draft, limits, command);
    case "lease-renew":
      return renewLease(draft, command.id);
    case "lease-release":
      return releaseLease(draft, command.id);
    default:
      return unreachable(command);
  }
}

/**
 * A command is good under exactly the epoch it was issued in: that of the entry which carries it, and the one that last raised the fence. So no
 * late, forwarded or retried command of a deposed leader does harm, whatever the log did with it.
 */
function fencedBy(draft: OracleDraft, command: OracleCommand, entryEpoch: Epoch): Epoch | undefined {
  if (command.epoch === undefined) return undefined;
  const current = command.type === "take-over" ? command.epoch >= draft.fence : command.epoch === draft.fence;
  if (current && command.epoch === entryEpoch) return undefined;
  return entryEpoch > draft.fence ? entryEpoch : draft.fence;
}

/** Raises the fence, and gives a window that begins above everything that any earlier leader can have granted. */
function takeOver(draft: OracleDraft, command: TakeOverCommand): OracleOutcome {
  const { epoch, now, failoverAdvanceMs, maxClockJumpMs, limits } = command;
  if (draft.limits !== undefined) {
    const name = differingLimit(draft.limits, limits);
    if (name !== undefined) return refused({ reason: "limits-differ", name, kept: draft.limits[name], asked: limits[name] });
  }
  const known = Math.max(draft.highWater, draft.clock);
  if (draft.highWater > 0 && now > known + maxClockJumpMs) return refused({ reason: "clock-too-far", now, highWater: known, maxClockJumpMs });
  const floor = Math.max(draft.highWater + 1, draft.clock, now);
  const highWater = floor + failoverAdvanceMs;
  if (highWater > PHYSICAL_MS_MAX) return refused(outOfRange(highWater));

  draft.change({ type: "fence", fence: epoch });
  if (draft.limits === undefined) draft.change({ type: "limits", limits });
  advanceClock(draft, now);
  draft.change({ type: "high-water", highWater });
  return { type: "taken-over", floor, highWater };
}

function advanceClock(draft: OracleDraft, now: number): void {
  if (now > draft.clock) draft.change({ type: "clock", clock: now });
}

function refused(refusal: Refusal): OracleOutcome {
  return { type: "refused", refusal };
}
