/** The transport over gRPC: what every transport must do, and what only a network can do to it. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { credentials, ServerCredentials, status } from "@grpc/grpc-js";
import { afterEach, describe, expect, test } from "vitest";
import type { NodeId, Slot } from "../../src/base/ids.ts";
import { createPrng } from "../../src/base/prng.ts";
import { type Claim, ConnectRequest, Lane } from "../../src/gen/tsoracle/paxos/v1/peer.ts";
import { createEntry } from "../../src/paxos/core/entry.ts";
import { messageCodec } from "../../src/paxos/core/message-codec.ts";
import type { AcceptMessage, HeartbeatMessage } from "../../src/paxos/core/messages.ts";
import { MESSAGE_BYTES_MAX } from "../../src/paxos/core/options.ts";
import { encodeRequest, encodeResponse, FRAME_BYTES, FRAME_BYTES_MAX, PEER_PROTOCOL_VERSION } from "../../src/paxos/transport/frames.ts";
import { type GrpcPeerOptions, grpcTransport } from "../../src/paxos/transport/grpc.ts";
import { type PeerTransportOptions, resolvePeerTransportOptions } from "../../src/paxos/transport/options.ts";
import type { PeerTransport } from "../../src/paxos/transport/transport.ts";
import { transportConformance } from "../../src/testing/transport-conformance.ts";
import { PeerNetwork } from "../support/peer-network.ts";
import { PeerProxy } from "../support/peer-proxy.ts";
import { claimOf, helloOf, listenRaw, RawPeer, Told } from "../support/peer-raw.ts";

/** What a test leaves open, whether it passed or not. */
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

describe("over gRPC", () => {
  for (const { name, run } of transportConformance(async () => new PeerNetwork())) test(name, run);
});

interface Node {
  readonly transport: PeerTransport;
  readonly told: Told;
}

async function opened(node: number, options: Partial<GrpcPeerOptions> = {}): Promise<Node> {
  const told = new Told();
  const transport = await grpcTransport({ listen: "127.0.0.1:0", ...options })(claimOf(node), told);
  cleanups.push(() => transport.close());
  return { transport, told };
}

function raw(address: string): RawPeer {
  const peer = new RawPeer(address);
  cleanups.push(() => peer.close());
  return peer;
}

function proxied(): PeerProxy {
  const proxy = new PeerProxy();
  cleanups.push(() => proxy.refuse());
  return proxy;
}

function peersOf(transport: PeerTransport, node: number, address: string): void {
  transport.setPeers(new Map([[node as NodeId, address]]));
}

/** Each on all lanes of the other, over proxies. */
async function pair(
  options: PeerTransportOptions = {},
): Promise<{ readonly a: Node; readonly b: Node; readonly way: PeerProxy; readonly back: PeerProxy }> {
  const [a, b, way, back] = [await opened(1, options), await opened(2, options), proxied(), proxied()];
  way.open(b.transport.address);
  back.open(a.transport.address);
  peersOf(a.transport, 2, way.address);
  peersOf(b.transport, 1, back.address);
  await until(() => linkOf(a.transport).open.length === 3 && linkOf(b.transport).open.length === 3);
  return { a, b, way, back };
}

function linkOf(transport: PeerTransport): ReturnType<PeerTransport["links"]>[number] {
  const [link] = transport.links();
  if (link === undefined) throw new Error("it has no peer");
  return link;
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 1));
}

function heartbeat(round: number): HeartbeatMessage {
  return { type: "heartbeat", round, decidedThrough: 0 as Slot, readSeq: 0, configVersion: 1 };
}

function bulk(base: number, bytes: number): AcceptMessage {
  const ballot = { round: 1, prio: 0, node: 1 as NodeId };
  const entry = createEntry({ slot: (base + 1) as Slot, origin: ballot, kind: "app", payload: new Uint8Array(bytes), previousChain: 0 });
  return { type: "accept", ballot, base: base as Slot, baseChain: 0, entries: [entry], decidedThrough: 0 as Slot };
}

