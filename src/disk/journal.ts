/**
 * An append-only journal of checksummed frames in segment files: one durable write a frame, one frame at a time. What it carries is the
 * caller's: a small image that each frame repeats (`meta`), and operations that are replayed in order (`ops`). `docs/protocol.md` 5.1 to 5.4.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { OracleError } from "../base/errors.ts";
import { failpoint, failpointsArmed } from "../base/failpoints.ts";
import { invariant } from "../base/invariant.ts";
import { type DirectoryLock, type Disk, type DurableFile, isErrno } from "./disk.ts";
import { type EncodedFrame, encodeFrame, encodeSegmentHeader, type Frame, type FrameAddress, type FrameContent, SECTOR } from "./frame.ts";
import { damaged, listSegments, type Recovered, recoverSegments, segmentName, unfinishedName } from "./recovery.ts";
import { guardStorage, storageError } from "./storage-error.ts";

export interface JournalOptions {
  readonly disk: Disk;
  readonly directory: string;
  /** Bytes that a segment is filled with before use, so that a flush need not make the file longer. @defaultValue 8 MiB */
  readonly segmentBytes?: number | undefined;
  /** What to tell whoever finds the directory damaged: the way out. */
  readonly wayOut?: string | undefined;
}

export interface JournalOpening extends JournalOptions {
  /** Called with every frame that counts, in order, before the journal can be used. A throw refuses the directory. */
  readonly replay: (frame: Frame & FrameAddress) => void;
  /** Called when all were replayed, for what can be judged only then. A throw refuses the directory. */
  readonly verify?: (() => void) | undefined;
  /** The image that the next process begins with, from the newest one on disk: it is made durable before `openJournal` returns. */
  readonly revive: (newestMeta: Uint8Array) => Uint8Array;
}

export interface AppendOptions {
  /** Begins a new segment with this frame. */
  readonly roll?: boolean | undefined;
  /** Once this frame is durable, what lies before this segment is no longer needed. */
  readonly firstSegment?: number | undefined;
}

const SEGMENT_BYTES = 8 * 1024 * 1024;
/** Of the segment that a process begins with: it is to start soon, and each start leaves one, which goes only when nothing in it or before it counts any more. */
const FIRST_SEGMENT_BYTES = 256 * 1024;

/** Makes the directory and a journal with one frame in it. @throws OracleError TSO_WRONG_FORMAT where there is one already, or something else. */
export async function createJournal(options: JournalOptions, first: FrameContent): Promise<Journal> {
  const { disk, directory, segmentBytes = SEGMENT_BYTES } = options;
  return guardStorage(directory, async () => {
    await disk.makeDirectory(directory);
    return withLock(disk, directory, async (lock) => {
      const { segments, unfinished } = await listSegments(disk, directory);
      if (segments.length > 0) throw new OracleError("TSO_WRONG_FORMAT", `${directory} holds a journal already`);
      for (const name of unfinished) await disk.remove(join(directory, name));
      const journal = new Journal({ disk, directory, segmentBytes, storageId: randomBytes(16), lock, firstSegment: 1, torn: false });
      const bytes = Math.min(segmentBytes, FIRST_SEGMENT_BYTES);
      await journal.begin({ number: 1, firstSegment: 1, before: { seq: 0, bodyCrc: 0 }, kind: "batch", content: first, bytes });
      return journal;
    });
  });
}

/** Whether the directory holds a journal. A directory that is missing or empty, or where a crash interrupted the making, holds none. */
export async function hasJournal({ disk, directory }: JournalOptions): Promise<boolean> {
  return guardStorage(directory, async () => (await listSegments(disk, directory)).segments.length > 0);
}

/**
 * Opens what an earlier process left. Nothing is taken on trust because it could be read: the newest frame is written again, into a new segment, and
 * flushed, so that what a page cache only pretended to hold is on disk before anyone is told of it (rule 5.4.5).
 * @throws OracleError TSO_LOCKED, TSO_STORAGE for damage or a disk that fails, TSO_WRONG_FORMAT for a newer format or a foreign directory.
 */
