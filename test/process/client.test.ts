/** The client over real connections: what grpc-js does, and what nodes do that are killed, stopped, silent or wrong. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { constants, createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer, type Socket, type Server as TcpServer } from "node:net";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Metadata, Server, ServerCredentials, status, type UntypedHandleCall } from "@grpc/grpc-js";
import { afterEach, describe, expect, test } from "vitest";
import { OracleError } from "../../src/base/errors.ts";
import { resolveEndpoints } from "../../src/client/endpoint.ts";
import { GrpcTransport, HINTED_CHANNELS_MAX } from "../../src/client/grpc-transport.ts";
import { type ClientOptions, OracleClient } from "../../src/client/index.ts";
import type { Connected } from "../../src/client/transport.ts";
import { GetSeqResponse, LeaderHint, TsoServiceService } from "../../src/gen/tsoracle/v1/tso.ts";
import { memoryDriver } from "../../src/oracle/drivers/memory.ts";
import { OracleServer } from "../../src/server/index.ts";
import { Processes } from "../support/server-process.ts";

const processes = new Processes();
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  await processes.end();
});

function connect(endpoints: string | readonly string[], options: ClientOptions = {}): OracleClient {
  const client = OracleClient.connect(endpoints, options);
  ends.push(() => client.close());
  return client;
}

async function served(): Promise<{ readonly server: OracleServer; readonly address: string }> {
  const driver = memoryDriver();
  const server = await OracleServer.start({ driver, listen: "127.0.0.1:0", heartbeatMs: 0 });
  ends.push(async () => {
    await server.close({ graceMs: 0 });
    await driver.close();
  });
  return { server, address: server.address ?? "" };
}

type Handlers = Partial<Record<keyof typeof TsoServiceService, UntypedHandleCall>>;

/** A server of `tsoracle.v1` that does what the test says. */
async function scripted(handlers: Handlers): Promise<string> {
  const server = new Server();
  const unimplemented: UntypedHandleCall = (_: unknown, reply: (error: object) => void) => reply({ code: status.UNIMPLEMENTED, details: "not here" });
  const all = Object.fromEntries(Object.keys(TsoServiceService).map((name) => [name, unimplemented]));
  server.addService(TsoServiceService, { ...all, ...handlers });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  ends.push(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

const answering =
  (answer: object): UntypedHandleCall =>
  (_: unknown, reply: (error: null, answer: object) => void) =>
    reply(null, answer);
const failing =
  (code: status, details = "why", metadata = new Metadata()): UntypedHandleCall =>
  (_: unknown, reply: (error: object) => void) =>
    reply({ code, details, metadata });
const hinting = (hint: LeaderHint): UntypedHandleCall => {
  const metadata = new Metadata();
  metadata.set("tsoracle-leader-hint-bin", Buffer.from(LeaderHint.encode(hint).finish()));
  return failing(status.FAILED_PRECONDITION, "not leader", metadata);
};

const EPOCH = { hi: 0n, lo: 1n };

test("everything works against a server, and the process it talks to may be any", async () => {
  const { address } = await served();
  await using client = connect(address);
  const first = await client.getTs();
  expect(await client.getTs()).toBeGreaterThan(first);
  expect(await client.getTsBatch(3)).toHaveLength(3);
  expect(await client.getSeq("a", 2)).toEqual({ key: "a", start: 0n, count: 2, epoch: 1n });
  const batch = await client.getSeqBatch([
    { key: "b", count: 1 },
    { key: "a", count: 1 },
  ]);
  expect(batch.map(({ key, start }) => `${key} ${start}`)).toEqual(["b 0", "a 2"]);
  expect((await client.getSafeFrontier()).physicalMs).toBeGreaterThan((await client.getCurrentMaxSafe()).physicalMs);
  const lease = await client.acquireLease("h");
  expect((await client.acquireLease("h")).id, "the same lease, for the same holder epoch").toBe(lease.id);
  expect((await client.renewLease(lease.id)).upperBoundMs).toBeGreaterThanOrEqual(lease.upperBoundMs);
  expect((await client.getSafeFrontier()).physicalMs).toBeLessThanOrEqual(lease.upperBoundMs + 10_000);
  await client.releaseLease(lease.id);
  await expect(client.renewLease(lease.id)).rejects.toMatchObject({ code: "TSO_LEASE_LOST" });
  await client.acquireLease("h", { holderEpoch: 5n });
  await expect(client.acquireLease("h", { holderEpoch: 4n })).rejects.toMatchObject({ code: "TSO_FENCED" });
  expect(await client.withLease("worker", {}, ({ upperBoundMs }) => upperBoundMs)).toBeGreaterThan(0);
  expect(client.epoch).toBe(1n);
  expect(client.cachedLeader).toEqual({ endpoint: address, epoch: 1n });
  await expect(client.getSeq("a", 65_537)).rejects.toMatchObject({ code: "TSO_INVALID_ARGUMENT" });
  await expect(client.getSeq("é".repeat(65))).rejects.toThrow("invalid sequence key");
});

test("a client that was idle for long works after the server was killed twice, and was gone a while", async () => {
  const directory = processes.directory();
  let server = await processes.serve(directory);
  const { address } = server;
  // An idle channel is given up after a second instead of half an hour.
  const { client, transport } = idleClient(address);
  let last = await client.getTs();
  const block = await client.getSeq("a");
  for (let restart = 1; restart <= 2; restart++) {
    await server.kill();
    server = await processes.serve(directory, ["--listen", address]);
    const ts = await client.getTs();
    expect(ts).toBeGreaterThan(last);
    last = ts;
    expect((await client.getSeq("a")).start).toBe(block.start + BigInt(restart));
    await expect.poll(() => transport.isReady(address), { timeout: 30_000 }).toBe(false); // given up for want of calls: the next one finds no connection
  }
  expect(await client.getTs()).toBeGreaterThan(last);
  await server.kill();
  const waiting = client.getTs({ deadlineMs: 60_000 });
  server = await processes.serve(directory, ["--listen", address]);
  expect(await waiting, "asked while there was no server").toBeGreaterThan(last);
  expect(client.epoch).toBeGreaterThan(2n);
});

function idleClient(address: string): { readonly client: OracleClient; readonly transport: GrpcTransport } {
  const { endpoints } = resolveEndpoints([address], false);
  const transport = new GrpcTransport({
    tls: undefined,
    configured: endpoints,
    connectTimeoutMs: 2_000,
    keepaliveMs: 1_000,
    channelOptions: { "grpc.client_idle_timeout_ms": 1_000 },
  });
  const timers = {
    now: () => performance.now(),
    wall: () => Date.now(),
    after: (ms: number, _: boolean, run: () => void) => {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
  };
  const client = OracleClient.inWorld([address], {}, { transport, timers, random: Math.random });
  ends.push(() => client.close());
  return { client, transport };
}

test("a server that stands still costs callers their deadline, and none more when it goes on", async () => {
  const server = await processes.serve(processes.directory());
  const client = connect(server.address, { attemptTimeoutMs: 300 });
  const before = await client.getTs();
  server.signal("SIGSTOP");
  const calls = await Promise.allSettled([
    client.getTs({ deadlineMs: 1_000 }),
    client.getSeq("a", 1, { deadlineMs: 1_000 }),
    client.getSafeFrontier({ deadlineMs: 1_000 }),
  ]);
  expect(calls.map((call) => (call.status === "rejected" ? call.reason.code : call.value))).toEqual([
    "TSO_DEADLINE",
    "TSO_OUTCOME_UNKNOWN",
    "TSO_DEADLINE",
  ]);
  server.signal("SIGCONT");
  expect(await client.getTs()).toBeGreaterThan(before);
  const { start } = await client.getSeq("a");
  expect(start, "the block of unknown outcome was used up, or was not").toBeLessThanOrEqual(1n);
});

test("10,000 callers of a server that is stopped for a while: everyone has an answer or a code, and the memory its bound", async () => {
  const server = await processes.serve(processes.directory());
  const client = connect(server.address, { queueMax: 5_000, deadlineMs: 2_000 });
  await client.getTs();
  const codes = new Map<string, number>();
  const askAll = (count: number) =>
    Promise.all(
      Array.from({ length: count }, async () => {
        try {
          await client.getTs();
          return true;
        } catch (error) {
          const code = error instanceof OracleError ? error.code : String(error);
          codes.set(code, (codes.get(code) ?? 0) + 1);
          return false;
        }
      }),
    );
  await askAll(5_000);
  const heapBefore = usedHeap();
  server.signal("SIGSTOP");
  for (let round = 0; round < 3; round++) await askAll(10_000);
  expect(Object.fromEntries(codes)).toEqual({ TSO_DEADLINE: 15_000, TSO_OVERLOADED: 15_000 });
  expect(usedHeap() - heapBefore, "bytes").toBeLessThan(20e6);
  server.signal("SIGCONT");
  await client.getTs({ deadlineMs: 60_000 });
  codes.clear();
  expect((await askAll(5_000)).every((answered) => answered)).toBe(true);
});

function usedHeap(): number {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  return process.memoryUsage().heapUsed;
}

describe("a sequence's outcome, where the node answers", () => {
  const DEFINITE: Readonly<Record<string, string>> = {
    INVALID_ARGUMENT: "TSO_INVALID_ARGUMENT",
    RESOURCE_EXHAUSTED: "TSO_LIMIT_REACHED",
    UNIMPLEMENTED: "TSO_SERVER_ERROR",
    FAILED_PRECONDITION: "TSO_LIMIT_REACHED",
  };
  const codes = Object.entries(status).filter((entry): entry is [string, status] => typeof entry[1] === "number" && entry[1] !== status.OK);

  test.each(codes)("%s", async (name, code) => {
    let asked = 0;
    const handler = failing(code);
    const counted: UntypedHandleCall = (...args: readonly unknown[]) => {
      asked += 1;
      return (handler as (...args: readonly unknown[]) => void)(...args);
    };
    const client = connect(await scripted({ getSeq: counted, getSeqBatch: counted }));
    const expected = DEFINITE[name] ?? "TSO_OUTCOME_UNKNOWN";
    await expect(client.getSeq("a")).rejects.toMatchObject({ code: expected });
    await expect(client.getSeqBatch([{ key: "a", count: 1 }])).rejects.toMatchObject({ code: expected });
    expect(asked, "each once").toBe(2);
  });

  test.each([
    ["another key", { key: "b", start: 0n, count: 1, epoch: EPOCH }],
    ["another count", { key: "a", start: 0n, count: 2, epoch: EPOCH }],
    ["no epoch", { key: "a", start: 0n, count: 1, epoch: undefined }],
  ])("an answer with %s", async (_, answer) => {
    const client = connect(await scripted({ getSeq: answering(answer), getSeqBatch: answering({ grants: [answer], epoch: answer.epoch }) }));
    await expect(client.getSeq("a")).rejects.toMatchObject({ code: "TSO_OUTCOME_UNKNOWN" });
    await expect(client.getSeqBatch([{ key: "a", count: 1 }])).rejects.toMatchObject({ code: "TSO_OUTCOME_UNKNOWN" });
  });

  test("not the leader, and who is", async () => {
    const leader = await scripted({ getSeq: answering({ key: "a", start: 7n, count: 1, epoch: EPOCH }) });
    const client = connect(await scripted({ getSeq: hinting({ leaderEndpoint: leader, leaderEpoch: EPOCH }) }));
    expect(await client.getSeq("a")).toMatchObject({ start: 7n });
    expect(client.cachedLeader).toEqual({ endpoint: leader, epoch: 1n });
  });
});

describe("a sequence's outcome, where the connection fails", () => {
  const answer = (...frames: readonly Uint8Array[]) =>
    Buffer.concat(frames.map((frame) => Buffer.concat([Buffer.from([0, 0, 0, 0, frame.length]), frame])));
  const granted = GetSeqResponse.encode({ key: "a", start: 0n, count: 1, epoch: EPOCH }).finish();
  const reply = (stream: ServerHttp2Stream, body: Buffer, trailers: Record<string, string>): void => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers(trailers));
    stream.end(body);
  };
  const reset = (code: number) => (stream: ServerHttp2Stream) => stream.close(code);
  const http = (code: number) => (stream: ServerHttp2Stream) => {
    stream.respond({ ":status": code, "content-type": "text/html" });
    stream.end("<html>");
  };

  test.each<[string, (stream: ServerHttp2Stream) => void, string]>([
    ["the stream is reset as too busy", reset(constants.NGHTTP2_ENHANCE_YOUR_CALM), "Bandwidth exhausted"],
    ["the stream is reset as insecure", reset(constants.NGHTTP2_INADEQUATE_SECURITY), "not secure enough"],
    ["the stream is reset by an error", reset(constants.NGHTTP2_INTERNAL_ERROR), "RST_STREAM"],
    ["the stream is cancelled", reset(constants.NGHTTP2_CANCEL), ""],
    ["the stream ends without a status", reset(constants.NGHTTP2_NO_ERROR), ""],
    ["an answer has no message", (stream) => reply(stream, Buffer.alloc(0), { "grpc-status": "0" }), "without a message"],
    ["an answer has two messages", (stream) => reply(stream, answer(granted, granted), { "grpc-status": "0" }), "two messages"],
    ["an answer is of megabytes", (stream) => reply(stream, Buffer.from([0, 0x7f, 0, 0, 0, 0]), { "grpc-status": "0" }), "larger than max"],
    ["an answer cannot be read", (stream) => reply(stream, answer(new Uint8Array([0xff, 0xff])), { "grpc-status": "0" }), "cannot be read"],
    ["a proxy answers 404", http(404), "404"],
    ["a proxy answers 429", http(429), "429"],
    ["a proxy answers 502", http(502), "502"],
    ["a proxy answers 401", http(401), "401"],
    ["the connection is cut", (stream) => stream.session?.destroy(), ""],
  ])("%s: unknown", async (_, act, detail) => {
    let asked = 0;
    const server = createHttp2Server();
    server.on("stream", (stream: ServerHttp2Stream) => {
      asked += 1;
      stream.on("error", () => undefined);
      act(stream);
    });
    const client = connect(await listening(server));
    const error: unknown = await client.getSeq("a", 1, { deadlineMs: 3_000 }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "TSO_OUTCOME_UNKNOWN", message: expect.stringContaining(detail) });
    expect(asked).toBe(1);
  });

  test("a stream that is refused was not looked at, and is asked again", async () => {
    let asked = 0;
    const server = createHttp2Server();
    server.on("stream", (stream: ServerHttp2Stream) => {
      asked += 1;
      stream.on("error", () => undefined);
      if (asked === 1) stream.close(constants.NGHTTP2_REFUSED_STREAM);
      else reply(stream, answer(granted), { "grpc-status": "0" });
    });
    const client = connect(await listening(server));
    expect(await client.getSeq("a")).toMatchObject({ start: 0n });
    expect(asked).toBe(2);
  });

  test("nobody listens: nothing has happened, and the cause is told", async () => {
    const server = createTcpServer();
    const address = await listening(server);
    await new Promise((resolve) => server.close(resolve));
    const client = connect(address);
    const error: unknown = await client.getSeq("a", 1, { deadlineMs: 500 }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "TSO_DEADLINE", outcome: "not-applied", message: expect.stringContaining("ECONNREFUSED") });
  });

  test("somebody listens and says nothing: nothing has happened", async () => {
    const client = connect(await listening(createTcpServer()), { attemptTimeoutMs: 200 });
    const calls = [client.getSeq("a", 1, { deadlineMs: 700 }), client.getTs({ deadlineMs: 700 })];
    for (const call of calls)
      await expect(call).rejects.toMatchObject({ code: "TSO_DEADLINE", message: expect.stringContaining("no connection within") });
  });

  test("a name that is none: nothing has happened, and the cause is told", async () => {
    const client = connect("no-such-host.invalid:50551");
    const error: unknown = await client.getSeq("a", 1, { deadlineMs: 1_500 }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "TSO_DEADLINE", outcome: "not-applied" });
    expect(String(error)).toContain("no-such-host.invalid:50551");
  });
});

