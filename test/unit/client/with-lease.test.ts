import fc from "fast-check";
import { expect, test } from "vitest";
import { OracleError } from "../../../src/base/errors.ts";
import { silentLogger } from "../../../src/base/logger.ts";
import { createPrng } from "../../../src/base/prng.ts";
import { Aborts } from "../../../src/client/aborts.ts";
import { type HeldLease, holdLease, type WithLeaseOptions } from "../../../src/client/with-lease.ts";
import { timestamp } from "../../../src/oracle/rules/timestamp.ts";
import { ScriptedWorld } from "../../support/client-world.ts";
import { property } from "../../support/property.ts";

const TTL_MS = 10_000;
const MARGIN_MS = TTL_MS / 5;

type Answer = "granted" | "lost" | "unreachable" | "silent";

/** A server with one lease table in virtual time: it counts a lease's time from when the request reached it. */
function leased(script: readonly { readonly answer: Answer; readonly takesMs: number }[] = []) {
  const world = new ScriptedWorld({ nodes: [], script: [], random: () => 0.5 });
  const events: string[] = [];
  let [calls, bound, expiresAt] = [0, 1_000, -1];
  const answer = async (name: string, signal: AbortSignal | undefined): Promise<{ id: bigint; upperBoundMs: number }> => {
    const { answer: how, takesMs } = script[calls++] ?? { answer: "granted", takesMs: 2 };
    events.push(`${name} at ${world.now}`);
    await unlessAborted(signal, until(world, world.now + takesMs / 2));
    const isOver = name === "renew" && world.now >= expiresAt;
    if (how === "granted" && !isOver) {
      expiresAt = world.now + TTL_MS;
      bound += calls % 2 === 0 ? -5 : 20; // as servers do not, and a holder must not notice
    }
    await unlessAborted(signal, how === "silent" ? new Promise(() => undefined) : until(world, world.now + takesMs / 2));
    if (how === "lost" || isOver) throw new OracleError("TSO_LEASE_LOST", "superseded");
    if (how === "unreachable") throw new OracleError("TSO_DEADLINE", "nobody there");
    return { id: 7n, upperBoundMs: bound };
  };
  const holderEpochs: bigint[] = [];
  let ticks = 0n;
  const client = {
    getTs: async () => timestamp(100n + ticks++),
    acquireLease: (_: unknown, { holderEpoch, signal }: { readonly holderEpoch: bigint; readonly signal?: AbortSignal | undefined }) => {
      holderEpochs.push(holderEpoch);
      return answer("acquire", signal);
    },
    renewLease: (_: bigint, { signal }: { readonly signal?: AbortSignal | undefined } = {}) => answer("renew", signal),
    releaseLease: async () => {
      events.push(`release at ${world.now}`);
    },
  };
  const hold = <T>(fn: (lease: HeldLease) => Promise<T> | T, options: WithLeaseOptions = {}) =>
    holdLease({ client, timers: world.timers, logger: silentLogger, aborts: new Aborts() }, "h", { ttlMs: TTL_MS, ...options }, fn);
  return { world, events, holderEpochs, hold, isHeldByServer: () => world.now < expiresAt };
}

/** What `promise` gives, unless `signal` is aborted first. */
async function unlessAborted<T>(signal: AbortSignal | undefined, promise: Promise<T>): Promise<T> {
  let stop: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal?.reason);
    signal?.addEventListener("abort", stop);
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    if (stop !== undefined) signal?.removeEventListener("abort", stop);
  }
}

const until = (world: ScriptedWorld, at: number): Promise<void> => new Promise((resolve) => world.at(at, resolve));

