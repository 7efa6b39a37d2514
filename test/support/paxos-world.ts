/**
 * A cluster by hand, for scenarios: nothing moves unless a command says so. `#commands` is the language.
 */
import type { Epoch } from "../../src/base/epoch.ts";
import type { NodeId } from "../../src/base/ids.ts";
import { invariant } from "../../src/base/invariant.ts";
import { epochOf } from "../../src/paxos/core/ballot.ts";
import type { DiskRoom, RequestNumber } from "../../src/paxos/core/effects.ts";
import type { CoreOptions } from "../../src/paxos/core/options.ts";
import type { Actions, TurnInput } from "../../src/paxos/turn.ts";
import { type ClusterNode, type Disk, PaxosCluster, type Waiting } from "./paxos-cluster.ts";
import { ballotOf, describe, entryText, messageText } from "./paxos-text.ts";

const QUIET = new Set(["heartbeat", "heartbeat-reply"]);
const ENCODER = new TextEncoder();

export class PaxosWorld {
  #cluster = new PaxosCluster({ nodes: 1 });
  #requests = 0;
  readonly #labels = new Map<number, string>();
  readonly #epochs = new Map<NodeId, Epoch>();
  readonly #kept = new Map<string, readonly Waiting[]>();
  #saved: Disk | undefined;
  #output: string[] = [];
  #tracing = "off";

  /** One command; returns what there is to see. */
  run([name = "", ...args]: readonly string[]): string {
    this.#output = [];
    const command = this.#commands[name];
    if (command === undefined) throw new TypeError(`no command ${name}: there are ${Object.keys(this.#commands).join(", ")}`);
    command(...args);
    return this.#output.join("\n");
  }

  readonly #commands: Readonly<Record<string, (...args: string[]) => void>> = {
    /** cluster N [option=value ...]: a new one; another that was there is gone. */
    cluster: (count = "3", ...options) => this.#create(Number(count), options),
    /** trace on|all|off: tells of every message when it leaves, of heartbeats too with `all`, and of what is dropped. */
    trace: (how = "on") => {
      this.#tracing = how;
    },

    // Time.
    /** tick NODE [N]: time passes at one node alone, nothing is delivered. */
    tick: (node, count = "1") => {
      for (let tick = 0; tick < Number(count); tick++) this.#cluster.tick(this.#node(node));
    },
    /** settle [N]: ticks everywhere, N times, delivering and writing whatever there is. */
    settle: (count = "1") => {
      for (let tick = 0; tick < Number(count); tick++) this.#cluster.settle();
    },
    /** flow: delivers and writes until nothing moves. */
    flow: () => this.#cluster.flow(),
    /** elect NODE: time passes faster there, until it leads. */
    elect: (node) => this.#hurry(this.#node(node), ({ turn }) => turn?.replica.leading !== undefined, "was not elected"),
    /** campaign NODE: the same, until its campaign is on its way to the disk; nothing of it is delivered. */
    campaign: (node) => this.#hurry(this.#node(node), ({ turn }) => turn?.replica.inspect().role === "candidate", "did not campaign"),

