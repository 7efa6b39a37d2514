/**
 * What every `ConsensusDriver` must do, as data: run each test with the runner of your choice. A driver that passes may stand under a server.
 */
import assert from "node:assert/strict";
import { type Epoch, epoch } from "../base/epoch.ts";
import { OracleError } from "../base/errors.ts";
import type { ConsensusDriver, OracleView, ServedLeadership, Submitted } from "../oracle/driver.ts";
import type { BlockRequest, OracleCommand, OracleOutcome } from "../oracle/rules/command.ts";
import { DEFAULT_LIMITS, type OracleLimits } from "../oracle/rules/limits.ts";
import type { Lease } from "../oracle/rules/state.ts";

/** A driver made for one test: on a store of its own that nobody has used. It leads, or will soon. */
export interface DriverUnderTest {
  readonly driver: ConsensusDriver;
  /** A restart: closes the driver that was made or opened last, and opens another on what it left. For drivers whose state outlives them. */
  readonly reopen?: (() => Promise<ConsensusDriver>) | undefined;
  /** Another node takes over: commits of earlier reigns are fenced from now on, and the driver has not heard of it. For scripted leadership. */
  readonly depose?: (() => void | Promise<void>) | undefined;
  /** This node leads again, in a new reign. Needed where `depose` is given. */
  readonly lead?: (() => void | Promise<void>) | undefined;
  /** Called at the end of the test, however it ended. */
  readonly cleanUp?: (() => void | Promise<void>) | undefined;
}

export interface ConformanceTest {
  readonly name: string;
  /** Leave the test out where drivers under test do not offer this: without it `run` fails. */
  readonly needs?: "reopen" | "depose" | undefined;
  run(): Promise<void>;
}

type Body = (test: DriverTest) => Promise<void>;

/** A test fails by throwing, or by not ending. Each calls `make` once, and closes all that it made. */
export function driverConformance(make: () => Promise<DriverUnderTest>): readonly ConformanceTest[] {
  const test = (name: string, body: Body, needs?: ConformanceTest["needs"]): ConformanceTest => ({
    name,
    needs,
    run: async () => {
      const running = new DriverTest(await make());
      try {
        await body(running);
      } finally {
        await running.end();
      }
    },
  });
  return [
    test("tells the current leadership first, to each subscriber", currentLeadershipFirst),
    test("has one subscriber at a time", oneSubscriber),
    test("lets go of a subscriber that aborts", abortedSubscriber),
    test("does nothing before the first take-over", nothingBeforeTakeOver),
    test("takes over, and shows it", takesOver),
    test("applies commands in the order of their submission", submissionOrder),
    test("shares its commits among callers without mixing them up", concurrentCallers),
    test("grants all blocks of a group or none", groupAtomicity),
    test("shows what it answered, at once", viewEqualsOutcomes),
    test("fences a command of another epoch, which changes nothing", staleEpoch),
    test("takes a sequence command that names no epoch", sequenceWithoutEpoch),
    test("confirms its own reign and no other", confirmsOwnReign),
    test("keeps the limits of the first take-over", keepsLimits),
    test("settles what was submitted before it is closed, and takes nothing after", closes),
    test("raises its epoch with each restart", epochsIncrease, "reopen"),
    test("keeps sequences gapless over restarts", sequencesOverRestart, "reopen"),
    test("keeps leases over restarts", leasesOverRestart, "reopen"),
    test("keeps the high water and the limits over restarts", windowOverRestart, "reopen"),
    test("fences what is left of an earlier process", earlierProcess, "reopen"),
    test("commits nothing once another node took over", deposed, "depose"),
  ];
}

const NOW = 1_700_000_000_000;
const FAILOVER_ADVANCE_MS = 100;
const HOLDER = Uint8Array.of(1, 2, 3);

async function currentLeadershipFirst({ driver }: DriverTest): Promise<void> {
  for (let subscriber = 1; subscriber <= 2; subscriber++) {
    const events = driver.leadership()[Symbol.asyncIterator]();
    const first = await events.next();
    assert.equal(first.done, false, "a driver that is open has a leadership to tell of");
    assert.ok(["leader", "follower", "unknown"].includes(first.value?.role ?? ""), "it is one of three roles");
    await events.return?.();
  }
}

async function oneSubscriber(test: DriverTest): Promise<void> {
  const reign = await test.takeOver();
  await rejectsWith("TSO_ALREADY_SUBSCRIBED", test.driver.leadership()[Symbol.asyncIterator]().next());
  assert.equal(await test.driver.confirm(reign), true, "the refused subscriber did not disturb the first");
  assert.deepEqual(await test.grant("key", 1), [0n]);
  await test.unsubscribe();
  const again = await test.reign();
  assert.ok(again >= reign, "the next subscriber is told of this reign, or of a later one");
}

