/** `tsoracle bench` against a real server: a report whose counts are those of the server, and a code for a script. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Processes, type Server } from "../support/server-process.ts";

const processes = new Processes();
let server: Server;
beforeAll(async () => {
  server = await processes.serve(processes.directory(), ["--log", "warn"]);
});
afterAll(() => processes.end());

/** Every field that docs/cli.md tells of. */
interface Report {
  readonly calls: number;
  readonly values: number;
  readonly elapsedMs: number;
  readonly callsPerSecond: number;
  readonly valuesPerSecond: number;
  readonly latency?: Readonly<Record<string, number>>;
  readonly unmeasured: { readonly calls: number; readonly values: number };
  readonly errors: Readonly<Record<string, number>>;
}

const SHORT = ["--duration", "500ms", "--warmup", "200ms", "--callers", "8"] as const;

async function benched(args: readonly string[], code = 0): Promise<Report> {
  const ended = await processes.run(["bench", "--json", ...args]);
  expect(ended.code, ended.stderr).toBe(code);
  expect(ended.stdout).toMatch(/^\{.*\}\n$/);
  return JSON.parse(ended.stdout);
}

/** What the sequence gives next: as many values as were ever taken. */
async function taken(key: string): Promise<number> {
  const { stdout, code } = await processes.run(["seq", "peek", key, "--endpoint", server.address]);
  return code === 0 ? Number(stdout) : 0;
}

