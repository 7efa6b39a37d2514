/**
 * What a seed draws. Each seed has its own subset of faults, its own rates, and its own tiny limits, so that what is rare becomes common. All times hang on the
 * heartbeat: a network or a disk that is slower than the election allows has no leader, and shows nothing.
 */
import { createPrng, type Prng } from "../../base/prng.ts";
import { RECORD_OVERHEAD } from "../../paxos/core/entry.ts";
import type { CoreOptions } from "../../paxos/core/options.ts";
import type { DiskSettings } from "./disk.ts";
import type { ScheduledFault } from "./faults.ts";
import type { NetworkSettings } from "./network.ts";
import { TOPOLOGIES, type Topology } from "./topology.ts";

export const PROFILES = ["default", "slow-disk", "partitions", "crash-storm", "aimed", "calm"] as const;
export type Profile = (typeof PROFILES)[number];

export interface WorkloadSettings {
  readonly clients: number;
  /** Requests that a client makes at once, at most. */
  readonly burst: number;
  /** Between an answer and the client's next requests. */
  readonly thinkUs: readonly [least: number, most: number];
  /** The same, where nothing came of the last ones. */
  readonly retryUs: readonly [least: number, most: number];
  /** A client waits no longer. */
  readonly patienceUs: number;
  /** Chances: that a request is a read, that a write is an append, that requests go to any node and not to the leader. */
  readonly reads: number;
  readonly appends: number;
  readonly anywhere: number;
  /** Chances, at the leader: of a proposal for exactly its epoch, of a confirmation. */
  readonly fenced: number;
  readonly confirms: number;
  readonly paddingBytes: number;
}

export type FaultKind = keyof FaultSettings["weights"] | "diskRoom" | "snapshotLoss";

export interface FaultSettings {
  /** From one fault to the next; none for a calm run. */
  readonly everyUs: readonly [least: number, most: number] | undefined;
  readonly weights: {
    readonly crash: number;
    readonly pause: number;
    readonly topology: number;
    readonly flapping: number;
    readonly diskStall: number;
    readonly writeError: number;
    readonly falseHint: number;
    readonly sendBlocked: number;
    readonly duplicate: number;
    /** Several faults that are aimed together at one rule. */
    readonly attack: number;
  };
  /** Chance, at each of these faults, that a disk gets full besides. Drawn apart, from a seed of its own. */
  readonly fullDisk: { readonly chance: number; readonly seed: number };
  /** Chance, at each of them, that a node crashes besides, and none of its snapshots can be read afterwards. Drawn apart as well. */
  readonly lostSnapshots?: { readonly chance: number; readonly seed: number } | undefined;
  /** How long a fault lasts. */
  readonly lastsUs: readonly [least: number, most: number];
  /** Chance that a fault strikes the leader. */
  readonly atLeader: number;
  readonly topologies: readonly [Topology, ...Topology[]];
  /** Chance that a peer is told of the end of a process (rule E6). */
  readonly told: number;
  /** These and no others, instead of what would be drawn. */
  readonly script?: readonly ScheduledFault[] | undefined;
}

export interface ClusterSettings {
  readonly nodes: number;
  /** Of each node, as it goes into its ballots. */
  readonly prios: readonly number[];
  readonly core: Partial<CoreOptions>;
  /** The chaos ends with this many events, but not before all faults of a script have struck. */
  readonly chaosEvents: number;
  /** Of each node: how long its ticks are. */
  readonly ticksUs: readonly number[];
  /** From an event at a node to its turn; what arrives meanwhile is in it. */
  readonly turnDelayUs: number;
  /** Messages go through their codec. */
  readonly encoded: boolean;
  readonly network: NetworkSettings;
  readonly disk: DiskSettings;
  readonly workload: WorkloadSettings;
  readonly faults: FaultSettings;
  /** When all is over a node comes back on an empty disk, or on its own as it was before. */
  readonly lostDisk: "none" | "wiped" | "rolled-back";
}

const SIZES: Readonly<Partial<Record<Profile, readonly [number, ...number[]]>>> = { aimed: [5], calm: [3, 5] };
const TICK_MS = 10;
const TICK_US = TICK_MS * 1000;
const ANY_SIZE = 2 ** 20;

