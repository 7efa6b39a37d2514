/**
 * How empty disks become a cluster (rule I7): the node with the lowest id draws a charter, which names the disk of every listed node; each disk pledges itself to it, once
 * and for ever; and who knows that all have pledged may form it. A disk pledges once and a charter that was formed has every pledge, so two of these share no disk.
 *
 * `Forming` is a node until it is formed, and `answerForming` what it says to others from then on. Neither has a clock: at a tick everything is said again.
 */
import { OracleError } from "../../base/errors.ts";
import type { NodeId } from "../../base/ids.ts";
import { invariant, unreachable } from "../../base/invariant.ts";
import { type Charter, sameCharter } from "./charter.ts";
import type { Configuration } from "./configuration.ts";
import type {
  FormingDrop,
  FormingEffects,
  FormingInput,
  FormingOptions,
  FormingOutgoing,
  FormingPeer,
  FormingState,
  HeardPeer,
} from "./forming-effects.ts";
import { listOf, sameList } from "./forming-list.ts";
import type { FormedMessage, FormHelloMessage, FormingMessage, ListedNode } from "./forming-messages.ts";
import type { FormingProblem } from "./forming-problems.ts";
import {
  boundElsewhere,
  conflict,
  diskGone,
  notMember,
  otherCluster,
  otherList,
  pledgedList,
  pledgeLost,
  removed,
  twoDisks,
} from "./forming-problems.ts";
import type { Founding } from "./founding.ts";

/** A peer that was not heard for so many ticks may be gone, and its disk with it. */
export const HEARD_TICKS = 4;

/** A node that belongs to no cluster. */
export class Forming {
  /** Whom it speaks to, and where: its charter's founders, if it has one. In order of the ids, and with this node. */
  readonly list: readonly ListedNode[];
  readonly #node: NodeId;
  readonly #storageId: string;
  readonly #isJoining: boolean;
  readonly #newClusterId: () => string;
  readonly #peers: readonly NodeId[];
  /** What is known to be durable: only this is spoken of. */
  #disk: Founding;
  #writing: Exclude<Founding, { readonly type: "unformed" }> | undefined;
  readonly #heard = new Map<NodeId, HeardPeer>();
  readonly #pledged = new Set<NodeId>();
  readonly #problems = new Map<NodeId, FormingProblem>();
  #isOver = false;
  #effects = noEffects();

  /** @throws OracleError TSO_INVALID_OPTION: the options ask for what this disk must not do */
  constructor({ node, storageId, list, founding, init = false, join = false, newClusterId }: FormingOptions) {
    const { charter } = founding.type === "pledged" ? founding : { charter: undefined };
    invariant(charter === undefined || diskOf(charter, node) === storageId, "a disk is pledged to a charter that names it", { node, storageId });
    if (join && charter !== undefined) throw invalid(`the disk is pledged to cluster ${charter.clusterId}: it cannot join one`);
    if (!join && !init && charter === undefined && list.length === 1) {
      throw invalid(`the list of peers has node ${node} alone, and its disk belongs to no cluster: to begin an empty one, say --init`);
    }
    this.list = charter === undefined ? list : listOf(charter);
    invariant(join || this.list.some(({ id }) => id === node), "a node that forms is in its own list", { node });
    this.#node = node;
    this.#storageId = storageId;
    this.#isJoining = join;
    this.#newClusterId = newClusterId;
    this.#peers = this.list.map(({ id }) => id).filter((id) => id !== node);
    this.#disk = founding;
    if (charter !== undefined && !sameList(list, this.list)) this.#say(node, pledgedList({ node, charter, given: list }));
  }

  get state(): FormingState {
    return {
      disk: this.#disk,
      writing: this.#writing,
      heard: this.#heard,
      pledged: this.#pledged,
      problems: this.#problems,
      isOver: this.#isOver,
    };
  }

