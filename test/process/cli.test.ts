/** The command as its users meet it: what it prints, how it ends, and where its options come from. */

import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server as NetServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Ended, logLines, Processes, type Server, type StartOptions } from "../support/server-process.ts";

const processes = new Processes();
/** For the verbs of all tests. */
let server: Server;
beforeAll(async () => {
  server = await processes.serve(processes.directory(), ["--log", "warn"]);
});
afterAll(() => processes.end());

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));

/** Runs a verb against that server. */
const ask = (...args: readonly string[]): Promise<Ended> => processes.run([...args, "--endpoint", server.address]);
const run = (args: readonly string[], options?: StartOptions): Promise<Ended> => processes.run(args, options);

async function linesOf(ending: Promise<Ended>): Promise<readonly string[]> {
  const { code, stdout, stderr } = await ending;
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout.endsWith("\n")).toBe(true);
  return stdout.slice(0, -1).split("\n");
}

/** What a verb printed as JSON: one line. */
async function jsonOf(ending: Promise<Ended>): Promise<unknown> {
  const lines = await linesOf(ending);
  expect(lines).toHaveLength(1);
  return JSON.parse(lines[0] ?? "");
}

/** A refusal: nothing on stdout, the reason on stderr. */
async function refusalOf(ending: Promise<Ended>): Promise<{ readonly code: number | undefined; readonly reason: string }> {
  const { code, stdout, stderr } = await ending;
  expect(stdout).toBe("");
  expect(stderr).toMatch(/^error: .*\n/);
  return { code, reason: stderr.slice("error: ".length).trimEnd() };
}

describe.concurrent("a server", () => {
  test.each([
    { name: "the bare command", args: [] },
    { name: "serve", args: ["serve"] },
    { name: "serve file", args: ["serve", "file"] },
  ])("$name serves from ./tsoracle-data, and prints its address and nothing else", async ({ args }) => {
    const cwd = processes.directory();
    const running = processes.start(args, { cwd, env: { TSORACLE_LISTEN: "127.0.0.1:0" } });
    const address = await running.serving();
    expect(address).toMatch(/^127\.0\.0\.1:\d+$/);
    await linesOf(run(["ts", "--endpoint", address]));
    const { code, stdout } = await running.stop();
    expect({ code, stdout }).toEqual({ code: 0, stdout: `serving on ${address}\n` });
    expect(await run(["--require-data", "--state-dir", join(cwd, "tsoracle-data"), "--max-seq-count", "1"])).toMatchObject({ code: 2 });
  });
});