export async function openJournal(options: JournalOpening): Promise<Journal> {
  const { disk, directory, segmentBytes = SEGMENT_BYTES, revive } = options;
  return guardStorage(directory, () =>
    withLock(disk, directory, async (lock) => {
      const { segments, unfinished } = await listSegments(disk, directory);
      if (segments.length === 0) throw new OracleError("TSO_WRONG_FORMAT", `${directory} holds no journal`);
      const recovered = await replayAll(options, segments);
      const { newest, before, lastSegment, storageId } = recovered;
      // A killed process may have left a name that only the cache has: were the next one durable and this one not, a segment would be missing.
      await disk.syncDirectory(directory);
      for (const name of unfinished) await disk.remove(join(directory, name));
      const { torn } = recovered;
      const journal = new Journal({ disk, directory, segmentBytes, storageId, lock, firstSegment: newest.firstSegment, torn });
      await journal.begin({
        number: lastSegment + 1,
        firstSegment: newest.firstSegment,
        before,
        bytes: Math.min(segmentBytes, FIRST_SEGMENT_BYTES),
        kind: "recover",
        content: { meta: revive(newest.meta), ops: newest.ops },
      });
      try {
        for (const number of recovered.stale) await disk.remove(join(directory, segmentName(number)));
      } catch (error) {
        await journal.close();
        throw error;
      }
      return journal;
    }),
  );
}

/** What a journal that nobody has open consists of. */
export interface JournalFound {
  readonly storageId: Uint8Array;
  /** Segments that count, the oldest and the newest. */
  readonly firstSegment: number;
  readonly lastSegment: number;
  readonly frames: number;
  readonly torn: boolean;
  /** Of the newest frame. */
  readonly seq: number;
  readonly meta: Uint8Array;
}

/** Reads all that `openJournal` would, and judges it alike; nothing is changed. @throws OracleError as `openJournal` does. */
export async function inspectJournal(options: Omit<JournalOpening, "revive">): Promise<JournalFound> {
  const { disk, directory, replay } = options;
  return guardStorage(directory, () =>
    withLock(disk, directory, async (lock) => {
      const { segments } = await listSegments(disk, directory);
      if (segments.length === 0) throw new OracleError("TSO_WRONG_FORMAT", `${directory} holds no journal`);
      let frames = 0;
      const counted = (frame: Frame & FrameAddress): void => {
        replay(frame);
        frames += 1;
      };
      const { storageId, newest, lastSegment, torn } = await replayAll({ ...options, replay: counted }, segments);
      await lock.release();
      return { storageId, firstSegment: newest.firstSegment, lastSegment, frames, torn, seq: newest.seq, meta: newest.meta };
    }),
  );
}

/** Reads everything that counts. What does not fit is told with the way out. */
async function replayAll(
  { disk, directory, wayOut, replay, verify }: Omit<JournalOpening, "revive">,
  segments: readonly number[],
): Promise<Recovered> {
  try {
    const recovered = await recoverSegments(disk, directory, segments);
    for await (const frame of recovered.frames) replayOne(directory, replay, frame);
    verify?.();
    return recovered;
  } catch (error) {
    if (!(error instanceof OracleError) || error.code !== "TSO_STORAGE") throw error;
    throw new OracleError("TSO_STORAGE", `${error.detail}. Nothing was changed. ${wayOut ?? ""}`.trimEnd(), { cause: error.cause });
  }
}

/** What the caller finds wrong with a frame is told with the frame's place. */
function replayOne(directory: string, replay: JournalOpening["replay"], frame: Frame & FrameAddress): void {
  try {
    replay(frame);
  } catch (error) {
    if (!(error instanceof OracleError)) throw error;
    throw new OracleError(error.code, damaged(join(directory, segmentName(frame.segment)), frame.opsAt, error.detail).detail, { cause: error });
  }
}

interface JournalParts {
  readonly disk: Disk;
  readonly directory: string;
  readonly segmentBytes: number;
  readonly storageId: Uint8Array;
  readonly lock: DirectoryLock;
  readonly firstSegment: number;
  readonly torn: boolean;
}

interface SegmentStart {
  readonly number: number;
  readonly firstSegment: number;
  readonly before: { readonly seq: number; readonly bodyCrc: number };
  readonly kind: Frame["kind"];
  readonly content: FrameContent;
  /** Of its file, unless its first frame needs more. */
  readonly bytes: number;
}

/** A file of zeros, flushed, which a segment can begin in. */
interface SpareFile {
  readonly file: DurableFile;
  readonly path: string;
}

/** The segment that frames go to. */
interface OpenSegment {
  readonly file: DurableFile;
  readonly number: number;
  readonly nonce: Uint8Array;
  /** Of its file. */
  readonly bytes: number;
  /** Where the next frame goes. */
  end: number;
}