function resources(): number {
  return process.getActiveResourcesInfo().filter((name) => name.startsWith("TCP")).length;
}

/** Of the test runner itself. */
const RESOURCES_BEFORE = resources();

/** Sockets and listeners of these tests. */
function sockets(): number {
  return resources() - RESOURCES_BEFORE;
}

/** Well-formed but for what is said otherwise. */
function rawHello(otherwise: Partial<Claim>): Buffer {
  const { node, storageId, clusterId = "" } = claimOf(2);
  const claim = { node, storageId, boot: 1n, nonce: 1n, clusterId, ...otherwise };
  return Buffer.from(ConnectRequest.encode({ hello: { version: PEER_PROTOCOL_VERSION, claim, toNode: 1, lane: Lane.LANE_CONTROL } }).finish());
}

const MIB = 1024 * 1024;

describe("listening", () => {
  test("is at the port that the system chose, and a port that is taken is refused", async () => {
    const { transport } = await opened(1);
    expect(transport.address).toMatch(/^127\.0\.0\.1:[1-9]\d+$/);
    const refused = opened(2, { listen: transport.address });
    await expect(refused).rejects.toMatchObject({ name: "OracleError", code: "TSO_INVALID_OPTION" });
    await expect(refused).rejects.toThrow(/cannot listen on 127\.0\.0\.1:\d+: .*EADDRINUSE/);
  });

  test.each(["", "127.0.0.1", "unix:/tmp/peer", "127.0.0.1:65536"])('the address "%s" is refused', async (listen) => {
    await expect(opened(1, { listen })).rejects.toMatchObject({ code: "TSO_INVALID_OPTION" });
  });
});

describe("a slow way", () => {
  const PIECES = 16;

  test("control passes while bulk is under way, and bulk waits in the buffer, not in the socket", async () => {
    const { a, b, way, back } = await pair();
    way.throttle(8 * MIB);
    back.throttle(8 * MIB);
    /** Round trips on the control lane, and bytes that waited, when each piece arrived. */
    const passed: number[] = [];
    const waited: number[] = [];
    b.told.answer = (message) => {
      if (message.type === "heartbeat") b.transport.send(1 as NodeId, { ...heartbeat(message.round), readSeq: 1 });
      if (message.type !== "accept") return;
      passed.push(a.told.heard.length);
      waited.push(linkOf(a.transport).queuedBytes);
    };
    a.told.answer = (message) => {
      if (message.type === "heartbeat") a.transport.send(2 as NodeId, heartbeat(message.round + 1));
    };
    for (let base = 1; base <= PIECES; base++) a.transport.send(2 as NodeId, bulk(base, MIB));
    a.transport.send(2 as NodeId, heartbeat(1));
    await until(() => passed.length === PIECES);
    expect(waited[0]).toBeGreaterThan(12 * MIB);
    const [first = 0, last = 0] = [passed[0], passed.at(-1)];
    expect(last - first, "round trips on the control lane while bulk arrived").toBeGreaterThan(PIECES);
    await until(() => a.told.blocked.length === 2);
    expect(a.told.blocked).toEqual([true, false]);
    expect(linkOf(a.transport).dropped).toBe(0);
  });

  test("a way that swallows what it gets is found by pings on all lanes, and raises nothing", async () => {
    const { a, b, way, back } = await pair({ keepaliveMs: 100, keepaliveTimeoutMs: 100, connectTimeoutMs: 300, silenceMs: 3_600_000 });
    way.hold(true);
    back.hold(true);
    await until(() => linkOf(a.transport).open.length === 0 && linkOf(b.transport).open.length === 0);
    await until(() => a.told.problems.length > 0);
    expect(a.told.problems[0]).toMatchObject({ node: 2, fault: "unreachable" });
    way.hold(false);
    back.hold(false);
    await until(() => linkOf(a.transport).open.length === 3 && linkOf(b.transport).open.length === 3);
  });

  test("a process is not lost while one of two ways to it stands, and is when the other ends as well", async () => {
    const { a, way, back } = await pair({ reconnectMaxMs: 20 });
    way.refuse();
    const { attempts } = linkOf(a.transport);
    await until(() => linkOf(a.transport).attempts > attempts + 9);
    expect(a.told.lost).toEqual([]);
    back.refuse();
    await until(() => a.told.lost.length > 0);
    expect(a.told.lost).toEqual([1]);
  });

  test("what waits is counted here, and not somewhere below", async () => {
    const { a, way } = await pair();
    way.hold(true);
    for (let base = 1; base <= 8; base++) a.transport.send(2 as NodeId, bulk(base, MIB));
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(linkOf(a.transport).queuedBytes, "nothing but what the first frame has of it may be on its way").toBeGreaterThan(8 * MIB);
  });

  test("a peer that never reads costs no more than the bounds", async () => {
    const mute = await listenRaw((call) => {
      call.once("data", () => {
        call.pause(); // what it says after its hello is not read
        call.write(encodeResponse({ type: "welcome", version: PEER_PROTOCOL_VERSION, claim: claimOf(2) }));
      });
    });
    cleanups.push(() => mute.close());
    const { transport, told } = await opened(1, { bulkBytesMax: 4 * MIB, bulkBlockedBytes: 2 * MIB, bulkFreeBytes: MIB });
    peersOf(transport, 2, mute.address);
    await until(() => linkOf(transport).open.length === 3);
    for (let base = 1; base <= 64; base++) {
      transport.send(2 as NodeId, bulk(base, MIB));
      await new Promise((resolve) => setImmediate(resolve));
      expect(linkOf(transport).queuedBytes).toBeLessThanOrEqual(4 * MIB + FRAME_BYTES);
    }
    expect(linkOf(transport).dropped).toBeGreaterThan(32);
    expect(told.blocked).toEqual([true]);
  });
});

