const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** The text of well-formed UTF-8, `undefined` for anything else: a lenient decoder would merge different keys into one. */
export function decodeUtf8Strict(bytes: Uint8Array): string | undefined {
  try {
    return strictDecoder.decode(bytes);
  } catch {
    return undefined; // the only error a fatal TextDecoder has
  }
}

export function encodeUtf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/**
 * Orders well-formed texts as their UTF-8 bytes, which is by code points, without encoding them. JavaScript's own order is by UTF-16 units, in which a
 * character beyond U+FFFF begins with a surrogate, below U+E000.
 */
export function compareUtf8(a: string, b: string): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const [inA, inB] = [a.charCodeAt(i), b.charCodeAt(i)];
    if (inA === inB) continue;
    return isSurrogate(inA) === isSurrogate(inB) ? inA - inB : isSurrogate(inA) ? 1 : -1;
  }
  return a.length - b.length;
}

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff;
}

/** Whether it is a `Uint8Array`, of whichever realm: some test runners have several. */
export function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array || tagOf(value) === "Uint8Array";
}

/** What a value is, for a message: "a Promise", "undefined". */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  const tag = tagOf(value);
  return `${/^[AEIOU]/.test(tag) ? "an" : "a"} ${tag}`;
}

function tagOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice("[object ".length, -1);
}
