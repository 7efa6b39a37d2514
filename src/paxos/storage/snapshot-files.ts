/**
 * Snapshots in a directory: a file of bytes, and one that says what they are. The second is written when the first is flushed, under another name, and gets its own last:
 * so a snapshot is there as a whole or not at all.
 */
import { createHash, type Hash } from "node:crypto";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { OracleError } from "../../base/errors.ts";
import { invariant } from "../../base/invariant.ts";
import { type Codec, createCodec } from "../../base/shape.ts";
import { type Disk, type DiskFile, isErrno } from "../../disk/disk.ts";
import { guardStorage } from "../../disk/storage-error.ts";
import { type SnapshotMeta, snapshotMetaShape } from "../core/snapshot.ts";
import type { NewSnapshot, SnapshotSink } from "./log-storage.ts";

const metaCodec: Codec<SnapshotMeta> = createCodec("a snapshot's description", 1, snapshotMetaShape);

const META_NAME = /^([0-9a-f]{32})\.meta$/;
const OUR_NAME = /^[0-9a-f]{32}\.(data|meta|meta\.tmp)$/;
const READ_BYTES = 1024 * 1024;
/** Flushed as they come: the log's own flush must not wait for all of a snapshot at once. */
const FLUSH_BYTES = 4 * 1024 * 1024;

/** How far a long look is, in bytes. */
export type Progress = (bytes: number, of: number) => void;

export class SnapshotFiles {
  readonly #disk: Disk;
  readonly #directory: string;
  #usable: SnapshotMeta[] = [];
  /** Those that are neither finished nor discarded, by id. */
  readonly #staged = new Map<string, StagedSnapshot>();

  private constructor(disk: Disk, directory: string) {
    this.#disk = disk;
    this.#directory = directory;
  }

  /**
   * Finds the snapshots that are there, and removes what a crash left half made. One whose files do not fit is not used: votes do not depend on it, and a peer has another.
   * @returns beside them, what was not usable.
   */
  static async open(disk: Disk, directory: string): Promise<{ readonly files: SnapshotFiles; readonly unusable: readonly string[] }> {
    await disk.makeDirectory(directory);
    const files = new SnapshotFiles(disk, directory);
    const { usable, unusable, leftovers } = await inspect(disk, directory);
    for (const name of leftovers) await disk.remove(join(directory, name));
    files.#usable = [...usable];
    return { files, unusable };
  }

  /** What `open` would find, and whether every byte is as it was; changes nothing. */
  static async inspect(
    disk: Disk,
    directory: string,
    onProgress?: Progress,
  ): Promise<{ readonly usable: readonly SnapshotMeta[]; readonly unusable: readonly string[] }> {
    const { usable, unusable } = await inspect(disk, directory);
    const bad = [...unusable];
    const good: SnapshotMeta[] = [];
    for (const meta of usable) {
      const sha256 = await hashOf(disk, dataPath(directory, meta.id), meta.bytes, onProgress);
      if (sha256 === meta.sha256) good.push(meta);
      else bad.push(`${dataPath(directory, meta.id)}: its bytes are not those of snapshot ${meta.id}`);
    }
    return { usable: good, unusable: bad };
  }

  list(): readonly SnapshotMeta[] {
    return this.#usable;
  }

  async stage(id: string): Promise<SnapshotSink> {
    if (!/^[0-9a-f]{32}$/.test(id)) throw new OracleError("TSO_INVALID_ARGUMENT", `a snapshot's id has 32 hex digits, and "${id}" has not`);
    if (this.#usable.some((meta) => meta.id === id)) throw new OracleError("TSO_INVALID_ARGUMENT", `snapshot ${id} is there already`);
    return guardStorage(this.#directory, async () => {
      await this.#staged.get(id)?.discard();
      await this.#remove(dataPath(this.#directory, id));
      const file = await this.#disk.create(dataPath(this.#directory, id));
      const staged = new StagedSnapshot(id, file, {
        guard: (use) => guardStorage(this.#directory, use),
        finish: (meta) => this.#finish(meta),
        remove: () => {
          this.#staged.delete(id);
          return this.#remove(dataPath(this.#directory, id));
        },
      });
      this.#staged.set(id, staged);
      return staged;
    });
  }

  async read(id: string, position: number, length: number): Promise<Uint8Array> {
    const meta = this.#usable.find((each) => each.id === id);
    if (meta === undefined) throw new OracleError("TSO_INVALID_ARGUMENT", `there is no snapshot ${id}`);
    const wanted = Math.max(0, Math.min(length, meta.bytes - position));
    return guardStorage(this.#directory, () => this.#disk.readPart(dataPath(this.#directory, id), position, wanted));
  }

  /** Its description goes first: what is left after a crash is only bytes that nobody asks for. */
  async drop(id: string): Promise<void> {
    this.#usable = this.#usable.filter((meta) => meta.id !== id);
    await guardStorage(this.#directory, async () => {
      await this.#remove(metaPath(this.#directory, id));
      await this.#remove(dataPath(this.#directory, id));
    });
  }

  async #finish(meta: SnapshotMeta): Promise<void> {
    this.#staged.delete(meta.id);
    const encoded = metaCodec.encode(meta);
    const bytes = new Uint8Array(4 + encoded.length);
    new DataView(bytes.buffer).setUint32(0, crc32(encoded), true);
    bytes.set(encoded, 4);
    const unfinished = `${metaPath(this.#directory, meta.id)}.tmp`;
    await this.#remove(unfinished);
    const file = await this.#disk.create(unfinished);
    try {
      await file.write(bytes, 0);
      await file.datasync();
    } finally {
      await file.close();
    }
    await this.#disk.link(unfinished, metaPath(this.#directory, meta.id));
    await this.#disk.remove(unfinished);
    await this.#disk.syncDirectory(this.#directory);
    this.#usable = [...this.#usable, meta].sort((a, b) => a.slot - b.slot);
  }

