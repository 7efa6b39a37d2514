/**
 * Processes that form clusters, over disks that keep what was written and a net that loses, doubles and reorders: nothing happens but by a call. Whatever happens, the world
 * knows of every disk what it was ever pledged to, and throws `InvariantViolation` where somebody says more than that, or forms what was not pledged.
 */
import type { NodeId } from "../../src/base/ids.ts";
import { invariant } from "../../src/base/invariant.ts";
import { type Charter, membersOf, sameCharter } from "../../src/paxos/core/charter.ts";
import type { Configuration } from "../../src/paxos/core/configuration.ts";
import { answerForming, Forming } from "../../src/paxos/core/forming.ts";
import type { FormingEffects, FormingInput, FormingOutgoing, FormingPeer } from "../../src/paxos/core/forming-effects.ts";
import { resolvePeerList } from "../../src/paxos/core/forming-list.ts";
import { type FormingMessage, formingCodec, type ListedNode } from "../../src/paxos/core/forming-messages.ts";
import type { FormingProblem } from "../../src/paxos/core/forming-problems.ts";
import type { Founding } from "../../src/paxos/core/founding.ts";
import { genesisOf } from "../../src/paxos/core/genesis.ts";

/** Where node `id` listens, if nobody made a mistake. */
export function addressOf(id: number): string {
  return `node-${id}:4000`;
}

/** These ids at their addresses. */
export function listed(...ids: readonly number[]): readonly ListedNode[] {
  return ids.map((id) => ({ id: id as NodeId, address: addressOf(id) }));
}

export interface Place {
  readonly id: number;
  readonly list: readonly ListedNode[];
  /** Where it listens; what is sent to others goes where its own list says. @defaultValue that of its id */
  readonly address?: string | undefined;
  readonly init?: boolean | undefined;
  readonly join?: boolean | undefined;
}

export interface Disk {
  storageId: string;
  founding: Founding;
}

export interface Packet {
  readonly from: FormingPeer;
  readonly to: NodeId;
  readonly address: string;
  readonly message: FormingMessage;
}

/** A process's worth of `Forming`, until it is formed, and of `answerForming` from then on. */
class Process {
  forming: Forming | undefined;
  /** On its way to the disk. */
  writing: Founding | undefined;

  constructor(forming: Forming | undefined) {
    this.forming = forming;
  }
}

export class FormingWorld {
  /** Under way; delivered in the order in which the caller likes. */
  net: Packet[] = [];
  /** Everything that was ever said, in order. */
  readonly said: Packet[] = [];
  /** Told by processes, in order: who, what. */
  readonly told: { readonly name: string; readonly problem: FormingProblem }[] = [];
  /** Why a process exited. */
  readonly exits = new Map<string, FormingProblem>();
  readonly #places = new Map<string, Place>();
  readonly #disks = new Map<string, Disk>();
  readonly #processes = new Map<string, Process>();
  /** By disk: the first pledge that was durable on it. Never forgotten, whatever becomes of the disk. */
  readonly #pledges = new Map<string, Charter>();
  readonly #formed: Charter[] = [];
  #drawn = 0;

  /** A name for a process: its id if nothing else, or its id and a letter. */
  place(name: string, place: Place): void {
    this.#places.set(name, { ...place, list: resolvePeerList(place.list, place.id as NodeId) });
    this.#disks.set(name, this.#newDisk());
  }

  /** Places and starts these. */
  start(...ids: readonly number[]): this {
    for (const id of ids) {
      this.place(`${id}`, { id, list: listed(...ids) });
      this.restart(`${id}`);
    }
    return this;
  }

