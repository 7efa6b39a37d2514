/** The oracle on a fenced store that is slow, fails, forgets to answer, and belongs to others as well. */
import { describe, expect, test } from "vitest";
import { type Epoch, epoch } from "../../../src/base/epoch.ts";
import { OracleError } from "../../../src/base/errors.ts";
import { InvariantViolation } from "../../../src/base/invariant.ts";
import type { ConsensusDriver, ServedLeadership, Submitted } from "../../../src/oracle/driver.ts";
import { type MemoryCommit, memoryDriver } from "../../../src/oracle/drivers/memory.ts";
import { storeDriver } from "../../../src/oracle/drivers/store.ts";
import type { OracleCommand } from "../../../src/oracle/rules/command.ts";
import { resolveLimits } from "../../../src/oracle/rules/limits.ts";
import { deferred } from "../../support/deferred.ts";
import { type SharedProcess, SharedRow } from "../../support/shared-store.ts";

const LIMITS = resolveLimits({ maxKeys: 100_000 });
const ONE: OracleCommand = { type: "sequence", groups: [[{ key: "key", count: 1 }]] };

describe("group commit", () => {
  test("commands of one turn share one commit", async () => {
    const driver = memoryDriver();
    await subscribed(driver);
    const { commits } = driver;
    const submitted = await Promise.all(Array.from({ length: 1_000 }, () => driver.submit(ONE)));
    expect(starts(submitted)).toEqual(Array.from({ length: 1_000 }, (_, start) => BigInt(start)));
    expect(driver.commits - commits).toBe(1);
  });

  test("what arrives while a commit is in flight goes in the next one", async () => {
    const driver = memoryDriver();
    await subscribed(driver);
    const { commits } = driver;
    const gate = deferred<MemoryCommit>();
    driver.script(gate.promise as Promise<"committed">);
    const first = driver.submit(ONE);
    await turns();
    const later = Array.from({ length: 100 }, () => driver.submit(ONE));
    await turns();
    const more = Array.from({ length: 100 }, () => driver.submit(ONE));
    expect(driver.commits - commits).toBe(0);
    gate.resolve("committed");
    expect(starts(await Promise.all([first, ...later, ...more]))).toEqual(Array.from({ length: 201 }, (_, start) => BigInt(start)));
    expect(driver.commits - commits).toBe(2);
  });

  test("no commit holds many more changes than its bound, and none takes part of a command", async () => {
    const row = new SharedRow();
    const { driver } = await sharing(row);
    const groups = Array.from({ length: 3_000 }, (_, group) => [{ key: `key ${group}`, count: 1 }]);
    await Promise.all(Array.from({ length: 7 }, () => driver.submit({ type: "sequence", groups })));
    // 8192 changes are the bound: three commands reach it.
    expect(row.commits.slice(1).map(({ changes }) => changes.length)).toEqual([9_000, 9_000, 3_000]);
    expect(driver.view().sequence("key 2999")?.next).toBe(7n);
  });

  test("nothing is published before its commit returned", async () => {
    const driver = memoryDriver();
    const { reign } = await subscribed(driver);
    const before = { highWater: driver.view().highWater, leases: driver.view().leaseCount };
    const gate = deferred<MemoryCommit>();
    driver.script(gate.promise as Promise<"committed">);
    let settled = false;
    const submitted = Promise.all([
      driver.submit({ type: "advance", epoch: reign, now: 2_000, atLeast: 50_000 }),
      driver.submit({ type: "lease-acquire", epoch: reign, now: 2_000, holder: Uint8Array.of(1), holderEpoch: 1n, ttlMs: 100 }),
      driver.submit(ONE),
    ]).finally(() => {
      settled = true;
    });
    await turns();
    const { highWater, leaseCount, clock, sequenceCount } = driver.view();
    expect({ settled, highWater, leases: leaseCount, clock, sequenceCount }).toEqual({ settled: false, ...before, clock: 1_000, sequenceCount: 0 });
    gate.resolve("committed");
    await submitted;
    expect(driver.view()).toMatchObject({ highWater: 50_001, leaseCount: 1, clock: 2_000, sequenceCount: 1 });
  });

  test("what changes nothing needs no commit where nobody else can lead", async () => {
    const driver = memoryDriver();
    const { reign } = await subscribed(driver);
    const { commits } = driver;
    const { highWater } = driver.view();
    expect(await driver.submit({ type: "advance", epoch: reign, now: 1_000, atLeast: 1 })).toEqual(applied({ type: "advanced", highWater }));
    expect(driver.commits).toBe(commits);
  });

  test("and where others can, the store is asked all the same: an answer from memory may be of a reign that is over", async () => {
    const row = new SharedRow();
    const { driver, reign } = await sharing(row);
    await row.process().open(row.nextReign());
    expect(await driver.submit({ type: "advance", epoch: reign, now: 1_000, atLeast: 1 })).toEqual({ type: "fenced" });
  });
});

