/**
 * A cluster by hand: nothing moves unless a scenario says so. Messages wait on their links in order, writes wait on their disks, and ticks come one at a time. The turn and the core
 * are the real ones. `run` in a scenario file names what it can do.
 */
import type { NodeId, Slot } from "../../src/base/ids.ts";
import { invariant } from "../../src/base/invariant.ts";
import { createPrng } from "../../src/base/prng.ts";
import type { RequestNumber } from "../../src/paxos/core/effects.ts";
import type { Entry } from "../../src/paxos/core/entry.ts";
import { genesisOf } from "../../src/paxos/core/genesis.ts";
import type { Image, PersistBatch } from "../../src/paxos/core/image.ts";
import type { PaxosMessage } from "../../src/paxos/core/messages.ts";
import { type CoreOptions, resolveCoreOptions } from "../../src/paxos/core/options.ts";
import { type Actions, Turn } from "../../src/paxos/turn.ts";
import { ballotOf, entryText, messageText } from "./paxos-text.ts";

interface Disk {
  readonly storageId: string;
  boot: number;
  image: Image;
  entries: Entry[];
}

interface Node {
  readonly id: NodeId;
  disk: Disk;
  turn: Turn | undefined;
  writing: PersistBatch | undefined;
  /** Writes wait for `persist`. */
  held: boolean;
  readonly applied: string[];
}

interface Waiting {
  readonly from: Node;
  readonly boot: number;
  readonly storageId: string;
  readonly to: number;
  readonly message: PaxosMessage;
}

const TICK_MS = 10;
const QUIET = new Set(["heartbeat", "heartbeat-reply"]);

export class PaxosWorld {
  #nodes: Node[] = [];
  #wires: Waiting[] = [];
  readonly #cuts = new Set<string>();
  #options = resolveCoreOptions();
  #nowMs = 0;
  #requests = 0;
  readonly #labels = new Map<number, string>();
  #output: string[] = [];
  #tracing = false;

  /** One command; returns what there is to see. */
  run([name = "", ...args]: readonly string[]): string {
    this.#output = [];
    const command = this.#commands[name];
    if (command === undefined) throw new TypeError(`no command ${name}: there are ${Object.keys(this.#commands).join(", ")}`);
    command(...args);
    return this.#output.join("\n");
  }

