/**
 * A bare bidirectional stream of grpc-js that sends back what it gets. Runs as a child of the benchmark: it says its address once it serves.
 *
 *     node --import tsx bench/baseline/stream-echo.ts
 */
import { Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";

const identity = (bytes: Buffer): Buffer => bytes;

const server = new Server();
server.addService(
  {
    Stream: {
      path: "/bench.Echo/Stream",
      requestStream: true,
      responseStream: true,
      requestSerialize: identity,
      requestDeserialize: identity,
      responseSerialize: identity,
      responseDeserialize: identity,
    },
  },
  {
    Stream: (call: ServerDuplexStream<Buffer, Buffer>) => {
      call.on("data", (bytes) => call.write(bytes));
      call.on("end", () => call.end());
    },
  },
);
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error;
  process.send?.({ address: `127.0.0.1:${port}` });
});
process.on("message", () => {
  const { user, system } = process.cpuUsage();
  process.send?.({ cpuUs: user + system, flushes: 0 });
});
process.on("disconnect", () => process.exit());
