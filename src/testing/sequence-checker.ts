/**
 * Gapless, judged from outside. A key's acknowledged blocks do not overlap, and whatever is missing below the highest known value was taken by requests
 * whose outcome is uncertain: an **exact assignment** exists, in which each of them is used whole or not at all, once, and not against real time.
 */
import { invariant } from "../base/invariant.ts";
import { assignGaps, type Claim, type Gap } from "./gap-assignment.ts";
import { compare, overlaps, type Span, stepsBack } from "./real-time.ts";

/** One GetSeq, or one GetSeqBatch: all of its blocks or none. What was refused for certain does not belong in a history. */
export interface SequenceRequest {
  /** Of distinct keys. */
  readonly blocks: readonly { readonly key: string; readonly count: number }[];
  readonly invokedAt: bigint;
  /** Where the blocks begin, in their order. Absent: it took effect, or did not. */
  readonly answer?: { readonly starts: readonly bigint[]; readonly respondedAt: bigint } | undefined;
  /** Of a request without an answer: it has taken effect by now, or never will. Absent: it may still. */
  readonly endedAt?: bigint | undefined;
}

/** What a key would give next, as somebody was told. */
export interface SequenceRead {
  readonly key: string;
  readonly next: bigint;
  readonly invokedAt: bigint;
  readonly respondedAt: bigint;
}

export interface SequenceHistory<R extends SequenceRequest = SequenceRequest> {
  readonly requests: readonly R[];
  readonly reads?: readonly SequenceRead[] | undefined;
  /** First values of the keys that do not begin at 0. */
  readonly first?: ReadonlyMap<string, bigint> | undefined;
  /** How many placements may be tried for gaps that depend on one another before the search gives up. @defaultValue 200000 */
  readonly searchMax?: number | undefined;
}

export type SequenceViolation<R> =
  /** Two requests were given the same value. */
  | { readonly type: "overlap"; readonly key: string; readonly earlier: R; readonly later: R }
  | { readonly type: "below-first"; readonly key: string; readonly request: R }
  /** `later` was asked for when `earlier` had been answered, and yet it lies, or shows the key to be, below it. */
  | { readonly type: "went-back"; readonly key: string; readonly earlier: R | SequenceRead; readonly later: R | SequenceRead }
  /** What was read lies within a block, where the key never was: a block is taken at one instant. */
  | { readonly type: "inside-block"; readonly key: string; readonly request: R; readonly read: SequenceRead }
  /** No one order of the answered requests explains what all of their keys say: the blocks of some batch did not come at one instant. */
  | { readonly type: "no-one-order"; readonly requests: readonly R[] }
  /** Values are missing that no choice of the uncertain requests explains. */
  | { readonly type: "unexplained"; readonly gaps: readonly Gap[] }
  /** The search gave up: neither shown nor refuted. Not a proof of anything, so never a pass. */
  | { readonly type: "undecided"; readonly gaps: readonly Gap[]; readonly tried: number };

/** `[start, end)` was taken by a request that got no answer. */
export interface Assigned<R> extends Gap {
  readonly request: R;
}

export interface SequenceSummary<R> {
  readonly first: bigint;
  /** One above the highest value that is known to be taken. */
  readonly next: bigint;
  /** Answered blocks, and the values in them. */
  readonly blocks: number;
  readonly values: bigint;
  /** What nobody was told to have, in order. */
  readonly missing: readonly Gap[];
  /** What explains it: tiles `missing` exactly, in order. */
  readonly assigned: readonly Assigned<R>[];
  /** Requests for this key without an answer. */
  readonly uncertain: number;
}

export interface SequenceReport<R> {
  readonly violations: readonly SequenceViolation<R>[];
  readonly keys: ReadonlyMap<string, SequenceSummary<R>>;
}

/** Something that is certain about a key: a block, or an empty span where a read stood. */
interface Known<R> extends Span {
  readonly request?: R;
  readonly read?: SequenceRead;
}

/**
 * Everything below the highest value that any answer or read tells of must be accounted for; above it nothing is known. Read each key after the last
 * request has ended, so that its highest value is known.
 */
