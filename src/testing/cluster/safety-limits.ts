/** Everything in a node that can grow has a limit in its options, and keeps to it. */
import type { NodeId } from "../../base/ids.ts";
import { RECORD_OVERHEAD } from "../../paxos/core/entry.ts";
import type { CoreOptions } from "../../paxos/core/options.ts";
import type { ReplicaView } from "../../paxos/core/replica.ts";
import { Violation } from "./observed.ts";

/** Start and config entries that no limit holds back: one for each reign that ended before it decided anything. */
const UNLIMITED_ENTRIES = 64;

export function assertSizes(node: NodeId, sizes: ReplicaView["sizes"], options: CoreOptions): void {
  const oneEntry = options.maxEntryBytes + RECORD_OVERHEAD;
  const window = options.maxUncommittedBytes + oneEntry + UNLIMITED_ENTRIES * RECORD_OVERHEAD;
  atMost(node, "openProposals", sizes.openProposals, options.maxProposals);
  atMost(node, "waitingReads", sizes.waitingReads, options.maxWaitingReads);
  atMost(node, "uncommittedEntries", sizes.uncommittedEntries, options.maxUncommittedEntries + UNLIMITED_ENTRIES);
  atMost(node, "uncommittedBytes", sizes.uncommittedBytes, window);
  atMost(node, "stagedEntries", sizes.stagedEntries, options.maxUncommittedEntries + UNLIMITED_ENTRIES);
  atMost(node, "inflightMessages", sizes.inflightMessages, options.maxInflightMessages);
  atMost(
    node,
    "inflightBytes",
    sizes.inflightBytes,
    options.maxInflightBytes + Math.max(options.maxAcceptBytes, oneEntry, options.maxSyncBytes + window),
  ); // the last one sent may be a Sync
  // Memory holds what is not decided, what is not on the disk yet, and recent facts.
  atMost(node, "cachedBytes", sizes.cachedBytes, options.cacheBytes + options.maxUnpersistedBytes + window + options.maxSyncBytes);
}

function atMost(node: NodeId, name: keyof ReplicaView["sizes"], value: number, limit: number): void {
  if (value > limit) throw new Violation("memory", `${name} has a limit`, { node, [name]: value, limit });
}
