/**
 * Whether what callers saw of a key-value store could have come from one copy of it that does one thing at a time (protocol, 7.4). Each key holds a list: `write`
 * replaces it by one value, `append` adds one, `read` shows it. Exact, after Wing and Gong, with Lowe's memory of where the search has been.
 *
 * What makes it fast: a list that no later read shows, even in part, is as good as any other such list. So the search walks the tree of prefixes that reads have
 * shown, and everything beside it is one state, "unseen". An update without an answer is tried only where some read still needs what it makes.
 */
import { invariant } from "../base/invariant.ts";

export interface KeyOperation {
  readonly key: string;
  readonly type: "write" | "append" | "read";
  /** Of a write or an append. */
  readonly value?: string | undefined;
  /** Of a read: the whole list. */
  readonly result?: readonly string[] | undefined;
  readonly invokedAt: number;
  /** Absent: nobody knows. An update may take effect at any time after it was asked for, or never. */
  readonly returnedAt?: number | undefined;
}

export type LinearizabilityVerdict =
  | { readonly type: "linearizable" }
  /** `excerpt`: operations of this key that no order explains; without any one of them there is one, or the search for it was given up. */
  | { readonly type: "violation"; readonly key: string; readonly excerpt: readonly KeyOperation[] }
  /** The search for these keys was given up. */
  | { readonly type: "undecided"; readonly keys: readonly string[] };

export interface LinearizabilityOptions {
  /** Updates placed, for one key, before the search is given up. @defaultValue 200000 */
  readonly stepsMax?: number | undefined;
}

/** What failed for certain does not belong in `history`. */
export function checkLinearizability(history: readonly KeyOperation[], { stepsMax = 200_000 }: LinearizabilityOptions = {}): LinearizabilityVerdict {
  const keys = new Map<string, KeyOperation[]>();
  for (const operation of history) {
    const { key, invokedAt, returnedAt = Number.POSITIVE_INFINITY } = operation;
    invariant(returnedAt >= invokedAt, "an operation returns after it was invoked", { ...operation });
    const same = keys.get(key);
    if (same === undefined) keys.set(key, [operation]);
    else same.push(operation);
  }
  const undecided: string[] = [];
  for (const [key, operations] of keys) {
    const found = search(operations, stepsMax);
    if (found === "no") return { type: "violation", key, excerpt: excerptOf(operations, Math.min(stepsMax, EXCERPT_STEPS_MAX)) };
    if (found === "undecided") undecided.push(key);
  }
  return undecided.length === 0 ? { type: "linearizable" } : { type: "undecided", keys: undecided };
}

/** A line for each operation, for people. */
export function historyText(operations: readonly KeyOperation[]): string {
  return operations
    .map(({ key, type, value, result, invokedAt, returnedAt }) => {
      const what = type === "read" ? `read -> [${result?.join(", ") ?? "?"}]` : `${type} ${value}`;
      return `${invokedAt} to ${returnedAt ?? "?"}: ${key} ${what}`;
    })
    .join("\n");
}

/** Of each search that only makes an excerpt shorter. */
const EXCERPT_STEPS_MAX = 500;

/** Cuts the history where it first goes wrong, then leaves out what is not needed for that. Both only make it easier to explain, so what is left proves the whole. */
function excerptOf(operations: readonly KeyOperation[], stepsMax: number): readonly KeyOperation[] {
  const violates = (some: readonly KeyOperation[]): boolean => search(some, stepsMax) === "no";
  const ends = operations.flatMap(({ returnedAt }) => (returnedAt === undefined ? [] : [returnedAt])).toSorted((a, b) => a - b);
  let [low, high] = [0, ends.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (violates(asOf(operations, ends[middle] ?? 0))) high = middle;
    else low = middle + 1;
  }
  let rest = asOf(operations, ends[high] ?? 0);
  if (!violates(rest)) rest = [...operations]; // the searches were given up, so the cut proves nothing
  for (const operation of rest.toSorted((a, b) => a.invokedAt - b.invokedAt)) {
    // An update may be missed only where nobody saw it: else its absence would be what cannot be explained.
    const seen = operation.type !== "read" && rest.some(({ result }) => result?.includes(operation.value ?? ""));
    const without = rest.filter((other) => other !== operation);
    if (!seen && violates(without)) rest = without;
  }
  return rest.toSorted((a, b) => a.invokedAt - b.invokedAt);
}

/** What was known of the history at `time`. */
function asOf(operations: readonly KeyOperation[], time: number): KeyOperation[] {
  return operations
    .filter(({ invokedAt }) => invokedAt <= time)
    .map((operation) => ((operation.returnedAt ?? 0) > time ? { ...operation, returnedAt: undefined } : operation));
}

