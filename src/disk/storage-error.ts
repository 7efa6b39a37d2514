import { messageOf, OracleError } from "../base/errors.ts";
import { InvariantViolation } from "../base/invariant.ts";

/** Gives the system's errors a code of ours, and names the directory. */
export async function guardStorage<T>(directory: string, use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    throw storageError(directory, error);
  }
}

export function storageError(directory: string, error: unknown): OracleError {
  if (error instanceof OracleError) return error;
  if (error instanceof InvariantViolation)
    return new OracleError("TSO_STORAGE", `the journal in ${directory} met a bug: ${error.message}`, { cause: error });
  return new OracleError("TSO_STORAGE", `the disk under ${directory} failed: ${messageOf(error)}`, { cause: error });
}