test("a lease is acquired, renewed when a third of its time is over, and released", async () => {
  const { world, events, hold } = leased();
  const result = hold(async (lease) => {
    expect(lease.id).toBe(7n);
    const before = lease.upperBoundMs;
    await until(world, 12_000);
    lease.assertHeld();
    expect(lease.signal.aborted).toBe(false);
    expect(lease.upperBoundMs, "1020, 1015, 1035, 1030").toBe(before + 15);
    return "done";
  });
  await world.run(20_000);
  expect(await result).toBe("done");
  expect(events.slice(0, 2)).toEqual(["acquire at 0", "renew at 3333.333333333333"].map((event) => expect.stringContaining(event.slice(0, 12))));
  expect(events.filter((event) => event.startsWith("renew")).length).toBe(3);
  expect(events.at(-1)).toBe("release at 12000");
});

test("each run has a holder epoch of its own, above those before", async () => {
  const { world, holderEpochs, hold } = leased();
  for (let i = 0; i < 3; i++) {
    const result = hold(() => i);
    await world.run(world.now + 100);
    await result;
  }
  expect(holderEpochs).toEqual([100n, 101n, 102n]);
});

test("a renewal that is refused aborts the signal at once, and the call ends so, whatever the function returns", async () => {
  const { world, events, hold } = leased([
    { answer: "granted", takesMs: 2 },
    { answer: "lost", takesMs: 2 },
  ]);
  let abortedAt = -1;
  const result = hold(async ({ signal, assertHeld }) => {
    signal.addEventListener("abort", () => {
      abortedAt = world.now;
    });
    await until(world, 9_000);
    expect(assertHeld).toThrow(expect.objectContaining({ code: "TSO_LEASE_LOST" }));
    return "done";
  });
  const ended = expect(result).rejects.toMatchObject({ code: "TSO_LEASE_LOST", message: expect.stringContaining("superseded") });
  await world.run(20_000);
  await ended;
  expect(abortedAt).toBeCloseTo(3_335, -1);
  expect(events.at(-1), "and is given back all the same").toBe("release at 9000");
});

/** Holds a lease until its signal is aborted, for want of a renewal and while the server still holds it. Returns when that was. */
async function untilLost({ world, hold, isHeldByServer }: Pick<ReturnType<typeof leased>, "world" | "hold" | "isHeldByServer">): Promise<number> {
  let abortedAt = -1;
  const result = hold(async ({ signal }) => {
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    abortedAt = world.now;
    expect(isHeldByServer()).toBe(true);
  });
  const ended = expect(result).rejects.toMatchObject({ code: "TSO_LEASE_LOST", detail: "lease 7 was not renewed in time" });
  await world.run(60_000);
  await ended;
  return abortedAt;
}

test("renewals that fail are tried again while there is time; then the signal is aborted, before the lease is over", async () => {
  const { world, events, hold, isHeldByServer } = leased([
    { answer: "granted", takesMs: 2 },
    ...Array.from({ length: 100 }, () => ({ answer: "unreachable" as const, takesMs: 2 })),
  ]);
  const abortedAt = await untilLost({ world, hold, isHeldByServer });
  expect(abortedAt).toBe(TTL_MS - MARGIN_MS);
  expect(events.filter((event) => event.startsWith("renew")).length).toBeGreaterThan(10);
});

test("a renewal counts from when it was asked for, not from when it was answered", async () => {
  const { world, hold, isHeldByServer } = leased([
    { answer: "granted", takesMs: 2 },
    { answer: "granted", takesMs: 4_400 },
    ...Array.from({ length: 100 }, () => ({ answer: "unreachable" as const, takesMs: 2 })),
  ]);
  const abortedAt = await untilLost({ world, hold, isHeldByServer });
  expect(abortedAt).toBeCloseTo(TTL_MS / 3 + TTL_MS - MARGIN_MS, -1);
});

