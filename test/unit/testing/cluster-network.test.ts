import { expect, test } from "vitest";
import { createPrng } from "../../../src/base/prng.ts";
import { EventQueue } from "../../../src/testing/cluster/event-queue.ts";
import { Network, type NetworkSettings } from "../../../src/testing/cluster/network.ts";
import { reachOf, TOPOLOGIES, type Topology } from "../../../src/testing/cluster/topology.ts";

const QUIET: NetworkSettings = {
  latencyUs: [100, 500],
  tail: 0,
  tailUs: 0,
  loss: 0,
  duplication: 0,
  echo: 0,
  echoUs: 0,
  reordering: 0,
  bytesPerMs: 0,
};

function network(settings: Partial<NetworkSettings> = {}, size = 3): Network {
  return new Network(size, { ...QUIET, ...settings }, createPrng(1));
}

test("events come out by their time, and in the order of their coming where that is one", () => {
  const prng = createPrng(5);
  const queue = new EventQueue<{ readonly at: number; readonly order: number }>();
  const expected = Array.from({ length: 2_000 }, (_, order) => ({ at: prng.below(100), order }));
  const out: { readonly at: number; readonly order: number }[] = [];
  for (const [index, event] of expected.entries()) {
    queue.push(event.at + (index < 1_000 ? 0 : 100), event);
    if (index === 999) for (let popped = queue.pop(); popped !== undefined; popped = queue.pop()) out.push(popped);
  }
  expect(queue.size).toBe(1_000);
  for (let popped = queue.pop(); popped !== undefined; popped = queue.pop()) out.push(popped);
  const sorted = [expected.slice(0, 1_000), expected.slice(1_000)].flatMap((half) => half.toSorted((a, b) => a.at - b.at || a.order - b.order));
  expect(out).toEqual(sorted);
  expect(queue.pop()).toBeUndefined();
  expect(queue.nextAt).toBe(Number.POSITIVE_INFINITY);
});

test("a quiet network delivers everything once, in order, within its latency", () => {
  const net = network();
  let last = 0;
  for (let now = 0; now < 10_000; now += 10) {
    const [at = 0, ...more] = net.send(now, 0, 1, 60);
    expect(more).toEqual([]);
    expect(at).toBeGreaterThanOrEqual(Math.max(last, now + 100));
    expect(at).toBeLessThanOrEqual(Math.max(last, now + 500));
    last = at;
  }
});

test("loss, duplication and reordering come at about their rates", () => {
  const net = network({ loss: 0.1, duplication: 0.1, echo: 0, echoUs: 0, reordering: 0.5 });
  const arrivals = Array.from({ length: 10_000 }, (_, now) => net.send(now, 0, 1, 60));
  const lost = arrivals.filter(({ length }) => length === 0).length;
  const doubled = arrivals.filter(({ length }) => length === 2).length;
  const firsts = arrivals.flatMap(([at]) => (at === undefined ? [] : [at]));
  expect(lost).toBeGreaterThan(900);
  expect(lost).toBeLessThan(1_100);
  expect(doubled).toBeGreaterThan(800);
  expect(doubled).toBeLessThan(1_000);
  expect(firsts.some((at, index) => at < (firsts[index - 1] ?? 0))).toBe(true);
});

test("a link is cut one way, or both, until it is healed; what is healed loses nothing", () => {
  const net = network({ loss: 0.5, duplication: 0.5 });
  net.shape([[0, 1]]);
  expect(Array.from({ length: 50 }, () => net.send(0, 0, 1, 60).length)).toEqual(Array.from({ length: 50 }, () => 0));
  expect(Array.from({ length: 50 }, () => net.send(0, 1, 0, 60).length)).toContain(1);
  expect(net.isOpen(0, 1)).toBe(false);
  expect(net.isOpen(0, 2)).toBe(true);
  net.heal([0, 1]);
  expect(net.isOpen(0, 1)).toBe(true);
  expect(Array.from({ length: 50 }, () => net.send(0, 0, 1, 60).length)).toEqual(Array.from({ length: 50 }, () => 1));
});

test("bandwidth makes long messages late, and what is behind them", () => {
  const net = network({ bytesPerMs: 1_000, latencyUs: [100, 100] });
  expect(net.send(0, 0, 1, 10_000)).toEqual([10_100]);
  expect(net.send(0, 0, 1, 1_000)).toEqual([11_100]);
  expect(net.send(0, 0, 2, 1_000)).toEqual([1_100]);
});

test.each<[Topology, string]>([
  ["full", "01 02 03 04 12 13 14 23 24 34"],
  ["star", "01 02 03 04"],
  ["chain", "01 12 23 34"],
  ["ring", "01 04 12 23 34"],
  ["bridge", "01 02 03 04 12 13 23"],
  ["isolate", "12 13 14 23 24 34"],
])("%s of five", (topology, pairs) => {
  const reach = reachOf(topology, [0, 1, 2, 3, 4], createPrng(1));
  const open = [0, 1, 2, 3, 4].flatMap((a) => [0, 1, 2, 3, 4].filter((b) => a < b && reach(a, b) && reach(b, a)).map((b) => `${a}${b}`));
  expect(open.join(" ")).toBe(pairs);
});

test("a split is of two groups, deafness goes one way", () => {
  const split = reachOf("split", [2, 0, 1], createPrng(3));
  expect(split(2, 1)).toBe(false);
  const deaf = reachOf("deaf", [1, 0, 2], createPrng(3));
  expect([deaf(0, 1), deaf(1, 0), deaf(0, 2)]).toEqual([false, true, true]);
  expect(TOPOLOGIES).toContain("one-way");
});
