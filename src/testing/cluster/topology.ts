/** Who can hear whom, by name. */
import type { Prng } from "../../base/prng.ts";

export const TOPOLOGIES = ["full", "star", "chain", "ring", "bridge", "split", "isolate", "deaf", "one-way"] as const;
export type Topology = (typeof TOPOLOGIES)[number];

/** Whether node `from` reaches node `to`. Both are places in the order of the nodes. */
export type Reach = (from: number, to: number) => boolean;

/** @param order the nodes, the first of which has the special part where there is one: hub, bridge, the one that is alone. */
export function reachOf(topology: Topology, order: readonly number[], prng: Prng): Reach {
  const size = order.length;
  const place = order.map((_, node) => order.indexOf(node));
  const at = (node: number): number => place[node] ?? 0;
  switch (topology) {
    case "full":
      return () => true;
    case "star":
      return (from, to) => at(from) === 0 || at(to) === 0;
    case "chain":
      return (from, to) => Math.abs(at(from) - at(to)) === 1;
    case "ring":
      return (from, to) => [1, size - 1].includes(Math.abs(at(from) - at(to)));
    case "bridge": {
      const half = Math.ceil(size / 2);
      return (from, to) => at(from) === 0 || at(to) === 0 || at(from) > half === at(to) > half;
    }
    case "split": {
      const first = 1 + prng.below(size - 1);
      return (from, to) => at(from) < first === at(to) < first;
    }
    case "isolate":
      return (from, to) => at(from) !== 0 && at(to) !== 0;
    case "deaf":
      return (_, to) => at(to) !== 0;
    case "one-way": {
      const open = Array.from({ length: size * size }, () => prng.chance(0.7));
      return (from, to) => open[from * size + to] ?? true;
    }
  }
}
