/** A process of a node: from a start to a crash. What comes in while it is paused waits, but for ticks: a process that slept has missed them. */

import type { Epoch } from "../../base/epoch.ts";
import type { NodeId } from "../../base/ids.ts";
import { createPrng, type Prng } from "../../base/prng.ts";
import type { PaxosMessage } from "../../paxos/core/messages.ts";
import type { CoreOptions } from "../../paxos/core/options.ts";
import { Sessions } from "../../paxos/core/sessions.ts";
import { Turn, type TurnInput } from "../../paxos/turn.ts";
import type { SimulatedDisk } from "./disk.ts";
import { ListMachine } from "./machine.ts";
import type { ClusterObserver, ObservedProcess } from "./observed.ts";
import { SimulatedSnapshots } from "./snapshots.ts";
import type { Tracer } from "./tracer.ts";

export interface ProcessStart {
  readonly node: NodeId;
  /** Place of the node in the order of the nodes. */
  readonly index: number;
  readonly disk: SimulatedDisk;
  readonly nonce: number;
  readonly options: CoreOptions;
  readonly random: Prng;
  readonly tickUs: number;
  /** Of applied entries. */
  readonly observers: readonly ClusterObserver[];
  /** `copied`: on a copy of another process's disk, and as that was when it was copied: started, and counted. */
  readonly how: "started" | "copied";
  /** Not on its node's disk. */
  readonly impostor: boolean;
  readonly tracer?: Tracer | undefined;
}

/** Ticks that a process makes up for, at most, when it was paused. */
const MISSED_TICKS_MAX = 2;

export class SimulatedProcess implements ObservedProcess {
  readonly node: NodeId;
  readonly index: number;
  readonly storageId: string;
  readonly boot: number;
  readonly nonce: number;
  readonly disk: SimulatedDisk;
  readonly turn: Turn;
  readonly machine: ListMachine;
  readonly snapshots: SimulatedSnapshots;
  readonly tickUs: number;
  readonly impostor: boolean;
  readonly #sessions = new Sessions();
  readonly #tracer: Tracer | undefined;
  #backlog: TurnInput[] = [];
  #missedTicks = 0;
  alive = true;
  paused = false;
  turnIsDue = false;
  /** The reign it leads, and has told its host of. */
  leads: Epoch | undefined;

  constructor(start: ProcessStart) {
    const { node, index, disk, nonce, options, random, tickUs, observers, how, impostor, tracer } = start;
    const recovered = disk.recover(node, how);
    this.node = node;
    this.index = index;
    this.storageId = disk.storageId;
    this.boot = recovered.boot;
    this.nonce = nonce;
    this.disk = disk;
    this.tickUs = tickUs;
    this.impostor = impostor;
    this.#tracer = tracer;
    this.machine = new ListMachine((at, payload) => {
      for (const observer of observers) observer.applied(this, at, payload);
    });
    const { snapshot } = recovered;
    const bytes = snapshot && disk.snapshotBytes(snapshot.id);
    if (bytes !== undefined) this.machine.prepare(bytes).install();
    this.snapshots = new SimulatedSnapshots(disk, this.machine, createPrng(nonce));
    this.turn = new Turn({ recovered, options, random, machine: this.machine });
  }

  put(input: TurnInput): void {
    this.#tracer?.input(this, input);
    if (this.paused) this.#backlog.push(input);
    else this.turn.put(input);
  }

  /** @returns false for a message of a process that is not believed (rule I2). */
  receive(from: SimulatedProcess, message: PaxosMessage): boolean {
    if (this.#sessions.admit(from) !== "accepted") return false;
    this.put({ type: "message", from: from.node, storageId: from.storageId, boot: from.boot, message });
    return true;
  }

  tick(): void {
    if (this.paused) this.#missedTicks += 1;
    else this.turn.put(TICK);
  }

  resume(): void {
    this.paused = false;
    for (let tick = 0; tick < Math.min(this.#missedTicks, MISSED_TICKS_MAX); tick++) this.turn.put(TICK);
    this.#missedTicks = 0;
    for (const input of this.#backlog) this.turn.put(input);
    this.#backlog = [];
  }

  /** Whether it takes this process for the one that its node is. */
  believes(other: SimulatedProcess): boolean {
    return this.#sessions.accepted(other)?.nonce === other.nonce;
  }
}

const TICK: TurnInput = { type: "tick" };
