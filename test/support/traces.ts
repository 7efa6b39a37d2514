/** Traces by hand, for what is made of them. */
import { type NodeId, slot } from "../../src/base/ids.ts";
import type { Ballot } from "../../src/paxos/core/ballot.ts";
import { genesisOf } from "../../src/paxos/core/genesis.ts";
import type { PersistBatch } from "../../src/paxos/core/image.ts";
import type { PaxosMessage } from "../../src/paxos/core/messages.ts";
import type { TracedHappening, TracedRole, TracedState, TraceEvent } from "../../src/testing/cluster/trace.ts";

export const BALLOT: Ballot = { round: 3, prio: 0, node: 1 as NodeId };

export function node(id: number): NodeId {
  return id as NodeId;
}

export function accepted(through: number): PaxosMessage {
  return { type: "accepted", ballot: BALLOT, through: slot(through), cut: 0 };
}

export function prepare(): PaxosMessage {
  return { type: "prepare", ballot: BALLOT, decidedThrough: slot(1), accepted: BALLOT, last: slot(1), lastOrigin: BALLOT };
}

export function heartbeat(): PaxosMessage {
  return { type: "heartbeat", round: 1, decidedThrough: slot(1), readSeq: 0, configVersion: 1 };
}

/** A write of nothing. */
export function batch(seq: number): PersistBatch {
  return { seq, image: genesisOf([{ id: node(1), storageId: "a", role: "voter", address: "node-1", prio: 0 }]).image, ops: [] };
}

/** Events with the numbers and the states that they get in a run: a node is as it was until it is said otherwise. */
export class HandMadeTrace {
  readonly events: TraceEvent[] = [];
  readonly #states = new Map<NodeId, TracedState>();
  #atUs = 0;

  /** A node that has become this. Nothing is told of it. */
  is(id: number, role: TracedRole, decided = 0): this {
    const image = { promised: BALLOT, accepted: BALLOT, last: slot(decided), decidedThrough: slot(decided) };
    const rest = { boot: 1, ballot: BALLOT, happy: true, match: undefined, appliedThrough: slot(decided) };
    this.#states.set(node(id), { role, ...rest, memory: image, disk: image });
    return this;
  }

  /** So much later than the event before it. @returns its number. */
  add(afterUs: number, id: number | undefined, happening: TracedHappening): number {
    this.#atUs += afterUs;
    const number = this.events.length + 1;
    const place = { number, atUs: this.#atUs, node: id === undefined ? undefined : node(id), impostor: false };
    this.events.push({ ...place, state: id === undefined ? undefined : this.#states.get(node(id)), ...happening });
    return number;
  }
}
