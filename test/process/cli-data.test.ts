/** The data directory as its operators meet it: made, seeded, refused. Whatever is refused is said in one line, and left as it was. */
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { COMMAND, type Ended, Processes, type StartOptions } from "../support/server-process.ts";

const processes = new Processes();
afterAll(() => processes.end());

const run = (args: readonly string[], options?: StartOptions): Promise<Ended> => processes.run(args, options);
const serve = (directory: string, ...args: readonly string[]): Promise<Ended> =>
  run(["--listen", "127.0.0.1:0", "--state-dir", directory, "--log", "error", ...args]);

const SECTOR = 512;
const LASTING = ["--window-ahead", "1h", "--failover-advance", "1h"] as const;

/** Files and their bytes: what must not change. */
function contentsOf(directory: string): Readonly<Record<string, string>> {
  return Object.fromEntries(readdirSync(directory).map((name) => [name, readFileSync(join(directory, name)).toString("base64")]));
}

/** A refusal to serve: exit code, one line that says why. */
async function refusalOf(ending: Promise<Ended>): Promise<{ readonly code: number | undefined; readonly reason: string }> {
  const { code, stdout, stderr } = await ending;
  expect(stdout).toBe("");
  const reasons = stderr.split("\n").filter((line) => line.startsWith("error: "));
  expect(reasons, stderr).toHaveLength(1);
  expect(stderr, "no stack").not.toMatch(/^ {4}at /m);
  return { code, reason: (reasons[0] ?? "").slice("error: ".length) };
}

async function timestampFrom(address: string): Promise<bigint> {
  const { stdout } = await run(["ts", "--endpoint", address]);
  return BigInt(stdout.trim());
}

describe.concurrent("init", () => {
  test("makes a directory; every timestamp is above its seed", async () => {
    const directory = join(processes.directory(), "a", "b");
    const seed = Date.now() + 3_600_000;
    expect(await run(["init", "--state-dir", directory, "--seed-physical-ms", String(seed)])).toEqual({
      code: 0,
      signal: undefined,
      stdout: `made ${directory}: timestamps begin above physical ms ${seed}\n`,
      stderr: "",
    });
    const server = await processes.serve(directory, ["--require-data"]);
    expect(Number((await timestampFrom(server.address)) >> 18n)).toBeGreaterThan(seed);
    expect(await server.stop()).toMatchObject({ code: 0 });
  });

  test("without a seed it only says that this is where the data is", async () => {
    const directory = processes.directory();
    expect(await run(["init", "--state-dir", directory])).toMatchObject({ code: 0 });
    const server = await processes.serve(directory, ["--require-data"]);
    await server.stop();
  });

  test("refuses a directory that holds data, or anything else, and changes nothing", async () => {
    const made = processes.directory();
    await run(["init", "--state-dir", made]);
    const foreign = processes.directory();
    writeFileSync(join(foreign, "notes.txt"), "mine");
    for (const [directory, reason] of [
      [made, `TSO_WRONG_FORMAT: ${made} holds a journal already`],
      [foreign, `TSO_WRONG_FORMAT: ${join(foreign, "notes.txt")} is not a file of this program: use an empty directory, or the right one`],
    ] as const) {
      const before = contentsOf(directory);
      expect(await refusalOf(run(["init", "--state-dir", directory]))).toEqual({ code: 1, reason });
      expect(contentsOf(directory)).toEqual(before);
    }
  });

  test("a seed of the last millisecond leaves nothing to serve", async () => {
    const directory = processes.directory();
    await run(["init", "--state-dir", directory, "--seed-physical-ms", String(2 ** 46 - 1)]);
    const refusal = await refusalOf(serve(directory));
    expect(refusal).toMatchObject({ code: 1, reason: expect.stringContaining("exceeds the 46-bit timestamp field") });
  });
});

describe.concurrent("--require-data", () => {
  test("refuses a directory that is missing or empty, and makes nothing", async () => {
    const missing = join(processes.directory(), "not-mounted");
    const empty = processes.directory();
    for (const directory of [missing, empty]) {
      expect(await refusalOf(serve(directory, "--require-data"))).toEqual({
        code: 1,
        reason: `TSO_WRONG_FORMAT: ${directory} holds no data: make it with \`tsoracle init\`, or mount what is missing`,
      });
    }
    expect(existsSync(missing)).toBe(false);
    expect(readdirSync(empty)).toEqual([]);
  });

  test("without it a missing directory is made, and said", async () => {
    const directory = join(processes.directory(), "new");
    const server = await processes.serve(directory);
    expect(await server.logged("there is no data here yet: beginning at zero")).toMatchObject({ directory });
    await server.stop();
  });

  test("TSORACLE_REQUIRE_DATA=false does not require data", async () => {
    const options = { env: { TSORACLE_REQUIRE_DATA: "false" } };
    const server = processes.start(["--listen", "127.0.0.1:0", "--state-dir", processes.directory()], options);
    await server.serving();
  });
});

