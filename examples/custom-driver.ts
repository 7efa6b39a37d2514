/**
 * A driver on a store of your own: a directory that several machines share. Each commit is a file that must not exist yet, so of two writers one
 * finds out that it is fenced. Here B takes over from A in mid-flight, and the sequence goes on without a gap.
 *
 *     npx tsx examples/custom-driver.ts
 */
import { link, mkdtemp, open, readdir, readFile, rm, unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { changesCodec, type Epoch, epoch, type FencedStore, OracleError, type ServedLeadership, storeDriver } from "tsoracle";
import { OracleServer } from "tsoracle/server";
import { rawClient } from "./raw-client.ts";

/** Files 1, 2, 3, ...: the epoch of the writer, then what it changed. Nothing is ever overwritten. */
class SharedDirectory implements FencedStore {
  #last = 0;
  readonly directory: string;
  readonly epoch: Epoch;

  constructor(directory: string, epoch: Epoch) {
    this.directory = directory;
    this.epoch = epoch;
  }

  async open(reign: Epoch) {
    for (;;) {
      const entries = await this.#entries();
      this.#last = entries.length;
      const fence = entries.at(-1)?.epoch ?? 0n;
      if (fence > reign) throw new OracleError("TSO_FENCED", `epoch ${fence} has taken over from ${reign}`);
      if (fence === reign || (await this.#append(reign, changesCodec.encode([]))))
        return entries.flatMap((entry) => changesCodec.decode(entry.bytes));
    }
  }

  async commit(changes: Parameters<FencedStore["commit"]>[0], reign: Epoch) {
    if (changes.length === 0) return (await this.#entries()).length === this.#last ? "committed" : "fenced"; // only a question: who leads?
    return (await this.#append(reign, changesCodec.encode(changes))) ? "committed" : "fenced";
  }

  async *leadership({ signal }: { readonly signal?: AbortSignal | undefined } = {}): AsyncIterable<ServedLeadership> {
    yield { role: "leader", epoch: this.epoch }; // the operator starts one process a time, with a higher epoch each: ask a coordinator here
    await new Promise((resolve) => signal?.addEventListener("abort", resolve));
  }

  async close() {}

  /** False if the next file exists: somebody else has written since. */
  async #append(reign: Epoch, bytes: Uint8Array): Promise<boolean> {
    const unfinished = join(this.directory, `unfinished-${reign}`);
    const file = await open(unfinished, "w");
    await file.write(`${reign}\n${Buffer.from(bytes).toString("base64")}`);
    await file.datasync();
    await file.close();
    const won = await link(unfinished, join(this.directory, String(this.#last + 1))).then(() => true, isTaken);
    await unlink(unfinished);
    const names = await open(this.directory);
    await names.sync();
    await names.close();
    if (won) this.#last += 1;
    return won;
  }

  async #entries() {
    const names = (await readdir(this.directory)).filter((name) => /^\d+$/.test(name)).sort((a, b) => Number(a) - Number(b));
    const texts = await Promise.all(names.map((name) => readFile(join(this.directory, name), "utf8")));
    return texts.map((text) => text.split("\n")).map(([reign = "0", bytes = ""]) => ({ epoch: BigInt(reign), bytes: Buffer.from(bytes, "base64") }));
  }
}

const directory = await mkdtemp(join(tmpdir(), "tsoracle-custom-"));
const a = await serve(1n);
console.log("A grants invoices", await a.next(3));
const b = await serve(2n);
console.log("B has taken over, and grants invoices", await b.next(2));
console.log("A is told:", await a.next(1).catch((error: Error) => error.message));
console.log("B goes on with", await b.next(1));
await Promise.all([a.close(), b.close()]);
await rm(directory, { recursive: true });

async function serve(reign: bigint) {
  const driver = storeDriver(new SharedDirectory(directory, epoch(reign)));
  const server = await OracleServer.start({ driver, listen: "127.0.0.1:0" });
  for await (const state of server.states()) if (state.type === "serving") break;
  const client = rawClient(server.address ?? "");
  return {
    next: async (count: number) => `${(await client.call("getSeq", { key: "invoices", count }))["start"]} (${count} of them)`,
    close: async () => {
      client.close();
      await server.close();
      await driver.close();
    },
  };
}

function isTaken(error: NodeJS.ErrnoException): false {
  if (error.code === "EEXIST") return false;
  throw error;
}
