/**
 * One node by itself: its replica, its disk and the writes between them, and what each input makes of them. A step is deterministic and knows nothing of other nodes, so
 * every pair of a local state and an input is stepped once, however many global states it occurs in.
 */
import type { NodeId } from "../../../src/base/ids.ts";
import { InvariantViolation } from "../../../src/base/invariant.ts";
import { BALLOT_ZERO, type Ballot, compareBallots, sameBallot } from "../../../src/paxos/core/ballot.ts";
import type { Effects, Input, RequestNumber } from "../../../src/paxos/core/effects.ts";
import { genesisOf } from "../../../src/paxos/core/genesis.ts";
import type { ProtocolMessage } from "../../../src/paxos/core/messages.ts";
import type { CoreOptions } from "../../../src/paxos/core/options.ts";
import { Violation } from "../../../src/testing/cluster/observed.ts";
import { ballotOf, messageText } from "../paxos-text.ts";
import { boot, type Disk, diskText, type Frozen, freeze, frozenText, storageOf, textOf, thaw, ticks } from "./frozen.ts";
import { begins, type Log, Logs, prefix } from "./logs.ts";

/** What happens at a node, without the deliveries. */
export type Act =
  /** So many batches, the oldest first, reach the disk as one write, and the node hears of it. */
  | { readonly type: "persist"; readonly batches: number }
  /** The node dies; of the batches on their way so many are on the disk. */
  | { readonly type: "crash"; readonly batches: number }
  | { readonly type: "restart" }
  | { readonly type: "campaign" }
  | { readonly type: "propose" }
  /** A round of heartbeats closes, and nobody has answered: what is due is sent again. */
  | { readonly type: "round" }
  /** So many rounds that a leader steps down, or a candidate gives up. What it sends meanwhile is lost. */
  | { readonly type: "give-up" };

/** How often each was done at this node: the bounds of a scope. */
export type Count = "campaigns" | "proposals" | "crashes" | "rounds" | "givenUp";
export type Counts = Readonly<Record<Count, number>>;

export interface Local {
  readonly id: number;
  /** The same for the same state with other counts. */
  readonly bare: number;
  readonly node: NodeId;
  readonly counts: Counts;
  readonly disk: Disk;
  /** Undefined while the node is down. */
  readonly up: Frozen | undefined;
  readonly boot: number;
}

export interface Message {
  readonly id: number;
  readonly from: NodeId;
  readonly boot: number;
  readonly to: NodeId;
  readonly message: ProtocolMessage;
}

export interface Outcome {
  readonly next: Local;
  readonly sends: readonly Message[];
  /** The ballot that it began to lead with. */
  readonly led: Ballot | undefined;
  /** Payloads of proposals that were answered with "not applied". */
  readonly refused: readonly string[];
}

export interface LocalOptions {
  readonly core: CoreOptions;
  readonly nodes: readonly NodeId[];
  /** Types of messages that are always lost. */
  readonly lost: ReadonlySet<ProtocolMessage["type"]>;
}

const NONE: Counts = { campaigns: 0, proposals: 0, crashes: 0, rounds: 0, givenUp: 0 };

export class Locals {
  readonly logs = new Logs();
  readonly #options: LocalOptions;
  readonly #byText = new Map<string, Local>();
  readonly #bare = new Map<string, number>();
  readonly #messages = new Map<string, Message>();
  readonly #outcomes: Map<number, Outcome | Violation>[] = [];
  readonly genesis: Log;
  /** Steps of the core. */
  steps = 0;

