/**
 * A client that shares no code with `src`: it reads the .proto files, and reads and writes messages by hand, so that it can also send what no client
 * should. Fields keep the names of the .proto files.
 */
import { readFileSync } from "node:fs";
import { type ChannelCredentials, type ChannelOptions, Client, credentials, Metadata, type StatusObject } from "@grpc/grpc-js";

export type Value = number | bigint | string | boolean | Uint8Array | Fields | readonly Value[] | undefined;
export interface Fields {
  readonly [name: string]: Value;
}

export interface Reply {
  readonly code: number;
  readonly message: string;
  /** Everything but `optional` fields and messages has a value, as proto3 has it. */
  readonly response: Fields | undefined;
  /** The trailer of a leader's hint, as it came. */
  readonly hint: Uint8Array | undefined;
}

interface Field {
  readonly name: string;
  readonly number: number;
  readonly type: string;
  readonly label: "optional" | "repeated" | "plain";
}

interface Method {
  readonly path: string;
  readonly request: string;
  readonly response: string;
}

/** An answer that has not come by then never will: what is waited for here takes milliseconds. */
const HANG_MS = 20_000;

const messages = new Map<string, readonly Field[]>();
const methods = new Map<string, Method>();
for (const file of ["tsoracle/v1/tso.proto", "tsoracle/node/v1/node.proto"]) {
  readProto(readFileSync(new URL(`../../proto/${file}`, import.meta.url), "utf8"));
}

export const METHODS: readonly string[] = [...methods.keys()];

export class RawClient {
  readonly #client: Client;

  constructor(address: string, channelCredentials: ChannelCredentials = credentials.createInsecure(), options: ChannelOptions = {}) {
    this.#client = new Client(address, channelCredentials, { "grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0, ...options });
  }

  async call(method: string, request: Fields = {}): Promise<Reply> {
    return this.send(method, encodeRequest(method, request));
  }

  /** Sends `bytes` as the request, whatever they are. */
  async send(method: string, bytes: Uint8Array): Promise<Reply> {
    const { path, response } = methodOf(method);
    return this.sendTo(path, bytes, response);
  }

  sendTo(path: string, bytes: Uint8Array, response?: string): Promise<Reply> {
    return new Promise((resolve) => {
      let received: Buffer | undefined;
      this.#client
        .makeUnaryRequest(
          path,
          (request: Uint8Array) => Buffer.from(request),
          (reply: Buffer) => reply,
          bytes,
          new Metadata(),
          { deadline: Date.now() + HANG_MS },
          (_, reply) => {
            received = reply;
          },
        )
        .on("status", ({ code, details, metadata }: StatusObject) => {
          const [hint] = metadata.get("tsoracle-leader-hint-bin");
          setImmediate(() =>
            resolve({
              code,
              message: details,
              response: received === undefined || response === undefined ? undefined : decode(response, received),
              hint: hint === undefined ? undefined : new Uint8Array(Buffer.from(hint)),
            }),
          );
        });
    });
  }

  close(): void {
    this.#client.close();
  }
}

export function pathOf(method: string): string {
  return methodOf(method).path;
}

export function encodeRequest(method: string, request: Fields): Uint8Array {
  return encode(methodOf(method).request, request);
}

/** @throws Error for bytes that are no such message: nothing is forgiven. */
export function decode(message: string, bytes: Uint8Array): Fields {
  const fields = fieldsOf(message);
  const result: Record<string, Value> = {};
  for (const { name, type, label } of fields) {
    if (label === "repeated") result[name] = [];
    else if (label === "plain" && !messages.has(type)) result[name] = zeroOf(type);
  }
  const reader = { bytes, at: 0 };
  while (reader.at < bytes.length) {
    const tag = Number(readVarint(reader));
    const field = fields.find(({ number }) => number === tag >>> 3);
    if (field === undefined) throw new Error(`${message} has no field ${tag >>> 3}`);
    const value = readValue(field.type, tag & 7, reader);
    const before = result[field.name];
    result[field.name] = Array.isArray(before) ? [...before, value] : value;
  }
  return result;
}

