/** What a snapshot is of, and what it is. Its bytes are the host's, and no business of the protocol. */
import type { Slot } from "../../base/ids.ts";
import { record, refined, type Shape, text, whole } from "../../base/shape.ts";
import type { Ballot } from "./ballot.ts";
import { randomId } from "./charter.ts";
import { type Configuration, configurationShape, slotShape } from "./configuration.ts";
import { ballotShape, chainShape } from "./image-codec.ts";

/** A place in the log, and what a log that begins after it must know. */
export interface LogPoint {
  readonly slot: Slot;
  /** Of the entry at `slot`. */
  readonly origin: Ballot;
  readonly chain: number;
}

/** A state image through a slot. */
export interface SnapshotMeta extends LogPoint {
  /** 128 random bits in hex. Two snapshots of one slot are two. */
  readonly id: string;
  /** As of `slot`. */
  readonly configuration: Configuration;
  readonly bytes: number;
  /** Of all bytes, in hex. */
  readonly sha256: string;
}

const sha256: Shape<string> = refined(text, (value) => (/^[0-9a-f]{64}$/.test(value) ? undefined : "expected 64 hex digits"));

export const snapshotMetaShape: Shape<SnapshotMeta> = record<SnapshotMeta>({
  id: randomId,
  slot: slotShape,
  origin: ballotShape,
  chain: chainShape,
  configuration: configurationShape,
  bytes: whole(),
  sha256,
});
