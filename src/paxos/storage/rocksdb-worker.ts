/** The thread that has RocksDB: its binding writes, and waits for the flush, on the thread that calls. One request after the other. */
import { createRequire } from "node:module";
import { parentPort, workerData } from "node:worker_threads";
import type { RocksAnswer, RocksRequest } from "./rocksdb-thread.ts";

/** Of `@nxtedition/rocksdb`, which has no types: what is used here. */
interface Rocks {
  open(options: { readonly createIfMissing: boolean }): Promise<void>;
  close(): Promise<void>;
  batch(
    operations: readonly { readonly type: "put"; readonly key: Uint8Array; readonly value: Uint8Array }[],
    options: { readonly sync: boolean },
  ): Promise<void>;
  clear(range: { readonly gte: Uint8Array; readonly lt: Uint8Array }): Promise<void>;
  iterator(range: { readonly gte: Uint8Array; readonly lt: Uint8Array }): {
    next(): Promise<readonly [key: Uint8Array, value: Uint8Array] | undefined>;
    close(): Promise<void>;
  };
}

const { location, binding } = workerData as { readonly location: string; readonly binding: string };
const { RocksLevel } = createRequire(import.meta.url)(binding) as { readonly RocksLevel: new (location: string, options: object) => Rocks };
const db = new RocksLevel(location, { keyEncoding: "buffer", valueEncoding: "buffer" });

async function carryOut(request: RocksRequest): Promise<readonly Uint8Array[]> {
  switch (request.type) {
    case "open":
      await db.open({ createIfMissing: true });
      return [];
    case "write":
      await db.batch(
        request.puts.map(([key, value]) => ({ type: "put", key: Buffer.from(key), value: Buffer.from(value) })),
        { sync: true },
      );
      return [];
    case "read": {
      const iterator = db.iterator({ gte: Buffer.from(request.from), lt: Buffer.from(request.before) });
      const found: Uint8Array[] = [];
      let bytes = 0;
      try {
        for (let next = await iterator.next(); next !== undefined; next = await iterator.next()) {
          const [key, value] = next;
          bytes += value.length;
          if (bytes > request.maxBytes && found.length > 0) break;
          found.push(new Uint8Array(key), new Uint8Array(value));
        }
      } finally {
        await iterator.close();
      }
      return found;
    }
    case "clear":
      await db.clear({ gte: Buffer.from(request.from), lt: Buffer.from(request.before) });
      return [];
    case "close":
      await db.close();
      return [];
  }
}

let queue: Promise<void> = Promise.resolve();
parentPort?.on("message", ({ number, request }: { readonly number: number; readonly request: RocksRequest }) => {
  queue = queue.then(async () => {
    let answer: RocksAnswer;
    try {
      answer = { number, values: await carryOut(request) };
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : "";
      answer = { number, error: error instanceof Error ? `${error.message}${cause}` : String(error) };
    }
    parentPort?.postMessage(answer);
  });
});
