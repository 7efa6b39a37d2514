/** What keeps a cluster from being formed, for people: each names both sides, and what to do (rule I7.8). */
import type { NodeId } from "../../base/ids.ts";
import type { Charter } from "./charter.ts";
import { listText } from "./forming-list.ts";
import type { ListedNode } from "./forming-messages.ts";

/** With the first four the node waits, for a person can mend them; with the others it must exit. */
export type FormingFault =
  /** Somebody was started with another list. */
  | "other-list"
  /** Two disks speak for one node. */
  | "two-disks"
  /** A pledge names a disk that is gone: the cluster that it began cannot be formed any more. */
  | "disk-gone"
  /** Two disks are pledged to different charters. */
  | "conflict"
  /** The cluster is formed, and its node of this id has another disk. */
  | "bound-elsewhere"
  /** The cluster is formed, and this node is none of its members. */
  | "not-a-member"
  /** The disk is pledged to one cluster, and the nodes of its list have formed another. */
  | "other-cluster"
  /** The cluster could not have been formed without a pledge of this disk, and the disk does not have it. */
  | "pledge-lost";

export interface FormingProblem {
  readonly fault: FormingFault;
  readonly detail: string;
}

export function otherList(speaker: string, lists: { readonly ours: readonly ListedNode[]; readonly theirs: readonly ListedNode[] }): FormingProblem {
  const detail = `${speaker} has another list of peers, ${listText(lists.theirs)}; here it is ${listText(lists.ours)}: start every node with the same list`;
  return { fault: "other-list", detail };
}

export function pledgedList({ node, charter, given }: { node: NodeId; charter: Charter; given: readonly ListedNode[] }): FormingProblem {
  const pledge = `the disk of node ${node} is pledged to cluster ${charter.clusterId} of ${listText(charter.founders)}`;
  return { fault: "other-list", detail: `${pledge}, and keeps to that list; it was started with ${listText(given)}` };
}

/** The same sentence, whichever of them was heard last. */
export function twoDisks(node: NodeId, disks: readonly [string, string]): FormingProblem {
  const [one, other] = disks.toSorted();
  return {
    fault: "two-disks",
    detail: `disks ${one} and ${other} both speak for node ${node}: if two processes run as node ${node}, stop one of them`,
  };
}

/** `named` is what a charter says of `node`; `found` is the disk that speaks for it. */
export function diskGone({
  charter,
  node,
  named,
  found,
}: {
  charter: Charter;
  node: NodeId;
  named: string | undefined;
  found: string;
}): FormingProblem {
  const pledge = `a pledge to cluster ${charter.clusterId} names disk ${named} for node ${node}, which has disk ${found}`;
  return { fault: "disk-gone", detail: `${pledge}: unless that disk comes back, ${WIPE}, those of ${listText(charter.founders)}` };
}

export function conflict(ours: string, theirs: { readonly node: NodeId; readonly clusterId: string }): FormingProblem {
  const detail = `node ${theirs.node} is pledged to cluster ${theirs.clusterId} and this node to ${ours}: ${WIPE}`;
  return { fault: "conflict", detail };
}

export function boundElsewhere(node: NodeId, clusterId: string): FormingProblem {
  return { fault: "bound-elsewhere", detail: `node ${node} is bound to another disk in cluster ${clusterId}: ${REPLACE(node)}` };
}

export function notMember(node: NodeId, clusterId: string): FormingProblem {
  return { fault: "not-a-member", detail: `the peers have formed cluster ${clusterId}, and node ${node} is not a founder of it: use --join` };
}

export function removed(node: NodeId, clusterId: string): FormingProblem {
  return { fault: "not-a-member", detail: `node ${node} was removed from cluster ${clusterId}: add a new id with --join` };
}

export function otherCluster(node: NodeId, clusters: { readonly pledged: string; readonly formed: string }): FormingProblem {
  const detail = `the disk of node ${node} is pledged to cluster ${clusters.pledged}, and the peers have formed ${clusters.formed}: ${REPLACE(node)}`;
  return { fault: "other-cluster", detail };
}

export function pledgeLost(node: NodeId, clusterId: string): FormingProblem {
  const detail = `cluster ${clusterId} was formed with the pledge of this disk, which does not have it: it is an older copy. ${REPLACE(node)}`;
  return { fault: "pledge-lost", detail };
}

const WIPE = "if no node is formed, nothing was decided: stop them and wipe their directories";
const REPLACE = (node: NodeId): string => `remove node ${node} and add a new id with --join`;