describe("a commit that rejects", () => {
  for (const stored of [false, true]) {
    test(`is unknown to its callers, and what the store holds then is what is served: ${stored ? "it was stored" : "it was not"}`, async () => {
      const row = new SharedRow();
      const { driver, store, reign } = await sharing(row);
      store.troubles.push(() => (stored ? "stored" : new Error("the connection broke")));
      const lost = await Promise.all([driver.submit(ONE), driver.submit({ type: "advance", epoch: reign, now: 1_000, atLeast: 90_000 })]);
      const detail = stored ? "the answer was lost" : "the connection broke";
      for (const submitted of lost) expect(submitted).toEqual({ type: "unknown", reason: "unavailable", detail });
      expect(driver.view().highWater, "what was shown stays shown, and no more than that").toBe(1_100);
      expect(starts([await driver.submit(ONE)])).toEqual([stored ? 1n : 0n]);
      expect(driver.view().highWater === 90_000).toBe(stored);
      expect(store.calls.slice(-2)).toEqual([`open ${reign}`, "commit 1"]);
    });
  }

  test("settles its own batch as unknown, and what was not sent yet as not applied", async () => {
    const row = new SharedRow();
    const { driver, store } = await sharing(row);
    const groups = Array.from({ length: 8_192 }, (_, group) => [{ key: `key ${group}`, count: 1 }]);
    store.troubles.push(() => new Error("the connection broke"));
    const submitted = await Promise.all([driver.submit({ type: "sequence", groups }), driver.submit(ONE), driver.submit(ONE)]);
    const detail = "the connection broke";
    expect(submitted).toEqual([
      { type: "unknown", reason: "unavailable", detail },
      { type: "not-applied", reason: "unavailable", detail },
      { type: "not-applied", reason: "unavailable", detail },
    ]);
    expect(row.commits).toHaveLength(1);
  });

  test("does not harm what is submitted meanwhile", async () => {
    const driver = memoryDriver();
    await subscribed(driver);
    const gate = deferred<MemoryCommit>();
    driver.script(gate.promise as Promise<"lost">);
    const first = driver.submit(ONE);
    await turns();
    const second = driver.submit(ONE);
    gate.resolve("lost");
    expect(await first).toMatchObject({ type: "unknown" });
    expect(starts([await second])).toEqual([1n]);
  });
});

describe("a store that cannot be opened", () => {
  test("for a passing reason: nothing is applied, and the next command opens it again", async () => {
    const row = new SharedRow();
    const { driver, store, reign } = await sharing(row);
    store.troubles.push(() => new Error("the connection broke"));
    await driver.submit(ONE);
    store.openTroubles.push(() => new Error("no route"));
    expect(await Promise.all([driver.submit(ONE), driver.submit(ONE)])).toEqual(
      Array(2).fill({ type: "not-applied", reason: "unavailable", detail: "no route" }),
    );
    expect(starts([await driver.submit(ONE)])).toEqual([0n]);
    expect(store.calls.slice(-3)).toEqual([`open ${reign}`, `open ${reign}`, "commit 1"]);
  });

  test("since a later reign has begun: fenced", async () => {
    const row = new SharedRow();
    const store = row.process();
    const driver = storeDriver(store);
    await firstOf(driver);
    await row.process().open(row.nextReign());
    expect(await driver.submit(ONE)).toEqual({ type: "fenced" });
  });
});

