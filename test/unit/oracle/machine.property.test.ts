import fc from "fast-check";
import { expect } from "vitest";
import { applyBytes, OracleLife, observe } from "../../support/oracle-life.ts";
import { OracleModel } from "../../support/oracle-model.ts";
import { anyLeaseLife, anyLife, type Step } from "../../support/oracle-steps.ts";
import { property } from "../../support/property.ts";

property(
  "the machine answers every command as the model does, and then holds the same state",
  fc.property(anyLife, (steps) => compareWithModel(steps)),
);

property(
  "the machine and the model agree on leases, through changes of leader",
  fc.property(anyLeaseLife, (steps) => compareWithModel(steps)),
);

property(
  "a fenced command changes nothing, a refused one nothing but the clock",
  fc.property(anyLife, (steps) => {
    const life = new OracleLife();
    for (const step of steps) {
      const before = observe(life.machine.state);
      const issued = life.issue(step);
      const { type } = life.apply(issued);
      const after = observe(life.machine.state);
      const mayMoveClock = type === "refused" && issued.command.type !== "take-over";
      // The clock alone says which leases are past their time.
      if (mayMoveClock) expect({ ...after, clock: before.clock, liveIds: before.liveIds }).toEqual(before);
      else if (type === "fenced" || type === "refused") expect(after).toEqual(before);
    }
  }),
);

property(
  "the clock, the high water, the fence and the limits never go back",
  fc.property(anyLife, (steps) => {
    const life = new OracleLife();
    for (const step of steps) {
      const { limits, clock, highWater, fence } = life.machine.state;
      life.apply(life.issue(step));
      expect(life.machine.state.clock).toBeGreaterThanOrEqual(clock);
      expect(life.machine.state.highWater).toBeGreaterThanOrEqual(highWater);
      expect(life.machine.state.fence >= fence).toBe(true);
      if (limits !== undefined) expect(life.machine.state.limits).toEqual(limits);
    }
  }),
);

property(
  "whatever follows, a command of an earlier leader than the last is fenced",
  fc.property(anyLife, (steps) => {
    const life = new OracleLife();
    for (const step of steps) {
      const issued = life.issue(step);
      const { fence } = life.machine.state;
      const { type } = applyBytes(life.machine, issued);
      const { epoch } = issued.command;
      if (epoch !== undefined && (epoch < fence || epoch !== issued.epoch)) expect(type).toBe("fenced");
    }
  }),
);

function compareWithModel(steps: readonly Step[]): void {
  const life = new OracleLife();
  const model = new OracleModel();
  for (const step of steps) {
    const issued = life.issue(step);
    const expected = model.apply(issued.command, issued.epoch);
    const outcome = life.apply(issued);
    expect(outcome, `the outcome of a ${issued.command.type}`).toEqual(expected);
    expect(observe(life.machine.state), `the state after a ${issued.command.type}`).toEqual(model.observe());
  }
}
