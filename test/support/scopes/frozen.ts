/**
 * A replica taken apart into plain values, and put together again. The values are all that the next step can depend on: what is left out here is also gone from the replica
 * that goes on, so two replicas with the same values have the same future, and no other claim has to be believed.
 *
 * What is left out, and why no behaviour of interest goes with it:
 *
 * - The clock. Every replica goes on at tick 0, with a happiness, grace, rate limit and resending that have long run out, and a reign and a campaign that have not: as if
 *   between any two inputs more time had passed than any rule waits for, short of check-quorum and the end of a campaign, which are inputs of their own. A rule that would
 *   have refused or delayed something in less time does what the loss of a message does, too.
 * - What only answers to heartbeats bring and read (rounds, answers, claims, happiness): they are not explored. Nor are reads.
 * - How far entries were handed out and applied: it is reckoned anew from slot 1 at each step, and judged each time.
 * - Numbers of batches: only their order counts.
 */
import { type NodeId, type Slot, slot } from "../../../src/base/ids.ts";
import type { Prng } from "../../../src/base/prng.ts";
import { copyOf, isNeverChanged } from "../../../src/paxos/core/checkpoint.ts";
import { type Image, ImageQueue, type PersistOp } from "../../../src/paxos/core/image.ts";
import type { CoreOptions } from "../../../src/paxos/core/options.ts";
import { PaxosReplica } from "../../../src/paxos/core/replica.ts";
import type { Replica } from "../../../src/paxos/core/state.ts";
import { type Log, type Logs, runsOf } from "./logs.ts";

export interface Disk {
  readonly image: Image;
  readonly log: Log;
}

interface Batch {
  readonly image: Image;
  readonly ops: readonly PersistOp[];
}

export interface Frozen {
  readonly boot: number;
  readonly disk: Disk;
  /** On their way to the disk, the oldest first. */
  readonly batches: readonly Batch[];
  /** As the rules see it. */
  readonly memory: Image;
  readonly log: Log;
  readonly cachedFrom: Slot;
  readonly role: Replica["role"];
  readonly maxRound: number;
  /** All the rest, by the names it has in `Replica`. */
  readonly rest: Readonly<Record<string, unknown>>;
}

/** Put together from the images and the log, empty between two steps, or left out as said above. */
const NOT_IN_REST: ReadonlySet<string> = new Set([
  ...["node", "storageId", "boot", "options", "random", "images", "log", "promised", "accepted", "cut", "role"],
  ...["ops", "opsBytes", "dirty", "sends", "proposalResults", "readResults", "serve", "events", "fenced"],
  ...["now", "nowMs", "election", "claims", "probation", "forwarded", "appliedThrough", "handedOut", "decidedUnsavedSince"],
]);

/** Without chance: what is drawn is about time only. */
export const NO_CHANCE: Prng = { next: () => 0, below: () => 0, chance: () => false, pick: (items) => items[0] };

export function storageOf(node: NodeId): string {
  return `disk-${node}`;
}

/** `replica` is used up. */
export function freeze(replica: Replica, logs: Logs, before: Pick<Frozen, "disk" | "batches">): Frozen {
  const { log, role, boot } = replica;
  const rest: Record<string, unknown> = { unsaved: replica.decidedUnsavedSince !== undefined };
  for (const [name, value] of Object.entries(replica)) if (!NOT_IN_REST.has(name)) rest[name] = value instanceof Map ? sorted(value) : value;
  if (replica.pull !== undefined) rest["pull"] = { ...replica.pull, sentAt: longAgo(replica.options) };
  rejuvenate(role, replica.options);
  const memory = replica.image();
  return {
    ...before,
    boot,
    memory,
    log: logs.of([
      ...before.disk.log.entries.slice(0, log.cachedFrom - 1),
      ...log.slice(slot(log.cachedFrom - 1), log.last, Number.MAX_SAFE_INTEGER),
    ]),
    cachedFrom: log.cachedFrom,
    role,
    // Only its maximum with the promise is ever asked for, and the promise never goes down.
    maxRound: Math.max(replica.election.maxRound, memory.promised.round),
    rest,
  };
}

