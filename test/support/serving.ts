/** A `Serving` without gRPC, over a driver that the test writes, and a record of what it asked of that driver. */
import { status } from "@grpc/grpc-js";
import { expect } from "vitest";
import type { LogFields } from "../../src/base/logger.ts";
import type { ConsensusDriver, Submitted } from "../../src/oracle/driver.ts";
import { type MemoryDriver, type MemoryDriverOptions, memoryDriver } from "../../src/oracle/drivers/memory.ts";
import type { OracleCommand, OracleOutcome } from "../../src/oracle/rules/command.ts";
import type { Answer } from "../../src/server/answer.ts";
import { type OracleServerOptions, resolveServerOptions } from "../../src/server/options.ts";
import { type GrantedTimestamps, Serving } from "../../src/server/serving.ts";
import type { Timers } from "../../src/server/timers.ts";
import { type Hint, packed, readHint, START_MS } from "./served.ts";

export const DAY_MS = 86_400_000;
export const NOT_LEADER = { ok: false, failure: { code: status.FAILED_PRECONDITION, details: "not leader", metadata: expect.anything() } };
export const LEASE = { holder: new Uint8Array([1]), holderEpoch: 5n, ttlMs: 10_000n };

export interface ServingWorldOptions extends Partial<OracleServerOptions> {
  readonly memory?: MemoryDriverOptions | undefined;
  /** An earlier world's, to be served again. */
  readonly on?: MemoryDriver | undefined;
}

export interface ServingWorld {
  readonly serving: Serving;
  readonly driver: MemoryDriver;
  readonly clock: { now: number };
  /** Every command that was submitted, in order. */
  readonly commands: OracleCommand[];
  readonly log: { readonly level: string; readonly message: string; readonly fields: LogFields }[];
  /** Lets time pass for the timers, and nothing else: the clock is not moved. */
  pass(ms: number): Promise<void>;
  /** Returns when so much time has passed for the timers. */
  later(ms: number): Promise<void>;
  /** How `run()` ended, once it has. */
  readonly ended: Promise<{ readonly error?: unknown }>;
  of<Type extends OracleCommand["type"]>(type: Type): Extract<OracleCommand, { type: Type }>[];
}

/** Runs a `Serving`. The clock stands still until it is moved, and nothing has happened yet. */
export function runServing({ memory, on, ...options }: ServingWorldOptions = {}): ServingWorld {
  const clock = { now: START_MS };
  const commands: OracleCommand[] = [];
  const log: ServingWorld["log"] = [];
  const write = (level: string) => (fields: LogFields, message: string) => void log.push({ level, message, fields });
  const driver = on ?? memoryDriver(memory);
  const recorded: ConsensusDriver = {
    ...driver,
    submit: (command) => {
      commands.push(command);
      return driver.submit(command);
    },
  };
  const timers = new ManualTimers();
  const serving = new Serving(
    resolveServerOptions({
      driver: recorded,
      clock: () => clock.now,
      logger: { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") },
      ...options,
    }),
    timers,
  );
  const ended = serving.run().then(
    () => ({}),
    (error: unknown) => ({ error }),
  );
  return {
    serving,
    driver,
    clock,
    commands,
    log,
    pass: (ms) => timers.pass(ms),
    later: (ms) => timers.wait(ms, new AbortController().signal),
    ended,
    of: <Type extends OracleCommand["type"]>(type: Type) =>
      commands.filter((command): command is Extract<OracleCommand, { type: Type }> => command.type === type),
  };
}

/** Timers that go off when the test says so. */
export class ManualTimers implements Timers {
  #now = 0;
  readonly #due = new Set<{ at: number; readonly run: () => void; readonly everyMs?: number }>();

  every(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run, everyMs: ms };
    this.#due.add(timer);
    return () => this.#due.delete(timer);
  }

  wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        this.#due.delete(timer);
        signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = { at: this.#now + ms, run: end };
      this.#due.add(timer);
      signal.addEventListener("abort", end);
    });
  }

  async pass(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      const next = [...this.#due].sort((a, b) => a.at - b.at)[0];
      if (next === undefined || next.at > until) break;
      this.#now = next.at;
      if (next.everyMs === undefined) this.#due.delete(next);
      else next.at += next.everyMs;
      next.run();
      await settle();
    }
    this.#now = until;
  }
}

/** Serves in its first reign, with a window of a second. */
export async function startServing(options: ServingWorldOptions = {}): Promise<ServingWorld> {
  const world = runServing({ windowAheadMs: 1_000, failoverAdvanceMs: 1_000, ...options });
  await settle();
  expect(world.serving.state.type).toBe("serving");
  return world;
}

/** Lets everything that can happen without time passing happen. */
export async function settle(): Promise<void> {
  for (let turns = 0; turns < 5; turns++) await new Promise((resolve) => setImmediate(resolve));
}

/** What the trailer of a refusal says. */
export function hintOf(answer: Answer<unknown>): Hint | "absent" {
  const [bytes] = answer.ok ? [] : (answer.failure.metadata?.get("tsoracle-leader-hint-bin") ?? []);
  return bytes === undefined ? "absent" : readHint(new Uint8Array(Buffer.from(bytes)));
}

/** The value of an answer that must be one. */
export function value<T>(answer: Answer<T>): T {
  if (!answer.ok) throw new Error(`answered with ${answer.failure.code}: ${answer.failure.details}`);
  return answer.value;
}

export async function one({ serving }: ServingWorld): Promise<bigint> {
  return firstOf(value(await serving.getTs(1)));
}

export const applied = (outcome: Exclude<OracleOutcome, { type: "fenced" }>): Submitted => ({ type: "applied", outcome });

/** The first timestamp of a grant, packed. */
export function firstOf({ grant }: GrantedTimestamps): bigint {
  return packed(grant.physicalMs, grant.logicalStart);
}
