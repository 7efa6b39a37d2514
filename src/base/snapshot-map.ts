import { invariant } from "./invariant.ts";

interface Slot<V> {
  value: V;
  /** The newest view that has read this, or need not. */
  seen: number;
}

/**
 * A map that can be frozen at a moment and read afterwards, a piece at a time, while it goes on changing. Freezing costs nothing, whatever the map's size; a change costs what it
 * did, and while a view is being read, memory for the value that the view has not read yet. Made for `StateMachine.capture()`.
 */
export class SnapshotMap<K, V> {
  readonly #slots = new Map<K, Slot<V>>();
  #views = 0;
  #open: View<K, V> | undefined;

  get size(): number {
    return this.#slots.size;
  }

  has(key: K): boolean {
    return this.#slots.has(key);
  }

  get(key: K): V | undefined {
    return this.#slots.get(key)?.value;
  }

  set(key: K, value: V): this {
    const slot = this.#slots.get(key);
    if (slot === undefined) {
      this.#slots.set(key, { value, seen: this.#views });
      return this;
    }
    this.#keep(key, slot);
    slot.value = value;
    return this;
  }

  delete(key: K): boolean {
    const slot = this.#slots.get(key);
    if (slot === undefined) return false;
    this.#keep(key, slot);
    return this.#slots.delete(key);
  }

  clear(): void {
    if (this.#open !== undefined) for (const [key, slot] of this.#slots) this.#keep(key, slot);
    this.#slots.clear();
  }

  keys(): IterableIterator<K> {
    return this.#slots.keys();
  }

  *values(): IterableIterator<V> {
    for (const { value } of this.#slots.values()) yield value;
  }

  *entries(): IterableIterator<[K, V]> {
    for (const [key, { value }] of this.#slots) yield [key, value];
  }

  [Symbol.iterator](): IterableIterator<[K, V]> {
    return this.entries();
  }

  /**
   * The entries as of now, in no particular order, to be read once. One view is open at a time: where another is, it is read to its end first, into memory.
   * `release` lets go of what it holds; a view that was read to its end holds nothing.
   */
  freeze(): FrozenEntries<K, V> {
    this.#open?.finish();
    this.#views += 1;
    const view: View<K, V> = new View(this.#slots, this.#views, () => {
      if (this.#open === view) this.#open = undefined;
    });
    this.#open = view;
    return view;
  }

  /** Before what stands there changes. */
  #keep(key: K, slot: Slot<V>): void {
    if (this.#open === undefined || slot.seen === this.#views) return;
    slot.seen = this.#views;
    this.#open.keep(key, slot.value);
  }
}

export interface FrozenEntries<K, V> extends Iterable<[K, V]> {
  release(): void;
}

class View<K, V> implements FrozenEntries<K, V> {
  readonly #number: number;
  readonly #onEnd: () => void;
  #rest: IterableIterator<[K, Slot<V>]> | undefined;
  /** As they were, of those that changed before they were read. */
  #kept: [K, V][] = [];
  #begun = false;

  constructor(slots: ReadonlyMap<K, Slot<V>>, number: number, onEnd: () => void) {
    this.#number = number;
    this.#onEnd = onEnd;
    this.#rest = slots.entries();
  }

  keep(key: K, value: V): void {
    this.#kept.push([key, value]);
  }

  *[Symbol.iterator](): Iterator<[K, V]> {
    invariant(!this.#begun, "a frozen map is read once");
    this.#begun = true;
    try {
      for (let next = this.#next(); next !== undefined; next = this.#next()) yield next;
    } finally {
      this.release();
    }
  }

  /** Reads all that is left into memory: nothing that changes from here on concerns it. */
  finish(): void {
    const left: [K, V][] = [];
    for (let next = this.#next(); next !== undefined; next = this.#next()) left.push(next);
    this.#rest = undefined;
    this.#kept = left;
    this.#onEnd();
  }

  release(): void {
    this.#rest = undefined;
    this.#kept = [];
    this.#onEnd();
  }

  #next(): [K, V] | undefined {
    for (let next = this.#rest?.next(); next !== undefined && next.done !== true; next = this.#rest?.next()) {
      const [key, slot] = next.value;
      if (slot.seen === this.#number) continue; // kept, or added since
      slot.seen = this.#number;
      return [key, slot.value];
    }
    return this.#kept.pop();
  }
}
