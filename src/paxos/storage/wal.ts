/**
 * The default engine: a journal of segment files (protocol, 5.1 to 5.4). A batch is one frame: one write and one flush, off the JavaScript thread. The frame repeats the
 * whole small state of the node, so the newest good one says where it stood; entries stay where they were written, and an index in memory says where that is.
 */
import { join } from "node:path";
import { kindOf } from "../../base/bytes.ts";
import { messageOf, OracleError } from "../../base/errors.ts";
import { minSlot, type NodeId, type Slot, slot } from "../../base/ids.ts";
import { invariant } from "../../base/invariant.ts";
import { wholeOption } from "../../base/options.ts";
import { type Codec, createCodec } from "../../base/shape.ts";
import { type Disk, isErrno } from "../../disk/disk.ts";
import type { Frame, FrameAddress, FrameContent } from "../../disk/frame.ts";
import { createJournal, hasJournal, inspectJournal, type Journal, type JournalOptions, openJournal } from "../../disk/journal.ts";
import { nodeDisk } from "../../disk/node-disk.ts";
import { segmentName } from "../../disk/recovery.ts";
import { guardStorage } from "../../disk/storage-error.ts";
import { FOUNDER_ID_MAX, membersOf, sameCharter } from "../core/charter.ts";
import type { Recovered } from "../core/effects.ts";
import { continues, decodeEntry, type Entry, recordLength } from "../core/entry.ts";
import type { Founding } from "../core/founding.ts";
import { genesisOf } from "../core/genesis.ts";
import type { Image, PersistBatch } from "../core/image.ts";
import { findDirectory, type LogDirectory, prepareDirectory } from "./directory.ts";
import type { Extents } from "./extents.ts";
import { addressesOf, encodeOp } from "./log-ops.ts";
import { LogReplay } from "./log-replay.ts";
import type { EntryRange, LogStorage, SnapshotMeta, SnapshotSink } from "./log-storage.ts";
import { type NodeState, nodeStateShape } from "./node-state.ts";
import { type Progress, SnapshotFiles } from "./snapshot-files.ts";

export interface WalOptions {
  /** Holds nothing but this node's files. Made if it is missing. */
  readonly directory: string;
  /** The id of the node whose files they are, from 1 to 2^32-2; those of another node are refused. */
  readonly node: number;
  /** Size of a segment in bytes, from 4096 up to 1 GiB. @defaultValue 32 MiB */
  readonly segmentBytes?: number | undefined;
  /** @defaultValue the file system of this machine */
  readonly disk?: Disk | undefined;
}

const SEGMENT_BYTES = 32 * 1024 * 1024;
/** What is read at once where entries lie close to each other. */
const READ_AHEAD_BYTES = 256 * 1024;

const WAY_OUT =
  "This node must not vote from what is left, and an older copy of the directory would forget what it vouched for: remove the node from the cluster and add a new one (docs/storage.md)";

const stateCodec: Codec<NodeState> = createCodec("the state of a node of the log", 1, nodeStateShape);

/**
 * Opens what an earlier process left, or begins an empty directory. When it returns, the start of this process is counted, durably.
 * @throws OracleError TSO_LOCKED where another process has the directory open; TSO_STORAGE for damage, with file and offset, or a disk that fails; TSO_WRONG_FORMAT for
 * another engine, format or node, or a directory of something else; TSO_INVALID_OPTION.
 */