  step(inputs: readonly FormingInput[]): FormingEffects {
    for (const input of inputs) this.#take(input);
    const effects = this.#effects;
    this.#effects = noEffects();
    invariant(effects.formed === undefined || this.#disk.type === "formed", "who is formed is so on its disk");
    return effects;
  }

  #take(input: FormingInput): void {
    if (this.#isOver) return input.type === "message" ? this.#drop("over") : undefined;
    switch (input.type) {
      case "tick":
        return this.#onTick();
      case "written":
        return this.#onWritten();
      case "message":
        return this.#onMessage(input.from, input.message);
      default:
        return unreachable(input);
    }
  }

  #onTick(): void {
    if (this.#isJoining) return;
    for (const [node, heard] of this.#heard) {
      if (heard.age + 1 >= HEARD_TICKS) this.#heard.delete(node);
      else this.#heard.set(node, { ...heard, age: heard.age + 1, doubt: Math.max(0, heard.doubt - 1) });
    }
    this.#drawIfAllHeard();
    this.#formIfAllPledged(); // a list of one hears from nobody
    this.#speak();
  }

  /** To everyone, for what was said before may be lost, and for a peer that is formed tells only those that ask. */
  #speak(): void {
    for (const id of this.#peers) {
      if (this.#disk.type === "pledged") this.#send(id, { type: "form-pledge", charter: this.#disk.charter });
      else if (this.#writing === undefined) this.#send(id, { type: "form-hello", list: this.list, heard: this.#heard.get(id)?.storageId });
    }
  }

  #onWritten(): void {
    const written = this.#writing;
    invariant(written !== undefined, "what was written had been asked for");
    this.#disk = written;
    this.#writing = undefined;
    if (written.type === "formed") {
      this.#effects.formed = written.charter;
      this.#isOver = true;
      return;
    }
    this.#speak();
    this.#formIfAllPledged();
  }

  #onMessage(from: FormingPeer, message: FormingMessage): void {
    if (this.#isJoining) return this.#drop("joining");
    if (from.node === this.#node) {
      this.#say(this.#node, twoDisks(this.#node, [this.#storageId, from.storageId]));
      return this.#drop("contradiction");
    }
    // Who is formed says `formed`, and nobody else does.
    const belongsTo = message.type === "formed" ? message.charter.clusterId : undefined;
    if (from.clusterId !== belongsTo) return this.#drop("contradiction");
    switch (message.type) {
      case "form-hello":
        return this.#onHello(from, message);
      case "form-pledge":
        return this.#onFormPledge(from, message.charter);
      case "pledged":
        return this.#onPledged(from, message.clusterId);
      case "conflict":
        return this.#onConflict(from, message.clusterId);
      case "formed":
        return this.#onFormed(from, message);
      default:
        return unreachable(message);
    }
  }

  /** I7.2. */
  #onHello(from: FormingPeer, { list, heard }: FormHelloMessage): void {
    if (!sameList(list, this.list)) return this.#sayOtherList(from, list);
    if (!this.#isPeer(from.node)) return this.#drop("not-listed");
    const charter = this.#charter;
    if (charter === undefined) {
      this.#hear(from, heard === this.#storageId);
      return this.#drawIfAllHeard();
    }
    const named = diskOf(charter, from.node);
    if (named !== from.storageId) return this.#say(from.node, diskGone({ charter, node: from.node, named, found: from.storageId }));
    if (this.#disk.type !== "pledged") return this.#drop("busy");
    this.#send(from.node, { type: "form-pledge", charter });
  }

  /**
   * A second disk that speaks for a node is a process that should not run, or one whose disk was wiped: nobody can tell, so neither is believed until only one has spoken
   * for a while. A process elsewhere that was given the id by mistake does not hear this node, and is not believed at all.
   */
  #hear({ node, storageId }: FormingPeer, hearsUs: boolean): void {
    const taken = storageId === this.#storageId ? this.#node : this.#peers.find((id) => id !== node && this.#heard.get(id)?.storageId === storageId);
    if (taken !== undefined) return this.#drop("contradiction"); // one disk, two nodes: no charter could name both
    const before = this.#heard.get(node);
    const isOther = before !== undefined && before.storageId !== storageId;
    const doubt = isOther ? HEARD_TICKS : (before?.doubt ?? 0);
    this.#heard.set(node, { storageId, hearsUs, age: 0, doubt });
    if (isOther) this.#say(node, twoDisks(node, [before.storageId, storageId]));
    else if (doubt === 0) this.#problems.delete(node);
  }

  /** I7.3. */
  #drawIfAllHeard(): void {
    if (this.#charter !== undefined || this.#node !== this.list[0]?.id) return;
    const founders = this.list.flatMap(({ id, address }) => {
      const storageId = id === this.#node ? this.#storageId : this.#believed(id);
      return storageId === undefined ? [] : [{ id, storageId, address }];
    });
    if (founders.length === this.list.length) this.#pledge({ clusterId: this.#newClusterId(), founders });
  }

  #believed(id: NodeId): string | undefined {
    const heard = this.#heard.get(id);
    return heard?.hearsUs && heard.doubt === 0 ? heard.storageId : undefined;
  }

