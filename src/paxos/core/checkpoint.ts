/**
 * A replica taken down between two steps, and put up again: it goes on exactly as the first one would. With the inputs since then a run can be repeated that began long
 * before anybody kept its inputs. The checkpoint is plain data, and shares with the replica only what never changes: entries, images, ballots.
 */
import { slot } from "../../base/ids.ts";
import type { Prng } from "../../base/prng.ts";
import type { Recovered } from "./effects.ts";
import { ImageQueue, type ImageQueueContents } from "./image.ts";
import type { CoreOptions } from "./options.ts";
import { PaxosReplica } from "./replica.ts";

export interface Checkpoint {
  /** The log in memory, and what its image says of the rest. */
  readonly recovered: Recovered;
  readonly images: ImageQueueContents;
  /** All else, by the names it has in `Replica`. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Handed in, put together from the log, or empty between two steps. */
const NOT_IN_FIELDS: ReadonlySet<string> = new Set([
  ...["node", "storageId", "boot", "options", "random", "images", "log", "promised", "accepted", "cut"],
  ...[
    "ops",
    "opsBytes",
    "dirty",
    "sends",
    "proposalResults",
    "readResults",
    "serve",
    "events",
    "fenced",
    "pullSnapshot",
    "discardSnapshot",
    "snapshotWanted",
  ],
]);

export function takeCheckpoint({ state }: PaxosReplica): Checkpoint {
  const { node, storageId, boot, log, images } = state;
  const tail = log.slice(slot(log.cachedFrom - 1), log.last, Number.MAX_SAFE_INTEGER);
  const fields: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(state)) if (!NOT_IN_FIELDS.has(name)) fields[name] = copyOf(value);
  return { recovered: { node, storageId, boot, image: state.image(), runs: [...log.runs], tail }, images: images.contents, fields };
}

/** @param random goes on where the first replica's stood; nothing is drawn from it here. */
export function restoreCheckpoint({ recovered, images, fields }: Checkpoint, options: CoreOptions, random: Prng): PaxosReplica {
  const replica = new PaxosReplica(recovered, options, NO_CHANCE);
  Object.assign(replica.state, copyOf(fields), { random, images: ImageQueue.of(images) });
  return replica;
}

/** What a replica draws when it is made is replaced at once. */
const NO_CHANCE: Prng = { next: () => 0, below: () => 0, chance: () => false, pick: (items) => items[0] };

/** A copy that shares with `value` only what is never changed. */
export function copyOf<T>(value: T): T;
export function copyOf(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => copyOf(item));
  if (value instanceof Map) {
    const map = new Map();
    for (const [key, item] of value) map.set(key, copyOf(item));
    return map;
  }
  if (value instanceof Set) return new Set(value);
  if (isNeverChanged(value)) return value;
  if (Object.getPrototypeOf(value) !== Object.prototype) throw new TypeError("an object with a class of its own is taken apart by hand");
  const copy: Record<string, unknown> = { ...value };
  for (const key in copy) {
    const item = copy[key];
    if (typeof item === "object" && item !== null) copy[key] = copyOf(item);
  }
  return copy;
}

/** Entries, ballots, and what a message said of a log. */
export function isNeverChanged(value: object): boolean {
  return "record" in value || "prio" in value || "decidedOrigin" in value || "sha256" in value || value instanceof Uint8Array;
}
