/**
 * Clients. They write, append and read under a few keys at a time, at the node that they take for the leader or at any other, give up when they have waited too long,
 * and write down what they saw. Whoever judges it reads `operations`.
 */
import type { Prng } from "../../base/prng.ts";
import type { RequestNumber } from "../../paxos/core/effects.ts";
import type { Answered, Settled } from "../../paxos/turn.ts";
import type { KeyOperation } from "../linearizability.ts";
import type { Cluster } from "./cluster.ts";
import { encodeCommand } from "./machine.ts";
import { drawBetween } from "./network.ts";
import type { ObservedProcess } from "./observed.ts";
import type { SimulatedProcess } from "./process.ts";
import type { WorkloadSettings } from "./settings.ts";

type RequestKind = "write" | "append" | "read" | "confirm";

interface Request {
  readonly id: RequestNumber;
  readonly kind: RequestKind;
  readonly key: number;
  readonly value: number;
  readonly client: number;
  readonly process: SimulatedProcess;
  /** Counts what happens to clients: no two things have the same number. */
  readonly invokedAt: number;
  returnedAt: number | undefined;
  /** `unknown`: it may have happened, or may yet. */
  state: "open" | "ok" | "not-applied" | "unknown";
  /** Of a read. */
  result: readonly number[] | undefined;
}

/** Is told of every proposal and every question before a node hears of it. */
export interface RequestWatcher {
  proposed(process: ObservedProcess, id: RequestNumber, payload: Uint8Array): void;
  asked(process: ObservedProcess, id: RequestNumber, kind: "read" | "confirm"): void;
}

/** Keys in use at one time, and requests until others are used: histories of one key stay short. */
const KEYS = 6;
const REQUESTS_PER_KEYS = 90;

interface Client {
  /** The node that it asks; the leader, or any, if undefined. */
  readonly home: number | undefined;
  /** The node that it was sent to, or tries next. */
  hint: number | undefined;
  /** A client that waits for one proposal of its own to be decided, and is then done. */
  readonly probe: boolean;
  done: boolean;
  /** It is making requests, some of which may end at once. */
  asking: boolean;
  open: number;
  /** Nothing came of its last requests: it does not ask again at once. */
  failed: boolean;
  round: number;
}

export class Workload {
  readonly #history: Request[] = [];
  readonly counts = { ok: 0, notApplied: 0, unknown: 0, readsFailed: 0 };
  readonly #cluster: Cluster;
  readonly #settings: WorkloadSettings;
  readonly #watchers: readonly RequestWatcher[];
  readonly #prng: Prng;
  readonly #clients: Client[] = [];
  readonly #open = new Map<RequestNumber, Request>();
  #requests = 0;
  #moment = 0;
  #stopped = false;
  #probePatienceUs = 0;

  constructor(cluster: Cluster, watchers: readonly RequestWatcher[], prng: Prng) {
    this.#cluster = cluster;
    this.#settings = cluster.settings.workload;
    this.#watchers = watchers;
    this.#prng = prng;
  }

