/** Who may answer: follows the driver's leadership, raises the fence on every gain of it, and shuts on every loss. */
import type { Epoch } from "../base/epoch.ts";
import { messageOf, OracleError } from "../base/errors.ts";
import { failpoint, failpointsArmed } from "../base/failpoints.ts";
import { invariant } from "../base/invariant.ts";
import { Watched } from "../base/watched.ts";
import type { ServedLeadership } from "../oracle/driver.ts";
import type { OracleOutcome, Refusal } from "../oracle/rules/command.ts";
import { PHYSICAL_MS_MAX } from "../oracle/rules/timestamp.ts";
import type { Hint } from "./answer.ts";
import { type Counters, zeroCounters } from "./counters.ts";
import type { ServingOptions } from "./options.ts";
import type { Timers } from "./timers.ts";
import { Window } from "./window.ts";

/** Retries of a take-over that met a passing trouble: delays double between these, ms. */
const FENCE_RETRY_MS = { first: 25, last: 250 };

export type ServingState =
  | { readonly type: "serving"; readonly epoch: Epoch }
  /** Following, or on the way to serving. */
  | { readonly type: "not-serving"; readonly role: ServedLeadership["role"]; readonly hint: Hint };

/** A time of leadership in which this node may answer. Compared by identity: an epoch may come again. */
export interface Reign {
  readonly epoch: Epoch;
  readonly window: Window;
  /** Ends it: a command that named its epoch was answered as fenced, `by` that one if it is known. */
  readonly fenced: (by: Epoch | undefined) => void;
  /** Whether the end of some leases is on its way to the record. */
  expiring: boolean;
}

/** A leadership that was announced: on its way to a reign, or one already. */
interface Claim {
  readonly epoch: Epoch;
  readonly ended: AbortController;
}

export class Gate {
  readonly counters: Counters = zeroCounters();
  /** Why it does not serve, or the last trouble it had. */
  lastFault: string | undefined;
  #lastTransitionAt: number;
  readonly #options: ServingOptions;
  readonly #timers: Timers;
  readonly #state: Watched<ServingState>;
  readonly #stopping = new AbortController();
  #claim: Claim | undefined;
  /** Fenced, and may answer: the claim's own, or nothing. */
  #reign: Reign | undefined;
  #acceptClockJump: boolean;
  #failure: Error | undefined;
  #ended = false;

  constructor(options: ServingOptions, timers: Timers) {
    this.#options = options;
    this.#timers = timers;
    this.#acceptClockJump = options.acceptClockJump;
    this.#state = new Watched<ServingState>({ type: "not-serving", role: "unknown", hint: {} });
    this.#lastTransitionAt = options.clock();
  }

  get state(): ServingState {
    return this.#state.value;
  }

  /** The current state first, then changes, newest wins. Ends when serving ends. */
  states(signal?: AbortSignal): AsyncIterable<ServingState> {
    return this.#state.values(signal);
  }

  /** The reign in which this node may answer, unless another has begun that it has not heard of. */
  get reign(): Reign | undefined {
    return this.#reign;
  }

  /**
   * The reign that was still the newest at some moment after this was called, `undefined` if there is none. Whatever is answered from memory goes
   * through here: a window makes timestamps unique, it does not put those of a paused leader in order with its successor's.
   */
  async confirmed(): Promise<Reign | undefined> {
    const reign = this.#reign;
    if (reign === undefined) return undefined;
    const confirmed = await this.#options.driver.confirm(reign.epoch);
    return confirmed && this.#reign === reign ? reign : undefined;
  }