export async function openWal(options: WalOptions): Promise<LogStorage> {
  const { directory, disk = nodeDisk } = options;
  if (typeof directory !== "string" || directory === "")
    throw new OracleError("TSO_INVALID_OPTION", `directory is ${directory === "" ? "empty" : kindOf(directory)}, and must be a path`);
  const node = wholeOption("node", options.node, { from: 1, through: FOUNDER_ID_MAX }) as NodeId;
  const segmentBytes = wholeOption("segmentBytes", options.segmentBytes ?? SEGMENT_BYTES, { from: 4096, through: 1024 * 1024 * 1024 });
  return guardStorage(directory, async () => {
    const parts = await prepareDirectory(disk, directory, "wal");
    const place = { disk, directory: parts.log, segmentBytes, wayOut: WAY_OUT };
    const { journal, state, replay } = (await hasJournal(place)) ? await reopen(place, node) : await create(place, node);
    try {
      const { files, unusable } = await SnapshotFiles.open(disk, parts.snapshots);
      const torn = journal.torn ? ["a write that a crash had interrupted was cut off; nobody was told that it succeeded"] : [];
      return new Wal({ disk, parts, segmentBytes, journal, state, replay, snapshots: files, repairs: [...torn, ...unusable] });
    } catch (error) {
      await journal.close();
      throw error;
    }
  });
}

interface Opened {
  readonly journal: Journal;
  readonly state: NodeState;
  readonly replay: LogReplay;
}

async function create(place: JournalOptions, node: NodeId): Promise<Opened> {
  const state: NodeState = { node, boot: 1, founding: { type: "unformed" } };
  return { journal: await createJournal(place, { meta: stateCodec.encode(state), ops: [] }), state, replay: new LogReplay() };
}

async function reopen(place: JournalOptions, node: NodeId): Promise<Opened> {
  const reading = new Reading();
  let state: NodeState | undefined;
  let newest: Frame | undefined;
  const journal = await openJournal({
    ...place,
    replay: (frame) => {
      reading.frame(frame);
      newest = frame;
    },
    verify: () => reading.verify(),
    revive: () => {
      const found = reading.state;
      if (found.node !== node)
        throw new OracleError(
          "TSO_WRONG_FORMAT",
          `${place.directory} belongs to node ${found.node}, and this is node ${node}: use the directory of this node`,
        );
      state = { ...found, boot: found.boot + 1 };
      return stateCodec.encode(state);
    },
  });
  invariant(state !== undefined && newest !== undefined, "a journal that was opened has a frame");
  // It was written again, into a segment of this process: only there it counts from here on.
  reading.replay.move(newest.ops, journal.newest);
  return { journal, state, replay: reading.replay };
}

/** What a stopped node's directory holds. */
export interface WalReport {
  readonly node: NodeId;
  readonly storageId: string;
  readonly boot: number;
  readonly founding: Founding;
  readonly image: Image | undefined;
  readonly entries: number;
  readonly frames: number;
  readonly segments: { readonly first: number; readonly last: number };
  /** Whether the next start will cut off a write that a crash interrupted. */
  readonly torn: boolean;
  readonly snapshots: readonly SnapshotMeta[];
  /** Snapshots that a start would not use, and why. */
  readonly unusable: readonly string[];
}

/**
 * Reads and judges everything that a start would, and every byte of the snapshots; changes nothing.
 * @throws OracleError as `openWal` does; TSO_WRONG_FORMAT too where there is nothing yet.
 */
export async function inspectWal({
  directory,
  disk = nodeDisk,
  onProgress,
}: Pick<WalOptions, "directory" | "disk"> & { readonly onProgress?: Progress | undefined }): Promise<WalReport> {
  return guardStorage(directory, async () => {
    const parts = await findDirectory(disk, directory, "wal");
    if (parts === undefined) throw new OracleError("TSO_WRONG_FORMAT", `${directory} holds no node's data`);
    const reading = new Reading();
    const found = await inspectJournal({
      disk,
      directory: parts.log,
      wayOut: WAY_OUT,
      replay: (frame) => reading.frame(frame),
      verify: () => reading.verify(),
    });
    const { node, boot, founding, image } = reading.state;
    const { usable, unusable } = await SnapshotFiles.inspect(disk, parts.snapshots, onProgress);
    const { storageId, frames, firstSegment, lastSegment, torn } = found;
    return {
      ...{ node, storageId: hexOf(storageId), boot, founding, image, frames, torn, unusable },
      entries: reading.replay.entriesRead,
      segments: { first: firstSegment, last: lastSegment },
      snapshots: usable,
    };
  });
}

