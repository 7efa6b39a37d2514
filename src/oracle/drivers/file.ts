import { type Epoch, epoch } from "../../base/epoch.ts";
import { OracleError } from "../../base/errors.ts";
import { invariant } from "../../base/invariant.ts";
import { type Logger, silentLogger } from "../../base/logger.ts";
import { wholeOption } from "../../base/options.ts";
import { createCodec, list, record, union, whole } from "../../base/shape.ts";
import { Watched } from "../../base/watched.ts";
import type { Disk } from "../../disk/disk.ts";
import type { FrameContent } from "../../disk/frame.ts";
import { createJournal, hasJournal, inspectJournal, type Journal, openJournal } from "../../disk/journal.ts";
import { nodeDisk } from "../../disk/node-disk.ts";
import type { ConsensusDriver, FencedStore, ServedLeadership } from "../driver.ts";
import { changeShape } from "../rules/codec.ts";
import { importChanges } from "../rules/import.ts";
import { type OracleChange, OracleTables } from "../rules/state.ts";
import { PHYSICAL_MS_MAX } from "../rules/timestamp.ts";
import { storeDriver } from "./store.ts";

export interface FileDriverOptions {
  /** Holds nothing but this driver's files. Made if it is missing. */
  readonly directory: string;
  /** False refuses a directory without a journal, which a mount that is missing looks like. @defaultValue true */
  readonly create?: boolean | undefined;
  /** Size of a segment in bytes, from 4096 up. @defaultValue 8 MiB */
  readonly segmentBytes?: number | undefined;
  /** @defaultValue the file system of this machine */
  readonly disk?: Disk | undefined;
  readonly logger?: Logger | undefined;
}

/** What every frame repeats. */
interface Image {
  /** How often this directory was opened: the epoch of the process that has it open. */
  readonly opens: number;
}

type JournalOp =
  | { readonly type: "changes"; readonly changes: readonly OracleChange[] }
  /** A part of the whole state, so that older segments are no longer needed. */
  | { readonly type: "base"; readonly part: number; readonly last: boolean; readonly changes: readonly OracleChange[] };

const imageCodec = createCodec("the journal's image", 1, record<Image>({ opens: whole() }));
const flag = { write: (value: boolean) => (value ? 1 : 0), read: (raw: unknown) => whole(1).read(raw) === 1 };
const opCodec = createCodec(
  "a journal entry",
  1,
  union<JournalOp, "type">("type", {
    changes: [1, record({ changes: list(changeShape) })],
    base: [2, record({ part: whole(), last: flag, changes: list(changeShape) })],
  }),
);

const WAY_OUT = "An older copy would grant values twice: begin a new directory above everything that was granted (docs/cli.md)";

/** Changes in one part of a base. */
const BASE_PART_CHANGES = 2_000;
/** Segments that may pile up by restarts alone. */
const SEGMENTS_MAX = 4;

/**
 * A single node's oracle in a directory: a journal of changes, one flush for all that arrived together. Its epoch is the count of opens, from 1.
 * @throws OracleError TSO_LOCKED where another process has the directory open; TSO_STORAGE where it is damaged or the disk fails; TSO_WRONG_FORMAT
 * where it belongs to something else, or to a newer release.
 */
export async function fileDriver(options: FileDriverOptions): Promise<ConsensusDriver> {
  return storeDriver(await openFileStore(options));
}

/**
 * Makes a directory whose timestamps begin above `seedPhysicalMs`: for an oracle that takes over from another one.
 * @throws OracleError TSO_INVALID_OPTION for a seed outside 0 to 2^46-1; TSO_WRONG_FORMAT where the directory is not empty.
 */
export async function initFileDirectory(options: FileDriverOptions & { readonly seedPhysicalMs?: number | undefined }): Promise<void> {
  const seedPhysicalMs = wholeOption("seedPhysicalMs", options.seedPhysicalMs ?? 0, { from: 0, through: PHYSICAL_MS_MAX });
  const journal = await createJournal(journalOptions(options), frameOf({ opens: 0 }, [{ type: "high-water", highWater: seedPhysicalMs }]));
  await journal.close();
}

