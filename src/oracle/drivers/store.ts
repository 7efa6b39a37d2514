import type { Epoch } from "../../base/epoch.ts";
import { messageOf, OracleError } from "../../base/errors.ts";
import type { ConsensusDriver, FencedStore, OracleView, ServedLeadership, Submitted } from "../driver.ts";
import type { OracleCommand } from "../rules/command.ts";
import { OracleMachine } from "../rules/machine.ts";
import { type OracleChange, OracleTables } from "../rules/state.ts";

/** Commands that may wait for the store. */
const QUEUE_MAX = 16_384;
/** Changes after which a batch takes no further command: what bounds one commit. */
const BATCH_CHANGES = 8_192;

export interface StoreDriverOptions {
  /** Commands that may wait for the store; more are not applied, as overloaded. @defaultValue 16384 */
  readonly queueMax?: number | undefined;
}

/**
 * The oracle on a fenced store. What arrives while a commit is in flight is decided together, on one transaction, and made durable by the next commit:
 * so many callers share one flush, and batching needs no timer. State is published after its commit returned, never before.
 */
export function storeDriver(store: FencedStore, options: StoreDriverOptions = {}): ConsensusDriver {
  return new StoreDriver(store, options.queueMax ?? QUEUE_MAX);
}

/** A command, or the question whether `epoch` still leads: any commit that begins after it was asked answers it. */
type Waiting =
  | { readonly type: "command"; readonly command: OracleCommand; settle(submitted: Submitted): void }
  | { readonly type: "proof"; readonly epoch: Epoch; settle(leads: boolean): void };

class StoreDriver implements ConsensusDriver {
  readonly #store: FencedStore;
  readonly #queueMax: number;
  #queue: Waiting[] = [];
  #working: Promise<void> | undefined;
  /** The reign that the leadership stream told of. */
  #reign: Epoch | undefined;
  /** The state as read under the fence of one reign; dropped whenever it may differ from the store. */
  #opened: { readonly epoch: Epoch; readonly machine: OracleMachine } | undefined;
  /** What `view()` shows: what was published last, also while the state is being read again. So nothing that was shown is ever taken back. */
  #shown = new OracleTables();
  /** The question whether this epoch leads that waits in the queue: whoever asks the same before its turn comes shares the answer. */
  #proof: { readonly epoch: Epoch; readonly answer: Promise<boolean> } | undefined;
  #subscribed = false;
  #closing: Promise<void> | undefined;
  /** Set once, by a final failure of the store. */
  #failure: Error | undefined;
  /** Wakes the subscriber, which then looks at why. */
  #interrupt: (() => void) | undefined;

  constructor(store: FencedStore, queueMax: number) {
    this.#store = store;
    this.#queueMax = queueMax;
  }

