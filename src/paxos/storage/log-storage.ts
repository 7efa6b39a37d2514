/**
 * What a node's durable state asks of an engine (protocol, section 5). The runtime calls one method at a time of those that write; reads may overlap everything. After one
 * rejected write nothing more is believed: the node stops, for its memory is ahead of its disk.
 */
import type { NodeId, Slot } from "../../base/ids.ts";
import type { Recovered } from "../core/effects.ts";
import type { Entry } from "../core/entry.ts";
import type { Founding } from "../core/founding.ts";
import type { PersistBatch } from "../core/image.ts";
import type { SnapshotMeta } from "../core/snapshot.ts";

export type { SnapshotMeta } from "../core/snapshot.ts";

export interface LogStorage {
  readonly engine: StorageEngine;
  readonly node: NodeId;
  /** 128 random bits in hex, drawn when the directory was made: an empty disk is another disk (rule I1). */
  readonly storageId: string;
  /** Counts the processes on this disk, from 1; durable before `open` returned. */
  readonly boot: number;
  /** What this disk is pledged to, if to anything (rule I7). */
  readonly founding: Founding;
  /** What opening it had to put right, for people; nothing that anybody was told of is lost. */
  readonly repairs: readonly string[];

  /** What a replica begins with; for a disk that belongs to a cluster. Holds the log as it was opened, so it is asked for once. */
  recovered(): Recovered;
  /**
   * Durable when it returns. A pledge is never exchanged, and what is formed stays so.
   * @throws OracleError TSO_STORAGE: whether it is durable is not known.
   */
  found(founding: Founding): Promise<void>;
  /**
   * Atomic, and durable when it returns: the batch's operations and its image, or nothing. An image whose `compactedThrough` is higher than before lets go of the entries
   * up to there, now or later.
   * @throws OracleError TSO_STORAGE: whether it is durable is not known.
   */
  write(batch: PersistBatch): Promise<void>;
  /**
   * Entries after `after` through `through`, in order: at least one if there is one, and no more than `maxBytes` of records where there are more. Stops short where the log
   * was compacted meanwhile: then the first entry is missing, and the list is empty.
   * @throws OracleError TSO_STORAGE for an entry that does not read back; what is on disk is not changed by that.
   */
  read(range: EntryRange): Promise<readonly Entry[]>;

  /** What the log could still grow by, about, in bytes; without end where nothing limits it. */
  freeBytes(): Promise<number>;
  /** What one write may take of that at once, however small it is: files that are filled before use. */
  readonly reserveBytes: number;

  /** The usable ones, oldest first. */
  snapshots(): readonly SnapshotMeta[];
  /** Begins a snapshot beside the others; it does not exist before `finish`. One of the same id that was staged before is dropped. */
  stageSnapshot(id: string): Promise<SnapshotSink>;
  /** Bytes from `position` on, at most `length`; none at the end. @throws OracleError TSO_STORAGE, TSO_INVALID_ARGUMENT for an id that is not there */
  readSnapshot(id: string, position: number, length: number): Promise<Uint8Array>;
  /** Nothing happens where there is none. */
  dropSnapshot(id: string): Promise<void>;

  /** Frees the directory. Safe to call twice; a write under way is the caller's to wait for. */
  close(): Promise<void>;
}

/** Names of engines, as they stand in a data directory. */
export type StorageEngine = "wal" | "rocksdb" | "memory";

export interface EntryRange {
  readonly after: Slot;
  readonly through: Slot;
  readonly maxBytes: number;
}

/** One that is made here: nobody has said yet what its bytes should be. */
export type NewSnapshot = Omit<SnapshotMeta, "id" | "bytes" | "sha256">;

/** Where a snapshot's bytes go while they come in. Nothing of it is seen by anyone before `finish` returned. */
export interface SnapshotSink {
  /** Appended. One at a time. */
  write(chunk: Uint8Array): Promise<void>;
  /**
   * The snapshot exists, durably, when it returns what it is.
   * @param about of which slot, and how many bytes it should have with which checksum, where somebody knows.
   * @throws OracleError TSO_WRONG_FORMAT where the bytes are not those that were promised, and the staged ones are gone; TSO_STORAGE for a disk that fails.
   */
  finish(about: SnapshotMeta | NewSnapshot): Promise<SnapshotMeta>;
  /** Drops what was written. Safe to call twice, and after `finish`, where it does nothing. */
  discard(): Promise<void>;
}
