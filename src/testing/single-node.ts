/**
 * A single node in a simulated world: the real server core, file driver, journal and rules over a virtual clock and a faulty disk. One seed, one run; the
 * same seed gives the same trace. The node lives several times; most lives end in a power cut at a random operation of the disk. What callers saw is
 * then judged by the checkers. No rule of the oracle stands here.
 */
import { createHash } from "node:crypto";
import { createPrng, type Prng } from "../base/prng.ts";
import type { ConsensusDriver } from "../oracle/driver.ts";
import { fileDriver } from "../oracle/drivers/file.ts";
import type { Answer } from "../server/answer.ts";
import { resolveServerOptions } from "../server/options.ts";
import { Serving } from "../server/serving.ts";
import type { Timers } from "../server/timers.ts";
import {
  checkLeases,
  checkSafePoint,
  checkTimestampOrder,
  type LeaseGrant,
  type LeaseHistory,
  type SafePointRead,
  type TimestampGrant,
} from "./checkers.ts";
import { FaultyDisk, type PowerCut } from "./faulty-disk.ts";
import { checkSequence, type SequenceRead, type SequenceRequest } from "./sequence-checker.ts";

const DIRECTORY = "/data";
const KEYS = ["invoices", "orders", "é", "k"] as const;
const HOLDERS = ["a", "b", "c"] as const;

/** What a seed draws: tiny limits, so that what is rare becomes common. */
export interface SingleNodeSettings {
  readonly lives: number;
  readonly rounds: number;
  readonly callers: number;
  readonly segmentBytes: number;
  readonly windowAheadMs: number;
  readonly failoverAdvanceMs: number;
  readonly clock: "steady" | "frozen" | "wild";
  readonly powerCut: "drops" | "keeps" | "tears";
  /** Chance that a life ends in good order. */
  readonly orderly: number;
  /** Disk operations until a power cut, about. */
  readonly operationsPerLife: number;
}

export interface SingleNodeReport {
  readonly seed: number;
  readonly settings: SingleNodeSettings;
  readonly violations: readonly object[];
  readonly powerCuts: number;
  readonly requests: number;
  /** Requests that changed something, or not, without an answer. */
  readonly uncertain: number;
  readonly timestamps: number;
  readonly diskOperations: number;
  /** Of everything that happened, in order: equal for equal seeds. */
  readonly trace: string;
}

export async function simulateSingleNode(seed: number): Promise<SingleNodeReport> {
  const prng = createPrng(seed);
  const world = new World(seed, prng, drawSettings(prng));
  for (let life = 0; life < world.settings.lives; life++) await world.live(life === world.settings.lives - 1);
  return world.report();
}

function drawSettings(prng: Prng): SingleNodeSettings {
  return {
    lives: 2 + prng.below(8),
    rounds: 5 + prng.below(30),
    callers: 1 + prng.below(12),
    segmentBytes: prng.pick([4096, 8192, 16_384]),
    windowAheadMs: prng.pick([1, 10, 100, 3_000]),
    failoverAdvanceMs: prng.pick([1, 5, 1_000]),
    clock: prng.pick(["steady", "frozen", "wild"]),
    powerCut: prng.pick(["drops", "keeps", "tears"]),
    orderly: prng.pick([0, 0.2, 0.8]),
    operationsPerLife: prng.pick([5, 30, 200]),
  };
}

