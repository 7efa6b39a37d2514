import { invariant } from "./invariant.ts";

declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** A member of a cluster: small, stable, never reused. */
export type NodeId = Brand<number, "NodeId">;

/** A position in the log. The first slot is 1; 0 means "before the log". */
export type Slot = Brand<number, "Slot">;

/** The only way to turn a number into a slot. */
export function slot(value: number): Slot {
  invariant(Number.isSafeInteger(value) && value >= 0, "a slot is a whole number from 0 up", { value });
  return value as Slot;
}

export function minSlot(a: Slot, b: Slot): Slot {
  return a < b ? a : b;
}

export function maxSlot(a: Slot, b: Slot): Slot {
  return a > b ? a : b;
}