/** The same for the same seed and profile, on every machine. */
export function drawSettings(seed: number, profile: Profile): ClusterSettings {
  const prng = createPrng(seed);
  const calm = profile === "calm";
  const nodes = prng.pick(SIZES[profile] ?? [3, 3, 3, 3, 3, 3, 3, 5, 5, 5, 5, 1, 2, 4, 7]);
  const heartbeatTicks = prng.pick([2, 3, 3, 4, 5]);
  const skewed = !calm && prng.chance(0.3);
  const ticksUs = Array.from({ length: nodes }, () => (skewed ? Math.floor(TICK_US * 2 ** (2 * prng.next() - 1)) : TICK_US));
  /** The shortest time between two heartbeats of a node. */
  const beatUs = heartbeatTicks * Math.min(...ticksUs);
  const core = drawCore(prng, profile, heartbeatTicks);
  const electionUs = (core.electionTicks ?? 0) * TICK_US;
  const settings: ClusterSettings = {
    nodes,
    prios: drawPrios(prng, nodes),
    core,
    chaosEvents: 5_000 + prng.below(600),
    ticksUs,
    turnDelayUs: prng.pick([0, 20, 200]),
    encoded: prng.chance(0.05),
    network: drawNetwork(prng, profile, { beatUs, electionUs }),
    disk: drawDisk(prng, profile, beatUs),
    workload: drawWorkload(prng, nodes, beatUs, electionUs),
    faults: drawFaults(prng, profile, electionUs),
    lostDisk: nodes < 3 || calm ? "none" : prng.pick(["none", "none", "none", "wiped", "rolled-back"]),
  };
  const snapshots = calm ? {} : drawSnapshots(createPrng(seed ^ 0x5ca9));
  const lostSnapshots = { chance: snapshots.snapshotEntries !== undefined && nodes > 2 ? 0.1 : 0, seed: seed ^ 0x105e5 };
  const fullDisk = { chance: !calm && prng.chance(0.25) ? 0.3 : 0, seed: prng.below(2 ** 32) };
  return { ...settings, core: { ...core, ...snapshots }, faults: { ...settings.faults, fullDisk, lostSnapshots } };
}

/** Drawn apart, so that what else a seed draws stays what it was. */
function drawSnapshots(prng: Prng): Partial<CoreOptions> {
  if (prng.chance(0.35)) return {};
  const snapshotChunkBytes = prng.pick([16, 64, 400]);
  return {
    snapshotEntries: prng.pick([3, 10, 30, 100, ANY_SIZE]),
    snapshotBytes: prng.pick([300, 2_000, ANY_SIZE]),
    maxRetainedBytes: prng.pick([1, 1_000, 10_000]),
    snapshotChunkBytes,
    snapshotWindowBytes: snapshotChunkBytes * prng.pick([1, 4]),
    snapshotTicks: 30 + prng.below(120),
  };
}

function drawPrios(prng: Prng, nodes: number): number[] {
  const differ = prng.chance(0.5);
  return Array.from({ length: nodes }, () => (differ ? prng.below(4) : 0));
}

function drawCore(prng: Prng, profile: Profile, heartbeatTicks: number): Partial<CoreOptions> {
  const aimed = profile === "aimed";
  const heartbeatSlack = prng.pick([1, 2, 2, 3]);
  const electionTicks = Math.ceil(heartbeatTicks * (heartbeatSlack + 1) * (1.1 + prng.next())) + 1;
  const around = (factor: number): number => Math.max(1, Math.ceil(electionTicks * factor * (0.7 + 0.6 * prng.next())));
  const maxEntryBytes = 256;
  const maxUncommittedEntries = prng.pick([4, 8, 16, 64]);
  const maxUncommittedBytes = prng.pick([400, 1_500, 6_000]);
  return {
    tickMs: TICK_MS,
    heartbeatTicks,
    heartbeatSlack,
    electionTicks,
    checkQuorumTicks: Math.max(heartbeatTicks * heartbeatSlack, around(1)),
    // An attack needs a candidate that waits for long, and voters that do not.
    campaignTicks: Math.max(4 * heartbeatTicks, around(aimed ? prng.pick([1, 4]) : 1)),
    graceTicks: aimed ? prng.pick([1, heartbeatTicks]) : Math.max(4 * heartbeatTicks, around(1)),
    rebidTicks: heartbeatTicks * (1 + prng.below(4)),
    retransmitTicks: heartbeatTicks * (2 + prng.below(3)),
    diskStallTicks: around(2),
    progressTicks: around(5),
    probationTicks: heartbeatTicks * (1 + prng.below(3)),
    decidedFlushTicks: 1 + prng.below(2 * heartbeatTicks),
    readTicks: around(1),
    hintTicks: around(0.5),
    maxEntryBytes,
    maxUncommittedBytes,
    maxUncommittedEntries,
    maxProposals: maxUncommittedEntries * prng.pick([1, 4]),
    maxSyncBytes: maxUncommittedBytes + maxEntryBytes + 64 * RECORD_OVERHEAD + prng.pick([0, 500, ANY_SIZE]),
    maxAcceptBytes: prng.pick([60, 120, 250, 1_000]),
    maxInflightMessages: 1 + prng.below(4),
    maxInflightBytes: prng.pick([200, 1_000, ANY_SIZE]),
    promiseInlineBytes: aimed ? 0 : prng.pick([0, 200, ANY_SIZE]),
    maxFetchBytes: prng.pick(aimed ? [60, 150] : [150, 500, 3_000]),
    cacheBytes: prng.pick([0, 1_500, 6_000, 40_000]), // an entry is some 550
    maxUnpersistedBytes: prng.pick([500, 3_000, ANY_SIZE]),
    maxUnappliedEntries: prng.pick([8, 64, 1_000]),
    maxWaitingReads: prng.pick([2, 16, 64]),
  };
}

