/** The bytes of a journal, `docs/protocol.md` 5.2 and 5.4.3. */
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  decodeFrameBody,
  decodeFrameHead,
  decodeSegmentHeader,
  type EncodedFrame,
  encodeFrame,
  encodeSegmentHeader,
  type Frame,
  type FramePlace,
  hasUnwrittenSector,
  paddedLength,
  SECTOR,
  type SegmentHeader,
} from "../../../src/disk/frame.ts";
import { property } from "../../support/property.ts";

const NONCE = Uint8Array.from({ length: 16 }, (_, i) => i);
const STORAGE_ID = Uint8Array.from({ length: 16 }, (_, i) => 0xf0 + i);
const PLACE: FramePlace = { nonce: NONCE, prevBodyCrc: 0x01020304 };
const HEADER: SegmentHeader = { number: 0x0a0b, nonce: NONCE, storageId: STORAGE_ID, prevSeq: 0x0c0d, prevBodyCrc: 0x0e0f1011, fileBytes: 0x1213 };
const SMALL: Frame = {
  kind: "recover",
  seq: 0x0203,
  syncedThrough: 0x0202,
  firstSegment: 5,
  meta: Uint8Array.of(1, 2, 3),
  ops: [Uint8Array.of(), Uint8Array.of(0xff)],
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
/** Groups of hex digits as they are written below: spaces are for the reader. */
const golden = (...groups: readonly string[]): string => groups.join("").replaceAll(" ", "");

const anyCounter = fc.oneof(fc.nat({ max: 1_000 }), fc.maxSafeNat());
const anyU32 = fc.integer({ min: 0, max: 0xffff_ffff });
const anyNonce = fc.uint8Array({ minLength: 16, maxLength: 16 });
const anyPlace = fc.record<FramePlace>({ nonce: anyNonce, prevBodyCrc: anyU32 });
/** Long runs of zeros beside short runs of anything: so sectors that are zero on purpose are common. */
const anyBytes = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.nat({ max: 3 * SECTOR }).map((length) => new Uint8Array(length)),
    ),
    { maxLength: 6 },
  )
  .map(joined);
const anyFrame = fc.record<Frame>({
  kind: fc.constantFrom("batch", "recover"),
  seq: anyCounter,
  syncedThrough: anyCounter,
  firstSegment: anyCounter,
  meta: anyBytes,
  ops: fc.array(anyBytes, { maxLength: 4 }),
});

describe("a segment header", () => {
  test("has the bytes of the format", () => {
    expect(hex(encodeSegmentHeader(HEADER))).toBe(
      golden(
        ...["54575331", "827593f5"], // TWS1, the checksum of bytes 8 to 511
        ...["0100 0002 00000000", "0b0a000000000000"], // format, sector, segment number
        ...["000102030405060708090a0b0c0d0e0f", "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"], // nonce, storage id
        ...["0d0c000000000000", "11100f0e", "00000000"], // the frame before it
        "1312000000000000", // length of the file
        "00".repeat(SECTOR - 80),
      ),
    );
  });

  test("that is too short, or of a sector size unknown here, is none", () => {
    const bytes = encodeSegmentHeader(HEADER);
    expect(decodeSegmentHeader(bytes.subarray(0, SECTOR - 1))).toBeUndefined();
    expect(decodeSegmentHeader(new Uint8Array(SECTOR))).toBeUndefined();
    expect(decodeSegmentHeader(rewritten(bytes, (view) => view.setUint16(10, 4_096, true)))).toBeUndefined();
    expect(decodeSegmentHeader(rewritten(bytes, (view) => view.setUint16(8, 0, true)))).toBeUndefined();
  });

  test("of a later format is named", () => {
    const bytes = rewritten(encodeSegmentHeader(HEADER), (view) => view.setUint16(8, 7, true));
    expect(decodeSegmentHeader(bytes)).toEqual({ newerFormat: 7 });
  });

  property(
    "reads back as it was written, and no flipped bit is accepted",
    fc.property(
      fc.record<SegmentHeader>({
        number: anyCounter,
        nonce: anyNonce,
        storageId: anyNonce,
        prevSeq: anyCounter,
        prevBodyCrc: anyU32,
        fileBytes: anyCounter,
      }),
      fc.nat({ max: SECTOR * 8 - 1 }),
      (header, bit) => {
        const bytes = encodeSegmentHeader(header);
        expect(decodeSegmentHeader(bytes)).toEqual(header);
        expect(decodeSegmentHeader(flipped(bytes, bit))).toBeUndefined();
      },
    ),
  );
});

