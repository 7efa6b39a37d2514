/** The published suite, on every engine that this package has, and on the disks that they may have. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "vitest";
import { MemoryVolume, openMemory } from "../../../../src/paxos/storage/memory.ts";
import { openWal } from "../../../../src/paxos/storage/wal.ts";
import { FaultyDisk } from "../../../../src/testing/faulty-disk.ts";
import { type StoragePlace, storageConformance } from "../../../../src/testing/storage-conformance.ts";

const ENGINES: Readonly<Record<string, () => Promise<StoragePlace>>> = {
  memory: async () => {
    const volume = new MemoryVolume();
    return { open: (node) => openMemory({ volume, node }) };
  },
  "wal, in memory, small segments": async () => {
    const disk = new FaultyDisk();
    return { open: (node) => openWal({ directory: "/data", node, disk, segmentBytes: 4_096 }) };
  },
  "wal, on the disk of this machine": async () => {
    const directory = await mkdtemp(join(tmpdir(), "tsoracle-wal-"));
    return { open: (node) => openWal({ directory, node, segmentBytes: 65_536 }), cleanUp: () => rm(directory, { recursive: true }) };
  },
};

for (const [engine, make] of Object.entries(ENGINES)) {
  describe(engine, () => {
    for (const { name, run } of storageConformance(make)) test(name, run);
  });
}
