/**
 * Durable before it is said: one real run under strace, which sees every write and every flush in the order in which they happen. A kill says
 * nothing about this, because the page cache outlives the process.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { Processes, type Server } from "../support/server-process.ts";
import { Stubs } from "../support/stubs.ts";
import { isFlush, isFlushedFirst, readTrace, type SystemCall, TRACED_CALLS, trailOf } from "../support/system-calls.ts";

const processes = new Processes();
afterEach(() => processes.end());

const hasStrace = spawnSync("strace", ["-V"]).error === undefined;

const SEQUENTIAL = 8;
const CONCURRENT = 64;
const LOOPS = { callers: 32, each: 8 };

test.skipIf(!hasStrace)(
  `no reply to GetSeq leaves before its flush has returned${hasStrace ? "" : " (skipped: strace is not installed)"}`,
  async () => {
    const { server, trace } = await serveTraced();
    const connections = Array.from({ length: 8 }, () => new Stubs(server.address));
    const getSeq = async (index: number, key: string): Promise<void> => {
      const { ask, tso } = connections[index % connections.length] ?? new Stubs(server.address);
      const answer = await ask(tso, tso.getSeq, { key, count: 1 });
      if (!answer.ok) throw answer.error;
    };
    const keysOf = (phase: string, count: number): readonly string[] => Array.from({ length: count }, (_, i) => `<${phase} ${i}>`);
    const keys = {
      sequential: keysOf("sequential", SEQUENTIAL),
      concurrent: keysOf("concurrent", CONCURRENT),
      looping: keysOf("looping", LOOPS.callers * LOOPS.each),
    };
    await Promise.all(connections.map((_, index) => getSeq(index, `<warm ${index}>`)));

    for (const [index, key] of keys.sequential.entries()) await getSeq(index, key);

    // All of them have arrived when the server looks: it stands still while they are sent.
    process.kill(trace.pid(), "SIGSTOP");
    const answers = Promise.all(keys.concurrent.map((key, index) => getSeq(index, key)));
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    process.kill(trace.pid(), "SIGCONT");
    await answers;

    const loop = async (caller: number): Promise<void> => {
      for (let i = 0; i < LOOPS.each; i++) await getSeq(caller, keys.looping[caller * LOOPS.each + i] ?? "");
    };
    await Promise.all(Array.from({ length: LOOPS.callers }, (_, caller) => loop(caller)));

    for (const each of connections) each.close();
    process.kill(trace.pid(), "SIGTERM");
    expect(await server.ended).toMatchObject({ code: 0 });

    const calls = trace.read();
    for (const key of Object.values(keys).flat()) {
      const trail = trailOf(calls, key);
      expect(isFlushedFirst(trail), `${key}: ${describeTrail(trail)}`).toBe(true);
    }
    const flushes = {
      sequential: flushesFor(calls, keys.sequential),
      concurrent: flushesFor(calls, keys.concurrent),
      looping: flushesFor(calls, keys.looping),
    };
    process.stdout.write(
      `flushes: ${flushes.sequential} for ${SEQUENTIAL} requests one after the other; ${flushes.concurrent} for ${CONCURRENT} at once; ` +
        `${flushes.looping} for ${keys.looping.length} of ${LOOPS.callers} callers (${(flushes.looping / keys.looping.length).toFixed(2)} a request)\n`,
    );
    expect(flushes.sequential).toBe(SEQUENTIAL);
    expect(flushes.concurrent, "requests that are there together share a flush").toBeLessThanOrEqual(CONCURRENT / 8);
    expect(flushes.looping).toBeLessThanOrEqual(keys.looping.length);
  },
);

test.skipIf(!hasStrace)(
  `a segment is durable before its name, that before the take-over, and that before "serving on" is said${hasStrace ? "" : " (skipped: strace is not installed)"}`,
  async () => {
    const { server, trace } = await serveTraced();
    process.kill(trace.pid(), "SIGTERM");
    await server.ended;
    const calls = trace.read();
    const [made, takeOver] = calls.filter((call) => call.name === "pwrite64" && call.target.includes("/wal-"));
    const flushOf = (write: SystemCall | undefined): SystemCall | undefined =>
      write?.flushes === true ? write : calls.find((call) => isFlush(call) && isAfter(call, write));
    const steps = {
      made: flushOf(made),
      named: calls.find((call) => call.name === "fsync" && call.target === trace.directory),
      takeOver: flushOf(takeOver),
      said: calls.find(({ name, bytes }) => name === "write" && bytes.includes("serving on ")),
    };
    const order = Object.values(steps);
    expect(order).not.toContain(undefined);
    expect(order.map((call) => call?.result).filter((result) => result?.startsWith("-"))).toEqual([]);
    for (const [index, step] of order.slice(1).entries())
      expect(step !== undefined && isAfter(step, order[index]), Object.keys(steps)[index + 1]).toBe(true);
  },
);

function isAfter(call: SystemCall, before: SystemCall | undefined): boolean {
  return before?.returned !== undefined && call.entered > before.returned;
}

/** A server whose window lasts: but for the take-over, whatever it writes is for a request. */
async function serveTraced() {
  const directory = processes.directory();
  const data = join(directory, "data");
  const output = join(directory, "trace");
  const wrapper = ["strace", "-f", "-qq", "-yy", "-xx", "-s", "65536", "-e", "signal=none", "-e", `trace=${TRACED_CALLS}`, "-o", output];
  const args = ["--window-ahead", "1h", "--failover-advance", "1h", "--heartbeat-interval", "0s"];
  const server: Server = await processes.serve(data, args, { wrapper, env: { UV_USE_IO_URING: "0" } });
  expect(existsSync(output)).toBe(true);
  const read = (): readonly SystemCall[] => readTrace(readFileSync(output, "utf8"));
  return { server, trace: { directory: data, read, pid: () => read()[0]?.pid ?? 0 } };
}

