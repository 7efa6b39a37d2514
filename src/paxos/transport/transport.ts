/** How messages get to other nodes, and what a node learns from the connections themselves. */
import type { NodeId } from "../../base/ids.ts";
import { unreachable } from "../../base/invariant.ts";
import type { FormingMessage } from "../core/forming-messages.ts";
import type { PaxosMessage } from "../core/messages.ts";
import type { SessionClaim } from "../core/sessions.ts";

/** Who a process is, as it says in the hello of every stream that it opens. */
export interface PeerClaim extends SessionClaim {
  /** Absent while it belongs to no cluster (rule I7). */
  readonly clusterId: string | undefined;
}

/**
 * Traffic that must not wait for other traffic has a connection of its own. `control`: heartbeats, votes, acknowledgements. `bulk`: what a leader sends of its log.
 * `transfer`: what others pull of it, and snapshots.
 */
export type Lane = "control" | "bulk" | "transfer";

export const LANES: readonly Lane[] = ["control", "bulk", "transfer"];

/** Why no stream to or from a peer is held, for people. */
export type PeerFault =
  /** Nobody listens there, or nobody answers. */
  | "unreachable"
  /** It is formed, and so is this node, and not together. */
  | "wrong-cluster"
  /** The process at that address is another node. */
  | "wrong-node"
  /** It speaks another version of this protocol. */
  | "wrong-version"
  | "older-boot"
  | "duplicate-process"
  | "too-many-disks"
  /** What came could not be read. */
  | "malformed";

export interface PeerProblem {
  readonly node: NodeId;
  readonly fault: PeerFault;
  /** A sentence that names both sides. */
  readonly detail: string;
}

/** Called from the event loop, never from within a call of the transport's own methods. */
export interface TransportReceiver {
  /** Of a process that was admitted (rule I2) and belongs to this node's cluster. */
  onMessage(from: PeerClaim, message: PaxosMessage): void;
  onForming(from: PeerClaim, message: FormingMessage): void;
  /** Rule E6: an established session with that process of a peer ended without a word, and the process does not come back. */
  onConnectionLost(node: NodeId, boot: number): void;
  /** The buffer of the bulk lane is full, or has room again (rule F2). */
  onSendBlocked(node: NodeId, blocked: boolean): void;
  /** Told once when it begins, not at every attempt. */
  onProblem(problem: PeerProblem): void;
}

/** One peer, as seen from here. */
export interface PeerLink {
  readonly node: NodeId;
  readonly address: string;
  /** The process that is there, while the control lane is open. */
  readonly claim: PeerClaim | undefined;
  /** Lanes on which what is sent now would leave. */
  readonly open: readonly Lane[];
  /** Bytes that wait to leave, on all lanes. */
  readonly queuedBytes: number;
  /** Connections that were tried, on all lanes. */
  readonly attempts: number;
  /** Messages that were dropped because a buffer was full or no stream was open. */
  readonly dropped: number;
  /** The newest problem, until the control lane is open. */
  readonly problem: PeerProblem | undefined;
}

/** Messages may be lost, doubled across reconnects, and reordered between lanes; never changed, and never given to a process that it was not meant for. */
export interface PeerTransport {
  /** Where it listens: HOST:PORT with the port that the system chose, or the name of a place in a network of this process. */
  readonly address: string;
  /** Keeps streams to these, and to no others; connects at once. What is said of this node itself is ignored. */
  setPeers(peers: ReadonlyMap<NodeId, string>): void;
  /** From here on this node speaks as a member of that cluster: streams are opened afresh, with a `bye`. */
  joinCluster(clusterId: string): void;
  /** Never waits. Dropped, and counted, where no stream is open or its buffer is full. Nobody is told of what is for no peer. */
  send(to: NodeId, message: PaxosMessage): void;
  sendForming(to: NodeId, message: FormingMessage): void;
  links(): readonly PeerLink[];
  /** Says `bye` on every stream, then ends them. Nothing is received once it was called. Safe to call twice. */
  close(): Promise<void>;
  /** The same without a word, as when the process dies: its peers then look for another leader at once, and not when they have waited for this one (rule E6). */
  abandon(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Which connection a message takes. */
export function laneOf(message: PaxosMessage): Lane {
  switch (message.type) {
    case "sync":
    case "accept":
      return "bulk";
    case "promise":
      return message.tail === undefined ? "control" : "bulk";
    case "fetch-reply":
    case "snapshot-chunk":
      return "transfer";
    case "heartbeat":
    case "heartbeat-reply":
    case "prepare":
    case "reject":
    case "sync-request":
    case "accepted":
    case "nack":
    case "decide":
    case "catchup-hint":
    case "fetch-request":
    case "snapshot-request":
    case "read-request":
    case "read-reply":
      return "control";
    default:
      return unreachable(message);
  }
}

/**
 * Opens a node's transport: how a `PaxosNode` is given one. The boot of `claim` is durable. It listens when this returns.
 *
 * @throws OracleError TSO_INVALID_OPTION: the address cannot be had.
 */
export type OpenTransport = (claim: PeerClaim, receiver: TransportReceiver) => Promise<PeerTransport>;
