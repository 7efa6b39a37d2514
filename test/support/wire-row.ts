/** A row of the table of statuses: a condition, a request, and exactly what a client sees. Conditions read as "the server <condition>". */
import { status } from "@grpc/grpc-js";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { type Epoch, epoch } from "../../src/base/epoch.ts";
import type { Submitted } from "../../src/oracle/driver.ts";
import type { OracleCommand, OracleOutcome } from "../../src/oracle/rules/command.ts";
import { deferred } from "./deferred.ts";
import type { Fields } from "./raw-client.ts";
import {
  type Failed,
  failureOf,
  granted,
  type Hint,
  nextOf,
  nextTimestamp,
  packed,
  type Served,
  type ServedOptions,
  START_MS,
  serve,
  serves,
  servesNot,
} from "./served.ts";

export interface Row {
  readonly what: string;
  readonly options?: ServedOptions;
  readonly given?: Condition;
  /** What is asked, where it is not what the table asks. */
  readonly request?: Fields | Uint8Array;
  readonly answer: Failed;
  /** The server has found out that it does not lead. */
  readonly stepsDown?: true;
}

/** Brings something about, after the first grants. */
export type Condition = (served: Served) => Promise<Undo> | Undo | undefined;
type Undo = (() => Promise<void> | void) | undefined;

export const U32_MAX = 0xffff_ffff;
export const U64_MAX = 2n ** 64n - 1n;
/** How far the first window of a reign reaches. */
const WINDOW_MS = 1_000;
/** The sequence that every row takes a value of, before and after. */
export const WITNESS = "witness";

/** Runs the rows of one method. `usual` is the request that is granted where nothing is the matter. */
export function describeRows(method: string, usual: Fields | Uint8Array, rows: readonly Row[]): void {
  describe(method, () => {
    beforeAll(() => {
      // Upkeep would take the commits that rows script for themselves. Nothing else here runs at intervals.
      vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
      return () => vi.useRealTimers();
    });
    for (const row of rows) test(row.what, () => holds(method, row, row.request ?? usual));
  });
}

/** Grants, brings the condition about, asks, and grants again: exactly what comes next, as if nothing had been asked. */
async function holds(method: string, { options, given, answer, stepsDown }: Row, request: Fields | Uint8Array): Promise<void> {
  const served = await serve({ windowAheadMs: WINDOW_MS, failoverAdvanceMs: WINDOW_MS, ...options });
  try {
    const { client, driver, server, clock } = served;
    const first = await nextTimestamp(client);
    expect(await nextOf(client, WITNESS)).toBe(0n);
    const undo = await given?.(served);
    const staysServing = server.state.type === "serving" && stepsDown === undefined;
    const { highWater, leaseCount } = driver.view();

    const reply = request instanceof Uint8Array ? await client.send(method, request) : await client.call(method, request);
    expect(failureOf(reply)).toEqual(answer);
    expect(reply.response).toBeUndefined();
    expect(server.state.type).toBe(staysServing ? "serving" : "not-serving");

    await undo?.();
    let next = clock.now === Number(first >> 18n) ? first + 1n : packed(clock.now);
    if (!staysServing) {
      if (server.state.type !== "serving") driver.lead();
      await serves(server);
      next = packed(Math.max(highWater + 1, clock.now));
    }
    expect(await nextTimestamp(client)).toBe(next);
    expect(await nextOf(client, WITNESS)).toBe(1n);
    expect(driver.view().leaseCount).toBe(leaseCount);
  } finally {
    await served.close();
  }
}

export const refused = (code: status, message: string): Failed => ({ code, message, hint: "absent" });
export const invalid = (message: string): Failed => refused(status.INVALID_ARGUMENT, message);
export const internal = (message: string): Failed => refused(status.INTERNAL, message);
export const unavailable = (message: string): Failed => refused(status.UNAVAILABLE, message);
export const exhausted = (message: string): Failed => refused(status.RESOURCE_EXHAUSTED, message);
export const precondition = (message: string): Failed => refused(status.FAILED_PRECONDITION, message);
export const notLeader = (hint: Hint = {}): Failed => ({
  code: status.FAILED_PRECONDITION,
  message: "not leader",
  hint,
});

export const follows =
  (leader?: { readonly epoch: Epoch; readonly endpoint?: string }): Condition =>
  async ({ driver, server }) => {
    driver.follow(leader);
    await servesNot(server);
    return undefined;
  };

export const knowsNoLeader: Condition = async ({ driver, server }) => {
  driver.loseLeader();
  await servesNot(server);
  return undefined;
};

