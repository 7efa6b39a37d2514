import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createPrng } from "../../../src/base/prng.ts";
import { checkLinearizability, historyText, type KeyOperation } from "../../../src/testing/linearizability.ts";
import { property } from "../../support/property.ts";

const write = (value: string, invokedAt: number, returnedAt?: number): KeyOperation => ({ key: "k", type: "write", value, invokedAt, returnedAt });
const append = (value: string, invokedAt: number, returnedAt?: number): KeyOperation => ({ key: "k", type: "append", value, invokedAt, returnedAt });
const read = (result: readonly string[], invokedAt: number, returnedAt?: number): KeyOperation => ({
  key: "k",
  type: "read",
  result,
  invokedAt,
  returnedAt,
});
const verdictOf = (history: readonly KeyOperation[]): string => checkLinearizability(history).type;

/** All orders that real time allows, one by one, with every update of unknown outcome left out or not. */
function bruteForce(history: readonly KeyOperation[]): boolean {
  const operations = history.filter(({ type, returnedAt }) => type !== "read" || returnedAt !== undefined);
  const explore = (left: readonly KeyOperation[], list: readonly string[]): boolean => {
    if (left.every(({ returnedAt }) => returnedAt === undefined)) return true;
    return left.some((operation) => {
      if (left.some((other) => (other.returnedAt ?? Number.POSITIVE_INFINITY) < operation.invokedAt)) return false;
      const rest = left.filter((other) => other !== operation);
      if (operation.type === "read") return operation.result?.join() === list.join() && explore(rest, list);
      return explore(rest, operation.type === "write" ? [operation.value ?? ""] : [...list, operation.value ?? ""]);
    });
  };
  return explore(operations, []);
}

interface Workload {
  readonly seed: number;
  readonly operations: number;
  readonly clients: number;
  readonly values: number;
  readonly unknown: number;
  readonly writes: number;
  readonly reads?: number;
  /** After this many unknown outcomes there are no more. */
  readonly unknownMax?: number;
}

/** What clients of a single copy could have seen. */
function simulate({
  seed,
  operations,
  clients,
  values,
  unknown,
  writes,
  reads = 0.4,
  unknownMax = Number.POSITIVE_INFINITY,
}: Workload): KeyOperation[] {
  const random = createPrng(seed);
  const history: KeyOperation[] = [];
  const running: { operation: KeyOperation; result: readonly string[] | undefined; done: boolean }[] = [];
  let list: readonly string[] = [];
  let now = 0;
  let unknowns = 0;
  const effect = (entry: (typeof running)[number]): void => {
    const { type, value = "" } = entry.operation;
    entry.done = true;
    if (type === "read") entry.result = list;
    else list = type === "write" ? [value] : [...list, value];
  };
  for (let begun = 0; begun < operations || running.length > 0; ) {
    now += random.next() < 0.7 ? 1 : 0;
    const pick = running[Math.floor(random.next() * running.length)];
    if (begun < operations && running.length < clients && random.next() < 0.6) {
      const type = random.next() < reads ? "read" : random.next() < writes ? "write" : "append";
      const value = type === "read" ? undefined : `${values === 0 ? begun : Math.floor(random.next() * values)}`;
      running.push({ operation: { key: "k", type, value, invokedAt: now }, result: undefined, done: false });
      begun += 1;
    } else if (pick !== undefined && !pick.done) effect(pick);
    else if (pick !== undefined) {
      running.splice(running.indexOf(pick), 1);
      const isUnknown = random.next() < unknown && unknowns < unknownMax;
      if (isUnknown) unknowns += 1;
      history.push({ ...pick.operation, result: pick.result, ...(isUnknown ? {} : { returnedAt: now }) });
    }
    const open = running.find(({ done }) => !done);
    if (open !== undefined && open.operation.type !== "read" && random.next() < unknown / 8 && unknowns < unknownMax) {
      running.splice(running.indexOf(open), 1); // lost on the way
      history.push(open.operation);
      unknowns += 1;
    }
  }
  return history;
}

/** Another answer for one of the reads, if there is one. */
function corrupt(history: readonly KeyOperation[], which: number, how: number): KeyOperation[] {
  const reads = history.filter(({ type, returnedAt }) => type === "read" && returnedAt !== undefined);
  const target = reads[which % Math.max(1, reads.length)];
  return history.map((operation) => {
    if (operation !== target) return operation;
    const { result = [] } = operation;
    const others = [result.slice(0, -1), result.slice(1), [...result, "1"], result.toReversed(), ["0"], reads[how % reads.length]?.result ?? []];
    return { ...operation, result: others[how % others.length] };
  });
}

/** The last read shows what an early one has shown. */
function withStaleRead(history: readonly KeyOperation[]): KeyOperation[] {
  const reads = history.filter(({ type, returnedAt }) => type === "read" && returnedAt !== undefined).toSorted((a, b) => a.invokedAt - b.invokedAt);
  return history.map((operation) => (operation === reads.at(-1) ? { ...operation, result: reads[10]?.result } : operation));
}

