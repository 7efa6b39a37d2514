/** What a client of `tsoracle.v1` and of the node's own service is told where all is well, and the questions that are never an error. */
import { status } from "@grpc/grpc-js";
import { afterEach, describe, expect, test } from "vitest";
import { epoch } from "../../src/base/epoch.ts";
import { VERSION } from "../../src/base/version.ts";
import { PHYSICAL_MS_MAX } from "../../src/oracle/rules/timestamp.ts";
import { field, METHODS, type Value } from "../support/raw-client.ts";
import { failureOf, granted, nextOf, type Served, type ServedOptions, START_MS, serve, serves, servesNot } from "../support/served.ts";

/** An epoch that needs both of its halves. */
const EPOCH = epoch(2n ** 64n + 7n);
const HALVES = { hi: 1n, lo: 7n };
const START = BigInt(START_MS);
const LEASE = { holder: new Uint8Array([1]), holder_epoch: 5n, ttl_ms: 10_000n };

let served: Served;
afterEach(() => served.close());

/** Serves in a reign whose epoch needs both halves, with a first window of a second. */
async function begin(options: ServedOptions = {}): Promise<void> {
  served = await serve({ windowAheadMs: 1_000, failoverAdvanceMs: 1_000, memory: { leads: false }, ...options });
  served.driver.lead(EPOCH);
  await serves(served.server);
}

const call = async (method: string, request: { readonly [name: string]: Value } = {}) => granted(await served.client.call(method, request));

test("GetTs answers with a block of one millisecond and both halves of the epoch, and the next block follows", async () => {
  await begin();
  const epochFields = { epoch_hi: 1n, epoch_lo: 7n };
  expect(await call("GetTs", { count: 5 })).toEqual({ physical_ms: START, logical_start: 0, count: 5, ...epochFields });
  expect(await call("GetTs", { count: 262_144 })).toEqual({ physical_ms: START + 1n, logical_start: 0, count: 262_144, ...epochFields });
  expect(await call("GetTs", { count: 1 })).toEqual({ physical_ms: START + 2n, logical_start: 0, count: 1, ...epochFields });
});

test("GetSeq answers with the key, the block and the epoch, from 0, and takes the longest key and the largest count", async () => {
  await begin();
  const key = `${"é".repeat(63)}\u0000k`;
  expect(await call("GetSeq", { key, count: 65_536 })).toEqual({ key, start: 0n, count: 65_536, epoch: HALVES });
  expect(await call("GetSeq", { key, count: 1 })).toEqual({ key, start: 65_536n, count: 1, epoch: HALVES });
});

test("keys that differ in a byte are different sequences, also where they look alike", async () => {
  await begin();
  const keys = ["é", "e\u0301", "k", "k\u0000", "K", "\ufeffk", " k", "\ufffd"];
  for (const key of keys) expect(await nextOf(served.client, key)).toBe(0n);
  for (const key of keys) expect(await nextOf(served.client, key)).toBe(1n);
});

test("GetSeqBatch answers in the order of the request, with the full number of keys", async () => {
  await begin();
  await nextOf(served.client, "k1");
  const entries = Array.from({ length: 128 }, (_, index) => ({ key: `k${127 - index}`, count: index + 1 }));
  const grants = entries.map(({ key, count }) => ({ key, start: key === "k1" ? 1n : 0n, count }));
  expect(await call("GetSeqBatch", { entries })).toEqual({ grants, epoch: HALVES });
});

test("a lease is acquired, held, renewed, superseded and released", async () => {
  await begin();
  const bound = START + 10_000n;
  const lease = { lease_id: bound, ts_upper_bound: bound, expires_at_ms: bound, epoch: HALVES };
  expect(await call("AcquireLease", LEASE)).toEqual(lease);
  served.clock.now += 2_000;
  expect(await call("AcquireLease", LEASE)).toEqual(lease); // it is held already
  const renewed = { ts_upper_bound: bound + 2_000n, expires_at_ms: bound + 2_000n, epoch: HALVES };
  expect(await call("RenewLease", { lease_id: bound })).toEqual(renewed);
  expect(await call("GetSafeFrontier")).toEqual({ frontier_physical_ms: bound + 2_000n, epoch_hi: 1n, epoch_lo: 7n });
  const next = { lease_id: bound + 2_001n, ts_upper_bound: bound + 2_001n, expires_at_ms: bound + 2_000n, epoch: HALVES };
  expect(await call("AcquireLease", { ...LEASE, holder_epoch: 6n })).toEqual(next);
  expect(await call("GetSafeFrontier")).toMatchObject({ frontier_physical_ms: bound + 2_000n }); // what was superseded still holds
  expect(await call("ReleaseLease", { lease_id: bound })).toEqual({});
  expect(await call("GetSafeFrontier")).toMatchObject({ frontier_physical_ms: bound + 2_001n });
  expect(await call("ReleaseLease", { lease_id: bound })).toEqual({});
});

