/** What a simulated cluster shows to those who judge it. They see everything, on all nodes at once, and no node sees them. */
import type { NodeId, Slot } from "../../base/ids.ts";
import type { RequestNumber } from "../../paxos/core/effects.ts";
import type { Entry } from "../../paxos/core/entry.ts";
import type { Image } from "../../paxos/core/image.ts";
import type { PaxosReplica } from "../../paxos/core/replica.ts";
import type { Actions, Turn } from "../../paxos/turn.ts";

/** What would be left after a power cut at this moment. */
export interface ObservedDisk {
  readonly image: Image;
  /** Nothing where the log was compacted. */
  entry(at: Slot): Entry | undefined;
}

/** What the observers look at in a `Turn`, so that tests of theirs can stand in for one. */
export interface ObservedTurn extends Pick<Turn, "appliedThrough"> {
  readonly replica: Pick<PaxosReplica, "inspect" | "cachedEntry">;
}

/** One life of a node, from a start to a crash. */
export interface ObservedProcess {
  readonly node: NodeId;
  readonly storageId: string;
  readonly boot: number;
  readonly turn: ObservedTurn;
  readonly disk: ObservedDisk;
}

/** Called by the simulator in the order of events. Each may throw a `Violation`. */
export interface ClusterObserver {
  started(process: ObservedProcess): void;
  /** A turn has run; nothing of `actions` has left the process yet, and `disk` is as it was during the turn. */
  turned(process: ObservedProcess, actions: Actions): void;
  /** The disk has changed: a write is complete, whether or not the process lives to hear of it. */
  written(process: ObservedProcess): void;
  /** `apply` of the machine was called. */
  applied(process: ObservedProcess, at: Slot, payload: Uint8Array): void;
  /** A read or confirmation was handed to this process. */
  asked(process: ObservedProcess, id: RequestNumber, kind: "read" | "confirm"): void;
  stopped(process: ObservedProcess): void;
}

/** A promise of the protocol that did not hold. */
export class Violation extends Error {
  override readonly name = "Violation";
  /** In brackets in `docs/protocol.md` 3.13: `agreement`, `ack-durable` and so on. */
  readonly check: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(check: string, claim: string, details: Readonly<Record<string, unknown>> = {}) {
    super(`${check}: ${claim}`);
    this.check = check;
    this.details = details;
  }
}
