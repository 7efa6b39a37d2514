import type { Epoch } from "../base/epoch.ts";
import { messageOf } from "../base/errors.ts";
import type { NodeId, Slot } from "../base/ids.ts";
import type { Leadership } from "../log.ts";
import { ballotText } from "./core/ballot.ts";
import type { Configuration } from "./core/configuration.ts";
import type { DiskRoom } from "./core/effects.ts";
import type { FormingProblem } from "./core/forming-problems.ts";
import type { Runtime } from "./runtime.ts";
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
  readonly problems: ReadonlyMap<NodeId, FormingProblem>;
  readonly leadership: Leadership;
  readonly isOver: boolean;
  readonly fault: unknown;
}

export function statusOf({ storage, links, runtime, problems, leadership, isOver, fault }: StatusParts): NodeStatus {
  const { node, storageId, boot, engine, founding } = storage;
  const view = runtime?.turn.replica.inspect();
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
    diskRoom: runtime?.room ?? "enough",
    members: view?.image.configuration.members ?? [],
    peers: links.map(peerOf),
    problems: [...problems.values()].map(({ detail }) => detail),
    dropped: Object.fromEntries(runtime?.dropped ?? []),
    lastFault: fault === undefined ? undefined : messageOf(fault),
  };
}
