/** Peer streams over gRPC: one channel, and so one connection, for each stream that is dialled. */
import type { Socket } from "node:net";
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  Metadata,
  type MethodDefinition,
  type Server,
  type ServerDuplexStream,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import { VERSION } from "../../base/version.ts";
import { PeerServiceService } from "../../gen/tsoracle/paxos/v1/peer.ts";
import { withKnownSockets } from "../../grpc/connections.ts";
import { bufferOf, FRAME_BYTES_MAX } from "./frames.ts";
import type { PeerTransportSettings } from "./options.ts";
import type { Accept, PeerStream, StreamEnd, StreamHandler } from "./wire.ts";

/** Streams on one connection: one is used. More are for a peer that opens one before it has ended another. */
const STREAMS_PER_CONNECTION = 4;
/** A connection without a stream is ended after this long, ms. */
const IDLE_CONNECTION_MS = 30_000;

/** Frames are written and read elsewhere: bytes go through as they are. */
const asIs = (bytes: Buffer): Buffer => bytes;
export const connectMethod = {
  ...PeerServiceService.connect,
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
} satisfies MethodDefinition<Buffer, Buffer>;

/** What both ends have in common. */
function commonOptions({ keepaliveMs, keepaliveTimeoutMs }: PeerTransportSettings): ChannelOptions {
  return {
    "grpc.max_receive_message_length": FRAME_BYTES_MAX,
    "grpc.max_send_message_length": FRAME_BYTES_MAX,
    "grpc.keepalive_time_ms": keepaliveMs,
    "grpc.keepalive_timeout_ms": keepaliveTimeoutMs,
    "grpc.enable_channelz": 0,
  };
}

/** Of the channel of one stream. */
export function channelOptions(settings: PeerTransportSettings): ChannelOptions {
  return {
    ...commonOptions(settings),
    "grpc.primary_user_agent": `tsoracle-node/${VERSION}`,
    "grpc.use_local_subchannel_pool": 1, // a connection of its own
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.service_config_disable_resolution": 1, // nobody configures peers through the DNS
    "grpc.enable_http_proxy": 0, // nor the way to them through the environment
    "grpc.enable_retries": 0,
    // Otherwise a stream says that it has room while it keeps a megabyte for a retry that is never made.
    "grpc.per_rpc_retry_buffer_size": 0,
  };
}

export function serverOptions(settings: PeerTransportSettings): ChannelOptions {
  return {
    ...commonOptions(settings),
    "grpc.max_concurrent_streams": STREAMS_PER_CONNECTION,
    "grpc.max_connection_idle_ms": IDLE_CONNECTION_MS,
  };
}

/** Connects to `address`, with a channel of its own. */
export function dialCall(address: string, credentials: ChannelCredentials, options: ChannelOptions, handler: StreamHandler): PeerStream {
  return new DialledCall(address, credentials, options, handler);
}

/** Takes streams from peers. */
export function acceptCalls(server: Server, accept: Accept): void {
  server.addService({ connect: connectMethod }, { connect: (call: ServerDuplexStream<Buffer, Buffer>) => acceptCall(call, accept) });
}

/** Calls the channel itself, as the client does: see decision 15. */
class DialledCall implements PeerStream {
  readonly #client: Client;
  readonly #sockets = new Set<Socket>();
  #isOver = false;
  readonly #call: ReturnType<ReturnType<Client["getChannel"]>["createCall"]>;
  readonly #handler: StreamHandler;

  constructor(address: string, credentials: ChannelCredentials, options: ChannelOptions, handler: StreamHandler) {
    this.#handler = handler;
    const known = withKnownSockets(credentials, (socket) => this.#onSocket(socket));
    this.#client = new Client(`dns:///${address}`, known, options); // with its scheme, so that no name of a host is taken for one
    this.#call = this.#client.getChannel().createCall(connectMethod.path, Number.POSITIVE_INFINITY, undefined, null, undefined);
    this.#call.start(new Metadata(), {
      onReceiveMetadata: () => undefined,
      onReceiveMessage: (message: Buffer | null) => {
        if (message === null) return;
        handler.onFrame(message);
        this.#call.startRead();
      },
      onReceiveStatus: (ended) => this.#onStatus(ended),
    });
    this.#call.startRead();
  }

  write(bytes: Uint8Array, done: () => void): void {
    this.#call.sendMessageWithContext({ callback: () => done() }, bufferOf(bytes));
  }

  end(): void {
    this.#call.halfClose();
  }

  destroy(): void {
    this.#call.cancelWithStatus(status.CANCELLED, "given up");
  }

  #onSocket(socket: Socket): void {
    if (this.#isOver) socket.destroy(); // connected after all, and of no use
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
  }

  /** Closing a channel ends neither a handshake nor a connection whose other side does not answer. */
  #onStatus({ code, details }: StatusObject): void {
    this.#isOver = true;
    this.#client.close();
    setImmediate(() => {
      for (const socket of this.#sockets) socket.destroy(); // not before what ends the stream has left
    });
    this.#handler.onEnd(endOf(code, details));
  }
}

/** Details of a status that grpc-js made of a system's error. */
const REFUSED = /\bECONNREFUSED\b/;

function endOf(code: status, raw: string): StreamEnd {
  const details = raw
    .replaceAll(/\s+/g, " ")
    .replace(/\. Resolution note:\s*$/, "")
    .trim();
  if (code === status.OK) return { detail: "the other side ended the stream", refused: false, malformed: false };
  return {
    detail: details === "" ? (status[code] ?? `status ${code}`) : details,
    refused: code === status.UNAVAILABLE && REFUSED.test(details),
    malformed: [status.RESOURCE_EXHAUSTED, status.UNIMPLEMENTED, status.INTERNAL, status.UNKNOWN].includes(code),
  };
}

function acceptCall(call: ServerDuplexStream<Buffer, Buffer>, accept: Accept): void {
  let ended = false;
  const handler = accept({
    write: (bytes, done) => {
      if (!ended && call.writable) call.write(bufferOf(bytes), () => done());
    },
    end: () => {
      call.end();
    },
    destroy: () => {
      call.destroy();
    },
  });
  const end = (detail: string): void => {
    if (ended) return;
    ended = true;
    handler.onEnd({ detail, refused: false, malformed: false });
    call.end();
  };
  call.on("data", (bytes: Buffer) => {
    if (!ended) handler.onFrame(bytes);
  });
  call.on("end", () => end("the other side ended the stream"));
  call.on("cancelled", () => end("the connection was lost"));
  call.on("error", (error: Error) => end(error.message));
  call.on("close", () => end("the stream was ended"));
}