export function checkSequence<R extends SequenceRequest>(history: SequenceHistory<R>): SequenceReport<R> {
  const known = knownByKey(history);
  const violations: SequenceViolation<R>[] = [];
  const summaries = new Map<string, SequenceSummary<R>>();
  for (const [key, spans] of known) {
    const first = history.first?.get(key) ?? 0n;
    violations.push(...checkKey(key, first, spans));
    summaries.set(key, summarize(key, first, spans));
  }
  violations.push(...checkOneOrder(history.requests));

  const gaps = [...summaries.values()].flatMap(({ missing }) => missing);
  const bounds = new Map([...known].map(([key, spans]) => [key, createBounds(spans)]));
  const boundsOf = (key: string): Bounds => bounds.get(key) ?? createBounds([]);
  const claims = history.requests.filter(({ answer }) => answer === undefined).map((request) => claimOf(request, boundsOf));
  const { assigned, unexplained } = assignGaps(gaps, claims, history.searchMax ?? 200_000);
  for (const { gaps: left, tried, exhausted } of unexplained) {
    violations.push(exhausted ? { type: "unexplained", gaps: left } : { type: "undecided", gaps: left, tried });
  }
  for (const [key, summary] of summaries) {
    const ofKey = assigned.filter((each) => each.key === key).sort((a, b) => compare(a.start, b.start));
    const uncertain = claims.filter(({ blocks }) => blocks.some((block) => block.key === key)).length;
    summaries.set(key, { ...summary, assigned: ofKey.map(({ claim, ...gap }) => ({ ...gap, request: claim.request })), uncertain });
  }
  return { violations, keys: summaries };
}

/** Keys that only uncertain requests name are there too, with nothing known. */
function knownByKey<R extends SequenceRequest>({ requests, reads = [] }: SequenceHistory<R>): ReadonlyMap<string, readonly Known<R>[]> {
  const known = new Map<string, Known<R>[]>();
  const of = (key: string): Known<R>[] => {
    const spans = known.get(key) ?? [];
    known.set(key, spans);
    return spans;
  };
  for (const request of requests) {
    const { answer, invokedAt } = request;
    invariant(answer === undefined || answer.starts.length === request.blocks.length, "an answer has a start for each block");
    request.blocks.forEach(({ key, count }, index) => {
      const spans = of(key);
      const start = answer?.starts[index];
      if (answer === undefined || start === undefined) return;
      spans.push({ start, end: start + BigInt(count), invokedAt, respondedAt: answer.respondedAt, request });
    });
  }
  for (const read of reads) {
    const { key, next, invokedAt, respondedAt } = read;
    of(key).push({ start: next, end: next, invokedAt, respondedAt, read });
  }
  return known;
}

function checkKey<R>(key: string, first: bigint, spans: readonly Known<R>[]): readonly SequenceViolation<R>[] {
  const found: SequenceViolation<R>[] = [];
  for (const { start, request } of spans) if (request !== undefined && start < first) found.push({ type: "below-first", key, request });
  for (const { earlier, later } of overlaps(spans)) {
    if (earlier.request !== undefined && later.request !== undefined) {
      found.push({ type: "overlap", key, earlier: earlier.request, later: later.request });
    }
  }
  let highest: Known<R> | undefined;
  for (const span of [...spans].sort((a, b) => compare(a.start, b.start))) {
    const { request } = highest ?? {};
    const inside = highest !== undefined && highest.start < span.start && span.start < highest.end;
    if (inside && span.read !== undefined && request !== undefined) found.push({ type: "inside-block", key, request, read: span.read });
    if (highest === undefined || span.end > highest.end) highest = span;
  }
  for (const pair of stepsBack(spans)) {
    const earlier = pair.earlier.request ?? pair.earlier.read;
    const later = pair.later.request ?? pair.later.read;
    if (earlier !== undefined && later !== undefined) found.push({ type: "went-back", key, earlier, later });
  }
  return found;
}

function summarize<R>(key: string, first: bigint, spans: readonly Known<R>[]): SequenceSummary<R> {
  const missing: Gap[] = [];
  let next = first;
  for (const { start, end } of [...spans].sort((a, b) => compare(a.start, b.start))) {
    if (start > next) missing.push({ key, start: next, end: start });
    if (end > next) next = end;
  }
  const blocks = spans.filter(({ request }) => request !== undefined);
  const values = blocks.reduce((sum, { start, end }) => sum + end - start, 0n);
  return { first, next, blocks: blocks.length, values, missing, assigned: [], uncertain: 0 };
}

/** What an uncertain request may have taken, bounded by what is certain and was over before it began, or began after it had ended. */
function claimOf<R extends SequenceRequest>(request: R, boundsOf: (key: string) => Bounds): Claim<R> {
  const { invokedAt, endedAt } = request;
  const blocks = request.blocks.map(({ key, count }) => {
    const bounds = boundsOf(key);
    return { key, count: BigInt(count), from: bounds.above(invokedAt), to: endedAt === undefined ? undefined : bounds.below(endedAt) };
  });
  return { request, blocks, invokedAt, endedAt };
}