describe("a fenced commit", () => {
  test("is fenced to its callers, publishes nothing, and the state is read again", async () => {
    const driver = memoryDriver();
    const { reign } = await subscribed(driver);
    driver.script("fenced");
    expect(await Promise.all([driver.submit(ONE), driver.submit({ type: "advance", epoch: reign, now: 1_000, atLeast: 90_000 })])).toEqual([
      { type: "fenced" },
      { type: "fenced" },
    ]);
    expect(starts([await driver.submit(ONE)])).toEqual([0n]);
    expect(driver.view().highWater).toBeLessThan(90_000);
  });

  test("fences what waits behind it too", async () => {
    const row = new SharedRow();
    const { driver, store } = await sharing(row);
    const groups = Array.from({ length: 8_192 }, (_, group) => [{ key: `key ${group}`, count: 1 }]);
    store.troubles.push(() => "fenced");
    expect(await Promise.all([driver.submit({ type: "sequence", groups }), driver.submit(ONE)])).toEqual([{ type: "fenced" }, { type: "fenced" }]);
  });

  test("names the epoch of a command whose own was wrong", async () => {
    const driver = memoryDriver();
    const { reign } = await subscribed(driver);
    const stale = { type: "advance", epoch: epoch(reign + 5n), now: 1_000, atLeast: 1 } as const;
    expect(await driver.submit(stale)).toEqual({ type: "fenced", by: reign });
  });
});

describe("a failure that is final", () => {
  test.each(["TSO_STORAGE", "TSO_WRONG_FORMAT", "TSO_LOCKED"] as const)("%s of a commit ends the leadership with it", async (code) => {
    const driver = memoryDriver();
    const { reign, events } = await subscribed(driver);
    const failure = new OracleError(code, "the disk failed");
    const ended = events.next();
    driver.script(failure);
    expect(await driver.submit(ONE)).toEqual({ type: "unknown", reason: "storage", detail: failure.message });
    await expect(ended).rejects.toBe(failure);
    for (let attempt = 0; attempt < 2; attempt++) {
      expect(await driver.submit(ONE)).toEqual({ type: "not-applied", reason: "unavailable", detail: failure.message });
      expect(await driver.confirm(reign)).toBe(false);
      await expect(driver.leadership()[Symbol.asyncIterator]().next(), "and every later subscriber hears of it").rejects.toBe(failure);
    }
    await driver.close();
  });

  test("of an open does too, and the commands that met it were not applied", async () => {
    const row = new SharedRow();
    const store = row.process();
    const driver = storeDriver(store);
    const events = driver.leadership()[Symbol.asyncIterator]();
    await events.next();
    const ended = events.next();
    const failure = new OracleError("TSO_WRONG_FORMAT", "a table of a later release");
    store.openTroubles.push(() => failure);
    expect(await driver.submit(ONE)).toEqual({ type: "not-applied", reason: "unavailable", detail: failure.message });
    await expect(ended).rejects.toBe(failure);
    expect(store.calls).toHaveLength(1);
  });

  test("that nobody subscribed to is told to whoever subscribes then, and is no unhandled rejection", async () => {
    const row = new SharedRow();
    const { driver, store, events } = await sharing(row);
    const failure = new OracleError("TSO_STORAGE", "the disk failed");
    store.troubles.push(() => failure);
    const submitted = driver.submit(ONE);
    await events.return?.();
    await submitted;
    await turns();
    await expect(driver.leadership()[Symbol.asyncIterator]().next()).rejects.toBe(failure);
  });

  test("and a bug ends it too: nobody waits for an answer that never comes", async () => {
    const driver = memoryDriver();
    const { events } = await subscribed(driver);
    const ended = events.next();
    const nonsense = { type: "nonsense" } as unknown as OracleCommand;
    const settled = await Promise.all([driver.submit(ONE), driver.submit(nonsense), driver.submit(ONE)]);
    expect(settled.map(({ type }) => type)).toEqual(["unknown", "unknown", "unknown"]);
    await expect(ended).rejects.toBeInstanceOf(InvariantViolation);
    expect(await driver.submit(ONE)).toMatchObject({ type: "not-applied", reason: "unavailable" });
  });

  test("what waits behind it is not applied", async () => {
    const driver = memoryDriver();
    await subscribed(driver);
    const gate = deferred<MemoryCommit>();
    driver.script(gate.promise as Promise<Error>);
    const first = driver.submit(ONE);
    await turns();
    const second = driver.submit(ONE);
    gate.resolve(new OracleError("TSO_STORAGE", "the disk failed"));
    expect(await first).toMatchObject({ type: "unknown", reason: "storage" });
    expect(await second).toMatchObject({ type: "not-applied", reason: "unavailable", detail: "TSO_STORAGE: the disk failed" });
    expect(driver.commits).toBe(1);
  });
});