async function abortedSubscriber(test: DriverTest): Promise<void> {
  const controller = new AbortController();
  const events = test.driver.leadership({ signal: controller.signal })[Symbol.asyncIterator]();
  await events.next();
  const waiting = events.next();
  controller.abort();
  let next = await waiting;
  while (next.done !== true) next = await events.next(); // what had happened before may still be told
  await test.reign();
}

async function nothingBeforeTakeOver(test: DriverTest): Promise<void> {
  const reign = await test.reign();
  const early: readonly OracleCommand[] = [
    { type: "sequence", groups: [[{ key: "key", count: 1 }]] },
    { type: "sequence", epoch: reign, groups: [[{ key: "key", count: 1 }]] },
    { type: "advance", epoch: reign, now: NOW, atLeast: NOW },
    { type: "lease-acquire", epoch: reign, now: NOW, holder: HOLDER, holderEpoch: 1n, ttlMs: 1_000 },
  ];
  for (const command of early) {
    const submitted = await test.driver.submit(command);
    const refused = submitted.type === "fenced" || (submitted.type === "applied" && submitted.outcome.type === "refused");
    assert.ok(refused, `${command.type} came before a take-over, and was ${submitted.type}`);
  }
  assert.deepEqual(contentsOf(test.driver.view()), { sequences: [], leases: [], limits: undefined });
}

async function takesOver(test: DriverTest): Promise<void> {
  const reign = await test.reign();
  const first = await test.applied("taken-over", takeOver(reign));
  assert.ok(first.floor >= NOW, "a window begins no earlier than the clock of the leader");
  assert.equal(first.highWater, first.floor + FAILOVER_ADVANCE_MS);
  const view = test.driver.view();
  assert.deepEqual([view.highWater, view.frontier, view.fence, view.clock], [first.highWater, first.highWater, reign, NOW]);
  assert.deepEqual(view.limits, DEFAULT_LIMITS);
  const second = await test.applied("taken-over", takeOver(reign));
  assert.ok(second.floor > first.highWater, "a window begins above every window before it");
}

async function submissionOrder(test: DriverTest): Promise<void> {
  await test.takeOver();
  const settled: number[] = [];
  const starts = await Promise.all(
    Array.from({ length: 50 }, async (_, index) => {
      const [start] = await test.grant("key", index + 1);
      settled.push(index);
      return start;
    }),
  );
  let next = 0n;
  for (const [index, start] of starts.entries()) {
    assert.equal(start, next, `the block of submission ${index} follows those before it`);
    next += BigInt(index + 1);
  }
  assert.deepEqual(settled, [...starts.keys()], "answers come in the same order");
}

async function concurrentCallers(test: DriverTest): Promise<void> {
  const reign = await test.takeOver();
  const callers = Array.from({ length: 40 }, async (_, caller) => {
    const holder = Uint8Array.of(caller);
    const { lease } = await test.applied("lease", { ...acquire(reign), holder });
    assert.deepEqual([...lease.holder], [...holder], "the lease is the caller's");
    for (let turn = 0; turn < 5; turn++) {
      const [own] = await test.grant(`own ${caller}`, 2);
      assert.equal(own, BigInt(2 * turn), "the block is the caller's next");
      await test.grant("shared", 3);
    }
    return lease.id;
  });
  const ids = await Promise.all(callers);
  assert.equal(new Set(ids).size, 40, "no id is given twice");
  const view = test.driver.view();
  assert.deepEqual([view.leaseCount, view.sequenceCount], [40, 41]);
  assert.equal(view.sequence("shared")?.next, 600n);
}

async function groupAtomicity(test: DriverTest): Promise<void> {
  await test.takeOver();
  const good: BlockRequest[] = [
    { key: "a", count: 2 },
    { key: "b", count: 3 },
  ];
  const bad: BlockRequest[] = [...good, { key: "c", count: 0 }];
  const { groups } = await test.applied("sequence", { type: "sequence", groups: [good, bad, good] });
  assert.deepEqual(
    groups.map((group) => (group.type === "granted" ? group.starts : group.refusal.reason)),
    [[0n, 0n], "invalid-count", [2n, 3n]],
  );
  assert.deepEqual(contentsOf(test.driver.view()).sequences, [
    ["a", 0n, 4n],
    ["b", 0n, 6n],
  ]);
}