async function listening(server: Http2Server | TcpServer, host = "127.0.0.1"): Promise<string> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
  });
  server.listen(0, host);
  await once(server, "listening");
  ends.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test("after a timeout there is a new connection, and what is under way on the old one ends well", async () => {
  const replies: (() => void)[] = [];
  const peers = new Set<string>();
  const address = await scripted({
    getSeq: (call: { getPeer(): string }, reply: (error: null, value: object) => void) => {
      peers.add(call.getPeer());
      replies.push(() => reply(null, { key: "slow", start: 0n, count: 1, epoch: EPOCH }));
    },
    getSafeFrontier: (call: { getPeer(): string }, reply: (error: null, value: object) => void) => {
      if (peers.has(call.getPeer())) return; // never, on the first connection
      peers.add(call.getPeer());
      reply(null, { frontierPhysicalMs: 5n, epochHi: 0n, epochLo: 1n });
    },
  });
  const transport = new GrpcTransport({ tls: undefined, configured: [address], connectTimeoutMs: 2_000, keepaliveMs: 30_000 });
  ends.push(() => transport.close());
  await new Promise((resolve) => transport.connect(address, resolve));
  const slow = new Promise((resolve) => transport.send(address, "getSeq", { key: "slow", count: 1 }, resolve));
  await expect.poll(() => replies.length).toBe(1);
  const cancel = transport.send(address, "getSafeFrontier", {}, () => expect.unreachable("it was given up"));
  cancel("drop");
  const again = await new Promise((resolve) => transport.send(address, "getSafeFrontier", {}, resolve));
  expect(again).toMatchObject({ type: "answer", value: { frontierPhysicalMs: 5n } });
  expect(peers.size, "connections").toBe(2);
  for (const reply of replies) reply();
  expect(await slow).toMatchObject({ type: "answer", value: { key: "slow" } });
});

