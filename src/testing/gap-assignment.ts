/**
 * Which of the uncertain requests filled which gap. Exact cover in general, so a search with a bound; what the requests of one crash look like
 * (many small counts, each gap reachable by few of them) makes it quick.
 */
import { compare } from "./real-time.ts";

/** `[start, end)` of a key. */
export interface Gap {
  readonly key: string;
  readonly start: bigint;
  readonly end: bigint;
}

/** A request that took all of its blocks at one instant between its two times, or none. */
export interface Claim<R> {
  readonly request: R;
  readonly blocks: readonly ClaimedBlock[];
  readonly invokedAt: bigint;
  /** `undefined`: it may take effect at any later time. */
  readonly endedAt: bigint | undefined;
}

export interface ClaimedBlock {
  readonly key: string;
  readonly count: bigint;
  /** The block does not begin below this. */
  readonly from: bigint;
  /** It does not end above this. `undefined`: it may also lie above all that is known of the key. */
  readonly to: bigint | undefined;
}

export interface Placed<R> extends Gap {
  readonly claim: Claim<R>;
}

export interface Assignment<R> {
  readonly assigned: readonly Placed<R>[];
  /** Gaps without an explanation, together with those that depend on them. `exhausted`: all was tried, so there is none. */
  readonly unexplained: readonly { readonly gaps: readonly Gap[]; readonly tried: number; readonly exhausted: boolean }[];
}

/** Tiles the gaps exactly, or says which cannot be. At most `max` placements are tried for each set of gaps that depend on one another. */
export function assignGaps<R>(gaps: readonly Gap[], claims: readonly Claim<R>[], max: number): Assignment<R> {
  const assigned: Placed<R>[] = [];
  const unexplained: { gaps: readonly Gap[]; tried: number; exhausted: boolean }[] = [];
  for (const part of independentParts(gaps, claims)) {
    const search = new Search(part.gaps, part.claims, max);
    if (search.run()) assigned.push(...search.placed);
    else unexplained.push({ gaps: part.gaps, tried: search.tried, exhausted: search.tried < max });
  }
  return { assigned, unexplained };
}

interface Part<R> {
  readonly gaps: readonly Gap[];
  readonly claims: readonly Claim<R>[];
}

/** Gaps that no request could have filled both of, directly or through others, have nothing to do with each other: each crash is its own puzzle. */
function independentParts<R>(gaps: readonly Gap[], claims: readonly Claim<R>[]): readonly Part<R>[] {
  const parent = gaps.map((_, index) => index);
  const rootOf = (index: number): number => {
    let at = index;
    while (parent[at] !== undefined && parent[at] !== at) at = parent[at] ?? at;
    parent[index] = at;
    return at;
  };
  const indexes = new Map<string, number[]>();
  gaps.forEach(({ key }, index) => {
    indexes.set(key, [...(indexes.get(key) ?? []), index]);
  });
  const useful = claims.flatMap((claim) => {
    const reach: number[] = [];
    for (const block of claim.blocks) {
      const fitting = (indexes.get(block.key) ?? []).filter((index) => fits(block, gaps[index]));
      if (fitting.length === 0 && block.to !== undefined) return []; // this block is nowhere, so none of the others is anywhere
      reach.push(...fitting);
    }
    const [first] = reach;
    if (first === undefined) return [];
    for (const index of reach) parent[rootOf(index)] = rootOf(first);
    return [{ claim, index: first }];
  });
  const parts = new Map<number, { gaps: Gap[]; claims: Claim<R>[] }>();
  gaps.forEach((gap, index) => {
    const part = parts.get(rootOf(index)) ?? { gaps: [], claims: [] };
    part.gaps.push(gap);
    parts.set(rootOf(index), part);
  });
  for (const { claim, index } of useful) parts.get(rootOf(index))?.claims.push(claim);
  return [...parts.values()];
}

/** Nothing that is known of a key lies within a gap, so what bounds a block bounds it to whole gaps. */
function fits({ count, from, to }: ClaimedBlock, gap: Gap | undefined): boolean {
  return gap !== undefined && from <= gap.start && (to === undefined || gap.end <= to) && count <= gap.end - gap.start;
}

/** A gap during the search. */
interface OpenGap extends Gap {
  /** Values that are not explained so far. */
  left: bigint;
  /** By item: which sums the blocks of this item and of all later ones, as far as they fit, can make. Bit i stands for i values. */
  readonly reachable: readonly bigint[];
}

/** A request, and what of it concerns these gaps. */
interface Item<R> {
  readonly claim: Claim<R>;
  readonly blocks: readonly ClaimedBlock[];
  /** Alike for requests of which the earlier can stand wherever the later can. */
  readonly kind: string;
  /** For each block the gap that it stands in; `undefined`: above all that is known. Empty: the request had no effect. */
  readonly chosen: (number | undefined)[];
}

/** Of the items of one kind that were decided on: nothing is gained by choosing otherwise for a later one. */
interface KindState {
  /** The gap of the last one, where they have one block. */
  gap: number;
  isLeftOut: boolean;
}

/** Beyond so many values the sums of a gap are not looked at: that only prunes. */
const SUMS_MAX = 100_000n;

/**
 * Decides for one request after the other, in the order in which they were made, where it took effect: as early as possible, and not at all only if
 * nothing else leads anywhere, because that is what servers do. Gives up as soon as the values of some gap cannot add up any more.
 */
