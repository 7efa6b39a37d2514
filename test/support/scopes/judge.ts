/**
 * What must hold between nodes (protocol, 3.13), judged from what happened and apart from the core: who led with which ballot and log, which disk ever held how much of
 * it, what is taken for decided. Of a node's past this is all that is remembered.
 */
import { type NodeId, slot } from "../../../src/base/ids.ts";
import { type Ballot, compareBallots, sameBallot } from "../../../src/paxos/core/ballot.ts";
import { Violation } from "../../../src/testing/cluster/observed.ts";
import { ballotOf, entriesText } from "../paxos-text.ts";
import type { Local, Outcome } from "./local.ts";
import { begins, clash, common, type Log, prefix } from "./logs.ts";

/** The log of a ballot's leader, which only grows. */
interface Reign {
  readonly ballot: Ballot;
  readonly log: Log;
}

/** A disk that had accepted `ballot` held `log`; the node has acknowledged it through `acked`. */
interface Vote {
  readonly ballot: Ballot;
  readonly log: Log;
  readonly acked: number;
}

export interface Past {
  readonly id: number;
  readonly node: NodeId;
  readonly reigns: readonly Reign[];
  readonly votes: readonly Vote[];
  /** Payloads that were answered with "not applied". */
  readonly refused: readonly string[];
  /** What it takes for decided now; at a node that is down, what its disk does. */
  readonly decided: Log;
}

/** Three numbers below it fit into one that is exact. */
const PASTS_MAX = 0x2_0000;

export class Judge {
  readonly #genesis: Log;
  readonly #pasts = new Map<string, Past>();
  readonly #sound = new Set<number>();

  constructor(genesis: Log) {
    this.#genesis = genesis;
  }

  begin(local: Local): Past {
    return this.#intern({ node: local.node, reigns: [], votes: [], refused: [], decided: decidedOf(local) });
  }

