/** What the disk can do: records appended to a file that was filled beforehand, one write and one flush for all that wait. Imports nothing of ours. */
import { closeSync, fdatasync, fsyncSync, openSync, unlinkSync, write, writeSync } from "node:fs";
import { join } from "node:path";

const FILE_BYTES = 64 * 1024 * 1024;
const RECORD_BYTES = 100;

export interface DiskFigures {
  readonly records: number;
  readonly seconds: number;
  readonly flushes: number;
  /** In the order in which the records became durable. */
  readonly latenciesUs: Float64Array;
}

/** `writers` of one record each at a time, for `seconds`. */
export async function measureDisk(options: { readonly directory: string; readonly writers: number; readonly seconds: number }): Promise<DiskFigures> {
  const { directory, writers, seconds } = options;
  const path = join(directory, "disk-baseline");
  const log = new GroupCommit(path, writers);
  try {
    const latenciesUs = new Float64Array(Math.ceil(2_000_000 * seconds));
    const record = new Uint8Array(RECORD_BYTES).fill(0x61);
    let records = 0;
    const began = performance.now();
    const until = began + seconds * 1000;
    const work = async (): Promise<void> => {
      for (let before = performance.now(); before < until; ) {
        await log.append(record);
        const after = performance.now();
        latenciesUs[records++] = (after - before) * 1000;
        before = after;
      }
    };
    await Promise.all(Array.from({ length: writers }, work));
    const took = (performance.now() - began) / 1000;
    return { records, seconds: took, flushes: log.flushes, latenciesUs: latenciesUs.subarray(0, records) };
  } finally {
    log.close();
    unlinkSync(path);
  }
}

class GroupCommit {
  flushes = 0;
  readonly #fd: number;
  readonly #batch: Buffer;
  #bytes = 0;
  #position = 0;
  #waiting: (() => void)[] = [];
  #busy = false;

  constructor(path: string, recordsMax: number) {
    this.#batch = Buffer.alloc(recordsMax * RECORD_BYTES);
    this.#fd = openSync(path, "wx");
    const zeros = new Uint8Array(1024 * 1024);
    for (let at = 0; at < FILE_BYTES; at += zeros.length) writeSync(this.#fd, zeros, 0, zeros.length, at); // real blocks, not a hole
    fsyncSync(this.#fd);
  }

  append(record: Uint8Array): Promise<void> {
    return new Promise((durable) => {
      this.#batch.set(record, this.#bytes);
      this.#bytes += record.length;
      this.#waiting.push(durable);
      if (this.#busy) return;
      this.#busy = true;
      setImmediate(() => this.#flush());
    });
  }

  close(): void {
    closeSync(this.#fd);
  }

  #flush(): void {
    const waiting = this.#waiting;
    const length = this.#bytes;
    this.#waiting = [];
    if (this.#position + length > FILE_BYTES) this.#position = 0;
    // Nobody appends meanwhile but those who were answered, and they are answered after this batch is durable: the buffer is free again then.
    write(this.#fd, this.#batch, 0, length, this.#position, (writeError) => {
      if (writeError !== null) throw writeError;
      fdatasync(this.#fd, (syncError) => {
        if (syncError !== null) throw syncError;
        this.flushes += 1;
        this.#position += length;
        this.#bytes = 0;
        this.#busy = false;
        for (const durable of waiting) durable();
      });
    });
  }
}