  get names(): readonly string[] {
    return [...this.#places.keys()];
  }

  disk(name: string): Disk {
    return this.#the(this.#disks, name);
  }

  forming(name: string): Forming | undefined {
    return this.#processes.get(name)?.forming;
  }

  isUp(name: string): boolean {
    return this.#processes.has(name);
  }

  isWriting(name: string): boolean {
    return this.#processes.get(name)?.writing !== undefined;
  }

  /** The charter that the disk holds as formed. */
  formed(name: string): Charter | undefined {
    const { founding } = this.disk(name);
    return founding.type === "formed" ? founding.charter : undefined;
  }

  /** A process on the disk as it is. */
  restart(name: string): void {
    invariant(!this.isUp(name), "a disk has one process", { name });
    const { id, list, init, join } = this.#the(this.#places, name);
    const { founding, storageId } = this.disk(name);
    const newClusterId = (): string => this.#newId("c");
    const forming = founding.type === "formed" ? undefined : new Forming({ node: id as NodeId, storageId, list, founding, init, join, newClusterId });
    this.#processes.set(name, new Process(forming));
    this.exits.delete(name);
  }

  /** The process ends; a write under way is on the disk, or not. */
  crash(name: string, write: "lost" | "kept" = "lost"): void {
    const process = this.#processes.get(name);
    if (process?.writing !== undefined && write === "kept") this.#makeDurable(name, process.writing);
    this.#processes.delete(name);
  }

  /** The process ends, and the next one finds an empty directory. */
  wipe(name: string): void {
    this.crash(name);
    this.#disks.set(name, this.#newDisk());
  }

  /** The operator starts it with another list. */
  relist(name: string, list: readonly ListedNode[]): void {
    this.#places.set(name, { ...this.#the(this.#places, name), list });
  }

  tick(name: string): void {
    this.#step(name, { type: "tick" });
  }

  /** The write under way ends. */
  write(name: string): void {
    const process = this.#processes.get(name);
    if (process?.writing === undefined) return;
    this.#makeDurable(name, process.writing);
    process.writing = undefined;
    this.#step(name, { type: "written" });
  }

  /** Takes it out of the net, unless it is to come again. */
  deliver(index: number, again = false): void {
    const packet = this.net[index];
    if (packet === undefined) return;
    if (!again) this.net.splice(index, 1);
    const name = this.names.find((candidate) => this.#addressOf(candidate) === packet.address && this.isUp(candidate));
    if (name === undefined || this.#the(this.#places, name).id !== packet.to) return; // the transport: wrong-node
    const process = this.#the(this.#processes, name);
    if (process.forming !== undefined) return this.#step(name, { type: "message", from: packet.from, message: packet.message });
    const charter = this.formed(name);
    invariant(charter !== undefined, "who does not form is formed");
    const answer = answerForming({ charter, configuration: genesisConfiguration(charter) }, packet.from, packet.message);
    if (answer !== undefined) this.#send(name, answer);
  }

  /** Delivers and writes until nothing is under way. What `lose` picks is lost. */
  settle(lose: (packet: Packet) => boolean = () => false): void {
    for (let turns = 0; this.net.length > 0 || this.names.some((name) => this.isWriting(name)); turns++) {
      invariant(turns < 10_000, "what is said and written comes to an end");
      this.net = this.net.filter((packet) => !lose(packet));
      if (this.net.length > 0) this.deliver(0);
      else for (const name of this.names) this.write(name);
    }
  }

  /** So many ticks of every process, each followed by all that comes of it. */
  rounds(count: number, lose?: (packet: Packet) => boolean): void {
    for (let round = 0; round < count; round++) {
      for (const name of this.names) if (this.isUp(name)) this.tick(name);
      this.settle(lose);
    }
  }

  #step(name: string, input: FormingInput): void {
    const forming = this.#processes.get(name)?.forming;
    if (forming !== undefined) this.#obey(name, forming.step([input]));
  }

  #obey(name: string, { sends, persist, formed, problems, fatal }: FormingEffects): void {
    const process = this.#the(this.#processes, name);
    for (const outgoing of sends) this.#send(name, outgoing);
    for (const problem of problems) this.told.push({ name, problem });
    if (persist !== undefined) {
      invariant(process.writing === undefined, "one write at a time");
      process.writing = persist;
    }
    if (formed !== undefined) {
      invariant(this.formed(name) === formed, "who says that it is formed is so on its disk");
      process.forming = undefined;
    }
    if (fatal === undefined) return;
    this.exits.set(name, fatal);
    this.crash(name);
  }

  #send(name: string, { to, message }: FormingOutgoing): void {
    const { id, list } = this.#the(this.#places, name);
    const { storageId } = this.disk(name);
    this.#checkSaid(name, message);
    const from: FormingPeer = { node: id as NodeId, storageId, clusterId: this.formed(name)?.clusterId };
    const where = this.forming(name)?.list ?? list;
    const address = where.find((peer) => peer.id === to)?.address ?? "";
    const packet = { from, to, address, message: formingCodec.decode(formingCodec.encode(message)) };
    this.net.push(packet);
    this.said.push(packet);
  }

  /** The gates of the messages. */
  #checkSaid(name: string, message: FormingMessage): void {
    const { founding } = this.disk(name);
    invariant(this.#places.get(name)?.join !== true, "who joins says nothing");
    const charter = founding.type === "unformed" ? undefined : founding.charter;
    if (message.type === "form-hello") return invariant(charter === undefined, "who says hello is not pledged", { name });
    invariant(charter !== undefined, "a pledge is durable before it is spoken of", { name, message: message.type });
    const says = "charter" in message ? message.charter.clusterId : message.clusterId;
    invariant(charter.clusterId === says, "what is said of a pledge is what the disk holds", { name });
    if (message.type === "formed") invariant(founding.type === "formed", "who says that it is formed is so on its disk", { name });
  }

  #makeDurable(name: string, founding: Founding): void {
    const disk = this.disk(name);
    invariant(founding.type !== "unformed", "a disk goes only forward");
    const { charter } = founding;
    const before = this.#pledges.get(disk.storageId);
    invariant(before === undefined || sameCharter(before, charter), "a disk never pledges twice", { name });
    disk.founding = founding;
    this.#pledges.set(disk.storageId, charter);
    if (founding.type === "formed") this.#checkFormed(name, charter);
  }

  #checkFormed(name: string, charter: Charter): void {
    for (const { id, storageId } of charter.founders) {
      const pledge = this.#pledges.get(storageId);
      invariant(pledge !== undefined && sameCharter(pledge, charter), "what is formed was pledged by every disk that it names", { name, id });
    }
    if (this.#formed.some((other) => sameCharter(other, charter))) return;
    const taken = new Set(this.#formed.flatMap(({ founders }) => founders.map(({ storageId }) => storageId)));
    invariant(!charter.founders.some(({ storageId }) => taken.has(storageId)), "two clusters share no disk", { name });
    this.#formed.push(charter);
  }

  /** Of all the world's clusters. */
  get clusters(): readonly Charter[] {
    return this.#formed;
  }

  #addressOf(name: string): string {
    const { id, address } = this.#the(this.#places, name);
    return address ?? addressOf(id);
  }

  #newDisk(): Disk {
    return { storageId: this.#newId("d"), founding: { type: "unformed" } };
  }

  #newId(letter: string): string {
    this.#drawn += 1;
    return `${letter}${this.#drawn.toString(16).padStart(31, "0")}`;
  }

  #the<T>(map: ReadonlyMap<string, T>, name: string): T {
    const found = map.get(name);
    invariant(found !== undefined, "it is there", { name });
    return found;
  }
}

/** What a cluster begins with. */
export function genesisConfiguration(charter: Charter): Configuration {
  return genesisOf(membersOf(charter)).image.configuration;
}
