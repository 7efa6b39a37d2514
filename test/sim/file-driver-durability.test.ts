/**
 * Durability on the faulty disk: a run of 200 commands, a crash with loss of every unsynced byte at each disk operation, also torn and doubled
 * crashes during recovery: what was acknowledged is there, nothing else half is.
 */
import { describe, expect, test } from "vitest";
import type { Epoch } from "../../src/base/epoch.ts";
import { createPrng } from "../../src/base/prng.ts";
import type { Disk } from "../../src/disk/disk.ts";
import type { ConsensusDriver, Submitted } from "../../src/oracle/driver.ts";
import { fileDriver } from "../../src/oracle/drivers/file.ts";
import type { OracleCommand } from "../../src/oracle/rules/command.ts";
import { resolveLimits } from "../../src/oracle/rules/limits.ts";
import { FaultyDisk, type PowerCut } from "../../src/testing/faulty-disk.ts";
import { type Death, dyingDisk, isDeath } from "../support/crashes.ts";
import { range } from "../support/journals.ts";
import { drawRun, printView, type Run, runOf } from "../support/oracle-runs.ts";

const DIRECTORY = "/data";
const COMMANDS = 200;
/** Thousands of runs and recoveries: a limit that only a hang can meet. */
const TIMEOUT_MS = 180_000;
const LIMITS = resolveLimits({ maxHolderBytes: 1_000 });

/** What was promised to whoever listened before a crash. */
interface Promised {
  /** Steps that were begun, in order, and how many of them were acknowledged. */
  begun: number;
  acknowledged: number;
  /** The highest epoch that a driver told. */
  epoch: bigint;
}

interface Node {
  readonly driver: ConsensusDriver;
  readonly reign: Epoch;
}

/** One process after the other, until all is done or the disk is dead. */
async function live(disk: Disk, run: Run, segmentBytes: number, promised: Promised): Promise<void> {
  for (const steps of run.processes) {
    const { driver } = await start(disk, segmentBytes, promised);
    for (const step of steps) {
      promised.begun += 1;
      const submitted = await Promise.all(step.map((command) => driver.submit(command)));
      if (submitted.some(hasFailed)) return; // the process ends
      promised.acknowledged += 1;
    }
    await driver.close();
  }
}

/** A crash seen from inside: a failed disk, told as such. Any other answer is part of a run. */
function hasFailed(submitted: Submitted): boolean {
  if (submitted.type === "applied") return false;
  expect(submitted).toMatchObject({ type: "unknown", reason: "storage" });
  return true;
}

async function start(disk: Disk, segmentBytes: number, promised: Promised): Promise<Node> {
  const driver = await fileDriver({ directory: DIRECTORY, segmentBytes, disk });
  const { value } = await driver.leadership()[Symbol.asyncIterator]().next();
  if (value?.role !== "leader") throw new Error("who opens a directory leads at once");
  expect(value.epoch, "epochs strictly increase").toBeGreaterThan(promised.epoch);
  promised.epoch = value.epoch;
  return { driver, reign: value.epoch };
}

/** Starts on what a crash left, and looks. @returns the number of steps that the state holds */
async function recover(disk: Disk, run: Run, segmentBytes: number, promised: Promised): Promise<Node> {
  const node = await start(disk, segmentBytes, promised);
  await node.driver.submit({ type: "sequence", groups: [] }); // asks for nothing: so that the state is read
  const found = printView(node.driver.view());
  const steps = range(promised.acknowledged, promised.begun).find((count) => run.states[count] === found);
  if (steps === undefined) {
    const holds = run.states.indexOf(found);
    throw new Error(`${promised.acknowledged} of ${promised.begun} steps were acknowledged, and the state is that of ${holds < 0 ? "none" : holds}`);
  }
  expect(node.driver.view().highWater).toBeGreaterThanOrEqual(run.highWaters[promised.acknowledged] ?? 0);
  promised.acknowledged = steps; // what was shown must stay
  return node;
}

/** And the next reign begins above everything that was promised. */
async function goOn({ driver, reign }: Node): Promise<void> {
  const { highWater } = driver.view();
  const next = driver.view().sequence("a")?.next ?? 0n;
  const window = { now: 1_700_000_000_000, failoverAdvanceMs: 500, maxClockJumpMs: 86_400_000 };
  const [takenOver, granted] = await Promise.all(
    [{ type: "take-over", epoch: reign, ...window, limits: LIMITS } as const, { type: "sequence", groups: [[{ key: "a", count: 1 }]] } as const].map(
      (command: OracleCommand) => driver.submit(command),
    ),
  );
  expect(takenOver).toMatchObject({ type: "applied", outcome: { type: "taken-over" } });
  expect(driver.view().highWater).toBeGreaterThan(highWater);
  expect(granted).toEqual({ type: "applied", outcome: { type: "sequence", groups: [{ type: "granted", starts: [next] }] } });
}

/** The disk of a run that dies so, and what it promised. */
async function crashed(run: Run, segmentBytes: number, death: Death): Promise<{ readonly disk: FaultyDisk; readonly promised: Promised }> {
  const disk = new FaultyDisk();
  const promised = { begun: 0, acknowledged: 0, epoch: 0n };
  await dies(live(dyingDisk(disk, death), run, segmentBytes, promised));
  return { disk, promised };
}

async function dies(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!isDeath(error)) throw error;
  });
}

async function wholeRun(run: Run, segmentBytes: number): Promise<FaultyDisk> {
  const disk = new FaultyDisk();
  const promised = { begun: 0, acknowledged: 0, epoch: 0n };
  await live(disk, run, segmentBytes, promised);
  expect(promised).toMatchObject({ acknowledged: run.states.length - 1, epoch: BigInt(run.processes.length) });
  return disk;
}

