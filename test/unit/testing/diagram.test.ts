import { describe, expect, test } from "vitest";
import { slot } from "../../../src/base/ids.ts";
import { simulateCluster } from "../../../src/testing/cluster/simulation.ts";
import { TraceRecorder } from "../../../src/testing/cluster/trace.ts";
import { traceDiagram } from "../../../src/testing/diagram/diagram.ts";
import { type Filter, Layout } from "../../../src/testing/diagram/layout.ts";
import { type DiagramData, diagramOf } from "../../../src/testing/diagram/model.ts";
import { accepted, batch, HandMadeTrace, heartbeat, node, prepare } from "../../support/traces.ts";

const EVERYTHING: Filter = { hiddenKinds: new Set(), hiddenLanes: new Set(), text: "" };

function layoutOf(data: DiagramData, filter: Partial<Filter> = {}): Layout {
  const layout = new Layout(data);
  layout.show({ ...EVERYTHING, ...filter }, undefined);
  return layout;
}

/** Two nodes, a message of each fate, a write, a decision; in places 0 to 11. */
function small(): HandMadeTrace {
  const trace = new HandMadeTrace();
  trace.is(1, "follower").add(0, 1, { type: "start" });
  trace.is(2, "follower").add(0, 2, { type: "start" });
  trace.is(1, "candidate").add(1_000, 1, { type: "sent", message: 1, to: node(2), body: prepare(), fate: { type: "arrives", atUs: [2_000, 3_000] } });
  trace.add(0, 1, { type: "sent", message: 2, to: node(2), body: heartbeat(), fate: { type: "lost" } });
  trace.add(0, 1, { type: "write-begun", write: 1, batch: batch(1), endsAtUs: 4_000 });
  trace.add(1_000, 2, { type: "received", message: 1, from: node(1), body: prepare(), arrival: "accepted" });
  trace.add(1_000, 2, { type: "received", message: 1, from: node(1), body: prepare(), arrival: "refused" });
  trace.add(1_000, 1, { type: "write-ended", write: 1, how: "done", durable: true });
  trace.is(1, "leader", 14).add(0, 1, { type: "decided", after: slot(1), through: slot(14) });
  trace.add(0, 1, { type: "sent", message: 3, to: node(2), body: accepted(145), fate: { type: "arrives", atUs: [9_000] } });
  trace.add(500, undefined, { type: "note", what: "topology", details: { cut: [[1, 2]] } });
  trace.is(2, "down").add(500, 2, { type: "crash" });
  return trace;
}

const SMALL = diagramOf(small().events, "small");

describe("the model", () => {
  const { events, lanes, messages, spans, states, writes } = SMALL;

  test("has a lane for each node, and one for an impostor after it", () => {
    expect(lanes.map(({ name }) => name)).toEqual(["1", "2"]);
    const trace = small();
    const [first] = trace.events;
    const own = first === undefined ? [] : [{ ...first, number: 13, impostor: true }];
    expect(diagramOf([...trace.events, ...own], "x").lanes.map(({ name }) => name)).toEqual(["1", "1'", "2"]);
  });

  test("joins what was sent with each of its arrivals, and says how it ended", () => {
    expect(messages).toEqual([
      { type: "prepare", from: 0, to: 1, sent: 2, received: [5, 6], end: "arrived" },
      { type: "heartbeat", from: 0, to: 1, sent: 3, received: [], end: "lost" },
      { type: "accepted", from: 0, to: 1, sent: 9, received: [], end: "open" },
    ]);
    expect(events.map(({ arrival }) => arrival).filter((arrival) => arrival !== undefined)).toEqual(["accepted", "refused"]);
    expect(events[5]?.details, "they are told where it was sent").toBeUndefined();
  });

  test("joins both ends of a write", () => {
    expect(writes).toEqual([{ lane: 0, begun: 4, ended: 7, how: "done", durable: true }]);
  });

  test("has a span for each role of a node, from the event that shows it first", () => {
    expect(spans.map(({ lane, from, role }) => `${lane} ${from} ${role}`)).toEqual([
      "0 -1 down",
      "1 -1 down",
      "0 0 follower",
      "1 1 follower",
      "0 2 candidate",
      "0 8 leader",
      "1 11 down",
    ]);
  });

  test("has each state once", () => {
    expect(states).toHaveLength(5);
    expect(events[8]?.slot).toBe(14);
  });

  test("of the end of a run says what is not there, and does not guess roles", () => {
    const { first, messages, events, spans, writes } = diagramOf(small().events.slice(5), "end");
    expect(first).toBe(6);
    expect(messages[0]).toEqual({ type: "prepare", from: 0, to: 1, received: [0, 1], end: "arrived" });
    expect(events[0]?.details).toMatchObject({ type: "prepare" });
    expect(writes[0]).toEqual({ lane: 0, ended: 2, how: "done", durable: true });
    expect(spans.slice(0, 2).map(({ role }) => role)).toEqual(["unknown", "unknown"]);
  });

  test("of no events is empty", () => {
    expect(diagramOf([], "empty")).toMatchObject({ lanes: [], events: [], messages: [] });
  });
});