async function viewEqualsOutcomes(test: DriverTest): Promise<void> {
  const reign = await test.takeOver();
  const { driver } = test;
  const { highWater } = await test.applied("advanced", { type: "advance", epoch: reign, now: NOW, atLeast: NOW + 10_000 });
  assert.deepEqual([highWater, driver.view().highWater], [NOW + 10_000, NOW + 10_000]);
  const acquired = await test.applied("lease", acquire(reign));
  assert.deepEqual(plain(driver.view().lease(acquired.lease.id)), plain(acquired.lease));
  assert.deepEqual(plain(driver.view().leaseOf(HOLDER)), plain(acquired.lease));
  assert.equal(driver.view().highWater, acquired.highWater);
  assert.ok(acquired.lease.bound <= acquired.highWater, "a bound is at most the durable high water");
  await test.applied("advanced", { type: "advance", epoch: reign, now: NOW, atLeast: NOW + 90_000 });
  assert.equal(driver.view().frontier, acquired.lease.bound, "the frontier is held by the lease");
  const { sequence } = await test.applied("sequence-ready", { type: "sequence-init", epoch: reign, key: "key", first: 7n });
  assert.deepEqual(driver.view().sequence("key"), sequence);
  assert.deepEqual(await test.grant("key", 5), [7n]);
  assert.deepEqual(driver.view().sequence("key"), { first: 7n, next: 12n });
  const { lease } = await test.applied("lease", { type: "lease-renew", epoch: reign, now: NOW + 10, id: acquired.lease.id });
  assert.deepEqual(plain(driver.view().lease(lease.id)), plain(lease));
  await test.applied("released", { type: "lease-release", epoch: reign, now: NOW, id: lease.id });
  assert.deepEqual([driver.view().leaseCount, driver.view().lease(lease.id)], [0, undefined]);
  assert.equal(driver.view().frontier, driver.view().highWater);
}

async function staleEpoch(test: DriverTest): Promise<void> {
  const reign = await test.takeOver();
  const { lease } = await test.applied("lease", acquire(reign));
  const before = everythingIn(test.driver.view());
  for (const other of [epoch(reign - 1n), epoch(reign + 1n), epoch(reign + 2n ** 64n)]) {
    const commands: readonly OracleCommand[] = [
      takeOver(other),
      { type: "advance", epoch: other, now: NOW, atLeast: NOW + 50_000 },
      { type: "expire", epoch: other, now: NOW + 50_000 },
      { type: "sequence", epoch: other, groups: [[{ key: "key", count: 1 }]] },
      { type: "sequence-init", epoch: other, key: "key", first: 1n },
      { ...acquire(other), holderEpoch: 2n },
      { type: "lease-renew", epoch: other, now: NOW, id: lease.id },
      { type: "lease-release", epoch: other, now: NOW, id: lease.id },
    ];
    for (const command of commands) assert.equal((await test.driver.submit(command)).type, "fenced", `${command.type} of epoch ${other}`);
  }
  assert.deepEqual(everythingIn(test.driver.view()), before);
  assert.deepEqual(await test.grant("key", 1), [0n], "and the reign goes on");
}

async function sequenceWithoutEpoch(test: DriverTest): Promise<void> {
  const reign = await test.takeOver();
  const group = [{ key: "key", count: 3 }];
  assert.deepEqual((await test.applied("sequence", { type: "sequence", groups: [group] })).groups, [{ type: "granted", starts: [0n] }]);
  assert.deepEqual((await test.applied("sequence", { type: "sequence", epoch: reign, groups: [group] })).groups, [{ type: "granted", starts: [3n] }]);
  const { sequence } = await test.applied("sequence-ready", { type: "sequence-init", key: "other", first: 9n });
  assert.deepEqual(sequence, { first: 9n, next: 9n });
}

async function confirmsOwnReign(test: DriverTest): Promise<void> {
  const reign = await test.takeOver();
  assert.equal(await test.driver.confirm(reign), true);
  for (const other of [epoch(reign - 1n), epoch(reign + 1n), epoch(reign + 2n ** 64n)]) assert.equal(await test.driver.confirm(other), false);
  await test.driver.close();
  assert.equal(await test.driver.confirm(reign), false, "a driver that let go of its store knows nothing of later reigns");
}

async function keepsLimits(test: DriverTest): Promise<void> {
  const reign = await test.takeOver();
  await refusesOtherLimits(test, reign);
  assert.deepEqual(await test.grant("key", 1), [0n], "the refusal ended nothing");
}