describe.concurrent("a clock far ahead of the data", () => {
  test("is refused, with the way out; accepted once, it is accepted from then on", async () => {
    const directory = processes.directory();
    await run(["init", "--state-dir", directory, "--seed-physical-ms", String(Date.UTC(2020, 0, 1))]);
    for (let i = 0; i < 2; i++) {
      const refusal = await refusalOf(serve(directory));
      expect(refusal).toMatchObject({
        code: 1,
        reason: expect.stringMatching(/^TSO_LIMIT_REACHED: the clock reads 20.*2020-01-01T00:00:00\.000Z.*--accept-clock-jump/),
      });
    }
    const accepting = await processes.serve(directory, ["--accept-clock-jump"]);
    expect(Number((await timestampFrom(accepting.address)) >> 18n)).toBeGreaterThan(Date.UTC(2026, 0, 1));
    await accepting.stop();
    const next = await processes.serve(directory);
    await next.stop();
  });

  test("a wider --max-clock-jump accepts it too", async () => {
    const directory = processes.directory();
    await run(["init", "--state-dir", directory, "--seed-physical-ms", String(Date.now() - 2 * 86_400_000)]);
    expect((await refusalOf(serve(directory))).code).toBe(1);
    const server = await processes.serve(directory, ["--max-clock-jump", "3d"]);
    await server.stop();
  });

  test("data far ahead of the clock is no trouble: timestamps go on above it", async () => {
    const directory = processes.directory();
    const seed = Date.UTC(2100, 0, 1);
    await run(["init", "--state-dir", directory, "--seed-physical-ms", String(seed)]);
    const server = await processes.serve(directory);
    expect(Number((await timestampFrom(server.address)) >> 18n)).toBeGreaterThan(seed);
    await server.stop();
  });
});

describe.concurrent("limits", () => {
  test("are fixed by the first start: others are refused as wrong usage, with both values", async () => {
    const directory = processes.directory();
    const server = await processes.serve(directory, ["--max-seq-count", "100"]);
    await server.stop();
    for (const [args, reason] of [
      [["--max-seq-count", "50"], "maxCount is 100 here since the first start, and 50 was asked for: it cannot change"],
      [[], "maxCount is 100 here since the first start, and 65536 was asked for: it cannot change"],
      [["--max-seq-count", "100", "--max-leases", "1"], "maxLeases is 10000 here since the first start, and 1 was asked for: it cannot change"],
    ] as const) {
      expect(await refusalOf(serve(directory, ...args))).toEqual({ code: 2, reason: `TSO_INVALID_OPTION: ${reason}` });
    }
    const again = await processes.serve(directory, ["--max-seq-count", "100"]);
    await again.stop();
  });

  test("an option that is out of its range is refused before anything is made, by the name of its flag", async () => {
    const directory = join(processes.directory(), "new");
    const { reason } = await refusalOf(serve(directory, "--window-ahead", "0s"));
    expect({ reason, made: existsSync(directory) }).toEqual({ reason: expect.stringContaining("--window-ahead"), made: false });
  });
});