describe("whoever dials", () => {
  const refused = (detail: string | RegExp) => [{ type: "refusal", fault: "malformed", detail: expect.stringMatching(detail) }];

  test("must say hello in time", async () => {
    const { transport } = await opened(1, { connectTimeoutMs: 50 });
    const peer = raw(transport.address);
    await peer.ended;
    expect(peer.answers).toEqual(refused("no hello within 50 ms"));
  });

  test("must say hello first", async () => {
    const { transport, told } = await opened(1);
    const peer = raw(transport.address);
    peer.say({ type: "messages", parts: [messageCodec.encode(heartbeat(1))], unfinished: false });
    await peer.ended;
    expect(peer.answers).toEqual(refused("the first word was messages, not hello"));
    expect(told.heard).toEqual([]);
  });

  test("says hello once", async () => {
    const { transport } = await opened(1);
    const peer = raw(transport.address);
    peer.say(helloOf(2, 1));
    peer.say(helloOf(2, 1));
    await peer.ended;
    expect(peer.answers).toEqual([expect.objectContaining({ type: "welcome" }), ...refused("it said hello twice")]);
  });

  test.each([
    ["none of the known frames", Buffer.from([0x3a, 1, 0])],
    ["nothing", Buffer.alloc(0)],
    ["two frames in one", Buffer.concat([encodeRequest({ type: "bye" }), encodeRequest({ type: "forming", bytes: new Uint8Array(1) })])],
    ["no message at all", Buffer.from([0xff, 0xff, 0xff])],
    ["a hello without a name", Buffer.from([0x0a, 0])],
    ["a hello with a boot beyond all numbers", rawHello({ boot: 2n ** 60n })],
    ["a hello of a disk with another name", rawHello({ storageId: "disk 2" })],
    ["a hello of no node", rawHello({ node: 0 })],
  ])("is refused for a frame that is %s", async (_, bytes) => {
    const { transport } = await opened(1);
    const peer = raw(transport.address);
    peer.sayBytes(bytes);
    await peer.ended;
    expect(peer.answers).toEqual(refused(`${bytes.length} bytes are no frame of this protocol`));
  });

  test("speaks this version", async () => {
    const { transport, told } = await opened(1);
    const peer = raw(transport.address);
    peer.say({ ...helloOf(2, 1), version: PEER_PROTOCOL_VERSION + 1 });
    await peer.ended;
    const detail = "node 2 (disk d2000000, process 1) speaks version 2 of the peer protocol, and node 1 (disk d1000000, process 1) version 1";
    expect(peer.answers).toEqual([{ type: "refusal", fault: "wrong-version", detail }]);
    expect(told.problems).toEqual([{ node: 2, fault: "wrong-version", detail }]);
  });

  test("looks for this node", async () => {
    const { transport, told } = await opened(1);
    const peer = raw(transport.address);
    peer.say(helloOf(2, 3));
    await peer.ended;
    const detail = "node 2 (disk d2000000, process 1) looks for node 3, and this is node 1 (disk d1000000, process 1)";
    expect(peer.answers).toEqual([{ type: "refusal", fault: "wrong-node", detail }]);
    expect(told.problems).toEqual([{ node: 2, fault: "wrong-node", detail }]);
  });

  test("is another node", async () => {
    const { transport } = await opened(1);
    const peer = raw(transport.address);
    peer.say({ ...helloOf(1, 1), claim: { ...claimOf(1), storageId: "e".repeat(32) } });
    await peer.ended;
    expect(peer.answers).toEqual([{ type: "refusal", fault: "wrong-node", detail: expect.stringContaining("has the number of node 1") }]);
  });

  test("may say what cannot be read: that is told, and the next is heard", async () => {
    const { transport, told } = await opened(1);
    const peer = raw(transport.address);
    peer.say(helloOf(2, 1));
    peer.say({ type: "messages", parts: [Buffer.from("garbage"), messageCodec.encode(heartbeat(1))], unfinished: false });
    peer.say({ type: "forming", bytes: Buffer.from("garbage") });
    peer.say({ type: "messages", parts: [messageCodec.encode(heartbeat(2))], unfinished: false });
    await until(() => told.heard.length === 2);
    expect(told.heard).toEqual([heartbeat(1), heartbeat(2)]);
    expect(told.problems).toEqual([{ node: 2, fault: "malformed", detail: expect.stringMatching(/node 1 cannot read what node 2 says/) }]);
  });

  test("is given up for a message in too many pieces, however small they are", async () => {
    const { transport, told } = await opened(1);
    const peer = raw(transport.address);
    peer.say(helloOf(2, 1, "bulk"));
    for (let piece = 0; piece <= 4_096; piece++) peer.say({ type: "messages", parts: [new Uint8Array()], unfinished: true });
    await peer.ended;
    expect(peer.answers.at(-1)).toMatchObject({
      type: "refusal",
      fault: "malformed",
      detail: expect.stringContaining("a message in more than 4096 pieces"),
    });
    expect(told.heard).toEqual([]);
  });

  test("is given up for a frame that is too long", async () => {
    const { transport, told } = await opened(1);
    const peer = raw(transport.address);
    peer.say(helloOf(2, 1));
    peer.sayBytes(Buffer.alloc(FRAME_BYTES_MAX + 1));
    expect((await peer.ended).code).toBe(status.RESOURCE_EXHAUSTED);
    expect(told.heard).toEqual([]);
  });

  test("is given up for a message that never ends", async () => {
    const { transport } = await opened(1);
    const peer = raw(transport.address);
    peer.say(helloOf(2, 1, "bulk"));
    const frame = encodeRequest({ type: "messages", parts: [Buffer.alloc(FRAME_BYTES)], unfinished: true });
    let isOver = false;
    void peer.ended.then(() => {
      isOver = true;
    });
    for (let bytes = 0; bytes <= MESSAGE_BYTES_MAX && !isOver; bytes += FRAME_BYTES) await peer.sayInTurn(frame);
    await peer.ended;
    expect(peer.answers.slice(1)).toEqual(refused(`more than ${MESSAGE_BYTES_MAX} bytes`));
  });

  test("is not heard any more when another process on its disk is found where this node dials", async () => {
    const { transport, told } = await opened(1);
    const peer = raw(transport.address);
    peer.say(helloOf(2, 1));
    await until(() => peer.answers.length === 1);
    const copy = await listenRaw((call) => {
      call.once("data", () => call.write(encodeResponse({ type: "welcome", version: PEER_PROTOCOL_VERSION, claim: { ...claimOf(2), nonce: 99 } })));
    });
    cleanups.push(() => copy.close());
    peersOf(transport, 2, copy.address);
    await until(() => told.problems.length > 0);
    peer.say({ type: "messages", parts: [messageCodec.encode(heartbeat(1))], unfinished: false });
    await peer.ended;
    expect(peer.answers.at(-1)).toMatchObject({ type: "refusal", fault: "duplicate-process" });
    expect(told.heard).toEqual([]);
  });

  test("has one stream for each lane: the newest", async () => {
    const { transport, told } = await opened(1);
    const first = raw(transport.address);
    first.say(helloOf(2, 1));
    await until(() => first.answers.length === 1);
    const second = raw(transport.address);
    second.say(helloOf(2, 1));
    await first.ended;
    expect(first.answers.at(-1)).toEqual({ type: "bye" });
    second.say({ type: "messages", parts: [messageCodec.encode(heartbeat(1))], unfinished: false });
    await until(() => told.heard.length === 1);
    expect(told.lost).toEqual([]);
  });

  test("is told that it is heard, and not at every word", async () => {
    const { transport, told } = await opened(1);
    const peer = raw(transport.address);
    peer.say(helloOf(2, 1));
    for (let round = 1; round <= 50; round++) peer.say({ type: "messages", parts: [messageCodec.encode(heartbeat(round))], unfinished: false });
    await until(() => told.heard.length === 50);
    await until(() => peer.answers.some((answer) => answer?.type === "heard" && answer.frames === 50));
    expect(peer.answers.length).toBeLessThan(10);
  });
});

