/**
 * A file system in memory that fails as real ones do: a power cut drops or tears what was not flushed, names that were not synced come and go, writes
 * stall, a device fills up, an operation fails. Every operation counts, so that a test can crash at each of them.
 */
import { OracleError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import type { Prng } from "../base/prng.ts";
import type { DirectoryLock, Disk, DiskFile, DurableFile } from "../disk/disk.ts";

const SECTOR = 512;

/** What is left of bytes and names that were not flushed: nothing, everything, or a seeded choice per sector and per name. */
export type PowerCut = "drops" | "keeps" | Prng;

export interface FaultyDiskOptions {
  /** Bytes of files, at most; beyond it writes fail with ENOSPC after as much as fits. @defaultValue no limit */
  readonly capacityBytes?: number | undefined;
  /** Called before each operation: throw to fail it, return a promise to stall it. */
  readonly before?: ((operation: Operation) => void | Promise<void>) | undefined;
}

export interface Operation {
  /** 1 for the first. */
  readonly number: number;
  readonly name:
    | "makeDirectory"
    | "list"
    | "read"
    | "readPart"
    | "create"
    | "open"
    | "link"
    | "remove"
    | "syncDirectory"
    | "lock"
    | "write"
    | "datasync"
    | "close";
  readonly path: string;
}

/** Thrown by every operation from a crash on: the process that used this disk is dead. */
export class DiskCrashed extends Error {
  override readonly name = "DiskCrashed";
}

/** An error of the operating system, as Node throws it. */
export function systemError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

interface Inode {
  current: Uint8Array;
  durable: Uint8Array;
}

interface Directory {
  readonly current: Map<string, Inode>;
  durable: Map<string, Inode>;
}

export class FaultyDisk implements Disk {
  before: FaultyDiskOptions["before"];
  capacityBytes: number;
  readonly #directories: Map<string, Directory>;
  readonly #locks = new Set<string>();
  #operations = 0;
  #crashed = false;

  constructor(options: FaultyDiskOptions = {}, directories: Map<string, Directory> = new Map()) {
    this.before = options.before;
    this.capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY;
    this.#directories = directories;
  }

  /** Operations so far, those that failed included. */
  get operations(): number {
    return this.#operations;
  }

  /** The machine loses power: this disk is dead, and the one returned is what the next start finds. */
  powerCut(what: PowerCut = "drops"): FaultyDisk {
    this.#crashed = true;
    const survivors = new Map<Inode, Inode>();
    const survivorOf = (inode: Inode): Inode => {
      const bytes = survivingBytes(inode, what);
      const survivor = survivors.get(inode) ?? { current: bytes, durable: bytes.slice() };
      survivors.set(inode, survivor);
      return survivor;
    };
    const directories = new Map<string, Directory>();
    for (const [path, { current, durable }] of this.#directories) {
      const names = new Map<string, Inode>();
      for (const name of [...new Set([...current.keys(), ...durable.keys()])].sort()) {
        const now = current.get(name);
        const then = durable.get(name);
        const inode = now === then ? now : keeps(what) ? now : then;
        if (inode !== undefined) names.set(name, survivorOf(inode));
      }
      directories.set(path, { current: names, durable: new Map(names) });
    }
    return new FaultyDisk({}, directories);
  }

  /** The process is killed: this disk is dead for it, and the next process finds all that was written, flushed or not. */
  kill(): FaultyDisk {
    this.#crashed = true;
    return new FaultyDisk({}, this.#directories);
  }

  /** The bytes of a file as a reader would see them now, to be changed by a test that damages it. */
  bytesOf(path: string): Uint8Array {
    const inode = this.#find(path);
    inode.durable = inode.current;
    return inode.current;
  }

  /** Cuts a file off, durably. */
  truncate(path: string, length: number): void {
    const inode = this.#find(path);
    inode.current = inode.current.slice(0, length);
    inode.durable = inode.current.slice();
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#operation("makeDirectory", path);
    if (!this.#directories.has(path)) this.#directories.set(path, { current: new Map(), durable: new Map() });
  }

  async list(directory: string): Promise<readonly string[]> {
    await this.#operation("list", directory);
    return [...this.#directory(directory).current.keys()].sort();
  }

  async read(path: string): Promise<Uint8Array> {
    await this.#operation("read", path);
    return this.#find(path).current.slice();
  }

  async readPart(path: string, position: number, length: number): Promise<Uint8Array> {
    await this.#operation("readPart", path);
    return this.#find(path).current.slice(position, position + length);
  }

  /** Counts as no operation: who watches a disk must not shift where a test crashes it. */
  async freeBytes(directory: string): Promise<number> {
    if (this.#crashed) throw new DiskCrashed(`freeBytes ${directory}`);
    return Math.max(0, this.capacityBytes - this.#bytesUsed());
  }

  async create(path: string): Promise<DiskFile> {
    await this.#operation("create", path);
    const { names, name } = this.#locate(path);
    if (names.has(name)) throw systemError("EEXIST", path);
    const inode: Inode = { current: new Uint8Array(0), durable: new Uint8Array(0) };
    names.set(name, inode);
    return this.#file(path, inode);
  }

  /** Its writes are two operations, so that a crash can come between the bytes and the flush. */
  async createDurable(path: string): Promise<DurableFile> {
    const file = await this.create(path);
    return {
      write: async (bytes, position) => {
        await file.write(bytes, position);
        await file.datasync();
      },
      close: () => file.close(),
    };
  }

  async open(path: string): Promise<DiskFile> {
    await this.#operation("open", path);
    return this.#file(path, this.#find(path));
  }

  async link(from: string, to: string): Promise<void> {
    await this.#operation("link", to);
    const inode = this.#find(from);
    const { names, name } = this.#locate(to);
    if (names.has(name)) throw systemError("EEXIST", to);
    names.set(name, inode);
  }

  async remove(path: string): Promise<void> {
    await this.#operation("remove", path);
    const { names, name } = this.#locate(path);
    if (!names.delete(name)) throw systemError("ENOENT", path);
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#operation("syncDirectory", path);
    const directory = this.#directory(path);
    directory.durable = new Map(directory.current);
  }

  async lock(directory: string): Promise<DirectoryLock> {
    await this.#operation("lock", directory);
    this.#directory(directory);
    if (this.#locks.has(directory)) throw new OracleError("TSO_LOCKED", `${directory} is in use`);
    this.#locks.add(directory);
    return {
      release: async () => {
        this.#locks.delete(directory);
      },
    };
  }

  #file(path: string, inode: Inode): DiskFile {
    return {
      write: async (bytes, position) => {
        const stored = bytes.slice(); // what the caller does with its buffer later is not what was written
        await this.#operation("write", path);
        const room = Math.max(0, this.capacityBytes - (this.#bytesUsed() - inode.current.length)) - position;
        const fits = stored.subarray(0, Math.max(0, room));
        inode.current = writtenInto(inode.current, fits, position);
        if (fits.length < stored.length) throw systemError("ENOSPC", path);
      },
      datasync: async () => {
        await this.#operation("datasync", path);
        inode.durable = inode.current.slice();
      },
      close: () => this.#operation("close", path),
    };
  }

  async #operation(name: Operation["name"], path: string): Promise<void> {
    if (this.#crashed) throw new DiskCrashed(`${name} ${path}`);
    this.#operations += 1;
    await this.before?.({ number: this.#operations, name, path });
    if (this.#crashed) throw new DiskCrashed(`${name} ${path}`);
  }

  #bytesUsed(): number {
    const inodes = new Set([...this.#directories.values()].flatMap((directory) => [...directory.current.values()]));
    return [...inodes].reduce((sum, inode) => sum + inode.current.length, 0);
  }

  #directory(path: string): Directory {
    const directory = this.#directories.get(path);
    if (directory === undefined) throw systemError("ENOENT", path);
    return directory;
  }

  #locate(path: string): { readonly names: Map<string, Inode>; readonly name: string } {
    const cut = path.lastIndexOf("/");
    return { names: this.#directory(path.slice(0, cut)).current, name: path.slice(cut + 1) };
  }

  #find(path: string): Inode {
    const { names, name } = this.#locate(path);
    const inode = names.get(name);
    if (inode === undefined) throw systemError("ENOENT", path);
    return inode;
  }
}

function writtenInto(file: Uint8Array, bytes: Uint8Array, position: number): Uint8Array {
  invariant(position <= file.length, "files are written without holes", { position, length: file.length });
  const written = new Uint8Array(Math.max(file.length, position + bytes.length));
  written.set(file);
  written.set(bytes, position);
  return written;
}

/** Sectors are written whole or not at all; an unflushed length is kept or lost with its last sector. */
function survivingBytes({ current, durable }: Inode, what: PowerCut): Uint8Array {
  if (what === "drops") return durable.slice();
  if (what === "keeps") return current.slice();
  const survived = new Uint8Array(current.length);
  survived.set(durable.subarray(0, current.length));
  let length = durable.length;
  for (let at = 0; at < current.length; at += SECTOR) {
    const end = Math.min(at + SECTOR, current.length);
    if (!what.chance(0.5)) continue;
    survived.set(current.subarray(at, end), at);
    length = Math.max(length, end);
  }
  return survived.subarray(0, length);
}

function keeps(what: PowerCut): boolean {
  return what === "keeps" || (what !== "drops" && what.chance(0.5));
}