async function closes(test: DriverTest): Promise<void> {
  const reign = await test.takeOver();
  const { driver } = test;
  const events = test.events();
  const submitted = Array.from({ length: 10 }, () => driver.submit({ type: "sequence", groups: [[{ key: "key", count: 1 }]] }));
  await driver.close();
  const settled = await Promise.all(submitted);
  for (const each of settled) assert.notEqual(each.type, "fenced", "the reign was not over");
  const applied = settled.filter(({ type }) => type === "applied").length;
  assert.ok((driver.view().sequence("key")?.next ?? 0n) >= BigInt(applied), "what was answered is in the view");
  const late = await driver.submit({ type: "advance", epoch: reign, now: NOW, atLeast: NOW });
  assert.deepEqual([late.type, "reason" in late && late.reason], ["not-applied", "closed"]);
  await driver.close();
  let next = await events.next();
  while (next.done !== true) next = await events.next();
}

async function epochsIncrease(test: DriverTest): Promise<void> {
  let last = await test.reign();
  for (let restart = 1; restart <= 5; restart++) {
    await test.reopen();
    const next = restart % 2 === 0 ? await test.takeOver() : await test.reign();
    assert.ok(next > last, `epoch ${next} came after ${last}`);
    last = next;
  }
}

async function sequencesOverRestart(test: DriverTest): Promise<void> {
  let next = 0n;
  for (let restart = 0; restart < 4; restart++) {
    await test.takeOver();
    for (let count = 1; count <= 3; count++) {
      assert.deepEqual(await test.grant("key", count), [next]);
      next += BigInt(count);
    }
    await test.reopen();
  }
}

async function leasesOverRestart(test: DriverTest): Promise<void> {
  const first = await test.applied("lease", acquire(await test.takeOver()));
  await test.reopen();
  const reign = await test.takeOver();
  const { driver } = test;
  assert.deepEqual(plain(driver.view().lease(first.lease.id)), plain(first.lease));
  assert.ok(driver.view().frontier <= first.lease.bound, "the frontier is held across restarts");
  assert.ok(driver.view().highWater > first.highWater);
  assert.deepEqual(plain((await test.applied("lease", acquire(reign))).lease), plain(first.lease), "who holds it already is answered so");
  const renewed = await test.applied("lease", { type: "lease-renew", epoch: reign, now: NOW + 5, id: first.lease.id });
  assert.ok(renewed.lease.bound >= first.lease.bound, "a renewal never lowers a bound");
  await test.applied("released", { type: "lease-release", epoch: reign, now: NOW, id: first.lease.id });
  await test.reopen();
  const again = await test.applied("lease", { ...acquire(await test.takeOver()), holderEpoch: 2n });
  assert.ok(again.lease.id > renewed.highWater, "an id is never used twice");
  assert.equal(test.driver.view().leaseCount, 1, "what was released stays so");
}

async function windowOverRestart(test: DriverTest): Promise<void> {
  const reign = await test.takeOver();
  const { highWater } = await test.applied("advanced", { type: "advance", epoch: reign, now: NOW, atLeast: NOW + 5_000 });
  await test.reopen();
  const later = await test.reign();
  const { floor } = await test.applied("taken-over", takeOver(later));
  assert.ok(floor > highWater, "no timestamp can be granted again");
  assert.deepEqual(test.driver.view().limits, DEFAULT_LIMITS);
  await refusesOtherLimits(test, later);
}

async function earlierProcess(test: DriverTest): Promise<void> {
  const earlier = await test.takeOver();
  await test.reopen();
  await test.reign();
  // Also before the new process took over itself: its mere start raised the epoch of whatever it writes.
  const late = await test.driver.submit({ type: "advance", epoch: earlier, now: NOW, atLeast: NOW + 50_000 });
  assert.equal(late.type, "fenced");
  const { highWater } = test.driver.view();
  assert.ok(highWater < NOW + 50_000);
  assert.equal(await test.driver.confirm(earlier), false);
}

async function deposed(test: DriverTest): Promise<void> {
  const reign = await test.takeOver();
  await test.grant("key", 3);
  await test.depose();
  const late = await test.driver.submit({ type: "sequence", epoch: reign, groups: [[{ key: "key", count: 1 }]] });
  assert.equal(late.type, "fenced");
  const anonymous = await test.driver.submit({ type: "sequence", groups: [[{ key: "key", count: 1 }]] });
  assert.notEqual(anonymous.type, "applied", "nobody's commands are applied by a leader that is none");
  await test.lead();
  assert.ok((await test.takeOver()) > reign);
  assert.deepEqual(await test.grant("key", 1), [3n]);
}