  readonly #commands: Readonly<Record<string, (...args: string[]) => void>> = {
    /** cluster N [option=value ...] */
    cluster: (count = "3", ...options) => this.#create(Number(count), options),
    /** trace on|off: tells of every message but heartbeats when it leaves. */
    trace: (how) => {
      this.#tracing = how === "on";
    },
    /** tick NODE [N]: time passes at one node alone, nothing is delivered. */
    tick: (node, count = "1") => {
      for (let tick = 0; tick < Number(count); tick++) this.#tick(this.#node(node));
    },
    /** settle [N]: ticks everywhere, N times, delivering and writing whatever there is. */
    settle: (count = "1") => {
      for (let tick = 0; tick < Number(count); tick++) {
        for (const node of this.#nodes) this.#tick(node);
        this.#flow();
      }
    },
    /** flow: delivers and writes until nothing moves. */
    flow: () => this.#flow(),
    /** elect NODE: time passes faster there, until it leads. */
    elect: (node) => this.#elect(this.#node(node)),
    /** deliver FROM TO [TYPE]: what waits on that link, without what it leads to. */
    deliver: (from, to, type) => {
      for (const waiting of this.#take(from, to, type)) this.#deliver(waiting);
    },
    /** drop FROM TO [TYPE] */
    drop: (from, to, type) => {
      this.#take(from, to, type);
    },
    /** double FROM TO [TYPE]: delivers a copy and keeps what waits. */
    double: (from, to, type) => {
      for (const waiting of this.#find(from, to, type)) this.#deliver(waiting);
    },
    /** cut A B, cut A B one-way: nothing passes any more, and what was under way is lost. */
    cut: (from, to, how) => {
      this.#cuts.add(`${from} ${to}`);
      if (how !== "one-way") this.#cuts.add(`${to} ${from}`);
      this.#wires = this.#wires.filter((waiting) => !this.#isCut(waiting));
    },
    /** isolate A: from all. */
    isolate: (node) => {
      for (const { id } of this.#nodes) if (`${id}` !== node) this.#commands["cut"]?.(`${node}`, `${id}`);
    },
    heal: () => this.#cuts.clear(),
    /** hold NODE: its writes wait. release NODE: they do so no longer. persist NODE: the one that waits is done. */
    hold: (node) => {
      this.#node(node).held = true;
    },
    release: (node) => {
      this.#node(node).held = false;
    },
    persist: (node) => this.#persist(this.#node(node)),
    /** crash NODE [keeping]: the write in flight is lost, or kept. */
    crash: (node, how) => {
      const crashed = this.#node(node);
      if (how === "keeping") this.#write(crashed);
      crashed.writing = undefined;
      crashed.turn = undefined;
    },
    restart: (node) => this.#start(this.#node(node)),
    /** wipe NODE: an empty disk, formatted anew. */
    wipe: (node) => {
      const wiped = this.#node(node);
      wiped.disk = { ...this.#genesis(), storageId: `${wiped.disk.storageId}'`, boot: 0 };
    },
    /** rollback NODE: its disk as `save NODE` found it. */
    save: (node) => {
      const { disk } = this.#node(node);
      this.#saved = { ...disk, entries: [...disk.entries] };
    },
    rollback: (node) => {
      invariant(this.#saved !== undefined, "a disk was saved");
      this.#node(node).disk = { ...this.#saved, entries: [...this.#saved.entries] };
    },
    fail: (node) => this.#put(this.#node(node), { type: "write-failed", reason: "EIO" }),
    /** propose NODE VALUE ... */
    propose: (node, ...values) => {
      const { turn } = this.#node(node);
      for (const value of values) turn?.put({ type: "propose", id: this.#request(value), payload: new TextEncoder().encode(value) });
      this.#turn(this.#node(node));
    },
    abandon: (node, value) => {
      const id = [...this.#labels].find(([, label]) => label === value)?.[0];
      this.#put(this.#node(node), { type: "abandon", id: id as RequestNumber });
    },
    read: (node, label = "read") => this.#put(this.#node(node), { type: "read", id: this.#request(label) }),
    confirm: (node, label = "confirm") => {
      const leading = this.#node(node).turn?.replica.leading;
      invariant(leading !== undefined, "a node that is asked to confirm leads");
      this.#put(this.#node(node), { type: "confirm", id: this.#request(label), epoch: this.#epochs.get(Number(node)) ?? (0n as never) });
    },
    /** lost NODE PEER: the connection to the peer's process broke. */
    lost: (node, peer) => this.#put(this.#node(node), { type: "connection-lost", peer: Number(peer) as NodeId, boot: this.#node(peer).disk.boot }),
    /** show [NODE ...] */
    show: (...nodes) => {
      for (const node of this.#nodes) if (nodes.length === 0 || nodes.includes(`${node.id}`)) this.#output.push(this.#describe(node));
    },
    /** wires: what waits, heartbeats left out. */
    wires: () => {
      for (const { from, to, message } of this.#wires)
        if (!QUIET.has(message.type)) this.#output.push(`${from.id} -> ${to}: ${messageText(message)}`);
    },
  };

  #saved: Disk | undefined;
  readonly #epochs = new Map<number, never>();

  #create(count: number, options: readonly string[]): void {
    const given = Object.fromEntries(options.map((option) => option.split("=")).map(([name, value]) => [name, Number(value)]));
    this.#options = resolveCoreOptions({
      heartbeatTicks: 2,
      electionTicks: 12,
      checkQuorumTicks: 12,
      graceTicks: 12,
      retransmitTicks: 6,
      ...given,
    } as Partial<CoreOptions>);
    this.#nodes = Array.from({ length: count }, (_, index) => {
      const id = (index + 1) as NodeId;
      return {
        id,
        disk: { storageId: `disk-${id}`, boot: 0, image: undefined as never, entries: [] },
        turn: undefined,
        writing: undefined,
        held: false,
        applied: [],
      };
    });
    for (const node of this.#nodes) {
      node.disk = { ...this.#genesis(), storageId: node.disk.storageId, boot: 0 };
      this.#start(node);
    }
  }

  #genesis(): Pick<Disk, "image" | "entries"> {
    const members = this.#nodes.map(({ id }) => ({ id, storageId: `disk-${id}`, role: "voter", address: "", prio: 0 }) as const);
    const { image, entries } = genesisOf(members);
    return { image, entries: [...entries] };
  }

  #start(node: Node): void {
    const { disk } = node;
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

  #node(text: string | undefined): Node {
    const node = this.#nodes[Number(text) - 1];
    invariant(node !== undefined, "a scenario names a node that there is", { text });
    return node;
  }

  #request(label: string): RequestNumber {
    this.#requests += 1;
    this.#labels.set(this.#requests, label);
    return this.#requests as RequestNumber;
  }

  #put(node: Node, input: Parameters<Turn["put"]>[0]): void {
    node.turn?.put(input);
    this.#turn(node);
  }

  #tick(node: Node): void {
    this.#nowMs += TICK_MS / this.#nodes.length;
    this.#put(node, { type: "tick" });
  }

  #turn(node: Node): void {
    const { turn } = node;
    if (turn === undefined) return;
    const actions = turn.run(this.#nowMs);
    this.#tell(node, actions);
    for (const { to, message } of actions.sends) {
      const waiting = { from: node, boot: node.disk.boot, storageId: node.disk.storageId, to, message };
      if (this.#tracing && !QUIET.has(message.type)) this.#output.push(`${node.id} -> ${to}: ${messageText(message)}`);
      if (!this.#isCut(waiting)) this.#wires.push(waiting);
    }
    if (actions.write !== undefined) node.writing = actions.write;
    for (const request of actions.serve) {
      this.#put(node, { type: "served", request, entries: node.disk.entries.slice(request.after, request.through) });
    }
    if (actions.load !== undefined)
      this.#put(node, { type: "loaded", entries: node.disk.entries.slice(actions.load.from - 1, actions.load.through) });
    if (actions.fence !== undefined) node.turn = undefined;
  }

  #tell(node: Node, actions: Actions): void {
    const say = (text: string): unknown => this.#output.push(`${node.id}: ${text}`);
    for (const event of actions.events) {
      if (event.type === "role") say(`${event.role} ${ballotOf(event.ballot)} (${event.reason})`);
      else if (this.#tracing && !QUIET.has(event.message)) say(`drops ${event.message} of ${event.from}: ${event.reason}`);
      else if (event.reason === "identity") say(`drops ${event.message} of ${event.from}: ${event.reason}`);
    }
    for (const { id, outcome } of actions.settled) {
      const label = this.#labels.get(id) ?? id;
      say(outcome.type === "applied" ? `${label} is applied at ${outcome.slot}` : `${label} is ${outcome.type}: ${outcome.reason}`);
    }
    for (const { id, ok, through } of actions.answered)
      say(`${this.#labels.get(id) ?? id} ${ok ? `ok${through === undefined ? "" : ` at ${through}`}` : "failed"}`);
    if (actions.leadership?.role === "leader") this.#epochs.set(node.id, actions.leadership.epoch as never);
    if (actions.fence !== undefined) say(`FENCED: ${actions.fence}`);
  }

  #flow(): void {
    for (let steps = 0; ; steps++) {
      invariant(steps < 100_000, "a scenario comes to rest");
      const waiting = this.#wires.shift();
      if (waiting !== undefined) {
        this.#deliver(waiting);
        continue;
      }
      const writer = this.#nodes.find((node) => node.writing !== undefined && !node.held && node.turn !== undefined);
      if (writer === undefined) return;
      this.#persist(writer);
    }
  }

  #elect(node: Node): void {
    for (let tick = 0; tick < 400; tick++) {
      if (tick % 3 === 0) for (const other of this.#nodes) if (other !== node) this.#tick(other);
      this.#tick(node);
      this.#flow();
      if (node.turn?.replica.leading !== undefined) return;
    }
    this.#output.push(`${node.id} was not elected`);
  }

  #deliver({ from, boot, storageId, to, message }: Waiting): void {
    const node = this.#nodes[to - 1];
    if (node?.turn === undefined) return;
    this.#put(node, { type: "message", from: from.id, storageId, boot, message });
  }

  #find(from = "", to = "", type?: string): readonly Waiting[] {
    return this.#wires.filter(
      (waiting) => `${waiting.from.id}` === from && `${waiting.to}` === to && (type === undefined || waiting.message.type === type),
    );
  }

  #take(from?: string, to?: string, type?: string): readonly Waiting[] {
    const taken = this.#find(from, to, type);
    this.#wires = this.#wires.filter((waiting) => !taken.includes(waiting));
    return taken;
  }

  #isCut({ from, to }: Waiting): boolean {
    return this.#cuts.has(`${from.id} ${to}`);
  }

  #persist(node: Node): void {
    if (node.writing === undefined) return;
    this.#write(node);
    this.#put(node, { type: "written" });
  }

  #write(node: Node): void {
    for (const op of node.writing?.ops ?? []) {
      if (op.type === "truncate") node.disk.entries.length = op.from - 1;
      else node.disk.entries.push(...op.entries);
    }
    if (node.writing !== undefined) node.disk.image = node.writing.image;
    node.writing = undefined;
  }

  #describe(node: Node): string {
    if (node.turn === undefined) return `${node.id}: down; disk promised ${ballotOf(node.disk.image.promised)} log ${logText(node.disk.entries)}`;
    const { role, image } = node.turn.replica.inspect();
    const log: Entry[] = [];
    for (let at = 1; at <= image.last; at++) {
      const entry = node.turn.replica.cachedEntry(at as Slot) ?? node.disk.entries[at - 1];
      if (entry !== undefined) log.push(entry);
    }
    const ballots = `promised ${ballotOf(image.promised)} accepted ${ballotOf(image.accepted)}`;
    return `${node.id}: ${role} ${ballots} decided ${image.decidedThrough} log ${logText(log)}${node.applied.length === 0 ? "" : ` applied ${node.applied.join("")}`}`;
  }
}

function logText(entries: readonly Entry[]): string {
  return entries.slice(1).map(entryText).join(" ") || "-";
}

function unused(): never {
  throw new TypeError("no snapshots here");
}
