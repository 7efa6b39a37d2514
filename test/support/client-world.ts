/**
 * A network of scripted nodes in virtual time, for the client. What the nodes really did is kept apart from what they said, so that a test can compare what
 * callers were told with the truth. No rule of the client stands here.
 */
import { status } from "@grpc/grpc-js";
import type { Endpoint } from "../../src/client/endpoint.ts";
import type { ClientWorld } from "../../src/client/oracle-client.ts";
import type { ClientTimers } from "../../src/client/timers.ts";
import type { Cancel, Connected, Messages, Method, Reply, Transport } from "../../src/client/transport.ts";
import { LeaderHint } from "../../src/gen/tsoracle/v1/tso.ts";

export interface Behaviour {
  /** From the arrival of a request to when it is decided, and from then to the reply, ms. */
  readonly workMs: number;
  readonly replyMs: number;
  readonly what: Conduct;
  readonly hint: HintKind;
}

/** "honest": as a node should. The others may have done the work and not say so, or say so and not have done it. */
export type Conduct =
  | { readonly type: "honest" }
  | { readonly type: "status"; readonly code: status; readonly done: boolean }
  | { readonly type: "silent"; readonly done: boolean }
  | { readonly type: "dropped"; readonly done: boolean }
  | { readonly type: "unsent" }
  | { readonly type: "wrong"; readonly done: boolean; readonly how: Flaw }
  /** Leads, and has forgotten what it gave away: timestamps begin again where this reign began. */
  | { readonly type: "forgetful" }
  /** As if it still led, as it did when it last led. */
  | { readonly type: "stale" };

/** What is wrong with an answer. */
export type Flaw = "count" | "key" | "epoch" | "range" | "empty";

export type HintKind = "right" | "absent" | "empty" | "stale" | "looping" | "malformed" | "http" | "https" | "garbage" | "no epoch" | "nowhere";

export type Reachable = "up" | "refused" | "silent";

/** A block of timestamps that a node gave away, and the steps at which it was asked for and decided. */
export interface Allocation {
  readonly first: bigint;
  readonly count: number;
  readonly askedAt: number;
  readonly decidedAt: number;
}

interface ScriptedEvent {
  readonly at: number;
  readonly order: number;
  run: (() => void) | undefined;
}

interface Reign {
  readonly endpoint: Endpoint;
  readonly epoch: bigint;
  readonly first: bigint;
  next: bigint;
}

const LOGICALS = 1n << 18n;
const BETWEEN_REIGNS_MS = 100_000_000n;
const HONEST: Behaviour = { workMs: 1, replyMs: 1, what: { type: "honest" }, hint: "right" };

/** Endpoints that only hints with a scheme name: with `http://`, never to be asked by a client that uses TLS; and with `https://`. */
export const DOWNGRADE: Endpoint = "downgrade:1";
export const UPGRADE: Endpoint = "upgrade:1";

const CONNECT_TIMEOUT_MS = 2_000;

/** What a hint may name and nobody listens at. */
export const NOWHERE: Endpoint = "nowhere:1";

export class ScriptedWorld implements ClientWorld {
  readonly timers: ClientTimers;
  readonly transport: { -readonly [Name in keyof Transport]: Transport[Name] };
  readonly random: () => number;
  /** Counts what happens: the one clock of all histories. */
  step = 0;
  readonly allocations: Allocation[] = [];
  /** Blocks that were granted, by the first key of the request. */
  readonly blocks = new Map<string, { readonly start: bigint; readonly count: number }[]>();
  /** Changes of leases that were done, by what the request named. */
  readonly leases = new Map<string, number>();
  /** What was broken that holds of every client, whatever the nodes do. */
  readonly violations: string[] = [];
  readonly asked = new Set<Endpoint>();
  connectMs = 1;
  /** Told of the count of every request for timestamps, when it leaves. */
  onTimestamps: (count: number) => void = () => undefined;
  readonly #events = new Agenda();
  #order = 0;
  #now = 0;
  readonly #nodes: readonly Endpoint[];
  readonly #reachable = new Map<Endpoint, Reachable>();
  readonly #connected = new Set<Endpoint>();
  readonly #reigns: Reign[] = [];
  readonly #counters = new Map<string, bigint>();
  #leads = false;
  #lastBound = 0n;
  #script: readonly Behaviour[];
  #scriptAt = 0;
  #timestampsInFlight = 0;

