/** Many callers that mix all requests, and write down what they asked and were told, for the checkers. They outlive any number of servers. */
import { type Client, type ServiceError, status } from "@grpc/grpc-js";
import { LEADER_HINT_TRAILER } from "../../src/base/leader-hint.ts";
import { createPrng, type Prng } from "../../src/base/prng.ts";
import { packTimestamp } from "../../src/oracle/rules/timestamp.ts";
import type { FrontierRead, HighWaterRead, LeaseGrant, Release, SafePointRead, TimestampGrant, UnknownLease } from "../../src/testing/checkers.ts";
import type { SequenceRead, SequenceRequest } from "../../src/testing/sequence-checker.ts";
import { type Answer, type Method, Stubs, timesOf } from "./stubs.ts";

type Mutable<T> = { -readonly [Name in keyof T]: T[Name] };

export interface RecordedRequest extends Mutable<SequenceRequest> {
  readonly caller: number;
  readonly round: number;
}

/** What all callers saw. */
export class Records {
  readonly timestamps: TimestampGrant[] = [];
  readonly safePoints: SafePointRead[] = [];
  readonly sequences: RecordedRequest[] = [];
  readonly reads: SequenceRead[] = [];
  readonly leases = {
    grants: [] as LeaseGrant[],
    uncertainRenewals: [] as { id: bigint; invokedAt: bigint; endedAt: bigint | undefined }[],
    releases: [] as Release[],
    unknown: [] as UnknownLease[],
    frontiers: [] as FrontierRead[],
    highWaters: [] as HighWaterRead[],
  };
  /** Requests by kind. */
  readonly asked = new Map<string, number>();
  /** Requests that got no answer. */
  uncertain = 0;
  /** Answers that nobody should get. */
  readonly unexpected: string[] = [];
}

export interface CallersOptions {
  readonly count: number;
  readonly connections: number;
  readonly keys: readonly [string, ...string[]];
  readonly seed: number;
}

export interface Round {
  /** How many answers there are before the round is ended. */
  readonly after: number;
  /** Ends it. Nothing is asked for after it was called. */
  readonly end: (inFlight: number) => void;
}

interface Caller {
  readonly number: number;
  readonly random: Prng;
  /** The lease it holds, as far as it knows. */
  lease: { readonly id: bigint; readonly holder: string } | undefined;
  /** The one it released last: nobody should hear of that again. */
  released: NonNullable<Caller["lease"]> | undefined;
  holderEpoch: bigint;
}

/** Refusals that this mix may meet: of leases that have ended, and of a sequence that nobody has used. Any other is an answer that nobody should get. */
const REFUSALS: Readonly<Record<string, readonly status[]>> = {
  PeekSeq: [status.NOT_FOUND],
  RenewLease: [status.NOT_FOUND, status.FAILED_PRECONDITION],
};

function isRefusal(name: string, { code, metadata }: ServiceError): boolean {
  return REFUSALS[name]?.includes(code) === true && metadata.get(LEADER_HINT_TRAILER).length === 0;
}

const TTL_MS = { from: 5_000, through: 8_000 };

export class Callers {
  readonly records = new Records();
  readonly #keys: readonly [string, ...string[]];
  readonly #connections: number;
  readonly #callers: readonly Caller[];
  #round = 0;
  #inFlight = 0;
  #isEnding = false;
  /** Sequence requests and renewals of this round without an answer. */
  #open: { endedAt?: bigint | undefined }[] = [];
  #onAnswer: () => void = () => undefined;
  #end: () => void = () => undefined;

