/** What this node says to one peer on one lane: a bounded buffer, and a stream that is opened again whenever it ends. */
import { type DialContext, type DialledEnd, DialledStream, type DialOwner, type DialTarget } from "./dialled-stream.ts";
import { LaneBuffer } from "./lane-buffer.ts";
import type { Lane, PeerClaim } from "./transport.ts";

export interface LaneContext extends DialContext {
  /** In [0, 1), for the pauses between attempts. */
  readonly random: () => number;
}

export interface LaneOwner {
  onLaneOpen(lane: DialledLane, stream: DialledStream, claim: PeerClaim): void;
  /** As soon as it is known why it ends; of streams that were replaced as well. `current`: the lane has lost its stream, or did not get one. */
  onStreamClosing(lane: DialledLane, stream: DialledStream, end: DialledEnd, current: boolean): void;
  onStreamEnded(lane: DialledLane): void;
  /** Later than what brought it about. */
  onBlocked(lane: DialledLane, blocked: boolean): void;
}

export class DialledLane implements DialOwner {
  readonly target: DialTarget;
  readonly #context: LaneContext;
  readonly #owner: LaneOwner;
  readonly #buffer: LaneBuffer;
  /** The newest, until it is known to end. */
  #stream: DialledStream | undefined;
  /** All that have not ended. */
  readonly #streams = new Set<DialledStream>();
  #isOpen = false;
  /** Bytes of the frame that the stream has not taken yet. */
  #leaving = 0;
  #flushIsDue = false;
  #dropped = 0;
  #blocked = false;
  #toldBlocked = false;
  #dialledAt = Number.NEGATIVE_INFINITY;
  #attempts = 0;
  /** Attempts since the lane was open last. */
  #failures = 0;
  #cancelDial: (() => void) | undefined;
  #closed = false;