describe("a frame", () => {
  test("has the bytes of the format", () => {
    const { bytes, bodyCrc } = encodeFrame(SMALL, PLACE);
    expect(hex(bytes)).toBe(
      golden(
        ...["54574631", "4f8d29a8", "000102030405060708090a0b0c0d0e0f"], // TWF1, the checksum of bytes 8 to 79, nonce
        ...["0302000000000000", "0202000000000000", "0500000000000000"], // seq, synced through, first segment
        ...["5d000000", "05eb8297", "04030201"], // length, the body's checksum, that of the frame before
        ...["01000000", "03000000", "02000000", "02 000000", "ad6cba3f"], // bytes of zero map and of meta, ops, kind, the checksum of the map
        ...["80", "010203", "00000000", "01000000 ff"], // zero map, meta, two ops
        "00".repeat(SECTOR - 93),
      ),
    );
    expect(bodyCrc).toBe(0x9782eb05);
  });

  property(
    "reads back as it was written, wherever it stands",
    fc.property(anyFrame, anyPlace, fc.nat({ max: 3 }), (frame, place, sectorsBefore) => {
      const { bytes, bodyCrc } = encodeFrame(frame, place);
      expect(bytes.length % SECTOR).toBe(0);
      const at = sectorsBefore * SECTOR;
      const segment = joined([new Uint8Array(at).fill(0xaa), bytes, new Uint8Array(SECTOR).fill(0xaa)]);
      const head = decodeFrameHead(segment, at, place.nonce);
      expect(head).toMatchObject({ ...frameHead(frame), bodyCrc, prevBodyCrc: place.prevBodyCrc });
      if (head === undefined) return;
      expect(paddedLength(head.length)).toBe(bytes.length);
      expect(hasUnwrittenSector(segment, at, head)).toBe(false);
      expect(decodeFrameBody(segment, at, head)).toEqual({ meta: frame.meta, ops: frame.ops });
    }),
  );

  property(
    "of another segment is none",
    fc.property(anyFrame, anyPlace, fc.nat({ max: 127 }), (frame, place, bit) => {
      expect(decodeFrameHead(encodeFrame(frame, place).bytes, 0, flipped(place.nonce, bit))).toBeUndefined();
    }),
  );

  test("that a file ends in the middle of is none, or not whole", () => {
    const { bytes } = encodeFrame({ ...SMALL, meta: new Uint8Array(2 * SECTOR).fill(1) }, PLACE);
    const head = decodeFrameHead(bytes, 0, NONCE);
    expect(head).toBeDefined();
    if (head === undefined) return;
    expect(decodeFrameHead(bytes.subarray(0, 79), 0, NONCE)).toBeUndefined();
    expect(decodeFrameBody(bytes.subarray(0, 2 * SECTOR), 0, head)).toBeUndefined();
    expect(hasUnwrittenSector(bytes.subarray(0, 2 * SECTOR), 0, head)).toBe(true);
  });

  test("does not outgrow its length field", () => {
    expect(() => encodeFrame({ ...SMALL, ops: [new Uint8Array(256 * 1024 * 1024)] }, PLACE)).toThrow(/a frame fits its length field/);
  });
});

describe("a frame that does not read back", () => {
  property(
    "is torn where any sector is missing that is not zero on purpose",
    fc.property(anyFrame, anyPlace, fc.infiniteStream(fc.boolean()), (frame, place, isMissing) => {
      const whole = encodeFrame(frame, place).bytes;
      const torn = whole.slice();
      for (let at = 0; at < torn.length; at += SECTOR) if (isMissing.next().value) torn.fill(0, at, at + SECTOR);
      expect(fate(torn, place)).toBe(hex(torn) === hex(whole) ? "whole" : "torn");
    }),
  );

  property(
    "is rotten where one bit of it is flipped: then it may have been vouched for",
    fc.property(anyFrame, anyPlace, fc.nat(), (frame, place, seed) => {
      const encoded = encodeFrame(frame, place);
      const bit = seed % (lengthOf(encoded) * 8);
      const rotten = flipped(encoded.bytes, bit);
      const sector = Math.floor(bit / 8 / SECTOR) * SECTOR;
      // A sector whose only bit is lost looks like one that was never written, and no format tells the two apart.
      fc.pre(rotten.subarray(sector, sector + SECTOR).some((byte) => byte !== 0));
      expect(fate(rotten, place)).toBe("rotten");
    }),
  );

  property(
    "is rotten where a bit of its zero map is lost",
    fc.property(fc.nat({ max: 15 }), fc.nat({ max: 7 }), (zeros, bit) => {
      const meta = new Uint8Array((zeros + 4) * SECTOR);
      meta[meta.length - 1] = 1;
      const { bytes } = encodeFrame({ ...SMALL, meta }, PLACE);
      expect(fate(flipped(bytes, 80 * 8 + bit), PLACE)).toBe("rotten");
    }),
  );

  test("is torn where a sector of a zero map that fills several is missing", () => {
    const meta = new Uint8Array(7 * SECTOR * 2 * SECTOR);
    meta[meta.length - 1] = 1;
    const { bytes } = encodeFrame({ ...SMALL, meta }, PLACE);
    expect(fate(bytes, PLACE)).toBe("whole");
    for (const sector of [1, 2]) {
      const torn = bytes.slice();
      torn.fill(0, sector * SECTOR, (sector + 1) * SECTOR);
      expect(fate(torn, PLACE), `sector ${sector}`).toBe("torn");
    }
  });
});

/** What recovery makes of a frame that stands alone: rules 3c and 3d, written once more. */
function fate(bytes: Uint8Array, place: FramePlace): "whole" | "torn" | "rotten" {
  const head = decodeFrameHead(bytes, 0, place.nonce);
  if (head === undefined) return bytes.subarray(0, SECTOR).every((byte) => byte === 0) ? "torn" : "rotten";
  if (decodeFrameBody(bytes, 0, head) !== undefined) return "whole";
  return hasUnwrittenSector(bytes, 0, head) ? "torn" : "rotten";
}

function frameHead({ kind, seq, syncedThrough, firstSegment }: Frame) {
  return { kind, seq, syncedThrough, firstSegment };
}

/** Without the padding, which no checksum covers and nobody reads. */
function lengthOf({ bytes }: EncodedFrame): number {
  return new DataView(bytes.buffer).getUint32(48, true);
}

/** A header with other fields and a checksum that fits them. */
function rewritten(header: Uint8Array, write: (view: DataView) => void): Uint8Array {
  const bytes = header.slice();
  const view = new DataView(bytes.buffer);
  write(view);
  view.setUint32(4, crc32(bytes.subarray(8)), true);
  return bytes;
}

function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = bytes.slice();
  const at = Math.floor(bit / 8);
  copy[at] = (copy[at] ?? 0) ^ (1 << (bit % 8));
  return copy;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