/** Flushes between the first write for one of the keys and the last reply. */
function flushesFor(calls: readonly SystemCall[], keys: readonly string[]): number {
  const trails = keys.map((key) => trailOf(calls, key));
  const from = Math.min(...trails.map(({ written }) => written?.entered ?? 0));
  const to = Math.max(...trails.map(({ replied }) => replied?.entered ?? 0));
  return calls.filter((call) => isFlush(call) && call.entered >= from && call.entered < to).length;
}

function describeTrail(trail: ReturnType<typeof trailOf>): string {
  const lines = Object.entries(trail).map(
    ([what, call]) => `${what} ${call === undefined ? "never" : `in lines ${call.entered} to ${call.returned}`}`,
  );
  return lines.join(", ");
}

describe("the reading of a trace", () => {
  const hex = (text: string): string => [...Buffer.from(text)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
  const WAL = `20<${hex("/d/wal-01.tmp")}>(deleted)`;
  const write = (pid: number): string => `${pid}  pwrite64(${WAL}, "${hex("head <k> tail")}", 512, 1024) = 512`;
  const flush = (pid: number, end = " = 0"): string => `${pid}  fdatasync(${WAL})${end}`;
  const reply = (pid: number): string =>
    `${pid}  writev(22<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{iov_base="${hex("..")}", iov_len=2}, {iov_base="${hex("<k>")}", iov_len=3}], 2) = 5`;
  const verdict = (...lines: readonly string[]): boolean => isFlushedFirst(trailOf(readTrace(lines.join("\n")), "<k>"));
  const begun = (line: string): string => line.replace(/\) += \d+$/, " <unfinished ...>");

  test("accepts write, flush, reply", () => {
    expect(verdict(write(2), flush(3), reply(1))).toBe(true);
    expect(verdict(write(2), begun(flush(3)), "3  <... fdatasync resumed>) = 0", reply(1))).toBe(true);
  });

  const opened = `2  openat(AT_FDCWD</>, "${hex("/d/wal-01.tmp")}", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC|O_DSYNC, 0666) = 20<${hex("/d/wal-01.tmp")}>`;
  /** As strace shows the file that was opened, before its name was taken away. */
  const durableWrite = (end = " = 512"): string => `2  pwrite64(20<${hex("/d/wal-01.tmp")}>, "${hex("head <k> tail")}", 512, 1024)${end}`;

  test("accepts a write that flushes, and its reply", () => {
    expect(verdict(opened, durableWrite(), reply(1))).toBe(true);
    expect(verdict(begun(opened).replace(/\) = .*$/, " <unfinished ...>"), "2  <... openat resumed>) = 20", durableWrite(), reply(1))).toBe(true);
  });

  test("catches a reply before such a write has returned, one that failed, and one to a file that was opened otherwise", () => {
    expect(verdict(opened, reply(1), durableWrite())).toBe(false);
    expect(verdict(opened, begun(durableWrite()), reply(1), "2  <... pwrite64 resumed>) = 512")).toBe(false);
    expect(verdict(opened, durableWrite(" = -1 EIO (Input/output error)"), reply(1))).toBe(false);
    expect(verdict(opened.replace("|O_DSYNC", ""), durableWrite(), reply(1))).toBe(false);
    expect(verdict(opened.replaceAll(hex("wal-01"), hex("wal-02")), durableWrite(), reply(1))).toBe(false);
  });

  test("catches a reply before the flush, before its return, and one whose flush failed or was of something else", () => {
    expect(verdict(write(2), reply(1), flush(3))).toBe(false);
    expect(verdict(write(2), begun(flush(3)), reply(1), "3  <... fdatasync resumed>) = 0")).toBe(false);
    expect(verdict(write(2), begun(flush(3)), reply(1))).toBe(false);
    expect(verdict(write(2), flush(3, " = -1 EIO (Input/output error)"), reply(1))).toBe(false);
    expect(verdict(flush(3), write(2), reply(1))).toBe(false);
    expect(verdict(write(2), flush(3).replace(hex("wal-01"), hex("wal-02")), reply(1))).toBe(false);
    expect(verdict(begun(write(2)), flush(3), "2  <... pwrite64 resumed>) = 512", reply(1))).toBe(false);
    expect(verdict(flush(3), reply(1))).toBe(false);
  });
});