describe("bytes that are no gRPC", () => {
  test("disturb no listener", async () => {
    const { transport, told } = await opened(1);
    const prng = createPrng(1);
    const garbage = [
      Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
      Buffer.from(Array.from({ length: 1_000 }, () => prng.below(256))),
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff", "latin1"),
    ];
    const [host, port] = transport.address.split(":");
    for (const bytes of garbage) {
      const socket = connect({ host: host ?? "", port: Number(port) });
      socket.on("error", () => undefined);
      socket.resume();
      socket.write(bytes);
      await once(socket, "close");
    }
    const { transport: other } = await opened(2);
    peersOf(other, 1, transport.address);
    await until(() => linkOf(other).open.length === 3);
    other.send(1 as NodeId, heartbeat(1));
    await until(() => told.heard.length === 1);
    expect(told.problems).toEqual([]);
  });

  test.each([
    ["another protocol", "HTTP/1.1 200 OK\r\n\r\n"],
    ["nothing", ""],
  ])("are no peer: an address that answers with %s is tried again until there is one", async (_, answer) => {
    const server = createServer((socket: Socket) => {
      socket.on("error", () => undefined);
      socket.resume().end(answer);
    }).listen(0, "127.0.0.1");
    cleanups.push(() => server.close());
    await once(server, "listening");
    const proxy = proxied();
    proxy.open(`127.0.0.1:${(server.address() as AddressInfo).port}`);
    const { transport, told } = await opened(1, { connectTimeoutMs: 300, reconnectMaxMs: 50 });
    peersOf(transport, 2, proxy.address);
    await until(() => linkOf(transport).attempts > 6);
    expect(told.problems).toEqual([{ node: 2, fault: "unreachable", detail: expect.stringMatching(/^node 1 dialled node 2 at 127\.0\.0\.1:\d+/) }]);
    const { transport: right } = await opened(2);
    proxy.open(right.address);
    await until(() => linkOf(transport).open.length === 3);
  });

  test.each([
    [{ claim: claimOf(3), version: PEER_PROTOCOL_VERSION }, "wrong-node", "looks for node 2, and that is node 3"],
    [{ claim: claimOf(2), version: 7 }, "wrong-version", "node 2 (disk d2000000, process 1) speaks version 7"],
    [{ claim: { ...claimOf(2), clusterId: "e".repeat(32) }, version: PEER_PROTOCOL_VERSION }, "wrong-cluster", "belongs to cluster eeee"],
  ] as const)("a welcome is not taken from anyone: %j", async (welcome, fault, text) => {
    const other = await listenRaw((call) => {
      call.once("data", () => call.write(encodeResponse({ type: "welcome", ...welcome })));
    });
    cleanups.push(() => other.close());
    const { transport, told } = await opened(1);
    peersOf(transport, 2, other.address);
    await until(() => told.problems.length > 0);
    expect(told.problems[0]).toMatchObject({ node: 2, fault, detail: expect.stringContaining(text) });
    expect(linkOf(transport).open).toEqual([]);
  });

  test("a listener of another service is told of as one that cannot be understood", async () => {
    const other = await listenRaw((call) => call.emit("error", { code: status.UNIMPLEMENTED, details: "no such method" }));
    cleanups.push(() => other.close());
    const { transport, told } = await opened(1);
    peersOf(transport, 2, other.address);
    await until(() => told.problems.length > 0);
    expect(told.problems[0]).toMatchObject({ node: 2, fault: "malformed", detail: expect.stringContaining("no such method") });
  });
});

