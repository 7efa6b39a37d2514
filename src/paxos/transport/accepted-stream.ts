/** One stream that a peer opened to this node: what it says is checked, put together and handed on. */
import { MESSAGE_BYTES_MAX } from "../core/options.ts";
import { LINGER_MS } from "./dialled-stream.ts";
import {
  decodeRequest,
  encodeResponse,
  FRAME_BYTES,
  type HelloFrame,
  type MessagesFrame,
  PEER_PROTOCOL_VERSION,
  type ResponseFrame,
} from "./frames.ts";
import type { Ending } from "./lost-connections.ts";
import type { PeerTransportSettings } from "./options.ts";
import type { Reception, Refusal } from "./reception.ts";
import type { PeerStream, PeerTimers, StreamEnd, StreamHandler } from "./wire.ts";

export interface AcceptContext {
  readonly timers: PeerTimers;
  readonly settings: PeerTransportSettings;
  readonly reception: Reception;
}

export interface AcceptOwner {
  /** Before the welcome leaves. */
  onAccepted(stream: AcceptedStream, hello: HelloFrame): void;
  /** Whether it could be read. */
  deliver(hello: HelloFrame, type: "message" | "forming", bytes: Uint8Array): void;
  onRefused(hello: HelloFrame | undefined, refusal: Refusal): void;
  /** Once, as soon as it is known how a stream that was accepted ends. */
  onClosing(stream: AcceptedStream, hello: HelloFrame, ending: Ending): void;
  /** Once, and the last call. */
  onEnded(stream: AcceptedStream): void;
}

/** Between two words that something arrived, ms. */
const HEARD_EVERY_MS = 100;
/** Of one message. Nobody who cuts where a frame is full needs a quarter of it. */
const PIECES_MAX = 4 * (MESSAGE_BYTES_MAX / FRAME_BYTES);

const ignore = (): void => undefined;

export class AcceptedStream implements StreamHandler {
  readonly #context: AcceptContext;
  readonly #owner: AcceptOwner;
  readonly #stream: PeerStream;
  #hello: HelloFrame | undefined;
  /** Of a message that is not whole yet. */
  #pieces: Uint8Array[] = [];
  #pieceBytes = 0;
  #frames = 0;
  #toldFrames = 0;
  #heardIsDue = false;
  /** Set as soon as it is known how this stream ends. */
  #ending: Ending | undefined;
  #cancelTimer: () => void;

  constructor(context: AcceptContext, stream: PeerStream, owner: AcceptOwner) {
    this.#context = context;
    this.#stream = stream;
    this.#owner = owner;
    const { connectTimeoutMs } = context.settings;
    this.#cancelTimer = context.timers.after(connectTimeoutMs, () => this.refuse(malformed(`no hello within ${connectTimeoutMs} ms`)));
  }

  /** Who dialled, once it was let in. */
  get hello(): HelloFrame | undefined {
    return this.#hello;
  }

  onFrame(bytes: Uint8Array): void {
    if (this.#ending !== undefined) return;
    const frame = decodeRequest(bytes);
    if (frame === undefined) return this.refuse(malformed(`${bytes.length} bytes are no frame of this protocol`));
    const hello = this.#hello;
    if (hello === undefined)
      return frame.type === "hello" ? this.#onHello(frame) : this.refuse(malformed(`the first word was ${frame.type}, not hello`));
    if (frame.type === "hello") return this.refuse(malformed("it said hello twice"));
    if (frame.type === "bye") return this.#finish("bye");
    const refusal = this.#context.reception.refusalOf(hello.claim);
    if (refusal !== undefined) return this.refuse(refusal);
    this.#frames += 1;
    if (frame.type === "forming") this.#owner.deliver(hello, "forming", frame.bytes);
    else this.#onMessages(hello, frame);
    if (hello.lane === "control" && !this.#heardIsDue) this.#sayHeard();
  }

  onEnd(_: StreamEnd): void {
    this.#cancelTimer();
    this.#cancelTimer = ignore;
    this.#pieces = [];
    this.#close("broken");
    this.#owner.onEnded(this);
  }

  /** Says why, and ends it. */
  refuse(refusal: Refusal): void {
    if (this.#ending !== undefined) return;
    this.#finish("given-up", { type: "refusal", ...refusal });
    this.#owner.onRefused(this.#hello, refusal);
  }

  /** Ends it in good order. */
  sayBye(): void {
    this.#finish("bye", { type: "bye" });
  }

  /** Ends it because its process has opened another in its place, or is followed by a later one. This process lives, so it says bye. */
  replace(): void {
    this.#finish("given-up", { type: "bye" });
  }

  #onHello(hello: HelloFrame): void {
    const { reception } = this.#context;
    const refusal = reception.refusalOfHello(hello);
    if (refusal !== undefined) {
      this.#finish("given-up", { type: "refusal", ...refusal });
      return this.#owner.onRefused(hello, refusal);
    }
    this.#cancelTimer();
    this.#cancelTimer = ignore;
    this.#hello = hello;
    this.#owner.onAccepted(this, hello);
    this.#say({ type: "welcome", version: PEER_PROTOCOL_VERSION, claim: reception.self });
  }

  #onMessages(hello: HelloFrame, { parts, unfinished }: MessagesFrame): void {
    for (const [index, part] of parts.entries()) {
      this.#pieces.push(part);
      this.#pieceBytes += part.length;
      if (this.#pieces.length > PIECES_MAX) return this.refuse(malformed(`a message in more than ${PIECES_MAX} pieces`));
      if (this.#pieceBytes > MESSAGE_BYTES_MAX) return this.refuse(malformed(`a message of more than ${MESSAGE_BYTES_MAX} bytes`));
      if (unfinished && index === parts.length - 1) return;
      const whole = this.#pieces.length === 1 ? part : Buffer.concat(this.#pieces, this.#pieceBytes);
      this.#pieces = [];
      this.#pieceBytes = 0;
      this.#owner.deliver(hello, "message", whole);
      if (this.#ending !== undefined) return; // a delivery may end the transport, or this stream with it
    }
  }

  /** At once, and then not before some time has passed: an answer to every frame would cost as much as the frames. */
  #sayHeard(): void {
    if (this.#ending !== undefined || this.#toldFrames === this.#frames) return;
    this.#heardIsDue = true;
    this.#toldFrames = this.#frames;
    this.#stream.write(encodeResponse({ type: "heard", frames: this.#frames }), () => {
      // Not before that one has left, so that a peer that does not read costs one frame.
      if (this.#ending !== undefined) return;
      this.#cancelTimer = this.#context.timers.after(HEARD_EVERY_MS, () => {
        this.#heardIsDue = false;
        this.#sayHeard();
      });
    });
  }

  /** The first reason is the reason. */
  #close(ending: Ending): boolean {
    if (this.#ending !== undefined) return false;
    this.#ending = ending;
    if (this.#hello !== undefined) this.#owner.onClosing(this, this.#hello, ending);
    return true;
  }

  #say(frame: ResponseFrame): void {
    this.#stream.write(encodeResponse(frame), ignore);
  }

  #finish(ending: Ending, lastWord?: ResponseFrame): void {
    if (!this.#close(ending)) return;
    if (lastWord !== undefined) this.#say(lastWord);
    this.#stream.end();
    this.#cancelTimer();
    this.#cancelTimer = this.#context.timers.after(LINGER_MS, () => this.#stream.destroy());
  }
}

function malformed(detail: string): Refusal {
  return { fault: "malformed", detail };
}
