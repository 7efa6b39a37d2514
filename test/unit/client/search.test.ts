import { status } from "@grpc/grpc-js";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Epoch, epoch } from "../../../src/base/epoch.ts";
import { createPrng } from "../../../src/base/prng.ts";
import { type Leader, LeaderCache } from "../../../src/client/leader-cache.ts";
import type { ClientMetrics } from "../../../src/client/metrics.ts";
import { REDIRECTS_PER_PASS, REDIRECTS_PER_SEARCH, Search } from "../../../src/client/search.ts";
import { judge } from "../../../src/client/verdict.ts";
import { LeaderHint } from "../../../src/gen/tsoracle/v1/tso.ts";
import { property } from "../../support/property.ts";

const TTL_MS = 30_000;
const A = "a:1";
const B = "b:1";
const C = "c:1";

function searching(options: { readonly endpoints?: readonly string[]; readonly secure?: boolean; readonly random?: () => number } = {}) {
  const counts: Record<string, number> = {};
  const metrics: ClientMetrics = {
    add: (name, amount) => {
      counts[name] = (counts[name] ?? 0) + amount;
    },
    set: () => undefined,
    observe: () => undefined,
  };
  const endpoints = options.endpoints ?? [A, B, C];
  const changes: (Leader | undefined)[] = [];
  const leaders = new LeaderCache({ configured: endpoints, ttlMs: TTL_MS, onChange: (leader) => changes.push(leader) });
  const context = {
    endpoints,
    secure: options.secure ?? false,
    leaders,
    metrics,
    backoff: { baseMs: 50, maxMs: 500 },
    random: options.random ?? (() => 0),
  };
  return { leaders, changes, counts, search: (now = 0) => new Search(context, now) };
}

const hint = (leaderEndpoint?: string, of?: bigint): Uint8Array =>
  LeaderHint.encode({ leaderEndpoint, leaderEpoch: of === undefined ? undefined : { hi: 0n, lo: of } }).finish();

function passOf(search: Search): string[] {
  const asked: string[] = [];
  for (let endpoint = search.next(); endpoint !== undefined; endpoint = search.next()) asked.push(endpoint);
  return asked;
}

test("a pass asks every endpoint once, from a random one on; the next pass from the one after", () => {
  const { search } = searching({ random: () => 0.4 });
  const first = search();
  expect(passOf(first)).toEqual([B, C, A]);
  first.passed(0);
  expect(passOf(first)).toEqual([C, A, B]);
});

test("the believed leader is asked first, and once, until it is believed no more", () => {
  const { search, leaders } = searching();
  leaders.answered(B, epoch(1n), 0);
  expect(passOf(search(TTL_MS - 1))).toEqual([B, A, C]);
  expect(passOf(search(TTL_MS)), "after its time").toEqual([A, B, C]);
});

test("a hint is followed at once, before the other endpoints", () => {
  const { search } = searching();
  const searched = search();
  expect(searched.next()).toBe(A);
  searched.notLeader(A, hint("d:9", 4n), 0);
  expect(passOf(searched)).toEqual(["d:9", B, C]);
});

test("a hint is followed in each pass", () => {
  const { search } = searching({ endpoints: [A] });
  const searched = search();
  for (let pass = 0; pass < 3; pass++) {
    const asked: string[] = [];
    for (let endpoint = searched.next(); endpoint !== undefined; endpoint = searched.next()) {
      asked.push(endpoint);
      searched.notLeader(endpoint, endpoint === A ? hint("d:9", 4n) : hint(), 0);
    }
    expect(asked).toEqual([A, "d:9"]);
    searched.passed(0);
  }
});

test("two nodes that name each other are asked once a pass", () => {
  const { search } = searching({ endpoints: [A, B] });
  const searched = search();
  for (let pass = 0; pass < 5; pass++) {
    const asked: string[] = [];
    for (let endpoint = searched.next(); endpoint !== undefined; endpoint = searched.next()) {
      asked.push(endpoint);
      searched.notLeader(endpoint, hint(endpoint === A ? B : A, 4n), 0);
    }
    expect(asked.toSorted()).toEqual([A, B]);
    searched.passed(0);
  }
});

