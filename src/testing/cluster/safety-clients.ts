/** What callers were told, held against what is chosen: outcomes of proposals (INV-12), reads and confirmations (INV-10), and what machines were given (INV-11). */
import { type Slot, slot } from "../../base/ids.ts";
import { type Ballot, ballotText, compareBallots, epochOf } from "../../paxos/core/ballot.ts";
import type { RequestNumber } from "../../paxos/core/effects.ts";
import type { Answered, Settled } from "../../paxos/turn.ts";
import { type ObservedProcess, Violation } from "./observed.ts";
import { entryText, type LogNode } from "./safety-log.ts";
import type { ChosenLog, Reign } from "./safety-votes.ts";

interface Proposal {
  readonly by: ObservedProcess;
  /** It was said that this will never be applied. */
  refused: boolean;
  chosenAt: Slot | undefined;
}

interface Question {
  readonly kind: "read" | "confirm";
  /** The highest slot that any node knew to be decided when it was asked. */
  readonly decidedThrough: Slot;
  /** The highest ballot that had a leader when it was asked. */
  readonly ballot: Ballot | undefined;
}

/** The callers of one process. */
export interface Callers {
  readonly process: ObservedProcess;
  readonly open: Map<RequestNumber, Proposal>;
  readonly questions: Map<RequestNumber, Question>;
  /** Its machine has every entry through here. */
  applied: Slot;
}

export function createCallers(process: ObservedProcess): Callers {
  return { process, open: new Map(), questions: new Map(), applied: process.turn.appliedThrough };
}

/** Proposals of the whole cluster, known by their bytes: callers make every payload unique. */
export class Proposals {
  readonly #byPayload = new Map<string, Proposal>();

  proposed(callers: Callers, id: RequestNumber, payload: Uint8Array): void {
    const key = keyOf(payload);
    if (this.#byPayload.has(key) || callers.open.has(id)) throw new Error(`the test proposes ${id} twice, or its payload`);
    const proposal: Proposal = { by: callers.process, refused: false, chosenAt: undefined };
    this.#byPayload.set(key, proposal);
    callers.open.set(id, proposal);
  }

  /** An entry was appended somewhere for the first time. */
  onEntry(entry: LogNode): void {
    if (entry.kind !== "app") return;
    const proposal = this.#byPayload.get(keyOf(entry.payload));
    if (proposal === undefined) throw new Violation("only-proposed", "nothing is appended that nobody proposed", { entry: entryText(entry) });
    if (proposal.by.node !== entry.origin.node)
      throw new Violation("only-proposed", "a proposal is appended by the node that it was made to", {
        entry: entryText(entry),
        by: proposal.by.node,
      });
  }

  onChosen(entry: LogNode): void {
    if (entry.kind !== "app") return;
    const proposal = this.#byPayload.get(keyOf(entry.payload));
    if (proposal === undefined) return;
    if (proposal.chosenAt !== undefined)
      throw new Violation("outcome", "a proposal is chosen in one slot at most", { entry: entryText(entry), earlier: proposal.chosenAt });
    if (proposal.refused) throw new Violation("outcome", "what was reported as not applied is never chosen", { entry: entryText(entry) });
    proposal.chosenAt = entry.slot;
  }

  settled({ process, open }: Callers, { id, outcome }: Settled, chosen: ChosenLog): void {
    const { node } = process;
    const proposal = open.get(id);
    if (proposal === undefined) throw new Violation("outcome", "a proposal is settled once", { node, id, outcome: outcome.type });
    open.delete(id);
    if (outcome.type === "unknown") return;
    if (outcome.type === "not-applied") {
      if (proposal.chosenAt !== undefined)
        throw new Violation("outcome", "what is chosen is not reported as not applied", {
          node,
          id,
          reason: outcome.reason,
          chosenAt: proposal.chosenAt,
        });
      proposal.refused = true;
      return;
    }
    if (proposal.chosenAt !== outcome.slot)
      throw new Violation("outcome", "what is reported as applied is chosen, in that slot", {
        node,
        id,
        at: outcome.slot,
        chosenAt: proposal.chosenAt,
      });
    const entry = chosen.at(outcome.slot);
    if (entry !== undefined && epochOf(entry.origin) !== outcome.epoch)
      throw new Violation("outcome", "what is reported as applied has its origin's epoch", {
        node,
        id,
        entry: entryText(entry),
        epoch: outcome.epoch,
      });
  }
}

/** A read or a confirmation was asked for. */
export function ask(callers: Callers, id: RequestNumber, question: Question): void {
  callers.questions.set(id, question);
}

/** @param reign the newest that this process has led. */
export function assertFresh({ process, questions }: Callers, { id, ok, through }: Answered, reign: Reign | undefined): void {
  const { node } = process;
  const question = questions.get(id);
  if (question === undefined) throw new Violation("read-fresh", "a question is answered once", { node, id });
  questions.delete(id);
  if (!ok) return;
  if (question.kind === "read") {
    if (through === undefined) throw new Violation("read-fresh", "a read that is answered says through where", { node, id });
    if (through < question.decidedThrough)
      throw new Violation("read-fresh", "a read shows everything that was decided when it was asked for", {
        node,
        through,
        decided: question.decidedThrough,
      });
    if (through > process.turn.appliedThrough)
      throw new Violation("read-fresh", "a read is answered once its slot is applied", { node, through, applied: process.turn.appliedThrough });
    return;
  }
  if (reign === undefined) throw new Violation("read-fresh", "only a leader confirms", { node, id });
  if (question.ballot !== undefined && compareBallots(question.ballot, reign.ballot) > 0)
    throw new Violation("read-fresh", "no higher ballot had a leader when a confirmation was asked for", {
      node,
      ballot: ballotText(reign.ballot),
      higher: ballotText(question.ballot),
    });
}

/** The machine was given `payload`. What is chosen is checked here, and that this node knew it is once the turn is over. */
export function assertApplied(callers: Callers, at: Slot, payload: Uint8Array, chosen: ChosenLog): void {
  const { node, disk } = callers.process;
  if (at <= callers.applied)
    throw new Violation("apply-order", "entries are applied once, in the order of their slots", { node, at, applied: callers.applied });
  assertSkipped(callers, slot(at - 1), chosen);
  const entry = chosen.at(at);
  if (entry === undefined) throw new Violation("apply-order", "only what is chosen is applied", { node, at });
  if (entry.kind !== "app")
    throw new Violation("apply-order", "only the host's entries are applied", { node, entry: entryText(entry), kind: entry.kind });
  if (Buffer.compare(entry.payload, payload) !== 0)
    throw new Violation("apply-order", "what is applied is what is chosen", { node, entry: entryText(entry) });
  if (at > disk.image.last) throw new Violation("apply-order", "only what the own disk has is applied", { node, at, last: disk.image.last });
  callers.applied = at;
}

/** Everything through `through` counts as applied: what the machine was not given is of no value to it. */
export function assertSkipped(callers: Callers, through: Slot, chosen: ChosenLog): void {
  for (let at = callers.applied + 1; at <= through; at++) {
    const entry = chosen.at(slot(at));
    if (entry === undefined || entry.kind === "app")
      throw new Violation("apply-order", "no entry is left out", { node: callers.process.node, at, applied: callers.applied, through });
    callers.applied = entry.slot;
  }
}

function keyOf(payload: Uint8Array): string {
  return Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString("latin1");
}
