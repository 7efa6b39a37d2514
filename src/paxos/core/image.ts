/**
 * The image: all durable state of a node but the entries themselves. Three versions of it exist: the one that the rules change, the ones on their way to the disk,
 * and the one the disk has acknowledged. An answer that vouches for the disk is computed from the last, and from nothing else (rules W1 and W2).
 */
import { minSlot, type Slot, slot } from "../../base/ids.ts";
import { InvariantViolation } from "../../base/invariant.ts";
import { type Ballot, compareBallots } from "./ballot.ts";
import type { Configuration } from "./configuration.ts";
import type { Entry } from "./entry.ts";
import type { LogPoint } from "./snapshot.ts";

export interface Image {
  /** The highest ballot promised. */
  readonly promised: Ballot;
  /** The ballot of the last Sync or adoption: whose log this is, beyond what is decided. At most `promised`. */
  readonly accepted: Ballot;
  readonly last: Slot;
  readonly lastOrigin: Ballot;
  readonly lastChain: number;
  /** Known to be decided; may lag behind what is. */
  readonly decidedThrough: Slot;
  /** As of `decidedThrough`. */
  readonly configuration: Configuration;
  /** Counts removals of entries that no ballot explains (rule I3). */
  readonly cut: number;
  /** The log begins after this slot. */
  readonly compactedThrough: Slot;
  readonly compactedOrigin: Ballot;
  readonly compactedChain: number;
}

export type PersistOp =
  | { readonly type: "truncate"; readonly from: Slot; readonly last: Slot }
  | { readonly type: "append"; readonly entries: readonly Entry[] }
  /** The log begins after `point`, which a snapshot covers: what stood there goes, and what follows too, unless it follows that very entry (rule S2). */
  | { readonly type: "install"; readonly point: LogPoint; readonly keepTail: boolean };

/** Atomic: on disk as a whole or not at all. */
export interface PersistBatch {
  /** From 1 up, no gap, in each process. */
  readonly seq: number;
  /** After the operations. */
  readonly image: Image;
  readonly ops: readonly PersistOp[];
}

/** Consecutive batches as one. */
export function mergeBatches(batches: readonly PersistBatch[]): PersistBatch | undefined {
  const newest = batches.at(-1);
  if (newest === undefined || batches.length === 1) return newest;
  return { seq: newest.seq, image: newest.image, ops: batches.flatMap(({ ops }) => ops) };
}

interface InFlight {
  readonly seq: number;
  readonly image: Image;
  readonly sinceTick: number;
  /** Of the records. */
  readonly bytes: number;
  /** What no operation of the batch removes. */
  readonly keeps: Slot;
}

/** All that a queue holds; nothing in it changes. */
export interface ImageQueueContents {
  readonly durable: Image;
  readonly inFlight: readonly InFlight[];
  readonly seq: number;
}

/** The images in flight, in order, and the durable one. `durable` is assigned in `acknowledge` only. */
export class ImageQueue {
  #durable: Image;
  #inFlight: InFlight[] = [];
  #bytes = 0;
  #seq = 0;

  constructor(durable: Image) {
    this.#durable = durable;
  }

  static of({ durable, inFlight, seq }: ImageQueueContents): ImageQueue {
    const queue = new ImageQueue(durable);
    queue.#inFlight = [...inFlight];
    queue.#bytes = inFlight.reduce((sum, { bytes }) => sum + bytes, 0);
    queue.#seq = seq;
    return queue;
  }

  get contents(): ImageQueueContents {
    return { durable: this.#durable, inFlight: [...this.#inFlight], seq: this.#seq };
  }

  get durable(): Image {
    return this.#durable;
  }

  /** Handed out, and not acknowledged: oldest first. */
  get pending(): readonly { readonly image: Image; readonly keeps: Slot }[] {
    return this.#inFlight;
  }

  /** Whether memory is ahead of the disk. */
  get inFlight(): boolean {
    return this.#inFlight.length > 0;
  }

  /** Of the records on their way to the disk. */
  get bytesInFlight(): number {
    return this.#bytes;
  }

  /** When the oldest image was handed out that the disk has not acknowledged. */
  get oldestSinceTick(): number | undefined {
    return this.#inFlight[0]?.sinceTick;
  }

  /** Through here the disk holds what memory holds. Beyond it, an end that is being replaced may still stand there: it is in `durable.last`, and is no longer the log. */
  get storedThrough(): Slot {
    let through = this.#durable.last;
    for (const { keeps } of this.#inFlight) through = minSlot(through, keeps);
    return through;
  }

  /** @returns the batch's number. */
  handOut(image: Image, ops: readonly PersistOp[], { tick, bytes }: { readonly tick: number; readonly bytes: number }): number {
    assertFollows(this.#inFlight.at(-1)?.image ?? this.#durable, image);
    this.#seq += 1;
    let keeps = image.last;
    for (const op of ops) keeps = minSlot(keeps, keptBy(op));
    this.#inFlight.push({ seq: this.#seq, image, sinceTick: tick, bytes, keeps });
    this.#bytes += bytes;
    return this.#seq;
  }

  /** Everything through `seq` is on the disk. */
  acknowledge(seq: number): void {
    const index = this.#inFlight.findIndex((entry) => entry.seq === seq);
    const entry = this.#inFlight[index];
    if (entry === undefined)
      throw new InvariantViolation("a completed write is one that is in flight", { seq, inFlight: this.#inFlight.map((i) => i.seq) });
    this.#durable = entry.image;
    for (const done of this.#inFlight.splice(0, index + 1)) this.#bytes -= done.bytes;
  }
}

/** Through here an operation leaves what stood there. */
export function keptBy(op: PersistOp): Slot {
  if (op.type === "truncate") return slot(op.from - 1);
  return op.type === "install" && !op.keepTail ? op.point.slot : slot(Number.MAX_SAFE_INTEGER);
}

/** INV-5: what never goes down. */
function assertFollows(before: Image, after: Image): void {
  if (compareBallots(after.promised, before.promised) < 0)
    throw new InvariantViolation("a promise never goes down", { before: before.promised, after: after.promised });
  if (compareBallots(after.accepted, before.accepted) < 0)
    throw new InvariantViolation("the accepted ballot never goes down", { before: before.accepted, after: after.accepted });
  if (compareBallots(after.accepted, after.promised) > 0)
    throw new InvariantViolation("nothing is accepted above the promise", { accepted: after.accepted, promised: after.promised });
  if (after.decidedThrough < before.decidedThrough)
    throw new InvariantViolation("what is decided stays so", { before: before.decidedThrough, after: after.decidedThrough });
  if (after.compactedThrough < before.compactedThrough || after.compactedThrough > after.decidedThrough)
    throw new InvariantViolation("what is compacted is decided, and stays compacted", {
      before: before.compactedThrough,
      after: after.compactedThrough,
    });
  if (after.last < after.decidedThrough)
    throw new InvariantViolation("what is decided is in the log", { last: after.last, decidedThrough: after.decidedThrough });
  if (after.last < before.last && after.cut <= before.cut && compareBallots(after.accepted, before.accepted) <= 0) {
    throw new InvariantViolation("a log gets shorter only by a new ballot or a counted cut", { before: before.last, after: after.last });
  }
}
