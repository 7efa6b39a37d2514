/**
 * Two nodes that serve from one row, each with a clock of its own and its own idea of who leads, and everything that their clients asked and were
 * told. A script says what happens; the checkers judge the history.
 */
import { status } from "@grpc/grpc-js";
import type { ConsensusDriver } from "../../src/oracle/driver.ts";
import { storeDriver } from "../../src/oracle/drivers/store.ts";
import type { Answer } from "../../src/server/answer.ts";
import { resolveServerOptions } from "../../src/server/options.ts";
import { Serving } from "../../src/server/serving.ts";
import {
  type Answered,
  checkLeases,
  checkSafePoint,
  checkTimestampOrder,
  type FrontierRead,
  type LeaseGrant,
  type Release,
  type SafePointRead,
  type TimestampGrant,
  type UnknownLease,
} from "../../src/testing/checkers.ts";
import { checkSequence, type SequenceRead, type SequenceRequest } from "../../src/testing/sequence-checker.ts";
import { type Deferred, deferred } from "./deferred.ts";
import { START_MS } from "./served.ts";
import { ManualTimers, settle } from "./serving.ts";
import { type SharedProcess, SharedRow, type Trouble } from "./shared-store.ts";

export type Outcome = "fails" | "stored" | "fenced" | "goes well";

/** One of the two, or the one that was last told that it leads. */
export type Which = "first" | "second" | "newest";

export type Happening =
  | { readonly type: "ask"; readonly node: Which; readonly what: Question }
  /** The node is told that it leads, in a reign above all others; what the other one is told stays as it was. */
  | { readonly type: "lead"; readonly node: Which }
  | { readonly type: "follow" | "lose"; readonly node: Which }
  | { readonly type: "clock"; readonly node: Which; readonly by: number }
  /** The node's next commit, or opening, goes so. */
  | { readonly type: "trouble"; readonly node: Which; readonly on: "commit" | "open"; readonly outcome: Outcome }
  /** The node's next commit stalls until it is released, and goes as it is then told; or it is stored at once, and its answer stalls. */
  | { readonly type: "stall"; readonly node: Which; readonly what: "commit" | "answer" }
  | { readonly type: "release"; readonly outcome: Outcome }
  | { readonly type: "settle" }
  | { readonly type: "time"; readonly ms: number };

export type Question =
  | { readonly type: "timestamps"; readonly count: number }
  | { readonly type: "blocks"; readonly blocks: readonly { readonly key: string; readonly count: number }[] }
  | { readonly type: "safe point" | "frontier" | "read" }
  | { readonly type: "acquire"; readonly holder: number; readonly holderEpoch: bigint }
  /** Of the lease that was granted so many leases ago. */
  | { readonly type: "renew" | "give back"; readonly ago: number };

interface Node {
  readonly process: SharedProcess;
  readonly driver: ConsensusDriver;
  readonly serving: Serving;
  readonly timers: ManualTimers;
  readonly clock: { now: number };
  readonly ended: Promise<void>;
  /** Answers of commits that are yet to stall. */
  lateAnswers: number;
}

const KEYS = ["a", "b"];

export class SharedWorld {
  readonly row = new SharedRow();
  /** How much was granted, refused and left uncertain: a run in which nothing happens shows nothing. */
  readonly seen = { granted: 0, refused: 0, uncertain: 0, bothServed: false };
  readonly #nodes: readonly [Node, Node];
  #newest: Node;
  readonly #stalls: Deferred<Outcome>[] = [];
  readonly #asked: Promise<void>[] = [];
  readonly #timestamps: TimestampGrant[] = [];
  readonly #safePoints: SafePointRead[] = [];
  readonly #sequences: SequenceRequest[] = [];
  readonly #reads: SequenceRead[] = [];
  readonly #leases: LeaseGrant[] = [];
  readonly #renewals: { id: bigint; invokedAt: bigint; endedAt: bigint }[] = [];
  readonly #releases: Release[] = [];
  readonly #unknown: UnknownLease[] = [];
  readonly #frontiers: FrontierRead[] = [];
  /** The one clock of the history: it counts invocations and answers. */
  #moment = 0n;
  #latestMs = START_MS;