test("the longest holder, the bounds of the time to live and the extremes of a holder epoch are accepted", async () => {
  await begin();
  for (const [index, ttl_ms] of [5_000n, 300_000n].entries()) {
    const holder = new Uint8Array(128).fill(index);
    for (const holder_epoch of [0n, 2n ** 64n - 1n]) {
      expect(await call("AcquireLease", { holder, holder_epoch, ttl_ms })).toMatchObject({ expires_at_ms: START + ttl_ms });
    }
  }
});

test.each([0n, 7n, 2n ** 46n, 2n ** 53n + 1n, 2n ** 64n - 1n])(
  "releasing the lease %d, which nobody holds, is no error and changes nothing",
  async (lease_id) => {
    await begin();
    await call("AcquireLease", LEASE);
    expect(await call("ReleaseLease", { lease_id })).toEqual({});
    expect(served.driver.view().leaseCount).toBe(1);
  },
);

describe("GetCurrentMaxSafe and GetSafeFrontier", () => {
  const ZERO = { epoch_hi: 0n, epoch_lo: 0n };

  async function expectZero(): Promise<void> {
    expect(await call("GetCurrentMaxSafe")).toEqual({ max_safe_physical_ms: 0n, ...ZERO });
    expect(await call("GetSafeFrontier")).toEqual({ frontier_physical_ms: 0n, ...ZERO });
  }

  test("answer with a bound and the epoch while this node serves", async () => {
    await begin();
    // The window reaches a second ahead, so everything below what it reached when the clock stood here is safe: its own floor, less one.
    expect(await call("GetCurrentMaxSafe")).toEqual({ max_safe_physical_ms: START - 1n, epoch_hi: 1n, epoch_lo: 7n });
    expect(await call("GetSafeFrontier")).toEqual({ frontier_physical_ms: START + 1_000n, epoch_hi: 1n, epoch_lo: 7n });
  });

  test("are all zero where this node follows", async () => {
    await begin();
    served.driver.follow({ epoch: epoch(2n ** 64n + 8n), endpoint: "10.0.0.2:50551" });
    await servesNot(served.server);
    await expectZero();
  });

  test("are all zero where leadership is not confirmed", async () => {
    await begin();
    served.driver.confirms = () => false;
    await expectZero();
  });

  test("are all zero before the first take-over", async () => {
    served = await serve({ memory: { leads: false } });
    await expectZero();
  });
});

test("GetTs says so where the last millisecond of the range is used up", async () => {
  served = await serve({ memory: { highWater: PHYSICAL_MS_MAX - 1_001 }, startMs: PHYSICAL_MS_MAX - 1_000, failoverAdvanceMs: 1_000 });
  served.clock.now = PHYSICAL_MS_MAX;
  expect(await call("GetTs", { count: 262_144 })).toMatchObject({ physical_ms: BigInt(PHYSICAL_MS_MAX), logical_start: 0 });
  expect(failureOf(await served.client.call("GetTs", { count: 1 }))).toEqual({
    code: status.OUT_OF_RANGE,
    message: `physical_ms ${PHYSICAL_MS_MAX + 1} exceeds 46-bit timestamp field`,
    hint: "absent",
  });
});

test("a block whose commit was lost on the way back is used up, and its outcome is said to be unknown", async () => {
  await begin();
  served.driver.script("lost");
  expect(failureOf(await served.client.call("GetSeq", { key: "k", count: 3 }))).toEqual({
    code: status.UNAVAILABLE,
    message: "the answer was lost (the outcome is unknown)",
    hint: "absent",
  });
  expect(await nextOf(served.client, "k")).toBe(3n);
});

test("a reason that is too long for a header is cut, and the call is answered", async () => {
  await begin();
  served.driver.script(new Error("\u20ac".repeat(100_000)));
  const { code, message } = await served.client.call("GetSeq", { key: "k", count: 3 });
  expect(code).toBe(status.UNAVAILABLE);
  expect(message).toMatch(/^\u20ac{100}/);
  expect(encodeURI(message).length).toBeLessThan(8_000);
});

