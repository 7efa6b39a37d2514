/**
 * Delta debugging: a smallest part of `items` that still fails (ddmin of Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002). Smallest in the
 * sense that no single item can be left out of what is returned.
 *
 * @param fails asked for parts of `items` in their order, and never for all of them: that those fail is taken for granted.
 */
export function ddmin<T>(items: readonly T[], fails: (part: readonly T[]) => boolean): readonly T[] {
  let kept = items;
  if (kept.length > 0 && fails([])) return [];
  let parts = 2;
  while (kept.length >= 2) {
    const smaller = withoutOne(kept, Math.min(parts, kept.length), fails);
    if (smaller !== undefined) {
      kept = smaller;
      parts = Math.max(parts - 1, 2);
    } else if (parts < kept.length) {
      parts = Math.min(2 * parts, kept.length);
    } else {
      break;
    }
  }
  return kept;
}

/** `items` without one of `parts` pieces of about the same size, if that still fails. */
function withoutOne<T>(items: readonly T[], parts: number, fails: (part: readonly T[]) => boolean): readonly T[] | undefined {
  for (let part = 0; part < parts; part++) {
    const from = Math.floor((part * items.length) / parts);
    const end = Math.floor(((part + 1) * items.length) / parts);
    const rest = [...items.slice(0, from), ...items.slice(end)];
    if (fails(rest)) return rest;
  }
  return undefined;
}
