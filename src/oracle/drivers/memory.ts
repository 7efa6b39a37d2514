import { EPOCH_ZERO, type Epoch, epoch } from "../../base/epoch.ts";
import { OracleError } from "../../base/errors.ts";
import { Watched } from "../../base/watched.ts";
import type { ConsensusDriver, FencedStore, ServedLeadership, Submitted } from "../driver.ts";
import type { OracleCommand } from "../rules/command.ts";
import { type OracleChange, OracleTables } from "../rules/state.ts";
import { storeDriver } from "./store.ts";

/**
 * A driver without a disk, whose leadership and troubles a test or an example writes itself. Its state lives as long as the driver: enough to show a
 * failover, not a restart.
 */
export interface MemoryDriver extends ConsensusDriver {
  /** This node leads from now on, in a new reign, which is returned. @defaultValue one above every epoch seen */
  lead(reign?: Epoch): Epoch;
  /** Another node leads. */
  follow(leader?: { readonly epoch: Epoch; readonly endpoint?: string | undefined }): void;
  /** Nobody is known to lead. */
  loseLeader(): void;
  /** Raises the store's fence as a new leader elsewhere would: commits of lower epochs are fenced from now on. */
  fence(by: Epoch): void;
  /** Ends the leadership, with the error thrown to the subscriber. */
  fail(error: Error): void;
  /** How the next commits go, in order; with none left they succeed. A promise stalls its commit until it is settled. */
  script(...steps: readonly MemoryCommit[]): void;
  /** Answers commands in place of the rules while it returns something: for what only a broken driver would say. */
  answer: ((command: OracleCommand) => Submitted | undefined) | undefined;
  /** Answers `confirm` in place of the store. */
  confirms: ((reign: Epoch) => boolean | Promise<boolean>) | undefined;
  /** Commits that succeeded: the flushes of a driver that had a disk. */
  readonly commits: number;
}

/** `committed`: as it should; `fenced`; an error: rejects and stores nothing; `lost`: stores everything and rejects all the same. */
export type MemoryCommit = "committed" | "fenced" | "lost" | Error | Promise<"committed" | "fenced" | "lost" | Error>;

export interface MemoryDriverOptions {
  /** Whether it leads at once. @defaultValue true */
  readonly leads?: boolean | undefined;
  /** Where timestamps begin, physical ms. @defaultValue 0 */
  readonly highWater?: number | undefined;
  /** Commands that may wait; more are not applied. */
  readonly queueMax?: number | undefined;
}

export function memoryDriver(options: MemoryDriverOptions = {}): MemoryDriver {
  const store = new MemoryStore(options);
  const driver = storeDriver(store, options);
  const memory: MemoryDriver = {
    leadership: (choices) => driver.leadership(choices),
    submit: (command) => {
      const answer = memory.answer?.(command);
      return answer === undefined ? driver.submit(command) : Promise.resolve(answer);
    },
    confirm: async (reign) => (memory.confirms === undefined ? !store.fenced(reign) && driver.confirm(reign) : memory.confirms(reign)),
    view: () => driver.view(),
    close: () => driver.close(),
    lead: (reign) => store.lead(reign),
    follow: (leader) => store.watched.set({ role: "follower", leader }),
    loseLeader: () => store.watched.set({ role: "unknown" }),
    fence: (by) => store.raise(by),
    fail: (error) => store.watched.end(error),
    script: (...steps) => void store.steps.push(...steps),
    answer: undefined,
    confirms: undefined,
    get commits() {
      return store.commits;
    },
  };
  return memory;
}

class MemoryStore implements FencedStore {
  readonly exclusive = true;
  readonly watched: Watched<ServedLeadership>;
  readonly steps: MemoryCommit[] = [];
  commits = 0;
  readonly #tables = new OracleTables();
  #fence: Epoch = EPOCH_ZERO;
  #highest = 0n;

  constructor({ leads = true, highWater = 0 }: MemoryDriverOptions) {
    this.#tables.change({ type: "high-water", highWater });
    this.watched = new Watched<ServedLeadership>({ role: "unknown" });
    if (leads) this.lead();
  }

  lead(reign: Epoch = epoch(this.#highest + 1n)): Epoch {
    this.#seen(reign);
    this.watched.set({ role: "leader", epoch: reign });
    return reign;
  }

  raise(fence: Epoch): void {
    this.#seen(fence);
    if (fence > this.#fence) this.#fence = fence;
  }

  fenced(reign: Epoch): boolean {
    return reign < this.#fence;
  }

  async open(reign: Epoch): Promise<Iterable<OracleChange>> {
    if (this.fenced(reign)) throw new OracleError("TSO_FENCED", `epoch ${reign} is below the fence ${this.#fence}`);
    this.raise(reign);
    return this.#tables.capture();
  }

  async commit(changes: readonly OracleChange[], reign: Epoch): Promise<"committed" | "fenced"> {
    const step = (await this.steps.shift()) ?? "committed";
    if (step instanceof Error) throw step;
    if (step === "fenced" || reign !== this.#fence) return "fenced";
    for (const change of changes) this.#tables.change(change);
    this.commits += 1;
    if (step === "lost") throw new Error("the answer was lost");
    return "committed";
  }

  leadership(options: { readonly signal?: AbortSignal | undefined } = {}): AsyncIterable<ServedLeadership> {
    return this.watched.values(options.signal);
  }

  async close(): Promise<void> {
    this.watched.end();
  }

  #seen(value: Epoch): void {
    if (value > this.#highest) this.#highest = value;
  }
}