interface Bounds {
  /** The highest end of what was over before `time`. */
  above(time: bigint): bigint;
  /** The lowest start of what began after `time`; `undefined` where nothing did. */
  below(time: bigint): bigint | undefined;
}

function createBounds(spans: readonly Span[]): Bounds {
  const answered = [...spans].sort((a, b) => compare(a.respondedAt, b.respondedAt));
  const asked = [...spans].sort((a, b) => compare(b.invokedAt, a.invokedAt));
  const highest: bigint[] = [];
  for (const { end } of answered) highest.push(max(highest.at(-1) ?? 0n, end));
  const lowest: bigint[] = [];
  for (const { start } of asked) lowest.push(min(lowest.at(-1) ?? start, start));
  return {
    above: (time) => highest[countWhile(answered, ({ respondedAt }) => respondedAt < time) - 1] ?? 0n,
    below: (time) => lowest[countWhile(asked, ({ invokedAt }) => invokedAt > time) - 1],
  };
}

/** How many items at the front fit; those that fit all stand before those that do not. */
function countWhile<T>(items: readonly T[], isIn: (item: T) => boolean): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const item = items[middle];
    if (item !== undefined && isIn(item)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

/**
 * Entries take effect one after the other, so one order of all answered requests must agree with the order of the blocks on every key, and with real
 * time. It exists unless those two go round in a circle.
 */
function checkOneOrder<R extends SequenceRequest>(requests: readonly R[]): readonly SequenceViolation<R>[] {
  const answered = requests.flatMap((request) => (request.answer === undefined ? [] : [{ request, ...request.answer }]));
  const after = orderOf(answered);
  const waitsFor = new Array<number>(after.length).fill(0);
  for (const targets of after) for (const target of targets) waitsFor[target] = (waitsFor[target] ?? 0) + 1;
  const ready = waitsFor.flatMap((count, node) => (count === 0 ? [node] : []));
  for (let node = ready.pop(); node !== undefined; node = ready.pop()) {
    for (const target of after[node] ?? []) {
      const left = (waitsFor[target] ?? 0) - 1;
      waitsFor[target] = left;
      if (left === 0) ready.push(target);
    }
  }
  const circling = answered.filter((_, index) => (waitsFor[index] ?? 0) > 0).map(({ request }) => request);
  return circling.length === 0 ? [] : [{ type: "no-one-order", requests: circling }];
}

/**
 * For each answered request those that come after it: the next block on each of its keys, and what was asked for after its answer. Real time would
 * take a pair for every two requests; instead each answer is an instant of its own, a node above the requests, that leads to the next instant.
 */
function orderOf(answered: readonly { readonly request: SequenceRequest; readonly starts: readonly bigint[]; readonly respondedAt: bigint }[]) {
  const after: number[][] = Array.from({ length: answered.length * 2 }, () => []);
  const byKey = new Map<string, { readonly start: bigint; readonly node: number }[]>();
  answered.forEach(({ request, starts }, node) => {
    request.blocks.forEach(({ key }, index) => {
      const placed = byKey.get(key) ?? [];
      byKey.set(key, placed);
      placed.push({ start: starts[index] ?? 0n, node });
    });
  });
  for (const placed of byKey.values()) {
    placed.sort((a, b) => compare(a.start, b.start));
    placed.forEach(({ node }, index) => {
      const next = placed[index + 1];
      if (next !== undefined) after[node]?.push(next.node);
    });
  }
  const nodes = answered.map((_, node) => node);
  const at = (node: number): bigint => answered[node]?.respondedAt ?? 0n;
  const asked = (node: number): bigint => answered[node]?.request.invokedAt ?? 0n;
  const instants = nodes.toSorted((a, b) => compare(at(a), at(b)));
  instants.forEach((node, index) => {
    after[node]?.push(answered.length + index);
    if (index + 1 < instants.length) after[answered.length + index]?.push(answered.length + index + 1);
  });
  let next = 0;
  for (const node of nodes.toSorted((a, b) => compare(asked(a), asked(b)))) {
    while (next < instants.length && at(instants[next] ?? 0) < asked(node)) next += 1;
    if (next > 0) after[answered.length + next - 1]?.push(node);
  }
  return after;
}
