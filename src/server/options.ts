import { type Logger, silentLogger } from "../base/logger.ts";
import { wholeOption } from "../base/options.ts";
import type { ConsensusDriver } from "../oracle/driver.ts";
import { type OracleLimits, resolveLimits } from "../oracle/rules/limits.ts";
import { PHYSICAL_MS_MAX } from "../oracle/rules/timestamp.ts";

export interface OracleServerOptions {
  /** What decides. Its leadership is taken by this server; closing it is up to whoever made it. */
  readonly driver: ConsensusDriver;
  /** How far the durable window reaches beyond the clock, ms, 1 to 3600000. A restart may skip this many. @defaultValue 3000 */
  readonly windowAheadMs?: number | undefined;
  /** How far the first window of a reign reaches beyond its floor, ms, 1 to 3600000. @defaultValue 1000 */
  readonly failoverAdvanceMs?: number | undefined;
  /** A clock further than this beyond the durable high water is refused, ms, from 1000. @defaultValue 86400000, a day */
  readonly maxClockJumpMs?: number | undefined;
  /** Accepts any clock at this server's first take-over. @defaultValue false */
  readonly acceptClockJump?: boolean | undefined;
  /** Bounds on what a lease may ask for, ms. @defaultValue 5000 */
  readonly leaseTtlFloorMs?: number | undefined;
  /** @defaultValue 300000 */
  readonly leaseTtlCeilingMs?: number | undefined;
  /** Caps that the first take-over fixes for ever; a server that is configured otherwise later does not serve. */
  readonly limits?: { readonly [Name in keyof OracleLimits]?: number | undefined } | undefined;
  /** Requests for sequences and leases that may wait for the driver; more are refused at once. @defaultValue 16384 */
  readonly pendingMax?: number | undefined;
  /** Between two heartbeat lines in the log, ms; 0 for none. @defaultValue 10000 */
  readonly heartbeatMs?: number | undefined;
  /** Milliseconds since 1970, a number from 0 up; the fraction is dropped. @defaultValue the system's clock */
  readonly clock?: (() => number) | undefined;
  readonly logger?: Logger | undefined;
}

export type ServingOptions = { readonly [Name in keyof OracleServerOptions]-?: Exclude<OracleServerOptions[Name], undefined> } & {
  readonly limits: OracleLimits;
};

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Fills defaults and checks how values relate. @throws OracleError TSO_INVALID_OPTION */
export function resolveServerOptions(options: OracleServerOptions): ServingOptions {
  const clock = wholeClock(options.clock ?? Date.now);
  clock(); // one that tells no time is refused here, not by the first request
  const leaseTtlCeilingMs = wholeOption("leaseTtlCeilingMs", options.leaseTtlCeilingMs ?? 300_000, { from: 1, through: 365 * DAY_MS });
  return {
    driver: options.driver,
    windowAheadMs: wholeOption("windowAheadMs", options.windowAheadMs ?? 3_000, { from: 1, through: HOUR_MS }),
    failoverAdvanceMs: wholeOption("failoverAdvanceMs", options.failoverAdvanceMs ?? 1_000, { from: 1, through: HOUR_MS }),
    maxClockJumpMs: wholeOption("maxClockJumpMs", options.maxClockJumpMs ?? DAY_MS, { from: 1_000, through: PHYSICAL_MS_MAX }),
    acceptClockJump: options.acceptClockJump ?? false,
    leaseTtlFloorMs: wholeOption("leaseTtlFloorMs", options.leaseTtlFloorMs ?? 5_000, { from: 1, through: leaseTtlCeilingMs }),
    leaseTtlCeilingMs,
    limits: resolveLimits(options.limits),
    pendingMax: wholeOption("pendingMax", options.pendingMax ?? 16_384, { from: 1, through: 1_000_000 }),
    heartbeatMs: wholeOption("heartbeatMs", options.heartbeatMs ?? 10_000, { from: 0, through: DAY_MS }),
    clock,
    logger: options.logger ?? silentLogger,
  };
}

/** A clock of a host's own may have fractions; what it returns is put on record, so it must be a time. */
function wholeClock(clock: () => number): () => number {
  return () => wholeOption("clock()", Math.floor(clock()), { from: 0, through: Number.MAX_SAFE_INTEGER });
}
