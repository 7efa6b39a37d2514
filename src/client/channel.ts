import type { Socket } from "node:net";
import { type ChannelCredentials, Client, type ClientOptions, connectivityState } from "@grpc/grpc-js";
import { withKnownSockets } from "../grpc/connections.ts";
import type { Connected } from "./transport.ts";

export interface ChannelContext {
  readonly credentials: ChannelCredentials;
  readonly options: ClientOptions;
  /** How long a connection may take, from the name to the first answer of HTTP/2, ms. */
  readonly connectTimeoutMs: number;
  /** Nothing came of connecting in that time: the channel is to be closed. */
  readonly onSilent: () => void;
}

/** A connection to one endpoint, or the attempt at one. */
export class Channel {
  readonly client: Client;
  readonly #context: ChannelContext;
  /** Those that may still be in a handshake: grpc-js waits for one without limit, and closing a channel does not end it. */
  readonly #connecting = new Set<Socket>();
  readonly #waiting = new Set<(result: Connected) => void>();
  /** Runs while the channel is watched. */
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(target: string, context: ChannelContext) {
    this.#context = context;
    const credentials = withKnownSockets(context.credentials, (socket) => {
      this.#connecting.add(socket);
      socket.once("close", () => this.#connecting.delete(socket));
    });
    this.client = new Client(target, credentials, context.options);
  }

  /** Whether a request would leave at once. */
  isReady(): boolean {
    if (this.#closed || this.#state() !== connectivityState.READY) return false;
    if (this.#connecting.size > 0) this.#connecting.clear(); // its handshake is over
    return true;
  }

  /** Whether somebody waits for its connection. */
  get isAwaited(): boolean {
    return this.#waiting.size > 0;
  }

  /** Connects, and calls `decided`, later, once; unless what it returns is called first. However many wait, the channel is watched once. */
  whenDecided(decided: (result: Connected) => void): () => void {
    this.#waiting.add(decided);
    if (this.#timer === undefined) {
      this.#timer = setTimeout(this.#context.onSilent, this.#context.connectTimeoutMs);
      setImmediate(() => this.#look());
    }
    this.#timer.ref();
    return () => {
      this.#waiting.delete(decided);
      if (this.#waiting.size === 0) this.#timer?.unref(); // the attempt goes on, and keeps no process alive
    };
  }

  /** Calls that are under way on a connection go on; one that is only being made is ended. */
  close(): void {
    const handshakes = this.isReady() ? [] : [...this.#connecting];
    this.#closed = true;
    this.client.close();
    for (const socket of handshakes) socket.destroy();
    setImmediate(() => this.#decide({ type: "silent", details: `no connection within ${this.#context.connectTimeoutMs} ms` }));
  }

  #look(): void {
    if (this.#closed) return;
    const channel = this.client.getChannel();
    channel.getConnectivityState(true); // tells the state before it begins to connect
    const state = this.#state();
    if (state === connectivityState.READY) this.#decide({ type: "ready" });
    else if (state === connectivityState.TRANSIENT_FAILURE) this.#decide({ type: "refused" });
    else channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => this.#look());
  }

  #state(): connectivityState {
    return this.client.getChannel().getConnectivityState(false);
  }

  #decide(result: Connected): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const decided of waiting) decided(result);
  }
}