describe.concurrent("a directory that cannot be used", () => {
  /** One that a server left after a few grants, each of them a frame of its own; nothing else was written since it began. */
  let good: string;
  let segment: string;
  const GRANTS = 5;
  beforeAll(async () => {
    good = processes.directory();
    const server = await processes.serve(good, [...LASTING]);
    for (let i = 0; i < GRANTS; i++)
      expect(await run(["seq", "next", "a", "--endpoint", server.address])).toMatchObject({ code: 0, stdout: `${i}\n` });
    await server.kill();
    expect(readdirSync(good)).toHaveLength(1);
    segment = readdirSync(good)[0] ?? "";
  });

  /** A copy of it, changed. */
  function damaged(change: (file: string, directory: string) => void): string {
    const directory = processes.directory();
    cpSync(good, directory, { recursive: true });
    change(join(directory, segment), directory);
    return directory;
  }

  function flip(file: string, at: number): void {
    const bytes = readFileSync(file);
    bytes[at] = (bytes[at] ?? 0) ^ 0x10;
    writeFileSync(file, bytes);
  }

  /** Where the frames of the segment begin. */
  function framesOf(file: string): readonly number[] {
    const bytes = readFileSync(file);
    const found: number[] = [];
    for (let at = SECTOR; bytes.readUInt32LE(at) !== 0; at += paddedAt(bytes, at)) found.push(at);
    return found;
  }

  function endOf(file: string): number {
    const last = framesOf(file).at(-1) ?? SECTOR;
    return last + paddedAt(readFileSync(file), last);
  }

  function paddedAt(bytes: Buffer, at: number): number {
    return Math.ceil(bytes.readUInt32LE(at + 48) / SECTOR) * SECTOR;
  }

  test("as it was left, it goes on", async () => {
    const directory = damaged(() => undefined);
    const server = await processes.serve(directory, [...LASTING]);
    expect(await run(["seq", "next", "a", "--endpoint", server.address])).toMatchObject({ code: 0, stdout: `${GRANTS}\n` });
    await server.stop();
  });

  const damages: readonly (readonly [what: string, change: (file: string, directory: string) => void, reason: RegExp])[] = [
    [
      "a file of somebody else's",
      (_, directory) => writeFileSync(join(directory, "notes.txt"), "mine"),
      /^TSO_WRONG_FORMAT: DIR\/notes\.txt is not a file of this program/,
    ],
    ["a directory in it", (_, directory) => mkdirSync(join(directory, "backup")), /^TSO_WRONG_FORMAT: DIR\/backup is not a file of this program/],
    ["a bit that flipped in its header", (file) => flip(file, 30), /^TSO_STORAGE: FILE at byte 0: its header is damaged/],
    [
      "a bit that flipped in the middle, in a frame's head",
      (file) => flip(file, (framesOf(file)[2] ?? 0) + 20),
      /^TSO_STORAGE: FILE at byte \d+: frame 3 does not read back/,
    ],
    [
      "a bit that flipped in the middle, in a frame's body",
      (file) => flip(file, (framesOf(file)[2] ?? 0) + 100),
      /^TSO_STORAGE: FILE at byte \d+: frame 3 does not read back/,
    ],
    ["a bit that flipped in the last frame's head", (file) => flip(file, (framesOf(file).at(-1) ?? 0) + 20), /^TSO_STORAGE: FILE at byte \d+: /],
    [
      "a bit that flipped in the last frame's body",
      (file) => flip(file, (framesOf(file).at(-1) ?? 0) + 100),
      /^TSO_STORAGE: FILE at byte \d+: frame \d+ was written whole, and its checksum is wrong/,
    ],
    ["something behind the last frame", (file) => flip(file, endOf(file) + 20), /^TSO_STORAGE: FILE at byte \d+: /],
    ["a file that was cut off in the middle of its frames", (file) => truncateSync(file, framesOf(file)[3] ?? 0), /^TSO_STORAGE: FILE at byte \d+: /],
    ["a file that was cut off within a frame", (file) => truncateSync(file, (framesOf(file)[3] ?? 0) + 100), /^TSO_STORAGE: FILE at byte \d+: /],
    [
      "a file that was cut off behind its last frame",
      (file) => truncateSync(file, (framesOf(file).at(-1) ?? 0) + 8 * SECTOR),
      /^TSO_STORAGE: FILE at byte \d+: /,
    ],
    ["an empty file", (file) => truncateSync(file, 0), /^TSO_STORAGE: FILE at byte 0: /],
    [
      "a segment under another name",
      (file) => cpSync(file, file.replace(/1\.seg$/, "2.seg")),
      /^TSO_STORAGE: DIR\/wal-0000000000000002\.seg at byte 0: it is segment 1 under another name/,
    ],
    [
      "a format of a later release",
      (file) => {
        const bytes = readFileSync(file);
        bytes.writeUInt16LE(2, 8);
        bytes.writeUInt32LE(crc32(bytes.subarray(8, SECTOR)), 4);
        writeFileSync(file, bytes);
      },
      /^TSO_WRONG_FORMAT: FILE has format 2, and this release reads up to 1$/,
    ],
  ];
  test.each(damages)("%s: refused with 1, in a line that names the file and the cause; nothing is changed", async (_, change, reason) => {
    const directory = damaged(change);
    const names = readdirSync(directory).filter((name) => statSync(join(directory, name)).isFile());
    const before = names.map((name) => readFileSync(join(directory, name)).toString("base64"));
    const refusal = await refusalOf(serve(directory));
    expect(refusal.reason.replaceAll(join(directory, segment), "FILE").replaceAll(directory, "DIR")).toMatch(reason);
    expect(refusal.code).toBe(1);
    expect(names.map((name) => readFileSync(join(directory, name)).toString("base64"))).toEqual(before);
    expect(readdirSync(directory).filter((name) => statSync(join(directory, name)).isFile())).toEqual(names);
  });

  test("a file in its place", async () => {
    const file = join(processes.directory(), "file");
    writeFileSync(file, "mine");
    expect(await refusalOf(serve(file))).toMatchObject({
      code: 1,
      reason: expect.stringMatching(/^TSO_STORAGE: the disk under .*file failed: (EEXIST|ENOTDIR)/),
    });
    expect(readFileSync(file, "utf8")).toBe("mine");
  });

  /** Who may not write everywhere: nobody, where the tests run as root. */
  const isRoot = process.getuid?.() === 0;
  const NOBODY = 65_534;
  const user = isRoot ? { uid: NOBODY } : {};
  const mayRun = spawnSync(process.execPath, [COMMAND, "--version"], user).status === 0;

  test.skipIf(!mayRun)(
    `one that it may not write to, or not read${mayRun ? "" : " (skipped: another user may not read this checkout)"}`,
    async () => {
      for (const [mode, reason] of [
        [0o555, /^TSO_STORAGE: the disk under DIR failed: EACCES: permission denied, open/],
        [0o000, /^TSO_STORAGE: the disk under DIR failed: EACCES: permission denied, scandir/],
      ] as const) {
        const directory = damaged(() => undefined);
        if (isRoot) chownSync(join(directory, segment), NOBODY, NOBODY);
        const before = contentsOf(directory);
        if (isRoot) chownSync(directory, NOBODY, NOBODY);
        chmodSync(directory, mode);
        const refusal = await refusalOf(run(["--listen", "127.0.0.1:0", "--state-dir", directory, "--log", "error"], user));
        chmodSync(directory, 0o755);
        expect(refusal.reason.replaceAll(directory, "DIR")).toMatch(reason);
        expect(refusal.code).toBe(1);
        expect(contentsOf(directory)).toEqual(before);
      }
    },
  );

  /** For the segment that a process begins with, which takes 256 KiB. */
  const TOO_SMALL = "200k";
  /** For one such segment, and not for another. */
  const FOR_ONE = "400k";

  /** A file system of its own; `undefined` where none may be mounted. */
  function tinyDisk(size: string): { readonly path: string; grow(): void; unmount(): void } | undefined {
    const path = processes.directory();
    if (spawnSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", path]).status !== 0) return undefined;
    return { path, grow: () => execFileSync("mount", ["-o", "remount,size=64m", path]), unmount: () => execFileSync("umount", [path]) };
  }
  const probe = tinyDisk(TOO_SMALL);
  probe?.unmount();
  const noMount = probe === undefined;
  const because = noMount ? " (skipped: no file system may be mounted)" : "";

  async function onDisk(size: string, use: (directory: string, disk: { grow(): void }) => Promise<void>): Promise<void> {
    const disk = tinyDisk(size);
    expect(disk).toBeDefined();
    if (disk === undefined) return;
    try {
      await use(join(disk.path, "data"), disk);
    } finally {
      disk.unmount();
    }
  }

  test.skipIf(noMount)(`a disk that is full${because}`, () =>
    onDisk(TOO_SMALL, async (directory) => {
      const refusal = await refusalOf(serve(directory));
      expect(refusal).toEqual({ code: 1, reason: `TSO_STORAGE: the disk under ${directory} failed: ENOSPC: no space left on device, write` });
    }),
  );

  test.skipIf(noMount)(`a disk that is full when it starts again: refused, nothing lost, and good again once there is room${because}`, () =>
    onDisk(FOR_ONE, async (directory, disk) => {
      const first = await processes.serve(directory);
      expect(await run(["seq", "next", "a", "-n", "3", "--endpoint", first.address])).toMatchObject({ code: 0 });
      await first.stop();
      const before = contentsOf(directory);
      expect(await refusalOf(serve(directory))).toMatchObject({ code: 1, reason: expect.stringContaining("ENOSPC: no space left on device, write") });
      expect(contentsOf(directory)).toMatchObject(before);
      disk.grow();
      const again = await processes.serve(directory);
      expect(await run(["seq", "next", "a", "--endpoint", again.address])).toMatchObject({ code: 0, stdout: "3\n" });
      await again.stop();
    }),
  );

  test.skipIf(noMount)(`what was written before the disk was full is taken away again${because}`, () =>
    onDisk(TOO_SMALL, async (directory) => {
      await refusalOf(serve(directory));
      expect(readdirSync(directory)).toEqual([]);
    }),
  );
});
