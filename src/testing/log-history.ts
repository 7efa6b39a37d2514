/** Batches as a replica writes them, one after the other, and the log that they make: what a storage is compared with. */
import assert from "node:assert/strict";
import { slot } from "../base/ids.ts";
import type { Prng } from "../base/prng.ts";
import type { Ballot } from "../paxos/core/ballot.ts";
import { type Charter, membersOf } from "../paxos/core/charter.ts";
import type { Recovered } from "../paxos/core/effects.ts";
import { createEntry, type Entry } from "../paxos/core/entry.ts";
import { genesisOf } from "../paxos/core/genesis.ts";
import type { Image, PersistBatch, PersistOp } from "../paxos/core/image.ts";
import type { LogPoint } from "../paxos/core/snapshot.ts";
import type { LogStorage } from "../paxos/storage/log-storage.ts";

/** What the next batch does, in this order. */
export interface BatchPlan {
  /** Promises, and accepts, a higher ballot. */
  readonly reign?: boolean | undefined;
  /** Begins the log anew so many slots after what is decided; keeps what follows there, if that is asked for and there is such an entry. */
  readonly install?: { readonly beyond: number; readonly keepTail: boolean } | undefined;
  /** Cuts off this many entries, as far as they are not decided. */
  readonly truncate?: number | undefined;
  /** Payload bytes of each entry that is appended. */
  readonly append?: readonly number[] | undefined;
  /** Decides this many entries more. */
  readonly decide?: number | undefined;
  /** Lets go of this many entries more, as far as they are decided. */
  readonly compact?: number | undefined;
}

/** A node's durable log, as of a batch. */
export interface LogState {
  readonly image: Image;
  /** They follow each other to the end; some that were compacted may stand before the others. */
  readonly entries: readonly Entry[];
}

export class LogHistory {
  #state: LogState;
  #seq = 0;

  private constructor(state: LogState) {
    this.#state = state;
  }

  /** Of a disk that was just formed. */
  static of(charter: Charter): LogHistory {
    return new LogHistory(genesisOf(membersOf(charter)));
  }

  /** That goes on from there, in a new process. */
  static from(state: LogState): LogHistory {
    return new LogHistory(state);
  }

  get state(): LogState {
    return this.#state;
  }

  next({ reign = false, install, truncate = 0, append = [], decide = 0, compact = 0 }: BatchPlan): PersistBatch {
    const ops: PersistOp[] = [];
    const { image, entries } = install === undefined ? this.#state : this.#install(install, ops);
    const ballot: Ballot = reign ? { ...image.promised, round: image.promised.round + 1 } : image.promised;
    const kept = Math.max(image.decidedThrough, image.last - truncate);
    if (kept < image.last) ops.push({ type: "truncate", from: slot(kept + 1), last: image.last });
    const log = entries.filter((entry) => entry.slot <= kept);
    const appended = append.map((bytes, index) => {
      const entry = createEntry({
        slot: slot(kept + 1 + index),
        origin: ballot,
        kind: "app",
        payload: new Uint8Array(bytes).fill((kept + index) % 251),
        previousChain: log.at(-1)?.chain ?? image.compactedChain,
      });
      log.push(entry);
      return entry;
    });
    if (appended.length > 0) ops.push({ type: "append", entries: appended });
    const last = log.at(-1) ?? pointOf(image);
    const decidedThrough = slot(Math.min(last.slot, image.decidedThrough + decide));
    const compactedThrough = slot(Math.min(decidedThrough, image.compactedThrough + compact));
    const compacted = entryAt(log, compactedThrough);
    this.#state = {
      entries: log,
      image: {
        ...image,
        ...{ promised: ballot, accepted: ballot, last: last.slot, lastOrigin: last.origin, lastChain: last.chain, decidedThrough, compactedThrough },
        compactedOrigin: compacted?.origin ?? image.compactedOrigin,
        compactedChain: compacted?.chain ?? image.compactedChain,
        cut: ops.some(({ type }) => type === "truncate") ? image.cut + 1 : image.cut,
      },
    };
    this.#seq += 1;
    return { seq: this.#seq, image: this.#state.image, ops };
  }

