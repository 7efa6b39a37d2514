/** What waits to leave on one lane to one peer. */
import { FRAME_BYTES, PART_OVERHEAD, type RequestFrame } from "./frames.ts";

export interface LaneLimits {
  readonly bytesMax: number;
  readonly messagesMax: number;
  /**
   * Which message goes when there is no room. On the control lane the oldest: votes and acknowledgements are cumulative, and a heartbeat is worth less with every
   * moment. On the others the newest: entries that come after a gap are of no use to their receiver.
   */
  readonly whenFull: "drop-oldest" | "drop-newest";
}

interface Waiting {
  readonly type: "message" | "forming";
  readonly bytes: Uint8Array;
  /** How many of them have left. */
  sent: number;
}

/** Bounded in bytes and in messages; but one message always fits, however long. */
export class LaneBuffer {
  readonly #limits: LaneLimits;
  #waiting: Waiting[] = [];
  #bytes = 0;

  constructor(limits: LaneLimits) {
    this.#limits = limits;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get messages(): number {
    return this.#waiting.length;
  }

  /** Returns how many messages were dropped for want of room, this one perhaps among them. */
  push(type: Waiting["type"], bytes: Uint8Array): number {
    let dropped = 0;
    while (!this.#hasRoom(bytes.length)) {
      dropped += 1;
      if (this.#limits.whenFull === "drop-newest" || !this.#dropOldest()) return dropped;
    }
    this.#waiting.push({ type, bytes, sent: 0 });
    this.#bytes += bytes.length;
    return dropped;
  }

  /** The next frame, with as much as fits into it. */
  take(): RequestFrame | undefined {
    const [first] = this.#waiting;
    if (first?.type === "forming") {
      this.#waiting.shift();
      this.#bytes -= first.bytes.length;
      return { type: "forming", bytes: first.bytes };
    }
    const parts: Uint8Array[] = [];
    let room = FRAME_BYTES;
    for (let head = first; head?.type === "message" && room > PART_OVERHEAD; head = this.#waiting[0]) {
      const part = head.bytes.subarray(head.sent, head.sent + room - PART_OVERHEAD);
      parts.push(part);
      room -= part.length + PART_OVERHEAD;
      head.sent += part.length;
      this.#bytes -= part.length;
      if (head.sent < head.bytes.length) return { type: "messages", parts, unfinished: true };
      this.#waiting.shift();
    }
    return parts.length === 0 ? undefined : { type: "messages", parts, unfinished: false };
  }

  /** Forgets everything, and returns how many messages that were. */
  clear(): number {
    const { length } = this.#waiting;
    this.#waiting = [];
    this.#bytes = 0;
    return length;
  }

  #hasRoom(bytes: number): boolean {
    const { bytesMax, messagesMax } = this.#limits;
    return this.#waiting.length === 0 || (this.#waiting.length < messagesMax && this.#bytes + bytes <= bytesMax);
  }

  /** A message whose beginning has left stays. */
  #dropOldest(): boolean {
    const at = this.#waiting[0]?.sent === 0 ? 0 : 1;
    const [oldest] = this.#waiting.splice(at, 1);
    if (oldest === undefined) return false;
    this.#bytes -= oldest.bytes.length;
    return true;
  }
}
