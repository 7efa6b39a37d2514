import { describe, expect, test } from "vitest";
import type { Fault } from "../../../src/testing/cluster/faults.ts";
import { type ClusterObserver, Violation } from "../../../src/testing/cluster/observed.ts";
import { drawSettings, type Profile } from "../../../src/testing/cluster/settings.ts";
import { shrinkFailure } from "../../../src/testing/cluster/shrink.ts";
import { SimulationFailure, simulateCluster } from "../../../src/testing/cluster/simulation.ts";

const QUIET: ClusterObserver = { started() {}, turned() {}, written() {}, applied() {}, asked() {}, stopped() {} };

/** Takes it for a violation that nodes 2 and 3 are down together. */
function bothDown(): readonly ClusterObserver[] {
  const down = new Set<number>();
  return [
    {
      ...QUIET,
      started: ({ node }) => down.delete(node),
      stopped: ({ node }) => {
        down.add(node);
        if (down.has(2) && down.has(3)) throw new Violation("planted", "one of two nodes is up");
      },
    },
  ];
}

/** Of the first seed that fails with more than ten faults. */
function firstFailure(profile: Profile, observers: () => readonly ClusterObserver[]): SimulationFailure {
  for (let seed = 1; seed <= 50; seed++) {
    const drawn = drawSettings(seed, profile);
    const faults = { ...drawn.faults, lostSnapshots: undefined }; // which are crashes too
    try {
      simulateCluster({ seed, profile, settings: { ...drawn, faults, lostDisk: "none" }, observers: observers() });
    } catch (error) {
      if (!(error instanceof SimulationFailure)) throw error;
      if (error.faults.length > 10) return error;
    }
  }
  throw new Error("none of fifty seeds fails");
}

test.each([1, 2, 3, 4, 5, 6, 7, 8])("the faults of seed %s, as a script, bring about the same run", (seed) => {
  for (const profile of ["default", "crash-storm", "partitions", "aimed"] as const) {
    const { settings, struck, traceHash } = simulateCluster({ seed, profile });
    const again = simulateCluster({ seed, profile, settings: { ...settings, faults: { ...settings.faults, script: struck } } });
    expect(again.traceHash).toBe(traceHash);
  }
});

describe("a failing run is made small", () => {
  const failure = firstFailure("crash-storm", bothDown);
  const { failure: smallest, runs, isSmallest } = shrinkFailure(failure, { observers: bothDown });
  const script = smallest.settings.faults.script ?? [];

  test("it has the two faults that it needs, and they are short", () => {
    expect(isSmallest).toBe(true);
    expect(script.map(({ fault }) => fault.type)).toEqual(["crash", "crash"]);
    expect(new Set(script.map(({ fault }) => "node" in fault && fault.node))).toEqual(new Set([2, 3]));
    const [, last] = script; // the first must last until the second
    expect(last !== undefined && "forUs" in last.fault && last.fault.forUs).toBeLessThan(2_000);
  });

  test("its settings are the simplest ones", () => {
    const { nodes, encoded, turnDelayUs, network, workload, lostDisk } = smallest.settings;
    expect({ nodes, encoded, turnDelayUs, lostDisk }).toEqual({ nodes: 3, encoded: false, turnDelayUs: 0, lostDisk: "none" });
    expect(network).toMatchObject({ loss: 0, duplication: 0, echo: 0, reordering: 0, tail: 0, bytesPerMs: 0 });
    expect(workload).toMatchObject({ clients: 1, burst: 1, reads: 0, appends: 0, anywhere: 0, fenced: 0, confirms: 0, paddingBytes: 0 });
  });

  test("it fails in the same way, again and from its file", () => {
    expect(smallest.cause).toMatchObject({ check: "planted" });
    const settings = JSON.parse(JSON.stringify(smallest.settings));
    expect(() => simulateCluster({ seed: smallest.seed, settings, observers: bothDown() })).toThrow(/planted/);
  });

  test("and without one of its faults it does not", () => {
    for (let place = 0; place < script.length; place++) {
      const settings = { ...smallest.settings, faults: { ...smallest.settings.faults, script: script.toSpliced(place, 1) } };
      expect(() => simulateCluster({ seed: smallest.seed, settings, observers: bothDown() })).not.toThrow();
    }
  });

  test("with few runs it ends early, says so, and has something that fails", () => {
    const few = shrinkFailure(failure, { observers: bothDown, maxRuns: 10 });
    expect(few).toMatchObject({ runs: 10, isSmallest: false, failure: { cause: { check: "planted" } } });
    expect(runs).toBeGreaterThan(10);
  });
});

test("what fails without any fault is left with none; what fails otherwise meanwhile is not taken for it", () => {
  const observers = (): readonly ClusterObserver[] => [
    {
      ...QUIET,
      turned: ({ turn }) => {
        if (turn.appliedThrough >= 20) throw new Violation("planted", "nobody applies twenty entries");
      },
      stopped: () => {
        throw new Error("another bug");
      },
    },
  ];
  const settings = { ...drawSettings(1, "partitions"), faults: { ...drawSettings(1, "partitions").faults, script: [] } };
  let failure: unknown;
  try {
    simulateCluster({ seed: 1, settings, observers: observers() });
  } catch (error) {
    failure = error;
  }
  const shrunk = shrinkFailure(failure as SimulationFailure, { observers });
  expect(shrunk.failure.cause).toMatchObject({ check: "planted" });
  expect(shrunk.failure.settings.faults.script).toEqual([]);
});

test.each([
  [{ type: "crash", node: 9, forUs: 1 }, "faults.script[1] is about node 9: there are 1 to"],
  [{ type: "topology", name: "mine", cut: [[1, 0]], forUs: 1 }, "faults.script[1] is about node 0: there are 1 to"],
  [{ type: "sendBlocked", node: 1, peers: [1.5], forUs: 1 }, "faults.script[1] is about node 1.5: there are 1 to"],
  [{ type: "falseHint", node: 1, about: 8 }, "faults.script[1] is about node 8: there are 1 to"],
] satisfies readonly (readonly [Fault, string])[])("a script with %j is refused before anything runs", (fault, message) => {
  const settings = drawSettings(1, "default");
  const script = [
    { atUs: 1, fault: { type: "writeError", node: 1 } as const },
    { atUs: 2, fault },
  ];
  expect(() => simulateCluster({ seed: 1, settings: { ...settings, faults: { ...settings.faults, script } } })).toThrow(message);
});
