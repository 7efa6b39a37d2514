/**
 * The engine for those who run RocksDB anyway, and know its tools: entries under their slots, the node's small state under a key of its own, one atomic and flushed batch for each write.
 * It passes the same conformance suite as the wal. What it cannot tell the wal can: RocksDB drops the end of its own log without a word from the first record that does not read back, and
 * nothing in it says that those writes had been flushed (`docs/storage.md`).
 */
import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { kindOf } from "../../base/bytes.ts";
import { messageOf, OracleError } from "../../base/errors.ts";
import { minSlot, type NodeId, type Slot, slot } from "../../base/ids.ts";
import { invariant } from "../../base/invariant.ts";
import { wholeOption } from "../../base/options.ts";
import { type Codec, createCodec, record } from "../../base/shape.ts";
import type { DirectoryLock } from "../../disk/disk.ts";
import { nodeDisk } from "../../disk/node-disk.ts";
import { BALLOT_ZERO, compareBallots, sameBallot } from "../core/ballot.ts";
import { FOUNDER_ID_MAX, membersOf, randomId, sameCharter } from "../core/charter.ts";
import type { OriginRun, Recovered } from "../core/effects.ts";
import { continues, decodeEntry, type Entry } from "../core/entry.ts";
import type { Founding } from "../core/founding.ts";
import { genesisOf } from "../core/genesis.ts";
import type { Image, PersistBatch } from "../core/image.ts";
import type { LogPoint } from "../core/snapshot.ts";
import { prepareDirectory } from "./directory.ts";
import type { EntryRange, LogStorage, SnapshotMeta, SnapshotSink } from "./log-storage.ts";
import { type NodeState, nodeStateShape } from "./node-state.ts";
import { findRocksBinding, type RocksRequest, RocksThread } from "./rocksdb-thread.ts";
import { SnapshotFiles } from "./snapshot-files.ts";

export interface RocksdbOptions {
  /** Holds nothing but this node's files. Made if it is missing. */
  readonly directory: string;
  /** The id of the node whose files they are, from 1 to 2^32-2; those of another node are refused. */
  readonly node: number;
}

interface DiskState {
  readonly storageId: string;
  readonly state: NodeState;
}

const diskStateCodec: Codec<DiskState> = createCodec(
  "the state of a node in RocksDB",
  1,
  record<DiskState>({ storageId: randomId, state: nodeStateShape }),
);

const STATE_KEY = Uint8Array.of(0x4d);
const ENTRY = 0x45;
/** What RocksDB takes at once, about: its own log and the tables that it makes of it. */
const RESERVE_BYTES = 64 * 1024 * 1024;
const READ_BYTES = 4 * 1024 * 1024;

/**
 * Opens what an earlier process left, or begins an empty directory. When it returns, the start of this process is counted, durably.
 * @throws OracleError TSO_LOCKED where another process has the directory open; TSO_STORAGE for what does not fit together, or a disk that fails; TSO_WRONG_FORMAT for another engine, format or
 * node, or a directory of something else; TSO_INVALID_OPTION, also where the binding is not installed or does not work here.
 */
export async function openRocksdb(options: RocksdbOptions): Promise<LogStorage> {
  const { directory } = options;
  if (typeof directory !== "string" || directory === "")
    throw new OracleError("TSO_INVALID_OPTION", `directory is ${directory === "" ? "empty" : kindOf(directory)}, and must be a path`);
  const node = wholeOption("node", options.node, { from: 1, through: FOUNDER_ID_MAX }) as NodeId;
  const binding = await findRocksBinding();
  const parts = await prepareDirectory(nodeDisk, directory, "rocksdb");
  await mkdir(parts.log, { recursive: true });
  const lock = await nodeDisk.lock(parts.log);
  let thread: RocksThread | undefined;
  try {
    thread = await RocksThread.open(join(parts.log, "db"), binding).catch((error: unknown) => {
      throw new OracleError("TSO_STORAGE", `RocksDB cannot open ${parts.log}: ${messageOf(error)}`, { cause: error });
    });
    const rocks = new Rocks(thread, parts.log);
    const found = await begin(rocks, node, directory);
    const { files, unusable } = await SnapshotFiles.open(nodeDisk, parts.snapshots);
    return new RocksStorage({ rocks, lock, log: parts.log, snapshots: files, repairs: unusable, ...found });
  } catch (error) {
    await thread?.close().catch(() => undefined);
    await lock.release();
    throw error;
  }
}

/** Requests, with the errors of ours. */
class Rocks {
  readonly #thread: RocksThread;
  readonly #where: string;

  constructor(thread: RocksThread, where: string) {
    this.#thread = thread;
    this.#where = where;
  }

