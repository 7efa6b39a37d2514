/**
 * How long a client that knows all three nodes waits for the next decided entry when the leader is killed with SIGKILL: `examples/replicated-map.ts` beside etcd with its defaults, turn and
 * turn about. Three nodes are three processes, whose pids are printed. JSON lines on stdout; `bench/README.md` says what each means.
 *
 *     npm run bench:log-failover -- --rounds 20
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Client, credentials } from "@grpc/grpc-js";
import { type BenchCluster, startEtcd, startMap } from "./clusters.ts";
import { percentiles } from "./figures.ts";
import { ETCD_PUT, MAP_PUT } from "./puts.ts";
import type { Method } from "./raw-caller.ts";

/** Milliseconds. */
const AIM_MS = 300;
/** Of one attempt: less than any election, so that an attempt at a node that hangs costs little. */
const ATTEMPT_MS = 200;
/** Puts one after the other before the leader is killed. */
const WARM_PUTS = 50;
/** For the killed node to come back and to follow, before the next is killed. */
const REST_MS = 1_500;
const identity = (bytes: Buffer): Buffer => bytes;

/** Asks one node after the other, the one that answered last first, until one has decided. */
class Putter {
  readonly #clients: readonly Client[];
  readonly #method: Method;
  #at = 0;

  constructor(cluster: BenchCluster, method: Method) {
    const options = { "grpc.initial_reconnect_backoff_ms": 50, "grpc.max_reconnect_backoff_ms": 50, "grpc.enable_retries": 0 };
    this.#clients = cluster.nodes.map(({ address }) => new Client(address, credentials.createInsecure(), options));
    this.#method = method;
  }

  /** How long it took, in ms. */
  async put(): Promise<number> {
    const began = performance.now();
    while (!(await this.#attempt())) {
      this.#at += 1;
      if (this.#at % this.#clients.length === 0) await delay(1);
    }
    return performance.now() - began;
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  #attempt(): Promise<boolean> {
    const { path, request } = this.#method;
    const client = this.#clients[this.#at % this.#clients.length];
    return new Promise((resolve) => {
      client?.makeUnaryRequest(path, identity, identity, request, { deadline: Date.now() + ATTEMPT_MS }, (error) => resolve(error === null));
    });
  }
}

/** A cluster, its client, and how long each round took. */
class Failovers {
  readonly #what: string;
  readonly #cluster: BenchCluster;
  readonly #putter: Putter;
  readonly #timesMs: number[] = [];

  constructor(what: string, cluster: BenchCluster, method: Method) {
    this.#what = what;
    this.#cluster = cluster;
    this.#putter = new Putter(cluster, method);
  }

  async round(): Promise<void> {
    for (let put = 0; put < WARM_PUTS; put++) await this.#putter.put();
    const killed = await this.#cluster.leader();
    const { name, process: child } = this.#cluster.nodes[killed] ?? {};
    child?.kill("SIGKILL");
    const ms = await this.#putter.put();
    this.#timesMs.push(ms);
    console.log(JSON.stringify({ line: "failover", what: this.#what, round: this.#timesMs.length, killed: name, ms: Math.round(ms) }));
    this.#cluster.restart(killed);
    await delay(REST_MS);
  }

  async end(): Promise<number> {
    const { p50Us: medianMs, p99Us: p99Ms } = percentiles(new Float64Array(this.#timesMs));
    console.log(
      JSON.stringify({ line: "failovers", what: this.#what, rounds: this.#timesMs.length, medianMs: Math.round(medianMs), p99Ms: Math.round(p99Ms) }),
    );
    this.#putter.close();
    await this.#cluster.close();
    return medianMs;
  }
}

const { values } = parseArgs({ options: { rounds: { type: "string", default: "20" } } });
const rounds = Number(values.rounds);
if (!(rounds >= 1)) throw new RangeError(`--rounds ${values.rounds} is not a number of rounds, from 1 up`);
const directory = mkdtempSync(join(tmpdir(), "tsoracle-bench-"));
try {
  const map = new Failovers("replicated-map", await startMap(join(directory, "map")), MAP_PUT);
  const etcdCluster = await startEtcd(join(directory, "etcd"));
  const etcd = etcdCluster === undefined ? undefined : new Failovers("etcd", etcdCluster, ETCD_PUT);
  for (let round = 0; round < rounds; round++) {
    await map.round();
    await etcd?.round();
  }
  const medianMs = await map.end();
  await etcd?.end();
  console.log(JSON.stringify({ line: "aim", what: "replicated-map", figure: "medianMs", atMost: AIM_MS, met: medianMs <= AIM_MS }));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
