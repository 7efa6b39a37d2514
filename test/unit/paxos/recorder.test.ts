/** A replica that is put up from a checkpoint goes on as the first one does, and a recorded run can be made again: over runs of the simulator. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { createPrng } from "../../../src/base/prng.ts";
import { restoreCheckpoint, takeCheckpoint } from "../../../src/paxos/core/checkpoint.ts";
import type { Effects, Input } from "../../../src/paxos/core/effects.ts";
import type { CoreOptions } from "../../../src/paxos/core/options.ts";
import { PaxosReplica } from "../../../src/paxos/core/replica.ts";
import { decodeRun, encodeRun, InputRecorder, isRecordedRun, replayRun } from "../../../src/paxos/recorder.ts";
import { PROFILES } from "../../../src/testing/cluster/settings.ts";
import { simulateCluster } from "../../../src/testing/cluster/simulation.ts";

type StepArguments = [inputs: readonly Input[], nowMs: number];

afterEach(() => {
  vi.restoreAllMocks();
});

/** Calls `step` for every step of every replica of a run. */
function watchSteps(watch: (replica: PaxosReplica, step: () => Effects, args: StepArguments) => Effects): void {
  const { step } = PaxosReplica.prototype;
  vi.spyOn(PaxosReplica.prototype, "step").mockImplementation(function (this: PaxosReplica, ...args: StepArguments): Effects {
    return watch(this, () => step.apply(this, args), args);
  });
}

describe("a checkpoint", () => {
  test.each(PROFILES)("goes on as the replica it was taken of: %s", (profile) => {
    const prng = createPrng(99);
    let compared = 0;
    let shadowing = false;
    watchSteps((replica, step, args) => {
      if (shadowing || !prng.chance(0.02)) return step();
      shadowing = true;
      const { random, options } = replica.state;
      const draws: number[] = [];
      const recorded = (): number => {
        const drawn = random.next();
        draws.push(drawn);
        return drawn;
      };
      const checkpoint = takeCheckpoint(replica);
      Object.assign(replica.state, { random: { ...random, next: recorded, below: (bound: number) => Math.floor(recorded() * bound) } });
      const effects = step();
      Object.assign(replica.state, { random });
      const shadow = restoreCheckpoint(checkpoint, options, { ...random, below: (bound) => Math.floor((draws.shift() ?? 0) * bound) });
      expect(shadow.step(...args)).toEqual(effects);
      expect(takeCheckpoint(shadow)).toEqual(takeCheckpoint(replica));
      compared += 1;
      shadowing = false;
      return effects;
    });
    simulateCluster({ seed: 7, profile });
    expect(compared).toBeGreaterThan(50);
  });

  test("shares nothing with the replica that a step changes", () => {
    let checked = 0;
    watchSteps((replica, step) => {
      const checkpoint = takeCheckpoint(replica);
      const before = JSON.stringify(checkpoint, jsonable);
      const effects = step();
      if (checked++ % 50 === 0) expect(JSON.stringify(checkpoint, jsonable)).toBe(before);
      return effects;
    });
    simulateCluster({ seed: 3, profile: "default" });
    expect(checked).toBeGreaterThan(500);
  });
});

function jsonable(_: string, value: unknown): unknown {
  if (typeof value === "bigint") return `${value}n`;
  if (value instanceof Map) return [...value];
  if (value instanceof Set) return [...value];
  return value;
}

describe("a recorded run", () => {
  /** Records every replica of a run, which ends at a step that is not well. */
  function recordUntil(bad: (replica: PaxosReplica, steps: number) => boolean, limits?: { readonly inputsMax: number; readonly bytesMax: number }) {
    const recorders = new Map<PaxosReplica, { readonly recorder: InputRecorder; steps: number }>();
    let found: { readonly recorder: InputRecorder; readonly replica: PaxosReplica } | undefined;
    watchSteps((replica, step, args) => {
      const known = recorders.get(replica) ?? { recorder: recorderOf(replica, limits), steps: 0 };
      recorders.set(replica, known);
      known.recorder.beforeStep(replica, ...args);
      known.steps += 1;
      const effects = step();
      if (found === undefined && bad(replica, known.steps)) found = { recorder: known.recorder, replica };
      if (found !== undefined) throw new Error("that is enough");
      return effects;
    });
    expect(() => simulateCluster({ seed: 12, profile: "crash-storm" })).toThrow();
    vi.restoreAllMocks();
    if (found === undefined) throw new Error("the run ended well");
    return found;
  }

  function recorderOf(replica: PaxosReplica, limits?: { readonly inputsMax: number; readonly bytesMax: number }): InputRecorder {
    const { options, random }: { options: CoreOptions; random: InputRecorder["random"] } = replica.state;
    const recorder = limits === undefined ? new InputRecorder(options, random) : new InputRecorder(options, random, limits);
    Object.assign(replica.state, { random: recorder.random });
    return recorder;
  }

  test("makes the same replica again, from bytes", () => {
    const { recorder, replica } = recordUntil((_, steps) => steps === 600);
    const bytes = encodeRun(recorder.run() ?? expect.unreachable());
    const replayed = replayRun(decodeRun(bytes));
    expect(replayed.steps).toBe(600);
    expect(replayed.fault).toBeUndefined();
    expect(JSON.stringify(takeCheckpoint(replayed.replica), jsonable)).toBe(JSON.stringify(takeCheckpoint(replica), jsonable));
  });

  test("forgets what lies before the checkpoint before the last", () => {
    const limits = { inputsMax: 200, bytesMax: 1_000_000 };
    const { recorder, replica } = recordUntil((_, steps) => steps === 1_000, limits);
    const run = recorder.run() ?? expect.unreachable();
    const inputs = run.steps.reduce((sum, step) => sum + step.inputs.length, 0);
    expect(inputs).toBeGreaterThan(200);
    expect(inputs).toBeLessThan(450);
    expect(JSON.stringify(takeCheckpoint(replayRun(run).replica), jsonable)).toBe(JSON.stringify(takeCheckpoint(replica), jsonable));
  });

  test("keeps few bytes, however long they are", () => {
    const limits = { inputsMax: 1_000_000, bytesMax: 2_000 };
    const { recorder } = recordUntil((_, steps) => steps === 1_000, limits);
    expect(recorder.run()?.steps.length).toBeLessThan(900);
  });

  test("meets the broken invariant again", () => {
    const { recorder, replica } = recordUntil((one, steps) => steps > 300 && one.state.log.last > 5);
    // The next input is one that no disk sends.
    const inputs: Input[] = [{ type: "persisted", seq: 999_999 }];
    recorder.beforeStep(replica, inputs, 1_000_000);
    expect(() => replica.step(inputs, 1_000_000)).toThrow("a completed write is one that is in flight");
    const { fault, steps } = replayRun(decodeRun(encodeRun(recorder.run() ?? expect.unreachable())));
    expect(String(fault)).toContain("a completed write is one that is in flight");
    expect(steps).toBe(recorder.run()?.steps.length);
  });

  test("that is none is refused", () => {
    expect(isRecordedRun(Uint8Array.of(1, 2, 3))).toBe(false);
    expect(() => decodeRun(Uint8Array.of(1, 2, 3))).toThrow("TSO_WRONG_FORMAT: not a recorded run");
    const { recorder } = recordUntil((_, steps) => steps === 50);
    const bytes = encodeRun(recorder.run() ?? expect.unreachable());
    expect(() => decodeRun(bytes.subarray(0, 40))).toThrow(/TSO_WRONG_FORMAT: a recorded run that was cut off, or changed/);
  });
});
