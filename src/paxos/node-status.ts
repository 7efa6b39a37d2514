import type { Epoch } from "../base/epoch.ts";
import { messageOf } from "../base/errors.ts";
import type { NodeId, Slot } from "../base/ids.ts";
import type { Leadership } from "../log.ts";
import { ballotText } from "./core/ballot.ts";
import type { Configuration } from "./core/configuration.ts";
import type { DiskRoom } from "./core/effects.ts";
import type { FormingProblem } from "./core/forming-problems.ts";
import type { Runtime } from "./runtime.ts";
import type { SnapshotStore } from "./snapshot-store.ts";
import type { LogStorage } from "./storage/log-storage.ts";
import type { PeerLink } from "./transport/transport.ts";

/** What a node says of itself, as of now. */
export interface NodeStatus {
  readonly node: NodeId;
  readonly storageId: string;
  readonly boot: number;
  readonly engine: string;
  /** `unformed` and `pledged`: the cluster is being formed. */
  readonly founding: "unformed" | "pledged" | "formed";
  readonly clusterId: string | undefined;
  readonly role: "forming" | "follower" | "candidate" | "leader" | "stopped";
  /** That it leads, campaigns with or follows: `round.prio.node`. */
  readonly ballot: string | undefined;
  /** Present while this node leads, and its host may know. */
  readonly epoch: Epoch | undefined;
  readonly leader: NodeId | undefined;
  /** End of the log in memory; what is durable here; what is known to be decided; what the machine has. */
  readonly last: Slot | undefined;
  readonly durableThrough: Slot | undefined;
  readonly decidedThrough: Slot | undefined;
  readonly appliedThrough: Slot | undefined;
  /** The log begins after this slot; what came before is in a snapshot. */
  readonly compactedThrough: Slot | undefined;
  /** The newest on this disk. */
  readonly snapshot: { readonly slot: Slot; readonly bytes: number } | undefined;
  /** Snapshots that are being taken, read, pulled from a peer or served to one. */
  readonly work: readonly SnapshotWorkStatus[];
  /** What the disk can still take (rule F6). */
  readonly diskRoom: DiskRoom;
  readonly members: Configuration["members"];
  readonly peers: readonly PeerStatus[];
  /** What keeps the cluster from being formed. */
  readonly problems: readonly string[];
  /** Messages that were not acted upon, by reason. */
  readonly dropped: Readonly<Record<string, number>>;
  /** Why it stopped. */
  readonly lastFault: string | undefined;
}

export interface SnapshotWorkStatus {
  readonly type: "taking" | "restoring" | "receiving" | "sending";
  readonly peer: NodeId | undefined;
  readonly slot: Slot;
  readonly bytes: number;
  /** All of them; not known while a snapshot is taken. */
  readonly of: number | undefined;
  readonly percent: number | undefined;
}

export interface PeerStatus {
  readonly node: NodeId;
  readonly address: string;
  /** Of what is sent to it. */
  readonly connected: boolean;
  /** Entries that this node knows to be decided and the peer, when it last spoke, did not. Absent before it has spoken. */
  readonly lag: number | undefined;
  readonly queuedBytes: number;
  readonly dropped: number;
  /** Why it is not connected. */
  readonly problem: string | undefined;
}

/** What a status is made of. */
interface StatusParts {
  readonly storage: LogStorage;
  readonly links: readonly PeerLink[];
  readonly runtime: Runtime | undefined;
  readonly snapshots: SnapshotStore | undefined;
  readonly problems: ReadonlyMap<NodeId, FormingProblem>;
  readonly leadership: Leadership;
  readonly isOver: boolean;
  readonly fault: unknown;
}

/** What is under way. */
export function snapshotWork(snapshots: SnapshotStore | undefined, runtime: Runtime | undefined): readonly SnapshotWorkStatus[] {
  const { receiving, sending = [] } = runtime?.turn.snapshotProgress ?? {};
  const percent = (bytes: number, of: number | undefined): number | undefined =>
    of === undefined || of === 0 ? undefined : Math.floor((100 * bytes) / of);
  return [
    ...(snapshots?.tasks ?? []).map((task) => ({ ...task, peer: undefined, percent: percent(task.bytes, task.of) })),
    ...(receiving === undefined ? [] : [{ type: "receiving" as const, ...receiving, percent: percent(receiving.bytes, receiving.of) }]),
    ...sending.map((each) => ({ type: "sending" as const, ...each, percent: percent(each.bytes, each.of) })),
  ];
}

export function statusOf({ storage, links, runtime, snapshots, problems, leadership, isOver, fault }: StatusParts): NodeStatus {
  const { node, storageId, boot, engine, founding } = storage;
  const view = runtime?.turn.replica.inspect();
  const newest = runtime?.turn.replica.state.snapshots.newest;
  const answers = runtime?.turn.replica.state.election.answers;
  const decidedThrough = view?.image.decidedThrough;
  const peerOf = ({ node: id, address, open, queuedBytes, dropped, problem }: PeerLink): PeerStatus => {
    const known = answers?.get(id)?.decidedThrough;
    const lag = known === undefined || decidedThrough === undefined ? undefined : Math.max(0, decidedThrough - known);
    return { node: id, address, connected: open.includes("control"), lag, queuedBytes, dropped, problem: problem?.detail };
  };
  return {
    ...{ node, storageId, boot, engine, founding: founding.type },
    clusterId: founding.type === "unformed" ? undefined : founding.charter.clusterId,
    role: isOver ? "stopped" : view === undefined || view.role === "fenced" ? "forming" : view.role,
    ballot: view?.ballot === undefined ? undefined : ballotText(view.ballot),
    epoch: leadership.role === "leader" ? leadership.epoch : undefined,
    leader: leadership.role === "leader" ? node : leadership.role === "follower" ? leadership.leader?.node : undefined,
    last: view?.image.last,
    durableThrough: view?.durable.last,
    decidedThrough,
    appliedThrough: runtime?.turn.appliedThrough,
    compactedThrough: view?.image.compactedThrough,
    snapshot: newest && { slot: newest.slot, bytes: newest.bytes },
    work: snapshotWork(snapshots, runtime),
    diskRoom: runtime?.room ?? "enough",
    members: view?.image.configuration.members ?? [],
    peers: links.map(peerOf),
    problems: [...problems.values()].map(({ detail }) => detail),
    dropped: Object.fromEntries(runtime?.dropped ?? []),
    lastFault: fault === undefined ? undefined : messageOf(fault),
  };
}
