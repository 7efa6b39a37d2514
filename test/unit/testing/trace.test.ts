import { describe, expect, test } from "vitest";
import { slot } from "../../../src/base/ids.ts";
import { type ClusterObserver, Violation } from "../../../src/testing/cluster/observed.ts";
import { PROFILES } from "../../../src/testing/cluster/settings.ts";
import { type ClusterReport, SimulationFailure, simulateCluster } from "../../../src/testing/cluster/simulation.ts";
import { type TraceEvent, TraceRecorder } from "../../../src/testing/cluster/trace.ts";
import { traceText } from "../../../src/testing/diagram/trace-text.ts";
import { accepted, HandMadeTrace, node } from "../../support/traces.ts";

function traced(options: Parameters<typeof simulateCluster>[0]): { readonly events: readonly TraceEvent[]; readonly report: ClusterReport } {
  const recorder = new TraceRecorder({ maxEvents: 1_000_000 });
  const report = simulateCluster({ ...options, trace: recorder.trace });
  return { events: recorder.events, report };
}

type Typed<Type extends TraceEvent["type"]> = TraceEvent & { readonly type: Type };

function ofType<Type extends TraceEvent["type"]>(events: readonly TraceEvent[], type: Type): readonly Typed<Type>[] {
  return events.filter((event): event is Typed<Type> => event.type === type);
}

describe.each(PROFILES)("profile %s", (profile) => {
  const { events, report } = traced({ seed: 3, profile });

  test("a run with a trace is the same run", () => {
    expect(report.traceHash).toBe(simulateCluster({ seed: 3, profile }).traceHash);
  });

  test("events are numbered from 1, and time never goes back", () => {
    expect(events.map(({ number }) => number)).toEqual(events.map((_, index) => index + 1));
    expect(events.every(({ atUs }, index) => atUs >= (events[index - 1]?.atUs ?? 0))).toBe(true);
  });

  test("what arrives was sent, and arrives when it was said to; what was to arrive does, unless the run ends before", () => {
    const sent = new Map(ofType(events, "sent").map((event) => [event.message, event]));
    const expected = [...sent.values()].flatMap(({ message, to, fate }) =>
      fate.type === "arrives" ? fate.atUs.map((at) => `${message} ${to} ${at}`) : [],
    );
    const arrived = ofType(events, "received").map(({ message, node, atUs }) => `${message} ${node} ${atUs}`);
    const missing = new Set(expected);
    for (const arrival of arrived) expect(missing.delete(arrival), arrival).toBe(true);
    const end = events.at(-1)?.atUs ?? 0;
    expect([...missing].filter((arrival) => Number(arrival.split(" ")[2]) < end)).toEqual([]);
    const reached = [...sent.values()].filter(({ fate }) => fate.type !== "nowhere");
    expect(reached).toHaveLength(report.messages);
    for (const { message, from, body } of ofType(events, "received")) expect(sent.get(message)).toMatchObject({ node: from, body });
  });

  test("what is decided and applied goes on from where it was, and the state says so", () => {
    const through = new Map<string, number>();
    for (const event of events) {
      if (event.type === "start") for (const type of ["decided", "applied"]) through.delete(`${type} ${event.node}`);
      if ((event.type !== "decided" && event.type !== "applied") || event.impostor) continue;
      const key = `${event.type} ${event.node}`;
      expect(event.after).toBe(through.get(key) ?? event.after);
      expect(event.type === "applied" ? event.state?.appliedThrough : event.state?.memory?.decidedThrough).toBe(event.through);
      through.set(key, event.through);
    }
    expect(through.size).toBeGreaterThan(0);
  });

  test("every write that has begun ends, or the run or its process does before", () => {
    const begun = new Map<number, string>();
    for (const event of events) {
      const process = `${event.node} ${event.impostor}`;
      if (event.type === "write-begun") {
        expect([...begun.values()]).not.toContain(process);
        begun.set(event.write, process);
      }
      if (event.type === "write-ended") expect(begun.delete(event.write)).toBe(true);
      if (event.type === "note" && event.what === "the impostor ends") for (const [write, whose] of begun) if (whose === process) begun.delete(write);
    }
    expect(begun.size).toBeLessThanOrEqual(report.settings.nodes);
  });

  test("a role is told, and the state has it from then on", () => {
    // Several in one turn leave the last of them.
    const lasting = ofType(events, "role").filter(
      ({ number, node, atUs }) => !events.slice(number, number + 8).some((next) => next.type === "role" && next.node === node && next.atUs === atUs),
    );
    for (const { role, state } of lasting) if (state?.role !== "fenced") expect(state?.role).toBe(role);
    for (const { state } of ofType(events, "crash")) expect(state?.role).toBe("down");
    for (const { state } of ofType(events, "pause")) expect(state?.role).toBe("paused");
  });
});

