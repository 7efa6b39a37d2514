/**
 * What snapshots cost: the pause of `capture()` and the memory with an oracle of many keys, while it goes on; the start that begins with one; and how fast one gets to another node, beside a
 * raw grpc-js stream in the same run. JSON lines on stdout; `bench/README.md` says what each means.
 *
 *     npm run bench:snapshots -- --keys 1000000 --entries 100000 --mib 256
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Client, credentials } from "@grpc/grpc-js";
import type { Epoch } from "../src/base/epoch.ts";
import { commandCodec } from "../src/oracle/rules/codec.ts";
import { OracleMachine } from "../src/oracle/rules/machine.ts";
import { PaxosNode } from "../src/paxos/node.ts";
import { openWal } from "../src/paxos/storage/wal.ts";
import { MemoryNetwork } from "../src/paxos/transport/memory.ts";
import { type LogProcess, LogProcesses } from "../test/support/log-processes.ts";
import { freePorts } from "../test/support/map-cluster.ts";
import { median } from "./figures.ts";
import { MESSAGE_BYTES, STREAM } from "./snapshot-stream.ts";

const { values } = parseArgs({
  options: { keys: { type: "string", default: "1000000" }, entries: { type: "string", default: "100000" }, mib: { type: "string", default: "256" } },
});
const [keys, entries, mib] = [Number(values.keys), Number(values.entries), Number(values.mib)];
const MIB = 1024 * 1024;
const KEYS_AT_ONCE = 1_000;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

function say(line: string, fields: object): void {
  console.log(JSON.stringify({ line, ...fields }));
}
const round = (value: number): number => Number(value.toPrecision(3));
const memoryMib = (): number => {
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / MIB;
};

/** Tells how long `capture` took. */
class TimedMachine extends OracleMachine {
  captureMs: number[] = [];

  override capture() {
    const began = performance.now();
    const view = super.capture();
    this.captureMs.push(performance.now() - began);
    return view;
  }
}

const LIMITS = { maxKeys: 1_000_000, maxKeyBytes: 128, maxCount: 1_000, maxBatchKeys: KEYS_AT_ONCE, maxLeases: 1_000, maxHolderBytes: 128 };

async function startNode(directory: string, machine: OracleMachine): Promise<PaxosNode> {
  const storage = await openWal({ directory, node: 1 });
  // Snapshots by bytes of log alone, and rarely: the one that is looked at is due when everything is there.
  return PaxosNode.start({
    ...{
      storage,
      machine,
      peers: "1=one:1",
      init: true,
      core: { snapshotEntries: keys / KEYS_AT_ONCE + 100, snapshotBytes: 2 ** 39, electionTicks: 50 },
    },
    transport: async (claim, receiver) => new MemoryNetwork().open({ claim, receiver, address: "one:1" }),
  });
}

async function lead(node: PaxosNode): Promise<Epoch> {
  for await (const leadership of node.leadership()) if (leadership.role === "leader") return leadership.epoch;
  throw new Error("the node has stopped");
}

async function propose(node: PaxosNode, command: Parameters<typeof commandCodec.encode>[0]): Promise<void> {
  const outcome = await node.propose(commandCodec.encode(command));
  if (outcome.type !== "applied") throw new Error(`a command was ${outcome.type}: ${outcome.reason}`);
}

const grant = (from: number, count: number) => ({
  type: "sequence" as const,
  groups: [Array.from({ length: count }, (_, at) => ({ key: `invoice/customer-${from + at}`, count: 1 }))],
});

async function oracle(directory: string): Promise<void> {
  const machine = new TimedMachine();
  const node = await startNode(directory, machine);
  const epoch = await lead(node);
  await propose(node, { type: "take-over", epoch, now: 1_700_000_000_000, failoverAdvanceMs: 1_000, maxClockJumpMs: 2 ** 40, limits: LIMITS });
  for (let from = 0; from < keys; from += KEYS_AT_ONCE) await propose(node, grant(from, KEYS_AT_ONCE));
  collect();
  const before = memoryMib();
  // One key at a time from here on: the snapshot is due after a hundred of them.
  const loop = monitorEventLoopDelay({ resolution: 1 });
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, memoryMib());
  }, 2);
  let asked = 0;
  const ask = async (): Promise<void> => {
    await propose(node, grant((asked * 7_919) % keys, 1));
    asked += 1;
  };
  while (machine.captureMs.length === 0) await ask();
  loop.enable();
  const began = performance.now();
  const askedBefore = asked;
  while (node.status().snapshot === undefined) await ask();
  const seconds = (performance.now() - began) / 1000;
  loop.disable();
  clearInterval(watch);
  const { snapshot } = node.status();
  say("capture", {
    keys,
    pauseMs: round(Math.max(...machine.captureMs)),
    aimMs: 10,
    memoryMib: round(before),
    memoryMibMost: round(most),
    memoryRatio: round(most / before),
    aimRatio: 1.3,
    writtenAfterSeconds: round(seconds),
    snapshotMib: round((snapshot?.bytes ?? 0) / MIB),
    entriesMeanwhile: asked - askedBefore,
    loopDelayMostMs: round(loop.max / 1e6),
    loopDelayP99Ms: round(loop.percentile(99) / 1e6),
  });
  const pending: Promise<void>[] = [];
  for (let entry = 0; entry < entries; entry++) {
    pending.push(ask());
    if (pending.length >= 1_000) await Promise.all(pending.splice(0));
  }
  await Promise.all(pending);
  await node.close();
}

