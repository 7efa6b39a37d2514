/**
 * Who may answer, and with what: the fence on every gain of leadership, the gate, the window and its extension ahead of need. Knows nothing of gRPC's
 * transport; the statuses it answers with are the wire's.
 */
import { status } from "@grpc/grpc-js";
import type { Epoch } from "../base/epoch.ts";
import { messageOf, OracleError } from "../base/errors.ts";
import { failpoint, failpointsArmed } from "../base/failpoints.ts";
import { invariant, unreachable } from "../base/invariant.ts";
import { Watched } from "../base/watched.ts";
import type { ConsensusDriver, OracleView, ServedLeadership, Submitted } from "../oracle/driver.ts";
import { Allocator, type Grant } from "../oracle/rules/allocator.ts";
import type { OracleCommand, OracleOutcome, Refusal, SequenceGroup } from "../oracle/rules/command.ts";
import { isSequenceKey, validateGroup } from "../oracle/rules/sequence.ts";
import type { Lease, SequenceState } from "../oracle/rules/state.ts";
import { PHYSICAL_MS_MAX } from "../oracle/rules/timestamp.ts";
import { type Answer, failed, type Hint, notApplied, notLeader, ok, refusedBy } from "./answer.ts";
import type { ServingOptions } from "./options.ts";
import { SequenceBatcher } from "./sequence-batcher.ts";
import { realTimers, type Timers } from "./timers.ts";

/** Retries of a take-over that met a passing trouble: delays double between these, ms. */
const FENCE_RETRY_MS = { first: 25, last: 250 };
/** Often enough that an idle leader's window never runs out, and that an expired lease is dropped soon. */
const UPKEEP_MS_MAX = 500;

export type ServingState =
  | { readonly type: "serving"; readonly epoch: Epoch }
  /** Following, or on the way to serving. */
  | { readonly type: "not-serving"; readonly role: ServedLeadership["role"]; readonly hint: Hint };

/** A time of leadership, from the event that began it to the event, fence or trouble that ended it. Compared by identity: an epoch may come again. */
interface Reign {
  readonly epoch: Epoch;
  readonly ended: AbortController;
  /** The one extension in flight. It is the reign's own: what an earlier reign still has in flight neither helps nor holds up this one. */
  extension: Promise<Answer<void>> | undefined;
}

