/** Time as the client sees it: real, or a simulation's. */
export interface ClientTimers {
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** Milliseconds since 1970, of a clock that also runs while the machine sleeps, and can be set back. */
  wall(): number;
  /** Calls `run` once, when `ms` have passed, or a millisecond less; returns how to prevent that. `keepsAlive`: whether the process waits for it. */
  after(ms: number, keepsAlive: boolean, run: () => void): () => void;
}

export const realTimers: ClientTimers = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after: (ms, keepsAlive, run) => {
    const timer = setTimeout(run, ms);
    if (!keepsAlive) timer.unref();
    return () => clearTimeout(timer);
  },
};
