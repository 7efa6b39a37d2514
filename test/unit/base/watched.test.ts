import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Watched } from "../../../src/base/watched.ts";
import { property } from "../../support/property.ts";

describe("a watched value", () => {
  test("comes first to each reader, then its changes", async () => {
    const watched = new Watched(1);
    for (const reader of [watched.values(), watched.values()]) {
      expect(await reader.next()).toEqual({ value: watched.value, done: false });
      const next = reader.next();
      watched.set(watched.value + 1);
      expect(await next).toEqual({ value: watched.value, done: false });
    }
  });

  test("set while nobody reads is there for the next reader, the newest alone", async () => {
    const watched = new Watched("old");
    const slow = watched.values();
    await slow.next();
    for (const value of ["a", "b", "c"]) watched.set(value);
    expect(await slow.next()).toEqual({ value: "c", done: false });
    expect(await watched.values().next()).toEqual({ value: "c", done: false });
  });

  test("is told again where it was set to what it was", async () => {
    const watched = new Watched(1);
    const reader = watched.values();
    await reader.next();
    watched.set(1);
    expect(await reader.next()).toEqual({ value: 1, done: false });
  });

  test("is not told twice: a reader waits for a change", async () => {
    const watched = new Watched(1);
    const reader = watched.values();
    await reader.next();
    let told = false;
    const next = reader.next().finally(() => {
      told = true;
    });
    for (let turn = 0; turn < 20; turn++) await undefined;
    expect(told).toBe(false);
    watched.set(2);
    expect(await next).toEqual({ value: 2, done: false });
  });

  test("told to one reader is told to all that wait", async () => {
    const watched = new Watched(0);
    const readers = Array.from({ length: 5 }, () => watched.values());
    await Promise.all(readers.map((reader) => reader.next()));
    const next = readers.map((reader) => reader.next());
    watched.set(1);
    expect((await Promise.all(next)).map(({ value }) => value)).toEqual([1, 1, 1, 1, 1]);
  });
});

describe("the end", () => {
  test("comes to every reader, those that wait and those that come later, and the last value to none", async () => {
    const watched = new Watched(1);
    const waiting = watched.values();
    const slow = watched.values();
    await Promise.all([waiting.next(), slow.next()]);
    const next = waiting.next();
    watched.set(2);
    watched.end();
    for (const ended of [next, slow.next(), watched.values().next(), waiting.next()]) expect(await ended).toEqual({ value: undefined, done: true });
    expect(watched.value, "which can still be looked at").toBe(2);
  });

  test("with an error throws it to each", async () => {
    const watched = new Watched(1);
    const waiting = watched.values();
    await waiting.next();
    const next = waiting.next();
    const failure = new Error("the disk failed");
    watched.end(failure);
    await expect(next).rejects.toBe(failure);
    await expect(watched.values().next()).rejects.toBe(failure);
    expect(await waiting.next(), "once").toEqual({ value: undefined, done: true });
  });

  test("is final: the first counts, and nothing follows it", async () => {
    const watched = new Watched(1);
    watched.end();
    watched.end(new Error("too late"));
    expect(await watched.values().next()).toEqual({ value: undefined, done: true });
    expect(() => watched.set(2)).toThrow(/nothing follows the end/);
  });
});

describe("an abort", () => {
  test("ends its reader and no other", async () => {
    const watched = new Watched(1);
    const controller = new AbortController();
    const aborted = watched.values(controller.signal);
    const other = watched.values();
    await Promise.all([aborted.next(), other.next()]);
    const [ended, next] = [aborted.next(), other.next()];
    controller.abort();
    expect(await ended).toEqual({ value: undefined, done: true });
    watched.set(2);
    expect(await next).toEqual({ value: 2, done: false });
  });

  test("before the first read ends it at once, also where there is an error to tell", async () => {
    const watched = new Watched(1);
    watched.end(new Error("the disk failed"));
    expect(await watched.values(AbortSignal.abort()).next()).toEqual({ value: undefined, done: true });
  });

  test("leaves no listener on a signal that lives longer", async () => {
    const watched = new Watched(0);
    const { signal } = new AbortController();
    const counts = { added: 0, removed: 0 };
    const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
    signal.addEventListener = (...listener: Parameters<typeof add>) => {
      counts.added += 1;
      add(...listener);
    };
    signal.removeEventListener = (...listener: Parameters<typeof remove>) => {
      counts.removed += 1;
      remove(...listener);
    };
    const reader = watched.values(signal);
    await reader.next();
    for (let change = 1; change <= 10; change++) {
      const next = reader.next();
      watched.set(change);
      await next;
    }
    expect(counts).toEqual({ added: 10, removed: 10 });
  });
});

type Step = "set" | "read" | "turn" | "end";

property(
  "a reader sees a growing part of what was set, and the newest before it waits",
  fc.asyncProperty(
    fc.array(fc.oneof({ arbitrary: fc.constantFrom<Step>("set", "read", "turn"), weight: 15 }, { arbitrary: fc.constant<Step>("end"), weight: 1 }), {
      maxLength: 60,
    }),
    async (steps) => {
      const watched = new Watched(0);
      const reader = watched.values();
      const seen: number[] = [];
      let ended = false;
      let reading: Promise<void> | undefined;
      const read = async (): Promise<void> => {
        const { done, value } = await reader.next();
        if (done === true) expect(ended).toBe(true);
        else seen.push(value);
      };
      for (const step of steps) {
        if (step === "set" && !ended) watched.set(watched.value + 1);
        if (step === "read") reading ??= read().finally(() => (reading = undefined));
        if (step === "turn") await new Promise((resolve) => setImmediate(resolve));
        if (step === "end") {
          ended = true;
          watched.end();
        }
        // Whoever still waits after a turn has seen all there is.
        if (step === "turn" && reading !== undefined) expect(seen.at(-1)).toBe(watched.value);
      }
      watched.end();
      ended = true;
      await reading;
      expect(seen).toEqual([...new Set(seen)].sort((a, b) => a - b));
    },
  ),
);
