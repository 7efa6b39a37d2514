/**
 * A network that loses, doubles, delays and reorders. A message is a weight and nothing more to it: what it says is for the nodes. Times are microseconds of
 * virtual time.
 */
import type { Prng } from "../../base/prng.ts";

export interface NetworkSettings {
  readonly latencyUs: readonly [least: number, most: number];
  /** Chance that a message takes up to `tailUs` longer. */
  readonly tail: number;
  readonly tailUs: number;
  /** Chances, per message. */
  readonly loss: number;
  readonly duplication: number;
  /** Chance that a copy comes up to `echoUs` later, when its reign may be long over. */
  readonly echo: number;
  readonly echoUs: number;
  /** Chance that a message does not wait for those sent before it. */
  readonly reordering: number;
  /** 0 for a network without a limit. */
  readonly bytesPerMs: number;
}

/** From one node to another. */
export type Link = readonly [from: number, to: number];

interface Wire {
  cut: boolean;
  /** Neither loses nor doubles nor delays beyond what is usual. */
  clean: boolean;
  /** When the last message of those that keep their order arrives. */
  lastAt: number;
  /** When the last message has left. */
  sentAt: number;
}

/** When a message arrives: never, once, or twice. */
export type Arrivals = readonly number[];

const NEVER: Arrivals = [];

export class Network {
  readonly #size: number;
  readonly #settings: NetworkSettings;
  readonly #prng: Prng;
  readonly #links: Wire[];
  sent = 0;
  lost = 0;
  doubled = 0;

  /** @param size nodes, which it calls 0 to `size - 1`. */
  constructor(size: number, settings: NetworkSettings, prng: Prng) {
    this.#size = size;
    this.#settings = settings;
    this.#prng = prng;
    this.#links = Array.from({ length: size * size }, () => ({ cut: false, clean: false, lastAt: 0, sentAt: 0 }));
  }

  send(now: number, from: number, to: number, bytes: number): Arrivals {
    const { loss, duplication, reordering } = this.#settings;
    const link = this.#link(from, to);
    this.sent += 1;
    if (link.cut || (!link.clean && loss > 0 && this.#prng.chance(loss))) {
      this.lost += 1;
      return NEVER;
    }
    let at = this.#leave(now, link, bytes) + this.#latency(link);
    if (link.clean || reordering === 0 || !this.#prng.chance(reordering)) {
      at = Math.max(at, link.lastAt);
      link.lastAt = at;
    }
    if (!link.clean && this.#settings.echo > 0 && this.#prng.chance(this.#settings.echo)) return [at, at + this.#prng.below(this.#settings.echoUs)];
    if (link.clean || duplication === 0 || !this.#prng.chance(duplication)) return [at];
    this.doubled += 1;
    return [at, at + this.#latency(link) * (1 + this.#prng.below(20))];
  }

  /** Cuts these links, and opens all others. What is under way still arrives. */
  shape(cut: readonly Link[]): void {
    for (const link of this.#links) link.cut = false;
    for (const [from, to] of cut) this.#link(from, to).cut = true;
  }

  /** Nothing goes wrong any more between these nodes. */
  heal(nodes: readonly number[]): void {
    for (const from of nodes) {
      for (const to of nodes) {
        const link = this.#link(from, to);
        link.cut = false;
        link.clean = true;
      }
    }
  }

  isCut(from: number, to: number): boolean {
    return this.#link(from, to).cut;
  }

  /** Both ways. */
  isOpen(a: number, b: number): boolean {
    return !this.#link(a, b).cut && !this.#link(b, a).cut;
  }

  #leave(now: number, link: Wire, bytes: number): number {
    const { bytesPerMs } = this.#settings;
    if (bytesPerMs === 0) return now;
    link.sentAt = Math.max(now, link.sentAt) + Math.ceil((bytes * 1000) / bytesPerMs);
    return link.sentAt;
  }

  #latency(link: Wire): number {
    const { latencyUs, tail, tailUs } = this.#settings;
    const usual = drawBetween(this.#prng, latencyUs);
    return link.clean || tail === 0 || !this.#prng.chance(tail) ? usual : usual + this.#prng.below(tailUs);
  }

  #link(from: number, to: number): Wire {
    const link = this.#links[from * this.#size + to];
    if (link === undefined) throw new RangeError(`there is no link from ${from} to ${to}`);
    return link;
  }
}

/** Most draws are near the lesser end, as latencies are. */
export function drawBetween(prng: Prng, [least, most]: readonly [number, number]): number {
  const share = prng.next();
  return least + Math.floor((most - least) * share * share);
}
