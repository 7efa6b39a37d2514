/**
 * What is chosen, reckoned from what disks vouched for and not from what any node believes: an entry is chosen once a quorum of voters has acknowledged it at one
 * ballot. Votes are cumulative, so for each ballot one number per voter is enough.
 */
import type { NodeId, Slot } from "../../base/ids.ts";
import { type Ballot, ballotText, compareBallots, sameBallot } from "../../paxos/core/ballot.ts";
import { type Configuration, configurationCodec, isVoter, type Member, quorumOf } from "../../paxos/core/configuration.ts";
import { type ObservedProcess, Violation } from "./observed.ts";
import { ancestorAt, entryText, hasEntry, type LogNode, type LogTree } from "./safety-log.ts";

/** The lifetime of one ballot's leader, and its log, which only grows. */
export interface Reign {
  readonly ballot: Ballot;
  /** Absent for genesis, which nobody led. */
  readonly leader: ObservedProcess | undefined;
  readonly voters: readonly Member[];
  readonly quorum: number;
  /** By place in `voters`: acknowledged through this slot. */
  readonly votes: Slot[];
  /** End of the leader's log, as far as it was seen. */
  tip: LogNode;
  /** The last entry that a quorum voted for at this ballot. */
  chosen: LogNode;
}

export class ChosenLog {
  readonly #tree: LogTree;
  readonly #onChosen: (entry: LogNode) => void;
  /** By slot. */
  readonly #chosen: LogNode[];
  /** In order of their ballots. */
  readonly #reigns: Reign[] = [];
  readonly #reignsOf = new Map<NodeId, Reign[]>();
  #scratch: number[] = [];

  constructor(tree: LogTree, onChosen: (entry: LogNode) => void) {
    this.#tree = tree;
    this.#onChosen = onChosen;
    this.#chosen = [tree.root];
  }

  /** The last entry that is chosen. */
  get tip(): LogNode {
    return this.#chosen[this.#chosen.length - 1] ?? this.#tree.root;
  }

  at(slot: Slot): LogNode | undefined {
    return this.#chosen[slot];
  }

  /** As of a slot that is chosen. */
  configurationAt(slot: Slot): Configuration {
    for (let at = slot; at > 0; at--) {
      const entry = this.#chosen[at];
      if (entry?.kind === "config") return configurationCodec.decode(entry.payload);
    }
    throw new Violation("config-lemma", "a cluster begins with a configuration", { slot });
  }

  /** The highest ballot that anyone led with. */
  get newest(): Reign | undefined {
    return this.#reigns[this.#reigns.length - 1];
  }

  reign(ballot: Ballot): Reign | undefined {
    const own = this.#reignsOf.get(ballot.node);
    if (own === undefined) return undefined;
    for (let i = own.length - 1; i >= 0; i--) if (sameBallot(own[i]?.ballot, ballot)) return own[i];
    return undefined;
  }

  /** Every disk of a new cluster holds this log, and it is decided through `decidedThrough` (rule I7). */
  genesis(ballot: Ballot, log: LogNode, decidedThrough: Slot, configuration: Configuration): void {
    const reign = this.#add(ballot, undefined, log, configuration);
    this.#choose(reign, decidedThrough);
  }

  /** `process` leads with `ballot`, and its log ends with `log`. */
  begin(ballot: Ballot, process: ObservedProcess, log: LogNode, configuration: Configuration): Reign {
    const { node, storageId, boot } = process;
    const details = { ballot: ballotText(ballot), node, boot };
    const earlier = this.reign(ballot);
    if (earlier !== undefined)
      throw new Violation("one-leader-per-ballot", "a ballot is led with once", {
        ...details,
        earlier: earlier.leader?.node,
        earlierBoot: earlier.leader?.boot,
      });
    if (ballot.node !== node) throw new Violation("one-leader-per-ballot", "a node leads with a ballot of its own", details);
    if (!sameBallot(process.disk.image.promised, ballot))
      throw new Violation("ack-durable", "a leader's own promise is durable", { ...details, promised: ballotText(process.disk.image.promised) });
    if (!isVoter(configuration, node, storageId)) throw new Violation("identity", "a leader votes in its configuration, with its very disk", details);
    for (const reign of this.#reigns) {
      if (compareBallots(reign.ballot, ballot) < 0) assertComplete(log, ballot, reign.chosen, reign.ballot);
    }
    return this.#add(ballot, process, log, configuration);
  }

