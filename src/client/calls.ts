/** Calls that are made one by one: sequences, leases, bounds. */
import type { Epoch } from "../base/epoch.ts";
import { OracleError } from "../base/errors.ts";
import type { Aborts } from "./aborts.ts";
import { type Attempt, type AttemptContext, attempt, isLost } from "./attempt.ts";
import type { Endpoint } from "./endpoint.ts";
import type { LeaderCache } from "./leader-cache.ts";
import type { CallLimits } from "./limits.ts";
import type { Search } from "./search.ts";
import type { Messages, Method } from "./transport.ts";
import { judge, REPEATS, type Verdict } from "./verdict.ts";

export interface CallsContext extends AttemptContext {
  readonly aborts: Aborts;
  readonly leaders: LeaderCache;
  readonly newSearch: () => Search;
  readonly callsMax: number;
}

/** What an answer says, once it is read. */
export type Reading<T> =
  | { readonly type: "value"; readonly value: T; readonly epoch: Epoch | undefined }
  /** The methods that never fail say this with zeros. */
  | { readonly type: "not-leader" }
  /** It breaks the contract. */
  | { readonly type: "malformed"; readonly detail: string };

export class Calls {
  readonly #context: CallsContext;
  readonly #running = new Set<Call>();
  #closed: OracleError | undefined;

  constructor(context: CallsContext) {
    this.#context = context;
  }

