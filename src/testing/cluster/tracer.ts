/** Makes the events of a trace. It looks, and changes nothing: a run with a trace is the same run. */
import type { NodeId, Slot } from "../../base/ids.ts";
import { InvariantViolation } from "../../base/invariant.ts";
import type { Image, PersistBatch } from "../../paxos/core/image.ts";
import type { PaxosMessage } from "../../paxos/core/messages.ts";
import type { Actions, TurnInput } from "../../paxos/turn.ts";
import { Violation } from "./observed.ts";
import type { SimulatedProcess } from "./process.ts";
import type { Arrival, MessageFate, Trace, TracedHappening, TracedImage, TracedInput, TracedRole, TracedState } from "./trace.ts";

/** Notes that say what became of a process. */
const LIFE = ["start", "crash", "fenced", "pause", "resume"] as const;
/** All others are ticks, or have events of their own. */
const INPUTS: readonly string[] = [
  "propose",
  "read",
  "confirm",
  "abandon",
  "connection-lost",
  "send-blocked",
  "disk-room",
  "campaign",
] satisfies TracedInput["type"][];

/** What a process was last seen to be. */
interface Seen {
  state: TracedState;
  /** In flight. */
  write: number;
}

export class Tracer {
  readonly #trace: Trace;
  readonly #now: () => number;
  readonly #seen = new Map<SimulatedProcess, Seen>();
  /** Of the process that last ran at each node. */
  readonly #byNode = new Map<number, SimulatedProcess>();
  #events = 0;
  #messages = 0;
  #writes = 0;
  /** At work: what goes wrong goes wrong there. */
  #acting: SimulatedProcess | undefined;
  /** What its turn wants, and how many of the sends are done. */
  #wanted: Actions | undefined;
  #sent = 0;

  constructor(trace: Trace, now: () => number) {
    this.#trace = trace;
    this.#now = now;
  }

  /** A process has begun, on its node or as an impostor. */
  began(process: SimulatedProcess): void {
    this.#seen.set(process, { state: stateOf(process, roleOf(process)), write: 0 });
    if (!process.impostor) this.#byNode.set(process.node, process);
  }

  /** @param index of a node, from 0 up; undefined for all of them. */
  note(index: number | undefined, what: string, details: unknown): void {
    const life = LIFE.find((known) => known === what);
    const process = index === undefined ? undefined : this.#byNode.get(index + 1);
    const happening: TracedHappening = life === undefined ? { type: "note", what, details } : { type: life, details };
    if (process === undefined) return this.#emit(happening, index === undefined ? undefined : ((index + 1) as NodeId), false, undefined);
    if (life === "crash" || life === "fenced") this.#look(process, life === "crash" ? "down" : "fenced");
    if (life === "pause") this.#look(process, "paused");
    if (life === "resume") this.#look(process, process.turn.replica.inspect().role);
    this.#at(process, happening);
  }

  /** Of an impostor, whose life is no node's. */
  noteOf(impostor: SimulatedProcess, what: string, details: unknown): void {
    this.#look(impostor, roleOf(impostor));
    this.#at(impostor, { type: "note", what, details });
  }

  input(process: SimulatedProcess, input: TurnInput): void {
    if (isTraced(input)) this.#at(process, { type: "input", input });
  }

  /** @returns the number of the message. */
  sent(process: SimulatedProcess, to: NodeId, body: PaxosMessage, fate: MessageFate): number {
    this.#messages += 1;
    this.#sent += 1;
    this.#at(process, { type: "sent", message: this.#messages, to, body, fate });
    return this.#messages;
  }

  /** @param to the process that answers at the address, or the address. */
  received(to: SimulatedProcess | number, message: number, from: SimulatedProcess, body: PaxosMessage, arrival: Arrival): void {
    const happening: TracedHappening = { type: "received", message, from: from.node, body, arrival };
    if (typeof to !== "number") return this.#at(to, happening);
    const process = this.#byNode.get(to + 1);
    this.#emit(happening, (to + 1) as NodeId, false, process === undefined ? undefined : this.#seen.get(process)?.state);
  }

  /** It is at work: a turn, or the end of a write. */
  acts(process: SimulatedProcess): void {
    this.#acting = process;
  }

  /** It has run; its sends and its write are told of as they are carried out. */
  turned(process: SimulatedProcess, actions: Actions): void {
    this.#wanted = actions;
    this.#sent = 0;
    const before = this.#seen.get(process)?.state;
    const { state } = this.#look(process, roleOf(process));
    for (const event of actions.events) this.#at(process, event);
    this.#advanced(process, "decided", before?.memory?.decidedThrough, state.memory?.decidedThrough);
    this.#advanced(process, "applied", before?.appliedThrough, state.appliedThrough);
  }