/** What a stopped server's directory holds. */
export interface FileDirectoryReport {
  /** How often it was opened: the epoch of its last server. */
  readonly opens: number;
  readonly highWater: number;
  readonly sequences: number;
  readonly leases: number;
  readonly frames: number;
  readonly segments: { readonly first: number; readonly last: number };
  /** Whether the next start will cut off a write that a crash interrupted. */
  readonly torn: boolean;
}

/** Reads and judges everything that a start would; changes nothing. @throws OracleError as `fileDriver` does; TSO_WRONG_FORMAT too where there is nothing yet. */
export async function inspectFileDirectory(options: FileDriverOptions): Promise<FileDirectoryReport> {
  const replay = new Replay();
  const found = await inspectJournal({ ...journalOptions(options), replay: (frame) => replay.frame(frame) });
  const { firstSegment: first, lastSegment: last, frames, torn, meta } = found;
  const { highWater, sequenceCount: sequences, leaseCount: leases } = replay.tables;
  const { opens } = imageCodec.decode(meta);
  return { opens, highWater, sequences, leases, frames, segments: { first, last }, torn };
}

/** The state of a stopped server. @throws OracleError as `inspectFileDirectory` does. */
export async function readFileDirectory(options: FileDriverOptions): Promise<OracleTables> {
  const replay = new Replay();
  await inspectJournal({ ...journalOptions(options), replay: (frame) => replay.frame(frame) });
  return replay.tables;
}

/**
 * Takes in what another oracle has granted, in one write: all of it or nothing. A directory that is not there is made.
 * @returns the changes that it took; none where everything was known.
 * @throws OracleError as `fileDriver` does; TSO_INVALID_ARGUMENT where the two do not go together (`importChanges`).
 */
export async function importIntoFileDirectory(options: FileDriverOptions, imported: OracleTables): Promise<readonly OracleChange[]> {
  const store = await openFileStore(options);
  try {
    const current = new OracleTables();
    for (const change of await store.open(store.epoch)) current.change(change);
    const changes = importChanges(current, imported);
    if (changes.length > 0) await store.commit(changes, store.epoch);
    return changes;
  } finally {
    await store.close();
  }
}

async function openFileStore(options: FileDriverOptions): Promise<FileStore> {
  const { directory, create = true, logger = silentLogger } = options;
  const place = journalOptions(options);
  if (!(await hasJournal(place))) {
    if (!create) throw new OracleError("TSO_WRONG_FORMAT", `${directory} holds no data: make it with \`tsoracle init\`, or mount what is missing`);
    logger.info({ directory }, "there is no data here yet: beginning at zero");
    return FileStore.ready(await createJournal(place, frameOf({ opens: 1 }, [])), { opens: 1 }, new OracleTables());
  }
  const replay = new Replay();
  let image: Image = { opens: 0 };
  const journal = await openJournal({
    ...place,
    replay: (frame) => replay.frame(frame),
    revive: (meta) => {
      image = { opens: imageCodec.decode(meta).opens + 1 };
      return imageCodec.encode(image);
    },
  });
  if (journal.torn) logger.warn({ directory }, "a write that a crash had interrupted was cut off; nobody was told that it succeeded");
  return FileStore.ready(journal, image, replay.tables);
}

function journalOptions({ disk = nodeDisk, directory, segmentBytes }: FileDriverOptions) {
  if (segmentBytes !== undefined) wholeOption("segmentBytes", segmentBytes, { from: 4096, through: 1024 * 1024 * 1024 });
  return { disk, directory, segmentBytes, wayOut: WAY_OUT };
}

function frameOf(image: Image, changes: readonly OracleChange[]) {
  return { meta: imageCodec.encode(image), ops: changes.length === 0 ? [] : [opCodec.encode({ type: "changes", changes })] };
}

/** What cannot be written down is the caller's mistake: the directory is as good as before. */
function encodable<T>(encode: () => T): T {
  try {
    return encode();
  } catch (error) {
    if (!(error instanceof OracleError)) throw error;
    throw new OracleError("TSO_INVALID_ARGUMENT", "a command has a value of the wrong type", { cause: error });
  }
}

/** Rebuilds the state. A base that a crash left unfinished is dropped: what it was made from is still there. */
class Replay {
  tables = new OracleTables();
  #base: { readonly tables: OracleTables; readonly parts: number } | undefined;

