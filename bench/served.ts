/** Processes of the benchmark: each has one thing to do, so that what it costs can be told apart. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export interface Counters {
  /** CPU time since the process started. */
  readonly cpuUs: number;
  readonly flushes: number;
}

export interface Served {
  readonly address: string;
  counters(): Promise<Counters>;
  close(): Promise<void>;
}

export interface Child<First> {
  /** What it said once it was ready. */
  readonly first: First;
  /** One question at a time. */
  ask<Answer>(message: object): Promise<Answer>;
  close(): Promise<void>;
}

export interface ChildProgram {
  /** Relative to this folder. It says something once it is ready, answers every message, and ends when it is let go. */
  readonly script: string;
  readonly args?: readonly string[];
  /** A folder for a CPU profile, written when the process ends. */
  readonly profile?: string | undefined;
}

/** The script of a server says `{ address }` once it serves, and answers every message with its counters. */
export async function start(server: ChildProgram): Promise<Served> {
  const child = await startChild<{ readonly address: string }>(server);
  return { address: child.first.address, counters: () => child.ask<Counters>({}), close: () => child.close() };
}

export async function startChild<First>({ script, args = [], profile }: ChildProgram): Promise<Child<First>> {
  const execArgv = profile === undefined ? process.execArgv : [...process.execArgv, "--cpu-prof", `--cpu-prof-dir=${profile}`];
  const child = fork(fileURLToPath(new URL(script, import.meta.url)), args, { execArgv });
  const ended = once(child, "exit");
  const first = await nextMessage<First>(child);
  return {
    first,
    ask: <Answer>(message: object) => {
      child.send(message);
      return nextMessage<Answer>(child);
    },
    close: async () => {
      if (child.connected) child.disconnect();
      await ended;
    },
  };
}

function nextMessage<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const onMessage = (message: unknown): void => {
      child.off("exit", onExit);
      resolve(message as T);
    };
    const onExit = (code: number | null): void => {
      child.off("message", onMessage);
      reject(new Error(`a child of the benchmark ended with ${code}`));
    };
    child.once("message", onMessage);
    child.once("exit", onExit);
  });
}
