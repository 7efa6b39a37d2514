/** The other end of a raw grpc-js stream: sends as many bytes as it is asked for, in messages of one size. Says its port on stdout. */
import * as grpc from "@grpc/grpc-js";

const identity = (bytes: Buffer): Buffer => bytes;
export const STREAM = {
  send: {
    path: "/bench.Raw/Send",
    requestStream: false,
    responseStream: true,
    ...{ requestSerialize: identity, requestDeserialize: identity, responseSerialize: identity, responseDeserialize: identity },
  },
} satisfies grpc.ServiceDefinition;
export const MESSAGE_BYTES = 256 * 1024;

if (process.argv[2] === "serve") {
  const server = new grpc.Server();
  server.addService(STREAM, {
    send: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
      let left = Number(call.request.toString());
      const message = Buffer.alloc(MESSAGE_BYTES, 7);
      const write = (): void => {
        for (; left > 0; left -= MESSAGE_BYTES) {
          if (!call.write(message)) {
            left -= MESSAGE_BYTES;
            call.once("drain", write);
            return;
          }
        }
        call.end();
      };
      write();
    },
  });
  server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (_, port) => process.stdout.write(`${port}\n`));
  process.on("disconnect", () => process.exit());
}