    // The network.
    /** deliver FROM TO [TYPE]: what waits on that link, without what it leads to. */
    deliver: (from, to, type) => {
      for (const waiting of this.#take(from, to, type)) this.#cluster.deliver(waiting);
    },
    /** drop FROM TO [TYPE] */
    drop: (from, to, type) => {
      this.#take(from, to, type);
    },
    /** lose TYPE ...: messages of these types, and of no others, are lost from here on. */
    lose: (...types) => {
      this.#cluster.losing = new Set(types);
    },
    /** keep NAME FROM TO [TYPE]: a copy of what waits, for `replay`. */
    keep: (name = "", from, to, type) => {
      this.#kept.set(name, this.#find(from, to, type));
    },
    /** replay NAME: what was kept comes again, or late if it was dropped. */
    replay: (name = "") => {
      const kept = this.#kept.get(name) ?? [];
      invariant(kept.length > 0, "what is replayed was kept", { name });
      for (const waiting of kept) this.#cluster.deliver(waiting);
    },
    /** cut A B, cut A B one-way: nothing passes any more, and what was under way is lost. */
    cut: (from, to, how) => this.#cut(this.#node(from).id, this.#node(to).id, how),
    /** isolate A ...: each of them from all. */
    isolate: (...nodes) => {
      for (const node of nodes) for (const { id } of this.#cluster.nodes) this.#cut(this.#node(node).id, id);
    },
    /** links A-B B-C ...: these alone pass, both ways. */
    links: (...links) => {
      this.#cluster.heal();
      for (const { id: a } of this.#cluster.nodes) {
        for (const { id: b } of this.#cluster.nodes) if (a < b && !links.includes(`${a}-${b}`)) this.#cut(a, b);
      }
    },
    heal: () => this.#cluster.heal(),
    /** lost NODE PEER [earlier]: the connection to the peer's process broke, or to the one before it. */
    lost: (node, peer, which) => {
      const { id, disk } = this.#node(peer);
      this.#put(this.#node(node), { type: "connection-lost", peer: id, boot: which === "earlier" ? disk.boot - 1 : disk.boot });
    },

    // Disks and processes.
    /** hold NODE: its writes wait. release NODE: they do so no longer. persist NODE: the one that waits is done. fail NODE: it failed. */
    hold: (node) => {
      this.#node(node).held = true;
    },
    release: (node) => {
      this.#node(node).held = false;
    },
    /** room NODE enough|low|none: what its disk can still take. */
    room: (node, room) => this.#put(this.#node(node), { type: "disk-room", room: room as DiskRoom }),
    persist: (node) => this.#cluster.persist(this.#node(node)),
    fail: (node) => this.#put(this.#node(node), { type: "write-failed", reason: "EIO" }),
    /** crash NODE [keeping]: the write in flight is lost, or kept. */
    crash: (node, how) => this.#cluster.crash(this.#node(node), how === "keeping" ? "kept" : "lost"),
    restart: (node) => this.#cluster.start(this.#node(node)),
    /** wipe NODE: an empty disk, formatted anew. */
    wipe: (node) => this.#cluster.wipe(this.#node(node)),
    /** save NODE; rollback NODE [boot]: its disk as it was saved, but for its boot count if so told. */
    save: (node) => {
      const { disk } = this.#node(node);
      this.#saved = { ...disk, entries: [...disk.entries] };
    },
    rollback: (node, how) => {
      invariant(this.#saved !== undefined, "a disk was saved");
      const { disk } = this.#node(node);
      this.#node(node).disk = { ...this.#saved, entries: [...this.#saved.entries], boot: how === "boot" ? disk.boot : this.#saved.boot };
    },

    // Requests.
    /** propose NODE VALUE ...: in one turn. */
    propose: (node, ...values) =>
      this.#put(
        this.#node(node),
        ...values.map((value): TurnInput => ({ type: "propose", id: this.#request(value), payload: ENCODER.encode(value) })),
      ),
    abandon: (node, value) => {
      const id = [...this.#labels].find(([, label]) => label === value)?.[0];
      this.#put(this.#node(node), { type: "abandon", id: id as RequestNumber });
    },
    /** read NODE [NAME]; confirm NODE [NAME]: of the reign that NODE leads, or was last told that it leads. */
    read: (node, label = "read") => this.#put(this.#node(node), { type: "read", id: this.#request(label) }),
    confirm: (node, label = "confirm") => {
      const asked = this.#node(node);
      const leading = asked.turn?.replica.leading;
      const epoch = leading === undefined ? this.#epochs.get(asked.id) : epochOf(leading.ballot);
      invariant(epoch !== undefined, "a node that is asked to confirm has led");
      this.#put(asked, { type: "confirm", id: this.#request(label), epoch });
    },

    // What there is to see.
    /** show [NODE ...] */
    show: (...nodes) => this.#each(nodes, describe),
    /** status [NODE ...]: who leads, and who is happy with it. */
    status: (...nodes) => this.#each(nodes, statusOf),
    /** disk [NODE ...] */
    disk: (...nodes) => this.#each(nodes, ({ id, disk }) => `${id}: ${diskText(disk)}`),
    /** wires: what waits, heartbeats left out. */
    wires: () => {
      for (const waiting of this.#cluster.wires) if (!QUIET.has(waiting.message.type)) this.#output.push(wireText(waiting));
    },
  };

  #create(nodes: number, options: readonly string[]): void {
    const given: Partial<CoreOptions> = Object.fromEntries(options.map((option) => option.split("=")).map(([name, value]) => [name, Number(value)]));
    this.#cluster = new PaxosCluster({
      nodes,
      options: given,
      observer: {
        sent: (waiting, lost) => {
          if (this.#tells(waiting.message.type)) this.#output.push(`${wireText(waiting)}${lost ? " (lost)" : ""}`);
        },
        turned: (node, actions) => this.#tell(node, actions),
      },
    });
    this.#epochs.clear();
    this.#kept.clear();
  }

  #tells(type: string): boolean {
    return this.#tracing === "all" || (this.#tracing === "on" && !QUIET.has(type));
  }

  #tell({ id: node }: ClusterNode, actions: Actions): void {
    const say = (text: string): unknown => this.#output.push(`${node}: ${text}`);
    for (const event of actions.events) {
      if (event.type === "role") say(`${event.role} ${ballotOf(event.ballot)} (${event.reason})`);
      else if (this.#tells(event.message)) say(`drops ${event.message} of ${event.from}: ${event.reason}`);
    }
    for (const { id, outcome } of actions.settled) {
      const label = this.#labels.get(id) ?? id;
      const ask = outcome.type === "not-applied" && outcome.leader !== undefined && outcome.leader !== node ? `, ask ${outcome.leader}` : "";
      say(outcome.type === "applied" ? `${label} is applied at ${outcome.slot}` : `${label} is ${outcome.type}: ${outcome.reason}${ask}`);
    }
    for (const { id, ok, through } of actions.answered)
      say(`${this.#labels.get(id) ?? id} ${ok ? `ok${through === undefined ? "" : ` at ${through}`}` : "failed"}`);
    if (actions.leadership?.role === "leader") this.#epochs.set(node, actions.leadership.epoch);
    if (actions.fence !== undefined) say(`FENCED: ${actions.fence}`);
  }

  #node(text: string | undefined): ClusterNode {
    const node = this.#cluster.nodes[Number(text) - 1];
    invariant(node !== undefined, "a scenario names a node that there is", { text });
    return node;
  }

  #each(nodes: readonly string[], textOf: (node: ClusterNode) => string): void {
    for (const node of this.#cluster.nodes) if (nodes.length === 0 || nodes.includes(`${node.id}`)) this.#output.push(textOf(node));
  }

  #request(label: string): RequestNumber {
    this.#requests += 1;
    this.#labels.set(this.#requests, label);
    return this.#requests as RequestNumber;
  }

  #put(node: ClusterNode, ...inputs: readonly TurnInput[]): void {
    this.#cluster.put(node, ...inputs);
  }

  #hurry(node: ClusterNode, isThere: (node: ClusterNode) => boolean, otherwise: string): void {
    for (let tick = 0; tick < 400; tick++) {
      if (tick % 3 === 0) for (const other of this.#cluster.nodes) if (other !== node) this.#cluster.tick(other);
      this.#cluster.tick(node);
      if (isThere(node)) return;
      this.#cluster.flow();
      if (isThere(node)) return;
    }
    this.#output.push(`${node.id} ${otherwise}`);
  }

  #cut(from: NodeId, to: NodeId, how?: string): void {
    this.#cluster.cut(from, to);
    if (how !== "one-way") this.#cluster.cut(to, from);
  }

