/** What a step of forming a cluster takes, and what it wants from the world (rule I7). */
import type { NodeId } from "../../base/ids.ts";
import type { Charter } from "./charter.ts";
import type { FormingMessage, ListedNode } from "./forming-messages.ts";
import type { FormingProblem } from "./forming-problems.ts";
import type { Founding } from "./founding.ts";

/** Whose process speaks, and for which disk: a session that was admitted (rule I2). */
export interface FormingPeer {
  readonly node: NodeId;
  readonly storageId: string;
  /** Absent while it belongs to no cluster. */
  readonly clusterId: string | undefined;
}

export type FormingInput =
  /** Time to say everything again. The same everywhere, roughly; much longer than a message takes. */
  | { readonly type: "tick" }
  | { readonly type: "message"; readonly from: FormingPeer; readonly message: FormingMessage }
  /** What `persist` asked for is durable. */
  | { readonly type: "written" };

export interface FormingOutgoing {
  readonly to: NodeId;
  readonly message: FormingMessage;
}

export interface FormingEffects {
  /** May leave now. */
  readonly sends: readonly FormingOutgoing[];
  /** To be made durable; nothing else is until `written` has said so. */
  readonly persist?: Exclude<Founding, { readonly type: "unformed" }> | undefined;
  /** The disk belongs to this cluster, durably. Nothing follows: from here on `answerForming` speaks. */
  readonly formed?: Charter | undefined;
  /** Told once when one begins. The node keeps waiting. */
  readonly problems: readonly FormingProblem[];
  /** The node must exit (rule I7.6). Nothing follows. */
  readonly fatal?: FormingProblem | undefined;
  /** Why messages were not acted upon, one word for each. */
  readonly dropped: readonly FormingDrop[];
}

/**
 * `joining`: this node waits to be added to a cluster. `over`: it is formed, or must exit. `not-listed`: the sender is no peer of this node. `contradiction`: the sender's
 * process cannot truthfully say that. `pointless`: it was true, or may have been, and asks for nothing. `busy`: a pledge is on its way to the disk.
 */
export type FormingDrop = "joining" | "over" | "not-listed" | "contradiction" | "pointless" | "busy";

export interface FormingOptions {
  readonly node: NodeId;
  /** Of its disk. */
  readonly storageId: string;
  /** What `resolvePeerList` made of the static list. A disk that is pledged keeps to the list of its charter. */
  readonly list: readonly ListedNode[];
  /** What the disk holds. A disk that is formed has nothing to form. */
  readonly founding: Exclude<Founding, { readonly type: "formed" }>;
  /** A list of one node may form: without a word from a person, a lost mount would become an empty cluster (rule I7.9). @defaultValue false */
  readonly init?: boolean | undefined;
  /** This node is to be added to a cluster: it says nothing here, and obeys nobody (rule I7.7). @defaultValue false */
  readonly join?: boolean | undefined;
  /** 128 random bits in hex. Called once, at most. */
  readonly newClusterId: () => string;
}

/** An unformed peer, as its last hello showed it. */
export interface HeardPeer {
  readonly storageId: string;
  /** It hears this node: what is sent to its address comes to the process that spoke. */
  readonly hearsUs: boolean;
  /** Ticks since then. */
  readonly age: number;
  /** Ticks until it is believed: another disk spoke for the same node not long ago. */
  readonly doubt: number;
}

/** For status pages and dumps. */
export interface FormingState {
  readonly disk: Founding;
  /** On its way to the disk. */
  readonly writing: Founding | undefined;
  readonly heard: ReadonlyMap<NodeId, HeardPeer>;
  /** Founders that are known to have pledged, without this one. */
  readonly pledged: ReadonlySet<NodeId>;
  /** By the peer that each is about. */
  readonly problems: ReadonlyMap<NodeId, FormingProblem>;
  readonly isOver: boolean;
}
