/** How a leader's entries reach its peers: Sync first (A1), then a window of Accepts (A3), again after a loss (A6). It sends from memory only. */
import { maxSlot, minSlot, type NodeId, type Slot, slot } from "../../base/ids.ts";
import { mark } from "../../base/marks.ts";
import { compareBallots, sameBallot } from "./ballot.ts";
import type { Entry } from "./entry.ts";
import type { LogState } from "./messages.ts";
import { becomeFollower } from "./roles.ts";
import type { Leader, Peer, Replica } from "./state.ts";
import { logState } from "./vouch.ts";

export function newPeer(id: NodeId, tick: number): Peer {
  return {
    id,
    state: "unpromised",
    match: slot(0),
    next: slot(1),
    info: undefined,
    boot: 0,
    inflight: [],
    inflightBytes: 0,
    probing: false,
    blocked: false,
    pausedUntil: 0,
    progressAt: tick,
    sentDecided: slot(0),
    suspect: false,
    readAck: 0,
    answersFrom: 0,
  };
}

/** A0. */
export function askForPromise(replica: Replica, role: Leader, to: NodeId): void {
  const { accepted, last, lastOrigin, decidedThrough } = logState(replica);
  replica.send(to, { type: "prepare", ballot: role.ballot, decidedThrough, accepted, last, lastOrigin });
}

/**
 * A1. Sends the peer everything from where its log is known to be this one's. The whole adopted tail goes in one message: a part of it would make the peer's log look
 * newer than a longer one of an earlier reign, and what was decided could be lost (INV-6).
 *
 * @returns false if the peer knows facts that this log lacks: a later reign decided them, and this one is over.
 */
export function syncPeer(replica: Replica, role: Leader, peer: Peer, info: LogState): boolean {
  const { log, options } = replica;
  if (info.decidedThrough > log.last || !log.agrees(info.decidedThrough, info.decidedOrigin)) {
    mark("deposed-by-info");
    becomeFollower(replica, "deposed");
    return false;
  }
  if (peer.state === "unpromised") peer.answersFrom = replica.election.round + 1;
  peer.info = info;
  peer.progressAt = replica.now;
  clearInflight(peer);
  const base = syncBase(replica, role, info);
  const needed = maxSlot(role.floor, base);
  // What is not decided cannot be pulled as facts: it goes in one Sync, however long. The window bounds it, but for the Start entries of reigns that decided nothing.
  const tooLong = base < replica.decidedThrough && log.bytesBetween(base, needed) > options.maxSyncBytes;
  if (base + 1 < log.cachedFrom || tooLong) {
    leaveBehind(replica, role, peer);
    return true;
  }
  const through = maxSlot(needed, log.slice(base, log.last, options.maxAcceptBytes).at(-1)?.slot ?? base);
  const entries = log.slice(base, through, Number.MAX_SAFE_INTEGER);
  peer.state = "syncing";
  peer.next = slot(base + 1);
  noteSent(peer, entries, replica.now);
  peer.sentDecided = replica.decidedThrough;
  replica.send(peer.id, {
    type: "sync",
    ballot: role.ballot,
    base,
    baseOrigin: log.originAt(base),
    entries,
    floor: role.floor,
    decidedThrough: replica.decidedThrough,
  });
  return true;
}

/** Two logs of one accepted ballot are prefixes of one; of others only what is decided is known to be in common. The receiver checks the origin at the base. */
function syncBase({ log }: Replica, role: Leader, info: LogState): Slot {
  const sameReign = sameBallot(info.accepted, role.ballot);
  if (!sameReign && !sameBallot(info.accepted, role.sourceAccepted)) return info.decidedThrough;
  const base = minSlot(info.last, sameReign ? log.last : role.adoptedLast);
  return base === info.last && !log.agrees(base, info.lastOrigin) ? info.decidedThrough : maxSlot(base, info.decidedThrough);
}

