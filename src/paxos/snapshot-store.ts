/**
 * A node's snapshots, on its disk and in its machine's hands: writes down what was captured while the machine goes on, puts together what comes from a peer, reads what a peer asks for, and
 * gives a machine back what it once captured. What a disk will not take of a snapshot is no harm: the log has it all.
 */
import { randomBytes } from "node:crypto";
import { setImmediate as nextTurn, setTimeout as pause } from "node:timers/promises";
import { messageOf, OracleError } from "../base/errors.ts";
import { failpoint, failpointsArmed } from "../base/failpoints.ts";
import type { Slot } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import { chunkHead, SnapshotReader, snapshotEnd, snapshotHead } from "../disk/snapshot-format.ts";
import type { Prepared, StateMachine } from "../log.ts";
import type { Image } from "./core/image.ts";
import type { SnapshotMeta } from "./core/snapshot.ts";
import type { SnapshotPiece, SnapshotWork } from "./core/snapshot-transfer.ts";
import type { DiskRoomLimits } from "./disk-room.ts";
import type { LogStorage, SnapshotSink } from "./storage/log-storage.ts";
import type { Capture, TurnInput } from "./turn.ts";

export interface SnapshotStoreParts {
  readonly storage: LogStorage;
  readonly machine: StateMachine;
  readonly diskRoom: DiskRoomLimits;
  readonly logger: Logger;
}

/** Work on a snapshot that takes its time, for people. */
export interface SnapshotTask {
  readonly type: "taking" | "restoring";
  readonly slot: Slot;
  readonly bytes: number;
  /** Not known while one is taken. */
  readonly of: number | undefined;
}

type StorePiece = Extract<SnapshotWork, { readonly type: "store" }>;

/** Written, or read, at once. */
const PIECE_BYTES = 1024 * 1024;
/** Work without a break is no longer, ms: others are served in between. */
const SPELL_MS = 5;

export class SnapshotStore {
  readonly #parts: SnapshotStoreParts;
  #put: (input: TurnInput) => void = () => undefined;
  #fail: (fault: unknown) => void = () => undefined;
  readonly #tasks = new Set<{ -readonly [Name in keyof SnapshotTask]: SnapshotTask[Name] }>();
  #capturing: Promise<void> = Promise.resolve();
  /** What comes from a peer: one operation after the other. */
  #staging: Promise<void> = Promise.resolve();
  /** Read last, for a peer. */
  #ahead: { readonly id: string; readonly at: number; readonly bytes: Uint8Array } | undefined;
  /** What peers asked for. */
  #reading: Promise<void> = Promise.resolve();
  /** What comes while the disk writes is written together; nothing else has come since. */
  #unwritten: StorePiece[] | undefined;
  #staged: { readonly meta: SnapshotMeta; readonly sink: SnapshotSink; readonly began: number; bytes: number } | undefined;
  #newestBytes = 0;
  #over = false;

  constructor(parts: SnapshotStoreParts) {
    this.#parts = parts;
  }

  /** @param fail the node must stop: the host's machine threw. */
  attach(put: (input: TurnInput) => void, fail: (fault: unknown) => void): void {
    this.#put = put;
    this.#fail = fail;
  }