describe("what is left behind", () => {
  test("nothing, when it is closed: after losses, attempts that never end, and streams that nobody reads", async () => {
    await until(() => sockets() <= 0); // of the tests before
    const { a, b, way, back } = await pair({ connectTimeoutMs: 100 });
    way.cut();
    back.cut();
    await until(() => linkOf(a.transport).open.length === 3 && linkOf(b.transport).open.length === 3);
    a.transport.send(2 as NodeId, bulk(1, 8 * MIB));
    way.hold(true);
    const silent = createServer((socket: Socket) => socket.on("error", () => undefined).resume()).listen(0, "127.0.0.1");
    await once(silent, "listening");
    a.transport.setPeers(
      new Map([
        [2 as NodeId, way.address],
        [3 as NodeId, `127.0.0.1:${(silent.address() as AddressInfo).port}`],
      ]),
    );
    await until(() => (a.transport.links()[1]?.attempts ?? 0) > 6);
    await Promise.all([a.transport.close(), b.transport.close()]);
    way.refuse();
    back.refuse();
    silent.close();
    await until(() => sockets() <= 0);
  });

  test("no socket whose other side does not answer", async () => {
    await until(() => sockets() <= 0);
    const { a, b, way } = await pair();
    way.hold(true);
    await Promise.all([a.transport.close(), b.transport.close()]);
    const ofProxies = 2 + 2 * way.connections; // two listeners, and both ends of what is held
    expect(way.connections).toBe(3);
    await until(() => sockets() <= ofProxies);
  });

  test("no more than a few sockets by a peer that is tried again and again", async () => {
    await until(() => sockets() <= 0);
    const proxy = proxied();
    const { transport } = await opened(1, { reconnectMinMs: 1, reconnectMaxMs: 1 });
    peersOf(transport, 2, proxy.address);
    await until(() => linkOf(transport).attempts > 300);
    expect(sockets()).toBeLessThan(12);
  });
});

