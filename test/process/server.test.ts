/** `OracleServer` as a host uses it: starting, attaching, closing, TLS, options, the heartbeat. */
import { readFileSync } from "node:fs";
import { type ChannelCredentials, credentials, Server, ServerCredentials, status } from "@grpc/grpc-js";
import { afterEach, describe, expect, test, vi } from "vitest";
import { epoch } from "../../src/base/epoch.ts";
import { OracleError } from "../../src/base/errors.ts";
import type { LogFields, Logger } from "../../src/base/logger.ts";
import { memoryDriver } from "../../src/oracle/drivers/memory.ts";
import { type ListenOptions, OracleServer, type ServingState, type TlsOptions } from "../../src/server/index.ts";
import { type OracleServerOptions, resolveServerOptions } from "../../src/server/options.ts";
import { deferred } from "../support/deferred.ts";
import { RawClient } from "../support/raw-client.ts";
import { openSocket } from "../support/raw-http2.ts";
import { addressOf, failureOf, granted, nextOf, nextTimestamp, type Served, serve, serves, servesNot } from "../support/served.ts";

const LISTEN = { listen: "127.0.0.1:0" };

/** What a test leaves open, whether it passed or not. */
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

async function started(options: Partial<OracleServerOptions & ListenOptions> = {}): Promise<OracleServer> {
  const server = await OracleServer.start({ driver: memoryDriver(), ...options });
  cleanups.push(() => server.close({ graceMs: 0 }));
  return server;
}

async function served(options: Parameters<typeof serve>[0] = {}): Promise<Served> {
  const world = await serve(options);
  cleanups.push(() => world.close());
  return world;
}

function connected(address: string, security?: ChannelCredentials): RawClient {
  const client = new RawClient(address, security, security === undefined ? {} : { "grpc.ssl_target_name_override": "localhost" });
  cleanups.push(() => client.close());
  return client;
}

describe("starting", () => {
  test("listens where it says, on a port that the system chose", async () => {
    const server = await started(LISTEN);
    expect(server.address).toMatch(/^127\.0\.0\.1:[1-9]\d+$/);
    await serves(server);
    await nextTimestamp(connected(addressOf(server)));
  });

  test("listens on IPv6 as well", async () => {
    const server = await started({ listen: "[::1]:0" });
    expect(server.address).toMatch(/^\[::1\]:[1-9]\d+$/);
    await serves(server);
    await nextTimestamp(connected(addressOf(server)));
  });

  test("an address that is taken is refused, and the driver stays free", async () => {
    const { address = "" } = await started(LISTEN);
    const driver = memoryDriver();
    const refused = OracleServer.start({ driver, listen: address });
    await expect(refused).rejects.toMatchObject({ name: "OracleError", code: "TSO_INVALID_OPTION" });
    await expect(refused).rejects.toThrow(`cannot listen on ${address}: `);
    await expect(refused).rejects.toThrow("EADDRINUSE");
    await serves(await started({ driver }));
  });

  test("a port that does not exist is refused", async () => {
    await expect(OracleServer.start({ driver: memoryDriver(), listen: "127.0.0.1:65536" })).rejects.toMatchObject({ code: "TSO_INVALID_OPTION" });
  });

  test.each(["", "127.0.0.1", "127.0.0.1:", ":0", "unix:/tmp/oracle", "127.0.0.1:0 "])('the address "%s" is refused as an option', async (listen) => {
    await expect(OracleServer.start({ driver: memoryDriver(), listen })).rejects.toThrow(`TSO_INVALID_OPTION: listen "${listen}" is not HOST:PORT`);
  });

  test("answers before its first take-over: not leader", async () => {
    const { client } = await served({ memory: { leads: false } });
    expect(failureOf(await client.call("GetTs", { count: 1 }))).toEqual({ code: status.FAILED_PRECONDITION, message: "not leader", hint: {} });
  });
});