describe("linearizability", () => {
  test("accepts what one copy could have answered", () => {
    expect(verdictOf([])).toBe("linearizable");
    expect(verdictOf([write("a", 0, 1), append("b", 2, 3), read(["a", "b"], 4, 5)])).toBe("linearizable");
    expect(verdictOf([write("a", 0, 9), read([], 1, 2), read(["a"], 3, 4)])).toBe("linearizable");
  });

  test("catches a read that is behind, in real time", () => {
    expect(verdictOf([write("a", 0, 1), read([], 2, 3)])).toBe("violation");
    expect(verdictOf([write("a", 0, 9), read(["a"], 1, 2), read([], 3, 4)])).toBe("violation");
  });

  test("what returns in the instant in which another begins is concurrent with it", () => {
    expect(verdictOf([write("a", 0, 1), read([], 1, 2)])).toBe("linearizable");
  });

  test("an update without an answer may take effect late, or never, but once", () => {
    expect(verdictOf([append("a", 0), read([], 1, 2), read(["a"], 3, 4)])).toBe("linearizable");
    expect(verdictOf([append("a", 0), read([], 1, 2), read([], 3, 4)])).toBe("linearizable");
    expect(verdictOf([append("a", 0), read(["a"], 1, 2), read([], 3, 4)])).toBe("violation");
    expect(verdictOf([append("a", 0), read(["a", "a"], 1, 2)])).toBe("violation");
    expect(verdictOf([append("a", 5), read(["a"], 1, 2)])).toBe("violation");
  });

  test("keys are judged apart, and the report names the one, with nothing that does not matter", () => {
    const fine = Array.from({ length: 50 }, (_, i) => append(`x${i}`, i * 2, i * 2 + 1)).map((operation) => ({ ...operation, key: "fine" }));
    const noise = Array.from({ length: 50 }, (_, i) => append(`y${i}`, 200 + i * 2, 201 + i * 2));
    const verdict = checkLinearizability([...fine, write("a", 0, 1), append("b", 2, 3), read(["a", "b"], 4, 5), read(["a"], 6, 7), ...noise]);
    expect(verdict).toEqual({ type: "violation", key: "k", excerpt: [write("a", 0, 1), append("b", 2, 3), read(["a"], 6, 7)] });
    expect(verdict.type === "violation" && historyText(verdict.excerpt)).toBe("0 to 1: k write a\n2 to 3: k append b\n6 to 7: k read -> [a]");
  });

  test("says so where it gave up", () => {
    const history = simulate({ seed: 3, operations: 100, clients: 8, values: 0, unknown: 0.1, writes: 0.5 });
    expect(checkLinearizability(history, { stepsMax: 3 })).toEqual({ type: "undecided", keys: ["k"] });
  });

  const workload = fc.record({
    seed: fc.nat(),
    operations: fc.integer({ min: 1, max: 8 }),
    clients: fc.integer({ min: 1, max: 5 }),
    values: fc.integer({ min: 0, max: 3 }),
    unknown: fc.constantFrom(0, 0.2, 0.5),
    writes: fc.constantFrom(0, 0.3, 1),
  });

  property(
    "linearizability: histories of one copy are accepted",
    fc.property(workload, (drawn) => {
      expect(verdictOf(simulate(drawn))).toBe("linearizable");
    }),
  );

  property(
    "linearizability: a history with another answer in it is judged as by trying all orders",
    fc.property(workload, fc.nat(), fc.nat(), (drawn, which, how) => {
      const history = corrupt(simulate(drawn), which, how);
      expect(verdictOf(history)).toBe(bruteForce(history) ? "linearizable" : "violation");
    }),
  );

  const anyOperation = fc
    .record({
      type: fc.constantFrom<KeyOperation["type"]>("write", "append", "read", "read"),
      value: fc.constantFrom("0", "1"),
      result: fc.array(fc.constantFrom("0", "1"), { maxLength: 3 }),
      from: fc.integer({ min: 0, max: 12 }),
      length: fc.option(fc.integer({ min: 0, max: 6 }), { nil: undefined, freq: 4 }),
    })
    .map(({ type, value, result, from, length }): KeyOperation => {
      const times = { invokedAt: from, returnedAt: length === undefined ? undefined : from + length };
      return type === "read" ? { key: "k", type, result, ...times } : { key: "k", type, value, ...times };
    });

  property(
    "linearizability: any history is judged as by trying all orders",
    fc.property(fc.array(anyOperation, { maxLength: 7 }), (history) => {
      expect(verdictOf(history)).toBe(bruteForce(history) ? "linearizable" : "violation");
    }),
  );

  property(
    "linearizability: an excerpt is a violation of its own",
    fc.property(workload, fc.nat(), fc.nat(), (drawn, which, how) => {
      const verdict = checkLinearizability(corrupt(simulate(drawn), which, how));
      if (verdict.type === "violation") expect(bruteForce(verdict.excerpt)).toBe(false);
    }),
  );

  test.each([
    { name: "appends", writes: 0, values: 0 },
    { name: "writes", writes: 1, values: 0 },
    { name: "a mixture", writes: 0.3, values: 0 },
  ])("judges 500 operations of 16 clients, dozens of them unknown: $name", ({ writes, values }) => {
    for (let seed = 1; seed <= 2; seed++) {
      const history = simulate({ seed, operations: 500, clients: 16, values, unknown: 0.1, unknownMax: 40, writes });
      expect(verdictOf(history)).toBe("linearizable");
      expect(verdictOf(withStaleRead(history))).not.toBe("linearizable");
    }
  });
});
