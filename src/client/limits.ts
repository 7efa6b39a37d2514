import { wholeArgument } from "../base/options.ts";
import { HOUR_MS } from "./options.ts";

/** What every call takes. */
export interface CallOptions {
  /** How long the call may take, all its attempts together, ms, 1 to 3600000. @defaultValue that of the client */
  readonly deadlineMs?: number | undefined;
  /** Ends the call when it is aborted, with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export interface CallLimits {
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
}

/** @throws OracleError TSO_INVALID_ARGUMENT; the signal's reason where it is aborted already. */
export function callLimits(options: CallOptions | undefined, defaults: CallLimits): CallLimits {
  if (options === undefined) return defaults;
  options.signal?.throwIfAborted();
  return {
    deadlineMs: wholeArgument("deadlineMs", options.deadlineMs ?? defaults.deadlineMs, { from: 1, through: HOUR_MS }),
    signal: options.signal,
  };
}