async function refusesOtherLimits(test: DriverTest, reign: Epoch): Promise<void> {
  const limits: OracleLimits = { ...DEFAULT_LIMITS, maxKeys: DEFAULT_LIMITS.maxKeys + 1 };
  const { refusal } = await test.applied("refused", { ...takeOver(reign), limits });
  assert.deepEqual(refusal, { reason: "limits-differ", name: "maxKeys", kept: DEFAULT_LIMITS.maxKeys, asked: limits.maxKeys });
  assert.deepEqual(test.driver.view().limits, DEFAULT_LIMITS);
}

/** One test's driver, with its one subscriber. */
class DriverTest {
  driver: ConsensusDriver;
  readonly #made: DriverUnderTest;
  #events: AsyncIterator<ServedLeadership> | undefined;

  constructor(made: DriverUnderTest) {
    this.#made = made;
    this.driver = made.driver;
  }

  /** The subscription that `reign` began. */
  events(): AsyncIterator<ServedLeadership> {
    this.#events ??= this.driver.leadership()[Symbol.asyncIterator]();
    return this.#events;
  }

  /** The reign that the driver tells of, once it leads. */
  async reign(): Promise<Epoch> {
    for (;;) {
      const { done, value } = await this.events().next();
      assert.equal(done, false, "the leadership goes on while the driver is open");
      if (value?.role === "leader") return value.epoch;
    }
  }

  async takeOver(): Promise<Epoch> {
    const reign = await this.reign();
    await this.applied("taken-over", takeOver(reign));
    return reign;
  }

  async applied<Type extends OracleOutcome["type"]>(type: Type, command: OracleCommand): Promise<Extract<OracleOutcome, { type: Type }>> {
    const submitted: Submitted = await this.driver.submit(command);
    assert.equal(submitted.type, "applied", `${command.type}: ${"detail" in submitted ? submitted.detail : ""}`);
    const { outcome } = submitted as Extract<Submitted, { type: "applied" }>;
    assert.equal(
      outcome.type,
      type,
      `${command.type} was answered with ${JSON.stringify(outcome, (_, raw) => (typeof raw === "bigint" ? `${raw}` : raw))}`,
    );
    return outcome as Extract<OracleOutcome, { type: Type }>;
  }

  /** The first values of a block for one key. */
  async grant(key: string, count: number): Promise<readonly bigint[]> {
    const { groups } = await this.applied("sequence", { type: "sequence", groups: [[{ key, count }]] });
    assert.deepEqual(
      groups.map(({ type }) => type),
      ["granted"],
    );
    return groups.flatMap((group) => (group.type === "granted" ? group.starts : []));
  }

  async unsubscribe(): Promise<void> {
    await this.#events?.return?.();
    this.#events = undefined;
  }

  async reopen(): Promise<void> {
    const { reopen } = this.#made;
    assert.ok(reopen !== undefined, "this test needs `reopen`");
    await this.unsubscribe();
    this.driver = await reopen();
  }

  async depose(): Promise<void> {
    const { depose } = this.#made;
    assert.ok(depose !== undefined, "this test needs `depose`");
    await depose();
  }

  async lead(): Promise<void> {
    const { lead } = this.#made;
    assert.ok(lead !== undefined, "this test needs `lead`");
    await lead();
  }

  async end(): Promise<void> {
    try {
      await this.driver.close();
      await this.unsubscribe();
    } finally {
      await this.#made.cleanUp?.();
    }
  }
}

function takeOver(reign: Epoch) {
  const window = { now: NOW, failoverAdvanceMs: FAILOVER_ADVANCE_MS, maxClockJumpMs: 86_400_000 };
  return { type: "take-over", epoch: reign, ...window, limits: DEFAULT_LIMITS } as const;
}

function acquire(reign: Epoch) {
  return { type: "lease-acquire", epoch: reign, now: NOW, holder: HOLDER, holderEpoch: 1n, ttlMs: 60_000 } as const;
}

function contentsOf(view: OracleView) {
  return {
    sequences: [...view.sequences()].map(([key, { first, next }]) => [key, first, next] as const).sort(([a], [b]) => (a < b ? -1 : 1)),
    leases: [...view.leases()].map(plain).sort((a, b) => (a?.id ?? 0) - (b?.id ?? 0)),
    limits: view.limits,
  };
}

function everythingIn(view: OracleView) {
  const { clock, highWater, fence, sequenceCount, leaseCount, frontier } = view;
  return { ...contentsOf(view), clock, highWater, fence, sequenceCount, leaseCount, frontier };
}

/** A lease in a form that compares: bytes that were read may be a Buffer. */
function plain(lease: Lease | undefined) {
  return lease === undefined ? undefined : { ...lease, holder: [...lease.holder] };
}

async function rejectsWith(code: OracleError["code"], work: Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error) => error instanceof OracleError && error.code === code);
}
