/** Where entries stand on disk: runs of records that lie next to each other, in the order of their slots. Sparse, so that it is small however long the log is. */
import { type Slot, slot } from "../../base/ids.ts";
import { invariant } from "../../base/invariant.ts";
import type { Entry } from "../core/entry.ts";
import type { PersistOp } from "../core/image.ts";
import type { OpAddress } from "./log-ops.ts";

/** Records of consecutive slots, one after the other. */
export interface Extent {
  readonly first: Slot;
  readonly last: Slot;
  readonly segment: number;
  /** In the segment's file. */
  readonly at: number;
  readonly bytes: number;
}

/** A run of records is split after this much, so that one entry can be read without megabytes of others. */
const EXTENT_BYTES = 64 * 1024;

export class Extents {
  /** Those before `#head` are gone. */
  #list: Extent[] = [];
  #head = 0;

  /** The oldest segment that holds an entry. */
  get oldestSegment(): number | undefined {
    return this.#list[this.#head]?.segment;
  }

  /** Operations that were written, each to its place. An append of slots that are there replaces them: it is the same frame in another segment. */
  note(ops: readonly PersistOp[], addresses: readonly OpAddress[]): void {
    for (const [index, op] of ops.entries()) {
      const address = addresses[index];
      invariant(address !== undefined, "every operation has a place");
      if (op.type === "install") {
        if (op.keepTail) this.compactThrough(op.point.slot);
        else this.#clear();
        continue;
      }
      const from = op.type === "truncate" ? op.from : op.entries[0]?.slot;
      if (from !== undefined) this.#truncateFrom(from);
      if (op.type === "append") this.#append(op.entries, address);
    }
  }

  #append(entries: readonly Entry[], { segment, recordsAt }: OpAddress): void {
    let at = recordsAt;
    let first = 0;
    let bytes = 0;
    for (const [index, entry] of entries.entries()) {
      bytes += entry.record.length;
      if (bytes < EXTENT_BYTES && index < entries.length - 1) continue;
      this.#push({ first: slot(entry.slot - (index - first)), last: entry.slot, segment, at, bytes });
      at += bytes;
      bytes = 0;
      first = index + 1;
    }
  }

  #clear(): void {
    this.#list = [];
    this.#head = 0;
  }

  #truncateFrom(from: Slot): void {
    for (let newest = this.#newest; newest !== undefined && newest.last >= from; newest = this.#newest) {
      this.#list.pop();
      if (newest.first < from) this.#list.push({ ...newest, last: slot(from - 1) }); // its bytes hold more, which nobody asks for
    }
  }

  /** Forgets what lies wholly at or before `through`. */
  compactThrough(through: Slot): void {
    while ((this.#list[this.#head]?.last ?? Number.POSITIVE_INFINITY) <= through) this.#head += 1;
    if (this.#head * 2 <= this.#list.length) return;
    this.#list = this.#list.slice(this.#head);
    this.#head = 0;
  }

  /** The one that holds `at`. */
  find(at: Slot): Extent | undefined {
    let low = this.#head;
    let high = this.#list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const extent = this.#list[middle];
      if (extent === undefined || extent.last >= at) high = middle;
      else low = middle + 1;
    }
    const found = this.#list[low];
    return found !== undefined && found.first <= at ? found : undefined;
  }

  #push(extent: Extent): void {
    const newest = this.#newest;
    invariant(newest === undefined || extent.first === newest.last + 1, "the index of the log has no hole", { newest, first: extent.first });
    this.#list.push(extent);
  }

  get #newest(): Extent | undefined {
    return this.#list.length > this.#head ? this.#list.at(-1) : undefined;
  }
}