  /** The leader's log has grown to `log`. */
  extend(reign: Reign, log: LogNode): void {
    if (log === reign.tip) return;
    if (!hasEntry(log, reign.tip))
      throw new Violation("prefix", "a leader's log only grows", {
        ballot: ballotText(reign.ballot),
        before: entryText(reign.tip),
        after: entryText(log),
      });
    reign.tip = log;
  }

  /** This disk holds the log of `reign` through `through`. Counts only for a voter with the disk that the configuration names (rule I1). */
  vote(reign: Reign, node: NodeId, storageId: string, through: Slot): void {
    const { voters, votes } = reign;
    for (let i = 0; i < voters.length; i++) {
      const voter = voters[i];
      if (voter?.id !== node || voter.storageId !== storageId) continue;
      if (through <= (votes[i] ?? 0)) return;
      votes[i] = through;
      if (through > reign.chosen.slot) this.#choose(reign, this.#quorumThrough(reign));
      return;
    }
  }

  /** The quorum-th largest vote. */
  #quorumThrough({ votes, quorum }: Reign): Slot {
    const sorted = this.#scratch;
    sorted.length = 0;
    for (const through of votes) {
      let place = sorted.length;
      while (place > 0 && (sorted[place - 1] ?? 0) < through) {
        sorted[place] = sorted[place - 1] ?? 0;
        place -= 1;
      }
      sorted[place] = through;
    }
    return (sorted[quorum - 1] ?? 0) as Slot;
  }

  #choose(reign: Reign, through: Slot): void {
    if (through <= reign.chosen.slot) return;
    const node = ancestorAt(reign.tip, through);
    const before = this.tip;
    const agrees = node.slot <= before.slot ? this.#chosen[node.slot] === node : hasEntry(node, before);
    if (!agrees) {
      const other = this.#chosen[Math.min(node.slot, before.slot)] ?? before;
      throw new Violation("agreement", "a slot is chosen once", {
        ballot: ballotText(reign.ballot),
        chosen: entryText(other),
        now: entryText(ancestorAt(node, other.slot)),
      });
    }
    reign.chosen = node;
    for (let i = this.#reigns.length - 1; i >= 0; i--) {
      const later = this.#reigns[i];
      if (later === undefined || compareBallots(later.ballot, reign.ballot) <= 0) break;
      assertComplete(later.tip, later.ballot, node, reign.ballot);
    }
    for (let at = node; at.slot > before.slot; at = at.parent) this.#chosen[at.slot] = at;
    for (let at = before.slot + 1; at <= node.slot; at++) {
      const chosen = this.#chosen[at];
      if (chosen !== undefined) this.#onChosen(chosen);
    }
  }

  #add(ballot: Ballot, leader: ObservedProcess | undefined, tip: LogNode, configuration: Configuration): Reign {
    const voters = configuration.members.filter(({ role }) => role === "voter");
    const { root } = this.#tree;
    const reign: Reign = { ballot, leader, voters, quorum: quorumOf(configuration), votes: voters.map(() => root.slot), tip, chosen: root };
    const place = this.#reigns.findLastIndex((other) => compareBallots(other.ballot, ballot) < 0) + 1;
    this.#reigns.splice(place, 0, reign);
    const own = this.#reignsOf.get(ballot.node);
    if (own === undefined) this.#reignsOf.set(ballot.node, [reign]);
    else own.push(reign);
    return reign;
  }
}

function assertComplete(log: LogNode, ballot: Ballot, chosen: LogNode, chosenAt: Ballot): void {
  if (hasEntry(log, chosen)) return;
  throw new Violation("completeness", "a leader's log has everything that was chosen at a lower ballot", {
    ballot: ballotText(ballot),
    last: entryText(log),
    chosen: entryText(chosen),
    chosenAt: ballotText(chosenAt),
  });
}
