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
  // Memory holds recent facts, what is not decided, and what is not on the disk yet, beyond its limit by one message. What a step finds to be on the disk by now is let go
  // at the beginning of the next, so there may be twice of that; and a sixteenth more, below which nothing is moved.
  const unpersisted = options.maxUnpersistedBytes + Math.max(options.maxSyncBytes, options.maxFetchBytes, options.maxAcceptBytes) + oneEntry;
  atMost(node, "cachedBytes", sizes.cachedBytes, (17 / 16) * (options.cacheBytes + window + 2 * unpersisted));
}

function atMost(node: NodeId, name: keyof ReplicaView["sizes"], value: number, limit: number): void {
  if (value > limit) throw new Violation("memory", `${name} has a limit`, { node, [name]: value, limit });
}
