import { link, mkdir, open, readdir, readFile, unlink } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { type Disk, type DiskFile, isErrno } from "./disk.ts";
import { lockDirectory } from "./lock.ts";

/** The file system of this machine. */
export const nodeDisk: Disk = {
  async makeDirectory(path) {
    const absolute = resolve(path);
    const parent = dirname(absolute);
    try {
      await mkdir(absolute);
    } catch (error) {
      if (isErrno(error, "EEXIST")) return syncIfAllowed(parent);
      if (!isErrno(error, "ENOENT")) throw error;
      await nodeDisk.makeDirectory(parent);
      await mkdir(absolute); // once: a parent that is still missing is a link that leads nowhere
    }
    await nodeDisk.syncDirectory(parent);
  },
  async list(directory) {
    return (await readdir(directory)).sort();
  },
  read: (path) => readFile(path),
  create: (path) => openFile(path, "wx"),
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

/** The name may be one that a killed process made and did not sync. Where the parent is not ours to open, whoever made the directory has seen to it. */
async function syncIfAllowed(directory: string): Promise<void> {
  try {
    await nodeDisk.syncDirectory(directory);
  } catch (error) {
    if (!["EACCES", "EPERM", "EROFS"].some((code) => isErrno(error, code))) throw error;
  }
}

async function openFile(path: string, flags: "wx" | "r+"): Promise<DiskFile> {
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
