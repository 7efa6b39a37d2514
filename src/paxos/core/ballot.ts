/**
 * Ballots: the totally ordered numbers under which nodes lead. A ballot names its node, so no two nodes ever use the same one; a node uses one at most once
 * in its life, because it is durable before anyone hears of it (rules E4 and W2).
 */
import { type Epoch, epochFromParts } from "../../base/epoch.ts";
import type { NodeId } from "../../base/ids.ts";

export interface Ballot {
  /** A safe integer from 0 up. */
  readonly round: number;
  /** Breaks ties between nodes that campaign in the same round: 0 to 65535, larger wins. */
  readonly prio: number;
  readonly node: NodeId;
}

/** Below every ballot that anyone campaigns with. */
export const BALLOT_ZERO: Ballot = { round: 0, prio: 0, node: 0 as NodeId };

/** Negative where `a` comes before `b`. The order of the epochs, too. */
export function compareBallots(a: Ballot, b: Ballot): number {
  return a.round - b.round || a.prio - b.prio || a.node - b.node;
}

export function sameBallot(a: Ballot | undefined, b: Ballot | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && a.node === b.node && a.round === b.round && a.prio === b.prio);
}

export function maxBallot(a: Ballot, b: Ballot): Ballot {
  return compareBallots(a, b) >= 0 ? a : b;
}

/** The fencing number of the reign of `ballot`: `round` above, `prio << 48 | node << 16` below. The low 16 bits are reserved. */
export function epochOf(ballot: Ballot): Epoch {
  return epochFromParts(BigInt(ballot.round), (BigInt(ballot.prio) << 48n) | (BigInt(ballot.node) << 16n));
}

/** `round.prio.node`, for traces and logs. */
export function ballotText(ballot: Ballot): string {
  return `${ballot.round}.${ballot.prio}.${ballot.node}`;
}
