/**
 * Callers that want timestamps, and the one request that is under way for them. All who wait when a request leaves are in it; whoever comes later waits for
 * the next. So a timestamp was always allocated after its caller asked, and what nobody took is never kept for anyone else.
 */
import { type Epoch, epochFromParts } from "../base/epoch.ts";
import { OracleError } from "../base/errors.ts";
import type { GetTsRequest, GetTsResponse } from "../gen/tsoracle/v1/tso.ts";
import { GRANT_COUNT_MAX, PHYSICAL_MS_MAX, packTimestamp, type Timestamp } from "../oracle/rules/timestamp.ts";
import type { Aborts } from "./aborts.ts";
import { type Attempt, type AttemptContext, attempt, isLost } from "./attempt.ts";
import type { Endpoint } from "./endpoint.ts";
import type { LeaderCache } from "./leader-cache.ts";
import type { CallLimits } from "./limits.ts";
import type { Search } from "./search.ts";
import { judge } from "./verdict.ts";

export interface TimestampQueueContext extends AttemptContext {
  readonly aborts: Aborts;
  readonly leaders: LeaderCache;
  readonly newSearch: () => Search;
  readonly queueMax: number;
  /** How long one search goes on, ms. */
  readonly searchMs: number;
}

/** Expired callers are looked for at most this often: each ends within its deadline and this. */
const SWEEP_MS = 20;

/** Entries of callers that gave up are swept out of a queue that is longer than this once they are half of it. */
const COMPACT_FROM = 1_024;

/** All that runs until the event loop goes on. The clock is read once for those who come in it, at its end: so none ends before its time. */
interface Turn {
  endedAt: number | undefined;
  /** The least that any of them is allowed. */
  shortestMs: number;
}

interface Waiter {
  readonly count: number;
  readonly deliver: (first: Timestamp, epoch: Epoch) => void;
  readonly reject: (reason: unknown) => void;
  readonly allowedMs: number;
  /** When it came: its time counts from the end of that turn. */
  readonly turn: Turn;
  /** Stops listening to the caller's signal. */
  forget: (() => void) | undefined;
  ended: boolean;
  /** Whether it is in the request that is under way. */
  aboard: boolean;
  /** Whether it was in a request that failed: a failure of the servers is told to those who met it. */
  tried: boolean;
}

export class TimestampQueue {
  readonly #context: TimestampQueueContext;
  /** In the order in which they came. Those who gave up stay in it until it is next looked through. */
  #waiting: Waiter[] = [];
  /** In the request that is under way. */
  #aboard: readonly Waiter[] = [];
  /** Of all of them, those whose promise is not settled. */
  #live = 0;
  #turn: Turn | undefined;
  #liveAboard = 0;
  #flying = false;
  #attempt: Attempt<GetTsResponse> | undefined;
  #search: Search | undefined;
  #searchEndsAt = 0;
  #earlierSearch: Search | undefined;
  #endPause: (() => void) | undefined;
  #sweepAt = Number.POSITIVE_INFINITY;
  #stopSweep: (() => void) | undefined;
  #closed: OracleError | undefined;
  /** The highest that was ever handed out: nothing at or below it is, ever again, whatever a server says. */
  #last = -1n;

  constructor(context: TimestampQueueContext) {
    this.#context = context;
  }

