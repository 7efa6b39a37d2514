/** The state machine of the simulation: a list under each key. What it holds depends on the order of every single command. */
import type { Slot } from "../../base/ids.ts";
import type { AppliedAt, Prepared, RestoreSink, SnapshotView, StateMachine } from "../../log.ts";
import { mix } from "./trace-hash.ts";

export interface Command {
  /** `write` replaces the list by one value, `append` adds one. */
  readonly type: "write" | "append";
  readonly key: number;
  /** No two commands of a run have the same. */
  readonly value: number;
  /** The payload's length beyond what must be there. */
  readonly padding?: number;
}

const HEAD = 9;
const NOTHING = new Uint8Array();

export function encodeCommand({ type, key, value, padding = 0 }: Command): Uint8Array {
  const bytes = new Uint8Array(HEAD + padding);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, type === "write" ? 1 : 2);
  view.setUint32(1, key);
  view.setUint32(5, value);
  return bytes;
}

export class ListMachine implements StateMachine {
  readonly #lists = new Map<number, number[]>();
  readonly #onApply: (at: Slot, payload: Uint8Array) => void;
  #applied = 0;
  #hash = 0;

  constructor(onApply: (at: Slot, payload: Uint8Array) => void = () => {}) {
    this.#onApply = onApply;
  }

  /** Commands so far. */
  get applied(): number {
    return this.#applied;
  }

  /** Of all commands so far, in their order. */
  get hash(): number {
    return this.#hash;
  }

  apply(command: Uint8Array, { slot }: AppliedAt): Uint8Array {
    const view = new DataView(command.buffer, command.byteOffset, command.byteLength);
    const [type, key, value] = [view.getUint8(0), view.getUint32(1), view.getUint32(5)];
    this.#hash = mix(mix(mix(mix(this.#hash, slot), type), key), value);
    this.#applied += 1;
    const list = this.#lists.get(key);
    if (type === 1 || list === undefined) this.#lists.set(key, [value]);
    else list.push(value);
    this.#onApply(slot, command);
    return NOTHING;
  }

  get keys(): Iterable<number> {
    return this.#lists.keys();
  }

  /** A copy. */
  read(key: number): number[] {
    return [...(this.#lists.get(key) ?? [])];
  }

  /** A copy: what is applied later is not in it. */
  capture(): SnapshotView {
    const bytes = this.#encode();
    return { chunks: () => [bytes], release: () => undefined };
  }

  stage(): RestoreSink {
    const chunks: Uint8Array[] = [];
    return {
      write: (chunk) => void chunks.push(chunk),
      finish: () => this.prepare(Buffer.concat(chunks)),
      discard: () => undefined,
    };
  }

  prepare(bytes: Uint8Array): Prepared {
    const { applied, hash, lists } = decodeState(bytes);
    return {
      install: () => {
        this.#lists.clear();
        for (const [key, values] of lists) this.#lists.set(key, [...values]);
        this.#applied = applied;
        this.#hash = hash;
      },
      discard: () => undefined,
    };
  }

  #encode(): Uint8Array {
    const words = [this.#applied, this.#hash];
    for (const [key, values] of this.#lists) words.push(key, values.length, ...values);
    const bytes = new Uint8Array(words.length * 4);
    const view = new DataView(bytes.buffer);
    for (const [index, word] of words.entries()) view.setInt32(index * 4, word);
    return bytes;
  }
}

function decodeState(bytes: Uint8Array): { readonly applied: number; readonly hash: number; readonly lists: ReadonlyMap<number, readonly number[]> } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const lists = new Map<number, number[]>();
  for (let at = 8; at < bytes.length; ) {
    const key = view.getUint32(at);
    const length = view.getUint32(at + 4);
    lists.set(
      key,
      Array.from({ length }, (_, index) => view.getUint32(at + 8 + index * 4)),
    );
    at += 8 + length * 4;
  }
  return { applied: view.getInt32(0), hash: view.getInt32(4), lists };
}