test("a connection that takes its time is made, however impatient the callers are, and whoever leads is believed to", async () => {
  const { address } = await served();
  let opened = 0;
  const [host = "", port] = address.split(":");
  const slow = createTcpServer((socket) => {
    opened += 1;
    socket.on("error", () => undefined);
    setTimeout(() => {
      const upstream = connectTcp({ host, port: Number(port) });
      upstream.on("error", () => undefined);
      socket.pipe(upstream);
      upstream.pipe(socket);
    }, 700);
  });
  const leader = await listening(slow);
  const client = connect([leader, await scripted({ getTs: hinting({ leaderEndpoint: leader, leaderEpoch: EPOCH }) })], { attemptTimeoutMs: 30_000 });
  let answer: bigint | undefined;
  for (let call = 0; call < 100 && answer === undefined; call++) answer = await client.getTs({ deadlineMs: 100 }).catch(() => undefined);
  expect(answer).toBeGreaterThan(0n);
  expect(opened, "connections").toBe(1);
});

/** A proxy before `address` whose first `silent` connections are never answered. */
async function silentAtFirst(
  address: string,
  silent: number,
): Promise<{ readonly address: string; readonly counts: { opened: number; closed: number } }> {
  const counts = { opened: 0, closed: 0 };
  const [host, port] = address.split(":");
  const proxy = createTcpServer((socket) => {
    counts.opened += 1;
    socket.on("error", () => undefined);
    socket.on("close", () => {
      counts.closed += 1;
    });
    if (counts.opened <= silent) return void socket.resume();
    const upstream = connectTcp({ host: host ?? "", port: Number(port) });
    upstream.on("error", () => undefined);
    socket.pipe(upstream);
    upstream.pipe(socket);
  });
  return { address: await listening(proxy), counts };
}

