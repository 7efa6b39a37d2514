/** Calls below gRPC: any bytes in a stream, any bytes on the socket. */
import { once } from "node:events";
import {
  type ClientHttp2Session,
  connect,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
} from "node:http2";
import { connect as connectSocket, type Socket } from "node:net";

/** How a stream ended: `grpcStatus` is absent where it was reset or was not gRPC's. */
export interface Ended {
  readonly httpStatus: number | undefined;
  readonly grpcStatus: number | undefined;
  readonly message: string | undefined;
}

export interface Exchange {
  readonly path: string;
  readonly body: readonly Uint8Array[];
  readonly headers?: OutgoingHttpHeaders;
}

export async function openSession(address: string): Promise<ClientHttp2Session> {
  const session = connect(`http://${address}`);
  await once(session, "connect");
  session.on("error", () => undefined); // a server may end a session that misbehaves: whoever cares waits for "close"
  return session;
}

/** Sends a request as it stands, and ends it. */
export function exchange(session: ClientHttp2Session, { path, body, headers }: Exchange): Promise<Ended> {
  return new Promise((resolve) => {
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers", ...headers });
    let answered: IncomingHttpHeaders & IncomingHttpStatusHeader = {};
    let trailers: IncomingHttpHeaders = {};
    stream.on("response", (received) => {
      answered = received;
    });
    stream.on("trailers", (received) => {
      trailers = received;
    });
    stream.on("error", () => undefined);
    stream.on("close", () => {
      const of = (name: string): string | undefined =>
        [answered[name], trailers[name]].find((value) => typeof value === "string") as string | undefined;
      const status = of("grpc-status");
      const message = of("grpc-message");
      resolve({
        httpStatus: answered[":status"],
        grpcStatus: status === undefined ? undefined : Number(status),
        message: message === undefined ? undefined : decodeURIComponent(message),
      });
    });
    stream.resume();
    for (const part of body) stream.write(part);
    stream.end();
  });
}

/** Opens a call, sends the beginning of a message and cancels it. */
export function openAndReset(session: ClientHttp2Session, path: string): void {
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" });
  stream.on("error", () => undefined);
  stream.write(Buffer.from([0, 0, 0]));
  stream.close(constants.NGHTTP2_CANCEL);
}

/** A gRPC message: a flag, four bytes of length, and the bytes. Either of the first two may lie. */
export function grpcFrame(
  message: Uint8Array,
  { flag = 0, length = message.length }: { readonly flag?: number; readonly length?: number } = {},
): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flag);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, message]);
}

/** A connection on which nothing has been said. */
export async function openSocket(address: string): Promise<Socket> {
  const colon = address.lastIndexOf(":");
  const socket = connectSocket(Number(address.slice(colon + 1)), address.slice(0, colon));
  await once(socket, "connect");
  socket.on("error", () => undefined); // a reset is an answer too
  return socket;
}
