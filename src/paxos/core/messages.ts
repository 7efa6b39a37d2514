/**
 * What nodes say to each other (protocol, section 2). Any message may be lost, doubled, delayed for hours or overtaken. `ballot` is always the reign of the sender or,
 * in an acknowledgement, the reign that is acknowledged; a receiver compares it with what it promised, and with nothing else.
 *
 * The gate that a message must pass before it leaves is named with it. The core holds it back; nobody else has to know.
 */
import type { NodeId, Slot } from "../../base/ids.ts";
import type { Ballot } from "./ballot.ts";
import type { Configuration } from "./configuration.ts";
import type { Entry } from "./entry.ts";
import type { SnapshotMeta } from "./snapshot.ts";

/** To all members every round, and when a leader opens a batch of reads. No gate. */
export interface HeartbeatMessage {
  readonly type: "heartbeat";
  /** Of this sender and boot, rising: an echo proves both directions. */
  readonly round: number;
  /** Set by a leader only. */
  readonly ballot?: Ballot | undefined;
  /** Facts. The receiver may use only what it knows to have in common with the leader. */
  readonly decidedThrough: Slot;
  /** The newest batch of reads of this reign; 0 for none. */
  readonly readSeq: number;
  readonly configVersion: number;
}

/** The highest claims a node has made to another about its own disk (rule I3). Compared as (accepted, cut, last), and never going down. */
export interface DiskClaims {
  readonly promised: Ballot;
  readonly accepted: Ballot;
  readonly cut: number;
  readonly last: Slot;
}

/** Echo of a heartbeat. `decidedThrough`, `last` and `accepted` are of the durable image; `promised` is what this process holds to already. */
export interface HeartbeatReplyMessage {
  readonly type: "heartbeat-reply";
  readonly round: number;
  readonly promised: Ballot;
  /** The sender's own ballot if it leads, else the one it follows. */
  readonly leader?: Ballot | undefined;
  /** Whether the sender has, or is, a leader that works (rule E3). */
  readonly happy: boolean;
  /** Whether the sender's disk has room for proposals (rule F6). */
  readonly hasRoom: boolean;
  readonly configVersion: number;
  readonly decidedThrough: Slot;
  readonly last: Slot;
  /** As in Accepted: makes up for one that was lost. */
  readonly accepted?: { readonly ballot: Ballot; readonly through: Slot; readonly cut: number } | undefined;
  /** Echoed only by a node whose promise is the heartbeat's ballot, else 0 (rule R3). */
  readonly readSeq: number;
  /** What the receiver of this reply has claimed of its own disk before: a disk below that was rolled back. */
  readonly seen?: DiskClaims | undefined;
}

/** 1a. Gate: the sender's own promise is durable. */
export interface PrepareMessage {
  readonly type: "prepare";
  readonly ballot: Ballot;
  readonly decidedThrough: Slot;
  readonly accepted: Ballot;
  readonly last: Slot;
  readonly lastOrigin: Ballot;
}

/** A node's log as of a moment at which its memory and its disk were the same. */
export interface LogState {
  readonly accepted: Ballot;
  /** End of the log, with the tail that is not decided. */
  readonly last: Slot;
  readonly lastOrigin: Ballot;
  readonly decidedThrough: Slot;
  readonly decidedOrigin: Ballot;
  readonly cut: number;
}

/** 1b. Gate: the promise is durable, and no write is in flight. */
export interface PromiseMessage extends LogState {
  readonly type: "promise";
  readonly ballot: Ballot;
  readonly compactedThrough: Slot;
  readonly configuration: Configuration;
  /** What the candidate lacks, if it is little (rule P3). */
  readonly tail?: { readonly after: Slot; readonly entries: readonly Entry[] } | undefined;
}

/** `ballot`: I promised more. `unpromised`: I promised less, prepare me first. `happy`, `grace`: I have a leader, or have just promised another. `stale`: your log contradicts facts. */
export type RejectReason = "ballot" | "unpromised" | "happy" | "grace" | "stale";

/** A hint: losing it costs time, never safety. No gate. */
export interface RejectMessage {
  readonly type: "reject";
  /** The ballot that is refused. */
  readonly re: Ballot;
  readonly reason: RejectReason;
  readonly promised: Ballot;
  readonly decidedThrough: Slot;
}

/** "Let your log be mine, from `base` on": the whole adopted tail in one message, or nothing (INV-6). Gate: the ballot is durable at the sender. */
export interface SyncMessage {
  readonly type: "sync";
  readonly ballot: Ballot;
  readonly base: Slot;
  readonly baseOrigin: Ballot;
  readonly entries: readonly Entry[];
  /** End of the sender's log when it began to lead: `base` and the entries reach at least this far. */
  readonly floor: Slot;
  readonly decidedThrough: Slot;
}

