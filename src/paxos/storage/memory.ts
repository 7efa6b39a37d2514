/** The engine for tests and for trying things out: as durable as the process. What it holds outlives its opening, in a volume, so that a restart can be played. */
import { createHash, randomBytes } from "node:crypto";
import { kindOf } from "../../base/bytes.ts";
import { OracleError } from "../../base/errors.ts";
import { minSlot, type NodeId, slot } from "../../base/ids.ts";
import { invariant } from "../../base/invariant.ts";
import { wholeOption } from "../../base/options.ts";
import { sameBallot } from "../core/ballot.ts";
import { FOUNDER_ID_MAX, membersOf, sameCharter } from "../core/charter.ts";
import type { OriginRun, Recovered } from "../core/effects.ts";
import type { Entry } from "../core/entry.ts";
import type { Founding } from "../core/founding.ts";
import { genesisOf } from "../core/genesis.ts";
import type { Image, PersistBatch } from "../core/image.ts";
import type { EntryRange, LogStorage, SnapshotMeta, SnapshotSink } from "./log-storage.ts";

/** What stands for a data directory. */
export class MemoryVolume {
  /** @internal */
  readonly held: {
    storageId: string;
    node: NodeId | undefined;
    boot: number;
    founding: Founding;
    image: Image | undefined;
    /** After `image.compactedThrough`. */
    entries: Entry[];
    snapshots: { readonly meta: SnapshotMeta; readonly bytes: Uint8Array }[];
    open: boolean;
  } = {
    ...{ storageId: randomBytes(16).toString("hex"), node: undefined, boot: 0, founding: { type: "unformed" }, image: undefined },
    ...{ entries: [], snapshots: [], open: false },
  };
}

/** @throws OracleError TSO_LOCKED where the volume is open already; TSO_WRONG_FORMAT where it belongs to another node; TSO_INVALID_OPTION. */
export async function openMemory(options: { readonly volume: MemoryVolume; readonly node: number }): Promise<LogStorage> {
  const node = wholeOption("node", options.node, { from: 1, through: FOUNDER_ID_MAX }) as NodeId;
  if (!(options.volume instanceof MemoryVolume))
    throw new OracleError("TSO_INVALID_OPTION", `volume is ${kindOf(options.volume)}, and must be a MemoryVolume`);
  const { held } = options.volume;
  if (held.open) throw new OracleError("TSO_LOCKED", "the volume is open already");
  held.node ??= node;
  if (held.node !== node) throw new OracleError("TSO_WRONG_FORMAT", `the volume belongs to node ${held.node}, and this is node ${node}`);
  held.boot += 1;
  held.open = true;
  return new MemoryStorage(node, held);
}

class MemoryStorage implements LogStorage {
  readonly engine = "memory";
  readonly reserveBytes = 0;
  readonly node: NodeId;
  readonly boot: number;
  readonly repairs = [];
  readonly #held: MemoryVolume["held"];
  #recovered: Recovered | undefined;
  #closed = false;

  constructor(node: NodeId, held: MemoryVolume["held"]) {
    this.node = node;
    this.boot = held.boot;
    this.#held = held;
    this.#recovered = this.#recover();
  }

  get storageId(): string {
    return this.#held.storageId;
  }

  get founding(): Founding {
    return this.#held.founding;
  }

  recovered(): Recovered {
    const recovered = this.#recovered;
    invariant(recovered !== undefined, "a replica is begun once, on a disk that belongs to a cluster");
    this.#recovered = undefined;
    return recovered;
  }

  async found(founding: Founding): Promise<void> {
    this.#requireOpen();
    const before = this.#held.founding;
    invariant(before.type !== "formed", "what is formed stays so");
    invariant(founding.type !== "unformed", "a disk is pledged, or formed");
    invariant(before.type !== "pledged" || sameCharter(before.charter, founding.charter), "a pledge is never exchanged");
    this.#held.founding = founding;
    if (founding.type === "pledged") return;
    const { image, entries } = genesisOf(membersOf(founding.charter));
    this.#held.image = image;
    this.#held.entries = [...entries];
    this.#recovered = this.#recover();
  }

