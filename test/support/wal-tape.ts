/**
 * The disks of a simulated cluster, played again on the real engine: every write, every crash in the middle of one, every start. What the simulator gave a process to begin with
 * must be what the wal finds in its files, after a cut that drops, keeps or tears what was not flushed. So the runs are those that the simulator has judged, on this format.
 */
import assert from "node:assert/strict";
import { setImmediate as delay } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { type NodeId, slot } from "../../src/base/ids.ts";
import { createPrng, type Prng } from "../../src/base/prng.ts";
import type { Entry } from "../../src/paxos/core/entry.ts";
import type { Image, PersistBatch } from "../../src/paxos/core/image.ts";
import type { LogStorage } from "../../src/paxos/storage/log-storage.ts";
import { openWal } from "../../src/paxos/storage/wal.ts";
import type { ClusterObserver, ObservedDisk, ObservedProcess } from "../../src/testing/cluster/observed.ts";
import { type ClusterSettings, drawSettings, type Profile } from "../../src/testing/cluster/settings.ts";
import { simulateCluster } from "../../src/testing/cluster/simulation.ts";
import { FaultyDisk, type PowerCut } from "../../src/testing/faulty-disk.ts";
import { assertHolds, assertRecovered } from "../../src/testing/log-history.ts";
import { isDeath } from "./crashes.ts";

type TapeEvent =
  /** The state that the process began with. */
  | { readonly type: "start"; readonly image: Image; readonly entries: readonly Entry[] }
  | { readonly type: "write"; readonly batch: PersistBatch }
  /** The write that was begun is on the disk. */
  | { readonly type: "written" }
  | { readonly type: "stop" };

/** Records what happens to each disk. */
class DiskTapes implements ClusterObserver {
  readonly #tapes = new Map<ObservedDisk, { readonly node: NodeId; readonly events: TapeEvent[] }>();

  /** With a last stop, and what the next start would find. */
  ended(): readonly { readonly node: NodeId; readonly events: readonly TapeEvent[] }[] {
    return [...this.#tapes].map(([disk, { node, events }]) => ({ node, events: [...events, { type: "stop" }, startOf(disk)] }));
  }

  started(process: ObservedProcess): void {
    this.#note(process, startOf(process.disk));
  }

  turned(process: ObservedProcess, { write }: Parameters<ClusterObserver["turned"]>[1]): void {
    if (write !== undefined) this.#note(process, { type: "write", batch: write });
  }

  written(process: ObservedProcess): void {
    this.#note(process, { type: "written" });
  }

  stopped(process: ObservedProcess): void {
    this.#note(process, { type: "stop" });
  }

  applied(): void {}
  asked(): void {}

  #note({ disk, node }: ObservedProcess, event: TapeEvent): void {
    const tape = this.#tapes.get(disk) ?? { node, events: [] };
    this.#tapes.set(disk, tape);
    tape.events.push(event);
  }
}

function startOf(disk: ObservedDisk): TapeEvent {
  const { image } = disk;
  const begin = image.compactedThrough;
  const entries = Array.from({ length: image.last - begin }, (_, index) => disk.entry(slot(begin + index + 1)) ?? assert.fail("a log has no hole"));
  return { type: "start", image, entries };
}

export interface TapeReport {
  starts: number;
  writes: number;
  /** Writes that a crash met, by what was left of them. */
  kept: number;
  lost: number;
  torn: number;
}

const DIRECTORY = "/data";

/** A run with the settings that its seed draws, but for priorities, which a cluster that was just formed has not, and disks that are taken away or copied. */
export async function playRun(seed: number, profile: Profile): Promise<TapeReport> {
  const drawn = drawSettings(seed, profile);
  const { weights } = drawn.faults;
  const settings: ClusterSettings = {
    ...drawn,
    prios: drawn.prios.map(() => 0),
    lostDisk: "none",
    faults: { ...drawn.faults, weights: { ...weights, duplicate: 0 } },
  };
  const tapes = new DiskTapes();
  simulateCluster({ seed, profile, settings, observers: [tapes] });
  const report: TapeReport = { starts: 0, writes: 0, kept: 0, lost: 0, torn: 0 };
  for (const [index, { node, events }] of tapes.ended().entries()) await playTape(node, events, seed * 16 + index, report);
  return report;
}

