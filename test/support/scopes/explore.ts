/**
 * All runs of a small cluster, breadth first: every order of deliveries, writes and crashes within the bounds of a scope. The network is the set of all messages ever sent,
 * any of which may be delivered at any time, any number of times or never: that is loss, duplication, delay and reordering in one.
 */
import type { NodeId } from "../../../src/base/ids.ts";
import type { ProtocolMessage } from "../../../src/paxos/core/messages.ts";
import { type CoreOptions, resolveCoreOptions } from "../../../src/paxos/core/options.ts";
import { Violation } from "../../../src/testing/cluster/observed.ts";
import { Judge } from "./judge.ts";
import { type Count, Locals } from "./local.ts";
import { actText, deliveryText, placeText } from "./path.ts";
import { type Counted, type Place, Places } from "./places.ts";
import { StateTable } from "./state-table.ts";

export type Bounded = Exclude<Count, "campaigns">;

export interface Scope {
  readonly name: string;
  /** Who may hold the first campaign, who the second, and so on. */
  readonly campaigners: readonly (readonly number[])[];
  /** How often each may happen, at all nodes together. */
  readonly bounds: Readonly<Record<Bounded, number>>;
  /** Types of messages that are always lost, beside answers to heartbeats. */
  readonly lost: readonly ProtocolMessage["type"][];
  readonly core?: Partial<CoreOptions> | undefined;
}

export interface Limits {
  readonly seconds: number;
  readonly states: number;
}

export interface Exploration {
  /** `empty`: there is no state that was not looked at. */
  readonly frontier: "empty" | "time" | "memory" | "violation";
  readonly states: number;
  readonly transitions: number;
  readonly depth: number;
  /** States of one node: as the core sees them, and with what was sent and is remembered. */
  readonly locals: number;
  readonly places: number;
  readonly messages: number;
  /** Of the core. */
  readonly steps: number;
  readonly seconds: number;
  readonly violation?: { readonly error: Violation; readonly path: string } | undefined;
}

const NODES = [1, 2, 3] as NodeId[];
const BOUNDED: readonly Bounded[] = ["proposals", "crashes", "rounds", "givenUp"];
const CLOCK_EVERY = 0x3fff;

export function explore(scope: Scope, limits: Limits): Exploration {
  return new Explorer(scope).run(limits);
}

class Explorer {
  readonly #scope: Scope;
  readonly #locals: Locals;
  readonly #judge: Judge;
  readonly #places: Places;
  readonly #table = new StateTable();
  /** The first row of each depth. */
  readonly #layers: number[] = [0];
  readonly #state = new Uint32Array(3);
  readonly #moving: Place[] = [];
  readonly #next: number[] = [];
  #transitions = 0;

