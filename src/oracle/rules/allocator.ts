import type { Epoch } from "../../base/epoch.ts";
import { invariant } from "../../base/invariant.ts";
import { GRANT_COUNT_MAX, PHYSICAL_MS_MAX } from "./timestamp.ts";

/** `[logicalStart, logicalStart + count)` of one millisecond. */
export interface Grant {
  readonly physicalMs: number;
  readonly logicalStart: number;
  readonly count: number;
}

export type GrantOutcome =
  | { readonly type: "granted"; readonly grant: Grant }
  | { readonly type: "not-leading" }
  | { readonly type: "invalid-count"; readonly count: number }
  /** The durable high water must rise first. */
  | { readonly type: "window-exhausted" }
  /** The range of timestamps itself is used up. */
  | { readonly type: "out-of-range"; readonly physicalMs: number };

/** What a leader grants from: everything from `next` up to and including the millisecond `highWater`, which is durable. */
interface Window {
  readonly epoch: Epoch;
  highWater: number;
  nextPhysicalMs: number;
  nextLogical: number;
}

/**
 * Hands out timestamps from a durable window. Grants strictly increase, never straddle a millisecond and never exceed the durable high water.
 * Pure: the clock reading comes with each call, one reading a call; a clock that stands still or goes back costs nothing, the window goes on by
 * logical numbers.
 */
export class Allocator {
  #window: Window | undefined;

  /** The reign that grants come from, `undefined` while not leading. */
  get epoch(): Epoch | undefined {
    return this.#window?.epoch;
  }

  /** The durable bound of the window, inclusive, in physical ms; 0 while not leading. */
  get highWater(): number {
    return this.#window?.highWater ?? 0;
  }

  /** Begins a reign with the window that its take-over was given. Always preceded by `clear()`: a window is never carried across reigns. */
  lead(reign: { readonly epoch: Epoch; readonly floor: number; readonly highWater: number }): void {
    invariant(this.#window === undefined, "the window of the last reign is cleared before the next begins", { epoch: reign.epoch });
    invariant(reign.floor >= 0 && reign.floor <= reign.highWater, "a window's floor is at most its high water", { ...reign });
    invariant(reign.highWater <= PHYSICAL_MS_MAX, "a high water fits 46 bits", { ...reign });
    this.#window = { epoch: reign.epoch, highWater: reign.highWater, nextPhysicalMs: reign.floor, nextLogical: 0 };
  }

  /** Ends the reign: nothing is granted until the next `lead()`. */
  clear(): void {
    this.#window = undefined;
  }

  /** Takes the next `count` timestamps. Anything but "granted" leaves the state as it was. */
  grant(count: number, now: number): GrantOutcome {
    const window = this.#window;
    if (window === undefined) return { type: "not-leading" };
    const countFits = Number.isInteger(count) && count >= 1 && count <= GRANT_COUNT_MAX;
    if (!countFits) return { type: "invalid-count", count };

    let physicalMs = window.nextPhysicalMs;
    let logicalStart = window.nextLogical;
    if (now > physicalMs) {
      physicalMs = now;
      logicalStart = 0;
    }
    if (logicalStart + count > GRANT_COUNT_MAX) {
      physicalMs += 1; // the rest of the millisecond is dropped: a grant never straddles two
      logicalStart = 0;
    }
    if (physicalMs > PHYSICAL_MS_MAX) return { type: "out-of-range", physicalMs };
    if (physicalMs > window.highWater) return { type: "window-exhausted" };

    const end = logicalStart + count;
    window.nextPhysicalMs = end === GRANT_COUNT_MAX ? physicalMs + 1 : physicalMs;
    window.nextLogical = end === GRANT_COUNT_MAX ? 0 : end;
    return { type: "granted", grant: { physicalMs, logicalStart, count } };
  }

  /**
   * Raises the window to a high water that is durable and was decided in this reign. False where it is of another reign (the answer came too
   * late) or not above what is known already: both are harmless.
   */
  extend(epoch: Epoch, highWater: number): boolean {
    const window = this.#window;
    if (window === undefined || window.epoch !== epoch || highWater <= window.highWater) return false;
    invariant(highWater <= PHYSICAL_MS_MAX, "a high water fits 46 bits", { highWater });
    window.highWater = highWater;
    return true;
  }

  /** How far the window still reaches beyond `now` and beyond what was granted, in ms; below 0 where it is used up. */
  remainingMs(now: number): number {
    return this.#window === undefined ? 0 : this.#window.highWater - Math.max(now, this.#window.nextPhysicalMs);
  }

  /** The high water to ask for: `ahead` ms beyond the clock and the last grant, and always higher than now. At most the 46-bit maximum. */
  extensionTarget(now: number, aheadMs: number): number {
    const window = this.#window;
    invariant(window !== undefined, "only a leader extends its window");
    const target = Math.max(window.highWater + 1, Math.max(now, window.nextPhysicalMs) + aheadMs);
    // Near the end of the range the window shrinks to what is left; beyond it, the machine refuses what is asked.
    return target > PHYSICAL_MS_MAX && window.highWater < PHYSICAL_MS_MAX ? PHYSICAL_MS_MAX : target;
  }

  /**
   * A physical ms that every timestamp granted from now on is above; 0 while not leading. The clock moves the next grant up first, within the
   * window, so that the safe point of an idle leader follows the clock.
   */
  safePoint(now: number, aheadMs: number): number {
    const window = this.#window;
    if (window === undefined) return 0;
    const reachable = Math.min(now, window.highWater);
    if (reachable > window.nextPhysicalMs) {
      window.nextPhysicalMs = reachable;
      window.nextLogical = 0;
    }
    return Math.max(0, Math.min(window.highWater - aheadMs - 1, window.nextPhysicalMs - 1));
  }
}
