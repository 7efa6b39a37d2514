/**
 * Who is to be told of which signal. However many calls share a signal, it has one listener: Node warns of a leak where there are more than ten.
 */
export class Aborts {
  readonly #listeners = new Map<AbortSignal, { readonly listener: () => void; readonly runs: Set<() => void> }>();

  /** Calls `run` when `signal` is aborted; returns how to prevent that, which must be called once the call has ended. */
  on(signal: AbortSignal, run: () => void): () => void {
    const runs = this.#runs(signal);
    runs.add(run);
    return () => {
      runs.delete(run);
      if (runs.size === 0) this.#forget(signal, runs);
    };
  }

  #runs(signal: AbortSignal): Set<() => void> {
    const known = this.#listeners.get(signal);
    if (known !== undefined) return known.runs;
    const runs = new Set<() => void>();
    const listener = (): void => {
      for (const run of [...runs]) run();
    };
    this.#listeners.set(signal, { listener, runs });
    signal.addEventListener("abort", listener);
    return runs;
  }

  #forget(signal: AbortSignal, runs: ReadonlySet<() => void>): void {
    const known = this.#listeners.get(signal);
    if (known?.runs !== runs) return;
    signal.removeEventListener("abort", known.listener);
    this.#listeners.delete(signal);
  }
}
