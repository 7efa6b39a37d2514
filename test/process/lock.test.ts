/** The lock of a directory, between real processes: `docs/protocol.md` 5.5. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { OracleError } from "../../src/base/errors.ts";
import { lockDirectory } from "../../src/disk/lock.ts";
import { fileDriver } from "../../src/oracle/drivers/file.ts";

const HOLDER = fileURLToPath(new URL("../support/lock-holder.mjs", import.meta.url));

type How = "lock" | "driver";

interface Started {
  readonly process: ChildProcess;
  /** "holds", or the code of the error that it met. */
  readonly met: string;
}

let parent: string;
const running = new Set<ChildProcess>();

beforeAll(async () => {
  parent = await mkdtemp(join(tmpdir(), "tsoracle-lock-"));
});
afterEach(async () => {
  await Promise.all([...running].map(kill));
});
afterAll(async () => {
  await rm(parent, { recursive: true });
});

describe("of two processes that start at once on one directory", () => {
  test.each<{ how: How; pairs: number }>([
    { how: "lock", pairs: 200 },
    { how: "driver", pairs: 20 },
  ])("exactly one wins each time, though the one before it was killed ($pairs pairs, $how)", async ({ how, pairs }) => {
    const directory = await newDirectory();
    for (let pair = 1; pair <= pairs; pair++) {
      const started = await Promise.all([start(how, directory), start(how, directory)]);
      expect(started.map(({ met }) => met).sort(), `pair ${pair}`).toEqual(["TSO_LOCKED", "holds"]);
      await Promise.all(started.map(({ process }) => kill(process)));
    }
  });

  test("exactly one wins, also where the directory is still to be made", async () => {
    const directory = await newDirectory();
    for (let pair = 1; pair <= 10; pair++) {
      const missing = join(directory, `${pair}`, "to", "be", "made");
      const started = await Promise.all([start("driver", missing), start("driver", missing)]);
      expect(started.map(({ met }) => met).sort(), `pair ${pair}`).toEqual(["TSO_LOCKED", "holds"]);
      await Promise.all(started.map(({ process }) => kill(process)));
    }
  });
});

describe("a directory that a process holds", () => {
  test.each<How>(["lock", "driver"])(
    "is refused to every other, however it is named, and free the moment that process is killed (%s)",
    async (how) => {
      const directory = await newDirectory();
      const alias = `${directory}-alias`;
      await symlink(directory, alias);
      const names = [directory, alias, `${directory}/`, join(directory, "..", directory.slice(parent.length + 1))];
      for (const [index, name] of names.entries()) {
        const holder = await start(how, name);
        expect(holder.met).toBe("holds");
        for (const other of names) {
          expect(await codeOf(fileDriver({ directory: other, segmentBytes: 4_096 })), `${other} while ${name} is held`).toBe("TSO_LOCKED");
          expect(await codeOf(lockDirectory(other))).toBe("TSO_LOCKED");
        }
        await kill(holder.process);
        const next = names[(index + 1) % names.length] ?? name;
        await (await lockDirectory(next)).release();
      }
    },
  );

  test("names itself in the refusal", async () => {
    const directory = await newDirectory();
    await start("driver", directory);
    await expect(fileDriver({ directory })).rejects.toThrow(`TSO_LOCKED: ${directory} is in use by another process`);
  });

  test("is refused within the process that holds it, until it is given back", async () => {
    const directory = await newDirectory();
    const other = await newDirectory();
    const lock = await lockDirectory(directory);
    expect(await codeOf(lockDirectory(directory))).toBe("TSO_LOCKED");
    await (await lockDirectory(other)).release();
    expect((await start("lock", directory)).met).toBe("TSO_LOCKED");
    await lock.release();
    expect((await start("lock", directory)).met).toBe("holds");
  });

  test("is given back by a driver that is closed", async () => {
    const directory = await newDirectory();
    const driver = await fileDriver({ directory, segmentBytes: 4_096 });
    expect((await start("driver", directory)).met).toBe("TSO_LOCKED");
    await driver.close();
    expect((await start("driver", directory)).met).toBe("holds");
  });

  test("keeps no process from ending", async () => {
    const { process } = await start("lock", await newDirectory());
    process.stdin?.end();
    expect(await once(process, "exit")).toEqual([0, null]);
  });
});

// Some releases of Node fill an abstract name up with zeros and some do not: to the kernel these would be two locks on one directory.
test.runIf(process.platform === "linux")("the name of a lock fills a socket's name, so that it is one under every release of Node", async () => {
  const directory = await newDirectory();
  const { dev, ino } = await stat(directory, { bigint: true });
  const lock = await lockDirectory(directory);
  const names = (await readFile("/proc/net/unix", "utf8")).split("\n").map((line) => line.slice(line.indexOf("@")));
  await lock.release();
  const own = names.filter((name) => name.replaceAll("@", "") === `tsoracle/lock/${dev}/${ino}`);
  expect(own.map((name) => name.length)).toEqual([108]);
});

test("a directory that does not exist cannot be held", async () => {
  await expect(lockDirectory(join(parent, "missing"))).rejects.toMatchObject({ code: "ENOENT" });
});

async function start(how: How, directory: string): Promise<Started> {
  const child = spawn(process.execPath, [HOLDER, how, directory], { stdio: ["pipe", "pipe", "inherit"] });
  running.add(child);
  child.once("exit", () => running.delete(child));
  const [met]: string[] = await once(createInterface(child.stdout), "line");
  return { process: child, met: met ?? "" };
}

/** Returns once the process is gone. */
async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (error: unknown) => (error instanceof OracleError ? error.code : String(error)),
  );
}

function newDirectory(): Promise<string> {
  return mkdtemp(join(parent, "data-"));
}
