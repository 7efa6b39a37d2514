import { encodeUtf8 } from "../base/bytes.ts";
import { type Epoch, epochFromParts } from "../base/epoch.ts";
import { OracleError } from "../base/errors.ts";
import { wholeArgument } from "../base/options.ts";
import { U64_MAX } from "../base/u64.ts";
import { Watched } from "../base/watched.ts";
import type { EpochWire, SeqGrantEntry } from "../gen/tsoracle/v1/tso.ts";
import { LIMIT_RANGES } from "../oracle/rules/limits.ts";
import { GRANT_COUNT_MAX, PHYSICAL_MS_MAX, type Timestamp } from "../oracle/rules/timestamp.ts";
import { Aborts } from "./aborts.ts";
import { Calls, type Reading } from "./calls.ts";
import { GrpcTransport } from "./grpc-transport.ts";
import { type Leader, LeaderCache } from "./leader-cache.ts";
import { type CallLimits, type CallOptions, callLimits } from "./limits.ts";
import { type ClientOptions, type ResolvedOptions, resolveClientOptions } from "./options.ts";
import { Search } from "./search.ts";
import { type ClientTimers, realTimers } from "./timers.ts";
import { TimestampQueue } from "./timestamp-queue.ts";
import type { Transport } from "./transport.ts";
import { type HeldLease, holdLease, type WithLeaseOptions } from "./with-lease.ts";

/** `count` timestamps, each one above the one before: `first`, `first + 1n`, ... */
export interface TimestampRange {
  readonly first: Timestamp;
  readonly count: number;
  /** Of the leader that granted them. */
  readonly epoch: Epoch;
}

/** Values of a sequence that are the caller's: `[start, start + count)`. */
export interface SequenceBlock {
  readonly key: string;
  readonly start: bigint;
  readonly count: number;
  /** Of the leader that granted it. */
  readonly epoch: Epoch;
}

/** A point in time, by the servers' count, in ms since 1970. */
export interface Bound {
  readonly physicalMs: number;
  readonly epoch: Epoch;
}

export interface LeaseGrant {
  readonly id: bigint;
  /** While the lease is held, no safe frontier passes this, ms since 1970. */
  readonly upperBoundMs: number;
  /** By the clock of the servers, ms since 1970. */
  readonly expiresAtMs: number;
  readonly epoch: Epoch;
}

export interface AcquireLeaseOptions extends CallOptions {
  /** How long it holds without a renewal, ms; servers allow 5000 to 300000 unless they were told otherwise. @defaultValue 10000 */
  readonly ttlMs?: number | undefined;
  /** A higher one takes the holder's lease over from a lower one, which is refused from then on: 0 to 2^64-1. @defaultValue 0 */
  readonly holderEpoch?: bigint | undefined;
}

/** What the client stands on; tests put their own world here. */
export interface ClientWorld {
  readonly transport: Transport;
  readonly timers: ClientTimers;
  /** In [0, 1). */
  readonly random: () => number;
}

/** A search among nodes that do not answer goes on at least so long before it forgets what it learned. */
const SEARCH_LEAST_MS = 10_000;

const U32_MAX = 0xffff_ffff;

/**
 * A client of `tsoracle.v1`: it finds the leader, follows it, and asks again where that is safe. Every call ends within its deadline, with an answer or an
 * `OracleError` whose `outcome` says whether the work may still happen; one that is aborted rejects with the signal's reason instead, unless the work may
 * have been done.
 *
 * Make one and share it: callers who ask for timestamps at the same time share a request.
 */
export class OracleClient implements AsyncDisposable {
  readonly #options: ResolvedOptions;
  readonly #world: ClientWorld;
  readonly #aborts = new Aborts();
  readonly #leaders: LeaderCache;
  readonly #changes = new Watched<Leader | undefined>(undefined);
  readonly #queue: TimestampQueue;
  readonly #calls: Calls;
  readonly #defaults: CallLimits;
  #closed: OracleError | undefined;