  async *leadership({ signal }: { readonly signal?: AbortSignal | undefined } = {}): AsyncGenerator<ServedLeadership, void, void> {
    if (this.#subscribed) throw new OracleError("TSO_ALREADY_SUBSCRIBED", "this driver's leadership has a subscriber: a driver serves one server");
    this.#subscribed = true;
    const events = this.#store.leadership({ signal })[Symbol.asyncIterator]();
    const end = (): void => this.#interrupt?.();
    signal?.addEventListener("abort", end);
    try {
      for (;;) {
        const event = await this.#nextEvent(events, signal);
        if (event?.done !== false) return;
        this.#reign = event.value.role === "leader" ? event.value.epoch : undefined;
        yield event.value;
      }
    } finally {
      signal?.removeEventListener("abort", end);
      this.#reign = undefined;
      this.#subscribed = false;
      // Not waited for, and what it says is of no more use: a store that hangs must not keep its server from closing.
      void Promise.resolve(events.return?.()).catch(() => undefined);
    }
  }

  /** The store's next event; `undefined` once the subscriber has gone; throws once the store has failed for good. */
  async #nextEvent(events: AsyncIterator<ServedLeadership>, signal: AbortSignal | undefined): Promise<IteratorResult<ServedLeadership> | undefined> {
    const interrupted = new Promise<undefined>((resolve) => {
      this.#interrupt = () => resolve(undefined);
      if (signal?.aborted === true || this.#failure !== undefined) resolve(undefined);
    });
    const event = await Promise.race([events.next(), interrupted]);
    if (this.#failure !== undefined) throw this.#failure;
    return event;
  }

  submit(command: OracleCommand): Promise<Submitted> {
    if (this.#closing !== undefined) return Promise.resolve({ type: "not-applied", reason: "closed" });
    if (this.#queue.length >= this.#queueMax) {
      return Promise.resolve({ type: "not-applied", reason: "overloaded", detail: `${this.#queue.length} commands wait (limit ${this.#queueMax})` });
    }
    return new Promise((settle) => this.#enqueue({ type: "command", command, settle }));
  }

  confirm(epoch: Epoch): Promise<boolean> {
    if (this.#reign !== epoch || this.#failure !== undefined || this.#closing !== undefined) return Promise.resolve(false);
    if (this.#store.exclusive === true) return Promise.resolve(true);
    if (this.#proof?.epoch !== epoch) {
      this.#proof = { epoch, answer: new Promise((settle) => this.#enqueue({ type: "proof", epoch, settle })) };
    }
    return this.#proof.answer;
  }

  view(): OracleView {
    return this.#shown;
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#working;
      await this.#store.close();
    })();
    return this.#closing;
  }

  #enqueue(waiting: Waiting): void {
    this.#queue.push(waiting);
    this.#working ??= this.#work();
  }

  /** Serves the queue until it is empty: one batch, one commit, one at a time. */
  async #work(): Promise<void> {
    await undefined; // what is submitted in this turn belongs to one batch
    while (this.#queue.length > 0) {
      const waiting = this.#queue;
      this.#queue = [];
      this.#proof = undefined; // a commit that begins now proves nothing to those who ask later
      try {
        await this.#serve(waiting);
      } catch (error) {
        // A bug: whoever follows the leadership hears of it, and nobody waits for ever.
        this.#fail(error instanceof Error ? error : new Error(messageOf(error)));
        settleAll(waiting.splice(0), { type: "unknown", reason: "storage", detail: messageOf(error) });
      }
    }
    this.#working = undefined;
  }

  async #serve(waiting: Waiting[]): Promise<void> {
    const epoch = this.#reign;
    if (this.#failure !== undefined) return settleAll(waiting, storageFailed(this.#failure));
    if (epoch === undefined) return settleAll(waiting, { type: "not-applied", reason: "not-leader" });
    const machine = await this.#machineOf(epoch);
    if (!(machine instanceof OracleMachine)) return settleAll(waiting, machine);
    while (waiting.length > 0) await this.#decide(machine, epoch, waiting);
  }

  /** Decides as many as one commit may hold, commits, publishes, answers. */
  async #decide(machine: OracleMachine, epoch: Epoch, waiting: Waiting[]): Promise<void> {
    const transaction = machine.begin({ epoch });
    const batch: Waiting[] = [];
    const answers: (() => void)[] = [];
    for (const next of waiting) {
      if (transaction.changes.length >= BATCH_CHANGES) break;
      batch.push(next);
      if (next.type === "proof") {
        answers.push(() => next.settle(next.epoch === epoch));
      } else {
        const outcome = transaction.apply(next.command);
        answers.push(() => next.settle(outcome.type === "fenced" ? outcome : { type: "applied", outcome }));
      }
    }
    waiting.splice(0, batch.length);
    // A batch that changes nothing is answered from memory only where no other process can have changed the store meanwhile.
    const mustAsk = transaction.changes.length > 0 || this.#store.exclusive !== true;
    const committed = mustAsk ? await this.#commit(transaction.changes, epoch) : "committed";
    if (committed === "committed") {
      transaction.commit();
      for (const answer of answers) answer();
      return;
    }
    transaction.abandon();
    this.#opened = undefined; // what the store holds is not known any more
    settleAll(batch, committed);
    settleAll(waiting.splice(0), committed.type === "fenced" ? committed : { type: "not-applied", reason: "unavailable", detail: committed.detail });
  }

  async #commit(changes: readonly OracleChange[], epoch: Epoch): Promise<"committed" | Extract<Submitted, { type: "fenced" | "unknown" }>> {
    try {
      return (await this.#store.commit(changes, epoch)) === "committed" ? "committed" : { type: "fenced" };
    } catch (error) {
      this.#failIfFinal(error);
      return { type: "unknown", reason: this.#failure === undefined ? "unavailable" : "storage", detail: messageOf(error) };
    }
  }

  /** Raises the store's fence to this reign and reads, unless that was done. */
  async #machineOf(epoch: Epoch): Promise<OracleMachine | Submitted> {
    if (this.#opened?.epoch === epoch) return this.#opened.machine;
    this.#opened = undefined;
    try {
      const tables = new OracleTables();
      for (const change of await this.#store.open(epoch)) tables.change(change);
      const machine = new OracleMachine(tables);
      this.#opened = { epoch, machine };
      this.#shown = tables;
      return machine;
    } catch (error) {
      if (error instanceof OracleError && error.code === "TSO_FENCED") return { type: "fenced" };
      this.#failIfFinal(error);
      return this.#failure === undefined ? { type: "not-applied", reason: "unavailable", detail: messageOf(error) } : storageFailed(this.#failure);
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#interrupt?.();
  }

  #failIfFinal(error: unknown): void {
    if (isFinal(error)) this.#fail(error);
  }
}

function isFinal(error: unknown): error is OracleError {
  return error instanceof OracleError && (error.code === "TSO_STORAGE" || error.code === "TSO_WRONG_FORMAT" || error.code === "TSO_LOCKED");
}

function storageFailed(failure: Error): Submitted {
  return { type: "not-applied", reason: "unavailable", detail: failure.message };
}

function settleAll(waiting: readonly Waiting[], submitted: Submitted): void {
  for (const next of waiting) {
    if (next.type === "proof") next.settle(false);
    else next.settle(submitted);
  }
}
