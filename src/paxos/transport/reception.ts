/** Whom a node speaks with: rules I1 and I2 at the door of a stream, and at each delivery. Both ends of a stream ask. */
import type { NodeId } from "../../base/ids.ts";
import { unreachable } from "../../base/invariant.ts";
import { type SessionClaim, Sessions } from "../core/sessions.ts";
import { type HelloFrame, PEER_PROTOCOL_VERSION, type RefusalFault, type WelcomeFrame } from "./frames.ts";
import type { PeerClaim } from "./transport.ts";

export interface Refusal {
  readonly fault: RefusalFault;
  /** A sentence that names both sides. */
  readonly detail: string;
}

export class Reception {
  readonly #sessions = new Sessions();
  #self: PeerClaim;

  constructor(self: PeerClaim) {
    this.#self = self;
  }

  /** Who this node is, as it says so from now on. */
  get self(): PeerClaim {
    return this.#self;
  }

  joinCluster(clusterId: string): void {
    this.#self = { ...this.#self, clusterId };
  }

  /** Why a process that dialled is not let in; `undefined` if it is. */
  refusalOfHello({ version, claim, toNode }: HelloFrame): Refusal | undefined {
    const self = this.#self;
    if (version !== PEER_PROTOCOL_VERSION) return wrongVersion(claim, version, self, PEER_PROTOCOL_VERSION);
    if (toNode !== self.node) {
      return { fault: "wrong-node", detail: `${nameOf(claim)} looks for node ${toNode}, and this is ${nameOf(self)}` };
    }
    return this.#refusal(claim);
  }

  /** Why the process that was found at an address is not spoken with; `undefined` if it is. */
  refusalOfWelcome({ version, claim }: WelcomeFrame, wanted: NodeId): Refusal | undefined {
    const self = this.#self;
    if (version !== PEER_PROTOCOL_VERSION) return wrongVersion(claim, version, self, PEER_PROTOCOL_VERSION);
    if (claim.node !== wanted) {
      return { fault: "wrong-node", detail: `${nameOf(self)} looks for node ${wanted}, and that is ${nameOf(claim)}` };
    }
    return this.#refusal(claim);
  }

  /** Why a process that was let in is not heard any more; `undefined` if it is. */
  refusalOf(claim: SessionClaim): Refusal | undefined {
    const admission = this.#sessions.admit(claim);
    switch (admission) {
      case "accepted":
        return undefined;
      case "older-boot": {
        const known = this.#sessions.accepted(claim)?.boot;
        const later = known === undefined ? "a later process" : `process ${known}`;
        return { fault: admission, detail: `${nameOf(this.#self)} has heard ${later} of that disk, and does not hear ${nameOf(claim)}` };
      }
      case "duplicate-process":
        return {
          fault: admission,
          detail: `two processes say that they are ${nameOf(claim)}: ${nameOf(this.#self)} hears neither until one is started anew`,
        };
      case "too-many-disks":
        return { fault: admission, detail: `${nameOf(this.#self)} has heard of so many disks that it does not hear ${nameOf(claim)}` };
      default:
        return unreachable(admission);
    }
  }

  /** Whether its messages about the log are for this node. */
  sharesCluster({ clusterId }: PeerClaim): boolean {
    return clusterId !== undefined && clusterId === this.#self.clusterId;
  }

  /** Admits last: a process that is refused for another reason says nothing about its disk. */
  #refusal(claim: PeerClaim): Refusal | undefined {
    const self = this.#self;
    if (claim.node === self.node) return { fault: "wrong-node", detail: `${nameOf(claim)} has the number of ${nameOf(self)}` };
    if (claim.clusterId !== undefined && self.clusterId !== undefined && claim.clusterId !== self.clusterId) {
      const detail = `${nameOf(claim)} belongs to cluster ${claim.clusterId}, and ${nameOf(self)} to cluster ${self.clusterId}`;
      return { fault: "wrong-cluster", detail };
    }
    return this.refusalOf(claim);
  }
}

function nameOf({ node, storageId, boot }: SessionClaim): string {
  return `node ${node} (disk ${storageId.slice(0, 8)}, process ${boot})`;
}

function wrongVersion(claim: PeerClaim, theirs: number, self: PeerClaim, ours: number): Refusal {
  const detail = `${nameOf(claim)} speaks version ${theirs} of the peer protocol, and ${nameOf(self)} version ${ours}`;
  return { fault: "wrong-version", detail };
}