describe("bytes that are no message", () => {
  /** A number where its bytes end too early: no field of any request can be this. */
  const TRUNCATED = new Uint8Array([0x08, 0xff]);

  test.each(METHODS)("%s refuses them, on a leader and elsewhere", async (method) => {
    await begin();
    const expected = { code: status.INVALID_ARGUMENT, message: expect.stringMatching(/^malformed request: /), hint: "absent" };
    expect(failureOf(await served.client.send(method, TRUNCATED))).toEqual(expected);
    served.driver.loseLeader();
    await servesNot(served.server);
    expect(failureOf(await served.client.send(method, TRUNCATED))).toEqual(expected);
  });
});

describe("the node's own service", () => {
  test("InitSeq sets the first value, once more until something was granted, and PeekSeq takes nothing", async () => {
    await begin();
    for (const first of [3n, 2n ** 64n - 1n, 9n]) {
      expect(await call("InitSeq", { key: "k", first })).toEqual({ sequence: { key: "k", first, next: first }, epoch: HALVES });
    }
    expect(await call("PeekSeq", { key: "k" })).toEqual({ sequence: { key: "k", first: 9n, next: 9n }, epoch: HALVES });
    expect(await nextOf(served.client, "k")).toBe(9n);
    expect(await call("PeekSeq", { key: "k" })).toEqual({ sequence: { key: "k", first: 9n, next: 10n }, epoch: HALVES });
  });

  test("ListSeqs goes through all keys in the order of their bytes, whatever is created meanwhile", async () => {
    await begin();
    // In UTF-16 the last two would change places.
    const keys = ["a", "a\u0000", "aa", "b", "é", "\uffff", "\u{10000}"];
    for (const key of keys.toReversed()) await nextOf(served.client, key);
    const seen: Value[] = [];
    let page_token = "";
    for (let page = 0; page === 0 || page_token !== ""; page++) {
      const { sequences, next_page_token } = await call("ListSeqs", { page_size: 3, page_token });
      seen.push(...(Array.isArray(sequences) ? sequences : []));
      page_token = String(next_page_token);
      await nextOf(served.client, `a${page}`); // before the place that was reached
    }
    expect(seen).toEqual(keys.map((key) => ({ key, first: 0n, next: 1n })));
  });

  test("ListSeqs answers with a hundred where no size is said, and with up to a thousand", async () => {
    await begin();
    for (let at = 0; at < 1_001; at += 91) {
      await call("GetSeqBatch", { entries: Array.from({ length: 91 }, (_, index) => ({ key: `k${at + index}`, count: 1 })) });
    }
    const sizes = async (page_size: number) => {
      const { sequences, next_page_token } = await call("ListSeqs", { page_size });
      return [Array.isArray(sequences) ? sequences.length : 0, next_page_token !== ""];
    };
    expect([await sizes(0), await sizes(1_000)]).toEqual([
      [100, true],
      [1_000, true],
    ]);
  });

  test("Status answers on every node, serving or not", async () => {
    await begin();
    await nextOf(served.client, "k");
    const status = await call("Status");
    expect(status).toMatchObject({ version: VERSION, role: 1, serving: true, epoch: HALVES, high_water_ms: START + 1_000n, clock_ms: START });
    expect(status).toMatchObject({ frontier_ms: START + 1_000n, safe_point_ms: START - 1n, sequences: 1, leases: 0, last_fault: "" });
    expect(status["leader_endpoint"]).toBeUndefined();
    served.driver.follow({ epoch: epoch(2n ** 64n + 8n), endpoint: "10.0.0.2:50551" });
    await servesNot(served.server);
    const elsewhere = { role: 2, serving: false, epoch: { hi: 1n, lo: 8n }, leader_endpoint: "10.0.0.2:50551", safe_point_ms: 0n };
    expect(await call("Status")).toMatchObject(elsewhere);
    served.driver.loseLeader();
    for await (const state of served.server.states()) if (state.type === "not-serving" && state.role === "unknown") break;
    expect(await call("Status")).toMatchObject({ role: 3, serving: false });
  });
});

test("a text that is not UTF-8 in a page token is refused like one in a key", async () => {
  await begin();
  const reply = failureOf(await served.client.send("ListSeqs", field(2, new Uint8Array([0xff]))));
  expect(reply).toEqual({ code: status.INVALID_ARGUMENT, message: "invalid sequence key", hint: "absent" });
});