function drawNetwork(
  prng: Prng,
  profile: Profile,
  { beatUs, electionUs }: { readonly beatUs: number; readonly electionUs: number },
): NetworkSettings {
  const latencyUs = [50, Math.floor(beatUs * prng.pick([0.02, 0.1, 0.25]))] as const;
  if (profile === "calm") return { latencyUs, tail: 0, tailUs: 0, loss: 0, duplication: 0, echo: 0, echoUs: 0, reordering: 0, bytesPerMs: 0 };
  return {
    latencyUs,
    tail: sometimes(prng, 0.05),
    tailUs: beatUs * 4,
    loss: sometimes(prng, profile === "aimed" ? 0.4 : 0.06),
    duplication: sometimes(prng, 0.05),
    echo: prng.chance(0.2) ? 0.3 : sometimes(prng, 0.05),
    echoUs: Math.floor(electionUs * prng.pick([1, 4])),
    reordering: sometimes(prng, 0.2),
    bytesPerMs: prng.pick([0, 0, 0, 2_000]),
  };
}

function drawDisk(prng: Prng, profile: Profile, beatUs: number): DiskSettings {
  const slow = profile === "slow-disk";
  const share = slow ? prng.pick([0.3, 0.6]) : prng.pick([0.01, 0.05, 0.2]);
  return {
    writeUs: [slow ? Math.floor(beatUs * 0.1) : 20, Math.floor(beatUs * share)],
    readUs: [20, Math.floor(beatUs * 0.05)],
    tail: profile === "calm" ? 0 : sometimes(prng, slow ? 0.1 : 0.02),
    tailUs: beatUs * 6,
    durableAtCut: prng.pick([0, 0.5, 1]),
  };
}

function drawWorkload(prng: Prng, nodes: number, beatUs: number, electionUs: number): WorkloadSettings {
  // Where few nodes make few messages, as many events take much longer.
  const slowness = nodes < 3 ? 8 / nodes : 1;
  return {
    clients: 2 + prng.below(4),
    burst: prng.pick([2, 4, 8, 12]),
    thinkUs: [100, Math.floor(beatUs * slowness * prng.pick([0.1, 0.3, 0.6]))],
    retryUs: [Math.floor(beatUs * 0.1), Math.floor(beatUs * slowness)],
    patienceUs: Math.floor(electionUs * prng.pick([0.3, 1, 3])),
    reads: prng.pick([0.05, 0.15, 0.3]),
    appends: prng.pick([0, 0.3, 0.7]),
    anywhere: prng.pick([0.02, 0.1, 0.3]),
    fenced: prng.pick([0, 0.3]),
    confirms: prng.pick([0, 0.1]),
    paddingBytes: prng.pick([0, 0, 40, 200]),
  };
}

/** Of what a run of this profile has more than others. */
const WEIGHTS: Readonly<Record<Profile, Partial<FaultSettings["weights"]>>> = {
  default: {},
  "slow-disk": { diskStall: 6, writeError: 2, crash: 3 },
  partitions: { topology: 8, flapping: 2 },
  "crash-storm": { crash: 10, pause: 2 },
  aimed: { attack: 6, topology: 1, crash: 1, pause: 0.5, diskStall: 0.5, duplicate: 0 },
  calm: {},
};

function drawFaults(prng: Prng, profile: Profile, electionUs: number): FaultSettings {
  const often = WEIGHTS[profile];
  const weight = (kind: keyof FaultSettings["weights"], usual: number): number => often[kind] ?? (prng.chance(0.6) ? usual : 0);
  const rest = TOPOLOGIES.filter((topology) => topology !== "full" && prng.chance(0.5));
  const gap = electionUs * prng.pick([0.4, 0.8, 1.5]);
  const lasts = electionUs * prng.pick([0.3, 1, 2]);
  return {
    everyUs: profile === "calm" ? undefined : [Math.floor(gap * 0.3), Math.floor(gap * 2)],
    weights: {
      crash: weight("crash", 4),
      pause: weight("pause", 2),
      topology: weight("topology", 4),
      flapping: weight("flapping", 1),
      diskStall: weight("diskStall", 2),
      writeError: weight("writeError", 1),
      falseHint: weight("falseHint", 1),
      sendBlocked: weight("sendBlocked", 1),
      duplicate: weight("duplicate", 0.5),
      attack: often.attack ?? 0,
    },
    fullDisk: { chance: 0, seed: 0 },
    lastsUs: [Math.floor(lasts * 0.1), Math.floor(lasts * 2)],
    atLeader: prng.pick([0.4, 0.6, 0.9]),
    topologies: ["isolate", ...rest],
    told: prng.pick([0, 0.5, 0.9]),
  };
}

/** Nothing of it in half of the seeds. */
function sometimes(prng: Prng, most: number): number {
  return prng.chance(0.5) ? 0 : most * prng.next();
}