/** Leads, and its take-over is on its way. */
export const takesOver: Condition = async (served) => {
  await knowsNoLeader(served);
  const { promise, resolve } = deferred<"committed">();
  served.driver.script(promise);
  served.driver.lead();
  for await (const state of served.server.states()) if (state.type === "not-serving" && state.role === "leader") break;
  return () => {
    resolve("committed");
    return serves(served.server);
  };
};

export const isNotConfirmed: Condition = ({ driver }) => {
  driver.confirms = () => false;
  return () => {
    driver.confirms = undefined;
  };
};

/** Its driver answers commands of one type so. */
export const hears =
  (type: OracleCommand["type"], submitted: Submitted): Condition =>
  ({ driver }) => {
    driver.answer = (command) => (command.type === type ? submitted : undefined);
    return () => {
      driver.answer = undefined;
    };
  };

export const applied = (outcome: Exclude<OracleOutcome, { type: "fenced" }>): Submitted => ({ type: "applied", outcome });

/** Its next commit goes so. */
export const commits =
  (step: "fenced" | Error): Condition =>
  ({ driver }) => {
    driver.script(step);
    return undefined;
  };

/** The clock has left the window, so that the next grant needs an `advance`. */
export const needsWindow: Condition = ({ clock }) => {
  clock.now = START_MS + WINDOW_MS + 1;
  return undefined;
};

export const wasAsked =
  (method: string, ...requests: readonly Fields[]): Condition =>
  async ({ client }) => {
    for (const request of requests) granted(await client.call(method, request));
    return undefined;
  };

export const all =
  (...conditions: readonly Condition[]): Condition =>
  async (served) => {
    const undos: Undo[] = [];
    for (const condition of conditions) undos.push(await condition(served));
    return async () => {
      for (const undo of undos) await undo?.();
    };
  };

/** Every way of not leading, with what the trailer says. */
export const NOT_SERVING: readonly Row[] = [
  {
    what: "is refused by a follower that knows the leader",
    given: follows({ epoch: epoch(2n ** 64n + 7n), endpoint: "10.0.0.2:50551" }),
    answer: notLeader({ endpoint: "10.0.0.2:50551", epoch: 2n ** 64n + 7n }),
  },
  { what: "is refused by a follower that knows the leader's epoch", given: follows({ epoch: epoch(9n) }), answer: notLeader({ epoch: 9n }) },
  { what: "is refused by a follower that knows no leader", given: follows(), answer: notLeader() },
  { what: "is refused by a node that knows of no leader", given: knowsNoLeader, answer: notLeader() },
  { what: "is refused by a leader that is still taking over", given: takesOver, answer: notLeader() },
];

/** Every way in which a driver can fail a command of `type`. `prefix` is what the surface says such a failure was for. */
export function driverRows(
  type: OracleCommand["type"],
  { prefix = "", given = needsNothing }: { readonly prefix?: string; readonly given?: Condition } = {},
): readonly Row[] {
  const answered = (submitted: Submitted): Condition => all(given, hears(type, submitted));
  return [
    ...(["not-leader", "epoch-differs", "superseded", "transferring"] as const).map((reason) => ({
      what: `is refused where the driver does not lead: ${reason}`,
      given: answered({ type: "not-applied", reason }),
      answer: notLeader(),
    })),
    { what: "names the epoch that fenced it", given: answered({ type: "fenced", by: epoch(2n ** 64n) }), answer: notLeader({ epoch: 2n ** 64n }) },
    { what: "is refused where it was fenced by nobody knows whom", given: all(given, commits("fenced")), answer: notLeader() },
    {
      what: "is unavailable where it could not be made durable",
      given: all(given, commits(new Error("no route to the disk"))),
      answer: unavailable(`${prefix}no route to the disk (the outcome is unknown)`),
    },
    ...(["unavailable", "aborted", "closed"] as const).map((reason) => ({
      what: `is unavailable where nothing was done: ${reason}`,
      given: answered({ type: "not-applied", reason }),
      answer: unavailable(`${prefix}${reason}`),
    })),
    ...(["deadline", "aborted", "snapshot", "closed", "unavailable"] as const).map((reason) => ({
      what: `is unavailable where nobody can tell whether it was done: ${reason}`,
      given: answered({ type: "unknown", reason }),
      answer: unavailable(`${prefix}${reason} (the outcome is unknown)`),
    })),
    {
      what: "is refused by a driver with too much to do",
      given: answered({ type: "not-applied", reason: "overloaded", detail: "7 commands wait" }),
      answer: exhausted(`overloaded: ${prefix}7 commands wait`),
    },
    {
      what: "fails where the disk has failed for good",
      given: answered({ type: "unknown", reason: "storage", detail: "the disk is full" }),
      answer: internal(`${prefix}the disk is full (the outcome is unknown)`),
    },
  ];
}

const needsNothing: Condition = () => undefined;
