/** Peers over the network. */
import { type ChannelCredentials, credentials, Server, ServerCredentials } from "@grpc/grpc-js";
import { acceptCalls, channelOptions, dialCall, serverOptions } from "./grpc-wire.ts";
import { Listener } from "./listener.ts";
import { type PeerTransportOptions, resolvePeerTransportOptions } from "./options.ts";
import { StreamTransport } from "./stream-transport.ts";
import type { OpenTransport } from "./transport.ts";
import { realTimers, type Wire } from "./wire.ts";

export interface GrpcPeerOptions extends PeerTransportOptions {
  /** HOST:PORT; port 0 lets the system choose. */
  readonly listen: string;
  /** Without them connections are plain. */
  readonly credentials?: { readonly dial: ChannelCredentials; readonly accept: ServerCredentials } | undefined;
}

/** Peers are reached over gRPC. @throws OracleError TSO_INVALID_OPTION: an option is out of its range. */
export function grpcTransport({ listen, credentials: secure, ...options }: GrpcPeerOptions): OpenTransport {
  const settings = resolvePeerTransportOptions(options);
  const dialled = channelOptions(settings);
  const dialCredentials = secure?.dial ?? credentials.createInsecure();
  return async (claim, receiver) => {
    const server = new Server(serverOptions(settings));
    const listener = await Listener.open(server, listen, secure?.accept ?? ServerCredentials.createInsecure());
    const wire: Wire = {
      address: listener.address,
      dial: (address, _, handler) => dialCall(address, dialCredentials, dialled, handler),
      close: () => listener.close(),
    };
    const transport = new StreamTransport({ claim, receiver, settings, timers: realTimers, random: Math.random, wire });
    acceptCalls(server, transport.accept);
    return transport;
  };
}
