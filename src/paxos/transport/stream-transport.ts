/** The transport, on any wire: who is dialled, who is let in, and what is told of both. */
import { OracleError } from "../../base/errors.ts";
import type { NodeId } from "../../base/ids.ts";
import { invariant } from "../../base/invariant.ts";
import { type FormingMessage, formingCodec } from "../core/forming-messages.ts";
import { messageCodec } from "../core/message-codec.ts";
import type { PaxosMessage } from "../core/messages.ts";
import { AcceptedStream, type AcceptOwner } from "./accepted-stream.ts";
import { DialledLane, type LaneContext, type LaneOwner } from "./dialled-lane.ts";
import type { DialledEnd, DialledStream } from "./dialled-stream.ts";
import type { HelloFrame } from "./frames.ts";
import { type Ending, LostConnections } from "./lost-connections.ts";
import { MessageEncoder } from "./message-encoder.ts";
import type { PeerTransportSettings } from "./options.ts";
import { Reception, type Refusal } from "./reception.ts";
import {
  LANES,
  type Lane,
  laneOf,
  type PeerClaim,
  type PeerLink,
  type PeerProblem,
  type PeerTransport,
  type TransportReceiver,
} from "./transport.ts";
import type { PeerStream, PeerTimers, StreamHandler, Wire } from "./wire.ts";

export interface StreamTransportContext {
  readonly claim: PeerClaim;
  readonly receiver: TransportReceiver;
  readonly settings: PeerTransportSettings;
  readonly timers: PeerTimers;
  readonly random: () => number;
  /** Closed with the transport. Streams that it is opened are given to `accept`. */
  readonly wire: Wire;
}

interface Peer {
  readonly node: NodeId;
  readonly address: string;
  readonly lanes: ReadonlyMap<Lane, DialledLane>;
  problem: PeerProblem | undefined;
}

/** Streams that are let in at one time: many more than a cluster has. */
const ACCEPTED_MAX = 1_024;
/** Strangers whose refusals were told. */
const REFUSED_MAX = 256;

export class StreamTransport implements PeerTransport, LaneOwner, AcceptOwner {
  readonly #receiver: TransportReceiver;
  readonly #settings: PeerTransportSettings;
  readonly #timers: PeerTimers;
  readonly #random: () => number;
  readonly #reception: Reception;
  readonly #lost: LostConnections;
  readonly #peers = new Map<NodeId, Peer>();
  /** By process and lane: one each. */
  readonly #accepted = new Map<string, AcceptedStream>();
  /** All that have not ended, those that were refused or replaced as well. */
  readonly #streams = new Set<AcceptedStream>();
  readonly #refused = new Map<NodeId, Refusal["fault"]>();
  readonly #wire: Wire;
  /** All that are not over, those of peers that were removed as well. */
  readonly #lanes = new Set<DialledLane>();
  #closed = false;
  #closing: Promise<void> | undefined;
  #whenEnded: (() => void) | undefined;
  readonly #encoder = new MessageEncoder();

