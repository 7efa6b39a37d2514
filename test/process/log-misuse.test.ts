/** Real nodes that are started wrong, or on a disk that does not take what they write: each is told so in a sentence, and nobody comes to harm. */
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type LogProcess, LogProcesses } from "../support/log-processes.ts";
import { freePorts } from "../support/map-cluster.ts";

/** Someone leads within a second. */
const SOON = { electionTicks: 50 };

let processes: LogProcesses;
let ports: readonly number[];
let peers: string;

beforeEach(async () => {
  processes = new LogProcesses();
  ports = await freePorts(4);
  peers = listOf([1, 2, 3]);
});
afterEach(() => processes.end());

function addressOf(node: number): string {
  return `127.0.0.1:${ports[node - 1]}`;
}

function listOf(nodes: readonly number[]): string {
  return nodes.map((node) => `${node}=${addressOf(node)}`).join(",");
}

function start(node: number, options: Partial<Parameters<LogProcesses["start"]>[0]> = {}, how?: { readonly uid: number }): LogProcess {
  return processes.start(
    { node, peers, listen: addressOf(node), directory: processes.directory(node), segmentBytes: 65_536, core: SOON, ...options },
    how,
  );
}

async function startThree(): Promise<readonly [LogProcess, LogProcess, LogProcess]> {
  const nodes = [start(1), start(2), start(3)] as const;
  await processes.apply(nodes, "before");
  for (const node of nodes) expect(await node.commands()).toEqual(["before"]);
  return nodes;
}

/** The cluster goes on as if nothing had been. */
async function goesOn(nodes: readonly LogProcess[]): Promise<void> {
  await processes.apply(nodes, "after");
  for (const node of nodes) expect(await node.commands()).toEqual(["before", "after"]);
}

