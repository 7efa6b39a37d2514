import { OracleError } from "../../base/errors.ts";
import type { Brand } from "../../base/ids.ts";
import { wholeArgument } from "../../base/options.ts";
import { U64_MAX } from "../../base/u64.ts";

/** A packed timestamp, `physical_ms << 18 | logical`: 64 bits, unsigned, so a bigint. Compare with `<`. */
export type Timestamp = Brand<bigint, "Timestamp">;

const LOGICAL_BITS = 18n;

/** The largest physical part, 2^46-1 milliseconds since 1970: the year 4199. */
export const PHYSICAL_MS_MAX = 2 ** 46 - 1;

/** The largest logical part, 2^18-1. */
export const LOGICAL_MAX = 2 ** 18 - 1;

/** The most timestamps that one grant can hold: a grant never straddles a millisecond. */
export const GRANT_COUNT_MAX = LOGICAL_MAX + 1;

/** @throws OracleError TSO_INVALID_ARGUMENT where a part is not a whole number in its range. */
export function packTimestamp(parts: { readonly physicalMs: number; readonly logical: number }): Timestamp {
  wholeArgument("physicalMs", parts.physicalMs, { from: 0, through: PHYSICAL_MS_MAX });
  wholeArgument("logical", parts.logical, { from: 0, through: LOGICAL_MAX });
  return ((BigInt(parts.physicalMs) << LOGICAL_BITS) | BigInt(parts.logical)) as Timestamp;
}

/** @throws OracleError TSO_INVALID_ARGUMENT where `value` does not fit 64 bits. */
export function timestamp(value: bigint): Timestamp {
  const fits = value >= 0n && value <= U64_MAX;
  if (!fits) throw new OracleError("TSO_INVALID_ARGUMENT", `timestamp ${value} must be from 0 to 2^64-1`);
  return value as Timestamp;
}

/** Milliseconds since 1970. */
export function physicalMsOf(value: Timestamp): number {
  return Number(value >> LOGICAL_BITS);
}

export function logicalOf(value: Timestamp): number {
  return Number(value & BigInt(LOGICAL_MAX));
}
