/** A server as its operators meet it: how it ends, what it logs, who it lets in. */
import { spawn, spawnSync } from "node:child_process";
import { symlinkSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { COMMAND, type Ended, logLines, Processes, type Server, type StartOptions } from "../support/server-process.ts";
import { Stubs } from "../support/stubs.ts";

const processes = new Processes();
afterAll(() => processes.end());

const run = (args: readonly string[], options?: StartOptions): Promise<Ended> => processes.run(args, options);
const ask = (server: Server, ...args: readonly string[]): Promise<Ended> => run([...args, "--endpoint", server.address]);
const start = (args: readonly string[] = [], options?: StartOptions): Promise<Server> => processes.serve(processes.directory(), args, options);

/** Nothing is written but for requests. */
const LASTING = ["--window-ahead", "1h", "--failover-advance", "1h"] as const;

describe.concurrent("how a server ends", () => {
  /** A server with a request in flight, which has been written and is not answered. */
  async function busy(args: readonly string[] = []) {
    const server = await start([...LASTING, "--shutdown-grace", "1h", ...args], { stalls: true });
    await server.stall("journal/after-write");
    const asked = processes.start(["seq", "next", "a", "--timeout", "1h", "--endpoint", server.address]);
    await server.stalled("journal/after-write");
    return { server, asked };
  }

  test.each(["SIGTERM", "SIGINT"] as const)("%s: takes no more calls, ends those in flight, and exits with 0", async (signal) => {
    const { server, asked } = await busy();
    server.signal(signal);
    expect(await server.logged("closing: a second signal ends this at once")).toMatchObject({ signal, level: "info" });
    expect(await ask(server, "ts", "--timeout", "500ms")).toMatchObject({ code: 3, stdout: "" });
    await server.release("journal/after-write");
    expect(await asked.ended).toMatchObject({ code: 0, stdout: "0\n", stderr: "" });
    expect(await server.ended).toMatchObject({ code: 0, stdout: `serving on ${server.address}\n` });
  });

  test.each([
    ["SIGTERM", "SIGTERM", 143],
    ["SIGINT", "SIGINT", 130],
    ["SIGTERM", "SIGINT", 130],
  ] as const)("%s, then %s: ends at once", async (first, second, code) => {
    const { server, asked } = await busy();
    server.signal(first);
    await server.logged("closing: a second signal ends this at once");
    server.signal(second);
    const ended = await server.ended;
    expect(ended.code ?? 128 + constants.signals[ended.signal ?? "SIGKILL"], "as a shell sees it").toBe(code);
    expect(await asked.ended).toMatchObject({ code: 4 });
  });

  test("calls that outlast the grace are ended, and a disk that hangs is left: exit code 1", async () => {
    const { server, asked } = await busy(["--shutdown-grace", "1ms"]);
    server.signal("SIGTERM");
    expect(await asked.ended).toMatchObject({ code: 4 });
    expect(await server.ended).toMatchObject({ code: 1, stderr: expect.stringContaining("the driver did not close in time") });
  });

  test("clients that are connected and ask nothing do not hold it up", async () => {
    const server = await start(["--shutdown-grace", "1h"]);
    const idle = new Stubs(server.address);
    expect((await idle.ask(idle.tso, idle.tso.getTs, { count: 1 })).ok).toBe(true);
    expect(await server.stop()).toMatchObject({ code: 0 });
    idle.close();
  });

  test("a signal before it serves ends it as well", async () => {
    const starting = processes.start(["--listen", "127.0.0.1:0", "--state-dir", processes.directory(), "--shutdown-grace", "1h"]);
    await starting.logged("leadership");
    starting.signal("SIGTERM");
    expect(await starting.ended).toMatchObject({ code: 0 });
  });

  test("after it ended the directory is free at once, and the address too", async () => {
    const directory = processes.directory();
    const first = await processes.serve(directory);
    await first.stop();
    const again = processes.start(["--listen", first.address, "--state-dir", directory]);
    expect(await again.serving()).toBe(first.address);
    await again.stop();
  });

  test("nobody reading its stdout any more does not end it", async () => {
    const server = spawn(process.execPath, [COMMAND, "--listen", "127.0.0.1:0", "--state-dir", processes.directory()], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    server.stdout.destroy();
    let asked = false;
    let stderr = "";
    server.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      const serving = logLines(stderr).some(({ msg }) => msg === "serving");
      if (serving && !asked) asked = server.kill("SIGTERM"); // a second one would end it at once
    });
    const code = await new Promise((resolve) => server.once("close", resolve));
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.not.stringContaining("EPIPE") });
  });

  test("nobody reading its log any more does not end it", async () => {
    const server = spawn(
      process.execPath,
      [COMMAND, "--listen", "127.0.0.1:0", "--state-dir", processes.directory(), "--heartbeat-interval", "5ms"],
      {
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    server.stderr.destroy();
    const address = await new Promise<string>((resolve, reject) => {
      server.once("close", reject);
      server.stdout.setEncoding("utf8").once("data", (line: string) => resolve(line.slice("serving on ".length).trim()));
    });
    for (let i = 0; i < 3; i++) expect(await run(["ts", "--endpoint", address])).toMatchObject({ code: 0 });
    const code = new Promise((resolve) => server.once("close", resolve));
    server.kill("SIGTERM");
    expect(await code).toBe(0);
  });
});