/** A lease whose machine sleeps for 9 s, by the wall clock only, at `sleepsAt`; `renewed` says what becomes of renewals. */
function asleep(
  sleepsAt: number,
  renewLease: (world: ScriptedWorld, signal: AbortSignal | undefined) => Promise<{ id: bigint; upperBoundMs: number }>,
) {
  const world = new ScriptedWorld({ nodes: [], script: [], random: () => 0.5 });
  const timers = { ...world.timers, wall: () => 1_000 + world.now + (world.now >= sleepsAt ? 9_000 : 0) };
  const client = {
    getTs: async () => timestamp(1n),
    acquireLease: async () => GRANTED,
    renewLease: (_: bigint, { signal }: { readonly signal?: AbortSignal | undefined } = {}) => renewLease(world, signal),
    releaseLease: async () => undefined,
  };
  const hold = <T>(fn: (lease: HeldLease) => Promise<T> | T, options: WithLeaseOptions = {}) =>
    holdLease({ client, timers, logger: silentLogger, aborts: new Aborts() }, "h", { ttlMs: TTL_MS, ...options }, fn);
  return { world, hold };
}

const GRANTED = { id: 7n, upperBoundMs: 1 };
const never = (_: ScriptedWorld, signal: AbortSignal | undefined): Promise<typeof GRANTED> =>
  unlessAborted(signal, new Promise<typeof GRANTED>(() => undefined));

test("a renewal that is answered after the machine slept is no renewal", async () => {
  let asked = 0;
  const { world, hold } = asleep(4_300, async (around, signal) => {
    if (asked++ > 0) return never(around, signal);
    await until(around, 4_310);
    return GRANTED;
  });
  const result = hold(async ({ signal }) => {
    await until(world, 4_320);
    return signal.aborted;
  });
  const ended = expect(result).rejects.toMatchObject({ code: "TSO_LEASE_LOST" });
  await world.run(10_000);
  await ended;
});

test("a function that ends after the machine slept had no lease in the end", async () => {
  const { world, hold } = asleep(1_500, never);
  const result = hold(() => until(world, 1_510));
  const ended = expect(result).rejects.toMatchObject({ code: "TSO_LEASE_LOST" });
  await world.run(10_000);
  await ended;
});

test("a function is not begun with a lease that is lost, or for a caller who gave up, meanwhile", async () => {
  const slow = leased([{ answer: "granted", takesMs: 9_000 }]);
  let begun = 0;
  const late = slow.hold(() => {
    begun += 1;
  });
  const lost = expect(late).rejects.toMatchObject({ code: "TSO_LEASE_LOST" });
  await slow.world.run(20_000);
  await lost;
  expect(slow.events.at(-1), "and it is given back").toMatch("release");
  const { world, hold } = asleep(Number.POSITIVE_INFINITY, never);
  const controller = new AbortController();
  const result = hold(
    () => {
      begun += 1;
    },
    { signal: controller.signal },
  );
  const aborted = expect(result).rejects.toBe("stop");
  controller.abort("stop"); // the server's answer is on its way, and comes
  await world.run(10);
  await aborted;
  expect(begun).toBe(0);
});

test("slow renewals are asked for in time", async () => {
  const { world, hold } = leased([
    { answer: "granted", takesMs: 2 },
    ...Array.from({ length: 20 }, () => ({ answer: "granted" as const, takesMs: 3_500 })),
  ]);
  const result = hold(() => until(world, 60_000));
  await world.run(70_000);
  await result;
});

test("what the function throws is thrown, and the lease released", async () => {
  const { world, events, hold } = leased();
  const failed = expect(
    hold(() => {
      throw new TypeError("no");
    }),
  ).rejects.toThrow(new TypeError("no"));
  await world.run(100);
  await failed;
  expect(events.at(-1)).toMatch("release");
});

test("what the function throws because the lease was lost is the cause of that", async () => {
  const { world, hold } = leased([
    { answer: "granted", takesMs: 2 },
    { answer: "lost", takesMs: 2 },
  ]);
  const result = hold(async ({ signal }) => {
    await until(world, 5_000);
    signal.throwIfAborted();
  });
  const other = expect(result).rejects.toMatchObject({ code: "TSO_LEASE_LOST" });
  await world.run(10_000);
  await other;
});