describe.concurrent("verbs", () => {
  test("ts: a timestamp a line, rising by one within a grant", async () => {
    const [single = ""] = await linesOf(ask("ts"));
    expect(single).toMatch(/^\d{18}$/);
    const lines = await linesOf(ask("ts", "-n", "3"));
    const values = lines.map(BigInt);
    expect(values).toHaveLength(3);
    expect(values[0]).toBeGreaterThan(BigInt(single));
    expect(values.map((value) => value - (values[0] ?? 0n))).toEqual([0n, 1n, 2n]);
    expect(await jsonOf(ask("ts", "--count", "2", "--json"))).toEqual({
      timestamps: [expect.stringMatching(/^\d{18}$/), expect.stringMatching(/^\d{18}$/)],
      epoch: { hi: "0", lo: "1" },
    });
  });

  test("ts: more than one grant can hold", async () => {
    const lines = await linesOf(ask("ts", "-n", "300000"));
    expect(lines).toHaveLength(300_000);
    const values = lines.map(BigInt);
    expect(values.every((value, index) => index === 0 || value > (values[index - 1] ?? value))).toBe(true);
  });

  test("decode takes a timestamp apart, and asks nobody", async () => {
    expect(await linesOf(run(["decode", "470668800000000123"]))).toEqual([
      "physical ms  1795458984375",
      "time         2026-11-23T18:36:24.375Z",
      "logical      123",
    ]);
    expect(await jsonOf(run(["decode", "18446744073709551615", "--json"]))).toEqual({
      timestamp: "18446744073709551615",
      physicalMs: 2 ** 46 - 1,
      logical: 2 ** 18 - 1,
      time: "4199-11-24T01:22:57.663Z",
    });
    expect(await linesOf(run(["decode", "0"]))).toEqual(["physical ms  0", "time         1970-01-01T00:00:00.000Z", "logical      0"]);
  });

  test("seq next: the values of the block, a line each; seq peek takes nothing", async () => {
    expect(await linesOf(ask("seq", "next", "plain"))).toEqual(["0"]);
    expect(await linesOf(ask("seq", "next", "plain", "-n", "3"))).toEqual(["1", "2", "3"]);
    expect(await jsonOf(ask("seq", "next", "plain", "--count", "2", "--json"))).toEqual({
      key: "plain",
      start: "4",
      count: 2,
      epoch: { hi: "0", lo: "1" },
    });
    expect(await linesOf(ask("seq", "peek", "plain"))).toEqual(["6"]);
    expect(await jsonOf(ask("seq", "peek", "plain", "--json"))).toEqual({ key: "plain", first: "0", next: "6" });
  });

  test("64-bit numbers are whole, up to the last: texts in JSON", async () => {
    const first = "18446744073709551600";
    expect(await linesOf(ask("seq", "init", "high", "--first", first))).toEqual([first]);
    expect(await jsonOf(ask("seq", "init", "high", "--first", first, "--json"))).toEqual({ key: "high", first, next: first });
    expect(await jsonOf(ask("seq", "next", "high", "--json"))).toMatchObject({ start: first });
    expect(await linesOf(ask("seq", "next", "high", "-n", "2"))).toEqual(["18446744073709551601", "18446744073709551602"]);
    expect(await jsonOf(ask("seq", "peek", "high", "--json"))).toEqual({ key: "high", first, next: "18446744073709551603" });
    expect(await refusalOf(ask("seq", "next", "high", "-n", "13"))).toMatchObject({
      code: 3,
      reason: expect.stringContaining("dense counter overflow"),
    });
    const lease = await jsonOf(ask("lease", "acquire", "high", "--holder-epoch", "18446744073709551615", "--json"));
    expect(lease).toMatchObject({ leaseId: expect.stringMatching(/^\d{13}$/), tsUpperBound: expect.any(String), expiresAtMs: expect.any(String) });
  });

  test("seq list: key, first, next; from a key on, and no more than asked for", async () => {
    for (const key of ["list/a", "list/b", "list/ä"]) await linesOf(ask("seq", "init", key, "--first", "7"));
    const all = await linesOf(ask("seq", "list", "--after", "list/"));
    expect(all.filter((line) => line.startsWith("list/"))).toEqual(["list/a\t7\t7", "list/b\t7\t7", "list/ä\t7\t7"]);
    expect(await linesOf(ask("seq", "list", "--after", "list/a", "--limit", "1"))).toEqual(["list/b\t7\t7"]);
    expect(await jsonOf(ask("seq", "list", "--after", "list/b", "--limit", "1", "--json"))).toEqual({
      sequences: [{ key: "list/ä", first: "7", next: "7" }],
    });
  });

  test("lease: acquire, find it held, renew, release", async () => {
    const lines = await linesOf(ask("lease", "acquire", "me", "--ttl", "20s"));
    expect(lines).toEqual([
      expect.stringMatching(/^lease id {5}\d{13}$/),
      expect.stringMatching(/^upper bound {2}\d{13} ms$/),
      expect.stringMatching(/^expires at {3}\d{13} ms$/),
    ]);
    const id = lines[0]?.split(/ +/)[2] ?? "";
    const shape = { tsUpperBound: expect.stringMatching(/^\d{13}$/), expiresAtMs: expect.stringMatching(/^\d{13}$/), epoch: { hi: "0", lo: "1" } };
    expect(await jsonOf(ask("lease", "acquire", "me", "--json"))).toEqual({ leaseId: id, ...shape });
    expect(await linesOf(ask("lease", "renew", id))).toEqual([
      expect.stringMatching(/^upper bound {2}\d{13} ms$/),
      expect.stringMatching(/^expires at {3}\d{13} ms$/),
    ]);
    expect(await jsonOf(ask("lease", "renew", id, "--json"))).toEqual(shape);
    expect(await linesOf(ask("lease", "release", id))).toEqual([`released ${id}`]);
    expect(await jsonOf(ask("lease", "release", id, "--json")), "releasing what is not held is no error").toEqual({ released: id });
  });

  test("frontier and status", async () => {
    const [plain = ""] = await linesOf(ask("frontier"));
    expect(plain).toMatch(/^\d{13}$/);
    expect(await jsonOf(ask("frontier", "--json"))).toEqual({ frontierPhysicalMs: expect.stringMatching(/^\d{13}$/), epoch: { hi: "0", lo: "1" } });
    const ms = expect.stringMatching(/^\d{13}$/);
    expect(await jsonOf(ask("status", "--json"))).toEqual({
      endpoint: server.address,
      role: "leader",
      version,
      serving: true,
      epoch: { hi: "0", lo: "1" },
      highWaterMs: ms,
      clockMs: ms,
      frontierMs: ms,
      safePointMs: ms,
      sequences: expect.any(Number),
      leases: expect.any(Number),
      uptimeSeconds: expect.any(Number),
      lastFault: "",
    });
    const lines = await linesOf(ask("status"));
    expect(lines).toContain("role             leader");
    expect(lines).toContain("serving          true");
    expect(lines).toContain("lastFault        -");
  });
});

