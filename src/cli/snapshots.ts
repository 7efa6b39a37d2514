/** `tsoracle snapshot inspect`, `export` and `import`: what is in a snapshot, and carrying an oracle's state to another place. */
import { createHash } from "node:crypto";
import { type FileHandle, open, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Command } from "commander";
import { messageOf, OracleError } from "../base/errors.ts";
import { isErrno } from "../disk/disk.ts";
import { nodeDisk } from "../disk/node-disk.ts";
import { SnapshotReader } from "../disk/snapshot-format.ts";
import { importIntoFileDirectory, readFileDirectory } from "../oracle/drivers/file.ts";
import { ExportReader, exportBytes } from "../oracle/portable.ts";
import { isLogDirectory } from "../paxos/storage/directory.ts";
import { inspectWal } from "../paxos/storage/wal.ts";
import { option } from "./config.ts";
import { CliError, EXIT, usageError } from "./exit-codes.ts";
import { print } from "./print.ts";
import { Progress } from "./progress.ts";

const READ_BYTES = 1024 * 1024;

interface JsonFlag {
  readonly json?: boolean;
}

interface DirectoryFlags extends JsonFlag {
  readonly dataDir: string;
}

export function addSnapshots(program: Command): void {
  program
    .command("snapshot")
    .description("look at snapshots")
    .command("inspect")
    .description("verify a snapshot, an exported file, or all snapshots of a stopped node; changes nothing")
    .argument("<path>", "a file, or the directory of a stopped node")
    .option("--json", "print JSON")
    .action(async (path: string, flags: JsonFlag) => {
      const found = await lookAt(path);
      const { report, lines, unsound } = found.isDirectory() ? await ofDirectory(path) : await ofFile(path);
      await print(flags, { path, ...report }, lines);
      if (unsound !== undefined) throw new CliError(EXIT.failed, unsound);
    });
  program
    .command("export")
    .description("write the state of a stopped single node into a file of its own")
    .addOption(option("--data-dir <dir>", "the directory of a stopped server").makeOptionMandatory())
    .argument("<file>", "the file to make")
    .option("--json", "print JSON")
    .action(async (file: string, flags: DirectoryFlags) => {
      await refuseNode(flags.dataDir, "exported");
      const tables = await readFileDirectory({ directory: flags.dataDir });
      const bytes = await writeNew(file, exportBytes(tables, Date.now()));
      const { highWater, sequenceCount: sequences, leaseCount: leases } = tables;
      await print(flags, { file, bytes, highWater, sequences, leases }, [
        `exported ${flags.dataDir} to ${file}: ${sequences} sequences, ${leases} leases, high water ${highWater} ms, ${bytes} bytes`,
      ]);
    });
  program
    .command("import")
    .description("take an exported state into a stopped single node's directory: what was granted there is never granted here")
    .addOption(option("--data-dir <dir>", "the directory of a stopped server; made, where it is missing").makeOptionMandatory())
    .argument("<file>", "made by `tsoracle export`")
    .option("--json", "print JSON")
    .action(async (file: string, flags: DirectoryFlags) => {
      await lookAt(file);
      await refuseNode(flags.dataDir, "imported into");
      const { tables } = await readExport(file);
      const changes = await importIntoFileDirectory({ directory: flags.dataDir }, tables);
      const sequences = changes.filter(({ type }) => type === "sequence").length;
      const leases = changes.filter(({ type }) => type === "lease").length;
      await print(flags, { file, directory: flags.dataDir, changes: changes.length, sequences, leases }, [
        changes.length === 0
          ? `everything in ${file} is known in ${flags.dataDir} already`
          : `imported ${file} into ${flags.dataDir}: ${sequences} sequences and ${leases} leases were raised or added`,
      ]);
    });
}

interface Findings {
  readonly report: object;
  readonly lines: readonly string[];
  readonly unsound?: string | undefined;
}

async function ofDirectory(directory: string): Promise<Findings> {
  if (!(await isLogDirectory(nodeDisk, directory)))
    throw usageError(`${directory} is not the directory of a node of the log: there are no snapshots in it`);
  const progress = new Progress("reading snapshots");
  const { node, snapshots, unusable, image } = await inspectWal({ directory, onProgress: progress.update });
  progress.end();
  const lines = snapshots.map(
    ({ id, slot, bytes, configuration, sha256 }) =>
      `${id}  through entry ${slot}, configuration ${configuration.version}, ${bytes} bytes, sha256 ${sha256}`,
  );
  const begins = image === undefined ? "no log yet" : `the log begins after entry ${image.compactedThrough}`;
  return {
    report: { kind: "snapshots of a node", node, snapshots, unusable, compactedThrough: image?.compactedThrough },
    lines: [`node ${node}: ${snapshots.length} snapshots, ${begins}`, ...lines, ...unusable],
    unsound:
      unusable[0] === undefined ? undefined : `${unusable.length} of ${unusable.length + snapshots.length} snapshots cannot be used: ${unusable[0]}`,
  };
}