test("the caller's abort is passed on with its reason, and the lease is kept until the function has ended", async () => {
  const { world, events, hold } = leased();
  const controller = new AbortController();
  const result = hold(
    async ({ signal, assertHeld }) => {
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      expect(signal.reason).toBe("stop");
      await until(world, 8_000);
      assertHeld();
      return "tidied up";
    },
    { signal: controller.signal },
  );
  world.at(5_000, () => controller.abort("stop"));
  await world.run(20_000);
  expect(await result).toBe("tidied up");
  expect(events.filter((event) => event.startsWith("renew")).length).toBe(2);
});

test("a machine that slept finds out: at once where it asks, else within a second", async () => {
  const { world, hold } = asleep(1_500, never);
  let abortedAt = -1;
  let asked = "";
  const result = hold(async ({ signal, assertHeld }) => {
    signal.addEventListener("abort", () => {
      abortedAt = world.now;
    });
    await until(world, 5_000);
    try {
      assertHeld();
    } catch (error) {
      asked = String(error);
    }
  });
  const ended = expect(result).rejects.toMatchObject({ code: "TSO_LEASE_LOST" });
  await world.run(10_000);
  await ended;
  expect(abortedAt).toBe(2_000);
  expect(asked).toContain("was not renewed in time");
  const other = asleep(1_500, never);
  const asking = other.hold(async ({ assertHeld }) => {
    await until(other.world, 1_600);
    assertHeld();
  });
  const refused = expect(asking).rejects.toMatchObject({ code: "TSO_LEASE_LOST" });
  await other.world.run(10_000);
  await refused;
});

test.each([
  [{ ttlMs: 999 }, "ttlMs 999 must be a whole number from 1000 to 86400000"],
  [{ ttlMs: 86_400_001 }, "ttlMs 86400001 must be a whole number from 1000 to 86400000"],
  [{ ttlMs: 1_000, safetyMarginMs: 501 }, "safetyMarginMs 501 must be a whole number from 1 to 500"],
  [{ safetyMarginMs: 0 }, "safetyMarginMs 0 must be a whole number from 1 to 5000"],
])("%j is refused", async (options, message) => {
  const { hold, events } = leased();
  await expect(hold(() => undefined, options)).rejects.toThrow(`TSO_INVALID_ARGUMENT: ${message}`);
  expect(events).toEqual([]);
});

const anyAnswer = fc.record({
  answer: fc.constantFrom<Answer[]>("granted", "granted", "granted", "unreachable", "silent", "lost"),
  takesMs: fc.oneof(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 9_000 })),
});

property(
  "while the signal is not aborted the server holds the lease, whatever becomes of the renewals; and the bound never goes down",
  fc.asyncProperty(fc.array(anyAnswer, { maxLength: 20 }), fc.integer(), async (answers, seed) => {
    const { world, hold, isHeldByServer } = leased([{ answer: "granted", takesMs: createPrng(seed).below(2_000) }, ...answers]);
    let held: HeldLease | undefined;
    let isRunning = false;
    const result = hold(async (lease) => {
      held = lease;
      isRunning = true;
      await until(world, 60_000);
      isRunning = false;
    }).catch((error: unknown) => error);
    let bound = 0;
    let last = 0;
    await world.run(70_000, () => {
      if (!isRunning || held === undefined) return;
      if (!held.signal.aborted) expect(isHeldByServer(), `held at ${world.now}`).toBe(true);
      expect(held.upperBoundMs).toBeGreaterThanOrEqual(bound);
      bound = held.upperBoundMs;
      last = world.now;
    });
    const error = await result;
    if (held?.signal.aborted === true) expect(error).toMatchObject({ code: "TSO_LEASE_LOST" });
    expect(last).toBeGreaterThan(0);
  }),
);
