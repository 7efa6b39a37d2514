import type { Socket } from "node:net";
import type { ChannelCredentials } from "@grpc/grpc-js";

/**
 * `base`, which also tells of every socket that it is given to connect over: grpc-js waits for a handshake without limit, and closing a channel ends neither that
 * nor a connection whose other side does not answer.
 */
export function withKnownSockets(base: ChannelCredentials, onSocket: (socket: Socket) => void): ChannelCredentials {
  const known: ChannelCredentials = Object.create(base);
  known._createSecureConnector = (...args) => {
    const connector = base._createSecureConnector(...args);
    return {
      connect: (socket) => {
        onSocket(socket);
        return connector.connect(socket);
      },
      waitForReady: () => connector.waitForReady(),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
    };
  };
  return known;
}
