/**
 * One search for the leader: which node to ask next, and when to stop. Pure. It goes in passes: the believed leader, then every configured endpoint once,
 * from a random one on; a hint is followed at once. Between passes the caller waits.
 */
import { epochFromParts } from "../base/epoch.ts";
import { OracleError } from "../base/errors.ts";
import { LeaderHint } from "../gen/tsoracle/v1/tso.ts";
import { type Endpoint, parseEndpoint } from "./endpoint.ts";
import type { Leader, LeaderCache } from "./leader-cache.ts";
import type { ClientMetrics } from "./metrics.ts";

/** Hints that one pass follows, and one search: two nodes that name each other are not asked for ever. */
export const REDIRECTS_PER_PASS = 16;
export const REDIRECTS_PER_SEARCH = 64;

export interface SearchContext {
  readonly endpoints: readonly Endpoint[];
  /** Whether connections are encrypted: a hint never changes that. */
  readonly secure: boolean;
  readonly leaders: LeaderCache;
  readonly metrics: ClientMetrics;
  readonly backoff: { readonly baseMs: number; readonly maxMs: number };
  /** In [0, 1). */
  readonly random: () => number;
}

export class Search {
  readonly #context: SearchContext;
  #worklist: Endpoint[];
  readonly #visited = new Set<Endpoint>();
  #next: number;
  #passes = 0;
  #redirects = 0;
  #redirectsTotal = 0;
  /** A node answered that it does not lead: there is, or will be, another one. It stays true: an election is ridden out. */
  #election = false;
  /** What is known, the best first: a node's failure, then its "not the leader", then that nobody answered. */
  #failure: string | undefined;
  #loss: string | undefined;

  constructor(context: SearchContext, now: number) {
    this.#context = context;
    this.#next = Math.floor(context.random() * context.endpoints.length);
    this.#worklist = this.#newPass(now);
  }

  /** Whether it has anything to say about why there is no answer. */
  get hasLearned(): boolean {
    return this.#election || this.#failure !== undefined || this.#loss !== undefined;
  }

  /** Who is to be asked, or `undefined` where the pass is over. */
  next(): Endpoint | undefined {
    const endpoint = this.#worklist.shift();
    if (endpoint !== undefined) this.#visited.add(endpoint);
    return endpoint;
  }

  /** `endpoint` does not lead. Its hint is followed where it is of use. */
  notLeader(endpoint: Endpoint, trailer: Uint8Array | undefined, now: number): void {
    const { leaders, metrics } = this.#context;
    this.#election = true;
    metrics.add("tsoracle_client_not_leader_total", 1);
    leaders.refuted(endpoint);
    const hint = this.#readHint(trailer);
    if (hint === undefined || this.#visited.has(hint.endpoint)) return;
    if (this.#redirectsTotal >= REDIRECTS_PER_SEARCH) return metrics.add("tsoracle_client_leader_redirect_total_cap_total", 1);
    if (this.#redirects >= REDIRECTS_PER_PASS) return metrics.add("tsoracle_client_leader_redirect_cap_total", 1);
    if (!leaders.hinted(hint, now)) return metrics.add("tsoracle_client_leader_hint_stale_total", 1);
    this.#redirects += 1;
    this.#redirectsTotal += 1;
    this.#worklist = [hint.endpoint, ...this.#worklist.filter((each) => each !== hint.endpoint)];
  }

  /** `endpoint` answered as the leader of an earlier epoch than is known: it was deposed and does not know it, or all of it was set up anew. */
  stale(endpoint: Endpoint, epochs: { readonly answered: bigint; readonly known: bigint | undefined }): void {
    const { leaders, metrics } = this.#context;
    this.#election = true;
    this.#loss = `${endpoint}: answered in epoch ${epochs.answered}, and an answer of epoch ${epochs.known} was seen before`;
    metrics.add("tsoracle_client_stale_answers_total", 1);
    leaders.refuted(endpoint);
  }

  /** `endpoint` gave no answer. */
  lost(endpoint: Endpoint, detail: string): void {
    this.#context.leaders.refuted(endpoint);
    this.#loss = `${endpoint}: ${detail}`;
  }

  /** `endpoint` answered that it failed. */
  failed(endpoint: Endpoint, detail: string): void {
    this.#failure = `${endpoint}: ${detail}`;
  }

  /** The pass is over. Begins the next one, and returns how long to wait before it; or the error, where no pass will bring an answer. */
  passed(now: number): number | OracleError {
    if (this.#failure !== undefined && !this.#election) return new OracleError("TSO_SERVER_ERROR", this.#failure);
    const { baseMs, maxMs } = this.#context.backoff;
    const longest = Math.min(maxMs, baseMs * 2 ** Math.min(this.#passes, 30));
    this.#passes += 1;
    this.#worklist = this.#newPass(now);
    return Math.max(1, this.#context.random() * longest); // full jitter: many clients that lost one leader do not come back as one
  }

  /** The time is up: the best that is known about why. */
  timeUp(allowedMs: number): OracleError {
    const within = `within ${Math.round(allowedMs)} ms`;
    if (this.#failure !== undefined) return new OracleError("TSO_SERVER_ERROR", `no answer ${within}; ${this.#failure}`);
    if (this.#election) return new OracleError("TSO_NO_LEADER", `no leader ${within}${this.#loss === undefined ? "" : `; ${this.#loss}`}`);
    return new OracleError("TSO_DEADLINE", `no answer ${within}${this.#loss === undefined ? "" : `; ${this.#loss}`}`);
  }

  #newPass(now: number): Endpoint[] {
    const { endpoints, leaders } = this.#context;
    this.#visited.clear();
    this.#redirects = 0;
    const leader = leaders.leader(now)?.endpoint;
    const rotated = [...endpoints.slice(this.#next), ...endpoints.slice(0, this.#next)];
    this.#next = (this.#next + 1) % endpoints.length;
    return leader === undefined ? rotated : [leader, ...rotated.filter((each) => each !== leader)];
  }

  /** An empty hint is an election. One that cannot be read or used is none: it never lowers the security, nor names what is no endpoint. */
  #readHint(trailer: Uint8Array | undefined): Leader | undefined {
    if (trailer === undefined) return undefined;
    let hint: LeaderHint | undefined;
    try {
      hint = LeaderHint.decode(trailer);
    } catch {
      // not protobuf: some other server's, or damaged
    }
    if (hint !== undefined && (hint.leaderEndpoint === undefined || hint.leaderEndpoint === "")) return undefined;
    const parsed = parseEndpoint(hint?.leaderEndpoint ?? "");
    const fits = parsed !== undefined && (parsed.scheme === undefined || (parsed.scheme === "https") === this.#context.secure);
    if (hint === undefined || !fits) {
      this.#context.metrics.add("tsoracle_client_leader_hint_decode_failures_total", 1);
      return undefined;
    }
    const { leaderEpoch } = hint;
    return { endpoint: parsed.endpoint, epoch: leaderEpoch === undefined ? undefined : epochFromParts(leaderEpoch.hi, leaderEpoch.lo) };
  }
}
