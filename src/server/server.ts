import { X509Certificate } from "node:crypto";
import { type ChannelOptions, Server, ServerCredentials } from "@grpc/grpc-js";
import { messageOf, OracleError } from "../base/errors.ts";
import { wholeOption } from "../base/options.ts";
import { VERSION } from "../base/version.ts";
import type { ServingState } from "./gate.ts";
import { nodeHandlers, nodeServiceDefinition } from "./node-service.ts";
import { type OracleServerOptions, resolveServerOptions, type ServingOptions } from "./options.ts";
import { Serving } from "./serving.ts";
import { tsoHandlers, tsoServiceDefinition } from "./tso-service.ts";

export interface ListenOptions {
  /** HOST:PORT; port 0 lets the system choose. Without it nothing listens: `attach` the services to a server of your own. */
  readonly listen?: string | undefined;
  /** PEM. Without it the connection is plain. */
  readonly tls?: TlsOptions | undefined;
}

export interface TlsOptions {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Clients must show a certificate that this authority signed. */
  readonly clientCa?: Buffer | undefined;
}

export interface CloseOptions {
  /** How long calls in flight may take to end, ms, up to a day; 0 ends them at once. @defaultValue 10000 */
  readonly graceMs?: number | undefined;
}

/** The largest request that can be valid has a full batch of the longest keys; anything far beyond is refused before it is read. */
const REQUEST_BYTES_MIN = 256 * 1024;

/**
 * Serves an oracle over gRPC: `tsoracle.v1` and `tsoracle.node.v1`.
 *
 * The driver stays the caller's: close it after the server.
 */
export class OracleServer {
  /** Where it listens, HOST:PORT, with the port that the system chose; `undefined` where it does not. */
  readonly address: string | undefined;
  /** Settles when serving has ended: resolved after `close()`, rejected with the reason if it ended by itself. */
  readonly done: Promise<void>;
  readonly #serving: Serving;
  readonly #server: Server | undefined;
  readonly #startedAtMs: number;
  readonly #heartbeat: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  private constructor(serving: Serving, options: ServingOptions, own: { readonly server: Server; readonly address: string } | undefined) {
    this.#serving = serving;
    this.#server = own?.server;
    this.address = own?.address;
    this.#startedAtMs = Date.now();
    if (options.heartbeatMs > 0) this.#heartbeat = setInterval(() => this.#logHeartbeat(options), options.heartbeatMs).unref();
    this.done = serving.run().finally(() => clearInterval(this.#heartbeat));
    this.done.catch(() => undefined); // whoever awaits it hears of it; a host that does not must not die of it
  }

  /**
   * Follows the driver's leadership and, with `listen`, answers calls. Returns once it listens; it serves when `states()` says so.
   * @throws OracleError TSO_INVALID_OPTION: an option is out of its range, the address cannot be had, the certificate or key cannot be used.
   */
  static async start(options: OracleServerOptions & ListenOptions): Promise<OracleServer> {
    const resolved = resolveServerOptions(options);
    const serving = new Serving(resolved);
    if (options.listen === undefined) return new OracleServer(serving, resolved, undefined);
    if (!/^\S+:\d{1,5}$/.test(options.listen)) throw new OracleError("TSO_INVALID_OPTION", `listen "${options.listen}" is not HOST:PORT`);
    const server = new Server(serverOptions(resolved));
    const port = await bind(server, options.listen, credentialsOf(options.tls));
    const address = `${options.listen.slice(0, options.listen.lastIndexOf(":"))}:${port}`;
    const oracle = new OracleServer(serving, resolved, { server, address });
    oracle.attach(server);
    return oracle;
  }

  /** Adds the services to a server of the host's own. The host closes that one; `close()` ends only what this server does. */
  attach(server: Server): void {
    server.addService(tsoServiceDefinition, tsoHandlers(this.#serving));
    server.addService(nodeServiceDefinition, nodeHandlers(this.#serving, { version: VERSION, startedAtMs: this.#startedAtMs }));
  }

  /** Whether it serves: the current state first, then changes, newest wins. Ends when serving ends. */
  states(options: { readonly signal?: AbortSignal | undefined } = {}): AsyncIterable<ServingState> {
    return this.#serving.states(options.signal);
  }

  get state(): ServingState {
    return this.#serving.state;
  }

  /** Takes no more calls, lets those in flight end within the grace, then stops. Safe to call twice. @throws OracleError TSO_INVALID_OPTION */
  close(options: CloseOptions = {}): Promise<void> {
    const graceMs = wholeOption("graceMs", options.graceMs ?? 10_000, { from: 0, through: 86_400_000 });
    this.#closing ??= (async () => {
      if (this.#server !== undefined) await shutDown(this.#server, graceMs);
      this.#serving.stop();
      await this.done.catch(() => undefined);
    })();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #logHeartbeat({ logger }: ServingOptions): void {
    const { counters, state, lastFault, lastTransitionAgeMs } = this.#serving;
    const epoch = state.type === "serving" ? state.epoch : undefined;
    logger.info(
      {
        uptimeSeconds: Math.round((Date.now() - this.#startedAtMs) / 1000),
        serving: state.type === "serving",
        epoch,
        ...counters,
        lastTransitionAgeSeconds: Math.round(lastTransitionAgeMs / 1000),
        lastFault,
      },
      "heartbeat",
    );
  }
}

function serverOptions({ limits }: ServingOptions): ChannelOptions {
  const largestBatch = limits.maxBatchKeys * (limits.maxKeyBytes + 32);
  return {
    "grpc.max_receive_message_length": Math.max(REQUEST_BYTES_MIN, largestBatch),
    "grpc.max_concurrent_streams": 16_384,
    // One process listens at an address: with SO_REUSEPORT a second would share it, and answer some of the calls.
    "grpc.so_reuseport": 0,
  };
}

function credentialsOf(tls: TlsOptions | undefined): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const { cert, key, clientCa } = tls;
  try {
    if (clientCa !== undefined) new X509Certificate(clientCa); // by itself, an authority that cannot be read would be ignored, and every client refused
    return ServerCredentials.createSsl(clientCa ?? null, [{ cert_chain: cert, private_key: key }], clientCa !== undefined);
  } catch (error) {
    throw new OracleError("TSO_INVALID_OPTION", `the TLS certificate or key cannot be used: ${messageOf(error)}`, { cause: error });
  }
}

function bind(server: Server, address: string, credentials: ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
      if (error === null) resolve(port);
      else reject(new OracleError("TSO_INVALID_OPTION", `cannot listen on ${address}: ${messageOf(error)}`, { cause: error }));
    });
  });
}

function shutDown(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const force = (): void => {
      server.forceShutdown();
      resolve();
    };
    if (graceMs === 0) return force();
    const timer = setTimeout(force, graceMs);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
