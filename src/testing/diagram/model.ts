/**
 * What a diagram shows, from a trace: lanes, events on them, and what spans several events: messages, writes, roles. It is data, and goes into the page as JSON;
 * places in `events` stand for events.
 */
import { unreachable } from "../../base/invariant.ts";
import { ballotText } from "../../paxos/core/ballot.ts";
import type { TracedImage, TracedRole, TracedState, TraceEvent } from "../cluster/trace.ts";
import { traceWords } from "./trace-text.ts";

/** A process under the name of a node: its own, or an impostor's. */
export interface Lane {
  readonly name: string;
  readonly node: number;
}

export interface DiagramEvent {
  /** Virtual time, in microseconds. */
  readonly at: number;
  /** -1 for what happens to all of them, or between them. */
  readonly lane: number;
  readonly type: TraceEvent["type"];
  /** What a filter goes by: the type of a message, or a group of other events. */
  readonly kind: string;
  readonly what: string;
  /** Absent at an arrival whose message has them. */
  readonly details?: unknown;
  /** Place in `states`, of the lane after this event. */
  readonly state?: number;
  /** Place in `messages`. */
  readonly message?: number;
  /** Place in `writes`. */
  readonly write?: number;
  /** Of an arrival: anything but "accepted" came to nothing. */
  readonly arrival?: string;
  /** Of a decision: through which slot. */
  readonly slot?: number;
}

/** `open`: it was under way when the run ended. */
export type MessageEnd = "arrived" | "lost" | "cut" | "nowhere" | "ended" | "open";

export interface DiagramMessage {
  readonly type: string;
  readonly from: number;
  readonly to: number;
  /** Absent where that was before the events that are kept. */
  sent?: number;
  /** Two, where the network has doubled it. */
  readonly received: number[];
  end: MessageEnd;
}

export interface DiagramWrite {
  readonly lane: number;
  begun?: number;
  /** Absent where the run ended before. */
  ended?: number;
  how?: "done" | "failed" | "cut";
  durable?: boolean;
}

/** From that event until the next span of the lane; `unknown` where what was before is not kept. */
export interface RoleSpan {
  readonly lane: number;
  /** -1: from the beginning. */
  readonly from: number;
  readonly role: TracedRole | "unknown";
}

export interface DiagramData {
  readonly title: string;
  /** Number of the first event: above 1 where earlier ones are not kept. */
  readonly first: number;
  readonly lanes: readonly Lane[];
  /** The names of what is in a state. */
  readonly fields: readonly string[];
  readonly states: readonly (readonly (string | number)[])[];
  readonly events: readonly DiagramEvent[];
  readonly messages: readonly DiagramMessage[];
  readonly writes: readonly DiagramWrite[];
  readonly spans: readonly RoleSpan[];
  readonly violation?: number;
}

export function diagramOf(events: readonly TraceEvent[], title: string): DiagramData {
  const building = new Building(lanesOf(events), events[0]?.number === 1);
  for (const event of events) building.add(event);
  const { lanes, states, drawn, messages, writes, spans, violation } = building;
  const fields = FIELDS.map(([name]) => name);
  const data = { title, first: events[0]?.number ?? 1, lanes, fields, states, events: drawn, messages, writes, spans };
  return violation === undefined ? data : { ...data, violation };
}

/** In the order of the nodes, each before its impostor. */
function lanesOf(events: readonly TraceEvent[]): readonly Lane[] {
  const lanes = new Map<string, Lane>();
  const add = (node: number, impostor: boolean): void => {
    const name = nameOf(node, impostor);
    if (!lanes.has(name)) lanes.set(name, { name, node });
  };
  for (const event of events) {
    if (event.node !== undefined) add(event.node, event.impostor);
    if (event.type === "sent" && event.fate.type !== "nowhere") add(event.to, false);
    if (event.type === "received") add(event.from, false);
  }
  return [...lanes.values()].toSorted((a, b) => a.node - b.node || a.name.length - b.name.length);
}

function nameOf(node: number, impostor: boolean): string {
  return `${node}${impostor ? "'" : ""}`;
}

class Building {
  readonly lanes: readonly Lane[];
  readonly states: (readonly (string | number)[])[] = [];
  readonly drawn: DiagramEvent[] = [];
  readonly messages: DiagramMessage[] = [];
  readonly writes: DiagramWrite[] = [];
  readonly spans: RoleSpan[];
  violation: number | undefined;
  readonly #stateAt = new Map<TracedState, number>();
  readonly #messageAt = new Map<number, number>();
  readonly #writeAt = new Map<number, number>();
  readonly #roles: (TracedRole | "unknown")[];

  constructor(lanes: readonly Lane[], isWhole: boolean) {
    this.lanes = lanes;
    this.#roles = lanes.map(() => (isWhole ? "down" : "unknown"));
    this.spans = this.#roles.map((role, lane) => ({ lane, from: -1, role }));
  }

