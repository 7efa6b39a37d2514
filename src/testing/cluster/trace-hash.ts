/** One number for everything that happened, in order: cheap enough to be taken at every event. */

/** One round of murmur3: what differs in one bit differs in about half of them afterwards. */
export function mix(hash: number, value: number): number {
  let k = Math.imul(value | 0, 0xcc9e2d51);
  k = (k << 15) | (k >>> 17);
  let mixed = hash ^ Math.imul(k, 0x1b873593);
  mixed = (mixed << 13) | (mixed >>> 19);
  return (Math.imul(mixed, 5) + 0xe6546b64) | 0;
}

/** Two of them, started apart: 64 bits, so that two runs that differ are seen to. */
export class TraceHash {
  #low = 0x2545f491;
  #high = 0x1f123bb5;

  note(value: number): void {
    this.#low = mix(this.#low, value);
    this.#high = mix(this.#high, value ^ this.#low);
  }

  get text(): string {
    return hex(this.#high) + hex(this.#low);
  }
}

function hex(value: number): string {
  return (value >>> 0).toString(16).padStart(8, "0");
}