  async #remove(path: string): Promise<void> {
    await this.#disk.remove(path).catch((error: unknown) => {
      if (!isErrno(error, "ENOENT")) throw error;
    });
  }
}

interface Owner {
  guard<T>(use: () => Promise<T>): Promise<T>;
  finish(meta: SnapshotMeta): Promise<void>;
  remove(): Promise<void>;
}

class StagedSnapshot implements SnapshotSink {
  readonly #id: string;
  readonly #file: DiskFile;
  readonly #owner: Owner;
  readonly #hash: Hash = createHash("sha256");
  #bytes = 0;
  #flushed = 0;
  #over = false;

  constructor(id: string, file: DiskFile, owner: Owner) {
    this.#id = id;
    this.#file = file;
    this.#owner = owner;
  }

  async write(chunk: Uint8Array): Promise<void> {
    invariant(!this.#over, "a snapshot that was finished or discarded takes nothing more", { id: this.#id });
    const at = this.#bytes;
    this.#bytes += chunk.length;
    this.#hash.update(chunk);
    await this.#owner.guard(async () => {
      await this.#file.write(chunk, at);
      if (this.#bytes - this.#flushed < FLUSH_BYTES) return;
      this.#flushed = this.#bytes;
      await this.#file.datasync();
    });
  }

  async finish(about: SnapshotMeta | NewSnapshot): Promise<SnapshotMeta> {
    const sha256 = this.#hash.digest("hex");
    const meta = { id: this.#id, bytes: this.#bytes, sha256, ...about };
    invariant(!this.#over && meta.id === this.#id, "a snapshot is finished once, under its own id", { id: this.#id, meta: meta.id });
    if (meta.bytes !== this.#bytes || meta.sha256 !== sha256) {
      await this.#drop();
      throw new OracleError(
        "TSO_WRONG_FORMAT",
        `snapshot ${meta.id} should have ${meta.bytes} bytes with checksum ${meta.sha256}, and ${this.#bytes} came, with ${sha256}`,
      );
    }
    await this.#owner.guard(async () => {
      await this.#file.datasync();
      this.#over = true;
      await this.#file.close();
      await this.#owner.finish(meta);
    });
    return meta;
  }

  async discard(): Promise<void> {
    if (!this.#over) await this.#drop();
  }

  async #drop(): Promise<void> {
    this.#over = true;
    await this.#owner.guard(async () => {
      await this.#file.close();
      await this.#owner.remove();
    });
  }
}

interface Inspected {
  readonly usable: readonly SnapshotMeta[];
  readonly unusable: readonly string[];
  /** Names of our files that belong to no usable snapshot. */
  readonly leftovers: readonly string[];
}

async function inspect(disk: Disk, directory: string): Promise<Inspected> {
  const names = await listOrNothing(disk, directory);
  const usable: SnapshotMeta[] = [];
  const unusable: string[] = [];
  const kept = new Set<string>();
  for (const name of names) {
    const id = META_NAME.exec(name)?.[1];
    if (id === undefined) continue;
    const meta = readMeta(await disk.read(join(directory, name)));
    if (meta?.id !== id) unusable.push(`${join(directory, name)}: it is damaged`);
    else if (!names.includes(`${id}.data`)) unusable.push(`${dataPath(directory, id)}: it is missing`);
    else {
      usable.push(meta);
      kept.add(name).add(`${id}.data`);
    }
  }
  return { usable: usable.sort((a, b) => a.slot - b.slot), unusable, leftovers: names.filter((name) => OUR_NAME.test(name) && !kept.has(name)) };
}

function readMeta(bytes: Uint8Array): SnapshotMeta | undefined {
  if (bytes.length < 4) return undefined;
  const encoded = bytes.subarray(4);
  if (new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) !== crc32(encoded)) return undefined;
  return metaCodec.decode(encoded);
}

async function hashOf(disk: Disk, path: string, bytes: number, onProgress?: Progress): Promise<string> {
  const hash = createHash("sha256");
  for (let at = 0; at < bytes; at += READ_BYTES) {
    hash.update(await disk.readPart(path, at, Math.min(READ_BYTES, bytes - at)));
    onProgress?.(Math.min(bytes, at + READ_BYTES), bytes);
  }
  return hash.digest("hex");
}

async function listOrNothing(disk: Disk, directory: string): Promise<readonly string[]> {
  try {
    return await disk.list(directory);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

function dataPath(directory: string, id: string): string {
  return join(directory, `${id}.data`);
}

function metaPath(directory: string, id: string): string {
  return join(directory, `${id}.meta`);
}