property(
  "hints are followed at most 16 times in a pass and 64 in a search, wherever they lead",
  fc.property(fc.array(fc.boolean(), { minLength: 50, maxLength: 400 }), fc.integer(), (followsHint, seed) => {
    const prng = createPrng(seed);
    const { search } = searching({ random: () => prng.next() });
    const searched = search();
    let [inPass, inAll, names] = [0, 0, 0];
    for (const withHint of followsHint) {
      const endpoint = searched.next();
      if (endpoint === undefined) {
        expect(searched.passed(0)).toBeTypeOf("number");
        inPass = 0;
        continue;
      }
      if (endpoint.startsWith("hinted")) [inPass, inAll] = [inPass + 1, inAll + 1];
      expect(inPass).toBeLessThanOrEqual(REDIRECTS_PER_PASS + 1); // the leader that the last pass believed in is asked by this one
      expect(inAll).toBeLessThanOrEqual(REDIRECTS_PER_SEARCH + followsHint.length / (REDIRECTS_PER_PASS + 1));
      searched.notLeader(endpoint, withHint ? hint(`hinted-${names++}:1`, 4n) : undefined, 0);
    }
  }),
);

test("an endless chain of hints ends a pass after 16 of them, and all passes after 64", () => {
  const { search, counts } = searching();
  const searched = search();
  let names = 0;
  const followed: number[] = [];
  for (let pass = 0; pass < 6; pass++) {
    const before = names;
    for (let endpoint = searched.next(); endpoint !== undefined; endpoint = searched.next())
      searched.notLeader(endpoint, hint(`hinted-${names++}:1`), 0);
    followed.push(names - before - 3); // beside the three endpoints
    searched.passed(0);
  }
  expect(followed).toEqual([16, 16, 16, 16, 0, 0]);
  expect(counts["tsoracle_client_leader_redirect_cap_total"]).toBeGreaterThan(0);
  expect(counts["tsoracle_client_leader_redirect_total_cap_total"]).toBeGreaterThan(0);
});

test.each([
  ["http://d:9", true, 0],
  ["https://d:9", false, 0],
  ["https://d:9", true, 1],
  ["http://d:9", false, 1],
  ["d:9", true, 1],
  ["d:9", false, 1],
  ["dns:///d:9", false, 0],
  ["unix:/tmp/socket", false, 0],
  ["user@d:9", false, 0],
  ["d:9/path", false, 0],
  ["d", false, 0],
  ["d:0", false, 0],
  ["d:65536", false, 0],
  [`${"d".repeat(400)}:9`, false, 0],
  ["D:9", false, 1],
  ["[::1]:9", false, 1],
] as const)("a hint %s, secure %s, is followed %i times", (named, secure, times) => {
  const { search, counts } = searching({ secure });
  const searched = search();
  searched.next();
  searched.notLeader(A, hint(named, 4n), 0);
  expect(passOf(searched)).toHaveLength(2 + times);
  expect(counts["tsoracle_client_leader_hint_decode_failures_total"] ?? 0).toBe(1 - times);
});

test("a hint that is no message is counted, and the search goes on", () => {
  const { search, counts } = searching();
  const searched = search();
  searched.next();
  searched.notLeader(A, new Uint8Array([0xff, 0xff, 0xff, 0xff]), 0);
  expect(passOf(searched)).toEqual([B, C]);
  expect(counts["tsoracle_client_leader_hint_decode_failures_total"]).toBe(1);
});

property(
  "whatever bytes a hint has, it leads to an endpoint or nowhere",
  fc.property(
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.tuple(fc.string(), fc.option(fc.bigInt({ min: 0n, max: 9n }))).map(([text, of]) => hint(text, of ?? undefined)),
    ),
    (bytes) => {
      const { search } = searching();
      const searched = search();
      searched.next();
      searched.notLeader(A, bytes, 0);
      for (const endpoint of passOf(searched)) expect(endpoint).toMatch(/^([a-z0-9._-]+|\[[0-9a-f:.]+\]):\d{1,5}$/);
    },
  ),
);

test("the wait between passes is drawn from a range that doubles, up to the most", () => {
  const { search } = searching({ random: () => 0.999_999 });
  const searched = search();
  const waits = Array.from({ length: 6 }, () => Math.ceil(Number(searched.passed(0))));
  expect(waits).toEqual([50, 100, 200, 400, 500, 500]);
});

