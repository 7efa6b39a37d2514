/** RocksDB in a thread of its own, asked by messages; and whether its binding works on this machine at all. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { messageOf, OracleError } from "../../base/errors.ts";

export type RocksRequest =
  | { readonly type: "open" | "close" }
  /** Atomic, and durable when it is answered. */
  | { readonly type: "write"; readonly puts: readonly (readonly [key: Uint8Array, value: Uint8Array])[] }
  /** Keys and values by turns, in order: one pair at least, if there is one, and no more than `maxBytes` of values where there are more. */
  | { readonly type: "read"; readonly from: Uint8Array; readonly before: Uint8Array; readonly maxBytes: number }
  | { readonly type: "clear"; readonly from: Uint8Array; readonly before: Uint8Array };

export interface RocksAnswer {
  readonly number: number;
  readonly values?: readonly Uint8Array[];
  readonly error?: string;
}

const PACKAGE = "@nxtedition/rocksdb";
const PROBE_MS = 60_000;

/** Opens a database in a directory that is thrown away: an instruction that this processor lacks ends the process, and must not end this one. */
const PROBE = `
const { mkdtempSync, rmSync } = require("node:fs");
const { RocksLevel } = require(process.argv[1]);
const directory = mkdtempSync(require("node:path").join(require("node:os").tmpdir(), "tsoracle-probe-"));
(async () => {
  const db = new RocksLevel(directory, { keyEncoding: "buffer", valueEncoding: "buffer" });
  await db.open({ createIfMissing: true });
  await db.batch([{ type: "put", key: Buffer.from("a"), value: Buffer.from("b") }], { sync: true });
  const value = await db.get(Buffer.from("a"));
  await db.close();
  rmSync(directory, { recursive: true });
  process.stdout.write(String(value));
})();`;

let probed: Promise<string> | undefined;

/**
 * Where the binding is. Once for each process: it is loaded, and used, in a child first.
 * @throws OracleError TSO_INVALID_OPTION where it is not installed, or does not work here.
 */
export function findRocksBinding(): Promise<string> {
  probed ??= probe().catch((error: unknown) => {
    probed = undefined; // it may be installed meanwhile
    throw error;
  });
  return probed;
}

async function probe(): Promise<string> {
  let binding: string;
  try {
    binding = createRequire(import.meta.url).resolve(PACKAGE);
  } catch (error) {
    throw new OracleError(
      "TSO_INVALID_OPTION",
      `the engine rocksdb needs the package ${PACKAGE}, which is not installed: npm install ${PACKAGE}, or use the wal`,
      {
        cause: error,
      },
    );
  }
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ["-e", PROBE, binding], { timeout: PROBE_MS });
    if (stdout !== "b") throw new Error(`it answered ${JSON.stringify(stdout)}`);
  } catch (error) {
    throw new OracleError("TSO_INVALID_OPTION", `the engine rocksdb does not work on this machine: ${firstLine(error)}; use the wal`, {
      cause: error,
    });
  }
  return binding;
}

function firstLine(error: unknown): string {
  const { signal, code } = error as { readonly signal?: string | null; readonly code?: unknown };
  if (signal !== null && signal !== undefined) return `${PACKAGE} ended its process with ${signal}`;
  return `${PACKAGE} failed (${String(code)}): ${
    messageOf(error)
      .split("\n")
      .find((line) => line.includes("Error")) ?? messageOf(error)
  }`;
}

interface Waiting {
  readonly resolve: (values: readonly Uint8Array[]) => void;
  readonly reject: (error: Error) => void;
}

export class RocksThread {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #asked = 0;
  #dead: Error | undefined;

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.on("message", ({ number, values = [], error }: RocksAnswer) => {
      const waiting = this.#waiting.get(number);
      this.#waiting.delete(number);
      if (error === undefined) waiting?.resolve(values);
      else waiting?.reject(new Error(error));
    });
    worker.on("error", (error) => this.#die(error));
    worker.on("exit", (code) => this.#die(new Error(`the thread of RocksDB has ended with ${code}`)));
    worker.unref(); // who waits for an answer keeps the process alive
  }

  /** @throws Error where it cannot be opened */
  static async open(location: string, binding: string): Promise<RocksThread> {
    const thread = new RocksThread(new Worker(new URL("./rocksdb-worker.js", import.meta.url), { workerData: { location, binding } }));
    try {
      await thread.ask({ type: "open" });
      return thread;
    } catch (error) {
      await thread.#worker.terminate();
      throw error;
    }
  }

  ask(request: RocksRequest): Promise<readonly Uint8Array[]> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead);
    this.#asked += 1;
    const number = this.#asked;
    this.#worker.ref();
    return new Promise<readonly Uint8Array[]>((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#worker.postMessage({ number, request });
    }).finally(() => {
      if (this.#waiting.size === 0) this.#worker.unref();
    });
  }

  async close(): Promise<void> {
    await this.ask({ type: "close" });
    const ended = once(this.#worker, "exit");
    await this.#worker.terminate();
    await ended.catch(() => undefined);
  }

  #die(error: Error): void {
    this.#dead ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#dead);
    this.#waiting.clear();
  }
}
