/** An event of a trace in words: the same in the lines of `npm run sim -- --replay` and in a diagram. */
import { unreachable } from "../../base/invariant.ts";
import { ballotText } from "../../paxos/core/ballot.ts";
import type { TraceEvent } from "../cluster/trace.ts";

export interface TraceWords {
  readonly what: string;
  /** Fit for JSON, and short: a ballot is `round.prio.node`, an entry `slot@ballot`, bytes are counted. */
  readonly details?: unknown;
}

/** One line: time in ms, the event's number, the node (with a prime for an impostor), what it is. */
export function traceText(event: TraceEvent): string {
  const { what, details } = traceWords(event);
  const node = `${event.node ?? "-"}${event.impostor ? "'" : ""}`;
  const rest = details === undefined ? "" : ` ${JSON.stringify(details)}`;
  return `${(event.atUs / 1000).toFixed(3).padStart(10)} #${event.number} ${node} ${what}${rest}`;
}

export function traceWords(event: TraceEvent): TraceWords {
  const [what, details] = wordsOf(event);
  return details === undefined ? { what } : { what, details: brief(details) };
}

function wordsOf(event: TraceEvent): readonly [what: string, details?: unknown] {
  switch (event.type) {
    case "start":
    case "crash":
    case "fenced":
    case "pause":
    case "resume":
      return [event.type, event.details];
    case "note":
      return [event.what, event.details];
    case "input":
      return [`asked: ${event.input.type}`, event.input];
    case "sent":
      return [`${event.body.type} to ${event.to}${FATES[event.fate.type]}`, event.body];
    case "received":
      return [`${event.body.type} from ${event.from}${ARRIVALS[event.arrival]}`, event.body];
    case "role":
      return [`${event.role}: ${event.reason}`, { ballot: event.ballot }];
    case "dropped":
      return [`drops ${event.message} of ${event.from}: ${event.reason}`];
    case "write-begun":
      return [event.endsAtUs === undefined ? "would write" : "writes", { ops: event.batch.ops, ...event.batch.image }];
    case "write-ended":
      return [`written: ${event.how}${event.how === "done" ? "" : event.durable ? ", on the disk" : ", not on the disk"}`];
    case "decided":
    case "applied":
      return [`${event.type} through ${event.through}`, event.through === event.after + 1 ? undefined : { after: event.after }];
    case "leadership":
      return ["leadership", event.leadership];
    case "settled":
      return [`settled: ${event.settled.outcome.type}`, event.settled];
    case "answered":
      return [`answered: ${event.answered.ok ? "ok" : "failed"}`, event.answered];
    case "fence":
      return ["stops", { reason: event.reason }];
    case "violation":
      return [`VIOLATION ${event.check}: ${event.claim}`, event.details];
    default:
      return unreachable(event);
  }
}

const FATES = { arrives: "", lost: " (lost)", cut: " (cut off)", nowhere: " (nobody is there)", ended: " (the run ended before it left)" } as const;
const ARRIVALS = { accepted: "", refused: " (not believed)", dead: " (nobody is there)", forgotten: " (forgotten)" } as const;

/** For JSON. A configuration never changes in a run, and would fill the screen. */
function brief(value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (value instanceof Map) return brief(Object.fromEntries(value));
  if (Array.isArray(value)) return value.map(brief);
  if (typeof value !== "object" || value === null) return value;
  if (isBallot(value)) return ballotText(value);
  if ("record" in value && "slot" in value && "origin" in value) return `${value.slot}@${brief(value.origin)}`;
  const rest = Object.entries(value).filter(([key, each]) => key !== "configuration" && each !== undefined);
  return Object.fromEntries(rest.map(([key, each]) => [key, brief(each)]));
}

function isBallot(value: object): value is Parameters<typeof ballotText>[0] {
  return "round" in value && "prio" in value && "node" in value;
}
