import { constants } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { OracleError } from "../base/errors.ts";
import { type DirectoryLock, isErrno } from "./disk.ts";

/** Bytes of a Unix socket's name on Linux. */
const SOCKET_NAME_BYTES = 108;
/** macOS: open(2) takes the lock of flock(2) with it. Node does not name these two flags. */
const O_EXLOCK_DARWIN = 0x20;
const O_NONBLOCK_DARWIN = 0x4;

/**
 * A lock that the kernel holds for the process and frees with it: no timeout, no pid to check, nothing to clean up after a kill. It is bound to the
 * directory itself (device and inode), so another path to the same directory meets the same lock. Processes in different network namespaces do not
 * see each other's lock on Linux; for them there is the refusal to create a segment twice.
 */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  switch (process.platform) {
    case "linux":
      return lockBySocket(directory);
    case "darwin":
      return lockByFile(directory);
    default:
      throw new OracleError("TSO_STORAGE", `cannot lock ${directory}: no lock that the kernel frees is known on ${process.platform}`);
  }
}

async function lockBySocket(directory: string): Promise<DirectoryLock> {
  const { dev, ino } = await stat(directory, { bigint: true });
  const server = createServer((socket) => socket.destroy());
  try {
    // Some releases of Node fill a name up to the length of a socket's address, others do not: a full name is the same lock in all of them.
    await listen(server, `\0tsoracle/lock/${dev}/${ino}`.padEnd(SOCKET_NAME_BYTES, "\0"));
  } catch (error) {
    if (isErrno(error, "EADDRINUSE")) throw locked(directory);
    throw error;
  }
  server.unref();
  return { release: () => closeServer(server) };
}

async function lockByFile(directory: string): Promise<DirectoryLock> {
  let handle: FileHandle;
  try {
    handle = await open(join(directory, "LOCK"), constants.O_RDWR | constants.O_CREAT | O_EXLOCK_DARWIN | O_NONBLOCK_DARWIN);
  } catch (error) {
    if (isErrno(error, "EAGAIN")) throw locked(directory);
    throw error;
  }
  return { release: () => handle.close() };
}

function locked(directory: string): OracleError {
  return new OracleError("TSO_LOCKED", `${directory} is in use by another process: stop that one first, or give this one a directory of its own`);
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ path, exclusive: true }, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}
