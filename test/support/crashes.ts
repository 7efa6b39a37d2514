/** Processes that die at a chosen operation of a disk. */
import type { DirectoryLock, Disk, DiskFile } from "../../src/disk/disk.ts";
import { DiskCrashed, type FaultyDisk } from "../../src/testing/faulty-disk.ts";

/** `before`: the operation is not done. `after`: it is done, and the process never hears of it. Operations are counted from 1. */
export interface Death {
  readonly operation: number;
  readonly when: "before" | "after";
}

/** The disk as a process sees it that dies. `faulty` is what it leaves: `powerCut` and `kill` tell what the next process finds. */
export function dyingDisk(faulty: FaultyDisk, { operation, when }: Death): Disk {
  if (when === "before") {
    faulty.before = ({ number }) => {
      if (number === operation) faulty.kill();
    };
    return faulty;
  }
  return observedDisk(faulty, () => {
    if (faulty.operations < operation) return;
    faulty.kill();
    throw new DiskCrashed(`after operation ${operation}`);
  });
}

/** A disk that calls `done` after each operation that succeeded; what that throws is what the caller sees. */
function observedDisk(disk: Disk, done: () => void): Disk {
  const observed = async <T>(operation: Promise<T>): Promise<T> => {
    const result = await operation;
    done();
    return result;
  };
  const observedFile = async (file: DiskFile): Promise<DiskFile> => ({
    write: (bytes, position) => observed(file.write(bytes, position)),
    datasync: () => observed(file.datasync()),
    close: () => observed(file.close()),
  });
  return {
    makeDirectory: (path) => observed(disk.makeDirectory(path)),
    list: (directory) => observed(disk.list(directory)),
    read: (path) => observed(disk.read(path)),
    readPart: (path, position, length) => observed(disk.readPart(path, position, length)),
    freeBytes: (directory) => disk.freeBytes(directory),
    create: async (path) => observedFile(await observed(disk.create(path))),
    createDurable: async (path) => {
      const file = await observed(disk.createDurable(path));
      return { write: (bytes, position) => observed(file.write(bytes, position)), close: () => observed(file.close()) };
    },
    open: async (path) => observedFile(await observed(disk.open(path))),
    link: (from, to) => observed(disk.link(from, to)),
    remove: (path) => observed(disk.remove(path)),
    syncDirectory: (path) => observed(disk.syncDirectory(path)),
    lock: (directory) => observed(disk.lock(directory)),
  };
}

/** A disk on which nobody sees anybody's lock, as from another network namespace. */
export function withoutLock(disk: Disk): Disk {
  const lock: DirectoryLock = { release: async () => undefined };
  return { ...observedDisk(disk, () => undefined), lock: async () => lock };
}

/** What an operation fails with in a process that is dead: its own error, wrapped or not. */
export function isDeath(error: unknown): boolean {
  return error instanceof DiskCrashed || (error instanceof Error && isDeath(error.cause));
}
