/**
 * Shapes of durable and peer data: each type is described once, and both directions follow. `write` turns a value into plain arrays, numbers, texts
 * and bytes for msgpack; `read` checks everything it is given, so that no decoded value is ever one that its type excludes.
 */
import { Packr, Unpackr } from "msgpackr";
import { decodeUtf8Strict, encodeUtf8 } from "./bytes.ts";
import { type Epoch, epochFromParts, epochParts } from "./epoch.ts";
import { OracleError } from "./errors.ts";
import { U64_MAX } from "./u64.ts";

export interface Shape<T> {
  /** @throws OracleError TSO_WRONG_FORMAT for a value that `read` would refuse: nothing is stored that cannot be read again. */
  write(value: T): unknown;
  /** @throws OracleError TSO_WRONG_FORMAT */
  read(raw: unknown): T;
}

/** Bytes of one kind of thing, whole in itself: `[version, value]`. */
export interface Codec<T> {
  encode(value: T): Uint8Array;
  /** @throws OracleError TSO_WRONG_FORMAT, naming `what` was expected; a later version is named. */
  decode(bytes: Uint8Array): T;
}

// No shared structures: any single item decodes alone. No references either: by naming one value many times, a few bytes would decode into gigabytes.
const packer = new Packr({ useRecords: false });
const unpacker = new Unpackr({ useRecords: false, int64AsType: "bigint", structuredClone: false });

export function createCodec<T>(what: string, version: number, shape: Shape<T>): Codec<T> {
  return {
    encode: (value) => new Uint8Array(packer.pack([version, shape.write(value)])),
    decode: (bytes) => {
      const raw = unpack(what, bytes);
      const [found, value] = Array.isArray(raw) && raw.length === 2 ? raw : [];
      if (Number.isSafeInteger(found) && found > version) {
        throw new OracleError("TSO_WRONG_FORMAT", `${what} has format ${found}, and this release reads up to ${version}`);
      }
      if (found !== version) throw malformed(what);
      try {
        return shape.read(value);
      } catch (error) {
        if (!(error instanceof OracleError)) throw error;
        throw malformed(what, error);
      }
    },
  };
}

/** A whole number from `min`, 0 if not said, to `max`, 2^53-1 if not said. Read as 0 where the bytes say -0, which is equal to it but not the same. */
export function whole(max: number = Number.MAX_SAFE_INTEGER, min = 0): Shape<number> {
  const shape = checked(
    (raw): raw is number => typeof raw === "number" && Number.isSafeInteger(raw) && raw >= min && raw <= max,
    `a whole number from ${min} to ${max}`,
  );
  return { write: shape.write, read: (raw) => shape.read(raw) + 0 };
}

export const boolean: Shape<boolean> = checked((raw): raw is boolean => typeof raw === "boolean", "true or false");

/** An unsigned 64-bit number. */
export const u64: Shape<bigint> = checked(
  (raw): raw is bigint => typeof raw === "bigint" && raw >= 0n && raw <= U64_MAX,
  "an unsigned 64-bit number",
);

/** Well-formed text, as bytes: msgpack's own texts are read leniently, and two that differ could be read as one. */
export const text: Shape<string> = {
  write: (value) => (value.isWellFormed() ? encodeUtf8(value) : fail("well-formed text", value)),
  read: (raw) => (raw instanceof Uint8Array ? decodeUtf8Strict(raw) : undefined) ?? fail("well-formed text", raw),
};

/** Read as a copy, so that a small value does not keep a large buffer alive; never a Buffer. */
export const bytes: Shape<Uint8Array> = {
  write: (value) => value,
  read: (raw) => (raw instanceof Uint8Array ? new Uint8Array(raw) : fail("bytes", raw)),
};

export const epochShape: Shape<Epoch> = {
  write: (value) => {
    const { hi, lo } = epochParts(value);
    return [hi, lo];
  },
  read: (raw) => {
    const [hi, lo] = tuple(raw, 2);
    return epochFromParts(u64.read(hi), u64.read(lo));
  },
};

export function optional<T>(shape: Shape<T>): Shape<T | undefined> {
  return {
    write: (value) => (value === undefined ? null : shape.write(value)),
    read: (raw) => (raw === null ? undefined : shape.read(raw)),
  };
}

