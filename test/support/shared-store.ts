/** A database row that several processes share: each is a `FencedStore` that nobody has for itself, as SQL and etcd are. */
import { EPOCH_ZERO, type Epoch, epoch } from "../../src/base/epoch.ts";
import { OracleError } from "../../src/base/errors.ts";
import { Watched } from "../../src/base/watched.ts";
import type { FencedStore, ServedLeadership } from "../../src/oracle/driver.ts";
import { type OracleChange, OracleTables } from "../../src/oracle/rules/state.ts";

/** What happens to one call: it waits for what is returned, and fails with what is thrown. `stored`: a commit is stored before it fails. */
export type Trouble = () => undefined | "stored" | "fenced" | Error | Promise<undefined | "stored" | "fenced" | Error>;

export interface Commit {
  readonly changes: readonly OracleChange[];
  readonly epoch: Epoch;
}

export class SharedRow {
  tables = new OracleTables();
  fence: Epoch = EPOCH_ZERO;
  /** Commits that were stored, in order. */
  readonly commits: Commit[] = [];

  #lastReign = 0n;

  /** A process that leads from now on. */
  process(): SharedProcess {
    return new SharedProcess(this);
  }

  /** Above every reign so far, as an election gives it. */
  nextReign(): Epoch {
    if (this.#lastReign < this.fence) this.#lastReign = this.fence;
    this.#lastReign += 1n;
    return epoch(this.#lastReign);
  }
}

export class SharedProcess implements FencedStore {
  /** Calls of this process, in order, as they begin. */
  readonly calls: string[] = [];
  /** For the next commits, then for the next opens. */
  readonly troubles: Trouble[] = [];
  readonly openTroubles: Trouble[] = [];
  readonly leads: Watched<ServedLeadership>;
  closed = 0;
  readonly #row: SharedRow;
  #calling = false;

  constructor(row: SharedRow) {
    this.#row = row;
    this.leads = new Watched<ServedLeadership>({ role: "leader", epoch: row.nextReign() });
  }

  /** This process is told that it leads, in a reign above all before. */
  lead(reign: Epoch = this.#row.nextReign()): Epoch {
    this.leads.set({ role: "leader", epoch: reign });
    return reign;
  }

  async open(reign: Epoch): Promise<Iterable<OracleChange>> {
    this.calls.push(`open ${reign}`);
    return this.#alone(async () => {
      const trouble = await this.openTroubles.shift()?.();
      if (trouble instanceof Error) throw trouble;
      if (reign < this.#row.fence) throw new OracleError("TSO_FENCED", `epoch ${reign} is below the fence ${this.#row.fence}`);
      this.#row.fence = reign;
      return this.#row.tables.capture();
    });
  }

  async commit(changes: readonly OracleChange[], reign: Epoch): Promise<"committed" | "fenced"> {
    this.calls.push(`commit ${changes.length}`);
    return this.#alone(async () => {
      const trouble = await this.troubles.shift()?.();
      if (trouble instanceof Error) throw trouble;
      if (trouble === "fenced" || reign !== this.#row.fence) return "fenced";
      for (const change of changes) this.#row.tables.change(change);
      this.#row.commits.push({ changes: [...changes], epoch: reign });
      if (trouble === "stored") throw new Error("the answer was lost");
      return "committed";
    });
  }

  leadership(options: { readonly signal?: AbortSignal | undefined } = {}): AsyncIterable<ServedLeadership> {
    return this.leads.values(options.signal);
  }

  async close(): Promise<void> {
    this.closed += 1;
    this.leads.end();
  }

  /** One call at a time is what a store may rely on. */
  async #alone<T>(call: () => Promise<T>): Promise<T> {
    if (this.#calling) throw new OracleError("TSO_STORAGE", "two calls at a time");
    this.#calling = true;
    try {
      return await call();
    } finally {
      this.#calling = false;
    }
  }
}