  constructor() {
    const [first, second] = [this.#start(), this.#start()];
    this.#nodes = [first, second];
    this.#newest = second;
  }

  async happen(next: Happening): Promise<void> {
    const [first, second] = this.#nodes;
    const node = "node" in next && next.node !== "newest" ? { first, second }[next.node] : this.#newest;
    switch (next.type) {
      case "ask":
        this.#asked.push(this.#ask(node, next.what));
        return;
      case "lead":
        node.process.lead();
        this.#newest = node;
        return;
      case "follow":
        node.process.leads.set({ role: "follower", leader: { epoch: this.row.fence } });
        return;
      case "lose":
        node.process.leads.set({ role: "unknown" });
        return;
      case "clock":
        node.clock.now += next.by;
        this.#latestMs = Math.max(this.#latestMs, node.clock.now);
        return;
      case "trouble":
        (next.on === "commit" ? node.process.troubles : node.process.openTroubles).push(() => troubleOf(next.outcome));
        return;
      case "stall":
        if (next.what === "answer") node.lateAnswers += 1;
        else node.process.troubles.push(() => this.#stall().then(troubleOf));
        return;
      case "release":
        this.#stalls.shift()?.resolve(next.outcome);
        return;
      case "settle":
        await settle();
        this.seen.bothServed ||= first.serving.state.type === "serving" && second.serving.state.type === "serving";
        return;
      case "time":
        for (const { timers } of this.#nodes) await timers.pass(next.ms);
        return;
    }
  }

  /** Heals everything, waits for every answer, and asks once more: whatever happened, the oracle goes on. */
  async heal(): Promise<void> {
    for (const node of this.#nodes) {
      node.process.troubles.length = 0;
      node.process.openTroubles.length = 0;
      node.lateAnswers = 0;
      node.clock.now = this.#latestMs;
    }
    const [healthy, other] = this.#nodes;
    other.process.leads.set({ role: "unknown" });
    healthy.process.lead();
    for (let turns = 0; turns < 10; turns++) {
      for (const stall of this.#stalls.splice(0)) stall.resolve("goes well");
      await settle();
      for (const { timers } of this.#nodes) await timers.pass(250);
    }
    await Promise.all(this.#asked.splice(0));
    const { granted } = this.seen;
    await this.#ask(healthy, { type: "timestamps", count: 1 });
    await this.#ask(healthy, { type: "blocks", blocks: KEYS.map((key) => ({ key, count: 1 })) });
    await this.#ask(healthy, { type: "frontier" });
    if (this.seen.granted !== granted + 2) throw new Error(`nothing is granted after everything was healed: ${healthy.serving.lastFault}`);
    for (const { serving, ended, driver } of this.#nodes) {
      serving.stop();
      await ended;
      await driver.close();
    }
  }

  violations(): readonly unknown[] {
    return [
      ...checkTimestampOrder(this.#timestamps),
      ...checkSafePoint(this.#safePoints, this.#timestamps),
      ...checkSequence({ requests: this.#sequences, reads: this.#reads }).violations,
      ...checkLeases({
        grants: this.#leases,
        uncertainRenewals: this.#renewals,
        releases: this.#releases,
        unknown: this.#unknown,
        frontiers: this.#frontiers,
        highWaters: [],
      }),
    ];
  }

  #start(): Node {
    const process = this.row.process();
    const clock = { now: START_MS };
    const timers = new ManualTimers();
    const driver = storeDriver({
      open: (epoch) => process.open(epoch),
      commit: async (changes, epoch) => {
        const answer = await process.commit(changes, epoch);
        if (node.lateAnswers > 0) {
          node.lateAnswers -= 1;
          if ((await this.#stall()) !== "goes well") throw new Error("the answer was lost");
        }
        return answer;
      },
      leadership: (options) => process.leadership(options),
      close: () => process.close(),
    });
    const options = { driver, clock: () => clock.now, windowAheadMs: 20, failoverAdvanceMs: 10, leaseTtlFloorMs: 1 };
    const serving = new Serving(resolveServerOptions(options), timers);
    const node: Node = { process, driver, serving, timers, clock, ended: serving.run(), lateAnswers: 0 };
    return node;
  }

  #stall(): Promise<Outcome> {
    const stall = deferred<Outcome>();
    this.#stalls.push(stall);
    return stall.promise;
  }

  async #ask(node: Node, what: Question): Promise<void> {
    const { serving } = node;
    const invokedAt = this.#tick();
    const times = (): Answered => ({ invokedAt, respondedAt: this.#tick() });
    switch (what.type) {
      case "timestamps": {
        const answer = await serving.getTs(what.count);
        if (!this.#isGranted(answer)) return;
        const { physicalMs, logicalStart, count } = answer.value.grant;
        this.#timestamps.push({ ...times(), first: (BigInt(physicalMs) << 18n) + BigInt(logicalStart), count });
        return;
      }
      case "blocks": {
        const answer = await serving.getBlocks(what.blocks);
        const granted = this.#isGranted(answer);
        const { respondedAt } = times();
        if (granted) this.#sequences.push({ blocks: what.blocks, invokedAt, answer: { starts: answer.value.starts, respondedAt } });
        else if (isUncertain(answer)) this.#sequences.push({ blocks: what.blocks, invokedAt, endedAt: respondedAt });
        return;
      }
      case "read": {
        const answer = await serving.readView();
        if (!answer.ok) return;
        for (const [key, { next }] of answer.value.view.sequences()) this.#reads.push({ key, next, ...times() });
        return;
      }
      case "safe point": {
        const point = await serving.safePoint();
        if (point !== undefined) this.#safePoints.push({ ...times(), safePhysicalMs: BigInt(point.physicalMs) });
        return;
      }
      case "frontier": {
        const frontier = await serving.frontier();
        if (frontier === undefined) return;
        this.#frontiers.push({ ...times(), frontierMs: BigInt(frontier.physicalMs), atMs: BigInt(this.#latestMs) });
        return;
      }
      case "acquire": {
        const { holder, holderEpoch } = what;
        const answer = await serving.acquireLease({ holder: new Uint8Array([holder]), holderEpoch, ttlMs: 50n });
        if (this.#isGranted(answer)) this.#pushLease("acquire", `${holder} ${holderEpoch}`, answer.value.lease, times());
        return;
      }
      case "renew": {
        const lease = this.#leases.at(-1 - what.ago);
        if (lease === undefined) return;
        const { id } = lease;
        const answer = await serving.renewLease(id);
        if (this.#isGranted(answer)) this.#pushLease("renew", lease.holder, answer.value.lease, times());
        else if (isUncertain(answer)) this.#renewals.push({ id, invokedAt, endedAt: this.#tick() });
        else if (answer.failure.code === status.NOT_FOUND) this.#unknown.push({ id, atMs: BigInt(this.#latestMs), ...times() });
        return;
      }
      case "give back": {
        const lease = this.#leases.at(-1 - what.ago);
        if (lease === undefined) return;
        const release: { -readonly [Name in keyof Release]: Release[Name] } = { id: lease.id, invokedAt };
        this.#releases.push(release);
        if ((await serving.releaseLease(lease.id)).ok) release.respondedAt = this.#tick();
        return;
      }
    }
  }

  #pushLease(type: LeaseGrant["type"], holder: string, lease: { id: number; bound: number; expiresAtMs: number }, times: Answered): void {
    const { id, bound, expiresAtMs } = lease;
    this.#leases.push({ type, holder, id: BigInt(id), bound: BigInt(bound), expiresAtMs: BigInt(expiresAtMs), ...times });
  }

  #isGranted<T>(answer: Answer<T>): answer is Extract<Answer<T>, { ok: true }> {
    this.seen[answer.ok ? "granted" : isUncertain(answer) ? "uncertain" : "refused"] += 1;
    return answer.ok;
  }

  #tick(): bigint {
    this.#moment += 1n;
    return this.#moment;
  }
}

/** What only these two statuses leave open: whether it was done. */
function isUncertain(answer: Answer<unknown>): boolean {
  return !answer.ok && (answer.failure.code === status.UNAVAILABLE || answer.failure.code === status.INTERNAL);
}

function troubleOf(outcome: Outcome): ReturnType<Trouble> {
  switch (outcome) {
    case "fails":
      return new Error("no route");
    case "goes well":
      return undefined;
    case "stored":
    case "fenced":
      return outcome;
  }
}