/** From a follower that promised, but is not in step: asks for Sync. Gate: as for a promise. */
export interface SyncRequestMessage extends LogState {
  readonly type: "sync-request";
  readonly ballot: Ballot;
}

/** 2a. Gate: the ballot is durable at the sender; its entries need not be (rule W3). */
export interface AcceptMessage {
  readonly type: "accept";
  readonly ballot: Ballot;
  readonly base: Slot;
  readonly baseChain: number;
  readonly entries: readonly Entry[];
  readonly decidedThrough: Slot;
}

/** 2b, cumulative: my durable log is the leader's through here. Gate: it is. */
export interface AcceptedMessage {
  readonly type: "accepted";
  readonly ballot: Ballot;
  readonly through: Slot;
  readonly cut: number;
}

/** Asks for everything after `match` again. No gate. */
export interface NackMessage {
  readonly type: "nack";
  readonly ballot: Ballot;
  readonly match: Slot;
  readonly reason: "gap" | "busy";
}

/** What became decided, when no Accept goes that way. No gate. */
export interface DecideMessage {
  readonly type: "decide";
  readonly ballot: Ballot;
  readonly decidedThrough: Slot;
}

/** "You are too far behind for Sync: pull facts." No gate. */
export interface CatchupHintMessage {
  readonly type: "catchup-hint";
  readonly ballot: Ballot;
  readonly decidedThrough: Slot;
}

/** Unique for ever together with the node that drew it. */
export interface RequestId {
  readonly boot: number;
  readonly count: number;
}

/** `facts` from anyone; `tail` by a candidate, from a node that promised it; `snapshot` by a node that has none to begin with. */
export interface FetchRequestMessage {
  readonly type: "fetch-request";
  readonly id: RequestId;
  readonly kind: "facts" | "tail" | "snapshot";
  /** Of the candidate that asks for a tail. */
  readonly ballot?: Ballot | undefined;
  /** Entries after this one, whose origin must be the same there. */
  readonly after: Slot;
  readonly afterOrigin: Ballot;
  readonly maxBytes: number;
}

/** `mismatch`: another entry stands at `after`. `facts-first`: the tail begins with slots that are facts and no longer in memory. */
export type FetchProblem = "mismatch" | "facts-first";

export interface FetchReplyMessage {
  readonly type: "fetch-reply";
  readonly id: RequestId;
  readonly after: Slot;
  readonly entries: readonly Entry[];
  readonly decidedThrough: Slot;
  readonly problem?: FetchProblem | undefined;
  /** Instead of entries: the log there begins later (rule S1). */
  readonly snapshot?: SnapshotMeta | undefined;
}

/** A read that was asked for at a follower (rule R4). */
export interface ReadRequestMessage {
  readonly type: "read-request";
  readonly id: RequestId;
}

/** `through`: what must be applied before the read is answered; absent if this node could not tell. */
export interface ReadReplyMessage {
  readonly type: "read-reply";
  readonly id: RequestId;
  readonly through?: Slot | undefined;
}

/** Bytes of a snapshot are asked for by its id alone: those of two are never mixed. No gate. */
export interface SnapshotRequestMessage {
  readonly type: "snapshot-request";
  readonly snapshot: string;
  readonly position: number;
  /** At most so many bytes. */
  readonly length: number;
}

export interface SnapshotChunkMessage {
  readonly type: "snapshot-chunk";
  readonly snapshot: string;
  readonly position: number;
  /** Absent: there is no such snapshot any more. */
  readonly bytes?: Uint8Array | undefined;
  /** CRC-32 of the bytes. */
  readonly crc: number;
}

/** Between those who pull and serve snapshots; the protocol does not see them. */
export type SnapshotMessage = SnapshotRequestMessage | SnapshotChunkMessage;

/** What the protocol acts upon. */
export type ProtocolMessage =
  | HeartbeatMessage
  | HeartbeatReplyMessage
  | PrepareMessage
  | PromiseMessage
  | RejectMessage
  | SyncMessage
  | SyncRequestMessage
  | AcceptMessage
  | AcceptedMessage
  | NackMessage
  | DecideMessage
  | CatchupHintMessage
  | FetchRequestMessage
  | FetchReplyMessage
  | ReadRequestMessage
  | ReadReplyMessage;

export type PaxosMessage = ProtocolMessage | SnapshotMessage;

export interface Outgoing<M extends PaxosMessage = ProtocolMessage> {
  readonly to: NodeId;
  readonly message: M;
}
