/** An oracle's state in a file of its own, whatever it was kept in: to be carried to another place. */
import { OracleError } from "../base/errors.ts";
import { createCodec, record, whole } from "../base/shape.ts";
import { chunkHead, SnapshotReader, snapshotEnd, snapshotHead } from "../disk/snapshot-format.ts";
import { snapshotChunks, snapshotReader } from "./rules/codec.ts";
import { OracleTables } from "./rules/state.ts";

/** What stands first in the file. */
export interface ExportHead {
  /** Of the machine that wrote it, ms since 1970. */
  readonly exportedAtMs: number;
  readonly highWater: number;
  readonly sequences: number;
  readonly leases: number;
}

const headCodec = createCodec(
  "an exported oracle",
  1,
  record<ExportHead>({ exportedAtMs: whole(), highWater: whole(), sequences: whole(), leases: whole() }),
);

/** The file's bytes, piece by piece. The state must not change meanwhile. */
export function* exportBytes(tables: OracleTables, exportedAtMs: number): Iterable<Uint8Array> {
  const { highWater, sequenceCount: sequences, leaseCount: leases } = tables;
  const head = headCodec.encode({ exportedAtMs, highWater, sequences, leases });
  yield snapshotHead();
  yield chunkHead(head);
  yield head;
  let chunks = 1;
  for (const chunk of snapshotChunks(tables.capture())) {
    yield chunkHead(chunk);
    yield chunk;
    chunks += 1;
  }
  yield snapshotEnd(chunks);
}

/** Reads an exported file, piece by piece, and checks all of it. */
export class ExportReader {
  readonly #chunks = new SnapshotReader();
  readonly #tables = new OracleTables();
  readonly #state = snapshotReader((change) => this.#tables.change(change));
  #head: ExportHead | undefined;

  /** @throws OracleError TSO_WRONG_FORMAT */
  push(piece: Uint8Array): void {
    for (const chunk of this.#chunks.push(piece)) {
      if (this.#head === undefined) this.#head = headCodec.decode(chunk);
      else this.#state.write(chunk);
    }
  }

  /** @throws OracleError TSO_WRONG_FORMAT where something is missing, or the file is not what it says */
  finish(): { readonly head: ExportHead; readonly tables: OracleTables } {
    this.#chunks.end();
    this.#state.finish();
    const { highWater, sequenceCount, leaseCount } = this.#tables;
    const head = this.#head;
    if (head === undefined || head.highWater !== highWater || head.sequences !== sequenceCount || head.leases !== leaseCount)
      throw new OracleError("TSO_WRONG_FORMAT", "an exported oracle whose contents are not what its head says");
    return { head, tables: this.#tables };
  }
}
