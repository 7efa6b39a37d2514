import { status } from "@grpc/grpc-js";
import { OracleError } from "../base/errors.ts";

/** How the command ends: scripts branch on these. */
export const EXIT = {
  done: 0,
  /** Something failed that no other code says: a server that cannot go on, a damaged directory. */
  failed: 1,
  /** The command line, the environment, the configuration file or an argument is wrong. */
  usage: 2,
  /** What was asked for did not happen, and will not: try again freely. */
  notApplied: 3,
  /** What was asked for may have happened, or may still: a sequence's block may be used up. */
  unknown: 4,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** An end of the command with a message for a person and a code for a script. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}

export function usageError(message: string): CliError {
  return new CliError(EXIT.usage, message);
}

/** The code for anything that was thrown. */
export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CliError) return error.exitCode;
  return error instanceof OracleError && isUsage(error) ? EXIT.usage : EXIT.failed;
}

/** The code for an error of the client. */
export function exitCodeOfCall(error: OracleError): ExitCode {
  if (isUsage(error)) return EXIT.usage;
  return error.outcome === "unknown" ? EXIT.unknown : EXIT.notApplied;
}

function isUsage({ code }: OracleError): boolean {
  return code === "TSO_INVALID_OPTION" || code === "TSO_INVALID_ARGUMENT";
}

/** Definite even after a request was sent: the server looked at it and did nothing. */
const DEFINITE: ReadonlySet<status> = new Set([
  status.FAILED_PRECONDITION,
  status.NOT_FOUND,
  status.RESOURCE_EXHAUSTED,
  status.UNIMPLEMENTED,
  status.OUT_OF_RANGE,
  status.UNAUTHENTICATED,
  status.PERMISSION_DENIED,
]);

/** The code for a status that came back where no client stood between. `changes`: whether the call changes anything that lasts. */
export function exitCodeOfStatus(code: status, changes: boolean): ExitCode {
  if (code === status.INVALID_ARGUMENT) return EXIT.usage;
  return changes && !DEFINITE.has(code) ? EXIT.unknown : EXIT.notApplied;
}