  constructor(scope: Scope) {
    this.#scope = scope;
    this.#locals = new Locals({
      core: resolveCoreOptions(scope.core),
      nodes: NODES,
      lost: new Set<ProtocolMessage["type"]>([...scope.lost, "heartbeat-reply"]),
    });
    this.#judge = new Judge(this.#locals.genesis);
    this.#places = new Places(this.#locals, this.#judge, NODES);
  }

  run(limits: Limits): Exploration {
    const started = performance.now();
    const elapsed = (): number => (performance.now() - started) / 1_000;
    const table = this.#table;
    const first = NODES.map((node) => this.#places.start(node).id);
    table.add(first[0] ?? 0, first[1] ?? 0, first[2] ?? 0);
    let frontier: Exploration["frontier"] = "empty";
    let violation: Exploration["violation"];
    let layerEnd = 1;
    let row = 0;
    try {
      for (; row < table.size; row++) {
        if (row === layerEnd) {
          this.#layers.push(row);
          layerEnd = table.size;
        }
        if ((row & CLOCK_EVERY) === 0 && (elapsed() > limits.seconds || table.size > limits.states)) {
          frontier = table.size > limits.states ? "memory" : "time";
          break;
        }
        this.#expand(row);
      }
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      frontier = "violation";
      violation = { error, path: this.#pathTo(row, error) };
    }
    return {
      frontier,
      states: table.size,
      transitions: this.#transitions,
      depth: this.#layers.length - 1,
      locals: this.#locals.size,
      places: this.#places.size,
      messages: this.#locals.messages,
      steps: this.#locals.steps,
      seconds: elapsed(),
      violation,
    };
  }

  /** @throws Violation */
  #expand(row: number): void {
    const next = this.#successors(row);
    const [a = 0, b = 0, c = 0] = this.#state;
    for (let at = 0; at < next.length; at += 2) {
      const index = next[at];
      const to = next[at + 1] ?? 0;
      this.#transitions += 1;
      if (!this.#table.add(index === 0 ? to : a, index === 1 ? to : b, index === 2 ? to : c)) continue;
      const { past } = this.#places.at(to);
      if (past !== this.#moving[index ?? 0]?.past) this.#judge.judge(this.#moving.map((place, at) => (at === index ? past : place.past)));
    }
  }

  /** Pairs: the index of a node, and the place that it may come to. The state in `row` is then in `#state` and `#moving`. @throws Violation */
  #successors(row: number): readonly number[] {
    const next = this.#next;
    const places = this.#moving;
    next.length = 0;
    this.#table.read(row, this.#state);
    for (let index = 0; index < NODES.length; index++) places[index] = this.#places.at(this.#state[index] ?? 0);
    const counted = this.#mayHappen(places);
    const campaigners = this.#scope.campaigners[total("campaigns", places)];
    for (let index = 0; index < NODES.length; index++) {
      const place = this.#places.at(this.#state[index] ?? 0);
      if (campaigners?.includes(index + 1)) for (const { to } of this.#places.acts(place, "campaigns")) next.push(index, to.id);
      for (const kind of counted) for (const { to } of this.#places.acts(place, kind)) next.push(index, to.id);
      for (let other = 0; other < NODES.length; other++) {
        if (other === index) continue;
        for (const to of this.#places.deliveries(place, places[other]?.sent[index] ?? 0)) next.push(index, to);
      }
    }
    return next;
  }

  #mayHappen(places: readonly Place[]): readonly Counted[] {
    const counted: Counted[] = ["free"];
    for (const kind of BOUNDED) if (total(kind, places) < this.#scope.bounds[kind]) counted.push(kind);
    return counted;
  }

  /** A shortest way to `row`, and then the step at which something was wrong. */
  #pathTo(row: number, error: Violation): string {
    const rows = [row];
    for (let depth = this.#layers.length - 1; depth > 0; depth--) rows.unshift(this.#predecessor(rows[0] ?? 0, depth));
    const lines: string[] = [];
    for (const [index, at] of rows.entries()) lines.push(this.#stepText(this.#placesOf(at), rows[index + 1], error));
    return lines.join("\n");
  }

  #predecessor(row: number, depth: number): number {
    const wanted = this.#placesOf(row).map(({ id }) => id);
    for (let before = this.#layers[depth - 1] ?? 0; before < (this.#layers[depth] ?? 0); before++) {
      const next = this.#successors(before);
      for (let at = 0; at < next.length; at += 2) {
        const index = next[at];
        if (wanted.every((id, other) => id === (other === index ? next[at + 1] : this.#state[other]))) return before;
      }
    }
    throw new RangeError(`nothing leads to state ${row}`);
  }

  #placesOf(row: number): readonly Place[] {
    this.#table.read(row, this.#state);
    return [...this.#state].map((id) => this.#places.at(id));
  }

  /** What leads from `places` to the state in row `next`; where that is none, to `error`. */
  #stepText(places: readonly Place[], next: number | undefined, error: Violation): string {
    const wanted = next === undefined ? undefined : this.#placesOf(next);
    for (const [index, place] of places.entries()) {
      for (const { text, take } of this.#namedSteps(places, index)) {
        const to = attempt(take);
        if (to === undefined) {
          if (wanted === undefined) return `${text}\n    ${error.message} ${JSON.stringify(error.details)}`;
          continue;
        }
        const after = places.map((other) => (other === place ? to : other));
        if (wanted === undefined ? !this.#isSound(after) : after.every((one, at) => one === wanted[at])) {
          const lines = [text, placeText(to)];
          if (wanted === undefined) lines.push(`${error.message} ${JSON.stringify(error.details)}`);
          return lines.join("\n    ");
        }
      }
    }
    throw new RangeError("no step leads there");
  }

  #namedSteps(places: readonly Place[], index: number): readonly { readonly text: string; readonly take: () => Place }[] {
    const place = places[index];
    if (place === undefined) return [];
    const campaigns = this.#scope.campaigners[total("campaigns", places)]?.includes(index + 1) ? (["campaigns"] as const) : [];
    const acts = this.#places.possible(place, [...campaigns, ...this.#mayHappen(places)]);
    const messages = places.flatMap((sender) => (sender === place ? [] : this.#places.messages(sender.sent[index] ?? 0)));
    return [
      ...acts.map((act) => ({ text: actText(place, act), take: () => this.#places.act(place, act) })),
      ...messages.map((message) => ({ text: deliveryText(message), take: () => this.#places.deliver(place, message) })),
    ];
  }

  #isSound(places: readonly Place[]): boolean {
    return attempt(() => this.#judge.judge(places.map(({ past }) => past)) ?? true) === true;
  }
}

function total(count: Count, places: readonly Place[]): number {
  let done = 0;
  for (const { local } of places) done += local.counts[count];
  return done;
}

/** Undefined where the step is a violation. */
function attempt<T>(take: () => T): T | undefined {
  try {
    return take();
  } catch (error) {
    if (error instanceof Violation) return undefined;
    throw error;
  }
}