export class Journal {
  readonly storageId: Uint8Array;
  /** Whether opening it cut off a write that a crash had interrupted. Nobody was told that it succeeded. */
  readonly torn: boolean;
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #segmentBytes: number;
  readonly #lock: DirectoryLock;
  #segment: OpenSegment | undefined;
  /** For the next segment, once this one is half full; resolves with nothing where it could not be made. */
  #spare: Promise<SpareFile | undefined> | undefined;
  #newest: FrameAddress = { segment: 0, opsAt: 0 };
  #last = { seq: 0, bodyCrc: 0 };
  #firstSegment: number;
  #busy = false;
  #closed = false;
  /** The poison latch: after one failed write or flush, no later success is believed. */
  #failure: OracleError | undefined;

  /** @internal Use `createJournal` or `openJournal`. */
  constructor(parts: JournalParts) {
    this.#disk = parts.disk;
    this.#directory = parts.directory;
    this.#segmentBytes = parts.segmentBytes;
    this.#lock = parts.lock;
    this.storageId = parts.storageId;
    this.torn = parts.torn;
    this.#firstSegment = parts.firstSegment;
  }

  /** The segment that the next frame goes to, unless it rolls. */
  get segment(): number {
    return this.#segment?.number ?? 0;
  }

  /** Where the newest frame is: after an opening, the one that was written again. */
  get newest(): FrameAddress {
    return this.#newest;
  }

  /** The oldest segment that still counts. */
  get firstSegment(): number {
    return this.#firstSegment;
  }

  /** Why the journal takes nothing more. */
  get failure(): OracleError | undefined {
    return this.#failure;
  }

  /** Whether a frame of `bytes` of content would begin a new segment. */
  wouldRoll(bytes: number): boolean {
    return this.#segment !== undefined && this.#segment.end + bytes + 2 * SECTOR > this.#segment.bytes;
  }