  get tasks(): readonly SnapshotTask[] {
    return [...this.#tasks];
  }

  /** Nothing is begun any more, and nobody is told of anything. Returns when this process touches no file any more; what is staged goes with the next start. */
  async stop(): Promise<void> {
    this.#over = true;
    await Promise.all([this.#capturing, this.#staging, this.#reading]);
  }

  /**
   * At a start: makes the machine what the newest usable snapshot says, if there is one, and drops the others.
   * @returns nothing where the log is whole, or no snapshot of it can be read.
   * @throws what the machine throws; OracleError TSO_STORAGE where no snapshot can be read and no peer could give another.
   */
  async restoreNewest({ compactedThrough, decidedThrough, configuration }: Image): Promise<SnapshotMeta | undefined> {
    const { storage, logger } = this.#parts;
    const restored = await this.#restoreFirst(
      storage
        .snapshots()
        .filter(({ slot }) => slot >= compactedThrough && slot <= decidedThrough)
        .toReversed(),
    );
    if (restored !== undefined) {
      this.#newestBytes = restored.bytes;
      for (const { id } of storage.snapshots()) if (id !== restored.id) await storage.dropSnapshot(id);
    } else if (compactedThrough > 0) {
      const what = `the log begins after entry ${compactedThrough}, and no snapshot of what came before can be read`;
      if (configuration.members.length === 1)
        throw new OracleError("TSO_STORAGE", `${what}: this is the only node, so restore its directory from a copy`);
      logger.error({ compactedThrough }, `${what}: this node votes, and applies nothing until a peer has given it one`);
    }
    return restored;
  }

  async #restoreFirst(candidates: readonly SnapshotMeta[]): Promise<SnapshotMeta | undefined> {
    for (const meta of candidates) {
      try {
        (await this.#prepare(meta, new Spell(false))).install();
        return meta;
      } catch (error) {
        if (!(error instanceof UnreadableSnapshot)) throw error;
        this.#parts.logger.error({ slot: meta.slot, id: meta.id, error: messageOf(error.cause) }, "a snapshot cannot be read");
      }
    }
    return undefined;
  }

  /** Writes it down while the machine goes on. One at a time. */
  capture(capture: Capture): void {
    this.#capturing = this.#capture(capture).catch((error: unknown) => this.#fail(error)); // of a view that is none
  }

  async #capture(capture: Capture): Promise<void> {
    const { logger } = this.#parts;
    const began = performance.now();
    try {
      const meta = await this.#write(capture);
      if (meta === undefined) return this.#tell({ type: "snapshot-skipped" });
      this.#newestBytes = meta.bytes;
      logger.info({ slot: meta.slot, bytes: meta.bytes, ms: Math.round(performance.now() - began) }, "a snapshot was taken");
      this.#tell({ type: "snapshot-made", meta });
    } catch (error) {
      if (error instanceof OracleError && error.code === "TSO_STORAGE") {
        logger.error({ slot: capture.slot, error: error.detail }, "a snapshot cannot be written; the log goes on without it");
        return this.#tell({ type: "snapshot-skipped" });
      }
      if (!this.#over) this.#fail(error);
    } finally {
      capture.view.release();
    }
  }

  carryOut(work: SnapshotWork): void {
    if (work.type === "read")
      this.#reading = this.#reading.then(() => this.#read(work.request)); // in the order in which they were asked for
    else if (work.type === "store" && this.#unwritten !== undefined) this.#unwritten.push(work);
    else {
      const pieces = work.type === "store" ? [work] : undefined;
      this.#unwritten = pieces;
      this.#staging = this.#staging.then(() => this.#stage(work, pieces)).catch((error: unknown) => this.#fail(error));
    }
  }

  #tell(input: TurnInput): void {
    if (!this.#over) this.#put(input);
  }

  async #write({ view, ...point }: Capture): Promise<SnapshotMeta | undefined> {
    const { storage } = this.#parts;
    if (!(await this.#hasRoom(this.#newestBytes))) return undefined;
    const task = { type: "taking" as const, slot: point.slot, bytes: 0, of: undefined };
    this.#tasks.add(task);
    const sink = await storage.stageSnapshot(randomBytes(16).toString("hex"));
    try {
      const pieces = new Pieces((piece) => sink.write(piece));
      const spell = new Spell(true);
      await pieces.add(snapshotHead());
      let chunks = 0;
      for await (const chunk of view.chunks()) {
        if (this.#over) return undefined;
        await pieces.add(chunkHead(chunk));
        await pieces.add(chunk);
        chunks += 1;
        task.bytes = pieces.bytes;
        await spell.rest();
      }
      await pieces.add(snapshotEnd(chunks));
      await pieces.flush();
      if (this.#over) return undefined;
      if (failpointsArmed()) await failpoint("snapshot/captured");
      const meta = await sink.finish(point);
      if (failpointsArmed()) await failpoint("snapshot/written");
      return meta;
    } finally {
      this.#tasks.delete(task);
      await sink.discard();
    }
  }

  async #hasRoom(bytes: number): Promise<boolean> {
    const { storage, diskRoom, logger } = this.#parts;
    const freeBytes = await storage.freeBytes();
    if (freeBytes - bytes > diskRoom.noneBytes) return true;
    logger.warn({ freeBytes, bytes, limit: diskRoom.noneBytes }, "the disk has no room for a snapshot");
    return false;
  }

  async #stage(work: Exclude<SnapshotWork, { readonly type: "read" }>, pieces: readonly StorePiece[] = []): Promise<void> {
    if (pieces === this.#unwritten) this.#unwritten = undefined;
    if (this.#over) return;
    const id = "id" in work ? work.id : work.meta.id;
    try {
      switch (work.type) {
        case "stage":
          return await this.#begin(work.meta);
        case "store":
          return await this.#store(id, pieces);
        case "finish":
          return await this.#finish(work.meta);
        case "drop":
          await this.#dropStaged(id);
          await this.#parts.storage.dropSnapshot(id);
      }
    } catch (error) {
      if (!(error instanceof OracleError) || (error.code !== "TSO_STORAGE" && error.code !== "TSO_WRONG_FORMAT")) throw error; // of the host's machine
      this.#parts.logger.error({ id, error: error.detail }, "a snapshot from a peer cannot be kept");
      await this.#dropStaged(id).catch(() => undefined); // the next start removes it
      this.#tell({ type: "snapshot-refused", id });
    }
  }

  async #begin(meta: SnapshotMeta): Promise<void> {
    const { storage, logger } = this.#parts;
    if (this.#staged?.meta.id === meta.id) return;
    await this.#dropStaged(this.#staged?.meta.id);
    if (!(await this.#hasRoom(meta.bytes))) return this.#tell({ type: "snapshot-refused", id: meta.id });
    logger.info({ slot: meta.slot, bytes: meta.bytes }, "a snapshot is pulled from a peer");
    await storage.dropSnapshot(meta.id); // there may be one that cannot be read
    this.#staged = { meta, sink: await storage.stageSnapshot(meta.id), began: performance.now(), bytes: 0 };
  }

  async #store(id: string, pieces: readonly StorePiece[]): Promise<void> {
    const staged = this.#staged;
    if (staged?.meta.id !== id) return;
    if (failpointsArmed()) await failpoint("snapshot/storing");
    const mine = pieces.filter((piece) => piece.id === id).map(({ bytes }) => bytes);
    const bytes = mine.length === 1 && mine[0] !== undefined ? mine[0] : new Uint8Array(Buffer.concat(mine));
    await staged.sink.write(bytes);
    staged.bytes += bytes.length;
    this.#tell({ type: "snapshot-stored", id, bytes: staged.bytes });
  }

  async #finish(meta: SnapshotMeta): Promise<void> {
    const staged = this.#staged;
    if (staged?.meta.id !== meta.id) return;
    this.#staged = undefined;
    await staged.sink.finish(meta);
    if (failpointsArmed()) await failpoint("snapshot/whole");
    const ms = Math.round(performance.now() - staged.began);
    this.#parts.logger.info({ slot: meta.slot, bytes: meta.bytes, ms }, "a snapshot has come, and is on the disk");
    try {
      const prepared = await this.#prepare(meta, new Spell(true));
      if (failpointsArmed()) await failpoint("snapshot/staged");
      if (this.#over) return prepared.discard();
      this.#newestBytes = meta.bytes;
      this.#tell({ type: "snapshot-staged", meta, prepared });
    } catch (error) {
      if (!(error instanceof UnreadableSnapshot)) throw error;
      await this.#parts.storage.dropSnapshot(meta.id);
      throw error.cause;
    }
  }

  async #dropStaged(id: string | undefined): Promise<void> {
    if (this.#staged === undefined || this.#staged.meta.id !== id) return;
    const { sink } = this.#staged;
    this.#staged = undefined;
    await sink.discard();
  }

  async #read(piece: SnapshotPiece): Promise<void> {
    try {
      if (failpointsArmed()) await failpoint("snapshot/serving");
      this.#tell({ type: "snapshot-read", piece, bytes: await this.#readAhead(piece) });
    } catch (error) {
      if (!(error instanceof OracleError && error.code === "TSO_INVALID_ARGUMENT"))
        this.#parts.logger.error({ peer: piece.to, id: piece.snapshot, error: messageOf(error) }, "a snapshot that a peer asked for cannot be read");
      this.#tell({ type: "snapshot-read", piece, bytes: undefined });
    }
  }

  /** Pieces are small, and mostly asked for one after the other: several are read at once. */
  async #readAhead({ snapshot, position, length }: SnapshotPiece): Promise<Uint8Array> {
    const known = this.#ahead;
    const isInside = known?.id === snapshot && position >= known.at && position + length <= known.at + known.bytes.length;
    if (known !== undefined && isInside) return known.bytes.subarray(position - known.at, position - known.at + length);
    const bytes = await this.#parts.storage.readSnapshot(snapshot, position, Math.max(length, PIECE_BYTES));
    this.#ahead = { id: snapshot, at: position, bytes };
    return bytes.subarray(0, length);
  }

  /** @throws UnreadableSnapshot; what the machine throws */
  async #prepare(meta: SnapshotMeta, spell: Spell): Promise<Prepared> {
    const { storage, machine } = this.#parts;
    const task = { type: "restoring" as const, slot: meta.slot, bytes: 0, of: meta.bytes };
    this.#tasks.add(task);
    const sink = machine.stage();
    let isWhole = false;
    try {
      const reader = new SnapshotReader();
      while (task.bytes < meta.bytes) {
        const piece = await readable(() => storage.readSnapshot(meta.id, task.bytes, PIECE_BYTES));
        if (piece.length === 0)
          await readable(() => Promise.reject(new OracleError("TSO_WRONG_FORMAT", `it ends at byte ${task.bytes} of ${meta.bytes}`)));
        const chunks = reader.push(piece);
        for (let next = await readable(async () => chunks.next()); next.done !== true; next = await readable(async () => chunks.next())) {
          await sink.write(next.value);
          await spell.rest();
        }
        task.bytes += piece.length;
      }
      await readable(async () => reader.end());
      isWhole = true;
      return await sink.finish();
    } finally {
      this.#tasks.delete(task);
      if (!isWhole) sink.discard();
    }
  }
}

/** What is on the disk is not what was written. `cause` says why. */
class UnreadableSnapshot extends Error {
  override readonly name = "UnreadableSnapshot";
}

async function readable<T>(use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    throw new UnreadableSnapshot(messageOf(error), { cause: error });
  }
}

/** Puts small pieces together into large ones. */
class Pieces {
  readonly #write: (piece: Uint8Array) => Promise<void>;
  #buffered: Uint8Array[] = [];
  #length = 0;
  bytes = 0;

  constructor(write: (piece: Uint8Array) => Promise<void>) {
    this.#write = write;
  }

  async add(bytes: Uint8Array): Promise<void> {
    this.#buffered.push(bytes);
    this.#length += bytes.length;
    this.bytes += bytes.length;
    if (this.#length >= PIECE_BYTES) await this.flush();
  }

  async flush(): Promise<void> {
    if (this.#length === 0) return;
    const [first] = this.#buffered;
    const piece = this.#buffered.length === 1 && first !== undefined ? first : new Uint8Array(Buffer.concat(this.#buffered));
    this.#buffered = [];
    this.#length = 0;
    await this.#write(piece);
  }
}

/** Lets others have their turn after a while: those in this process, and, where nobody waits for the work, those that share the machine. */
class Spell {
  readonly #isGentle: boolean;
  #since = performance.now();

  constructor(isGentle: boolean) {
    this.#isGentle = isGentle;
  }

  async rest(): Promise<void> {
    const spentMs = performance.now() - this.#since;
    if (spentMs < SPELL_MS) return;
    await (this.#isGentle ? pause(spentMs) : nextTurn());
    this.#since = performance.now();
  }
}
