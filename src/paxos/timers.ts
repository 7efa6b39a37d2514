import { performance } from "node:perf_hooks";

/** Time as a node takes it: real, or a test's. Nothing in a node looks at the time of day, so a clock that jumps changes nothing. */
export interface NodeTimers {
  /** Milliseconds since some moment; never less than before. */
  now(): number;
  /** Calls `run` about every `ms`, late when the process is; returns how to stop that. */
  every(ms: number, run: () => void): () => void;
  /** Calls `run` once, when what has come in by now has been read. */
  soon(run: () => void): void;
}

export const realNodeTimers: NodeTimers = {
  now: () => performance.now(),
  every: (ms, run) => {
    const timer = setInterval(run, ms);
    return () => clearInterval(timer);
  },
  soon: (run) => {
    setImmediate(run);
  },
};