describe("the queue", () => {
  test("has a bound, and says so", async () => {
    const driver = memoryDriver({ queueMax: 3 });
    await subscribed(driver);
    const gate = deferred<MemoryCommit>();
    driver.script(gate.promise as Promise<"committed">);
    const first = driver.submit(ONE);
    await turns();
    const waiting = [1, 2, 3].map(() => driver.submit(ONE));
    expect(await driver.submit(ONE)).toEqual({ type: "not-applied", reason: "overloaded", detail: "3 commands wait (limit 3)" });
    gate.resolve("committed");
    expect(starts(await Promise.all([first, ...waiting]))).toEqual([0n, 1n, 2n, 3n]);
    expect(starts([await driver.submit(ONE)])).toEqual([4n]);
  });

  test("is 16384 long by default", async () => {
    const driver = memoryDriver();
    await subscribed(driver);
    const submitted = await Promise.all(Array.from({ length: 16_385 }, () => driver.submit(ONE)));
    expect(submitted.filter(({ type }) => type === "applied")).toHaveLength(16_384);
    expect(submitted.at(-1)).toMatchObject({ type: "not-applied", reason: "overloaded" });
  });

  test("that is full still takes the one question that all who confirm share", async () => {
    const row = new SharedRow();
    const store = row.process();
    const driver = storeDriver(store, { queueMax: 1 });
    const { reign } = await subscribed(driver);
    const gate = deferred<undefined>();
    store.troubles.push(() => gate.promise);
    const inFlight = driver.submit(ONE);
    await turns();
    const waiting = driver.submit(ONE);
    const confirmed = Array.from({ length: 100 }, () => driver.confirm(reign));
    gate.resolve(undefined);
    expect(new Set(await Promise.all(confirmed))).toEqual(new Set([true]));
    expect(starts(await Promise.all([inFlight, waiting]))).toEqual([0n, 1n]);
    expect(store.calls.slice(-2)).toEqual(["commit 1", "commit 1"]);
  });
});

