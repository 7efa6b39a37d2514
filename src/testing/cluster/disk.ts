/**
 * The disk of a node, at the level of the batches that a node writes: one at a time, each there as a whole or not at all. What a power cut leaves is what it
 * holds. Every write is checked to continue what is there, so that a node that writes nonsense is found at the write and not at the next start.
 */
import { type NodeId, type Slot, slot } from "../../base/ids.ts";
import { createPrng, type Prng } from "../../base/prng.ts";
import type { DiskRoom, OriginRun, Recovered } from "../../paxos/core/effects.ts";
import { continues, type Entry } from "../../paxos/core/entry.ts";
import type { Genesis } from "../../paxos/core/genesis.ts";
import type { Image, PersistBatch } from "../../paxos/core/image.ts";
import type { LogPoint, SnapshotMeta } from "../../paxos/core/snapshot.ts";
import { drawBetween } from "./network.ts";
import { type ObservedDisk, Violation } from "./observed.ts";

export interface DiskSettings {
  readonly writeUs: readonly [least: number, most: number];
  readonly readUs: readonly [least: number, most: number];
  /** Chance that a write takes up to `tailUs` longer. */
  readonly tail: number;
  readonly tailUs: number;
  /** Chance that the write in flight at a power cut is on the disk. */
  readonly durableAtCut: number;
}

export class SimulatedDisk implements ObservedDisk {
  readonly storageId: string;
  readonly #settings: DiskSettings;
  readonly #prng: Prng;
  #image: Image;
  #entries: Entry[];
  readonly #snapshots = new Map<string, { readonly meta: SnapshotMeta; readonly bytes: Uint8Array }>();
  #boot = 0;
  #writing: PersistBatch | undefined;
  /** No write ends before. */
  stalledUntil = 0;
  /** What a process on it is told of it. */
  room: DiskRoom = "enough";
  /** The next write fails. */
  failing = false;
  /** A fault took its snapshots, and none has taken their place. */
  #robbed = false;
  /** No write takes longer than usual. */
  clean = false;

  constructor(storageId: string, genesis: Genesis, settings: DiskSettings, prng: Prng) {
    this.storageId = storageId;
    this.#settings = settings;
    this.#prng = prng;
    this.#image = genesis.image;
    this.#entries = [...genesis.entries];
  }

  get image(): Image {
    return this.#image;
  }

  get boot(): number {
    return this.#boot;
  }

  entry(at: Slot): Entry | undefined {
    return this.#entries[at - this.#begin - 1];
  }

  /** The newest that a process could begin with. */
  get snapshot(): SnapshotMeta | undefined {
    const { compactedThrough, decidedThrough } = this.#image;
    return [...this.#snapshots.values()]
      .map(({ meta }) => meta)
      .filter((meta) => meta.slot >= compactedThrough && meta.slot <= decidedThrough)
      .toSorted((a, b) => b.slot - a.slot)[0];
  }

  addSnapshot(meta: SnapshotMeta, bytes: Uint8Array): void {
    this.#snapshots.set(meta.id, { meta, bytes });
  }

  snapshotBytes(id: string): Uint8Array | undefined {
    return this.#snapshots.get(id)?.bytes;
  }

  dropSnapshot(id: string): void {
    this.#snapshots.delete(id);
    this.#checkSnapshot();
  }

  /** All of them, as when their files are damaged. */
  loseSnapshots(): void {
    this.#snapshots.clear();
    this.#robbed = true;
  }

  /** A process that began with it would have nothing to begin with. */
  get lacksSnapshot(): boolean {
    return this.#begin > 0 && this.snapshot === undefined;
  }

  get #begin(): number {
    return this.#image.compactedThrough;
  }