/** The frames of a directory, as they are read. */
class Reading {
  readonly replay = new LogReplay();
  #state: NodeState | undefined;

  frame(frame: Frame & FrameAddress): void {
    const state = stateCodec.decode(frame.meta);
    if (frame.seq === 1) this.replay.begin();
    if (state.image !== undefined) this.replay.frame(state.image, frame.ops, frame);
    else if (frame.ops.length > 0) throw new OracleError("TSO_STORAGE", "a disk that belongs to no cluster has entries");
    this.#state = state;
  }

  verify(): void {
    const { image } = this.state;
    if (image !== undefined) this.replay.finish(image);
  }

  /** As of the newest frame. */
  get state(): NodeState {
    invariant(this.#state !== undefined, "a journal has a frame");
    return this.#state;
  }
}

interface WalParts extends Opened {
  readonly segmentBytes: number;
  readonly disk: Disk;
  readonly parts: LogDirectory;
  readonly snapshots: SnapshotFiles;
  readonly repairs: readonly string[];
}

class Wal implements LogStorage {
  readonly engine = "wal";
  readonly reserveBytes: number;
  readonly node: NodeId;
  readonly storageId: string;
  readonly boot: number;
  readonly repairs: readonly string[];
  readonly #disk: Disk;
  readonly #log: string;
  readonly #journal: Journal;
  readonly #extents: Extents;
  readonly #snapshots: SnapshotFiles;
  #state: NodeState;
  /** Until it is asked for. */
  #recovered: Recovered | undefined;
  #closed = false;

  constructor({ disk, parts, segmentBytes, journal, state, replay, snapshots, repairs }: WalParts) {
    this.reserveBytes = 2 * segmentBytes; // one that begins, and the spare after it
    this.node = state.node;
    this.storageId = hexOf(journal.storageId);
    this.boot = state.boot;
    this.repairs = repairs;
    this.#disk = disk;
    this.#log = parts.log;
    this.#journal = journal;
    this.#extents = replay.extents;
    this.#snapshots = snapshots;
    this.#state = state;
    const { image } = state;
    if (image !== undefined) this.#recovered = { ...this.#identity(), image, ...replay.finish(image) };
  }

  get founding(): Founding {
    return this.#state.founding;
  }

  recovered(): Recovered {
    const recovered = this.#recovered;
    invariant(recovered !== undefined, "a replica is begun once, on a disk that belongs to a cluster", { founding: this.founding.type });
    this.#recovered = undefined;
    return recovered;
  }

  async found(founding: Founding): Promise<void> {
    const before = this.founding;
    invariant(before.type !== "formed", "what is formed stays so");
    invariant(founding.type !== "unformed", "a disk is pledged, or formed");
    invariant(before.type !== "pledged" || sameCharter(before.charter, founding.charter), "a pledge is never exchanged");
    if (founding.type === "pledged") return this.#append({ ...this.#state, founding }, []);
    const { image, entries } = genesisOf(membersOf(founding.charter));
    await this.#append({ ...this.#state, founding, image }, [{ type: "append", entries }]);
    this.#recovered = { ...this.#identity(), image, runs: entries.map(({ slot: from, origin }) => ({ from, origin })), tail: entries };
  }

  async write({ image, ops }: PersistBatch): Promise<void> {
    invariant(this.founding.type === "formed", "only a member's disk has a log");
    await this.#append({ ...this.#state, image }, ops);
  }

  async #append(state: NodeState, ops: PersistBatch["ops"]): Promise<void> {
    const content: FrameContent = { meta: stateCodec.encode(state), ops: ops.map(encodeOp) };
    const { compactedThrough = slot(0) } = state.image ?? {};
    this.#extents.compactThrough(compactedThrough); // what nobody reads any more needs no segment
    const firstSegment = this.#extents.oldestSegment ?? this.#journal.segment;
    await this.#journal.append(content, { firstSegment });
    this.#extents.note(ops, addressesOf(content.ops, this.#journal.newest));
    this.#extents.compactThrough(compactedThrough);
    this.#state = state;
  }

