/** Rule E6, the transport's part: when the end of a connection says that a process is gone. */
import type { NodeId } from "../../base/ids.ts";
import type { SessionClaim } from "../core/sessions.ts";
import type { PeerTimers } from "./wire.ts";

/**
 * How a control stream ended. `bye`: one side said so. `given-up`: this node ended it, for it was silent or broke the protocol, and that says nothing of the process.
 * `broken`: the other side's end is gone, without a word.
 */
export type Ending = "bye" | "given-up" | "broken";

export interface LostConnectionsContext {
  readonly timers: PeerTimers;
  /** How long a process may take to come back, ms. */
  readonly probeMs: number;
  /** Asks for a connection to that node at once, whatever pause there is between attempts. */
  readonly reconnect: (node: NodeId) => void;
  readonly lost: (node: NodeId, boot: number) => void;
}

/** The session with one process: the control streams to it and from it. It stands while one of them does. */
interface ControlSession {
  readonly node: NodeId;
  readonly boot: number;
  readonly streams: Set<object>;
  /** Runs while the process is suspected to be gone. */
  cancelProbe: (() => void) | undefined;
}

/** By disk, as the sessions of rule I2 are: only processes on one disk follow each other. */
export class LostConnections {
  readonly #context: LostConnectionsContext;
  readonly #byDisk = new Map<string, ControlSession>();

  constructor(context: LostConnectionsContext) {
    this.#context = context;
  }

  /** That process was admitted, on any lane. */
  seen(claim: SessionClaim): void {
    const known = this.#byDisk.get(diskOf(claim));
    if (known === undefined) return;
    if (known.boot === claim.boot) this.#acquit(known);
    else this.#raise(known); // a later process on that disk: whoever was suspected, or has not been seen to end, is gone
  }

  /** A control stream was established with a process that was seen, in either direction. */
  opened(stream: object, claim: SessionClaim): void {
    const session = this.#byDisk.get(diskOf(claim)) ?? { node: claim.node, boot: claim.boot, streams: new Set(), cancelProbe: undefined };
    this.#byDisk.set(diskOf(claim), session);
    session.streams.add(stream);
  }

  /** As soon as it is known how it ends. */
  closed(stream: object, claim: SessionClaim, ending: Ending): void {
    const session = this.#byDisk.get(diskOf(claim));
    if (session === undefined || !session.streams.delete(stream) || session.streams.size > 0) return;
    if (ending !== "broken") {
      this.#byDisk.delete(diskOf(claim));
      return;
    }
    session.cancelProbe = this.#context.timers.after(this.#context.probeMs, () => this.#raise(session));
    this.#context.reconnect(claim.node);
  }

  /** Nobody listens at that node's address. */
  refused(node: NodeId): void {
    for (const session of [...this.#byDisk.values()]) if (session.node === node && session.cancelProbe !== undefined) this.#raise(session);
  }

  /** Nothing is raised about that node's processes of up to now. */
  forget(node: NodeId): void {
    for (const session of [...this.#byDisk.values()]) if (session.node === node) this.#drop(session);
  }

  close(): void {
    for (const session of [...this.#byDisk.values()]) this.#drop(session);
  }

  #raise(session: ControlSession): void {
    this.#drop(session);
    this.#context.lost(session.node, session.boot);
  }

  #drop(session: ControlSession): void {
    this.#acquit(session);
    for (const [disk, each] of this.#byDisk) if (each === session) this.#byDisk.delete(disk);
  }

  #acquit(session: ControlSession): void {
    session.cancelProbe?.();
    session.cancelProbe = undefined;
  }
}

function diskOf({ node, storageId }: SessionClaim): string {
  return `${node} ${storageId}`;
}
