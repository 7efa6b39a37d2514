/** Nodes in one process, on a network, disks and a time of a test's making. */
import { decodeUtf8Strict, encodeUtf8 } from "../../src/base/bytes.ts";
import type { NodeId } from "../../src/base/ids.ts";
import type { LogFields, Logger } from "../../src/base/logger.ts";
import { createPrng } from "../../src/base/prng.ts";
import type { RestoreSink, SnapshotView, StateMachine } from "../../src/log.ts";
import { PaxosNode } from "../../src/paxos/node.ts";
import type { PaxosNodeOptions } from "../../src/paxos/node-options.ts";
import type { LogStorage } from "../../src/paxos/storage/log-storage.ts";
import { openWal } from "../../src/paxos/storage/wal.ts";
import { MemoryNetwork } from "../../src/paxos/transport/memory.ts";
import { FaultyDisk, type PowerCut } from "../../src/testing/faulty-disk.ts";
import { IdleTimers } from "./peer-timers.ts";

/** Keeps every command, and answers with how many there are. */
export class ListMachine implements StateMachine {
  readonly commands: string[] = [];

  apply(command: Uint8Array): Uint8Array {
    const text = decodeUtf8Strict(command) ?? "";
    if (text === "throw") throw new Error("the host's machine has a bug");
    this.commands.push(text);
    return encodeUtf8(String(this.commands.length));
  }

  /** A chunk for each command: what is applied later is not in it. */
  capture(): SnapshotView {
    const chunks = this.commands.map((command) => encodeUtf8(command));
    return { chunks: () => chunks, release: () => undefined };
  }

  stage(): RestoreSink {
    const commands: string[] = [];
    return {
      write: (chunk) => void commands.push(decodeUtf8Strict(chunk) ?? ""),
      finish: () => ({
        install: () => {
          this.commands.length = 0;
          this.commands.push(...commands);
        },
        discard: () => undefined,
      }),
      discard: () => undefined,
    };
  }
}

export interface LogLine extends LogFields {
  readonly node: number;
  readonly level: "debug" | "info" | "warn" | "error";
  readonly text: string;
}

export interface RunningNode {
  readonly node: PaxosNode;
  readonly machine: ListMachine;
  readonly storage: LogStorage;
}

/** Time in which the process can sleep. */
class SleepyTimers extends IdleTimers {
  #slept = 0;

  override now(): number {
    return super.now() + this.#slept;
  }

  sleep(ms: number): void {
    this.#slept += ms;
  }
}

export class NodeWorld {
  readonly timers = new SleepyTimers();
  readonly network: MemoryNetwork;
  readonly lines: LogLine[] = [];
  readonly ids: readonly NodeId[];
  readonly #disks = new Map<NodeId, FaultyDisk>();
  readonly #running = new Map<NodeId, RunningNode>();

  /** @param delayMaxMs of a message, at most. */
  constructor(nodes = 3, delayMaxMs = 0) {
    this.network = new MemoryNetwork({ timers: this.timers, delayMaxMs });
    this.ids = Array.from({ length: nodes }, (_, index) => (index + 1) as NodeId);
  }

  get peers(): readonly { readonly id: number; readonly address: string }[] {
    return this.ids.map((id) => ({ id, address: addressOf(id) }));
  }

  disk(id: number): FaultyDisk {
    const disk = this.#disks.get(id as NodeId) ?? new FaultyDisk();
    this.#disks.set(id as NodeId, disk);
    return disk;
  }

  /** Takes the place of a node's disk. */
  setDisk(id: number, disk: FaultyDisk): void {
    this.#disks.set(id as NodeId, disk);
  }

  isRunning(id: number): boolean {
    return this.#running.has(id as NodeId);
  }

  /** It has stopped by itself. */
  forget(id: number): void {
    this.#running.delete(id as NodeId);
  }

  running(id: number): RunningNode {
    const running = this.#running.get(id as NodeId);
    if (running === undefined) throw new Error(`node ${id} does not run`);
    return running;
  }

  async startAll(): Promise<void> {
    for (const id of this.ids) await this.start(id);
  }

  async start(id: number, options: Partial<PaxosNodeOptions> = {}): Promise<RunningNode> {
    const machine = options.machine instanceof ListMachine ? options.machine : new ListMachine();
    const storage = await openWal({ directory: "/data", node: id as NodeId, disk: this.disk(id), segmentBytes: 65_536 });
    const node = await PaxosNode.start({
      storage,
      machine,
      peers: this.peers,
      transport: async (claim, receiver) => this.network.open({ claim, receiver, address: addressOf(id) }),
      timers: this.timers,
      random: createPrng(id),
      logger: this.#logger(id),
      ...options,
    });
    const running = { node, machine, storage };
    this.#running.set(id as NodeId, running);
    return running;
  }

  /** Cuts its power. The next start finds what that left. */
  crash(id: number, cut: PowerCut = "drops"): void {
    const { node } = this.running(id);
    this.network.kill(addressOf(id));
    this.#disks.set(id as NodeId, this.disk(id).powerCut(cut));
    this.#running.delete(id as NodeId);
    void node.close().catch(() => undefined); // nobody hears it, and its disk is dead; it only stops to run
  }

  /** The node that leads, and whose host knows it, once there is one. */
  async leader(): Promise<RunningNode> {
    return this.until("somebody leads", () => [...this.#running.values()].find(({ node }) => node.status().epoch !== undefined));
  }

  /** Proposes at whoever leads, until it is applied. */
  async apply(text: string): Promise<number> {
    for (let attempt = 0; attempt < 100; attempt++) {
      const { node } = await this.leader();
      const outcome = await node.propose(encodeUtf8(text));
      if (outcome.type === "applied") return outcome.slot;
    }
    throw new Error(`"${text}" was never applied`);
  }

  /** What `look` finds, once it does. */
  async until<T>(what: string, look: () => T | undefined | false): Promise<T> {
    const endsAt = this.timers.now() + 120_000;
    for (;;) {
      const found = look();
      if (found !== undefined && found !== false) return found;
      if (this.timers.now() > endsAt) throw new Error(`it never came about that ${what}; ${this.#report()}`);
      await new Promise((resolve) => {
        this.timers.after(1, () => resolve(undefined));
      });
    }
  }

  async pass(ms: number): Promise<void> {
    const endsAt = this.timers.now() + ms;
    await this.until("time passes", () => this.timers.now() >= endsAt);
  }

  async end(): Promise<void> {
    for (const { node } of this.#running.values()) await node.close();
  }

  #report(): string {
    const nodes = [...this.#running.values()].map(({ node }) =>
      JSON.stringify(node.status(), (_, value) => (typeof value === "bigint" ? `${value}` : value)),
    );
    return `${nodes.join("\n")}\n${this.lines.map((line) => JSON.stringify(line, (_, value) => (typeof value === "bigint" ? `${value}` : value))).join("\n")}`;
  }

  #logger(node: number): Logger {
    const at = (level: LogLine["level"]) => (fields: LogFields, text: string) => {
      this.lines.push({ ...fields, node, level, text });
    };
    return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  }
}

function addressOf(id: number): string {
  return `node-${id}:7000`;
}