  private constructor(options: ResolvedOptions, world: ClientWorld) {
    const { endpoints, metrics, backoff } = options;
    this.#options = options;
    this.#world = world;
    this.#defaults = { deadlineMs: options.deadlineMs, signal: undefined };
    let known = false;
    this.#leaders = new LeaderCache({
      configured: endpoints,
      ttlMs: options.leaderTtlMs,
      onChange: (leader) => {
        if (leader !== undefined && known) metrics.add("tsoracle_client_leader_pivots_total", 1);
        known ||= leader !== undefined;
        if (this.#closed === undefined) this.#changes.set(leader);
      },
    });
    const search = { endpoints, secure: options.tls !== undefined, leaders: this.#leaders, metrics, backoff, random: world.random };
    const context = {
      ...world,
      metrics,
      timeoutMs: options.attemptTimeoutMs,
      aborts: this.#aborts,
      leaders: this.#leaders,
      newSearch: () => new Search(search, world.timers.now()),
    };
    this.#queue = new TimestampQueue({ ...context, queueMax: options.queueMax, searchMs: Math.max(options.deadlineMs, SEARCH_LEAST_MS) });
    this.#calls = new Calls({ ...context, callsMax: options.callsMax });
  }

  /**
   * A client of the nodes at `endpoints`: `host:port`, one or more of the same cluster. Returns at once; connections are made by the first calls, and kept.
   *
   * @throws OracleError TSO_INVALID_OPTION, naming the option or the endpoint.
   */
  static connect(endpoints: readonly string[] | string, options: ClientOptions = {}): OracleClient {
    const resolved = resolveClientOptions(endpoints, options);
    const { tls, endpoints: configured, attemptTimeoutMs: connectTimeoutMs, keepaliveMs } = resolved;
    const transport = new GrpcTransport({ tls, configured, connectTimeoutMs, keepaliveMs });
    return new OracleClient(resolved, { transport, timers: realTimers, random: Math.random });
  }

  /** @internal */
  static inWorld(endpoints: readonly string[], options: ClientOptions, world: ClientWorld): OracleClient {
    return new OracleClient(resolveClientOptions(endpoints, options), world);
  }

  /** The node that is believed to lead, and its epoch where that is known; `undefined` before the first answer, and while there is an election. */
  get cachedLeader(): Leader | undefined {
    return this.#leaders.leader(this.#world.timers.now());
  }

  /** The highest epoch that any answer had; it never goes back. `undefined` before the first answer. */
  get epoch(): Epoch | undefined {
    return this.#leaders.epoch;
  }

  /** Who is believed to lead: first now, then at each change. A reader that is slow sees the newest only. Ends with `signal`, or when the client is closed. */
  leaderChanges(signal?: AbortSignal): AsyncIterable<Leader | undefined> {
    return this.#changes.values(signal);
  }

  /**
   * A timestamp: allocated after this call began, above every one that any client received before that.
   *
   * @throws OracleError TSO_NO_LEADER, TSO_DEADLINE, TSO_SERVER_ERROR, TSO_OVERLOADED, TSO_LIMIT_REACHED, TSO_INVALID_ARGUMENT, TSO_CLOSED; nothing is lost
   * but numbers in the order. The signal's reason where it is aborted.
   */
  getTs(options?: CallOptions): Promise<Timestamp> {
    const promise = new Promise<Timestamp>(captureEnds);
    const [resolve, reject] = [resolveLatest, rejectLatest];
    try {
      this.#queue.add(1, callLimits(options, this.#defaults), resolve, reject);
    } catch (error) {
      reject(error); // what is wrong with an argument
    }
    return promise;
  }

  /** `count` timestamps of one block, 1 to 2^18, in order. As `getTs`; see `getTsRange` for large counts. */
  async getTsBatch(count: number, options?: CallOptions): Promise<Timestamp[]> {
    const { first } = await this.getTsRange(count, options);
    return Array.from({ length: count }, (_, index) => (first + BigInt(index)) as Timestamp);
  }