  /**
   * Returns the bytes written, once the frame is durable. One at a time: the next is not begun before this returned.
   * @throws OracleError TSO_STORAGE: whether the frame is durable is not known, and the journal takes nothing more. TSO_CLOSED after `close`.
   */
  async append(content: FrameContent, options: AppendOptions = {}): Promise<number> {
    if (this.#failure !== undefined) throw this.#failure;
    const segment = this.#segment;
    if (this.#closed || segment === undefined) throw new OracleError("TSO_CLOSED", `the journal in ${this.#directory} is closed`);
    invariant(!this.#busy, "one frame is written at a time");
    const firstSegment = options.firstSegment ?? this.#firstSegment;
    const newest = options.roll === true ? segment.number + 1 : segment.number;
    invariant(firstSegment >= this.#firstSegment, "what still counts moves forward only", { firstSegment });
    invariant(firstSegment <= newest, "the newest segment always counts", { firstSegment, newest });
    this.#busy = true;
    try {
      const encoded = this.#encode(segment.nonce, { kind: "batch", firstSegment, content });
      const full = segment.end > SECTOR && segment.end + encoded.bytes.length > segment.bytes;
      if (full || options.roll === true) {
        await segment.file.close();
        const bytes = this.#segmentBytes;
        await this.begin({ number: segment.number + 1, firstSegment, before: this.#last, kind: "batch", content, bytes });
      } else {
        if (failpointsArmed()) await failpoint("journal/before-write");
        await segment.file.write(encoded.bytes, segment.end);
        if (failpointsArmed()) await failpoint("journal/after-write");
        this.#note(segment, segment.end, encoded);
      }
      const { end, bytes: size } = this.#segment ?? segment;
      if (end > size / 2) this.#spare ??= this.#makeSpare(this.segment + 1);
      await this.#release(firstSegment);
      return encoded.bytes.length;
    } catch (error) {
      throw this.#poison(error);
    } finally {
      this.#busy = false;
    }
  }

  /** Frees the directory. Safe to call twice; a frame being written is waited for by whoever wrote it. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    invariant(!this.#busy, "a journal is closed between frames");
    try {
      await this.#dropSpare();
      await this.#segment?.file.close();
    } finally {
      await this.#lock.release();
    }
  }

  /**
   * Begins a segment that holds its first frame already when it gets its name: filled with zeros, written, flushed, then linked, so that a segment
   * without a good frame is never what a crash left. A name that is taken means that another process writes here.
   * @internal
   */
  async begin({ number, firstSegment, before, kind, content, bytes: least }: SegmentStart): Promise<void> {
    const nonce = randomBytes(16);
    this.#last = before;
    const encoded = this.#encode(nonce, { kind, firstSegment, content });
    const filled = SECTOR + encoded.bytes.length;
    const fileBytes = Math.max(least, filled);
    const { storageId } = this;
    const header = encodeSegmentHeader({ number, nonce, storageId, prevSeq: before.seq, prevBodyCrc: before.bodyCrc, fileBytes });
    if (failpointsArmed()) await failpoint("journal/before-roll");
    // A spare file holds its zeros already.
    const spare = await this.#takeSpare(fileBytes);
    const bytes = new Uint8Array(spare === undefined ? fileBytes : filled);
    bytes.set(header, 0);
    bytes.set(encoded.bytes, SECTOR);
    const { file, path } = spare ?? (await this.#createUnfinished(number));
    try {
      await file.write(bytes, 0);
      await this.#name(path, join(this.#directory, segmentName(number)));
    } catch (error) {
      await this.#discard({ file, path });
      throw error;
    }
    const segment = { file, number, nonce, bytes: fileBytes, end: SECTOR };
    this.#segment = segment;
    this.#note(segment, SECTOR, encoded);
  }

  async #createUnfinished(number: number): Promise<SpareFile> {
    const path = join(this.#directory, unfinishedName(number));
    return { file: await this.#disk.createDurable(path), path };
  }

  /** Fills the next segment's file while frames go to this one, so that a roll costs one small write. Nothing depends on it: a roll can do without. */
  async #makeSpare(number: number): Promise<SpareFile | undefined> {
    let spare: SpareFile | undefined;
    try {
      spare = await this.#createUnfinished(number);
      await spare.file.write(new Uint8Array(this.#segmentBytes), 0);
      return spare;
    } catch {
      // What is wrong with the disk, the next frame or roll will meet, and say.
      if (spare !== undefined) await this.#discard(spare);
      return undefined;
    }
  }

  async #takeSpare(fileBytes: number): Promise<SpareFile | undefined> {
    if (fileBytes === this.#segmentBytes) {
      const spare = await this.#spare;
      this.#spare = undefined;
      return spare;
    }
    await this.#dropSpare();
    return undefined;
  }

  async #dropSpare(): Promise<void> {
    const spare = await this.#spare;
    this.#spare = undefined;
    if (spare !== undefined) await this.#discard(spare);
  }

  /** A full disk gets its room back. What cannot be removed now is removed by the next start. */
  async #discard({ file, path }: SpareFile): Promise<void> {
    await file.close().catch(() => undefined);
    await this.#disk.remove(path).catch(() => undefined);
  }

  /** The frame that was encoded is durable, at `at` in that segment. */
  #note(segment: OpenSegment, at: number, { bytes, bodyCrc, opsAt }: EncodedFrame): void {
    this.#newest = { segment: segment.number, opsAt: at + opsAt };
    segment.end = at + bytes.length;
    this.#last = { seq: this.#last.seq + 1, bodyCrc };
  }

  /** Gives a segment its name, for good. */
  async #name(unfinished: string, path: string): Promise<void> {
    try {
      await this.#disk.link(unfinished, path);
    } catch (error) {
      if (!isErrno(error, "EEXIST")) throw error;
      throw new OracleError("TSO_LOCKED", `${path} was made by another process that writes to the same directory`, { cause: error });
    }
    await this.#disk.remove(unfinished);
    await this.#disk.syncDirectory(this.#directory);
  }

  #encode(nonce: Uint8Array, frame: { readonly kind: Frame["kind"]; readonly firstSegment: number; readonly content: FrameContent }) {
    const { seq, bodyCrc } = this.#last;
    const { kind, firstSegment, content } = frame;
    return encodeFrame({ kind, seq: seq + 1, syncedThrough: seq, firstSegment, ...content }, { nonce, prevBodyCrc: bodyCrc });
  }

  async #release(firstSegment: number): Promise<void> {
    for (let number = this.#firstSegment; number < firstSegment; number++) {
      await this.#disk.remove(join(this.#directory, segmentName(number)));
    }
    this.#firstSegment = firstSegment;
  }

  #poison(error: unknown): OracleError {
    this.#failure = storageError(this.#directory, error);
    return this.#failure;
  }
}

async function withLock<T>(disk: Disk, directory: string, use: (lock: DirectoryLock) => Promise<T>): Promise<T> {
  const lock = await disk.lock(directory);
  try {
    return await use(lock);
  } catch (error) {
    await lock.release();
    throw error;
  }
}
