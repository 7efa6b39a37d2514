import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { epoch } from "../../../src/base/epoch.ts";
import type { ConsensusDriver } from "../../../src/oracle/driver.ts";
import { type FileDriverOptions, fileDriver } from "../../../src/oracle/drivers/file.ts";
import { memoryDriver } from "../../../src/oracle/drivers/memory.ts";
import { storeDriver } from "../../../src/oracle/drivers/store.ts";
import { type DriverUnderTest, driverConformance } from "../../../src/testing/driver-conformance.ts";
import { FaultyDisk } from "../../../src/testing/faulty-disk.ts";
import { SharedRow } from "../../support/shared-store.ts";

type Make = () => Promise<DriverUnderTest>;

describe("the memory driver", () => {
  conforms(async () => onMemory(), ["depose"]);
});

describe("the memory driver, which does not lead at first", () => {
  conforms(async () => {
    const made = onMemory({ leads: false });
    const later = setImmediate(made.lead);
    return { ...made, cleanUp: () => clearImmediate(later) };
  }, ["depose"]);
});

describe("a store driver on a row that several processes share", () => {
  conforms(async () => onSharedRow(), ["reopen", "depose"]);
});

describe("the file driver on a disk in memory", () => {
  conforms(() => onFiles({ directory: "/data", segmentBytes: 4_096, disk: new FaultyDisk() }), ["reopen"]);
});

describe("the file driver on the file system", () => {
  conforms(async () => {
    const parent = await mkdtemp(join(tmpdir(), "tsoracle-drivers-"));
    const cleanUp = (): Promise<void> => rm(parent, { recursive: true });
    return { ...(await onFiles({ directory: join(parent, "a", "b"), segmentBytes: 4_096 })), cleanUp };
  }, ["reopen"]);
});

test("a driver that lacks what a test needs fails it", async () => {
  for (const { name, needs, run } of driverConformance(async () => ({ driver: memoryDriver() }))) {
    if (needs !== undefined) await expect(run(), name).rejects.toThrow(`this test needs \`${needs}\``);
  }
});

function conforms(make: Make, offers: readonly string[]): void {
  for (const { name, needs, run } of driverConformance(make)) if (needs === undefined || offers.includes(needs)) test(name, run);
}

function onMemory(options: { readonly leads?: boolean } = {}) {
  const driver = memoryDriver(options);
  let reign = 1n;
  return {
    driver,
    depose: () => {
      reign += 1n;
      driver.fence(epoch(reign));
    },
    lead: () => {
      reign = driver.lead();
    },
  };
}

function onSharedRow(): DriverUnderTest {
  const row = new SharedRow();
  let store = row.process();
  let driver = storeDriver(store);
  return {
    driver,
    reopen: async () => {
      await driver.close();
      store = row.process();
      driver = storeDriver(store);
      return driver;
    },
    depose: async () => void (await row.process().open(row.nextReign())),
    lead: () => void store.lead(),
  };
}

async function onFiles(options: FileDriverOptions): Promise<DriverUnderTest> {
  let driver: ConsensusDriver = await fileDriver(options);
  return {
    driver,
    reopen: async () => {
      await driver.close();
      driver = await fileDriver(options);
      return driver;
    },
  };
}
