/** The seam under the server: who leads, and what is decided. */
import type { Epoch } from "../base/epoch.ts";
import type { NotAppliedReason, UnknownReason } from "../log.ts";
import type { OracleCommand, OracleOutcome } from "./rules/command.ts";
import type { OracleChange, OracleState, SequenceState } from "./rules/state.ts";

/** Who leads, as a client needs it: with the endpoint that the leader serves on, `host:port` without a scheme. */
export type ServedLeadership =
  | { readonly role: "leader"; readonly epoch: Epoch }
  | { readonly role: "follower"; readonly leader?: { readonly epoch: Epoch; readonly endpoint?: string | undefined } | undefined }
  | { readonly role: "unknown" };

export type Submitted =
  /** Durable, and applied here. */
  | { readonly type: "applied"; readonly outcome: Exclude<OracleOutcome, { type: "fenced" }> }
  /** Nothing happened: another reign has begun, `by` this epoch if it is known. */
  | { readonly type: "fenced"; readonly by?: Epoch | undefined }
  /** Nothing happened, and nothing will. `unavailable`: the store could not be reached, and may be later. */
  | { readonly type: "not-applied"; readonly reason: NotAppliedReason | "unavailable"; readonly detail?: string | undefined }
  /** It may have happened, or may still. `storage`: the disk failed for good, and `leadership()` ends with the error. */
  | { readonly type: "unknown"; readonly reason: UnknownReason | "unavailable" | "storage"; readonly detail?: string | undefined };

/** What is applied here. */
export interface OracleView extends OracleState {
  /** The lowest bound that any lease on record, or the window, is held to. */
  readonly frontier: number;
  sequences(): Iterable<readonly [string, SequenceState]>;
}

/**
 * What the server stands on. Sequences and leases work on every driver. Safe to use from one server at a time: the leadership has one subscriber.
 */
export interface ConsensusDriver {
  /**
   * The current state first, then changes, newest wins. It ends only with an error, and then for good: the driver is of no more use.
   * @throws OracleError TSO_ALREADY_SUBSCRIBED on the first `next()` while another subscriber is active: two servers on one driver would each
   * grant from a window of their own.
   */
  leadership(options?: { readonly signal?: AbortSignal | undefined }): AsyncIterable<ServedLeadership>;
  /** Never rejects (a bug apart). Durable when it says applied. Commands are applied in the order in which they were submitted. */
  submit(command: OracleCommand): Promise<Submitted>;
  /** Proof that no later reign had begun when this was called. False: `epoch` no longer leads, or it could not be shown. */
  confirm(epoch: Epoch): Promise<boolean>;
  /** What is applied here, synchronously; there is no second lease table. */
  view(): OracleView;
  /** Lets go of everything. What was submitted before is settled first, so this waits as long as the store or the log does. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * Durable state behind a fence: a file, a row in a database, a key in etcd. Everything else (rules, group commit, outcomes) is `storeDriver`'s.
 * A rejection with OracleError TSO_STORAGE, TSO_WRONG_FORMAT or TSO_LOCKED is final; any other is a passing trouble, and the driver opens again.
 * An epoch belongs to one process. Every call must settle some day: the driver waits for one before it makes the next.
 */
export interface FencedStore {
  /** True where no other process can have the store open while this one has: then nobody need be asked who leads. */
  readonly exclusive?: boolean | undefined;
  /**
   * Durably raises the fence to `epoch`, THEN reads. Afterwards no earlier commit takes effect any more: neither one of a lower epoch, nor one of this
   * epoch whose answer was lost and which may still be on its way. Changes are absolute values, so one that came late would take the state back.
   * A store whose commits can outlive their answer compares a version as well: each open and each commit raises it, and a commit names the one that
   * it follows. Returns the state as the changes that build it. @throws OracleError TSO_FENCED where the fence is higher already.
   */
  open(epoch: Epoch): Promise<Iterable<OracleChange>>;
  /**
   * Makes the changes durable, all or none, if the fence still is `epoch`. Called with no changes it only proves that. A rejection is unknown: the
   * driver drops its state and opens again. One call at a time.
   */
  commit(changes: readonly OracleChange[], epoch: Epoch): Promise<"committed" | "fenced">;
  /** As `ConsensusDriver.leadership`, with one subscriber. */
  leadership(options?: { readonly signal?: AbortSignal | undefined }): AsyncIterable<ServedLeadership>;
  close(): Promise<void>;
}
