/** What the services answer with. Knows nothing of gRPC's transport; the statuses it answers with are the wire's. */
import { status } from "@grpc/grpc-js";
import type { Epoch } from "../base/epoch.ts";
import { messageOf } from "../base/errors.ts";
import type { ConsensusDriver, OracleView, Submitted } from "../oracle/driver.ts";
import type { Grant } from "../oracle/rules/allocator.ts";
import type { OracleCommand, OracleOutcome, SequenceGroup } from "../oracle/rules/command.ts";
import { isSequenceKey, validateGroup } from "../oracle/rules/sequence.ts";
import type { Lease, SequenceState } from "../oracle/rules/state.ts";
import { PHYSICAL_MS_MAX } from "../oracle/rules/timestamp.ts";
import { type Answer, failed, notApplied, notLeader, ok, refusedBy } from "./answer.ts";
import type { Counters } from "./counters.ts";
import { Gate, type Reign, type ServingState } from "./gate.ts";
import type { ServingOptions } from "./options.ts";
import { SequenceBatcher } from "./sequence-batcher.ts";
import { realTimers, type Timers } from "./timers.ts";

/** Often enough that an idle leader's window never runs out, and that an expired lease is dropped soon. */
const UPKEEP_MS_MAX = 500;

export interface GrantedTimestamps {
  readonly grant: Grant;
  readonly epoch: Epoch;
}

export interface GrantedLease {
  readonly lease: Lease;
  readonly epoch: Epoch;
}

export interface GrantedBlocks {
  readonly starts: readonly bigint[];
  readonly epoch: Epoch;
}

export class Serving {
  readonly #options: ServingOptions;
  readonly #driver: ConsensusDriver;
  readonly #timers: Timers;
  readonly #gate: Gate;
  readonly #batcher: SequenceBatcher;
  #pending = 0;

  constructor(options: ServingOptions, timers: Timers = realTimers) {
    const driver = settling(options.driver);
    this.#options = options;
    this.#driver = driver;
    this.#timers = timers;
    this.#gate = new Gate({ ...options, driver }, timers);
    this.#batcher = new SequenceBatcher(driver);
  }

  get counters(): Counters {
    return this.#gate.counters;
  }

  get state(): ServingState {
    return this.#gate.state;
  }

  /** The current state first, then changes, newest wins. Ends when serving ends. */
  states(signal?: AbortSignal): AsyncIterable<ServingState> {
    return this.#gate.states(signal);
  }

  get lastTransitionAgeMs(): number {
    return this.#gate.lastTransitionAgeMs;
  }

  /** Why it does not serve, or the last trouble it had. */
  get lastFault(): string | undefined {
    return this.#gate.lastFault;
  }

  get view(): OracleView {
    return this.#driver.view();
  }

