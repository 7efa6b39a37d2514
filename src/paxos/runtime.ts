/**
 * Drives the turns of a member: what comes in is put into the inbox, and once the event loop has read all that was there, one turn runs. Its messages leave first, then its
 * write begins; there is one in flight, off the JavaScript thread (protocol, section 4). Whatever fails under a turn ends the node: its memory is ahead of its disk.
 */
import type { Epoch } from "../base/epoch.ts";
import { messageOf, OracleError } from "../base/errors.ts";
import type { NodeId } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Prng } from "../base/prng.ts";
import type { Leadership, ProposalOutcome, StateMachine } from "../log.ts";
import type { Configuration } from "./core/configuration.ts";
import type { CoreEvent, DiskRoom, FactsToServe, Recovered, RequestNumber } from "./core/effects.ts";
import type { PersistBatch } from "./core/image.ts";
import type { PaxosMessage } from "./core/messages.ts";
import type { CoreOptions } from "./core/options.ts";
import { type DiskRoomLimits, RoomWatch } from "./disk-room.ts";
import { InputRecorder } from "./recorder.ts";
import type { SnapshotStore } from "./snapshot-store.ts";
import type { LogStorage } from "./storage/log-storage.ts";
import type { PeerTimers } from "./transport/wire.ts";
import { type Answered, type Begun, type Finished, type ReadFailure, Turn, type TurnInput } from "./turn.ts";

export interface RuntimeParts {
  readonly recovered: Recovered;
  readonly options: CoreOptions;
  readonly random: Prng;
  readonly machine: StateMachine;
  readonly storage: LogStorage;
  /** What the machine was restored from is in `recovered`. */
  readonly snapshots: SnapshotStore;
  readonly diskRoom: DiskRoomLimits;
  readonly timers: PeerTimers;
  readonly logger: Logger;
  readonly send: (to: NodeId, message: PaxosMessage) => void;
  /** Only where it changed. */
  readonly onLeadership: (leadership: Leadership) => void;
  /** At the start, and whenever another was decided. */
  readonly onConfiguration: (configuration: Configuration) => void;
  /** The node must stop: an `OracleError` of the disk, an `InvariantViolation`, or what the host's machine threw. Called once, and nothing follows. */
  readonly onFault: (fault: unknown) => void;
}

/** Ticks that a process makes up for, at most, when it was late (protocol, F5). */
const LATE_TICKS_MAX = 2;
/** A turn that took longer leaves the rest of what is to be applied to the next one. */
const TURN_MS = 10;
/** What is read at once to be applied. */
const LOAD_BYTES = 4 * 1024 * 1024;

export class Runtime {
  readonly turn: Turn;
  /** What the last turns were made of. */
  readonly recorder: InputRecorder;
  /** Messages that were not acted upon, by reason: for people. */
  readonly dropped = new Map<string, number>();
  readonly #parts: RuntimeParts;
  readonly #proposals = new Map<RequestNumber, (outcome: ProposalOutcome) => void>();
  readonly #reads = new Map<RequestNumber, (answer: Answered) => void>();
  #stopTicking: () => void = () => undefined;
  #requests = 0;
  #isDue = false;
  #tickedAt: number;
  #over = false;
  #configuration: Configuration | undefined;
  readonly #roomWatch: RoomWatch;
  /** The write in flight. */
  #writing: Promise<void> | undefined;

  constructor(parts: RuntimeParts) {
    const { recovered, options, random, machine, timers } = parts;
    this.#parts = parts;
    this.recorder = new InputRecorder(options, random);
    this.turn = new Turn({ recovered, options, machine, random: this.recorder.random, beforeStep: this.recorder.beforeStep });
    this.#tickedAt = timers.now();
    parts.snapshots.attach(
      (input) => this.put(input),
      (fault) => this.#fail(fault),
    );
    this.#tellConfiguration();
    this.#awaitTick();
    this.#schedule();
    const { storage, diskRoom: limits, logger } = parts;
    this.#roomWatch = new RoomWatch({ storage, limits, timers, logger, onRoom: (room) => this.put({ type: "disk-room", room }) });
  }

  /** Of the disk, as it was last seen. */
  get room(): DiskRoom {
    return this.#roomWatch.room;
  }

