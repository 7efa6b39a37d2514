/** Whose word counts as a node's: one process at a time, the one that started last (rule I2). */
import type { NodeId } from "../../base/ids.ts";
import { mark } from "../../base/marks.ts";

/** What the other side of a session says of itself. */
export interface SessionClaim {
  readonly node: NodeId;
  /** Of its disk. */
  readonly storageId: string;
  /** Counts the processes on its disk: raised, and durable, before a process speaks. */
  readonly boot: number;
  /** Drawn at random by each process. */
  readonly nonce: number;
}

/**
 * `older-boot`: a process that ended, or a disk that was rolled back. `duplicate-process`: two processes run on copies of one disk, and nobody can tell which of
 * them the others have heard; neither is believed until one of them is started anew. `too-many-disks`: more than `SESSIONS_MAX` claim to be somebody's.
 */
export type Admission = "accepted" | "older-boot" | "duplicate-process" | "too-many-disks";

/** Disks that one process remembers: many more than a cluster has, and few enough to be no burden. */
export const SESSIONS_MAX = 1_024;

interface Session {
  readonly boot: number;
  readonly nonce: number;
  disputed: boolean;
}

/**
 * The sessions of one process. They end with it: what it forgets so, the boot counts of its peers tell it again. Counted by disk, for a count says nothing about another
 * disk: a member that was once started on a wrong directory would be refused for ever with its own.
 */
export class Sessions {
  readonly #byDisk = new Map<string, Session>();

  /** Asked again for a process that was accepted, it may answer otherwise: another one has been seen since. */
  admit({ node, storageId, boot, nonce }: SessionClaim): Admission {
    const disk = diskOf(node, storageId);
    const known = this.#byDisk.get(disk);
    if (known === undefined && this.#byDisk.size >= SESSIONS_MAX) return "too-many-disks";
    if (known === undefined || boot > known.boot) {
      this.#byDisk.set(disk, { boot, nonce, disputed: false });
      return "accepted";
    }
    if (boot < known.boot) return "older-boot";
    if (nonce !== known.nonce) {
      mark("duplicate-process");
      known.disputed = true;
    }
    return known.disputed ? "duplicate-process" : "accepted";
  }

  /** The process that is accepted for a node and its disk, if one is. */
  accepted({ node, storageId }: Pick<SessionClaim, "node" | "storageId">): Pick<SessionClaim, "boot" | "nonce"> | undefined {
    const known = this.#byDisk.get(diskOf(node, storageId));
    return known === undefined || known.disputed ? undefined : known;
  }
}

function diskOf(node: NodeId, storageId: string): string {
  return `${node} ${storageId}`;
}
