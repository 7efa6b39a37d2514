/** One stream that this node opened to a peer, from the first attempt to reach it to its end. */
import type { NodeId } from "../../base/ids.ts";
import { decodeResponse, encodeRequest, PEER_PROTOCOL_VERSION, type RequestFrame, type ResponseFrame } from "./frames.ts";
import type { Ending } from "./lost-connections.ts";
import type { PeerTransportSettings } from "./options.ts";
import type { Reception } from "./reception.ts";
import type { Lane, PeerClaim, PeerFault } from "./transport.ts";
import type { PeerStream, PeerTimers, StreamEnd, StreamHandler, Wire } from "./wire.ts";

export interface DialContext {
  readonly wire: Wire;
  readonly timers: PeerTimers;
  readonly settings: PeerTransportSettings;
  readonly reception: Reception;
}

export interface DialTarget {
  readonly node: NodeId;
  readonly address: string;
  readonly lane: Lane;
}

export interface DialledEnd {
  /** Who was there, if the stream was ever open. */
  readonly claim: PeerClaim | undefined;
  readonly ending: Ending;
  readonly fault: PeerFault;
  /** A sentence that names both sides. */
  readonly detail: string;
  /** Nobody listens there. */
  readonly refused: boolean;
}

export interface DialOwner {
  onOpen(stream: DialledStream, claim: PeerClaim): void;
  /** Once, as soon as it is known why it ends. */
  onClosing(stream: DialledStream, end: DialledEnd): void;
  /** Once, and the last call. */
  onEnded(stream: DialledStream): void;
}

/** How long a stream that is to end may take to send its last words, ms. */
export const LINGER_MS = 500;

const ignore = (): void => undefined;

export class DialledStream implements StreamHandler {
  readonly #context: DialContext;
  readonly #target: DialTarget;
  readonly #owner: DialOwner;
  readonly #stream: PeerStream;
  #claim: PeerClaim | undefined;
  #isClosing = false;
  #cancelTimer: () => void;
  #written = 0;
  #heard = 0;

  constructor(context: DialContext, target: DialTarget, owner: DialOwner) {
    this.#context = context;
    this.#target = target;
    this.#owner = owner;
    const { connectTimeoutMs } = context.settings;
    this.#cancelTimer = context.timers.after(connectTimeoutMs, () => this.#fail("unreachable", `no answer within ${connectTimeoutMs} ms`));
    this.#stream = context.wire.dial(target.address, target.lane, this);
    const hello: RequestFrame = {
      type: "hello",
      version: PEER_PROTOCOL_VERSION,
      claim: context.reception.self,
      toNode: target.node,
      lane: target.lane,
    };
    this.#stream.write(encodeRequest(hello), ignore);
  }

  /** Who is there, once the stream is open. */
  get claim(): PeerClaim | undefined {
    return this.#claim;
  }

  /** Of an open stream. `done` is called when the next frame may be written. */
  write(frame: RequestFrame, done: () => void): void {
    this.#written += 1;
    if (this.#target.lane === "control" && this.#written === this.#heard + 1) this.#awaitHeard();
    this.#stream.write(encodeRequest(frame), done);
  }

  /** Ends it in good order. */
  sayBye(): void {
    this.#leave({ ending: "bye", fault: "unreachable", detail: this.#sentence("it was ended in good order") });
  }

  /** Ends it without a word, as the death of the process would. */
  abandon(): void {
    if (this.#close({ ending: "bye", fault: "unreachable", detail: this.#sentence("it was abandoned") })) this.#stream.destroy();
  }

  /** Ends it because of what is known about the other side. This process lives, so it says bye. */
  giveUp(fault: PeerFault, detail: string): void {
    this.#leave({ ending: "given-up", fault, detail });
  }

  onFrame(bytes: Uint8Array): void {
    if (this.#isClosing) return;
    const frame = decodeResponse(bytes);
    if (frame === undefined) return this.#fail("malformed", `it sent ${bytes.length} bytes that are no frame of this protocol`);
    if (this.#claim === undefined) this.#onGreeting(frame);
    else this.#onAnswer(frame);
  }

  onEnd({ detail, refused, malformed }: StreamEnd): void {
    this.#cancelTimer();
    this.#close({ ending: "broken", fault: malformed ? "malformed" : "unreachable", detail: this.#sentence(detail) }, refused);
    this.#owner.onEnded(this);
  }

  #onGreeting(frame: ResponseFrame): void {
    if (frame.type === "refusal") return this.giveUp(frame.fault, frame.detail);
    if (frame.type === "bye") return this.#fail("unreachable", "it is ending");
    if (frame.type !== "welcome") return this.#fail("malformed", `its first word was ${frame.type}`);
    const refusal = this.#context.reception.refusalOfWelcome(frame, this.#target.node);
    if (refusal !== undefined) return this.giveUp(refusal.fault, refusal.detail);
    this.#cancelTimer();
    this.#cancelTimer = ignore;
    this.#claim = frame.claim;
    this.#owner.onOpen(this, frame.claim);
  }

  #onAnswer(frame: ResponseFrame): void {
    switch (frame.type) {
      case "heard":
        if (!(frame.frames > this.#heard && frame.frames <= this.#written)) return;
        this.#heard = frame.frames;
        this.#cancelTimer();
        if (this.#heard < this.#written) this.#awaitHeard();
        return;
      case "bye":
        this.#close({ ending: "bye", fault: "unreachable", detail: this.#sentence("it said bye") });
        return this.#stream.destroy();
      case "refusal":
        return this.giveUp(frame.fault, frame.detail);
      default:
        return this.#fail("malformed", `it said ${frame.type} twice`);
    }
  }

  #awaitHeard(): void {
    const { timers, settings } = this.#context;
    this.#cancelTimer = timers.after(settings.silenceMs, () => this.#fail("unreachable", `it was silent for ${settings.silenceMs} ms`));
  }

  #fail(fault: PeerFault, what: string): void {
    this.giveUp(fault, this.#sentence(what));
  }

  #sentence(what: string): string {
    const { node, address, lane } = this.#target;
    return `node ${this.#context.reception.self.node} dialled node ${node} at ${address} (${lane}): ${what}`;
  }

  #leave(why: Pick<DialledEnd, "ending" | "fault" | "detail">): void {
    if (!this.#close(why)) return;
    if (this.#claim === undefined) return this.#stream.destroy();
    this.#stream.write(encodeRequest({ type: "bye" }), ignore);
    this.#stream.end();
    this.#cancelTimer = this.#context.timers.after(LINGER_MS, () => this.#stream.destroy());
  }

  /** The first reason is the reason. */
  #close(why: Pick<DialledEnd, "ending" | "fault" | "detail">, refused = false): boolean {
    if (this.#isClosing) return false;
    this.#isClosing = true;
    this.#cancelTimer();
    this.#cancelTimer = ignore;
    this.#owner.onClosing(this, { ...why, claim: this.#claim, refused });
    return true;
  }
}