  constructor(options: { readonly nodes: readonly Endpoint[]; readonly script: readonly Behaviour[]; readonly random: () => number }) {
    this.#nodes = options.nodes;
    this.#script = options.script;
    this.random = options.random;
    this.timers = {
      now: () => this.#now,
      wall: () => 1_800_000_000_000 + this.#now,
      after: (ms, _, run) => this.at(this.#now + Math.max(1, Math.trunc(ms)), run), // as Node does: a little early
    };
    this.transport = {
      isReady: (endpoint) => this.#connected.has(endpoint),
      connect: (endpoint, done) => this.#connect(endpoint, done),
      send: (endpoint, method, request, done) => this.#send(endpoint, method, request, done),
      close: () => this.#connected.clear(),
    };
  }

  get now(): number {
    return this.#now;
  }

  /** Of the last reign. */
  get epoch(): bigint | undefined {
    return this.#reigns.at(-1)?.epoch;
  }

  get isQuiet(): boolean {
    return this.#timestampsInFlight === 0;
  }

  at(at: number, run: () => void): () => void {
    const event: ScriptedEvent = { at, order: this.#order++, run };
    this.#events.push(event);
    return () => {
      event.run = undefined;
    };
  }

  /** Lets time pass until `until`; after each event everything that it led to runs. */
  async run(until: number, afterEach: () => void = () => undefined): Promise<void> {
    await turn(); // what was asked for just before
    for (;;) {
      const event = this.#events.peek();
      if (event === undefined || event.at > until) break;
      this.#events.pop();
      if (event.run === undefined) continue;
      this.#now = event.at;
      this.step += 1;
      event.run();
      await turn();
      afterEach();
    }
    this.#now = Math.max(this.#now, until);
  }

  /** `endpoint` leads from now on, in a later epoch; `undefined` begins an election. */
  lead(endpoint: Endpoint | undefined): void {
    this.#leads = endpoint !== undefined;
    if (endpoint === undefined) return;
    const before = this.#reigns.at(-1);
    const next = before === undefined ? 1_000_000n * LOGICALS : (before.next / LOGICALS + BETWEEN_REIGNS_MS) * LOGICALS;
    this.#reigns.push({ endpoint, epoch: (before?.epoch ?? 0n) + 1n, first: next, next });
  }

  /** As if all were set up anew. */
  forgetEpochs(): void {
    this.#reigns.length = 0;
  }

  reach(endpoint: Endpoint, reachable: Reachable): void {
    this.#reachable.set(endpoint, reachable);
    this.#connected.delete(endpoint);
  }

  /** From now on requests are met by these, one after the other, again and again. Returns those before. */
  replaceScript(script: readonly Behaviour[]): readonly Behaviour[] {
    const before = this.#script;
    this.#script = script;
    this.#scriptAt = 0;
    return before;
  }

  /** From now on all nodes are honest, and can be reached. */
  heal(): void {
    this.#script = [];
    for (const node of this.#nodes) this.#reachable.set(node, "up");
  }

  #connect(endpoint: Endpoint, done: (result: Connected) => void): Cancel {
    this.asked.add(endpoint);
    const reachable = this.#nodes.includes(endpoint) ? (this.#reachable.get(endpoint) ?? "up") : "refused";
    const takesMs = reachable === "silent" ? CONNECT_TIMEOUT_MS : this.connectMs;
    return this.at(this.#now + takesMs, () => {
      if (reachable === "up") this.#connected.add(endpoint);
      if (reachable === "silent") done({ type: "silent", details: "scripted silence" });
      else done({ type: reachable === "up" ? "ready" : "refused" });
    });
  }

  #send<M extends Method>(
    endpoint: Endpoint,
    method: M,
    request: Messages[M]["request"],
    done: (reply: Reply<Messages[M]["response"]>) => void,
  ): Cancel {
    this.asked.add(endpoint);
    if (method === "getTs") {
      this.onTimestamps((request as Messages["getTs"]["request"]).count);
      if (this.#timestampsInFlight > 0) this.violations.push("two requests for timestamps are under way");
      this.#timestampsInFlight += 1;
    }
    let over = false;
    const finish = (reply: Reply<Messages[M]["response"]>): void => {
      if (over) return;
      over = true;
      if (method === "getTs") this.#timestampsInFlight -= 1;
      done(reply);
    };
    const behaviour = this.#script[this.#scriptAt++ % Math.max(1, this.#script.length)] ?? HONEST;
    const isUp = this.#connected.has(endpoint);
    const askedAt = this.step;
    // It reaches the node also if it was given up meanwhile.
    this.at(this.#now + behaviour.workMs, () => {
      const reply = isUp ? this.#decide(endpoint, method, request, behaviour, askedAt) : LOST_UNSENT;
      if (reply !== undefined) this.at(this.#now + behaviour.replyMs, () => finish(reply as Reply<Messages[M]["response"]>));
    });
    return () => {
      if (over) return;
      over = true;
      if (method === "getTs") this.#timestampsInFlight -= 1;
    };
  }

  #decide(
    endpoint: Endpoint,
    method: Method,
    request: Messages[Method]["request"],
    behaviour: Behaviour,
    askedAt: number,
  ): Reply<unknown> | undefined {
    const { what, hint } = behaviour;
    const current = this.#leads ? this.#reigns.at(-1) : undefined;
    const leads = current?.endpoint === endpoint;
    const work = (reign: Reign | undefined): unknown => (reign === undefined ? undefined : this.#work(method, request, reign, askedAt));
    switch (what.type) {
      case "honest":
        return leads ? { type: "answer", value: work(current) } : this.#notLeader(endpoint, method, hint);
      case "status":
        if (what.done && !DEFINITE.has(what.code) && leads) work(current);
        return { type: "status", code: what.code, details: "scripted", hint: undefined };
      case "silent":
        if (what.done && leads) work(current);
        return undefined;
      case "dropped":
        if (what.done && leads) work(current);
        return { type: "lost", sent: true, reason: "transport", details: "scripted drop" };
      case "unsent":
        return LOST_UNSENT;
      case "wrong":
        if (method === "releaseLease") return leads ? { type: "answer", value: work(current) } : this.#notLeader(endpoint, method, hint); // it has nothing to get wrong
        return { type: "answer", value: spoil(work(leads && what.done ? current : undefined), request, what.how) };
      case "forgetful":
        if (current === undefined || !leads) return this.#notLeader(endpoint, method, hint);
        if (method === "getTs") current.next = current.first;
        return { type: "answer", value: work(current) };
      case "stale": {
        const reign = this.#reigns.findLast((each) => each.endpoint === endpoint);
        const isRead = method === "getTs" || method === "getSafeFrontier" || method === "getCurrentMaxSafe";
        // A deposed leader decides nothing: what it can still do is read.
        return reign !== undefined && (leads || isRead) ? { type: "answer", value: work(reign) } : this.#notLeader(endpoint, method, hint);
      }
      default:
        return what satisfies never;
    }
  }

  #work(method: Method, request: Messages[Method]["request"], reign: Reign, askedAt: number): unknown {
    const epoch = { hi: 0n, lo: reign.epoch };
    const flat = { epochHi: 0n, epochLo: reign.epoch };
    switch (method) {
      case "getTs": {
        const { count } = request as Messages["getTs"]["request"];
        if ((reign.next % LOGICALS) + BigInt(count) > LOGICALS) reign.next = (reign.next / LOGICALS + 1n) * LOGICALS;
        const first = reign.next;
        reign.next += BigInt(count);
        this.allocations.push({ first, count, askedAt, decidedAt: this.step });
        return { physicalMs: first / LOGICALS, logicalStart: Number(first % LOGICALS), count, ...flat };
      }
      case "getSeq": {
        const { key, count } = request as Messages["getSeq"]["request"];
        return { ...this.#grant(key, [{ key, count }])[0], epoch };
      }
      case "getSeqBatch": {
        const { entries } = request as Messages["getSeqBatch"]["request"];
        return { grants: this.#grant(entries[0]?.key ?? "", entries), epoch };
      }
      case "acquireLease": {
        const holder = (request as Messages["acquireLease"]["request"]).holder.toString();
        this.leases.set(`acquire ${holder}`, (this.leases.get(`acquire ${holder}`) ?? 0) + 1);
        return { leaseId: 7n, tsUpperBound: 1_000n, expiresAtMs: 2_000n, epoch };
      }
      case "renewLease":
      case "releaseLease": {
        const name = `${method} ${(request as Messages["renewLease"]["request"]).leaseId}`;
        this.leases.set(name, (this.leases.get(name) ?? 0) + 1);
        return method === "renewLease" ? { tsUpperBound: 1_000n, expiresAtMs: 2_000n, epoch } : {};
      }
      case "getSafeFrontier":
        return { frontierPhysicalMs: this.#bound(reign), ...flat };
      case "getCurrentMaxSafe":
        return { maxSafePhysicalMs: this.#bound(reign), ...flat };
      default:
        return method satisfies never;
    }
  }

  #grant(id: string, entries: readonly { readonly key: string; readonly count: number }[]): { key: string; start: bigint; count: number }[] {
    const granted = entries.map(({ key, count }) => {
      const start = this.#counters.get(key) ?? BigInt(1_000 + key.length);
      this.#counters.set(key, start + BigInt(count));
      return { key, start, count };
    });
    const [first] = granted;
    if (first !== undefined) this.blocks.set(id, [...(this.blocks.get(id) ?? []), first]);
    return granted;
  }

  #bound(reign: Reign): bigint {
    this.#lastBound = reign.next / LOGICALS;
    return this.#lastBound;
  }

  #notLeader(endpoint: Endpoint, method: Method, kind: HintKind): Reply<unknown> {
    if (method === "getSafeFrontier") return { type: "answer", value: { frontierPhysicalMs: 0n, epochHi: 0n, epochLo: 0n } };
    if (method === "getCurrentMaxSafe") return { type: "answer", value: { maxSafePhysicalMs: 0n, epochHi: 0n, epochLo: 0n } };
    // A trailer that is not there means "not the leader" for reads alone; of the other methods it would be a definite refusal.
    const hint = this.#hint(endpoint, kind === "absent" && method !== "getTs" ? "empty" : kind);
    return { type: "status", code: status.FAILED_PRECONDITION, details: "not leader", hint };
  }

  #hint(endpoint: Endpoint, kind: HintKind): Uint8Array | undefined {
    const encode = (leaderEndpoint?: string, epoch?: bigint): Uint8Array =>
      LeaderHint.encode({ leaderEndpoint, leaderEpoch: epoch === undefined ? undefined : { hi: 0n, lo: epoch } }).finish();
    const current = this.#leads ? this.#reigns.at(-1) : undefined;
    const old = this.#reigns.at(-2);
    switch (kind) {
      case "right":
        return encode(current?.endpoint, current?.epoch);
      case "absent":
        return undefined;
      case "empty":
        return encode();
      case "stale":
        return encode(old?.endpoint, old?.epoch);
      case "looping":
        return encode(
          this.#nodes.find((each) => each !== endpoint && each !== current?.endpoint),
          this.#reigns.at(-1)?.epoch,
        );
      case "malformed":
        return new Uint8Array([0xff, 0xff, 0xff, 0xff]);
      case "http":
        return encode(`http://${DOWNGRADE}`, this.#reigns.at(-1)?.epoch);
      case "https":
        return encode(`https://${UPGRADE}`, this.#reigns.at(-1)?.epoch);
      case "garbage":
        return encode("no endpoint at all", this.#reigns.at(-1)?.epoch);
      case "no epoch":
        return encode(current?.endpoint);
      case "nowhere":
        return encode(NOWHERE, this.#reigns.at(-1)?.epoch);
      default:
        return kind satisfies never;
    }
  }
}

const LOST_UNSENT: Reply<never> = { type: "lost", sent: false, reason: "connect_failure", details: "scripted: no connection" };

/** A node that answers one of these has done nothing: a client may rely on it. */
const DEFINITE: ReadonlySet<status> = new Set([status.INVALID_ARGUMENT, status.RESOURCE_EXHAUSTED, status.UNIMPLEMENTED, status.FAILED_PRECONDITION]);

/** An answer with one flaw. What is not of its method is not looked at. */
function spoil(answer: unknown, request: object, how: Flaw): unknown {
  const epochs = { epochHi: 0n, epochLo: 1n, epoch: { hi: 0n, lo: 1n } };
  const { count, key, entries } = { count: 1, key: "", entries: [], ...request } as {
    count: number;
    key: string;
    entries: { key: string; count: number }[];
  };
  const grants = entries.map((entry) => ({ ...entry, start: 5n }));
  const plausible = { physicalMs: 1_000_000_000_000n, logicalStart: 3, count, key, start: 5n, grants, tsUpperBound: 9n, expiresAtMs: 9n, ...epochs };
  const base = { ...plausible, ...(answer as object | undefined) };
  switch (how) {
    case "count":
      return { ...base, count: count + 1, grants: grants.map((grant) => ({ ...grant, count: grant.count + 1 })), ...OUT_OF_RANGE };
    case "key":
      return { ...base, count: 0, key: "another", grants: grants.map((grant) => ({ ...grant, key: "another" })), ...OUT_OF_RANGE };
    case "epoch":
      return { ...base, count: 0, key: "another", grants, ...OUT_OF_RANGE, epoch: undefined };
    case "range":
      return { ...base, key: "another", grants: [], logicalStart: 1 << 18, ...OUT_OF_RANGE };
    case "empty":
      return { ...base, count: 0, key: "", grants: [], epoch: undefined, ...OUT_OF_RANGE };
    default:
      return how satisfies never;
  }
}

const OUT_OF_RANGE = { tsUpperBound: 1n << 60n, frontierPhysicalMs: 1n << 50n, maxSafePhysicalMs: 1n << 50n };

/** A heap: the earliest event first, and of those of one moment the one that was made first. */
class Agenda {
  readonly #heap: ScriptedEvent[] = [];

  peek(): ScriptedEvent | undefined {
    return this.#heap[0];
  }

  push(event: ScriptedEvent): void {
    let at = this.#heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#swapIfBefore(at, parent)) return;
      at = parent;
    }
  }

  pop(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    for (let at = 0; ; ) {
      const left = 2 * at + 1;
      const child = this.#isBefore(left + 1, left) ? left + 1 : left;
      if (!this.#swapIfBefore(child, at)) return;
      at = child;
    }
  }

  #swapIfBefore(one: number, other: number): boolean {
    if (!this.#isBefore(one, other)) return false;
    const [a, b] = [this.#heap[one], this.#heap[other]];
    if (a === undefined || b === undefined) return false;
    this.#heap[one] = b;
    this.#heap[other] = a;
    return true;
  }

  #isBefore(one: number, other: number): boolean {
    const [a, b] = [this.#heap[one], this.#heap[other]];
    return a !== undefined && b !== undefined && (a.at < b.at || (a.at === b.at && a.order < b.order));
  }
}

/** Everything that can run now has run. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
