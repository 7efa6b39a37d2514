import type { Brand } from "./ids.ts";
import { invariant } from "./invariant.ts";
import { U64_MAX } from "./u64.ts";

/**
 * The fencing number of a leadership: 128 bits, unsigned, larger for every later reign. On the wire it is two 64-bit halves.
 * Never cut to 64 bits: two reigns that differ only in the upper half would look alike.
 */
export type Epoch = Brand<bigint, "Epoch">;

/** Below the epoch of every reign. */
export const EPOCH_ZERO = 0n as Epoch;

/** The only way to turn a bigint into an epoch: 0 to 2^128-1. */
export function epoch(value: bigint): Epoch {
  invariant(value >= 0n && value <= (U64_MAX << 64n) + U64_MAX, "an epoch is a whole number of 128 bits", { value });
  return value as Epoch;
}

export function epochFromParts(hi: bigint, lo: bigint): Epoch {
  invariant(hi >= 0n && hi <= U64_MAX, "the upper half of an epoch has 64 bits", { hi });
  invariant(lo >= 0n && lo <= U64_MAX, "the lower half of an epoch has 64 bits", { lo });
  return ((hi << 64n) | lo) as Epoch;
}

export function epochParts(value: Epoch): { readonly hi: bigint; readonly lo: bigint } {
  return { hi: value >> 64n, lo: value & U64_MAX };
}