  /** I7.4. What was drawn, or came from a peer, and asks for what this disk can give. */
  #pledge(charter: Charter): void {
    invariant(diskOf(charter, this.#node) === this.#storageId, "a disk is pledged to a charter that names it");
    invariant(sameList(listOf(charter), this.list), "a pledge is to the list that the node was started with");
    this.#heard.clear(); // hellos have served
    this.#persist({ type: "pledged", charter });
  }

  #onFormPledge(from: FormingPeer, charter: Charter): void {
    if (diskOf(charter, from.node) !== from.storageId) return this.#drop("contradiction"); // it could not have pledged that itself
    const ours = this.#charter;
    if (ours === undefined) {
      if (!sameList(listOf(charter), this.list)) return this.#sayOtherList(from, listOf(charter));
      const named = diskOf(charter, this.#node);
      if (named !== this.#storageId) return this.#say(this.#node, diskGone({ charter, node: this.#node, named, found: this.#storageId }));
      this.#pledge(charter);
      return this.#learnPledge(from.node);
    }
    const isOurs = sameCharter(charter, ours);
    if (isOurs) this.#learnPledge(from.node);
    else this.#say(from.node, conflict(ours.clusterId, { node: from.node, clusterId: charter.clusterId }));
    if (this.#disk.type !== "pledged") return this.#drop("busy"); // not spoken of yet, and it will be asked for again
    this.#send(from.node, { type: isOurs ? "pledged" : "conflict", clusterId: ours.clusterId });
  }

  #onPledged(from: FormingPeer, clusterId: string): void {
    const charter = this.#charter;
    if (charter?.clusterId !== clusterId) return this.#onConflict(from, clusterId);
    if (diskOf(charter, from.node) !== from.storageId) return this.#drop("contradiction");
    this.#learnPledge(from.node);
  }

  #onConflict(from: FormingPeer, clusterId: string): void {
    if (!this.#isPeer(from.node)) return this.#drop("not-listed");
    const charter = this.#charter;
    if (charter === undefined || charter.clusterId === clusterId) return this.#drop("pointless"); // of a process that was here before
    this.#say(from.node, conflict(charter.clusterId, { node: from.node, clusterId }));
  }

  #learnPledge(node: NodeId): void {
    this.#pledged.add(node);
    this.#problems.delete(node);
    this.#formIfAllPledged();
  }

  /** I7.5. */
  #formIfAllPledged(): void {
    if (this.#disk.type !== "pledged" || this.#writing !== undefined) return;
    if (this.#peers.every((id) => this.#pledged.has(id))) this.#persist({ type: "formed", charter: this.#disk.charter });
  }

  /** I7.6. */
  #onFormed(from: FormingPeer, { charter, configuration }: FormedMessage): void {
    if (!this.#isPeer(from.node)) return this.#drop("not-listed");
    const bound = (node: NodeId): string | undefined => diskOf(charter, node) ?? memberDisk(configuration, node);
    if ((bound(from.node) ?? from.storageId) !== from.storageId) return this.#drop("contradiction");
    const disk = bound(this.#node);
    if (disk !== undefined && disk !== this.#storageId) return this.#exit(boundElsewhere(this.#node, charter.clusterId));
    if (diskOf(charter, this.#node) === undefined) return this.#exit(notMember(this.#node, charter.clusterId));
    if (memberDisk(configuration, this.#node) === undefined) return this.#exit(removed(this.#node, charter.clusterId));
    // It could not have been formed without this disk's pledge, which nobody has heard of from a process that has not made it durable: the disk went back in time.
    if (this.#disk.type !== "pledged") return this.#exit(pledgeLost(this.#node, charter.clusterId));
    if (!sameCharter(charter, this.#disk.charter)) {
      return this.#exit(otherCluster(this.#node, { pledged: this.#disk.charter.clusterId, formed: charter.clusterId }));
    }
    for (const id of this.#peers) this.#pledged.add(id);
    this.#formIfAllPledged();
  }

  /** What the disk is pledged to, or will be: it is not exchanged even while it is being written. */
  get #charter(): Charter | undefined {
    if (this.#writing !== undefined) return this.#writing.charter;
    return this.#disk.type === "unformed" ? undefined : this.#disk.charter;
  }

  #persist(next: Exclude<Founding, { readonly type: "unformed" }>): void {
    invariant(this.#writing === undefined, "one write at a time");
    if (next.type === "pledged") invariant(this.#disk.type === "unformed", "a pledge is never exchanged", { disk: this.#disk.type });
    else {
      invariant(this.#disk.type === "pledged", "a disk is pledged before it is formed", { disk: this.#disk.type });
      invariant(sameCharter(next.charter, this.#disk.charter), "what is formed is what the disk is pledged to");
    }
    this.#writing = next;
    this.#effects.persist = next;
  }

  #isPeer(node: NodeId): boolean {
    return this.#peers.includes(node);
  }

  #send(to: NodeId, message: FormingMessage): void {
    const vouches = message.type !== "form-hello";
    invariant(vouches === (this.#disk.type === "pledged"), "a pledge is durable before it is spoken of, and no secret from then on", {
      type: message.type,
    });
    this.#effects.sends.push({ to, message });
  }

  #drop(reason: FormingDrop): void {
    this.#effects.dropped.push(reason);
  }

  /** Told again only when it is another. Those who are not listed share a place with this node: they are as many as they like. */
  #say(about: NodeId, problem: FormingProblem): void {
    const place = this.#isPeer(about) ? about : this.#node;
    if (this.#problems.get(place)?.detail === problem.detail) return;
    this.#problems.set(place, problem);
    this.#effects.problems.push(problem);
  }

  #sayOtherList({ node }: FormingPeer, theirs: readonly ListedNode[]): void {
    this.#say(node, otherList(`node ${node}`, { ours: this.list, theirs }));
  }

  #exit(problem: FormingProblem): void {
    this.#effects.fatal = problem;
    this.#isOver = true;
  }
}

/** The word of a node whose formed state is durable, to whoever belongs to no cluster and speaks (rule I7.5). It pledges to nothing any more (I7.7). */
export function answerForming(
  formed: { readonly charter: Charter; readonly configuration: Configuration },
  from: FormingPeer,
  message: FormingMessage,
): FormingOutgoing | undefined {
  if (from.clusterId !== undefined) return undefined;
  switch (message.type) {
    case "form-hello":
    case "form-pledge": // a pledged node asks so: it may need a pledge of a disk that is gone by now, and this answer stands for all of them
      return { to: from.node, message: { type: "formed", charter: formed.charter, configuration: formed.configuration } };
    case "pledged":
    case "conflict":
    case "formed":
      return undefined;
    default:
      return unreachable(message);
  }
}

interface Draft extends FormingEffects {
  readonly sends: FormingOutgoing[];
  persist?: FormingEffects["persist"];
  formed?: Charter;
  readonly problems: FormingProblem[];
  fatal?: FormingProblem;
  readonly dropped: FormingDrop[];
}

function noEffects(): Draft {
  return { sends: [], problems: [], dropped: [] };
}

/** The disk that the charter names for a node. */
function diskOf({ founders }: Charter, node: NodeId): string | undefined {
  return founders.find(({ id }) => id === node)?.storageId;
}

function memberDisk({ members }: Configuration, node: NodeId): string | undefined {
  return members.find(({ id }) => id === node)?.storageId;
}

function invalid(detail: string): OracleError {
  return new OracleError("TSO_INVALID_OPTION", detail);
}
