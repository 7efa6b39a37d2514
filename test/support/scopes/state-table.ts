/** Triples of small numbers, each once, in the order in which they came. Some twenty bytes each: a `Set` of keys would need five times as much, and ends at 2^24. */
const ROWS = 1 << 18;

export class StateTable {
  readonly #chunks: Uint32Array[] = [];
  #slots = new Uint32Array(1 << 16);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** @returns false if it was there. */
  add(a: number, b: number, c: number): boolean {
    const mask = this.#slots.length - 1;
    let slot = hash(a, b, c) & mask;
    for (let row = this.#slots[slot] ?? 0; row !== 0; row = this.#slots[slot] ?? 0) {
      if (this.#isAt(row - 1, a, b, c)) return false;
      slot = (slot + 1) & mask;
    }
    this.#push(a, b, c);
    this.#slots[slot] = this.#size;
    if (this.#size * 10 > this.#slots.length * 7) this.#grow();
    return true;
  }

  /** Writes the three numbers of a row into `into`. */
  read(row: number, into: Uint32Array): void {
    const chunk = this.#chunks[Math.floor(row / ROWS)];
    const at = (row % ROWS) * 3;
    into[0] = chunk?.[at] ?? 0;
    into[1] = chunk?.[at + 1] ?? 0;
    into[2] = chunk?.[at + 2] ?? 0;
  }

  #isAt(row: number, a: number, b: number, c: number): boolean {
    const chunk = this.#chunks[Math.floor(row / ROWS)];
    const at = (row % ROWS) * 3;
    return chunk !== undefined && chunk[at] === a && chunk[at + 1] === b && chunk[at + 2] === c;
  }

  #push(a: number, b: number, c: number): void {
    const row = this.#size;
    const at = (row % ROWS) * 3;
    if (at === 0) this.#chunks.push(new Uint32Array(ROWS * 3));
    const chunk = this.#chunks[Math.floor(row / ROWS)];
    chunk?.set([a, b, c], at);
    this.#size += 1;
  }

  #grow(): void {
    const slots = new Uint32Array(this.#slots.length * 2);
    const mask = slots.length - 1;
    const state = new Uint32Array(3);
    for (let row = 0; row < this.#size; row++) {
      this.read(row, state);
      let slot = hash(state[0] ?? 0, state[1] ?? 0, state[2] ?? 0) & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = row + 1;
    }
    this.#slots = slots;
  }
}

function hash(a: number, b: number, c: number): number {
  let mixed = Math.imul(a + 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b + 0x7f4a7c15, 0xc2b2ae35) ^ Math.imul(c + 0x165667b1, 0x27d4eb2f);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  mixed = Math.imul(mixed ^ (mixed >>> 12), 0x297a2d39);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

/** Pairs of small numbers to a number from 1 up. */
export class PairMap {
  #keys = new Uint32Array(1 << 12);
  #others = new Uint32Array(1 << 12);
  #values = new Uint32Array(1 << 12);
  #size = 0;

  /** 0 where nothing was set. */
  get(a: number, b: number): number {
    return this.#values[this.#find(a, b)] ?? 0;
  }

  set(a: number, b: number, value: number): void {
    const slot = this.#find(a, b);
    if (this.#values[slot] === 0) this.#size += 1;
    this.#keys[slot] = a;
    this.#others[slot] = b;
    this.#values[slot] = value;
    if (this.#size * 10 > this.#values.length * 7) this.#grow();
  }

  #find(a: number, b: number): number {
    const mask = this.#values.length - 1;
    let slot = hash(a, b, 0) & mask;
    while (this.#values[slot] !== 0 && (this.#keys[slot] !== a || this.#others[slot] !== b)) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const [keys, others, values] = [this.#keys, this.#others, this.#values];
    this.#keys = new Uint32Array(keys.length * 2);
    this.#others = new Uint32Array(keys.length * 2);
    this.#values = new Uint32Array(keys.length * 2);
    for (let old = 0; old < keys.length; old++) {
      const value = values[old] ?? 0;
      if (value === 0) continue;
      const slot = this.#find(keys[old] ?? 0, others[old] ?? 0);
      this.#keys[slot] = keys[old] ?? 0;
      this.#others[slot] = others[old] ?? 0;
      this.#values[slot] = value;
    }
  }
}