describe("confirm", () => {
  test("asks a store that others share, with a commit that began after the question", async () => {
    const row = new SharedRow();
    const { driver, store, reign } = await sharing(row);
    const gate = deferred<undefined>();
    store.troubles.push(() => gate.promise);
    const submitted = driver.submit(ONE);
    await turns();
    expect(store.calls.at(-1)).toBe("commit 1");
    const confirmed = Promise.all([driver.confirm(reign), driver.confirm(reign)]);
    await turns();
    expect(store.calls.at(-1), "not with the commit in flight").toBe("commit 1");
    gate.resolve(undefined);
    expect(await confirmed).toEqual([true, true]);
    expect(store.calls.at(-1), "one for all that asked").toBe("commit 0");
    expect((await submitted).type).toBe("applied");
  });

  test("shares a commit with the commands of its turn", async () => {
    const row = new SharedRow();
    const { driver, store, reign } = await sharing(row);
    const calls = store.calls.length;
    expect(await Promise.all([driver.submit(ONE), driver.confirm(reign)])).toMatchObject([{ type: "applied" }, true]);
    expect(store.calls.slice(calls)).toEqual(["commit 1"]);
  });

  test("is false once another process leads, though this one has not heard of it", async () => {
    const row = new SharedRow();
    const { driver, store, reign } = await sharing(row);
    expect(await driver.confirm(reign)).toBe(true);
    const other = row.process();
    await other.open(row.nextReign());
    expect(await driver.confirm(reign)).toBe(false);
    const again = store.lead();
    await turns();
    expect(await driver.confirm(reign)).toBe(false);
    await driver.submit(takeOver(again));
    expect(await driver.confirm(again)).toBe(false); // nobody has read the stream: this driver has not been told that it leads
  });

  test("is false where the store does not answer", async () => {
    const row = new SharedRow();
    const { driver, store, reign } = await sharing(row);
    store.troubles.push(() => new Error("the connection broke"));
    expect(await driver.confirm(reign)).toBe(false);
    store.troubles.push(() => "fenced");
    expect(await driver.confirm(reign)).toBe(false);
    expect(await driver.confirm(reign)).toBe(true);
  });

  test("of an earlier reign is false, though a later one of this process leads", async () => {
    const row = new SharedRow();
    const { driver, store, events, reign } = await sharing(row);
    const gate = deferred<undefined>();
    store.troubles.push(() => gate.promise);
    const submitted = driver.submit(ONE);
    await turns();
    const asked = driver.confirm(reign); // served only when the next reign has begun
    const next = store.lead();
    await events.next();
    gate.resolve(undefined);
    await submitted;
    expect(await asked).toBe(false);
    expect(await driver.confirm(next)).toBe(true);
  });

  test("is true at once where nobody else can have the store, without a commit", async () => {
    const driver = memoryDriver();
    const { reign } = await subscribed(driver);
    const gate = deferred<MemoryCommit>();
    driver.script(gate.promise as Promise<"committed">);
    const submitted = driver.submit(ONE);
    await turns();
    expect(await driver.confirm(reign)).toBe(true);
    gate.resolve("committed");
    await submitted;
  });
});

describe("a change of leadership", () => {
  test("while a commit is in flight: its callers are answered as the store answered", async () => {
    for (const [fate, expected] of [
      ["committed", "applied"],
      ["fenced", "fenced"],
    ] as const) {
      const driver = memoryDriver();
      const { events } = await subscribed(driver);
      const gate = deferred<"committed" | "fenced">();
      driver.script(gate.promise);
      const inFlight = driver.submit(ONE);
      await turns();
      const waiting = driver.submit(ONE);
      driver.follow();
      expect((await events.next()).value).toEqual({ role: "follower", leader: undefined });
      gate.resolve(fate);
      expect((await inFlight).type).toBe(expected);
      expect(await waiting, "what had not been sent is not applied").toEqual({ type: "not-applied", reason: "not-leader" });
    }
  });

  test("to a new reign of this process reads the store again, under the new fence", async () => {
    const row = new SharedRow();
    const { driver, store, events, reign } = await sharing(row);
    await driver.submit(ONE);
    const rival = storeDriver(row.process());
    const rivals = await subscribed(rival);
    await rival.submit(ONE);
    const next = store.lead();
    await events.next();
    expect(await driver.submit(takeOver(next, 5_000))).toMatchObject({ type: "applied", outcome: { type: "taken-over" } });
    expect(starts([await driver.submit(ONE)])).toEqual([2n]);
    expect(await rival.submit(ONE)).toEqual({ type: "fenced" });
    expect(rivals.reign > reign && next > rivals.reign).toBe(true);
  });

  test("is not waited for by a subscriber that has gone, though the store goes on telling nothing", async () => {
    const store = new SharedRow().process();
    const { leads } = store;
    store.leadership = () => leads.values(); // hears of no abort
    const driver = storeDriver(store);
    const controller = new AbortController();
    const events = driver.leadership({ signal: controller.signal })[Symbol.asyncIterator]();
    await events.next();
    const ended = events.next();
    controller.abort();
    expect(await ended).toEqual({ value: undefined, done: true });
    expect((await firstOf(driver)).reign, "and the next subscriber is told again").toBe(1n);
  });

  test("away from this process: nothing is applied", async () => {
    const driver = memoryDriver();
    const { events } = await subscribed(driver);
    driver.loseLeader();
    await events.next();
    expect(await driver.submit(ONE)).toEqual({ type: "not-applied", reason: "not-leader" });
  });

  test("is not known without a subscriber", async () => {
    const driver = memoryDriver();
    expect(await driver.submit(ONE)).toEqual({ type: "not-applied", reason: "not-leader" });
    const { events, reign } = await subscribed(driver);
    await events.return?.();
    expect(await driver.confirm(reign)).toBe(false);
    expect(await driver.submit(ONE)).toEqual({ type: "not-applied", reason: "not-leader" });
  });
});

