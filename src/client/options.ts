import { type Logger, silentLogger } from "../base/logger.ts";
import { wholeOption } from "../base/options.ts";
import { type Endpoint, resolveEndpoints } from "./endpoint.ts";
import { type ClientMetrics, guardedLogger, guardedMetrics } from "./metrics.ts";

export interface ClientTls {
  /** PEM of the authorities that a server's certificate must come from. @defaultValue those of the system */
  readonly ca?: Uint8Array | string | undefined;
  /** PEM certificate of this client, where servers ask for one; with `key`. */
  readonly cert?: Uint8Array | string | undefined;
  /** PEM key of that certificate. */
  readonly key?: Uint8Array | string | undefined;
  /** The name that certificates must have, where it is not the endpoint's host. */
  readonly serverName?: string | undefined;
}

export interface ClientOptions {
  /** How long a call may take, all its attempts together, ms, 1 to 3600000. Each call may say otherwise. @defaultValue 10000 */
  readonly deadlineMs?: number | undefined;
  /**
   * How long one connection may take, and then one answer, before another node is asked, ms, 1 to 600000. The answer to a sequence's request is waited for
   * until the deadline: it cannot be asked for again. @defaultValue 2000
   */
  readonly attemptTimeoutMs?: number | undefined;
  /** The wait after a search of all endpoints that found no leader is drawn from 0 to this, doubled each time, ms, 1 to 60000. @defaultValue 50 */
  readonly backoffBaseMs?: number | undefined;
  /** The most that such a wait may be, ms, from `backoffBaseMs` to 60000. @defaultValue 500 */
  readonly backoffMaxMs?: number | undefined;
  /** How long a leader is believed to lead without an answer from it, ms, 1 to 3600000. @defaultValue 30000 */
  readonly leaderTtlMs?: number | undefined;
  /** Callers that may wait for timestamps; more are refused at once, TSO_OVERLOADED. 1 to 1000000. @defaultValue 65536 */
  readonly queueMax?: number | undefined;
  /** Other calls (sequences, leases, bounds) that may be under way; more are refused at once, TSO_OVERLOADED. 1 to 100000. @defaultValue 8192 */
  readonly callsMax?: number | undefined;
  /** Between two pings of a connection, also of one that is not used, ms, 1000 to 3600000. @defaultValue 30000 */
  readonly keepaliveMs?: number | undefined;
  /** Turns TLS on; so does an endpoint with `https://`. Nothing turns it off again: a hint that names `http://` is not followed. */
  readonly tls?: ClientTls | boolean | undefined;
  readonly metrics?: ClientMetrics | undefined;
  readonly logger?: Logger | undefined;
}

export interface ResolvedOptions {
  readonly endpoints: readonly Endpoint[];
  readonly tls: ClientTls | undefined;
  readonly deadlineMs: number;
  readonly attemptTimeoutMs: number;
  readonly backoff: { readonly baseMs: number; readonly maxMs: number };
  readonly leaderTtlMs: number;
  readonly queueMax: number;
  readonly callsMax: number;
  readonly keepaliveMs: number;
  readonly metrics: ClientMetrics;
  readonly logger: Logger;
}

export const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;

/** Fills defaults and checks how values relate. @throws OracleError TSO_INVALID_OPTION, naming the option and its range. */
export function resolveClientOptions(endpoints: readonly string[] | string, options: ClientOptions): ResolvedOptions {
  const texts = typeof endpoints === "string" ? [endpoints] : endpoints;
  const resolved = resolveEndpoints(texts, options.tls !== undefined && options.tls !== false);
  const backoffBaseMs = wholeOption("backoffBaseMs", options.backoffBaseMs ?? 50, { from: 1, through: MINUTE_MS });
  const logger = guardedLogger(options.logger ?? silentLogger);
  return {
    endpoints: resolved.endpoints,
    tls: resolved.secure ? (typeof options.tls === "object" ? options.tls : {}) : undefined,
    deadlineMs: wholeOption("deadlineMs", options.deadlineMs ?? 10_000, { from: 1, through: HOUR_MS }),
    attemptTimeoutMs: wholeOption("attemptTimeoutMs", options.attemptTimeoutMs ?? 2_000, { from: 1, through: 600_000 }),
    backoff: {
      baseMs: backoffBaseMs,
      maxMs: wholeOption("backoffMaxMs", options.backoffMaxMs ?? Math.max(500, backoffBaseMs), { from: backoffBaseMs, through: MINUTE_MS }),
    },
    leaderTtlMs: wholeOption("leaderTtlMs", options.leaderTtlMs ?? 30_000, { from: 1, through: HOUR_MS }),
    queueMax: wholeOption("queueMax", options.queueMax ?? 65_536, { from: 1, through: 1_000_000 }),
    callsMax: wholeOption("callsMax", options.callsMax ?? 8_192, { from: 1, through: 100_000 }),
    keepaliveMs: wholeOption("keepaliveMs", options.keepaliveMs ?? 30_000, { from: 1_000, through: HOUR_MS }),
    metrics: guardedMetrics(options.metrics, logger),
    logger,
  };
}
