import type { Ink } from "./browser.ts";
import type { Arrow, Layout } from "./layout.ts";
import type { DiagramEvent, RoleSpan } from "./model.ts";

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** Where a message is drawn, and how that ends. */
export interface DrawnArrow {
  readonly from: Point;
  readonly to: Point;
  readonly end: "arrow" | "cross" | "bar" | "ring" | "dots";
}

/** The part of the page that can be seen. */
export interface View {
  readonly top: number;
  readonly width: number;
  readonly height: number;
  /** Of the device's pixels to the page's. */
  readonly ratio: number;
  readonly selected: number;
  readonly hovered: number | undefined;
}

/** Draws what can be seen of a layout. It goes into the page as text: nothing outside of the class may be named in it but types. */
export class Painter {
  /** Of the names of the lanes, which stay where they are. */
  readonly head = 26;
  readonly #ink: Ink;
  readonly #layout: Layout;
  readonly #colour: (name: string) => string;
  readonly #spans: readonly (readonly RoleSpan[])[];
  #view: View = { top: 0, width: 0, height: 0, ratio: 1, selected: 0, hovered: undefined };

  /** @param colour by name, as the page's style has it at that time. */
  constructor(ink: Ink, layout: Layout, colour: (name: string) => string) {
    const { lanes, spans } = layout.data;
    this.#ink = ink;
    this.#layout = layout;
    this.#colour = colour;
    this.#spans = lanes.map((_, lane) => spans.filter((span) => span.lane === lane));
  }

