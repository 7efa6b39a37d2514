/** What a failed attempt means: `docs/wire.md` read from the other side. Pure. */
import { status } from "@grpc/grpc-js";
import { type ErrorCode, OracleError } from "../base/errors.ts";
import type { Endpoint } from "./endpoint.ts";
import type { LossReason, Method, Reply } from "./transport.ts";

/** What may be done again. "read": always. "repeatable": changes something, and doing it twice is doing it once. "once": never, unless it was not done. */
export type Repeats = "read" | "repeatable" | "once";

export const REPEATS: Readonly<Record<Method, Repeats>> = {
  getTs: "read", // a timestamp that nobody received harms nobody
  getCurrentMaxSafe: "read",
  getSafeFrontier: "read",
  getSeq: "once",
  getSeqBatch: "once",
  acquireLease: "repeatable", // the holder's lease of that epoch is found again
  renewLease: "repeatable",
  releaseLease: "repeatable",
};

export type Verdict =
  /** Another node leads, or none: this one did nothing. `hint` is undefined where the answer had no trailer. */
  | { readonly type: "not-leader"; readonly hint: Uint8Array | undefined }
  /** No answer that settles anything; asking again may. `changed`: it may have been done all the same. */
  | { readonly type: "lost"; readonly reason: LossReason; readonly detail: string; readonly changed: boolean }
  /** The node failed; another one may not. */
  | { readonly type: "failed"; readonly detail: string; readonly changed: boolean }
  /** It did nothing, and asking again would not help. */
  | { readonly type: "final"; readonly error: OracleError };

export function judge(method: Method, endpoint: Endpoint, reply: Exclude<Reply<unknown>, { type: "answer" }>): Verdict {
  if (reply.type === "lost") {
    return { type: "lost", reason: reply.reason, detail: reply.details, changed: reply.sent && REPEATS[method] !== "read" };
  }
  // Its presence alone says so, and such an answer is given before anything is done.
  if (reply.code === status.FAILED_PRECONDITION && reply.hint !== undefined) return { type: "not-leader", hint: reply.hint };
  const code = definiteCode(method, reply.code, reply.details);
  if (code !== undefined) return { type: "final", error: new OracleError(code, `${endpoint}: ${reply.details}`) };
  const detail = `${reply.details} (${status[reply.code] ?? reply.code})`;
  const changed = REPEATS[method] !== "read";
  switch (reply.code) {
    case status.FAILED_PRECONDITION: // without the trailer, of a read, which has no precondition but a leader
      return { type: "not-leader", hint: undefined };
    case status.DEADLINE_EXCEEDED:
      return { type: "lost", reason: "deadline_exceeded", detail, changed };
    case status.UNAVAILABLE:
    case status.CANCELLED:
      return { type: "lost", reason: "transport", detail, changed };
    default:
      return { type: "failed", detail, changed };
  }
}

/** The codes that say for certain that nothing was done, each with what it means for `method`. Any other is no such proof. */
function definiteCode(method: Method, code: status, details: string): ErrorCode | undefined {
  switch (code) {
    case status.INVALID_ARGUMENT:
      return "TSO_INVALID_ARGUMENT";
    case status.RESOURCE_EXHAUSTED:
      return details.startsWith("overloaded") ? "TSO_OVERLOADED" : "TSO_LIMIT_REACHED";
    case status.UNIMPLEMENTED:
      return REPEATS[method] === "read" ? undefined : "TSO_SERVER_ERROR";
    case status.FAILED_PRECONDITION:
      return PRECONDITION[method];
    case status.NOT_FOUND:
      return method === "renewLease" ? "TSO_LEASE_LOST" : undefined;
    case status.OUT_OF_RANGE:
      return REPEATS[method] === "read" ? "TSO_LIMIT_REACHED" : undefined;
    default:
      return undefined;
  }
}

/** A precondition that failed and is not "the leader": the only one that each method has. */
const PRECONDITION: Readonly<Partial<Record<Method, ErrorCode>>> = {
  getSeq: "TSO_LIMIT_REACHED",
  getSeqBatch: "TSO_LIMIT_REACHED",
  acquireLease: "TSO_FENCED",
  renewLease: "TSO_LEASE_LOST",
  releaseLease: "TSO_LEASE_LOST",
};
