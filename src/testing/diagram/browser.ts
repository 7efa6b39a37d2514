/**
 * What the page uses of a browser. It is written down here, so that the sources are not checked with the DOM's thousand global names: outside of the page, a forgotten
 * `name` or `event` must stay an error.
 */

/** Of all elements: those that have no such property do not get asked for it. */
export interface PageElement {
  textContent: string | null;
  value: string;
  checked: boolean;
  type: string;
  hidden: boolean;
  title: string;
  className: string;
  width: number;
  height: number;
  scrollTop: number;
  readonly clientWidth: number;
  readonly clientHeight: number;
  readonly tagName: string;
  readonly style: Record<string, string>;
  append(...children: readonly (PageElement | string)[]): void;
  replaceChildren(...children: readonly (PageElement | string)[]): void;
  setAttribute(name: string, value: string): void;
  addEventListener(type: string, listener: (event: PageEvent) => void, options?: { readonly passive: boolean }): void;
  getBoundingClientRect(): { readonly left: number; readonly top: number };
  getContext(kind: "2d"): Ink | null;
  focus(): void;
  blur(): void;
}

export interface PageEvent {
  readonly key: string;
  readonly clientX: number;
  readonly clientY: number;
  readonly deltaY: number;
  readonly ctrlKey: boolean;
  readonly metaKey: boolean;
  readonly altKey: boolean;
  readonly shiftKey: boolean;
  readonly target: PageElement | null;
  preventDefault(): void;
}

/** The drawing context of a canvas. */
export interface Ink {
  fillStyle: string;
  strokeStyle: string;
  lineWidth: number;
  font: string;
  textAlign: string;
  textBaseline: string;
  beginPath(): void;
  closePath(): void;
  moveTo(x: number, y: number): void;
  lineTo(x: number, y: number): void;
  arc(x: number, y: number, radius: number, from: number, to: number): void;
  stroke(): void;
  fill(): void;
  fillRect(x: number, y: number, width: number, height: number): void;
  strokeRect(x: number, y: number, width: number, height: number): void;
  fillText(text: string, x: number, y: number): void;
  setLineDash(lengths: readonly number[]): void;
  setTransform(a: number, b: number, c: number, d: number, e: number, f: number): void;
}

export interface PageWindow {
  readonly document: {
    readonly documentElement: PageElement;
    getElementById(id: string): PageElement | null;
    createElement(name: string): PageElement;
  };
  readonly location: { readonly hash: string };
  readonly history: { replaceState(state: unknown, title: string, url: string): void };
  readonly devicePixelRatio: number;
  readonly performance: { now(): number };
  matchMedia(query: string): { addEventListener(type: string, listener: () => void): void };
  getComputedStyle(element: PageElement): { getPropertyValue(name: string): string };
  requestAnimationFrame(draw: () => void): number;
  setTimeout(then: () => void, ms: number): number;
  clearTimeout(timer: number | undefined): void;
  addEventListener(type: string, listener: (event: PageEvent) => void): void;
}