  async write({ image, ops }: PersistBatch): Promise<void> {
    this.#requireOpen();
    const held = this.#held;
    invariant(held.image !== undefined, "only a member's disk has a log");
    let begin = held.image.compactedThrough;
    for (const op of ops) {
      if (op.type === "append") for (const entry of op.entries) held.entries.push(entry);
      else if (op.type === "truncate") held.entries.length = Math.max(0, op.from - begin - 1);
      else {
        held.entries = op.keepTail ? held.entries.slice(op.point.slot - begin) : [];
        begin = op.point.slot;
      }
    }
    held.entries.splice(0, image.compactedThrough - begin);
    held.image = image;
  }

  async read({ after, through, maxBytes }: EntryRange): Promise<readonly Entry[]> {
    const { image, entries } = this.#held;
    if (image === undefined || after < image.compactedThrough) return [];
    const end = minSlot(through, image.last) - image.compactedThrough;
    const read: Entry[] = [];
    let bytes = 0;
    for (let index = after - image.compactedThrough; index < end; index++) {
      const entry = entries[index];
      bytes += entry?.record.length ?? 0;
      if (entry === undefined || (bytes > maxBytes && read.length > 0)) break;
      read.push(entry);
    }
    return read;
  }

  async freeBytes(): Promise<number> {
    return Number.POSITIVE_INFINITY;
  }

  snapshots(): readonly SnapshotMeta[] {
    return this.#held.snapshots.map(({ meta }) => meta);
  }

  async stageSnapshot(id: string): Promise<SnapshotSink> {
    this.#requireOpen();
    if (this.#held.snapshots.some(({ meta }) => meta.id === id)) throw new OracleError("TSO_INVALID_ARGUMENT", `snapshot ${id} is there already`);
    const chunks: Uint8Array[] = [];
    return {
      write: async (chunk) => {
        chunks.push(new Uint8Array(chunk));
      },
      finish: async (about) => {
        const bytes = new Uint8Array(Buffer.concat(chunks));
        const sha256 = createHash("sha256").update(bytes).digest("hex");
        const meta: SnapshotMeta = { id, bytes: bytes.length, sha256, ...about };
        if (meta.bytes !== bytes.length || meta.sha256 !== sha256)
          throw new OracleError(
            "TSO_WRONG_FORMAT",
            `snapshot ${id} should have ${meta.bytes} bytes with checksum ${meta.sha256}, and ${bytes.length} came, with ${sha256}`,
          );
        this.#held.snapshots = [...this.#held.snapshots, { meta, bytes }].sort((a, b) => a.meta.slot - b.meta.slot);
        return meta;
      },
      discard: async () => undefined,
    };
  }

  async readSnapshot(id: string, position: number, length: number): Promise<Uint8Array> {
    const found = this.#held.snapshots.find(({ meta }) => meta.id === id);
    if (found === undefined) throw new OracleError("TSO_INVALID_ARGUMENT", `there is no snapshot ${id}`);
    return found.bytes.subarray(position, position + length);
  }

  async dropSnapshot(id: string): Promise<void> {
    this.#held.snapshots = this.#held.snapshots.filter(({ meta }) => meta.id !== id);
  }

  async close(): Promise<void> {
    if (!this.#closed) this.#held.open = false;
    this.#closed = true;
  }

  #requireOpen(): void {
    if (this.#closed) throw new OracleError("TSO_CLOSED", "the storage is closed");
  }

  #recover(): Recovered | undefined {
    const { image, entries } = this.#held;
    if (image === undefined) return undefined;
    const runs: OriginRun[] = [];
    for (const { slot: from, origin } of entries) if (!sameBallot(runs.at(-1)?.origin, origin)) runs.push({ from, origin });
    const begin = slot(Math.max(0, image.decidedThrough - image.compactedThrough - 1));
    return { node: this.node, storageId: this.storageId, boot: this.boot, image, runs, tail: entries.slice(begin) };
  }
}
