/**
 * Keeps what a replica was given, for a while: from a checkpoint on, every input and every number that was drawn. When an invariant breaks, that is the whole run, and it can
 * be made again elsewhere (`npm run sim -- --replay FILE`).
 */
import { deserialize, serialize } from "node:v8";
import { crc32 } from "node:zlib";
import { messageOf, OracleError } from "../base/errors.ts";
import type { Prng } from "../base/prng.ts";
import { type Checkpoint, restoreCheckpoint, takeCheckpoint } from "./core/checkpoint.ts";
import type { Input } from "./core/effects.ts";
import type { Entry } from "./core/entry.ts";
import type { CoreOptions } from "./core/options.ts";
import type { PaxosReplica } from "./core/replica.ts";
import type { StepObserver } from "./turn.ts";

export interface RecorderLimits {
  /** Inputs between two checkpoints. @defaultValue 10000 */
  readonly inputsMax: number;
  /** Bytes of payloads and records in them. @defaultValue 16 MiB */
  readonly bytesMax: number;
}

const LIMITS: RecorderLimits = { inputsMax: 10_000, bytesMax: 16 * 1024 * 1024 };

interface Step {
  readonly inputs: readonly Input[];
  readonly nowMs: number;
}

/** What happened since a checkpoint. */
interface Stretch {
  readonly checkpoint: Checkpoint;
  readonly steps: Step[];
  /** Numbers that were drawn, in order. */
  readonly draws: number[];
}

/** A run that can be made again. */
export interface RecordedRun extends Stretch {
  readonly options: CoreOptions;
}

export class InputRecorder {
  readonly #options: CoreOptions;
  readonly #limits: RecorderLimits;
  /** This stretch, and the one before it: so a fault that follows a checkpoint at once still has a history. */
  #current: Stretch | undefined;
  #previous: Stretch | undefined;
  #inputs = 0;
  #bytes = 0;
  /** The replica's own: what it draws is noted. */
  readonly random: Prng;

  constructor(options: CoreOptions, random: Prng, limits: RecorderLimits = LIMITS) {
    this.#options = options;
    this.#limits = limits;
    this.random = prngOf(() => {
      const drawn = random.next();
      this.#current?.draws.push(drawn);
      return drawn;
    });
  }

  readonly beforeStep: StepObserver = (replica, inputs, nowMs) => {
    let stretch = this.#current;
    if (stretch === undefined || this.#inputs > this.#limits.inputsMax || this.#bytes > this.#limits.bytesMax) {
      this.#previous = stretch;
      stretch = { checkpoint: takeCheckpoint(replica), steps: [], draws: [] };
      this.#current = stretch;
      this.#inputs = 0;
      this.#bytes = 0;
    }
    stretch.steps.push({ inputs, nowMs });
    this.#inputs += inputs.length;
    for (const input of inputs) this.#bytes += bytesOf(input);
  };

  /** Undefined before the first step. */
  run(): RecordedRun | undefined {
    const { checkpoint } = this.#previous ?? this.#current ?? {};
    if (checkpoint === undefined) return undefined;
    const stretches = [this.#previous, this.#current].filter((stretch) => stretch !== undefined);
    return { options: this.#options, checkpoint, steps: stretches.flatMap(({ steps }) => steps), draws: stretches.flatMap(({ draws }) => draws) };
  }
}

const MAGIC = "tsoracle paxos run 1\n";

export function encodeRun(run: RecordedRun): Uint8Array {
  const content = serialize(run);
  return Buffer.concat([Buffer.from(`${MAGIC}${checksum(content)}\n`), content]);
}

/** Whether these are the bytes of a recorded run. */
export function isRecordedRun(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, MAGIC.length)).equals(Buffer.from(MAGIC));
}

/** @throws OracleError TSO_WRONG_FORMAT, also where the file was cut off, or changed */
export function decodeRun(bytes: Uint8Array): RecordedRun {
  if (!isRecordedRun(bytes)) throw new OracleError("TSO_WRONG_FORMAT", "not a recorded run");
  const content = bytes.subarray(MAGIC.length + CHECKSUM_LENGTH + 1);
  const expected = Buffer.from(bytes.subarray(MAGIC.length, MAGIC.length + CHECKSUM_LENGTH)).toString("latin1");
  if (checksum(content) !== expected) throw new OracleError("TSO_WRONG_FORMAT", "a recorded run that was cut off, or changed");
  try {
    return deserialize(content);
  } catch (error) {
    // Another release of Node wrote it.
    throw new OracleError("TSO_WRONG_FORMAT", `a recorded run that cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

const CHECKSUM_LENGTH = 8;

function checksum(content: Uint8Array): string {
  return crc32(content).toString(16).padStart(CHECKSUM_LENGTH, "0");
}

export interface Replayed {
  readonly replica: PaxosReplica;
  /** Steps that were made. */
  readonly steps: number;
  /** What the last of them threw, or the reason for which the replica gave up. */
  readonly fault: unknown;
}

/** Makes the run again, as far as it goes. */
export function replayRun({ options, checkpoint, steps, draws }: RecordedRun): Replayed {
  let drawn = 0;
  const random = prngOf(() => draws[drawn++] ?? 0);
  const replica = restoreCheckpoint(checkpoint, options, random);
  for (const [index, { inputs, nowMs }] of steps.entries()) {
    try {
      const { fence } = replica.step(inputs, nowMs);
      if (fence !== undefined) return { replica, steps: index + 1, fault: fence };
    } catch (error) {
      return { replica, steps: index + 1, fault: error };
    }
  }
  return { replica, steps: steps.length, fault: undefined };
}

function prngOf(next: () => number): Prng {
  const below = (bound: number): number => Math.floor(next() * bound);
  return { next, below, chance: (probability) => next() < probability, pick: (items) => items[below(items.length)] ?? items[0] };
}

function bytesOf(input: Input): number {
  if (input.type === "propose") return input.payload.length;
  if (input.type !== "message") return 0;
  const { message } = input;
  const entries: readonly Entry[] = "entries" in message ? message.entries : message.type === "promise" ? (message.tail?.entries ?? []) : [];
  return entries.reduce((sum, { record }) => sum + record.length, 0);
}