  start(): void {
    for (let client = 0; client < this.#settings.clients; client++) this.#addClient(undefined, false);
  }

  /** The clients ask nothing more; what they have asked may still be answered. */
  stop(): void {
    this.#stopped = true;
  }

  /** Lets a client of each of these nodes try until a proposal of its own is decided; it waits for each of them as long as this. */
  probe(nodes: readonly number[], patienceUs: number): void {
    this.#probePatienceUs = Math.max(patienceUs, this.#settings.patienceUs);
    for (const home of nodes) this.#addClient(home, true);
  }

  get probing(): boolean {
    return this.#clients.some(({ probe, done }) => probe && !done);
  }

  get openRequests(): number {
    return this.#open.size;
  }

  /** What it saw, in the order of its asking, without what did not happen for certain. */
  operations(): KeyOperation[] {
    const operations: KeyOperation[] = [];
    for (const { kind, key, value, state, result, invokedAt, returnedAt } of this.#history) {
      if (kind === "confirm" || state === "not-applied" || (kind === "read" && state !== "ok")) continue;
      const times = { key: `k${key}`, invokedAt, returnedAt };
      operations.push(kind === "read" ? { ...times, type: kind, result: result?.map(String) } : { ...times, type: kind, value: String(value) });
    }
    return operations;
  }

  /** All keys at once, as a process has them when everything is over. */
  readAll(process: SimulatedProcess): void {
    for (const key of process.machine.keys) {
      const invokedAt = this.#next();
      const result = process.machine.read(key);
      const id = 0 as RequestNumber;
      this.#history.push({ id, kind: "read", key, value: 0, client: -1, process, invokedAt, returnedAt: this.#next(), state: "ok", result });
    }
  }

  onClient(index: number): void {
    const client = this.#clients[index];
    if (client === undefined || client.done || client.open > 0 || (this.#stopped && !client.probe)) return;
    client.round += 1;
    client.failed = true;
    client.asking = true;
    const process = this.#target(client);
    if (process !== undefined) {
      this.#cluster.count("client", process.index);
      const count = client.probe ? 1 : 1 + this.#prng.below(this.#settings.burst);
      for (let request = 0; request < count; request++) this.#ask(index, client, process);
      this.#cluster.touch(process);
    }
    client.asking = false;
    if (client.open > 0) {
      const { now } = this.#cluster;
      this.#cluster.at(now + (client.probe ? this.#probePatienceUs : this.#settings.patienceUs), {
        type: "patience",
        client: index,
        round: client.round,
      });
    } else if (!client.done) {
      this.#later(index);
    }
  }

  /** It has waited long enough. */
  onPatience(index: number, round: number): void {
    const client = this.#clients[index];
    if (client === undefined || client.round !== round || client.open === 0) return;
    for (const request of this.#open.values()) {
      if (request.client !== index) continue;
      const { process, id } = request;
      if (isWrite(request) && process.alive) {
        process.put({ type: "abandon", id });
        this.#cluster.touch(process);
      }
      if (request.state === "open") this.#end(request, "unknown");
    }
  }

  onSettled(settled: readonly Settled[]): void {
    for (const { id, outcome } of settled) {
      const request = this.#open.get(id);
      if (request === undefined) continue;
      if (outcome.type === "not-applied") {
        const client = this.#clients[request.client];
        // A node that knows no leader may be cut off from one that works: its client then asks elsewhere.
        if (client !== undefined) client.hint = outcome.leader === undefined ? this.#anyNode() : outcome.leader - 1;
        this.#end(request, "not-applied");
      } else {
        this.#end(request, outcome.type === "applied" ? "ok" : "unknown");
      }
    }
  }

  onAnswered(process: SimulatedProcess, answered: readonly Answered[]): void {
    for (const { id, ok } of answered) {
      const request = this.#open.get(id);
      if (request === undefined) continue;
      if (ok && request.kind === "read") request.result = process.machine.read(request.key);
      this.#end(request, ok ? "ok" : "not-applied");
    }
  }

  /** Whoever asked there will never know. */
  onStopped(process: SimulatedProcess): void {
    for (const request of [...this.#open.values()]) if (request.process === process) this.#end(request, "unknown");
  }

  #addClient(home: number | undefined, probe: boolean): void {
    this.#clients.push({ home, hint: undefined, probe, done: false, asking: false, open: 0, failed: false, round: 0 });
    this.#later(this.#clients.length - 1);
  }

  #later(index: number): void {
    const { thinkUs, retryUs } = this.#settings;
    const waits = drawBetween(this.#prng, this.#clients[index]?.failed ? retryUs : thinkUs);
    this.#cluster.at(this.#cluster.now + waits, { type: "client", client: index });
  }

  #target(client: Client): SimulatedProcess | undefined {
    const { leader } = this.#cluster;
    if (client.home !== undefined) {
      const asked = client.hint ?? client.home;
      client.hint = undefined;
      return this.#cluster.processAt(asked) ?? this.#cluster.processAt(this.#anyNode());
    }
    return leader === undefined || this.#prng.chance(this.#settings.anywhere) ? this.#cluster.processAt(this.#anyNode()) : leader;
  }

  #anyNode(): number {
    return this.#prng.below(this.#cluster.nodes.length);
  }

  #ask(index: number, client: Client, process: SimulatedProcess): void {
    const kind = client.probe ? "write" : this.#drawKind(process);
    this.#requests += 1;
    const id = this.#requests as RequestNumber;
    const keys = Math.floor(this.#requests / REQUESTS_PER_KEYS) * KEYS;
    const request: Request = {
      id,
      kind,
      key: keys + this.#prng.below(KEYS),
      value: this.#requests,
      client: index,
      process,
      invokedAt: this.#next(),
      returnedAt: undefined,
      state: "open",
      result: undefined,
    };
    client.open += 1;
    this.#open.set(id, request);
    if (kind !== "confirm") this.#history.push(request);
    if (isWrite(request)) this.#propose(request);
    else this.#question(request);
  }

  #drawKind(process: SimulatedProcess): RequestKind {
    const { reads, appends, confirms } = this.#settings;
    if (process.leads !== undefined && this.#prng.chance(confirms)) return "confirm";
    if (this.#prng.chance(reads)) return "read";
    return this.#prng.chance(appends) ? "append" : "write";
  }

  #propose(request: Request): void {
    const { process, id, kind, key, value } = request;
    const padding = this.#prng.below(this.#settings.paddingBytes + 1);
    const payload = encodeCommand({ type: kind === "append" ? "append" : "write", key, value, padding });
    for (const watcher of this.#watchers) watcher.proposed(process, id, payload);
    const epoch = this.#prng.chance(this.#settings.fenced) ? process.leads : undefined;
    process.put({ type: "propose", id, payload, epoch });
  }

  #question({ process, id, kind }: Request): void {
    const asked = kind === "confirm" ? "confirm" : "read";
    for (const watcher of this.#watchers) watcher.asked(process, id, asked);
    if (asked === "confirm" && process.leads !== undefined) process.put({ type: "confirm", id, epoch: process.leads });
    else process.put({ type: "read", id });
  }

  #end(request: Request, state: "ok" | "not-applied" | "unknown"): void {
    this.#open.delete(request.id);
    request.state = state;
    if (state === "ok") request.returnedAt = this.#next();
    this.#countEnd(request, state);
    const client = this.#clients[request.client];
    if (client === undefined) return;
    client.open -= 1;
    if (state === "ok") client.failed = false;
    if (client.probe && state === "ok") client.done = true;
    if (client.open === 0 && !client.done && !client.asking) this.#later(request.client);
  }

  #countEnd(request: Request, state: "ok" | "not-applied" | "unknown"): void {
    if (state === "ok") this.counts.ok += 1;
    else if (!isWrite(request)) this.counts.readsFailed += 1;
    else if (state === "unknown") this.counts.unknown += 1;
    else this.counts.notApplied += 1;
  }

  #next(): number {
    this.#moment += 1;
    return this.#moment;
  }
}

function isWrite({ kind }: Request): boolean {
  return kind === "write" || kind === "append";
}