  constructor(options: LocalOptions) {
    this.#options = options;
    this.genesis = this.logs.of(this.#genesis().entries);
  }

  get size(): number {
    return this.#byText.size;
  }

  get messages(): number {
    return this.#messages.size;
  }

  start(node: NodeId): Local {
    const disk: Disk = { image: this.#genesis().image, log: this.genesis };
    return this.#restart({ id: -1, bare: -1, node, counts: NONE, disk, up: undefined, boot: 0 });
  }

  /** @throws Violation */
  act(local: Local, act: Act): Outcome {
    const key = ACTS.indexOf(act.type) * 0x100 + ("batches" in act ? act.batches : 0);
    return this.#once(local, -1 - key, () => this.#act(local, act));
  }

  /** @throws Violation */
  deliver(local: Local, { id, from, boot: number, message }: Message): Outcome {
    if (local.up === undefined) return unchanged(local);
    const input: Input = { type: "message", from, storageId: storageOf(from), boot: number, message };
    return this.#once(local, id, () => this.#step(local, input));
  }

  #once(local: Local, key: number, make: () => Outcome): Outcome {
    const known = this.#outcomes[local.id]?.get(key);
    if (known instanceof Violation) throw known;
    if (known !== undefined) return known;
    const outcomes = this.#outcomes[local.id] ?? new Map<number, Outcome | Violation>();
    this.#outcomes[local.id] = outcomes;
    this.steps += 1;
    try {
      const outcome = make();
      outcomes.set(key, outcome);
      return outcome;
    } catch (error) {
      const violation = asViolation(error);
      if (violation === undefined) throw error;
      outcomes.set(key, violation);
      throw violation;
    }
  }

  #act(local: Local, act: Act): Outcome {
    const { up, counts } = local;
    switch (act.type) {
      case "persist":
        return up === undefined ? unchanged(local) : this.#persist(local, up, act.batches);
      case "crash":
        return this.#crash(local, act.batches);
      case "restart":
        return { next: this.#restart(local), sends: [], led: undefined, refused: [] };
      case "campaign":
        return this.#step({ ...local, counts: { ...counts, campaigns: counts.campaigns + 1 } }, { type: "campaign" });
      case "propose": {
        const proposals = counts.proposals + 1;
        const id = (local.node * 1_000 + proposals) as RequestNumber;
        return this.#step({ ...local, counts: { ...counts, proposals } }, { type: "propose", id, payload: Buffer.from(payloadOf(id)) });
      }
      case "round":
        return this.#step({ ...local, counts: { ...counts, rounds: counts.rounds + 1 } }, ...ticks(1));
      default: {
        const { core } = this.#options;
        const enough = ticks(Math.max(core.checkQuorumTicks, core.campaignTicks) + core.heartbeatTicks + 1);
        return { ...this.#step({ ...local, counts: { ...counts, givenUp: counts.givenUp + 1 } }, ...enough), sends: [] };
      }
    }
  }

  #persist(local: Local, up: Frozen, count: number): Outcome {
    const disk = afterWrites(local, count, this.logs);
    const replica = thaw(up, local.node, this.#options.core);
    return this.#finish({ ...local, disk }, up, replica.step([{ type: "persisted", seq: count }], 1), {
      ...{ replica, disk },
      batches: up.batches.slice(count),
    });
  }

