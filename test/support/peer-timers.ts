import type { PeerTimers } from "../../src/paxos/transport/wire.ts";

/** Time that passes when nothing else is to be done: the next timer runs once nothing happens soon. */
export class IdleTimers implements PeerTimers {
  readonly #timers = new Map<object, { readonly at: number; readonly run: () => void }>();
  #now = 0;
  #soon = 0;
  #isTurning = false;

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): () => void {
    const timer = {};
    this.#timers.set(timer, { at: this.#now + ms, run });
    this.#turn();
    return () => this.#timers.delete(timer);
  }

  soon(run: () => void): void {
    this.#soon += 1;
    setImmediate(() => {
      this.#soon -= 1;
      run();
    });
  }

  /** Each time in a turn of its own, so that whoever waits for what has happened may act on it. */
  #turn(): void {
    if (this.#isTurning) return;
    this.#isTurning = true;
    setImmediate(() => {
      this.#isTurning = false;
      if (this.#soon === 0) this.#next();
      if (this.#timers.size > 0) this.#turn();
    });
  }

  #next(): void {
    const [first] = [...this.#timers].sort(([, a], [, b]) => a.at - b.at);
    if (first === undefined) return;
    const [timer, { at, run }] = first;
    this.#timers.delete(timer);
    this.#now = Math.max(this.#now, at);
    run();
  }
}