  constructor(context: LaneContext, target: DialTarget, owner: LaneOwner) {
    this.#context = context;
    this.target = target;
    this.#owner = owner;
    const { settings } = context;
    this.#buffer = new LaneBuffer({
      bytesMax: { control: settings.controlBytesMax, bulk: settings.bulkBytesMax, transfer: settings.transferBytesMax }[target.lane],
      messagesMax: settings.laneMessagesMax,
      whenFull: target.lane === "control" ? "drop-oldest" : "drop-newest",
    });
    this.#dial();
  }

  get lane(): Lane {
    return this.target.lane;
  }

  /** Whether it was closed, and nothing is left of it. */
  get isOver(): boolean {
    return this.#closed && this.#streams.size === 0;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  get queuedBytes(): number {
    return this.#buffer.bytes + this.#leaving;
  }

  get attempts(): number {
    return this.#attempts;
  }

  get dropped(): number {
    return this.#dropped;
  }

  /** Who is there, while the lane is open. */
  get claim(): PeerClaim | undefined {
    return this.#isOpen ? this.#stream?.claim : undefined;
  }

  /** What is sent within one turn, or while a frame is on its way out, leaves together. */
  send(type: "message" | "forming", bytes: Uint8Array): void {
    if (!this.#isOpen) return this.drop();
    this.#dropped += this.#buffer.push(type, bytes);
    this.#look();
    if (this.#flushIsDue || this.#leaving > 0) return;
    this.#flushIsDue = true;
    queueMicrotask(() => {
      this.#flushIsDue = false;
      this.#flush();
    });
  }

  /** Counts a message that never came as far as the buffer. */
  drop(): void {
    this.#dropped += 1;
  }

  /** Ends its stream with a bye, and opens another. */
  reopen(): void {
    this.#leave();
    this.#dial();
  }

  /** Dials without waiting for the end of a pause, but for the shortest. */
  hurry(): void {
    if (this.#cancelDial !== undefined) this.#dialAfter(0);
  }

  /** For a stream that must not be used any longer. */
  giveUp(end: Pick<DialledEnd, "fault" | "detail">): void {
    this.#stream?.giveUp(end.fault, end.detail);
  }

  close(): void {
    this.#stopDialling();
    this.#leave();
  }

  /** The same without a bye: the other side is to take it for the death of this process. */
  abandon(): void {
    this.#stopDialling();
    const stream = this.#stream;
    this.#forgetStream();
    stream?.abandon();
  }

  onOpen(stream: DialledStream, claim: PeerClaim): void {
    if (stream !== this.#stream) return stream.sayBye();
    this.#failures = 0;
    this.#isOpen = true;
    this.#owner.onLaneOpen(this, stream, claim);
  }

  onClosing(stream: DialledStream, end: DialledEnd): void {
    const current = stream === this.#stream;
    if (current) {
      if (end.claim === undefined) this.#failures += 1;
      this.#forgetStream();
      this.#plan();
    }
    this.#owner.onStreamClosing(this, stream, end, current);
  }

  onEnded(stream: DialledStream): void {
    this.#streams.delete(stream);
    this.#owner.onStreamEnded(this);
  }

  #stopDialling(): void {
    this.#closed = true;
    this.#cancelDial?.();
    this.#cancelDial = undefined;
  }

  #leave(): void {
    const stream = this.#stream;
    this.#forgetStream();
    stream?.sayBye();
  }

  /** What waited for it would come too late on another: whoever said it says it again. */
  #forgetStream(): void {
    this.#stream = undefined;
    this.#isOpen = false;
    this.#leaving = 0;
    this.#dropped += this.#buffer.clear();
    this.#look();
  }

  /** At once after a loss; but attempts are never closer than the shortest pause, whatever the other side does with them. */
  #plan(): void {
    if (this.#closed) return;
    const { settings, random } = this.#context;
    const { reconnectMinMs, reconnectMaxMs } = settings;
    this.#dialAfter(this.#failures === 0 ? 0 : Math.min(reconnectMaxMs, reconnectMinMs * 2 ** (this.#failures - 1)) * (0.5 + random()));
  }

  #dialAfter(pause: number): void {
    const { timers, settings } = this.#context;
    const sinceLast = timers.now() - this.#dialledAt;
    this.#cancelDial?.();
    this.#cancelDial = timers.after(Math.max(pause, settings.reconnectMinMs - sinceLast, 0), () => this.#dial());
  }

  #dial(): void {
    this.#cancelDial?.();
    this.#cancelDial = undefined;
    this.#attempts += 1;
    this.#dialledAt = this.#context.timers.now();
    this.#stream = new DialledStream(this.#context, this.target, this);
    this.#streams.add(this.#stream);
  }

  /** One frame at a time is on its way out: what comes meanwhile waits here, where it is counted, and leaves in the next. */
  #flush(): void {
    const stream = this.#stream;
    if (stream === undefined || !this.#isOpen || this.#leaving > 0) return;
    const before = this.#buffer.bytes;
    const frame = this.#buffer.take();
    if (frame === undefined) return;
    this.#leaving = Math.max(1, before - this.#buffer.bytes);
    stream.write(frame, () => {
      if (stream !== this.#stream) return;
      this.#leaving = 0;
      this.#look();
      this.#flush();
    });
  }

  /** F2. */
  #look(): void {
    const { bulkBlockedBytes, bulkFreeBytes, laneMessagesMax } = this.#context.settings;
    const { messages } = this.#buffer;
    const bytes = this.queuedBytes;
    if (this.#blocked) this.#blocked = bytes > bulkFreeBytes || messages > laneMessagesMax / 4;
    else this.#blocked = bytes >= bulkBlockedBytes || messages >= laneMessagesMax / 2;
    if (this.lane !== "bulk" || this.#blocked === this.#toldBlocked) return;
    this.#context.timers.soon(() => {
      if (this.#blocked === this.#toldBlocked) return;
      this.#toldBlocked = this.#blocked;
      this.#owner.onBlocked(this, this.#blocked);
    });
  }
}
