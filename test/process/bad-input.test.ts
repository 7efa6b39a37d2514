/** Input that no client should send. Whatever it is, others are served, and no sequence moves. */
import type { Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { status } from "@grpc/grpc-js";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { property } from "../support/property.ts";
import { encodeRequest, type Fields, field, join, METHODS, pathOf, RawClient } from "../support/raw-client.ts";
import { exchange, grpcFrame, openAndReset, openSession, openSocket } from "../support/raw-http2.ts";
import { addressOf, granted, nextOf, nextTimestamp, type Served, serve } from "../support/served.ts";

const U32_MAX = 0xffff_ffff;
const WITNESS = "witness";
/** The boundaries of every number that is checked, converted or counted on the way. */
const EDGES: readonly bigint[] = [0n, 1n, 2n ** 31n, 2n ** 32n, 2n ** 46n - 1n, 2n ** 46n, 2n ** 53n - 1n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n];

let served: Served;
let address: string;
let witness: RawClient;
/** Every sequence there is, before a test. */
let before: ReadonlyMap<string, unknown>;

beforeAll(async () => {
  served = await serve();
  address = addressOf(served.server);
  witness = served.connect();
});
afterAll(() => served.close());
beforeEach(() => {
  before = new Map(served.driver.view().sequences());
});
afterEach(expectUnharmed);

/** Another client is served as if nothing had happened. */
async function expectUnharmed(): Promise<void> {
  const first = await nextTimestamp(witness);
  expect(await nextTimestamp(witness)).toBe(first + 1n);
  expect(new Map(served.driver.view().sequences())).toEqual(before);
  const value = await nextOf(witness, WITNESS);
  expect(await nextOf(witness, WITNESS)).toBe(value + 1n);
}

const block = (key: Uint8Array | string, count: number | bigint): Uint8Array => join(field(1, key), field(2, count));
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

describe("keys", () => {
  test.each([
    ["nothing", new Uint8Array()],
    ["129 bytes", text("k".repeat(129))],
    ["129 bytes of 65 characters", text(`${"é".repeat(64)}k`)],
    ["130 bytes of 33 characters", text(`${"\u{1f600}".repeat(32)}é`)],
    ["a byte that begins nothing", Uint8Array.of(0xff)],
    ["a continuation of nothing", Uint8Array.of(0x6b, 0x80)],
    ["a character cut short", Uint8Array.of(0x6b, 0xe2, 0x82)],
    ["a NUL in two bytes", Uint8Array.of(0xc0, 0x80)],
    ["a high surrogate alone", Uint8Array.of(0xed, 0xa0, 0x80)],
    ["a low surrogate alone", Uint8Array.of(0xed, 0xb0, 0x80)],
    ["two surrogates in three bytes each", Uint8Array.of(0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80)],
    ["a character beyond the last", Uint8Array.of(0xf4, 0x90, 0x80, 0x80)],
    ["five bytes for a character", Uint8Array.of(0xf8, 0x88, 0x80, 0x80, 0x80)],
    ["UTF-16", Uint8Array.of(0xff, 0xfe, 0x6b, 0x00)],
  ])("a key of %s is refused by every method that takes one", async (_, key) => {
    const refused = { code: status.INVALID_ARGUMENT, message: "invalid sequence key" };
    expect(await served.client.send("GetSeq", block(key, 1))).toMatchObject(refused);
    expect(await served.client.send("GetSeqBatch", join(field(1, block("fresh", 1)), field(1, block(key, 1))))).toMatchObject(refused);
    expect(await served.client.send("InitSeq", block(key, 1))).toMatchObject(refused);
  });

  test("a key that comes twice in one message counts once, the last time", async () => {
    // As protobuf has it: so no check may look at the first.
    const message = join(field(1, "valid"), field(1, Uint8Array.of(0xff)), field(2, 1));
    expect(await served.client.send("GetSeq", message)).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect(await served.client.send("GetSeq", join(field(1, "valid"), field(1, ""), field(2, 1)))).toMatchObject({ code: status.INVALID_ARGUMENT });
  });
});

describe("numbers", () => {
  test.each([0, 65_537, U32_MAX])("a block of %d is refused", async (count) => {
    const refused = { code: status.INVALID_ARGUMENT };
    expect(await served.client.send("GetSeq", block("k", count))).toMatchObject(refused);
    expect(await served.client.send("GetSeqBatch", join(field(1, block("fresh", 1)), field(1, block("k", count))))).toMatchObject(refused);
  });

  test("a count below zero, written in ten bytes, is refused", async () => {
    expect(await served.client.send("GetTs", field(1, -1n))).toMatchObject({ code: status.INVALID_ARGUMENT, message: `invalid count: ${U32_MAX}` });
    expect(await served.client.send("GetSeq", block("k", -1n))).toMatchObject({ code: status.INVALID_ARGUMENT });
  });

  test("batches of none, of too many and of the same key are refused", async () => {
    const batch = (length: number, key: (index: number) => string): Uint8Array =>
      join(...Array.from({ length }, (_, index) => field(1, block(key(index), 1))));
    for (const request of [
      batch(0, String),
      batch(129, String),
      batch(10_000, String),
      batch(2, () => "k"),
      batch(128, (index) => String(index % 127)),
    ]) {
      expect(await served.client.send("GetSeqBatch", request)).toMatchObject({ code: status.INVALID_ARGUMENT });
    }
  });

  describe("of 64 bits", () => {
    const holder = text("holder");
    test.each(EDGES)("%d as a time to live, a holder epoch and a lease's id is answered definitely", async (edge) => {
      const { client, driver } = served;
      const requests: readonly (readonly [string, Fields])[] = [
        ["AcquireLease", { holder, holder_epoch: 1n, ttl_ms: edge }],
        ["RenewLease", { lease_id: edge }],
        ["ReleaseLease", { lease_id: edge }],
      ];
      for (const [method, request] of requests) {
        const { code, message } = await client.call(method, request);
        expect([status.OK, status.INVALID_ARGUMENT, status.NOT_FOUND], `${method}: ${message}`).toContain(code);
      }
      expect(driver.view().leaseCount).toBe(0);
      const { lease_id } = granted(await client.call("AcquireLease", { holder, holder_epoch: edge, ttl_ms: 5_000n }));
      expect(driver.view().leaseOf(holder)?.holderEpoch).toBe(edge);
      granted(await client.call("ReleaseLease", { lease_id }));
    });

    test.each(EDGES)("%d as a first value is kept to the last bit, and counting stops where it must", async (first) => {
      const key = `first ${first}`;
      granted(await served.client.call("InitSeq", { key, first }));
      expect(granted(await served.client.call("PeekSeq", { key }))).toMatchObject({ sequence: { first, next: first } });
      const reply = await served.client.call("GetSeq", { key, count: 1 });
      if (first === 2n ** 64n - 1n) expect(reply).toMatchObject({ code: status.FAILED_PRECONDITION, message: "dense counter overflow" });
      else expect(granted(reply)).toMatchObject({ start: first });
      before = new Map(served.driver.view().sequences());
    });
  });
});

describe("bytes that protobuf does not allow", () => {
  test.each([
    ["GetTs", "a number cut short", "08ff"],
    ["GetTs", "a number of eleven bytes", "08ffffffffffffffffffff01"],
    ["GetTs", "a field of a type that does not exist", "0f01"],
    ["GetSeq", "a key that ends after the message", "0a056b"],
    ["GetSeqBatch", "an entry that ends after the message", "0a0a0a016b1001"],
    ["GetSeq", "a group that never ends", "0a016b10011b"],
    ["GetSeq", "ten thousand groups", `0a016b1001${"1b".repeat(10_000)}${"1c".repeat(10_000)}`],
    // Here a reader that stops, or reads on, would see another request in the same bytes than other readers do.
    ["GetTs", "a field with the number 0, and what follows it", "080100ffff"],
    ["GetTs", "the end of a group that never began, and what follows it", "08010cffff"],
    ["GetTs", "a text with the field number 0", "08010200"],
    ["GetTs", "a field number above the last one", "88808080800101"],
    ["GetSeqBatch", "an entry whose last number lies outside it", "0a040a016b1000"],
    ["GetSeqBatch", "an entry whose last number is also a field after it", "0a040a016b101000"],
  ])("%s refuses %s", async (method, _, hex) => {
    const reply = await served.client.send(method, Buffer.from(hex, "hex"));
    expect(reply).toMatchObject({ code: status.INVALID_ARGUMENT, message: expect.stringMatching(/^malformed request: /) });
  });

  // Of a length, only the lower 32 bits are looked at.
  test("GetTs refuses a length beyond 32 bits", async () => {
    const reply = await served.client.send("GetTs", Buffer.from("08017a8080808010", "hex"));
    expect(reply).toMatchObject({ code: status.INVALID_ARGUMENT });
  });
});

describe("size", () => {
  const huge = new Uint8Array(8 * 2 ** 20).fill(0x6b);

  test.each([
    ["GetTs", field(15, huge)],
    ["GetSeq", block(huge, 1)],
    ["GetSeqBatch", join(...Array.from({ length: 1_000 }, () => field(1, block(huge.subarray(0, 8_000), 1))))],
    ["AcquireLease", field(1, huge)],
    ["ListSeqs", field(2, huge)],
  ])("a request of 8 MiB to %s is refused", async (method, request) => {
    expect(await served.client.send(method, request)).toMatchObject({ code: status.RESOURCE_EXHAUSTED });
  });

  test("the largest request that can be valid is granted", async () => {
    const keys = Array.from({ length: 128 }, (_, index) => String(index).padStart(128, "k"));
    granted(await served.client.call("GetSeqBatch", { entries: keys.map((key) => ({ key, count: 65_536 })) }));
    before = new Map(served.driver.view().sequences());
  });

  test("a lease keeps no more of its request than the holder", async () => {
    // Beside the holder, a field that nobody knows: it must not stay in memory for as long as the lease does.
    const request = join(field(1, "holder of little"), field(3, 5_000n), field(15, huge.subarray(0, 200_000)));
    const { lease_id } = granted(await served.client.send("AcquireLease", request));
    const holder = served.driver.view().leaseOf(text("holder of little"))?.holder;
    granted(await served.client.call("ReleaseLease", { lease_id }));
    expect(holder?.buffer.byteLength).toBeLessThan(10_000);
  });

  test.each([
    ["GetSeqBatch", (key: string) => join(field(1, block(key, 1)), field(1, block(key, 1)))],
    ["PeekSeq", (key: string) => field(1, key)],
  ])("what %s says about a key does not grow with the key", async (method, request) => {
    const { code, message } = await served.client.send(method, request("k".repeat(100_000)));
    expect([status.INVALID_ARGUMENT, status.NOT_FOUND]).toContain(code);
    expect(message.length).toBeLessThan(4_000); // it travels in a header, and many clients accept 8 KiB of headers
  });

  // In the header, every byte that is not ASCII takes three.
  test("what is said about a key fits a header though no byte of it is ASCII", async () => {
    const key = "\u20ac".repeat(30_000);
    const { message } = await served.client.send("GetSeqBatch", join(field(1, block(key, 1)), field(1, block(key, 1))));
    expect(encodeURI(message).length).toBeLessThan(8_000);
  });
});

describe("streams", () => {
  const path = pathOf("GetTs");
  const good = encodeRequest("GetTs", { count: 1 });
  const noise = Uint8Array.from({ length: 600 }, (_, index) => (index * 167 + 13) % 256);
  const gzip = { "grpc-encoding": "gzip" };

  test.each([
    ["no message", { body: [] }],
    ["a part of a length", { body: [grpcFrame(good).subarray(0, 3)] }],
    ["a length and nothing more", { body: [grpcFrame(good).subarray(0, 5)] }],
    ["less than the length says", { body: [grpcFrame(good, { length: 10 })] }],
    ["a length of 4 GiB", { body: [grpcFrame(good, { length: U32_MAX })] }],
    ["two messages", { body: [grpcFrame(good), grpcFrame(good)] }],
    ["noise in a frame", { body: [grpcFrame(noise)] }],
    ["noise without a frame", { body: [noise] }],
    ["noise said to be compressed", { body: [grpcFrame(noise, { flag: 1 })], headers: gzip }],
    ["a compressed message cut short", { body: [grpcFrame(gzipSync(good).subarray(0, 12), { flag: 1 })], headers: gzip }],
    ["a compression that nobody knows", { body: [grpcFrame(good, { flag: 1 })], headers: { "grpc-encoding": "noise" } }],
    ["64 MiB in 64 KiB", { body: [grpcFrame(gzipSync(Buffer.alloc(64 * 2 ** 20)), { flag: 1 })], headers: gzip }],
    ["a deadline that is no time", { body: [grpcFrame(good)], headers: { "grpc-timeout": "soon" } }],
    ["another content type", { body: [grpcFrame(good)], headers: { "content-type": "text/plain" } }],
  ])("a call with %s is refused", async (_, request) => {
    const session = await openSession(address);
    const { grpcStatus, httpStatus } = await exchange(session, { path, ...request });
    expect(grpcStatus ?? httpStatus).not.toBe(status.OK);
    expect(grpcStatus === undefined ? httpStatus : 0).not.toBe(200);
    expect(await exchange(session, { path, body: [grpcFrame(good)] })).toMatchObject({ grpcStatus: status.OK }); // on the same connection
    session.destroy();
  });

  test.each([
    ["a flag that says compressed where nothing is", { body: [grpcFrame(good, { flag: 1 })] }],
    ["a flag that nobody knows", { body: [grpcFrame(good, { flag: 7 })] }],
    ["a message and a part of another", { body: [Buffer.concat([grpcFrame(good), new Uint8Array(3)])] }],
    ["metadata that is no base64", { body: [grpcFrame(good)], headers: { "noise-bin": "%%%" } }],
    ["40 KiB of metadata", { body: [grpcFrame(good)], headers: { noise: "k".repeat(40_000) } }],
    ["another HTTP method", { body: [], headers: { ":method": "GET" } }],
  ])("a call with %s is answered", async (_, request) => {
    const session = await openSession(address);
    expect((await exchange(session, { path, ...request })).grpcStatus).toBeDefined();
    session.destroy();
  });

  test.each(["/", "/tsoracle.v1.TsoService/", "/tsoracle.v1.TsoService/GetTS", "/tsoracle.v2.TsoService/GetTs", "/no.such.Service/Method"])(
    "there is no method %s",
    async (unknown) => {
      const reply = await served.client.sendTo(unknown, good);
      expect(reply).toMatchObject({ code: status.UNIMPLEMENTED, hint: undefined });
    },
  );

  test("thousands of calls that are opened and reset hold nobody up", async () => {
    const session = await openSession(address);
    let opened = 0;
    // A server may refuse to go on with such a client: it ends the session.
    while (opened < 5_000 && !session.closed && !session.destroyed) {
      openAndReset(session, path);
      opened += 1;
      if (opened % 250 === 0) await nextTimestamp(witness);
    }
    expect(opened).toBeGreaterThan(500);
    session.destroy();
  });

  test("thousands of calls that never send their message hold nobody up", async () => {
    const session = await openSession(address);
    for (let opened = 0; opened < 3_000; opened++) {
      const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" });
      stream.on("error", () => undefined);
      if (opened % 250 === 0) await nextTimestamp(witness);
    }
    await expectUnharmed();
    before = new Map(served.driver.view().sequences());
    session.destroy();
  });
});

describe("sockets", () => {
  const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  const frame = (type: number, flags: number, stream: number, payload: Uint8Array, length = payload.length): Buffer => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(length, 0, 3);
    head.writeUInt8(type, 3);
    head.writeUInt8(flags, 4);
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  };
  const SETTINGS = frame(4, 0, 0, new Uint8Array());
  const noise = Uint8Array.from({ length: 65_536 }, (_, index) => (index * 167 + 13) % 256);

  test.each([
    ["HTTP/1.1", Buffer.from("GET / HTTP/1.1\r\nHost: k\r\n\r\n")],
    ["noise", noise],
    ["a preface and noise", Buffer.concat([PREFACE, noise])],
    ["a preface, settings and noise", Buffer.concat([PREFACE, SETTINGS, noise])],
    ["settings whose length is wrong", Buffer.concat([PREFACE, frame(4, 0, 0, new Uint8Array(5))])],
    ["a frame of 16 MiB", Buffer.concat([PREFACE, SETTINGS, frame(0, 0, 1, noise, 2 ** 24 - 1)])],
    ["data for a call that was never opened", Buffer.concat([PREFACE, SETTINGS, frame(0, 0, 1, noise.subarray(0, 100))])],
    ["headers that are noise", Buffer.concat([PREFACE, SETTINGS, frame(1, 4, 1, noise.subarray(0, 100))])],
    ["a continuation of nothing", Buffer.concat([PREFACE, SETTINGS, frame(9, 0, 1, noise.subarray(0, 100))])],
  ])("a connection that begins with %s is told to go away", async (_, bytes) => {
    const socket = await openSocket(address);
    socket.write(bytes);
    await untilGoaway(socket);
    socket.destroy();
  });

  test.each([
    ["nothing", new Uint8Array()],
    ["half of a preface", PREFACE.subarray(0, 10)],
    ["a preface and no settings", PREFACE],
    ["headers that are never continued", Buffer.concat([PREFACE, SETTINGS, frame(1, 0, 1, Uint8Array.of(0x83))])],
  ])("connections that say %s and then fall silent hold nobody up", async (_, bytes) => {
    const sockets = await Promise.all(Array.from({ length: 100 }, () => openSocket(address)));
    for (const socket of sockets) if (bytes.length > 0) socket.write(bytes);
    await expectUnharmed();
    const late = new RawClient(address);
    await nextTimestamp(late);
    late.close();
    before = new Map(served.driver.view().sequences());
    for (const socket of sockets) socket.destroy();
  });
});

