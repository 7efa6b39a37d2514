/** Whose word counts as a node's: one process at a time, the one that started last (rule I2). */
import type { NodeId } from "../../base/ids.ts";
import { mark } from "../../base/marks.ts";

/** What the other side of a session says of itself. */
export interface SessionClaim {
  readonly node: NodeId;
  /** Counts the processes on its disk: raised, and durable, before a process speaks. */
  readonly boot: number;
  /** Drawn at random by each process. */
  readonly nonce: number;
}

/**
 * `older-boot`: a process that ended, or a disk that was rolled back. `duplicate-process`: two processes run on copies of one disk, and nobody can tell which of
 * them the others have heard; neither is believed until one of them is started anew.
 */
export type Admission = "accepted" | "older-boot" | "duplicate-process";

interface Session {
  readonly boot: number;
  readonly nonce: number;
  disputed: boolean;
}

/** The sessions of one process. They end with it: what it forgets so, the boot counts of its peers tell it again. */
export class Sessions {
  readonly #byNode = new Map<NodeId, Session>();

  /** Asked again for a process that was accepted, it may answer otherwise: another one has been seen since. */
  admit({ node, boot, nonce }: SessionClaim): Admission {
    const known = this.#byNode.get(node);
    if (known === undefined || boot > known.boot) {
      this.#byNode.set(node, { boot, nonce, disputed: false });
      return "accepted";
    }
    if (boot < known.boot) return "older-boot";
    if (nonce !== known.nonce) {
      mark("duplicate-process");
      known.disputed = true;
    }
    return known.disputed ? "duplicate-process" : "accepted";
  }

  /** The process that is accepted for `node`, if one is. */
  accepted(node: NodeId): Omit<SessionClaim, "node"> | undefined {
    const known = this.#byNode.get(node);
    return known === undefined || known.disputed ? undefined : known;
  }
}