  /** Since it began or ceased to serve, ms by its own clock. */
  get lastTransitionAgeMs(): number {
    return (this.now() ?? this.#lastTransitionAt) - this.#lastTransitionAt;
  }

  /** What is known about who leads instead. */
  get hint(): Hint {
    const { value } = this.#state;
    return value.type === "not-serving" ? value.hint : {};
  }

  /** Follows the leadership until `stop()`. @throws whatever ended it for good: the driver's failure, or a refusal that no retry can mend. */
  async run(): Promise<void> {
    try {
      for await (const event of this.#options.driver.leadership({ signal: this.#stopping.signal })) {
        if (this.#failure !== undefined) break;
        this.#onLeadership(event);
      }
      if (this.#failure === undefined && !this.#stopping.signal.aborted) {
        throw new OracleError("TSO_CLOSED", "the driver's leadership ended, so nothing tells this server whether it may serve");
      }
    } catch (error) {
      this.#failure ??= asError(error);
      this.lastFault = messageOf(error);
    } finally {
      this.#shut({ role: "unknown" });
      this.#ended = true;
      this.#state.end();
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  stop(): void {
    this.#stopping.abort();
  }

  /** What the clock says; `undefined` where it says no time at all, which ends the server. */
  now(): number | undefined {
    try {
      return this.#options.clock();
    } catch (error) {
      this.#fail(asError(error)); // a host's own clock may throw, and what it returns may be refused
      return undefined;
    }
  }

  /** The clock, for a command that puts it on record; `undefined` where it has run away, which ends the server. */
  readClock(): number | undefined {
    const now = this.now();
    return now !== undefined && this.#acceptsClock(now) ? now : undefined;
  }

  /** A clock that has run away would burn the range of timestamps for good. */
  #acceptsClock(now: number): boolean {
    const highWater = this.#reign?.window.highWater ?? 0;
    if (highWater === 0 || now <= highWater + this.#options.maxClockJumpMs) return true;
    this.#fail(takeOverRefused({ reason: "clock-too-far", now, highWater, maxClockJumpMs: this.#options.maxClockJumpMs }));
    return false;
  }

  /** The newest event wins, whatever the one before was doing. */
  #onLeadership(event: ServedLeadership): void {
    if (event.role === "leader" && this.#claim?.epoch === event.epoch) return;
    this.#shut(event);
    this.#options.logger.info({ ...event }, "leadership");
    if (event.role !== "leader") return;
    const claim: Claim = { epoch: event.epoch, ended: new AbortController() };
    this.#claim = claim;
    void this.#takeOver(claim).catch((error: unknown) => this.#fail(asError(error)));
  }

  /** Clears what could be granted from, THEN says that nothing is served. */
  #shut(event: ServedLeadership): void {
    this.#claim?.ended.abort();
    this.#claim = undefined;
    this.#reign?.window.close();
    this.#reign = undefined;
    const hint: Hint = event.role === "follower" && event.leader !== undefined ? event.leader : {};
    this.#publish({ type: "not-serving", role: event.role, hint });
  }

  /** Ends a reign on evidence other than a leadership event: a fence that someone else raised. The next event tells how it goes on. */
  #stepDown(claim: Claim, by: Epoch | undefined): void {
    if (this.#claim !== claim) return;
    this.lastFault = `epoch ${claim.epoch} was fenced${by === undefined ? "" : ` by epoch ${by}`}`;
    this.#options.logger.warn({ epoch: claim.epoch, by }, "fenced: another reign has begun");
    this.#shut({ role: "follower", leader: by === undefined ? undefined : { epoch: by } });
  }

  #publish(state: ServingState): void {
    if (this.#state.value.type !== state.type) {
      this.counters.transitions += 1;
      this.#lastTransitionAt = this.now() ?? this.#lastTransitionAt;
    }
    this.#state.set(state);
  }

  /**
   * The fence: once the store knows this epoch, nothing of an earlier one is applied any more, and the window comes from that very answer. So what an
   * earlier reign still has in flight need not be waited for: applied before, the answer covers it; after, it is fenced.
   */
  async #takeOver(claim: Claim): Promise<void> {
    const { driver, clock, failoverAdvanceMs, limits, logger } = this.#options;
    const { epoch } = claim;
    let retryMs: number = FENCE_RETRY_MS.first;
    for (let times = 1; this.#claim === claim; times++) {
      const maxClockJumpMs = this.#acceptClockJump ? PHYSICAL_MS_MAX : this.#options.maxClockJumpMs;
      if (failpointsArmed()) await failpoint("server/before-take-over");
      const submitted = await driver.submit({ type: "take-over", epoch, now: clock(), failoverAdvanceMs, maxClockJumpMs, limits });
      if (failpointsArmed()) await failpoint("server/after-take-over");
      if (this.#claim !== claim) return;
      if (submitted.type === "applied") return this.#begin(claim, submitted.outcome);
      if (submitted.type === "fenced") return this.#stepDown(claim, submitted.by);
      if (submitted.type === "not-applied" && (submitted.reason === "not-leader" || submitted.reason === "epoch-differs")) {
        return this.#stepDown(claim, undefined);
      }
      this.counters.fenceRetries += 1;
      this.lastFault = `take-over: ${submitted.detail ?? submitted.reason}`;
      const { reason, detail } = submitted;
      if (isWorthALine(times)) logger.warn({ epoch, reason, detail, times }, "take-over met a passing trouble: trying again");
      await this.#timers.wait(retryMs, claim.ended.signal);
      retryMs = Math.min(retryMs * 2, FENCE_RETRY_MS.last);
    }
  }

  #begin(claim: Claim, outcome: Exclude<OracleOutcome, { type: "fenced" }>): void {
    if (outcome.type === "refused") throw takeOverRefused(outcome.refusal);
    if (outcome.type !== "taken-over" || outcome.highWater < outcome.floor) {
      throw new OracleError("TSO_STORAGE", `the driver answered a take-over with ${outcome.type}, which gives no window`);
    }
    const { driver, logger } = this.#options;
    const { epoch } = claim;
    const { floor, highWater } = outcome;
    this.#acceptClockJump = false;
    const window = new Window({
      epoch,
      floor,
      highWater,
      driver,
      serving: this.#options,
      counters: this.counters,
      acceptsClock: (now) => this.#acceptsClock(now),
      onFenced: (by) => this.#stepDown(claim, by),
      onTrouble: (detail, times) => {
        this.lastFault = detail;
        if (isWorthALine(times)) logger.warn({ epoch, detail, times }, "the window could not be extended: trying again when it is needed");
      },
    });
    this.#reign = { epoch, window, fenced: (by) => this.#stepDown(claim, by), expiring: false };
    this.lastFault = undefined;
    this.#publish({ type: "serving", epoch });
    logger.info({ epoch, floorMs: floor, highWaterMs: highWater }, "serving");
  }

  /** Ends the server, loudly. */
  #fail(error: Error): void {
    if (this.#failure !== undefined || this.#ended) return;
    this.#failure = error;
    this.lastFault = error.message;
    this.#shut({ role: "unknown" });
    this.#options.logger.error({ error: error.message }, "this server cannot serve");
    this.#stopping.abort();
  }
}

/** What goes wrong again and again is said at first, once more soon, and then now and again. */
function isWorthALine(times: number): boolean {
  return times === 1 || times === 8 || times % 20 === 0;
}

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

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error));
}
