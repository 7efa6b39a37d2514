/**
 * A turn of a node: everything that came in since the last one goes through one step, and what the step wants is put into order (protocol, section 4): sends
 * first, then at most one write, then what can be applied, then answers. Pure and synchronous: the runtime and the simulator drive the same code.
 *
 * One write is in flight at a time. What is to be written meanwhile is merged into the next one, so batches form by themselves, without a timer.
 */

import { isBytes, kindOf } from "../base/bytes.ts";
import type { Epoch } from "../base/epoch.ts";
import { type Slot, slot } from "../base/ids.ts";
import { InvariantViolation } from "../base/invariant.ts";
import { mark } from "../base/marks.ts";
import type { Prng } from "../base/prng.ts";
import type { Leadership, ProposalOutcome, StateMachine } from "../log.ts";
import { BALLOT_ZERO, type Ballot, epochOf, sameBallot } from "./core/ballot.ts";
import type { Effects, FactsToServe, Input, ReadResult, Recovered, RequestNumber } from "./core/effects.ts";
import type { Entry } from "./core/entry.ts";
import { mergeBatches, type PersistBatch } from "./core/image.ts";
import type { Outgoing } from "./core/messages.ts";
import type { CoreOptions } from "./core/options.ts";
import { PaxosReplica } from "./core/replica.ts";

export type TurnInput =
  | Exclude<Input, { readonly type: "persisted" | "persist-failed" | "applied" }>
  /** The write in flight is durable. */
  | { readonly type: "written" }
  /** The write in flight failed, or may have: the node stops. */
  | { readonly type: "write-failed"; readonly reason: string }
  /** Nobody waits for this proposal any more: not applied if it is still in the inbox, else unknown, for it may still be decided. */
  | { readonly type: "abandon"; readonly id: RequestNumber }
  /** Answer to one of `Actions.serve`: entries after `request.after`, through `request.through` at most. */
  | { readonly type: "served"; readonly request: FactsToServe; readonly entries: readonly Entry[] }
  /** Answer to `Actions.load`: entries from there on, at least one, as far as was convenient. */
  | { readonly type: "loaded"; readonly entries: readonly Entry[] };

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
export interface Begun extends Pick<Effects, "sends" | "serve" | "events" | "fence"> {
  /** To be written now; nothing else is in flight. Ends in `written` or `write-failed`. */
  readonly write?: PersistBatch | undefined;
}

/** The second half. */
export interface Finished {
  /** To be read from the log on disk and put in as `loaded`; asked for once. */
  readonly load?: { readonly from: Slot; readonly through: Slot } | undefined;
  readonly settled: readonly Settled[];
  readonly answered: readonly Answered[];
  /** Only where it changed. */
  readonly leadership?: Leadership | undefined;
}

export interface Actions extends Begun, Finished {}

export interface TurnOptions {
  readonly recovered: Recovered;
  readonly options: CoreOptions;
  readonly random: Prng;
  /** Empty, or as of the snapshot that the log begins after. */
  readonly machine: StateMachine;
  /** Told of every step before it is made: with a checkpoint of the replica it can be made again. */
  readonly beforeStep?: StepObserver | undefined;
}

export type StepObserver = (replica: PaxosReplica, inputs: readonly Input[], nowMs: number) => void;

/** What a turn applies before it lets other work run; the rest follows in the next ones. */
const APPLIES_PER_TURN = 4_096;
/** How often a turn asks whether it has taken long enough, in entries. */
const APPLIES_PER_LOOK = 16;

