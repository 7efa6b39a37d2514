/** Order in real time, for checkers over histories. */

/** Something that happened at one instant between its two times, and that took, or saw, `[start, end)` of a range which only ever moves up. */
export interface Span {
  readonly start: bigint;
  readonly end: bigint;
  readonly invokedAt: bigint;
  readonly respondedAt: bigint;
}

export interface Pair<S> {
  readonly earlier: S;
  readonly later: S;
}

/**
 * The spans that begin below one which had ended before they were asked for: one pair for each such span, with the highest of those before it.
 * Spans that overlap in time may stand in any order. O(n log n).
 */
export function stepsBack<S extends Span>(spans: readonly S[]): readonly Pair<S>[] {
  const asked = [...spans].sort((a, b) => compare(a.invokedAt, b.invokedAt));
  const answered = [...spans].sort((a, b) => compare(a.respondedAt, b.respondedAt));
  const found: Pair<S>[] = [];
  let highest: S | undefined;
  let next = 0;
  for (const later of asked) {
    for (let before = answered[next]; before !== undefined && before.respondedAt < later.invokedAt; before = answered[++next]) {
      if (highest === undefined || before.end > highest.end) highest = before;
    }
    if (highest !== undefined && later.start < highest.end) found.push({ earlier: highest, later });
  }
  return found;
}

/** The spans that share a value with one that begins at or before them: one pair for each. Empty spans share nothing. O(n log n). */
export function overlaps<S extends Span>(spans: readonly S[]): readonly Pair<S>[] {
  const found: Pair<S>[] = [];
  let highest: S | undefined;
  for (const next of spans.filter(({ start, end }) => start < end).sort((a, b) => compare(a.start, b.start))) {
    if (highest !== undefined && next.start < highest.end) found.push({ earlier: highest, later: next });
    if (highest === undefined || next.end > highest.end) highest = next;
  }
  return found;
}

export function compare(a: bigint, b: bigint): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