export function oneOf<T extends string>(names: readonly T[]): Shape<T> {
  return {
    write: (value) => names.indexOf(value),
    read: (raw) => (typeof raw === "number" ? names[raw] : undefined) ?? fail(`an index into ${names.join(", ")}`, raw),
  };
}

/** At most `max` values, without limit if not said: more are refused before any of them is read. */
export function list<T>(shape: Shape<T>, max = Number.POSITIVE_INFINITY): Shape<readonly T[]> {
  const check = <Item>(values: readonly Item[]): readonly Item[] => (values.length <= max ? values : fail(`a list of at most ${max}`, values));
  return {
    write: (values) => check(values).map((value) => shape.write(value)),
    read: (raw) => (Array.isArray(raw) ? check(raw).map((value) => shape.read(value)) : fail("a list", raw)),
  };
}

/** An object's fields as an array, in the order in which they are given here: adding one is a new format. */
export function record<T extends object>(fields: { readonly [Name in keyof T]-?: Shape<T[Name]> }): Shape<T> {
  const shapes = Object.entries(fields) as [keyof T, Shape<T[keyof T]>][];
  return {
    write: (value) => shapes.map(([name, shape]) => shape.write(value[name])),
    read: (raw) => {
      const values = tuple(raw, shapes.length);
      const result: Partial<T> = {};
      shapes.forEach(([name, shape], index) => {
        const value = shape.read(values[index]);
        if (value !== undefined) result[name] = value;
      });
      return result as T;
    },
  };
}

/** The cases of a union, told apart by `discriminator`; each has a number of its own on the wire, which is never used for another. */
export function union<T extends object, K extends keyof T & string>(
  discriminator: K,
  cases: { readonly [Name in T[K] & string]: readonly [tag: number, shape: Shape<Omit<Extract<T, Record<K, Name>>, K>>] },
): Shape<T> {
  const byName = cases as Readonly<Record<string, readonly [number, Shape<object>]>>;
  const byTag = new Map(Object.entries(byName).map(([name, [tag, shape]]) => [tag, { name, shape }]));
  return {
    write: (value) => {
      const [tag, shape] = byName[value[discriminator] as string] ?? fail("a known case", value[discriminator]);
      return [tag, shape.write(value)];
    },
    read: (raw) => {
      const [tag, fields] = tuple(raw, 2);
      const found = byTag.get(tag as number) ?? fail("a known tag", tag);
      return { [discriminator]: found.name, ...found.shape.read(fields) } as unknown as T;
    },
  };
}

/** What `shape` describes, where `fault` finds nothing wrong with it: how parts of a value relate. `fault` says what was expected, and what is there instead. */
export function refined<T>(shape: Shape<T>, fault: (value: T) => string | undefined): Shape<T> {
  const check = (value: T): T => {
    const found = fault(value);
    if (found !== undefined) throw new OracleError("TSO_WRONG_FORMAT", found);
    return value;
  };
  return { write: (value) => shape.write(check(value)), read: (raw) => check(shape.read(raw)) };
}

/** No fields at all. */
export const empty: Shape<object> = record({});

/** The same check in both directions. */
function checked<T>(fits: (raw: unknown) => raw is T, expected: string): Shape<T> {
  const check = (raw: unknown): T => (fits(raw) ? raw : fail(expected, raw));
  return { write: check, read: check };
}

function tuple(raw: unknown, length: number): readonly unknown[] {
  return Array.isArray(raw) && raw.length === length ? raw : fail(`a list of ${length}`, raw);
}

function unpack(what: string, packed: Uint8Array): unknown {
  try {
    return unpacker.unpack(packed);
  } catch (error) {
    throw malformed(what, error); // msgpackr throws plain errors of many kinds for bytes that are not msgpack
  }
}

/** The message has no word of what was read: replicas that answer with it must answer alike. */
function malformed(what: string, cause?: unknown): OracleError {
  return new OracleError("TSO_WRONG_FORMAT", `${what} is malformed`, { cause });
}

function fail(expected: string, raw: unknown): never {
  throw new OracleError("TSO_WRONG_FORMAT", `expected ${expected}, got ${describe(raw)}`);
}

function describe(raw: unknown): string {
  if (Array.isArray(raw)) return `a list of ${raw.length}`;
  if (raw instanceof Uint8Array) return `${raw.length} bytes`;
  if (typeof raw === "string") return JSON.stringify(raw.slice(0, 40));
  return typeof raw === "object" && raw !== null ? "an object" : String(raw);
}
