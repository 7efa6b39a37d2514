/** Records, configurations and images from damaged bytes, as they might stand on a disk: refused by TSO_WRONG_FORMAT, or read as what their types say. */
import { isDeepStrictEqual } from "node:util";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { OracleError } from "../src/base/errors.ts";
import { configurationCodec } from "../src/paxos/core/configuration.ts";
import { createEntry, decodeEntry, type Entry } from "../src/paxos/core/entry.ts";
import { imageCodec } from "../src/paxos/core/image-codec.ts";
import { anyConfiguration, anyEntry, anyImage, checkPaxosDecoder } from "../test/support/paxos-values.ts";
import { main } from "./harness.ts";

const sample = { numRuns: 200, seed: 1 };

await main({
  name: "paxos-records",
  corpus: [
    ...fc.sample(anyEntry, sample).map(({ record }) => record),
    ...fc.sample(anyConfiguration, sample).map((configuration) => configurationCodec.encode(configuration)),
    ...fc.sample(anyImage, sample).map((image) => imageCodec.encode(image)),
  ],
  // Edges of a number of 64 bits, little-endian, and of msgpack's numbers.
  words: ["ffffffffffff1f00", "0000000000002000", "ffffffffffffffff", "cb8000000000000000", "cb433fffffffffffff", "c0", "d67000000001"].map(
    (hex) => new Uint8Array(Buffer.from(hex, "hex")),
  ),
  run: (bytes) => {
    checkPaxosDecoder(configurationCodec, bytes);
    checkPaxosDecoder(imageCodec, bytes);
    checkRecord(bytes);
    if (bytes.length >= 38) checkRecord(mended(bytes));
  },
});

function checkRecord(bytes: Uint8Array): void {
  const entry = tryDecodeEntry(bytes);
  if (entry === undefined) return;
  const { slot, origin, kind, payload } = entry;
  for (const number of [slot, origin.round, origin.prio, origin.node]) {
    if (!Number.isSafeInteger(number) || number < 0) throw new Error(`${number} is not whole`);
  }
  if (slot < 1) throw new Error("before the log");
  // A record is its fields and nothing else, but for the chain, which stands for all that came before.
  const again = createEntry({ slot, origin, kind, payload, previousChain: 0 });
  if (!isDeepStrictEqual(again.record.subarray(0, -8), bytes.subarray(0, -8))) throw new Error("another record says the same");
}

function tryDecodeEntry(bytes: Uint8Array): Entry | undefined {
  try {
    return decodeEntry(bytes);
  } catch (error) {
    if (error instanceof OracleError && error.code === "TSO_WRONG_FORMAT") return undefined;
    throw error;
  }
}

/** With the magic, a length and a checksum that fit: or chance would hardly ever get past them. */
function mended(bytes: Uint8Array): Uint8Array {
  const record = new Uint8Array(bytes);
  const view = new DataView(record.buffer);
  record[0] = 0xe7;
  view.setUint32(26, record.length - 38, true);
  view.setUint32(record.length - 4, crc32(record.subarray(0, -4)), true);
  return record;
}
