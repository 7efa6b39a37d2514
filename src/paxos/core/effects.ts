/** What goes into a step, and what comes out of it. */
import type { Epoch } from "../../base/epoch.ts";
import type { Brand, NodeId, Slot } from "../../base/ids.ts";
import type { Ballot } from "./ballot.ts";
import type { Entry } from "./entry.ts";
import type { Image, PersistBatch } from "./image.ts";
import type { Outgoing, ProtocolMessage, RequestId } from "./messages.ts";
import type { SnapshotMeta } from "./snapshot.ts";

/** Drawn by the caller: a proposal, a read or a confirmation of this process. Never used twice. */
export type RequestNumber = Brand<number, "RequestNumber">;

export type Input =
  | { readonly type: "tick" }
  /** The transport vouches for who speaks: node, disk and process (rules I1 and I2). */
  | { readonly type: "message"; readonly from: NodeId; readonly storageId: string; readonly boot: number; readonly message: ProtocolMessage }
  | { readonly type: "persisted"; readonly seq: number }
  | { readonly type: "persist-failed"; readonly reason: string }
  /** With `epoch`: appended only in exactly that reign. `payload` is ours from here on. */
  | { readonly type: "propose"; readonly id: RequestNumber; readonly payload: Uint8Array; readonly epoch?: Epoch | undefined }
  | { readonly type: "read"; readonly id: RequestNumber }
  | { readonly type: "confirm"; readonly id: RequestNumber; readonly epoch: Epoch }
  /** The state machine has everything through here. */
  | { readonly type: "applied"; readonly through: Slot }
  /** An established session with this process of a peer was closed without a word, and the process does not come back (rule E6). */
  | { readonly type: "connection-lost"; readonly peer: NodeId; readonly boot: number }
  /** Campaign now, whatever patience says: by hand, or in a test. Not without a vote, and not in probation (rule I4). Safety never depends on when. */
  | { readonly type: "campaign" }
  /** The transport's buffer towards a peer is full, or no longer. */
  | { readonly type: "send-blocked"; readonly peer: NodeId; readonly blocked: boolean }
  /** This node's own snapshot is durable. */
  | { readonly type: "snapshot-made"; readonly meta: SnapshotMeta }
  /** The snapshot that was to be pulled is durable here, and the machine has it staged. */
  | { readonly type: "snapshot-pulled"; readonly meta: SnapshotMeta }
  /** It was given up. */
  | { readonly type: "snapshot-failed"; readonly id: string }
  /** The lowest slot whose snapshot somebody pulls from here, if anybody does (rule S4). */
  | { readonly type: "snapshot-served"; readonly from: Slot | undefined }
  /** How much the disk can still take has changed (rule F6). */
  | { readonly type: "disk-room"; readonly room: DiskRoom };

/** `low`: nothing new is to be proposed. `none`: only what a vote takes still fits. */
export type DiskRoom = "enough" | "low" | "none";

/** What a node starts from. The runtime has verified it: contiguous, chained, checksummed (protocol, 5.4). */
export interface Recovered {
  readonly node: NodeId;
  readonly storageId: string;
  /** Counts the processes on this disk; raised and durable before this one speaks. */
  readonly boot: number;
  readonly image: Image;
  /** Origins of the whole log, by the first slot of each. */
  readonly runs: readonly OriginRun[];
  /** Everything from `image.decidedThrough` on, at least; all of the log if it is shorter. */
  readonly tail: readonly Entry[];
  /** What the machine was restored from: between `image.compactedThrough` and `image.decidedThrough`. Absent where the log is whole, or where none can be read: then there is no machine to apply to (rule S3). */
  readonly snapshot?: SnapshotMeta | undefined;
}

/** Slots from `from` to the next run's have this origin. */
export interface OriginRun {
  readonly from: Slot;
  readonly origin: Ballot;
}

/** `not-leader`: and who might be. All of them: never appended, or decided otherwise (rule D4). */
export type RefusalReason = "not-leader" | "epoch-differs" | "overloaded" | "disk-low" | "too-large" | "superseded";

export type ProposalResult =
  /** A fact; its result follows when it is applied here. */
  | { readonly id: RequestNumber; readonly type: "decided"; readonly slot: Slot; readonly origin: Ballot }
  | { readonly id: RequestNumber; readonly type: "not-applied"; readonly reason: RefusalReason; readonly leader?: NodeId | undefined }
  /** Its slot came with a snapshot, and nobody here can tell what became of it. */
  | { readonly id: RequestNumber; readonly type: "unknown" };

export type ReadResult =
  /** True once `through` is applied here. */
  | { readonly id: RequestNumber; readonly type: "ready"; readonly through: Slot }
  | { readonly id: RequestNumber; readonly type: "confirmed" }
  | { readonly id: RequestNumber; readonly type: "failed"; readonly reason: "not-leader" | "overloaded" | "timeout" };

/** Facts that a peer wants and memory no longer holds: read them and put them in as `served`. */
export interface FactsToServe {
  readonly to: NodeId;
  readonly id: RequestId;
  readonly after: Slot;
  readonly through: Slot;
  readonly maxBytes: number;
  readonly decidedThrough: Slot;
}

export interface SnapshotToPull {
  readonly from: NodeId;
  readonly meta: SnapshotMeta;
}

/** Why a node became what it is. */
export type RoleReason =
  | "prepare" // it promised another
  | "campaign"
  | "elected"
  | "check-quorum"
  | "deposed"
  | "stale"
  | "stalled-disk"
  | "low-disk"
  | "full-disk"
  | "no-progress"
  | "rebid"
  | "campaign-timeout"
  | "campaign-refused"
  | "needs-snapshot"
  | "removed";

/** For people and counters; nothing depends on them. */
export type CoreEvent =
  | { readonly type: "role"; readonly role: "follower" | "candidate" | "leader"; readonly ballot: Ballot; readonly reason: RoleReason }
  | { readonly type: "dropped"; readonly from: NodeId; readonly message: ProtocolMessage["type"]; readonly reason: DropReason };

export type DropReason =
  | "identity"
  | "old-boot"
  | "wrong-role"
  | "other-ballot"
  | "old-round"
  | "unknown-request"
  | "duplicate"
  | "stale"
  | "base-mismatch"
  | "recovering"
  | "malformed"
  | "no-room";

export interface Effects {
  /** May leave now, in this order: the core has held back whatever had to wait for the disk. */
  readonly sends: readonly Outgoing[];
  /** Made durable in the order of their numbers; the completion comes back as an input. */
  readonly persist?: PersistBatch | undefined;
  /** Decided and durable here, in slot order, each slot once per process (rule W7). */
  readonly apply?: { readonly from: Slot; readonly through: Slot } | undefined;
  readonly proposals: readonly ProposalResult[];
  readonly reads: readonly ReadResult[];
  readonly serve: readonly FactsToServe[];
  /** To be pulled from there. Ends in `snapshot-pulled` or `snapshot-failed`. */
  readonly pull?: SnapshotToPull | undefined;
  /** The log begins after this snapshot now, durably: the machine is to become what was staged of it, before anything else is applied (rule S3). */
  readonly install?: SnapshotMeta | undefined;
  /** What was pulled is of no use (rule S2). */
  readonly discard?: SnapshotMeta | undefined;
  /** Somebody needs a snapshot, and there is none: one is to be made, however little has changed. */
  readonly snapshotWanted?: boolean | undefined;
  readonly events: readonly CoreEvent[];
  /** Set once, and nothing follows: this node must stop (rule I5). */
  readonly fence?: string | undefined;
}
