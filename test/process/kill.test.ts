/** `kill -9` of the real server under load, again and again on one directory: whatever was promised before is still true after. */
import { watch } from "node:fs";
import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { createPrng } from "../../src/base/prng.ts";
import { checkLeases, checkSafePoint, checkTimestampOrder } from "../../src/testing/checkers.ts";
import { checkSequence, type SequenceReport } from "../../src/testing/sequence-checker.ts";
import { Callers, type RecordedRequest } from "../support/callers.ts";
import { Processes } from "../support/server-process.ts";
import { type Answer, Stubs, timesOf } from "../support/stubs.ts";

const ROUNDS = 30;
const CALLERS = 64;
/** A kill counts where it hits at least so many requests in flight; so many of the kills must count. */
const IN_FLIGHT_MIN = 32;
const COUNTING_KILLS_MIN = Math.ceil(0.9 * ROUNDS);
const KEYS = ["invoices", "orders", "payments", "refunds", "rechnungen/größe", "k"] as const;

const processes = new Processes();
afterEach(() => processes.end());

test(`${ROUNDS} kills under ${CALLERS} callers: no timestamp repeats or goes back, every missing ordinal has its request, leases hold`, async () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  const random = createPrng(seed);
  const directory = processes.directory();
  const callers = new Callers({ count: CALLERS, connections: 16, keys: KEYS, seed });
  const kills: Kill[] = [];
  const epochs: bigint[] = [];

  for (let round = 1; round <= ROUNDS; round++) {
    if (round % 5 === 0) await killWhileItStarts(directory);
    const server = await processes.serve(directory);
    epochs.push(await readAll(server.address, callers));
    const uncertainBefore = callers.records.uncertain;
    let inFlight = 0;
    await callers.round(server.address, {
      after: 100 + random.below(1_000),
      end: (count) => {
        inFlight = count;
        spin(random.chance(0.8) ? random.below(300) : random.below(2_000)); // kills hit every part of a commit, not only what follows an answer
        server.killNow();
      },
    });
    expect((await server.ended).signal).toBe("SIGKILL");
    callers.settle(process.hrtime.bigint());
    kills.push({ inFlight, unanswered: callers.records.uncertain - uncertainBefore });
  }

  const last = await processes.serve(directory);
  epochs.push(await readAll(last.address, callers));
  expect(await last.stop()).toMatchObject({ code: 0 });

  const { records } = callers;
  const report = checkSequence({ requests: records.sequences, reads: records.reads });
  const counting = kills.filter(({ inFlight }) => inFlight >= IN_FLIGHT_MIN).length;
  process.stdout.write(`${figures(seed, callers, kills)}\n${assignment(report)}\n`);

  expect(records.unexpected).toEqual([]);
  expect(epochs, "each start is a reign of its own").toEqual([...new Set(epochs)].sort((a, b) => Number(a - b)));
  expect(checkTimestampOrder(records.timestamps)).toEqual([]);
  expect(checkSafePoint(records.safePoints, records.timestamps)).toEqual([]);
  expect(report.violations).toEqual([]);
  expect(checkLeases(records.leases)).toEqual([]);
  expect(counting, `the run does not count: too few kills hit ${IN_FLIGHT_MIN} requests in flight`).toBeGreaterThanOrEqual(COUNTING_KILLS_MIN);
});

/** Kills a server as soon as it makes a file: in the middle of what it does with what the one before left. */
async function killWhileItStarts(directory: string): Promise<void> {
  const starting = processes.start(["--listen", "127.0.0.1:0", "--state-dir", directory]);
  const watcher = watch(directory, () => starting.killNow());
  expect((await starting.ended).signal).toBe("SIGKILL");
  watcher.close();
}

/** What a server says before anyone has asked it for anything is what is durable. Returns its epoch. */
async function readAll(address: string, { records }: Callers): Promise<bigint> {
  const stubs = new Stubs(address);
  for (const key of KEYS) {
    const answer = await stubs.ask(stubs.node, stubs.node.peekSeq, { key });
    const next = !answer.ok && answer.error.code === status.NOT_FOUND ? 0n : responseOf(answer).sequence?.next;
    records.reads.push({ key, next: next ?? -1n, ...timesOf(answer) });
  }
  const said = await stubs.ask(stubs.node, stubs.node.status, {});
  records.leases.highWaters.push({ highWaterMs: responseOf(said).highWaterMs, ...timesOf(said) });
  const frontier = await stubs.ask(stubs.tso, stubs.tso.getSafeFrontier, {});
  records.leases.frontiers.push({ frontierMs: responseOf(frontier).frontierPhysicalMs, atMs: BigInt(Date.now()), ...timesOf(frontier) });
  const grant = await stubs.ask(stubs.tso, stubs.tso.getTs, { count: 1 });
  records.timestamps.push({ first: (responseOf(grant).physicalMs << 18n) | BigInt(responseOf(grant).logicalStart), count: 1, ...timesOf(grant) });
  stubs.close();
  return (responseOf(grant).epochHi << 64n) | responseOf(grant).epochLo;
}

/** Keeps this process busy, and so lets the server come as far as it comes. */
function spin(microseconds: number): void {
  const until = process.hrtime.bigint() + BigInt(microseconds) * 1_000n;
  while (process.hrtime.bigint() < until);
}

interface Kill {
  /** Requests without an answer in the instant of the kill. */
  readonly inFlight: number;
  /** Those that never got one: the answers of the others were on their way already. */
  readonly unanswered: number;
}

function figures(seed: number, { records }: Callers, kills: readonly Kill[]): string {
  const counting = kills.filter(({ inFlight }) => inFlight >= IN_FLIGHT_MIN).length;
  const unanswered = kills.filter((kill) => kill.unanswered >= IN_FLIGHT_MIN).length;
  const asked = [...records.asked].sort().map(([name, count]) => `${name} ${count}`);
  return [
    `seed ${seed} (SEED=${seed} draws the same again; what the servers make of it differs)`,
    `kills ${kills.length}: with >= ${IN_FLIGHT_MIN} requests in flight ${counting}, with >= ${IN_FLIGHT_MIN} that were never answered ${unanswered}`,
    `in flight at each kill: ${kills.map(({ inFlight }) => inFlight).join(" ")}`,
    `never answered:         ${kills.map((kill) => kill.unanswered).join(" ")}`,
    `requests ${[...records.asked.values()].reduce((sum, count) => sum + count, 0)}: ${asked.join(", ")}; uncertain ${records.uncertain}`,
    `leases: ${records.leases.grants.length} grants of ${new Set(records.leases.grants.map(({ id }) => id)).size} ids`,
  ].join("\n");
}

/** For each key, and each gap in what was acknowledged: whose requests it was. */
function assignment({ keys }: SequenceReport<RecordedRequest>): string {
  return [...keys]
    .map(([key, { next, blocks, values, missing, assigned, uncertain }]) => {
      const missed = missing.reduce((sum, { start, end }) => sum + end - start, 0n);
      const gaps = missing.map(({ start, end }) => {
        const tiles = assigned.filter((each) => each.start >= start && each.end <= end);
        return `[${start}, ${end}) = ${tiles.map((each) => `${each.end - each.start} of caller ${each.request.caller}`).join(" + ")}`;
      });
      const head = `${key}: next ${next} = ${values} acknowledged in ${blocks} blocks + ${missed} missing, of ${assigned.length} of ${uncertain} uncertain requests`;
      return [head, ...gaps].join("\n  ");
    })
    .join("\n");
}

function responseOf<Response>(answer: Answer<Response>): Response {
  if (!answer.ok) throw answer.error;
  return answer.value;
}
