/** The scopes that are explored in full, and how a scope is told of. */
import type { Bounded, Exploration, Scope } from "./explore.ts";

const NONE: Scope["bounds"] = { proposals: 0, crashes: 0, rounds: 0, givenUp: 0 };
/** Losing them costs time, never safety: what their receivers do about them is what a round, or giving up, does too. */
const HINTS = ["reject", "nack", "heartbeat"] as const;

/** Of two campaigns only those of nodes 1 and 2 are explored: a node that never campaigns may have any number. */
const ONE = [[1]];
const TWO = [
  [1, 2],
  [1, 2],
];
const THREE = [...TWO, [1, 2]];

export const SCOPES: readonly Scope[] = [
  { name: "one-ballot", campaigners: ONE, bounds: { ...NONE, proposals: 2, givenUp: 1 }, lost: HINTS },
  { name: "two-ballots", campaigners: TWO, bounds: NONE, lost: HINTS },
  { name: "three-ballots-back", campaigners: [[1], [2], [1]], bounds: NONE, lost: HINTS },
  { name: "three-ballots-round", campaigners: [[1], [2], [3]], bounds: NONE, lost: HINTS },
  { name: "two-ballots-hints", campaigners: TWO, bounds: NONE, lost: ["heartbeat"] },
  { name: "two-ballots-heartbeat", campaigners: TWO, bounds: { ...NONE, rounds: 1 }, lost: ["reject", "nack"] },
  { name: "two-ballots-fetch", campaigners: TWO, bounds: { ...NONE, rounds: 1 }, lost: HINTS, core: { promiseInlineBytes: 0 } },
  { name: "two-ballots-no-memory", campaigners: TWO, bounds: NONE, lost: HINTS, core: { promiseInlineBytes: 0, cacheBytes: 0 } },
  { name: "two-ballots-rounds", campaigners: TWO, bounds: { ...NONE, rounds: 1, givenUp: 1 }, lost: HINTS },
  { name: "one-ballot-crash", campaigners: ONE, bounds: { ...NONE, proposals: 1, crashes: 1 }, lost: HINTS },
  { name: "two-ballots-proposal", campaigners: TWO, bounds: { ...NONE, proposals: 1 }, lost: HINTS },
  { name: "two-ballots-crash", campaigners: TWO, bounds: { ...NONE, crashes: 1 }, lost: HINTS },
  { name: "three-ballots", campaigners: THREE, bounds: NONE, lost: HINTS },
];

/** States that fit into 5 GB. */
export const MOST_STATES = 150_000_000;

const WORDS: Readonly<Record<Bounded, string>> = { proposals: "proposals", crashes: "crashes", rounds: "rounds", givenUp: "times given up" };

export function scopeText({ name, campaigners, bounds, lost, core }: Scope): string {
  const who = campaigners.map((nodes) => nodes.join("|")).join(" ");
  const counts = Object.entries(WORDS).map(([count, word]) => `${bounds[count as Bounded]} ${word}`);
  const other = core === undefined ? "" : `, ${Object.entries(core).map(([option, value]) => `${option} ${value}`)}`;
  return `${name}: 3 nodes, campaigns by ${who}, ${counts.join(", ")}, lost: ${lost.join(" ") || "nothing"}${other}`;
}

export function explorationText(found: Exploration): string {
  const { frontier, states, transitions, depth, locals, places, messages, seconds } = found;
  const numbers = [
    `${states.toLocaleString("en")} states`,
    `${transitions.toLocaleString("en")} transitions`,
    `depth ${depth}`,
    `${locals.toLocaleString("en")} states of one node (${places.toLocaleString("en")} with what it sent)`,
    `${messages} messages`,
    `${seconds.toFixed(1)} s`,
  ];
  return `${numbers.join(", ")}: ${FRONTIERS[frontier]}${frontier === "violation" ? ` after ${depth + 1} steps` : ""}`;
}

const FRONTIERS: Readonly<Record<Exploration["frontier"], string>> = {
  empty: "the frontier ran empty",
  time: "stopped for want of time; NOT all of the scope was seen",
  memory: "stopped for want of memory; NOT all of the scope was seen",
  violation: "VIOLATION",
};
