/**
 * The log that frames tell of, read in order: where every entry is, and whether all of it fits together (protocol, 5.4, step 4). What does not is damage, or a bug of the
 * process that wrote it: either way nobody may vote from it.
 */
import { OracleError } from "../../base/errors.ts";
import { type Slot, slot } from "../../base/ids.ts";
import type { FrameAddress } from "../../disk/frame.ts";
import { BALLOT_ZERO, type Ballot, compareBallots, sameBallot } from "../core/ballot.ts";
import { configurationCodec } from "../core/configuration.ts";
import type { OriginRun } from "../core/effects.ts";
import { continues, decodeEntry, type Entry } from "../core/entry.ts";
import type { Image } from "../core/image.ts";
import type { LogPoint } from "../core/snapshot.ts";
import { Extents } from "./extents.ts";
import { addressesOf, decodeOp } from "./log-ops.ts";

/** The newest entry, or what an image says of it. */
interface End {
  readonly slot: Slot;
  readonly origin: Ballot;
  readonly chain: number;
}

export class LogReplay {
  readonly extents = new Extents();
  image: Image | undefined;
  entriesRead = 0;
  /** Nothing was dropped before what is read. */
  #isWhole = false;
  #runs: OriginRun[] = [];
  /** From what is decided on. */
  #tail: Entry[] = [];
  /** Absent where what went before was compacted, or was never read. */
  #end: End | undefined;
  /** The newest one, and the one before it. */
  #configurations: Entry[] = [];

  /** Nothing was dropped: the frames that follow are all there ever were. */
  begin(): void {
    this.#isWhole = true;
    this.#end = { slot: slot(0), origin: BALLOT_ZERO, chain: 0 };
  }