describe.concurrent("one directory, one server", () => {
  test("a second one is refused with TSO_LOCKED and 1, by any path; the first goes on unharmed", async () => {
    const directory = processes.directory();
    const first = await processes.serve(directory);
    const alias = join(processes.directory(), "alias");
    symlinkSync(directory, alias);
    for (const path of [directory, alias]) {
      for (const args of [["--listen", "127.0.0.1:0"], ["init"]]) {
        expect(await run([...args, "--state-dir", path])).toEqual({
          code: 1,
          signal: undefined,
          stdout: "",
          stderr: `error: TSO_LOCKED: ${path} is in use by another process: stop that one first, or give this one a directory of its own\n`,
        });
      }
    }
    expect(await ask(first, "seq", "next", "a", "-n", "2")).toMatchObject({ code: 0, stdout: "0\n1\n" });
    expect(await first.stop()).toMatchObject({ code: 0 });
  });

  test("the lock ends with the process, however it ends", async () => {
    const directory = processes.directory();
    const first = await processes.serve(directory);
    await first.kill();
    const second = await processes.serve(directory);
    expect(await ask(second, "status", "--json")).toMatchObject({ code: 0, stdout: expect.stringContaining('"epoch":{"hi":"0","lo":"2"}') });
    await second.stop();
  });

  const mayUnshare = spawnSync("unshare", ["--net", "true"]).status === 0;
  const because = mayUnshare ? "" : " (skipped: no network namespace may be made)";
  test
    .skipIf(!mayUnshare)
    .fails(`KNOWN: a second one in another network namespace, as in another container, is refused as well${because}`, async () => {
      const directory = processes.directory();
      const first = await processes.serve(directory);
      expect(await ask(first, "seq", "next", "a")).toMatchObject({ code: 0 });
      const second = processes.start(["--listen", "0.0.0.0:0", "--state-dir", directory], { wrapper: ["unshare", "--net"] });
      expect(await Promise.race([second.ended, second.serving()])).toMatchObject({ code: 1, stderr: expect.stringContaining("TSO_LOCKED") });
    });

  test("an address that is taken is refused, by name", async () => {
    const first = await start();
    const { code, stdout, stderr } = await run(["--listen", first.address, "--state-dir", processes.directory(), "--log", "error"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(`error: TSO_INVALID_OPTION: cannot listen on ${first.address}: `);
    expect(stderr).toContain("EADDRINUSE");
    await first.stop();
  });
});

describe.concurrent("metrics, which this release does not serve", () => {
  test("the default address is accepted, and so is turning them off; then the address does not matter", async () => {
    for (const args of [["--metrics-listen", "127.0.0.1:9551"], ["--no-metrics"], ["--no-metrics", "--metrics-listen", "127.0.0.1:1"]]) {
      const server = await start(args);
      expect(await server.stop()).toMatchObject({ code: 0 });
    }
  });
});

describe.concurrent("the log", () => {
  test("is JSON lines on stderr, with level, time and message", async () => {
    const server = await start();
    const { stderr } = await server.stop();
    const lines = stderr.trimEnd().split("\n");
    expect(logLines(stderr)).toHaveLength(lines.length);
    expect(logLines(stderr).map(({ msg }) => msg)).toEqual([
      "there is no data here yet: beginning at zero",
      "leadership",
      "serving",
      "closing: a second signal ends this at once",
    ]);
    for (const line of logLines(stderr)) {
      expect(line).toMatchObject({ level: "info", time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/), msg: expect.any(String) });
    }
    expect(logLines(stderr)[2]).toMatchObject({ epoch: "1", floorMs: expect.any(Number), highWaterMs: expect.any(Number) });
  });

  test.each([
    { level: "debug", atStart: true, atTrouble: true },
    { level: "info", atStart: true, atTrouble: true },
    { level: "warn", atStart: false, atTrouble: true },
    { level: "error", atStart: false, atTrouble: true },
    { level: "silent", atStart: false, atTrouble: false },
  ])("$level", async ({ level, atStart, atTrouble }) => {
    const directory = processes.directory();
    const server = await processes.serve(directory, ["--log", level]);
    const { stderr } = await server.stop();
    expect(stderr !== "").toBe(atStart);
    const trouble = await run(["--listen", "127.0.0.1:0", "--state-dir", directory, "--max-leases", "7", "--log", level]);
    expect(logLines(trouble.stderr).some((line) => line["level"] === "error")).toBe(atTrouble);
    expect(trouble.stderr, "why it ended is said in any case").toMatch(/^error: TSO_INVALID_OPTION: maxLeases is 10000 here since the first start/m);
  });

  test("a heartbeat says in one line how things stand", async () => {
    const server = await start(["--heartbeat-interval", "20ms"]);
    expect(await ask(server, "seq", "next", "a", "-n", "5")).toMatchObject({ code: 0 });
    expect(await ask(server, "ts", "-n", "7")).toMatchObject({ code: 0 });
    const beat = await server.until("a heartbeat told of it", () => {
      return logLines(server.stderr).find(({ msg, timestampsIssued }) => msg === "heartbeat" && timestampsIssued === 7);
    });
    expect(beat).toEqual({
      level: "info",
      time: expect.any(String),
      msg: "heartbeat",
      uptimeSeconds: expect.any(Number),
      serving: true,
      epoch: "1",
      requests: 2,
      timestampsIssued: 7,
      sequenceValuesIssued: 5,
      notLeader: 0,
      transitions: 1,
      fenceRetries: 0,
      extensions: expect.any(Number),
      waitedForExtension: 0,
      extensionsIgnored: 0,
      lastTransitionAgeSeconds: expect.any(Number),
    });
    await server.stop();
  });
});

describe.concurrent("TLS", () => {
  const pem = (name: string): string => fileURLToPath(new URL(`../fixtures/tls/${name}.pem`, import.meta.url));
  const key = (name: string): string => fileURLToPath(new URL(`../fixtures/tls/${name}.key`, import.meta.url));
  const SERVER = ["--tls-cert", pem("server"), "--tls-key", key("server")];
  const CLIENT = ["--client-tls-ca", pem("authority")];
  const certified = (name: string) => [...CLIENT, "--client-tls-cert", pem(name), "--client-tls-key", key(name)];
  /** By its name: for an address Node prints a warning of its own. */
  const endpointOf = (server: Server) => ["--endpoint", server.address.replace("127.0.0.1", "localhost")];
  const refused = {
    code: 3,
    stdout: "",
    stderr: expect.stringMatching(/^error: TSO_DEADLINE: no answer within \d+ ms; localhost:\d+: No connection established/),
  };
  const SHORT = ["--timeout", "1s"];

  test("a client that knows the authority is served, by all verbs; one that does not, or speaks plainly, is not", async () => {
    const server = await start(SERVER);
    const to = endpointOf(server);
    for (const verb of [["ts"], ["seq", "next", "a"], ["seq", "peek", "a"], ["seq", "list"], ["lease", "acquire", "a"], ["frontier"], ["status"]]) {
      expect(await run([...verb, ...to, ...CLIENT])).toMatchObject({ code: 0, stderr: "" });
    }
    expect(await run(["seq", "next", "a", ...to, ...SHORT])).toMatchObject(refused);
    expect(await run(["seq", "next", "a", ...to, ...SHORT, "--client-tls-ca", pem("stranger")])).toMatchObject(refused);
    expect(await run(["seq", "peek", "a", ...to, ...CLIENT]), "nothing was asked for").toMatchObject({ stdout: "1\n" });
    await server.stop();
  });

  test("with an authority for clients, only whom it certified is served", async () => {
    const server = await start([...SERVER, "--tls-client-ca", pem("authority")]);
    const to = endpointOf(server);
    expect(await run(["seq", "next", "a", ...to, ...certified("client")])).toMatchObject({ code: 0, stdout: "0\n", stderr: "" });
    expect(await run(["seq", "next", "a", ...to, ...SHORT, ...certified("stranger")])).toMatchObject(refused);
    expect(await run(["seq", "next", "a", ...to, ...SHORT, ...CLIENT])).toMatchObject(refused);
    expect(await run(["seq", "next", "a", ...to, ...certified("client")])).toMatchObject({ stdout: "1\n" });
    await server.stop();
  });

  test("the environment and the file say it as well", async () => {
    const server = await start([], { env: { TSORACLE_TLS_CERT: pem("server"), TSORACLE_TLS_KEY: key("server") } });
    expect(await run(["ts", ...endpointOf(server)], { env: { TSORACLE_CLIENT_TLS_CA: pem("authority") } })).toMatchObject({ code: 0, stderr: "" });
    await server.stop();
  });

  test.each([
    ["a key that is not the certificate's", ["--tls-cert", pem("server"), "--tls-key", key("client")]],
    ["a certificate that is none", ["--tls-cert", key("server"), "--tls-key", key("server")]],
    ["an authority that is none", [...SERVER, "--tls-client-ca", key("server")]],
  ])("a server with %s does not start", async (_, args) => {
    const { code, stdout, stderr } = await run([...args, "--listen", "127.0.0.1:0", "--state-dir", processes.directory(), "--log", "error"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/^error: TSO_INVALID_OPTION: .*\n$/);
  });

  test("a certificate that cannot be used is named", async () => {
    const { stderr } = await run([
      ...SERVER.slice(0, 3),
      key("client"),
      "--listen",
      "127.0.0.1:0",
      "--state-dir",
      processes.directory(),
      "--log",
      "error",
    ]);
    expect(stderr).toContain(key("client"));
  });

  test("a client's certificate that cannot be used is wrong usage, and named", async () => {
    const { code, stderr } = await run([
      "ts",
      "--endpoint",
      "127.0.0.1:1",
      ...CLIENT,
      "--client-tls-cert",
      pem("client"),
      "--client-tls-key",
      key("server"),
    ]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(key("server")) });
  });

  test("a verb that goes to an address prints no warning of Node's", async () => {
    const server = await start(SERVER);
    expect(await ask(server, "ts", ...CLIENT)).toMatchObject({ code: 0, stderr: "" });
  });
});
