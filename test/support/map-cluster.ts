/** Three real nodes of `examples/replicated-map.ts`, and clients that note when they asked what, and what they were told. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Client, credentials, makeClientConstructor, type ServiceError, status } from "@grpc/grpc-js";
import type { KeyOperation } from "../../src/testing/linearizability.ts";

const EXAMPLE = fileURLToPath(new URL("../../examples/replicated-map.ts", import.meta.url));
const json = { to: (value: unknown): Buffer => Buffer.from(JSON.stringify(value)), from: (bytes: Buffer) => JSON.parse(bytes.toString()) };
const method = (path: string) => ({
  ...{ path, requestStream: false, responseStream: false },
  ...{ requestSerialize: json.to, requestDeserialize: json.from, responseSerialize: json.to, responseDeserialize: json.from },
});
const MapClient = makeClientConstructor({ put: method("/example.Map/Put"), get: method("/example.Map/Get") }, "Map");
type Call = (
  request: object,
  options: { readonly deadline: number },
  done: (error: ServiceError | null, value: { readonly value?: string }) => void,
) => void;

/** The node's own words for "nothing was done, and never will be". */
const NOT_APPLIED: ReadonlySet<string> = new Set(["not-leader", "overloaded", "aborted", "superseded", "closed", "epoch-differs", "too-large"]);

/** grpc-js's: the request did not leave. */
const UNSENT = /^No connection established/;
/** Between a refusal and the next attempt. */
const PAUSE_MS = 5;

interface MapNode {
  child: ChildProcess | undefined;
  readonly client: Client & Record<"put" | "get", Call>;
  readonly start: () => ChildProcess;
}

export class MapCluster {
  readonly nodes: readonly MapNode[];
  readonly #root: string;
  /** That said so last. */
  leader = 0;
  /** How often somebody said so. */
  reigns = 0;
  stderr = "";

  private constructor(root: string, nodes: readonly MapNode[]) {
    this.#root = root;
    this.nodes = nodes;
  }

  static async start(): Promise<MapCluster> {
    const root = mkdtempSync(join(tmpdir(), "tsoracle-map-"));
    const ports = await freePorts(6);
    const peers = [0, 1, 2].map((index) => `${index + 1}=127.0.0.1:${ports[index]}`).join(",");
    const nodes: MapNode[] = [];
    const cluster = new MapCluster(root, nodes);
    for (const index of [0, 1, 2]) {
      const address = `127.0.0.1:${ports[index + 3]}`;
      nodes.push({
        child: undefined,
        client: new MapClient(address, credentials.createInsecure(), {
          "grpc.max_reconnect_backoff_ms": 100,
          "grpc.initial_reconnect_backoff_ms": 50,
        }) as never,
        start: () =>
          spawn(process.execPath, ["--import", "tsx", EXAMPLE, String(index + 1), peers, address, join(root, String(index + 1))], {
            stdio: ["ignore", "pipe", "pipe"],
          }),
      });
      cluster.startNode(index);
    }
    return cluster;
  }

  startNode(index: number): void {
    const node = this.#node(index);
    if (node.child !== undefined) return;
    const child = node.start();
    node.child = child;
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      if (!text.includes("leads")) return;
      this.leader = index;
      this.reigns += 1;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += `node ${index + 1}: ${text}`;
    });
    child.once("exit", () => {
      if (node.child === child) node.child = undefined;
    });
  }

  isUp(index: number): boolean {
    return this.#node(index).child !== undefined;
  }

  signal(index: number, name: NodeJS.Signals): void {
    this.#node(index).child?.kill(name);
  }

  async kill(index: number): Promise<void> {
    const { child } = this.#node(index);
    if (child === undefined) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  /** One attempt at one node. */
  ask(
    index: number,
    name: "put" | "get",
    request: object,
    timeoutMs: number,
  ): Promise<{ readonly error?: ServiceError; readonly value?: string | undefined }> {
    return new Promise((resolve) => {
      this.#node(index).client[name](request, { deadline: Date.now() + timeoutMs }, (error, value) =>
        resolve(error === null ? { value: value.value } : { error }),
      );
    });
  }

  /** Every key, as this node has it. */
  async contents(index: number, keys: readonly string[]): Promise<readonly (string | undefined)[]> {
    const values: (string | undefined)[] = [];
    for (const key of keys) {
      for (;;) {
        const { error, value } = await this.ask(index, "get", { key }, 2_000);
        if (error === undefined) {
          values.push(value);
          break;
        }
      }
    }
    return values;
  }

  async end(): Promise<void> {
    for (const [index, node] of this.nodes.entries()) {
      node.client.close();
      await this.kill(index);
    }
    rmSync(this.#root, { recursive: true, force: true });
  }

  #node(index: number): MapNode {
    const node = this.nodes[index];
    if (node === undefined) throw new RangeError(`there is no node ${index}`);
    return node;
  }
}

/** Callers that put and get until they are told to stop, each one thing at a time. */
export class MapLoad {
  readonly history: KeyOperation[] = [];
  readonly counts = { put: 0, get: 0, unknown: 0, refused: 0 };
  readonly #cluster: MapCluster;
  readonly #keys: readonly string[];
  readonly #random: () => number;
  readonly #workers: Promise<void>[];
  #stopping = false;
  #values = 0;

  constructor(
    cluster: MapCluster,
    { keys, workers, random }: { readonly keys: readonly string[]; readonly workers: number; readonly random: () => number },
  ) {
    this.#cluster = cluster;
    this.#keys = keys;
    this.#random = random;
    this.#workers = Array.from({ length: workers }, () => this.#work());
  }

  get done(): number {
    return this.counts.put + this.counts.get;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#workers);
  }

  async #work(): Promise<void> {
    while (!this.#stopping) {
      const key = this.#keys[Math.floor(this.#random() * this.#keys.length)] ?? "";
      if (this.#random() < 0.5) await this.#put(key);
      else await this.#get(key);
    }
  }

  async #put(key: string): Promise<void> {
    this.#values += 1;
    const value = `value ${this.#values}`;
    for (;;) {
      const invokedAt = now();
      const { error } = await this.#cluster.ask(this.#someone(), "put", { key, value }, 2_000);
      if (error === undefined) {
        this.counts.put += 1;
        this.history.push({ key, type: "write", value, invokedAt, returnedAt: now() });
        return;
      }
      if (error.code === status.UNAVAILABLE && (NOT_APPLIED.has(error.details) || UNSENT.test(error.details))) {
        this.counts.refused += 1;
        if (this.#stopping) return;
        await delay(PAUSE_MS);
        continue;
      }
      this.counts.unknown += 1;
      this.history.push({ key, type: "write", value, invokedAt });
      return;
    }
  }

  async #get(key: string): Promise<void> {
    const invokedAt = now();
    const { error, value } = await this.#cluster.ask(this.#someone(), "get", { key }, 2_000);
    if (error !== undefined) return delay(PAUSE_MS);
    this.counts.get += 1;
    this.history.push({ key, type: "read", result: value === undefined ? [] : [value], invokedAt, returnedAt: now() });
  }

  /** Mostly the leader. */
  #someone(): number {
    return this.#random() < 0.7 ? this.#cluster.leader : Math.floor(this.#random() * 3);
  }
}

/** One clock for all, in microseconds. */
function now(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}

export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
