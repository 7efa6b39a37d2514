/** A machine that keeps every command, and can be made as large as a test likes: `fill N` adds N MiB, the same ones on every node. */
import { Buffer } from "node:buffer";
import type { RestoreSink, SnapshotView, StateMachine } from "../../src/log.ts";

const MIB = 1024 * 1024;
const COMMANDS_IN_CHUNK = 1_000;

export class BlobMachine implements StateMachine {
  commands: string[] = [];
  #blobs: readonly Uint8Array[] = [];

  readonly #keeps: number;

  /** @param keeps the newest so many commands. */
  constructor(keeps = Number.POSITIVE_INFINITY) {
    this.#keeps = keeps;
  }

  get blobs(): number {
    return this.#blobs.length;
  }

  apply(command: Uint8Array): Uint8Array {
    const text = Buffer.from(command).toString();
    this.commands.push(text.split(" ").slice(0, 2).join(" ").slice(0, 32)); // what follows is there to be written
    if (this.commands.length > 2 * this.#keeps) this.commands = this.commands.slice(-this.#keeps); // a new list: one that was captured stays as it is
    const [, size] = /^fill (\d+)$/.exec(text) ?? [];
    if (size !== undefined) this.#blobs = [...this.#blobs, ...Array.from({ length: Number(size) }, (_, at) => blob(this.#blobs.length + at))];
    return Buffer.from(String(this.commands.length));
  }

  /** Commands are only ever added, so their number freezes them. */
  capture(): SnapshotView {
    const { length } = this.commands;
    const blobs = this.#blobs;
    const { commands } = this;
    return {
      *chunks() {
        for (let at = 0; at < length; at += COMMANDS_IN_CHUNK)
          yield Buffer.from(`C${JSON.stringify(commands.slice(at, Math.min(length, at + COMMANDS_IN_CHUNK)))}`);
        yield* blobs;
      },
      release: () => undefined,
    };
  }

  stage(): RestoreSink {
    const commands: string[] = [];
    const blobs: Uint8Array[] = [];
    return {
      write: (chunk) => {
        if (chunk[0] === 0x43) for (const command of JSON.parse(Buffer.from(chunk.subarray(1)).toString())) commands.push(command);
        else blobs.push(chunk);
      },
      finish: () => ({
        install: () => {
          this.commands = commands;
          this.#blobs = blobs;
        },
        discard: () => undefined,
      }),
      discard: () => undefined,
    };
  }
}

/** Does not begin like a list of commands. */
function blob(number: number): Uint8Array {
  const bytes = new Uint8Array(MIB).fill(number % 251);
  bytes[0] = 0;
  return bytes;
}