export interface Counters {
  requests: number;
  timestampsIssued: number;
  sequenceValuesIssued: number;
  notLeader: number;
  transitions: number;
  fenceRetries: number;
  extensions: number;
  /** Requests that had to wait for an extension: 0 while the window is extended ahead of need. */
  waitedForExtension: number;
  extensionsIgnored: number;
}

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
  readonly counters: Counters = {
    requests: 0,
    timestampsIssued: 0,
    sequenceValuesIssued: 0,
    notLeader: 0,
    transitions: 0,
    fenceRetries: 0,
    extensions: 0,
    waitedForExtension: 0,
    extensionsIgnored: 0,
  };
  /** Why it does not serve, or the last trouble it had. */
  lastFault: string | undefined;
  lastTransitionAt: number;
  readonly #options: ServingOptions;
  readonly #driver: ConsensusDriver;
  readonly #allocator = new Allocator();
  readonly #batcher: SequenceBatcher;
  readonly #state: Watched<ServingState>;
  readonly #timers: Timers;
  readonly #stopping = new AbortController();
  /** Leads, but may still be fencing. */
  #reign: Reign | undefined;
  /** Fenced, and may answer. Always `#reign` or nothing. */
  #serving: Reign | undefined;
  #expiring = false;
  #pending = 0;
  #acceptClockJump: boolean;
  #failure: Error | undefined;

  constructor(options: ServingOptions, timers: Timers = realTimers) {
    this.#options = options;
    this.#timers = timers;
    this.#driver = options.driver;
    this.#batcher = new SequenceBatcher(options.driver);
    this.#acceptClockJump = options.acceptClockJump;
    this.#state = new Watched<ServingState>({ type: "not-serving", role: "unknown", hint: {} });
    this.lastTransitionAt = options.clock();
  }

  get state(): ServingState {
    return this.#state.value;
  }

  /** The current state first, then changes, newest wins. Ends when serving ends. */
  states(signal?: AbortSignal): AsyncIterable<ServingState> {
    return this.#state.values(signal);
  }

  get view(): OracleView {
    return this.#driver.view();
  }

  /** Follows the leadership until `stop()`. @throws whatever ended it for good: the driver's failure, or a refusal that no retry can mend. */
  async run(): Promise<void> {
    const upkeepMs = Math.max(1, Math.min(UPKEEP_MS_MAX, Math.floor(this.#options.windowAheadMs / 4)));
    const stopUpkeep = this.#timers.every(upkeepMs, () => this.#upkeep());
    try {
      for await (const event of this.#driver.leadership({ signal: this.#stopping.signal })) {
        this.#onLeadership(event);
        if (this.#failure !== undefined) break;
      }
      if (this.#failure === undefined && !this.#stopping.signal.aborted) {
        throw new OracleError("TSO_CLOSED", "the driver's leadership ended, so nothing tells this server whether it may serve");
      }
    } catch (error) {
      this.#failure ??= error instanceof Error ? error : new Error(messageOf(error));
      this.lastFault = messageOf(error);
    } finally {
      stopUpkeep();
      this.#endReign({ role: "unknown" });
      this.#state.end();
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Records an error that should not exist; the text is what a client is told. */
  bug(error: unknown): string {
    this.lastFault = messageOf(error);
    this.#options.logger.error({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }, "a request met a bug");
    return `internal error: ${messageOf(error)}`;
  }

  /** Stops serving: requests that wait for the driver are still answered. */
  stop(): void {
    this.#stopping.abort();
  }

  async getTs(count: number): Promise<Answer<GrantedTimestamps>> {
    const reign = await this.#confirmed();
    if (reign === undefined) return this.#notLeader();
    const now = this.#options.clock(); // the only reading: what is decided on below cannot change under way
    const first = this.#allocator.grant(count, now);
    const outcome = first.type === "window-exhausted" ? await this.#waiting(() => this.#extendAndGrant(reign, count, now)) : first;
    switch (outcome.type) {
      case "granted":
        this.counters.timestampsIssued += count;
        if (this.#allocator.remainingMs(now) < this.#options.windowAheadMs / 2) this.#extendAhead(reign, now);
        return ok({ grant: outcome.grant, epoch: reign.epoch });
      case "failed":
        return outcome.answer;
      case "not-applied":
        return notApplied(outcome, "");
      case "not-leading":
        return this.#notLeader();
      case "invalid-count":
        return failed(status.INVALID_ARGUMENT, `invalid count: ${count}`);
      case "out-of-range":
        return failed(status.OUT_OF_RANGE, `physical_ms ${outcome.physicalMs} exceeds 46-bit timestamp field`);
      case "window-exhausted":
        return failed(status.INTERNAL, "window exhausted");
      default:
        return unreachable(outcome);
    }
  }

  /** A bound that every timestamp granted after the reply is above; `undefined` where this node does not serve. */
  async safePoint(): Promise<{ readonly physicalMs: number; readonly epoch: Epoch } | undefined> {
    const reign = await this.#confirmed();
    if (reign === undefined) return undefined;
    return { physicalMs: this.#allocator.safePoint(this.#options.clock(), this.#options.windowAheadMs), epoch: reign.epoch };
  }

  async frontier(): Promise<{ readonly physicalMs: number; readonly epoch: Epoch } | undefined> {
    const reign = await this.#confirmed();
    return reign === undefined ? undefined : { physicalMs: this.#driver.view().frontier, epoch: reign.epoch };
  }

  /** What this node would say without asking anyone: for people, not for decisions. */
  get unconfirmedSafePoint(): number {
    return this.#allocator.safePoint(this.#options.clock(), this.#options.windowAheadMs);
  }

  async getBlocks(group: SequenceGroup): Promise<Answer<GrantedBlocks>> {
    const reign = this.#serving;
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

  async initSequence(key: string, first: bigint): Promise<Answer<{ readonly sequence: SequenceState; readonly epoch: Epoch }>> {
    const reign = this.#serving;
    if (reign === undefined) return this.#notLeader();
    if (!isSequenceKey(key, this.#options.limits)) return refusedBy({ reason: "invalid-key" });
    const answer = await this.#decide({ type: "sequence-init", epoch: reign.epoch, key, first }, "sequence-ready", "");
    return answer.ok ? ok({ sequence: answer.value.sequence, epoch: reign.epoch }) : answer;
  }

  /** Confirmed: what this reads is at least as new as the call. */
  async readView(): Promise<Answer<{ readonly view: OracleView; readonly epoch: Epoch }>> {
    const reign = await this.#confirmed();
    return reign === undefined ? this.#notLeader() : ok({ view: this.#driver.view(), epoch: reign.epoch });
  }

  async acquireLease(request: { readonly holder: Uint8Array; readonly holderEpoch: bigint; readonly ttlMs: bigint }): Promise<Answer<GrantedLease>> {
    const reign = this.#serving;
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
    const reign = this.#serving;
    if (reign === undefined) return this.#notLeader();
    if (id > PHYSICAL_MS_MAX) return failed(status.NOT_FOUND, `unknown lease id ${id}`);
    return this.#lease(reign, (now) => ({ type: "lease-renew", epoch: reign.epoch, now, id: Number(id) }));
  }

  async releaseLease(id: bigint): Promise<Answer<object>> {
    const reign = this.#serving;
    if (reign === undefined) return this.#notLeader();
    if (id > PHYSICAL_MS_MAX) return ok({}); // no such lease was ever given out
    const now = this.#readClock();
    if (now === undefined) return this.#notLeader();
    return this.#decide({ type: "lease-release", epoch: reign.epoch, now, id: Number(id) }, "released", "persist leases: ");
  }

  async #lease(reign: Reign, command: (now: number) => OracleCommand): Promise<Answer<GrantedLease>> {
    const now = this.#readClock();
    if (now === undefined) return this.#notLeader();
    const answer = await this.#decide(command(now), "lease", "persist leases: ");
    if (!answer.ok) return answer;
    this.#allocator.extend(reign.epoch, answer.value.highWater);
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

  /**
   * The reign that was still the newest at some moment after this was called, `undefined` if there is none. Whatever is answered from memory goes
   * through here: a window makes timestamps unique, it does not put those of a paused leader in order with its successor's.
   */
  async #confirmed(): Promise<Reign | undefined> {
    const reign = this.#serving;
    if (reign === undefined) return undefined;
    const confirmed = await this.#driver.confirm(reign.epoch);
    return confirmed && this.#serving === reign ? reign : undefined;
  }

  #notLeader(): Answer<never> {
    const { value } = this.#state;
    return this.#counted(notLeader(value.type === "not-serving" ? value.hint : {}));
  }

  #counted<T extends Answer<unknown>>(answer: T): T {
    if (!answer.ok && answer.failure.metadata !== undefined) this.counters.notLeader += 1;
    return answer;
  }

  /** The newest event wins, whatever the one before was doing. */
  #onLeadership(event: ServedLeadership): void {
    if (event.role === "leader" && this.#reign?.epoch === event.epoch) return;
    this.#endReign(event);
    this.#options.logger.info(event.role === "leader" ? { role: event.role, epoch: event.epoch } : { ...event }, "leadership");
    if (event.role !== "leader") return;
    const reign: Reign = { epoch: event.epoch, ended: new AbortController(), extension: undefined };
    this.#reign = reign;
    void this.#takeOver(reign).catch((error: unknown) => this.#fail(error instanceof Error ? error : new Error(messageOf(error))));
  }

  /** Clears what could be granted from, THEN says that nothing is served. */
  #endReign(event: ServedLeadership): void {
    this.#reign?.ended.abort();
    this.#reign = undefined;
    this.#serving = undefined;
    this.#allocator.clear();
    const hint: Hint = event.role === "follower" && event.leader !== undefined ? event.leader : {};
    this.#publish({ type: "not-serving", role: event.role, hint });
  }

  /** Ends the reign on evidence other than a leadership event: a fence that someone else raised. */
  #stepDown(reign: Reign, by: Epoch | undefined): void {
    if (this.#reign !== reign) return;
    this.lastFault = `epoch ${reign.epoch} was fenced${by === undefined ? "" : ` by epoch ${by}`}`;
    this.#options.logger.warn({ epoch: reign.epoch, by }, "fenced: another reign has begun");
    this.#endReign({ role: "follower", leader: by === undefined ? undefined : { epoch: by } });
  }

  #publish(state: ServingState): void {
    const before = this.#state.value;
    if (before.type !== state.type) {
      this.counters.transitions += 1;
      this.lastTransitionAt = this.#options.clock();
    }
    this.#state.set(state);
  }

  /**
   * The fence: once the store knows this epoch, nothing of an earlier one is applied any more, and the window comes from that very answer. So what an
   * earlier reign still has in flight need not be waited for: applied before, the answer covers it; after, it is fenced.
   */
  async #takeOver(reign: Reign): Promise<void> {
    const { failoverAdvanceMs, limits, logger } = this.#options;
    for (let retryMs = FENCE_RETRY_MS.first; this.#reign === reign; retryMs = Math.min(retryMs * 2, FENCE_RETRY_MS.last)) {
      const maxClockJumpMs = this.#acceptClockJump ? PHYSICAL_MS_MAX : this.#options.maxClockJumpMs;
      const now = this.#options.clock();
      if (failpointsArmed()) await failpoint("server/before-take-over");
      const submitted = await this.#driver.submit({ type: "take-over", epoch: reign.epoch, now, failoverAdvanceMs, maxClockJumpMs, limits });
      if (failpointsArmed()) await failpoint("server/after-take-over");
      if (this.#reign !== reign) return;
      if (submitted.type === "applied") return this.#begin(reign, submitted.outcome);
      if (submitted.type === "fenced") return this.#stepDown(reign, submitted.by);
      if (submitted.type === "not-applied" && (submitted.reason === "not-leader" || submitted.reason === "epoch-differs")) {
        return this.#stepDown(reign, undefined);
      }
      this.counters.fenceRetries += 1;
      this.lastFault = `take-over: ${submitted.detail ?? submitted.reason}`;
      logger.warn({ epoch: reign.epoch, reason: submitted.reason, detail: submitted.detail }, "take-over met a passing trouble: trying again");
      await this.#timers.wait(retryMs, reign.ended.signal);
    }
  }

  #begin(reign: Reign, outcome: Exclude<OracleOutcome, { type: "fenced" }>): void {
    if (outcome.type === "refused") throw takeOverRefused(outcome.refusal);
    if (outcome.type !== "taken-over" || outcome.highWater < outcome.floor) {
      throw new OracleError("TSO_STORAGE", `the driver answered a take-over with ${outcome.type}, which gives no window`);
    }
    this.#acceptClockJump = false;
    this.#allocator.lead({ epoch: reign.epoch, floor: outcome.floor, highWater: outcome.highWater });
    this.#serving = reign;
    this.lastFault = undefined;
    this.#publish({ type: "serving", epoch: reign.epoch });
    this.#options.logger.info({ epoch: reign.epoch, floorMs: outcome.floor, highWaterMs: outcome.highWater }, "serving");
  }

  /** Ends the server, loudly. */
  #fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.lastFault = error.message;
    this.#endReign({ role: "unknown" });
    this.#options.logger.error({ error: error.message }, "this server cannot serve");
    this.#stopping.abort();
  }

  /**
   * The clock, for a command that puts it on record. One that has run away would burn the range of timestamps for good: then the server ends, and
   * this is `undefined`.
   */
  #readClock(): number | undefined {
    const now = this.#options.clock();
    const { highWater } = this.#allocator;
    if (highWater === 0 || now <= highWater + this.#options.maxClockJumpMs) return now;
    this.#fail(takeOverRefused({ reason: "clock-too-far", now, highWater, maxClockJumpMs: this.#options.maxClockJumpMs }));
    return undefined;
  }

  async #extendAndGrant(reign: Reign, count: number, now: number): Promise<ReturnType<Allocator["grant"]> | FailedExtension> {
    this.counters.waitedForExtension += 1;
    if (reign.extension !== undefined) {
      await reign.extension; // it began for an earlier clock reading, and may not reach this one
      if (this.#serving !== reign) return { type: "not-leading" };
      const granted = this.#allocator.grant(count, now);
      if (granted.type !== "window-exhausted") return granted;
    }
    const extended = await this.#extend(reign, now);
    if (!extended.ok) return { type: "failed", answer: this.#counted(extended) };
    return this.#serving === reign ? this.#allocator.grant(count, now) : { type: "not-leading" };
  }

  #extendAhead(reign: Reign, now: number): void {
    if (reign.extension !== undefined) return;
    void this.#extend(reign, now).then((extended) => {
      if (extended.ok || extended.failure.metadata !== undefined) return;
      this.lastFault = extended.failure.details;
      this.#options.logger.warn({ detail: extended.failure.details }, "the window could not be extended: trying again when it is needed");
    });
  }

  /** Raises the durable high water, then the window. One at a time; whoever needs it waits for the same one. */
  #extend(reign: Reign, now: number): Promise<Answer<void>> {
    reign.extension ??= this.#extendOnce(reign, now).finally(() => {
      reign.extension = undefined;
    });
    return reign.extension;
  }

  async #extendOnce(reign: Reign, now: number): Promise<Answer<void>> {
    if (this.#readClock() === undefined || this.#serving !== reign) return notLeader();
    const atLeast = this.#allocator.extensionTarget(now, this.#options.windowAheadMs);
    const submitted = await this.#driver.submit({ type: "advance", epoch: reign.epoch, now, atLeast });
    if (submitted.type === "applied") {
      const { outcome } = submitted;
      if (outcome.type === "refused") return refusedBy(outcome.refusal);
      if (outcome.type !== "advanced") return failed(status.INTERNAL, `persist: the driver answered an advance with ${outcome.type}`);
      this.counters.extensions += 1;
      if (!this.#allocator.extend(reign.epoch, outcome.highWater)) this.counters.extensionsIgnored += 1;
      return ok(undefined);
    }
    const answer = notApplied(submitted, "persist: ");
    if (!answer.ok && answer.failure.metadata !== undefined) this.#stepDown(reign, submitted.type === "fenced" ? submitted.by : undefined);
    return answer;
  }

  /** What a leader does unasked: keeps its window ahead of the clock, so that the first call after a quiet hour does not wait; drops expired leases. */
  #upkeep(): void {
    const reign = this.#serving;
    if (reign === undefined) return;
    const now = this.#readClock();
    if (now === undefined) return;
    if (this.#allocator.remainingMs(now) < this.#options.windowAheadMs / 2) this.#extendAhead(reign, now);
    if (this.#expiring) return;
    for (const lease of this.#driver.view().leases()) {
      if (lease.expiresAtMs > now) continue;
      this.#expiring = true;
      void this.#driver.submit({ type: "expire", epoch: reign.epoch, now }).finally(() => {
        this.#expiring = false;
      });
      return;
    }
  }
}