/** Plays one disk. @throws AssertionError where the wal holds anything else than the simulated disk did */
async function playTape(node: NodeId, events: readonly TapeEvent[], seed: number, report: TapeReport): Promise<void> {
  const prng = createPrng(seed);
  const segmentBytes = prng.pick([4_096, 8_192, 65_536]);
  const open = (disk: FaultyDisk): Promise<LogStorage> => openWal({ directory: DIRECTORY, node, disk, segmentBytes });
  let disk = new FaultyDisk();
  let storage: LogStorage | undefined;
  let boot = 0;
  for (const [index, event] of events.entries()) {
    switch (event.type) {
      case "start": {
        storage = await open(disk);
        boot += 1;
        assert.equal(storage.boot, boot);
        if (storage.founding.type === "unformed") await form(storage, event.image);
        assertRecovered(storage.recovered(), event);
        await assertHolds(storage, event, { maxBytes: 1 + prng.below(4_000) });
        report.starts += 1;
        break;
      }
      case "write": {
        assert.ok(storage !== undefined, "who writes was started");
        report.writes += 1;
        if (!isMetByCrash(events, index)) {
          await storage.write(event.batch);
          break;
        }
        disk = await crash(storage, disk, { batch: event.batch, isKept: events[index + 1]?.type === "written", open, prng, report });
        storage = undefined;
        break;
      }
      case "stop":
        if (storage === undefined) break; // in the middle of a write
        disk = prng.chance(0.5) ? disk.kill() : disk.powerCut(anyCut(prng));
        storage = undefined;
        break;
      default:
        break;
    }
  }
}

/** Whether the write was still under way when the process died: it was then kept, or lost, by the death. */
function isMetByCrash(events: readonly TapeEvent[], index: number): boolean {
  const [next, afterNext] = [events[index + 1]?.type, events[index + 2]?.type];
  return next === "stop" || (next === "written" && afterNext === "stop");
}

async function form(storage: LogStorage, { configuration }: Image): Promise<void> {
  const founders = configuration.members.map(({ id, storageId, address }) => ({ id, storageId, address }));
  await storage.found({ type: "formed", charter: { clusterId: "c".repeat(32), founders } });
}

interface Crash {
  readonly batch: PersistBatch;
  readonly isKept: boolean;
  open(disk: FaultyDisk): Promise<LogStorage>;
  readonly prng: Prng;
  readonly report: TapeReport;
}

/** The process dies in the middle of the write, and the disk is left as the simulator had it. */
async function crash(storage: LogStorage, disk: FaultyDisk, { batch, isKept, open, prng, report }: Crash): Promise<FaultyDisk> {
  if (isKept) {
    await storage.write(batch);
    report.kept += 1;
    return disk.powerCut(anyCut(prng));
  }
  await delay(); // a spare file may be on its way
  const diesAt = prng.pick<"write" | "datasync">(["write", "datasync"]);
  disk.before = ({ name }) => {
    if (name === diesAt) disk.kill();
  };
  await assert.rejects(storage.write(batch), isDeath);
  // Torn, it is lost in most cases; where every sector came through by chance it is there, and that is not how this run went on.
  const tear = prng.below(2 ** 32);
  const found = await open(disk.powerCut(createPrng(tear)));
  const isLost = !isDeepStrictEqual(found.recovered().image, batch.image);
  report[isLost ? "torn" : "lost"] += 1;
  return disk.powerCut(isLost ? createPrng(tear) : "drops");
}

function anyCut(prng: Prng): PowerCut {
  return prng.pick<PowerCut>(["drops", "keeps", createPrng(prng.below(2 ** 32))]);
}
