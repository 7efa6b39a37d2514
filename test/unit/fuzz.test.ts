import { expect, test } from "vitest";
import { type FuzzTarget, fuzz, mutate } from "../../fuzz/harness.ts";
import { createPrng } from "../../src/base/prng.ts";
import { toHex } from "../support/decoding.ts";

const corpus = [Uint8Array.of(1, 2, 3, 4), Uint8Array.of(9)];

test("fuzzing begins with the corpus as it is, then changes it", async () => {
  const inputs: string[] = [];
  const target: FuzzTarget = { name: "watched", corpus, run: (bytes) => void inputs.push(toHex(bytes)) };
  expect(await fuzz(target, { seed: 1, goesOn: (executions) => executions < 500 })).toEqual({ executions: 500 });
  expect(inputs.slice(0, 2)).toEqual(["01020304", "09"]);
  expect(new Set(inputs).size, "inputs differ").toBeGreaterThan(250);
});

test("fuzzing stops at the first error, and the same seed meets it again", async () => {
  const target: FuzzTarget = {
    name: "planted",
    corpus,
    run: (bytes) => {
      if (bytes[2] === 0xff) throw new Error("planted");
      bytes.fill(0); // what a run does to its bytes concerns nobody else
    },
  };
  const find = () => fuzz(target, { seed: 3, goesOn: (executions) => executions < 100_000 });
  const found = await find();
  expect(found.failure?.error).toEqual(new Error("planted"));
  expect(found.failure?.input[2]).toBe(0xff);
  expect(await find()).toEqual(found);
});

test("a target that rejects has failed as well", async () => {
  const target: FuzzTarget = { name: "rejecting", corpus, run: () => Promise.reject(new Error("late")) };
  expect(await fuzz(target, { seed: 1, goesOn: () => true })).toEqual({ executions: 1, failure: { input: corpus[0], error: new Error("late") } });
});

test("a change leaves the corpus as it was, and works on the empty input", () => {
  const random = createPrng(1);
  for (let i = 0; i < 2_000; i++) mutate(random, { corpus: [...corpus, new Uint8Array()], words: corpus });
  expect(corpus.map(toHex)).toEqual(["01020304", "09"]);
});