class Search<R> {
  tried = 0;
  readonly placed: Placed<R>[] = [];
  readonly #max: number;
  readonly #gaps: readonly OpenGap[];
  readonly #items: readonly Item<R>[];
  readonly #kinds = new Map<string, KindState>();
  /** Decisions after which the values cannot add up, whatever comes. */
  readonly #hopeless = new Set<string>();
  #arrangements = 0;

  constructor(gaps: readonly Gap[], claims: readonly Claim<R>[], max: number) {
    this.#max = max;
    const keys = new Set(gaps.map(({ key }) => key));
    this.#items = [...claims]
      .sort((a, b) => compare(a.invokedAt, b.invokedAt))
      .map((claim) => {
        const blocks = claim.blocks.filter(({ key }) => keys.has(key));
        const counts = blocks.map(({ key, count }) => `${count} ${JSON.stringify(key)}`);
        return { claim, blocks, kind: `${claim.endedAt} ${counts.join(" ")}`, chosen: [] };
      });
    this.#gaps = [...gaps]
      .sort((a, b) => compare(a.start, b.start))
      .map((gap) => ({ ...gap, left: gap.end - gap.start, reachable: this.#reachableIn(gap) }));
    for (const { kind } of this.#items) this.#kinds.set(kind, { gap: 0, isLeftOut: false });
  }

  run(): boolean {
    return this.#decide(0);
  }

  #reachableIn(gap: Gap): readonly bigint[] {
    const size = gap.end - gap.start;
    if (size > SUMS_MAX) return [];
    const reachable = [1n];
    for (const { blocks } of this.#items.toReversed()) {
      const fitting = blocks.filter((block) => block.key === gap.key && fits(block, gap));
      reachable.push(fitting.reduce((sums, { count }) => (sums | (sums << count)) & ((1n << (size + 1n)) - 1n), reachable.at(-1) ?? 1n));
    }
    return reachable.reverse();
  }

  /** Decides on the items from `index` on. */
  #decide(index: number): boolean {
    const canAddUp = this.#gaps.every(({ left, reachable }) => reachable[index] === undefined || ((reachable[index] >> left) & 1n) === 1n);
    if (!canAddUp) return false;
    const item = this.#items[index];
    if (item === undefined) return this.#gaps.every(({ left }) => left === 0n) && this.#arrange();
    const state = this.#stateAt(index);
    if (this.#hopeless.has(state)) return false;
    const arrangements = this.#arrangements;
    if (this.#choose(index, item, 0) || this.#leaveOut(index, item)) return true;
    if (this.tried < this.#max && this.#arrangements === arrangements) this.#hopeless.add(state);
    return false;
  }

  /** Chooses a gap for a block of the item, and for those behind it. */
  #choose(index: number, item: Item<R>, number: number): boolean {
    const kind = this.#kinds.get(item.kind);
    if (kind === undefined || kind.isLeftOut) return false;
    const block = item.blocks[number];
    if (block === undefined) return item.chosen.some((gap) => gap !== undefined) && this.#decide(index + 1);
    const before = kind.gap;
    const alone = item.blocks.length === 1;
    for (let at = alone ? before : 0; at < this.#gaps.length; at++) {
      const gap = this.#gaps[at];
      if (gap === undefined || gap.key !== block.key || gap.left < block.count || !fits(block, gap)) continue;
      if (this.tried >= this.#max) return false;
      this.tried += 1;
      gap.left -= block.count;
      if (alone) kind.gap = at;
      item.chosen.push(at);
      if (this.#choose(index, item, number + 1)) return true;
      item.chosen.pop();
      kind.gap = before;
      gap.left += block.count;
    }
    if (block.to !== undefined || alone) return false;
    item.chosen.push(undefined);
    if (this.#choose(index, item, number + 1)) return true;
    item.chosen.pop();
    return false;
  }

  #leaveOut(index: number, { kind: name }: Item<R>): boolean {
    const kind = this.#kinds.get(name);
    if (kind === undefined || this.tried >= this.#max) return false;
    this.tried += 1;
    const before = kind.isLeftOut;
    kind.isLeftOut = true;
    if (this.#decide(index + 1)) return true;
    kind.isLeftOut = before;
    return false;
  }

  /** All that the rest of the decisions depends on, but for the order within a gap. */
  #stateAt(index: number): string {
    const kinds = [...this.#kinds.values()].map(({ gap, isLeftOut }) => (isLeftOut ? "-" : gap));
    return `${index} ${this.#gaps.map(({ left }) => left).join()} ${kinds.join()}`;
  }

  /**
   * Fills each gap with what was chosen for it, in the order in which it was asked for: then nothing stands behind what was asked for only when it was
   * over. Between two gaps of a key that may still be so, and then the choice was wrong.
   */
  #arrange(): boolean {
    this.#arrangements += 1;
    const chosen = this.#gaps.map((): { readonly claim: Claim<R>; readonly count: bigint }[] => []);
    for (const { claim, blocks, chosen: gaps } of this.#items) {
      for (const [number, { count }] of blocks.entries()) chosen[gaps[number] ?? -1]?.push({ claim, count });
    }
    const placed: Placed<R>[] = [];
    const latest = new Map<string, bigint>();
    for (const [index, { key, start }] of this.#gaps.entries()) {
      let at = start;
      for (const { claim, count } of chosen[index] ?? []) {
        const asked = latest.get(key);
        if (asked !== undefined && claim.endedAt !== undefined && claim.endedAt < asked) return false;
        if (asked === undefined || asked < claim.invokedAt) latest.set(key, claim.invokedAt);
        placed.push({ key, start: at, end: at + count, claim });
        at += count;
      }
    }
    this.placed.push(...placed);
    return true;
  }
}
