/** What every decoder owes: bytes that it cannot read are refused by one error, and what it reads is of the type it claims. */
import { OracleError } from "../../src/base/errors.ts";
import { invariant } from "../../src/base/invariant.ts";
import type { Codec } from "../../src/base/shape.ts";

const U64_MAX = 2n ** 64n - 1n;
/** The fields with 128 bits. */
const EPOCHS = new Set(["epoch", "fence", "by"]);

/** "refused" by TSO_WRONG_FORMAT, or "decoded" into a value that is well formed and encodes and decodes to itself. Throws otherwise. */
export function checkDecoder<T>(codec: Codec<T>, bytes: Uint8Array): "refused" | "decoded" {
  const decoded = tryDecode(codec, bytes);
  if (decoded === undefined) return "refused";
  checkWellFormed("", decoded.value);
  const encoded = codec.encode(decoded.value);
  invariant(toHex(codec.encode(codec.decode(encoded))) === toHex(encoded), "a decoded value encodes and decodes to itself");
  return "decoded";
}

/** `undefined` where the bytes are refused as they must be; any other error is thrown on. */
export function tryDecode<T>(codec: Codec<T>, bytes: Uint8Array): { readonly value: T } | undefined {
  try {
    return { value: codec.decode(bytes) };
  } catch (error) {
    if (error instanceof OracleError && error.code === "TSO_WRONG_FORMAT") return undefined;
    throw error;
  }
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
}

/** Nothing but whole numbers from 0 up, 64 bits, well-formed text, bytes, lists and objects of these. */
function checkWellFormed(name: string, value: unknown): void {
  if (typeof value === "number") invariant(Number.isSafeInteger(value) && value >= 0, "a number is whole, from 0 up", { name, value });
  else if (typeof value === "bigint") {
    const max = EPOCHS.has(name) ? (U64_MAX << 64n) + U64_MAX : U64_MAX;
    invariant(value >= 0n && value <= max, "a large number fits its bits", { name, value });
  } else if (typeof value === "string") invariant(value.isWellFormed(), "a text is well-formed", { name });
  else if (value instanceof Uint8Array || value === undefined) return;
  else {
    invariant(typeof value === "object" && value !== null, "a value is a number, text, bytes, a list or an object", { name });
    const isPlain = Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
    invariant(isPlain, "an object has no class", { name });
    for (const [key, part] of Object.entries(value)) checkWellFormed(Array.isArray(value) ? name : key, part);
  }
}
