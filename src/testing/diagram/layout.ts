import type { DiagramData } from "./model.ts";

/** What is shown. */
export interface Filter {
  readonly hiddenKinds: ReadonlySet<string>;
  readonly hiddenLanes: ReadonlySet<number>;
  /** Words that an event must have, all of them. A number stands for itself: 14 is not in 145. */
  readonly text: string;
}

/** `order`: a row for each event that is shown. `time`: as far apart as in time. */
export type Scale = "order" | "time";

/** A line from lane to lane. `to` is undefined where it does not arrive, and `from` where it left before what is kept. */
export interface Arrow {
  readonly message: number;
  readonly from: number | undefined;
  readonly to: number | undefined;
}

/**
 * Where events are, from the top of the page, whatever part of it can be seen. It has nothing of a browser. The page gets it as text, as it does the other classes
 * here: nothing outside of the class may be named in it but types.
 */
export class Layout {
  readonly data: DiagramData;
  /** Places of the events that are shown, in order. */
  shown: readonly number[] = [];
  /** By place of an event; those that are not shown lie between those that are. */
  readonly y: Float64Array;
  arrows: readonly Arrow[] = [];
  height = 0;
  scale: Scale = "order";
  /** Height of a row; in time, of a millisecond. */
  zoom = 18;
  readonly #texts: (string | undefined)[] = [];
  readonly #searched: (string | undefined)[] = [];
  #isShown: ReadonlySet<number> = new Set();
  #filter: Filter = { hiddenKinds: new Set(), hiddenLanes: new Set(), text: "" };

  constructor(data: DiagramData) {
    this.data = data;
    this.y = new Float64Array(data.events.length);
  }

