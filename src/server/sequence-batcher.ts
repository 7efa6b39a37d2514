import type { Epoch } from "../base/epoch.ts";
import type { ConsensusDriver, Submitted } from "../oracle/driver.ts";
import type { GroupOutcome, OracleOutcome, SequenceGroup } from "../oracle/rules/command.ts";

/** What one entry of the log may hold. */
const ENTRY_GROUPS = 1_024;
const ENTRY_BLOCKS = 8_192;

export type GroupAnswer = GroupOutcome | Exclude<Submitted, { type: "applied" }>;

interface Waiting {
  readonly epoch: Epoch;
  readonly group: SequenceGroup;
  settle(answer: GroupAnswer): void;
}

/** Puts the requests that arrive in one turn of the event loop into one command: they share one entry, one flush, one round. No timer. */
export class SequenceBatcher {
  readonly #driver: ConsensusDriver;
  #waiting: Waiting[] = [];

  constructor(driver: ConsensusDriver) {
    this.#driver = driver;
  }

  submit(epoch: Epoch, group: SequenceGroup): Promise<GroupAnswer> {
    return new Promise((settle) => {
      if (this.#waiting.length === 0) setImmediate(() => this.#flush());
      this.#waiting.push({ epoch, group, settle });
    });
  }

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    let entry: Waiting[] = [];
    let blocks = 0;
    for (const next of waiting) {
      const fits = entry.length < ENTRY_GROUPS && blocks + next.group.length <= ENTRY_BLOCKS && entry[0]?.epoch === next.epoch;
      if (entry.length > 0 && !fits) {
        void this.#propose(entry);
        entry = [];
        blocks = 0;
      }
      entry.push(next);
      blocks += next.group.length;
    }
    void this.#propose(entry);
  }

  async #propose(entry: readonly Waiting[]): Promise<void> {
    const submitted = await this.#driver.submit({ type: "sequence", epoch: entry[0]?.epoch, groups: entry.map(({ group }) => group) });
    entry.forEach(({ group, settle }, index) => {
      settle(submitted.type === "applied" ? groupOutcome(submitted.outcome, { index, blocks: group.length }) : submitted);
    });
  }
}

/** An outcome of another kind, or with too few groups or blocks, is a driver's bug: what became of the request cannot be told. */
function groupOutcome(outcome: OracleOutcome, { index, blocks }: { readonly index: number; readonly blocks: number }): GroupAnswer {
  const group = outcome.type === "sequence" ? outcome.groups[index] : undefined;
  const whole = group?.type !== "granted" || group.starts.length === blocks ? group : undefined;
  return whole ?? { type: "unknown", reason: "storage", detail: `the driver answered a sequence with ${outcome.type}` };
}
