import fc from "fast-check";
import { expect, test } from "vitest";
import { OracleError } from "../../../src/base/errors.ts";
import { CHUNK_BYTES_MAX, chunkHead, SnapshotReader, snapshotEnd, snapshotHead } from "../../../src/disk/snapshot-format.ts";
import { property } from "../../support/property.ts";

function bytesOf(chunks: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat([snapshotHead(), ...chunks.flatMap((chunk) => [chunkHead(chunk), chunk]), snapshotEnd(chunks.length)]));
}

/** In pieces of these sizes, again and again. */
function read(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const reader = new SnapshotReader();
  const chunks: Uint8Array[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    for (const chunk of reader.push(bytes.subarray(at, at + size))) chunks.push(chunk);
    at += size;
  }
  reader.end();
  expect(reader.chunks).toBe(chunks.length);
  return chunks;
}

const anyChunks = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 });
const anySizes = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 4 });

property(
  "a machine gets the chunks back that it gave, however the bytes are cut",
  fc.property(anyChunks, anySizes, (chunks, sizes) => {
    expect(read(bytesOf(chunks), sizes)).toEqual(chunks);
  }),
);

property(
  "one that is cut off, goes on after its end, or has one bit flipped is refused",
  fc.property(anyChunks, fc.nat(), fc.nat({ max: 7 }), (chunks, drawn, bit) => {
    const bytes = bytesOf(chunks);
    const at = drawn % bytes.length;
    const refused = (changed: Uint8Array): void => expect(() => read(changed, [7])).toThrow(OracleError);
    refused(bytes.subarray(0, at));
    refused(new Uint8Array([...bytes, 0]));
    const flipped = bytes.slice();
    flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
    refused(flipped);
  }),
);

test("a chunk that is too long is refused, by its length and the limit", () => {
  expect(chunkHead(new Uint8Array(CHUNK_BYTES_MAX))).toHaveLength(8);
  expect(() => chunkHead(new Uint8Array(CHUNK_BYTES_MAX + 1))).toThrow(
    `TSO_INVALID_ARGUMENT: a chunk of the state machine's snapshot has ${CHUNK_BYTES_MAX + 1} bytes, and may have ${CHUNK_BYTES_MAX}`,
  );
});

test("a file of something else is refused, and so is a later format", () => {
  expect(() => read(new TextEncoder().encode("something else"), [100])).toThrow("TSO_WRONG_FORMAT: not a snapshot: it does not begin like one");
  const later = bytesOf([]);
  later[6] = 9;
  expect(() => read(later, [100])).toThrow("TSO_WRONG_FORMAT: not a snapshot: it has format 9, and this release reads 1");
});