  constructor({ count, connections, keys, seed }: CallersOptions) {
    this.#keys = keys;
    this.#connections = connections;
    this.#callers = Array.from({ length: count }, (_, number) => ({
      number,
      random: createPrng(seed * 1_000 + number),
      lease: undefined,
      released: undefined,
      holderEpoch: 0n,
    }));
  }

  /** All callers ask, each one thing after the other, until the round is ended. Returns once every request has an answer or has failed. */
  async round(address: string, { after, end }: Round): Promise<void> {
    this.#round += 1;
    this.#isEnding = false;
    let answers = 0;
    this.#end = () => {
      if (this.#isEnding) return;
      this.#isEnding = true;
      end(this.#inFlight);
    };
    this.#onAnswer = () => {
      answers += 1;
      // Two turns later whoever was answered with this one has asked again, and what they ask has left this process.
      if (answers === after) setImmediate(() => setImmediate(this.#end));
    };
    const connections = Array.from({ length: this.#connections }, () => new Stubs(address));
    const work = this.#callers.map(async (caller) => {
      const stubs = connections[caller.number % connections.length] ?? new Stubs(address);
      while (!this.#isEnding) await this.#askOne(caller, stubs);
    });
    await Promise.all(work);
    for (const each of connections) each.close();
  }

  /** The server of the round is gone since `endedAt` at the latest: what has no answer took effect before, or never will. */
  settle(endedAt: bigint): void {
    for (const each of this.#open.splice(0)) each.endedAt = endedAt;
  }

  async #ask<Request, Response>(
    name: string,
    stubs: Stubs,
    client: Client,
    method: Method<Request, Response>,
    request: Request,
  ): Promise<Answer<Response>> {
    const { records } = this;
    records.asked.set(name, (records.asked.get(name) ?? 0) + 1);
    this.#inFlight += 1;
    const answer = await stubs.ask(client, method, request);
    this.#inFlight -= 1;
    if (answer.ok || isRefusal(name, answer.error)) {
      this.#onAnswer();
      return answer;
    }
    records.uncertain += 1;
    if (!this.#isEnding) {
      records.unexpected.push(`${name}, before the round was ended: ${answer.error.message}`);
      this.#end();
    }
    return answer;
  }

  #askOne(caller: Caller, stubs: Stubs): Promise<void> {
    const kind = caller.random.below(100);
    if (kind < 30) return this.#getTs(caller, stubs);
    if (kind < 56) return this.#getSeq(caller, stubs);
    if (kind < 72) return this.#getSeqBatch(caller, stubs);
    if (kind < 76) return this.#peek(caller, stubs);
    if (kind < 80) return this.#safePoint(stubs);
    if (kind < 86) return this.#frontier(stubs);
    if (kind < 88) return this.#status(stubs);
    if (kind < 91 || caller.lease === undefined) return this.#acquire(caller, stubs);
    if (kind < 92) return this.#renew(caller.released ?? caller.lease, caller, stubs);
    return kind < 98 ? this.#renew(caller.lease, caller, stubs) : this.#release(caller.lease, caller, stubs);
  }

  async #getTs({ random }: Caller, stubs: Stubs): Promise<void> {
    const count = random.chance(0.05) ? 1 + random.below(50_000) : 1 + random.below(4);
    const answer = await this.#ask("GetTs", stubs, stubs.tso, stubs.tso.getTs, { count });
    if (!answer.ok) return;
    const first = packTimestamp({ physicalMs: Number(answer.value.physicalMs), logical: answer.value.logicalStart });
    this.records.timestamps.push({ first, count: answer.value.count, ...timesOf(answer) });
  }

  async #getSeq(caller: Caller, stubs: Stubs): Promise<void> {
    const [block] = this.#blocks(caller, 1);
    if (block === undefined) return;
    const answer = await this.#ask("GetSeq", stubs, stubs.tso, stubs.tso.getSeq, block);
    this.#recordBlocks(caller, [block], answer, answer.ok ? [answer.value.start] : []);
  }

  async #getSeqBatch(caller: Caller, stubs: Stubs): Promise<void> {
    const blocks = this.#blocks(caller, 2 + caller.random.below(2));
    const answer = await this.#ask("GetSeqBatch", stubs, stubs.tso, stubs.tso.getSeqBatch, { entries: [...blocks] });
    this.#recordBlocks(caller, blocks, answer, answer.ok ? answer.value.grants.map(({ start }) => start) : []);
  }

  #blocks({ random }: Caller, keys: number): readonly { readonly key: string; readonly count: number }[] {
    const chosen = new Set<string>();
    while (chosen.size < keys) chosen.add(random.pick(this.#keys));
    return [...chosen].map((key) => ({ key, count: 1 + random.below(5) }));
  }

  #recordBlocks(caller: Caller, blocks: RecordedRequest["blocks"], answer: Answer<unknown>, starts: readonly bigint[]): void {
    const { invokedAt, respondedAt } = answer;
    const recorded: RecordedRequest = { blocks, invokedAt, caller: caller.number, round: this.#round };
    this.records.sequences.push(recorded);
    if (answer.ok) recorded.answer = { starts, respondedAt };
    else this.#open.push(recorded);
  }

  async #peek({ random }: Caller, stubs: Stubs): Promise<void> {
    const key = random.pick(this.#keys);
    const answer = await this.#ask("PeekSeq", stubs, stubs.node, stubs.node.peekSeq, { key });
    if (answer.ok) this.records.reads.push({ key, next: answer.value.sequence?.next ?? -1n, ...timesOf(answer) });
    else if (answer.error.code === status.NOT_FOUND) this.records.reads.push({ key, next: 0n, ...timesOf(answer) });
  }

  async #safePoint(stubs: Stubs): Promise<void> {
    const answer = await this.#ask("GetCurrentMaxSafe", stubs, stubs.tso, stubs.tso.getCurrentMaxSafe, {});
    if (answer.ok) this.records.safePoints.push({ safePhysicalMs: answer.value.maxSafePhysicalMs, ...timesOf(answer) });
  }

  async #frontier(stubs: Stubs): Promise<void> {
    const answer = await this.#ask("GetSafeFrontier", stubs, stubs.tso, stubs.tso.getSafeFrontier, {});
    if (answer.ok) this.records.leases.frontiers.push({ frontierMs: answer.value.frontierPhysicalMs, atMs: BigInt(Date.now()), ...timesOf(answer) });
  }

  async #status(stubs: Stubs): Promise<void> {
    const answer = await this.#ask("Status", stubs, stubs.node, stubs.node.status, {});
    if (answer.ok) this.records.leases.highWaters.push({ highWaterMs: answer.value.highWaterMs, ...timesOf(answer) });
  }

  /** Sometimes again for the epoch that holds it, sometimes for a higher one, which takes over from it. */
  async #acquire(caller: Caller, stubs: Stubs): Promise<void> {
    if (caller.lease === undefined || caller.random.chance(0.5)) caller.holderEpoch += 1n;
    const { holderEpoch, random } = caller;
    const ttlMs = BigInt(TTL_MS.from + random.below(TTL_MS.through - TTL_MS.from));
    const request = { holder: Buffer.from(`caller ${caller.number}`), holderEpoch, ttlMs };
    const answer = await this.#ask("AcquireLease", stubs, stubs.tso, stubs.tso.acquireLease, request);
    if (!answer.ok) return;
    const { leaseId: id, tsUpperBound: bound, expiresAtMs } = answer.value;
    const holder = `caller ${caller.number}, epoch ${holderEpoch}`;
    this.records.leases.grants.push({ type: "acquire", id, holder, bound, expiresAtMs, ...timesOf(answer) });
    caller.lease = { id, holder };
  }

  async #renew({ id, holder }: NonNullable<Caller["lease"]>, caller: Caller, stubs: Stubs): Promise<void> {
    const { leases } = this.records;
    const answer = await this.#ask("RenewLease", stubs, stubs.tso, stubs.tso.renewLease, { leaseId: id });
    if (answer.ok) {
      leases.grants.push({ type: "renew", id, holder, bound: answer.value.tsUpperBound, expiresAtMs: answer.value.expiresAtMs, ...timesOf(answer) });
    } else if (isRefusal("RenewLease", answer.error)) {
      if (caller.lease?.id === id) caller.lease = undefined;
      if (answer.error.code === status.NOT_FOUND) leases.unknown.push({ id, atMs: BigInt(Date.now()), ...timesOf(answer) });
    } else {
      const renewal = { id, invokedAt: answer.invokedAt, endedAt: undefined };
      leases.uncertainRenewals.push(renewal);
      this.#open.push(renewal);
    }
  }

  async #release(lease: NonNullable<Caller["lease"]>, caller: Caller, stubs: Stubs): Promise<void> {
    const { id } = lease;
    caller.lease = undefined;
    caller.released = lease;
    const answer = await this.#ask("ReleaseLease", stubs, stubs.tso, stubs.tso.releaseLease, { leaseId: id });
    const { invokedAt, respondedAt } = answer;
    this.records.leases.releases.push({ id, invokedAt, respondedAt: answer.ok ? respondedAt : undefined });
  }
}