test("when no endpoint has an answer, the best that is known is told: a failure, then an election, then that nobody answered", () => {
  const { search } = searching();
  const lost = search();
  lost.lost(A, "connection refused");
  expect(lost.passed(0)).toBeTypeOf("number");
  expect(lost.timeUp(100)).toMatchObject({ code: "TSO_DEADLINE", message: expect.stringContaining("a:1: connection refused") });
  const election = search();
  election.lost(A, "connection refused");
  election.notLeader(B, undefined, 0);
  expect(election.passed(0)).toBeTypeOf("number");
  expect(election.timeUp(100)).toMatchObject({ code: "TSO_NO_LEADER", message: expect.stringContaining("connection refused") });
  const failed = search();
  failed.failed(A, "out of order");
  expect(failed.passed(0)).toMatchObject({ code: "TSO_SERVER_ERROR", message: expect.stringContaining("a:1: out of order") });
  expect(failed.timeUp(100)).toMatchObject({ code: "TSO_SERVER_ERROR", message: expect.stringContaining("out of order") });
});

test("an election is ridden out also where a node fails: another one may lead soon", () => {
  const { search } = searching();
  const searched = search();
  searched.failed(A, "out of order");
  searched.notLeader(B, undefined, 0);
  expect(searched.passed(0)).toBeTypeOf("number");
  expect(searched.passed(0), "and it is remembered").toBeTypeOf("number");
});

test("the cached epoch never goes back, and a hint does not raise it", () => {
  const { leaders } = searching();
  expect(leaders.answered(A, epoch(5n), 0)).toBe(true);
  expect(leaders.answered(B, epoch(4n), 0)).toBe(false);
  expect(leaders.leader(0)).toEqual({ endpoint: A, epoch: 5n });
  expect(leaders.hinted({ endpoint: B, epoch: epoch(9n) }, 0)).toBe(true);
  expect(leaders.epoch).toBe(5n);
  expect(leaders.answered(B, epoch(6n), 0), "a hint was hearsay").toBe(true);
  expect(leaders.epoch).toBe(6n);
});

const seated = (at: Epoch | undefined): LeaderCache => {
  const { leaders } = searching();
  if (at === undefined) leaders.hinted({ endpoint: A, epoch: undefined }, 0);
  else leaders.answered(A, at, 0);
  return leaders;
};

test.each([
  ["of an earlier epoch", seated(epoch(5n)), { endpoint: B, epoch: epoch(4n) }, false],
  ["of the same epoch", seated(epoch(5n)), { endpoint: B, epoch: epoch(5n) }, true],
  ["of a later epoch", seated(epoch(5n)), { endpoint: "d:9", epoch: epoch(6n) }, true],
  ["without an epoch, to a stranger, against a known one", seated(epoch(5n)), { endpoint: "d:9", epoch: undefined }, false],
  ["without an epoch, to a configured endpoint", seated(epoch(5n)), { endpoint: B, epoch: undefined }, true],
  ["without an epoch, against none", seated(undefined), { endpoint: "d:9", epoch: undefined }, true],
] as const)("a hint %s", (_, leaders, leader, follows) => {
  expect(leaders.hinted(leader, 1)).toBe(follows);
  expect(leaders.leader(1)?.endpoint).toBe(follows ? leader.endpoint : A);
});

test("after its time an entry holds nobody back, but the epoch of an answer does", () => {
  const leaders = seated(epoch(5n));
  expect(leaders.hinted({ endpoint: "d:9", epoch: undefined }, TTL_MS)).toBe(true);
  expect(leaders.hinted({ endpoint: "d:9", epoch: epoch(4n) }, TTL_MS)).toBe(false);
});

test("an endpoint that does not lead is forgotten, unless another has taken its place", () => {
  const { leaders, changes } = searching();
  leaders.answered(A, epoch(5n), 0);
  leaders.answered(B, epoch(6n), 0);
  leaders.refuted(A);
  expect(leaders.leader(0)?.endpoint).toBe(B);
  leaders.refuted(B);
  expect(leaders.leader(0)).toBeUndefined();
  expect(changes.map((leader) => leader?.endpoint)).toEqual([A, B, undefined]);
});

