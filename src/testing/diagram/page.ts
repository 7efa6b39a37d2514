import type { PageElement, PageEvent, PageWindow } from "./browser.ts";
import type { Filter, Layout, Scale } from "./layout.ts";
import type { DiagramData } from "./model.ts";
import type { DrawnArrow, Painter, Point } from "./painter.ts";
import type { Panel } from "./panel.ts";

/** The classes that it is made of: it is given them, for it must not name them (see `Layout`). */
export interface Parts {
  readonly Layout: typeof Layout;
  readonly Painter: typeof Painter;
  readonly Panel: typeof Panel;
}

/** The page at work. It goes into the page as text: nothing outside of the class may be named in it but types. In the browser's console it is called `diagram`. */
export class Page {
  readonly data: DiagramData;
  /** What the last drawing took. */
  drawMs = 0;
  readonly #window: PageWindow;
  readonly #layout: Layout;
  readonly #painter: Painter;
  readonly #panel: Panel;
  readonly #canvas: PageElement;
  readonly #scroll: PageElement;
  readonly #hiddenKinds: Set<string>;
  readonly #hiddenLanes = new Set<number>();
  readonly #colours = new Map<string, string>();
  #selected = 0;
  #hovered: number | undefined;
  #isDue = false;
  #addressDue: number | undefined;

  constructor(window: PageWindow, { Layout, Painter, Panel }: Parts, data: DiagramData) {
    this.data = data;
    this.#window = window;
    this.#canvas = this.#element("canvas");
    this.#scroll = this.#element("scroll");
    this.#layout = new Layout(data);
    const ink = this.#canvas.getContext("2d");
    if (ink === null) throw new Error("this browser does not draw on a canvas");
    this.#painter = new Painter(ink, this.#layout, (name) => this.#colour(name));
    this.#panel = new Panel(window.document, this.#layout, (place) => this.#go(place));
    this.#hiddenKinds = new Set(["heartbeat", "heartbeat-reply", "clients", "applied"]);
    this.#makeFilters();
    this.#listen();
    this.#refilter();
    this.#go(this.#linked() ?? data.violation ?? 0);
  }

  /** The number of the selected event. */
  get selected(): number {
    return this.data.first + this.#selected;
  }

  /** How many events are shown. */
  get shown(): number {
    return this.#layout.shown.length;
  }

  /** Selects an event by its number. */
  select(number: number): void {
    this.#go(number - this.data.first);
  }

  /** Where an event is drawn, from the corner of the canvas. */
  pointOf(number: number): Point {
    return this.#painter.pointOf(number - this.data.first);
  }

  /** How the message that was sent or received in an event is drawn: once for each arrival. */
  arrowsOf(number: number): readonly DrawnArrow[] {
    const message = this.data.events[number - this.data.first]?.message;
    const arrows = this.#layout.arrows.filter((arrow) => arrow.message === message);
    return arrows.flatMap((arrow) => this.#painter.arrowOf(arrow) ?? []);
  }

  laneX(lane: number): number {
    return this.#painter.laneX(lane);
  }

  #element(id: string): PageElement {
    const element = this.#window.document.getElementById(id);
    if (element === null) throw new Error(`the page has no #${id}`);
    return element;
  }

