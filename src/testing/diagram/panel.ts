import type { PageElement, PageWindow } from "./browser.ts";
import type { Layout } from "./layout.ts";

/** What is told of one event beside the picture. It goes into the page as text: nothing outside of the class may be named in it but types. */
export class Panel {
  readonly #document: PageWindow["document"];
  readonly #layout: Layout;
  readonly #select: (place: number) => void;

  constructor(document: PageWindow["document"], layout: Layout, select: (place: number) => void) {
    this.#document = document;
    this.#layout = layout;
    this.#select = select;
  }

  show(into: PageElement, place: number): void {
    const { data } = this.#layout;
    const event = data.events[place];
    if (event === undefined) return;
    const at = `#${data.first + place}, at ${(event.at / 1000).toFixed(3)} ms, ${event.lane < 0 ? "everywhere" : `node ${data.lanes[event.lane]?.name}`}`;
    into.replaceChildren(
      this.#make("p", "place", at),
      this.#make("h2", event.type, event.what),
      ...this.#ends(place),
      ...this.#details(place),
      this.#make("h3", "", "After it"),
      this.#states(place),
      this.#make("h3", "", "Around it"),
      this.#around(place),
    );
  }

  #make(name: string, className: string, text: string): PageElement {
    const element = this.#document.createElement(name);
    element.className = className;
    element.textContent = text;
    return element;
  }

  #link(text: string, placeOf: () => number, title: string): PageElement {
    const button = this.#make("button", "link", text);
    button.title = title;
    button.type = "button";
    button.addEventListener("click", () => this.#select(placeOf()));
    return button;
  }

  /** Where a message left and arrived; when a write began and ended. */
  #ends(place: number): readonly PageElement[] {
    const { data } = this.#layout;
    const event = data.events[place];
    const message = data.messages[event?.message ?? -1];
    const write = data.writes[event?.write ?? -1];
    const links: (PageElement | string)[] = [];
    const add = (words: string, at: number | undefined): void => {
      if (at === undefined || at === place) return;
      const ms = ((data.events[at]?.at ?? 0) / 1000).toFixed(3);
      links.push(
        this.#link(`${words} #${data.first + at} at ${ms} ms`, () => at, "go there (m)"),
        " ",
      );
    };
    if (message !== undefined) {
      add("sent", message.sent);
      for (const at of message.received) add(`received${this.#arrivalOf(at)}`, at);
      if (message.sent === undefined) links.push("It was sent before the first event that is kept. ");
      if (message.end === "open") links.push("It was under way when the run ended. ");
    }
    if (write !== undefined) {
      add("begun", write.begun);
      add("ended", write.ended);
      if (write.ended === undefined) links.push("The run ended before it did. ");
    }
    if (links.length === 0) return [];
    const line = this.#make("p", "ends", "");
    line.append(...links);
    return [line];
  }

  #arrivalOf(place: number): string {
    const { arrival = "accepted" } = this.#layout.data.events[place] ?? {};
    return arrival === "accepted" ? "" : ` (${arrival})`;
  }

  #details(place: number): readonly PageElement[] {
    const details = this.#layout.detailsOf(place);
    if (details === undefined) return [];
    return [this.#make("pre", "", typeof details === "string" ? details : JSON.stringify(details, undefined, 1))];
  }

  /** All nodes side by side. What this event has changed is bold; each value leads to the event that it comes from. */
  #states(place: number): PageElement {
    const { lanes, fields, states, events } = this.#layout.data;
    const own = events[place]?.lane;
    const table = this.#make("table", "", "");
    const head = this.#make("tr", "", "");
    head.append(this.#make("th", "", ""), ...lanes.map(({ name }, lane) => this.#make("th", lane === own ? "own" : "", name)));
    table.append(head);
    const now = lanes.map((_, lane) => this.#layout.stateAt(place, lane));
    const before = own === undefined || own < 0 ? undefined : this.#layout.stateAt(place - 1, own);
    for (const [field, name] of fields.entries()) {
      const row = this.#make("tr", "", "");
      row.append(this.#make("th", "", name));
      for (const [lane, state] of now.entries()) {
        const value = states[state ?? -1]?.[field];
        const isNew = lane === own && before !== undefined && states[before]?.[field] !== value;
        const cell = this.#make("td", `${lane === own ? "own" : ""}${isNew ? " new" : ""}${field === 0 ? ` role-${value}` : ""}`, "");
        if (value !== undefined)
          cell.append(this.#link(String(value), () => this.#layout.originOf(place, lane, field) ?? place, "where it comes from"));
        row.append(cell);
      }
      table.append(row);
    }
    return table;
  }

  /** The events that are shown before and after it. */
  #around(place: number): PageElement {
    const { data, shown } = this.#layout;
    const list = this.#make("ol", "around", "");
    const row = shown.indexOf(place);
    for (const at of shown.slice(Math.max(0, row - 8), row + 9)) {
      const item = this.#make("li", at === place ? "here" : "", "");
      const lane = data.lanes[data.events[at]?.lane ?? -1]?.name ?? "all";
      item.append(this.#link(`#${data.first + at}  ${lane}  ${this.#layout.textOf(at)}`, () => at, ""));
      list.append(item);
    }
    return list;
  }
}
