import { open } from "node:fs/promises";
import { Client, credentials } from "@grpc/grpc-js";
import type { Caller, CallFigures, Load } from "./sides.ts";

/** What a decided entry costs at least: one flush, and one message to another process and back. */
export class FloorCaller implements Caller {
  readonly #client: Client;
  readonly #path: string;

  constructor(address: string, path: string) {
    this.#client = new Client(address, credentials.createInsecure());
    this.#path = path;
  }

  async run({ seconds }: Load): Promise<CallFigures> {
    const file = await open(this.#path, "w");
    const record = Buffer.alloc(512, 1);
    await file.write(Buffer.alloc(8 * 1024 * 1024), 0, undefined, 0);
    await file.datasync();
    const identity = (bytes: Buffer): Buffer => bytes;
    const stream = this.#client.makeBidiStreamRequest("/bench.Echo/Stream", identity, identity);
    let answered = (): void => undefined;
    stream.on("data", () => answered());
    const latenciesUs = new Float64Array(Math.ceil(100_000 * seconds));
    const began = performance.now();
    let calls = 0;
    for (let before = began; before < began + seconds * 1000; ) {
      await file.write(record, 0, record.length, (calls * record.length) % (8 * 1024 * 1024));
      await file.datasync();
      await new Promise<void>((resolve) => {
        answered = resolve;
        stream.write(record);
      });
      const after = performance.now();
      latenciesUs[calls++] = (after - before) * 1000;
      before = after;
    }
    const took = (performance.now() - began) / 1000;
    stream.end();
    await file.close();
    return { calls, seconds: took, latenciesUs: latenciesUs.subarray(0, calls) };
  }

  async close(): Promise<void> {
    this.#client.close();
  }
}