  /** A copy of the directory, as of now, with a device of its own. */
  copy(): SimulatedDisk {
    const copied = new SimulatedDisk(
      this.storageId,
      { image: this.#image, entries: this.#entries },
      this.#settings,
      createPrng(this.#prng.below(2 ** 32)),
    );
    copied.#boot = this.#boot;
    copied.#robbed = this.#robbed;
    for (const [id, snapshot] of this.#snapshots) copied.#snapshots.set(id, snapshot);
    return copied;
  }

  /** Counts on from there, as a disk does that was started often enough: one whose count is behind is not even listened to (rule I2). */
  countBootsFrom(boot: number): void {
    this.#boot = Math.max(this.#boot, boot);
  }

  /** Begins a write. @returns when it ends. */
  begin(batch: PersistBatch, now: number): number {
    if (this.#writing !== undefined)
      throw new Violation("disk", "one write is in flight at a time", { writing: this.#writing.seq, batch: batch.seq });
    this.#writing = batch;
    const { writeUs, tail, tailUs } = this.#settings;
    const usual = drawBetween(this.#prng, writeUs);
    const late = !this.clean && tail > 0 && this.#prng.chance(tail) ? this.#prng.below(tailUs) : 0;
    return Math.max(now, this.stalledUntil) + usual + late;
  }

  /** The write in flight has ended. @returns false if it failed; it may then be on the disk all the same. */
  end(): boolean {
    const failed = this.failing;
    this.failing = false;
    this.#finish(!failed || this.#prng.chance(0.5));
    return !failed;
  }

  /** The node has died. @returns whether the write in flight, if there is one, was completed all the same. */
  cutPower(): boolean {
    if (this.#writing === undefined) return false;
    const durable = this.#prng.chance(this.#settings.durableAtCut);
    this.#finish(durable);
    return durable;
  }

  readDelay(): number {
    return drawBetween(this.#prng, this.#settings.readUs);
  }

  /** At least one entry, if there is one, and no more than `maxBytes` where there are more. */
  read(after: number, through: number, maxBytes: number): readonly Entry[] {
    if (after < this.#begin) return []; // compacted meanwhile
    let bytes = 0;
    let end = after;
    while (end < through) {
      const entry = this.#entries[end - this.#begin];
      if (entry === undefined) throw new Violation("disk", "what is read was written", { after, through, last: this.#last });
      bytes += entry.record.length;
      if (bytes > maxBytes && end > after) break;
      end += 1;
    }
    return this.#entries.slice(after - this.#begin, end - this.#begin);
  }

  /** What a process on this disk begins with. One that is started is counted; a copy was, when its original started. */
  recover(node: NodeId, how: "started" | "copied" = "started"): Recovered {
    this.#check();
    if (how === "started") this.#boot += 1;
    const runs: OriginRun[] = [];
    for (const { slot: from, origin } of this.#entries) {
      const last = runs.at(-1)?.origin;
      if (last?.round !== origin.round || last.node !== origin.node || last.prio !== origin.prio) runs.push({ from, origin });
    }
    const tail = this.#entries.slice(Math.max(0, this.#image.decidedThrough - this.#begin - 1 - this.#prng.below(3)));
    const { snapshot } = this;
    for (const { meta } of [...this.#snapshots.values()]) if (meta !== snapshot) this.#snapshots.delete(meta.id);
    return { node, storageId: this.storageId, boot: this.#boot, image: this.#image, runs, tail, snapshot };
  }

  #finish(durable: boolean): void {
    const batch = this.#writing;
    if (batch === undefined) throw new Violation("disk", "a write that ends had begun");
    this.#writing = undefined;
    if (!durable) return;
    for (const op of batch.ops) {
      if (op.type === "append") for (const entry of op.entries) this.#append(entry);
      else if (op.type === "install") this.#install(op.point, op.keepTail);
      else this.#truncate(op.from, op.last);
    }
    this.#compact(batch.image);
    this.#check();
  }

  get #last(): number {
    return this.#begin + this.#entries.length;
  }

  #append(entry: Entry): void {
    const last = this.#entries.at(-1)?.chain ?? this.#image.compactedChain;
    if (entry.slot !== this.#last + 1) throw new Violation("disk", "entries are written one after the other", { slot: entry.slot, last: this.#last });
    if (!continues(last, entry)) throw new Violation("disk", "an entry continues the chain of the log", { slot: entry.slot });
    this.#entries.push(entry);
  }

  #truncate(from: Slot, last: Slot): void {
    if (last !== this.#last) throw new Violation("disk", "a truncation names the end of the log", { last, end: this.#last });
    if (from <= this.#image.decidedThrough)
      throw new Violation("disk", "what is decided is never cut off", { from, decidedThrough: this.#image.decidedThrough });
    this.#entries.length = Math.min(this.#entries.length, from - 1 - this.#begin);
  }

  /** The image follows with the rest of the batch; until then the log's beginning is what this says. */
  #install({ slot: at, origin, chain }: LogPoint, keepTail: boolean): void {
    const kept = this.entry(at);
    if (keepTail && (kept?.chain !== chain || kept.origin.round !== origin.round || kept.origin.node !== origin.node))
      throw new Violation("disk", "a snapshot keeps what follows its own entry", { at, chain, there: kept?.chain });
    this.#entries = keepTail ? this.#entries.slice(at - this.#begin) : [];
    this.#image = { ...this.#image, compactedThrough: at, compactedOrigin: origin, compactedChain: chain };
  }

  #compact(image: Image): void {
    const count = image.compactedThrough - this.#begin;
    if (count < 0 || count > this.#entries.length)
      throw new Violation("disk", "a log is compacted through one of its entries", {
        from: this.#begin,
        through: image.compactedThrough,
        last: this.#last,
      });
    if (count > 0) this.#entries = this.#entries.slice(count);
    this.#image = image;
    this.#checkSnapshot();
  }

  /** S4. What is compacted is in a snapshot, which a process that starts now could begin with. */
  #checkSnapshot(): void {
    if (!this.lacksSnapshot) this.#robbed = false;
    else if (!this.#robbed) throw new Violation("disk", "only what a snapshot on this disk covers is compacted (S4)", { through: this.#begin });
  }

  /** The image speaks of the log that is there. */
  #check(): void {
    const image = this.#image;
    const last = this.#entries.at(-1);
    const { origin, chain } = last ?? { origin: image.compactedOrigin, chain: image.compactedChain };
    const agrees =
      image.last === this.#last &&
      image.lastChain === chain &&
      image.lastOrigin.round === origin.round &&
      image.lastOrigin.node === origin.node &&
      image.lastOrigin.prio === origin.prio;
    if (!agrees) throw new Violation("disk", "an image names the end of its log", { image: image.last, log: slot(this.#last) });
  }
}