  #find(from = "", to = "", type?: string): readonly Waiting[] {
    return this.#cluster.wires.filter(
      (waiting) => `${waiting.from}` === from && `${waiting.to}` === to && (type === undefined || waiting.message.type === type),
    );
  }

  #take(from?: string, to?: string, type?: string): readonly Waiting[] {
    const taken = this.#find(from, to, type);
    this.#cluster.wires = this.#cluster.wires.filter((waiting) => !taken.includes(waiting));
    return taken;
  }
}

function statusOf({ id, turn }: ClusterNode): string {
  if (turn === undefined) return `${id}: down`;
  const { role, ballot, happy } = turn.replica.inspect();
  const of = ballot === undefined ? " of nobody" : role === "follower" ? ` of ${ballotOf(ballot)}` : ` ${ballotOf(ballot)}`;
  return `${id}: ${role}${of}${happy ? ", happy" : ""}`;
}

function diskText({ storageId, boot, image, entries }: Disk): string {
  const { promised, accepted, decidedThrough, cut } = image;
  const ballots = `promised ${ballotOf(promised)} accepted ${ballotOf(accepted)}`;
  return `${storageId} boot ${boot} ${ballots} decided ${decidedThrough}${cut === 0 ? "" : ` cut ${cut}`} log ${entries.map(entryText).join(" ")}`;
}

function wireText({ from, to, message }: Waiting): string {
  return `${from} -> ${to}: ${messageText(message)}`;
}