/** A list that some read has shown, or the beginning of one. */
interface Prefix {
  readonly id: number;
  readonly parent: Prefix | undefined;
  readonly value: string;
  readonly children: Map<string, Prefix>;
  /** Reads not yet placed that show this list or a longer one. */
  needed: number;
}

interface Operation {
  readonly type: KeyOperation["type"];
  readonly value: string;
  readonly invokedAt: number;
  /** Infinite where it is not known. */
  readonly returnedAt: number;
  /** Of a read. */
  readonly shows: Prefix | undefined;
  placed: boolean;
}

type Found = "yes" | "no" | "undecided";

function search(history: readonly KeyOperation[], stepsMax: number): Found {
  return new Search(history, stepsMax).run();
}

class Search {
  /** Answered, in the order in which they were invoked. */
  readonly #answered: Operation[] = [];
  /** Updates without an answer, in the order in which they were invoked. */
  readonly #open: Operation[] = [];
  readonly #empty: Prefix = { id: 0, parent: undefined, value: "", children: new Map(), needed: 0 };
  /** How many prefixes that are needed end with this value. */
  readonly #endsNeeded = new Map<string, number>();
  readonly #visited = new Set<string>();
  #prefixes = 1;
  #readsLeft = 0;
  #writesLeft = 0;
  /** Every answered operation before this place is placed. */
  #first = 0;
  #stepsLeft: number;

