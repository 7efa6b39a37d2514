/**
 * A node of the log whose host proposes in its own process. Runs as a child of the benchmark: it says whether it leads once somebody does, and answers each load with its figures.
 *
 *     node --import tsx bench/log-node.ts NODE PEERS DIRECTORY
 */
import { grpcTransport, openWal, PaxosNode, type StateMachine } from "tsoracle";
import { percentiles, processCpuUs } from "./figures.ts";
import type { Load, RunFigures } from "./sides.ts";

const ENTRY_BYTES = 100;

const [id = "", peers = "", directory = ""] = process.argv.slice(2);
const counter: StateMachine = {
  apply: (command) => command.subarray(0, 1),
  capture: () => ({ chunks: () => [], release: () => undefined }),
  stage: () => ({ write: () => undefined, finish: () => ({ install: () => undefined, discard: () => undefined }), discard: () => undefined }),
};
const own =
  peers
    .split(",")
    .find((peer) => peer.startsWith(`${id}=`))
    ?.slice(id.length + 1) ?? "";
const storage = await openWal({ directory, node: Number(id) });
const node = await PaxosNode.start({ storage, peers, machine: counter, transport: grpcTransport({ listen: own }) });

process.on("message", async (load: Load) => {
  process.send?.(await run(load));
});
process.on("disconnect", () => process.exit());

for await (const leadership of node.leadership()) {
  if (leadership.role === "unknown") continue;
  process.send?.({ leads: leadership.role === "leader" });
  break;
}

/** `callers` with a proposal each in flight. */
async function run({ callers, seconds }: Load): Promise<RunFigures> {
  const latenciesUs = new Float64Array(Math.ceil(1_000_000 * seconds));
  const cpuUs = processCpuUs();
  const began = performance.now();
  const until = began + seconds * 1000;
  let calls = 0;
  const caller = async (): Promise<void> => {
    for (let before = performance.now(); before < until; ) {
      const outcome = await node.propose(new Uint8Array(ENTRY_BYTES));
      if (outcome.type !== "applied") throw new Error(`a proposal was ${outcome.type}: ${outcome.reason}`);
      const after = performance.now();
      latenciesUs[calls++] = (after - before) * 1000;
      before = after;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  const took = (performance.now() - began) / 1000;
  return { calls, seconds: took, cpuUs: processCpuUs() - cpuUs, ...percentiles(latenciesUs.subarray(0, calls)) };
}