  draw(view: View): void {
    const ink = this.#ink;
    this.#view = view;
    ink.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
    ink.fillStyle = this.#colour("paper");
    ink.fillRect(0, 0, view.width, view.height);
    ink.textBaseline = "middle";
    ink.font = "12px system-ui, sans-serif";
    this.#drawSelection();
    for (const lane of this.#spans.keys()) this.#drawLane(lane);
    this.#drawWrites();
    for (const arrow of this.#layout.arrows) this.#drawArrow(arrow);
    this.#drawEvents();
    this.#drawHead();
  }

  /** @returns the middle of a lane; the left of all of them for -1. */
  laneX(lane: number): number {
    if (lane < 0) return 96;
    const { width } = this.#view;
    const lanes = this.#layout.data.lanes.length;
    const gap = Math.min(110, Math.max(40, (width * 0.5 - 100) / Math.max(1, lanes)));
    return 100 + (lane + 0.5) * gap;
  }

  pointOf(place: number): Point {
    const lane = this.#layout.data.events[place]?.lane ?? -1;
    return { x: this.laneX(lane), y: this.#y(place) };
  }

  /** @returns undefined where none of it can be drawn. */
  arrowOf({ message, from, to }: Arrow): DrawnArrow | undefined {
    const { messages, events } = this.#layout.data;
    const told = messages[message];
    if (told === undefined) return undefined;
    const start = from === undefined ? { x: this.laneX(told.from), y: this.#y(to ?? 0) - 14 } : this.pointOf(from);
    if (to !== undefined) {
      const arrival = events[to]?.arrival;
      return { from: start, to: this.pointOf(to), end: arrival === "accepted" ? "arrow" : arrival === "refused" ? "ring" : "cross" };
    }
    const share = { lost: 0.55, cut: 0.25, nowhere: 0.25, ended: 0.2, open: 0.7, arrived: 1 }[told.end];
    const x = start.x + (told.to < 0 ? 30 : this.laneX(told.to) - start.x) * share;
    return {
      from: start,
      to: { x, y: start.y + 14 * share },
      end: told.end === "cut" ? "bar" : told.end === "lost" || told.end === "nowhere" ? "cross" : "dots",
    };
  }

  /** @returns the event that is drawn there. */
  eventAt({ x, y }: Point): number | undefined {
    const { shown } = this.#layout;
    const right = this.laneX(this.#spans.length - 1) + 24;
    let best: { readonly place: number; readonly distance: number } | undefined;
    const first = this.#layout.rowAt(y - this.head + this.#view.top - 30);
    for (let row = first; row < shown.length; row++) {
      const place = shown[row] ?? 0;
      const at = this.pointOf(place);
      if (at.y > y + 30) break;
      const isBeside = x > right || x < 90 || (this.#layout.data.events[place]?.lane ?? -1) < 0;
      const distance = Math.hypot(isBeside ? 0 : at.x - x, at.y - y);
      if (distance < (best?.distance ?? (isBeside ? 14 : 12))) best = { place, distance };
    }
    return best?.place ?? this.#arrowAt({ x, y });
  }

  #arrowAt(point: Point): number | undefined {
    for (const arrow of this.#layout.arrows) {
      if (this.#isOut(this.#y(arrow.from ?? arrow.to ?? 0), this.#y(arrow.to ?? arrow.from ?? 0))) continue;
      const drawn = this.arrowOf(arrow);
      if (drawn !== undefined && this.#distance(point, drawn.from, drawn.to) < 5) return arrow.from ?? arrow.to;
    }
    return undefined;
  }

  #distance(point: Point, from: Point, to: Point): number {
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const share = Math.min(1, Math.max(0, ((point.x - from.x) * dx + (point.y - from.y) * dy) / Math.max(1, dx * dx + dy * dy)));
    return Math.hypot(from.x + share * dx - point.x, from.y + share * dy - point.y);
  }

  #y(place: number): number {
    return this.head + this.#layout.yOf(place) - this.#view.top;
  }

  /** What is still going on goes on a little beyond the last event. */
  #end(): number {
    return this.#y(this.#layout.y.length - 1) + 14;
  }

  /** Whether nothing from one height to another can be seen. */
  #isOut(from: number, to: number): boolean {
    return Math.max(from, to) < this.head - 20 || Math.min(from, to) > this.#view.height + 20;
  }

  #line(from: Point, to: Point): void {
    const ink = this.#ink;
    ink.beginPath();
    ink.moveTo(from.x, from.y);
    ink.lineTo(to.x, to.y);
    ink.stroke();
  }

  #cross({ x, y }: Point, size: number): void {
    this.#line({ x: x - size, y: y - size }, { x: x + size, y: y + size });
    this.#line({ x: x - size, y: y + size }, { x: x + size, y: y - size });
  }

  #drawSelection(): void {
    const { selected, width } = this.#view;
    const y = this.#y(selected);
    if (this.#isOut(y, y)) return;
    this.#ink.fillStyle = this.#colour("band");
    this.#ink.fillRect(0, y - 9, width, 18);
  }

  /** Roles differ in width and dashes too, for those who see no colours. */
  #drawLane(lane: number): void {
    const ink = this.#ink;
    const x = this.laneX(lane);
    const spans = this.#spans[lane] ?? [];
    for (const [at, { from, role }] of spans.entries()) {
      const next = spans[at + 1];
      const top = Math.max(this.head, from < 0 ? this.head : this.#y(from));
      const bottom = Math.min(this.#view.height, next === undefined ? this.#end() : this.#y(next.from));
      if (bottom <= top) continue;
      ink.strokeStyle = this.#colour(role);
      ink.lineWidth = { leader: 9, candidate: 6, follower: 4, fenced: 4, paused: 4, down: 1, unknown: 1 }[role];
      ink.setLineDash({ leader: [], candidate: [], follower: [], fenced: [2, 4], paused: [8, 5], down: [2, 5], unknown: [2, 5] }[role]);
      this.#line({ x, y: top }, { x, y: bottom });
    }
    ink.setLineDash([]);
  }

  /** Bars beside the lane; hollow where nothing of it is on the disk. */
  #drawWrites(): void {
    const ink = this.#ink;
    const { writes } = this.#layout.data;
    for (const { lane, begun, ended, how, durable } of writes) {
      const from = begun === undefined ? this.head : this.#y(begun);
      const to = ended === undefined ? this.#end() : this.#y(ended);
      const isShown = [begun, ended].some((place) => place !== undefined && this.#layout.isShown(place));
      if (!isShown || this.#isOut(from, to)) continue;
      const x = this.laneX(lane) - 13;
      ink.lineWidth = 1;
      ink.fillStyle = this.#colour("write");
      ink.strokeStyle = ink.fillStyle;
      if (durable === true) ink.fillRect(x, from, 5, Math.max(2, to - from));
      else ink.strokeRect(x + 0.5, from, 4, Math.max(2, to - from));
      if (how === "done" || how === undefined) continue;
      ink.strokeStyle = this.#colour("violation");
      ink.lineWidth = 2;
      this.#cross({ x: x + 2.5, y: to }, 4);
    }
  }

  #drawArrow(arrow: Arrow): void {
    const { from = arrow.to ?? 0, to = arrow.from ?? 0 } = arrow;
    if (this.#isOut(this.#y(from), this.#y(to))) return;
    const drawn = this.arrowOf(arrow);
    if (drawn === undefined) return;
    const ink = this.#ink;
    const { selected, hovered } = this.#view;
    const isChosen = [selected, hovered].some((place) => place !== undefined && (place === arrow.from || place === arrow.to));
    ink.strokeStyle = this.#colour(this.#familyOf(arrow.message));
    ink.fillStyle = ink.strokeStyle;
    ink.lineWidth = isChosen ? 3 : 1.2;
    if (drawn.end === "dots") ink.setLineDash([2, 3]);
    this.#line(drawn.from, drawn.to);
    ink.setLineDash([]);
    this.#drawEnd(drawn);
  }

  /** What a message is about: who leads, what is accepted and decided, or neither. */
  #familyOf(message: number): string {
    const type = this.#layout.data.messages[message]?.type ?? "";
    if (["prepare", "promise", "reject"].includes(type)) return "phase1";
    return ["sync", "sync-request", "accept", "accepted", "nack", "decide"].includes(type) ? "phase2" : "other";
  }

  #drawEnd({ from, to, end }: DrawnArrow): void {
    const ink = this.#ink;
    const angle = Math.atan2(to.y - from.y, to.x - from.x);
    const turned = (by: number, length: number): Point => ({ x: to.x - length * Math.cos(angle + by), y: to.y - length * Math.sin(angle + by) });
    switch (end) {
      case "arrow":
        ink.beginPath();
        for (const { x, y } of [to, turned(0.4, 9), turned(-0.4, 9)]) ink.lineTo(x, y);
        ink.closePath();
        ink.fill();
        return;
      case "ring":
        ink.beginPath();
        ink.arc(to.x, to.y, 5, 0, 7);
        ink.stroke();
        return;
      case "bar":
        ink.lineWidth = 3;
        this.#line({ x: to.x, y: to.y - 6 }, { x: to.x, y: to.y + 6 });
        return;
      case "cross":
        ink.strokeStyle = this.#colour("violation");
        ink.lineWidth = 2;
        this.#cross(to, 4);
        return;
      default: // dots: it does not end
    }
  }

  #drawEvents(): void {
    const { events } = this.#layout.data;
    const { shown } = this.#layout;
    const { selected, height, top } = this.#view;
    const selectedY = this.#y(selected);
    let free = Number.NEGATIVE_INFINITY;
    for (let row = this.#layout.rowAt(top - 20); row < shown.length; row++) {
      const place = shown[row] ?? 0;
      const event = events[place];
      const y = this.#y(place);
      if (event === undefined || y > height + 20) break;
      this.#drawMark(event, this.pointOf(place), place === selected);
      // Words where there is room for them; the selected event has it before all others.
      const isFree = place === selected || (y >= free && (Math.abs(y - selectedY) >= 14 || y > selectedY + 14));
      if (!isFree) continue;
      free = y + 14;
      this.#drawWords(place, event, y);
    }
  }