test("a handshake that never ends is given up, however impatient the callers are, and its socket is closed", async () => {
  const { address } = await served();
  const proxy = await silentAtFirst(address, 2);
  const client = connect(proxy.address, { attemptTimeoutMs: 1_500 });
  let failed = 0;
  let answer: bigint | undefined;
  while (answer === undefined && failed < 100) {
    answer = await client.getTs({ deadlineMs: 150 }).catch(() => {
      failed += 1;
      return undefined;
    });
  }
  expect(answer, "after two handshakes of 1.5 s each").toBeGreaterThan(0n);
  expect(proxy.counts.opened).toBe(3);
  await expect.poll(() => proxy.counts.closed).toBe(2);
});

test.each([{}, { tls: true }] as const)("no socket is left behind by connections that were given up (%j)", async (options) => {
  const proxy = await silentAtFirst("127.0.0.1:1", Number.POSITIVE_INFINITY);
  const client = connect(proxy.address, { attemptTimeoutMs: 50, backoffMaxMs: 50, ...options });
  await expect(client.getTs({ deadlineMs: 2_000 })).rejects.toMatchObject({ code: "TSO_DEADLINE" });
  expect(proxy.counts.opened).toBeGreaterThan(2);
  await client.close();
  await expect.poll(() => proxy.counts.opened - proxy.counts.closed).toBe(0);
});