describe("a node of a cluster that is formed", () => {
  test("whose disk was wiped ends with the reason and the way out, and counts for nothing", async () => {
    const [one, two, three] = await startThree();
    await three.kill();
    rmSync(processes.directory(3), { recursive: true });
    const again = start(3);
    expect(await again.ended).toBe(1);
    expect(again.stderr).toMatch(
      /^TSO_INVALID_OPTION: node 3 is bound to another disk in cluster [0-9a-f]{32}: remove node 3 and add a new id with --join\n$/,
    );
    await goesOn([one, two]);
  });

  test("started on the disk of another cluster is heard by nobody, and both sides say which clusters they are of", async () => {
    const [one, two, three] = await startThree();
    await three.kill();
    const other = start(3, { peers: listOf([3]), init: true, directory: processes.directory("other") });
    await processes.apply([other], "elsewhere");
    await other.kill();
    const stranger = start(3, { directory: processes.directory("other") });
    await processes.until("it says so", () => stranger.said(/is not the cluster's membership, and is not used/));
    await processes.until("a member says so", () => one.said(/belongs to cluster [0-9a-f]{32}, and node 3 .* to cluster [0-9a-f]{32}/));
    await goesOn([one, two]);
    expect(await stranger.commands()).toEqual(["elsewhere"]);
    await stranger.kill();
    await goesOnWith([one, two, start(3)]);
  });

  test("a second process on its directory ends at once", async () => {
    const nodes = await startThree();
    const second = start(3);
    expect(await second.ended).toBe(1);
    expect(second.stderr).toMatch(/^TSO_LOCKED: .*3\/log is in use by another process/);
    await goesOn(nodes);
  });

  test("a second process on a copy of its directory, at the same address, ends at once", async () => {
    const nodes = await startThree();
    cpSync(processes.directory(3), processes.directory("copy"), { recursive: true });
    const second = start(3, { directory: processes.directory("copy") });
    expect(await second.ended).toBe(1);
    expect(second.stderr).toMatch(/^TSO_INVALID_OPTION: .*127\.0\.0\.1:\d+.*EADDRINUSE/);
    await goesOn(nodes);
  });

  test("a second process on a copy of its directory, at another address: both are refused, and named, and the others go on", async () => {
    const [one, two, three] = await startThree();
    await processes.until("somebody leads", () => one.leads || two.leads || three.leads);
    await three.kill();
    cpSync(processes.directory(3), processes.directory("copy"), { recursive: true });
    start(3);
    start(3, { directory: processes.directory("copy"), listen: addressOf(4) });
    await processes.until("it is found out", () => one.said(/^two processes say that they are node 3 .*hears neither until one is started anew/));
    await goesOn([one, two]);
  });

  test("started with another list keeps to the membership, and says so", async () => {
    const [one, two, three] = await startThree();
    await three.kill();
    const again = start(3, { peers: listOf([1, 3, 4]) });
    await processes.until("it says so", () => again.said(/the list of peers is not the cluster's membership, and is not used/));
    await goesOn([one, two, again]);
  });

  test("started under another node's id is refused by its own files", async () => {
    const [one, two, three] = await startThree();
    await three.kill();
    const before = contentsOf(processes.directory(3));
    const wrong = start(4, { peers: listOf([1, 2, 4]), directory: processes.directory(3) });
    expect(await wrong.ended).toBe(1);
    expect(wrong.stderr).toMatch(/^TSO_WRONG_FORMAT: .* belongs to node 3, and this is node 4: use the directory of this node\n$/);
    expect(contentsOf(processes.directory(3))).toEqual(before);
    await goesOnWith([one, two, start(3)]);
  });
});

async function goesOnWith(nodes: readonly LogProcess[]): Promise<void> {
  await processes.apply(nodes, "with all");
  for (const node of nodes) expect(await node.commands()).toContain("with all");
}

test("lists that differ form no cluster, both sides say both lists, and the right list forms it later", async () => {
  const [one, two] = [start(1), start(2)];
  const wrong = start(3, { peers: listOf([1, 3, 4]) });
  await processes.until("node 1 says so", () => one.said(/has another list of peers/));
  await processes.until("node 3 says so", () => wrong.said(/has another list of peers/));
  expect(one.said(/has another list/)?.detail ?? one.said(/has another list/)?.text).toContain(listOf([1, 3, 4]));
  await wrong.kill();
  await processes.apply([one, two, start(3)], "formed");
});

function contentsOf(directory: string): Readonly<Record<string, string>> {
  const names = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(names.map(({ parentPath, name }) => [join(parentPath, name), readFileSync(join(parentPath, name)).toString("base64")]));
}

describe("a disk that does not take what is written", () => {
  const NOBODY = 65_534;
  const isRoot = process.getuid?.() === 0;
  const mayRun = !isRoot || spawnSync(process.execPath, ["--version"], { uid: NOBODY, cwd: "/" }).status === 0;

  test.skipIf(!mayRun)("a directory that may not be written: refused with its name, and nothing is changed", async () => {
    const [one, two, three] = await startThree();
    await three.kill();
    const directory = processes.directory(3);
    const before = contentsOf(directory);
    const files = readdirSync(directory, { recursive: true, withFileTypes: true }).map(({ parentPath, name }) => join(parentPath, name));
    for (const path of [processes.root, directory, ...files]) {
      if (isRoot) chownSync(path, NOBODY, NOBODY);
    }
    const log = join(directory, "log");
    chmodSync(log, 0o555);
    const refused = start(3, {}, ...(isRoot ? [{ uid: NOBODY }] : []));
    expect(await refused.ended).toBe(1);
    chmodSync(log, 0o755);
    expect(refused.stderr).toMatch(/^TSO_STORAGE: the disk under .*3\/log failed: EACCES: permission denied/);
    expect(contentsOf(directory)).toEqual(before);
    await goesOnWith([one, two, start(3)]);
  });

  function mounted(path: string, options: string): boolean {
    return spawnSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", path]).status === 0;
  }
  const probe = new LogProcesses();
  const mayMount = mounted(probe.root, "size=1m");
  if (mayMount) spawnSync("umount", [probe.root]);
  rmSync(probe.root, { recursive: true });

  test.skipIf(!mayMount)(
    "a disk that fills up: the leader hands over before a write fails; one that is full after all ends it; with room it has all",
    async () => {
      const disk = processes.directory(1);
      spawnSync("mkdir", [disk]);
      expect(mounted(disk, "size=3m")).toBe(true);
      try {
        const small = { directory: join(disk, "data"), diskRoom: { lowBytes: 1_500_000, noneBytes: 500_000 } };
        const nodes = [start(1, small), start(2), start(3)] as const;
        const [one, two, three] = nodes;
        await processes.apply(nodes, "before");
        for (const node of nodes) expect(await node.commands()).toEqual(["before"]);
        writeFileSync(join(disk, "somebody-elses"), Buffer.alloc(2_000_000));
        await processes.until("it is seen", () => one.said(/the disk is nearly full: no proposals are taken/));
        await processes.until("another leads", () => two.leads || three.leads);
        await processes.apply([two, three], "after");
        // Everything is taken, by somebody else; the node goes on until it must write where there is nothing left.
        spawnSync("sh", ["-c", `cat /dev/zero > ${join(disk, "somebody-elses")}`]);
        await processes.until("that is seen", () => one.said(/the disk is full but for votes/));
        for (let count = 0; count < 5; count++) await processes.apply([two, three], "more");
        expect(one.stderr).toBe("");
        await one.kill();
        const full = start(1, small);
        expect(await full.ended).toBe(1);
        expect(full.stderr).toMatch(/^TSO_STORAGE: the disk under .* failed: ENOSPC: no space left on device, write/);
        rmSync(join(disk, "somebody-elses"));
        const again = start(1, small);
        expect(await again.commands()).toEqual(["before", "after", ...Array.from({ length: 5 }, () => "more")]);
      } finally {
        await processes.stopAll();
        spawnSync("umount", [disk]);
      }
    },
  );
});
