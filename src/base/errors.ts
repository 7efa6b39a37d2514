/** What is known about the work after an error: "not-applied": it never will be, retry freely; "unknown": it may be, now or later. */
export type Outcome = "not-applied" | "unknown";

/** Codes are API: adding one is minor, changing or removing one is major. `docs/errors.md` says what to do about each. */
export const ERROR_OUTCOMES = {
  TSO_NOT_LEADER: "not-applied",
  TSO_NO_LEADER: "not-applied",
  TSO_DEADLINE: "not-applied",
  TSO_OUTCOME_UNKNOWN: "unknown",
  TSO_INVALID_ARGUMENT: "not-applied",
  TSO_INVALID_OPTION: "not-applied",
  TSO_LIMIT_REACHED: "not-applied",
  TSO_OVERLOADED: "not-applied",
  TSO_FENCED: "not-applied",
  TSO_CLOSED: "not-applied",
  TSO_STORAGE: "unknown",
  TSO_LOCKED: "not-applied",
  TSO_WRONG_FORMAT: "not-applied",
  TSO_LEASE_LOST: "not-applied",
  TSO_SERVER_ERROR: "not-applied",
  TSO_ALREADY_SUBSCRIBED: "not-applied",
} as const satisfies Readonly<Record<string, Outcome>>;

export type ErrorCode = keyof typeof ERROR_OUTCOMES;

/** An expected failure. Branch on `code`; `message` is for people and may change in any release. */
export class OracleError extends Error {
  override readonly name = "OracleError";
  readonly code: ErrorCode;
  /** The message without the code. */
  readonly detail: string;

  constructor(code: ErrorCode, detail: string, options?: ErrorOptions) {
    super(`${code}: ${detail}`, options);
    this.code = code;
    this.detail = detail;
  }

  /** Whether the work that was asked for may still happen. */
  get outcome(): Outcome {
    return ERROR_OUTCOMES[this.code];
  }

  /** For logs: an error's message is left out of JSON otherwise. */
  toJSON(): { readonly name: string; readonly code: ErrorCode; readonly outcome: Outcome; readonly detail: string } {
    return { name: this.name, code: this.code, outcome: this.outcome, detail: this.detail };
  }
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
