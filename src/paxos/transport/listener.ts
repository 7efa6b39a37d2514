/** Where a node listens for its peers. The sockets are its own: grpc-js, left to itself, ends only those whose other side answers. */
import { createServer, type Server as NetServer, type Socket } from "node:net";
import type { ConnectionInjector, Server, ServerCredentials } from "@grpc/grpc-js";
import { messageOf, OracleError } from "../../base/errors.ts";

/** Connections at one time: many more than a cluster makes. */
const CONNECTIONS_MAX = 1_024;

export class Listener {
  /** HOST:PORT, with the port that the system chose. */
  readonly address: string;
  readonly #server: Server;
  readonly #injector: ConnectionInjector;
  readonly #sockets = new Set<Socket>();
  readonly #net: NetServer;

  private constructor(server: Server, credentials: ServerCredentials, net: NetServer, host: string) {
    this.#server = server;
    this.#net = net;
    this.#injector = server.createConnectionInjector(credentials);
    net.on("connection", (socket) => this.#onSocket(socket));
    const bound = net.address();
    this.address = `${host}:${bound !== null && typeof bound === "object" ? bound.port : ""}`;
  }

  /** @throws OracleError TSO_INVALID_OPTION: it is no address, or cannot be had. */
  static async open(server: Server, listen: string, credentials: ServerCredentials): Promise<Listener> {
    const [, host = "", port = ""] = /^(\S+):(\d{1,5})$/.exec(listen) ?? [];
    if (host === "") throw new OracleError("TSO_INVALID_OPTION", `listen "${listen}" is not HOST:PORT`);
    const net = createServer({ noDelay: true });
    net.maxConnections = CONNECTIONS_MAX;
    try {
      await new Promise<void>((resolve, reject) => {
        net.once("error", reject);
        net.listen({ host: host.replace(/^\[(.*)\]$/, "$1"), port: Number(port), exclusive: true }, resolve);
      });
    } catch (error) {
      throw new OracleError("TSO_INVALID_OPTION", `cannot listen on ${listen}: ${messageOf(error)}`, { cause: error });
    }
    return new Listener(server, credentials, net, host);
  }

  close(): void {
    this.#net.close();
    this.#injector.destroy();
    this.#server.forceShutdown();
    for (const socket of this.#sockets) socket.destroy();
  }

  #onSocket(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    this.#injector.injectConnection(socket);
  }
}
