import { messageOf } from "../base/errors.ts";
import type { LogFields, Logger } from "../base/logger.ts";

/** Why something is tried again. */
export type RetryReason = "connect_failure" | "not_leader" | "transport" | "decode_error" | "deadline_exceeded";

/** What a client counts, in the words of Prometheus. Where they are kept is up to you: `docs/client.md` shows prom-client. Told of at the end of the turn. */
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

/**
 * A host's metrics, kept from doing harm: told of at the end of the turn, so that nothing of the client is half done meanwhile, whatever they call; one that
 * throws is told of once, and not called again.
 */
export function guardedMetrics(metrics: ClientMetrics | undefined, logger: Logger): ClientMetrics {
  if (metrics === undefined) return NO_METRICS;
  let used: ClientMetrics | undefined = metrics;
  let told: ((metrics: ClientMetrics) => unknown)[] = [];
  const onFailure = (error: unknown): void => {
    if (used !== undefined) logger.error({ error: messageOf(error) }, "the metrics threw, and are not called any more");
    used = undefined;
  };
  const tell = (): void => {
    const telling = told;
    told = [];
    for (const each of telling) {
      try {
        const result: unknown = used === undefined ? undefined : each(used);
        if (result instanceof Promise) result.catch(onFailure);
      } catch (error) {
        onFailure(error); // whatever a host's code throws
      }
    }
  };
  const later = (call: (metrics: ClientMetrics) => unknown): void => {
    if (used === undefined) return;
    if (told.push(call) === 1) process.nextTick(tell);
  };
  return {
    add: (name, amount, labels) => later((each) => each.add(name, amount, labels)),
    set: (name, value) => later((each) => each.set(name, value)),
    observe: (name, seconds) => later((each) => each.observe(name, seconds)),
  };
}

const NO_METRICS: ClientMetrics = { add: () => undefined, set: () => undefined, observe: () => undefined };

/** A host's logger, which cannot throw into what it is told of. */
export function guardedLogger(logger: Logger): Logger {
  const guarded =
    (level: keyof Logger) =>
    (fields: LogFields, message: string): void => {
      try {
        logger[level](fields, message);
      } catch {
        // whatever a host's code throws: there is nobody left to tell
      }
    };
  return { debug: guarded("debug"), info: guarded("info"), warn: guarded("warn"), error: guarded("error") };
}
