/** The baseline's codec: messages whose fields 1, 2, ... are all unsigned numbers below 2^53, and all there. Imports nothing. */

export function encodeNumbers(values: readonly number[]): Buffer {
  const bytes: number[] = [];
  for (let i = 0; i < values.length; i++) {
    bytes.push((i + 1) << 3);
    let rest = values[i] ?? 0;
    while (rest >= 0x80) {
      bytes.push((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    bytes.push(rest);
  }
  return Buffer.from(bytes);
}

export function decodeNumbers(bytes: Buffer): number[] {
  const values: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at++] !== (values.length + 1) << 3) throw new TypeError("not the field that comes next");
    let value = 0;
    for (let unit = 1; ; unit *= 0x80) {
      const byte = bytes[at++];
      if (byte === undefined) throw new TypeError("the message is cut off");
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) break;
    }
    values.push(value);
  }
  return values;
}