  constructor(history: readonly KeyOperation[], stepsMax: number) {
    this.#stepsLeft = stepsMax;
    for (const { type, value = "", result, invokedAt, returnedAt = Number.POSITIVE_INFINITY } of history.toSorted(
      (a, b) => a.invokedAt - b.invokedAt,
    )) {
      const answered = returnedAt < Number.POSITIVE_INFINITY;
      if (type === "read" && (!answered || result === undefined)) continue; // it shows nothing, and changes nothing
      const shows = type === "read" ? this.#prefixOf(result ?? []) : undefined;
      (answered ? this.#answered : this.#open).push({ type, value, invokedAt, returnedAt, shows, placed: false });
      if (type === "write") this.#writesLeft += 1;
      if (shows !== undefined) this.#need(shows, 1);
    }
  }

  run(): Found {
    const found = this.#explore(this.#empty);
    if (found) return "yes";
    return this.#stepsLeft > 0 ? "no" : "undecided";
  }

  /** Whether the rest can be placed, beginning with this list. `undefined`: a list that no read left shows, even in part. */
  #explore(from: Prefix | undefined): boolean {
    const trail: Operation[] = [];
    const firstBefore = this.#first;
    const at = this.#settle(from, trail);
    if (this.#readsLeft === 0) return true; // what is left are updates that nobody saw: any order of them that real time allows
    if (this.#canSucceed(at) && this.#isNew(at)) {
      const deadline = this.#deadline();
      for (let i = this.#first; i < this.#answered.length; i++) {
        const operation = this.#answered[i];
        if (operation === undefined || operation.invokedAt > deadline) break;
        if (operation.placed || operation.type === "read") continue;
        if (this.#try(operation, at)) return true;
      }
      for (const operation of this.#open) {
        if (operation.invokedAt > deadline) break;
        // Where it makes nothing that is needed, leaving it out explains as much.
        if (!operation.placed && this.#after(operation, at) !== undefined && this.#try(operation, at)) return true;
      }
    }
    for (let i = trail.length - 1; i >= 0; i--) this.#unplace(trail[i]);
    this.#first = firstBefore;
    return false;
  }

  #try(operation: Operation, at: Prefix | undefined): boolean {
    if (this.#stepsLeft <= 0) return false;
    this.#stepsLeft -= 1;
    const firstBefore = this.#first;
    const trail: Operation[] = [];
    // A write hides what was just before it: all updates that nobody will see, and that may come now, are best hidden there.
    if (operation.type === "write") this.#hide(operation, trail);
    const next = this.#after(operation, at);
    this.#place(operation);
    trail.push(operation);
    if (this.#explore(next)) return true;
    for (let i = trail.length - 1; i >= 0; i--) this.#unplace(trail[i]);
    this.#first = firstBefore;
    return false;
  }

  /** Places what is never better placed later: reads that show this very list and, where the list is unseen, updates that are unseen as well. @returns the list, as it is needed afterwards. */
  #settle(from: Prefix | undefined, trail: Operation[]): Prefix | undefined {
    let at = from;
    for (let again = true; again; ) {
      again = false;
      if (at !== undefined && at.needed === 0) at = undefined;
      const deadline = this.#deadline();
      for (let i = this.#first; i < this.#answered.length; i++) {
        const operation = this.#answered[i];
        if (operation === undefined || operation.invokedAt > deadline) break;
        if (operation.placed) continue;
        const now = operation.type === "read" ? at !== undefined && operation.shows === at : at === undefined && this.#isUnseen(operation);
        if (!now) continue;
        this.#place(operation);
        trail.push(operation);
        again = true;
      }
    }
    return at;
  }

  #hide(before: Operation, trail: Operation[]): void {
    for (let again = true; again; ) {
      again = false;
      const deadline = Math.min(this.#deadline(), before.returnedAt);
      for (let i = this.#first; i < this.#answered.length; i++) {
        const operation = this.#answered[i];
        if (operation === undefined || operation.invokedAt > deadline) break;
        if (operation.placed || operation === before || operation.type === "read" || !this.#isUnseen(operation)) continue;
        this.#place(operation);
        trail.push(operation);
        again = true;
      }
    }
  }

  /** Nothing that was invoked later may be placed next: something has returned before. */
  #deadline(): number {
    while (this.#answered[this.#first]?.placed === true) this.#first += 1;
    let deadline = Number.POSITIVE_INFINITY;
    for (let i = this.#first; i < this.#answered.length; i++) {
      const operation = this.#answered[i];
      if (operation === undefined || operation.invokedAt > deadline) break;
      if (!operation.placed && operation.returnedAt < deadline) deadline = operation.returnedAt;
    }
    return deadline;
  }

  /** Without a write, a list only grows: every read that is left must show more of it. */
  #canSucceed(at: Prefix | undefined): boolean {
    return this.#writesLeft > 0 || (at !== undefined && at.needed === this.#readsLeft);
  }

  #isNew(at: Prefix | undefined): boolean {
    let key = `${at?.id ?? -1}/${this.#first}`;
    const deadline = this.#lastPlaced();
    for (let i = this.#first; i <= deadline; i++) if (this.#answered[i]?.placed === true) key += `,${i - this.#first}`;
    key += "/";
    for (let i = 0; i < this.#open.length; i++) if (this.#open[i]?.placed === true) key += `${i},`;
    if (this.#visited.has(key)) return false;
    this.#visited.add(key);
    return true;
  }

  /** What is placed lies before the first operation that may not be placed yet. */
  #lastPlaced(): number {
    const limit = this.#answered[this.#first]?.returnedAt ?? 0;
    let last = this.#first;
    while (last + 1 < this.#answered.length && (this.#answered[last + 1]?.invokedAt ?? 0) <= limit) last += 1;
    return last;
  }

  /** The list after `operation`, if some read that is left needs it. */
  #after({ type, value }: Operation, at: Prefix | undefined): Prefix | undefined {
    const next = (type === "write" ? this.#empty : at)?.children.get(value);
    return next !== undefined && next.needed > 0 ? next : undefined;
  }

  /** Whatever list it is placed on, no read that is left needs what comes out. */
  #isUnseen(operation: Operation): boolean {
    if (operation.type === "write") return this.#after(operation, undefined) === undefined;
    return (this.#endsNeeded.get(operation.value) ?? 0) === 0;
  }

  #place(operation: Operation): void {
    operation.placed = true;
    if (operation.type === "write") this.#writesLeft -= 1;
    if (operation.shows !== undefined) this.#need(operation.shows, -1);
  }

  #unplace(operation: Operation | undefined): void {
    if (operation === undefined) return;
    operation.placed = false;
    if (operation.type === "write") this.#writesLeft += 1;
    if (operation.shows !== undefined) this.#need(operation.shows, 1);
  }

  #need(shows: Prefix, by: 1 | -1): void {
    this.#readsLeft += by;
    for (let prefix: Prefix | undefined = shows; prefix !== undefined; prefix = prefix.parent) {
      prefix.needed += by;
      const changed = by === 1 ? prefix.needed === 1 : prefix.needed === 0;
      if (changed && prefix.parent !== undefined) this.#endsNeeded.set(prefix.value, (this.#endsNeeded.get(prefix.value) ?? 0) + by);
    }
  }

  #prefixOf(list: readonly string[]): Prefix {
    let prefix = this.#empty;
    for (const value of list) {
      let next = prefix.children.get(value);
      if (next === undefined) {
        next = { id: this.#prefixes, parent: prefix, value, children: new Map(), needed: 0 };
        this.#prefixes += 1;
        prefix.children.set(value, next);
      }
      prefix = next;
    }
    return prefix;
  }
}