  constructor({ claim, receiver, settings, timers, random, wire }: StreamTransportContext) {
    this.#receiver = receiver;
    this.#settings = settings;
    this.#timers = timers;
    this.#random = random;
    this.#wire = wire;
    this.#reception = new Reception(claim);
    this.#lost = new LostConnections({
      timers,
      probeMs: settings.probeMs,
      reconnect: (node) => this.#peers.get(node)?.lanes.get("control")?.hurry(),
      lost: (node, boot) => {
        if (this.#peers.has(node)) timers.soon(() => this.#tell((to) => to.onConnectionLost(node, boot)));
      },
    });
  }

  /** For every stream that somebody opens to this node. */
  readonly accept = (stream: PeerStream): StreamHandler => {
    const accepted = new AcceptedStream({ timers: this.#timers, settings: this.#settings, reception: this.#reception }, stream, this);
    this.#streams.add(accepted);
    if (this.#closed || this.#streams.size > ACCEPTED_MAX) accepted.sayBye();
    return accepted;
  };

  get address(): string {
    return this.#wire.address;
  }

  setPeers(peers: ReadonlyMap<NodeId, string>): void {
    if (this.#closed) return;
    const { node: self } = this.#reception.self;
    for (const peer of this.#peers.values()) {
      const address = peers.get(peer.node);
      if (address === peer.address) continue;
      this.#peers.delete(peer.node);
      if (address === undefined) this.#lost.forget(peer.node);
      for (const lane of peer.lanes.values()) this.#end(lane);
    }
    for (const [node, address] of peers) {
      if (node === self || this.#peers.has(node)) continue;
      const context = this.#laneContext();
      const lanes = new Map(LANES.map((lane) => [lane, this.#openLane(context, node, address, lane)]));
      this.#peers.set(node, { node, address, lanes, problem: undefined });
    }
  }

  joinCluster(clusterId: string): void {
    const { self } = this.#reception;
    invariant(self.clusterId === undefined || self.clusterId === clusterId, "a node joins one cluster", { is: self.clusterId, joins: clusterId });
    if (self.clusterId === clusterId || this.#closed) return;
    this.#reception.joinCluster(clusterId);
    for (const stream of [...this.#accepted.values()]) stream.sayBye();
    for (const { lanes } of this.#peers.values()) for (const lane of lanes.values()) lane.reopen();
  }

  send(to: NodeId, message: PaxosMessage): void {
    const lane = this.#peers.get(to)?.lanes.get(laneOf(message));
    if (lane === undefined) return;
    if (lane.isOpen) lane.send("message", this.#encoder.encode(message));
    else lane.drop();
  }

  sendForming(to: NodeId, message: FormingMessage): void {
    const lane = this.#peers.get(to)?.lanes.get("control");
    if (lane?.isOpen) lane.send("forming", formingCodec.encode(message));
    else lane?.drop();
  }

  links(): readonly PeerLink[] {
    return [...this.#peers.values()].map(({ node, address, lanes, problem }) => {
      const all = [...lanes.values()];
      return {
        node,
        address,
        claim: lanes.get("control")?.claim,
        open: all.filter(({ isOpen }) => isOpen).map(({ lane }) => lane),
        queuedBytes: all.reduce((sum, { queuedBytes }) => sum + queuedBytes, 0),
        attempts: all.reduce((sum, { attempts }) => sum + attempts, 0),
        dropped: all.reduce((sum, { dropped }) => sum + dropped, 0),
        problem,
      };
    });
  }

  abandon(): Promise<void> {
    this.#closing ??= this.#close({ silently: true });
    return this.#closing;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close({ silently: false });
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  onLaneOpen(lane: DialledLane, stream: DialledStream, claim: PeerClaim): void {
    this.#admitted(claim);
    if (lane.lane !== "control") return;
    this.#lost.opened(stream, claim);
    const peer = this.#peers.get(claim.node);
    if (peer !== undefined) peer.problem = undefined;
  }

  onStreamClosing({ lane, target: { node } }: DialledLane, stream: DialledStream, end: DialledEnd, current: boolean): void {
    const { claim, ending, fault, detail, refused } = end;
    if (lane === "control" && claim !== undefined) this.#lost.closed(stream, claim, ending);
    if (lane === "control" && current && refused) this.#lost.refused(node);
    if (current && (claim === undefined || ending === "given-up")) this.#onProblem({ node, fault, detail });
  }

  onStreamEnded(lane: DialledLane): void {
    if (lane.isOver) this.#lanes.delete(lane);
    this.#countEnds();
  }

  onBlocked(lane: DialledLane, blocked: boolean): void {
    const { node } = lane.target;
    if (this.#peers.get(node)?.lanes.get(lane.lane) === lane) this.#tell((to) => to.onSendBlocked(node, blocked));
  }

  onAccepted(stream: AcceptedStream, hello: HelloFrame): void {
    const { claim, lane } = hello;
    this.#admitted(claim);
    const name = nameOf(hello);
    const replaced = this.#accepted.get(name);
    this.#accepted.set(name, stream);
    if (lane === "control") {
      this.#refused.delete(claim.node);
      this.#lost.opened(stream, claim);
      for (const each of this.#peers.get(claim.node)?.lanes.values() ?? []) each.hurry(); // whoever dials is there to be dialled
    }
    replaced?.replace();
  }

  deliver({ claim }: HelloFrame, type: "message" | "forming", bytes: Uint8Array): void {
    if (type === "message" && !this.#reception.sharesCluster(claim)) return;
    const read = this.#read(claim, () => {
      if (type === "message") return { type, message: messageCodec.decode(bytes) } as const;
      return { type, message: formingCodec.decode(bytes) } as const;
    });
    if (read?.type === "message") this.#tell((to) => to.onMessage(claim, read.message));
    else if (read !== undefined) this.#tell((to) => to.onForming(claim, read.message));
  }

  onRefused(hello: HelloFrame | undefined, refusal: Refusal): void {
    if (hello === undefined) return; // nobody knows who that was
    if (refusal.fault === "duplicate-process") this.#silenceOthers(hello.claim);
    this.#onRefusal(hello.claim.node, refusal);
  }

  onClosing(stream: AcceptedStream, { claim, lane }: HelloFrame, ending: Ending): void {
    if (lane === "control") this.#lost.closed(stream, claim, ending);
  }

  onEnded(stream: AcceptedStream): void {
    this.#streams.delete(stream);
    const { hello } = stream;
    if (hello !== undefined && this.#accepted.get(nameOf(hello)) === stream) this.#accepted.delete(nameOf(hello));
    this.#countEnds();
  }

  #admitted(claim: PeerClaim): void {
    this.#lost.seen(claim); // before its predecessor's streams are ended here
    this.#silenceOthers(claim);
  }

  /** Streams of processes that are not believed any more, since `claim` was heard: of an earlier one on its disk, or of both that run on copies of it. */
  #silenceOthers(claim: PeerClaim): void {
    for (const stream of this.#accepted.values()) {
      if (stream.hello?.claim.storageId !== claim.storageId) continue;
      const refusal = this.#reception.refusalOf(stream.hello.claim);
      if (refusal?.fault === "duplicate-process") stream.refuse(refusal);
      else if (refusal !== undefined) stream.replace();
    }
    for (const lane of this.#peers.get(claim.node)?.lanes.values() ?? []) {
      if (lane.claim?.storageId !== claim.storageId) continue;
      const refusal = this.#reception.refusalOf(lane.claim);
      if (refusal !== undefined) lane.giveUp(refusal);
    }
  }

  #onProblem(problem: PeerProblem): void {
    const peer = this.#peers.get(problem.node);
    if (peer === undefined || peer.lanes.get("control")?.isOpen) return;
    const known = peer.problem;
    peer.problem = problem;
    if (known?.fault !== problem.fault) this.#tell((to) => to.onProblem(problem));
  }

  /** Of somebody who dialled. */
  #onRefusal(node: NodeId, { fault, detail }: Refusal): void {
    if (this.#refused.get(node) === fault) return;
    if (!this.#refused.has(node) && this.#refused.size >= REFUSED_MAX) return;
    this.#refused.set(node, fault);
    this.#tell((to) => to.onProblem({ node, fault, detail }));
  }

  #tell(what: (receiver: TransportReceiver) => void): void {
    if (!this.#closed) what(this.#receiver);
  }

  #laneContext(): LaneContext {
    return { wire: this.#wire, timers: this.#timers, settings: this.#settings, reception: this.#reception, random: this.#random };
  }

  #openLane(context: LaneContext, node: NodeId, address: string, name: Lane): DialledLane {
    const lane = new DialledLane(context, { node, address, lane: name }, this);
    this.#lanes.add(lane);
    return lane;
  }

  #end(lane: DialledLane, silently = false): void {
    if (silently) lane.abandon();
    else lane.close();
    if (lane.isOver) this.#lanes.delete(lane);
  }

  /** What a peer says may be unreadable, and that is no reason to stop. */
  #read<T>(claim: PeerClaim, decode: () => T): T | undefined {
    try {
      return decode();
    } catch (error) {
      if (!(error instanceof OracleError && error.code === "TSO_WRONG_FORMAT")) throw error;
      const detail = `node ${this.#reception.self.node} cannot read what node ${claim.node} says: ${error.detail}`;
      this.#onRefusal(claim.node, { fault: "malformed", detail });
      return undefined;
    }
  }

  async #close({ silently }: { readonly silently: boolean }): Promise<void> {
    this.#closed = true;
    this.#lost.close();
    this.#peers.clear();
    if (silently) this.#wire.close();
    for (const lane of [...this.#lanes]) this.#end(lane, silently);
    for (const stream of [...this.#streams]) stream.sayBye();
    await new Promise<void>((resolve) => {
      this.#whenEnded = resolve;
      this.#countEnds();
    });
    this.#wire.close();
  }

  #countEnds(): void {
    if (this.#lanes.size === 0 && this.#streams.size === 0) this.#whenEnded?.();
  }
}

function nameOf({ claim, lane }: HelloFrame): string {
  return `${claim.node} ${claim.storageId} ${lane}`;
}
