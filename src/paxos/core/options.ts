import { wholeOption } from "../../base/options.ts";
import { PAYLOAD_BYTES_MAX, RECORD_OVERHEAD } from "./entry.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** Defaults of rule F5 and F1 to F4. Times are ticks, sizes bytes. */
const DEFAULTS = {
  /** Length of a tick, ms. Only ages that must survive a pause of the process are reckoned in it (rule Q0). */
  tickMs: 10,
  /** Ticks between heartbeats. */
  heartbeatTicks: 10,
  /** Heartbeats that may be missed before a peer counts as not connected. */
  heartbeatSlack: 3,
  /** Silence before a follower campaigns: once to twice this, at random. */
  electionTicks: 100,
  /** A leader that has not heard a quorum for this long steps down. */
  checkQuorumTicks: 100,
  /** A campaign that takes longer is given up. */
  campaignTicks: 100,
  /** After a promise, nobody else is promised for this long. */
  graceTicks: 100,
  /** A member that is stuck at a higher promise makes the leader campaign afresh after this long. */
  rebidTicks: 20,
  /** No progress with messages in flight: sent again. Also the time a fetch may take. */
  retransmitTicks: 30,
  /** A leader whose disk has not answered for this long steps down. */
  diskStallTicks: 300,
  /** A leader that decides nothing for this long, although a quorum is there, steps down. */
  progressTicks: 500,
  /** After a start: how long the node waits, at most, to hear what its peers have seen of its disk. */
  probationTicks: 50,
  /** What is decided gets a write of its own after this long without another. */
  decidedFlushTicks: 10,
  /** A read or confirmation that is not answered within this time fails. */
  readTicks: 100,
  /** After the connection to a leader was lost: how long the shorter election timeout holds (rule E6). */
  hintTicks: 50,
  /** One proposal's payload. */
  maxEntryBytes: 4 * MIB,
  /** Appended and not decided, in bytes of records, at a leader. */
  maxUncommittedBytes: 32 * MIB,
  maxUncommittedEntries: 16_384,
  /** Proposals whose outcome is open, at any node. */
  maxProposals: 65_536,
  /** One Sync. Must hold what may be undecided, and one entry more: Sync is all or nothing. */
  maxSyncBytes: 48 * MIB,
  maxAcceptBytes: MIB,
  maxInflightMessages: 64,
  maxInflightBytes: 16 * MIB,
  /** What a promise may carry of the log. */
  promiseInlineBytes: 256 * KIB,
  /** One answer to a fetch. */
  maxFetchBytes: MIB,
  /** Facts that are kept in memory for peers that are a little behind. */
  cacheBytes: 64 * MIB,
  /** What a follower takes before its disk has it. */
  maxUnpersistedBytes: 64 * MIB,
  /** What is decided and not applied, at a leader. */
  maxUnappliedEntries: 65_536,
  /** Reads and confirmations that wait, at any node. */
  maxWaitingReads: 65_536,
} as const;

export type CoreOptions = { readonly [Name in keyof typeof DEFAULTS]: number };

/** Fills defaults and checks how values relate. @throws OracleError TSO_INVALID_OPTION, naming the option, its value and the limit */
export function resolveCoreOptions(options: Partial<CoreOptions> = {}): CoreOptions {
  const resolved: Record<keyof CoreOptions, number> = { ...DEFAULTS };
  for (const [name, value] of Object.entries(options) as [keyof CoreOptions, number | undefined][]) {
    if (value !== undefined) resolved[name] = wholeOption(name, value, { from: SMALLEST[name] ?? 1, through: 2 ** 40 });
  }
  const {
    heartbeatTicks,
    heartbeatSlack,
    electionTicks,
    checkQuorumTicks,
    maxEntryBytes,
    maxUncommittedBytes,
    maxSyncBytes,
    maxUncommittedEntries,
    maxProposals,
  } = resolved;
  // A follower must not campaign before it can know that its leader is gone.
  wholeOption("electionTicks", electionTicks, { from: heartbeatTicks * (heartbeatSlack + 1) + 1, through: 2 ** 40 });
  wholeOption("checkQuorumTicks", checkQuorumTicks, { from: heartbeatTicks * heartbeatSlack, through: 2 ** 40 });
  wholeOption("maxEntryBytes", maxEntryBytes, { from: 1, through: PAYLOAD_BYTES_MAX });
  // A2 is all or nothing, so the longest undecided tail must fit into one Sync: the window, the entry that overran it, and the entries without limit.
  wholeOption("maxSyncBytes", maxSyncBytes, { from: maxUncommittedBytes + maxEntryBytes + SYNC_MARGIN, through: 2 ** 40 });
  wholeOption("maxProposals", maxProposals, { from: maxUncommittedEntries, through: 2 ** 40 });
  return resolved;
}

/** Zero means "none", for these. */
const SMALLEST: Partial<Record<keyof CoreOptions, number>> = { heartbeatSlack: 1, promiseInlineBytes: 0, cacheBytes: 0, decidedFlushTicks: 1 };

/** Room for Start and config entries, which no limit holds back. */
const SYNC_MARGIN = 64 * RECORD_OVERHEAD;
