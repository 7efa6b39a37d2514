/** The real network: one channel an endpoint, kept for as long as the client lives. */
import { X509Certificate } from "node:crypto";
import { type Client, type ClientOptions, credentials, Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { encodeUtf8 } from "../base/bytes.ts";
import { messageOf, OracleError } from "../base/errors.ts";
import { LEADER_HINT_TRAILER } from "../base/leader-hint.ts";
import { VERSION } from "../base/version.ts";
import { TsoServiceService } from "../gen/tsoracle/v1/tso.ts";
import { Channel, type ChannelContext } from "./channel.ts";
import type { Endpoint } from "./endpoint.ts";
import type { ClientTls } from "./options.ts";
import type { Cancel, Connected, Messages, Method, Reply, Transport } from "./transport.ts";

export interface GrpcTransportOptions {
  readonly tls: ClientTls | undefined;
  /** These have a channel for good; channels to others are closed when there are too many. */
  readonly configured: readonly Endpoint[];
  /** How long a connection may take, ms. */
  readonly connectTimeoutMs: number;
  readonly keepaliveMs: number;
  /** Of grpc-js, for tests. */
  readonly channelOptions?: ClientOptions | undefined;
}

/** Channels to endpoints that are not configured: where hints led. */
export const HINTED_CHANNELS_MAX = 32;

const KEEPALIVE_TIMEOUT_MS = 10_000;

export class GrpcTransport implements Transport {
  readonly #context: Omit<ChannelContext, "onSilent">;
  readonly #configured: ReadonlySet<Endpoint>;
  /** The least recently opened first. */
  readonly #channels = new Map<Endpoint, Channel>();
  #closed = false;

  /** @throws OracleError TSO_INVALID_OPTION where the PEM texts of `tls` cannot be used. */
  constructor({ tls, configured, connectTimeoutMs, keepaliveMs, channelOptions }: GrpcTransportOptions) {
    this.#configured = new Set(configured);
    const options = {
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
    this.#context = { credentials: tls === undefined ? credentials.createInsecure() : tlsCredentials(tls), options, connectTimeoutMs };
  }

  isReady(endpoint: Endpoint): boolean {
    return this.#channels.get(endpoint)?.isReady() ?? false;
  }

  connect(endpoint: Endpoint, done: (result: Connected) => void): Cancel {
    const channel = this.#channel(endpoint);
    if (channel === undefined) {
      const refusing = setImmediate(() => done({ type: "silent", details: this.#noRoom }));
      return () => clearImmediate(refusing);
    }
    const stop = channel.whenDecided(done);
    return (connection) => {
      stop();
      if (connection === "drop") this.#drop(endpoint, channel);
    };
  }

  send<M extends Method>(
    endpoint: Endpoint,
    method: M,
    request: Messages[M]["request"],
    done: (reply: Reply<Messages[M]["response"]>) => void,
  ): Cancel {
    const channel = this.#channel(endpoint);
    if (channel === undefined) {
      const refusing = setImmediate(() => done({ type: "lost", sent: false, reason: "connect_failure", details: this.#noRoom }));
      return () => clearImmediate(refusing);
    }
    // Dropped when there is a reply or none is wanted: grpc-js keeps the callback for as long as it keeps the call.
    let settle: typeof done | undefined = done;
    const cancel = start(channel.client, method, request, (reply) => {
      const settled = settle;
      settle = undefined;
      settled?.(reply);
    });
    return (connection) => {
      settle = undefined;
      cancel();
      if (connection === "drop") this.#drop(endpoint, channel);
    };
  }

  close(): void {
    this.#closed = true;
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }

  get #noRoom(): string {
    return this.#closed ? "the client is closed" : `${HINTED_CHANNELS_MAX} connections to endpoints that are not configured are being made already`;
  }

  #channel(endpoint: Endpoint): Channel | undefined {
    const known = this.#channels.get(endpoint);
    if (known !== undefined) return known;
    if (this.#closed || !this.#makeRoom(endpoint)) return undefined;
    // With its scheme, so that no name of a host is taken for one.
    const channel = new Channel(`dns:///${endpoint}`, { ...this.#context, onSilent: () => this.#drop(endpoint, channel) });
    this.#channels.set(endpoint, channel);
    return channel;
  }

  /** Where hints lead is not for us to say, so how many such channels there are is. One that somebody waits for is not closed for another. */
  #makeRoom(endpoint: Endpoint): boolean {
    if (this.#configured.has(endpoint)) return true;
    const hinted = [...this.#channels].filter(([each]) => !this.#configured.has(each));
    if (hinted.length < HINTED_CHANNELS_MAX) return true;
    const [oldest] = hinted.filter(([, channel]) => !channel.isAwaited);
    if (oldest === undefined) return false;
    this.#drop(...oldest);
    return true;
  }

  /** Forgets `channel`, if it is still that of `endpoint`. Calls that are under way on it go on. */
  #drop(endpoint: Endpoint, channel: Channel): void {
    if (this.#channels.get(endpoint) !== channel) return;
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
  let heard = false;
  call.start(new Metadata(), {
    onReceiveMetadata: () => {
      heard = true;
    },
    onReceiveMessage: (message: Buffer | null) => {
      if (message === null) return;
      if (bytes !== undefined) unreadable("an answer with two messages");
      bytes = message;
      call.startRead(); // there is no second message; if there is, it would hold the status back
    },
    onReceiveStatus: (ended) => {
      if (ended.code !== status.OK) return done(replyOf(ended, heard));
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

interface UnaryMethod<M extends Method> {
  readonly path: string;
  readonly requestSerialize: (request: Messages[M]["request"]) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Messages[M]["response"];
}

const METHODS: { readonly [M in Method]: UnaryMethod<M> } = TsoServiceService;

/** Of grpc-js itself: no connection was there to take the request. */
const UNSENT = /^(No connection established|Name resolution failed|Channel closed before call started)/;

/** Of grpc-js itself, though the node had begun to answer. */
const BROKEN_OFF = /^(Received |Bandwidth exhausted)/;

/**
 * grpc-js makes statuses of its own where there is no word of the node, with codes that a node uses to say that it did nothing. Such a status has no headers
 * at all, while those of a node came with some: `heard` says whether they came before the status.
 */
function replyOf(ended: StatusObject, heard: boolean): Extract<Reply<never>, { type: "status" | "lost" }> {
  const { code, metadata } = ended;
  const details = ended.details.replaceAll(/\s+/g, " ").trim(); // OpenSSL's end in a line feed
  const isOwn = !heard && Object.keys(metadata.getMap()).length === 0;
  if (isOwn && code === status.UNAVAILABLE && UNSENT.test(details)) {
    return { type: "lost", sent: false, reason: "connect_failure", details: details.replace(/\. Resolution note:$/, "") };
  }
  if (isOwn || BROKEN_OFF.test(details)) {
    const detail = `${details} (${status[code] ?? code})`;
    return { type: "lost", sent: true, reason: code === status.RESOURCE_EXHAUSTED ? "decode_error" : "transport", details: detail };
  }
  const [hint] = metadata.get(LEADER_HINT_TRAILER);
  return { type: "status", code, details, hint: typeof hint === "string" ? encodeUtf8(hint) : hint };
}

function tlsCredentials({ ca, cert, key }: ClientTls): ReturnType<typeof credentials.createSsl> {
  if ((cert === undefined) !== (key === undefined)) throw new OracleError("TSO_INVALID_OPTION", "tls.cert and tls.key go together");
  const pem = (text: Uint8Array | string | undefined): Buffer | null => (text === undefined ? null : Buffer.from(text));
  try {
    if (ca !== undefined) new X509Certificate(ca); // nothing else reads it before there is a connection
    return credentials.createSsl(pem(ca), pem(key), pem(cert));
  } catch (error) {
    // OpenSSL's words for a text that is no PEM, or a key that is another certificate's
    throw new OracleError("TSO_INVALID_OPTION", `tls: ${messageOf(error)}`, { cause: error });
  }
}
