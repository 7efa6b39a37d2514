import { OracleError } from "../../base/errors.ts";
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
  /** Facts that are kept in memory for peers that are a little behind: heap, not bytes of records alone. */
  cacheBytes: 64 * MIB,
  /** What a follower takes before its disk has it. */
  maxUnpersistedBytes: 64 * MIB,
  /** What is decided and not applied, at a leader. */
  maxUnappliedEntries: 65_536,
  /** Reads and confirmations that wait, at any node. */
  maxWaitingReads: 65_536,
  /** A snapshot is taken when so many entries were applied since the last one, */
  snapshotEntries: 100_000,
  /** or so many bytes of records; but in any case not before a quarter of the last one's bytes, so that a large state is not written for a little log. */
  snapshotBytes: 64 * MIB,
  /** How much of the log is kept, beyond what a snapshot makes superfluous, for a peer that is pulling one (rule S4). */
  maxRetainedBytes: 256 * MIB,
  /** One answer to whoever pulls a snapshot. */
  snapshotChunkBytes: 256 * KIB,
  /** Of a snapshot: asked for, and not yet on this disk. */
  snapshotWindowBytes: 4 * MIB,
  /** A pull asks for no more than this, as a mean: who serves it, and who shares a machine with either, has other things to do. */
  snapshotBytesPerSecond: 32 * MIB,
  /** A pull that gets no further for this long is given up, and another source is looked for. */
  snapshotTicks: 500,
} as const;

export type CoreOptions = { readonly [Name in keyof typeof DEFAULTS]: number };

/** Longest message that a transport must carry: no option may ask for a longer one. */
export const MESSAGE_BYTES_MAX = 256 * MIB;
/** Entries of one message: the smallest records would otherwise be more than anyone wants to hold as objects. */
export const MESSAGE_ENTRIES_MAX = 1_048_576;

const ANY = 2 ** 40;
const LONGEST = 192 * MIB; // of records in one message, which has more in it than records

/** Where an option begins at another number than 1, or ends before `ANY`. */
const RANGES: { readonly [Name in keyof CoreOptions]?: { readonly from?: number; readonly through?: number } } = {
  promiseInlineBytes: { from: 0, through: LONGEST },
  cacheBytes: { from: 0 },
  maxEntryBytes: { through: PAYLOAD_BYTES_MAX },
  maxUncommittedEntries: { through: MESSAGE_ENTRIES_MAX / 2 },
  maxSyncBytes: { through: LONGEST },
  maxAcceptBytes: { through: LONGEST },
  maxFetchBytes: { through: LONGEST },
  snapshotChunkBytes: { through: 16 * MIB },
  snapshotWindowBytes: { through: 64 * MIB },
};

/** Fills defaults and checks how values relate. @throws OracleError TSO_INVALID_OPTION, naming the option, its value and the limit */
export function resolveCoreOptions(options: { readonly [Name in keyof CoreOptions]?: number | undefined } = {}): CoreOptions {
  const resolved: Record<keyof CoreOptions, number> = { ...DEFAULTS };
  for (const [name, value] of Object.entries(options)) {
    if (!isName(name)) throw new OracleError("TSO_INVALID_OPTION", `${name} is no option of the log: there are ${Object.keys(DEFAULTS).join(", ")}`);
    if (value !== undefined) resolved[name] = value;
  }
  for (const name of Object.keys(DEFAULTS).filter(isName)) atLeast(resolved, name, RANGES[name]?.from ?? 1);
  // A follower must not campaign before it can know that its leader is gone.
  atLeast(resolved, "electionTicks", resolved.heartbeatTicks * (resolved.heartbeatSlack + 1) + 1);
  atLeast(resolved, "checkQuorumTicks", resolved.heartbeatTicks * resolved.heartbeatSlack);
  // A2 is all or nothing, so the longest undecided tail must fit into one Sync: the window, the entry that overran it, and the entries without limit.
  atLeast(resolved, "maxSyncBytes", resolved.maxUncommittedBytes + resolved.maxEntryBytes + SYNC_MARGIN);
  atLeast(resolved, "maxProposals", resolved.maxUncommittedEntries);
  atLeast(resolved, "snapshotWindowBytes", resolved.snapshotChunkBytes);
  return resolved;
}

function isName(name: string): name is keyof CoreOptions {
  return Object.hasOwn(DEFAULTS, name);
}

function atLeast(resolved: CoreOptions, name: keyof CoreOptions, from: number): void {
  wholeOption(name, resolved[name], { from, through: RANGES[name]?.through ?? ANY });
}

/** Room for Start and config entries, which no limit holds back. */
const SYNC_MARGIN = 64 * RECORD_OVERHEAD;
