import { OracleError } from "./errors.ts";

export interface WholeRange {
  readonly from: number;
  readonly through: number;
}

/** Returns `value`, or says which option is out of which range. */
export function wholeOption(name: string, value: number, { from, through }: WholeRange): number {
  const fits = Number.isSafeInteger(value) && value >= from && value <= through; // stated positively, so NaN is refused too
  if (!fits) throw new OracleError("TSO_INVALID_OPTION", `${name} ${value} must be a whole number from ${from} to ${through}`);
  return value;
}
