import { OracleError } from "../base/errors.ts";
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
  return { deadlineMs: wholeArgument("deadlineMs", options.deadlineMs ?? defaults.deadlineMs, HOUR_MS), signal: options.signal };
}

/** Returns `value`, or says which argument is out of which range. */
export function wholeArgument(name: string, value: number, max: number): number {
  const fits = Number.isSafeInteger(value) && value >= 1 && value <= max; // stated positively, so NaN is refused too
  if (!fits) throw new OracleError("TSO_INVALID_ARGUMENT", `${name} ${value} must be a whole number from 1 to ${max}`);
  return value;
}