  /** `count` timestamps of one block, 1 to 2^18, as the first one and the count. As `getTs`. */
  getTsRange(count: number, options?: CallOptions): Promise<TimestampRange> {
    return new Promise((resolve, reject) => {
      wholeArgument("count", count, { from: 1, through: GRANT_COUNT_MAX });
      this.#queue.add(count, callLimits(options, this.#defaults), (first, epoch) => resolve({ first, count, epoch }), reject);
    });
  }

  /**
   * The next `count` values of a sequence, 1 to 2^32-1 (servers allow 65536 unless they were told otherwise). A key has 1 to 1024 bytes of UTF-8 (128 unless
   * the servers were told otherwise). It is asked again only where the first request provably did nothing.
   *
   * @throws OracleError TSO_OUTCOME_UNKNOWN where the block may be used up, now or later: asking again takes the next one. Also where the call was aborted
   * after it was sent; `cause` is the signal's reason then. With every other code nothing happened: TSO_NO_LEADER, TSO_DEADLINE, TSO_LIMIT_REACHED,
   * TSO_INVALID_ARGUMENT, TSO_OVERLOADED, TSO_SERVER_ERROR, TSO_CLOSED.
   */
  async getSeq(key: string, count = 1, options?: CallOptions): Promise<SequenceBlock> {
    checkBlock(key, count);
    return this.#calls.ask(
      "getSeq",
      { key, count },
      callLimits(options, this.#defaults),
      (answer) => {
        if (answer.epoch === undefined) return { type: "malformed", detail: "answered without an epoch" };
        return readBlock({ key, count }, answer, epochOf(answer.epoch));
      },
      () => shownBlock({ key, count }),
    );
  }

  /** Blocks of several sequences, each key once: all of them or none. Blocks come in the order of `requests`. As `getSeq`. */
  async getSeqBatch(requests: readonly { readonly key: string; readonly count: number }[], options?: CallOptions): Promise<SequenceBlock[]> {
    const max = LIMIT_RANGES.maxBatchKeys.through;
    if (requests.length < 1 || requests.length > max) throw invalid(`a batch of ${requests.length} keys must have 1 to ${max}`);
    const keys = new Set<string>();
    for (const { key, count } of requests) {
      checkBlock(key, count);
      if (keys.has(key)) throw invalid(`key ${JSON.stringify(key)} is in the batch twice`);
      keys.add(key);
    }
    const entries = requests.map(({ key, count }) => ({ key, count }));
    return this.#calls.ask(
      "getSeqBatch",
      { entries },
      callLimits(options, this.#defaults),
      ({ grants, epoch }) => {
        if (epoch === undefined) return { type: "malformed", detail: "answered without an epoch" };
        if (grants.length !== entries.length)
          return { type: "malformed", detail: `answered ${grants.length} blocks where ${entries.length} were asked for` };
        const blocks: SequenceBlock[] = [];
        for (const [index, entry] of entries.entries()) {
          const reading = readBlock(entry, grants[index], epochOf(epoch));
          if (reading.type !== "value") return reading;
          blocks.push(reading.value);
        }
        return { type: "value", value: blocks, epoch: epochOf(epoch) };
      },
      () => `${entries.length} keys: ${entries.slice(0, 3).map(shownBlock).join(", ")}${entries.length > 3 ? ", ..." : ""}`,
    );
  }

