/** The allocator once more, dumb: the next timestamp is one packed number, and everything else follows from it. */
import type { GrantOutcome } from "../../src/oracle/rules/allocator.ts";

const LOGICALS = 262_144n;
const MS_MAX = 70_368_744_177_663;

export class AllocatorModel {
  /** The lowest packed timestamp that may still be granted; `undefined` while not leading. */
  next: bigint | undefined;
  highWater = 0;

  lead(floor: number, highWater: number): void {
    this.next = BigInt(floor) * LOGICALS;
    this.highWater = highWater;
  }

  clear(): void {
    this.next = undefined;
    this.highWater = 0;
  }

  grant(count: number, now: number): GrantOutcome {
    if (this.next === undefined) return { type: "not-leading" };
    if (!Number.isInteger(count) || count < 1 || count > Number(LOGICALS)) return { type: "invalid-count", count };
    let first = BigInt(now) * LOGICALS > this.next ? BigInt(now) * LOGICALS : this.next;
    const last = first + BigInt(count) - 1n;
    if (last / LOGICALS !== first / LOGICALS) first = (last / LOGICALS) * LOGICALS; // it would straddle: it begins with the later millisecond
    const physicalMs = Number(first / LOGICALS);
    if (physicalMs > MS_MAX) return { type: "out-of-range", physicalMs };
    if (physicalMs > this.highWater) return { type: "window-exhausted" };
    this.next = first + BigInt(count);
    return { type: "granted", grant: { physicalMs, logicalStart: Number(first % LOGICALS), count } };
  }

  /** Only a higher one counts. */
  extend(highWater: number): boolean {
    const rises = highWater > this.highWater;
    if (rises) this.highWater = highWater;
    return rises;
  }

  extensionTarget(now: number, aheadMs: number): number {
    const wanted = Math.max(this.highWater + 1, now + aheadMs, this.#nextMs() + aheadMs);
    return this.highWater === MS_MAX ? wanted : Math.min(wanted, MS_MAX);
  }

  remainingMs(now: number): number {
    return this.next === undefined ? 0 : this.highWater - Math.max(now, this.#nextMs());
  }

  safePoint(now: number, aheadMs: number): number {
    if (this.next === undefined) return 0;
    const clock = BigInt(Math.min(now, this.highWater)) * LOGICALS;
    if (clock > this.next) this.next = clock;
    return Math.max(0, Math.min(this.highWater - aheadMs, this.#nextMs()) - 1);
  }

  #nextMs(): number {
    return Number((this.next ?? 0n) / LOGICALS);
  }
}
