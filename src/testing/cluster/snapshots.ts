/**
 * What a simulated node's host does with snapshots: it writes down what the machine captured, stages what comes in, reads what is asked for; one thing after the other, each with
 * its own time, so that a crash may come between any two of them. The files are the disk's, and outlive the process; what is staged does not.
 */
import { createHash } from "node:crypto";
import type { Prng } from "../../base/prng.ts";
import type { SnapshotMeta } from "../../paxos/core/snapshot.ts";
import type { SnapshotWork } from "../../paxos/core/snapshot-transfer.ts";
import type { Capture, TurnInput } from "../../paxos/turn.ts";
import type { SimulatedDisk } from "./disk.ts";
import type { ListMachine } from "./machine.ts";

/** A step of a piece of work, carried out when its time has come. */
export type SnapshotStep =
  | SnapshotWork
  /** What was captured is whole, and durable. */
  | { readonly type: "written"; readonly meta: SnapshotMeta; readonly bytes: Uint8Array }
  /** The node hears of it. */
  | { readonly type: "made"; readonly meta: SnapshotMeta }
  /** What was staged is durable: the machine builds it beside its state. */
  | { readonly type: "restore"; readonly meta: SnapshotMeta };

/** What follows from a step: an input now, or a step later. */
export interface StepResult {
  readonly input?: TurnInput | undefined;
  readonly next?: SnapshotStep | undefined;
}

export class SimulatedSnapshots {
  readonly #disk: SimulatedDisk;
  readonly #machine: ListMachine;
  readonly #random: Prng;
  #staged: { readonly id: string; readonly chunks: Uint8Array[] } | undefined;
  /** When all that was begun is done. */
  busyUntil = 0;

  constructor(disk: SimulatedDisk, machine: ListMachine, random: Prng) {
    this.#disk = disk;
    this.#machine = machine;
    this.#random = random;
  }

  /** The first step of what a turn asked for. */
  captured({ view, ...point }: Capture): SnapshotStep {
    const bytes = Buffer.concat([...(view.chunks() as Iterable<Uint8Array>)]);
    view.release();
    const id = Array.from({ length: 4 }, () =>
      this.#random
        .below(2 ** 32)
        .toString(16)
        .padStart(8, "0"),
    ).join("");
    return { type: "written", meta: { id, ...point, bytes: bytes.length, sha256: sha256(bytes) }, bytes };
  }

  carryOut(step: SnapshotStep): StepResult {
    switch (step.type) {
      case "written":
        this.#disk.addSnapshot(step.meta, step.bytes);
        return { next: { type: "made", meta: step.meta } };
      case "made":
        return { input: { type: "snapshot-made", meta: step.meta } };
      case "stage":
        if (this.#staged?.id !== step.meta.id) this.#staged = { id: step.meta.id, chunks: [] };
        return {};
      case "store": {
        if (this.#staged?.id !== step.id) return {};
        this.#staged.chunks.push(step.bytes);
        return { input: { type: "snapshot-stored", id: step.id, bytes: this.#staged.chunks.reduce((sum, { length }) => sum + length, 0) } };
      }
      case "finish": {
        const bytes = Buffer.concat(this.#staged?.id === step.meta.id ? this.#staged.chunks : []);
        this.#staged = undefined;
        if (bytes.length !== step.meta.bytes || sha256(bytes) !== step.meta.sha256) return { input: { type: "snapshot-refused", id: step.meta.id } };
        this.#disk.addSnapshot(step.meta, bytes);
        return { next: { type: "restore", meta: step.meta } };
      }
      case "restore": {
        const bytes = this.#disk.snapshotBytes(step.meta.id);
        if (bytes === undefined) return { input: { type: "snapshot-refused", id: step.meta.id } };
        return { input: { type: "snapshot-staged", meta: step.meta, prepared: this.#machine.prepare(bytes) } };
      }
      case "drop":
        if (this.#staged?.id === step.id) this.#staged = undefined;
        this.#disk.dropSnapshot(step.id);
        return {};
      case "read": {
        const { snapshot, position, length } = step.request;
        const bytes = this.#disk.snapshotBytes(snapshot)?.subarray(position, position + length);
        return { input: { type: "snapshot-read", piece: step.request, bytes } };
      }
    }
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
