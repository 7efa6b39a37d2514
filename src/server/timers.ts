import { setTimeout as delay } from "node:timers/promises";

/** Time as the server waits for it: real, or a simulation's. What time it *is* comes from the `clock` option. */
export interface Timers {
  /** Calls `run` again and again; returns how to stop that. */
  every(ms: number, run: () => void): () => void;
  /** Returns when the time has passed or `signal` is aborted, whichever is first. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
}

/** Keeps no process alive. */
export const realTimers: Timers = {
  every: (ms, run) => {
    const timer = setInterval(run, ms).unref();
    return () => clearInterval(timer);
  },
  wait: (ms, signal) => delay(ms, undefined, { signal, ref: false }).catch(() => undefined), // aborted: its only error
};
