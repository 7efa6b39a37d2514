/**
 * How a snapshot gets from one node to another (S1): its receiver asks for pieces, a window of them at a time, and each goes to its disk before another is asked for; so neither
 * side holds much, and who serves keeps no account of who pulls. Pieces are asked for by the snapshot's own id: those of two are never mixed. Pure: part of the turn.
 */
import { crc32 } from "node:zlib";
import type { NodeId, Slot } from "../../base/ids.ts";
import { mark } from "../../base/marks.ts";
import type { SnapshotToPull } from "./effects.ts";
import type { Outgoing, SnapshotChunkMessage, SnapshotRequestMessage } from "./messages.ts";
import type { CoreOptions } from "./options.ts";
import type { SnapshotMeta } from "./snapshot.ts";

/** What a node's host does with snapshots. Each is carried out when those before it are. */
export type SnapshotWork =
  /** Bytes of `meta` are about to come. What was staged of another one is dropped; of this very one it is kept. */
  | { readonly type: "stage"; readonly meta: SnapshotMeta }
  /** Ends in `snapshot-stored`. */
  | { readonly type: "store"; readonly id: string; readonly bytes: Uint8Array }
  /** All bytes are there. Ends in `snapshot-staged` or `snapshot-refused`. */
  | { readonly type: "finish"; readonly meta: SnapshotMeta }
  /** Staged or finished, it goes. Nothing happens where there is none. */
  | { readonly type: "drop"; readonly id: string }
  /** Ends in `snapshot-read`. */
  | { readonly type: "read"; readonly request: SnapshotPiece };

/** What a peer wants of a snapshot of this node's. */
export interface SnapshotPiece {
  readonly to: NodeId;
  readonly snapshot: string;
  readonly position: number;
  readonly length: number;
}

/** For people. */
export interface SnapshotProgress {
  readonly peer: NodeId;
  readonly slot: Slot;
  readonly bytes: number;
  readonly of: number;
}

/** Requests of one peer that wait for the disk; more than its window are refused. */
const READS_MAX = 256;

interface Pull extends SnapshotToPull {
  /** On this disk; come in, in order; asked for. */
  stored: number;
  received: number;
  requested: number;
  /** When `received` or `stored` grew last. */
  movedAt: number;
  /** When something was asked for last. */
  askedAt: number;
  /** Bytes that may be asked for now, and as of when: they grow with time, to a window at most. */
  allowed: number;
  allowedAt: number;
  /** Pieces that came before those that belong before them, by position: the window bounds them. */
  readonly early: Map<number, Uint8Array>;
  isFinishing: boolean;
}

/** The receiving side: one snapshot at a time. */
export class SnapshotReceiver {
  readonly #options: CoreOptions;
  /** `over`: what was stored of it waits for a pull of the same one. */
  #pull: Pull | undefined;
  #over = true;

  constructor(options: CoreOptions) {
    this.#options = options;
  }

  get progress(): SnapshotProgress | undefined {
    if (this.#pull === undefined || this.#over) return undefined;
    const { from: peer, meta, stored } = this.#pull;
    return { peer, slot: meta.slot, bytes: stored, of: meta.bytes };
  }

  /** Staged here, and not being pulled. */
  get leftover(): SnapshotMeta | undefined {
    return this.#over ? this.#pull?.meta : undefined;
  }

  holds(id: string): boolean {
    return this.#pull?.meta.id === id;
  }

  begin({ from, meta }: SnapshotToPull, tick: number, work: SnapshotWork[]): void {
    const before = this.#pull;
    const stored = before?.meta.id === meta.id && !before.isFinishing ? before.stored : 0;
    if (stored > 0) mark("snapshot-resume");
    // Pieces that are on their way to the disk get there before anything that comes now.
    const received = stored > 0 && before !== undefined ? before.received : 0;
    if (before !== undefined && before.meta.id !== meta.id) work.push({ type: "drop", id: before.meta.id });
    this.#pull = {
      from,
      meta,
      stored,
      received,
      requested: received,
      movedAt: tick,
      askedAt: tick,
      allowed: this.#options.snapshotWindowBytes,
      allowedAt: tick,
      early: new Map(),
      isFinishing: false,
    };
    this.#over = false;
    work.push({ type: "stage", meta });
    this.#finishIfWhole(this.#pull, work);
  }

