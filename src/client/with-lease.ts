/** A lease for the time of a function: acquired, kept alive, given back; and a signal before it can be lost. */
import { messageOf, OracleError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { wholeArgument } from "../base/options.ts";
import type { Timestamp } from "../oracle/rules/timestamp.ts";
import type { Aborts } from "./aborts.ts";
import type { CallOptions } from "./limits.ts";
import { HOUR_MS } from "./options.ts";
import type { ClientTimers } from "./timers.ts";

export interface WithLeaseOptions extends CallOptions {
  /** How long the lease holds without a renewal, ms, 1000 to 86400000; servers allow 5000 to 300000 unless they were told otherwise. @defaultValue 10000 */
  readonly ttlMs?: number | undefined;
  /**
   * How long before the lease can be lost the signal is aborted, ms, 1 to `ttlMs / 2`. It must cover what the clocks of the servers can differ by, and the
   * time that your code needs to stop. @defaultValue a fifth of `ttlMs`
   */
  readonly safetyMarginMs?: number | undefined;
}

/** A lease that is held while `signal` is not aborted. */
export interface HeldLease {
  readonly id: bigint;
  /** While the lease is held, no safe frontier passes this, ms since 1970. It rises with each renewal. */
  readonly upperBoundMs: number;
  /** Aborted before the lease can be lost, with an OracleError TSO_LEASE_LOST; or with the caller's own reason. */
  readonly signal: AbortSignal;
  /**
   * Throws unless the lease is held, by the clock, at this very moment: for the last step before a write that counts on it. A signal cannot fire while the
   * process stands still; this cannot be late. @throws OracleError TSO_LEASE_LOST
   */
  assertHeld(): void;
}

interface Granted {
  readonly id: bigint;
  readonly upperBoundMs: number;
}

/** What is needed of a client. */
interface LeaseClient {
  getTs(options?: CallOptions): Promise<Timestamp>;
  acquireLease(holder: string | Uint8Array, options: CallOptions & { readonly ttlMs: number; readonly holderEpoch: bigint }): Promise<Granted>;
  renewLease(id: bigint, options?: CallOptions): Promise<Granted>;
  releaseLease(id: bigint, options?: CallOptions): Promise<void>;
}

export interface LeaseContext {
  readonly client: LeaseClient;
  readonly timers: ClientTimers;
  readonly logger: Logger;
  readonly aborts: Aborts;
}

const DAY_MS = 86_400_000;

/** A lease is renewed when this part of its time is over. */
const RENEW_AFTER = 1 / 3;

/** How often the clocks are looked at: a machine that slept finds out within this. */
const LOOK_MS = 1_000;

/** Between two tries of a renewal that failed. */
const RETRY_MS = 200;

/** Releasing is a courtesy: the lease ends by itself. */
const RELEASE_MS = 2_000;

export async function holdLease<T>(
  context: LeaseContext,
  holder: string | Uint8Array,
  { ttlMs = 10_000, safetyMarginMs, ...limits }: WithLeaseOptions,
  fn: (lease: HeldLease) => Promise<T> | T,
): Promise<T> {
  wholeArgument("ttlMs", ttlMs, { from: 1_000, through: DAY_MS });
  const marginMs = wholeArgument("safetyMarginMs", safetyMarginMs ?? Math.floor(ttlMs / 5), { from: 1, through: Math.floor(ttlMs / 2) });
  const { client, timers, logger } = context;
  // A timestamp is larger than that of every earlier run: so the lease is a new one, with this ttl, and nobody else's calls can end it.
  const holderEpoch = await client.getTs(limits);
  const began = momentOf(timers);
  const granted = await client.acquireLease(holder, { ...limits, ttlMs, holderEpoch });
  const keeper = new Keeper(context, granted, { heldMs: ttlMs - marginMs, renewAfterMs: ttlMs * RENEW_AFTER, began, signal: limits.signal });
  try {
    keeper.throwIfLost(); // acquiring may have taken its time
    limits.signal?.throwIfAborted();
    const result = await fn(keeper.lease);
    keeper.throwIfLost();
    return result;
  } catch (error) {
    keeper.throwIfLost(error);
    throw error;
  } finally {
    await keeper.end();
    await client.releaseLease(granted.id, { deadlineMs: RELEASE_MS }).catch((error: unknown) => {
      logger.debug({ lease: `${granted.id}`, error: messageOf(error) }, "a lease was not released, and ends by itself");
    });
  }
}

/** On both clocks: one stands still while a machine sleeps, the other can be set back. */
interface Moment {
  readonly steadyMs: number;
  readonly wallMs: number;
}

function momentOf(timers: ClientTimers): Moment {
  return { steadyMs: timers.now(), wallMs: timers.wall() };
}

class Keeper {
  readonly lease: HeldLease;
  readonly #context: LeaseContext;
  readonly #id: bigint;
  readonly #heldMs: number;
  readonly #renewAfterMs: number;
  readonly #controller = new AbortController();
  /** Ends the renewals. */
  readonly #ended = new AbortController();
  readonly #renewals: Promise<void>;
  readonly #forgetCaller: () => void;
  #upperBoundMs: number;
  /** When the request was sent that last gave the lease its time: the servers count from a later moment on. */
  #renewed: Moment;
  #lost: OracleError | undefined;
  #stopLooking: (() => void) | undefined;

  constructor(
    context: LeaseContext,
    { id, upperBoundMs }: Granted,
    times: { readonly heldMs: number; readonly renewAfterMs: number; readonly began: Moment; readonly signal: AbortSignal | undefined },
  ) {
    this.#context = context;
    this.#id = id;
    this.#upperBoundMs = upperBoundMs;
    this.#heldMs = times.heldMs;
    this.#renewAfterMs = times.renewAfterMs;
    this.#renewed = times.began;
    const keeper = this;
    this.lease = {
      id,
      get upperBoundMs() {
        return keeper.#upperBoundMs;
      },
      signal: this.#controller.signal,
      assertHeld: () => this.#assertHeld(),
    };
    const { signal } = times;
    this.#forgetCaller = signal === undefined ? () => undefined : context.aborts.on(signal, () => this.#controller.abort(signal.reason));
    this.#look();
    this.#renewals = this.#renewAll();
  }

  throwIfLost(cause?: unknown): void {
    this.#checkClocks();
    if (this.#lost === undefined) return;
    throw cause === undefined || cause === this.#lost ? this.#lost : new OracleError("TSO_LEASE_LOST", this.#lost.detail, { cause });
  }

  async end(): Promise<void> {
    this.#ended.abort();
    this.#stopLooking?.();
    this.#forgetCaller();
    await this.#renewals;
  }

  #assertHeld(): void {
    this.#checkClocks();
    if (this.#lost !== undefined) throw this.#lost;
  }

  #checkClocks(): void {
    if (this.#leftMs() <= 0) this.#lose(`lease ${this.#id} was not renewed in time`);
  }

  #leftMs(): number {
    const { steadyMs, wallMs } = momentOf(this.#context.timers);
    return this.#heldMs - Math.max(steadyMs - this.#renewed.steadyMs, wallMs - this.#renewed.wallMs);
  }

  /** Looks at the clocks until the time is up. */
  #look(): void {
    this.#checkClocks();
    if (this.#ended.signal.aborted) return;
    // A lease that is held keeps the process alive: else one that waits for its signal alone would end, and leave the lease behind.
    this.#stopLooking = this.#context.timers.after(Math.min(this.#leftMs(), LOOK_MS), true, () => this.#look());
  }

  #lose(detail: string, cause?: unknown): void {
    if (this.#lost !== undefined) return;
    this.#lost = new OracleError("TSO_LEASE_LOST", detail, { cause });
    this.#controller.abort(this.#lost);
    this.#ended.abort();
  }

  async #renewAll(): Promise<void> {
    let waitMs = this.#untilRenewalMs();
    while (await this.#wait(waitMs)) {
      const began = momentOf(this.#context.timers);
      try {
        const { upperBoundMs } = await this.#context.client.renewLease(this.#id, {
          deadlineMs: Math.min(HOUR_MS, Math.max(1, Math.ceil(this.#leftMs()))),
          signal: this.#ended.signal,
        });
        this.#renewed = began;
        this.#upperBoundMs = Math.max(this.#upperBoundMs, upperBoundMs);
        waitMs = this.#untilRenewalMs();
      } catch (error) {
        if (this.#ended.signal.aborted) return;
        if (error instanceof OracleError && isFinal(error)) return this.#lose(`lease ${this.#id}: ${error.detail}`, error);
        waitMs = RETRY_MS; // the time that is left may still bring one
      }
    }
  }

  /** Counted from when the last one was asked for, as the lease's time is. */
  #untilRenewalMs(): number {
    return this.#renewAfterMs - (this.#heldMs - this.#leftMs());
  }

  /** Returns whether to go on: `ms` have passed, and the lease is still wanted and held. */
  #wait(ms: number): Promise<boolean> {
    const { signal } = this.#ended;
    return new Promise((resolve) => {
      if (signal.aborted) return resolve(false);
      const stop = this.#context.timers.after(Math.max(0, ms), false, () => {
        signal.removeEventListener("abort", onEnd);
        resolve(true);
      });
      const onEnd = (): void => {
        stop();
        resolve(false);
      };
      signal.addEventListener("abort", onEnd, { once: true });
    });
  }
}

/** Trying again does not help: the lease is over, or this client is. */
function isFinal({ code }: OracleError): boolean {
  return code === "TSO_LEASE_LOST" || code === "TSO_FENCED" || code === "TSO_CLOSED" || code === "TSO_INVALID_ARGUMENT";
}
