import type { Endpoint } from "./endpoint.ts";
import type { ClientMetrics } from "./metrics.ts";
import type { ClientTimers } from "./timers.ts";
import type { Cancel, CancelReason, LossReason, Messages, Method, Reply, Transport } from "./transport.ts";
import { REPEATS } from "./verdict.ts";

export interface Attempt<T> {
  /** Never rejects. */
  readonly reply: Promise<Reply<T>>;
  readonly endpoint: Endpoint;
  /** Ends it now: the reply is that it was lost, and whether it had been sent. `why` is "timeout" where the connection is in doubt. */
  abandon(why: CancelReason): void;
}

export interface AttemptContext {
  readonly transport: Transport;
  readonly timers: ClientTimers;
  readonly metrics: ClientMetrics;
  /** How long a connection may take, and then how long an answer may; one that cannot be asked for again is waited for until its call expires. */
  readonly timeoutMs: number;
}

/**
 * Asks one node once: connects where there is no connection, then sends. They are two steps, each with its own time, so that a node that cannot be reached
 * is never an outcome that is unknown. Nothing is sent after `expiresAt`. `request` is called when it is sent, not before.
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
  readonly reply: Promise<Reply<Messages[M]["response"]>>;
  readonly endpoint: Endpoint;
  readonly #context: AttemptContext;
  readonly #expiresAt: number;
  // Dropped when it is over: the network layer keeps the callback of a call for a while, and with it whatever that reaches.
  #settle: ((reply: Reply<Messages[M]["response"]>) => void) | undefined;
  #cancel: Cancel | undefined;
  #stopTimer: (() => void) | undefined;
  #sent = false;

  constructor(context: AttemptContext, endpoint: Endpoint, method: M, request: () => Messages[M]["request"], expiresAt: number) {
    this.endpoint = endpoint;
    this.#context = context;
    this.#expiresAt = expiresAt;
    this.reply = new Promise((resolve) => {
      this.#settle = resolve;
    });
    const send = (): void => {
      if (!this.#limit("no answer", REPEATS[method] === "once" ? Number.POSITIVE_INFINITY : context.timeoutMs)) return;
      this.#sent = true;
      this.#cancel = context.transport.send(endpoint, method, request(), (reply) => this.#end(reply));
    };
    if (context.transport.isReady(endpoint)) send();
    else this.#connect(endpoint, send);
  }

  abandon(why: CancelReason): void {
    this.#giveUp(why, "given up", "abandoned");
  }

  #connect(endpoint: Endpoint, send: () => void): void {
    const { transport, timers, metrics, timeoutMs } = this.#context;
    const began = timers.now();
    if (!this.#limit("no connection", timeoutMs)) return;
    this.#cancel = transport.connect(endpoint, (connected) => {
      if (this.#settle === undefined) return;
      metrics.observe("tsoracle_client_connect_duration_seconds", (timers.now() - began) / 1000);
      if (!connected) metrics.add("tsoracle_client_connect_failures_total", 1);
      this.#stopTimer?.();
      send(); // after a failure too: its answer tells the cause
    });
  }

  /** Allows the next step the time that is left, and returns whether there is any. */
  #limit(what: string, longestMs: number): boolean {
    const { timers } = this.#context;
    const ms = Math.min(longestMs, this.#expiresAt - timers.now());
    if (ms <= 0) {
      this.#end({ type: "lost", sent: false, reason: "deadline_exceeded", details: `${what}: no time was left` });
      return false;
    }
    this.#stopTimer = timers.after(ms, true, () =>
      this.#giveUp("timeout", `${what} within ${Math.round(ms)} ms`, this.#sent ? "deadline_exceeded" : "connect_failure"),
    );
    return true;
  }

  #giveUp(why: CancelReason, details: string, reason: LossReason): void {
    if (this.#settle === undefined) return;
    this.#cancel?.(why);
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