type FailedExtension = { readonly type: "failed"; readonly answer: Answer<never> };

/** A take-over that no retry can mend. */
function takeOverRefused(refusal: Refusal): OracleError {
  switch (refusal.reason) {
    case "limits-differ":
      return new OracleError(
        "TSO_INVALID_OPTION",
        `${refusal.name} is ${refusal.kept} here since the first start, and ${refusal.asked} was asked for: it cannot change`,
      );
    case "clock-too-far":
      return new OracleError(
        "TSO_LIMIT_REACHED",
        `the clock reads ${isoTime(refusal.now)}, more than ${refusal.maxClockJumpMs} ms beyond the durable high water ${isoTime(refusal.highWater)}: ` +
          "following it would burn the range between them for ever. Set the clock right, or accept it once with --accept-clock-jump (acceptClockJump)",
      );
    case "out-of-range":
      return new OracleError("TSO_LIMIT_REACHED", `physical ms ${refusal.value} exceeds the 46-bit timestamp field: is the clock right?`);
    default:
      invariant(false, "a take-over is refused for its limits, its clock or its range", { refusal: refusal.reason });
  }
}

function isoTime(physicalMs: number): string {
  return physicalMs <= 8_640_000_000_000_000 ? new Date(physicalMs).toISOString() : `${physicalMs} ms`;
}