  #crash(local: Local, count: number): Outcome {
    const counts = { ...local.counts, crashes: local.counts.crashes + 1 };
    const next = this.#intern({ ...local, counts, disk: afterWrites(local, count, this.logs), up: undefined });
    return { next, sends: [], led: undefined, refused: [] };
  }

  #restart(local: Local): Local {
    const number = local.boot + 1;
    const replica = boot(local.disk, local.node, number, this.#options.core);
    const up = freeze(replica.state, this.logs, { disk: local.disk, batches: [] });
    return this.#intern({ ...local, up, boot: number });
  }

  #step(local: Local, ...inputs: readonly Input[]): Outcome {
    const { up, disk } = local;
    if (up === undefined) return unchanged(local);
    const replica = thaw(up, local.node, this.#options.core);
    return this.#finish(local, up, replica.step(inputs, 1), { replica, disk, batches: up.batches });
  }

  #finish(
    local: Local,
    before: Frozen,
    effects: Effects,
    { replica, disk, batches }: { readonly replica: ReturnType<typeof thaw> } & Pick<Frozen, "disk" | "batches">,
  ): Outcome {
    const { node } = local;
    if (effects.fence !== undefined) throw new Violation("fence", "a node does not stop by itself", { node, reason: effects.fence });
    const { persist } = effects;
    const waiting = persist === undefined ? batches : [...batches, { image: persist.image, ops: persist.ops }];
    const up = freeze(replica.state, this.logs, { disk, batches: waiting });
    assertFollows(node, before, up);
    assertDurable(node, disk, up, effects);
    assertOutcomes(node, up.log, effects);
    const served = effects.serve.map(({ to, id, after, through, decidedThrough }) => {
      const entries = disk.log.entries.slice(after, through);
      return { to, message: { type: "fetch-reply" as const, id, after, entries, decidedThrough } };
    });
    const sends = [...effects.sends, ...served].filter(({ message }) => this.#isHeard(message));
    const refused = effects.proposals.filter(({ type }) => type === "not-applied").map(({ id }) => payloadOf(id));
    return {
      led: effects.events.flatMap((event) => (event.type === "role" && event.role === "leader" ? [event.ballot] : []))[0],
      next: this.#intern({ ...local, disk, up }),
      sends: sends.map(({ to, message }) => this.#message({ from: node, boot: local.boot, to, message })),
      refused,
    };
  }

  /** A heartbeat that names no reign says nothing. */
  #isHeard(message: ProtocolMessage): boolean {
    return !this.#options.lost.has(message.type) && (message.type !== "heartbeat" || message.ballot !== undefined);
  }

  #intern(local: Local): Local {
    const { node, counts, up, disk, boot: number } = local;
    const state = up === undefined ? `down ${number} ${diskText(disk)}` : frozenText(up);
    const bareText = `${node} ${state}`;
    const bare = this.#bare.get(bareText) ?? this.#bare.size;
    this.#bare.set(bareText, bare);
    const text = `${bare} ${Object.values(counts).join()}`;
    const known = this.#byText.get(text);
    if (known !== undefined) return known;
    const fresh = { ...local, id: this.#byText.size, bare };
    this.#byText.set(text, fresh);
    return fresh;
  }

  #message(message: Omit<Message, "id">): Message {
    const text = `${message.from}.${message.boot} ${message.to} ${textOf(message.message)}`;
    const known = this.#messages.get(text);
    if (known !== undefined) return known;
    const fresh = { ...message, id: this.#messages.size };
    this.#messages.set(text, fresh);
    return fresh;
  }

  #genesis(): ReturnType<typeof genesisOf> {
    return genesisOf(this.#options.nodes.map((id) => ({ id, storageId: storageOf(id), role: "voter", address: "", prio: 0 })));
  }
}

const ACTS: readonly Act["type"][] = ["persist", "restart", "campaign", "propose", "round", "give-up", "crash"];

function payloadOf(id: RequestNumber): string {
  return `p${id}`;
}

function unchanged(local: Local): Outcome {
  return { next: local, sends: [], led: undefined, refused: [] };
}

function asViolation(error: unknown): Violation | undefined {
  if (error instanceof Violation) return error;
  return error instanceof InvariantViolation ? new Violation("invariant", error.message) : undefined;
}

/** The disk with so many of the batches on their way to it. */
function afterWrites(local: Local, count: number, logs: Logs): Disk {
  let { disk } = local;
  for (const { image, ops } of local.up?.batches.slice(0, count) ?? []) disk = written({ ...local, disk }, logs.after(disk.log, ops), image);
  return disk;
}

