/** The joint: what a replicated log offers, and what it asks of the state machine that it drives. Types only. */
import type { Epoch } from "./base/epoch.ts";
import type { NodeId, Slot } from "./base/ids.ts";

export interface AppliedAt {
  readonly slot: Slot;
  /** The entry's origin ballot, as a fencing number. */
  readonly epoch: Epoch;
  /** Results of the earlier parts of a compound entry. */
  readonly earlier: readonly Uint8Array[];
}

/** Applied in slot order, alike on every node. Everything it needs to decide comes in the command. */
export interface StateMachine {
  /** Total and synchronous. A throw is a bug and stops the node, on every replica alike; so is anything but bytes. `command` is lent: it is not to be changed, and copied where it is to be kept. */
  apply(command: Uint8Array, at: AppliedAt): Uint8Array;
  /** Frozen NOW: what is applied later is not in it. Called between two entries, one at a time; it should take a few milliseconds at most, whatever the size. A throw stops the node. */
  capture(): SnapshotView;
  /** Builds beside the live state; nothing changes until `install()`. A throw stops the node. */
  stage(): RestoreSink;
}

export interface SnapshotView {
  /** Called once. Each chunk has 16 MiB at most; the machine is given back the same ones, in the same order. They are asked for as the disk takes them, while `apply` goes on. */
  chunks(): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /** Nobody reads it any more: also where it was not read to its end, or at all. */
  release(): void;
}

export interface RestoreSink {
  /** One at a time. The bytes are the machine's from here on. */
  write(chunk: Uint8Array): void | Promise<void>;
  finish(): Prepared | Promise<Prepared>;
  discard(): void;
}

/** `install` cannot fail: an envelope finishes all halves first, then installs all. */
export interface Prepared {
  install(): void;
  discard(): void;
}

export type NotAppliedReason =
  | "not-leader"
  | "epoch-differs"
  | "overloaded"
  | "disk-low"
  | "too-large"
  | "transferring"
  | "aborted"
  | "superseded"
  | "closed";
export type UnknownReason = "deadline" | "aborted" | "snapshot" | "closed";

export type ProposalOutcome =
  | { readonly type: "applied"; readonly slot: Slot; readonly epoch: Epoch; readonly result: Uint8Array }
  /** Never will be: retry freely. Created in few, listed places (rule D4). */
  | { readonly type: "not-applied"; readonly reason: NotAppliedReason; readonly leader?: NodeId | undefined }
  /** May still be decided. */
  | { readonly type: "unknown"; readonly reason: UnknownReason };

export interface ReplicatedLog {
  /**
   * Never rejects, a bug apart: TSO_INVALID_ARGUMENT where the command is no Uint8Array. It is copied. Abort before append: not-applied; after it: unknown. On a follower: not-applied, with the leader; nothing is
   * forwarded. With `epoch`: appended only if this node leads exactly that epoch.
   */
  propose(command: Uint8Array, options?: { readonly epoch?: Epoch | undefined; readonly signal?: AbortSignal | undefined }): Promise<ProposalOutcome>;
  /** Afterwards local state holds everything that was decided before the call. No log write. */
  barrier(options?: { readonly signal?: AbortSignal | undefined }): Promise<void>;
  /**
   * Proof that no later reign had begun when this was called: one quorum round (rule R6), no disk, no log write. False: no longer leader of
   * `epoch`. Call it only after the request was taken from the socket.
   */
  confirm(epoch: Epoch): Promise<boolean>;
  /** Current state first, then changes, newest wins. "leader" only once this reign's Start entry is applied here. Any number of subscribers. */
  leadership(options?: { readonly signal?: AbortSignal | undefined }): AsyncIterable<Leadership>;
}

export type Leadership =
  | { readonly role: "leader"; readonly epoch: Epoch }
  | { readonly role: "follower"; readonly leader?: { readonly node: NodeId; readonly epoch: Epoch } | undefined }
  | { readonly role: "unknown" };
