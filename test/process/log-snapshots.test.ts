/** Real nodes whose logs are let go of while one is away, and which die at every stage of taking, sending, receiving and installing a snapshot. Under load all the while. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { type LogProcess, LogProcesses } from "../support/log-processes.ts";
import { freePorts } from "../support/map-cluster.ts";

/** Someone leads within a second, a snapshot every 200 entries, and hardly anything in memory for who is behind. */
const CORE = {
  electionTicks: 50,
  snapshotEntries: 200,
  snapshotChunkBytes: 16_384,
  snapshotWindowBytes: 65_536,
  snapshotTicks: 200,
  cacheBytes: 10_000,
};

/** The log outgrows the state soon. */
const PADDING = "x".repeat(2_000);

let processes: LogProcesses;
let ports: readonly number[];
let nodes: LogProcess[];
let load: Load;

beforeEach(async () => {
  processes = new LogProcesses();
  ports = await freePorts(3);
  nodes = [1, 2, 3].map((node) => start(node));
});
afterEach(async () => {
  load?.stop();
  await processes.end();
});

function start(node: number, options: Partial<Parameters<LogProcesses["start"]>[0]> = {}): LogProcess {
  const peers = ports.map((port, index) => `${index + 1}=127.0.0.1:${port}`).join(",");
  const listen = `127.0.0.1:${ports[node - 1]}`;
  return processes.start({ node, peers, listen, directory: processes.directory(node), segmentBytes: 65_536, core: CORE, ...options });
}

async function leader(): Promise<LogProcess> {
  return processes.until("one of them leads", () => nodes.find(({ leads }) => leads));
}

/** Proposals one after the other, by a few callers, at whoever leads, until it is stopped: what was applied, and what may have been. */
class Load {
  readonly applied = new Set<string>();
  readonly maybe = new Set<string>();
  readonly #callers: Promise<void>[];
  #stopped = false;
  #number = 0;

  constructor(callers = 8) {
    this.#callers = Array.from({ length: callers }, () => this.#call());
  }

  async #call(): Promise<void> {
    while (!this.#stopped) {
      this.#number += 1;
      const text = `load ${this.#number}`;
      const at = nodes.find(({ leads }) => leads);
      if (at === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        continue;
      }
      const { type } = await at.propose(`${text} ${PADDING}`).catch(() => ({ type: "unknown" }));
      if (type === "applied") this.applied.add(text);
      else if (type === "unknown") this.maybe.add(text);
    }
  }

  async more(count: number): Promise<void> {
    const before = this.applied.size;
    await processes.until(`${count} more are applied`, () => this.applied.size >= before + count);
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Everything that was applied is there once, in one order on all nodes, and nothing that was not asked for. */
  async judge(): Promise<void> {
    this.stop();
    await Promise.all(this.#callers);
    const [first = [], ...others] = await Promise.all(nodes.map((node) => node.commands()));
    for (const other of others) expect(other).toEqual(first);
    const held = new Set(first);
    expect(held.size, "nothing twice").toBe(first.length);
    for (const text of this.applied) expect(held.has(text), text).toBe(true);
    for (const text of held) expect(this.applied.has(text) || this.maybe.has(text) || text.startsWith("fill"), text).toBe(true);
  }
}

async function compactedThrough(node: LogProcess): Promise<number> {
  return (await node.status()).compactedThrough ?? 0;
}

async function compactions(node: LogProcess, count: number, load: Load): Promise<void> {
  let seen = await compactedThrough(node);
  for (let each = 0; each < count; ) {
    await load.more(50);
    const now = await compactedThrough(node);
    if (now > seen) each += 1;
    seen = now;
  }
}

test("a follower that was down while the log was let go of five times catches up, under load", async () => {
  load = new Load();
  await load.more(50);
  const { away, index } = await aFollower();
  await away.kill();
  await compactions(await leader(), 5, load);
  nodes[index] = start(index + 1);
  await processes.until("it gets a snapshot", () => nodes[index]?.said(/^a snapshot was installed$/));
  await load.more(200);
  await load.judge();
});

async function aFollower(): Promise<{ readonly away: LogProcess; readonly index: number }> {
  const first = await leader();
  const index = nodes.findIndex((node) => node !== first);
  const away = nodes[index];
  if (away === undefined) throw new Error("a cluster has followers");
  return { away, index };
}

test("a source that is killed in the middle of a transfer is replaced by another, or by itself", async () => {
  load = new Load();
  await processes.apply(nodes, "fill 2");
  const { away, index } = await aFollower();
  await away.kill();
  await compactions(await leader(), 2, load);
  let killed = 0;
  const restarts = nodes.map(async (node, at) => {
    if (at === index) return;
    await node.arm({ site: "snapshot/serving", nth: 10 });
    void node.ended.then(() => {
      killed += 1;
      nodes[at] = start(at + 1);
    });
  });
  await Promise.all(restarts);
  nodes[index] = start(index + 1);
  await processes.until("a source is killed", () => killed > 0);
  await processes.until("it gets a snapshot", () => nodes[index]?.said(/^a snapshot was installed$/));
  await load.more(100);
  await load.judge();
});

test("a receiver that is killed at each stage begins again, and catches up", async () => {
  load = new Load();
  await processes.apply(nodes, "fill 2");
  const { away, index } = await aFollower();
  await away.kill();
  await compactions(await leader(), 2, load);
  const stages = [
    { site: "snapshot/storing", nth: 30 }, // in the middle of the bytes
    { site: "snapshot/whole", nth: 1 }, // all are durable, and the machine has none of it
    { site: "snapshot/staged", nth: 1 }, // the machine has built it, and the log knows nothing
  ];
  for (const dies of stages) {
    const dying = start(index + 1, { dies });
    nodes[index] = dying;
    await dying.ended;
  }
  nodes[index] = start(index + 1);
  await processes.until("it gets a snapshot", () => nodes[index]?.said(/^a snapshot was installed$/));
  await load.more(100);
  await load.judge();
});

test("a leader that is killed while it takes a snapshot, and when it has just taken one, loses nothing", async () => {
  load = new Load();
  await load.more(50);
  for (const site of ["snapshot/captured", "snapshot/written"]) {
    const first = await leader();
    const index = nodes.indexOf(first);
    await first.arm({ site, nth: 1 });
    await first.ended;
    nodes[index] = start(index + 1);
    await load.more(300);
  }
  await load.judge();
});
