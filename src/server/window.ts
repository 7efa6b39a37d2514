/** What a reign grants timestamps from, and how it is extended: ahead of need, one extension at a time, whoever needs it waits for the same one. */
import { status } from "@grpc/grpc-js";
import type { Epoch } from "../base/epoch.ts";
import { unreachable } from "../base/invariant.ts";
import type { ConsensusDriver } from "../oracle/driver.ts";
import { Allocator, type Grant, type GrantOutcome } from "../oracle/rules/allocator.ts";
import { type Answer, failed, notApplied, notLeader, ok, refusedBy } from "./answer.ts";
import type { Counters } from "./counters.ts";
import type { ServingOptions } from "./options.ts";

export interface WindowOptions {
  readonly epoch: Epoch;
  /** The first millisecond that may be granted. */
  readonly floor: number;
  /** The last one; durable. */
  readonly highWater: number;
  readonly driver: ConsensusDriver;
  readonly serving: ServingOptions;
  readonly counters: Counters;
  /** Whether a clock reading may be put on record: one that has run away ends the server. */
  readonly acceptsClock: (now: number) => boolean;
  /** Somebody else has raised the fence. */
  readonly onFenced: (by: Epoch | undefined) => void;
  /** An extension failed that nobody waits for: the `times`-th in a row. */
  readonly onTrouble: (detail: string, times: number) => void;
}

export class Window {
  readonly #options: WindowOptions;
  readonly #allocator = new Allocator();
  #extension: Promise<Answer<void>> | undefined;
  /** Extensions in a row that failed while nobody waited for them. */
  #troubles = 0;

  constructor(options: WindowOptions) {
    this.#options = options;
    const { epoch, floor, highWater } = options;
    this.#allocator.lead({ epoch, floor, highWater });
  }

  get highWater(): number {
    return this.#allocator.highWater;
  }

  /** Nothing is granted any more, whatever is still in flight. */
  close(): void {
    this.#allocator.clear();
  }

  /** `now` is the one clock reading of the call: what is decided on it cannot change under way. */
  take(count: number, now: number): Answer<Grant> | "exhausted" {
    const outcome = this.#allocator.grant(count, now);
    if (outcome.type === "window-exhausted") return "exhausted";
    this.extendAhead(now);
    return answerOf(outcome);
  }

  /** For a take that found the window exhausted: extends it, and takes once more. */
  async extendAndTake(count: number, now: number): Promise<Answer<Grant>> {
    this.#options.counters.waitedForExtension += 1;
    if (this.#extension !== undefined) {
      await this.#extension; // it began for an earlier clock reading, and may not reach this one
      const taken = this.take(count, now);
      if (taken !== "exhausted") return taken;
    }
    for (;;) {
      const before = this.#allocator.highWater;
      const extended = await this.#extend(now);
      if (!extended.ok) return extended;
      const taken = this.take(count, now);
      if (taken !== "exhausted") return taken;
      // Others who waited for the same extension were first: once more, as long as each one brings something.
      if (this.#allocator.highWater <= before) return failed(status.INTERNAL, "window exhausted");
    }
  }

  /** Extends the window unless more than half of it is left, and waits for nothing. */
  extendAhead(now: number): void {
    if (this.#extension !== undefined || this.#allocator.remainingMs(now) >= this.#options.serving.windowAheadMs / 2) return;
    void this.#extend(now).then((extended) => {
      this.#troubles = extended.ok ? 0 : this.#troubles + 1;
      if (!extended.ok && extended.failure.metadata === undefined) this.#options.onTrouble(extended.failure.details, this.#troubles);
    });
  }

  /** The high water was raised by something else of this reign: a lease. */
  raise(highWater: number): void {
    this.#allocator.extend(this.#options.epoch, highWater);
  }

  safePoint(now: number): number {
    return this.#allocator.safePoint(now, this.#options.serving.windowAheadMs);
  }

  #extend(now: number): Promise<Answer<void>> {
    this.#extension ??= this.#extendOnce(now).finally(() => {
      this.#extension = undefined;
    });
    return this.#extension;
  }

  /** Raises the durable high water, then the window. */
  async #extendOnce(now: number): Promise<Answer<void>> {
    const { epoch, driver, serving, counters, acceptsClock, onFenced } = this.#options;
    if (!acceptsClock(now) || this.#allocator.epoch === undefined) return notLeader();
    const atLeast = this.#allocator.extensionTarget(now, serving.windowAheadMs);
    const submitted = await driver.submit({ type: "advance", epoch, now, atLeast });
    if (submitted.type === "applied") {
      const { outcome } = submitted;
      if (outcome.type === "refused") return refusedBy(outcome.refusal);
      if (outcome.type !== "advanced") return failed(status.INTERNAL, `persist: the driver answered an advance with ${outcome.type}`);
      counters.extensions += 1;
      if (!this.#allocator.extend(epoch, outcome.highWater)) counters.extensionsIgnored += 1;
      return ok(undefined);
    }
    const answer = notApplied(submitted, "persist: ");
    if (!answer.ok && answer.failure.metadata !== undefined) onFenced(submitted.type === "fenced" ? submitted.by : undefined);
    return answer;
  }
}

function answerOf(outcome: Exclude<GrantOutcome, { type: "window-exhausted" }>): Answer<Grant> {
  switch (outcome.type) {
    case "granted":
      return ok(outcome.grant);
    case "not-leading":
      return notLeader();
    case "invalid-count":
      return failed(status.INVALID_ARGUMENT, `invalid count: ${outcome.count}`);
    case "out-of-range":
      return failed(status.OUT_OF_RANGE, `physical_ms ${outcome.physicalMs} exceeds 46-bit timestamp field`);
    default:
      return unreachable(outcome);
  }
}