async function restart(directory: string): Promise<void> {
  const began = performance.now();
  const storage = await openWal({ directory, node: 1 });
  const opened = performance.now();
  await storage.close();
  const machine = new OracleMachine();
  const startedAt = performance.now();
  const node = await startNode(directory, machine);
  await lead(node);
  await node.barrier();
  const ready = performance.now();
  const { appliedThrough, snapshot } = node.status();
  say("restart", {
    keys: machine.state.sequenceCount,
    entriesAfterSnapshot: (appliedThrough ?? 0) - (snapshot?.slot ?? 0),
    openMs: Math.round(opened - began),
    openRestoreApplyAndLeadMs: Math.round(ready - startedAt),
  });
  await node.close();
}

async function transfer(): Promise<void> {
  const child = spawn(process.execPath, ["--import", "tsx", fileURLToPath(new URL("./snapshot-stream.ts", import.meta.url)), "serve"], {
    stdio: ["ignore", "pipe", "inherit", "ipc"],
  });
  const [port] = (await once(child.stdout ?? child, "data")) as [Buffer];
  const client = new Client(`127.0.0.1:${port.toString().trim()}`, credentials.createInsecure(), {
    "grpc.max_receive_message_length": 2 * MESSAGE_BYTES,
  });
  const raw = async (): Promise<number> => {
    const began = performance.now();
    let bytes = 0;
    const { path, requestSerialize, responseDeserialize } = STREAM.send;
    const stream = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, Buffer.from(String(mib * MIB)));
    for await (const message of stream) bytes += (message as Buffer).length;
    return bytes / MIB / ((performance.now() - began) / 1000);
  };
  const processes = new LogProcesses(10 * 60_000);
  try {
    const ports = await freePorts(3);
    const peers = ports.map((each, index) => `${index + 1}=127.0.0.1:${each}`).join(",");
    const start = (node: number): LogProcess =>
      processes.start({
        ...{ node, peers, listen: `127.0.0.1:${ports[node - 1]}`, directory: processes.directory(node) },
        core: { snapshotEntries: 100, cacheBytes: MIB, snapshotBytesPerSecond: 2 ** 40 },
      });
    const nodes = [1, 2, 3].map(start);
    const leader = await processes.until("one of them leads", () => nodes.find(({ leads }) => leads));
    const index = nodes.findIndex((node) => node !== leader);
    await processes.apply(nodes, "before");
    await nodes[index]?.kill();
    for (let filled = 0; filled < mib; filled += 16) await processes.apply(nodes, "fill 16");
    while ((await leader.status()).compactedThrough === 0) await processes.apply(nodes, `x and ${"y".repeat(3 * MIB)}`);
    const raws = [await raw(), await raw()];
    const again = start(index + 1);
    const { bytes, ms } = await processes.until(
      "it has come",
      () => again.said(/^a snapshot has come/) as { readonly bytes: number; readonly ms: number } | undefined,
    );
    await processes.until("it is installed", () => again.said(/^a snapshot was installed$/));
    raws.push(await raw());
    const [speed, rawSpeed] = [bytes / MIB / (ms / 1000), median(raws)];
    say("transfer", { mib, mibPerSecond: round(speed), rawMibPerSecond: raws.map(round), ratio: round(speed / rawSpeed), aimRatio: 0.6 });
  } finally {
    await processes.end();
    client.close();
    child.disconnect();
    await delay(10);
  }
}

const directory = mkdtempSync(join(tmpdir(), "tsoracle-bench-"));
try {
  await transfer();
  await oracle(directory);
  await restart(directory);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
