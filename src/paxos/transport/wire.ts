/** The seam under the streams: bytes of frames, in order, until the end. gRPC's is in `grpc-wire.ts`, that of one process in `memory.ts`. */
import type { Lane } from "./transport.ts";

/** How a stream ended. */
export interface StreamEnd {
  /** For people. */
  readonly detail: string;
  /** Nobody listens at that address: whoever was there is gone. */
  readonly refused: boolean;
  /** The bytes that came were none that a peer of this protocol sends, so that the wire itself ended the stream. */
  readonly malformed: boolean;
}

export interface StreamHandler {
  onFrame(bytes: Uint8Array): void;
  /** Once, and the last call; never from within a call of the stream's own methods. After `end` and `destroy` as well. */
  onEnd(end: StreamEnd): void;
}

export interface PeerStream {
  /** `done` is called when there is room for more: until then this stream buffers what it is given, without bound. */
  write(bytes: Uint8Array, done: () => void): void;
  /** Ends it when what was written has left. */
  end(): void;
  /** Ends it now, with its connection if that is its own. */
  destroy(): void;
}

export interface Wire {
  /** Where this node is dialled. */
  readonly address: string;
  /** Connects, with a connection of its own. */
  dial(address: string, lane: Lane, handler: StreamHandler): PeerStream;
  /** Takes no more streams, and ends every connection that is left. */
  close(): void;
}

/** Called for every stream that somebody opens to this node. */
export type Accept = (stream: PeerStream) => StreamHandler;

/** Time as a transport sees it: real, or a simulation's. */
export interface PeerTimers {
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** Calls `run` once, when `ms` have passed; returns how to prevent that. Keeps no process alive. */
  after(ms: number, run: () => void): () => void;
  /** Calls `run` in a later turn of the event loop. */
  soon(run: () => void): void;
}

export const realTimers: PeerTimers = {
  now: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms).unref();
    return () => clearTimeout(timer);
  },
  soon: (run) => {
    setImmediate(run);
  },
};
