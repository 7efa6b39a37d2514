import { sameBallot } from "../core/ballot.ts";
import { messageCodec } from "../core/message-codec.ts";
import type { PaxosMessage } from "../core/messages.ts";

/** Encodes what is said to several peers in one turn once: to a leader with 1,000 entries in a turn, each time costs as much as half of the rest of the turn. */
export class MessageEncoder {
  #last: { readonly message: PaxosMessage; readonly bytes: Uint8Array } | undefined;

  /** @throws OracleError TSO_WRONG_FORMAT for a message that no peer could read. */
  encode(message: PaxosMessage): Uint8Array {
    if (this.#last !== undefined && saysTheSame(this.#last.message, message)) return this.#last.bytes;
    const bytes = messageCodec.encode(message);
    if (this.#last === undefined) {
      queueMicrotask(() => {
        this.#last = undefined; // a turn later it would only take up memory
      });
    }
    this.#last = { message, bytes };
    return bytes;
  }
}

/** Peers in step get the very same entries, in messages of their own. */
function saysTheSame(a: PaxosMessage, b: PaxosMessage): boolean {
  if (a === b) return true;
  return (
    a.type === "accept" &&
    b.type === "accept" &&
    a.base === b.base &&
    a.baseChain === b.baseChain &&
    a.decidedThrough === b.decidedThrough &&
    a.entries.length === b.entries.length &&
    sameBallot(a.ballot, b.ballot) &&
    a.entries.every((entry, index) => entry === b.entries[index])
  );
}
