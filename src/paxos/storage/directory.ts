/**
 * A data directory of the log: a file that names the engine, then what that engine keeps. The name comes first and for good, so that no directory is ever opened by
 * another engine, or taken for an empty one.
 */
import { join } from "node:path";
import { encodeUtf8 } from "../../base/bytes.ts";
import { OracleError } from "../../base/errors.ts";
import { type Disk, isErrno } from "../../disk/disk.ts";
import type { StorageEngine } from "./log-storage.ts";

/** Of the files of an engine, all together. */
export const STORAGE_FORMAT = 1;

const NAME = "ENGINE";
const UNFINISHED = "ENGINE.tmp";
const LINE = /^tsoracle log, engine ([a-z0-9-]{1,40}), format (\d{1,9})\n$/;
/** What a file system puts into its root, and what this machine's lock may be. */
const FOREIGN = new Set(["lost+found", "LOCK"]);

export interface LogDirectory {
  /** Where the journal is. */
  readonly log: string;
  readonly snapshots: string;
}

function partsOf(directory: string): LogDirectory {
  return { log: join(directory, "log"), snapshots: join(directory, "snapshots") };
}

/**
 * Makes a directory, or finds one that `engine` keeps.
 * @throws OracleError TSO_WRONG_FORMAT for a directory of another engine, a later format, or anything else.
 */
export async function prepareDirectory(disk: Disk, directory: string, engine: StorageEngine): Promise<LogDirectory> {
  await disk.makeDirectory(directory);
  const found = await findDirectory(disk, directory, engine);
  if (found !== undefined) return found;
  // A crash may have left it, whole or not.
  await disk.remove(join(directory, UNFINISHED)).catch(ignoring("ENOENT"));
  const file = await disk.create(join(directory, UNFINISHED));
  try {
    await file.write(encodeUtf8(`tsoracle log, engine ${engine}, format ${STORAGE_FORMAT}\n`), 0);
    await file.datasync();
  } finally {
    await file.close();
  }
  await disk.link(join(directory, UNFINISHED), join(directory, NAME)).catch(ignoring("EEXIST")); // by another process, whom the lock will turn away
  await disk.remove(join(directory, UNFINISHED)).catch(ignoring("ENOENT"));
  await disk.syncDirectory(directory);
  return partsOf(directory);
}

/** Whether some engine keeps this directory. */
export async function isLogDirectory(disk: Disk, directory: string): Promise<boolean> {
  return (await disk.list(directory).catch(ignoring("ENOENT")))?.includes(NAME) === true;
}

/** `undefined` where there is none yet: the directory is missing, or empty. @throws OracleError TSO_WRONG_FORMAT, as `prepareDirectory` does. */
export async function findDirectory(disk: Disk, directory: string, engine: StorageEngine): Promise<LogDirectory | undefined> {
  const names = await disk.list(directory).catch(ignoring("ENOENT"));
  if (names === undefined) return undefined;
  if (!names.includes(NAME)) {
    const other = names.find((name) => name !== UNFINISHED && !FOREIGN.has(name));
    if (other === undefined) return undefined;
    throw wrong(`${join(directory, other)} does not belong to a node of the log: use an empty directory, or the right one`);
  }
  const line = new TextDecoder().decode(await disk.read(join(directory, NAME)));
  const [, keptBy, format] = LINE.exec(line) ?? [];
  if (keptBy === undefined) throw wrong(`${join(directory, NAME)} does not name an engine: it reads ${JSON.stringify(line.slice(0, 80))}`);
  if (keptBy !== engine) throw wrong(`${directory} is kept by the engine ${keptBy}, and this node is to use ${engine}`);
  if (Number(format) !== STORAGE_FORMAT) throw wrong(`${directory} has format ${format}, and this release reads ${STORAGE_FORMAT}`);
  return partsOf(directory);
}

function wrong(what: string): OracleError {
  return new OracleError("TSO_WRONG_FORMAT", what);
}

function ignoring(code: string): (error: unknown) => undefined {
  return (error) => {
    if (!isErrno(error, code)) throw error;
    return undefined;
  };
}
