/**
 * The smallest program on a `PaxosNode`: a log of one node, and a counter that is nowhere but in it. Started again on the same directory it goes on where it was, whatever
 * ended it; two more nodes, and it would survive the loss of any one of them (see replicated-map.ts).
 *
 *     npx tsx examples/single-node.ts              on a directory of its own, which is removed at the end
 *     npx tsx examples/single-node.ts DIRECTORY    on yours: run it twice
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { MemoryNetwork, openWal, PaxosNode, type StateMachine } from "tsoracle";

/** What is replicated: it sees the same commands in the same order after every start. */
class Counter implements StateMachine {
  count = 0;

  apply(command: Uint8Array): Uint8Array {
    this.count += command[0] ?? 0;
    return Buffer.from(`${this.count}`);
  }

  // Snapshots: of a state as small as this one, a line.
  capture() {
    const frozen = Buffer.from(`${this.count}`);
    return { chunks: () => [frozen], release: () => undefined };
  }

  stage() {
    let count = 0;
    const install = (): void => {
      this.count = count;
    };
    const discard = (): void => undefined;
    const write = (chunk: Uint8Array): void => {
      count = Number(Buffer.from(chunk));
    };
    return { write, finish: () => ({ install, discard }), discard };
  }
}

async function run(directory: string): Promise<void> {
  const counter = new Counter();
  const storage = await openWal({ directory, node: 1 });
  // One node has no peers to speak with: a network within the process will do. Several would have `grpcTransport({ listen })`.
  const network = new MemoryNetwork();
  const node = await PaxosNode.start({
    storage,
    machine: counter,
    peers: "1=alone:1",
    init: true, // a list of one forms a cluster only when told to: a directory that was lost must not become an empty cluster
    transport: async (claim, receiver) => network.open({ claim, receiver, address: "alone:1" }),
  });
  for await (const { role } of node.leadership()) if (role === "leader") break;

  await node.barrier(); // everything that was decided before is applied here
  console.log(`start ${storage.boot} on this directory: the counter stands at ${counter.count}`);
  for (const amount of [1, 2, 3]) {
    const outcome = await node.propose(Buffer.of(amount));
    if (outcome.type !== "applied") throw new Error(`${amount} is ${outcome.type}: ${outcome.reason}`); // "unknown": it may still be applied
    console.log(`plus ${amount} is entry ${outcome.slot}, durable, and makes ${Buffer.from(outcome.result)}`);
  }
  await node.close();
}

const [given] = process.argv.slice(2);
const directory = given ?? mkdtempSync(`${tmpdir()}/single-node-`);
await run(directory);
await run(directory); // as after a crash: nothing but the directory is left
if (given === undefined) rmSync(directory, { recursive: true });