  add(event: TraceEvent): void {
    const place = this.drawn.length;
    const lane = event.node === undefined ? -1 : this.#laneOf(event.node, event.impostor);
    const { what, details } = traceWords(event);
    if (event.state !== undefined) this.#noteRole(lane, place, event.state.role);
    if (event.type === "violation") this.violation = place;
    const spanning = this.#spanning(event, lane, place);
    const isTold = event.type === "received" && this.messages[spanning.message ?? -1]?.sent !== undefined;
    this.drawn.push({
      at: event.atUs,
      lane,
      type: event.type,
      kind: kindOf(event),
      what,
      ...(details === undefined || isTold ? {} : { details }),
      ...(event.state === undefined ? {} : { state: this.#stateOf(event.state) }),
      ...spanning,
    });
  }

  #laneOf(node: number, impostor: boolean): number {
    const name = nameOf(node, impostor);
    return this.lanes.findIndex((lane) => lane.name === name);
  }

  #noteRole(lane: number, from: number, role: TracedRole): void {
    if (lane < 0 || this.#roles[lane] === role) return;
    this.#roles[lane] = role;
    this.spans.push({ lane, from, role });
  }

  #stateOf(state: TracedState): number {
    let at = this.#stateAt.get(state);
    if (at === undefined) {
      at = this.states.length;
      this.#stateAt.set(state, at);
      this.states.push(FIELDS.map(([, read]) => read(state)));
    }
    return at;
  }

  #spanning(event: TraceEvent, lane: number, place: number): Pick<DiagramEvent, "message" | "write" | "arrival" | "slot"> {
    switch (event.type) {
      case "sent": {
        const { type } = event.fate;
        this.#messageAt.set(event.message, this.messages.length);
        const end = type === "arrives" ? "open" : type;
        this.messages.push({ type: event.body.type, from: lane, to: this.#laneOf(event.to, false), sent: place, received: [], end });
        return { message: this.messages.length - 1 };
      }
      case "received":
        return { message: this.#arrived(event, lane, place), arrival: event.arrival };
      case "write-begun":
        this.#writeAt.set(event.write, this.writes.length);
        this.writes.push({ lane, begun: place });
        return { write: this.writes.length - 1 };
      case "write-ended":
        return { write: this.#written(event, lane, place) };
      case "decided":
      case "applied":
        return { slot: event.through };
      default:
        return {};
    }
  }

  #arrived({ message, from, body }: Extract<TraceEvent, { readonly type: "received" }>, lane: number, place: number): number {
    let at = this.#messageAt.get(message);
    if (at === undefined) {
      at = this.messages.length;
      this.#messageAt.set(message, at);
      this.messages.push({ type: body.type, from: this.#laneOf(from, false), to: lane, received: [], end: "arrived" });
    }
    const arrived = this.messages[at];
    if (arrived !== undefined) {
      arrived.end = "arrived";
      arrived.received.push(place);
    }
    return at;
  }

  #written({ write, how, durable }: Extract<TraceEvent, { readonly type: "write-ended" }>, lane: number, place: number): number {
    const at = this.#writeAt.get(write) ?? this.writes.length;
    const begun = this.writes[at] ?? { lane };
    this.writes[at] = { ...begun, ended: place, how, durable };
    return at;
  }
}

function kindOf(event: TraceEvent): string {
  switch (event.type) {
    case "sent":
    case "received":
      return event.body.type;
    case "input":
    case "settled":
    case "answered":
      return "clients";
    case "write-begun":
    case "write-ended":
      return "writes";
    case "role":
    case "leadership":
      return "roles";
    case "start":
    case "crash":
    case "fenced":
    case "fence":
    case "pause":
    case "resume":
    case "note":
      return "faults";
    case "decided":
    case "applied":
    case "dropped":
    case "violation":
      return event.type;
    default:
      return unreachable(event);
  }
}

type Read = (state: TracedState) => string | number;

const NONE = "-";

function ofImages(name: string, read: (image: TracedImage) => string | number): readonly (readonly [string, Read])[] {
  return [
    [name, ({ memory }) => (memory === undefined ? NONE : read(memory))],
    [`${name} on disk`, ({ disk }) => read(disk)],
  ];
}

const FIELDS: readonly (readonly [name: string, read: Read])[] = [
  ["role", ({ role }) => role],
  ["boot", ({ boot }) => boot],
  ["ballot", ({ ballot }) => (ballot === undefined ? NONE : ballotText(ballot))],
  ["happy", ({ happy }) => (happy ? "yes" : "no")],
  ...ofImages("promised", ({ promised }) => ballotText(promised)),
  ...ofImages("accepted", ({ accepted }) => ballotText(accepted)),
  ...ofImages("last", ({ last }) => last),
  ["match", ({ match }) => match ?? NONE],
  ...ofImages("decided", ({ decidedThrough }) => decidedThrough),
  ["applied", ({ appliedThrough }) => appliedThrough ?? NONE],
];