test("hints to many silent endpoints at once cost one connection each, and those beyond 32 none", async () => {
  const proxy = createTcpServer();
  let opened = 0;
  proxy.on("connection", () => {
    opened += 1;
  });
  const port = Number((await listening(proxy, "0.0.0.0")).split(":")[1]);
  const transport = new GrpcTransport({ tls: undefined, configured: ["configured:1"], connectTimeoutMs: 1_500, keepaliveMs: 30_000 });
  ends.push(() => transport.close());
  const results = await Promise.all(
    Array.from({ length: 40 }, (_, host) => new Promise<Connected>((resolve) => transport.connect(`127.0.1.${host + 1}:${port}`, resolve))),
  );
  expect(opened).toBe(HINTED_CHANNELS_MAX);
  const details = results.map((result) => (result.type === "silent" ? result.details : result.type));
  expect(details.filter((detail) => detail === "no connection within 1500 ms")).toHaveLength(HINTED_CHANNELS_MAX);
  expect(details.filter((detail) => detail.startsWith("32 connections to endpoints that are not configured"))).toHaveLength(8);
});

test("a node that speaks as the network layer does is taken at its word: a sequence's request that it had was sent", async () => {
  let asked = 0;
  const handler = failing(status.UNAVAILABLE, "No connection established. Last error: upstream");
  const client = connect(
    await scripted({
      getSeq: (...args: readonly unknown[]) => {
        asked += 1;
        (handler as (...args: readonly unknown[]) => void)(...args);
      },
    }),
  );
  await expect(client.getSeq("a")).rejects.toMatchObject({ code: "TSO_OUTCOME_UNKNOWN" });
  expect(asked).toBe(1);
});

