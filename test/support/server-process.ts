/** The real command as child processes: started, waited for, ended by their pids. Whatever is still there when a test ends is killed. */
import { type ChildProcess, type IOType, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The command as it is installed: it runs what `npm run build` made. */
export const COMMAND = fileURLToPath(new URL("../../bin/tsoracle.js", import.meta.url));
const STALLS = new URL("./stalls.js", import.meta.url).href;

export interface StartOptions {
  /** Beside what the tests themselves were started with, less everything that is meant for the command. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly cwd?: string | undefined;
  readonly uid?: number | undefined;
  /** Put before the command, as `strace -f`. */
  readonly wrapper?: readonly string[] | undefined;
  /** Lets `stall` stop the process at a named place of the real code. */
  readonly stalls?: boolean | undefined;
  /** Instead of pipes that are read. */
  readonly stdout?: IOType | undefined;
}

export interface Ended {
  /** `undefined` where a signal ended it. */
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** All that run: the test runner itself may be ended. */
const alive = new Set<Running>();
process.once("exit", () => {
  for (const each of alive) each.killNow();
});

/** One running command. */
export class Running {
  readonly child: ChildProcess;
  /** Once it is gone and all it wrote is read. */
  readonly ended: Promise<Ended>;
  stdout = "";
  stderr = "";
  #isOver = false;
  readonly #isGroup: boolean;
  readonly #said = new Set<string>();
  readonly #watchers = new Set<() => void>();

  constructor(args: readonly string[], { env = {}, cwd, uid, wrapper = [], stalls = false, stdout = "pipe" }: StartOptions = {}) {
    const [file = process.execPath, ...rest] = [...wrapper, process.execPath, ...(stalls ? ["--import", STALLS] : []), COMMAND, ...args];
    this.child = spawn(file, rest, {
      cwd,
      uid,
      env: { ...cleanEnvironment(), ...env },
      stdio: ["ignore", stdout, "pipe", ...(stalls ? (["ipc"] as const) : [])],
      detached: wrapper.length > 0, // a group of its own, so that the wrapper does not leave the command behind
    });
    this.#isGroup = wrapper.length > 0;
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
      this.#changed();
    });
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
      this.#changed();
    });
    this.child.on("message", (message) => {
      this.#said.add(String(message));
      this.#changed();
    });
    this.ended = new Promise((resolve, reject) => {
      this.child.once("error", reject);
      this.child.once("close", (code, signal) => {
        resolve({ code: code ?? undefined, signal: signal ?? undefined, stdout: this.stdout, stderr: this.stderr });
      });
    });
    alive.add(this);
    const over = (): void => {
      alive.delete(this);
      this.#isOver = true;
      this.#changed();
    };
    this.ended.then(over, over);
  }

  get pid(): number {
    const { pid } = this.child;
    if (pid === undefined) throw new Error("the process did not start");
    return pid;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Sends a signal to the process, by its pid. */
  signal(name: NodeJS.Signals): void {
    process.kill(this.pid, name);
  }

  async kill(): Promise<Ended> {
    this.killNow();
    return this.ended;
  }

  killNow(): void {
    if (this.#isOver || this.child.pid === undefined) return;
    if (this.#isGroup) process.kill(-this.pid, "SIGKILL");
    else this.child.kill("SIGKILL");
  }

  /** Asks it to end, and waits. */
  async stop(): Promise<Ended> {
    if (!this.#isOver) this.child.kill("SIGTERM");
    return this.ended;
  }

  /** Waits until `isThere` says so; fails if the process ends first. Asked again whenever something was written, or said by a stall. */
  async until<T>(what: string, isThere: () => T | undefined): Promise<T> {
    for (;;) {
      const found = isThere();
      if (found !== undefined) return found;
      if (this.#isOver) throw new Error(`the process ended before ${what}\nstdout: ${this.stdout}\nstderr: ${this.stderr}`);
      await new Promise<void>((resolve) => {
        const watcher = (): void => {
          this.#watchers.delete(watcher);
          resolve();
        };
        this.#watchers.add(watcher);
      });
    }
  }

  /** The address that it says it serves on. */
  serving(): Promise<string> {
    return this.until("it served", () => /^serving on (\S+)\n/m.exec(this.stdout)?.[1]);
  }

  /** What it logged with this message, as it comes. */
  logged(message: string): Promise<Readonly<Record<string, unknown>>> {
    return this.until(`it logged "${message}"`, () => logLines(this.stderr).find(({ msg }) => msg === message));
  }

  /** Holds up whatever next comes to this failpoint, until `release`. Takes effect before this returns. */
  async stall(failpoint: string): Promise<void> {
    this.#said.delete(`reached ${failpoint}`);
    await this.#ask(`stall ${failpoint}`);
  }

  /** Until something stands at the failpoint. */
  async stalled(failpoint: string): Promise<void> {
    await this.until(`something came to ${failpoint}`, () => (this.#said.has(`reached ${failpoint}`) ? true : undefined));
  }

  async release(failpoint: string): Promise<void> {
    await this.#ask(`release ${failpoint}`);
  }

  async #ask(request: string): Promise<void> {
    this.#said.delete(`done ${request}`);
    this.child.send(request);
    await this.until(`it did: ${request}`, () => (this.#said.has(`done ${request}`) ? true : undefined));
  }

  #changed(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}

export interface Server extends Running {
  readonly address: string;
}

/** What a test started and made. `end()` kills and removes what is left. */
export class Processes {
  readonly #running = new Set<Running>();
  readonly #directories: string[] = [];

  start(args: readonly string[], options?: StartOptions): Running {
    const running = new Running(args, options);
    this.#running.add(running);
    return running;
  }

  /** Runs a command to its end. */
  run(args: readonly string[], options?: StartOptions): Promise<Ended> {
    return this.start(args, options).ended;
  }

  /** Starts a server on a port that the system chooses; returns once it serves. */
  async serve(directory: string, args: readonly string[] = [], options?: StartOptions): Promise<Server> {
    const running = this.start(["--listen", "127.0.0.1:0", "--state-dir", directory, ...args], options);
    const address = await running.serving();
    return Object.assign(running, { address });
  }

  /** A new empty directory. */
  directory(): string {
    const made = mkdtempSync(join(tmpdir(), "tsoracle-process-"));
    this.#directories.push(made);
    return made;
  }

  async end(): Promise<void> {
    for (const each of this.#running) each.killNow();
    await Promise.allSettled([...this.#running].map(({ ended }) => ended));
    this.#running.clear();
    for (const each of this.#directories.splice(0)) rmSync(each, { recursive: true, force: true });
  }
}

/** The lines of a log, as far as they are whole; what else stands in it is left out. */
export function logLines(stderr: string): readonly Readonly<Record<string, unknown>>[] {
  return stderr.split("\n").flatMap((line) => (line.startsWith("{") && line.endsWith("}") ? [JSON.parse(line)] : []));
}

function cleanEnvironment(): Record<string, string | undefined> {
  const ours = Object.entries(process.env).filter(([name]) => !/^(TSORACLE_|NODE_|VITEST)/.test(name));
  return { ...Object.fromEntries(ours), NO_COLOR: "1" };
}