class World {
  readonly settings: SingleNodeSettings;
  readonly #seed: number;
  readonly #prng: Prng;
  readonly #trace = createHash("sha256");
  #disk = new FaultyDisk();
  #clockMs = 1_800_000_000_000;
  #highestClockMs = this.#clockMs;
  /** The one clock of all histories: it counts what happens. */
  #moment = 0n;
  #powerCuts = 0;
  #requests = 0;
  #diskOperations = 0;
  /** Set while the machine has no power: what a process still computes then is seen by nobody. */
  #dark = false;
  readonly #timestamps: TimestampGrant[] = [];
  readonly #safePoints: SafePointRead[] = [];
  readonly #sequences: SequenceRequest[] = [];
  readonly #reads: SequenceRead[] = [];
  readonly #leases: { [Name in keyof LeaseHistory]: LeaseHistory[Name][number][] } = {
    grants: [],
    uncertainRenewals: [],
    releases: [],
    unknown: [],
    frontiers: [],
    highWaters: [],
  };

  constructor(seed: number, prng: Prng, settings: SingleNodeSettings) {
    this.#seed = seed;
    this.#prng = prng;
    this.settings = settings;
  }

  /** From a start to a power cut or a close. The last life is left in peace, so that the histories end with what is on the disk. */
  async live(last: boolean): Promise<void> {
    const { rounds, orderly, operationsPerLife } = this.settings;
    this.#dark = false;
    const cutAt = last || this.#prng.chance(orderly) ? Number.POSITIVE_INFINITY : 1 + this.#prng.below(operationsPerLife * 2);
    const disk = this.#disk;
    disk.before = ({ number, name }) => {
      this.#note("disk", number, name);
      if (number >= cutAt && !this.#dark) this.#cutPower();
    };
    const driver = await this.#open(disk);
    if (driver !== undefined) {
      const timers = new VirtualTimers();
      const options = {
        driver,
        clock: () => this.#readClock(),
        windowAheadMs: this.settings.windowAheadMs,
        leaseTtlFloorMs: 1,
        limits: { maxKeys: 3 },
      };
      const serving = new Serving(resolveServerOptions({ ...options, failoverAdvanceMs: this.settings.failoverAdvanceMs }), timers);
      const ended = serving.run().catch((error: unknown) => this.#onEnd(error));
      for await (const state of serving.states()) if (state.type === "serving") break;
      for (let round = 0; round < rounds && !this.#dark; round++) await this.#round(serving, timers);
      if (last) await this.#readAll(serving);
      serving.stop();
      await ended;
      await driver.close().catch(() => undefined); // a disk without power cannot be closed either
    }
    this.#diskOperations += disk.operations;
    if (!this.#dark) this.#disk = disk.kill();
  }

  report(): SingleNodeReport {
    const sequences = checkSequence({ requests: this.#sequences, reads: this.#reads });
    return {
      seed: this.#seed,
      settings: this.settings,
      violations: [
        ...checkTimestampOrder(this.#timestamps),
        ...checkSafePoint(this.#safePoints, this.#timestamps),
        ...sequences.violations,
        ...checkLeases(this.#leases),
      ],
      powerCuts: this.#powerCuts,
      requests: this.#requests,
      uncertain: this.#sequences.filter(({ answer }) => answer === undefined).length + this.#leases.uncertainRenewals.length,
      timestamps: this.#timestamps.reduce((sum, { count }) => sum + count, 0),
      diskOperations: this.#diskOperations,
      trace: this.#trace.digest("hex"),
    };
  }

  #cutPower(): void {
    const { powerCut } = this.settings;
    const what: PowerCut = powerCut === "tears" ? this.#prng : powerCut;
    this.#dark = true;
    this.#powerCuts += 1;
    this.#note("power cut");
    this.#disk = this.#disk.powerCut(what);
  }

  async #open(disk: FaultyDisk): Promise<ConsensusDriver | undefined> {
    try {
      return await fileDriver({ directory: DIRECTORY, disk, segmentBytes: this.settings.segmentBytes });
    } catch (error) {
      if (this.#dark) return undefined;
      throw error; // what a power cut left must open
    }
  }

  #onEnd(error: unknown): void {
    if (!this.#dark) throw error;
  }

  /** Some callers ask at once; the clock moves while they wait. */
  async #round(serving: Serving, timers: VirtualTimers): Promise<void> {
    const asking = Array.from({ length: 1 + this.#prng.below(this.settings.callers) }, () => this.#ask(serving));
    if (this.#prng.chance(0.3)) timers.fire();
    this.#moveClock();
    await Promise.all(asking);
  }

  #ask(serving: Serving): Promise<void> {
    this.#requests += 1;
    const ask = this.#prng.pick([
      () => this.#askTimestamps(serving),
      () => this.#askTimestamps(serving),
      () => this.#askBlocks(serving),
      () => this.#askBlocks(serving),
      () => this.#askLease(serving),
      () => this.#askRenewal(serving),
      () => this.#askRelease(serving),
      () => this.#askBounds(serving),
    ]);
    return ask();
  }

  async #askTimestamps(serving: Serving): Promise<void> {
    const count = this.#prng.pick([1, 1, 2, 100, 62_144, 200_000, 262_144]);
    const { answer, ...times } = await this.#observe(() => serving.getTs(count));
    if (!answer?.ok) return;
    const { physicalMs, logicalStart } = answer.value.grant;
    const first = (BigInt(physicalMs) << 18n) | BigInt(logicalStart);
    this.#note("timestamps", first, count);
    this.#timestamps.push({ first, count, ...times });
  }

  async #askBlocks(serving: Serving): Promise<void> {
    const keys = KEYS.filter(() => this.#prng.chance(0.4));
    const blocks = (keys.length === 0 ? [KEYS[0]] : keys).map((key) => ({ key, count: 1 + this.#prng.below(4) }));
    const { answer, ...times } = await this.#observe(() => serving.getBlocks(blocks));
    if (answer === undefined || isUncertain(answer)) this.#sequences.push({ blocks, invokedAt: times.invokedAt, endedAt: times.respondedAt });
    if (!answer?.ok) return;
    const { starts } = answer.value;
    this.#note("blocks", ...starts);
    this.#sequences.push({ blocks, invokedAt: times.invokedAt, answer: { starts, respondedAt: times.respondedAt } });
  }

  async #askLease(serving: Serving): Promise<void> {
    const name = this.#prng.pick(HOLDERS);
    const holderEpoch = BigInt(this.#prng.below(3));
    const ttlMs = BigInt(this.#prng.pick([1, 50, 5_000]));
    const { answer, ...times } = await this.#observe(() => serving.acquireLease({ holder: Buffer.from(name), holderEpoch, ttlMs }));
    if (answer?.ok) this.#granted("acquire", answer.value.lease, times);
  }

  async #askRenewal(serving: Serving): Promise<void> {
    const id = this.#anyLease();
    const { answer, ...times } = await this.#observe(() => serving.renewLease(id));
    if (answer === undefined || isUncertain(answer))
      this.#leases.uncertainRenewals.push({ id, invokedAt: times.invokedAt, endedAt: times.respondedAt });
    else if (answer.ok) this.#granted("renew", answer.value.lease, times);
    else if (answer.failure.details.startsWith("unknown lease")) {
      this.#leases.unknown.push({ id, atMs: BigInt(this.#highestClockMs), ...times });
    }
  }

  async #askRelease(serving: Serving): Promise<void> {
    const id = this.#anyLease();
    const { answer, invokedAt, respondedAt } = await this.#observe(() => serving.releaseLease(id));
    this.#leases.releases.push(answer?.ok ? { id, invokedAt, respondedAt } : { id, invokedAt });
  }

  async #askBounds(serving: Serving): Promise<void> {
    const { answer, ...times } = await this.#observe(async () => ({ safe: await serving.safePoint(), frontier: await serving.frontier() }));
    const atMs = BigInt(this.#highestClockMs);
    if (answer?.safe !== undefined) this.#safePoints.push({ safePhysicalMs: BigInt(answer.safe.physicalMs), ...times });
    if (answer?.frontier !== undefined) this.#leases.frontiers.push({ frontierMs: BigInt(answer.frontier.physicalMs), atMs, ...times });
  }

  /** What the disk holds in the end. */
  async #readAll(serving: Serving): Promise<void> {
    const { answer, ...times } = await this.#observe(() => serving.readView());
    if (!answer?.ok) throw new Error("the last life serves until its end");
    for (const [key, { next }] of answer.value.view.sequences()) this.#reads.push({ key, next, ...times });
    this.#leases.highWaters.push({ highWaterMs: BigInt(answer.value.view.highWater), ...times });
  }

  #granted(
    type: LeaseGrant["type"],
    lease: { id: number; holder: Uint8Array; holderEpoch: bigint; bound: number; expiresAtMs: number },
    times: Times,
  ): void {
    this.#note(type, lease.id, lease.bound);
    const holder = `${Buffer.from(lease.holder)} ${lease.holderEpoch}`;
    this.#leases.grants.push({ type, id: BigInt(lease.id), holder, bound: BigInt(lease.bound), expiresAtMs: BigInt(lease.expiresAtMs), ...times });
  }

  /** An id that was given out, or one that was not. */
  #anyLease(): bigint {
    const { grants } = this.#leases;
    return grants.length === 0 ? 1n : (grants[this.#prng.below(grants.length)]?.id ?? 1n);
  }

  /** No answer where the power went before it could be seen. */
  async #observe<T>(ask: () => Promise<T>): Promise<Times & { readonly answer: T | undefined }> {
    const invokedAt = this.#next();
    const answer = await ask();
    return { invokedAt, respondedAt: this.#next(), answer: this.#dark ? undefined : answer };
  }

  #next(): bigint {
    this.#moment += 1n;
    return this.#moment;
  }

  #readClock(): number {
    this.#highestClockMs = Math.max(this.#highestClockMs, this.#clockMs);
    return this.#clockMs;
  }

  /** A wild clock jumps, but never as far as a server would refuse to follow. */
  #moveClock(): void {
    const { clock } = this.settings;
    if (clock === "steady") this.#clockMs += this.#prng.below(20);
    if (clock === "wild") this.#clockMs += this.#prng.pick([0, 1, 50, 5_000, 3_600_000, -1, -100, -10_000]);
  }

  #note(...what: readonly unknown[]): void {
    this.#trace.update(`${what.join(" ")}\n`);
  }
}

interface Times {
  readonly invokedAt: bigint;
  readonly respondedAt: bigint;
}

function isUncertain(answer: Answer<unknown>): boolean {
  return !answer.ok && answer.failure.details.includes("outcome is unknown");
}

/** Time that passes when the simulation says so. */
class VirtualTimers implements Timers {
  readonly #repeating = new Set<() => void>();

  every(_ms: number, run: () => void): () => void {
    this.#repeating.add(run);
    return () => this.#repeating.delete(run);
  }

  wait(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  fire(): void {
    for (const run of this.#repeating) run();
  }
}
