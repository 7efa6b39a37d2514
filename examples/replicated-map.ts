/**
 * A map that survives the loss of any one of its three processes: a state machine of a few lines, a `PaxosNode` under it, a small gRPC service in front.
 *
 *     npx tsx examples/replicated-map.ts                          starts three nodes, kills the leader with SIGKILL, and shows that nothing is lost
 *     npx tsx examples/replicated-map.ts NODE PEERS LISTEN DIR    one node: PEERS is 1=HOST:PORT,2=HOST:PORT,3=HOST:PORT, the same for all
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { grpcTransport, openWal, PaxosNode, SnapshotMap, type StateMachine } from "tsoracle";

const json = {
  to: (value: unknown): Buffer => Buffer.from(JSON.stringify(value)),
  from: (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()),
};

/** What is replicated. It sees the same commands in the same order on every node, so it is the same everywhere. */
class MapMachine implements StateMachine {
  map = new SnapshotMap<string, string>();

  apply(command: Uint8Array): Uint8Array {
    const { key, value } = json.from(command);
    this.map.set(key, value);
    return json.to({ size: this.map.size });
  }

  capture() {
    const frozen = this.map.freeze(); // as of now, whatever is applied while it is written down
    function* chunks() {
      for (const entry of frozen) yield json.to(entry);
    }
    return { chunks, release: () => frozen.release() };
  }

  stage() {
    const map = new SnapshotMap<string, string>();
    const write = (chunk: Uint8Array): void => void map.set(...(json.from(chunk) as [string, string]));
    const install = (): void => void Object.assign(this, { map });
    return { write, finish: () => ({ install, discard: () => undefined }), discard: () => undefined };
  }
}

const method = (path: string) => ({
  ...{ path, requestStream: false, responseStream: false },
  ...{ requestSerialize: json.to, requestDeserialize: json.from, responseSerialize: json.to, responseDeserialize: json.from },
});
const service = { put: method("/example.Map/Put"), get: method("/example.Map/Get") } satisfies grpc.ServiceDefinition;

/** One node. It ends with 1 when it must not go on: a disk that failed, a directory of another cluster. */
async function serve(id: number, peers: string, listen: string, directory: string): Promise<void> {
  const machine = new MapMachine();
  const own = new Map(peers.split(",").map((peer) => peer.split("=") as [string, string])).get(`${id}`) ?? "";
  const storage = await openWal({ directory, node: id });
  const node = await PaxosNode.start({ storage, machine, peers, transport: grpcTransport({ listen: own }) });

  const server = new grpc.Server();
  server.addService(service, {
    // Decided by a majority, and on its disks, when the answer leaves.
    put: async ({ request }: grpc.ServerUnaryCall<object, object>, reply: grpc.sendUnaryData<object>) => {
      const outcome = await node.propose(json.to(request));
      if (outcome.type === "applied") return reply(null, json.from(outcome.result));
      const code = outcome.type === "unknown" ? grpc.status.UNKNOWN : grpc.status.UNAVAILABLE; // unknown: it may still happen
      reply({ code, details: outcome.reason });
    },
    // From any node: the barrier waits until everything that was decided before the call is applied here.
    get: async ({ request }: grpc.ServerUnaryCall<{ key: string }, object>, reply: grpc.sendUnaryData<object>) => {
      await node.barrier().then(
        () => reply(null, { value: machine.map.get(request.key) }),
        (error: Error) => reply({ code: grpc.status.UNAVAILABLE, details: error.message }),
      );
    },
  });
  await new Promise((resolve) => server.bindAsync(listen, grpc.ServerCredentials.createInsecure(), resolve));
  console.log(`node ${id} serves on ${listen}`);
  for await (const { role } of node.leadership()) if (role === "leader") console.log("leads");
  await node.done.catch((fault: Error) => console.error(fault.message));
  process.exit(1);
}

/** Asks the nodes in turn until one answers. A Put may be asked again whatever happened: it is the same twice. */
function client(addresses: readonly string[]) {
  const Client = grpc.makeClientConstructor(service, "Map");
  const clients = addresses.map((address) => new Client(address, grpc.credentials.createInsecure(), { "grpc.max_reconnect_backoff_ms": 200 }));
  let next = 0;
  return async (name: "put" | "get", request: object): Promise<{ value?: string; size?: number }> => {
    for (const endsAt = Date.now() + 30_000; ; next++) {
      const node = clients[next % clients.length];
      const { error, answer } = await new Promise<{ error: grpc.ServiceError | null; answer: object }>((resolve) => {
        node?.[name]?.(request, { deadline: Date.now() + 2_000 }, (failed: grpc.ServiceError | null, value: object) =>
          resolve({ error: failed, answer: value }),
        );
      });
      if (error === null) return answer;
      if (Date.now() > endsAt) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10)); // an election takes a moment
    }
  };
}

async function demo(): Promise<void> {
  const root = mkdtempSync(`${tmpdir()}/replicated-map-`);
  const [peerPorts, ports] = [await freePorts(3), await freePorts(3)];
  const peers = peerPorts.map((port, index) => `${index + 1}=127.0.0.1:${port}`).join(",");
  const nodes: ChildProcess[] = [];
  let leader = 0;
  const start = (index: number): void => {
    const args = ["--import", "tsx", fileURLToPath(import.meta.url), String(index + 1), peers, `127.0.0.1:${ports[index]}`, `${root}/${index + 1}`];
    const node = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    node.stdout?.on("data", (text: Buffer) => {
      if (text.includes("leads")) leader = index;
    });
    nodes[index] = node;
  };
  for (const index of [0, 1, 2]) start(index);
  const ask = client(ports.map((port) => `127.0.0.1:${port}`));

  for (let count = 1; count <= 100; count++) await ask("put", { key: `key ${count}`, value: `value ${count}` });
  console.log("100 keys put; node", leader + 1, "leads: kill -9");
  const killed = leader;
  nodes[killed]?.kill("SIGKILL");
  for (let count = 101; count <= 200; count++) await ask("put", { key: `key ${count}`, value: `value ${count}` });
  console.log("100 more put; node", leader + 1, "leads now");
  start(killed);
  let missing = 0;
  for (const one of ports.map((port) => client([`127.0.0.1:${port}`]))) {
    for (let count = 1; count <= 200; count++) if ((await one("get", { key: `key ${count}` })).value !== `value ${count}`) missing++;
  }
  console.log(`each of the 3 nodes asked for each of the 200 keys: ${missing} missing`);

  for (const node of nodes) node.kill("SIGKILL");
  await Promise.all(nodes.map((node) => node.exitCode ?? node.signalCode ?? once(node, "exit")));
  rmSync(root, { recursive: true });
  process.exit(missing === 0 ? 0 : 1);
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

const [id, peers = "", listen = "", directory = ""] = process.argv.slice(2);
await (id === undefined ? demo() : serve(Number(id), peers, listen, directory));
