/** A node whose writes the system itself refuses, as on a disk without a byte left: they go to `/dev/full`. */
import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { afterAll, expect, test } from "vitest";
import { encodeUtf8 } from "../../src/base/bytes.ts";
import type { Disk, DurableFile } from "../../src/disk/disk.ts";
import { nodeDisk } from "../../src/disk/node-disk.ts";
import { PaxosNode } from "../../src/paxos/node.ts";
import { openWal } from "../../src/paxos/storage/wal.ts";
import { MemoryNetwork } from "../../src/paxos/transport/memory.ts";
import { realTimers } from "../../src/paxos/transport/wire.ts";
import { ListMachine } from "../support/node-world.ts";
import { Processes } from "../support/server-process.ts";

const processes = new Processes();
afterAll(() => processes.end());

/** The system's, until it is full: from then on what is written, to whichever file, is written to `/dev/full`. */
class FillingDisk {
  isFull = false;

  readonly disk: Disk = {
    ...nodeDisk,
    createDurable: async (path) => {
      const file = await nodeDisk.createDurable(path);
      return { write: (bytes, position) => this.#write(file, bytes, position), close: () => file.close() };
    },
  };

  async #write(file: DurableFile, bytes: Uint8Array, position: number): Promise<void> {
    if (!this.isFull) return file.write(bytes, position);
    const full = await open("/dev/full", "w");
    try {
      await full.write(bytes, 0, bytes.length);
    } finally {
      await full.close();
    }
  }
}

/** A node alone, that leads. */
async function startNode(directory: string, disk: Disk) {
  const machine = new ListMachine();
  const network = new MemoryNetwork({ timers: realTimers });
  const node = await PaxosNode.start({
    storage: await openWal({ directory, node: 1, disk }),
    machine,
    peers: "1=node-1:7000",
    init: true,
    transport: async (claim, receiver) => network.open({ claim, receiver, address: "node-1:7000" }),
  });
  for await (const { role } of node.leadership()) if (role === "leader") break;
  return { node, machine };
}

test.skipIf(!existsSync("/dev/full"))(
  "it stops at the first write that fails, and says why; what it had acknowledged is all there later",
  async () => {
    const directory = processes.directory();
    const filling = new FillingDisk();
    const { node } = await startNode(directory, filling.disk);
    for (const text of ["one", "two", "three"]) expect(await node.propose(encodeUtf8(text))).toMatchObject({ type: "applied" });
    filling.isFull = true;
    const outcomes = await Promise.all([node.propose(encodeUtf8("four")), node.propose(encodeUtf8("five"))]);
    expect(outcomes.map(({ type }) => type)).toEqual(["unknown", "unknown"]);
    await expect(node.done).rejects.toThrow(/^TSO_STORAGE: .*ENOSPC: no space left on device/);
    expect(node.status()).toMatchObject({ role: "stopped", lastFault: expect.stringContaining("ENOSPC") });
    expect(await node.propose(encodeUtf8("six"))).toMatchObject({ type: "not-applied" });

    const again = await startNode(directory, nodeDisk);
    try {
      await again.node.barrier();
      expect(again.machine.commands).toEqual(["one", "two", "three"]); // nothing of the others came to the disk
    } finally {
      await again.node.close();
    }
  },
);
