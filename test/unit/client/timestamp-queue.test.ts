/** How one answer is shared out, and which answer is one: the node says whatever the test writes. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { OracleError } from "../../../src/base/errors.ts";
import { OracleClient } from "../../../src/client/oracle-client.ts";
import { ScriptedWorld } from "../../support/client-world.ts";
import { property } from "../../support/property.ts";

const LOGICALS = 262_144n;
const START = 1_000_000n * LOGICALS;
const EPOCH = 2n ** 64n + 5n;

/** What the node says to a request for `count`: its first timestamp, packed, how many, and its epoch. */
type Said = (count: number) => { readonly first: bigint; readonly count: number; readonly epoch: bigint };

/** A client of one node, each of whose answers is what `say` returns when it arrives. A request and its answer take 1 ms each. */
function sharing(say: Said): { readonly world: ScriptedWorld; readonly client: OracleClient } {
  const world = new ScriptedWorld({ nodes: ["a:1"], script: [], random: () => 0.5 });
  world.lead("a:1");
  const asked: number[] = [];
  world.onTimestamps = (count) => asked.push(count);
  const { send } = world.transport;
  world.transport.send = (endpoint, method, request, done) =>
    send(endpoint, method, request, (reply) => {
      if (reply.type !== "answer") return done(reply);
      const { first, count, epoch } = say(asked.at(-1) ?? 0);
      const answer = {
        physicalMs: first / LOGICALS,
        logicalStart: Number(first % LOGICALS),
        count,
        epochHi: epoch >> 64n,
        epochLo: epoch % 2n ** 64n,
      };
      done({ ...reply, value: { ...reply.value, ...answer } });
    });
  return { world, client: OracleClient.inWorld(["a:1"], {}, world) };
}

/** A client that was given a block of ten from `first` on, in `EPOCH`; the next answers are `said`. */
async function served(first: bigint, said: readonly Said[]) {
  const answers = [(count: number) => ({ first, count, epoch: EPOCH }), ...said];
  const { world, client } = sharing((count) => answers.shift()?.(count) ?? { first: 0n, count: 0, epoch: 0n });
  const block = client.getTsRange(10);
  await world.run(20);
  expect(await block).toEqual({ first, count: 10, epoch: EPOCH });
  return { world, client };
}

test.each<readonly [string, Said]>([
  ["begins with the timestamp that was handed out last", (count) => ({ first: START + 9n, count, epoch: EPOCH })],
  ["begins within the block that was handed out", (count) => ({ first: START + 5n, count, epoch: EPOCH })],
  ["is the one before once more", (count) => ({ first: START, count, epoch: EPOCH })],
  ["goes back, though its epoch is a later one", (count) => ({ first: START - 1n, count, epoch: EPOCH + 1n })],
  ["is of an earlier epoch", (count) => ({ first: START + 100n, count, epoch: EPOCH - 1n })],
  ["is of an epoch that is earlier in its upper half, and later in its lower", (count) => ({ first: START + 100n, count, epoch: 9n })],
  ["has fewer than were asked for", (count) => ({ first: START + 100n, count: count - 1, epoch: EPOCH })],
  ["has more than were asked for", (count) => ({ first: START + 100n, count: count + 1, epoch: EPOCH })],
  ["ends in another millisecond than it begins", (count) => ({ first: START + LOGICALS - 3n, count, epoch: EPOCH })],
  ["lies beyond the range of timestamps", (count) => ({ first: 2n ** 64n, count, epoch: EPOCH })],
])("an answer that %s is handed out to nobody", async (_, said) => {
  const { world, client } = await served(START, [said, said]);
  const calls = Promise.allSettled([client.getTs({ deadlineMs: 100 }), client.getTsRange(3, { deadlineMs: 100 })]);
  await world.run(1_000);
  const codes = (await calls).map((each) => each.status === "rejected" && each.reason instanceof OracleError && each.reason.code);
  for (const code of codes) expect(code).toBeOneOf(["TSO_SERVER_ERROR", "TSO_NO_LEADER"]);
});

test("an answer may begin right after what was handed out, and end with the last timestamp of its millisecond", async () => {
  const { world, client } = await served(START + LOGICALS - 14n, [(count) => ({ first: START + LOGICALS - 4n, count, epoch: EPOCH })]);
  const calls = Promise.all([client.getTs(), client.getTsRange(3)]);
  await world.run(1_000);
  expect(await calls).toEqual([START + LOGICALS - 4n, { first: START + LOGICALS - 3n, count: 3, epoch: EPOCH }]);
});

test("each caller has its own part of the answer, in the order in which they came, also next to one who gave up", async () => {
  const { world, client } = await served(START, [(count) => ({ first: START + 100n, count, epoch: EPOCH })]);
  const controller = new AbortController();
  const counts = [3, 1, 5, 2, 1];
  const calls = Promise.allSettled(counts.map((count, index) => client.getTsRange(count, index === 2 ? { signal: controller.signal } : {})));
  world.at(world.now + 1, () => controller.abort("enough"));
  await world.run(1_000);
  const firsts = (await calls).map((each) => (each.status === "fulfilled" ? each.value.first - START : each.reason));
  expect(firsts).toEqual([100n, 103n, "enough", 109n, 111n]);
});

