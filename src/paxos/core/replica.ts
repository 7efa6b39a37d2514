import type { NodeId, Slot } from "../../base/ids.ts";
import type { Prng } from "../../base/prng.ts";
import type { Ballot } from "./ballot.ts";
import type { Effects, Input, OriginRun, Recovered } from "./effects.ts";
import type { Entry } from "./entry.ts";
import type { Image } from "./image.ts";
import type { CoreOptions } from "./options.ts";

/** What may be looked at from outside; nothing in here may be changed. */
export interface ReplicaView {
  readonly node: NodeId;
  readonly storageId: string;
  readonly boot: number;
  readonly role: "follower" | "candidate" | "leader" | "fenced";
  /** The ballot it leads or campaigns with, or follows. */
  readonly ballot: Ballot | undefined;
  /** At a leader: its Start entry; absent while one of an earlier reign must be decided first. */
  readonly reignSlot: Slot | undefined;
  /** At a leader: end of the log when its reign began, its Start entry counted. */
  readonly floor: Slot | undefined;
  readonly happy: boolean;
  /** As the rules see it now, ahead of the disk. */
  readonly image: Image;
  /** As the disk has acknowledged. */
  readonly durable: Image;
  readonly runs: readonly OriginRun[];
  /** Everything that could grow: each has a limit in the options. */
  readonly sizes: {
    readonly cachedEntries: number;
    readonly cachedBytes: number;
    readonly openProposals: number;
    readonly waitingReads: number;
    readonly uncommittedEntries: number;
    readonly uncommittedBytes: number;
    /** The most that is in flight to one peer. */
    readonly inflightMessages: number;
    readonly inflightBytes: number;
    readonly stagedEntries: number;
  };
}

/** One node's Paxos: `step(inputs) -> effects`. No I/O, no clock, no randomness of its own. */
export class PaxosReplica {
  constructor(recovered: Recovered, options: CoreOptions, random: Prng) {
    void [recovered, options, random];
  }
  step(inputs: readonly Input[], nowMs: number): Effects {
    void [inputs, nowMs];
    throw new Error("not yet");
  }
  /** From memory: everything after `decidedThrough`, and recent facts. */
  cachedEntry(at: Slot): Entry | undefined {
    void at;
    return undefined;
  }
  get leading(): { readonly ballot: Ballot; readonly reignSlot: Slot | undefined } | undefined {
    return undefined;
  }
  get following(): Ballot | undefined {
    return undefined;
  }
  inspect(): ReplicaView {
    throw new Error("not yet");
  }
}