  frame({ ops }: FrameContent): void {
    for (const op of ops) this.#op(opCodec.decode(op));
  }

  #op(op: JournalOp): void {
    if (op.type === "changes") {
      this.#base = undefined;
      for (const change of op.changes) this.tables.change(change);
      return;
    }
    const base = op.part === 0 ? { tables: new OracleTables(), parts: 0 } : this.#base;
    if (base === undefined || base.parts !== op.part) {
      throw new OracleError("TSO_STORAGE", `the journal's base has part ${op.part} where part ${base?.parts ?? 0} belongs`);
    }
    for (const change of op.changes) base.tables.change(change);
    this.#base = { tables: base.tables, parts: op.part + 1 };
    if (!op.last) return;
    this.tables = base.tables;
    this.#base = undefined;
  }
}

class FileStore implements FencedStore {
  /** The kernel holds the directory for this process. */
  readonly exclusive = true;
  readonly #journal: Journal;
  readonly #image: Image;
  readonly #epoch: Epoch;
  /** The durable state: what a base is written from. */
  readonly #tables: OracleTables;
  readonly #leadership: Watched<ServedLeadership>;
  #baseBytes = 0;
  #bytesSinceBase = 0;

  private constructor(journal: Journal, image: Image, tables: OracleTables) {
    this.#journal = journal;
    this.#image = image;
    this.#tables = tables;
    this.#epoch = epoch(BigInt(image.opens));
    this.#leadership = new Watched<ServedLeadership>({ role: "leader", epoch: this.#epoch });
  }

  /** Of this opening. */
  get epoch(): Epoch {
    return this.#epoch;
  }

  /** A store whose directory holds few segments, however often it was opened. */
  static async ready(journal: Journal, image: Image, tables: OracleTables): Promise<FileStore> {
    const store = new FileStore(journal, image, tables);
    try {
      if (journal.segment - journal.firstSegment >= SEGMENTS_MAX) await store.#writeBase();
    } catch (error) {
      await journal.close();
      throw error;
    }
    return store;
  }

  async open(asked: Epoch): Promise<Iterable<OracleChange>> {
    invariant(asked === this.#epoch, "the reign is the one that opening the directory began", { asked });
    if (this.#journal.failure !== undefined) throw this.#journal.failure;
    return this.#tables.capture();
  }

  async commit(changes: readonly OracleChange[], asked: Epoch): Promise<"committed" | "fenced"> {
    invariant(asked === this.#epoch, "the reign is the one that opening the directory began", { asked });
    const frame = encodable(() => frameOf(this.#image, changes));
    const bytes = frame.ops.reduce((sum, op) => sum + op.length, 0);
    if (this.#journal.wouldRoll(bytes) && this.#bytesSinceBase >= 2 * this.#baseBytes) await this.#writeBase();
    this.#bytesSinceBase += await this.#journal.append(frame);
    for (const change of changes) this.#tables.change(change);
    return "committed";
  }

  leadership(options: { readonly signal?: AbortSignal | undefined } = {}): AsyncIterable<ServedLeadership> {
    return this.#leadership.values(options.signal);
  }

  async close(): Promise<void> {
    this.#leadership.end();
    await this.#journal.close();
  }

  /** Writes the whole state into a segment of its own; once its last part is durable, everything before it is dropped. */
  async #writeBase(): Promise<void> {
    const changes = [...this.#tables.capture()];
    const parts = Math.ceil(changes.length / BASE_PART_CHANGES);
    this.#baseBytes = 0;
    this.#bytesSinceBase = 0;
    const firstSegment = this.#journal.segment + 1;
    for (let part = 0; part < parts; part++) {
      const last = part === parts - 1;
      const some = changes.slice(part * BASE_PART_CHANGES, (part + 1) * BASE_PART_CHANGES);
      const op = opCodec.encode({ type: "base", part, last, changes: some });
      const content = { meta: imageCodec.encode(this.#image), ops: [op] };
      this.#baseBytes += await this.#journal.append(content, { roll: part === 0, firstSegment: last ? firstSegment : undefined });
    }
  }
}