  put(input: TurnInput): void {
    if (this.#over) return;
    this.turn.put(input);
    this.#schedule();
  }

  propose(
    payload: Uint8Array,
    { epoch, signal }: { readonly epoch?: Epoch | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<ProposalOutcome> {
    if (signal?.aborted === true) return Promise.resolve({ type: "not-applied", reason: "aborted" });
    if (this.#over) return Promise.resolve({ type: "not-applied", reason: "closed" });
    const id = this.#nextRequest();
    return new Promise((resolve) => {
      const abandon = (): void => this.put({ type: "abandon", id });
      signal?.addEventListener("abort", abandon, { once: true });
      this.#proposals.set(
        id,
        signal === undefined
          ? resolve
          : (outcome) => {
              signal.removeEventListener("abort", abandon);
              resolve(outcome);
            },
      );
      this.put({ type: "propose", id, payload, epoch });
    });
  }

  /** @returns undefined once it holds, else why it could not be shown. */
  async barrier(): Promise<ReadFailure | undefined> {
    const { ok, reason } = await this.#ask((id) => ({ type: "read", id }));
    return ok ? undefined : reason;
  }

  async confirm(epoch: Epoch): Promise<boolean> {
    return (await this.#ask((id) => ({ type: "confirm", id, epoch }))).ok;
  }

  /** Nothing leaves any more, and nothing is begun; what is open is settled. Returns when the write in flight has ended. Safe to call twice. */
  async stop(): Promise<void> {
    this.#end();
    await this.#writing;
    await this.#parts.snapshots.stop();
  }

  #ask(input: (id: RequestNumber) => TurnInput): Promise<Answered> {
    const id = this.#nextRequest();
    if (this.#over) return Promise.resolve({ id, ok: false, reason: "closed" });
    return new Promise((resolve) => {
      this.#reads.set(id, resolve);
      this.put(input(id));
    });
  }

  #nextRequest(): RequestNumber {
    this.#requests += 1;
    return this.#requests as RequestNumber;
  }

  /** The tick clock never runs ahead of time, not even to catch up: a process that was late has missed its ticks (protocol, F5). */
  #awaitTick(): void {
    const { timers, options } = this.#parts;
    this.#stopTicking = timers.after(this.#tickedAt + options.tickMs - timers.now(), () => {
      const passed = Math.floor((timers.now() - this.#tickedAt) / options.tickMs);
      this.#tickedAt += passed * options.tickMs;
      for (let tick = 0; tick < Math.min(passed, LATE_TICKS_MAX); tick++) this.put({ type: "tick" });
      this.#awaitTick();
    });
  }

  #schedule(): void {
    if (this.#isDue || this.#over) return;
    this.#isDue = true;
    this.#parts.timers.soon(() => this.#run());
  }

  #run(): void {
    this.#isDue = false;
    if (this.#over) return;
    const { timers } = this.#parts;
    const now = timers.now();
    try {
      this.#begin(this.turn.begin(now));
      if (!this.#over) this.#finish(this.turn.finish(() => timers.now() - now > TURN_MS));
    } catch (error) {
      return this.#fail(error); // an invariant, or the host's machine
    }
    if (this.turn.hasWork) this.#schedule();
  }

  #begin({ sends, write, serve, events, fence }: Begun): void {
    for (const event of events) this.#note(event);
    if (fence !== undefined) return this.#fail(new OracleError("TSO_STORAGE", fence));
    for (const { to, message } of sends) this.#parts.send(to, message);
    if (write !== undefined) this.#writing = this.#write(write);
    for (const request of serve) void this.#serve(request);
  }

  #finish({ load, settled, answered, capture, snapshots, installed, leadership }: Finished): void {
    if (installed !== undefined) this.#parts.logger.info({ slot: installed.slot, bytes: installed.bytes }, "a snapshot was installed");
    if (capture !== undefined) this.#parts.snapshots.capture(capture);
    for (const work of snapshots) this.#parts.snapshots.carryOut(work);
    if (load !== undefined) void this.#load(load);
    for (const { id, outcome } of settled) this.#settle(id, outcome);
    for (const answer of answered) this.#answer(answer);
    if (leadership !== undefined) this.#parts.onLeadership(leadership);
    this.#tellConfiguration();
  }

  async #write(batch: PersistBatch): Promise<void> {
    try {
      await this.#parts.storage.write(batch);
    } catch (error) {
      return this.#fail(error); // whether it is durable is not known
    }
    this.put({ type: "written" });
  }

  async #load({ from, through }: NonNullable<Finished["load"]>): Promise<void> {
    try {
      const entries = await this.#parts.storage.read({ after: (from - 1) as typeof from, through, maxBytes: LOAD_BYTES });
      this.put({ type: "loaded", entries });
    } catch (error) {
      this.#fail(error); // without it nothing after it can be applied
    }
  }

  /** What cannot be read is not served: the peer asks another. */
  async #serve(request: FactsToServe): Promise<void> {
    const { after, through, maxBytes } = request;
    try {
      this.put({ type: "served", request, entries: await this.#parts.storage.read({ after, through, maxBytes }) });
    } catch (error) {
      this.#parts.logger.error({ peer: request.to, after, error: messageOf(error) }, "an entry that a peer asked for cannot be read");
    }
  }

  #settle(id: RequestNumber, outcome: ProposalOutcome): void {
    const settle = this.#proposals.get(id);
    this.#proposals.delete(id);
    settle?.(outcome);
  }

  #answer(answer: Answered): void {
    const resolve = this.#reads.get(answer.id);
    this.#reads.delete(answer.id);
    resolve?.(answer);
  }

  #note(event: CoreEvent): void {
    if (event.type === "dropped") {
      this.dropped.set(event.reason, (this.dropped.get(event.reason) ?? 0) + 1);
      return;
    }
    const { role, ballot, reason } = event;
    this.#parts.logger.info({ role, ballot: `${ballot.round}.${ballot.prio}.${ballot.node}`, reason }, "role");
  }

  #fail(fault: unknown): void {
    if (this.#over) return;
    this.#end();
    this.#parts.onFault(fault);
  }

  #end(): void {
    if (this.#over) return;
    this.#stopTicking();
    this.#roomWatch.stop();
    for (const { id, outcome } of this.turn.end()) this.#settle(id, outcome);
    for (const id of [...this.#reads.keys()]) this.#answer({ id, ok: false, reason: "closed" });
    this.#over = true;
  }

  #tellConfiguration(): void {
    const { configuration } = this.turn.replica.state;
    if (configuration === this.#configuration) return;
    this.#configuration = configuration;
    this.#parts.onConfiguration(configuration);
  }
}
