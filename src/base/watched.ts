import { invariant } from "./invariant.ts";

/**
 * A value that others follow: each reader gets the current one first, then changes, newest wins. Level-triggered: what is set while nobody reads is
 * there for the next reader. Readers hold no queue, so a slow one costs nothing.
 */
export class Watched<T> {
  #value: T;
  #version = 0;
  #ended: { readonly error: Error | undefined } | undefined;
  readonly #wake = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    invariant(this.#ended === undefined, "nothing follows the end");
    this.#value = value;
    this.#changed();
  }

  /** Ends every reader, with `error` thrown to it if there is one. Later readers end at once; calling again changes nothing. */
  end(error?: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = { error };
    this.#changed();
  }

  /** Ends when `signal` is aborted. */
  async *values(signal?: AbortSignal): AsyncGenerator<T, void, void> {
    let seen = -1;
    while (signal?.aborted !== true) {
      if (this.#ended !== undefined) {
        if (this.#ended.error !== undefined) throw this.#ended.error;
        return;
      }
      if (seen === this.#version) {
        await this.#nextChange(signal);
        continue;
      }
      seen = this.#version;
      yield this.#value;
    }
  }

  #nextChange(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#wake.delete(wake);
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      this.#wake.add(wake);
      signal?.addEventListener("abort", wake);
    });
  }

  #changed(): void {
    this.#version += 1;
    for (const wake of [...this.#wake]) wake();
  }
}