describe("close", () => {
  test("settles what was submitted before, closes the store once, and takes nothing after", async () => {
    const row = new SharedRow();
    const { driver, store } = await sharing(row);
    const gate = deferred<undefined>();
    store.troubles.push(() => gate.promise);
    const before = [driver.submit(ONE)];
    await turns();
    before.push(driver.submit(ONE));
    const closing = [driver.close(), driver.close()];
    expect(await driver.submit(ONE)).toEqual({ type: "not-applied", reason: "closed" });
    await turns();
    expect(store.closed, "not while a commit is in flight").toBe(0);
    gate.resolve(undefined);
    await Promise.all(closing);
    expect(starts(await Promise.all(before))).toEqual([0n, 1n]);
    expect(store.closed).toBe(1);
  });

  test("ends the leadership without an error", async () => {
    const driver = memoryDriver();
    const { events } = await subscribed(driver);
    const ended = events.next();
    await driver.close();
    expect(await ended).toEqual({ value: undefined, done: true });
  });
});

interface Subscribed {
  readonly events: AsyncIterator<ServedLeadership>;
  readonly reign: Epoch;
}

/** Subscribes, and takes over. */
async function subscribed(driver: ConsensusDriver): Promise<Subscribed> {
  const found = await firstOf(driver);
  expect(await driver.submit(takeOver(found.reign))).toMatchObject({ type: "applied", outcome: { type: "taken-over" } });
  return found;
}

async function firstOf(driver: ConsensusDriver): Promise<Subscribed> {
  const events = driver.leadership()[Symbol.asyncIterator]();
  const { value } = await events.next();
  if (value?.role !== "leader") throw new Error("it leads at once");
  return { events, reign: value.epoch };
}

async function sharing(row: SharedRow): Promise<Subscribed & { readonly driver: ConsensusDriver; readonly store: SharedProcess }> {
  const store = row.process();
  const driver = storeDriver(store);
  return { driver, store, ...(await subscribed(driver)) };
}

function takeOver(reign: Epoch, now = 1_000): OracleCommand {
  return { type: "take-over", epoch: reign, now, failoverAdvanceMs: 100, maxClockJumpMs: 1_000_000, limits: LIMITS };
}

function applied(outcome: Extract<Submitted, { type: "applied" }>["outcome"]): Submitted {
  return { type: "applied", outcome };
}

/** The first values that were granted for `ONE`. */
function starts(submitted: readonly Submitted[]): bigint[] {
  return submitted.flatMap((each) => {
    if (each.type !== "applied" || each.outcome.type !== "sequence") throw new Error(`not granted: ${each.type}`);
    return each.outcome.groups.flatMap((group) => (group.type === "granted" ? group.starts : []));
  });
}

/** Lets everything happen that waits for nothing. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await undefined;
}
