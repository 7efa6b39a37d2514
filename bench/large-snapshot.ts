/**
 * A large snapshot through a cluster of five processes that goes on deciding: how long a commit takes at the leader while nothing else happens, and while a follower that was away is
 * given a snapshot of this size. JSON lines on stdout; `bench/README.md` says what each means.
 *
 *     npm run bench:large-snapshot -- --mib 512 --per-second 200
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type LogProcess, LogProcesses } from "../test/support/log-processes.ts";
import { freePorts } from "../test/support/map-cluster.ts";
import { median } from "./figures.ts";

const { values } = parseArgs({
  options: { mib: { type: "string", default: "512" }, "per-second": { type: "string", default: "200" }, seconds: { type: "string", default: "10" } },
});
const [mib, perSecond, seconds] = [Number(values.mib), Number(values["per-second"]), Number(values.seconds)];
const NODES = [1, 2, 3, 4, 5];
/** Filled in steps, for one entry is applied at once. */
const STEP_MIB = 16;

const processes = new LogProcesses(15 * 60_000);
const ports = await freePorts(NODES.length);
const peers = NODES.map((node, index) => `${node}=127.0.0.1:${ports[index]}`).join(",");
// A snapshot is due with every 2,000 entries, but not before a quarter of the last one's size is written: that is why the log is filled with more than that below.
const start = (node: number): LogProcess =>
  processes.start({
    ...{ node, peers, listen: `127.0.0.1:${ports[node - 1]}`, directory: processes.directory(node) },
    core: { snapshotEntries: 2_000, snapshotBytes: 64 * 1024 * 1024, cacheBytes: 1024 * 1024 },
  });

function say(line: string, fields: object): void {
  console.log(JSON.stringify({ line, ...fields }));
}

const round = (value: number): number => Number(value.toPrecision(3));

try {
  const nodes = NODES.map(start);
  const leader = await processes.until("one of them leads", () => nodes.find(({ leads }) => leads));
  const index = nodes.findIndex((node) => node !== leader);
  await processes.apply(nodes, "before");
  await nodes[index]?.kill();
  for (let filled = 0; filled < mib; filled += STEP_MIB) await processes.apply(nodes, `fill ${Math.min(STEP_MIB, mib - filled)}`);
  // The log is let go of as a whole: only a snapshot can bring the follower back.
  for (let entries = 0; (await leader.status()).compactedThrough === 0; entries += 2) {
    await Promise.all([
      processes.apply(nodes, `x and ${"y".repeat(3 * 1024 * 1024)}`),
      processes.apply(nodes, `x and ${"y".repeat(3 * 1024 * 1024)}`),
    ]);
    if (entries > 2_000) throw new Error("the log is never let go of");
  }
  const { snapshot } = await leader.status();
  say("cluster", { nodes: NODES.length, snapshotMib: round((snapshot?.bytes ?? 0) / 1024 / 1024) });
  // Their own snapshots are to be on their disks, and the disks quiet.
  for (const node of nodes) if (node !== nodes[index]) while ((await node.status()).work.length > 0) await delay(100);
  await leader.load({ perSecond, seconds });
  const calms = [await leader.load({ perSecond, seconds }), await leader.load({ perSecond, seconds }), await leader.load({ perSecond, seconds })];
  for (const each of calms) say("calm", figures(each));
  const calmP99 = median(calms.map(({ p99Ms }) => p99Ms));
  const began = performance.now();
  const again = start(index + 1);
  nodes[index] = again;
  let busy = await leader.load({ perSecond, seconds });
  const all = [busy];
  while (again.said(/^a snapshot was installed$/) === undefined) {
    busy = await leader.load({ perSecond, seconds });
    all.push(busy);
    if (performance.now() - began > 600_000) throw new Error("it never got the snapshot");
  }
  const took = (performance.now() - began) / 1000;
  for (const each of all) say("busy", figures(each));
  const { heapBytes, rssBytes, work } = await again.status();
  const p99 = Math.max(...all.map(({ p99Ms }) => p99Ms));
  say("receiver", { heapMib: round(heapBytes / 1024 / 1024), rssMib: round(rssBytes / 1024 / 1024), work });
  say("result", {
    installedAfterSeconds: round(took),
    p99Ratio: round(p99 / calmP99),
    aimRatio: 3,
    heapMibMost: round(Math.max(heapBytes, ...all.map(({ heapBytesMost }) => heapBytesMost)) / 1024 / 1024),
    aimHeapMib: 400,
  });
} finally {
  await processes.end();
}

function figures({ applied, others, p50Ms, p99Ms, mostMs, heapBytesMost, rssBytesMost }: Awaited<ReturnType<LogProcess["load"]>>): object {
  const mibOf = (bytes: number): number => round(bytes / 1024 / 1024);
  return {
    applied,
    others,
    p50Ms: round(p50Ms),
    p99Ms: round(p99Ms),
    mostMs: round(mostMs),
    heapMib: mibOf(heapBytesMost),
    rssMib: mibOf(rssBytesMost),
  };
}
