/**
 * Linearizable reads without a log write (R1 to R4) and confirmations (R6): a quorum says, after the question came, that it has promised nobody else. A batch is
 * open until its heartbeat leaves; whoever joins it is covered by the answers to that heartbeat, and nobody who comes later is.
 */
import type { NodeId, Slot } from "../../base/ids.ts";
import { mark } from "../../base/marks.ts";
import { sameBallot } from "./ballot.ts";
import type { Input, ReadResult, RequestNumber } from "./effects.ts";
import type { HeartbeatReplyMessage, ReadReplyMessage, ReadRequestMessage } from "./messages.ts";
import type { Leader, LeaderReads, ReadTicket, Replica } from "./state.ts";

type FailureReason = Extract<ReadResult, { type: "failed" }>["reason"];

export function newReads(): LeaderReads {
  return { seq: 0, open: [], batches: [] };
}

/** R4. A follower asks its leader, with a request id that is never used again. */
export function onRead(replica: Replica, id: RequestNumber): void {
  const { role } = replica;
  if (role.type === "leader") return join(replica, role, { type: "read", id, askedAt: replica.now });
  const leader = role.type === "follower" ? role.leader : undefined;
  if (leader === undefined) return fail(replica, id, "not-leader");
  if (waitingReads(replica) >= replica.options.maxWaitingReads) return fail(replica, id, "overloaded");
  mark("read-at-follower");
  const request = replica.nextRequestId();
  replica.forwarded.set(request.count, { id, to: leader.node, askedAt: replica.now });
  replica.send(leader.node, { type: "read-request", id: request });
}

/** R6. Of this very reign. */
export function onConfirm(replica: Replica, { id, epoch }: Extract<Input, { type: "confirm" }>): void {
  const { role } = replica;
  if (role.type !== "leader" || role.epoch !== epoch) return fail(replica, id, "not-leader");
  join(replica, role, { type: "confirm", id, askedAt: replica.now });
}

export function onReadRequest(replica: Replica, from: NodeId, m: ReadRequestMessage): void {
  const { role } = replica;
  if (role.type !== "leader") return replica.send(from, { type: "read-reply", id: m.id });
  join(replica, role, { type: "remote", to: from, id: m.id, askedAt: replica.now });
}

export function onReadReply(replica: Replica, from: NodeId, m: ReadReplyMessage): void {
  const waiting = m.id.boot === replica.boot ? replica.forwarded.get(m.id.count) : undefined;
  if (waiting === undefined || waiting.to !== from) return replica.drop(from, "read-reply", "unknown-request");
  replica.forwarded.delete(m.id.count);
  if (m.through === undefined) fail(replica, waiting.id, "not-leader");
  else replica.readResults.push({ id: waiting.id, type: "ready", through: m.through });
}

function join(replica: Replica, role: Leader, ticket: ReadTicket): void {
  if (waitingReads(replica) >= replica.options.maxWaitingReads) return failTicket(replica, ticket, "overloaded");
  role.reads.open.push(ticket);
}

/** All of them: sent on to a leader, or waiting here for a quorum. */
export function waitingReads({ role, forwarded }: Replica): number {
  if (role.type !== "leader") return forwarded.size;
  let waiting = forwarded.size + role.reads.open.length;
  for (const { tickets } of role.reads.batches) waiting += tickets.length;
  return waiting;
}

/**
 * R1, R2. At the end of a step: what joined gets a number, then the heartbeat that carries it leaves. Not before this reign has decided something of its own: until then
 * this node may not know of everything that was decided before it.
 *
 * @returns whether a batch was opened: its heartbeat must leave after this.
 */
export function openReadBatch(replica: Replica, role: Leader): boolean {
  const { reads } = role;
  if (reads.open.length === 0) return false;
  if (!isEstablished(replica, role)) {
    mark("read-waits-reign");
    return false;
  }
  reads.seq += 1;
  reads.batches.push({ seq: reads.seq, through: replica.decidedThrough, tickets: reads.open });
  reads.open = [];
  confirmReads(replica, role);
  return true;
}

function isEstablished(replica: Replica, role: Leader): boolean {
  return role.reignSlot !== undefined && replica.decidedThrough >= role.reignSlot;
}

/** R3. The answer counts if its sender had promised nobody else when it gave it. */
export function onReadEcho(replica: Replica, role: Leader, from: NodeId, m: HeartbeatReplyMessage): void {
  const peer = role.peers.get(from);
  if (peer === undefined || m.readSeq <= peer.readAck || !sameBallot(m.promised, role.ballot)) return;
  peer.readAck = Math.min(m.readSeq, role.reads.seq);
  confirmReads(replica, role);
}

function confirmReads(replica: Replica, role: Leader): void {
  const { batches } = role.reads;
  if (batches.length === 0) return;
  const through = quorumEcho(replica, role);
  while (batches[0] !== undefined && batches[0].seq <= through) {
    const batch = batches.shift();
    for (const ticket of batch?.tickets ?? []) succeed(replica, ticket, batch?.through ?? replica.decidedThrough);
  }
}

function quorumEcho(replica: Replica, role: Leader): number {
  const echoes = replica.voters.map((id) => (id === replica.node ? role.reads.seq : (role.peers.get(id)?.readAck ?? 0)));
  echoes.sort((a, b) => b - a);
  return echoes[replica.quorum - 1] ?? 0;
}

function succeed(replica: Replica, ticket: ReadTicket, through: Slot): void {
  if (ticket.type === "remote") replica.send(ticket.to, { type: "read-reply", id: ticket.id, through });
  else if (ticket.type === "read") replica.readResults.push({ id: ticket.id, type: "ready", through });
  else replica.readResults.push({ id: ticket.id, type: "confirmed" });
}

function failTicket(replica: Replica, ticket: ReadTicket, reason: FailureReason): void {
  if (ticket.type === "remote") replica.send(ticket.to, { type: "read-reply", id: ticket.id });
  else fail(replica, ticket.id, reason);
}

function fail(replica: Replica, id: RequestNumber, reason: FailureReason): void {
  replica.readResults.push({ id, type: "failed", reason });
}

/** Q2. A reign that is over can vouch for nothing. */
export function failReads(replica: Replica, role: Leader, reason: FailureReason): void {
  for (const { tickets } of role.reads.batches.splice(0)) for (const ticket of tickets) failTicket(replica, ticket, reason);
  for (const ticket of role.reads.open.splice(0)) failTicket(replica, ticket, reason);
}

/** Once a round: what nobody has answered in time. */
export function expireReads(replica: Replica): void {
  const { role, options } = replica;
  const late = ({ askedAt }: { readonly askedAt: number }): boolean => replica.now - askedAt > options.readTicks;
  for (const [count, waiting] of replica.forwarded) {
    if (!late(waiting)) break; // in order of asking
    replica.forwarded.delete(count);
    fail(replica, waiting.id, "timeout");
  }
  if (role.type !== "leader") return;
  const { batches, open } = role.reads;
  while (batches[0]?.tickets.some(late)) for (const ticket of batches.shift()?.tickets ?? []) failTicket(replica, ticket, "timeout");
  const inTime = open.findIndex((ticket) => !late(ticket)); // in order of asking, too
  for (const ticket of open.splice(0, inTime < 0 ? open.length : inTime)) failTicket(replica, ticket, "timeout");
}
