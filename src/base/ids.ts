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

/** The only way to turn a number into a node id: 1 to 2^32-1. */
export function nodeId(value: number): NodeId {
  invariant(Number.isInteger(value) && value >= 1 && value <= 0xffff_ffff, "a node id is a whole number from 1 to 2^32-1", { value });
  return value as NodeId;
}
