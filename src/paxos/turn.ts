/**
 * A turn of a node: everything that came in since the last one goes through one step, and what the step wants is put into order (protocol, section 4): sends
 * first, then at most one write, then what can be applied, then answers. Pure and synchronous: the runtime and the simulator drive the same code.
 *
 * One write is in flight at a time. What is to be written meanwhile is merged into the next one, so batches form by themselves, without a timer.
 */

import { isBytes, kindOf } from "../base/bytes.ts";
import type { Epoch } from "../base/epoch.ts";
import { OracleError } from "../base/errors.ts";
import { type Slot, slot } from "../base/ids.ts";
import { InvariantViolation } from "../base/invariant.ts";
import { mark } from "../base/marks.ts";
import type { Prng } from "../base/prng.ts";
import type { Leadership, Prepared, ProposalOutcome, SnapshotView, StateMachine } from "../log.ts";
import { BALLOT_ZERO, type Ballot, epochOf, sameBallot } from "./core/ballot.ts";
import { type Configuration, configurationCodec } from "./core/configuration.ts";
import type { Effects, FactsToServe, Input, ReadResult, Recovered, RequestNumber } from "./core/effects.ts";
import type { Entry } from "./core/entry.ts";
import { mergeBatches, type PersistBatch } from "./core/image.ts";
import type { Outgoing, PaxosMessage } from "./core/messages.ts";
import type { CoreOptions } from "./core/options.ts";
import { PaxosReplica } from "./core/replica.ts";
import type { LogPoint, SnapshotMeta } from "./core/snapshot.ts";
import { type SnapshotPiece, type SnapshotProgress, SnapshotReceiver, SnapshotServer, type SnapshotWork } from "./core/snapshot-transfer.ts";

export type TurnInput =
  | Exclude<
      Input,
      { readonly type: "message" | "persisted" | "persist-failed" | "applied" | "snapshot-pulled" | "snapshot-failed" | "snapshot-served" }
    >
  | (Omit<Extract<Input, { readonly type: "message" }>, "message"> & { readonly message: PaxosMessage })
  /** The write in flight is durable. */
  | { readonly type: "written" }
  /** The write in flight failed, or may have: the node stops. */
  | { readonly type: "write-failed"; readonly reason: string }
  /** Nobody waits for this proposal any more: not applied if it is still in the inbox, else unknown, for it may still be decided. */
  | { readonly type: "abandon"; readonly id: RequestNumber }
  /** Answer to one of `Actions.serve`: entries after `request.after`, through `request.through` at most. */
  | { readonly type: "served"; readonly request: FactsToServe; readonly entries: readonly Entry[] }
  /** Answer to `Actions.load`: entries from there on, as far as was convenient; none where the log was compacted meanwhile. */
  | { readonly type: "loaded"; readonly entries: readonly Entry[] }
  /** What `Actions.capture` asked for is not there, and will not be: it is asked for again later. */
  | { readonly type: "snapshot-skipped" }
  /** Everything through `bytes` of a snapshot that is pulled is on this disk. */
  | { readonly type: "snapshot-stored"; readonly id: string; readonly bytes: number }
  /** It is on this disk as a whole, is what its sender said, and the machine has built it beside its state. */
  | { readonly type: "snapshot-staged"; readonly meta: SnapshotMeta; readonly prepared: Prepared }
  /** It is not what its sender said, or this disk has no room for it. Nothing of it is left. */
  | { readonly type: "snapshot-refused"; readonly id: string }
  /** Answer to a `read`; nothing where there is no such snapshot any more. */
  | { readonly type: "snapshot-read"; readonly piece: SnapshotPiece; readonly bytes: Uint8Array | undefined };

/** The state of the machine, frozen, and what it is the state of. */
export interface Capture extends LogPoint {
  readonly configuration: Configuration;
  readonly view: SnapshotView;
}

export interface Settled {
  readonly id: RequestNumber;
  readonly outcome: ProposalOutcome;
}

