/**
 * The trace of a run: what happened, in order, as data. `traceText` makes a line of an event for people, `traceDiagram` a page of all of them. A run without a trace does
 * not make one, and is the same run.
 */
import type { NodeId, Slot } from "../../base/ids.ts";
import type { Leadership } from "../../log.ts";
import type { Ballot } from "../../paxos/core/ballot.ts";
import type { CoreEvent } from "../../paxos/core/effects.ts";
import type { PersistBatch } from "../../paxos/core/image.ts";
import type { PaxosMessage } from "../../paxos/core/messages.ts";
import type { Answered, Settled, TurnInput } from "../../paxos/turn.ts";

/** What counts of an image. */
export interface TracedImage {
  readonly promised: Ballot;
  readonly accepted: Ballot;
  readonly last: Slot;
  readonly decidedThrough: Slot;
}

/** `down`: nothing runs there. `fenced`: it stopped by itself, and nothing runs there. */
export type TracedRole = "follower" | "candidate" | "leader" | "fenced" | "paused" | "down";

export interface TracedState {
  readonly role: TracedRole;
  readonly boot: number;
  /** The ballot that it leads or campaigns with, or follows. */
  readonly ballot: Ballot | undefined;
  /** Whether it has, or is, a leader that works (rule E3). */
  readonly happy: boolean;
  /** Of a follower: its log is its leader's through here. */
  readonly match: Slot | undefined;
  readonly memory: TracedImage | undefined;
  /** What a power cut at this moment would leave. */
  readonly disk: TracedImage;
  readonly appliedThrough: Slot | undefined;
}

/** Counts the messages, or the writes, of a run from 1 up. */
export type TracedNumber = number;

/** `cut`: the link was. `nowhere`: there is no such node. `ended`: the run ended before it left. */
export type MessageFate = { readonly type: "arrives"; readonly atUs: readonly number[] } | { readonly type: "lost" | "cut" | "nowhere" | "ended" };

/**
 * `refused`: from a process that the receiver does not believe (rule I2). `dead`: nothing ran at that address. `forgotten`: its sender was an impostor, and has ended.
 */
export type Arrival = "accepted" | "refused" | "dead" | "forgotten";

/** Everything that may come into a node besides messages, ticks, and what its disk says. */
export type TracedInput = Extract<
  TurnInput,
  { readonly type: "propose" | "read" | "confirm" | "abandon" | "connection-lost" | "send-blocked" | "disk-room" | "campaign" }
>;

export type TracedHappening =
  | { readonly type: "start" | "crash" | "fenced" | "pause" | "resume"; readonly details?: unknown }
  /** A fault, or a part of the run that begins. */
  | { readonly type: "note"; readonly what: string; readonly details?: unknown }
  | { readonly type: "input"; readonly input: TracedInput }
  | { readonly type: "sent"; readonly message: TracedNumber; readonly to: NodeId; readonly body: PaxosMessage; readonly fate: MessageFate }
  | { readonly type: "received"; readonly message: TracedNumber; readonly from: NodeId; readonly body: PaxosMessage; readonly arrival: Arrival }
  | Extract<CoreEvent, { readonly type: "role" | "dropped" }>
  /** `endsAtUs` is undefined where the run ended before it began. */
  | { readonly type: "write-begun"; readonly write: TracedNumber; readonly batch: PersistBatch; readonly endsAtUs: number | undefined }
  /** `failed` and `cut` (the power) leave it on the disk or do not. */
  | { readonly type: "write-ended"; readonly write: TracedNumber; readonly how: "done" | "failed" | "cut"; readonly durable: boolean }
  | { readonly type: "decided" | "applied"; readonly after: Slot; readonly through: Slot }
  | { readonly type: "leadership"; readonly leadership: Leadership }
  | { readonly type: "settled"; readonly settled: Settled }
  | { readonly type: "answered"; readonly answered: Answered }
  | { readonly type: "fence"; readonly reason: string }
  /** Ends the run. */
  | { readonly type: "violation"; readonly check: string; readonly claim: string; readonly details: unknown };

/** When and where it happened. */
export interface TracePlace {
  /** Counts the events of a run from 1 up. */
  readonly number: number;
  /** Virtual time. */
  readonly atUs: number;
  /** Undefined for what happens to all of them, or between them. */
  readonly node: NodeId | undefined;
  /** Of a process under the node's name, on another disk than that node's. */
  readonly impostor: boolean;
  /** Of the process, after the turn that this is part of. The same object as long as nothing in it changes. */
  readonly state: TracedState | undefined;
}

export type TraceEvent = TracePlace & TracedHappening;

export type Trace = (event: TraceEvent) => void;

export interface RecorderOptions {
  /** Events that are kept: the last of a run. @defaultValue 30000 */
  readonly maxEvents?: number | undefined;
}

const DEFAULT_EVENTS = 30_000;

/** Keeps the end of a run. Its `trace` is for `simulateCluster`. */
export class TraceRecorder {
  readonly #max: number;
  #events: TraceEvent[] = [];

  constructor({ maxEvents = DEFAULT_EVENTS }: RecorderOptions = {}) {
    this.#max = maxEvents;
  }

  readonly trace: Trace = (event) => {
    this.#events.push(event);
    if (this.#events.length >= 2 * this.#max) this.#events = this.#events.slice(-this.#max);
  };

  /** In order. The first has a number above 1 where earlier ones were dropped. */
  get events(): readonly TraceEvent[] {
    return this.#events.slice(-this.#max);
  }
}