/** A3, D3. At the end of every step: each peer gets one message or a few, what is decided with them or alone. */
export function replicate(replica: Replica, role: Leader): void {
  for (const peer of role.peers.values()) {
    if (peer.state !== "streaming" || peer.blocked) continue;
    sendEntries(replica, role, peer);
    if (peer.sentDecided < replica.decidedThrough && peer.state === "streaming") {
      peer.sentDecided = replica.decidedThrough;
      replica.send(peer.id, { type: "decide", ballot: role.ballot, decidedThrough: replica.decidedThrough });
    }
  }
}

function sendEntries(replica: Replica, role: Leader, peer: Peer): void {
  const { log, options } = replica;
  while (peer.next <= log.last && replica.now >= peer.pausedUntil) {
    const window = peer.probing ? 1 : options.maxInflightMessages;
    if (peer.inflight.length >= window || peer.inflightBytes >= options.maxInflightBytes) return;
    const base = slot(peer.next - 1);
    const baseChain = log.chainAt(base);
    if (peer.next < log.cachedFrom || baseChain === undefined) {
      return leaveBehind(replica, role, peer);
    }
    const entries = log.slice(base, log.last, options.maxAcceptBytes);
    noteSent(peer, entries, replica.now);
    peer.sentDecided = replica.decidedThrough;
    replica.send(peer.id, { type: "accept", ballot: role.ballot, base, baseChain, entries, decidedThrough: replica.decidedThrough });
  }
}

/** C1. Memory does not reach back to where the peer is: it pulls facts, from whomever it likes. */
function leaveBehind(replica: Replica, role: Leader, peer: Peer): void {
  mark("catchup-hint");
  peer.state = "catchup";
  clearInflight(peer);
  replica.send(peer.id, { type: "catchup-hint", ballot: role.ballot, decidedThrough: replica.decidedThrough });
}

function noteSent(peer: Peer, entries: readonly Entry[], tick: number): void {
  if (peer.inflight.length === 0) peer.progressAt = tick; // it had nothing to answer
  let bytes = 0;
  for (const entry of entries) bytes += entry.record.length;
  const through = slot(peer.next + entries.length - 1);
  peer.inflight.push({ through, bytes });
  peer.inflightBytes += bytes;
  peer.next = slot(through + 1);
}

/** A5. The peer has everything through `through` on its disk. */
export function acknowledged(replica: Replica, peer: Peer, through: Slot): void {
  if (through < peer.match || peer.state === "unpromised") return;
  if (peer.state === "catchup" && through + 1 < replica.log.cachedFrom) return; // still too far behind for what memory holds
  if (through > peer.match || peer.state !== "streaming") {
    peer.progressAt = replica.now;
    peer.probing = false;
  }
  peer.match = through;
  if (peer.state === "catchup") peer.next = slot(through + 1);
  peer.state = "streaming"; // if it was the end before Sync that was acknowledged, Sync is still in flight
  peer.next = maxSlot(peer.next, slot(through + 1));
  let done = 0;
  for (const message of peer.inflight) {
    if (message.through > through) break;
    peer.inflightBytes -= message.bytes;
    done += 1;
  }
  if (done > 0) peer.inflight.splice(0, done);
}

/** A6. One message, to see whether it arrives; the window opens again with its acknowledgement. */
export function resendAfter(replica: Replica, peer: Peer, match: Slot): void {
  clearInflight(peer);
  peer.next = slot(Math.min(maxSlot(peer.match, match), replica.log.last) + 1);
  peer.probing = true;
  peer.progressAt = replica.now;
}

/** A0, A6. Once a round. */
export function retransmit(replica: Replica, role: Leader): void {
  for (const peer of role.peers.values()) {
    const answer = replica.election.answers.get(peer.id);
    const isBelow = answer !== undefined && answer.round >= peer.answersFrom && compareBallots(answer.promised, role.ballot) < 0;
    if (peer.state === "unpromised" || isBelow) {
      askForPromise(replica, role, peer.id);
      continue;
    }
    if (replica.now - peer.progressAt < replica.options.retransmitTicks) continue;
    if (peer.state === "streaming") {
      if (peer.inflight.length > 0) resendAfter(replica, peer, peer.match);
    } else if (peer.info !== undefined && !syncPeer(replica, role, peer, peer.info)) {
      return;
    }
  }
}

function clearInflight(peer: Peer): void {
  peer.inflight = [];
  peer.inflightBytes = 0;
}