/** Why a read or a confirmation could not be shown. */
export type ReadFailure = Extract<ReadResult, { readonly type: "failed" }>["reason"] | "closed";

/** `true`: what was asked for holds now. `false`: it could not be shown. */
export interface Answered {
  readonly id: RequestNumber;
  readonly ok: boolean;
  readonly reason?: ReadFailure | undefined;
  /** For a read that is ok: everything through here is applied. */
  readonly through?: Slot | undefined;
}

/** The first half of a turn: what must not wait for the state machine. */
export interface Begun extends Pick<Effects, "serve" | "events" | "fence"> {
  /** May leave now, in this order. */
  readonly sends: readonly Outgoing<PaxosMessage>[];
  /** To be written now; nothing else is in flight. Ends in `written` or `write-failed`. */
  readonly write?: PersistBatch | undefined;
}

/** The second half. */
export interface Finished {
  /** To be read from the log on disk and put in as `loaded`; asked for once. */
  readonly load?: { readonly from: Slot; readonly through: Slot } | undefined;
  readonly settled: readonly Settled[];
  readonly answered: readonly Answered[];
  /** To be carried out in this order. */
  readonly snapshots: readonly SnapshotWork[];
  /** To be written down as a snapshot, one at a time. Ends in `snapshot-made` or `snapshot-skipped`. */
  readonly capture?: Capture | undefined;
  /** The machine has become what this snapshot says. */
  readonly installed?: SnapshotMeta | undefined;
  /** Only where it changed. */
  readonly leadership?: Leadership | undefined;
}

export interface Actions extends Begun, Finished {}

export interface TurnOptions {
  readonly recovered: Recovered;
  readonly options: CoreOptions;
  readonly random: Prng;
  /** As of `recovered.snapshot`; empty, if there is none. */
  readonly machine: StateMachine;
  /** Told of every step before it is made: with a checkpoint of the replica it can be made again. */
  readonly beforeStep?: StepObserver | undefined;
}

export type StepObserver = (replica: PaxosReplica, inputs: readonly Input[], nowMs: number) => void;

/** What a turn applies before it lets other work run; the rest follows in the next ones. */
const APPLIES_PER_TURN = 4_096;
/** A snapshot is not taken before the log has grown by this part of the last one, whatever else says so: no more than four bytes of state are written for a byte of log. */
const LOG_SHARE = 4;
/** How often a turn asks whether it has taken long enough, in entries. */
const APPLIES_PER_LOOK = 16;

export class Turn {
  readonly replica: PaxosReplica;
  readonly #machine: StateMachine;
  readonly #options: CoreOptions;
  readonly #beforeStep: StepObserver | undefined;
  #inbox: Input[] = [];
  #settled: Settled[] = [];
  #sends: Outgoing<PaxosMessage>[] = [];
  #inFlight: PersistBatch | undefined;
  #waiting: PersistBatch[] = [];
  #applied: AppliedPoint;
  #applyThrough: Slot;
  /** From storage, for slots that memory no longer holds. */
  #loaded: Entry[] = [];
  #loading = false;
  /** A load brought nothing, although this was asked for. */
  #notFound: Slot | undefined;
  readonly #receiver: SnapshotReceiver;
  readonly #server: SnapshotServer;
  #newest: SnapshotMeta | undefined;
  #snapshotWork: SnapshotWork[] = [];
  /** What was pulled, and waits for the log to begin after it. */
  #staged: { readonly meta: SnapshotMeta; readonly prepared: Prepared } | undefined;
  /** Applied since the state was written down last. */
  #sinceCapture = { entries: 0, bytes: 0 };
  #capturing = false;
  /** Although little has changed: somebody needs one. */
  #captureWanted = false;
  #captureFrom = 0;
  /** Decided proposals by slot, until they are applied. */
  readonly #decided = new Map<Slot, RequestNumber>();
  /** Proposals whose outcome is open. */
  readonly #open = new Set<RequestNumber>();
  /** Reads that wait for their slot to be applied. */
  #reads: WaitingRead[] = [];
  #readsCheckedAt: Slot;
  /** Since the start; and when the machine got further last. */
  #ticks = 0;
  #appliedAtTick = 0;
  #told: { readonly role: Leadership["role"]; readonly ballot: Ballot | undefined } = { role: "unknown", ballot: undefined };
  #origin = BALLOT_ZERO;
  #epoch = epochOf(BALLOT_ZERO);
  #fenced = false;
  /** Of the step that this turn began with. */
  #effects: Effects | undefined;

