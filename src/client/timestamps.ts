/** What one does with a timestamp: take it apart, put it together, write it down. Compare with `<`: it is a plain bigint. */
import { OracleError } from "../base/errors.ts";
import { logicalOf, packTimestamp, physicalMsOf, type Timestamp, timestamp } from "../oracle/rules/timestamp.ts";

const TEXT_DIGITS = 20; // of 2^64-1

/** A timestamp of its parts: `physicalMs` from 0 to 2^46-1, `logical` from 0 to 2^18-1. @throws OracleError TSO_INVALID_ARGUMENT */
export function fromParts(parts: { readonly physicalMs: number; readonly logical: number }): Timestamp {
  return packTimestamp(parts);
}

/** `value` as a timestamp, as `range.first + 1n` is one. @throws OracleError TSO_INVALID_ARGUMENT where it does not fit 64 bits. */
export function of(value: bigint): Timestamp {
  return timestamp(value);
}

/** Milliseconds since 1970. @throws OracleError TSO_INVALID_ARGUMENT where `value` does not fit 64 bits; so do all that take one. */
export function physicalMs(value: bigint): number {
  return physicalMsOf(of(value));
}

/** What tells timestamps of one millisecond apart: 0 to 2^18-1. */
export function logical(value: bigint): number {
  return logicalOf(of(value));
}

/** The moment that its physical part names: close to when it was granted, and never proof of it. */
export function toDate(value: bigint): Date {
  return new Date(physicalMs(value));
}

/** Twenty decimal digits: these texts sort as the timestamps do, in a database column or a file name. */
export function toText(value: bigint): string {
  return of(value).toString().padStart(TEXT_DIGITS, "0");
}

/** Reads decimal digits, padded or not. @throws OracleError TSO_INVALID_ARGUMENT where `text` is anything else or does not fit 64 bits. */
export function fromText(text: string): Timestamp {
  if (!/^\d{1,20}$/.test(text)) {
    throw new OracleError("TSO_INVALID_ARGUMENT", `timestamp ${JSON.stringify(text.slice(0, 40))} must be 1 to ${TEXT_DIGITS} decimal digits`);
  }
  return of(BigInt(text));
}

/** For `JSON.stringify(value, bigintsAsText)`: JSON has no 64-bit numbers, so a bigint becomes its decimal text. */
export function bigintsAsText(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}