  #colour(name: string): string {
    let colour = this.#colours.get(name);
    if (colour === undefined) {
      const { document } = this.#window;
      colour = this.#window.getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
      this.#colours.set(name, colour);
    }
    return colour;
  }

  /** The place of the event that the address names. */
  #linked(): number | undefined {
    const number = /^#e=(\d+)$/.exec(this.#window.location.hash)?.[1];
    const place = Number(number ?? Number.NaN) - this.data.first;
    return this.data.events[place] === undefined ? undefined : place;
  }

  #go(place: number): void {
    if (this.data.events[place] === undefined) return;
    this.#selected = place;
    if (this.#layout.pin(place)) this.#fit();
    this.#centre();
    this.#nameInAddress();
    this.#panel.show(this.#element("panel"), place);
    this.#element("said").textContent = `event ${this.selected}: ${this.#layout.textOf(place)}`;
    this.#draw();
  }

  /** Once the stepping stops: browsers refuse an address that changes with every repeat of a key that is held down. */
  #nameInAddress(): void {
    this.#window.clearTimeout(this.#addressDue);
    this.#addressDue = this.#window.setTimeout(() => this.#window.history.replaceState(undefined, "", `#e=${this.selected}`), 100);
  }

  #centre(): void {
    const y = this.#layout.yOf(this.#selected);
    const { scrollTop, clientHeight } = this.#scroll;
    const margin = Math.min(120, clientHeight / 4);
    if (y < scrollTop + margin || y > scrollTop + clientHeight - this.#painter.head - margin) this.#scroll.scrollTop = y - clientHeight / 2;
  }

  #refilter(): void {
    const filter: Filter = { hiddenKinds: this.#hiddenKinds, hiddenLanes: this.#hiddenLanes, text: this.#element("search").value };
    this.#layout.show(filter, this.#selected);
    this.#element("count").textContent = `${this.#layout.shown.length} of ${this.data.events.length} events`;
    this.#fit();
    this.#scroll.scrollTop = this.#layout.yOf(this.#selected) - this.#scroll.clientHeight / 2;
    this.#panel.show(this.#element("panel"), this.#selected);
    this.#draw();
  }

  /** Gives the page its height. */
  #fit(): void {
    this.#element("tall").style["height"] = `${Math.ceil(this.#layout.height + this.#painter.head)}px`;
  }

  /** @param y from the top of the canvas: what is there stays there. */
  #zoom(factor: number, y: number = this.#layout.yOf(this.#selected) - this.#scroll.scrollTop): void {
    this.#place(this.#layout.scale, this.#layout.zoom * factor, y);
  }

  #place(scale: Scale, zoom: number, y: number): void {
    const row = this.#layout.rowAt(this.#scroll.scrollTop + y);
    const kept = this.#layout.shown[Math.min(row, this.#layout.shown.length - 1)];
    this.#layout.place(scale, zoom);
    this.#fit();
    this.#scroll.scrollTop = this.#layout.yOf(kept) - y;
    this.#draw();
  }

  #toggleScale(): void {
    const isOrder = this.#layout.scale === "order";
    this.#place(isOrder ? "time" : "order", isOrder ? 40 : 18, this.#layout.yOf(this.#selected) - this.#scroll.scrollTop);
    this.#element("scale").textContent = isOrder ? "by time" : "by order";
    this.#centre();
  }

  /** At most once a frame, however much happens. */
  #draw(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    this.#window.requestAnimationFrame(() => {
      this.#isDue = false;
      const began = this.#window.performance.now();
      const { clientWidth: width, clientHeight: height, scrollTop: top } = this.#scroll;
      const ratio = this.#window.devicePixelRatio;
      if (this.#canvas.width !== Math.round(width * ratio)) this.#canvas.width = Math.round(width * ratio);
      if (this.#canvas.height !== Math.round(height * ratio)) this.#canvas.height = Math.round(height * ratio);
      this.#canvas.style["width"] = `${width}px`;
      this.#canvas.style["height"] = `${height}px`;
      this.#painter.draw({ top, width, height, ratio, selected: this.#selected, hovered: this.#hovered });
      this.drawMs = this.#window.performance.now() - began;
    });
  }

  #makeFilters(): void {
    const counts = new Map<string, number>();
    for (const { kind } of this.data.events) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    const kinds = [...counts.keys()].filter((kind) => kind !== "violation").toSorted();
    this.#element("kinds").append(...kinds.map((kind) => this.#box(`${kind} (${counts.get(kind)})`, this.#hiddenKinds, kind)));
    this.#element("lanes").append(...this.data.lanes.map(({ name }, lane) => this.#box(`node ${name}`, this.#hiddenLanes, lane)));
  }

  #box<Key>(words: string, hidden: Set<Key>, key: Key): PageElement {
    const { document } = this.#window;
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = !hidden.has(key);
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(key);
      else hidden.add(key);
      this.#refilter();
    });
    label.append(box, ` ${words}`);
    return label;
  }

  #listen(): void {
    const window = this.#window;
    window.addEventListener("keydown", (event) => this.#onKey(event));
    window.addEventListener("resize", () => this.#draw());
    window.addEventListener("hashchange", () => this.#go(this.#linked() ?? this.#selected));
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.#colours.clear();
      this.#draw();
    });
    this.#scroll.addEventListener("scroll", () => this.#draw());
    this.#scroll.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    this.#canvas.addEventListener("mousemove", (event) => {
      this.#hovered = this.#painter.eventAt(this.#pointer(event));
      this.#canvas.title = this.#hovered === undefined ? "" : this.#layout.textOf(this.#hovered);
      this.#canvas.style["cursor"] = this.#hovered === undefined ? "default" : "pointer";
      this.#draw();
    });
    this.#canvas.addEventListener("click", (event) => this.#go(this.#painter.eventAt(this.#pointer(event)) ?? this.#selected));
    this.#element("search").addEventListener("input", () => this.#refilter());
    const buttons: readonly (readonly [id: string, key: string])[] = [
      ["closer", "+"],
      ["farther", "-"],
      ["scale", "t"],
      ["up", "ArrowUp"],
      ["down", "ArrowDown"],
    ];
    for (const [id, key] of buttons) this.#element(id).addEventListener("click", () => this.#press(key));
    const violation = this.#element("violation");
    violation.hidden = this.data.violation === undefined;
    violation.addEventListener("click", () => this.#press("v"));
  }

  #pointer({ clientX, clientY }: PageEvent): Point {
    const { left, top } = this.#canvas.getBoundingClientRect();
    return { x: clientX - left, y: clientY - top };
  }

  /** With Ctrl it zooms, at the pointer; alone it scrolls. */
  #onWheel(event: PageEvent): void {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.#zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, this.#pointer(event).y - this.#painter.head);
  }

  #onKey(event: PageEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === this.#element("search")) {
      if (event.key === "Escape" || event.key === "Enter") event.target.blur();
      return;
    }
    if (this.#press(event.key)) event.preventDefault();
  }

  /** @returns whether that key means something. */
  #press(key: string): boolean {
    const lane = this.data.events[this.#selected]?.lane;
    const to = (place: number | undefined): void => this.#go(place ?? this.#selected);
    const keys: Readonly<Record<string, () => void>> = {
      ArrowDown: () => to(this.#layout.next(this.#selected, 1)),
      ArrowUp: () => to(this.#layout.next(this.#selected, -1)),
      ArrowRight: () => to(this.#layout.next(this.#selected, 1, lane)),
      ArrowLeft: () => to(this.#layout.next(this.#selected, -1, lane)),
      Home: () => to(this.#layout.shown[0]),
      End: () => to(this.#layout.shown.at(-1)),
      m: () => to(this.#layout.otherEnd(this.#selected)),
      v: () => to(this.data.violation),
      t: () => this.#toggleScale(),
      "+": () => this.#zoom(1.5),
      "=": () => this.#zoom(1.5),
      "-": () => this.#zoom(1 / 1.5),
      "0": () => this.#place(this.#layout.scale, this.#layout.scale === "order" ? 18 : 40, this.#layout.yOf(this.#selected) - this.#scroll.scrollTop),
      "/": () => this.#element("search").focus(),
    };
    const action = Object.hasOwn(keys, key) ? keys[key] : undefined;
    action?.();
    return action !== undefined;
  }
}