export class Turn {
  readonly replica: PaxosReplica;
  readonly #machine: StateMachine;
  readonly #options: CoreOptions;
  readonly #beforeStep: StepObserver | undefined;
  #inbox: Input[] = [];
  #settled: Settled[] = [];
  #served: Outgoing[] = [];
  #inFlight: PersistBatch | undefined;
  #waiting: PersistBatch[] = [];
  #appliedThrough: Slot;
  #applyThrough: Slot;
  /** From storage, for slots that memory no longer holds. */
  #loaded: Entry[] = [];
  #loading = false;
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
    this.#appliedThrough = recovered.image.compactedThrough;
    this.#applyThrough = this.#appliedThrough;
    this.#readsCheckedAt = this.#appliedThrough;
  }

  get appliedThrough(): Slot {
    return this.#appliedThrough;
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
    return !this.#fenced && (this.#inbox.length > 0 || this.#settled.length > 0 || this.#served.length > 0 || this.#canApply());
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
        this.#inbox.push(input);
        return;
      case "write-failed":
        this.#inbox.push({ type: "persist-failed", reason: input.reason });
        return;
      case "loaded":
        this.#loading = false;
        this.#loaded = [...input.entries];
        return;
      case "served": {
        const { to, id, after, decidedThrough } = input.request;
        this.#served.push({ to, message: { type: "fetch-reply", id, after, entries: input.entries, decidedThrough } });
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
    inputs.push({ type: "applied", through: this.#appliedThrough });
    this.#beforeStep?.(this.replica, inputs, nowMs);
    const effects = this.replica.step(inputs, nowMs);
    if (effects.fence !== undefined) {
      this.#fenced = true;
      return { ...NOTHING, events: effects.events, fence: effects.fence };
    }
    if (effects.persist !== undefined) this.#waiting.push(effects.persist);
    this.#effects = effects;
    return { sends: this.#withServed(effects.sends), write: this.#nextWrite(), serve: effects.serve, events: effects.events };
  }

  /**
   * Applies what can be applied, and answers who waits for it. Follows `begin`, with nothing put in between.
   * @param isLate asked now and then whether other work should run first; what is left follows in the next turn.
   * @throws what the machine throws, and TypeError where it returns no bytes: the node must stop.
   */
  finish(isLate: () => boolean = never): Finished {
    const effects = this.#effects;
    if (effects === undefined) return { settled: this.#takeSettled(), answered: NO_ANSWERED };
    this.#effects = undefined;
    this.#noteProposals(effects);
    if (effects.apply !== undefined) this.#applyThrough = effects.apply.through;
    this.#apply(isLate);
    return {
      load: this.#nextLoad(),
      settled: this.#takeSettled(),
      answered: this.#answerReads(effects),
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
      } else {
        this.#open.delete(result.id);
        this.#settled.push({ id: result.id, outcome: { type: "not-applied", reason: result.reason, leader: result.leader } });
      }
    }
  }

  #canApply(): boolean {
    return this.#appliedThrough < this.#applyThrough && this.#entryToApply() !== undefined;
  }

  #entryToApply(): Entry | undefined {
    const next = slot(this.#appliedThrough + 1);
    const cached = this.replica.cachedEntry(next);
    if (cached !== undefined) return cached;
    const first = this.#loaded[0];
    return first === undefined ? undefined : this.#loaded[next - first.slot];
  }

  #apply(isLate: () => boolean): void {
    for (let count = 0; count < APPLIES_PER_TURN && this.#appliedThrough < this.#applyThrough; count++) {
      if (count > 0 && count % APPLIES_PER_LOOK === 0 && isLate()) return;
      const entry = this.#entryToApply();
      if (entry === undefined) return;
      if (entry.slot !== this.#appliedThrough + 1)
        throw new InvariantViolation("entries are applied in order", { applied: this.#appliedThrough, slot: entry.slot });
      const epoch = this.#epochOf(entry.origin);
      const result = entry.kind === "app" ? this.#machine.apply(entry.payload, { slot: entry.slot, epoch, earlier: [] }) : EMPTY;
      if (!isBytes(result)) throw new TypeError(`the state machine returned ${kindOf(result)} for entry ${entry.slot}, and not a Uint8Array`);
      this.#appliedThrough = entry.slot;
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
    if (this.#loading || this.#appliedThrough >= this.#applyThrough || this.#canApply()) return undefined;
    mark("load-to-apply");
    this.#loading = true;
    this.#loaded = [];
    return { from: slot(this.#appliedThrough + 1), through: this.#applyThrough };
  }

  #withServed(sends: readonly Outgoing[]): readonly Outgoing[] {
    if (this.#served.length === 0) return sends;
    const all = [...sends, ...this.#served];
    this.#served = [];
    return all;
  }

  #takeSettled(): readonly Settled[] {
    if (this.#settled.length === 0) return NO_SETTLED;
    const settled = this.#settled;
    this.#settled = [];
    return settled;
  }

  #answerReads(effects: Effects): readonly Answered[] {
    const answered: Answered[] = [];
    if (this.#appliedThrough > this.#readsCheckedAt) this.#appliedAtTick = this.#ticks;
    if (this.#reads.length > 0 && (this.#appliedThrough > this.#readsCheckedAt || this.#isLate(this.#reads[0]))) {
      const waiting = this.#reads;
      this.#reads = [];
      for (const read of waiting) this.#answerOrKeep(read, answered);
    }
    this.#readsCheckedAt = this.#appliedThrough;
    for (const { id, ...result } of effects.reads) {
      if (result.type === "ready") this.#answerOrKeep({ id, through: result.through, sinceTick: this.#ticks }, answered);
      else answered.push({ id, ok: result.type === "confirmed", reason: result.type === "failed" ? result.reason : undefined });
    }
    return answered.length === 0 ? NO_ANSWERED : answered;
  }

  #answerOrKeep(read: WaitingRead, answered: Answered[]): void {
    if (read.through <= this.#appliedThrough) answered.push({ id: read.id, ok: true, through: read.through });
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
    const leads = leading?.reignSlot !== undefined && leading.reignSlot <= this.#appliedThrough;
    const ballot = leads ? leading.ballot : following;
    const role = leads ? "leader" : ballot === undefined ? "unknown" : "follower";
    if (role === this.#told.role && sameBallot(ballot, this.#told.ballot)) return undefined;
    this.#told = { role, ballot };
    if (ballot === undefined) return { role: "unknown" };
    const epoch = epochOf(ballot);
    return leads ? { role: "leader", epoch } : { role: "follower", leader: { node: ballot.node, epoch } };
  }
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
const NOTHING: Begun = { sends: [], serve: [], events: [] };