describe("the layout", () => {
  test("gives each shown event a row of its own, in order; hidden ones lie between", () => {
    const layout = layoutOf(SMALL, { hiddenKinds: new Set(["writes"]) });
    expect(layout.shown).toEqual([0, 1, 2, 3, 5, 6, 8, 9, 10, 11]);
    expect([...layout.y]).toEqual([...layout.y].toSorted((a, b) => a - b));
    const rows = layout.shown.map((place) => layout.yOf(place) / layout.zoom);
    expect(rows).toEqual(rows.map((_, row) => row + 0.75));
  });

  test("puts events as far apart as they were in time", () => {
    const layout = layoutOf(SMALL);
    layout.place("time", 100);
    expect(layout.yOf(5) - layout.yOf(2)).toBeCloseTo(100);
    expect(layout.yOf(9)).toBe(layout.yOf(8));
    expect(layout.height).toBeGreaterThan(layout.yOf(11));
  });

  test("finds the row at a height", () => {
    const layout = layoutOf(SMALL);
    for (const [row, place] of layout.shown.entries()) {
      expect(layout.rowAt(layout.yOf(place))).toBe(row);
      expect(layout.rowAt(layout.yOf(place) + 0.1)).toBe(row + 1);
    }
  });

  test.each([
    ["14", [8]],
    ["145", [9]],
    ["accepted 145", [9]],
    ["3.0.1", [2, 5, 6, 9]],
    ["0.1", []],
    ["topology", [10]],
    ["PREPARE", [2, 5, 6]],
    ["cut", [4, 9, 10]],
    ["[[(", []],
  ])("shows for %j what has it", (text, expected) => {
    expect(layoutOf(SMALL, { text }).shown).toEqual(expected);
  });

  test("hides a node with all that goes to it or comes from it", () => {
    expect(layoutOf(SMALL, { hiddenLanes: new Set([1]) }).shown).toEqual([0, 4, 7, 8, 10]);
  });

  test("shows a pinned event whatever the filter says", () => {
    const layout = layoutOf(SMALL, { hiddenKinds: new Set(["heartbeat"]) });
    expect(layout.isShown(3)).toBe(false);
    expect(layout.pin(3)).toBe(true);
    expect(layout.isShown(3)).toBe(true);
    expect(layout.pin(3)).toBe(false);
  });

  test("steps to the next event that is shown, of all or of one node", () => {
    const layout = layoutOf(SMALL, { hiddenKinds: new Set(["heartbeat", "writes"]) });
    expect(layout.next(2, 1)).toBe(5);
    expect(layout.next(3, 1), "from one that is not shown").toBe(5);
    expect(layout.next(3, -1)).toBe(2);
    expect(layout.next(5, -1, 1)).toBe(1);
    expect(layout.next(2, 1, 0)).toBe(8);
    expect(layout.next(11, 1)).toBeUndefined();
    expect(layout.next(0, -1)).toBeUndefined();
  });

  test("leads from one end of a message or a write to the other, and round", () => {
    const layout = layoutOf(SMALL);
    expect([2, 5, 6].map((place) => layout.otherEnd(place))).toEqual([5, 6, 2]);
    expect([4, 7].map((place) => layout.otherEnd(place))).toEqual([7, 4]);
    expect(layout.otherEnd(8)).toBeUndefined();
  });

  test("says where a value of a state comes from", () => {
    const layout = layoutOf(SMALL);
    const field = (name: string): number => SMALL.fields.indexOf(name);
    expect(layout.originOf(10, 0, field("decided"))).toBe(8);
    expect(layout.originOf(7, 0, field("role"))).toBe(2);
    expect(layout.originOf(9, 1, field("role"))).toBe(1);
  });

  test("draws an arrow for each arrival, and one for what does not arrive", () => {
    const { arrows } = layoutOf(SMALL);
    expect(arrows).toEqual([
      { message: 0, from: 2, to: 5 },
      { message: 0, from: 2, to: 6 },
      { message: 1, from: 3, to: undefined },
      { message: 2, from: 9, to: undefined },
    ]);
  });

  test("of a whole run has a place for everything", () => {
    const recorder = new TraceRecorder();
    simulateCluster({ seed: 3, trace: recorder.trace });
    const layout = layoutOf(diagramOf(recorder.events, "run"));
    expect(layout.shown).toHaveLength(recorder.events.length);
    expect(layout.shown.filter((place) => layout.textOf(place) === "")).toEqual([]);
  });
});

describe("the page", () => {
  const nasty = `</script><!-- <img src=x> "&amp;' \u2028`;

  test("holds any text without breaking out of its script or its markup", () => {
    const trace = new HandMadeTrace();
    trace.add(0, undefined, { type: "note", what: nasty, details: { [nasty]: nasty } });
    trace.add(0, undefined, { type: "violation", check: nasty, claim: nasty, details: nasty });
    const html = traceDiagram(trace.events, { title: nasty });
    expect(html.match(/<\/script>/g)).toHaveLength(2);
    expect(html).not.toContain("<!--");
    expect(html).not.toContain("<img");
    const json = /<script id="trace" type="application\/json">(.*?)<\/script>/s.exec(html)?.[1] ?? "";
    expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify(diagramOf(trace.events, nasty))));
  });

  test("names no other place", () => {
    expect(traceDiagram(small().events, { title: "x" })).not.toMatch(/https?:|\bimport\b|src=|@import|url\(/);
  });

  test("says how much of the run is not there", () => {
    expect(traceDiagram(small().events.slice(5), { title: "x" })).toContain("The first 5 events of this run are not here");
    expect(traceDiagram(small().events, { title: "x" })).not.toContain("are not here");
  });
});