  /** @param pinned an event that is shown whatever the filter says. */
  show(filter: Filter, pinned: number | undefined): void {
    this.#filter = filter;
    const patterns = this.#patterns(filter.text);
    this.shown = this.data.events.flatMap((_, place) => (place === pinned || this.#passes(place, patterns) ? [place] : []));
    this.#isShown = new Set(this.shown);
    this.#findArrows();
    this.place(this.scale, this.zoom);
  }

  /** Shows this event too, if it is not. @returns whether anything moved. */
  pin(place: number): boolean {
    if (this.isShown(place)) return false;
    this.show(this.#filter, place);
    return true;
  }

  isShown(place: number): boolean {
    return this.#isShown.has(place);
  }

  place(scale: Scale, zoom: number): void {
    const { events } = this.data;
    const start = events[0]?.at ?? 0;
    const spanMs = ((events.at(-1)?.at ?? 0) - start) / 1000;
    const rows = scale === "order" ? this.shown.length : spanMs;
    // Browsers do not scroll through much more than this.
    const most = 8_000_000 / Math.max(1, rows);
    const least = scale === "order" ? 4 : Math.min(most, 400 / Math.max(1, spanMs));
    this.scale = scale;
    this.zoom = Math.min(most, scale === "order" ? 60 : 20_000, Math.max(least, zoom));
    this.height = rows * this.zoom + 60;
    let row = 0;
    for (const [place, { at }] of events.entries()) {
      const isShown = this.shown[row] === place;
      const inOrder = (isShown ? row + 0.75 : row + 0.25) * this.zoom;
      this.y[place] = scale === "order" ? inOrder : 20 + ((at - start) / 1000) * this.zoom;
      if (isShown) row += 1;
    }
  }

  /** @returns the place in `shown` of the first that is not above `y`. */
  rowAt(y: number): number {
    let low = 0;
    let high = this.shown.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.yOf(this.shown[middle]) < y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  yOf(place: number | undefined): number {
    return place === undefined ? 0 : (this.y[place] ?? 0);
  }

  /** @returns the next event that is shown, up or down; of that lane, if one is named; undefined where there is none. */
  next(from: number, step: 1 | -1, lane?: number): number | undefined {
    const { events } = this.data;
    const at = this.shown.findIndex((place) => place >= from);
    const start = at < 0 ? this.shown.length : at;
    const begin = this.shown[start] === from ? start + step : step > 0 ? start : start - 1;
    for (let row = begin; row >= 0 && row < this.shown.length; row += step) {
      const place = this.shown[row];
      if (place !== undefined && (lane === undefined || events[place]?.lane === lane)) return place;
    }
    return undefined;
  }

  /** The details of a message are told once, where it was sent. */
  detailsOf(place: number): unknown {
    const event = this.data.events[place];
    if (event === undefined || event.details !== undefined || event.message === undefined) return event?.details;
    return this.data.events[this.data.messages[event.message]?.sent ?? -1]?.details;
  }

  /** An event in one line. */
  textOf(place: number): string {
    const known = this.#texts[place];
    if (known !== undefined) return known;
    const event = this.data.events[place];
    const details = this.detailsOf(place);
    // What type it has is in the words before.
    const rest = this.#brief(typeof details === "object" && !Array.isArray(details) ? { ...details, type: undefined } : details);
    const text = event === undefined ? "" : rest === "" ? event.what : `${event.what}  ${rest}`;
    this.#texts[place] = text;
    return text;
  }

  /** The last event that gave a field of a lane's state the value that it has after `place`: where that comes from. */
  originOf(place: number, lane: number, field: number): number | undefined {
    const { events, states } = this.data;
    const now = this.stateAt(place, lane);
    const value = now === undefined ? undefined : states[now]?.[field];
    let origin: number | undefined;
    for (let at = place; at >= 0; at--) {
      const event = events[at];
      if (event?.lane !== lane || event.state === undefined) continue;
      if (states[event.state]?.[field] !== value) break;
      origin = at;
    }
    return origin;
  }

  /** @returns the place in `states` of what a lane is after that event. */
  stateAt(place: number, lane: number): number | undefined {
    const { events } = this.data;
    for (let at = place; at >= 0; at--) if (events[at]?.lane === lane && events[at]?.state !== undefined) return events[at]?.state;
    return undefined;
  }

  /** The other end of a message or of a write; the next one, where there are several. */
  otherEnd(place: number): number | undefined {
    const event = this.data.events[place];
    if (event?.write !== undefined) {
      const { begun, ended } = this.data.writes[event.write] ?? {};
      return place === begun ? ended : begun;
    }
    if (event?.message === undefined) return undefined;
    const { sent, received = [] } = this.data.messages[event.message] ?? {};
    const ends = [...(sent === undefined ? [] : [sent]), ...received];
    return ends[(ends.indexOf(place) + 1) % ends.length];
  }

  #passes(place: number, patterns: readonly RegExp[]): boolean {
    const event = this.data.events[place];
    if (event === undefined) return false;
    if (event.type === "violation") return true;
    const { hiddenKinds, hiddenLanes } = this.#filter;
    if (hiddenKinds.has(event.kind) || hiddenLanes.has(event.lane)) return false;
    if (event.message !== undefined) {
      const { from = -1, to = -1 } = this.data.messages[event.message] ?? {};
      if (hiddenLanes.has(from) || hiddenLanes.has(to)) return false;
    }
    return patterns.length === 0 || patterns.every((pattern) => pattern.test(this.#searchedIn(place)));
  }

  /** All of it, where `textOf` is short. */
  #searchedIn(place: number): string {
    const known = this.#searched[place];
    if (known !== undefined) return known;
    const text = `${this.data.events[place]?.what} ${JSON.stringify(this.detailsOf(place) ?? "")}`;
    this.#searched[place] = text;
    return text;
  }

  #patterns(text: string): readonly RegExp[] {
    const words = text.split(/\s+/).filter((word) => word !== "");
    return words.map((word) => {
      const literal = word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
      const before = /^\d/.test(word) ? "(?<![\\d.])" : "";
      const after = /\d$/.test(word) ? "(?!\\d)" : "";
      return new RegExp(before + literal + after, "i");
    });
  }

  #findArrows(): void {
    const arrows: Arrow[] = [];
    for (const [message, { sent, received }] of this.data.messages.entries()) {
      const ends = received.filter((place) => this.isShown(place) || (sent !== undefined && this.isShown(sent)));
      for (const to of ends) arrows.push({ message, from: sent, to });
      if (ends.length === 0 && sent !== undefined && this.isShown(sent)) arrows.push({ message, from: sent, to: undefined });
    }
    this.arrows = arrows;
  }

  /** Without what is the same nearly everywhere, or says nothing to people. */
  #brief(details: unknown): string {
    if (typeof details !== "object" || details === null) return details === undefined ? "" : String(details);
    if (Array.isArray(details)) {
      const isLong = details.length > 3 && details.every((each) => typeof each === "string"); // entries
      const ends = isLong ? [details[0], "..", details.at(-1)] : details;
      return `[${ends.map((each) => this.#brief(each)).join(" ")}]`;
    }
    const told = Object.entries(details).filter(([key]) => !/chain|^compacted|^seq$|^configVersion$/i.test(key));
    return told
      .map(([key, value]) => (key === "type" ? this.#brief(value) : `${key} ${this.#brief(value)}`))
      .filter((part) => part !== "")
      .join(", ");
  }
}
