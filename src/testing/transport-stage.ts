/** The processes of one conformance test of a transport, what each was told, and what they say. */
import assert from "node:assert/strict";
import type { NodeId, Slot } from "../base/ids.ts";
import type { Ballot } from "../paxos/core/ballot.ts";
import { createEntry } from "../paxos/core/entry.ts";
import type { FormingMessage } from "../paxos/core/forming-messages.ts";
import type { AcceptMessage, HeartbeatMessage, PaxosMessage } from "../paxos/core/messages.ts";
import type { PeerTransportOptions } from "../paxos/transport/options.ts";
import type { PeerClaim, PeerLink, PeerProblem, PeerTransport, TransportReceiver } from "../paxos/transport/transport.ts";

/** One process that takes part. Two processes are at two places, unless one has ended. */
export interface TransportProcess {
  readonly place: string;
  readonly claim: PeerClaim;
  readonly receiver: TransportReceiver;
  readonly options?: PeerTransportOptions | undefined;
}

/** A network made for one test. */
export interface TransportNetwork {
  open(process: TransportProcess): Promise<PeerTransport>;
  /** Where a process at the one place reaches the one at the other. */
  address(from: string, to: string): string;
  /** The process there dies: its connections break, and nobody listens there. The transport is closed later. */
  kill(place: string): void | Promise<void>;
  /** Breaks the connections between two places, once. */
  cut(place: string, other: string): void | Promise<void>;
  /** From now on nothing gets through between two places, and no connection ends by itself; or again. */
  hold(place: string, other: string, held: boolean): void;
  /** Called at the end of the test, however it ended, when all transports are closed. */
  cleanUp(): void | Promise<void>;
}

export const CLUSTER = "c1".padEnd(32, "0");
export const OTHER_CLUSTER = "c2".padEnd(32, "0");
const BALLOT: Ballot = { round: 1, prio: 0, node: 1 as NodeId };

/** A round as it is sent, with nothing else in it. */
export function heartbeat(round: number): HeartbeatMessage {
  return { type: "heartbeat", round, decidedThrough: 0 as Slot, readSeq: 0, configVersion: 1 };
}

export function bulk(base: number, bytes: number): AcceptMessage {
  const payload = new Uint8Array(bytes).fill(base);
  const entry = createEntry({ slot: (base + 1) as Slot, origin: BALLOT, kind: "app", payload, previousChain: 0 });
  return { type: "accept", ballot: BALLOT, base: base as Slot, baseChain: 0, entries: [entry], decidedThrough: 0 as Slot };
}

export function transfer(count: number): PaxosMessage {
  return { type: "fetch-reply", id: { boot: 1, count }, after: 0 as Slot, entries: [], decidedThrough: 0 as Slot };
}

export const CONFLICT: FormingMessage = { type: "conflict", clusterId: OTHER_CLUSTER };

export function storageOf(node: number): string {
  return `d${node}`.padEnd(32, "0");
}

export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

interface ActorOptions {
  readonly place: string;
  readonly node: number;
  readonly boot?: number;
  readonly nonce?: number;
  readonly storageId?: string;
  readonly clusterId?: string | undefined;
  readonly options?: PeerTransportOptions;
}

/** The processes of one test, and what each was told. */
export class Stage {
  readonly network: TransportNetwork;
  readonly #actors: Actor[] = [];

  constructor(network: TransportNetwork) {
    this.network = network;
  }

  async open({ place, node, boot = 1, nonce = boot, storageId = storageOf(node), options, ...rest }: ActorOptions): Promise<Actor> {
    const clusterId = "clusterId" in rest ? rest.clusterId : CLUSTER;
    const events = new Events();
    const claim: PeerClaim = { node: node as NodeId, storageId, boot, nonce, clusterId };
    const transport = await this.network.open({ place, claim, receiver: events, options });
    const actor = new Actor({ network: this.network, place, claim, transport, events });
    this.#actors.push(actor);
    return actor;
  }

