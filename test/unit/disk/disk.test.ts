/** What the journal asks of a disk, on the file system and on its faulty twin: a simulation is worth what the two have in common. */
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Disk } from "../../../src/disk/disk.ts";
import { createJournal, openJournal } from "../../../src/disk/journal.ts";
import { nodeDisk } from "../../../src/disk/node-disk.ts";
import { DiskCrashed, FaultyDisk } from "../../../src/testing/faulty-disk.ts";

describe.each(["the file system", "its faulty twin"])("%s", (which) => {
  let parent: string;
  let disk: Disk;
  let directory: string;

  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), "tsoracle-disk-"));
    disk = which === "the file system" ? nodeDisk : new FaultyDisk();
    directory = join(parent, "a", "b");
    await disk.makeDirectory(directory);
  });
  afterEach(async () => {
    await rm(parent, { recursive: true });
  });

  const path = (name: string): string => join(directory, name);
  const write = async (name: string, bytes: Uint8Array, position = 0): Promise<void> => {
    const file = await disk.create(path(name));
    await file.write(bytes, position);
    await file.datasync();
    await file.close();
  };
  const contents = async (name: string): Promise<readonly number[]> => [...(await disk.read(path(name)))];

  test("makes a directory with its parents, once or more often", async () => {
    await disk.makeDirectory(directory);
    expect(await disk.list(directory)).toEqual([]);
    await disk.syncDirectory(directory);
  });

  test("makes a directory that others make at the same moment", async () => {
    const wanted = join(parent, "x", "y", "z");
    await Promise.all([1, 2, 3].map(() => disk.makeDirectory(wanted)));
    expect(await disk.list(wanted)).toEqual([]);
  });

  test("lists names in order", async () => {
    for (const name of ["b", "a", "B", "a.tmp", "10", "9"]) await write(name, Uint8Array.of(1));
    expect(await disk.list(directory)).toEqual(["10", "9", "B", "a", "a.tmp", "b"]);
  });

  test("reads what was written, wherever it was", async () => {
    const file = await disk.create(path("a"));
    await file.write(Uint8Array.of(1, 2, 3, 4), 0);
    await file.write(Uint8Array.of(9, 9), 1);
    await file.write(Uint8Array.of(5), 4);
    expect(await contents("a")).toEqual([1, 9, 9, 4, 5]);
    await file.datasync();
    await file.close();
    const again = await disk.open(path("a"));
    await again.write(Uint8Array.of(7), 0);
    await again.close();
    expect(await contents("a")).toEqual([7, 9, 9, 4, 5]);
  });

  test("makes a durable file once, and writes it wherever it is told to", async () => {
    const file = await disk.createDurable(path("a"));
    await expect(disk.createDurable(path("a"))).rejects.toMatchObject({ code: "EEXIST" });
    await file.write(Uint8Array.of(1, 2, 3), 0);
    await disk.link(path("a"), path("b"));
    await file.write(Uint8Array.of(9, 9), 2);
    expect([await contents("a"), await contents("b")]).toEqual([
      [1, 2, 9, 9],
      [1, 2, 9, 9],
    ]);
    await file.close();
  });

  test("takes what the bytes are when it is asked to write", async () => {
    const file = await disk.create(path("a"));
    const bytes = Uint8Array.of(1, 2);
    await file.write(bytes, 0);
    bytes.fill(0);
    await file.close();
    expect(await contents("a")).toEqual([1, 2]);
  });

  test("gives what was read to the reader alone", async () => {
    await write("a", Uint8Array.of(1, 2));
    (await disk.read(path("a"))).fill(0);
    expect(await contents("a")).toEqual([1, 2]);
  });

  test("makes a file once, and links to no name that is taken", async () => {
    await write("a", Uint8Array.of(1));
    await write("b", Uint8Array.of(2));
    await expect(disk.create(path("a"))).rejects.toMatchObject({ code: "EEXIST" });
    await expect(disk.link(path("a"), path("b"))).rejects.toMatchObject({ code: "EEXIST" });
    expect([await contents("a"), await contents("b")]).toEqual([[1], [2]]);
  });

  test("keeps a linked file under each name, also one that is still written", async () => {
    const file = await disk.create(path("a.tmp"));
    await file.write(Uint8Array.of(1), 0);
    await disk.link(path("a.tmp"), path("a"));
    await disk.remove(path("a.tmp"));
    await file.write(Uint8Array.of(2), 1);
    await file.datasync();
    await file.close();
    expect(await disk.list(directory)).toEqual(["a"]);
    expect(await contents("a")).toEqual([1, 2]);
  });

  test("says what is missing, as the system does", async () => {
    const missing = { code: "ENOENT" };
    await expect(disk.read(path("a"))).rejects.toMatchObject(missing);
    await expect(disk.open(path("a"))).rejects.toMatchObject(missing);
    await expect(disk.remove(path("a"))).rejects.toMatchObject(missing);
    await expect(disk.link(path("a"), path("b"))).rejects.toMatchObject(missing);
    await expect(disk.list(join(parent, "other"))).rejects.toMatchObject(missing);
    await expect(disk.create(join(parent, "other", "a"))).rejects.toMatchObject(missing);
    await expect(disk.syncDirectory(join(parent, "other"))).rejects.toMatchObject(missing);
    await expect(disk.lock(join(parent, "other"))).rejects.toMatchObject(missing);
  });

  test("locks a directory for one caller at a time", async () => {
    const lock = await disk.lock(directory);
    await expect(disk.lock(directory)).rejects.toMatchObject({ code: "TSO_LOCKED" });
    await lock.release();
    await (await disk.lock(directory)).release();
  });

  test("carries a journal that holds on to no segment's bytes", async () => {
    const options = { disk, directory, segmentBytes: 65_536 };
    const made = await createJournal(options, { meta: Uint8Array.of(1), ops: [Uint8Array.of(2)] });
    await made.close();
    const kept: Uint8Array[] = [];
    const journal = await openJournal({ ...options, replay: ({ meta, ops }) => void kept.push(meta, ...ops), revive: (meta) => meta });
    await journal.close();
    expect(kept.map((bytes) => [...bytes])).toEqual([[1], [2]]);
    for (const bytes of [journal.storageId, ...kept]) expect(bytes.buffer.byteLength).toBeLessThan(10_000);
  });
});