describe("options", () => {
  test.each<[PeerTransportOptions, RegExp]>([
    [{ probeMs: 0 }, /probeMs 0 must be a whole number from 1/],
    [{ reconnectMinMs: 100, reconnectMaxMs: 99 }, /reconnectMaxMs 99 must be a whole number from 100/],
    [{ bulkBytesMax: 10 }, /bulkBlockedBytes \d+ must be a whole number from 1 to 10/],
    [{ bulkBlockedBytes: 10, bulkFreeBytes: 10 }, /bulkFreeBytes 10 must be a whole number from 0 to 9/],
    [{ laneMessagesMax: 1 }, /laneMessagesMax 1 must be/],
    [{ silenceMs: Number.NaN }, /silenceMs NaN must be/],
    [{ silence: 1 } as PeerTransportOptions, /silence is no option of a peer transport/],
  ])("%j is refused", (options, text) => {
    expect(() => resolvePeerTransportOptions(options)).toThrow(text);
  });
});

test("attempts are never closer than the shortest pause, whatever the other side does with them", async () => {
  const rude = await listenRaw((call) => {
    call.on("error", () => undefined);
    const welcome = encodeResponse({ type: "welcome", version: PEER_PROTOCOL_VERSION, claim: claimOf(2) });
    call.once("data", () => call.write(welcome, () => setImmediate(() => call.end())));
  });
  cleanups.push(() => rude.close());
  const began = performance.now();
  const { transport } = await opened(1, { reconnectMinMs: 100, reconnectMaxMs: 1_000 });
  peersOf(transport, 2, rude.address);
  await until(() => linkOf(transport).attempts >= 15);
  expect(performance.now() - began, "three lanes, five attempts each").toBeGreaterThan(300);
});

