/** Messages from damaged bytes: refused by TSO_WRONG_FORMAT, or read as what their types say, and as the same again from their own bytes. */
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { Packr, Unpackr } from "msgpackr";
import { messageCodec } from "../src/paxos/core/message-codec.ts";
import { anyMessageOf, checkPaxosDecoder, MESSAGE_TYPES } from "../test/support/paxos-values.ts";
import { main } from "./harness.ts";

const packer = new Packr({ useRecords: false });
const unpacker = new Unpackr({ useRecords: false, int64AsType: "bigint" });
/** What msgpack can say and no message does: nothing, maps, texts, numbers that are not whole, references, extensions; and the edges of what one does. */
const WORDS = [
  ...["c0", "c1", "c2", "c3", "80", "81", "a0", "ddffffffff", "c6ffffffff", "cb8000000000000000", "cb433fffffffffffff", "cb4340000000000000"],
  ...["cb7ff8000000000000", "cf8000000000000000", "d3ffffffffffffffff", "ff", "cdffff", "ce00010000", "ceffffffff", "cf0000000100000000"],
  ...["d40000", "d66900000001", "d67000000001", "c7094201ffffffffffffffff", "d6ff00000001", "d57240e0", "d66200000004", "c7027401"],
].map((hex) => new Uint8Array(Buffer.from(hex, "hex")));

await main({
  name: "paxos-messages",
  corpus: MESSAGE_TYPES.flatMap((type) => fc.sample(anyMessageOf(type), { numRuns: 20, seed: 1 }).map((message) => messageCodec.encode(message))),
  words: WORDS,
  run: (bytes) => {
    checkPaxosDecoder(messageCodec, bytes);
    const mended = withMendedRecords(bytes);
    if (mended !== undefined) checkPaxosDecoder(messageCodec, mended);
  },
});

/** The same message, with records whose lengths and checksums fit their bytes again: or chance would hardly ever get past the checksums. */
function withMendedRecords(bytes: Uint8Array): Uint8Array | undefined {
  try {
    return packer.pack(mended(unpacker.unpack(bytes)));
  } catch {
    return undefined; // not msgpack, or nothing that can be written
  }
}

function mended(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  let previousChain: number | undefined;
  return value.map((part) => {
    if (!(part instanceof Uint8Array) || part.length < 38 || part[0] !== 0xe7) return mended(part);
    const record = new Uint8Array(part);
    const view = new DataView(record.buffer);
    const end = record.length - 8;
    view.setUint32(26, end - 30, true);
    const body = crc32(record.subarray(0, end));
    const link = new Uint8Array(4);
    new DataView(link.buffer).setUint32(0, body, true);
    // The first keeps its chain, which may then contradict the message's.
    if (previousChain !== undefined) view.setUint32(end, crc32(link, previousChain), true);
    previousChain = view.getUint32(end, true);
    view.setUint32(end + 4, crc32(record.subarray(end, end + 4), body), true);
    return record;
  });
}
