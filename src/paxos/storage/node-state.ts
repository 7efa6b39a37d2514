import type { NodeId } from "../../base/ids.ts";
import { optional, record, type Shape, whole } from "../../base/shape.ts";
import { nodeIdShape } from "../core/configuration.ts";
import { type Founding, foundingShape } from "../core/founding.ts";
import type { Image } from "../core/image.ts";
import { imageShape } from "../core/image-codec.ts";

/** All durable state of a node but its entries: small, and written as a whole with every batch. */
export interface NodeState {
  readonly node: NodeId;
  readonly boot: number;
  readonly founding: Founding;
  /** Present once the disk belongs to a cluster. */
  readonly image?: Image | undefined;
}

export const nodeStateShape: Shape<NodeState> = record<NodeState>({
  node: nodeIdShape,
  boot: whole(),
  founding: foundingShape,
  image: optional(imageShape),
});
