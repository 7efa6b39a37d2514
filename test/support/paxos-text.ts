/** Messages and nodes as short texts: a ballot is `round.node`, an entry `slot@round.node`. */
import type { Slot } from "../../src/base/ids.ts";
import type { Ballot } from "../../src/paxos/core/ballot.ts";
import type { Entry } from "../../src/paxos/core/entry.ts";
import type { PaxosMessage } from "../../src/paxos/core/messages.ts";
import type { ClusterNode } from "./paxos-cluster.ts";

export function ballotOf({ round, node }: Ballot): string {
  return `${round}.${node}`;
}

export function entryText({ slot, origin, kind, payload }: Entry): string {
  const what = kind === "app" ? `=${new TextDecoder().decode(payload)}` : kind === "start" ? "" : "!";
  return `${slot}@${ballotOf(origin)}${what}`;
}

export function entriesText(entries: readonly Entry[]): string {
  return `[${entries.map(entryText).join(" ")}]`;
}

export function messageText(m: PaxosMessage): string {
  switch (m.type) {
    case "heartbeat":
      return `heartbeat${m.ballot === undefined ? "" : ` ${ballotOf(m.ballot)}`} decided ${m.decidedThrough}${m.readSeq === 0 ? "" : ` read ${m.readSeq}`}`;
    case "heartbeat-reply":
      return `heartbeat-reply promised ${ballotOf(m.promised)}${m.happy ? " happy" : ""}${m.readSeq === 0 ? "" : ` read ${m.readSeq}`}`;
    case "prepare":
      return `prepare ${ballotOf(m.ballot)}`;
    case "promise":
      return `promise ${ballotOf(m.ballot)} accepted ${ballotOf(m.accepted)} last ${m.last} decided ${m.decidedThrough}${m.tail === undefined ? "" : ` ${entriesText(m.tail.entries)}`}`;
    case "reject":
      return `reject ${ballotOf(m.re)} ${m.reason}, promised ${ballotOf(m.promised)}`;
    case "sync":
      return `sync ${ballotOf(m.ballot)} after ${m.base} ${entriesText(m.entries)} floor ${m.floor} decided ${m.decidedThrough}`;
    case "sync-request":
      return `sync-request ${ballotOf(m.ballot)} accepted ${ballotOf(m.accepted)} last ${m.last} decided ${m.decidedThrough}`;
    case "accept":
      return `accept ${ballotOf(m.ballot)} after ${m.base} ${entriesText(m.entries)} decided ${m.decidedThrough}`;
    case "accepted":
      return `accepted ${ballotOf(m.ballot)} through ${m.through}`;
    case "nack":
      return `nack ${ballotOf(m.ballot)} ${m.reason} match ${m.match}`;
    case "decide":
      return `decide ${ballotOf(m.ballot)} through ${m.decidedThrough}`;
    case "catchup-hint":
      return `catchup-hint ${ballotOf(m.ballot)} decided ${m.decidedThrough}`;
    case "fetch-request":
      return `fetch-request ${m.kind} after ${m.after}`;
    case "fetch-reply":
      return `fetch-reply after ${m.after} ${entriesText(m.entries)}${m.problem === undefined ? "" : ` ${m.problem}`}`;
    case "read-request":
      return "read-request";
    case "snapshot-request":
      return `snapshot-request ${m.position}`;
    case "snapshot-chunk":
      return `snapshot-chunk ${m.position}`;
    default:
      return `read-reply ${m.through ?? "failed"}`;
  }
}

/** What a node is and has: as the rules see it, ahead of its disk. */
export function describe({ id, turn, disk, applied }: ClusterNode): string {
  if (turn === undefined) return `${id}: down; disk promised ${ballotOf(disk.image.promised)} log ${logText(disk.entries)}`;
  const { role, image } = turn.replica.inspect();
  const log: Entry[] = [];
  for (let at = 1; at <= image.last; at++) {
    const entry = turn.replica.cachedEntry(at as Slot) ?? disk.entries[at - 1];
    if (entry !== undefined) log.push(entry);
  }
  const ballots = `promised ${ballotOf(image.promised)} accepted ${ballotOf(image.accepted)}`;
  return `${id}: ${role} ${ballots} decided ${image.decidedThrough} log ${logText(log)}${applied.length === 0 ? "" : ` applied ${applied.join("")}`}`;
}

function logText(entries: readonly Entry[]): string {
  return entries.slice(1).map(entryText).join(" ") || "-";
}