test("an answer that changes nothing is no change", () => {
  const { leaders, changes } = searching();
  for (let now = 0; now < 5; now++) leaders.answered(A, epoch(5n), now);
  expect(changes).toHaveLength(1);
  expect(leaders.leader(TTL_MS + 3), "and is a new proof").toBeDefined();
});

const codes = Object.values(status).filter((code): code is status => typeof code === "number" && code !== status.OK);

test.each(codes.map((code) => [status[code], code] as const))("a sequence that was sent and answered %s", (name, code) => {
  const definite: Readonly<Record<string, string>> = {
    INVALID_ARGUMENT: "TSO_INVALID_ARGUMENT",
    RESOURCE_EXHAUSTED: "TSO_LIMIT_REACHED",
    UNIMPLEMENTED: "TSO_SERVER_ERROR",
    FAILED_PRECONDITION: "TSO_LIMIT_REACHED",
  };
  for (const method of ["getSeq", "getSeqBatch"] as const) {
    const verdict = judge(method, A, { type: "status", code, details: "why", hint: undefined });
    if (name in definite)
      expect(verdict).toMatchObject({ type: "final", error: { code: definite[name], message: expect.stringContaining("a:1: why") } });
    else expect(verdict, "it may have been done").toMatchObject({ changed: true, detail: `why (${name})` });
    // Only "not the leader" has the trailer, and that node did nothing.
    const hinted = judge(method, A, { type: "status", code, details: "why", hint: new Uint8Array() });
    expect(hinted.type).toBe(code === status.FAILED_PRECONDITION ? "not-leader" : verdict.type);
  }
});

test("what was sent and has no answer may have been done", () => {
  const lost = { type: "lost", reason: "transport", details: "gone" } as const;
  expect(judge("getSeq", A, { ...lost, sent: false })).toMatchObject({ type: "lost", changed: false });
  expect(judge("getSeq", A, { ...lost, sent: true })).toMatchObject({ type: "lost", changed: true });
  expect(judge("getTs", A, { ...lost, sent: true })).toMatchObject({ type: "lost", changed: false });
});

test.each([
  ["acquireLease", status.FAILED_PRECONDITION, "TSO_FENCED"],
  ["acquireLease", status.RESOURCE_EXHAUSTED, "TSO_LIMIT_REACHED"],
  ["renewLease", status.FAILED_PRECONDITION, "TSO_LEASE_LOST"],
  ["renewLease", status.NOT_FOUND, "TSO_LEASE_LOST"],
  ["getTs", status.INVALID_ARGUMENT, "TSO_INVALID_ARGUMENT"],
  ["getTs", status.OUT_OF_RANGE, "TSO_LIMIT_REACHED"],
] as const)("%s answered %i is final", (method, code, expected) => {
  expect(judge(method, A, { type: "status", code, details: "", hint: undefined })).toMatchObject({ type: "final", error: { code: expected } });
});

test("a server that is overloaded says so", () => {
  const verdict = judge("getSeq", A, { type: "status", code: status.RESOURCE_EXHAUSTED, details: "overloaded: 3 wait", hint: undefined });
  expect(verdict).toMatchObject({ type: "final", error: { code: "TSO_OVERLOADED" } });
});

test.each(["getTs", "acquireLease", "getSafeFrontier"] as const)("%s is asked again where nothing is settled", (method) => {
  const answered = (code: status) => judge(method, A, { type: "status", code, details: "", hint: undefined });
  const changed = method === "acquireLease";
  expect(answered(status.UNAVAILABLE)).toMatchObject({ type: "lost", reason: "transport", changed });
  expect(answered(status.DEADLINE_EXCEEDED)).toMatchObject({ type: "lost", reason: "deadline_exceeded", changed });
  expect(answered(status.INTERNAL)).toMatchObject({ type: "failed", changed });
  expect(answered(status.PERMISSION_DENIED)).toMatchObject({ type: "failed", changed });
});

test("a failed precondition of a read is an election", () => {
  expect(judge("getTs", A, { type: "status", code: status.FAILED_PRECONDITION, details: "", hint: undefined })).toEqual({
    type: "not-leader",
    hint: undefined,
  });
});
