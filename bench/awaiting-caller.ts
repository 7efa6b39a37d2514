/** Callers as a program has them: each awaits one timestamp after the other. Both sides of a ratio are called by this same code. */
import type { Caller, CallFigures, Load } from "./sides.ts";

export interface TimestampClient {
  getTs(): Promise<bigint>;
  close(): Promise<void>;
}

/** Only so many take their time, and look at what they got: with millions of calls a second a look at the clock would be a part of the figure. */
const WATCHED_MAX = 64;
const WATCHED_PER_SECOND_MAX = 1_000_000;

export class AwaitingCaller implements Caller {
  readonly #client: TimestampClient;

  constructor(client: TimestampClient) {
    this.#client = client;
  }

  /** @throws the error of the first call that fails; RangeError where timestamps do not go up */
  async run({ callers, seconds }: Load): Promise<CallFigures> {
    const client = this.#client;
    const latenciesUs = new Float64Array(Math.ceil(WATCHED_PER_SECOND_MAX * seconds));
    let calls = 0;
    let watchedCalls = 0;
    let over = false;
    const plain = async (): Promise<void> => {
      while (!over) {
        await client.getTs();
        calls += 1;
      }
    };
    const watched = async (): Promise<void> => {
      let last = -1n;
      for (let before = performance.now(); !over; ) {
        const timestamp = await client.getTs();
        const after = performance.now();
        latenciesUs[watchedCalls++] = (after - before) * 1000;
        before = after;
        if (timestamp <= last) throw new RangeError(`${timestamp} came after ${last}`);
        last = timestamp;
      }
    };
    const began = performance.now();
    const timer = setTimeout(() => {
      over = true;
    }, seconds * 1000);
    try {
      await Promise.all(Array.from({ length: callers }, (_, index) => (index < WATCHED_MAX ? watched() : plain())));
    } finally {
      over = true;
      clearTimeout(timer);
    }
    return { calls: calls + watchedCalls, seconds: (performance.now() - began) / 1000, latenciesUs: latenciesUs.subarray(0, watchedCalls) };
  }

  async close(): Promise<void> {
    await this.#client.close();
  }
}
