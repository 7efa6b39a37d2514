/**
 * All logs of a cluster as one tree. `(slot, origin)` names one entry, and an entry has one predecessor (INV-2, INV-3): so a log is known by its last entry, and
 * whether two logs agree through a slot is whether their ancestors there are the same object. Entries are compared once, when they are seen first.
 */
import type { NodeId, Slot } from "../../base/ids.ts";
import { BALLOT_ZERO, type Ballot, ballotText, compareBallots, sameBallot } from "../../paxos/core/ballot.ts";
import { continues, type Entry, type EntryKind } from "../../paxos/core/entry.ts";
import { Violation } from "./observed.ts";

/** An entry in the tree. The root's predecessor is the root itself. */
export class LogNode {
  readonly slot: Slot;
  readonly origin: Ballot;
  readonly kind: EntryKind;
  readonly chain: number;
  readonly payload: Uint8Array;
  readonly parent: LogNode;
  /** An ancestor some way back, placed so that any ancestor is found in logarithmic time. */
  readonly jump: LogNode;

  constructor({ slot, origin, kind, chain, payload }: Omit<Entry, "bodyCrc" | "record">, parent?: LogNode) {
    this.slot = slot;
    this.origin = origin;
    this.kind = kind;
    this.chain = chain;
    this.payload = payload;
    this.parent = parent ?? this;
    const jump = parent?.jump ?? this;
    this.jump = parent !== undefined && parent.slot - jump.slot === jump.slot - jump.jump.slot ? jump.jump : this.parent;
  }
}

export class LogTree {
  /** Before the first slot. */
  readonly root: LogNode;
  /** By slot; more than one where leaders disagreed about a slot that was not decided. */
  readonly #entries: LogNode[][] = [];
  readonly #onNew: (entry: LogNode) => void;

  constructor(onNew: (entry: LogNode) => void) {
    this.root = new LogNode({ slot: 0 as Slot, origin: BALLOT_ZERO, kind: "start", chain: 0, payload: new Uint8Array() });
    this.#onNew = onNew;
  }

  find(at: Slot, origin: Ballot): LogNode | undefined {
    if (at === 0) return this.root;
    const there = this.#entries[at];
    if (there === undefined) return undefined;
    for (const node of there) if (sameBallot(node.origin, origin)) return node;
    return undefined;
  }

  /** The known entry that `at`, `origin` and `chain` name. */
  known(at: Slot, origin: Ballot, chain: number, where: NodeId): LogNode | undefined {
    const node = this.find(at, origin);
    if (node !== undefined && node.chain !== chain) throw differs(node, chain, where);
    return node;
  }

  /** `entry` stands after `parent` in a log of `where`. */
  see(entry: Entry, parent: LogNode, where: NodeId): LogNode {
    const known = this.known(entry.slot, entry.origin, entry.chain, where);
    if (known !== undefined) {
      if (known.parent !== parent)
        throw new Violation("prefix", "an entry names its whole prefix", { where, entry: entryText(entry), after: entryText(parent) });
      return known;
    }
    if (entry.slot !== parent.slot + 1)
      throw new Violation("prefix", "a log has no holes", { where, entry: entryText(entry), after: entryText(parent) });
    if (!continues(parent.chain, entry))
      throw new Violation("prefix", "an entry's chain continues that of the entry before it", {
        where,
        entry: entryText(entry),
        after: entryText(parent),
      });
    if (compareBallots(entry.origin, parent.origin) < 0)
      throw new Violation("origin-mono", "origins never go down along a log", { where, entry: entryText(entry), after: entryText(parent) });
    const node = new LogNode(entry, parent);
    const there = this.#entries[entry.slot];
    if (there === undefined) this.#entries[entry.slot] = [node];
    else there.push(node);
    this.#onNew(node);
    return node;
  }
}

/** The entry at `at` in the log that ends with `tip`; `tip` itself if that log is shorter. */
export function ancestorAt(tip: LogNode, at: number): LogNode {
  let node = tip;
  while (node.slot > at) node = node.jump.slot >= at ? node.jump : node.parent;
  return node;
}

/** Whether the log that ends with `tip` has `node`, and so everything before it. */
export function hasEntry(tip: LogNode, node: LogNode): boolean {
  return ancestorAt(tip, node.slot) === node;
}

export function entryText({ slot, origin }: { readonly slot: Slot; readonly origin: Ballot }): string {
  return `${slot}@${ballotText(origin)}`;
}

function differs(node: LogNode, chain: number, where: NodeId): Violation {
  return new Violation("slot-origin-unique", "a slot and an origin name one entry", { where, entry: entryText(node), chains: [node.chain, chain] });
}
