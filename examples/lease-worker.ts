/** A worker that stamps its records under a lease, until another worker of its name takes over. Run: npx tsx examples/lease-worker.ts */
import { memoryDriver } from "tsoracle";
import { type HeldLease, OracleClient, OracleError } from "tsoracle/client";
import { OracleServer } from "tsoracle/server";

const driver = memoryDriver();
const server = await OracleServer.start({ driver, listen: "127.0.0.1:0", heartbeatMs: 0 });
const client = OracleClient.connect([server.address ?? ""]);
const records: string[] = [];

/** Writes a record every 200 ms for as long as its lease is its own. */
async function work(name: string, lease: HeldLease, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    lease.assertHeld(); // right before what counts on it
    records.push(`${name}: up to ${lease.upperBoundMs}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

const first = client.withLease("indexer", { ttlMs: 5_000 }, async (lease) => {
  console.log("first: holds the lease");
  await work("first", lease, 1_000);
});
await new Promise((resolve) => setTimeout(resolve, 500));

await client.withLease("indexer", { ttlMs: 5_000 }, async (lease) => {
  console.log("second: has taken over");
  await first.catch((error: unknown) => {
    if (!(error instanceof OracleError)) throw error;
    console.log(`first: ${error.code}, at its next renewal`);
  });
  await work("second", lease, 2);
});

const { physicalMs } = await client.getSafeFrontier();
console.log(`both wrote: ${["first", "second"].every((name) => records.some((record) => record.startsWith(name)))}`);
console.log(`the frontier lies ahead of the clock: ${physicalMs > Date.now()}`);
await client.close();
await server.close();
await driver.close();