  async read({ after, through, maxBytes }: EntryRange): Promise<readonly Entry[]> {
    const entries: Entry[] = [];
    const window = new ReadWindow(this.#disk, this.#log);
    const end = minSlot(through, this.#state.image?.last ?? slot(0));
    let bytes = 0;
    let next = slot(after + 1);
    while (next <= end) {
      const extent = this.#extents.find(next);
      const found = extent === undefined ? undefined : await window.records(extent);
      if (found === undefined) break; // compacted meanwhile
      for (const entry of found) {
        if (entry.slot < next || entry.slot > end) continue;
        const previous = entries.at(-1);
        if (entry.slot !== next || (previous !== undefined && !continues(previous.chain, entry)))
          throw new OracleError("TSO_STORAGE", `${this.#log}: entry ${entry.slot} stands where entry ${next} belongs`);
        bytes += entry.record.length;
        if (bytes > maxBytes && entries.length > 0) return entries;
        entries.push(entry);
        next = slot(next + 1);
      }
    }
    return entries;
  }

  freeBytes(): Promise<number> {
    return this.#disk.freeBytes(this.#log);
  }

  snapshots(): readonly SnapshotMeta[] {
    return this.#snapshots.list();
  }

  stageSnapshot(id: string): Promise<SnapshotSink> {
    return this.#snapshots.stage(id);
  }

  readSnapshot(id: string, position: number, length: number): Promise<Uint8Array> {
    return this.#snapshots.read(id, position, length);
  }

  dropSnapshot(id: string): Promise<void> {
    return this.#snapshots.drop(id);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#journal.close();
  }

  #identity(): Pick<Recovered, "node" | "storageId" | "boot"> {
    return { node: this.node, storageId: this.storageId, boot: this.boot };
  }
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** Reads ahead, since entries that follow each other are asked for together, and mostly lie together. */
class ReadWindow {
  readonly #disk: Disk;
  readonly #log: string;
  #segment = -1;
  #at = 0;
  #bytes: Uint8Array = new Uint8Array(0);

  constructor(disk: Disk, log: string) {
    this.#disk = disk;
    this.#log = log;
  }

  /** The entries of an extent, in memory of their own; nothing where its segment is gone. @throws OracleError TSO_STORAGE */
  async records(extent: {
    readonly segment: number;
    readonly at: number;
    readonly bytes: number;
    readonly last: Slot;
  }): Promise<Entry[] | undefined> {
    const { segment, at, bytes } = extent;
    const path = join(this.#log, segmentName(segment));
    const isInside = segment === this.#segment && at >= this.#at && at + bytes <= this.#at + this.#bytes.length;
    if (!isInside) {
      const read = await this.#disk.readPart(path, at, Math.max(bytes, READ_AHEAD_BYTES)).catch((error: unknown) => {
        if (isErrno(error, "ENOENT")) return undefined;
        throw new OracleError("TSO_STORAGE", `${path} cannot be read: ${messageOf(error)}`, { cause: error });
      });
      if (read === undefined) return undefined;
      this.#segment = segment;
      this.#at = at;
      this.#bytes = read;
    }
    try {
      return this.#decode(at - this.#at, at - this.#at + bytes, extent.last);
    } catch (error) {
      if (!(error instanceof OracleError)) throw error;
      throw new OracleError("TSO_STORAGE", `${path} at byte ${at}: ${error.detail}`, { cause: error });
    }
  }

  #decode(from: number, to: number, last: Slot): Entry[] {
    const owned = new Uint8Array(this.#bytes.subarray(from, to));
    const entries: Entry[] = [];
    for (let at = 0; at < owned.length; ) {
      const length = recordLength(owned, at);
      const entry = decodeEntry(owned.subarray(at, at + length));
      entries.push(entry);
      if (entry.slot >= last) break; // what follows was cut off
      at += length;
    }
    return entries;
  }
}
