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

function fits({ count, from, to }: ClaimedBlock, gap: Gap | undefined): boolean {
  if (gap === undefined) return false;
  const start = from > gap.start ? from : gap.start;
  const end = to !== undefined && to < gap.end ? to : gap.end;
  return start + count <= end;
}

/** A block that may, or must, stand in some gap of one key. */
interface Tile<R> extends ClaimedBlock {
  readonly claim: Claim<R>;
  readonly isRequired: boolean;
}

/** A request for several of the keys, and what it takes on each. */
interface Batch<R> {
  readonly blocks: ReadonlyMap<string, Tile<R>>;
  isUsed: boolean;
}

/** The gaps of one key, and the requests that touch no other. */
interface KeyPuzzle<R> {
  readonly key: string;
  readonly gaps: readonly Gap[];
  readonly size: bigint;
  readonly singles: readonly Tile<R>[];
  /** Bit i: some of the singles hold i values together. */
  readonly singleSums: bigint;
  /** What was found for each choice among the batches that touch this key. */
  readonly found: Map<string, readonly Placed<R>[] | undefined>;
}

/** Beyond so many values the sums of a key are not looked at: that only prunes. */
const SUMS_MAX = 100_000n;

/**
 * Chooses the batches that took effect first: with that, each key is a puzzle of its own. A choice is given up as soon as the values of some key cannot
 * add up any more.
 */
class Search<R> {
  tried = 0;
  readonly placed: Placed<R>[] = [];
  readonly #max: number;
  readonly #keys: readonly KeyPuzzle<R>[];
  readonly #batches: readonly Batch<R>[];