/** Until the other side says GOAWAY, or closes. */
async function untilGoaway(socket: Socket): Promise<void> {
  let received = Buffer.alloc(0);
  for await (const chunk of socket) {
    received = Buffer.concat([received, chunk]);
    for (let at = 0; at + 9 <= received.length; at += 9 + received.readUIntBE(at, 3)) if (received[at + 3] === 7) return;
  }
}

/** Valid requests, from which most of the bytes below are made. */
const VALID: readonly Uint8Array[] = [
  encodeRequest("GetTs", { count: 5 }),
  encodeRequest("GetSeq", { key: "key é", count: 5 }),
  encodeRequest("GetSeqBatch", {
    entries: [
      { key: "a", count: 1 },
      { key: "é", count: 300 },
    ],
  }),
  encodeRequest("AcquireLease", { holder: text("holder"), holder_epoch: 2n ** 63n, ttl_ms: 5_000n }),
  encodeRequest("RenewLease", { lease_id: 1_700_000_005_000n }),
  encodeRequest("ListSeqs", { page_size: 10, page_token: "k" }),
];
const anyEdit = fc.record({ at: fc.nat(), byte: fc.nat(255), how: fc.constantFrom("set", "insert", "cut", "drop") });
const anyBytes = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc.tuple(fc.constantFrom(...VALID), fc.array(anyEdit, { minLength: 1, maxLength: 4 })).map(([valid, edits]) => {
    const bytes = [...valid];
    for (const { at, byte, how } of edits) {
      const place = at % (bytes.length + 1);
      if (how === "cut") bytes.length = place;
      else bytes.splice(place, how === "insert" ? 0 : 1, ...(how === "drop" ? [] : [byte]));
    }
    return Uint8Array.from(bytes);
  }),
);

property(
  "no bytes make a method fail as if the server were broken, or stop it",
  fc.asyncProperty(anyBytes, async (bytes) => {
    const replies = await Promise.all(METHODS.map(async (method) => ({ method, ...(await served.client.send(method, bytes)) })));
    for (const { method, code, message } of replies) {
      expect([status.INTERNAL, status.UNKNOWN, status.UNAVAILABLE, status.DEADLINE_EXCEEDED], `${method}: ${message}`).not.toContain(code);
    }
    await nextTimestamp(witness);
    before = new Map(served.driver.view().sequences());
  }),
);
