/**
 * Leadership moves away and comes back, the clock goes backwards meanwhile, and timestamps go on rising: the fence seen from a client. The leadership
 * is scripted, so the demo is the same on every machine.
 *
 *     npx tsx examples/failover-demo.ts
 */
import { epoch, memoryDriver } from "tsoracle";
import { OracleServer } from "tsoracle/server";
import { packed, rawClient } from "./raw-client.ts";

let clockMs = Date.parse("2026-01-01T00:00:00Z");
const driver = memoryDriver({ leads: false });
const server = await OracleServer.start({ driver, listen: "127.0.0.1:0", clock: () => clockMs });
const client = rawClient(server.address ?? "");
const seen: bigint[] = [];

console.log("nobody leads:            ", await timestamp());

driver.lead(epoch(1n));
await until("serving");
console.log("this node leads, epoch 1:", await timestamp());
console.log("                         ", await timestamp());

driver.follow({ epoch: epoch(2n), endpoint: "10.0.0.2:50551" });
await until("not-serving");
console.log("another node leads:      ", await timestamp());

clockMs -= 60_000;
driver.lead(epoch(3n));
await until("serving");
console.log("it leads again, epoch 3, its clock a minute behind:");
console.log("                         ", await timestamp());
clockMs += 3_600_000;
console.log("the clock jumps an hour: ", await timestamp());

const rising = seen.every((each, index) => index === 0 || each > (seen[index - 1] ?? 0n));
if (!rising || seen.length !== 4) throw new Error(`timestamps must rise: ${seen.join(", ")}`);
console.log(`${seen.length} timestamps, each above the one before`);

client.close();
await server.close();
await driver.close();

async function timestamp(): Promise<string> {
  try {
    const reply = await client.call("getTs", { count: 1 });
    seen.push(packed(reply));
    return `timestamp ${packed(reply)} (${new Date(Number(reply["physicalMs"])).toISOString()})`;
  } catch (error) {
    return `refused: ${error instanceof Error ? error.message : String(error)}`;
  }
}

async function until(type: "serving" | "not-serving"): Promise<void> {
  for await (const state of server.states()) if (state.type === type) return;
}