test("channels that hints led to are closed when there are too many, and one that is needed again is opened again", async () => {
  const { address } = await served();
  const port = Number(address.split(":")[1]);
  const transport = new GrpcTransport({ tls: undefined, configured: ["configured:1"], connectTimeoutMs: 2_000, keepaliveMs: 30_000 });
  ends.push(() => transport.close());
  const ask = (endpoint: string): Promise<string> =>
    new Promise((resolve) => {
      transport.connect(endpoint, () => transport.send(endpoint, "getTs", { count: 1 }, ({ type }) => resolve(type)));
    });
  expect(await ask(`127.0.0.1:${port}`)).toBe("answer");
  // Nobody listens at these; a channel they have all the same.
  for (let host = 2; host <= HINTED_CHANNELS_MAX; host++) expect(await ask(`127.0.0.${host}:${port}`)).toBe("lost");
  expect(transport.isReady(`127.0.0.1:${port}`)).toBe(true);
  expect(await ask(`127.0.1.1:${port}`)).toBe("lost");
  expect(transport.isReady(`127.0.0.1:${port}`), "the oldest is closed").toBe(false);
  expect(await ask(`127.0.0.1:${port}`)).toBe("answer");
});

describe("TLS", () => {
  const pem = (name: string): Buffer => readFileSync(new URL(`../fixtures/tls/${name}`, import.meta.url));
  const tls = { ca: pem("authority.pem"), serverName: "localhost" };

  async function secured(clientCa?: Buffer): Promise<string> {
    const driver = memoryDriver();
    const server = await OracleServer.start({
      driver,
      listen: "127.0.0.1:0",
      heartbeatMs: 0,
      tls: { cert: pem("server.pem"), key: pem("server.key"), clientCa },
    });
    ends.push(async () => {
      await server.close({ graceMs: 0 });
      await driver.close();
    });
    return server.address ?? "";
  }

  test("a server with a certificate of the authority is trusted", async () => {
    const client = connect(await secured(), { tls });
    expect(await client.getTs()).toBeGreaterThan(0n);
  });

  test("one of another authority is not, and the cause is told", async () => {
    const client = connect(await secured(), { tls: { ...tls, ca: pem("stranger.pem") } });
    await expect(client.getTs({ deadlineMs: 1_000 })).rejects.toThrow(/TSO_DEADLINE.*(certificate|issuer)/i);
  });

  test("a server that asks for a certificate gets it", async () => {
    const address = await secured(pem("authority.pem"));
    const client = connect(address, { tls: { ...tls, cert: pem("client.pem"), key: pem("client.key") } });
    expect(await client.getTs()).toBeGreaterThan(0n);
    const stranger = connect(address, { tls });
    await expect(stranger.getTs({ deadlineMs: 1_000 })).rejects.toMatchObject({ code: "TSO_DEADLINE" });
  });

  test("a plain server is not spoken to by a client that uses TLS, and the other way round", async () => {
    const { address } = await served();
    await expect(connect(address, { tls }).getTs({ deadlineMs: 1_000 })).rejects.toMatchObject({ code: "TSO_DEADLINE" });
    await expect(connect(await secured()).getTs({ deadlineMs: 1_000 })).rejects.toMatchObject({ code: "TSO_DEADLINE" });
  });

  test("a hint without TLS is not followed", async () => {
    let plainAsked = 0;
    const plain = await scripted({
      getTs: (_: unknown, reply: (error: null, value: object) => void) => {
        plainAsked += 1;
        reply(null, { physicalMs: 5n, logicalStart: 0, count: 1, epochHi: 0n, epochLo: 9n });
      },
    });
    const server = new Server();
    server.addService(TsoServiceService, {
      ...Object.fromEntries(Object.keys(TsoServiceService).map((name) => [name, failing(status.UNIMPLEMENTED)])),
      getTs: hinting({ leaderEndpoint: `http://${plain}`, leaderEpoch: EPOCH }),
    });
    const port = await new Promise<number>((resolve) => {
      server.bindAsync(
        "127.0.0.1:0",
        ServerCredentials.createSsl(null, [{ cert_chain: pem("server.pem"), private_key: pem("server.key") }]),
        (_, bound) => resolve(bound),
      );
    });
    ends.push(() => server.forceShutdown());
    const client = connect(`127.0.0.1:${port}`, { tls });
    await expect(client.getTs({ deadlineMs: 700 })).rejects.toMatchObject({ code: "TSO_NO_LEADER" });
    expect(plainAsked).toBe(0);
  });
});

test("a program that forgets to close its client ends by itself; one that waits for an answer, or holds a lease, does not", async () => {
  const { address } = await served();
  const source = fileURLToPath(new URL("../../dist/client/index.js", import.meta.url));
  const program = `
    import { OracleClient } from ${JSON.stringify(source)};
    const client = OracleClient.connect(${JSON.stringify(address)});
    console.log(typeof await client.getTs());
    const nobody = OracleClient.connect("127.0.0.1:1");
    await nobody.getTs({ deadlineMs: 600 }).catch((error) => console.log(error.code));
    const untilAborted = ({ signal }) => new Promise((resolve) => signal.addEventListener("abort", resolve));
    await client.withLease("h", { signal: AbortSignal.timeout(500) }, untilAborted); // that timer keeps nothing alive
    console.log("gave the lease back");
  `;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], { stdio: ["ignore", "pipe", "inherit"] });
  let out = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  const [code] = await once(child, "close");
  expect({ code, out }).toEqual({ code: 0, out: "bigint\nTSO_DEADLINE\ngave the lease back\n" });
});