describe("attached to a host's own server", () => {
  /** A host with a method of its own, and the oracle beside it. */
  async function hosted(): Promise<{ readonly oracle: OracleServer; readonly client: RawClient }> {
    const oracle = await started();
    const host = new Server();
    cleanups.push(() => host.forceShutdown());
    const bytes = { serialize: (value: Buffer) => value, deserialize: (value: Buffer) => value };
    host.addService(
      {
        own: {
          path: "/host.Service/Own",
          requestStream: false,
          responseStream: false,
          requestSerialize: bytes.serialize,
          requestDeserialize: bytes.deserialize,
          responseSerialize: bytes.serialize,
          responseDeserialize: bytes.deserialize,
        },
      },
      { own: (_: unknown, reply: (error: null, value: Buffer) => void) => reply(null, Buffer.from("own")) },
    );
    oracle.attach(host);
    const port = await new Promise<number>((resolve, reject) => {
      host.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error === null ? resolve(bound) : reject(error)));
    });
    await serves(oracle);
    return { oracle, client: connected(`127.0.0.1:${port}`) };
  }

  test("serves there, and listens nowhere else", async () => {
    const { oracle, client } = await hosted();
    expect(oracle.address).toBeUndefined();
    await nextTimestamp(client);
    granted(await client.call("Status"));
    expect(await client.sendTo("/host.Service/Own", new Uint8Array())).toMatchObject({ code: status.OK });
  });

  test("closing ends what it does, and the host's server goes on", async () => {
    const { oracle, client } = await hosted();
    await oracle.close();
    expect(failureOf(await client.call("GetTs", { count: 1 }))).toEqual({ code: status.FAILED_PRECONDITION, message: "not leader", hint: {} });
    expect(await client.sendTo("/host.Service/Own", new Uint8Array())).toMatchObject({ code: status.OK });
  });
});

describe("closing", () => {
  /** A sequence request that has reached the driver, whose commit waits. */
  async function inFlight({ driver, client }: Served) {
    const commit = deferred<"committed">();
    const arrived = deferred<undefined>();
    driver.script(commit.promise);
    driver.answer = () => {
      arrived.resolve(undefined);
      return undefined;
    };
    const call = client.call("GetSeq", { key: "k", count: 1 });
    await arrived.promise;
    cleanups.push(() => commit.resolve("committed"));
    return { commit, call };
  }

  test("lets a call in flight end within the grace, and takes no more", async () => {
    const world = await served();
    const { commit, call } = await inFlight(world);
    let closed = false;
    const closing = world.server.close({ graceMs: 60_000 }).then(() => {
      closed = true;
    });
    expect((await connected(addressOf(world.server)).call("GetTs", { count: 1 })).code).toBe(status.UNAVAILABLE);
    expect(closed).toBe(false);
    expect(world.server.state.type).toBe("serving"); // for those who are still in
    commit.resolve("committed");
    expect(granted(await call)).toMatchObject({ start: 0n });
    await closing;
    expect(world.server.state.type).toBe("not-serving");
  });

  test.each([0, 50])("ends a call that does not end by itself, after a grace of %d ms", async (graceMs) => {
    const world = await served();
    const { call } = await inFlight(world);
    await world.server.close({ graceMs });
    expect([status.UNAVAILABLE, status.CANCELLED]).toContain((await call).code);
    await expect(world.server.done).resolves.toBeUndefined();
  });

  test("is not held up beyond the grace by connections that say nothing", async () => {
    const world = await served();
    const sockets = await Promise.all(Array.from({ length: 10 }, () => openSocket(addressOf(world.server))));
    await nextTimestamp(world.client); // by now the server has taken the connections
    await world.server.close({ graceMs: 100 });
    for (const socket of sockets) socket.destroy();
  });

  test("is not held up at all by a client that is idle", async () => {
    const world = await served();
    await nextTimestamp(world.client);
    await world.server.close({ graceMs: 600_000 });
  });

  test("is safe twice, at once and later, and by `await using`", async () => {
    const server = await started(LISTEN);
    const [first, second] = [server.close(), server.close({ graceMs: 0 })];
    await Promise.all([first, second]);
    await server.close();
    let left: OracleServer;
    {
      await using scoped = await OracleServer.start({ driver: memoryDriver(), ...LISTEN });
      left = scoped;
      await serves(scoped);
    }
    await expect(left.done).resolves.toBeUndefined();
    expect((await connected(addressOf(left)).call("GetTs", { count: 1 })).code).toBe(status.UNAVAILABLE);
  });

  test.each([-1, 0.5, Number.NaN, 86_400_001])("refuses a grace of %d ms, and goes on serving", async (graceMs) => {
    const { server, client } = await served();
    const refused = (): unknown => server.close({ graceMs });
    expect(refused).toThrow(`TSO_INVALID_OPTION: graceMs ${graceMs} must be a whole number from 0 to 86400000`);
    await nextTimestamp(client);
  });

  test("leaves the driver open for the next server", async () => {
    const driver = memoryDriver();
    const first = await started({ driver, ...LISTEN });
    await serves(first);
    const last = await nextTimestamp(connected(addressOf(first)));
    await first.close();
    const second = await started({ driver, ...LISTEN });
    await serves(second);
    expect(await nextTimestamp(connected(addressOf(second)))).toBeGreaterThan(last);
  });

  test("returns although the driver never answers the take-over", async () => {
    const driver = memoryDriver();
    driver.script(new Promise<"committed">(() => undefined));
    const server = await started({ driver });
    for await (const state of server.states()) if (state.type === "not-serving" && state.role === "leader") break;
    await server.close();
    await expect(server.done).resolves.toBeUndefined();
  });
});

