/** How far a disk has come towards a cluster (rule I7). It only ever goes forward: a pledge is never exchanged, and what is formed stays so. */
import { record, type Shape, union } from "../../base/shape.ts";
import { type Charter, charterShape } from "./charter.ts";

export type Founding =
  | { readonly type: "unformed" }
  | { readonly type: "pledged"; readonly charter: Charter }
  /** The disk has the log of that cluster. */
  | { readonly type: "formed"; readonly charter: Charter };

export const foundingShape: Shape<Founding> = union<Founding, "type">("type", {
  unformed: [1, record({})],
  pledged: [2, record({ charter: charterShape })],
  formed: [3, record({ charter: charterShape })],
});
