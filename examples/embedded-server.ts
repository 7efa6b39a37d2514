/**
 * An oracle inside an application's own gRPC server, its state in a directory. It is restarted once: nothing that was acknowledged is lost.
 *
 *     npx tsx examples/embedded-server.ts
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { fileDriver } from "tsoracle";
import { OracleServer } from "tsoracle/server";
import { packed, rawClient } from "./raw-client.ts";

const directory = await mkdtemp(join(tmpdir(), "tsoracle-embedded-"));
let last = 0n;

for (const start of ["first", "second"]) {
  const driver = await fileDriver({ directory });
  const oracle = await OracleServer.start({ driver });

  const host = new Server(); // the application's own, with its own services beside ours
  oracle.attach(host);
  const port = await listen(host);
  for await (const state of oracle.states()) if (state.type === "serving") break;

  const client = rawClient(`127.0.0.1:${port}`);
  const timestamp = packed(await client.call("getTs", { count: 1 }));
  const block = await client.call("getSeq", { key: "invoices", count: 3 });
  console.log(`${start} start: timestamp ${timestamp}, invoices from ${block["start"]} on`);
  if (timestamp <= last) throw new Error("a timestamp went back");
  last = timestamp;

  client.close();
  await oracle.close();
  host.forceShutdown();
  await driver.close();
}
await rm(directory, { recursive: true });

function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => (error === null ? resolve(port) : reject(error)));
  });
}