/** One field of a message, for messages made by hand. */
export function field(number: number, value: number | bigint | string | Uint8Array): Uint8Array {
  if (typeof value === "number" || typeof value === "bigint") return join(varint(BigInt(number << 3)), varint(BigInt(value)));
  const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
  return join(varint(BigInt((number << 3) | 2)), varint(BigInt(bytes.length)), bytes);
}

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function encode(message: string, values: Fields): Uint8Array {
  const fields = fieldsOf(message);
  return join(
    ...Object.entries(values).flatMap(([name, value]) => {
      const found = fields.find((candidate) => candidate.name === name);
      if (found === undefined) throw new Error(`${message} has no field ${name}`);
      return (isList(value) ? value : [value]).map((item) => encodeValue(found, item));
    }),
  );
}

function encodeValue({ number, type }: Field, value: Value): Uint8Array {
  if (value === undefined) return new Uint8Array();
  if (isFields(value)) return field(number, encode(type, value));
  if (typeof value === "boolean") return field(number, value ? 1 : 0);
  if (isList(value)) throw new Error("there is no list of lists");
  return field(number, value);
}

interface Reader {
  readonly bytes: Uint8Array;
  at: number;
}

function readValue(type: string, wireType: number, reader: Reader): Value {
  if (wireType === 0) {
    const value = readVarint(reader);
    if (type === "uint64") return value;
    return type === "bool" ? value !== 0n : Number(value);
  }
  if (wireType === 1 && type === "double") return new DataView(take(reader, 8).buffer).getFloat64(0, true);
  if (wireType !== 2) throw new Error(`wire type ${wireType} for ${type}`);
  const bytes = take(reader, Number(readVarint(reader)));
  if (type === "string") return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  return type === "bytes" ? bytes : decode(type, bytes);
}

/** A copy of the next `length` bytes. */
function take(reader: Reader, length: number): Uint8Array {
  if (reader.at + length > reader.bytes.length) throw new Error("the message ends too early");
  reader.at += length;
  return new Uint8Array(reader.bytes.subarray(reader.at - length, reader.at));
}

function readVarint(reader: Reader): bigint {
  let value = 0n;
  for (let shift = 0n; ; shift += 7n) {
    const [byte = 0] = take(reader, 1);
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return Uint8Array.from([...bytes, Number(rest)]);
}

function zeroOf(type: string): Value {
  switch (type) {
    case "uint64":
      return 0n;
    case "string":
      return "";
    case "bytes":
      return new Uint8Array();
    case "bool":
      return false;
    default:
      return 0; // uint32, double, an enum
  }
}

export function isFields(value: Value): value is Fields {
  return typeof value === "object" && !(value instanceof Uint8Array) && !Array.isArray(value);
}

function isList(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}

function methodOf(method: string): Method {
  const found = methods.get(method);
  if (found === undefined) throw new Error(`no such method: ${method}`);
  return found;
}

function fieldsOf(message: string): readonly Field[] {
  const found = messages.get(message);
  if (found === undefined) throw new Error(`no such message: ${message}`);
  return found;
}

/** As much of the language as our files use. */
function readProto(text: string): void {
  const tokens = text.replace(/\/\/.*$/gm, "").match(/[\w.]+|"[^"]*"|[{}();=]/g) ?? [];
  let at = 0;
  let scope = "";
  const next = (expected?: string): string => {
    const token = tokens[at++] ?? "the end";
    if (expected !== undefined && token !== expected) throw new Error(`expected ${expected}, found ${token}`);
    return token;
  };
  const each = (read: (token: string) => void): void => {
    next("{");
    for (let token = next(); token !== "}"; token = next()) read(token);
  };
  const skipStatement = (): void => {
    while (next() !== ";");
  };
  const readMessage = (): void => {
    const name = next();
    const fields: Field[] = [];
    each((token) => {
      if (token === "enum") {
        next();
        each(skipStatement);
        return;
      }
      const label = token === "optional" || token === "repeated" ? token : "plain";
      const type = label === "plain" ? token : next();
      const fieldName = next();
      next("=");
      fields.push({ name: fieldName, number: Number(next()), type, label });
      next(";");
    });
    messages.set(name, fields);
  };
  const readService = (): void => {
    const service = next();
    each(() => {
      const method = next();
      next("(");
      const request = next();
      for (const token of [")", "returns", "("]) next(token);
      methods.set(method, { path: `/${scope}.${service}/${method}`, request, response: next() });
      for (const token of [")", ";"]) next(token);
    });
  };
  while (at < tokens.length) {
    const token = next();
    if (token === "package") {
      scope = next();
      next(";");
    } else if (token === "message") readMessage();
    else if (token === "service") readService();
    else skipStatement();
  }
}
