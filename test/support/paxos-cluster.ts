/**
 * A cluster in which nothing moves by itself: messages wait on their links in order, writes wait on their disks, and ticks come one at a time. The turn and the core are the
 * real ones. Scenarios (`paxos-world.ts`) and random commands (`test/sim/replica-commands.property.test.ts`) move it.
 */
import type { NodeId } from "../../src/base/ids.ts";
import { invariant } from "../../src/base/invariant.ts";
import { createPrng } from "../../src/base/prng.ts";
import type { Entry } from "../../src/paxos/core/entry.ts";
import { genesisOf } from "../../src/paxos/core/genesis.ts";
import type { Image, PersistBatch } from "../../src/paxos/core/image.ts";
import type { PaxosMessage } from "../../src/paxos/core/messages.ts";
import { type CoreOptions, resolveCoreOptions } from "../../src/paxos/core/options.ts";
import { type Actions, Turn, type TurnInput } from "../../src/paxos/turn.ts";

export interface Disk {
  readonly storageId: string;
  boot: number;
  image: Image;
  /** `entries[0]` is slot 1. */
  entries: Entry[];
}

export interface ClusterNode {
  readonly id: NodeId;
  disk: Disk;
  /** Undefined while the node is down, and once it is fenced. */
  turn: Turn | undefined;
  /** In flight to the disk. */
  writing: PersistBatch | undefined;
  /** Writes wait until someone asks for them. */
  held: boolean;
  /** Payloads, by the process that runs. */
  readonly applied: string[];
}

/** A message under way, with who spoke: its node, its process and its disk. */
export interface Waiting {
  readonly from: NodeId;
  readonly boot: number;
  readonly storageId: string;
  readonly to: NodeId;
  readonly message: PaxosMessage;
}

export interface ClusterObserver {
  /** A message leaves; `lost` where its link is cut. */
  sent?(waiting: Waiting, lost: boolean): void;
  turned?(node: ClusterNode, actions: Actions): void;
}

export interface ClusterOptions {
  readonly nodes: number;
  readonly options?: Partial<CoreOptions> | undefined;
  readonly observer?: ClusterObserver | undefined;
}

const TICK_MS = 10;
/** Short, so that a scenario needs few ticks. */
const TIMES: Partial<CoreOptions> = { heartbeatTicks: 2, electionTicks: 12, checkQuorumTicks: 12, graceTicks: 12, retransmitTicks: 6 };

export class PaxosCluster {
  readonly nodes: readonly ClusterNode[];
  wires: Waiting[] = [];
  /** Messages of these types are lost as they leave. */
  losing: ReadonlySet<string> = new Set();
  readonly #cuts = new Set<string>();
  readonly #options: CoreOptions;
  readonly #observer: ClusterObserver;
  #nowMs = 0;

  constructor({ nodes, options, observer = {} }: ClusterOptions) {
    this.#options = resolveCoreOptions({ ...TIMES, ...options });
    this.#observer = observer;
    const ids = Array.from({ length: nodes }, (_, index) => (index + 1) as NodeId);
    this.nodes = ids.map((id) => ({ id, disk: formatted(ids, `disk-${id}`), turn: undefined, writing: undefined, held: false, applied: [] }));
    for (const node of this.nodes) this.start(node);
  }

  /** A new process on the node's disk. */
  start(node: ClusterNode): void {
    const { disk } = node;
    invariant(node.turn === undefined, "one process runs on a disk at a time", { node: node.id });
    disk.boot += 1;
    node.applied.length = 0;
    const runs = disk.entries.flatMap(({ slot, origin }, index) =>
      index > 0 && disk.entries[index - 1]?.origin === origin ? [] : [{ from: slot, origin }],
    );
    node.turn = new Turn({
      recovered: { node: node.id, storageId: disk.storageId, boot: disk.boot, image: disk.image, runs, tail: disk.entries },
      options: this.#options,
      random: createPrng(node.id * 1_000 + disk.boot),
      machine: {
        apply: (command) => {
          node.applied.push(new TextDecoder().decode(command));
          return command;
        },
        capture: unused,
        stage: unused,
      },
    });
  }