describe.concurrent("exit codes", () => {
  const usage: readonly (readonly [what: string, args: readonly string[], reason: RegExp])[] = [
    ["an unknown flag", ["ts", "--cuont", "1"], /unknown option '--cuont'\n\(Did you mean --count\?\)/],
    ["an unknown flag of the bare command", ["--lsten", "127.0.0.1:0"], /unknown option '--lsten'\n\(Did you mean --listen\?\)/],
    ["an unknown command", ["srve"], /^unknown command "srve" \(did you mean serve\?\)$/],
    ["an unknown verb", ["seq", "nxt"], /unknown command 'nxt'\n\(Did you mean next\?\)/],
    ["one argument too many", ["seq", "next", "a", "b"], /too many arguments/],
    ["a missing argument", ["seq", "peek"], /missing required argument 'key'/],
    ["a missing value", ["ts", "-n"], /argument missing/],
    ["a missing flag that must be there", ["seq", "init", "a"], /--first/],
    ["a count of 0", ["ts", "-n", "0"], /"0" is not a whole number from 1 to 10000000/],
    ["a count that is no number", ["ts", "-n", "1e3"], /"1e3" is not a whole number/],
    ["a time without a unit", ["ts", "--timeout", "3"], /"3" is not a duration: .* like 250ms or 3s/],
    ["a wait that is longer than a timer", ["--shutdown-grace", "25d"], /"25d" must be from 0s to 1d/],
    ["a wait that is longer than a timer, of a client", ["ts", "--timeout", "25d"], /"25d" must be from 1ms to 1h/],
    ["a list of addresses with an empty one", ["ts", "--endpoint", "127.0.0.1:1,"], /"" is not HOST:PORT/],
    ["a list of addresses for a verb that asks one", ["status", "--endpoint", "127.0.0.1:1,x"], /"x" is not HOST:PORT/],
    ["more endpoints than the client takes", ["ts", "--endpoint", Array(65).fill("127.0.0.1:1").join(",")], /endpoints must be 1 to 64, not 65/],
    ["an address with a scheme", ["ts", "--endpoint", "http://127.0.0.1:1"], /"http:\/\/127\.0\.0\.1:1" is not HOST:PORT/],
    ["a port beyond the last", ["--listen", "127.0.0.1:65536"], /is not HOST:PORT/],
    ["a level that there is not", ["--log", "loud"], /"?loud"?'? is invalid\. Allowed choices are debug, info, warn, error, silent/],
    ["a timestamp beyond 64 bits", ["decode", "18446744073709551616"], /is not a whole number from 0 to 2\^64-1/],
    ["a negative timestamp", ["decode", "--", "-1"], /"-1" is not a whole number/],
    ["a seed beyond 46 bits", ["init", "--seed-physical-ms", "70368744177664"], /is not a whole number from 0 to 70368744177663/],
    ["a client certificate without its key", ["ts", "--client-tls-cert", "x"], /--client-tls-cert and --client-tls-key go together/],
    ["a certificate without its key", ["--tls-cert", "x"], /--tls-cert and --tls-key go together/],
    ["a client authority without a certificate", ["--tls-client-ca", "x"], /--tls-client-ca needs --tls-cert and --tls-key/],
    ["a certificate that is not there", ["--tls-cert", "no.pem", "--tls-key", "no.pem"], /--tls-cert no\.pem: ENOENT/],
    [
      "metrics, which this release does not serve",
      ["--metrics-listen", "127.0.0.1:1"],
      /--metrics-listen 127\.0\.0\.1:1: this release serves no metrics yet/,
    ],
  ];
  test.each(usage)("2: %s", async (_, args, reason) => {
    const refusal = await refusalOf(run(args, { cwd: processes.directory() }));
    expect(refusal.reason).toMatch(reason);
    expect(refusal.code).toBe(2);
  });

  const refusedByServer: readonly (readonly [what: string, code: number, args: readonly string[], reason: RegExp])[] = [
    [
      "a time to live that the server does not give",
      2,
      ["lease", "acquire", "x", "--ttl", "1s"],
      /ttl_ms 1000 outside server bounds \[5000, 300000\]/,
    ],
    ["an empty key", 2, ["seq", "next", ""], /key "" of 0 bytes must have 1 to 1024/],
    ["a key of 129 bytes", 2, ["seq", "next", "x".repeat(129)], /invalid sequence key/],
    ["a key of 65 characters and 130 bytes", 2, ["seq", "next", "ä".repeat(65)], /invalid sequence key/],
    ["more values than one block may hold", 2, ["seq", "next", "x", "-n", "65537"], /count must be between 1 and the maximum/],
    ["an empty holder", 2, ["lease", "acquire", ""], /holder of 0 bytes must have 1 to 1024/],
    [
      "a holder of 129 bytes",
      2,
      ["lease", "acquire", "x".repeat(129)],
      /TSO_INVALID_ARGUMENT: \S+:\d+: lease holder must be 1\.\.=128 bytes, got 129; asked for ttlMs 10000, holder of 129 bytes$/,
    ],
    ["a sequence that was never used", 3, ["seq", "peek", "never"], /unknown sequence: never \(NOT_FOUND\)/],
    ["a lease that is not held", 3, ["lease", "renew", "12"], /TSO_LEASE_LOST: \S+:\d+: unknown lease id 12$/],
  ];
  test.each(refusedByServer)("what the server or the client refuses: %s is %i", async (_, code, args, reason) => {
    const refusal = await refusalOf(ask(...args));
    expect(refusal.reason).toMatch(reason);
    expect(refusal.reason, "one line").not.toContain("\n");
    expect(refusal.code).toBe(code);
  });

  test("3: a holder's lower epoch, and a first value that is fixed", async () => {
    await linesOf(ask("lease", "acquire", "epochs", "--holder-epoch", "5"));
    expect(await refusalOf(ask("lease", "acquire", "epochs", "--holder-epoch", "4"))).toMatchObject({
      code: 3,
      reason: expect.stringContaining("holder epoch 4 is not above the active lease's epoch 5"),
    });
    const old = await jsonOf(ask("lease", "acquire", "epochs", "--holder-epoch", "5", "--json"));
    await linesOf(ask("lease", "acquire", "epochs", "--holder-epoch", "6"));
    const { leaseId } = old as { readonly leaseId: string };
    expect(await refusalOf(ask("lease", "renew", leaseId))).toMatchObject({
      code: 3,
      reason: expect.stringContaining("superseded by holder epoch 6"),
    });
    await linesOf(ask("seq", "next", "fixed"));
    expect(await refusalOf(ask("seq", "init", "fixed", "--first", "9"))).toMatchObject({
      code: 3,
      reason: expect.stringContaining("its first value is fixed"),
    });
  });

  test("3: nothing listens there, and nothing was asked for", async () => {
    const free = await freePort();
    for (const args of [["ts"], ["seq", "next", "a"], ["lease", "acquire", "a"], ["frontier"]]) {
      const refusal = await refusalOf(run([...args, "--endpoint", `127.0.0.1:${free}`, "--timeout", "1s"]));
      expect(refusal).toEqual({
        code: 3,
        reason: expect.stringMatching(
          new RegExp(`^TSO_DEADLINE: no answer within \\d+ ms; 127.0.0.1:${free}: No connection established.*ECONNREFUSED`),
        ),
      });
    }
    for (const args of [["seq", "peek", "a"], ["status"]]) {
      const refusal = await refusalOf(run([...args, "--endpoint", `127.0.0.1:${free}`, "--timeout", "200ms"]));
      expect(refusal).toEqual({ code: 3, reason: `no connection to 127.0.0.1:${free}: is a server there? Nothing was asked for` });
    }
  });

  test("3: more sequences than there may be", async () => {
    const small = await processes.serve(processes.directory(), ["--max-seq-keys", "1"]);
    await linesOf(run(["seq", "next", "a", "--endpoint", small.address]));
    expect(await refusalOf(run(["seq", "next", "b", "--endpoint", small.address]))).toMatchObject({
      code: 3,
      reason: expect.stringContaining("dense key cardinality cap 1 reached"),
    });
    await small.kill();
  });

  test.each([
    ["seq", "next", "a"],
    ["seq", "init", "a", "--first", "5"],
    ["lease", "acquire", "a"],
    ["lease", "renew", "ID"],
    ["lease", "release", "ID"],
  ])("4: the server dies while it decides %s %s", async (...args) => {
    const directory = processes.directory();
    const dying = await processes.serve(directory, [...LASTING], { stalls: true });
    const endpoint = ["--endpoint", dying.address];
    const { leaseId } = (await jsonOf(run(["lease", "acquire", "b", "--json", ...endpoint]))) as { readonly leaseId: string };
    await dying.stall("journal/after-write");
    const asked = processes.start([...args.map((arg) => (arg === "ID" ? leaseId : arg)), "--timeout", "10s", ...endpoint]);
    await dying.stalled("journal/after-write");
    await dying.kill();
    const refusal = await refusalOf(asked.ended);
    expect(refusal).toMatchObject({ code: 4, reason: expect.stringMatching(/: it may have happened, or may still$/) });
    expect(refusal.reason, "says where").toContain(dying.address);
  });

  test("4: the time is over while the server decides; the block is used up all the same", async () => {
    const stalling = await processes.serve(processes.directory(), [...LASTING], { stalls: true });
    const endpoint = ["--endpoint", stalling.address];
    await stalling.stall("journal/after-write");
    // The request must have been sent by then, however slow this machine is: more time until it was.
    for (let seconds = 2; ; seconds *= 2) {
      const asked = processes.start(["seq", "next", "a", "--timeout", `${seconds}s`, ...endpoint]);
      const [ending] = await Promise.all([asked.ended, Promise.race([asked.ended, stalling.stalled("journal/after-write")])]);
      const refusal = await refusalOf(Promise.resolve(ending));
      if (refusal.code === 3 && refusal.reason.startsWith("TSO_DEADLINE")) continue;
      expect(refusal).toMatchObject({
        code: 4,
        reason: expect.stringMatching(/^TSO_OUTCOME_UNKNOWN: .*no answer within.*: it may have happened, or may still$/),
      });
      break;
    }
    await stalling.release("journal/after-write");
    expect(await linesOf(run(["seq", "next", "a", ...endpoint]))).toEqual(["1"]);
    await stalling.kill();
  });

  test("3, not 4: the same for a timestamp, which nobody has seen", async () => {
    const args = ["--window-ahead", "1ms", "--failover-advance", "1ms", "--heartbeat-interval", "10ms"];
    const dying = await processes.serve(processes.directory(), args, { stalls: true });
    await dying.stall("journal/before-write");
    await dying.stalled("journal/before-write"); // the window is used up at once, and its extension stands still
    const asked = processes.start(["ts", "--timeout", "10s", "--endpoint", dying.address]);
    await dying.until("the request came", () => logLines(dying.stderr).find(({ requests }) => Number(requests) > 0));
    await dying.kill();
    expect(await refusalOf(asked.ended)).toMatchObject({ code: 3, reason: expect.stringContaining(dying.address) });
  });
});

describe.concurrent("several endpoints", () => {
  test("what a cluster grants comes from the one that answers, given again or with commas, by flag or environment", async () => {
    const free = `127.0.0.1:${await freePort()}`;
    const key = "several";
    expect(await linesOf(run(["seq", "next", key, "--endpoint", free, "--endpoint", server.address]))).toEqual(["0"]);
    expect(await linesOf(run(["seq", "next", key, "--endpoint", `${free},${server.address}`]))).toEqual(["1"]);
    expect(await linesOf(run(["seq", "next", key], { env: { TSORACLE_ENDPOINT: `${free},${server.address}` } }))).toEqual(["2"]);
    const env = { TSORACLE_ENDPOINT: free };
    expect(await linesOf(run(["seq", "next", key, "--endpoint", server.address], { env })), "a flag takes its place").toEqual(["3"]);
    for (const verb of [["ts"], ["lease", "acquire", key], ["lease", "release", "1"], ["frontier"]]) {
      await linesOf(run([...verb, "--endpoint", `${free},${server.address}`]));
    }
  });

  test("what a node says of itself comes from the first", async () => {
    const free = `127.0.0.1:${await freePort()}`;
    expect(await jsonOf(run(["status", "--json", "--endpoint", `${server.address},${free}`]))).toMatchObject({ endpoint: server.address });
    expect(await refusalOf(run(["status", "--timeout", "200ms", "--endpoint", `${free},${server.address}`]))).toMatchObject({
      code: 3,
      reason: expect.stringContaining(`no connection to ${free}`),
    });
  });

  test("one that never answers leaves time for the others", async () => {
    const silent = createServer();
    const at = await portOf(silent);
    try {
      await linesOf(run(["ts", "--timeout", "10s", "--endpoint", `127.0.0.1:${at},${server.address}`]));
    } finally {
      silent.close();
    }
  });
});

/** Nothing is written but for requests. */
const LASTING = ["--window-ahead", "1h", "--failover-advance", "1h"] as const;

describe.concurrent("where options come from", () => {
  /** What bounds on a lease the server was started with. */
  async function boundsOf(args: readonly string[], options?: StartOptions): Promise<string> {
    const started = await processes.serve(processes.directory(), args, options);
    const { reason } = await refusalOf(run(["lease", "acquire", "x", "--ttl", "1ms", "--endpoint", started.address]));
    await started.stop();
    return /\[(.*)\]/.exec(reason)?.[1] ?? reason;
  }

  function configFile(content: unknown): string {
    const path = join(processes.directory(), "tsoracle.json");
    writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
    return path;
  }

  test("a flag over the environment, that over the file, that over the default; each option by itself", async () => {
    const config = configFile({ "lease-ttl-floor": "2s", "lease-ttl-ceiling": "60s", log: "warn" });
    const env = { TSORACLE_LEASE_TTL_FLOOR: "3s" };
    expect(await boundsOf([])).toBe("5000, 300000");
    expect(await boundsOf(["--config", config])).toBe("2000, 60000");
    expect(await boundsOf(["--config", config], { env })).toBe("3000, 60000");
    expect(await boundsOf([], { env: { ...env, TSORACLE_CONFIG: config } })).toBe("3000, 60000");
    expect(await boundsOf(["--config", config, "--lease-ttl-floor", "4s"], { env })).toBe("4000, 60000");
    expect(await boundsOf(["--lease-ttl-floor", "5s", "--config", config], { env }), "also where the flag says the default").toBe("5000, 60000");
  });

  test("a file may hold numbers as numbers, and true or false for what takes no value", async () => {
    const directory = processes.directory();
    const config = configFile({
      "max-seq-count": 2,
      "require-data": false,
      "no-metrics": true,
      "metrics-listen": "127.0.0.1:1",
      "state-dir": directory,
    });
    const running = processes.start(["--config", config, "--listen", "127.0.0.1:0"]);
    const endpoint = ["--endpoint", await running.serving()];
    expect(await refusalOf(run(["seq", "next", "a", "-n", "3", ...endpoint]))).toMatchObject({ code: 2 });
    expect(await linesOf(run(["seq", "next", "a", "-n", "2", ...endpoint]))).toEqual(["0", "1"]);
    await running.kill();
  });

  test("verbs read the environment too", async () => {
    expect(await linesOf(run(["seq", "next", "by-environment"], { env: { TSORACLE_ENDPOINT: server.address } }))).toEqual(["0"]);
    const refusal = await refusalOf(run(["ts", "--endpoint", server.address], { env: { TSORACLE_TIMEOUT: "3" } }));
    expect(refusal).toMatchObject({ code: 2, reason: expect.stringContaining("TSORACLE_TIMEOUT") });
  });

  test.each([
    ["TSORACLE_LISTN", "environment variable TSORACLE_LISTN is not known (did you mean TSORACLE_LISTEN?)"],
    ["TSORACLE_MAX_SEQ_KEY", "environment variable TSORACLE_MAX_SEQ_KEY is not known (did you mean TSORACLE_MAX_SEQ_KEYS?)"],
    ["TSORACLE_QQQQQQQQQQ", "environment variable TSORACLE_QQQQQQQQQQ is not known"],
  ])("an environment variable that is not known: %s", async (name, reason) => {
    expect(await refusalOf(run([], { env: { [name]: "1" }, cwd: processes.directory() }))).toEqual({ code: 2, reason });
    expect(await refusalOf(run(["decode", "1"], { env: { [name]: "1" } })), "for verbs as well").toEqual({ code: 2, reason });
  });

  test("what Kubernetes puts into the environment beside a service named tsoracle is left alone", async () => {
    const env = {
      TSORACLE_SERVICE_HOST: "10.0.0.1",
      TSORACLE_SERVICE_PORT: "50551",
      TSORACLE_SERVICE_PORT_CLIENT: "50551",
      TSORACLE_PORT: "tcp://10.0.0.1:50551",
      TSORACLE_PORT_50551_TCP: "tcp://10.0.0.1:50551",
      TSORACLE_PORT_50551_TCP_PROTO: "tcp",
      TSORACLE_PORT_50551_TCP_PORT: "50551",
      TSORACLE_PORT_50551_TCP_ADDR: "10.0.0.1",
    };
    expect(await boundsOf([], { env })).toBe("5000, 300000");
  });

  const badFiles: readonly (readonly [what: string, content: unknown, reason: RegExp])[] = [
    ["an unknown key", { "lease-ttl-flor": "5s" }, /^FILE: key "lease-ttl-flor" is not known \(did you mean lease-ttl-floor\?\)$/],
    ["a key of JavaScript's own", '{ "__proto__": "5s" }', /^FILE: key "__proto__" is not known/],
    ["a key with dashes in front", { "--log": "info" }, /^FILE: key "--log" is not known \(did you mean log\?\)$/],
    ["another file", { config: "other.json" }, /^FILE: key "config" is not known/],
    ["a value that does not fit", { "max-seq-count": -1 }, /^FILE: "max-seq-count": "-1" is not a whole number from 1 to 4294967295/],
    ["a time without a unit", { "window-ahead": 3 }, /^FILE: "window-ahead": "3" is not a duration/],
    ["a choice that there is not", { log: "loud" }, /^FILE: "log": Allowed choices are/],
    ["a list as a value", { listen: ["127.0.0.1:0"] }, /^FILE: "listen" is \["127\.0\.0\.1:0"\], and must be a text or a number/],
    ["null as a value", { listen: null }, /^FILE: "listen" is null, and must be a text or a number/],
    ["a text for what takes no value", { "require-data": "false" }, /^FILE: "require-data" is "false", and must be true or false$/],
    ["a value for what takes one", { listen: true }, /^FILE: "listen" is true, and must be a text or a number/],
    ["no JSON", '{ "log": "info", }', /^FILE cannot be read as JSON: /],
    ["an empty file", "", /^FILE cannot be read as JSON: /],
    ["a list", [], /^FILE must hold one JSON object$/],
    ["null", null, /^FILE must hold one JSON object$/],
  ];
  test.each(badFiles)("a configuration file with %s", async (_, content, reason) => {
    const path = configFile(content);
    const refusal = await refusalOf(run(["--config", path], { cwd: processes.directory() }));
    expect(refusal.reason.replaceAll(path, "FILE")).toMatch(reason);
    expect(refusal.reason, "one line").not.toContain("\n");
    expect(refusal.code).toBe(2);
  });

  test("a configuration file that cannot be read", async () => {
    const directory = processes.directory();
    for (const [path, reason] of [
      [join(directory, "missing.json"), /missing\.json cannot be read as JSON: ENOENT/],
      [directory, /cannot be read as JSON: EISDIR/],
    ] as const) {
      const refusal = await refusalOf(run(["--config", path]));
      expect(refusal.reason).toMatch(reason);
      expect(refusal.code).toBe(2);
    }
  });
});

describe.concurrent("help", () => {
  const defaults: Readonly<Record<string, string | undefined>> = {
    "--state-dir": '"./tsoracle-data"',
    "--require-data": undefined,
    "--config": undefined,
    "--listen": '"127.0.0.1:50551"',
    "--window-ahead": "3s",
    "--failover-advance": "1s",
    "--max-clock-jump": "1d",
    "--accept-clock-jump": undefined,
    "--lease-ttl-floor": "5s",
    "--lease-ttl-ceiling": "300s",
    "--max-seq-keys": "10000",
    "--max-seq-count": "65536",
    "--max-seq-batch-keys": "128",
    "--max-leases": "10000",
    "--tls-cert": undefined,
    "--tls-key": undefined,
    "--tls-client-ca": undefined,
    "--heartbeat-interval": "10s",
    "--shutdown-grace": "10s",
    "--log": '"info"',
    "--metrics-listen": '"127.0.0.1:9551"',
    "--no-metrics": undefined,
  };

  /** Flags of a help text, with the defaults that it tells of. */
  function flagsOf(help: string): Readonly<Record<string, string | undefined>> {
    const [, list = ""] = /\nOptions:\n([\s\S]*?)(?:\n\n|$)/.exec(help) ?? [];
    const entries = list.split(/\n(?= {2}-)/).map((entry) => entry.replaceAll(/\s+/g, " "));
    return Object.fromEntries(entries.map((entry) => [/--[\w-]+/.exec(entry)?.[0] ?? entry, /default: ([^,)]+)/.exec(entry)?.[1]]));
  }

  test("serve file tells every flag with its default", async () => {
    const { "--help": _, ...flags } = flagsOf((await linesOf(run(["serve", "file", "--help"]))).join("\n"));
    expect(flags).toEqual(defaults);
  });

  test.each([
    ["--help"],
    ["-h"],
    ["help"],
    ["help", "seq"],
    ["serve", "--help"],
    ["init", "--help"],
    ["ts", "--help"],
    ["seq", "--help"],
    ["seq", "next", "--help"],
    ["lease", "acquire", "--help"],
    ["bench", "--help"],
    ["decode", "--help"],
    ["status", "--help"],
  ])("%s %s %s ends with 0 and tells how to use it", async (...args) => {
    const lines = await linesOf(run(args));
    expect(lines[0]).toMatch(/^Usage: tsoracle/);
  });

  test("the first help tells of the commands, the environment, the file and the exit codes", async () => {
    const help = (await linesOf(run(["--help"]))).join("\n");
    for (const word of [
      "serve",
      "init",
      "ts",
      "seq",
      "lease",
      "frontier",
      "status",
      "decode",
      "bench",
      "TSORACLE_STATE_DIR",
      "--config",
      "Exit codes: 0 done; 1",
    ]) {
      expect(help).toContain(word);
    }
  });

  test.each(["--version", "-V"])("%s is the package's", async (flag) => {
    expect(await linesOf(run([flag]))).toEqual([version]);
  });
});

/** A port at which nothing listens: one that the system just gave and took back. */
async function freePort(): Promise<number> {
  const holder = createServer();
  const port = await portOf(holder);
  await new Promise((resolve) => {
    holder.close(resolve);
  });
  return port;
}

async function portOf(holder: NetServer): Promise<number> {
  await new Promise<void>((resolve) => {
    holder.listen(0, "127.0.0.1", resolve);
  });
  const address = holder.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}
