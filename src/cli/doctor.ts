/** `tsoracle doctor`: reads a stopped node's files as its next start would, and says what it found. It changes nothing. */
import { stat } from "node:fs/promises";
import type { Command } from "commander";
import { isErrno } from "../disk/disk.ts";
import { nodeDisk } from "../disk/node-disk.ts";
import { inspectFileDirectory } from "../oracle/drivers/file.ts";
import { ballotText } from "../paxos/core/ballot.ts";
import { isLogDirectory } from "../paxos/storage/directory.ts";
import { inspectWal } from "../paxos/storage/wal.ts";
import { option } from "./config.ts";
import { CliError, EXIT, usageError } from "./exit-codes.ts";
import { print } from "./print.ts";
import { Progress } from "./progress.ts";

interface DoctorFlags {
  readonly dataDir: string;
  readonly json?: boolean;
}

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("verify a stopped node's files, and say what is in them; changes nothing")
    .addOption(option("--data-dir <dir>", "the directory of a stopped server or node").makeOptionMandatory())
    .option("--json", "print JSON")
    .action(async (flags: DoctorFlags) => {
      const directory = flags.dataDir;
      await mustBeDirectory(directory);
      const { report, lines, unsound } = (await isLogDirectory(nodeDisk, directory)) ? await ofNode(directory) : await ofServer(directory);
      const verdict = unsound === undefined ? ["sound: every record reads back, and nothing was changed"] : [];
      await print(flags, { directory, ...report }, [...rows({ directory, ...lines }), ...verdict]);
      if (unsound !== undefined) throw new CliError(EXIT.failed, unsound);
    });
}

async function mustBeDirectory(directory: string): Promise<void> {
  const found = await stat(directory).catch((error: unknown) => {
    throw isErrno(error, "ENOENT") ? usageError(`--data-dir ${directory}: there is no such directory`) : error;
  });
  if (!found.isDirectory()) throw usageError(`--data-dir ${directory} is not a directory`);
}

interface Findings {
  readonly report: object;
  readonly lines: Readonly<Record<string, string>>;
  /** What is wrong, although a start would go on. */
  readonly unsound?: string | undefined;
}

async function ofNode(directory: string): Promise<Findings> {
  const progress = new Progress("reading snapshots");
  const { image, founding, ...found } = await inspectWal({ directory, onProgress: progress.update });
  progress.end();
  const { node, storageId, boot, entries, frames, segments, torn, snapshots, unusable } = found;
  const cluster = founding.type === "unformed" ? undefined : founding.charter.clusterId;
  const log = image && { from: image.compactedThrough + 1, through: image.last, decidedThrough: image.decidedThrough };
  const ballots = image && { promised: ballotText(image.promised), accepted: ballotText(image.accepted) };
  const members = image?.configuration.members.map(({ id, address }) => `${id}=${address}`);
  return {
    report: {
      kind: "node of the log",
      engine: "wal",
      node,
      storageId,
      boot,
      founding: founding.type,
      cluster,
      members,
      log,
      ...ballots,
      entries,
      frames,
      segments,
      torn,
      snapshots,
      unusable,
    },
    lines: {
      kind: "a node of the log, engine wal",
      node: `${node}, disk ${storageId}, boot ${boot}`,
      cluster:
        cluster === undefined
          ? "none yet"
          : `${cluster}, ${founding.type === "pledged" ? "pledged, and not formed yet" : `members ${members?.join(", ")}`}`,
      log: log === undefined ? "none yet" : `entries ${log.from} to ${log.through}, decided through ${log.decidedThrough}`,
      ...(ballots === undefined ? {} : { promised: `${ballots.promised}, accepted ${ballots.accepted}` }),
      ...filesOf({ frames, segments, torn }),
      snapshots: [...snapshots.map(({ id, slot, bytes }) => `${id} through entry ${slot}, ${bytes} bytes`), ...unusable].join("; ") || "none",
    },
    unsound:
      unusable.length === 0 ? undefined : `${unusable.length} of ${unusable.length + snapshots.length} snapshots cannot be used: ${unusable[0]}`,
  };
}

async function ofServer(directory: string): Promise<Findings> {
  const report = await inspectFileDirectory({ directory });
  const { opens, highWater, sequences, leases, ...files } = report;
  return {
    report: { kind: "single node", ...report },
    lines: {
      kind: "a single node's server",
      opens: `${opens}`,
      "high water": `${highWater} ms`,
      holds: `${sequences} sequences, ${leases} leases`,
      ...filesOf(files),
    },
  };
}

function filesOf({
  frames,
  segments,
  torn,
}: {
  readonly frames: number;
  readonly segments: { readonly first: number; readonly last: number };
  readonly torn: boolean;
}): Readonly<Record<string, string>> {
  return {
    files: `${frames} frames, in ${segments.first === segments.last ? `segment ${segments.first}` : `segments ${segments.first} to ${segments.last}`}`,
    end: torn ? "a write that a crash interrupted: the next start cuts it off; nobody was told that it succeeded" : "clean",
  };
}

function rows(lines: Readonly<Record<string, string>>): readonly string[] {
  return Object.entries(lines).map(([name, value]) => `${name.padEnd(12)} ${value}`);
}
