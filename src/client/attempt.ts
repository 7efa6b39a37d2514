import type { Endpoint } from "./endpoint.ts";
import type { LeaderCache } from "./leader-cache.ts";
import type { ClientMetrics } from "./metrics.ts";
import type { ClientTimers } from "./timers.ts";
import type { Cancel, LossReason, Messages, Method, Reply, Transport } from "./transport.ts";
import { REPEATS } from "./verdict.ts";

export interface Attempt<T> {
  /** Never rejects. */
  readonly reply: Promise<Reply<T>>;
  readonly endpoint: Endpoint;
  readonly startedAt: number;
  /** Ends it now: the reply is that it was lost, why, and whether it had been sent. "drop" where the connection is in doubt. */
  abandon(why: string, connection: "keep" | "drop"): void;
}

export interface AttemptContext {
  readonly transport: Transport;
  readonly timers: ClientTimers;
  readonly metrics: ClientMetrics;
  /** How long an answer may take, ms. */
  readonly timeoutMs: number;
}

/**
 * Asks one node once: connects where there is no connection, then sends. They are two steps, so that a node that cannot be reached is never an
 * outcome that is unknown. Nothing is sent after `expiresAt`. `request` is called when it is sent, not before.
 */
export function attempt<M extends Method>(
  context: AttemptContext,
  endpoint: Endpoint,
  method: M,
  request: () => Messages[M]["request"],
  expiresAt: number,
): Attempt<Messages[M]["response"]> {
  return new RunningAttempt(context, endpoint, method, request, expiresAt);
}

class RunningAttempt<M extends Method> implements Attempt<Messages[M]["response"]> {
  readonly endpoint: Endpoint;
  readonly startedAt: number;
  readonly reply: Promise<Reply<Messages[M]["response"]>>;
  readonly #context: AttemptContext;
  readonly #method: M;
  readonly #request: () => Messages[M]["request"];
  readonly #expiresAt: number;
  // Dropped when it is over: the network layer keeps the callback of a call for a while, and with it whatever that reaches.
  #settle: ((reply: Reply<Messages[M]["response"]>) => void) | undefined;
  #cancel: Cancel | undefined;
  #stopTimer: (() => void) | undefined;
  #sent = false;

  constructor(context: AttemptContext, endpoint: Endpoint, method: M, request: () => Messages[M]["request"], expiresAt: number) {
    this.endpoint = endpoint;
    this.startedAt = context.timers.now();
    this.#context = context;
    this.#method = method;
    this.#request = request;
    this.#expiresAt = expiresAt;
    this.reply = new Promise((resolve) => {
      this.#settle = resolve;
    });
    if (context.transport.isReady(endpoint)) this.#send();
    else this.#connect();
  }

  abandon(why: string, connection: "keep" | "drop"): void {
    this.#giveUp(this.#sent ? connection : "keep", "abandoned", why); // one that is only being made has a time of its own
  }

  #connect(): void {
    const { transport, timers, metrics } = this.#context;
    this.#cancel = transport.connect(this.endpoint, (result) => {
      metrics.observe("tsoracle_client_connect_duration_seconds", (timers.now() - this.startedAt) / 1000);
      if (result.type !== "ready") metrics.add("tsoracle_client_connect_failures_total", 1);
      if (result.type === "silent") this.#end({ type: "lost", sent: false, reason: "connect_failure", details: result.details });
      else this.#send();
    });
  }

  #send(): void {
    const { transport, timers, timeoutMs } = this.#context;
    const leftMs = this.#expiresAt - timers.now();
    if (leftMs <= 0) return this.#end({ type: "lost", sent: false, reason: "abandoned", details: "no time was left" });
    // A request that cannot be made again is waited for as long as its caller does; and no other for longer. That time is the caller's to end.
    if (REPEATS[this.#method] !== "once" && timeoutMs < leftMs) {
      this.#stopTimer = timers.after(timeoutMs, true, () => this.#giveUp("drop", "deadline_exceeded", `no answer within ${timeoutMs} ms`));
    }
    this.#sent = true;
    this.#cancel = transport.send(this.endpoint, this.#method, this.#request(), (reply) => this.#end(reply));
  }

  #giveUp(connection: "keep" | "drop", reason: LossReason, details: string): void {
    if (this.#settle === undefined) return;
    this.#cancel?.(connection);
    this.#end({ type: "lost", sent: this.#sent, reason, details });
  }

  #end(reply: Reply<Messages[M]["response"]>): void {
    const settle = this.#settle;
    this.#settle = undefined;
    this.#cancel = undefined;
    this.#stopTimer?.();
    settle?.(reply);
  }
}

/** Whether a caller who gives up on `attempt` has waited long enough, or was one of enough, to look elsewhere from now on. */
export function isLost(
  { endpoint, startedAt }: Attempt<unknown>,
  { leaders, timers, timeoutMs }: AttemptContext & { readonly leaders: LeaderCache },
): boolean {
  const now = timers.now();
  if (now - startedAt < timeoutMs) return leaders.doubted(endpoint, now);
  leaders.refuted(endpoint);
  return true;
}
