/** A node with all that others can see of it: its local state, every message that it ever sent, and its past as far as the judge asks for it. */
import type { NodeId } from "../../../src/base/ids.ts";
import type { Judge, Past } from "./judge.ts";
import type { Act, Count, Local, Locals, Message, Outcome } from "./local.ts";
import { PairMap } from "./state-table.ts";

export interface Place {
  readonly id: number;
  readonly local: Local;
  readonly past: Past;
  /** Sets of messages, by the place of the addressee in the list of nodes. */
  readonly sent: readonly number[];
  /** What follows from acts, by what counts them. */
  readonly acts: Map<Counted, readonly Step[]>;
}

/** What bounds an act; `free` where nothing does. */
export type Counted = Count | "free";

export interface Step {
  readonly act: Act;
  readonly to: Place;
}

const COUNTED: Readonly<Record<Act["type"], Counted>> = {
  persist: "free",
  restart: "free",
  crash: "crashes",
  campaign: "campaigns",
  propose: "proposals",
  round: "rounds",
  "give-up": "givenUp",
};

export class Places {
  readonly #locals: Locals;
  readonly #judge: Judge;
  readonly #nodes: readonly NodeId[];
  readonly #byKey = new Map<string, Place>();
  readonly #places: Place[] = [];
  readonly #sets = new MessageSets();
  readonly #delivered = new PairMap();
  readonly #lists = new PairMap();
  readonly #contents: (readonly number[])[] = [[]];

  constructor(locals: Locals, judge: Judge, nodes: readonly NodeId[]) {
    this.#locals = locals;
    this.#judge = judge;
    this.#nodes = nodes;
  }

  get size(): number {
    return this.#places.length;
  }

  at(id: number): Place {
    const place = this.#places[id];
    if (place === undefined) throw new RangeError(`there is no place ${id}`);
    return place;
  }

  start(node: NodeId): Place {
    const local = this.#locals.start(node);
    return this.#intern(
      local,
      this.#judge.begin(local),
      this.#nodes.map(() => 0),
    );
  }

  /** What may happen without a message. @throws Violation */
  acts(place: Place, counted: Counted): readonly Step[] {
    const known = place.acts.get(counted);
    if (known !== undefined) return known;
    const steps: Step[] = [];
    for (const act of this.#possible(place.local)) {
      if (COUNTED[act.type] !== counted) continue;
      const to = this.act(place, act);
      const same = to.local.bare === place.local.bare && to.past === place.past && to.sent.every((set, index) => set === place.sent[index]);
      if (!same) steps.push({ act, to }); // what changes nothing, but that it was counted, leads nowhere
    }
    place.acts.set(counted, steps);
    return steps;
  }

  /** @throws Violation */
  act(place: Place, act: Act): Place {
    return this.#after(place, this.#locals.act(place.local, act));
  }

  /** @param among those that are counted so. */
  possible(place: Place, among: readonly Counted[]): readonly Act[] {
    return this.#possible(place.local).filter(({ type }) => among.includes(COUNTED[type]));
  }

  /** What follows from the delivery of any message of a set, without those that change nothing: numbers of places. @throws Violation */
  deliveries(place: Place, set: number): readonly number[] {
    if (set === 0 || place.local.up === undefined) return NOTHING;
    const known = this.#lists.get(place.id, set);
    if (known !== 0) return this.#contents[known] ?? NOTHING;
    const to = new Set(this.messages(set).map((message) => this.deliver(place, message).id));
    to.delete(place.id);
    this.#lists.set(place.id, set, this.#contents.length);
    const list = [...to];
    this.#contents.push(list);
    return list;
  }

  /** @throws Violation */
  deliver(place: Place, message: Message): Place {
    const known = this.#delivered.get(place.id, message.id);
    if (known !== 0) return this.at(known - 1);
    const to = this.#after(place, this.#locals.deliver(place.local, message));
    this.#delivered.set(place.id, message.id, to.id + 1);
    return to;
  }

  messages(set: number): readonly Message[] {
    return this.#sets.at(set);
  }

  #possible({ up }: Local): readonly Act[] {
    if (up === undefined) return [{ type: "restart" }];
    const { role, batches } = up;
    const acts: Act[] = [{ type: "campaign" }, { type: "round" }];
    for (let count = 0; count <= batches.length; count++) acts.push({ type: "crash", batches: count });
    for (let count = 1; count <= batches.length; count++) acts.push({ type: "persist", batches: count });
    if (role.type === "leader" && role.reignSlot !== undefined) acts.push({ type: "propose" });
    if (role.type !== "follower") acts.push({ type: "give-up" });
    return acts;
  }

  #after(place: Place, outcome: Outcome): Place {
    const past = this.#judge.after(place.past, place.local, outcome);
    let { sent } = place;
    for (const message of outcome.sends) sent = sent.map((set, index) => (this.#nodes[index] === message.to ? this.#sets.with(set, message) : set));
    return this.#intern(outcome.next, past, sent);
  }

  #intern(local: Local, past: Past, sent: readonly number[]): Place {
    const key = `${local.id} ${past.id} ${sent}`;
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const fresh: Place = { id: this.#places.length, local, past, sent, acts: new Map() };
    this.#byKey.set(key, fresh);
    this.#places.push(fresh);
    return fresh;
  }
}

const NOTHING: readonly number[] = [];

/** Sets of messages as numbers. The empty one is 0. */
class MessageSets {
  readonly #byText = new Map<string, number>([["", 0]]);
  readonly #sets: (readonly Message[])[] = [[]];

  at(set: number): readonly Message[] {
    return this.#sets[set] ?? [];
  }

  with(set: number, message: Message): number {
    const before = this.at(set);
    if (before.includes(message)) return set;
    const messages = [...before, message].sort((a, b) => a.id - b.id);
    const text = messages.map(({ id }) => id).join();
    const known = this.#byText.get(text);
    if (known !== undefined) return known;
    this.#byText.set(text, this.#sets.length);
    return this.#sets.push(messages) - 1;
  }
}