test("the file system makes no directory behind a link that leads nowhere, and does not try for ever", async () => {
  const parent = await mkdtemp(join(tmpdir(), "tsoracle-disk-"));
  await symlink(join(parent, "missing"), join(parent, "link"));
  await expect(nodeDisk.makeDirectory(join(parent, "link", "a"))).rejects.toMatchObject({ code: "ENOENT" });
  await rm(parent, { recursive: true });
});

describe("the faulty twin alone", () => {
  test("loses names and bytes that were not synced, and nothing else", async () => {
    const disk = new FaultyDisk();
    await disk.makeDirectory("/d");
    const file = await disk.create("/d/synced");
    await file.write(Uint8Array.of(1), 0);
    await file.datasync();
    await disk.syncDirectory("/d");
    await file.write(Uint8Array.of(2), 0);
    await disk.create("/d/new");
    expect(await disk.powerCut("drops").list("/d")).toEqual(["synced"]);
    expect(await disk.powerCut("drops").read("/d/synced")).toEqual(Uint8Array.of(1));
    expect(await disk.powerCut("keeps").list("/d")).toEqual(["new", "synced"]);
    expect(await disk.kill().read("/d/synced")).toEqual(Uint8Array.of(2));
  });

  test("keeps what was written to a durable file, and may be crashed between the bytes and the flush", async () => {
    const disk = new FaultyDisk();
    await disk.makeDirectory("/d");
    const file = await disk.createDurable("/d/a");
    await disk.syncDirectory("/d");
    await file.write(Uint8Array.of(1), 0);
    disk.before = ({ name }) => {
      if (name === "datasync") disk.kill();
    };
    await expect(file.write(Uint8Array.of(2), 0)).rejects.toThrow("datasync");
    expect(await disk.powerCut("drops").read("/d/a")).toEqual(Uint8Array.of(1));
    expect(await disk.powerCut("keeps").read("/d/a")).toEqual(Uint8Array.of(2));
  });

  test("is dead for the process that crashed with it, also in the middle of an operation", async () => {
    const disk = new FaultyDisk();
    await disk.makeDirectory("/d");
    let crash: () => void = () => undefined;
    disk.before = () =>
      new Promise((resolve) => {
        crash = resolve;
      });
    const stalled = disk.create("/d/a");
    const after = disk.powerCut("keeps");
    crash();
    await expect(stalled).rejects.toThrow(DiskCrashed);
    await expect(disk.list("/d")).rejects.toThrow(DiskCrashed);
    expect(await after.list("/d")).toEqual([]);
  });
});