  /** Where no entry stands at that slot, or the tail is not to be kept, the log is empty afterwards. */
  #install({ beyond, keepTail }: NonNullable<BatchPlan["install"]>, ops: PersistOp[]): LogState {
    const { image, entries } = this.#state;
    const at = slot(image.decidedThrough + 1 + beyond);
    const kept = keepTail ? entryAt(entries, at) : undefined;
    const point = kept ?? { slot: at, origin: image.promised, chain: (image.lastChain ^ 0x5eed) >>> 0 };
    ops.push({ type: "install", point: { slot: at, origin: point.origin, chain: point.chain }, keepTail: kept !== undefined });
    const begin = { compactedThrough: at, compactedOrigin: point.origin, compactedChain: point.chain, decidedThrough: at };
    if (kept !== undefined) return { image: { ...image, ...begin }, entries };
    return { image: { ...image, ...begin, last: at, lastOrigin: point.origin, lastChain: point.chain, cut: image.cut + 1 }, entries: [] };
  }
}

function pointOf({ compactedThrough, compactedOrigin, compactedChain }: Image): LogPoint {
  return { slot: compactedThrough, origin: compactedOrigin, chain: compactedChain };
}

/** A charter of one node, on that disk. */
export function soleCharter({ node, storageId }: LogStorage): Charter {
  return { clusterId: "c".repeat(32), founders: [{ id: node, storageId, address: "127.0.0.1:1" }] };
}

/** Makes a disk that of a member. */
export async function formAlone(storage: LogStorage): Promise<LogHistory> {
  const charter = soleCharter(storage);
  await storage.found({ type: "pledged", charter });
  await storage.found({ type: "formed", charter });
  return LogHistory.of(charter);
}

/** One of all kinds of batches, mostly small. */
export function drawPlan(prng: Prng): BatchPlan {
  const sizes = prng.chance(0.05) ? [prng.below(20_000)] : Array.from({ length: prng.below(6) }, () => prng.below(200));
  return {
    reign: prng.chance(0.2),
    install: prng.chance(0.03) ? { beyond: prng.below(4), keepTail: prng.chance(0.7) } : undefined,
    truncate: prng.chance(0.2) ? prng.below(5) : 0,
    append: prng.chance(0.8) ? sizes : [],
    decide: prng.chance(0.6) ? prng.below(8) : 0,
    compact: prng.chance(0.1) ? prng.below(12) : 0,
  };
}

/** The storage holds exactly that, by what it reads. @throws AssertionError */
export async function assertHolds(storage: LogStorage, { image, entries }: LogState, { maxBytes = 4_000 } = {}): Promise<void> {
  let after = image.compactedThrough;
  while (after < image.last) {
    const read = await storage.read({ after, through: image.last, maxBytes });
    assert.ok(read.length > 0, `entry ${after + 1} of ${image.last} can be read`);
    for (const entry of read) {
      const expected = entryAt(entries, after + 1);
      assert.ok(expected !== undefined && entry.slot === expected.slot, `entry ${entry.slot} stands where entry ${after + 1} belongs`);
      assert.ok(Buffer.compare(entry.record, expected.record) === 0, `entry ${entry.slot} is as it was written`);
      after = entry.slot;
    }
    const bytes = read.reduce((sum, entry) => sum + entry.record.length, 0);
    assert.ok(bytes <= maxBytes || read.length === 1, `${bytes} bytes were read where ${maxBytes} were asked for`);
  }
}

/** What a replica begins with is exactly that. @throws AssertionError */
export function assertRecovered(recovered: Recovered, { image, entries }: LogState): void {
  assert.deepEqual(recovered.image, image, "the image is the newest one");
  const origins = new Map(recovered.runs.map(({ from, origin }) => [from, origin]));
  let origin = recovered.runs.findLast(({ from }) => from <= image.compactedThrough + 1)?.origin;
  for (const entry of entries.filter((each) => each.slot > image.compactedThrough)) {
    origin = origins.get(entry.slot) ?? origin;
    assert.deepEqual(origin, entry.origin, `the runs tell the origin of entry ${entry.slot}`);
  }
  const [first] = recovered.tail;
  const begin = Math.max(image.decidedThrough, image.compactedThrough + 1);
  assert.ok(image.last < begin || (first !== undefined && first.slot <= begin), "the tail begins with what is decided, at the latest");
  for (const entry of recovered.tail) {
    assert.ok(
      Buffer.compare(entry.record, entryAt(entries, entry.slot)?.record ?? new Uint8Array()) === 0,
      `entry ${entry.slot} of the tail is as it was written`,
    );
  }
  assert.equal(recovered.tail.at(-1)?.slot ?? image.last, image.last, "the tail goes to the end");
}

/** They follow each other, from some slot on. */
function entryAt(entries: readonly Entry[], at: number): Entry | undefined {
  return entries[at - (entries[0]?.slot ?? 1)];
}
