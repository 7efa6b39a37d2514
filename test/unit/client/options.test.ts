import { expect, test } from "vitest";
import { parseEndpoint, resolveEndpoints } from "../../../src/client/endpoint.ts";
import { OracleClient } from "../../../src/client/index.ts";
import { type ClientOptions, resolveClientOptions } from "../../../src/client/options.ts";

test.each([
  ["127.0.0.1:50551", "127.0.0.1:50551", undefined],
  ["Oracle-0.oracle.svc:50551", "oracle-0.oracle.svc:50551", undefined],
  ["http://a:1", "a:1", "http"],
  ["HTTPS://A:1", "a:1", "https"],
  ["[::1]:50551", "[::1]:50551", undefined],
  ["a:050", "a:50", undefined],
])("%s is an endpoint", (text, endpoint, scheme) => {
  expect(parseEndpoint(text)).toEqual({ endpoint, scheme });
});

test.each([
  "",
  "a",
  "a:",
  ":1",
  "a:b",
  "a:0",
  "a:65536",
  "a:1/x",
  "a b:1",
  "grpc://a:1",
  "http:///a:1",
  "[::1]",
  "::1:50551",
  "-a:1",
  "a:1\n",
  "unix:/x",
  `${"a".repeat(300)}:1`,
])("%j is no endpoint", (text) => {
  expect(parseEndpoint(text)).toBeUndefined();
  expect(() => OracleClient.connect([text])).toThrow(expect.objectContaining({ code: "TSO_INVALID_OPTION" }));
});

test("endpoints are 1 to 64, and each is one", () => {
  const many = (count: number): string[] => Array.from({ length: count }, (_, index) => `node-${index}:1`);
  expect(resolveEndpoints(many(64), false).endpoints).toHaveLength(64);
  expect(() => resolveEndpoints(many(65), false)).toThrow("TSO_INVALID_OPTION: endpoints must be 1 to 64, not 65");
  expect(() => resolveEndpoints([], false)).toThrow("endpoints must be 1 to 64, not 0");
  expect(resolveEndpoints(["a:1", "A:1", "http://a:1"], false).endpoints).toEqual(["a:1"]);
});

test("one endpoint with https turns TLS on for all, and http is refused then", () => {
  expect(resolveEndpoints(["https://a:1", "b:1"], false).secure).toBe(true);
  expect(() => resolveEndpoints(["https://a:1", "http://b:1"], false)).toThrow("endpoint http://b:1 would not be encrypted, and the client uses TLS");
  expect(() => resolveEndpoints(["http://b:1"], true)).toThrow(expect.objectContaining({ code: "TSO_INVALID_OPTION" }));
});

test("tls: false is no TLS", () => {
  expect(resolveClientOptions("a:1", { tls: false }).tls).toBeUndefined();
  expect(resolveClientOptions("https://a:1", { tls: false }).tls, "but for what the endpoint says").toEqual({});
  expect(resolveClientOptions("a:1", { tls: true }).tls).toEqual({});
});

test("defaults are as documented", () => {
  expect(resolveClientOptions(["a:1"], {})).toMatchObject({
    deadlineMs: 10_000,
    attemptTimeoutMs: 2_000,
    backoff: { baseMs: 50, maxMs: 500 },
    leaderTtlMs: 30_000,
    queueMax: 65_536,
    callsMax: 8_192,
    keepaliveMs: 30_000,
    tls: undefined,
  });
});

const wrong: readonly ClientOptions[] = [
  { deadlineMs: 0 },
  { deadlineMs: 3_600_001 },
  { attemptTimeoutMs: 0.5 },
  { backoffBaseMs: 0 },
  { backoffBaseMs: 100, backoffMaxMs: 99 },
  { leaderTtlMs: Number.NaN },
  { queueMax: 0 },
  { callsMax: 100_001 },
  { keepaliveMs: 999 },
];

test.each(wrong.map((options) => [JSON.stringify(options), options] as const))("%s is refused, with the range", (_, options) => {
  const name = Object.keys(options).at(-1) ?? "";
  const message = new RegExp(`^TSO_INVALID_OPTION: ${name} .* must be a whole number from \\d+ to \\d+$`);
  expect(() => OracleClient.connect("a:1", options)).toThrow(message);
});

test.each([
  [{ cert: "x" }, "tls.cert and tls.key go together"],
  [{ key: "x" }, "tls.cert and tls.key go together"],
  [{ ca: "no PEM at all" }, "tls: "],
  [{ ca: "no PEM at all", cert: "x", key: "y" }, "tls: "],
])("tls %j is refused", (tls, message) => {
  expect(() => OracleClient.connect("a:1", { tls })).toThrow(message);
});
