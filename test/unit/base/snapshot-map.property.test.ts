import fc from "fast-check";
import { expect, test } from "vitest";
import { type FrozenEntries, SnapshotMap } from "../../../src/base/snapshot-map.ts";
import { property } from "../../support/property.ts";

const key = fc.integer({ min: 0, max: 20 });
const anyStep = fc.oneof(
  { weight: 6, arbitrary: fc.record({ type: fc.constant("set" as const), key, value: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("delete" as const), key }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("clear" as const) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("read" as const), count: fc.nat({ max: 6 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("freeze" as const) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("release" as const) }) },
);

interface Reading {
  readonly view: FrozenEntries<number, number>;
  readonly entries: Iterator<[number, number]>;
  readonly expected: ReadonlyMap<number, number>;
  readonly seen: Map<number, number>;
  released: boolean;
}

property(
  "it is a map; and what was frozen is read as it was, whatever changes before and while it is read",
  fc.property(fc.array(anyStep, { maxLength: 200 }), (steps) => {
    const map = new SnapshotMap<number, number>();
    const model = new Map<number, number>();
    const readings: Reading[] = [];
    const read = (reading: Reading, count: number): void => {
      for (let left = count; left > 0; left--) {
        const next = reading.entries.next();
        if (next.done === true) return;
        const [at, value] = next.value;
        expect(reading.seen.has(at), "each key once").toBe(false);
        reading.seen.set(at, value);
      }
    };
    for (const step of steps) {
      if (step.type === "set") {
        map.set(step.key, step.value);
        model.set(step.key, step.value);
      } else if (step.type === "delete") {
        expect(map.delete(step.key)).toBe(model.delete(step.key));
      } else if (step.type === "clear") {
        map.clear();
        model.clear();
      } else if (step.type === "read") {
        const reading = readings.at(-1);
        if (reading !== undefined) read(reading, step.count);
      } else if (step.type === "release") {
        const reading = readings.at(-1);
        reading?.view.release();
        if (reading !== undefined) reading.released = true;
      } else {
        const view = map.freeze();
        readings.push({ view, entries: view[Symbol.iterator](), expected: new Map(model), seen: new Map(), released: false });
      }
      expect(map.size).toBe(model.size);
    }
    expect(new Map(map)).toEqual(model);
    expect([...map.keys()]).toEqual([...model.keys()]);
    expect([...map.values()]).toEqual([...model.values()]);
    for (const reading of readings) {
      if (reading.released) continue;
      read(reading, Number.POSITIVE_INFINITY);
      expect(reading.seen).toEqual(reading.expected);
    }
  }),
);

test("what was frozen is read once", () => {
  const view = new SnapshotMap<string, number>().set("a", 1).freeze();
  expect([...view]).toEqual([["a", 1]]);
  expect(() => [...view]).toThrow("a frozen map is read once");
});