  /**
   * Asks until there is an answer that `read` takes, or an error: definite, or TSO_OUTCOME_UNKNOWN where it may have been done. `asked` puts the request into
   * words: a node that refuses a value does not always name it.
   */
  async ask<M extends Method, T>(
    method: M,
    request: Messages[M]["request"],
    limits: CallLimits,
    read: (response: Messages[M]["response"]) => Reading<T>,
    asked?: () => string,
  ): Promise<T> {
    if (this.#closed !== undefined) throw this.#closed;
    const { callsMax } = this.#context;
    // What keeps a lease alive, or gives it back, is not refused for the load of others.
    const isUrgent = method === "renewLease" || method === "releaseLease";
    if (!isUrgent && this.#running.size >= callsMax) throw new OracleError("TSO_OVERLOADED", `callsMax ${callsMax} calls are under way already`);
    const call = new Call(this.#context, method, limits);
    this.#running.add(call);
    try {
      return await call.run(method, request, read);
    } catch (error) {
      if (asked === undefined || !(error instanceof OracleError) || error.code !== "TSO_INVALID_ARGUMENT") throw error;
      throw new OracleError(error.code, `${error.detail}; asked for ${asked()}`, { cause: error });
    } finally {
      this.#running.delete(call);
      call.end();
    }
  }

  close(error: OracleError): void {
    this.#closed = error;
    for (const call of this.#running) call.stop(() => error, "the client was closed", "keep");
  }
}

/** One call: its attempts, and what ends them early. */
class Call {
  readonly #context: CallsContext;
  readonly #method: Method;
  readonly #limits: CallLimits;
  readonly #search: Search;
  readonly #expiresAt: number;
  readonly #releases: (() => void)[] = [];
  #attempt: Attempt<unknown> | undefined;
  #endPause: (() => void) | undefined;
  /** Why it is to end before there is an answer. */
  #stopped: (() => unknown) | undefined;
  /** What was sent and may have been done, by a request that can be repeated. */
  #doubt: string | undefined;

  constructor(context: CallsContext, method: Method, limits: CallLimits) {
    this.#context = context;
    this.#method = method;
    this.#limits = limits;
    this.#search = context.newSearch();
    const { timers, aborts } = context;
    this.#expiresAt = timers.now() + limits.deadlineMs;
    this.#releases.push(
      timers.after(limits.deadlineMs, true, () => {
        this.#giveUp(() => this.#search.timeUp(limits.deadlineMs), `no answer within ${limits.deadlineMs} ms`);
      }),
    );
    const { signal } = limits;
    if (signal !== undefined) this.#releases.push(aborts.on(signal, () => this.#giveUp(() => signal.reason, "given up by its caller")));
  }

  /** Ends what is under way; `run` then throws what `reason` returns, or that the outcome is unknown. */
  stop(reason: () => unknown, why: string, connection: "keep" | "drop"): void {
    this.#stopped ??= reason;
    this.#attempt?.abandon(why, connection);
    this.#endPause?.();
  }

  /** The caller's patience is over. */
  #giveUp(reason: () => unknown, why: string): void {
    this.stop(reason, why, this.#attempt !== undefined && isLost(this.#attempt, this.#context) ? "drop" : "keep");
  }

  end(): void {
    for (const release of this.#releases) release();
  }

  async run<M extends Method, T>(method: M, request: Messages[M]["request"], read: (response: Messages[M]["response"]) => Reading<T>): Promise<T> {
    for (let attempts = 0; ; ) {
      if (this.#stopped !== undefined) throw this.#failure(this.#stopped());
      const endpoint = this.#search.next();
      if (endpoint === undefined) {
        await this.#betweenPasses();
        continue;
      }
      if (this.#leftMs() <= 0) throw this.#failure(this.#search.timeUp(this.#limits.deadlineMs));
      if (attempts > 0 && !this.#hasTimeForAnother()) throw this.#search.timeUp(this.#limits.deadlineMs - this.#leftMs());
      attempts += 1;
      const running = attempt(this.#context, endpoint, method, () => request, this.#expiresAt);
      this.#attempt = running;
      const reply = await running.reply;
      this.#attempt = undefined;
      if (reply.type !== "answer") {
        this.#onVerdict(endpoint, judge(method, endpoint, reply));
        continue;
      }
      const reading = read(reply.value);
      if (this.#accepts(endpoint, reading)) return reading.value;
    }
  }

  /** Whether `reading` is the answer. Throws what it is instead, or goes on to the next node. */
  #accepts<T>(endpoint: Endpoint, reading: Reading<T>): reading is Extract<Reading<T>, { type: "value" }> {
    const { leaders, timers } = this.#context;
    if (reading.type === "malformed") {
      this.#onVerdict(endpoint, { type: "failed", detail: reading.detail, changed: REPEATS[this.#method] !== "read" });
      return false;
    }
    if (reading.type === "not-leader") {
      this.#onVerdict(endpoint, { type: "not-leader", hint: undefined });
      return false;
    }
    if (reading.epoch === undefined || leaders.answered(endpoint, reading.epoch, timers.now())) return true;
    // What was decided counts, under whichever leader. What was only read may be out of date, where a later leader is known.
    if (REPEATS[this.#method] !== "read") return true;
    this.#search.stale(endpoint, { answered: reading.epoch, known: leaders.epoch });
    return false;
  }

  #onVerdict(endpoint: Endpoint, verdict: Verdict): void {
    const { timers, metrics } = this.#context;
    switch (verdict.type) {
      case "final":
        // An earlier request may have been done all the same, but for what is said of the lease itself: it is over, whatever was done to it.
        throw isOver(verdict.error) ? verdict.error : this.#failure(verdict.error);
      case "not-leader":
        this.#search.notLeader(endpoint, verdict.hint, timers.now());
        return metrics.add("tsoracle_client_retries_total", 1, { reason: "not_leader" });
      case "lost":
        if (verdict.reason !== "abandoned") {
          this.#search.lost(endpoint, verdict.detail);
          metrics.add("tsoracle_client_retries_total", 1, { reason: verdict.reason });
        }
        return this.#mayBeDone(endpoint, verdict);
      case "failed":
        this.#search.failed(endpoint, verdict.detail);
        metrics.add("tsoracle_client_retries_total", 1, { reason: "transport" });
        return this.#mayBeDone(endpoint, verdict);
      default:
        return verdict satisfies never;
    }
  }

  /** Ends the call where it must not be done twice. */
  #mayBeDone(endpoint: Endpoint, { changed, detail }: { readonly changed: boolean; readonly detail: string }): void {
    if (!changed) return;
    if (REPEATS[this.#method] === "once") {
      const cause = this.#stopped?.();
      throw new OracleError("TSO_OUTCOME_UNKNOWN", `the block may be used up; ${endpoint}: ${detail}`, cause === undefined ? {} : { cause });
    }
    this.#doubt = `${endpoint}: ${detail}`;
  }

  /** A caller that gave up learns so, unless what it gave up may have been done: then it learns that. */
  #failure(reason: unknown): unknown {
    return this.#doubt === undefined
      ? reason
      : new OracleError("TSO_OUTCOME_UNKNOWN", `${this.#method} may have been done; ${this.#doubt}`, { cause: reason });
  }

  /** What may be done only once is not begun again with so little time that it would end unknown for want of it. */
  #hasTimeForAnother(): boolean {
    if (REPEATS[this.#method] !== "once") return true;
    return this.#leftMs() >= Math.min(this.#context.timeoutMs, this.#limits.deadlineMs / 5);
  }

  #leftMs(): number {
    return this.#expiresAt - this.#context.timers.now();
  }

  async #betweenPasses(): Promise<void> {
    const next = this.#search.passed(this.#context.timers.now());
    if (typeof next !== "number") throw this.#failure(next);
    await new Promise<void>((resolve) => {
      const stop = this.#context.timers.after(next, true, resolve);
      this.#endPause = () => {
        stop();
        resolve();
      };
    });
    this.#endPause = undefined;
  }
}

function isOver({ code }: OracleError): boolean {
  return code === "TSO_LEASE_LOST" || code === "TSO_FENCED";
}