async function ofFile(path: string): Promise<Findings> {
  const hash = createHash("sha256");
  const reader = new SnapshotReader();
  const exported = new ExportReader();
  let [bytes, largest] = [0, 0];
  let isExport = true;
  await readPieces(path, (piece) => {
    hash.update(piece);
    bytes += piece.length;
    for (const chunk of reader.push(piece)) largest = Math.max(largest, chunk.length);
    if (isExport) isExport = accepts(() => exported.push(piece));
  });
  reader.end();
  const sha256 = hash.digest("hex");
  const { chunks } = reader;
  if (!isExport || !accepts(() => exported.finish())) {
    return {
      report: { kind: "snapshot", bytes, chunks, largest, sha256 },
      lines: [
        `a machine's snapshot: ${chunks} chunks, the largest of ${largest} bytes, ${bytes} bytes in all`,
        `sha256 ${sha256}`,
        "sound: every chunk has its checksum",
      ],
    };
  }
  const { head } = exported.finish();
  return {
    report: { kind: "exported oracle", ...head, bytes, chunks, sha256 },
    lines: [
      `an exported oracle: ${head.sequences} sequences, ${head.leases} leases, high water ${head.highWater} ms`,
      `exported at ${new Date(head.exportedAtMs).toISOString()}, ${bytes} bytes, sha256 ${sha256}`,
      "sound: every value reads back",
    ],
  };
}

function accepts(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch (error) {
    if (!(error instanceof OracleError)) throw error;
    return false;
  }
}

async function readExport(file: string): Promise<ReturnType<ExportReader["finish"]>> {
  const reader = new ExportReader();
  try {
    await readPieces(file, (piece) => reader.push(piece));
    return reader.finish();
  } catch (error) {
    if (error instanceof OracleError)
      throw new OracleError("TSO_WRONG_FORMAT", `${file} is no exported oracle, or is damaged: ${error.detail}`, { cause: error });
    throw error;
  }
}

async function readPieces(path: string, take: (piece: Uint8Array) => void): Promise<void> {
  const file = await open(path, "r");
  const progress = new Progress(`reading ${basename(path)}`);
  try {
    const { size } = await file.stat();
    for (let at = 0; at < size; ) {
      const { bytesRead, buffer } = await file.read(new Uint8Array(READ_BYTES), 0, READ_BYTES, at);
      if (bytesRead === 0) throw new OracleError("TSO_WRONG_FORMAT", `${path} ended at byte ${at} of ${size} while it was read`);
      take(buffer.subarray(0, bytesRead));
      at += bytesRead;
      progress.update(at, size);
    }
  } finally {
    progress.end();
    await file.close();
  }
}

/** There as a whole, durably, or not at all; nothing is written over. @returns its length */
async function writeNew(path: string, pieces: Iterable<Uint8Array>): Promise<number> {
  const unfinished = `${path}.tmp`;
  let file: FileHandle | undefined;
  try {
    file = await open(unfinished, "wx");
    let bytes = 0;
    for (const piece of pieces) {
      await file.writeFile(piece);
      bytes += piece.length;
    }
    await file.datasync();
    await nodeDisk.link(unfinished, path);
    await nodeDisk.syncDirectory(dirname(path));
    return bytes;
  } catch (error) {
    if (isErrno(error, "EEXIST")) throw usageError(`${file === undefined ? unfinished : path} is there already, and is not written over`);
    if (isErrno(error, "ENOENT")) throw usageError(`${path} cannot be made: there is no directory ${dirname(path)}`);
    throw new CliError(EXIT.failed, `${path} cannot be written: ${messageOf(error)}`);
  } finally {
    await file?.close();
    if (file !== undefined) await nodeDisk.remove(unfinished).catch(() => undefined);
  }
}

async function lookAt(path: string): ReturnType<typeof stat> {
  return stat(path).catch((error: unknown) => {
    throw isErrno(error, "ENOENT") ? usageError(`there is no ${path}`) : error;
  });
}

/** A node of the log keeps its host's state, of which this command knows nothing. */
async function refuseNode(directory: string, what: string): Promise<void> {
  if (!(await isLogDirectory(nodeDisk, directory))) return;
  throw usageError(`${join(directory, "ENGINE")} says that this is a node of the log: only a single node's directory can be ${what}`);
}
