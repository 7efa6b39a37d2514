/**
 * A trace as one page of HTML, which needs nothing else: no network, no other file. Its script is made of the classes of this folder, as they stand: a class that names
 * nothing outside of itself is the same as text.
 */
import type { TraceEvent } from "../cluster/trace.ts";
import { Layout } from "./layout.ts";
import { type DiagramData, diagramOf } from "./model.ts";
import { Page } from "./page.ts";
import { Painter } from "./painter.ts";
import { Panel } from "./panel.ts";
import { STYLE } from "./style.ts";

/** `__name` is what esbuild puts into classes and functions where it keeps their names, as it does under tsx. */
const SCRIPT = `"use strict";
const __name = (named) => named;
${Object.entries({ Layout, Painter, Panel, Page })
  .map(([name, part]) => `const ${name} = ${String(part)};`)
  .join("\n")}
globalThis.diagram = new Page(window, { Layout, Painter, Panel }, JSON.parse(document.getElementById("trace").textContent));`;

export interface DiagramOptions {
  /** What run it was. */
  readonly title: string;
}

/** @param events of one run, in order, without a gap: as a `TraceRecorder` has them. */
export function traceDiagram(events: readonly TraceEvent[], { title }: DiagramOptions): string {
  const data = diagramOf(events, title);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
</head>
<body>
${headerOf(data)}
<main>
<div id="scroll" tabindex="0" role="application" aria-label="Space-time diagram: arrow keys step through the events"><div id="tall"><canvas id="canvas"></canvas></div></div>
<aside id="panel" aria-label="The selected event"></aside>
</main>
<div id="said" class="quiet" role="status"></div>
<script id="trace" type="application/json">${JSON.stringify(data).replaceAll("<", "\\u003c")}</script>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function headerOf({ title, first, violation, events }: DiagramData): string {
  const failed = violation === undefined ? "" : (events[violation]?.what ?? "");
  const dropped =
    first > 1 ? `<p><strong>The first ${first - 1} events of this run are not here:</strong> only the last ${events.length} were kept.</p>` : "";
  return `<header>
<h1>${escaped(title)}</h1><button type="button" id="violation" title="Key v">${escaped(failed)}</button>
${dropped}
<div class="bar">
<span><button type="button" id="up" title="Arrow up">&uarr;</button> <button type="button" id="down" title="Arrow down">&darr;</button></span>
<span><button type="button" id="farther" title="Key -">&minus;</button> <button type="button" id="closer" title="Key +">+</button></span>
<button type="button" id="scale" title="Key t: a row for each event, or as far apart as in time">by order</button>
<label>only with <input id="search" type="search" size="22" placeholder="slot, ballot, words" title="Key /: events that have all of these words"></label>
<details><summary>events</summary><div class="choice" id="kinds"></div></details>
<details><summary>nodes</summary><div class="choice" id="lanes"></div></details>
<span id="count"></span>
<details><summary>legend</summary><div class="choice wide">${LEGEND}</div></details>
</div>
</header>`;
}

const ROLES = { follower: "4px solid", candidate: "6px solid", leader: "9px solid", fenced: "4px dotted", paused: "4px dashed", down: "1px dotted" };

/** In this order: roles, what is beside a lane, how messages end, keys. */
const LEGEND = [
  ...Object.entries(ROLES).map(([role, look]) => `<p><span class="key" style="border-top: ${look} var(--${role})"></span> ${role}</p>`),
  `<p><span class="key" style="border-top: 9px solid var(--write)"></span> a write, from begin to end; hollow if it is not on the disk</p>`,
  `<p><b>&#9472;&nbsp;17</b> decided through slot 17</p>`,
  `<p style="color: var(--violation)">&#9670; the violation</p>`,
  `<p><b style="color: var(--phase1)">&rarr;</b> prepare, promise, reject</p>`,
  `<p><b style="color: var(--phase2)">&rarr;</b> sync, accept, accepted, nack, decide</p>`,
  `<p><b style="color: var(--other)">&rarr;</b> all others</p>`,
  "<p>broken off, with a cross: lost; with a bar: the link was cut</p>",
  "<p>a cross at the receiver: nothing ran there; a ring: not believed</p>",
  "<p>dotted: under way when the run ended, or not sent any more</p>",
  "<p><kbd>&uarr;</kbd> <kbd>&darr;</kbd> event by event; <kbd>&larr;</kbd> <kbd>&rarr;</kbd> at this node; <kbd>Home</kbd> <kbd>End</kbd></p>",
  "<p><kbd>m</kbd> other end of the message or write; <kbd>v</kbd> violation; <kbd>/</kbd> search</p>",
  "<p><kbd>+</kbd> <kbd>-</kbd> <kbd>0</kbd> or Ctrl and wheel: zoom; <kbd>t</kbd> rows or time</p>",
].join("\n");

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
