/**
 * The log as the rules see it: the origin of every slot, in runs, and the entries themselves from `cachedFrom` on. Everything after what is decided is always
 * in memory; facts are kept as long as there is room, for peers that are a little behind.
 */
import { type Slot, slot } from "../../base/ids.ts";
import { InvariantViolation } from "../../base/invariant.ts";
import { BALLOT_ZERO, type Ballot, compareBallots, sameBallot } from "./ballot.ts";
import type { OriginRun, Recovered } from "./effects.ts";
import type { Entry } from "./entry.ts";
import type { LogPoint } from "./snapshot.ts";

export class EntryLog {
  #begin: LogPoint;
  #runs: OriginRun[];
  /** `#cache[0]` is the entry at `#cachedFrom`; empty only while the log is. */
  #cache: Entry[];
  #cachedFrom: Slot;
  #cachedBytes = 0;
  #last: Slot;

  constructor({ image, runs, tail }: Recovered) {
    this.#begin = { slot: image.compactedThrough, origin: image.compactedOrigin, chain: image.compactedChain };
    this.#runs = [...runs];
    this.#cache = [...tail];
    this.#cachedFrom = tail[0]?.slot ?? slot(image.last + 1);
    this.#last = image.last;
    for (const entry of tail) this.#cachedBytes += entry.record.length;
    const whole = this.#cachedFrom <= Math.max(image.decidedThrough, image.compactedThrough + 1) && this.#cachedFrom + tail.length - 1 === image.last;
    if (!whole) throw new InvariantViolation("a recovered log is there from the last decided entry on", { from: this.#cachedFrom, last: image.last });
  }

  /** The log begins after this one. */
  get begin(): LogPoint {
    return this.#begin;
  }

  get compactedThrough(): Slot {
    return this.#begin.slot;
  }

  get last(): Slot {
    return this.#last;
  }

  get lastOrigin(): Ballot {
    return this.originAt(this.#last);
  }

  get lastChain(): number {
    const chain = this.chainAt(this.#last);
    if (chain === undefined) throw new InvariantViolation("the end of the log is in memory", { last: this.#last });
    return chain;
  }

  get runs(): readonly OriginRun[] {
    return this.#runs;
  }

  get cachedFrom(): Slot {
    return this.#cachedFrom;
  }

  get cachedEntries(): number {
    return this.#cache.length;
  }

  /** Of records. */
  get cachedBytes(): number {
    return this.#cachedBytes;
  }

  /** Of a slot in the log; zero before the first. */
  originAt(at: Slot): Ballot {
    if (at === 0) return BALLOT_ZERO;
    if (at === this.#begin.slot) return this.#begin.origin;
    if (at > this.#last || at < this.compactedThrough)
      throw new InvariantViolation("an origin is asked for a slot of the log", { at, last: this.#last });
    for (let index = this.#runs.length - 1; index >= 0; index--) {
      const run = this.#runs[index];
      if (run !== undefined && run.from <= at) return run.origin;
    }
    throw new InvariantViolation("every slot of the log has an origin", { at });
  }

  /** Whether this log holds the entry of that origin at `at`. What is compacted is decided, and agrees with whatever else is. */
  agrees(at: Slot, origin: Ballot): boolean {
    return at < this.compactedThrough || (at <= this.#last && sameBallot(this.originAt(at), origin));
  }

  /** From memory. */
  entryAt(at: Slot): Entry | undefined {
    return this.#cache[at - this.#cachedFrom];
  }

  /** Undefined where memory does not reach. */
  chainAt(at: Slot): number | undefined {
    if (at === 0) return 0;
    return at === this.#begin.slot ? this.#begin.chain : this.entryAt(at)?.chain;
  }

  append(entry: Entry): void {
    if (entry.slot !== this.#last + 1) throw new InvariantViolation("the log has no hole", { last: this.#last, slot: entry.slot });
    const last = this.lastOrigin;
    const order = compareBallots(entry.origin, last);
    if (order < 0)
      throw new InvariantViolation("origins never go down along the log (INV-4)", { slot: entry.slot, before: last, origin: entry.origin });
    if (order > 0 || this.#runs.length === 0) this.#runs.push({ from: entry.slot, origin: entry.origin });
    this.#cache.push(entry);
    this.#cachedBytes += entry.record.length;
    this.#last = entry.slot;
  }

  /** S4. Lets go of everything through `point`, an entry of this log. */
  compact(point: LogPoint): void {
    if (point.slot < this.#begin.slot || !sameBallot(this.originAt(point.slot), point.origin))
      throw new InvariantViolation("a log is compacted through an entry of its own", { begin: this.#begin, point });
    const chain = this.chainAt(point.slot);
    if (chain !== undefined && chain !== point.chain) throw new InvariantViolation("a snapshot is of this very log", { chain, point });
    this.#begin = point;
    if (point.slot >= this.#cachedFrom) this.#dropCached(point.slot + 1 - this.#cachedFrom);
    if (this.#cache.length === 0) this.#cachedFrom = slot(this.#last + 1);
    const run = this.#runs.findLastIndex(({ from }) => from <= point.slot + 1);
    this.#runs = point.slot === this.#last ? [] : this.#runs.slice(Math.max(0, run));
  }

  /** S2. Begins after `point`, whatever stood there; what follows stays only if it follows that very entry. */
  install(point: LogPoint, keepTail: boolean): void {
    if (keepTail) return this.compact(point);
    this.#begin = point;
    this.#runs = [];
    this.#cache = [];
    this.#cachedBytes = 0;
    this.#last = point.slot;
    this.#cachedFrom = slot(point.slot + 1);
  }

  /** Removes `from` and everything after it. */
  truncateFrom(from: Slot): void {
    if (from <= this.compactedThrough || from < this.#cachedFrom) throw new InvariantViolation("only what is in memory is removed", { from });
    for (const entry of this.#cache.splice(from - this.#cachedFrom)) this.#cachedBytes -= entry.record.length;
    while ((this.#runs.at(-1)?.from ?? 0) >= from) this.#runs.pop();
    this.#last = slot(from - 1);
  }

  /** Entries after `after`, through `through` at most, as many as fit `maxBytes` but at least one. They must be in memory. */
  slice(after: Slot, through: Slot, maxBytes: number): readonly Entry[] {
    const first = after + 1 - this.#cachedFrom;
    if (first < 0) throw new InvariantViolation("what is sent is in memory", { after, cachedFrom: this.#cachedFrom });
    let bytes = 0;
    let end = first;
    for (; end <= through - this.#cachedFrom; end++) {
      bytes += this.#cache[end]?.record.length ?? 0;
      if (bytes > maxBytes && end > first) break;
    }
    return this.#cache.slice(first, end);
  }

  /** Of the records after `after` through `through`, in memory. */
  bytesBetween(after: Slot, through: Slot): number {
    let bytes = 0;
    for (let at = after + 1; at <= through; at++) bytes += this.#cache[at - this.#cachedFrom]?.record.length ?? 0;
    return bytes;
  }

  /**
   * Lets go of entries before `before` where more than `maxBytes` are held, the objects around the records counted. What stays is moved, so an eighth goes at once, and
   * nothing while little may go.
   */
  evict(before: Slot, maxBytes: number): void {
    const evictable = before - this.#cachedFrom;
    let held = this.#cachedBytes + this.#cache.length * ENTRY_BYTES;
    if (held <= maxBytes || evictable * 16 < this.#cache.length) return;
    let count = 0;
    for (; count < evictable && held > maxBytes * KEPT; count++) held -= (this.#cache[count]?.record.length ?? 0) + ENTRY_BYTES;
    this.#dropCached(count);
  }

  #dropCached(count: number): void {
    for (let index = 0; index < count; index++) this.#cachedBytes -= this.#cache[index]?.record.length ?? 0;
    this.#cache = this.#cache.slice(count);
    this.#cachedFrom = slot(this.#cachedFrom + count);
  }
}

/** Of `maxBytes`, after an eviction. */
const KEPT = 7 / 8;

/** Heap of an entry beside its record's bytes, measured: an object, two views, a buffer, a ballot. */
const ENTRY_BYTES = 512;