  /** Nodes 1 and 2, at the places a and b, that reach each other on all lanes. */
  async pair(how: { clusterId?: string | undefined } = {}, options: PeerTransportOptions = {}): Promise<[Actor, Actor]> {
    const a = await this.open({ place: "a", node: 1, options, ...how });
    const b = await this.open({ place: "b", node: 2, options, ...how });
    a.knows([2, "b"]);
    b.knows([1, "a"]);
    await this.until("they reach each other", () => a.reaches(2) && b.reaches(1));
    return [a, b];
  }

  async kill(actor: Actor): Promise<void> {
    await this.network.kill(actor.place);
  }

  /** Waits until `holds`; a test that waits in vain is ended by its runner. */
  async until(_: string, holds: () => boolean): Promise<void> {
    while (!holds()) await turn();
  }

  async problemOf(actor: Actor, node: number): Promise<PeerProblem> {
    await this.until("there is a problem", () => actor.problems.some((problem) => problem.node === node));
    const problem = actor.problems.find((each) => each.node === node);
    assert.ok(problem !== undefined);
    return problem;
  }

  /** Until this process has tried again that often. */
  async attempts(actor: Actor, count: number): Promise<void> {
    const from = actor.attempts;
    await this.until("it was tried again", () => actor.attempts >= from + count);
  }

  async end(): Promise<void> {
    await Promise.all(this.#actors.map(({ transport }) => transport.close()));
    await this.network.cleanUp();
  }
}

/** What a transport has told. */
class Events implements TransportReceiver {
  readonly heard: { readonly from: PeerClaim; readonly message: PaxosMessage }[] = [];
  readonly formed: { readonly from: PeerClaim; readonly message: FormingMessage }[] = [];
  readonly lost: { readonly node: number; readonly boot: number }[] = [];
  readonly blocked: boolean[] = [];
  readonly problems: PeerProblem[] = [];

  onMessage(from: PeerClaim, message: PaxosMessage): void {
    this.heard.push({ from, message });
  }

  onForming(from: PeerClaim, message: FormingMessage): void {
    this.formed.push({ from, message });
  }

  onConnectionLost(node: NodeId, boot: number): void {
    this.lost.push({ node, boot });
  }

  onSendBlocked(_: NodeId, blocked: boolean): void {
    this.blocked.push(blocked);
  }

  onProblem(problem: PeerProblem): void {
    this.problems.push(problem);
  }
}

interface ActorParts {
  readonly network: TransportNetwork;
  readonly place: string;
  readonly claim: PeerClaim;
  readonly transport: PeerTransport;
  readonly events: Events;
}

/** One process, with what it was told. */
class Actor {
  readonly place: string;
  readonly claim: PeerClaim;
  readonly transport: PeerTransport;
  readonly heard: Events["heard"];
  readonly formed: Events["formed"];
  readonly lost: Events["lost"];
  readonly blocked: Events["blocked"];
  readonly problems: Events["problems"];
  readonly #network: TransportNetwork;

  constructor({ network, place, claim, transport, events }: ActorParts) {
    this.#network = network;
    this.place = place;
    this.claim = claim;
    this.transport = transport;
    ({ heard: this.heard, formed: this.formed, lost: this.lost, blocked: this.blocked, problems: this.problems } = events);
  }

  /** All that it was told. */
  get count(): number {
    return this.heard.length + this.formed.length + this.lost.length + this.blocked.length + this.problems.length;
  }

  /** Connections that it tried. */
  get attempts(): number {
    return this.transport.links().reduce((sum, { attempts }) => sum + attempts, 0);
  }

  knows(...peers: readonly (readonly [node: number, place: string])[]): void {
    this.transport.setPeers(new Map(peers.map(([node, place]) => [node as NodeId, this.#network.address(this.place, place)])));
  }

  say(to: number, message: PaxosMessage): void {
    this.transport.send(to as NodeId, message);
  }

  /** On all lanes. */
  reaches(node: number): boolean {
    return this.transport.links().some((link) => link.node === node && link.open.length === 3);
  }

  link(node: number): PeerLink {
    const link = this.transport.links().find((each) => each.node === node);
    assert.ok(link !== undefined, `node ${node} is a peer`);
    return link;
  }
}
