/** Who is believed to lead. Pure; one for each client, shared by all its calls, so that a change is seen at once by all of them. */
import type { Epoch } from "../base/epoch.ts";
import type { Endpoint } from "./endpoint.ts";

/** So many requests in a row that were given up before there was an answer say that there will be none. */
const DOUBTS_MAX = 3;

/** Those that were given up within this are one. */
const DOUBT_MS = 10;

/** The node that is believed to lead, and its epoch where that is known. */
export interface Leader {
  readonly endpoint: Endpoint;
  readonly epoch: Epoch | undefined;
}

interface Seat extends Leader {
  readonly since: number;
}

export class LeaderCache {
  readonly #configured: ReadonlySet<Endpoint>;
  readonly #ttlMs: number;
  readonly #onChange: (leader: Leader | undefined) => void;
  #seat: Seat | undefined;
  #epoch: Epoch | undefined;
  /** Requests to the node in the seat that were given up, one after the other, without an answer. */
  #doubts = 0;
  #doubtedAt = Number.NEGATIVE_INFINITY;

  /** What is in the cache for `ttlMs` without a new proof is believed no more. */
  constructor(options: {
    readonly configured: readonly Endpoint[];
    readonly ttlMs: number;
    readonly onChange: (leader: Leader | undefined) => void;
  }) {
    this.#configured = new Set(options.configured);
    this.#ttlMs = options.ttlMs;
    this.#onChange = options.onChange;
  }

  /** The highest epoch that any answer had. It never goes back, and hints do not raise it: an answer is proof, a hint is hearsay. */
  get epoch(): Epoch | undefined {
    return this.#epoch;
  }

  leader(now: number): Leader | undefined {
    const seat = this.#fresh(now);
    return seat === undefined ? undefined : { endpoint: seat.endpoint, epoch: seat.epoch };
  }

  /** `endpoint` answered as the leader of `epoch`. Returns whether that is no earlier leadership than the last one seen. */
  answered(endpoint: Endpoint, epoch: Epoch, now: number): boolean {
    if (this.#epoch !== undefined && epoch < this.#epoch) return false;
    this.#epoch = epoch;
    this.#doubts = 0;
    this.#take({ endpoint, epoch, since: now });
    return true;
  }

  /**
   * A node that does not lead said who does. Returns whether to go there: not for a hint of an earlier epoch than is known, nor for one without an epoch
   * against a fresh entry with one, unless it names a configured endpoint.
   */
  hinted(hint: Leader, now: number): boolean {
    const seat = this.#fresh(now);
    if (hint.epoch === undefined) {
      if (seat?.epoch !== undefined && seat.endpoint !== hint.endpoint && !this.#configured.has(hint.endpoint)) return false;
    } else if (hint.epoch < (this.#epoch ?? hint.epoch) || hint.epoch < (seat?.epoch ?? hint.epoch)) return false;
    this.#take({ ...hint, since: now });
    return true;
  }

  /** `endpoint` said that it does not lead, or could not be reached: it is forgotten, unless another has taken its place. */
  refuted(endpoint: Endpoint): void {
    if (this.#seat?.endpoint === endpoint) this.#change(undefined);
  }

  /**
   * A caller gave up on `endpoint` before it answered: that says nothing yet, callers may be impatient. Returns whether it was once too often, and then it
   * is forgotten: else callers with little time would wait for a node that is no more, each in vain.
   */
  doubted(endpoint: Endpoint, now: number): boolean {
    if (this.#seat?.endpoint !== endpoint || now - this.#doubtedAt < DOUBT_MS) return false;
    this.#doubtedAt = now;
    this.#doubts += 1;
    if (this.#doubts < DOUBTS_MAX) return false;
    this.#change(undefined);
    return true;
  }

  #fresh(now: number): Seat | undefined {
    if (this.#seat !== undefined && now - this.#seat.since >= this.#ttlMs) this.#change(undefined);
    return this.#seat;
  }

  #take(seat: Seat): void {
    const before = this.#seat;
    if (before !== undefined && before.endpoint === seat.endpoint && before.epoch === seat.epoch) this.#seat = seat;
    else this.#change(seat);
  }

  #change(seat: Seat | undefined): void {
    this.#seat = seat;
    this.#doubts = 0;
    this.#onChange(seat === undefined ? undefined : { endpoint: seat.endpoint, epoch: seat.epoch });
  }
}
