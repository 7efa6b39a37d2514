import { describe, expect, test } from "vitest";
import { type NodeId, slot } from "../../../src/base/ids.ts";
import { createPrng } from "../../../src/base/prng.ts";
import { createEntry, type Entry } from "../../../src/paxos/core/entry.ts";
import { genesisOf } from "../../../src/paxos/core/genesis.ts";
import type { Image, PersistBatch, PersistOp } from "../../../src/paxos/core/image.ts";
import { resolveCoreOptions } from "../../../src/paxos/core/options.ts";
import { type DiskSettings, SimulatedDisk } from "../../../src/testing/cluster/disk.ts";
import { encodeCommand, ListMachine } from "../../../src/testing/cluster/machine.ts";
import { drawSettings, PROFILES } from "../../../src/testing/cluster/settings.ts";

const node = 1 as NodeId;
const storageId = "1".padStart(32, "0");
const genesis = genesisOf([{ id: node, storageId, role: "voter", address: "node-1", prio: 0 }]);
const ballot = { round: 1, prio: 0, node };
const SETTINGS: DiskSettings = { writeUs: [10, 20], readUs: [5, 9], tail: 0, tailUs: 0, durableAtCut: 0 };

function disk(settings: Partial<DiskSettings> = {}): SimulatedDisk {
  return new SimulatedDisk(storageId, genesis, { ...SETTINGS, ...settings }, createPrng(1));
}

function entryAfter(previous: Entry | undefined, text: string): Entry {
  const payload = new TextEncoder().encode(text);
  return createEntry({ slot: slot((previous?.slot ?? 0) + 1), origin: ballot, kind: "app", payload, previousChain: previous?.chain ?? 0 });
}

function batch(seq: number, before: Image, last: Entry, ...ops: readonly PersistOp[]): PersistBatch {
  const image = { ...before, promised: ballot, accepted: ballot, last: last.slot, lastOrigin: last.origin, lastChain: last.chain };
  return { seq, image, ops };
}

const two = entryAfter(genesis.entries[0], "two");
const three = entryAfter(two, "three");
const other = entryAfter(two, "other");

describe("a simulated disk", () => {
  test("holds what was written, once the write has ended", () => {
    const device = disk();
    const endsAt = device.begin(batch(1, device.image, three, { type: "append", entries: [two, three] }), 1_000);
    expect(endsAt).toBeGreaterThanOrEqual(1_010);
    expect(endsAt).toBeLessThanOrEqual(1_020);
    expect(device.image.last).toBe(1);
    expect(device.end()).toBe(true);
    expect(device.image.last).toBe(3);
    expect(device.read(1, 3, 10_000)).toEqual([two, three]);
    expect(device.read(1, 3, 1)).toEqual([two]);
  });

  test.each([
    [0, 1],
    [1, 2],
  ])("with %i of durability, a power cut leaves all of the write in flight or nothing: slot %i", (durableAtCut, last) => {
    const device = disk({ durableAtCut });
    device.begin(batch(1, device.image, two, { type: "append", entries: [two] }), 0);
    expect(device.cutPower()).toBe(durableAtCut === 1);
    expect(device.image.last).toBe(last);
    expect(device.cutPower()).toBe(false);
  });

  test("counts its processes, and hands out the log from what is decided on", () => {
    const device = disk();
    device.begin(batch(1, device.image, three, { type: "append", entries: [two, three] }), 0);
    device.end();
    const first = device.recover(node);
    expect(first).toMatchObject({ boot: 1, storageId, image: { last: 3 } });
    expect(first.runs.map(({ from }) => from)).toEqual([1, 2]);
    expect(first.tail.at(-1)).toBe(three);
    expect(device.recover(node).boot).toBe(2);
  });

  test("a copy goes its own way, under the same count", () => {
    const device = disk();
    device.recover(node);
    const copy = device.copy();
    expect(copy.recover(node, "copied").boot).toBe(1);
    copy.begin(batch(1, copy.image, two, { type: "append", entries: [two] }), 0);
    copy.end();
    expect([copy.image.last, device.image.last]).toEqual([2, 1]);
  });

  test("a stall holds back the end of a write, and a failing write says so", () => {
    const device = disk();
    device.stalledUntil = 5_000;
    expect(device.begin(batch(1, device.image, two, { type: "append", entries: [two] }), 0)).toBeGreaterThan(5_000);
    device.failing = true;
    expect(device.end()).toBe(false);
    expect([1, 2]).toContain(device.image.last);
  });

  test.each<[string, readonly PersistOp[], Entry]>([
    ["a gap", [{ type: "append", entries: [three] }], three],
    ["a chain that breaks", [{ type: "append", entries: [two, { ...other, chain: 1 }] }], other],
    ["a truncation of what is decided", [{ type: "truncate", from: slot(1), last: slot(1) }], two],
    ["a truncation that does not know the end", [{ type: "truncate", from: slot(2), last: slot(5) }], two],
    ["an image of another log", [{ type: "append", entries: [two] }], three],
  ])("refuses %s", (_, ops, last) => {
    const device = disk();
    device.begin(batch(1, device.image, last, ...ops), 0);
    expect(() => device.end()).toThrow(/^disk: /);
  });

  test("takes one write at a time", () => {
    const device = disk();
    device.begin(batch(1, device.image, two, { type: "append", entries: [two] }), 0);
    expect(() => device.begin(batch(2, device.image, two), 0)).toThrow(/one write is in flight/);
  });

  test("truncates what is not decided, and goes on from there", () => {
    const device = disk();
    device.begin(batch(1, device.image, three, { type: "append", entries: [two, three] }), 0);
    device.end();
    device.begin(batch(2, device.image, other, { type: "truncate", from: slot(3), last: slot(3) }, { type: "append", entries: [other] }), 0);
    device.end();
    expect(device.entry(slot(3))).toBe(other);
  });
});

test("the machine's hash tells the order of commands, and its lists what was written", () => {
  const run = (...values: readonly number[]): ListMachine => {
    const machine = new ListMachine();
    const at = { slot: slot(1), epoch: 0n as never, earlier: [] };
    for (const value of values) machine.apply(encodeCommand({ type: value === 3 ? "write" : "append", key: 1, value, padding: value }), at);
    return machine;
  };
  expect(run(1, 2).hash).not.toBe(run(2, 1).hash);
  expect(run(1, 2).hash).toBe(run(1, 2).hash);
  expect(run(1, 2).read(1)).toEqual([1, 2]);
  expect(run(1, 3, 2).read(1)).toEqual([3, 2]);
  expect(run().read(1)).toEqual([]);
});

test.each(PROFILES)("every seed of profile %s draws settings that the core takes", (profile) => {
  for (let seed = 0; seed < 500; seed++) {
    const { core, nodes, ticksUs, prios } = drawSettings(seed, profile);
    expect(() => resolveCoreOptions(core)).not.toThrow();
    expect([ticksUs.length, prios.length]).toEqual([nodes, nodes]);
  }
});