/** Each time it is asked for, the same cut. */
const CUTS: readonly [() => PowerCut, ...(() => PowerCut)[]] = [() => "drops", () => "keeps", ...range(1, 4).map((seed) => () => createPrng(seed))];
const WHEN: readonly [Death["when"], Death["when"]] = ["before", "after"];

describe.each([
  { segmentBytes: 4_096, seed: 1 },
  { segmentBytes: 8_192, seed: 2 },
])("a run of 200 commands in segments of $segmentBytes bytes", async ({ segmentBytes, seed }) => {
  const run = drawRun({ seed, commands: COMMANDS, processes: 5, limits: LIMITS });
  const { operations } = await wholeRun(run, segmentBytes);
  const deaths = range(1, operations).flatMap((operation) => WHEN.map((when) => ({ operation, when })));
  const report = (what: string): void => void process.stdout.write(`durability, segments of ${segmentBytes}: ${what}\n`);

  test("meets what it is meant to meet", async () => {
    expect(run.commands).toBeGreaterThanOrEqual(COMMANDS);
    expect(new Set(run.states).size).toBeGreaterThan(80);
    const disk = new FaultyDisk();
    const seen = { link: 0, remove: 0 };
    disk.before = ({ name, path }) => {
      if (name === "link" || (name === "remove" && path.endsWith(".seg"))) seen[name] += 1;
    };
    await live(disk, run, segmentBytes, { begun: 0, acknowledged: 0, epoch: 0n });
    expect(seen.link, "rolls").toBeGreaterThan(40_000 / segmentBytes);
    expect(seen.remove, "bases, which drop segments").toBeGreaterThan(5);
    report(
      `${run.commands} commands in ${run.states.length - 1} commits and ${operations} disk operations; ${seen.link} segments, ${seen.remove} dropped`,
    );
  });

  test("survives a power cut at each disk operation, and a second one while it recovers from the first", { timeout: TIMEOUT_MS }, async () => {
    const prng = createPrng(seed);
    const counts = { cuts: 0, inFlight: 0, kept: 0, doubled: 0 };
    for (const death of deaths) {
      const { disk, promised } = await crashed(run, segmentBytes, death);
      for (const cut of CUTS) {
        const found = disk.powerCut(cut());
        const after = { ...promised };
        const node = await recover(found, run, segmentBytes, after);
        counts.cuts += 1;
        if (promised.begun > promised.acknowledged) counts.inFlight += 1;
        if (after.acknowledged > promised.acknowledged) counts.kept += 1;
        if (!prng.chance(0.4)) continue;
        const second = disk.powerCut(cut());
        const again = { ...promised };
        const next: Death = { operation: 1 + prng.below(found.operations), when: prng.pick(WHEN) };
        await dies(recover(dyingDisk(second, next), run, segmentBytes, again));
        await recover(second.powerCut(prng.pick(CUTS)()), run, segmentBytes, again);
        counts.doubled += 1;
        await goOn(node);
      }
    }
    expect(counts.kept).toBeGreaterThan(100);
    expect(counts.inFlight - counts.kept).toBeGreaterThan(100);
    const { cuts, inFlight, kept, doubled } = counts;
    report(
      `${deaths.length} crashes, ${cuts} power cuts; of ${inFlight} commits in flight ${kept} were kept, the rest left no trace; ${doubled} doubled`,
    );
  });

  test("survives a kill at each disk operation, and a power cut while it recovers from that", { timeout: TIMEOUT_MS }, async () => {
    const prng = createPrng(seed);
    const counts = { shown: 0, kills: 0 };
    let operation = 0;
    for (const death of deaths.filter(({ when }) => when === "before")) {
      const { disk, promised } = await crashed(run, segmentBytes, death);
      const recovering = disk.kill();
      operation += 1;
      const { acknowledged } = promised;
      await dies(recover(dyingDisk(recovering, { operation, when: prng.pick(WHEN) }), run, segmentBytes, promised));
      if (recovering.operations < operation) operation = 0; // beyond the last: begin again with the first
      if (promised.acknowledged > acknowledged) counts.shown += 1;
      await recover(recovering.powerCut(prng.pick(CUTS)()), run, segmentBytes, promised);
      counts.kills += 1;
    }
    report(`${counts.kills} kills, each with a power cut in the recovery; ${counts.shown} showed what nobody had been told`);
  });
});

test("a state whose base has several parts survives a power cut at each disk operation", { timeout: TIMEOUT_MS }, async () => {
  const keys = 4_500;
  const fill = (from: number): OracleCommand => ({
    type: "sequence",
    groups: range(from, from + keys / 3 - 1).map((key) => [{ key: `${key}`, count: 1 }]),
  });
  const one: OracleCommand = { type: "sequence", groups: [[{ key: "1", count: 1 }]] };
  const run = runOf(LIMITS, [fill(1), fill(1 + keys / 3), fill(1 + (2 * keys) / 3), one, one]);
  const segmentBytes = 4_096;
  const { operations } = await wholeRun(run, segmentBytes);
  let inFlight = 0;
  for (const operation of range(1, operations)) {
    const { disk, promised } = await crashed(run, segmentBytes, { operation, when: "before" });
    if (promised.begun > promised.acknowledged) inFlight += 1;
    const found = disk.powerCut(operation % 2 === 0 ? "drops" : createPrng(operation));
    const after = { ...promised };
    await goOn(await recover(found, run, segmentBytes, after));
  }
  process.stdout.write(`durability, a base of ${Math.ceil(keys / 2_000)} parts: ${operations} crashes, ${inFlight} with a commit in flight\n`);
});
