/**
 * Bare coalescing: one batch in flight, whoever comes meanwhile is in the next one, and nothing else: no deadline, no leader, no checks. What callers that
 * share requests can have of grpc-js at best. It imports nothing of ours.
 */
import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { decodeNumbers, encodeNumbers } from "./numbers.ts";

type Resolve = (timestamp: bigint) => void;

export class Coalescer {
  readonly #client: Client;
  #waiting: Resolve[] = [];
  #busy = false;

  constructor(address: string) {
    this.#client = new Client(address, credentials.createInsecure());
  }

  getTs(): Promise<bigint> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      if (this.#busy) return;
      this.#busy = true;
      process.nextTick(() => this.#send());
    });
  }

  async close(): Promise<void> {
    this.#client.close();
  }

  #send(): void {
    if (this.#waiting.length === 0) {
      this.#busy = false;
      return;
    }
    let batch = this.#waiting;
    this.#waiting = [];
    this.#client.makeUnaryRequest("/bench.Echo/Grant", encodeNumbers, decodeNumbers, [batch.length], (error: ServiceError | null, grant) => {
      if (error !== null) throw error;
      const [physicalMs = 0, start = 0] = grant ?? [];
      let next = (BigInt(physicalMs) << 18n) + BigInt(start);
      for (const resolve of batch) resolve(next++);
      batch = []; // grpc-js keeps this closure for a while, which would make every collection copy the batch
      queueMicrotask(() => process.nextTick(() => this.#send())); // at the end of the turn: those who were just answered have asked again
    });
  }
}
