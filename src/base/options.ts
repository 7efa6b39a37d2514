import { type ErrorCode, OracleError } from "./errors.ts";

export interface WholeRange {
  readonly from: number;
  readonly through: number;
}

/** Returns `value`. @throws OracleError TSO_INVALID_OPTION, naming the option and its range. */
export function wholeOption(name: string, value: number, range: WholeRange): number {
  return wholeIn("TSO_INVALID_OPTION", name, value, range);
}

/** Returns `value`. @throws OracleError TSO_INVALID_ARGUMENT, naming the argument and its range. */
export function wholeArgument(name: string, value: number, range: WholeRange): number {
  return wholeIn("TSO_INVALID_ARGUMENT", name, value, range);
}

function wholeIn(code: ErrorCode, name: string, value: number, { from, through }: WholeRange): number {
  const fits = Number.isSafeInteger(value) && value >= from && value <= through; // stated positively, so NaN is refused too
  if (!fits)
    throw new OracleError(
      code,
      `${name} ${typeof value === "string" ? JSON.stringify(value) : value} must be a whole number from ${from} to ${through}`,
    );
  return value;
}