describe("done and states", () => {
  test("states tell the current one first, then changes, and end when serving ends", async () => {
    const { driver, server } = await served();
    const states: ServingState[] = [];
    const reading = (async () => {
      for await (const state of server.states()) {
        states.push(state);
        if (states.length === 1) driver.follow({ epoch: epoch(7n), endpoint: "10.0.0.2:50551" });
        if (states.length === 2) void server.close();
      }
    })();
    await reading;
    expect(states.slice(0, 2)).toEqual([
      { type: "serving", epoch: 1n },
      { type: "not-serving", role: "follower", hint: { epoch: 7n, endpoint: "10.0.0.2:50551" } },
    ]);
  });

  test("states end when whoever reads them says so", async () => {
    const { server } = await served();
    const enough = new AbortController();
    for await (const state of server.states({ signal: enough.signal })) {
      expect(state.type).toBe("serving");
      enough.abort();
    }
    expect(server.state.type).toBe("serving");
  });

  test("done rejects with the driver's failure; the server refuses from then on, and can be closed", async () => {
    const { driver, server, client } = await served();
    driver.fail(new Error("the disk is gone"));
    await expect(server.done).rejects.toThrow("the disk is gone");
    expect(failureOf(await client.call("GetTs", { count: 1 }))).toEqual({ code: status.FAILED_PRECONDITION, message: "not leader", hint: {} });
    expect(granted(await client.call("Status"))).toMatchObject({ serving: false, last_fault: "the disk is gone" });
    await server.close();
  });

  test("a second server on one driver ends, and the first goes on", async () => {
    const { driver, client } = await served();
    const second = await started({ driver });
    await expect(second.done).rejects.toMatchObject({ code: "TSO_ALREADY_SUBSCRIBED" });
    await nextTimestamp(client);
  });
});

describe("TLS", () => {
  const pem = (name: string): Buffer => readFileSync(new URL(`../fixtures/tls/${name}`, import.meta.url));
  const authority = pem("authority.pem");
  const tls = { cert: pem("server.pem"), key: pem("server.key") };

  /** What a client with this security is answered. */
  async function answered(server: OracleServer, security?: ChannelCredentials): Promise<number> {
    await serves(server);
    return (await connected(addressOf(server), security).call("GetTs", { count: 1 })).code;
  }

  test("a client that knows the authority is served, others and plain ones are not", async () => {
    const server = await started({ ...LISTEN, tls });
    expect(await answered(server, credentials.createSsl(authority))).toBe(status.OK);
    expect(await answered(server, credentials.createSsl(pem("stranger.pem")))).toBe(status.UNAVAILABLE);
    expect(await answered(server)).toBe(status.UNAVAILABLE);
  });

  test("with an authority for clients, only one whose certificate it signed is served", async () => {
    const server = await started({ ...LISTEN, tls: { ...tls, clientCa: authority } });
    expect(await answered(server, credentials.createSsl(authority, pem("client.key"), pem("client.pem")))).toBe(status.OK);
    expect(await answered(server, credentials.createSsl(authority))).toBe(status.UNAVAILABLE);
    expect(await answered(server, credentials.createSsl(authority, pem("stranger.key"), pem("stranger.pem")))).toBe(status.UNAVAILABLE);
  });

  test.each([
    ["a certificate that is none", { ...tls, cert: Buffer.from("noise") }],
    ["a key that is none", { ...tls, key: Buffer.from("noise") }],
    ["the key of another certificate", { ...tls, key: pem("client.key") }],
  ])("%s is refused, and nothing listens", async (_, wrong) => {
    await expectRefused(wrong);
  });

  test("an authority for clients that is none is refused, and nothing listens", async () => {
    await expectRefused({ ...tls, clientCa: Buffer.from("noise") });
  });

  async function expectRefused(wrong: TlsOptions): Promise<void> {
    const refused = await OracleServer.start({ driver: memoryDriver(), ...LISTEN, tls: wrong }).catch((error: unknown) => error);
    if (refused instanceof OracleServer) cleanups.push(() => refused.close({ graceMs: 0 }));
    expect(refused).toBeInstanceOf(OracleError);
    expect(refused).toMatchObject({ code: "TSO_INVALID_OPTION" });
  }
});

