/** Requests from damaged bytes, by the decoder of each method: never an error, and what is read is of its type and reads again as the same. */
import { isDeepStrictEqual } from "node:util";
import { NodeServiceService } from "../src/gen/tsoracle/node/v1/node.ts";
import { TsoServiceService } from "../src/gen/tsoracle/v1/tso.ts";
import { nodeServiceDefinition } from "../src/server/node-service.ts";
import type { Received } from "../src/server/request.ts";
import { tsoServiceDefinition } from "../src/server/tso-service.ts";
import { encodeRequest, field, join } from "../test/support/raw-client.ts";
import { main } from "./harness.ts";

const U64_MAX = 2n ** 64n - 1n;
/** One method: how its requests are read, and how they are written. */
interface Method {
  readonly name: string;
  readonly read: (bytes: Buffer) => Received<unknown>;
  readonly write: (request: never) => Buffer;
}

const methods: readonly Method[] = [
  ...Object.entries(tsoServiceDefinition).map(([name, { requestDeserialize }]) => ({
    name,
    read: requestDeserialize,
    write: TsoServiceService[name as keyof typeof tsoServiceDefinition].requestSerialize,
  })),
  ...Object.entries(nodeServiceDefinition).map(([name, { requestDeserialize }]) => ({
    name,
    read: requestDeserialize,
    write: NodeServiceService[name as keyof typeof nodeServiceDefinition].requestSerialize,
  })),
];
if (methods.length !== 12) throw new Error(`${methods.length} methods, of which this target should know all`);

const bytesOf = (...hex: readonly string[]): readonly Uint8Array[] => hex.map((digits) => new Uint8Array(Buffer.from(digits, "hex")));

await main({
  name: "requests",
  corpus: [
    new Uint8Array(),
    encodeRequest("GetTs", { count: 262_144 }),
    encodeRequest("GetSeq", { key: "key é \u{1f600}", count: 65_536 }),
    encodeRequest("GetSeqBatch", { entries: ["a", "b", "é"].map((key, index) => ({ key, count: index + 1 })) }),
    encodeRequest("AcquireLease", { holder: new Uint8Array([0, 1, 255]), holder_epoch: U64_MAX, ttl_ms: 300_000n }),
    encodeRequest("RenewLease", { lease_id: 2n ** 46n - 1n }),
    encodeRequest("InitSeq", { key: "key", first: U64_MAX }),
    encodeRequest("ListSeqs", { page_size: 1_000, page_token: "key" }),
    join(encodeRequest("GetSeq", { key: "key", count: 1 }), field(15, "of a later version"), field(16, U64_MAX)),
  ],
  words: [
    // no UTF-8: begins nothing, continues nothing, too short, too long, a surrogate, beyond the last character
    ...bytesOf("ff", "80", "e282", "c080", "eda080", "edb080", "f4908080", "f888808080"),
    // numbers of ten bytes and more, tags of no field, of groups, of types that do not exist
    ...bytesOf("ffffffffffffffffff01", "ffffffffffffffffffff01", "8080808010", "00", "02", "0b", "0c", "0e", "0f", "1b", "1c"),
    // what a message in a message reads beyond its end, and both have a meaning
    ...bytesOf("0a040a016b101000", "0a020a01"),
    // keys once more, and lengths beyond the end
    ...bytesOf("0a00", "0a0161", "0affffffff0f", "0a80808080f0ffffffff01"),
  ],
  run: (bytes) => {
    for (const method of methods) readWith(method, Buffer.from(bytes));
  },
});

function readWith({ name, read, write }: Method, bytes: Buffer): void {
  const received = read(bytes);
  if (received.type === "malformed") {
    if (typeof received.reason !== "string" || received.reason === "") throw new Error(`${name}: refused without a reason`);
    return;
  }
  if (!endsWhereItShould(bytes, name === "getSeqBatch" ? 1 : 0)) throw new Error(`${name}: bytes that are no message were read`);
  checkValue(name, received.request, bytes);
  const again = read(write(received.request as never));
  if (!isDeepStrictEqual(again, received)) throw new Error(`${name}: what was read is written and read as something else`);
}

/** Whether every field, and every field of the messages in the field `nested`, ends within its message. Numbers may have any length. */
function endsWhereItShould(bytes: Buffer, nested: number): boolean {
  let at = 0;
  const number = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++] ?? 256;
      if (byte === 256) return -1n; // beyond the end
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const groups: bigint[] = [];
  while (at < bytes.length) {
    const tag = number();
    const field = tag >> 3n;
    if (tag < 0n || tag > 0xffff_ffffn || field === 0n) return false;
    const type = Number(tag & 7n);
    if (type === 3) groups.push(field);
    else if (type === 4) {
      if (groups.pop() !== field) return false;
    } else if (type === 0) {
      if (number() < 0n) return false;
    } else if (type === 2) {
      const length = number();
      if (length < 0n || length > bytes.length - at) return false;
      const inner = bytes.subarray(at, at + Number(length));
      if (groups.length === 0 && Number(field) === nested && !endsWhereItShould(inner, 0)) return false;
      at += inner.length;
    } else if (type === 1 || type === 5) at += type === 1 ? 8 : 4;
    else return false;
  }
  return at === bytes.length && groups.length === 0;
}

/** Nothing but unsigned numbers of 32 bits, of 64 bits, texts and bytes as they stand in the input, and lists and objects of these. */
function checkValue(path: string, value: unknown, input: Buffer): void {
  if (typeof value === "number") check(path, Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff);
  else if (typeof value === "bigint") check(path, value >= 0n && value <= U64_MAX);
  // A reader that puts U+FFFD where bytes are no UTF-8 gives a text that nobody sent.
  else if (typeof value === "string") check(path, input.includes(value) && value.isWellFormed());
  else if (value instanceof Uint8Array) check(path, input.includes(Buffer.from(value)));
  else {
    check(path, typeof value === "object" && value !== null);
    for (const [name, part] of Object.entries(value as object)) checkValue(`${path}.${name}`, part, input);
  }
}

function check(path: string, holds: boolean): void {
  if (!holds) throw new Error(`${path} is not what was sent`);
}