  constructor({ recovered, options, random, machine, beforeStep }: TurnOptions) {
    this.replica = new PaxosReplica(recovered, options, random);
    this.#machine = machine;
    this.#options = options;
    this.#beforeStep = beforeStep;
    const { snapshot } = recovered;
    this.#receiver = new SnapshotReceiver(options);
    this.#server = new SnapshotServer(options, snapshot);
    this.#newest = snapshot;
    this.#applied = snapshot ?? { slot: slot(0), origin: BALLOT_ZERO, chain: 0, configuration: undefined };
    if (snapshot === undefined && recovered.image.compactedThrough > 0) mark("snapshot-missing");
    this.#applyThrough = this.#applied.slot;
    this.#readsCheckedAt = this.#applied.slot;
  }

  get appliedThrough(): Slot {
    return this.#applied.slot;
  }

  /** Snapshots on their way to this node, and from it. */
  get snapshotProgress(): { readonly receiving: SnapshotProgress | undefined; readonly sending: readonly SnapshotProgress[] } {
    return { receiving: this.#receiver.progress, sending: this.#server.progress };
  }

  /** No turn follows. What no step has seen is not applied and never will be; of the rest nobody knows. */
  end(): readonly Settled[] {
    this.#fenced = true;
    const queued = new Set(this.#inbox.map((input) => (input.type === "propose" ? input.id : undefined)));
    const open = [...this.#open].map((id): Settled => ({ id, outcome: { type: queued.has(id) ? "not-applied" : "unknown", reason: "closed" } }));
    this.#open.clear();
    return [...this.#takeSettled(), ...open];
  }

  /** Whether a turn would do anything. */
  get hasWork(): boolean {
    return (
      !this.#fenced &&
      (this.#inbox.length > 0 || this.#settled.length > 0 || this.#sends.length > 0 || this.#snapshotWork.length > 0 || this.#canApply())
    );
  }

  put(input: TurnInput): void {
    switch (input.type) {
      case "written": {
        const { seq } = this.#takeInFlight();
        this.#inbox.push({ type: "persisted", seq });
        return;
      }
      case "tick":
        this.#ticks += 1;
        if (this.#receiver.isStuck(this.#ticks)) this.#giveUpPull();
        this.#inbox.push(input);
        return;
      case "write-failed":
        this.#inbox.push({ type: "persist-failed", reason: input.reason });
        return;
      case "loaded":
        this.#loading = false;
        this.#loaded = [...input.entries];
        if (input.entries.length === 0) this.#notFound = slot(this.appliedThrough + 1);
        return;
      case "message":
        this.#onMessage(input);
        return;
      case "snapshot-made":
        this.#capturing = false;
        this.#inbox.push(input);
        return;
      case "snapshot-skipped":
        this.#capturing = false;
        this.#captureWanted = true;
        this.#captureFrom = this.#ticks + this.#options.snapshotTicks;
        return;
      case "snapshot-stored":
        this.#receiver.onStored(input.id, input.bytes, this.#ticks, this.#snapshotWork);
        return;
      case "snapshot-staged":
        this.#staged = input;
        this.#receiver.forget(); // it is the log's business now
        this.#inbox.push({ type: "snapshot-pulled", meta: input.meta });
        return;
      case "snapshot-refused":
        this.#receiver.forget();
        this.#inbox.push({ type: "snapshot-failed", id: input.id });
        return;
      case "snapshot-read":
        this.#sends.push(this.#server.onRead(input.piece, input.bytes));
        return;
      case "served": {
        const { to, id, after, decidedThrough } = input.request;
        this.#sends.push({ to, message: { type: "fetch-reply", id, after, entries: input.entries, decidedThrough } });
        return;
      }
      case "propose":
        if (this.#open.size >= this.#options.maxProposals) {
          this.#settled.push({ id: input.id, outcome: { type: "not-applied", reason: "overloaded" } });
          return;
        }
        this.#open.add(input.id);
        this.#inbox.push(input);
        return;
      case "abandon":
        this.#abandon(input.id);
        return;
      default:
        this.#inbox.push(input);
    }
  }

  /** Both halves, for who drives turns by hand. */
  run(nowMs: number): Actions {
    return { ...this.begin(nowMs), ...this.finish() };
  }

  /** Makes the step. @param nowMs monotonic, read after the inbox was filled (rule F5). @throws InvariantViolation for a bug: the node must stop. */
  begin(nowMs: number): Begun {
    if (this.#fenced) return NOTHING;
    const inputs = this.#inbox;
    this.#inbox = [];
    const servedFrom = this.#server.servedFrom;
    if (servedFrom !== this.replica.state.snapshots.servedFrom) inputs.push({ type: "snapshot-served", from: servedFrom });
    inputs.push({ type: "applied", through: this.appliedThrough });
    this.#beforeStep?.(this.replica, inputs, nowMs);
    const effects = this.replica.step(inputs, nowMs);
    if (effects.fence !== undefined) {
      this.#fenced = true;
      return { ...NOTHING, events: effects.events, fence: effects.fence };
    }
    if (effects.persist !== undefined) this.#waiting.push(effects.persist);
    this.#effects = effects;
    this.#followSnapshots(effects);
    return { sends: this.#allSends(effects.sends), write: this.#nextWrite(), serve: effects.serve, events: effects.events };
  }

  /**
   * Applies what can be applied, and answers who waits for it. Follows `begin`, with nothing put in between.
   * @param isLate asked now and then whether other work should run first; what is left follows in the next turn.
   * @throws what the machine throws, and TypeError where it returns no bytes: the node must stop.
   */
  finish(isLate: () => boolean = never): Finished {
    const effects = this.#effects;
    if (effects === undefined) return { settled: this.#takeSettled(), answered: NO_ANSWERED, snapshots: this.#takeSnapshotWork() };
    this.#effects = undefined;
    this.#noteProposals(effects);
    if (effects.apply !== undefined) this.#applyThrough = effects.apply.through;
    // What follows a snapshot is applied in the next turn: whoever looks on has seen the machine as of the snapshot by then.
    if (effects.install !== undefined) this.#install(effects.install);
    else this.#apply(isLate);
    return {
      load: this.#nextLoad(),
      answered: this.#answerReads(effects),
      settled: this.#takeSettled(),
      capture: this.#captureIfDue(effects),
      snapshots: this.#takeSnapshotWork(),
      installed: effects.install,
      leadership: this.#changedLeadership(),
    };
  }

  #takeInFlight(): PersistBatch {
    const batch = this.#inFlight;
    if (batch === undefined) throw new InvariantViolation("a write that ended had begun");
    this.#inFlight = undefined;
    return batch;
  }

  #nextWrite(): PersistBatch | undefined {
    if (this.#inFlight !== undefined) return undefined;
    if (this.#waiting.length > 1) mark("persist-merged");
    this.#inFlight = mergeBatches(this.#waiting);
    this.#waiting = [];
    return this.#inFlight;
  }

  #abandon(id: RequestNumber): void {
    if (!this.#open.delete(id)) return;
    const place = this.#inbox.findIndex((input) => input.type === "propose" && input.id === id);
    if (place >= 0) {
      this.#inbox.splice(place, 1);
      this.#settled.push({ id, outcome: { type: "not-applied", reason: "aborted" } });
      return;
    }
    this.#settled.push({ id, outcome: { type: "unknown", reason: "aborted" } });
  }

  #noteProposals(effects: Effects): void {
    for (const result of effects.proposals) {
      if (!this.#open.has(result.id)) continue; // abandoned in this very turn
      if (result.type === "decided") {
        this.#decided.set(result.slot, result.id);
      } else if (result.type === "unknown") {
        this.#open.delete(result.id);
        this.#settled.push({ id: result.id, outcome: { type: "unknown", reason: "snapshot" } });
      } else {
        this.#open.delete(result.id);
        this.#settled.push({ id: result.id, outcome: { type: "not-applied", reason: result.reason, leader: result.leader } });
      }
    }
  }

  #canApply(): boolean {
    return this.#mayApply && this.#entryToApply() !== undefined;
  }

  /** While a snapshot is about to take the place of what the machine has, nothing is applied: what comes next follows that (rule S3). */
  get #mayApply(): boolean {
    return this.appliedThrough < this.#applyThrough && this.replica.state.snapshots.installing === undefined;
  }

  #entryToApply(): Entry | undefined {
    const next = slot(this.appliedThrough + 1);
    const cached = this.replica.cachedEntry(next);
    if (cached !== undefined) return cached;
    const first = this.#loaded[0];
    return first === undefined ? undefined : this.#loaded[next - first.slot];
  }

  #apply(isLate: () => boolean): void {
    for (let count = 0; count < APPLIES_PER_TURN && this.#mayApply; count++) {
      if (count > 0 && count % APPLIES_PER_LOOK === 0 && isLate()) return;
      const entry = this.#entryToApply();
      if (entry === undefined) return;
      if (entry.slot !== this.appliedThrough + 1)
        throw new InvariantViolation("entries are applied in order", { applied: this.appliedThrough, slot: entry.slot });
      const epoch = this.#epochOf(entry.origin);
      const result = entry.kind === "app" ? this.#machine.apply(entry.payload, { slot: entry.slot, epoch, earlier: [] }) : EMPTY;
      if (!isBytes(result)) throw new TypeError(`the state machine returned ${kindOf(result)} for entry ${entry.slot}, and not a Uint8Array`);
      const configuration = entry.kind === "config" ? configurationCodec.decode(entry.payload) : this.#applied.configuration;
      this.#applied = { slot: entry.slot, origin: entry.origin, chain: entry.chain, configuration };
      this.#sinceCapture.entries += 1;
      this.#sinceCapture.bytes += entry.record.length;
      this.#settle(entry.slot, epoch, result);
    }
  }

  #settle(at: Slot, epoch: Epoch, result: Uint8Array): void {
    const id = this.#decided.get(at);
    if (id === undefined) return;
    this.#decided.delete(at);
    if (!this.#open.delete(id)) return; // abandoned
    this.#settled.push({ id, outcome: { type: "applied", slot: at, epoch, result } });
  }

  /** Kept from one entry to the next, for it costs several bigints: neighbours mostly have one origin. */
  #epochOf(origin: Ballot): Epoch {
    if (!sameBallot(origin, this.#origin)) {
      this.#origin = origin;
      this.#epoch = epochOf(origin);
    }
    return this.#epoch;
  }

  #nextLoad(): Finished["load"] {
    if (this.#loading || !this.#mayApply || this.#canApply()) return undefined;
    const from = slot(this.appliedThrough + 1);
    if (this.#notFound === from) throw new OracleError("TSO_STORAGE", `entry ${from}, which is to be applied, is not in the log`);
    mark("load-to-apply");
    this.#loading = true;
    this.#loaded = [];
    return { from, through: this.#applyThrough };
  }

  #allSends(sends: readonly Outgoing[]): readonly Outgoing<PaxosMessage>[] {
    if (this.#sends.length === 0) return sends;
    const all = [...sends, ...this.#sends];
    this.#sends = [];
    return all;
  }

  /** What is about snapshots' bytes is for this node's own disk; the protocol does not see it. */
  #onMessage(input: Extract<TurnInput, { readonly type: "message" }>): void {
    const { from, message } = input;
    if (message.type === "snapshot-chunk") {
      if (this.#receiver.onChunk(from, message, this.#ticks, this.#snapshotWork) === "gone") this.#giveUpPull();
    } else if (message.type === "snapshot-request") {
      const answer = this.#server.onRequest(from, message, this.#ticks);
      if (answer === undefined) return;
      if ("message" in answer) this.#sends.push(answer);
      else this.#snapshotWork.push(answer);
    } else {
      this.#inbox.push({ ...input, message });
    }
  }

  #giveUpPull(): void {
    const meta = this.#receiver.giveUp();
    if (meta !== undefined) this.#inbox.push({ type: "snapshot-failed", id: meta.id });
  }

  /** What a step wants of snapshots, and what has become of no use since. */
  #followSnapshots({ pull, discard, snapshotWanted }: Effects): void {
    if (pull !== undefined) this.#receiver.begin(pull, this.#ticks, this.#snapshotWork);
    if (discard !== undefined) this.#discard(discard);
    if (snapshotWanted === true) this.#captureWanted = true;
    this.#sends.push(...this.#receiver.ask(this.#ticks));
    const { newest } = this.replica.state.snapshots;
    if (newest === undefined) return;
    if (newest !== this.#newest) this.#server.add(newest);
    this.#newest = newest;
    const { compactedThrough } = this.replica.state.log;
    for (const { id } of this.#server.expire(this.#ticks, { newest: newest.slot, compactedThrough })) this.#snapshotWork.push({ type: "drop", id });
    const { leftover } = this.#receiver;
    if (leftover !== undefined && leftover.slot <= this.replica.decidedThrough) this.#discard(leftover);
  }

  #discard(meta: SnapshotMeta): void {
    if (this.#staged?.meta.id === meta.id) {
      this.#staged.prepared.discard();
      this.#staged = undefined;
    }
    if (this.#receiver.holds(meta.id)) this.#receiver.forget();
    this.#snapshotWork.push({ type: "drop", id: meta.id });
  }

  /** S3. The log begins after it, durably: so does the machine. Proposals whose slots it skips are decided, or are not, and nobody here can tell. */
  #install(meta: SnapshotMeta): void {
    if (this.#staged?.meta.id !== meta.id)
      throw new InvariantViolation("what is installed was staged", { id: meta.id, staged: this.#staged?.meta.id });
    this.#staged.prepared.install();
    this.#staged = undefined;
    this.#receiver.forget();
    this.#applied = meta;
    if (this.#applyThrough < meta.slot) this.#applyThrough = meta.slot;
    this.#loaded = [];
    this.#sinceCapture = { entries: 0, bytes: 0 };
    for (const [at, id] of this.#decided) {
      if (at > meta.slot) continue;
      this.#decided.delete(at);
      if (this.#open.delete(id)) this.#settled.push({ id, outcome: { type: "unknown", reason: "snapshot" } });
    }
  }

  #captureIfDue({ install }: Effects): Capture | undefined {
    const { slot: at, origin, chain, configuration } = this.#applied;
    const { snapshots } = this.replica.state;
    if (this.#capturing || configuration === undefined || this.#ticks < this.#captureFrom || install !== undefined) return undefined;
    if (at <= (snapshots.newest?.slot ?? 0) || snapshots.installing !== undefined || snapshots.missing) return undefined;
    const { snapshotEntries, snapshotBytes } = this.#options;
    const { entries, bytes } = this.#sinceCapture;
    const isMuch = entries >= snapshotEntries || bytes >= snapshotBytes;
    if (!this.#captureWanted && !(isMuch && bytes * LOG_SHARE >= (snapshots.newest?.bytes ?? 0))) return undefined;
    this.#captureWanted = false;
    this.#capturing = true;
    this.#sinceCapture = { entries: 0, bytes: 0 };
    return { slot: at, origin, chain, configuration, view: this.#machine.capture() };
  }

  #takeSnapshotWork(): readonly SnapshotWork[] {
    if (this.#snapshotWork.length === 0) return NO_WORK;
    const work = this.#snapshotWork;
    this.#snapshotWork = [];
    return work;
  }

  #takeSettled(): readonly Settled[] {
    if (this.#settled.length === 0) return NO_SETTLED;
    const settled = this.#settled;
    this.#settled = [];
    return settled;
  }

  #answerReads(effects: Effects): readonly Answered[] {
    const answered: Answered[] = [];
    if (this.appliedThrough > this.#readsCheckedAt) this.#appliedAtTick = this.#ticks;
    if (this.#reads.length > 0 && (this.appliedThrough > this.#readsCheckedAt || this.#isLate(this.#reads[0]))) {
      const waiting = this.#reads;
      this.#reads = [];
      for (const read of waiting) this.#answerOrKeep(read, answered);
    }
    this.#readsCheckedAt = this.appliedThrough;
    for (const { id, ...result } of effects.reads) {
      if (result.type === "ready") this.#answerOrKeep({ id, through: result.through, sinceTick: this.#ticks }, answered);
      else answered.push({ id, ok: result.type === "confirmed", reason: result.type === "failed" ? result.reason : undefined });
    }
    return answered.length === 0 ? NO_ANSWERED : answered;
  }

  #answerOrKeep(read: WaitingRead, answered: Answered[]): void {
    if (read.through <= this.appliedThrough) answered.push({ id: read.id, ok: true, through: read.through });
    else if (this.#isLate(read)) answered.push({ id: read.id, ok: false, reason: "timeout" });
    else if (this.#reads.length < this.#options.maxWaitingReads) this.#reads.push(read);
    else answered.push({ id: read.id, ok: false, reason: "overloaded" });
  }

  /** The slot is decided, and may yet never come here: a full disk takes no entries. As long as the machine gets further, it is waited for. */
  #isLate(read: WaitingRead | undefined): boolean {
    return read !== undefined && this.#ticks - Math.max(read.sinceTick, this.#appliedAtTick) >= this.#options.readTicks;
  }

  /** A reign is told of only once its Start entry is applied here. */
  #changedLeadership(): Leadership | undefined {
    const { leading, following } = this.replica;
    const leads = leading?.reignSlot !== undefined && leading.reignSlot <= this.appliedThrough;
    const ballot = leads ? leading.ballot : following;
    const role = leads ? "leader" : ballot === undefined ? "unknown" : "follower";
    if (role === this.#told.role && sameBallot(ballot, this.#told.ballot)) return undefined;
    this.#told = { role, ballot };
    if (ballot === undefined) return { role: "unknown" };
    const epoch = epochOf(ballot);
    return leads ? { role: "leader", epoch } : { role: "follower", leader: { node: ballot.node, epoch } };
  }
}

/** What the machine has, and who took part as of then; nobody knows before the first configuration was applied. */
interface AppliedPoint extends LogPoint {
  readonly configuration: Configuration | undefined;
}

interface WaitingRead {
  readonly id: RequestNumber;
  readonly through: Slot;
  /** When it began to wait for that slot. */
  readonly sinceTick: number;
}

const never = (): boolean => false;

const EMPTY = new Uint8Array();
const NO_SETTLED: readonly Settled[] = [];
const NO_ANSWERED: readonly Answered[] = [];
const NO_WORK: readonly SnapshotWork[] = [];
const NOTHING: Begun = { sends: [], serve: [], events: [] };
