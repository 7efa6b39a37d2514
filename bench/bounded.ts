/**
 * What a cluster holds while it goes on for a long time with one follower that is dead, one that is slow, and one that comes and goes: memory and disk of every node, every few seconds.
 * JSON lines on stdout, and a plot; `bench/README.md` says what each means.
 *
 *     npm run bench:bounded -- --seconds 600 --per-second 400 --plot docs/images/bounded.svg
 */
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type LogProcess, LogProcesses } from "../test/support/log-processes.ts";
import { freePorts } from "../test/support/map-cluster.ts";
import { PeerProxy } from "../test/support/peer-proxy.ts";
import { linePlot, type Series } from "./plot.ts";

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "600" }, "per-second": { type: "string", default: "400" }, plot: { type: "string" } },
});
const [seconds, perSecond] = [Number(values.seconds), Number(values["per-second"])];
const MIB = 1024 * 1024;
/** Of an entry: 400 a second are 0.8 MB/s of log, 480 MB in ten minutes. */
const ENTRY_BYTES = 2_000;
const SAMPLE_MS = 5_000;
/** Node 4 hears less than is decided. */
const SLOW_BYTES_PER_SECOND = 200 * 1024;
/** Node 5 is up for so long, and down for so long. */
const FLAP_MS = 20_000;
const NODES = [1, 2, 3, 4, 5, 6, 7];
const ROLES = ["", "", "", "", "slow", "flapping", "dead"];

const processes = new LogProcesses(60_000);
const ports = await freePorts(NODES.length);
const proxy = new PeerProxy();
proxy.open(`127.0.0.1:${ports[4]}`);
const addressOf = (node: number): string => (node === 5 ? proxy.address : `127.0.0.1:${ports[node - 1]}`);
const peers = NODES.map((node) => `${node}=${addressOf(node)}`).join(",");
// The three that will be in trouble are in no hurry to lead.
const start = (node: number): LogProcess =>
  processes.start({
    ...{ node, peers, listen: `127.0.0.1:${ports[node - 1]}`, directory: processes.directory(node), segmentBytes: 2 * MIB },
    core: { electionTicks: node > 4 ? 1_000 : 100, snapshotEntries: 5_000, snapshotBytes: 8 * MIB, cacheBytes: 4 * MIB, maxRetainedBytes: 16 * MIB },
    forgets: 10_000,
  });

function bytesOf(directory: string): number {
  let bytes = 0;
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    // A file may go while it is looked at.
    if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0;
  }
  return bytes;
}

const memory: Series[] = NODES.map((node, index) => ({ name: nameOf(node, index), points: [] }));
const disk: Series[] = NODES.map((node, index) => ({ name: nameOf(node, index), points: [] }));

function nameOf(node: number, index: number): string {
  return ROLES[index] === "" ? `node ${node}` : `node ${node}, ${ROLES[index]}`;
}

try {
  const nodes = NODES.map(start);
  await processes.apply(nodes, "before");
  const leader = await processes.until("one of them leads", () => nodes.find(({ leads }) => leads));
  await nodes[6]?.kill();
  proxy.throttle(SLOW_BYTES_PER_SECOND);
  const began = performance.now();
  const load = leader.load({ perSecond, seconds, bytes: ENTRY_BYTES });
  let flappedAt = performance.now();
  let isUp = true;
  for (let now = performance.now(); now - began < seconds * 1000; now = performance.now()) {
    if (now - flappedAt > FLAP_MS) {
      flappedAt = now;
      if (isUp) await nodes[5]?.kill();
      else nodes[5] = start(6);
      isUp = !isUp;
    }
    const at = (now - began) / 1000;
    for (const [index, node] of nodes.entries()) {
      const status = index === 6 || (index === 5 && !isUp) ? undefined : await node.status().catch(() => undefined);
      const onDisk = bytesOf(processes.directory(index + 1));
      if (status !== undefined) memory[index]?.points.push([at, status.rssBytes / MIB]);
      disk[index]?.points.push([at, onDisk / MIB]);
      const { decidedThrough, compactedThrough, snapshot, heapBytes, rssBytes, work } = status ?? {};
      const mib = { heapMib: mibOf(heapBytes), rssMib: mibOf(rssBytes), diskMib: mibOf(onDisk) };
      console.log(
        JSON.stringify({
          line: "sample",
          seconds: Math.round(at),
          node: index + 1,
          role: ROLES[index],
          ...mib,
          decidedThrough,
          compactedThrough,
          snapshotAt: snapshot?.slot,
          work: work?.length,
        }),
      );
    }
    await delay(SAMPLE_MS);
  }
  const { applied, p50Ms, p99Ms } = await load;
  console.log(JSON.stringify({ line: "load", applied, writtenMib: Math.round((applied * ENTRY_BYTES) / MIB), p50Ms, p99Ms }));
  for (const [what, all] of [
    ["memory", memory],
    ["disk", disk],
  ] as const)
    for (const { name, points } of all) console.log(JSON.stringify({ line: "growth", what, name, ...growthOf(points) }));
  if (values.plot !== undefined) {
    const title = `${Math.round((applied * ENTRY_BYTES) / MIB)} MiB of log through seven nodes: one slow, one that comes and goes, one dead`;
    writeFileSync(
      values.plot,
      linePlot(
        title,
        [
          { label: "memory (RSS), MiB", series: memory },
          { label: "files, MiB", series: disk },
        ],
        "seconds",
      ),
    );
  }
} finally {
  await processes.end();
  proxy.refuse();
}

function mibOf(bytes: number | undefined): number | undefined {
  return bytes === undefined ? undefined : Math.round(bytes / MIB);
}

/** The most of the second quarter and of the last one: flat where they are about the same. */
function growthOf(points: Series["points"]): object {
  const most = (from: number, to: number): number =>
    Math.max(...points.slice(Math.floor(points.length * from), Math.ceil(points.length * to)).map(([, y]) => y));
  return { secondQuarterMib: Math.round(most(0.25, 0.5)), lastQuarterMib: Math.round(most(0.75, 1)) };
}
