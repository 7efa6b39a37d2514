/**
 * A bare grpc-js unary echo with a codec written by hand: what a call costs before anything is done in it. It imports nothing of ours.
 * Runs as a child of the benchmark: it says its address, and answers every message with the CPU time it has used.
 */
import { Server, ServerCredentials, type ServerUnaryCall, type ServiceDefinition, type sendUnaryData } from "@grpc/grpc-js";

/** The smallest message that carries anything: `message Echo { uint32 value = 1; }`. */
const FIELD = 0x08;

const echoService: ServiceDefinition = {
  echo: {
    path: "/bench.Echo/Echo",
    requestStream: false,
    responseStream: false,
    requestSerialize: encode,
    requestDeserialize: decode,
    responseSerialize: encode,
    responseDeserialize: decode,
  },
};

const server = new Server();
server.addService(echoService, {
  echo: (call: ServerUnaryCall<number, number>, reply: sendUnaryData<number>) => reply(null, call.request),
});
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error;
  process.send?.({ address: `127.0.0.1:${port}` });
});

process.on("message", () => {
  const { user, system } = process.cpuUsage();
  process.send?.({ cpuUs: user + system, flushes: 0 });
});
process.on("disconnect", () => process.exit());

function encode(value: number): Buffer {
  const bytes = [FIELD];
  let rest = value >>> 0;
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

function decode(bytes: Buffer): number {
  if (bytes[0] !== FIELD) throw new TypeError("not an echo");
  let value = 0;
  for (let at = 1, shift = 0; at < bytes.length; at++, shift += 7) {
    const byte = bytes[at] ?? 0;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value >>> 0;
  }
  throw new TypeError("the echo is cut off");
}