describe.concurrent("bench", () => {
  test("ts: JSON with every documented field, and counts that fit together", async () => {
    const report = await benched([...SHORT, "--endpoint", server.address]);
    expect(report).toEqual({
      command: `tsoracle bench --endpoint ${server.address} --mode ts --callers 8 --duration 500ms --warmup 200ms --timeout 5s --json`,
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      node: process.version,
      os: expect.stringContaining(process.arch),
      cpus: { count: expect.any(Number), model: expect.any(String) },
      endpoints: [server.address],
      mode: "ts",
      callers: 8,
      durationMs: 500,
      warmupMs: 200,
      timeoutMs: 5_000,
      succeeded: true,
      interrupted: false,
      elapsedMs: expect.any(Number),
      calls: expect.any(Number),
      values: report.calls,
      callsPerSecond: expect.any(Number),
      valuesPerSecond: report.callsPerSecond,
      latency: {
        p50Us: expect.any(Number),
        p90Us: expect.any(Number),
        p99Us: expect.any(Number),
        p999Us: expect.any(Number),
        maxUs: expect.any(Number),
      },
      unmeasured: { calls: expect.any(Number), values: report.unmeasured.calls },
      errors: {},
    });
    expect(report.calls).toBeGreaterThan(0);
    expect(report.elapsedMs).toBeGreaterThanOrEqual(500);
    const rate = report.calls / (report.elapsedMs / 1_000);
    expect(report.callsPerSecond / rate).toBeCloseTo(1, 1);
    const { p50Us = 0, p90Us = 0, p99Us = 0, p999Us = 0, maxUs = 0 } = report.latency ?? {};
    expect([p50Us, p90Us, p99Us, p999Us, maxUs]).toEqual([p50Us, p90Us, p99Us, p999Us, maxUs].toSorted((a, b) => a - b));
    expect(p50Us, "microseconds: callers that ask one after the other").toBeGreaterThan(1);
    expect(p50Us * report.calls, "no more than all callers had").toBeLessThan(2 * 8 * report.elapsedMs * 1_000);
  });

  test("batch: a call is as many values as --batch says", async () => {
    const report = await benched([...SHORT, "--mode", "batch", "--batch", "7", "--endpoint", server.address]);
    expect(report).toMatchObject({ mode: "batch", batch: 7, values: report.calls * 7, errors: {} });
    expect(report.unmeasured.values).toBe(report.unmeasured.calls * 7);
    expect(report.calls).toBeGreaterThan(0);
  });

  test("seq: without errors the report tells of every value that the sequence has given", async () => {
    for (const [key, args] of [
      ["bench/own", ["--key", "bench/own"]],
      ["tsoracle-bench", []],
    ] as const) {
      const report = await benched([...SHORT, "--mode", "seq", ...args, "--endpoint", server.address]);
      expect(report).toMatchObject({ mode: "seq", key, errors: {} });
      expect(report.calls).toBeGreaterThan(0);
      expect(report.unmeasured.calls).toBeGreaterThan(0);
      expect(await taken(key)).toBe(report.values + report.unmeasured.values);
    }
  });

  test("seq: a server that dies and comes back ends nothing; what it did in doubt is counted by code", async () => {
    const directory = processes.directory();
    const first = await processes.serve(directory);
    const bench = processes.start(["bench", "--json", "--mode", "seq", "--duration", "1d", "--warmup", "0s", "--endpoint", first.address]);
    await bench.until("calls succeeded", () => / [1-9][\d,]* calls\/s/.exec(bench.stderr)?.[0]);
    await first.kill();
    await bench.until("calls failed", () => /errors [1-9]/.exec(bench.stderr)?.[0]);
    const again = processes.start(["--listen", first.address, "--state-dir", directory]);
    await again.serving();
    const from = bench.stderr.length;
    await bench.until("calls succeeded again", () => / [1-9][\d,]* calls\/s/.exec(bench.stderr.slice(from))?.[0]);
    bench.signal("SIGINT");
    const { code, stdout } = await bench.ended;
    const report: Report = JSON.parse(stdout);
    expect(code).toBe(0);
    const { TSO_OUTCOME_UNKNOWN: unknown = 0 } = report.errors;
    expect(unknown).toBeGreaterThan(0);
    const { stdout: next } = await processes.run(["seq", "peek", "tsoracle-bench", "--endpoint", first.address]);
    const known = report.values + report.unmeasured.values;
    expect(Number(next)).toBeGreaterThanOrEqual(known);
    expect(Number(next)).toBeLessThanOrEqual(known + unknown);
    await again.stop();
  });

  test("without --json: a report for an issue on stdout, a line a second on stderr", async () => {
    const { code, stdout, stderr } = await processes.run(["bench", "--duration", "2s", "--warmup", "1s", "--endpoint", server.address]);
    expect(code).toBe(0);
    expect(stdout.split("\n")).toEqual([
      `tsoracle bench --endpoint ${server.address} --mode ts --callers 64 --duration 2s --warmup 1s --timeout 5s`,
      expect.stringMatching(/^versions {6}tsoracle \S+, node v/),
      expect.stringMatching(/^machine {7}.* \d+ x /),
      `endpoints     ${server.address}`,
      expect.stringMatching(/^measured {6}\d+\.\d\d s$/),
      expect.stringMatching(/^calls {9}[\d,]+, [\d,]+\/s$/),
      expect.stringMatching(/^values {8}[\d,]+, [\d,]+\/s$/),
      expect.stringMatching(/^latency {7}p50 [\d.]+ [mµ]s {2}p90 .* {2}p99 .* {2}p999 .* {2}max [\d.]+ [mµ]s$/),
      expect.stringMatching(/^not measured {2}[\d,]+ calls, [\d,]+ values: /),
      "errors        none",
      "",
    ]);
    const lines = stderr.slice(0, -1).split("\n");
    expect(lines.length).toBeGreaterThanOrEqual(2);
    for (const line of lines)
      expect(line).toMatch(/^\d+ s (warm-up|measured|ending) {2}[\d,]+ calls\/s {2}errors 0( {2}p50 .* {2}p99 .* {2}p999 .* [mµ]s)?$/);
  });

  test("SIGINT ends it early, with the report of what there was", async () => {
    const bench = processes.start(["bench", "--duration", "1d", "--warmup", "0s", "--endpoint", server.address]);
    await bench.until("it measured", () => /measured/.exec(bench.stderr)?.[0]);
    bench.signal("SIGINT");
    const { code, stdout } = await bench.ended;
    expect(code).toBe(0);
    expect(stdout).toMatch(/^measured .*, ended early by SIGINT$/m);
    expect(stdout).toMatch(/^calls {9}[1-9][\d,]*, [1-9]/m);
  });

  test("SIGINT in the warm-up: nothing was measured, and the report says so", async () => {
    const bench = processes.start(["bench", "--json", "--warmup", "1h", "--endpoint", server.address]);
    await bench.until("it ran", () => /warm-up/.exec(bench.stderr)?.[0]);
    bench.signal("SIGINT");
    const { code, stdout } = await bench.ended;
    const report: Report = JSON.parse(stdout);
    expect({ code, report }).toMatchObject({ code: 0, report: { interrupted: true, succeeded: true, calls: 0, elapsedMs: 0, callsPerSecond: 0 } });
    expect(report.unmeasured.calls).toBeGreaterThan(0);
    expect(report).not.toHaveProperty("latency");
  });

  test("3: not one call succeeded; the report counts why, and nobody spun", async () => {
    const args = ["--callers", "4", "--duration", "1s", "--warmup", "0s", "--timeout", "100ms", "--endpoint", "127.0.0.1:1"];
    const report = await benched(args, 3);
    expect(report).toMatchObject({ succeeded: false, calls: 0, values: 0, errors: { TSO_DEADLINE: expect.any(Number) } });
    expect(report.errors["TSO_DEADLINE"]).toBeGreaterThanOrEqual(4);
    expect(report.errors["TSO_DEADLINE"], "each took its timeout, and the wait after it").toBeLessThanOrEqual(4 * 7);
    const { code, stdout, stderr } = await processes.run(["bench", ...args]);
    expect(code).toBe(3);
    expect(stdout).toMatch(/\nerrors\n {2}TSO_DEADLINE \d+\nNOT ONE CALL SUCCEEDED\n$/);
    expect(stderr).toMatch(/^error: not one call succeeded: TSO_DEADLINE: .*127\.0\.0\.1:1/m);
  });

  test("3: answers that come after the time are waited for: a call that failed then is counted", async () => {
    const report = await benched(["--callers", "2", "--duration", "100ms", "--warmup", "0s", "--timeout", "1s", "--endpoint", "127.0.0.1:1"], 3);
    expect(report.errors).toEqual({ TSO_DEADLINE: 2 });
  });

  test("refusals that are the same for every caller are counted, and each caller waits after one", async () => {
    const small = await processes.serve(processes.directory(), ["--max-seq-keys", "1"]);
    await processes.run(["seq", "next", "a", "--endpoint", small.address]);
    const args = ["--mode", "seq", "--key", "b", "--callers", "2", "--duration", "1s", "--warmup", "0s", "--endpoint", small.address];
    const { errors } = await benched(args, 3);
    expect(Object.keys(errors)).toEqual(["TSO_LIMIT_REACHED"]);
    expect(errors["TSO_LIMIT_REACHED"]).toBeLessThanOrEqual(2 * 12);
    await small.stop();
  });

  const refused: readonly (readonly [reason: RegExp, args: readonly string[]])[] = [
    [/'all' is invalid\. Allowed choices are ts, batch, seq/, ["--mode", "all"]],
    [/"0" is not a whole number from 1 to 10000/, ["--callers", "0"]],
    [/"10001" is not a whole number from 1 to 10000/, ["--callers", "10001"]],
    [/"262145" is not a whole number from 1 to 262144/, ["--mode", "batch", "--batch", "262145"]],
    [/--batch 5 is for --mode batch, and the mode is ts/, ["--batch", "5"]],
    [/--key a is for --mode seq, and the mode is batch/, ["--mode", "batch", "--key", "a"]],
    [/"5" is not a duration/, ["--duration", "5"]],
    [/"99ms" must be from 100ms to 1d/, ["--duration", "99ms"]],
    [/"2h" must be from 0s to 1h/, ["--warmup", "2h"]],
    [/"0s" must be from 1ms to 1h/, ["--timeout", "0s"]],
    [/"127\.0\.0\.1" is not HOST:PORT/, ["--endpoint", "127.0.0.1"]],
    [/of 1025 bytes must have 1 to 1024/, ["--mode", "seq", "--key", "x".repeat(1_025)]],
  ];
  test.each(refused)("2: %s", async (reason, args) => {
    const { code, stdout, stderr } = await processes.run(["bench", ...args]);
    expect(stderr).toMatch(reason);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  });

  test("2: a key that the server refuses ends the run at once", async () => {
    const args = ["bench", "--mode", "seq", "--key", "x".repeat(129), "--duration", "1d", "--endpoint", server.address];
    expect(await processes.run(args)).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("invalid sequence key") });
  });
});
