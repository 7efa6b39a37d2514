/**
 * The replicated log beside etcd, and beside what a write costs at least. Three nodes are three processes, whose pids are printed. Both sides of a ratio alternate in one run, called by
 * the same client code in this process. JSON lines on stdout; `bench/README.md` says what each means.
 *
 *     npm run bench:log -- --only put --rounds 3
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type BenchCluster, clusterCpuUs, freePorts, startEtcd, startMap } from "./clusters.ts";
import { FloorCaller } from "./floor.ts";
import { ETCD_PUT, MAP_PUT } from "./puts.ts";
import { type Method, RawCaller } from "./raw-caller.ts";
import { type Bench, type Part, type Place, runBenches } from "./rounds.ts";
import { type Child, type Served, start, startChild } from "./served.ts";
import { type Load, type RunFigures, type Side, servedSide } from "./sides.ts";

type SideName = "etcd" | "map" | "floor" | "propose";

const put = (callers: number): [Part<SideName>, Part<SideName>] => [
  { side: "etcd", callers },
  { side: "map", callers },
];
const propose = (callers: number): [Part<SideName>] => [{ side: "propose", callers }];

const BENCHES: readonly Bench<SideName>[] = [
  { name: "put-1", parts: put(1), aim: { figure: "p50Us", atMost: 1 } },
  { name: "put-64", parts: put(64) },
  { name: "put-256", parts: put(256), aim: { figure: "perSecond", atLeast: 1 } },
  {
    name: "commit-1",
    parts: [
      { side: "floor", callers: 1 },
      { side: "propose", callers: 1 },
    ],
    aim: { figure: "p50Us", atMost: 3 },
  },
  { name: "propose-64", parts: propose(64) },
  { name: "propose-1024", parts: propose(1_024) },
];

await runBenches(BENCHES, openSide);

async function openSide(side: SideName, { directory, profile }: Place): Promise<Side | undefined> {
  switch (side) {
    case "etcd": {
      const cluster = await startEtcd(directory);
      return cluster && clusterSide(cluster, ETCD_PUT);
    }
    case "map":
      return clusterSide(await startMap(directory), MAP_PUT);
    case "floor":
      mkdirSync(directory);
      return servedSide(
        "entries",
        await start({ script: "baseline/stream-echo.ts" }),
        (address) => new FloorCaller(address, join(directory, "file")),
      );
    case "propose":
      return proposeSide(directory, profile);
    default:
      throw new RangeError(`no side is called ${side}`);
  }
}

async function clusterSide(cluster: BenchCluster, method: Method): Promise<Side> {
  const leader = cluster.nodes[await cluster.leader()];
  const served: Served = {
    address: leader?.address ?? "",
    counters: async () => ({ cpuUs: clusterCpuUs(cluster), flushes: 0 }),
    close: () => cluster.close(),
  };
  return servedSide("rpc", served, (address) => new RawCaller(address, method));
}

/** Proposals in the leader's own process. */
async function proposeSide(directory: string, profile: string | undefined): Promise<Side> {
  const ports = await freePorts(3);
  const peers = ports.map((port, index) => `${index + 1}=127.0.0.1:${port}`).join(",");
  mkdirSync(directory);
  const nodes: readonly Child<{ readonly leads: boolean }>[] = await Promise.all(
    [1, 2, 3].map((id) =>
      startChild<{ readonly leads: boolean }>({ script: "log-node.ts", args: [String(id), peers, join(directory, String(id))], profile }),
    ),
  );
  const leader = nodes.find(({ first }) => first.leads);
  if (leader === undefined) throw new Error("the leader was another one before all had heard of it");
  const load = async (asked: Load): Promise<RunFigures> => leader.ask<RunFigures>(asked);
  await load({ callers: 64, seconds: 2 });
  return {
    unit: "entries",
    measure: async (asked) => {
      await load({ ...asked, seconds: asked.seconds / 4 });
      const { calls, seconds, p50Us, p99Us } = await load(asked);
      return { perSecond: calls / seconds, p50Us, p99Us, flushesPerRequest: Number.NaN, otherCores: Number.NaN };
    },
    close: async () => {
      for (const node of nodes) await node.close();
    },
  };
}