  #drawWords(place: number, event: DiagramEvent, y: number): void {
    const ink = this.#ink;
    const { data } = this.#layout;
    const x = this.laneX(data.lanes.length - 1) + 50;
    ink.textAlign = "right";
    ink.fillStyle = this.#colour("faint");
    ink.fillText(`${(event.at / 1000).toFixed(3)}`, 84, y);
    ink.textAlign = "left";
    ink.fillStyle = this.#colour(event.type === "violation" ? "violation" : "ink");
    ink.fillText(`${data.lanes[event.lane]?.name ?? "all"}`, x, y);
    ink.fillText(this.#layout.textOf(place).slice(0, 200), x + 22, y);
  }

  #drawMark(event: DiagramEvent, { x, y }: Point, isSelected: boolean): void {
    const ink = this.#ink;
    ink.lineWidth = 2;
    ink.strokeStyle = this.#colour("ink");
    ink.fillStyle = ink.strokeStyle;
    switch (event.type) {
      case "decided":
      case "applied":
        this.#drawSlot(event, { x, y });
        break;
      case "violation":
        this.#drawViolation({ x, y });
        break;
      case "crash":
      case "fenced":
        this.#cross({ x, y }, 6);
        break;
      case "note":
        ink.setLineDash([1, 4]);
        ink.lineWidth = 1;
        this.#line({ x: event.lane < 0 ? 92 : x - 12, y }, { x: event.lane < 0 ? this.laneX(this.#spans.length - 1) + 24 : x + 12, y });
        ink.setLineDash([]);
        break;
      case "input":
      case "settled":
      case "answered":
        ink.lineWidth = 1;
        this.#line({ x: x - 22, y }, { x: x - 16, y });
        break;
      case "write-begun":
      case "write-ended":
        break;
      default:
        ink.fillRect(x - 2.5, y - 2.5, 5, 5);
    }
    if (!isSelected) return;
    ink.strokeStyle = this.#colour("ink");
    ink.lineWidth = 2;
    ink.beginPath();
    ink.arc(x, y, 10, 0, 7);
    ink.stroke();
  }

  /** A tick with the slot beside it; a short one for what is applied. */
  #drawSlot({ type, slot = 0 }: DiagramEvent, { x, y }: Point): void {
    const ink = this.#ink;
    if (type === "applied") return this.#line({ x: x + 6, y }, { x: x + 10, y });
    ink.lineWidth = 3;
    this.#line({ x: x - 2, y }, { x: x + 13, y });
    ink.textAlign = "left";
    ink.fillStyle = this.#colour("ink");
    ink.fillText(String(slot), x + 15, y);
  }

  #drawViolation({ x, y }: Point): void {
    const ink = this.#ink;
    ink.fillStyle = this.#colour("violation");
    ink.fillRect(92, y - 1, this.laneX(this.#spans.length - 1) + 24 - 92, 2);
    ink.beginPath();
    ink.moveTo(x, y - 9);
    ink.lineTo(x + 9, y);
    ink.lineTo(x, y + 9);
    ink.lineTo(x - 9, y);
    ink.closePath();
    ink.fill();
  }

  #drawHead(): void {
    const ink = this.#ink;
    ink.fillStyle = this.#colour("paper");
    ink.fillRect(0, 0, this.#view.width, this.head);
    ink.textAlign = "right";
    ink.fillStyle = this.#colour("faint");
    ink.fillText("ms", 84, 13);
    ink.textAlign = "center";
    ink.fillStyle = this.#colour("ink");
    for (const [lane, { name }] of this.#layout.data.lanes.entries()) ink.fillText(`node ${name}`, this.laneX(lane), 13);
    ink.fillStyle = this.#colour("line");
    ink.fillRect(0, this.head - 1, this.#view.width, 1);
  }
}