  /** Waits for `count` timestamps in one block, 1 to 2^18; `deliver` gets the first, and the leader's epoch. `limits` are those of this caller. */
  add(count: number, limits: CallLimits, deliver: (first: Timestamp, epoch: Epoch) => void, reject: (reason: unknown) => void): void {
    if (this.#closed !== undefined) return reject(this.#closed);
    const { queueMax, aborts } = this.#context;
    if (this.#live >= queueMax) return reject(new OracleError("TSO_OVERLOADED", `queueMax ${queueMax} callers wait for timestamps already`));
    const { deadlineMs: allowedMs, signal } = limits;
    const turn = this.#turn ?? this.#beginTurn();
    if (allowedMs < turn.shortestMs) turn.shortestMs = allowedMs;
    const waiter: Waiter = { count, deliver, reject, allowedMs, turn, forget: undefined, ended: false, aboard: false, tried: false };
    if (signal !== undefined) waiter.forget = aborts.on(signal, () => this.#giveUp(waiter, signal.reason));
    this.#waiting.push(waiter);
    this.#live += 1;
  }

  close(error: OracleError): void {
    this.#closed = error;
    for (const waiter of [...this.#aboard, ...this.#waiting]) this.#giveUp(waiter, error);
    this.#stopSweep?.();
  }

  #beginTurn(): Turn {
    const turn: Turn = { endedAt: undefined, shortestMs: Number.POSITIVE_INFINITY };
    this.#turn = turn;
    process.nextTick(() => this.#endTurn(turn));
    return turn;
  }

  #endTurn(turn: Turn): void {
    this.#turn = undefined;
    turn.endedAt = this.#context.timers.now();
    const expiresAt = turn.endedAt + turn.shortestMs;
    if (expiresAt < this.#sweepAt) this.#sweepFrom(expiresAt);
    if (this.#flying) return;
    this.#flying = true;
    void this.#fly();
  }

  /** Ends when nobody waits. Nothing in it throws but a bug, and that is told to everyone. */
  async #fly(): Promise<void> {
    try {
      while (this.#live > 0) {
        await this.#flyOnce();
        await endOfTurn(); // whoever was just answered and asks again comes along
      }
    } catch (error) {
      for (const waiter of [...this.#aboard, ...this.#waiting]) this.#giveUp(waiter, error);
    } finally {
      this.#found();
      this.#waiting = this.#waiting.filter(({ ended }) => !ended);
      this.#flying = false;
      this.#context.metrics.set("tsoracle_client_queue_depth", 0);
    }
  }

  /** Asks one node, for all who wait when there is a connection to it. */
  async #flyOnce(): Promise<void> {
    const search = this.#currentSearch();
    const endpoint = search.next();
    if (endpoint === undefined) return this.#passed(search);
    const { metrics } = this.#context;
    let total = 0;
    const request = (): GetTsRequest => {
      total = this.#board();
      metrics.set("tsoracle_client_queue_depth", this.#waiting.length);
      return { count: total };
    };
    metrics.set("tsoracle_client_in_flight", 1);
    this.#attempt = attempt(this.#context, endpoint, "getTs", request, Number.POSITIVE_INFINITY);
    const reply = await this.#attempt.reply;
    this.#attempt = undefined;
    metrics.set("tsoracle_client_in_flight", 0);
    if (reply.type === "answer") {
      if (this.#isAnswer(search, endpoint, reply.value, total)) this.#hand(reply.value);
      else this.#requeue();
      return;
    }
    const verdict = judge("getTs", endpoint, reply);
    switch (verdict.type) {
      case "final":
        return this.#failAboard(verdict.error);
      case "not-leader":
        search.notLeader(endpoint, verdict.hint, this.#context.timers.now());
        metrics.add("tsoracle_client_retries_total", 1, { reason: "not_leader" });
        return this.#requeue();
      case "lost":
        if (verdict.reason !== "abandoned") {
          search.lost(endpoint, verdict.detail);
          metrics.add("tsoracle_client_retries_total", 1, { reason: verdict.reason });
        }
        return this.#requeue();
      case "failed":
        search.failed(endpoint, verdict.detail);
        metrics.add("tsoracle_client_retries_total", 1, { reason: "transport" });
        return this.#requeue();
      default:
        return verdict satisfies never;
    }
  }

  /** Those who were aboard wait again, before all others. */
  #requeue(): void {
    for (const waiter of this.#aboard) {
      waiter.aboard = false;
      waiter.tried = true;
    }
    this.#waiting = [...this.#aboard, ...this.#waiting].filter(({ ended }) => !ended);
    this.#aboard = [];
  }

  #failAboard(error: OracleError): void {
    this.#found();
    for (const waiter of this.#aboard) this.#giveUp(waiter, error);
    this.#aboard = [];
  }

  /** Takes from the front as many as one grant can serve, and returns their sum. */
  #board(): number {
    if (this.#waiting.length !== this.#live) this.#waiting = this.#waiting.filter(({ ended }) => !ended);
    let total = 0;
    let taken = 0;
    for (const waiter of this.#waiting) {
      if (total + waiter.count > GRANT_COUNT_MAX) break;
      waiter.aboard = true;
      total += waiter.count;
      taken += 1;
    }
    this.#liveAboard = taken;
    this.#aboard = taken === this.#waiting.length ? this.#waiting : this.#waiting.slice(0, taken);
    this.#waiting = taken === this.#waiting.length ? [] : this.#waiting.slice(taken);
    return total;
  }

  /** Whether an answer is one: what was asked for, of no earlier leadership, and above all that was handed out before. */
  #isAnswer(search: Search, endpoint: Endpoint, answer: GetTsResponse, total: number): boolean {
    const { leaders, timers, metrics } = this.#context;
    const problem = this.#problemOf(answer, total);
    if (problem !== undefined) {
      search.failed(endpoint, problem);
      metrics.add("tsoracle_client_retries_total", 1, { reason: "decode_error" });
      return false;
    }
    const epoch = epochFromParts(answer.epochHi, answer.epochLo);
    if (leaders.answered(endpoint, epoch, timers.now())) return true;
    search.stale(endpoint, { answered: epoch, known: leaders.epoch });
    return false;
  }

  #problemOf(answer: GetTsResponse, total: number): string | undefined {
    const { count, physicalMs, logicalStart } = answer;
    if (count !== total) return `answered ${count} timestamps where ${total} were asked for`;
    if (physicalMs > PHYSICAL_MS_MAX || logicalStart + count > GRANT_COUNT_MAX)
      return `answered a block that no timestamps have: ${physicalMs} ms, ${logicalStart} + ${count}`;
    const first = firstOf(answer);
    const { epoch } = this.#context.leaders;
    const isStale = epoch !== undefined && epochFromParts(answer.epochHi, answer.epochLo) < epoch; // that alone says why it is low
    if (first <= this.#last && !isStale) return `went back: answered ${first}, and ${this.#last} was handed out before`;
    return undefined;
  }

  /** The hot loop: a block each, in the order in which they came. */
  #hand(answer: GetTsResponse): void {
    this.#found();
    const epoch = epochFromParts(answer.epochHi, answer.epochLo);
    let next: bigint = firstOf(answer);
    this.#last = next + BigInt(answer.count) - 1n;
    for (const waiter of this.#aboard) {
      if (!waiter.ended) {
        waiter.ended = true;
        waiter.forget?.();
        this.#live -= 1;
        waiter.deliver(next as Timestamp, epoch);
      }
      next += waiter.count === 1 ? 1n : BigInt(waiter.count);
    }
    this.#aboard = [];
    this.#context.metrics.add("tsoracle_client_timestamps_total", answer.count);
  }

  /** Every endpoint was asked, and none could answer. */
  async #passed(search: Search): Promise<void> {
    const next = search.passed(this.#context.timers.now());
    if (typeof next === "number") return this.#pause(next);
    this.#found();
    for (const waiter of this.#waiting.filter(({ tried }) => tried)) this.#giveUp(waiter, next);
  }

  /** Returns when `ms` have passed, or nobody waits any more. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const stop = this.#context.timers.after(ms, true, resolve);
      this.#endPause = () => {
        stop();
        resolve();
      };
    });
  }

  #giveUp(waiter: Waiter, reason: unknown): void {
    if (waiter.ended) return;
    waiter.ended = true;
    waiter.forget?.();
    this.#live -= 1;
    waiter.reject(reason);
    this.#context.metrics.add("tsoracle_client_abandoned_waiters_total", 1);
    if (this.#waiting.length > COMPACT_FROM && this.#waiting.length > 2 * this.#live) this.#waiting = this.#waiting.filter(({ ended }) => !ended);
    if (waiter.aboard) this.#liveAboard -= 1;
    if (this.#live === 0) this.#endPause?.();
    // Nobody is left who could use the answer, or for whom to connect: whoever comes now need not wait for it.
    if (this.#live === 0 || (waiter.aboard && this.#liveAboard === 0)) this.#abandon();
  }

  #abandon(): void {
    if (this.#attempt === undefined) return;
    const isNodeLost = this.#closed === undefined && isLost(this.#attempt, this.#context);
    this.#attempt.abandon("nobody waits for it any more", isNodeLost ? "drop" : "keep");
  }

  /** A search goes on from one request to the next while there is no answer; but no longer than a call, so that its caps are those of a call. */
  #currentSearch(): Search {
    const { timers, newSearch, searchMs } = this.#context;
    const now = timers.now();
    if (this.#search === undefined || now >= this.#searchEndsAt) {
      this.#earlierSearch = this.#search;
      this.#search = newSearch();
      this.#searchEndsAt = now + searchMs;
    }
    return this.#search;
  }

  #found(): void {
    this.#search = undefined;
    this.#earlierSearch = undefined;
  }

  #sweepFrom(expiresAt: number): void {
    const { timers } = this.#context;
    this.#stopSweep?.();
    this.#sweepAt = expiresAt;
    this.#stopSweep = timers.after(Math.max(SWEEP_MS, expiresAt - timers.now() + 1), false, () => this.#sweep());
  }

  /** Ends those whose time is up, and comes back for the next one. */
  #sweep(): void {
    const now = this.#context.timers.now();
    this.#sweepAt = Number.POSITIVE_INFINITY;
    let next = Number.POSITIVE_INFINITY;
    for (const waiter of [...this.#aboard, ...this.#waiting]) {
      if (waiter.ended) continue;
      const expiresAt = (waiter.turn.endedAt ?? now) + waiter.allowedMs;
      if (expiresAt > now) next = Math.min(next, expiresAt);
      else this.#giveUp(waiter, this.#timeUp(waiter));
    }
    if (next < this.#sweepAt) this.#sweepFrom(next);
  }

  #timeUp({ allowedMs }: Waiter): OracleError {
    const learned = [this.#search, this.#earlierSearch].find((search) => search?.hasLearned);
    return (learned ?? this.#context.newSearch()).timeUp(allowedMs);
  }
}

function firstOf({ physicalMs, logicalStart }: GetTsResponse): Timestamp {
  return packTimestamp({ physicalMs: Number(physicalMs), logical: logicalStart });
}

/** After all that can still run in this turn of the event loop: promises that were just resolved, and what they lead to. */
function endOfTurn(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}
