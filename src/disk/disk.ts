/**
 * The few things that durable state needs from a file system. Every path is absolute or relative to the process; every failure is the system's own
 * error, with its `code`. The faulty twin in `testing/` drops, tears, stalls, fills and fails.
 */
export interface Disk {
  /** Makes a directory and its parents, durably. Nothing happens where it exists. */
  makeDirectory(path: string): Promise<void>;
  /** The names in a directory, in order. */
  list(directory: string): Promise<readonly string[]>;
  read(path: string): Promise<Uint8Array>;
  /** Reads `length` bytes from `position` on, or as many as there are. */
  readPart(path: string, position: number, length: number): Promise<Uint8Array>;
  /** Bytes that a file in this directory could grow by. */
  freeBytes(directory: string): Promise<number>;
  /** Opens a new file for writing; fails with EEXIST where the name is taken. */
  create(path: string): Promise<DiskFile>;
  /** The same, for a file whose every write is durable when it returns. */
  createDurable(path: string): Promise<DurableFile>;
  /** Opens a file that exists, for writing. */
  open(path: string): Promise<DiskFile>;
  /** Gives a file a second name; fails with EEXIST where that is taken, so two writers cannot both think they made it. */
  link(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Returns once the names in the directory are durable. */
  syncDirectory(path: string): Promise<void>;
  /** Takes the directory for this process. @throws OracleError TSO_LOCKED where another process, or another caller in this one, has it. */
  lock(directory: string): Promise<DirectoryLock>;
}

export interface DiskFile {
  /** Writes all of `bytes` at `position`. Not durable until `datasync` returned. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** Returns once everything written so far is durable. */
  datasync(): Promise<void>;
  close(): Promise<void>;
}

/** Written and flushed in one operation: what returned is on the disk; of what failed nobody knows. */
export interface DurableFile {
  /** Writes all of `bytes` at `position`, durably. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  close(): Promise<void>;
}

/** Held until `release`, or the death of the process, whatever its manner. */
export interface DirectoryLock {
  release(): Promise<void>;
}

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
