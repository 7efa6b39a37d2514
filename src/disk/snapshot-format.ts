/**
 * Bytes of a snapshot: `magic "TSSNAP" | version u16`, then each chunk of the host's as `length u32 | crc32 u32 | bytes`, and at the end `0xffffffff u32 | count u32`. Little-endian.
 * A machine is given back the chunks that it gave, one by one.
 */
import { crc32 } from "node:zlib";
import { OracleError } from "../base/errors.ts";

/** One chunk of a machine's, at most: it is held in memory as a whole. */
export const CHUNK_BYTES_MAX = 16 * 1024 * 1024;

const VERSION = 1;
const HEAD = Uint8Array.of(...[..."TSSNAP"].map((letter) => letter.charCodeAt(0)), VERSION, 0);
const CHUNK_HEAD = 8;
const END = 0xffff_ffff;

export function snapshotHead(): Uint8Array {
  return HEAD;
}

/** What stands before a chunk. @throws OracleError TSO_INVALID_ARGUMENT for one that is too long */
export function chunkHead(chunk: Uint8Array): Uint8Array {
  if (chunk.length > CHUNK_BYTES_MAX)
    throw new OracleError(
      "TSO_INVALID_ARGUMENT",
      `a chunk of the state machine's snapshot has ${chunk.length} bytes, and may have ${CHUNK_BYTES_MAX}`,
    );
  return words(chunk.length, crc32(chunk));
}

export function snapshotEnd(chunks: number): Uint8Array {
  return words(END, chunks);
}

function words(first: number, second: number): Uint8Array {
  const bytes = new Uint8Array(CHUNK_HEAD);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, first, true);
  view.setUint32(4, second, true);
  return bytes;
}

/** Takes the bytes in any pieces, and gives the chunks back. */
export class SnapshotReader {
  #rest = new Uint8Array(0);
  #begun = false;
  #chunks = 0;
  #ended = false;

  get chunks(): number {
    return this.#chunks;
  }

  /** The chunks that are whole by now, each in memory of its own. @throws OracleError TSO_WRONG_FORMAT */
  *push(piece: Uint8Array): Generator<Uint8Array> {
    this.#rest = this.#rest.length === 0 ? new Uint8Array(piece) : joined(this.#rest, piece);
    if (!this.#begun && !this.#takeHead()) return;
    for (let chunk = this.#take(); chunk !== undefined; chunk = this.#take()) yield chunk;
  }

  /** Nothing more comes. @throws OracleError TSO_WRONG_FORMAT where something is missing */
  end(): void {
    if (!this.#ended) throw wrong(`it ends after ${this.#chunks} chunks, before its end`);
  }

  #takeHead(): boolean {
    if (this.#rest.length < HEAD.length) return false;
    if (Buffer.compare(this.#rest.subarray(0, 6), HEAD.subarray(0, 6)) !== 0) throw wrong("it does not begin like one");
    const version = (this.#rest[6] ?? 0) + 256 * (this.#rest[7] ?? 0);
    if (version !== VERSION) throw wrong(`it has format ${version}, and this release reads ${VERSION}`);
    this.#rest = this.#rest.subarray(HEAD.length);
    this.#begun = true;
    return true;
  }

  #take(): Uint8Array | undefined {
    if (this.#ended) {
      if (this.#rest.length > 0) throw wrong("something follows its end");
      return undefined;
    }
    if (this.#rest.length < CHUNK_HEAD) return undefined;
    const view = new DataView(this.#rest.buffer, this.#rest.byteOffset);
    const [length, crc] = [view.getUint32(0, true), view.getUint32(4, true)];
    if (length === END) {
      if (crc !== this.#chunks) throw wrong(`it should have ${crc} chunks, and has ${this.#chunks}`);
      this.#ended = true;
      this.#rest = this.#rest.subarray(CHUNK_HEAD);
      return this.#take();
    }
    if (length > CHUNK_BYTES_MAX) throw wrong(`chunk ${this.#chunks} would have ${length} bytes, and may have ${CHUNK_BYTES_MAX}`);
    if (this.#rest.length < CHUNK_HEAD + length) return undefined;
    const chunk = new Uint8Array(this.#rest.subarray(CHUNK_HEAD, CHUNK_HEAD + length));
    if (crc32(chunk) !== crc) throw wrong(`the checksum of chunk ${this.#chunks} does not match`);
    this.#chunks += 1;
    this.#rest = this.#rest.subarray(CHUNK_HEAD + length);
    return chunk;
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(a.length + b.length);
  bytes.set(a);
  bytes.set(b, a.length);
  return bytes;
}

function wrong(why: string): OracleError {
  return new OracleError("TSO_WRONG_FORMAT", `not a snapshot: ${why}`);
}