  constructor(gaps: readonly Gap[], claims: readonly Claim<R>[], max: number) {
    this.#max = max;
    const keys = new Set(gaps.map(({ key }) => key));
    const tiles = [...claims]
      .sort((a, b) => compare(a.invokedAt, b.invokedAt)) // what came last is the first to be left out
      .map((claim) =>
        claim.blocks.filter(({ key }) => keys.has(key)).map((block): Tile<R> => ({ ...block, claim, isRequired: block.to !== undefined })),
      );
    this.#batches = tiles
      .filter((blocks) => blocks.length > 1)
      .map((blocks) => ({ blocks: new Map(blocks.map((block) => [block.key, block])), isUsed: false }));
    const singles = tiles.filter((blocks) => blocks.length === 1).flat();
    this.#keys = [...keys].map((key) => {
      const own = gaps.filter((gap) => gap.key === key).sort((a, b) => compare(a.start, b.start));
      const alone = singles.filter((tile) => tile.key === key).map((tile) => ({ ...tile, isRequired: false }));
      const size = own.reduce((sum, { start, end }) => sum + end - start, 0n);
      const singleSums = alone.reduce((sums, { count }) => withSum(sums, count, size), 1n);
      return { key, gaps: own, size, singles: alone, singleSums, found: new Map() };
    });
  }

  run(): boolean {
    return this.#choose(0);
  }

  /** Decides on the batches from `index` on. */
  #choose(index: number): boolean {
    if (!this.#keys.every((puzzle) => this.#canAddUp(puzzle, index))) return false;
    const batch = this.#batches[index];
    if (batch === undefined) return this.#tileAll();
    for (const isUsed of [true, false]) {
      if (this.tried >= this.#max) return false;
      this.tried += 1;
      batch.isUsed = isUsed;
      if (this.#choose(index + 1)) return true;
    }
    return false;
  }

  /** Whether some of what is not decided on, with what is, holds as many values as are missing. */
  #canAddUp({ key, size, singleSums }: KeyPuzzle<R>, decided: number): boolean {
    if (size > SUMS_MAX) return true;
    let sums = singleSums;
    this.#batches.forEach(({ blocks, isUsed }, index) => {
      const block = blocks.get(key);
      if (block === undefined || (index < decided && !isUsed)) return;
      sums = index < decided && block.isRequired ? sums << block.count : withSum(sums, block.count, size);
    });
    return ((sums >> size) & 1n) === 1n;
  }

  #tileAll(): boolean {
    const all: Placed<R>[] = [];
    for (const puzzle of this.#keys) {
      const touching = this.#batches.filter(({ blocks }) => blocks.has(puzzle.key));
      const choice = touching.map(({ isUsed }) => (isUsed ? "1" : "0")).join("");
      if (!puzzle.found.has(choice)) {
        const chosen = touching.flatMap(({ blocks, isUsed }) => (isUsed ? [...blocks.values()].filter(({ key }) => key === puzzle.key) : []));
        puzzle.found.set(choice, this.#tile(puzzle, chosen));
      }
      const found = puzzle.found.get(choice);
      if (found === undefined) return false;
      all.push(...found);
    }
    this.placed.push(...all);
    return true;
  }

  /** Fills the gaps of one key from left to right, and takes back what leads nowhere. */
  #tile({ gaps, singles }: KeyPuzzle<R>, chosen: readonly Tile<R>[]): readonly Placed<R>[] | undefined {
    const tiles = [...chosen, ...singles].sort(byUrgency);
    const used = new Set<number>();
    const placed: Placed<R>[] = [];
    const hopeless = new Set<string>();
    /** `latest`: the latest time at which a request placed before was made. */
    const fill = (index: number, at: bigint, latest: bigint | undefined): boolean => {
      const gap = gaps[index];
      if (gap === undefined) return tiles.every(({ isRequired }, tile) => !isRequired || used.has(tile));
      if (at === gap.end) return fill(index + 1, gaps[index + 1]?.start ?? 0n, latest);
      const state = `${index} ${at} ${[...used].sort((a, b) => a - b).join()}`;
      if (hopeless.has(state)) return false;
      const failed: Tile<R>[] = [];
      for (const [number, tile] of tiles.entries()) {
        const { claim, count } = tile;
        if (used.has(number) || !mayStand(tile, at, gap)) continue;
        if (latest !== undefined && claim.endedAt !== undefined && claim.endedAt < latest) continue; // it was over before that one began
        if (failed.some((other) => replaces(other, tile))) continue;
        if (this.tried >= this.#max) return false;
        this.tried += 1;
        used.add(number);
        placed.push({ key: gap.key, start: at, end: at + count, claim });
        if (fill(index, at + count, latest !== undefined && latest > claim.invokedAt ? latest : claim.invokedAt)) return true;
        placed.pop();
        used.delete(number);
        failed.push(tile);
      }
      hopeless.add(state);
      return false;
    };
    return fill(0, gaps[0]?.start ?? 0n, undefined) ? placed : undefined;
  }
}

/** The sums that can be made, with one more number that may be added. */
function withSum(sums: bigint, count: bigint, max: bigint): bigint {
  return max > SUMS_MAX ? sums : (sums | (sums << count)) & ((1n << (max + 1n)) - 1n);
}

function mayStand({ count, from, to }: ClaimedBlock, at: bigint, gap: Gap): boolean {
  const end = at + count;
  return end <= gap.end && at >= from && (to === undefined || end <= to);
}

/** What must be there first; then what must be over soonest, then what is large: the small ones fill what is left. */
function byUrgency<R>(a: Tile<R>, b: Tile<R>): number {
  if (a.isRequired !== b.isRequired) return a.isRequired ? -1 : 1;
  const [x, y] = [a.claim.endedAt, b.claim.endedAt];
  if (x === y) return compare(b.count, a.count) || compare(a.claim.invokedAt, b.claim.invokedAt);
  if (x === undefined) return 1;
  return y === undefined ? -1 : compare(x, y);
}

/** Whether a solution with `b` here is also one with `a` in its place: then, where `a` led nowhere, `b` does too. */
function replaces<R>(a: Tile<R>, b: Tile<R>): boolean {
  return a.count === b.count && a.isRequired === b.isRequired && a.claim.endedAt === b.claim.endedAt && a.claim.invokedAt <= b.claim.invokedAt;
}