describe("with certificates", () => {
  const fixture = (name: string): Buffer => readFileSync(new URL(`../fixtures/tls/${name}`, import.meta.url));
  const authority = fixture("authority.pem");
  /** Of a node: it shows its certificate to whom it dials and to who dials it, and asks for theirs. */
  function certified(name: string): Required<Pick<GrpcPeerOptions, "credentials">> {
    const [key, chain] = [fixture(`${name}.key`), fixture(`${name}.pem`)];
    const accept = ServerCredentials.createSsl(authority, [{ private_key: key, cert_chain: chain }], true);
    return { credentials: { dial: credentials.createSsl(authority, key, chain), accept } };
  }

  test("nodes hear each other on every lane", async () => {
    const [a, b] = [await opened(1, certified("server")), await opened(2, certified("server"))];
    peersOf(a.transport, 2, b.transport.address);
    peersOf(b.transport, 1, a.transport.address);
    await until(() => linkOf(a.transport).open.length === 3 && linkOf(b.transport).open.length === 3);
    a.transport.send(2 as NodeId, heartbeat(7));
    a.transport.send(2 as NodeId, bulk(0, 300_000));
    await until(() => b.told.heard.length === 2);
    expect(b.told.heard.map(({ type }) => type).sort()).toEqual(["accept", "heartbeat"]);
  });

  test.each([
    { who: "a peer without one", options: {} },
    { who: "a peer with one of another authority", options: certified("stranger") },
  ])("$who is not heard, and is told why it cannot connect", async ({ options }) => {
    const a = await opened(1, certified("server"));
    const stranger = await opened(2, options);
    peersOf(stranger.transport, 1, a.transport.address);
    stranger.transport.send(1 as NodeId, heartbeat(1));
    await until(() => linkOf(stranger.transport).problem !== undefined);
    expect(linkOf(stranger.transport)).toMatchObject({
      open: [],
      problem: { fault: "unreachable", detail: expect.stringContaining(a.transport.address) },
    });
    expect(a.told.heard).toEqual([]);
  });
});
