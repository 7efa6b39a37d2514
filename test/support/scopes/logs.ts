/**
 * Logs as numbers: the same number, the same entries from slot 1 on. Unlike the simulator's tree of logs this one holds the logs of runs that exclude each other, so
 * one slot and origin may stand in it with different entries; whether they meet in one run is for the judge.
 */
import { type Slot, slot } from "../../../src/base/ids.ts";
import { type Ballot, sameBallot } from "../../../src/paxos/core/ballot.ts";
import type { OriginRun } from "../../../src/paxos/core/effects.ts";
import { continues, type Entry } from "../../../src/paxos/core/entry.ts";
import type { PersistOp } from "../../../src/paxos/core/image.ts";
import { Violation } from "../../../src/testing/cluster/observed.ts";

/** Named by its last entry. */
export interface Log {
  readonly id: number;
  readonly last: Slot;
  /** Undefined for the empty log, as is the parent. */
  readonly entry: Entry | undefined;
  readonly parent: Log | undefined;
  readonly entries: readonly Entry[];
}

const EMPTY: Log = { id: 0, last: slot(0), entry: undefined, parent: undefined, entries: [] };

export class Logs {
  readonly #children = new Map<string, Log>();
  #count = 1;

  of(entries: readonly Entry[]): Log {
    return entries.reduce((log, entry) => this.#append(log, entry), EMPTY);
  }

  /** What `ops` make of `log` on a disk, which takes nothing that does not fit. */
  after(log: Log, ops: readonly PersistOp[]): Log {
    let result = log;
    for (const op of ops) {
      if (op.type === "install") throw new Violation("disk", "no snapshots are in this scope");
      if (op.type === "truncate") result = prefix(result, slot(op.from - 1));
      else
        for (const entry of op.entries) {
          if (entry.slot !== result.last + 1 || !continues(result.entry?.chain ?? 0, entry))
            throw new Violation("disk", "an entry continues the log on the disk", { slot: entry.slot, last: result.last });
          result = this.#append(result, entry);
        }
    }
    return result;
  }

  #append(parent: Log, entry: Entry): Log {
    const { round, prio, node } = entry.origin;
    const key = `${parent.id} ${round}.${prio}.${node} ${entry.chain}`;
    const known = this.#children.get(key);
    if (known !== undefined) return known;
    const log: Log = { id: this.#count, last: entry.slot, entry, parent, entries: [...parent.entries, entry] };
    this.#count += 1;
    this.#children.set(key, log);
    return log;
  }
}

export function prefix(log: Log, through: Slot): Log {
  let result = log;
  while (result.last > through && result.parent !== undefined) result = result.parent;
  return result;
}

/** What both begin with. */
export function common(a: Log, b: Log): Log {
  let [left, right] = [prefix(a, b.last), prefix(b, a.last)];
  while (left !== right) {
    left = left.parent ?? EMPTY;
    right = right.parent ?? EMPTY;
  }
  return left;
}

/** Whether `log` begins with `start`. */
export function begins(log: Log, start: Log): boolean {
  return prefix(log, start.last) === start;
}

/** By the first slot of each. */
export function runsOf(log: Log): readonly OriginRun[] {
  return log.entries.flatMap(({ slot: from, origin }, index) => (sameBallot(log.entries[index - 1]?.origin, origin) ? [] : [{ from, origin }]));
}

/** A slot at which both have an entry of the same origin, and not the same entry (INV-2). */
export function clash(a: Log, b: Log): { readonly slot: Slot; readonly origin: Ballot } | undefined {
  for (let at = 0; at < Math.min(a.last, b.last); at++) {
    const [left, right] = [a.entries[at], b.entries[at]];
    if (left !== undefined && right !== undefined && sameBallot(left.origin, right.origin) && left.chain !== right.chain)
      return { slot: left.slot, origin: left.origin };
  }
  return undefined;
}
