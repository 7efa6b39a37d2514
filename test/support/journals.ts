/** Journals of numbered entries: the frame with sequence number n carries entry n. */
import { encodeUtf8 } from "../../src/base/bytes.ts";
import { OracleError } from "../../src/base/errors.ts";
import { invariant } from "../../src/base/invariant.ts";
import type { Disk } from "../../src/disk/disk.ts";
import type { Frame, FrameContent } from "../../src/disk/frame.ts";
import { createJournal, type Journal, openJournal } from "../../src/disk/journal.ts";
import { segmentName } from "../../src/disk/recovery.ts";
import type { FaultyDisk } from "../../src/testing/faulty-disk.ts";

export const DIRECTORY = "/data";
/** Seven sectors for frames behind the header. */
export const SEGMENT_BYTES = 4_096;

const FILLING = 0x5a;

export interface Opened {
  readonly journal: Journal;
  /** What was replayed, in order. */
  readonly entries: readonly number[];
  readonly kinds: readonly Frame["kind"][];
  /** How often the journal was opened or made, this time included. */
  readonly opens: number;
}

/** Entry `entry`, and `bytes` more to make the frame longer. */
export function contentOf(entry: number, { bytes = 0, opens = 1 } = {}): FrameContent {
  return { meta: metaOf(opens), ops: [encodeUtf8(`entry ${entry}`), new Uint8Array(bytes).fill(FILLING)] };
}

/** A journal that holds entry 1. */
export function makeJournal(disk: Disk, { segmentBytes = SEGMENT_BYTES } = {}): Promise<Journal> {
  return createJournal({ disk, directory: DIRECTORY, segmentBytes }, contentOf(1));
}

/** A journal that holds entries 1 to `entries`, a sector each, and is closed. */
export async function filledDisk(disk: FaultyDisk, entries: number): Promise<FaultyDisk> {
  const journal = await makeJournal(disk);
  for (let entry = 2; entry <= entries; entry++) await journal.append(contentOf(entry));
  await journal.close();
  return disk;
}

export async function reopen(disk: Disk, { segmentBytes = SEGMENT_BYTES } = {}): Promise<Opened> {
  const entries: number[] = [];
  const kinds: Frame["kind"][] = [];
  let opens = 0;
  const journal = await openJournal({
    ...{ disk, directory: DIRECTORY, segmentBytes, wayOut: "Ask somebody" },
    replay: (frame) => {
      const entry = entryOf(frame);
      invariant(entry === frame.seq, "the frame with sequence number n carries entry n", { entry, seq: frame.seq });
      entries.push(entry);
      kinds.push(frame.kind);
    },
    revive: (meta) => {
      opens = opensIn(meta) + 1;
      return metaOf(opens);
    },
  });
  return { journal, entries, kinds, opens };
}

/** Opens and closes again. @returns the entries found */
export async function entriesOn(disk: Disk): Promise<readonly number[]> {
  const { journal, entries } = await reopen(disk);
  await journal.close();
  return entries;
}

/** `[from, through]`, in order. */
export function range(from: number, through: number): number[] {
  return Array.from({ length: Math.max(0, through - from + 1) }, (_, index) => from + index);
}

export function segmentPath(number: number): string {
  return `${DIRECTORY}/${segmentName(number)}`;
}

/** The error that `work` rejects with, which is one of ours. */
export async function refusalOf(work: Promise<unknown>): Promise<OracleError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof OracleError) return error;
  throw new Error("no OracleError came", { cause: error });
}

function metaOf(opens: number): Uint8Array {
  return encodeUtf8(`opens ${opens}`);
}

function opensIn(meta: Uint8Array): number {
  return numberIn(meta, /^opens (\d+)$/);
}

function entryOf(frame: Frame): number {
  const [name, filling] = frame.ops;
  invariant(filling?.every((byte) => byte === FILLING) === true, "an entry's filling is as it was written");
  return numberIn(name ?? new Uint8Array(0), /^entry (\d+)$/);
}

function numberIn(bytes: Uint8Array, pattern: RegExp): number {
  const found = pattern.exec(new TextDecoder().decode(bytes))?.[1];
  invariant(found !== undefined, "an entry is as it was written");
  return Number(found);
}