/** The replica that goes on; it shares nothing that a step changes with `frozen`. */
export function thaw(frozen: Frozen, node: NodeId, options: CoreOptions): PaxosReplica {
  const { boot, memory, log, cachedFrom } = frozen;
  const tail = log.entries.slice(cachedFrom - 1);
  const replica = new PaxosReplica({ node, storageId: storageOf(node), boot, image: memory, runs: runsOf(log), tail }, options, NO_CHANCE);
  const images = new ImageQueue(frozen.disk.image);
  for (const { image, ops } of frozen.batches) images.handOut(image, ops, { tick: 0, bytes: 0 });
  const { unsaved, ...rest } = frozen.rest;
  const { state } = replica;
  state.election.maxRound = frozen.maxRound;
  // The next tick lets what is decided have a write of its own.
  const decidedUnsavedSince = unsaved === true ? 1 - options.decidedFlushTicks : undefined;
  Object.assign(state, copyOf(rest), { images, role: copyOf(frozen.role), probation: undefined, decidedUnsavedSince });
  return replica;
}

/** The first process on a disk, or the next: after its probation. */
export function boot({ image, log }: Disk, node: NodeId, number: number, options: CoreOptions): PaxosReplica {
  const recovered = { node, storageId: storageOf(node), boot: number, image, runs: runsOf(log), tail: log.entries };
  const replica = new PaxosReplica(recovered, options, NO_CHANCE);
  replica.step(ticks(options.probationTicks), 0);
  return replica;
}

/** Of these maps nobody asks for the order, so it is always the same. */
function sorted(map: ReadonlyMap<number, unknown>): ReadonlyMap<number, unknown> {
  return new Map([...map].sort(([a], [b]) => a - b));
}

export function ticks(count: number): { readonly type: "tick" }[] {
  return Array.from({ length: count }, () => ({ type: "tick" as const }));
}

function rejuvenate(role: Replica["role"], options: CoreOptions): void {
  switch (role.type) {
    case "follower":
      role.syncRequestAt = 0;
      return;
    case "candidate":
      role.deadline = options.campaignTicks;
      if (role.recovery?.pull !== undefined) role.recovery.pull = { ...role.recovery.pull, sentAt: longAgo(options) };
      return;
    default:
      role.lastQuorumTick = -(options.heartbeatSlack * options.heartbeatTicks + 1);
      role.lastQuorumMs = 0;
      role.lastDecidedTick = 0;
      for (const peer of role.peers.values()) Object.assign(peer, { progressAt: longAgo(options), pausedUntil: 0, answersFrom: 0 });
  }
}

function longAgo({ retransmitTicks }: CoreOptions): number {
  return -retransmitTicks;
}

const texts = new WeakMap<object, string>();

/** Equal for equal values. Entries are told by slot, origin and checksum, configurations by their members. */
export function textOf(value: unknown): string {
  if (typeof value !== "object" || value === null) return `${value}`;
  if (Array.isArray(value)) return `[${value.map(textOf).join()}]`;
  if (value instanceof Map) return `{${[...value].map(([key, item]) => `${textOf(key)}=${textOf(item)}`).join()}}`; // in its order: rules go through it
  if (value instanceof Set) return `{${[...value].map(textOf).sort().join()}}`;
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if ("record" in value && "chain" in value) return `#${value.chain}`;
  return isNeverChanged(value) ? remembered(value, () => recordText(value)) : recordText(value);
}

function remembered(value: object, text: () => string): string {
  const known = texts.get(value);
  if (known !== undefined) return known;
  const made = text();
  texts.set(value, made);
  return made;
}

function recordText(value: object): string {
  const fields: string[] = [];
  for (const [key, item] of Object.entries(value)) if (item !== undefined) fields.push(`${key}:${textOf(item)}`);
  return `(${fields.sort().join()})`;
}

/** All of a frozen replica. */
export function frozenText({ boot: number, disk, batches, memory, log, cachedFrom, role, maxRound, rest }: Frozen): string {
  const onTheWay = batches.map(({ image, ops }) => `${imageText(image)}${textOf(ops)}`);
  return `${number}|${diskText(disk)}|${onTheWay.join()}|${imageText(memory)}|${log.id}.${cachedFrom}|${textOf(role)}|${maxRound}|${textOf(rest)}`;
}

export function diskText({ image, log }: Disk): string {
  return `${imageText(image)}${log.id}`;
}

function imageText(image: Image): string {
  return remembered(image, () => textOf(image));
}
