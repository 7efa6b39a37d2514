/** A server in a process of its own, and the client that calls it. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { type Method, RawCaller } from "./raw-caller.ts";

export interface Counters {
  /** CPU time since the process started. */
  readonly cpuUs: number;
  readonly flushes: number;
}

export interface Served {
  readonly caller: RawCaller;
  counters(): Promise<Counters>;
  close(): Promise<void>;
}

export interface ServerProcess {
  /** Relative to this folder. It says `{ address }` once it serves, answers every message with its counters, and ends when it is let go. */
  readonly script: string;
  readonly args?: readonly string[];
  /** What the client calls. */
  readonly method: Method;
  /** A folder for a CPU profile, written when the process ends. */
  readonly profile?: string | undefined;
}

export async function start({ script, args = [], method, profile }: ServerProcess): Promise<Served> {
  const execArgv = profile === undefined ? process.execArgv : [...process.execArgv, "--cpu-prof", `--cpu-prof-dir=${profile}`];
  const child = fork(fileURLToPath(new URL(script, import.meta.url)), args, { execArgv });
  const ended = once(child, "exit");
  const { address } = await nextMessage<{ readonly address: string }>(child);
  const caller = new RawCaller(address, method);
  return {
    caller,
    counters: () => {
      child.send("counters");
      return nextMessage<Counters>(child);
    },
    close: async () => {
      caller.close();
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
      reject(new Error(`a server ended with ${code}`));
    };
    child.once("message", onMessage);
    child.once("exit", onExit);
  });
}
