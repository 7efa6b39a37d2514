/** What an RPC is answered with: the value, or a status as the wire wants it. `docs/wire.md` has the table. */
import { Metadata, status } from "@grpc/grpc-js";
import { type Epoch, epochParts } from "../base/epoch.ts";
import { unreachable } from "../base/invariant.ts";
import { LEADER_HINT_TRAILER } from "../base/leader-hint.ts";
import { LeaderHint } from "../gen/tsoracle/v1/tso.ts";
import type { Submitted } from "../oracle/driver.ts";
import type { Refusal } from "../oracle/rules/command.ts";

/** A status message travels in a header, and one that is too long for it holds up its whole connection; proxies allow 8 KiB. */
const DETAILS_MAX = 800;

export interface Failure {
  readonly code: status;
  readonly details: string;
  readonly metadata?: Metadata;
}

export type Answer<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly failure: Failure };

/** What is known about who leads instead. */
export interface Hint {
  /** host:port, without a scheme. */
  readonly endpoint?: string | undefined;
  readonly epoch?: Epoch | undefined;
}

export function ok<T>(value: T): Answer<T> {
  return { ok: true, value };
}

export function failed(code: status, details: string): Answer<never> {
  return { ok: false, failure: { code, details: details.length <= DETAILS_MAX ? details : `${details.slice(0, DETAILS_MAX).toWellFormed()}...` } };
}

/** The trailer is there even when nothing is known: then it is empty. */
export function notLeader(hint: Hint = {}): Answer<never> {
  const metadata = new Metadata();
  const leaderEpoch = hint.epoch === undefined ? undefined : epochParts(hint.epoch);
  metadata.set(LEADER_HINT_TRAILER, Buffer.from(LeaderHint.encode({ leaderEndpoint: hint.endpoint, leaderEpoch }).finish()));
  return { ok: false, failure: { code: status.FAILED_PRECONDITION, details: "not leader", metadata } };
}

/** A request that the rules refuse: definite, and no trailer. */
export function refusedBy(refusal: Refusal): Answer<never> {
  return failed(...refusalStatus(refusal));
}

function refusalStatus(refusal: Refusal): readonly [status, string] {
  switch (refusal.reason) {
    case "invalid-key":
      return [status.INVALID_ARGUMENT, "invalid sequence key"];
    case "invalid-count":
      return [status.INVALID_ARGUMENT, "count must be between 1 and the maximum"];
    case "empty-group":
      return [status.INVALID_ARGUMENT, "batch must contain at least one entry"];
    case "too-many-keys":
      return [status.INVALID_ARGUMENT, `batch has ${refusal.count} entries; the maximum is ${refusal.max}`];
    case "duplicate-key":
      return [status.INVALID_ARGUMENT, `duplicate key in batch: ${refusal.key}`];
    case "key-limit":
      return [status.RESOURCE_EXHAUSTED, `dense key cardinality cap ${refusal.limit} reached`];
    case "sequence-overflow":
      return [status.FAILED_PRECONDITION, "dense counter overflow"];
    case "already-granted":
      return [status.FAILED_PRECONDITION, `sequence ${refusal.key} has granted [${refusal.first}, ${refusal.next}); its first value is fixed`];
    case "invalid-holder":
      return [status.INVALID_ARGUMENT, `lease holder must be 1..=${refusal.max} bytes, got ${refusal.length}`];
    case "stale-holder-epoch":
      return [status.FAILED_PRECONDITION, `holder epoch ${refusal.asked} is not above the active lease's epoch ${refusal.active}`];
    case "lease-expired":
      return [status.FAILED_PRECONDITION, `lease ${refusal.id} expired at ${refusal.expiresAtMs} ms; acquire a new lease`];
    case "lease-superseded":
      return [status.FAILED_PRECONDITION, `lease ${refusal.id} was superseded by holder epoch ${refusal.by}`];
    case "unknown-lease":
      return [status.NOT_FOUND, `unknown lease id ${refusal.id}`];
    case "lease-limit":
      return [status.RESOURCE_EXHAUSTED, `lease cap ${refusal.limit} reached`];
    case "out-of-range":
      return [status.INTERNAL, `persist: high-water advance ${refusal.value} exceeds the 46-bit physical_ms maximum`];
    case "no-limits":
    case "limits-differ":
    case "clock-too-far":
    case "malformed":
      return [status.INTERNAL, `the driver refused what only a bug submits: ${refusal.reason}`];
    default:
      return unreachable(refusal);
  }
}

/** A command that was not applied, or may not have been. `prefix` says what for, as clients of the surface expect it. */
export function notApplied(submitted: Exclude<Submitted, { type: "applied" }>, prefix: string): Answer<never> {
  if (submitted.type === "fenced") return notLeader({ epoch: submitted.by });
  const detail = `${prefix}${submitted.detail ?? submitted.reason}`;
  if (submitted.type === "unknown") {
    return failed(submitted.reason === "storage" ? status.INTERNAL : status.UNAVAILABLE, `${detail} (the outcome is unknown)`);
  }
  switch (submitted.reason) {
    case "not-leader":
    case "epoch-differs":
    case "superseded":
    case "transferring":
      return notLeader();
    case "overloaded":
      return failed(status.RESOURCE_EXHAUSTED, `overloaded: ${detail}`);
    case "disk-low":
      return failed(status.RESOURCE_EXHAUSTED, `overloaded: the disk is nearly full: ${detail}`);
    case "too-large":
      return failed(status.RESOURCE_EXHAUSTED, `too large for the log: ${detail}`);
    case "aborted":
    case "closed":
    case "unavailable":
      return failed(status.UNAVAILABLE, detail);
    default:
      return unreachable(submitted);
  }
}
