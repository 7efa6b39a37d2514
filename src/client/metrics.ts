import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";

/** Why something is tried again. */
export type RetryReason = "connect_failure" | "not_leader" | "transport" | "decode_error" | "deadline_exceeded";

/** What a client counts, in the words of Prometheus. Where they are kept is up to you: `docs/client.md` shows prom-client. Calls must return quickly. */
export interface ClientMetrics {
  /** Adds to a counter. */
  add(name: ClientCounter, amount: number, labels?: { readonly reason: RetryReason }): void;
  /** Sets a gauge. */
  set(name: ClientGauge, value: number): void;
  /** Adds an observation to a histogram. */
  observe(name: ClientHistogram, seconds: number): void;
}

export type ClientCounter =
  | "tsoracle_client_not_leader_total"
  | "tsoracle_client_leader_pivots_total"
  | "tsoracle_client_retries_total"
  | "tsoracle_client_leader_hint_decode_failures_total"
  | "tsoracle_client_leader_hint_stale_total"
  | "tsoracle_client_leader_redirect_cap_total"
  | "tsoracle_client_leader_redirect_total_cap_total"
  | "tsoracle_client_connect_failures_total"
  | "tsoracle_client_abandoned_waiters_total"
  | "tsoracle_client_stale_answers_total"
  | "tsoracle_client_timestamps_total";

/** Callers that wait for timestamps; batches of them that are under way, 0 or 1. */
export type ClientGauge = "tsoracle_client_queue_depth" | "tsoracle_client_in_flight";

export type ClientHistogram = "tsoracle_client_connect_duration_seconds";

/** A host's metrics, kept from doing harm: one that throws is told of once, and not called again. */
export function guardedMetrics(metrics: ClientMetrics | undefined, logger: Logger): ClientMetrics {
  let used = metrics;
  const guarded = (call: (metrics: ClientMetrics) => void): void => {
    if (used === undefined) return;
    try {
      call(used);
    } catch (error) {
      // whatever a host's code throws
      used = undefined;
      logger.error({ error: messageOf(error) }, "the metrics threw, and are not called any more");
    }
  };
  return {
    add: (name, amount, labels) => guarded((each) => each.add(name, amount, labels)),
    set: (name, value) => guarded((each) => each.set(name, value)),
    observe: (name, seconds) => guarded((each) => each.observe(name, seconds)),
  };
}