describe("options", () => {
  const range = (from: number, through: number): string => `must be a whole number from ${from} to ${through}`;
  const HOUR_MS = 3_600_000;
  const DAY_MS = 86_400_000;
  const RANGES: readonly (readonly [keyof OracleServerOptions, number, number])[] = [
    ["windowAheadMs", 1, HOUR_MS],
    ["failoverAdvanceMs", 1, HOUR_MS],
    ["maxClockJumpMs", 1_000, 2 ** 46 - 1],
    ["leaseTtlFloorMs", 1, 300_000],
    ["leaseTtlCeilingMs", 1, 365 * DAY_MS],
    ["pendingMax", 1, 1_000_000],
    ["heartbeatMs", 0, DAY_MS],
  ];
  const LIMITS: readonly (readonly [string, number, number])[] = [
    ["maxKeys", 1, 1_000_000],
    ["maxKeyBytes", 1, 1_024],
    ["maxCount", 1, 0xffff_ffff],
    ["maxBatchKeys", 1, 1_024],
    ["maxLeases", 1, 100_000],
    ["maxHolderBytes", 1, 1_024],
  ];
  const REFUSED: readonly (readonly [string, number, number, (value: number) => Partial<OracleServerOptions>])[] = [
    ...RANGES.map(([name, from, through]) => [name, from, through, (value: number) => ({ [name]: value })] as const),
    ...LIMITS.map(([name, from, through]) => [name, from, through, (value: number) => ({ limits: { [name]: value } })] as const),
  ];

  test.each(REFUSED)("%s must be a whole number in its range, whose ends are allowed", async (name, from, through, options) => {
    const driver = memoryDriver();
    for (const value of [from - 1, through + 1, from + 0.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const refused = OracleServer.start({ driver, ...options(value) });
      await expect(refused).rejects.toMatchObject({
        code: "TSO_INVALID_OPTION",
        message: `TSO_INVALID_OPTION: ${name} ${value} ${range(from, through)}`,
      });
    }
    const room = name === "leaseTtlCeilingMs" ? { leaseTtlFloorMs: 1 } : {};
    for (const value of [from, through]) resolveServerOptions({ driver, ...room, ...options(value) });
    await serves(await started({ driver })); // nothing that was refused has taken the leadership
  });

  test("the floor of a lease's time to live is at most its ceiling", async () => {
    const refused = OracleServer.start({ driver: memoryDriver(), leaseTtlFloorMs: 2_001, leaseTtlCeilingMs: 2_000 });
    await expect(refused).rejects.toThrow(`leaseTtlFloorMs 2001 ${range(1, 2_000)}`);
    const short = OracleServer.start({ driver: memoryDriver(), leaseTtlCeilingMs: 4_999 });
    await expect(short).rejects.toThrow(`leaseTtlFloorMs 5000 ${range(1, 4_999)}`);
  });

  test.each([-1, Number.NaN, 2 ** 53])("a clock that reads %d is refused", async (now) => {
    const refused = OracleServer.start({ driver: memoryDriver(), clock: () => now });
    await expect(refused).rejects.toThrow(`TSO_INVALID_OPTION: clock() ${now} must be a whole number from 0 to ${Number.MAX_SAFE_INTEGER}`);
  });

  test("defaults are those that are documented", () => {
    expect(resolveServerOptions({ driver: memoryDriver() })).toMatchObject({
      windowAheadMs: 3_000,
      failoverAdvanceMs: 1_000,
      maxClockJumpMs: DAY_MS,
      acceptClockJump: false,
      leaseTtlFloorMs: 5_000,
      leaseTtlCeilingMs: 300_000,
      pendingMax: 16_384,
      heartbeatMs: 10_000,
      limits: { maxKeys: 10_000, maxKeyBytes: 128, maxCount: 65_536, maxBatchKeys: 128, maxLeases: 10_000, maxHolderBytes: 128 },
    });
  });

  test("limits reach the requests: the longest key, the largest count, batch and holder that they allow, and no more", async () => {
    const { client } = await served({ limits: { maxKeyBytes: 4, maxCount: 7, maxBatchKeys: 2, maxHolderBytes: 3 } });
    const batch = (length: number) => ({ entries: Array.from({ length }, (_, index) => ({ key: `${index}`, count: 1 })) });
    const lease = (length: number) => ({ holder: new Uint8Array(length), ttl_ms: 5_000n });
    expect(await nextOf(client, "abcd")).toBe(0n);
    for (const [method, fits, exceeds] of [
      ["GetSeq", { key: "abcd", count: 7 }, { key: "abcd", count: 8 }],
      ["GetSeq", { key: "éé", count: 7 }, { key: "ééé", count: 1 }],
      ["GetSeqBatch", batch(2), batch(3)],
      ["AcquireLease", lease(3), lease(4)],
    ] as const) {
      granted(await client.call(method, fits));
      expect((await client.call(method, exceeds)).code).toBe(status.INVALID_ARGUMENT);
    }
  });

  test("a request may be as large as the limits allow", async () => {
    const { client } = await served({ limits: { maxKeyBytes: 1_024, maxBatchKeys: 1_024 } });
    const entries = Array.from({ length: 1_024 }, (_, index) => ({ key: String(index).padStart(1_024, "k"), count: 65_536 }));
    granted(await client.call("GetSeqBatch", { entries }));
  });
});

describe("the heartbeat", () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  test("says in one line what was done and how it stands, and stops with the server", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const lines: LogFields[] = [];
    const keep = (fields: LogFields, message: string) => void (message === "heartbeat" && lines.push(fields));
    const logger: Logger = { debug: keep, info: keep, warn: keep, error: keep };
    const { client, clock, driver, server } = await served({ logger, heartbeatMs: 60_000, windowAheadMs: 1_000, failoverAdvanceMs: 1_000 });
    await client.call("GetTs", { count: 5 });
    await client.call("GetSeq", { key: "k", count: 3 });
    await client.call("GetSeqBatch", { entries: [{ key: "k", count: 4 }] });
    await client.call("GetTs", { count: 0 });
    await client.call("Status");
    clock.now += 1_001;
    await client.call("GetTs", { count: 1 });
    driver.confirms = () => false;
    await client.call("GetTs", { count: 1 });
    vi.advanceTimersByTime(60_000);
    const counted = { requests: 7, timestampsIssued: 6, sequenceValuesIssued: 7, notLeader: 1, fenceRetries: 0, extensionsIgnored: 0 };
    expect(lines).toEqual([
      {
        uptimeSeconds: expect.any(Number),
        serving: true,
        epoch: 1n,
        ...counted,
        transitions: 1,
        extensions: 1,
        waitedForExtension: 1,
        lastTransitionAgeSeconds: expect.any(Number),
        lastFault: undefined,
      },
    ]);
    driver.fail(new Error("the disk is gone"));
    await server.done.catch(() => undefined);
    vi.advanceTimersByTime(600_000);
    expect(lines).toHaveLength(1);
  });

  test("is what it is after a loss: not serving, without an epoch, with the last fault", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const lines: LogFields[] = [];
    const keep = (fields: LogFields, message: string) => void (message === "heartbeat" && lines.push(fields));
    const logger: Logger = { debug: keep, info: keep, warn: keep, error: keep };
    const { client, clock, driver, server } = await served({ logger, heartbeatMs: 60_000, failoverAdvanceMs: 1_000 });
    clock.now += 1_001;
    driver.answer = () => ({ type: "fenced", by: epoch(9n) });
    await client.call("GetTs", { count: 1 });
    await servesNot(server);
    vi.advanceTimersByTime(60_000);
    expect(lines.at(-1)).toMatchObject({
      serving: false,
      epoch: undefined,
      transitions: 2,
      notLeader: 1,
      lastFault: "epoch 1 was fenced by epoch 9",
    });
  });

  test("is silent where it is turned off", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    await started({ heartbeatMs: 0 });
    expect(vi.getTimerCount()).toBe(1); // upkeep
  });
});