  /**
   * The holder's lease: a new one, or, for the same `holderEpoch`, the one that it holds already. A holder has 1 to 1024 bytes (128 unless the servers were
   * told otherwise); a text is taken as UTF-8. `withLease` keeps one alive.
   *
   * @throws OracleError TSO_FENCED where a higher holder epoch has it; TSO_OUTCOME_UNKNOWN where it may have been granted: acquire it again, it is found. Else
   * as `getSeq`.
   */
  async acquireLease(holder: string | Uint8Array, options: AcquireLeaseOptions = {}): Promise<LeaseGrant> {
    if (typeof holder !== "string" && !(holder instanceof Uint8Array)) throw invalid(`holder ${holder} must be a text or bytes`);
    if (typeof holder === "string" && !holder.isWellFormed())
      throw invalid(`holder ${JSON.stringify(holder.slice(0, 40))} has a lone surrogate, which UTF-8 cannot say`);
    const bytes = typeof holder === "string" ? encodeUtf8(holder) : holder;
    const max = LIMIT_RANGES.maxHolderBytes.through;
    if (bytes.length < 1 || bytes.length > max) throw invalid(`holder of ${bytes.length} bytes must have 1 to ${max}`);
    const ttlMs = BigInt(wholeArgument("ttlMs", options.ttlMs ?? 10_000, { from: 1, through: PHYSICAL_MS_MAX }));
    const holderEpoch = u64Argument("holderEpoch", options.holderEpoch ?? 0n);
    const request = { holder: Buffer.from(bytes), holderEpoch, ttlMs };
    return this.#calls.ask(
      "acquireLease",
      request,
      callLimits(options, this.#defaults),
      (answer) => readLease(answer.leaseId, answer),
      () => `ttlMs ${ttlMs}, holder of ${bytes.length} bytes`,
    );
  }

  /** Gives a lease its time again, the one it was acquired with. @throws OracleError TSO_LEASE_LOST where it is over; else as `acquireLease`. */
  async renewLease(id: bigint, options?: CallOptions): Promise<LeaseGrant> {
    const leaseId = u64Argument("lease id", id);
    return this.#calls.ask("renewLease", { leaseId }, callLimits(options, this.#defaults), (answer) => readLease(leaseId, answer));
  }