  /** A piece came. What does not come is asked for again when the time has come. */
  onChunk(from: NodeId, { snapshot, position, bytes, crc }: SnapshotChunkMessage, tick: number, work: SnapshotWork[]): "gone" | undefined {
    const pull = this.#pull;
    if (pull === undefined || this.#over || pull.meta.id !== snapshot || pull.from !== from || pull.isFinishing) return undefined;
    if (bytes === undefined) return "gone";
    const isAsked = position >= pull.received && position + bytes.length <= pull.requested;
    const isTooMany = pull.early.size * this.#options.snapshotChunkBytes > this.#options.snapshotWindowBytes;
    if (!isAsked || isTooMany || bytes.length === 0 || crc32(bytes) !== crc) return undefined;
    pull.early.set(position, bytes);
    for (let next = pull.early.get(pull.received); next !== undefined; next = pull.early.get(pull.received)) {
      pull.early.delete(pull.received);
      pull.received += next.length;
      pull.movedAt = tick;
      work.push({ type: "store", id: snapshot, bytes: next });
    }
    return undefined;
  }

  /** Everything through `bytes` is on this disk. */
  onStored(id: string, bytes: number, tick: number, work: SnapshotWork[]): void {
    const pull = this.#pull;
    if (pull === undefined || pull.meta.id !== id) return;
    pull.stored = bytes;
    pull.movedAt = tick;
    if (!this.#over) this.#finishIfWhole(pull, work);
  }

  /** What may be asked for now. */
  ask(tick: number): readonly Outgoing<SnapshotRequestMessage>[] {
    const pull = this.#pull;
    if (pull === undefined || this.#over || pull.isFinishing) return [];
    if (tick - Math.max(pull.movedAt, pull.askedAt) >= this.#options.retransmitTicks) pull.requested = pull.received; // something was lost
    const { snapshotChunkBytes, snapshotWindowBytes, snapshotBytesPerSecond, tickMs } = this.#options;
    const grown = (tick - pull.allowedAt) * snapshotBytesPerSecond * (tickMs / 1000);
    pull.allowed = Math.min(snapshotWindowBytes, pull.allowed + grown);
    pull.allowedAt = tick;
    const requests: Outgoing<SnapshotRequestMessage>[] = [];
    while (pull.requested < pull.meta.bytes && pull.requested - pull.stored + snapshotChunkBytes <= snapshotWindowBytes && pull.allowed > 0) {
      const length = Math.min(snapshotChunkBytes, pull.meta.bytes - pull.requested);
      requests.push({ to: pull.from, message: { type: "snapshot-request", snapshot: pull.meta.id, position: pull.requested, length } });
      pull.requested += length;
      pull.allowed -= length;
      pull.askedAt = tick;
    }
    return requests;
  }

  /** Whether it has got no further for too long. What this disk is busy with is not the source's fault. */
  isStuck(tick: number): boolean {
    return this.#pull !== undefined && !this.#over && !this.#pull.isFinishing && tick - this.#pull.movedAt >= this.#options.snapshotTicks;
  }

  /** @returns what was being pulled. What is stored of it is kept, for a pull of the same one. */
  giveUp(): SnapshotMeta | undefined {
    const meta = this.#over ? undefined : this.#pull?.meta;
    this.#over = true;
    return meta;
  }

  /** Nothing of it is kept: it was installed, or dropped. */
  forget(): void {
    this.#pull = undefined;
    this.#over = true;
  }

  #finishIfWhole(pull: Pull, work: SnapshotWork[]): void {
    if (pull.isFinishing || pull.stored < pull.meta.bytes) return;
    pull.isFinishing = true;
    work.push({ type: "finish", meta: pull.meta });
  }
}

interface Serving {
  snapshot: string;
  /** Through here it has been read. */
  bytes: number;
  at: number;
  reads: number;
}

/** The serving side. It remembers who asked lately, so that a snapshot is not dropped under a peer that pulls it, and the log not cut after it. */
export class SnapshotServer {
  readonly #options: CoreOptions;
  readonly #own = new Map<string, SnapshotMeta>();
  readonly #serving = new Map<NodeId, Serving>();

  constructor(options: CoreOptions, own: SnapshotMeta | undefined) {
    this.#options = options;
    if (own !== undefined) this.add(own);
  }

  add(meta: SnapshotMeta): void {
    this.#own.set(meta.id, meta);
  }

  get progress(): readonly SnapshotProgress[] {
    return [...this.#serving].flatMap(([peer, { snapshot, bytes }]) => {
      const meta = this.#own.get(snapshot);
      return meta === undefined ? [] : [{ peer, slot: meta.slot, bytes, of: meta.bytes }];
    });
  }

  /** The lowest slot whose snapshot a peer pulls. */
  get servedFrom(): Slot | undefined {
    let lowest: Slot | undefined;
    for (const { snapshot } of this.#serving.values()) {
      const at = this.#own.get(snapshot)?.slot;
      if (at !== undefined && (lowest === undefined || at < lowest)) lowest = at;
    }
    return lowest;
  }

  onRequest(
    to: NodeId,
    { snapshot, position, length }: SnapshotRequestMessage,
    tick: number,
  ): SnapshotWork | Outgoing<SnapshotChunkMessage> | undefined {
    if (!this.#own.has(snapshot)) return gone(to, snapshot, position);
    const known = this.#serving.get(to);
    const serving = known?.snapshot === snapshot ? known : { snapshot, bytes: 0, at: tick, reads: 0 };
    if (serving.reads >= READS_MAX) return undefined; // asked for again when it has waited long enough
    serving.reads += 1;
    serving.at = tick;
    this.#serving.set(to, serving);
    return { type: "read", request: { to, snapshot, position, length: Math.min(length, this.#options.snapshotChunkBytes) } };
  }

  /** @param bytes nothing where it could not be read. */
  onRead({ to, snapshot, position }: SnapshotPiece, bytes: Uint8Array | undefined): Outgoing<SnapshotChunkMessage> {
    const serving = this.#serving.get(to);
    if (serving?.snapshot === snapshot) {
      serving.reads -= 1;
      serving.bytes = Math.max(serving.bytes, position + (bytes?.length ?? 0));
    }
    if (bytes === undefined) return gone(to, snapshot, position);
    return { to, message: { type: "snapshot-chunk", snapshot, position, bytes, crc: crc32(bytes) } };
  }

  /**
   * Those that nobody needs: older than the newest, and not asked for lately; or so old that the log could not be gone on with.
   * @returns what is to be dropped.
   */
  expire(tick: number, { newest, compactedThrough }: { readonly newest: Slot; readonly compactedThrough: Slot }): readonly SnapshotMeta[] {
    for (const [peer, { at }] of this.#serving) if (tick - at >= this.#options.snapshotTicks) this.#serving.delete(peer);
    const inUse = new Set([...this.#serving.values()].map(({ snapshot }) => snapshot));
    const old = [...this.#own.values()].filter((meta) => meta.slot < newest && (meta.slot < compactedThrough || !inUse.has(meta.id)));
    for (const { id } of old) this.#own.delete(id);
    return old;
  }
}

function gone(to: NodeId, snapshot: string, position: number): Outgoing<SnapshotChunkMessage> {
  return { to, message: { type: "snapshot-chunk", snapshot, position, crc: 0 } };
}