  /** Serves until `stop()`. @throws whatever ended it for good: the driver's failure, or a refusal that no retry can mend. */
  async run(): Promise<void> {
    const upkeepMs = Math.max(1, Math.min(UPKEEP_MS_MAX, Math.floor(this.#options.windowAheadMs / 4)));
    const stopUpkeep = this.#timers.every(upkeepMs, () => this.#upkeep());
    try {
      await this.#gate.run();
    } finally {
      stopUpkeep();
    }
  }

  /** Records an error that should not exist; the text is what a client is told. */
  bug(error: unknown): string {
    this.#gate.lastFault = messageOf(error);
    this.#options.logger.error({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }, "a request met a bug");
    return `internal error: ${messageOf(error)}`;
  }

  /** Stops serving: requests that wait for the driver are still answered. */
  stop(): void {
    this.#gate.stop();
  }

  async getTs(count: number): Promise<Answer<GrantedTimestamps>> {
    const reign = await this.#waiting(() => this.#gate.confirmed());
    if (reign === undefined) return this.#notLeader();
    if ("type" in reign) return notApplied(reign, "");
    const now = this.#gate.now(); // the one reading of the call: what is decided on it cannot change under way
    if (now === undefined) return this.#notLeader();
    const taken = reign.window.take(count, now);
    const answer = taken === "exhausted" ? await this.#waiting(() => reign.window.extendAndTake(count, now)) : taken;
    if ("type" in answer) return notApplied(answer, "");
    if (!answer.ok) return answer.failure.metadata === undefined ? answer : this.#notLeader(); // the gate knows more of who leads
    this.counters.timestampsIssued += count;
    return ok({ grant: answer.value, epoch: reign.epoch });
  }

  /** A bound that every timestamp granted after the reply is above; `undefined` where this node does not serve. */
  async safePoint(): Promise<{ readonly physicalMs: number; readonly epoch: Epoch } | undefined> {
    const reign = await this.#waiting(() => this.#gate.confirmed());
    const now = this.#gate.now();
    if (now === undefined || reign === undefined || "type" in reign || this.#gate.reign !== reign) return undefined; // it may have ended since
    return { physicalMs: reign.window.safePoint(now), epoch: reign.epoch };
  }

  async frontier(): Promise<{ readonly physicalMs: number; readonly epoch: Epoch } | undefined> {
    const reign = await this.#waiting(() => this.#gate.confirmed());
    return reign === undefined || "type" in reign ? undefined : { physicalMs: this.#driver.view().frontier, epoch: reign.epoch };
  }

  /** What this node would say without asking anyone, and without moving its next grant up to the clock: for people, not for decisions. */
  unconfirmedSafePoint(): number {
    return this.#gate.reign?.window.safePoint(0) ?? 0;
  }

  async getBlocks(group: SequenceGroup): Promise<Answer<GrantedBlocks>> {
    const { reign } = this.#gate;
    if (reign === undefined) return this.#notLeader();
    const refusal = validateGroup(this.#options.limits, group);
    if (refusal !== undefined) return refusedBy(refusal);
    const answer = await this.#waiting(() => this.#batcher.submit(reign.epoch, group));
    switch (answer.type) {
      case "granted":
        for (const { count } of group) this.counters.sequenceValuesIssued += count;
        return ok({ starts: answer.starts, epoch: reign.epoch });
      case "refused":
        return refusedBy(answer.refusal);
      default:
        return this.#counted(notApplied(answer, ""));
    }
  }

  /** Whether `key` may name a sequence here. */
  acceptsKey(key: string): boolean {
    return isSequenceKey(key, this.#options.limits);
  }

  async initSequence(key: string, first: bigint): Promise<Answer<{ readonly sequence: SequenceState; readonly epoch: Epoch }>> {
    const { reign } = this.#gate;
    if (reign === undefined) return this.#notLeader();
    if (!this.acceptsKey(key)) return refusedBy({ reason: "invalid-key" });
    const answer = await this.#decide({ type: "sequence-init", epoch: reign.epoch, key, first }, "sequence-ready", "");
    return answer.ok ? ok({ sequence: answer.value.sequence, epoch: reign.epoch }) : answer;
  }

  /** Confirmed: what this reads is at least as new as the call. */
  async readView(): Promise<Answer<{ readonly view: OracleView; readonly epoch: Epoch }>> {
    const reign = await this.#waiting(() => this.#gate.confirmed());
    if (reign !== undefined && "type" in reign) return notApplied(reign, "");
    return reign === undefined ? this.#notLeader() : ok({ view: this.#driver.view(), epoch: reign.epoch });
  }

  async acquireLease(request: { readonly holder: Uint8Array; readonly holderEpoch: bigint; readonly ttlMs: bigint }): Promise<Answer<GrantedLease>> {
    const { reign } = this.#gate;
    if (reign === undefined) return this.#notLeader();
    const { holder, holderEpoch } = request;
    const { leaseTtlFloorMs, leaseTtlCeilingMs, limits } = this.#options;
    if (holder.length < 1 || holder.length > limits.maxHolderBytes) {
      return refusedBy({ reason: "invalid-holder", length: holder.length, max: limits.maxHolderBytes });
    }
    if (request.ttlMs < leaseTtlFloorMs || request.ttlMs > leaseTtlCeilingMs) {
      return failed(status.INVALID_ARGUMENT, `ttl_ms ${request.ttlMs} outside server bounds [${leaseTtlFloorMs}, ${leaseTtlCeilingMs}]`);
    }
    return this.#lease(reign, (now) => ({ type: "lease-acquire", epoch: reign.epoch, now, holder, holderEpoch, ttlMs: Number(request.ttlMs) }));
  }

  async renewLease(id: bigint): Promise<Answer<GrantedLease>> {
    const { reign } = this.#gate;
    if (reign === undefined) return this.#notLeader();
    if (id > PHYSICAL_MS_MAX) return failed(status.NOT_FOUND, `unknown lease id ${id}`);
    return this.#lease(reign, (now) => ({ type: "lease-renew", epoch: reign.epoch, now, id: Number(id) }));
  }

  async releaseLease(id: bigint): Promise<Answer<object>> {
    const { reign } = this.#gate;
    if (reign === undefined) return this.#notLeader();
    if (id > PHYSICAL_MS_MAX) return ok({}); // no such lease was ever given out
    const now = this.#gate.readClock();
    if (now === undefined) return this.#notLeader();
    return this.#decide({ type: "lease-release", epoch: reign.epoch, now, id: Number(id) }, "released", "persist leases: ");
  }

  async #lease(reign: Reign, command: (now: number) => OracleCommand): Promise<Answer<GrantedLease>> {
    const now = this.#gate.readClock();
    if (now === undefined) return this.#notLeader();
    const answer = await this.#decide(command(now), "lease", "persist leases: ");
    if (!answer.ok) return answer;
    reign.window.raise(answer.value.highWater);
    return ok({ lease: answer.value.lease, epoch: reign.epoch });
  }

  /** Submits, and answers with the outcome that is wanted or with the status that says why not. */
  async #decide<Type extends OracleOutcome["type"]>(
    command: OracleCommand,
    wanted: Type,
    prefix: string,
  ): Promise<Answer<Extract<OracleOutcome, { type: Type }>>> {
    const submitted = await this.#waiting(() => this.#driver.submit(command));
    if (submitted.type !== "applied") return this.#counted(notApplied(submitted, prefix));
    const { outcome } = submitted;
    if (outcome.type === "refused") return refusedBy(outcome.refusal);
    if (outcome.type !== wanted) return failed(status.INTERNAL, `the driver answered ${command.type} with ${outcome.type}`);
    return ok(outcome as Extract<OracleOutcome, { type: Type }>);
  }

  /** Bounds what waits for the driver. */
  async #waiting<T>(submit: () => Promise<T>): Promise<T | Extract<Submitted, { type: "not-applied" }>> {
    const { pendingMax } = this.#options;
    if (this.#pending >= pendingMax) {
      return { type: "not-applied", reason: "overloaded", detail: `${this.#pending} requests wait for the log (limit ${pendingMax})` };
    }
    this.#pending += 1;
    try {
      return await submit();
    } finally {
      this.#pending -= 1;
    }
  }

  #notLeader(): Answer<never> {
    return this.#counted(notLeader(this.#gate.hint));
  }

  #counted<T extends Answer<unknown>>(answer: T): T {
    if (!answer.ok && answer.failure.metadata !== undefined) this.counters.notLeader += 1;
    return answer;
  }

  /** What a leader does unasked: keeps its window ahead of the clock, so that the first call after a quiet hour does not wait; drops expired leases. */
  #upkeep(): void {
    const { reign } = this.#gate;
    if (reign === undefined) return;
    const now = this.#gate.readClock();
    if (now === undefined) return;
    reign.window.extendAhead(now);
    if (reign.expiring || !this.#anyLeaseHasPassed(now)) return;
    reign.expiring = true;
    void this.#driver.submit({ type: "expire", epoch: reign.epoch, now }).then((submitted) => {
      reign.expiring = false;
      if (submitted.type === "fenced") reign.fenced(submitted.by);
    });
  }

  /** By the clock that the machine will look at: the one on record, or this reading if it is later. */
  #anyLeaseHasPassed(now: number): boolean {
    const view = this.#driver.view();
    const clock = Math.max(now, view.clock);
    for (const lease of view.leases()) if (lease.expiresAtMs <= clock) return true;
    return false;
  }
}

/** A driver never rejects, its contract says. One of somebody else's that does all the same must not take the process with it. */
function settling(driver: ConsensusDriver): ConsensusDriver {
  return {
    leadership: (options) => driver.leadership(options),
    submit: (command) => driver.submit(command).catch((error: unknown) => ({ type: "unknown", reason: "storage", detail: messageOf(error) })),
    confirm: (epoch) => driver.confirm(epoch).catch(() => false),
    view: () => driver.view(),
    close: () => driver.close(),
  };
}