  /** Ends a lease at once. One that is not known is no error: it is over. @throws OracleError as `acquireLease`. */
  async releaseLease(id: bigint, options?: CallOptions): Promise<void> {
    const leaseId = u64Argument("lease id", id);
    return this.#calls.ask("releaseLease", { leaseId }, callLimits(options, this.#defaults), () => ({
      type: "value",
      value: undefined,
      epoch: undefined,
    }));
  }

  /** Nothing will be stamped at or below this any more by whoever stamps under a lease. It never goes down. @throws OracleError as `getTs`. */
  async getSafeFrontier(options?: CallOptions): Promise<Bound> {
    return this.#calls.ask("getSafeFrontier", {}, callLimits(options, this.#defaults), ({ frontierPhysicalMs, epochHi, epochLo }) =>
      readBound(frontierPhysicalMs, epochFromParts(epochHi, epochLo)),
    );
  }

  /** Every timestamp that is granted after the answer has a physical part above this. @throws OracleError as `getTs`. */
  async getCurrentMaxSafe(options?: CallOptions): Promise<Bound> {
    return this.#calls.ask("getCurrentMaxSafe", {}, callLimits(options, this.#defaults), ({ maxSafePhysicalMs, epochHi, epochLo }) =>
      readBound(maxSafePhysicalMs, epochFromParts(epochHi, epochLo)),
    );
  }

  /**
   * Acquires the holder's lease, runs `fn` while keeping it alive, and releases it. `fn` gets the bound, and a signal that is aborted before the lease can be
   * lost: it must stop stamping then. Returns what `fn` returns. `deadlineMs` is for acquiring, not for `fn`.
   *
   * @throws what `fn` throws; OracleError TSO_LEASE_LOST where the lease was lost before `fn` ended, whatever it returned; and as `acquireLease`.
   */
  withLease<T>(holder: string | Uint8Array, options: WithLeaseOptions, fn: (lease: HeldLease) => Promise<T> | T): Promise<T> {
    return holdLease({ client: this, timers: this.#world.timers, logger: this.#options.logger, aborts: this.#aborts }, holder, options, fn);
  }

  /** Ends all calls: TSO_CLOSED, or TSO_OUTCOME_UNKNOWN for what was sent and changes something. Await your calls first. May be called twice. */
  async close(): Promise<void> {
    if (this.#closed !== undefined) return;
    this.#closed = new OracleError("TSO_CLOSED", "the client is closed");
    this.#queue.close(this.#closed);
    this.#calls.close(this.#closed);
    this.#changes.end();
    this.#world.transport.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

let resolveLatest: (value: Timestamp) => void = () => undefined;
let rejectLatest: (reason: unknown) => void = () => undefined;

/** One executor for all promises of `getTs`: a closure for each would be a tenth of what a caller costs. */
function captureEnds(resolve: (value: Timestamp) => void, reject: (reason: unknown) => void): void {
  resolveLatest = resolve;
  rejectLatest = reject;
}

function checkBlock(key: string, count: number): void {
  if (typeof key !== "string") throw invalid(`key ${key} must be a text`);
  const max = LIMIT_RANGES.maxKeyBytes.through;
  const bytes = key.length > max ? key.length : encodeUtf8(key).length;
  if (bytes < 1 || bytes > max) throw invalid(`key ${JSON.stringify(key.slice(0, 40))} of ${bytes} bytes must have 1 to ${max}`);
  if (!key.isWellFormed()) throw invalid(`key ${JSON.stringify(key.slice(0, 40))} has a lone surrogate, which UTF-8 cannot say`);
  wholeArgument("count", count, { from: 1, through: U32_MAX });
}

function shownBlock({ key, count }: { readonly key: string; readonly count: number }): string {
  return `${count} of ${JSON.stringify(key.slice(0, 40))} (${encodeUtf8(key).length} bytes)`;
}

function u64Argument(name: string, value: bigint): bigint {
  if (typeof value !== "bigint" || value < 0n || value > U64_MAX) throw invalid(`${name} ${value} must be a bigint from 0 to 2^64-1`);
  return value;
}

function readBlock(asked: { readonly key: string; readonly count: number }, answer: SeqGrantEntry | undefined, epoch: Epoch): Reading<SequenceBlock> {
  if (answer === undefined || answer.key !== asked.key || answer.count !== asked.count) {
    return {
      type: "malformed",
      detail: `answered ${answer?.count} of ${JSON.stringify(answer?.key)} where ${asked.count} of ${JSON.stringify(asked.key)} were asked for`,
    };
  }
  return { type: "value", value: { ...asked, start: answer.start, epoch }, epoch };
}

function readLease(
  id: bigint,
  { tsUpperBound, expiresAtMs, epoch }: { tsUpperBound: bigint; expiresAtMs: bigint; epoch?: EpochWire | undefined },
): Reading<LeaseGrant> {
  if (epoch === undefined) return { type: "malformed", detail: "answered without an epoch" };
  if (tsUpperBound > PHYSICAL_MS_MAX || expiresAtMs > BigInt(Number.MAX_SAFE_INTEGER)) {
    return { type: "malformed", detail: `answered a lease that none is: bound ${tsUpperBound}, expiry ${expiresAtMs}` };
  }
  const value = { id, upperBoundMs: Number(tsUpperBound), expiresAtMs: Number(expiresAtMs), epoch: epochOf(epoch) };
  return { type: "value", value, epoch: value.epoch };
}

function readBound(physicalMs: bigint, epoch: Epoch): Reading<Bound> {
  if (physicalMs === 0n && epoch === 0n) return { type: "not-leader" };
  if (physicalMs > PHYSICAL_MS_MAX) return { type: "malformed", detail: `answered ${physicalMs} ms, which no timestamp has` };
  return { type: "value", value: { physicalMs: Number(physicalMs), epoch }, epoch };
}

function epochOf({ hi, lo }: EpochWire): Epoch {
  return epochFromParts(hi, lo);
}

function invalid(detail: string): OracleError {
  return new OracleError("TSO_INVALID_ARGUMENT", detail);
}
