/**
 * Watches how much the disk can still take (rule F6). A write that fails for want of room ends the node, so it stops taking entries while there is some left for votes.
 * What counts as enough is a quarter more than what counts as little: a disk at the edge must not change the leader back and forth.
 */
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { wholeOption } from "../base/options.ts";
import type { DiskRoom } from "./core/effects.ts";
import type { LogStorage } from "./storage/log-storage.ts";
import type { PeerTimers } from "./transport/wire.ts";

export interface DiskRoomOptions {
  /** With less than this free, in bytes, a leader takes no proposals: they are `not-applied`, as `disk-low`. @defaultValue 256 MiB, or more for a storage with large segments: twice `noneBytes` */
  readonly lowBytes?: number | undefined;
  /** With less than this free, in bytes, the node takes no entries and does not lead; it still votes. @defaultValue 96 MiB: three segments, where they are larger than 32 MiB */
  readonly noneBytes?: number | undefined;
}

export interface DiskRoomLimits {
  readonly lowBytes: number;
  readonly noneBytes: number;
}

const MIB = 1024 * 1024;
const LARGEST = 2 ** 50;
const CHECK_MS = 1_000;
/** Of a limit: what must be free above it before it counts as passed. */
const MARGIN = 1.25;

/** @throws OracleError TSO_INVALID_OPTION, with the option, its value and the limit. */
export function resolveDiskRoom(options: DiskRoomOptions = {}, reserveBytes = 0): DiskRoomLimits {
  const none = Math.max(96 * MIB, 1.5 * reserveBytes);
  const { lowBytes = Math.max(256 * MIB, 2 * none), noneBytes = Math.min(none, lowBytes) } = options;
  wholeOption("diskRoom.lowBytes", lowBytes, { from: 0, through: LARGEST });
  wholeOption("diskRoom.noneBytes", noneBytes, { from: 0, through: lowBytes });
  return { lowBytes, noneBytes };
}

export function roomOf(freeBytes: number, { lowBytes, noneBytes }: DiskRoomLimits, before: DiskRoom): DiskRoom {
  const none = before === "none" ? noneBytes * MARGIN : noneBytes;
  const low = before === "enough" ? lowBytes : lowBytes * MARGIN;
  return freeBytes < none ? "none" : freeBytes < low ? "low" : "enough";
}

export interface RoomWatchParts {
  readonly storage: LogStorage;
  readonly limits: DiskRoomLimits;
  readonly timers: PeerTimers;
  readonly logger: Logger;
  /** Only where it changed; at first there is enough. */
  readonly onRoom: (room: DiskRoom) => void;
}

export class RoomWatch {
  readonly #parts: RoomWatchParts;
  #room: DiskRoom = "enough";
  #cancel: () => void = () => undefined;
  #over = false;
  #unreadable = false;

  /** Looks at once, and every second from then on. */
  constructor(parts: RoomWatchParts) {
    this.#parts = parts;
    void this.#look();
  }

  get room(): DiskRoom {
    return this.#room;
  }

  stop(): void {
    this.#over = true;
    this.#cancel();
  }

  async #look(): Promise<void> {
    const { storage, timers } = this.#parts;
    const freeBytes = await storage.freeBytes().catch((error: unknown) => this.#cannotRead(error));
    if (this.#over) return;
    if (freeBytes !== undefined) this.#judge(freeBytes);
    this.#cancel = timers.after(CHECK_MS, () => void this.#look());
  }

  #judge(freeBytes: number): void {
    const { limits, logger, onRoom } = this.#parts;
    const room = roomOf(freeBytes, limits, this.#room);
    if (room === this.#room) return;
    this.#room = room;
    if (room === "enough") logger.info({ freeBytes }, "the disk has room again");
    else if (room === "low") logger.warn({ freeBytes, limit: limits.lowBytes }, "the disk is nearly full: no proposals are taken");
    else logger.error({ freeBytes, limit: limits.noneBytes }, "the disk is full but for votes: this node takes no entries and does not lead");
    onRoom(room);
  }

  /** What is free is not known, so nothing changes; a disk that fails will be met by the next write. */
  #cannotRead(error: unknown): undefined {
    if (!this.#unreadable) this.#parts.logger.warn({ error: messageOf(error) }, "how much of the disk is free cannot be read");
    this.#unreadable = true;
  }
}
