/** Bytes of the image. Every frame of the log on disk carries it whole, so that one good frame is enough to know where a node stood (protocol, 5.2). */
import { type Codec, createCodec, record, type Shape, whole } from "../../base/shape.ts";
import type { Ballot } from "./ballot.ts";
import { configurationShape, nodeIdShape, slotShape } from "./configuration.ts";
import type { Image } from "./image.ts";

/** Node 0 leads nothing, but is in the ballot below all others. */
export const ballotShape: Shape<Ballot> = record<Ballot>({ round: whole(), prio: whole(0xffff), node: nodeIdShape });

/** A checksum over a log as far as one of its entries. */
export const chainShape: Shape<number> = whole(0xffff_ffff);

/** Counts what `Image.cut` counts. */
export const cutShape: Shape<number> = whole(0xffff_ffff);

/** Each field by itself. How they relate to each other, and to the entries, is for recovery to check (protocol, 5.4). */
export const imageShape: Shape<Image> = record<Image>({
  promised: ballotShape,
  accepted: ballotShape,
  last: slotShape,
  lastOrigin: ballotShape,
  lastChain: chainShape,
  decidedThrough: slotShape,
  configuration: configurationShape,
  cut: cutShape,
  compactedThrough: slotShape,
  compactedOrigin: ballotShape,
  compactedChain: chainShape,
});

/** An image by itself, with its version. What is decoded shares no memory with the bytes it came from. */
export const imageCodec: Codec<Image> = createCodec("an image", 1, imageShape);
