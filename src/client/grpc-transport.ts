/** The real network: one channel an endpoint, kept for as long as the client lives. */
import { Client, type ClientOptions, connectivityState, credentials, Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { encodeUtf8 } from "../base/bytes.ts";
import { messageOf, OracleError } from "../base/errors.ts";
import { LEADER_HINT_TRAILER } from "../base/leader-hint.ts";
import { VERSION } from "../base/version.ts";
import { TsoServiceService } from "../gen/tsoracle/v1/tso.ts";
import type { Endpoint } from "./endpoint.ts";
import type { ClientTls } from "./options.ts";
import type { Cancel, Messages, Method, Reply, Transport } from "./transport.ts";

export interface GrpcTransportOptions {
  readonly tls: ClientTls | undefined;
  /** These have a channel for good; channels to others are closed when there are too many. */
  readonly configured: readonly Endpoint[];
  readonly keepaliveMs: number;
  /** Of grpc-js, for tests. */
  readonly channelOptions?: ClientOptions | undefined;
}

/** Channels to endpoints that are not configured: where hints led. */
export const HINTED_CHANNELS_MAX = 32;

const KEEPALIVE_TIMEOUT_MS = 10_000;

export class GrpcTransport implements Transport {
  readonly #credentials: ReturnType<typeof credentials.createInsecure>;
  readonly #options: ClientOptions;
  readonly #configured: ReadonlySet<Endpoint>;
  /** The least recently opened first. */
  readonly #channels = new Map<Endpoint, Channel>();

  /** @throws OracleError TSO_INVALID_OPTION where the PEM texts of `tls` cannot be used. */
  constructor({ tls, configured, keepaliveMs, channelOptions }: GrpcTransportOptions) {
    this.#credentials = tls === undefined ? credentials.createInsecure() : tlsCredentials(tls);
    this.#configured = new Set(configured);
    this.#options = {
      "grpc.primary_user_agent": `tsoracle-node/${VERSION}`,
      "grpc.use_local_subchannel_pool": 1, // a channel that is closed takes its connection with it
      "grpc.service_config_disable_resolution": 1, // a record in the DNS must not make sequences be asked for twice
      "grpc.keepalive_time_ms": keepaliveMs,
      "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
      "grpc.keepalive_permit_without_calls": 1,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1_000, // a server that comes back is found within about that
      "grpc.dns_min_time_between_resolutions_ms": 1_000, // so is one with a new address
      ...(tls?.serverName === undefined ? {} : { "grpc.ssl_target_name_override": tls.serverName }),
      ...channelOptions,
    };
  }

  isReady(endpoint: Endpoint): boolean {
    return this.#channels.get(endpoint)?.isReady() ?? false;
  }

  connect(endpoint: Endpoint, done: (connected: boolean) => void): Cancel {
    const channel = this.#channel(endpoint);
    let stop = channel.whenDecided((state) => {
      if (state !== "closed") return done(state === "ready");
      stop = this.connect(endpoint, done); // another call gave that channel up: a new one is tried
    });
    return (why) => {
      stop(why);
      if (why === "timeout") this.#drop(endpoint, channel);
    };
  }

  send<M extends Method>(
    endpoint: Endpoint,
    method: M,
    request: Messages[M]["request"],
    done: (reply: Reply<Messages[M]["response"]>) => void,
  ): Cancel {
    const channel = this.#channel(endpoint);
    // Dropped when there is a reply or none is wanted: grpc-js keeps the callback for as long as it keeps the call.
    let settle: typeof done | undefined = done;
    const cancel = start(channel.client, method, request, (reply) => {
      const settled = settle;
      settle = undefined;
      settled?.(reply);
    });
    return (why) => {
      settle = undefined;
      cancel();
      // An answer that never comes may be a connection that is no more: the next call shall have a new one. Calls on the old one go on.
      if (why === "timeout") this.#drop(endpoint, channel);
    };
  }

  close(): void {
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }

  #channel(endpoint: Endpoint): Channel {
    const known = this.#channels.get(endpoint);
    if (known !== undefined) return known;
    const hinted = [...this.#channels.keys()].filter((each) => !this.#configured.has(each));
    const [oldest] = hinted;
    if (oldest !== undefined && hinted.length >= HINTED_CHANNELS_MAX) this.#drop(oldest);
    // With its scheme, so that no name of a host is taken for one.
    const channel = new Channel(new Client(`dns:///${endpoint}`, this.#credentials, this.#options));
    this.#channels.set(endpoint, channel);
    return channel;
  }

  /** Forgets the channel of `endpoint`, if it is still `channel`. Calls that are under way on it go on. */
  #drop(endpoint: Endpoint, channel = this.#channels.get(endpoint)): void {
    if (channel === undefined || this.#channels.get(endpoint) !== channel) return;
    this.#channels.delete(endpoint);
    channel.close();
  }
}

/**
 * Starts a unary call on the channel itself: without the emitter, the stack trace and the interceptors that a grpc-js client makes for each call, which
 * cost a fifth of one. Returns how to cancel it; `done` may be called all the same then.
 */
function start<M extends Method>(
  client: Client,
  method: M,
  request: Messages[M]["request"],
  done: (reply: Reply<Messages[M]["response"]>) => void,
): () => void {
  const { path, requestSerialize, responseDeserialize }: UnaryMethod<M> = METHODS[method];
  const call = client.getChannel().createCall(path, Number.POSITIVE_INFINITY, undefined, null, undefined);
  const unreadable = (details: string): void => done({ type: "lost", sent: true, reason: "decode_error", details });
  let bytes: Buffer | undefined;
  call.start(new Metadata(), {
    onReceiveMetadata: () => undefined,
    onReceiveMessage: (message: Buffer | null) => {
      if (message === null) return;
      if (bytes !== undefined) unreadable("an answer with two messages");
      bytes = message;
      call.startRead(); // there is no second message; if there is, it would hold the status back
    },
    onReceiveStatus: (ended) => {
      if (ended.code !== status.OK) return done(replyOf(ended));
      if (bytes === undefined) return unreadable("an answer without a message");
      let value: Messages[M]["response"];
      try {
        value = responseDeserialize(bytes);
      } catch (error) {
        return unreadable(`an answer that cannot be read: ${messageOf(error)}`); // the reader throws plain errors for bytes that are no message
      }
      done({ type: "answer", value });
    },
  });
  call.startRead();
  call.sendMessageWithContext({}, requestSerialize(request));
  call.halfClose();
  return () => call.cancelWithStatus(status.CANCELLED, "given up");
}

/** A connection, or the attempt at one. */
class Channel {
  readonly client: Client;
  readonly #waiting = new Set<(state: "ready" | "failed" | "closed") => void>();
  #watched = false;
  #closed = false;

  constructor(client: Client) {
    this.client = client;
  }

  isReady(): boolean {
    return this.client.getChannel().getConnectivityState(false) === connectivityState.READY;
  }

  /** Connects, and calls `decided`, later, once; unless what it returns is called first. However many wait, the channel is watched once. */
  whenDecided(decided: (state: "ready" | "failed" | "closed") => void): Cancel {
    this.#waiting.add(decided);
    if (!this.#watched) {
      this.#watched = true;
      setImmediate(() => this.#look());
    }
    return () => this.#waiting.delete(decided);
  }

  /** Calls that are under way go on. */
  close(): void {
    this.#closed = true;
    this.client.close();
    setImmediate(() => this.#decide("closed"));
  }

  #look(): void {
    if (this.#closed) return;
    const channel = this.client.getChannel();
    const state = channel.getConnectivityState(true);
    if (state === connectivityState.READY) this.#decide("ready");
    else if (state === connectivityState.TRANSIENT_FAILURE) this.#decide("failed");
    else channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => this.#look());
  }

  #decide(state: "ready" | "failed" | "closed"): void {
    this.#watched = false;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const decided of waiting) decided(state);
  }
}

interface UnaryMethod<M extends Method> {
  readonly path: string;
  readonly requestSerialize: (request: Messages[M]["request"]) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Messages[M]["response"];
}

const METHODS: { readonly [M in Method]: UnaryMethod<M> } = TsoServiceService;

/** The request provably never left: no connection was there to take it. */
const UNSENT = /^(No connection established|Name resolution failed|Channel closed before call started)/;

/** Made on this side, after an answer had begun or may have: grpc-js gives them codes that a server uses to say that it did nothing. */
const LOCAL = /^(Received |Bandwidth exhausted)/;

function replyOf({ code, details, metadata }: StatusObject): Extract<Reply<never>, { type: "status" | "lost" }> {
  if (code === status.UNAVAILABLE && UNSENT.test(details)) {
    return { type: "lost", sent: false, reason: "connect_failure", details: details.replace(/\. Resolution note: $/, "") };
  }
  if ((code === status.RESOURCE_EXHAUSTED || code === status.UNIMPLEMENTED) && LOCAL.test(details)) {
    return { type: "lost", sent: true, reason: "decode_error", details };
  }
  const [hint] = metadata.get(LEADER_HINT_TRAILER);
  return { type: "status", code, details, hint: typeof hint === "string" ? encodeUtf8(hint) : hint };
}

function tlsCredentials({ ca, cert, key }: ClientTls): ReturnType<typeof credentials.createSsl> {
  if ((cert === undefined) !== (key === undefined)) throw new OracleError("TSO_INVALID_OPTION", "tls.cert and tls.key go together");
  const pem = (text: Uint8Array | string | undefined): Buffer | null => (text === undefined ? null : Buffer.from(text));
  try {
    return credentials.createSsl(pem(ca), pem(key), pem(cert));
  } catch (error) {
    // OpenSSL's words for a text that is no PEM, or a key that is another certificate's
    throw new OracleError("TSO_INVALID_OPTION", `tls: ${messageOf(error)}`, { cause: error });
  }
}
