/** Clusters of three processes on this machine, for the benches that put a replicated log beside another. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export interface ClusterNode {
  readonly name: string;
  /** Where clients ask. */
  readonly address: string;
  readonly process: ChildProcess;
}

export interface BenchCluster {
  readonly nodes: readonly ClusterNode[];
  /** Index of the node that leads, once one does; of the one that said so last. */
  leader(): Promise<number>;
  /** Starts a node again that was killed. */
  restart(index: number): void;
  close(): Promise<void>;
}

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const NODES = [0, 1, 2];

/** `examples/replicated-map.ts`, three times. */
export async function startMap(directory: string): Promise<BenchCluster> {
  const ports = await freePorts(6);
  const peers = NODES.map((index) => `${index + 1}=127.0.0.1:${ports[index]}`).join(",");
  const leads = { index: -1 };
  const start = (index: number): ClusterNode => {
    const address = `127.0.0.1:${ports[index + 3]}`;
    const args = ["--import", "tsx", join(ROOT, "examples/replicated-map.ts"), String(index + 1), peers, address, join(directory, String(index + 1))];
    const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      if (text.includes("leads")) leads.index = index;
    });
    return { name: `map-${index + 1}`, address, process: child };
  };
  mkdirSync(directory, { recursive: true });
  return clusterOf("replicated-map", start, async () => {
    while (leads.index < 0) await delay(5);
    return leads.index;
  });
}

/** Debian's, with its defaults. @returns undefined, with a message, where it cannot be had. */
export async function startEtcd(directory: string): Promise<BenchCluster | undefined> {
  if (!hasEtcd()) return undefined;
  const ports = await freePorts(6);
  const cluster = NODES.map((index) => `etcd-${index + 1}=http://127.0.0.1:${ports[index]}`).join(",");
  const isNew = new Set(NODES);
  mkdirSync(directory, { recursive: true });
  const start = (index: number): ClusterNode => {
    const [peer, client] = [`http://127.0.0.1:${ports[index]}`, `http://127.0.0.1:${ports[index + 3]}`];
    const name = `etcd-${index + 1}`;
    const args = [
      ...["--name", name, "--data-dir", join(directory, name), "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
      ...["--listen-client-urls", client, "--advertise-client-urls", client, "--initial-cluster", cluster],
      ...["--initial-cluster-state", isNew.delete(index) ? "new" : "existing", "--log-level", "error"],
    ];
    const child = spawn("etcd", args, { stdio: ["ignore", "ignore", "ignore"] });
    return { name, address: `127.0.0.1:${ports[index + 3]}`, process: child };
  };
  const endpoints = NODES.map((index) => `127.0.0.1:${ports[index + 3]}`).join(",");
  return clusterOf("etcd", start, () => etcdLeader(endpoints, ports));
}

async function clusterOf(what: string, start: (index: number) => ClusterNode, leader: () => Promise<number>): Promise<BenchCluster> {
  const nodes = NODES.map(start);
  console.log(JSON.stringify({ line: "cluster", what, pids: nodes.map((node) => node.process.pid) }));
  await leader();
  return {
    nodes,
    leader,
    restart: (index) => {
      nodes[index] = start(index);
    },
    close: async () => {
      for (const { process: child } of nodes) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        const ended = once(child, "exit");
        child.kill("SIGKILL");
        await ended;
      }
    },
  };
}

async function etcdLeader(endpoints: string, ports: readonly number[]): Promise<number> {
  for (;;) {
    try {
      const out = execFileSync("etcdctl", ["--endpoints", endpoints, "endpoint", "status", "-w", "json"], {
        env: { ...process.env, ETCDCTL_API: "3" },
        stdio: ["ignore", "pipe", "ignore"],
      }).toString();
      const found: { Endpoint: string; Status: { header: { member_id: number }; leader: number } }[] = JSON.parse(out);
      const leading = found.find(({ Status: { header, leader } }) => leader !== 0 && header.member_id === leader);
      if (leading !== undefined) return NODES.findIndex((index) => leading.Endpoint.endsWith(`:${ports[index + 3]}`));
    } catch {
      // not all of them answer yet
    }
    await delay(50);
  }
}

function hasEtcd(): boolean {
  const path = (process.env["PATH"] ?? "").split(":");
  const isThere = (name: string): boolean => path.some((folder) => existsSync(join(folder, name)));
  if (isThere("etcd") && isThere("etcdctl")) return true;
  try {
    execFileSync("apt-get", ["install", "-y", "-qq", "--no-install-recommends", "etcd-server", "etcd-client"], {
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
      stdio: "ignore",
    });
  } catch {
    console.log(
      JSON.stringify({ line: "skipped", what: "etcd", why: "the packages etcd-server and etcd-client are not here, and cannot be installed" }),
    );
    return false;
  }
  return isThere("etcd") && isThere("etcdctl");
}

/** CPU time of all nodes together, us. The system counts in ticks of 10 ms. */
export function clusterCpuUs({ nodes }: BenchCluster): number {
  return nodes.reduce((sum, { process: child }) => {
    const fields = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return sum + (Number(fields[11]) + Number(fields[12])) * 10_000;
  }, 0);
}

export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