/** Goes wrong in the first turn of node 2 in which it sends something. */
function broken(details: Readonly<Record<string, unknown>>): ClusterObserver {
  const nothing = (): void => {};
  return {
    started: nothing,
    written: nothing,
    applied: nothing,
    asked: nothing,
    stopped: nothing,
    turned: ({ node: id }, { sends }) => {
      if (id === 2 && sends.length > 0) throw new Violation("planted", "all is well", details);
    },
  };
}

function failing(details: Readonly<Record<string, unknown>>): readonly TraceEvent[] {
  const recorder = new TraceRecorder();
  expect(() => simulateCluster({ seed: 3, profile: "calm", observers: [broken(details)], trace: recorder.trace })).toThrow(SimulationFailure);
  return recorder.events;
}

describe("a run that goes wrong", () => {
  test("ends with the violation, after what the turn wanted and did not do any more", () => {
    const events = failing({ slot: 7 });
    expect(events.at(-1)).toMatchObject({ type: "violation", check: "planted", claim: "all is well", details: { slot: 7 }, node: 2 });
    const [unsent] = ofType(events, "sent").filter(({ fate }) => fate.type === "ended");
    expect(unsent).toMatchObject({ node: 2, atUs: events.at(-1)?.atUs });
  });

  test("shows the violation at the node that its details name", () => {
    expect(failing({ node: 1 }).at(-1)).toMatchObject({ type: "violation", node: 1 });
  });
});

test("a recorder keeps the end of a run, and no more than it was told to", () => {
  const recorder = new TraceRecorder({ maxEvents: 10 });
  const trace = new HandMadeTrace();
  for (let count = 0; count < 35; count++) {
    trace.add(1, undefined, { type: "note", what: `${count}` });
    for (const event of trace.events.slice(-1)) recorder.trace(event);
    expect(recorder.events).toEqual(trace.events.slice(-10));
  }
});

test("an event is a line: time, number, node, what it is, and details in short", () => {
  const trace = new HandMadeTrace();
  trace.add(12_345, 1, { type: "start", details: { boot: 2 } });
  trace.add(5, 1, { type: "sent", message: 1, to: node(2), body: accepted(7), fate: { type: "cut" } });
  trace.add(5, 2, { type: "received", message: 1, from: node(1), body: accepted(7), arrival: "refused" });
  trace.add(5, undefined, { type: "violation", check: "planted", claim: "all is well", details: { epoch: 5n, bytes: new Uint8Array(3) } });
  trace.add(5, 2, { type: "write-ended", write: 1, how: "cut", durable: true });
  trace.add(5, 2, { type: "decided", after: slot(6), through: slot(7) });
  expect(trace.events.map(traceText)).toEqual([
    `    12.345 #1 1 start {"boot":2}`,
    `    12.350 #2 1 accepted to 2 (cut off) {"type":"accepted","ballot":"3.0.1","through":7,"cut":0}`,
    `    12.355 #3 2 accepted from 1 (not believed) {"type":"accepted","ballot":"3.0.1","through":7,"cut":0}`,
    `    12.360 #4 - VIOLATION planted: all is well {"epoch":"5","bytes":"3 bytes"}`,
    "    12.365 #5 2 written: cut, on the disk",
    "    12.370 #6 2 decided through 7",
  ]);
});