  /** What is left of a turn: what its host is told. */
  carriedOut(process: SimulatedProcess, { leadership, settled, answered, fence }: Actions): void {
    this.rests();
    if (leadership !== undefined) this.#at(process, { type: "leadership", leadership });
    for (const each of settled) this.#at(process, { type: "settled", settled: each });
    for (const each of answered) this.#at(process, { type: "answered", answered: each });
    if (fence !== undefined) this.#at(process, { type: "fence", reason: fence });
  }

  /** Nobody is at work. */
  rests(): void {
    this.#acting = undefined;
    this.#wanted = undefined;
  }

  writeBegun(process: SimulatedProcess, batch: PersistBatch, endsAtUs: number | undefined): void {
    this.#writes += 1;
    const seen = this.#seen.get(process);
    if (seen !== undefined) seen.write = this.#writes;
    this.#at(process, { type: "write-begun", write: this.#writes, batch, endsAtUs });
  }

  /** And those who judge have not yet looked at it. */
  writeEnded(process: SimulatedProcess, how: "done" | "failed" | "cut", durable: boolean): void {
    const seen = this.#seen.get(process);
    if (seen === undefined || seen.write === 0) return;
    const { write } = seen;
    seen.write = 0;
    this.#look(process, seen.state.role);
    this.#at(process, { type: "write-ended", write, how, durable });
  }

  /** The run has ended with this error. */
  failed(error: unknown): void {
    const process = this.#acting;
    if (process !== undefined) this.#notDone(process);
    const { check, claim, details } = violationOf(error);
    const named = nodeIn(details);
    const at = named === undefined || named === process?.node ? process : this.#byNode.get(named);
    const happening: TracedHappening = { type: "violation", check, claim, details };
    if (at === undefined) this.#emit(happening, undefined, false, undefined);
    else this.#at(at, happening);
  }

  /** What the turn wanted, and was not done any more: that is what was wrong, most of the time. */
  #notDone(process: SimulatedProcess): void {
    const wanted = this.#wanted;
    if (wanted === undefined) return;
    for (const { to, message } of wanted.sends.slice(this.#sent)) this.sent(process, to, message, { type: "ended" });
    if (wanted.write !== undefined && this.#seen.get(process)?.write === 0) this.writeBegun(process, wanted.write, undefined);
    this.carriedOut(process, wanted);
  }

  #advanced(process: SimulatedProcess, type: "decided" | "applied", before: Slot | undefined, through: Slot | undefined): void {
    if (before !== undefined && through !== undefined && through > before) this.#at(process, { type, after: before, through });
  }

  /** Looks at a process anew. */
  #look(process: SimulatedProcess, role: TracedRole): Seen {
    const seen = this.#seen.get(process) ?? { state: stateOf(process, role), write: 0 };
    const state = stateOf(process, role);
    if (JSON.stringify(state) !== JSON.stringify(seen.state)) seen.state = state;
    this.#seen.set(process, seen);
    return seen;
  }

  #at(process: SimulatedProcess, happening: TracedHappening): void {
    this.#emit(happening, process.node, process.impostor, this.#seen.get(process)?.state);
  }

  #emit(happening: TracedHappening, node: NodeId | undefined, impostor: boolean, state: TracedState | undefined): void {
    this.#events += 1;
    this.#trace({ number: this.#events, atUs: this.#now(), node, impostor, state, ...happening });
  }
}

function isTraced(input: TurnInput): input is TracedInput {
  return INPUTS.includes(input.type);
}

function roleOf({ alive, paused, turn }: SimulatedProcess): TracedRole {
  if (!alive) return "down";
  return paused ? "paused" : turn.replica.inspect().role;
}

function stateOf({ turn, disk, boot }: SimulatedProcess, role: TracedRole): TracedState {
  const onDisk = imageOf(disk.image);
  if (role === "down" || role === "fenced")
    return { role, boot, ballot: undefined, happy: false, match: undefined, memory: undefined, disk: onDisk, appliedThrough: undefined };
  const { ballot, happy, image } = turn.replica.inspect();
  const inside = turn.replica.state.role;
  const match = inside.type === "follower" && inside.synced ? inside.match : undefined;
  return { role, boot, ballot, happy, match, memory: imageOf(image), disk: onDisk, appliedThrough: turn.appliedThrough };
}

function imageOf({ promised, accepted, last, decidedThrough }: Image): TracedImage {
  return { promised, accepted, last, decidedThrough };
}

function violationOf(error: unknown): { readonly check: string; readonly claim: string; readonly details: unknown } {
  if (error instanceof Violation) {
    const { check, message: said, details } = error;
    return { check, claim: said.slice(check.length + 2), details };
  }
  if (error instanceof InvariantViolation) return { check: error.name, claim: error.claim, details: error.details };
  return error instanceof Error ? { check: error.name, claim: error.message, details: {} } : { check: "error", claim: String(error), details: {} };
}

function nodeIn(details: unknown): number | undefined {
  const node = typeof details === "object" && details !== null && "node" in details ? details.node : undefined;
  return typeof node === "number" ? node : undefined;
}
