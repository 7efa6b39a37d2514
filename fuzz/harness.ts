/**
 * A loop that changes valid inputs at random and gives them to a target. `npx tsx fuzz/<target>.ts [--seconds N] [--seed N] [--input HEX]`: the
 * same seed makes the same inputs, and a failure prints its input, which `--input` runs again. Exits with 1 where the target misbehaved.
 */
import { parseArgs } from "node:util";
import { createPrng, type Prng } from "../src/base/prng.ts";

export interface FuzzTarget {
  readonly name: string;
  /** Valid inputs, where every change begins. */
  readonly corpus: readonly Uint8Array[];
  /** What chance would not find: written over or into the inputs. */
  readonly words?: readonly Uint8Array[];
  /** Throws where the target misbehaves. The bytes are the run's own. */
  run(bytes: Uint8Array): void | Promise<void>;
}

export interface FuzzReport {
  readonly executions: number;
  readonly failure?: { readonly input: Uint8Array; readonly error: unknown };
}

export interface FuzzOptions {
  readonly seed: number;
  /** Asked before each execution with the number of those before it. */
  readonly goesOn: (executions: number) => boolean;
}

/** Runs `target` on its corpus as it is, then on changed inputs, until it fails or `goesOn` says no. */
export async function fuzz(target: FuzzTarget, { seed, goesOn }: FuzzOptions): Promise<FuzzReport> {
  const random = createPrng(seed);
  for (let executions = 0; goesOn(executions); executions++) {
    const input = target.corpus[executions] ?? mutate(random, target);
    const error = await errorOf(target, input);
    if (error !== undefined) return { executions: executions + 1, failure: { input, error: error.thrown } };
    if (!goesOn(executions + 1)) return { executions: executions + 1 };
  }
  return { executions: 0 };
}

/** The program of a target: reads the arguments, runs, prints, sets the exit code. */
export async function main(target: FuzzTarget): Promise<void> {
  const { values } = parseArgs({ options: { seconds: { type: "string" }, seed: { type: "string" }, input: { type: "string" } } });
  if (values.input !== undefined) {
    await target.run(new Uint8Array(Buffer.from(values.input, "hex"))); // what it throws is what there is to see
    console.log(`${target.name}: nothing wrong with this input`);
    return;
  }
  const seed = Number(values.seed ?? Date.now() % 2 ** 32);
  const until = performance.now() + 1_000 * Number(values.seconds ?? 10);
  const { executions, failure } = await fuzz(target, { seed, goesOn: (count) => count % 64 !== 0 || performance.now() < until });
  console.log(`${target.name}: ${executions} executions, seed ${seed}`);
  if (failure === undefined) return;
  console.log(failure.error);
  console.log(`again: npx tsx fuzz/${target.name}.ts --input ${Buffer.from(failure.input).toString("hex")}`);
  process.exitCode = 1;
}

async function errorOf(target: FuzzTarget, input: Uint8Array): Promise<{ readonly thrown: unknown } | undefined> {
  try {
    await target.run(new Uint8Array(input));
    return undefined;
  } catch (thrown) {
    return { thrown };
  }
}

/** One valid input with one to four changes. */
export function mutate(random: Prng, inputs: Inputs): Uint8Array {
  let bytes = pickFrom(random, inputs.corpus);
  for (let changes = 1 + random.below(4); changes > 0; changes--) bytes = random.pick(MUTATIONS)(random, bytes, inputs);
  return bytes;
}

type Inputs = Pick<FuzzTarget, "corpus" | "words">;
type Mutation = (random: Prng, bytes: Uint8Array, inputs: Inputs) => Uint8Array;

/** Numbers at which lengths and counts go wrong. */
const EDGES = [0, 1, 0x1f, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] as const;

const flipBit: Mutation = (random, bytes) => {
  const place = random.below(bytes.length);
  return bytes.map((byte, index) => (index === place ? byte ^ (1 << random.below(8)) : byte));
};
const setByte: Mutation = (random, bytes) => {
  const [place, value] = [random.below(bytes.length), random.below(256)];
  return bytes.map((byte, index) => (index === place ? value : byte));
};
/** Any place may hold a length: one, two, four or eight bytes of it, in either order. */
const setLength: Mutation = (random, bytes) => {
  const width = random.pick([1, 2, 4, 8]);
  const value = random.chance(0.5) ? random.pick(EDGES) : Math.max(0, bytes.length + random.below(5) - 2);
  const field = new Uint8Array(8);
  new DataView(field.buffer).setBigUint64(0, BigInt(value));
  const low = field.subarray(8 - width);
  const place = random.below(bytes.length);
  return join(bytes.subarray(0, place), random.chance(0.5) ? low : low.toReversed(), bytes.subarray(place + width));
};
const truncate: Mutation = (random, bytes) => bytes.subarray(0, random.below(bytes.length + 1));
const remove: Mutation = (random, bytes) => {
  const [from, to] = range(random, bytes);
  return join(bytes.subarray(0, from), bytes.subarray(to));
};
const insert: Mutation = (random, bytes) => {
  const place = random.below(bytes.length + 1);
  const noise = Uint8Array.from({ length: 1 + random.below(8) }, () => random.below(256));
  return join(bytes.subarray(0, place), noise, bytes.subarray(place));
};
const repeat: Mutation = (random, bytes) => {
  const [from, to] = range(random, bytes);
  const part = bytes.subarray(from, to);
  return join(bytes.subarray(0, to), ...Array.from({ length: 1 + random.below(3) }, () => part), bytes.subarray(to));
};
/** The beginning of one input and the end of another. */
const splice: Mutation = (random, bytes, { corpus }) => {
  const other = pickFrom(random, corpus);
  return join(bytes.subarray(0, random.below(bytes.length + 1)), other.subarray(random.below(other.length + 1)));
};

const putWord: Mutation = (random, bytes, { words = [] }) => {
  const word = pickFrom(random, words);
  const place = random.below(bytes.length + 1);
  return join(bytes.subarray(0, place), word, bytes.subarray(place + random.pick([0, 1, 9, word.length])));
};

const USUAL = [flipBit, setByte, setLength, putWord] as const;
const MUTATIONS: readonly [Mutation, ...Mutation[]] = [...USUAL, ...USUAL, truncate, remove, insert, repeat, splice];

function range(random: Prng, bytes: Uint8Array): readonly [from: number, to: number] {
  const from = random.below(bytes.length + 1);
  return [from, from + random.below(Math.min(bytes.length - from, 64) + 1)];
}

function pickFrom(random: Prng, corpus: readonly Uint8Array[]): Uint8Array {
  return corpus[random.below(corpus.length)] ?? new Uint8Array();
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
