/** Nodes of the log as processes, on directories of this machine. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { NodeStatus } from "../../src/paxos/node-status.ts";
import type { Arm, Asked, LoadFigures, LogProcessOptions, Told } from "./log-process.ts";

const PROGRAM = fileURLToPath(new URL("./log-process.ts", import.meta.url));
/** For one step to be seen: only a hang takes as long. */
const PATIENCE_MS = 60_000;

interface Line {
  readonly level?: string;
  readonly text?: string;
  readonly role?: string;
  readonly detail?: string;
}

export class LogProcess {
  readonly lines: Line[] = [];
  stderr = "";
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: unknown) => void>();
  #asked = 0;

  constructor(options: LogProcessOptions, { uid }: { readonly uid?: number } = {}) {
    const child = spawn(process.execPath, ["--import", "tsx", PROGRAM, JSON.stringify(options)], {
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      ...(uid === undefined ? {} : { uid }),
    });
    this.#child = child;
    let rest = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.lines.push(JSON.parse(line));
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    child.on("message", ({ number, answer }: Told) => this.#waiting.get(number)?.(answer));
    this.ended = once(child, "close").then(([code]) => code as number | null);
  }

  get leads(): boolean {
    return (
      this.#child.exitCode === null && this.#child.signalCode === null && this.lines.findLast(({ role }) => role !== undefined)?.role === "leader"
    );
  }

  /** What was said of this. */
  said(text: RegExp): Line | undefined {
    return this.lines.find((line) => text.test(line.text ?? "") || text.test(line.detail ?? ""));
  }

  async propose(text: string): Promise<{ readonly type: string; readonly reason?: string }> {
    return (await this.#ask({ text })) as { readonly type: string };
  }

  /** All that is decided by now. */
  async commands(): Promise<readonly string[]> {
    const endsAt = performance.now() + PATIENCE_MS;
    for (;;) {
      const answer = await this.#ask({});
      if (Array.isArray(answer)) return answer;
      if (performance.now() > endsAt) throw new Error(`no barrier could be passed: ${JSON.stringify(answer)}`);
    }
  }

  async status(): Promise<NodeStatus & { readonly heapBytes: number; readonly rssBytes: number }> {
    return (await this.#ask({ what: "status" })) as NodeStatus & { readonly heapBytes: number; readonly rssBytes: number };
  }

  async load(load: NonNullable<Asked["load"]>): Promise<LoadFigures> {
    return (await this.#ask({ load })) as LoadFigures;
  }

  /** It dies when it reaches the site for the `nth` time from now on. */
  async arm(arm: Arm): Promise<void> {
    await this.#ask({ what: "status", arm });
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  #ask(what: object): Promise<unknown> {
    this.#asked += 1;
    const number = this.#asked;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, resolve);
      void this.ended.then((code) => reject(new Error(`the process has ended with ${code}: ${this.stderr}`)));
      this.#child.send({ number, ...what }, (error) => error !== null && reject(error));
    });
  }
}

export class LogProcesses {
  readonly root = mkdtempSync(join(tmpdir(), "tsoracle-log-"));
  readonly #processes: LogProcess[] = [];
  readonly #patienceMs: number;

  constructor(patienceMs = PATIENCE_MS) {
    this.#patienceMs = patienceMs;
  }

  directory(name: string | number): string {
    return join(this.root, `${name}`);
  }

  start(options: LogProcessOptions, how?: { readonly uid: number }): LogProcess {
    const process = new LogProcess(options, how);
    this.#processes.push(process);
    return process;
  }

  async until<T>(what: string, look: () => T | undefined | false): Promise<T> {
    const endsAt = performance.now() + this.#patienceMs;
    for (;;) {
      const found = look();
      if (found !== undefined && found !== false) return found;
      if (performance.now() > endsAt) throw new Error(`it never came about that ${what}; ${this.#report()}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Proposes at whoever of them leads, until it is applied. */
  async apply(nodes: readonly LogProcess[], text: string): Promise<void> {
    for (;;) {
      const leader = await this.until("one of them leads", () => nodes.find(({ leads }) => leads));
      if ((await leader.propose(text)).type === "applied") return;
    }
  }

  async stopAll(): Promise<void> {
    for (const process of this.#processes) await process.kill();
  }

  async end(): Promise<void> {
    await this.stopAll();
    rmSync(this.root, { recursive: true, force: true });
  }

  #report(): string {
    return this.#processes
      .map(({ lines, stderr }, index) => `process ${index}: ${lines.map((line) => JSON.stringify(line)).join("\n")}\n${stderr}`)
      .join("\n");
  }
}