  async ask(request: RocksRequest): Promise<readonly Uint8Array[]> {
    try {
      return await this.#thread.ask(request);
    } catch (error) {
      throw new OracleError("TSO_STORAGE", `RocksDB in ${this.#where} failed: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Entries after `after` through `through`, as many as fit. Whether they follow each other is for the caller to see. */
  async entries(after: number, through: number, maxBytes: number): Promise<Entry[]> {
    const found = await this.ask({ type: "read", from: keyOf(after + 1), before: keyOf(through + 1), maxBytes });
    const entries: Entry[] = [];
    for (let index = 1; index < found.length; index += 2) {
      const bytes = found[index];
      if (bytes !== undefined) entries.push(this.#decode(bytes));
    }
    return entries;
  }

  close(): Promise<void> {
    return this.#thread.close();
  }

  #decode(bytes: Uint8Array): Entry {
    try {
      return decodeEntry(bytes);
    } catch (error) {
      throw new OracleError("TSO_STORAGE", `${this.#where}: ${messageOf(error)}`, { cause: error });
    }
  }
}

interface Begun {
  readonly storageId: string;
  readonly state: NodeState;
  readonly recovered: Pick<Recovered, "runs" | "tail"> | undefined;
}

/** Reads all that is there, judges it, and counts this start. */
async function begin(rocks: Rocks, node: NodeId, directory: string): Promise<Begun> {
  const [, bytes] = await rocks.ask({ type: "read", from: STATE_KEY, before: Uint8Array.of(STATE_KEY[0] ?? 0, 0), maxBytes: READ_BYTES });
  const found = bytes === undefined ? undefined : diskStateCodec.decode(bytes);
  if (found === undefined && (await rocks.entries(0, Number.MAX_SAFE_INTEGER - 1, 1)).length > 0)
    throw new OracleError("TSO_STORAGE", `${directory} has entries, and not the state of the node that wrote them`);
  if (found !== undefined && found.state.node !== node)
    throw new OracleError(
      "TSO_WRONG_FORMAT",
      `${directory} belongs to node ${found.state.node}, and this is node ${node}: use the directory of this node`,
    );
  const { image } = found?.state ?? {};
  const recovered = image && (await verify(rocks, image));
  const state: NodeState = { ...(found?.state ?? { node, boot: 0, founding: { type: "unformed" } }), boot: (found?.state.boot ?? 0) + 1 };
  const storageId = found?.storageId ?? randomBytes(16).toString("hex");
  await rocks.ask({ type: "write", puts: [[STATE_KEY, diskStateCodec.encode({ storageId, state })]] });
  if (image !== undefined) await clearAround(rocks, image);
  return { storageId, state, recovered };
}

/** Every entry of the log, one after the other. @throws OracleError TSO_STORAGE */
async function verify(rocks: Rocks, image: Image): Promise<Pick<Recovered, "runs" | "tail">> {
  const runs: OriginRun[] = [];
  let tail: Entry[] = [];
  let end: LogPoint = { slot: image.compactedThrough, origin: image.compactedOrigin, chain: image.compactedChain };
  while (end.slot < image.last) {
    const entries = await rocks.entries(end.slot, image.last, READ_BYTES);
    if (entries.length === 0) throw unfit(`entry ${end.slot + 1} of ${image.last} is missing`);
    for (const entry of entries) {
      if (entry.slot !== end.slot + 1) throw unfit(`entry ${end.slot + 1} of ${image.last} is missing`);
      if (!continues(end.chain, entry)) throw unfit(`entry ${entry.slot} does not continue the chain of the entry before it`);
      if (compareBallots(entry.origin, end.slot === 0 ? BALLOT_ZERO : end.origin) < 0)
        throw unfit(`entry ${entry.slot} has an older origin than the entry before it`);
      if (!sameBallot(runs.at(-1)?.origin, entry.origin)) runs.push({ from: entry.slot, origin: entry.origin });
      end = entry;
    }
    tail = [...tail, ...entries].filter((entry) => entry.slot >= image.decidedThrough);
  }
  if (!sameBallot(end.origin, image.lastOrigin) || end.chain !== image.lastChain)
    throw unfit(`the log ends with another entry ${end.slot} than its state says`);
  return { runs, tail };
}

/** What is before the log and after it: of writes that were cut off, or of which a later one took back the end. */
async function clearAround(rocks: Rocks, { compactedThrough, last }: Image): Promise<void> {
  await rocks.ask({ type: "clear", from: keyOf(0), before: keyOf(compactedThrough + 1) });
  await rocks.ask({ type: "clear", from: keyOf(last + 1), before: Uint8Array.of(ENTRY + 1) });
}

interface RocksParts extends Begun {
  readonly rocks: Rocks;
  readonly lock: DirectoryLock;
  readonly log: string;
  readonly snapshots: SnapshotFiles;
  readonly repairs: readonly string[];
}

class RocksStorage implements LogStorage {
  readonly engine = "rocksdb";
  readonly reserveBytes = RESERVE_BYTES;
  readonly node: NodeId;
  readonly storageId: string;
  readonly boot: number;
  readonly repairs: readonly string[];
  readonly #parts: RocksParts;
  #state: NodeState;
  #recovered: Recovered | undefined;
  #failed: OracleError | undefined;
  #closed = false;

  constructor(parts: RocksParts) {
    const { state, storageId, recovered } = parts;
    this.node = state.node;
    this.storageId = storageId;
    this.boot = state.boot;
    this.repairs = parts.repairs;
    this.#parts = parts;
    this.#state = state;
    if (state.image !== undefined && recovered !== undefined) this.#recovered = { ...this.#identity(), image: state.image, ...recovered };
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
    if (founding.type === "pledged") return this.#put({ ...this.#state, founding }, []);
    const { image, entries } = genesisOf(membersOf(founding.charter));
    await this.#put({ ...this.#state, founding, image }, entries);
    this.#recovered = { ...this.#identity(), image, runs: entries.map(({ slot: from, origin }) => ({ from, origin })), tail: entries };
  }

  /** What is cut off or compacted is no longer in the log by what the state says; it is cleared afterwards, and by the next start where that is cut short. */
  async write({ image, ops }: PersistBatch): Promise<void> {
    invariant(this.founding.type === "formed", "only a member's disk has a log");
    const before = this.#state.image;
    await this.#put(
      { ...this.#state, image },
      ops
        .flatMap((op) => (op.type === "append" ? op.entries : []))
        .filter((entry) => entry.slot > image.compactedThrough && entry.slot <= image.last),
    );
    const grew = before !== undefined && image.compactedThrough > before.compactedThrough;
    const shrank = ops.some(({ type }) => type !== "append");
    if (grew) await this.#ask({ type: "clear", from: keyOf(0), before: keyOf(image.compactedThrough + 1) });
    if (shrank) await this.#ask({ type: "clear", from: keyOf(image.last + 1), before: Uint8Array.of(ENTRY + 1) });
  }

  async read({ after, through, maxBytes }: EntryRange): Promise<readonly Entry[]> {
    this.#requireOpen();
    const { image } = this.#state;
    if (image === undefined || after < image.compactedThrough) return [];
    const entries = await this.#parts.rocks.entries(after, minSlot(through, image.last), maxBytes);
    let next: Slot = slot(after + 1);
    const contiguous: Entry[] = [];
    for (const entry of entries) {
      const previous = contiguous.at(-1);
      if (entry.slot !== next) break; // compacted meanwhile
      if (previous !== undefined && !continues(previous.chain, entry))
        throw new OracleError("TSO_STORAGE", `${this.#parts.log}: entry ${entry.slot} does not continue the chain of the entry before it`);
      contiguous.push(entry);
      next = slot(next + 1);
    }
    return contiguous;
  }

  freeBytes(): Promise<number> {
    return nodeDisk.freeBytes(this.#parts.log);
  }

  snapshots(): readonly SnapshotMeta[] {
    return this.#parts.snapshots.list();
  }

  stageSnapshot(id: string): Promise<SnapshotSink> {
    return this.#parts.snapshots.stage(id);
  }

  readSnapshot(id: string, position: number, length: number): Promise<Uint8Array> {
    return this.#parts.snapshots.read(id, position, length);
  }

  dropSnapshot(id: string): Promise<void> {
    return this.#parts.snapshots.drop(id);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.#parts.rocks.close();
    } finally {
      await this.#parts.lock.release();
    }
  }

  async #put(state: NodeState, entries: readonly Entry[]): Promise<void> {
    const { storageId } = this;
    const puts = entries.map((entry) => [keyOf(entry.slot), entry.record] as const);
    await this.#ask({ type: "write", puts: [...puts, [STATE_KEY, diskStateCodec.encode({ storageId, state })]] });
    this.#state = state;
  }

  /** After one failed write nothing more is believed. */
  async #ask(request: RocksRequest): Promise<void> {
    this.#requireOpen();
    if (this.#failed !== undefined) throw this.#failed;
    try {
      await this.#parts.rocks.ask(request);
    } catch (error) {
      this.#failed = error as OracleError;
      throw error;
    }
  }

  #requireOpen(): void {
    if (this.#closed) throw new OracleError("TSO_CLOSED", "the storage is closed");
  }

  #identity(): Pick<Recovered, "node" | "storageId" | "boot"> {
    return { node: this.node, storageId: this.storageId, boot: this.boot };
  }
}

/** In the order of the slots. */
function keyOf(at: number): Uint8Array {
  const key = new Uint8Array(9);
  key[0] = ENTRY;
  new DataView(key.buffer).setBigUint64(1, BigInt(at));
  return key;
}

function unfit(what: string): OracleError {
  return new OracleError(
    "TSO_STORAGE",
    `${what}: this node must not vote from what is left; remove it from the cluster and add a new one (docs/storage.md)`,
  );
}