  /** The write in flight is lost, or it reached the disk although nobody was told. */
  crash(node: ClusterNode, write: "lost" | "kept"): void {
    if (write === "kept") writeTo(node);
    node.writing = undefined;
    node.turn = undefined;
  }

  /** A disk like a new one's, formatted anew. */
  wipe(node: ClusterNode): void {
    node.disk = formatted(
      this.nodes.map(({ id }) => id),
      `${node.disk.storageId}'`,
    );
  }

  put(node: ClusterNode, ...inputs: readonly TurnInput[]): void {
    const { turn } = node;
    if (turn === undefined) return;
    for (const input of inputs) turn.put(input);
    const actions = turn.run(this.#nowMs);
    this.#observer.turned?.(node, actions);
    for (const { to, message } of actions.sends) {
      const waiting = { from: node.id, boot: node.disk.boot, storageId: node.disk.storageId, to, message };
      const lost = this.#isCut(waiting);
      this.#observer.sent?.(waiting, lost);
      if (!lost) this.wires.push(waiting);
    }
    if (actions.write !== undefined) node.writing = actions.write;
    const { entries } = node.disk;
    for (const request of actions.serve)
      this.put(node, { type: "served", request, entries: fitting(entries.slice(request.after, request.through), request.maxBytes) });
    if (actions.load !== undefined) this.put(node, { type: "loaded", entries: entries.slice(actions.load.from - 1, actions.load.through) });
    if (actions.fence !== undefined) node.turn = undefined;
  }

  tick(node: ClusterNode): void {
    this.#nowMs += TICK_MS / this.nodes.length;
    this.put(node, { type: "tick" });
  }

  deliver({ from, boot, storageId, to, message }: Waiting): void {
    const node = this.nodes[to - 1];
    if (node !== undefined) this.put(node, { type: "message", from, storageId, boot, message });
  }

  /** The write in flight is done. */
  persist(node: ClusterNode): void {
    if (node.writing === undefined) return;
    writeTo(node);
    this.put(node, { type: "written" });
  }

  /** Delivers and writes until nothing moves. */
  flow(): void {
    for (let steps = 0; ; steps++) {
      invariant(steps < 100_000, "a cluster without ticks comes to rest");
      const waiting = this.wires.shift();
      if (waiting !== undefined) {
        this.deliver(waiting);
        continue;
      }
      const writer = this.nodes.find((node) => node.writing !== undefined && !node.held);
      if (writer === undefined) return;
      this.persist(writer);
    }
  }

  /** A tick everywhere, and what follows from it. */
  settle(): void {
    for (const node of this.nodes) this.tick(node);
    this.flow();
  }

  /** From here to there nothing passes any more, and what was under way is lost. */
  cut(from: NodeId, to: NodeId): void {
    this.#cuts.add(`${from} ${to}`);
    this.wires = this.wires.filter((waiting) => !this.#isCut(waiting));
  }

  heal(): void {
    this.#cuts.clear();
  }

  #isCut({ from, to, message }: Waiting): boolean {
    return this.#cuts.has(`${from} ${to}`) || this.losing.has(message.type);
  }
}

function formatted(ids: readonly NodeId[], storageId: string): Disk {
  const { image, entries } = genesisOf(ids.map((id) => ({ id, storageId: `disk-${id}`, role: "voter", address: "", prio: 0 })));
  return { storageId, boot: 0, image, entries: [...entries] };
}

function writeTo(node: ClusterNode): void {
  const { writing, disk } = node;
  if (writing === undefined) return;
  for (const op of writing.ops) {
    if (op.type === "install") throw new TypeError("no snapshots here");
    if (op.type === "truncate") disk.entries.length = op.from - 1;
    else disk.entries.push(...op.entries);
  }
  disk.image = writing.image;
  node.writing = undefined;
}

/** From the beginning, as many as fit, but at least one. */
function fitting(entries: readonly Entry[], maxBytes: number): readonly Entry[] {
  let bytes = 0;
  let end = 0;
  for (const { record } of entries) {
    bytes += record.length;
    if (bytes > maxBytes && end > 0) break;
    end += 1;
  }
  return entries.slice(0, end);
}

function unused(): never {
  throw new TypeError("no snapshots here");
}
