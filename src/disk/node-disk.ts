import { constants } from "node:fs";
import { link, mkdir, open, readdir, readFile, statfs, unlink } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { type Disk, type DiskFile, type DurableFile, isErrno } from "./disk.ts";
import { lockDirectory } from "./lock.ts";

/** The file system of this machine. */
export const nodeDisk: Disk = {
  async makeDirectory(path) {
    const absolute = resolve(path);
    try {
      await makeName(absolute);
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
      await nodeDisk.makeDirectory(dirname(absolute));
      await makeName(absolute); // once: a parent that is still missing is a link that leads nowhere
    }
  },
  async list(directory) {
    return (await readdir(directory)).sort();
  },
  read: (path) => readFile(path),
  async readPart(path, position, length) {
    const handle = await open(path, "r");
    try {
      const bytes = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await handle.read(bytes, done, length - done, position + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return bytes.subarray(0, done);
    } finally {
      await handle.close();
    }
  },
  async freeBytes(directory) {
    const { bavail, bsize } = await statfs(directory);
    return bavail * bsize;
  },
  create: (path) => openFile(path, "wx"),
  createDurable,
  open: (path) => openFile(path, "r+"),
  link: (from, to) => link(from, to),
  remove: (path) => unlink(path),
  async syncDirectory(path) {
    const handle = await open(path, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
  lock: lockDirectory,
};

/** Makes one directory, whose parent is there, or finds it made: perhaps by a process that was killed before it had synced the name. */
async function makeName(path: string): Promise<void> {
  let found = false;
  try {
    await mkdir(path);
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
    found = true;
  }
  try {
    await nodeDisk.syncDirectory(dirname(path));
  } catch (error) {
    // Where the parent is not ours to open, whoever made the directory has seen to its name.
    if (!found || !["EACCES", "EPERM", "EROFS"].some((code) => isErrno(error, code))) throw error;
  }
}

const { O_WRONLY, O_CREAT, O_EXCL, O_DSYNC } = constants;

/**
 * On Linux the system itself flushes before a write returns (O_DSYNC): one turn of the thread pool instead of two, for the same promise (open(2)). Elsewhere a write is
 * followed by a flush: macOS takes O_DSYNC, and leaves the device's cache as it is.
 */
async function createDurable(path: string): Promise<DurableFile> {
  if (process.platform === "linux") return openFile(path, O_WRONLY | O_CREAT | O_EXCL | O_DSYNC);
  const file = await openFile(path, "wx");
  return {
    async write(bytes, position) {
      await file.write(bytes, position);
      await file.datasync();
    },
    close: () => file.close(),
  };
}

async function openFile(path: string, flags: "wx" | "r+" | number): Promise<DiskFile> {
  const handle = await open(path, flags);
  return {
    async write(bytes, position) {
      let done = 0;
      while (done < bytes.length) {
        const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
        done += bytesWritten;
      }
    },
    datasync: () => handle.datasync(),
    close: () => handle.close(),
  };
}
