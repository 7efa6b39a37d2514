/**
 * A bare grpc-js unary echo with a codec written by hand: what a call costs before anything is done in it. It imports nothing of ours.
 * Runs as a child of the benchmark: it says its address, and answers every message with the CPU time it has used.
 */
import { type MethodDefinition, Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { decodeNumbers, encodeNumbers } from "./numbers.ts";

type Numbers = readonly number[];

const server = new Server();
server.addService(
  {
    /** The smallest message that carries anything: `message Echo { uint32 value = 1; }`. */
    echo: method("/bench.Echo/Echo"),
    /** `message Ask { uint32 count = 1; }`, `message Grant { uint64 physical_ms = 1; uint32 logical_start = 2; uint32 count = 3; }`. */
    grant: method("/bench.Echo/Grant"),
  },
  {
    echo: (call: ServerUnaryCall<Numbers, Numbers>, reply: sendUnaryData<Numbers>) => reply(null, call.request),
    grant: (call: ServerUnaryCall<Numbers, Numbers>, reply: sendUnaryData<Numbers>) => reply(null, grant(call.request[0] ?? 0)),
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

function method(path: string): MethodDefinition<Numbers, Numbers> {
  return {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: encodeNumbers,
    requestDeserialize: decodeNumbers,
    responseSerialize: encodeNumbers,
    responseDeserialize: decodeNumbers,
  };
}

let physicalMs = 0;
let logical = 0;

/** `count` numbers that go up: of the clock where it went on, else of where the last ones ended. */
function grant(count: number): Numbers {
  const now = Date.now();
  if (now > physicalMs) {
    physicalMs = now;
    logical = 0;
  } else if (logical + count > 2 ** 18) {
    physicalMs += 1;
    logical = 0;
  }
  const start = logical;
  logical += count;
  return [physicalMs, start, count];
}