/** INV-5 and INV-7, on the disk. */
function written({ node, disk }: Pick<Local, "node" | "disk">, log: Log, image: Image): Disk {
  const before = disk.image;
  const details = { node, before: imageText(before), after: imageText(image) };
  if (compareBallots(image.promised, before.promised) < 0) throw new Violation("mono", "a durable promise never goes down", details);
  if (compareBallots(image.accepted, before.accepted) < 0) throw new Violation("mono", "a durable accepted ballot never goes down", details);
  if (compareBallots(image.accepted, image.promised) > 0) throw new Violation("mono", "nothing is accepted above the promise", details);
  if (image.decidedThrough < before.decidedThrough) throw new Violation("mono", "what is decided stays so", details);
  if ((compareBallots(image.accepted, before.accepted) || image.cut - before.cut || image.last - before.last) < 0)
    throw new Violation("mono", "a log gets shorter only by a new ballot or a counted cut", details);
  if (image.last !== log.last || image.lastChain !== (log.entry?.chain ?? 0))
    throw new Violation("disk", "an image names the end of its log", details);
  if (!begins(log, prefix(disk.log, before.decidedThrough))) throw new Violation("agreement", "what is decided is never changed", details);
  return { image, log };
}

type Image = Disk["image"];

function imageText({ promised, accepted, last, lastOrigin, decidedThrough }: Image): string {
  return `promised ${ballotOf(promised)} accepted ${ballotOf(accepted)} decided ${decidedThrough} last ${last}@${ballotOf(lastOrigin)}`;
}

function assertFollows(node: NodeId, before: Frozen, after: Frozen): void {
  if (after.memory.decidedThrough < before.memory.decidedThrough) throw new Violation("mono", "what is decided stays so", { node });
  if (!begins(after.log, prefix(before.log, before.memory.decidedThrough)))
    throw new Violation("agreement", "what is decided is never changed", { node, through: before.memory.decidedThrough });
  const [was, is] = [before.role, after.role];
  if (was.type === "leader" && is.type === "leader" && sameBallot(was.ballot, is.ballot) && !begins(after.log, before.log))
    throw new Violation("prefix", "a leader's log only grows", { node });
}

/** INV-8: what is said and applied now, the disk has now. */
function assertDurable(node: NodeId, { image, log }: Disk, after: Frozen, { sends, apply }: Effects): void {
  for (const { message } of sends) {
    if (!isCovered(message, image))
      throw new Violation("ack-durable", "what a message vouches for is on the disk", {
        node,
        message: messageText(message),
        disk: imageText(image),
      });
  }
  if (apply === undefined) return;
  if (apply.through > after.memory.decidedThrough) throw new Violation("apply-order", "only what is decided is applied", { node });
  if (apply.through > log.last || !begins(log, prefix(after.log, apply.through)))
    throw new Violation("apply-order", "only what the own disk has is applied", { node, through: apply.through });
}

/** D4. That nothing refused is chosen, the judge asks. */
function assertOutcomes(node: NodeId, log: Log, { proposals }: Effects): void {
  for (const result of proposals) {
    if (result.type !== "decided") continue;
    const there = log.entries[result.slot - 1];
    if (there === undefined || Buffer.from(there.payload).toString() !== payloadOf(result.id))
      throw new Violation("outcome", "what is told to be decided is decided", { node, slot: result.slot });
  }
}

function isCovered(m: ProtocolMessage, disk: Image): boolean {
  switch (m.type) {
    case "prepare":
    case "sync":
    case "accept":
      return sameBallot(disk.promised, m.ballot);
    case "promise":
      return (
        sameBallot(disk.promised, m.ballot) &&
        sameBallot(disk.accepted, m.accepted) &&
        disk.last === m.last &&
        sameBallot(disk.lastOrigin, m.lastOrigin)
      );
    case "sync-request":
      return (
        sameBallot(disk.promised, m.ballot) && disk.last >= m.last && (sameBallot(m.accepted, BALLOT_ZERO) || sameBallot(disk.accepted, m.accepted))
      );
    case "accepted":
      return sameBallot(disk.accepted, m.ballot) && disk.last >= m.through;
    default:
      return true;
  }
}