test("who comes while a request is under way has no part of its answer", async () => {
  const { world, client } = await served(
    START,
    [100n, 200n, 300n].map((by) => (count) => ({ first: START + by, count, epoch: EPOCH })),
  );
  const calls = [client.getTs(), client.getTsRange(2)];
  world.at(world.now + 1, () => calls.push(client.getTs(), client.getTs()));
  world.at(world.now + 3, () => calls.push(client.getTs()));
  await world.run(1_000);
  const firsts = (await Promise.all(calls)).map((each) => (typeof each === "bigint" ? each : each.first) - START);
  expect(firsts).toEqual([100n, 101n, 200n, 201n, 300n]);
});

interface Arrival {
  readonly at: number;
  readonly count: number;
  readonly abortAfter: number | undefined;
}
/** How an answer differs from the one that follows on what was handed out last. */
interface Flaws {
  readonly first: number;
  readonly count: number;
  readonly epoch: number;
}
const mostly = (flaws: fc.Arbitrary<number>): fc.Arbitrary<number> =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: flaws });
const anyFlaws: fc.Arbitrary<Flaws> = fc.record({
  first: fc.oneof(fc.constant(0), fc.integer({ min: -8, max: 3 })),
  count: mostly(fc.constantFrom(-1, 1)),
  epoch: mostly(fc.constantFrom(-1, 1)),
});
const anyArrival: fc.Arbitrary<Arrival> = fc.record({
  at: fc.integer({ min: 10, max: 40 }),
  count: fc.integer({ min: 1, max: 4 }),
  abortAfter: fc.option(fc.nat(4), { nil: undefined, freq: 4 }),
});

interface Waiting {
  readonly count: number;
  /** The first of its part of the answer that it was in. */
  share: bigint | undefined;
  /** What it was told: its first timestamp, or why it has none. */
  got: unknown;
}

/** The queue once more, dumb: all who wait are in every request, and an answer that is one ends their wait. */
class QueueModel {
  readonly all: Waiting[] = [];
  waiting: readonly Waiting[] = [];
  #aboard: readonly Waiting[] = [];
  #next = START + LOGICALS - 10n; // the end of the millisecond is near
  #epoch = EPOCH;

  come(count: number): Waiting {
    const caller: Waiting = { count, share: undefined, got: undefined };
    this.all.push(caller);
    this.waiting = [...this.waiting, caller];
    return caller;
  }

  leave(caller: Waiting): void {
    this.waiting = this.waiting.filter((each) => each !== caller);
  }

  /** A request leaves. Returns for how many it is. */
  board(): number {
    this.#aboard = this.waiting;
    return this.#aboard.reduce((sum, { count }) => sum + count, 0);
  }

  /** What the node says to a request for `asked`; without `flaws` it is as it should be. */
  answer(asked: number, flaws: Flaws | undefined): ReturnType<Said> {
    if (flaws === undefined && (this.#next % LOGICALS) + BigInt(asked) > LOGICALS) this.#next = (this.#next / LOGICALS + 1n) * LOGICALS;
    const { first, count, epoch } = flaws ?? { first: 0, count: 0, epoch: 0 };
    const said = { first: this.#next + BigInt(first), count: asked + count, epoch: this.#epoch + BigInt(epoch) };
    const isWhole = said.count === asked && (said.first % LOGICALS) + BigInt(asked) <= LOGICALS;
    if (isWhole && said.first >= this.#next && said.epoch >= this.#epoch) this.#share(said.first, said.epoch);
    return said;
  }

  #share(first: bigint, epoch: bigint): void {
    this.#next = first;
    this.#epoch = epoch;
    for (const caller of this.#aboard) {
      caller.share = this.#next;
      this.#next += BigInt(caller.count);
      this.leave(caller);
    }
  }
}

property(
  "whatever is answered, a caller has its part of the first answer that follows on what was handed out, and of no other",
  fc.asyncProperty(fc.array(anyArrival, { minLength: 1, maxLength: 15 }), fc.array(anyFlaws, { maxLength: 15 }), async (arrivals, flaws) => {
    const model = new QueueModel();
    const script: (Flaws | undefined)[] = [undefined, ...flaws]; // after the first answer an epoch is known
    const { world, client } = sharing((asked) => model.answer(asked, script.shift()));
    const requests: { readonly count: number; readonly wanted: number }[] = [];
    const { onTimestamps } = world;
    world.onTimestamps = (count) => {
      onTimestamps(count);
      requests.push({ count, wanted: model.board() });
    };
    const come = ({ at, count, abortAfter }: Arrival): void => {
      const caller = model.come(count);
      const controller = new AbortController();
      client.getTsRange(count, { signal: controller.signal }).then(
        ({ first }) => {
          caller.got = first;
        },
        (error: unknown) => {
          model.leave(caller);
          caller.got = error;
        },
      );
      if (abortAfter === undefined) return;
      world.at(at + abortAfter, () => {
        model.leave(caller);
        controller.abort("enough");
      });
    };
    for (const arrival of [{ at: 0, count: 1, abortAfter: undefined }, ...arrivals]) world.at(arrival.at, () => come(arrival));
    await world.run(20_000);
    for (const { count, wanted } of requests) expect(count, "a request is for all who wait").toBe(wanted);
    for (const { share, got } of model.all) {
      if (typeof got === "bigint") expect(got).toBe(share);
      else if (got !== "enough") expect([share, got]).toEqual([undefined, expect.any(OracleError)]);
    }
    expect(model.waiting, "nobody waits for ever").toEqual([]);
  }),
);