  /** @throws OracleError TSO_STORAGE: what does not fit, and what stands there instead; TSO_WRONG_FORMAT for an operation that is none. */
  frame(image: Image, ops: readonly Uint8Array[], address: FrameAddress): void {
    const decoded = ops.map(decodeOp);
    for (const op of decoded) {
      if (op.type === "truncate") this.#truncate(op.from, op.last);
      else if (op.type === "install") this.#install(op.point, op.keepTail);
      else for (const entry of op.entries) this.#append(entry);
    }
    this.extents.note(decoded, addressesOf(ops, address));
    if (this.#end === undefined) this.#end = { slot: image.last, origin: image.lastOrigin, chain: image.lastChain };
    this.#check(image, this.#end);
    this.image = image;
    this.extents.compactThrough(image.compactedThrough);
    const settled = this.#tail.findIndex((entry) => entry.slot >= image.decidedThrough);
    this.#tail.splice(0, settled < 0 ? this.#tail.length : settled);
  }

  /** The newest frame was written again, there. */
  move(ops: readonly Uint8Array[], address: FrameAddress): void {
    this.extents.note(ops.map(decodeOp), addressesOf(ops, address));
    if (this.image !== undefined) this.extents.compactThrough(this.image.compactedThrough);
  }

  /** Nothing of what the newest image speaks of is missing. @throws OracleError TSO_STORAGE */
  finish(image: Image): { readonly runs: readonly OriginRun[]; readonly tail: readonly Entry[] } {
    const first = slot(image.compactedThrough + 1);
    if (image.last >= first && this.extents.find(first) === undefined) throw unfit(`entry ${first}, the first after the compacted ones, is missing`);
    const begins = this.#tail[0]?.slot ?? image.last + 1;
    if (begins > Math.max(image.decidedThrough, first)) throw unfit(`entry ${image.decidedThrough}, which is decided, is missing`);
    const run = this.#runs.findLastIndex(({ from }) => from <= first);
    return { runs: this.#runs.slice(Math.max(0, run)), tail: this.#tail.map(ownedEntry) };
  }

  #append(entry: Entry): void {
    const end = this.#end;
    if (end !== undefined) {
      if (entry.slot !== end.slot + 1) throw unfit(`entry ${entry.slot} follows entry ${end.slot}`);
      if (!continues(end.chain, entry)) throw unfit(`entry ${entry.slot} does not continue the chain of the entry before it`);
      if (compareBallots(entry.origin, end.origin) < 0) throw unfit(`entry ${entry.slot} has an older origin than the entry before it`);
    }
    if (!sameBallot(this.#runs.at(-1)?.origin, entry.origin)) this.#runs.push({ from: entry.slot, origin: entry.origin });
    if (entry.kind === "config") this.#configurations = [...this.#configurations.slice(-1), entry];
    this.#end = entry;
    this.#tail.push(entry);
    this.entriesRead += 1;
  }

  #truncate(from: Slot, last: Slot): void {
    if (this.#end !== undefined && this.#end.slot !== last) throw unfit(`entry ${last} is cut off as the last one, which is ${this.#end.slot}`);
    if (this.image !== undefined && from <= this.image.decidedThrough) throw unfit(`entry ${from} is decided, and is cut off`);
    while ((this.#tail.at(-1)?.slot ?? 0) >= from) this.#tail.pop();
    while ((this.#runs.at(-1)?.from ?? 0) >= from) this.#runs.pop();
    this.#configurations = this.#configurations.filter((entry) => entry.slot < from);
    this.#end = this.#tail.at(-1); // there, since what is decided is; or compacted by now
  }

  /** S2. Everything before it is gone, whatever it was; and what follows too, unless it follows that very entry. */
  #install(point: LogPoint, keepTail: boolean): void {
    if (this.image !== undefined && point.slot <= this.image.decidedThrough)
      throw unfit(`a snapshot through ${point.slot} replaces entries that are decided`);
    if (keepTail) {
      const kept = this.#tail.find((entry) => entry.slot === point.slot);
      const wasDropped = !this.#isWhole && (this.#tail[0]?.slot ?? Number.POSITIVE_INFINITY) > point.slot; // with the segments before
      if (kept === undefined ? !wasDropped : kept.chain !== point.chain || !sameBallot(kept.origin, point.origin))
        throw unfit(`a snapshot through ${point.slot} keeps what follows, and another entry stands there`);
      this.#configurations = this.#configurations.filter((entry) => entry.slot > point.slot);
      return;
    }
    this.#tail = [];
    this.#runs = [];
    this.#configurations = [];
    this.#end = point;
  }

  /** What the image says of the log is what was read. */
  #check(image: Image, end: End): void {
    if (end.slot !== image.last) throw unfit(`the log ends at entry ${end.slot}, and the image says ${image.last}`);
    if (!sameBallot(end.origin, image.lastOrigin)) throw unfit(`entry ${end.slot} has another origin than the image says`);
    if (end.chain !== image.lastChain) throw unfit(`entry ${end.slot} has another chain than the image says`);
    if (image.decidedThrough > image.last) throw unfit(`entry ${image.decidedThrough} is decided, and the log ends at ${image.last}`);
    const undecided = this.#configurations.find((entry) => entry.slot > image.decidedThrough);
    if (undecided !== undefined && undecided.slot < image.last)
      throw unfit(`entries follow configuration ${undecided.slot}, which is not decided (W6)`);
    const decided = this.#configurations.findLast((entry) => entry.slot <= image.decidedThrough);
    if (decided === undefined) return;
    const { version } = configurationCodec.decode(decided.payload);
    if (version !== image.configuration.version)
      throw unfit(`the image has configuration ${image.configuration.version}, and entry ${decided.slot} is configuration ${version}`);
  }
}

/** A copy, for an entry that outlives what it was read from. */
function ownedEntry(entry: Entry): Entry {
  return decodeEntry(new Uint8Array(entry.record));
}

function unfit(what: string): OracleError {
  return new OracleError("TSO_STORAGE", what);
}
