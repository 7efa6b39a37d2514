/**
 * A node of the replicated log: a replica bound to a disk, to its peers and to time. It forms a cluster with the nodes of its list, or goes on as the member that its disk
 * says it is; applies what is decided to its host's state machine; and stops, loudly, when it can no longer trust its disk or itself.
 */
import { randomBytes, randomInt } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isBytes, kindOf } from "../base/bytes.ts";
import type { Epoch } from "../base/epoch.ts";
import { messageOf, OracleError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import { InvariantViolation, invariant } from "../base/invariant.ts";
import { Watched } from "../base/watched.ts";
import type { Leadership, ProposalOutcome, ReplicatedLog } from "../log.ts";
import type { Charter } from "./core/charter.ts";
import { answerForming, Forming } from "./core/forming.ts";
import type { FormingInput } from "./core/forming-effects.ts";
import { listText, sameList } from "./core/forming-list.ts";
import type { FormingMessage } from "./core/forming-messages.ts";
import type { PaxosMessage } from "./core/messages.ts";
import { type PaxosNodeOptions, type ResolvedNodeOptions, resolveNodeOptions } from "./node-options.ts";
import { type NodeStatus, snapshotWork, statusOf } from "./node-status.ts";
import { encodeRun } from "./recorder.ts";
import { Runtime } from "./runtime.ts";
import { SnapshotStore } from "./snapshot-store.ts";
import type { LogStorage } from "./storage/log-storage.ts";
import type { PeerClaim, PeerTransport, TransportReceiver } from "./transport/transport.ts";

/** Between two rounds of saying everything again, while a cluster is formed. */
const FORMING_TICK_MS = 100;
const WORK_TOLD_MS = 5_000;

export class PaxosNode implements ReplicatedLog {
  /** Settles when the node has stopped: resolved after `close()`, rejected with the reason where it stopped by itself. Then it must not go on: end the process. (A write may be in flight still; the directory is free once `close()` has returned.) */
  readonly done: Promise<void>;
  readonly #options: ResolvedNodeOptions;
  readonly #leadership = new Watched<Leadership>({ role: "unknown" });
  readonly #settle: { readonly resolve: () => void; readonly reject: (fault: unknown) => void };
  #transport: PeerTransport | undefined;
  #forming: Forming | undefined;
  #stopForming: () => void = () => undefined;
  #founding: Promise<void> | undefined;
  #leading: Promise<void> | undefined;
  #stopWatching: () => void = () => undefined;
  #snapshots: SnapshotStore | undefined;
  #runtime: Runtime | undefined;
  #fault: unknown;
  #closing: Promise<void> | undefined;
  /** Of the process, as a server's socket does: who awaits a node that speaks with nobody must not be left without an answer. */
  #keepsAlive: NodeJS.Timeout | undefined;

  private constructor(options: ResolvedNodeOptions) {
    this.#options = options;
    const { promise, resolve, reject } = withResolvers();
    this.#settle = { resolve, reject };
    this.done = promise;
    this.done.catch(() => undefined); // whoever awaits it hears of it; a host that does not must not die of it
  }

  /**
   * Returns once it listens to its peers; from then on it keeps the process alive until it has stopped. It then forms a cluster with them, or takes part in the one that its disk belongs to; `leadership()` tells when somebody leads.
   * Where it rejects, the storage is closed.
   * @throws OracleError TSO_INVALID_OPTION: an option or the list is out of its range, or the address to listen on cannot be had.
   */
  static async start(options: PaxosNodeOptions): Promise<PaxosNode> {
    let node: PaxosNode | undefined;
    try {
      node = new PaxosNode(resolveNodeOptions(options));
      await node.#start();
      return node;
    } catch (error) {
      const closing = node === undefined ? options?.storage?.close?.() : node.#stop((transport) => transport.abandon());
      await closing?.catch(() => undefined); // the first reason is the reason
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { storage, transport } = this.#options;
    if (storage.founding.type !== "formed") this.#prepareForming();
    this.#transport = await transport(this.#claim(), this.#receiver());
    this.#keepsAlive = setInterval(() => undefined, 2 ** 30);
    if (storage.founding.type === "formed") this.#leading = this.#lead(storage.founding.charter);
    else this.#form();
  }

  get node(): NodeId {
    return this.#options.storage.node;
  }

  async propose(command: Uint8Array, options: Parameters<ReplicatedLog["propose"]>[1] = {}): Promise<ProposalOutcome> {
    if (!isBytes(command)) throw new OracleError("TSO_INVALID_ARGUMENT", `a command is a Uint8Array, and this is ${kindOf(command)}`);
    if (this.#runtime !== undefined) return this.#runtime.propose(new Uint8Array(command), options); // a copy: it is the caller's again
    return { type: "not-applied", reason: this.#isOver ? "closed" : "not-leader" };
  }

  /**
   * Rejects where it cannot be shown: with TSO_NO_LEADER, TSO_OVERLOADED or TSO_CLOSED, or the signal's reason. Nothing is changed by it, so it can be asked again.
   */
  async barrier({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    signal?.throwIfAborted();
    if (this.#runtime === undefined) throw failedRead(this.#isOver ? "closed" : "not-leader");
    const asked = this.#runtime.barrier();
    const failure = signal === undefined ? await asked : await untilAborted(asked, signal);
    if (failure !== undefined) throw failedRead(failure);
  }

  async confirm(epoch: Epoch): Promise<boolean> {
    return (await this.#runtime?.confirm(epoch)) ?? false;
  }

  /** Ends when the node has stopped. */
  leadership({ signal }: { readonly signal?: AbortSignal | undefined } = {}): AsyncIterable<Leadership> {
    return this.#leadership.values(signal);
  }

  status(): NodeStatus {
    return statusOf({
      storage: this.#options.storage,
      links: this.#transport?.links() ?? [],
      runtime: this.#runtime,
      snapshots: this.#snapshots,
      problems: this.#forming?.state.problems ?? new Map(),
      leadership: this.#leadership.value,
      isOver: this.#isOver,
      fault: this.#fault,
    });
  }

  /**
   * Takes part in nothing any more: says so to its peers, waits for the write in flight, and frees the disk. Proposals whose outcome is open are `unknown`; those that
   * nobody has seen, and all that come later, are `not-applied`. Safe to call twice.
   */
  close(): Promise<void> {
    this.#closing ??= this.#stop((transport) => transport.close()).then(this.#settle.resolve, (error: unknown) => {
      this.#settle.reject(error);
      throw error;
    });
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get #isOver(): boolean {
    return this.#closing !== undefined || this.#fault !== undefined;
  }

  #claim(): PeerClaim {
    const { node, storageId, boot, founding } = this.#options.storage;
    const clusterId = founding.type === "formed" ? founding.charter.clusterId : undefined;
    return { node, storageId, boot, nonce: randomInt(2 ** 47), clusterId };
  }

  /** What comes before the transport is here is not answered, and will be said again. */
  #receiver(): TransportReceiver {
    const isReady = (): boolean => this.#transport !== undefined;
    return {
      onMessage: ({ node, storageId, boot }, message) => this.#runtime?.put({ type: "message", from: node, storageId, boot, message }),
      onForming: (from, message) => {
        if (isReady()) this.#onForming(from, message);
      },
      onConnectionLost: (peer, boot) => this.#runtime?.put({ type: "connection-lost", peer, boot }),
      onSendBlocked: (peer, blocked) => this.#runtime?.put({ type: "send-blocked", peer, blocked }),
      onProblem: ({ node: peer, fault, detail }) => this.#options.logger.warn({ peer, fault }, detail),
    };
  }

  #send(to: NodeId, message: PaxosMessage): void {
    this.#transport?.send(to, message);
  }

  #prepareForming(): void {
    const { storage, peers: list, init } = this.#options;
    const { node, storageId, founding } = storage;
    invariant(founding.type !== "formed", "what is formed is not formed again");
    this.#forming = new Forming({ node, storageId, list, founding, init, newClusterId: () => randomBytes(16).toString("hex") });
  }

  #form(): void {
    const { logger, timers, storage, peers } = this.#options;
    logger.info({ node: storage.node, disk: storage.storageId, peers: listText(peers) }, "forming a cluster");
    this.#transport?.setPeers(new Map(this.#forming?.list.map(({ id, address }) => [id, address])));
    const tick = (): void => {
      this.#stopForming = timers.after(FORMING_TICK_MS, tick);
      this.#stepForming({ type: "tick" });
    };
    tick();
  }

  #onForming(from: PeerClaim, message: FormingMessage): void {
    const { founding } = this.#options.storage;
    if (this.#runtime === undefined) return this.#stepForming({ type: "message", from, message });
    if (founding.type !== "formed") return;
    const { configuration } = this.#runtime.turn.replica.state;
    const answer = answerForming({ charter: founding.charter, configuration }, from, message);
    if (answer !== undefined) this.#transport?.sendForming(answer.to, answer.message);
  }

  #stepForming(input: FormingInput): void {
    if (this.#forming === undefined || this.#isOver) return;
    const { sends, persist, formed, problems, fatal } = this.#forming.step([input]);
    for (const { to, message } of sends) this.#transport?.sendForming(to, message);
    for (const { fault, detail } of problems) this.#options.logger.warn({ fault }, detail);
    if (persist !== undefined) this.#founding = this.#found(persist);
    if (fatal !== undefined) return this.#onFault(new OracleError("TSO_INVALID_OPTION", fatal.detail));
    if (formed !== undefined) this.#leading = this.#lead(formed);
  }

  async #found(founding: Parameters<LogStorage["found"]>[0]): Promise<void> {
    try {
      await this.#options.storage.found(founding);
      this.#stepForming({ type: "written" });
    } catch (error) {
      this.#onFault(error);
    }
  }

  /** The disk belongs to that cluster: from here on it takes part. */
  async #lead(charter: Charter): Promise<void> {
    try {
      await this.#takePart(charter);
    } catch (error) {
      this.#onFault(error); // the machine, or the disk
    }
  }

  async #takePart(charter: Charter): Promise<void> {
    const { storage, machine, timers, logger, random, diskRoom, peers, core } = this.#options;
    this.#stopForming();
    this.#forming = undefined;
    const snapshots = new SnapshotStore({ storage, machine, diskRoom, logger });
    this.#snapshots = snapshots;
    this.#watchWork();
    const found = storage.recovered();
    const recovered = { ...found, snapshot: await snapshots.restoreNewest(found.image) };
    if (this.#isOver) return;
    const { configuration } = recovered.image;
    const listed = configuration.members.map(({ id, address }) => ({ id, address }));
    logger.info({ node: storage.node, cluster: charter.clusterId, members: listText(listed), boot: storage.boot }, "member of a cluster");
    if (!sameList(listed, peers)) {
      logger.warn({ peers: listText(peers), members: listText(listed) }, "the list of peers is not the cluster's membership, and is not used");
    }
    this.#transport?.joinCluster(charter.clusterId);
    this.#runtime = new Runtime({
      ...{ recovered, machine, storage, snapshots, timers, logger, random, diskRoom, options: core },
      send: (to, message) => this.#send(to, message),
      onLeadership: (leadership) => this.#leadership.set(leadership),
      onConfiguration: ({ members }) => this.#transport?.setPeers(new Map(members.map(({ id, address }) => [id, address]))),
      onFault: (fault) => this.#onFault(fault),
    });
  }

  /** Work that takes long is told of, every few seconds. */
  #watchWork(): void {
    const { logger, timers } = this.#options;
    this.#stopWatching = timers.after(WORK_TOLD_MS, () => {
      for (const { type, ...rest } of snapshotWork(this.#snapshots, this.#runtime)) logger.info(rest, `a snapshot: ${type}`);
      this.#watchWork();
    });
  }

  #onFault(fault: unknown): void {
    if (this.#isOver) return;
    this.#fault = fault;
    this.#options.logger.error({ node: this.node, error: messageOf(fault) }, "the node stops");
    this.#closing = this.#giveUp(fault);
  }

  /** A write in flight may never end, so nobody waits for it but who calls `close`: to be told, and to be followed by another leader, must not depend on a disk. */
  async #giveUp(fault: unknown): Promise<void> {
    const dumped = this.#dump(fault);
    const stopped = this.#stop((transport) => transport.abandon()).catch(() => undefined);
    await dumped;
    this.#settle.reject(fault);
    await stopped;
  }

  async #dump(fault: unknown): Promise<void> {
    const { dumpDirectory, logger, storage } = this.#options;
    const run = fault instanceof InvariantViolation ? this.#runtime?.recorder.run() : undefined;
    if (run === undefined || dumpDirectory === undefined) return;
    const file = join(dumpDirectory, `paxos-run-node-${storage.node}-boot-${storage.boot}.bin`);
    try {
      await writeFile(file, encodeRun(run));
      logger.error({ file }, "the inputs that led to it are kept: `npm run sim -- --replay FILE` makes the run again");
    } catch (error) {
      logger.error({ file, error: messageOf(error) }, "the inputs that led to it cannot be kept");
    }
  }

  async #stop(leave: (transport: PeerTransport) => Promise<void>): Promise<void> {
    this.#stopForming();
    this.#stopWatching();
    const written = this.#runtime?.stop();
    this.#leadership.set({ role: "unknown" });
    this.#leadership.end();
    try {
      if (this.#transport !== undefined) await leave(this.#transport);
    } finally {
      await written;
      await this.#founding;
      await this.#leading;
      await this.#options.storage.close().finally(() => clearInterval(this.#keepsAlive));
    }
  }
}

function failedRead(reason: "not-leader" | "overloaded" | "timeout" | "closed"): OracleError {
  switch (reason) {
    case "closed":
      return new OracleError("TSO_CLOSED", "the node has stopped");
    case "overloaded":
      return new OracleError("TSO_OVERLOADED", "too many reads wait already");
    default:
      return new OracleError("TSO_NO_LEADER", "no leader has shown, in time, that it still leads");
  }
}

/** Rejects with the signal's reason as soon as that is aborted; what was asked for is then answered to nobody. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function withResolvers(): { readonly promise: Promise<void>; readonly resolve: () => void; readonly reject: (reason: unknown) => void } {
  let resolve: () => void = () => undefined;
  let reject: (reason: unknown) => void = () => undefined;
  const promise = new Promise<void>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