  /** @throws Violation */
  after(past: Past, before: Local, { next, led, sends, refused }: Outcome): Past {
    const vote = next.disk === before.disk ? past.votes : withVote(past.votes, next);
    const acked = sends.flatMap(({ message }) => (message.type === "accepted" ? [message] : []));
    return this.#intern({
      node: past.node,
      reigns: withReign(past, next, led),
      votes: vote.map((one) => ({ ...one, acked: Math.max(one.acked, ...acked.map((m) => (sameBallot(m.ballot, one.ballot) ? m.through : 0))) })),
      refused: [...new Set([...past.refused, ...refused])].sort(),
      decided: decidedOf(next),
    });
  }

  /** @throws Violation */
  judge(pasts: readonly Past[]): void {
    const key = pasts.reduce((sum, { id }) => sum * PASTS_MAX + id, 0);
    if (this.#sound.has(key)) return;
    judge(pasts, this.#genesis);
    this.#sound.add(key);
  }

  #intern(past: Omit<Past, "id">): Past {
    const { node, reigns, votes, refused, decided } = past;
    const text = `${node} ${reigns.map(({ ballot, log }) => `${ballotOf(ballot)}=${log.id}`)} ${votes.map(({ ballot, log, acked }) => `${ballotOf(ballot)}=${log.id}.${acked}`)} ${refused} ${decided.id}`;
    const known = this.#pasts.get(text);
    if (known !== undefined) return known;
    const fresh = { ...past, id: this.#pasts.size };
    if (fresh.id >= PASTS_MAX) throw new RangeError("the pasts of this scope are too many to number three in one");
    this.#pasts.set(text, fresh);
    return fresh;
  }
}

function decidedOf({ up, disk }: Local): Log {
  return up === undefined ? prefix(disk.log, disk.image.decidedThrough) : prefix(up.log, up.memory.decidedThrough);
}

function withReign({ node, reigns }: Past, { up }: Local, led: Ballot | undefined): readonly Reign[] {
  if (up === undefined) return reigns;
  const ballot = led ?? (up.role.type === "leader" ? up.role.ballot : undefined);
  if (ballot === undefined) return reigns;
  const others = reigns.filter((reign) => !sameBallot(reign.ballot, ballot));
  if (led !== undefined && (others.length < reigns.length || ballot.node !== node))
    throw new Violation("one-leader-per-ballot", "a ballot is led with once, by its own node", { node, ballot: ballotOf(ballot) });
  return [...others, { ballot, log: up.log }].sort((a, b) => compareBallots(a.ballot, b.ballot));
}

function withVote(votes: readonly Vote[], { disk: { image, log } }: Local): readonly Vote[] {
  if (image.accepted.round === 0) return votes; // genesis
  const same = votes.filter(({ ballot }) => sameBallot(ballot, image.accepted));
  if (same.some((vote) => begins(vote.log, log))) return votes;
  const acked = Math.max(0, ...same.map((vote) => vote.acked));
  const kept = votes.filter((vote) => !sameBallot(vote.ballot, image.accepted) || !begins(log, vote.log));
  return [...kept, { ballot: image.accepted, log, acked }].sort((a, b) => compareBallots(a.ballot, b.ballot) || a.log.id - b.log.id);
}

/** Of the leader's log, by the votes of a quorum. */
function chosenOf({ ballot, log }: Reign, pasts: readonly Past[], genesis: Log): Log {
  const held = pasts.map(({ votes }) => {
    const own = votes.filter((vote) => sameBallot(vote.ballot, ballot)).map((vote) => common(vote.log, log).last);
    return Math.max(genesis.last, ...own);
  });
  held.sort((a, b) => b - a);
  return prefix(log, slot(held[Math.floor(pasts.length / 2)] ?? genesis.last));
}

function judge(pasts: readonly Past[], genesis: Log): void {
  const reigns = pasts.flatMap((past) => past.reigns).sort((a, b) => compareBallots(a.ballot, b.ballot));
  assertVotes(pasts, reigns);
  let chosen = genesis;
  for (const [index, reign] of reigns.entries()) {
    const now = chosenOf(reign, pasts, genesis);
    if (!begins(now, chosen) && !begins(chosen, now))
      throw new Violation("agreement", "a slot is chosen once", { chosen: logText(chosen), ballot: ballotOf(reign.ballot), now: logText(now) });
    for (const later of reigns.slice(index + 1)) {
      if (!begins(later.log, now))
        throw new Violation("completeness", "a leader's log has everything that was chosen at a lower ballot", {
          ...{ ballot: ballotOf(later.ballot), log: logText(later.log) },
          ...{ chosenAt: ballotOf(reign.ballot), chosen: logText(now) },
        });
    }
    if (now.last > chosen.last) chosen = now;
  }
  for (const { node, decided, refused } of pasts) {
    if (!begins(chosen, decided))
      throw new Violation("agreement", "what a node takes for decided is chosen", { node, decided: logText(decided), chosen: logText(chosen) });
    const wrong = chosen.entries.find(({ kind, payload }) => kind === "app" && refused.includes(Buffer.from(payload).toString()));
    if (wrong !== undefined) throw new Violation("outcome", "what was not applied is not chosen", { node, chosen: logText(chosen) });
  }
  assertUnique([...reigns, ...pasts.flatMap(({ votes }) => votes)]);
}

function assertVotes(pasts: readonly Past[], reigns: readonly Reign[]): void {
  for (const { node, votes } of pasts) {
    for (const { ballot } of votes) {
      const reign = reigns.find((one) => sameBallot(one.ballot, ballot));
      const own = votes.filter((one) => sameBallot(one.ballot, ballot));
      const acked = Math.max(...own.map((one) => one.acked));
      const held = reign === undefined ? 0 : Math.max(...own.map(({ log }) => common(log, reign.log).last));
      if (reign === undefined || acked > held)
        throw new Violation("ack-durable", "what is acknowledged is the leader's", { node, ballot: ballotOf(ballot), acked, held });
    }
  }
}

/** INV-2. */
function assertUnique(logs: readonly { readonly log: Log }[]): void {
  for (const [index, { log: a }] of logs.entries()) {
    for (const { log: b } of logs.slice(index + 1)) {
      const both = clash(a, b);
      if (both !== undefined)
        throw new Violation("slot-origin-unique", "a slot and an origin name one entry", { slot: both.slot, origin: ballotOf(both.origin) });
    }
  }
}

function logText({ entries }: Log): string {
  return entriesText(entries.slice(1));
}
