/**
 * Random commands against three nodes, and a model that knows everything (protocol, 7.5): the log of what was decided, and what was said of it. Nothing moves but by
 * a command, so a counterexample is a list of them. Messages are picked by a number modulo how many wait: a shorter list still means something.
 *
 * A failure prints a `replayPath` with the list: `REPLAY='name|seed|path|replayPath'` runs exactly that one again.
 */
import fc from "fast-check";
import { CommandCluster } from "../support/command-cluster.ts";
import { property } from "../support/property.ts";

/** The cluster holds its own model: commands need none of fast-check's. */
type Command = fc.Command<object, CommandCluster>;

function command(text: string, act: (cluster: CommandCluster) => void): Command {
  return {
    check: () => true,
    run: (_, cluster) => {
      act(cluster);
      cluster.check();
    },
    toString: () => text,
  };
}

const node = fc.integer({ min: 1, max: 3 });
const pick = fc.nat({ max: 63 });

const deliver = pick.map((at) => command(`deliver(${at})`, (cluster) => cluster.deliver(at)));
const drop = pick.map((at) => command(`drop(${at})`, (cluster) => cluster.drop(at)));
const duplicate = pick.map((at) => command(`duplicate(${at})`, (cluster) => cluster.duplicate(at)));
const remember = pick.map((at) => command(`remember(${at})`, (cluster) => cluster.remember(at)));
const recall = pick.map((at) => command(`recall(${at})`, (cluster) => cluster.recall(at)));
const pulse = node.map((id) => command(`pulse(${id})`, (cluster) => cluster.pulse(id)));
const elect = fc.constant(command("elect()", (cluster) => cluster.elect()));
const tick = fc
  .tuple(node, fc.integer({ min: 1, max: 30 }))
  .map(([id, count]) => command(`tick(${id}, ${count})`, (cluster) => cluster.tick(id, count)));
/** Ticks everywhere with everything delivered and written: without it, few runs would get past an election. */
const settle = fc.integer({ min: 1, max: 8 }).map((count) => command(`settle(${count})`, (cluster) => cluster.settle(count)));
/** As many messages as there are, or fewer, in an order of their own: nothing is written meanwhile. */
const shuffle = fc
  .tuple(fc.integer({ min: 1, max: 12 }), pick)
  .map(([count, stride]) => command(`shuffle(${count}, ${stride})`, (cluster) => cluster.shuffle(count, stride)));
const persist = node.map((id) => command(`persist(${id})`, (cluster) => cluster.persist(id)));
const crash = fc
  .tuple(node, fc.constantFrom("lost" as const, "kept" as const))
  .map(([id, write]) => command(`crash(${id}, ${write})`, (cluster) => cluster.crash(id, write)));
const restart = node.map((id) => command(`restart(${id})`, (cluster) => cluster.restart(id)));
const isolate = node.map((id) => command(`isolate(${id})`, (cluster) => cluster.isolate(id)));
const heal = fc.constant(command("heal()", (cluster) => cluster.heal()));
const propose = node.map((id) => command(`propose(${id})`, (cluster) => cluster.propose(id)));
const read = fc
  .tuple(node, fc.constantFrom("leader" as const, "node" as const))
  .map(([id, at]) => command(`read(${id}, ${at})`, (cluster) => cluster.read(id, at)));

/** How often each is drawn, by how often it stands here. */
const commands = [
  ...[deliver, deliver, deliver, deliver, shuffle, shuffle, pulse, elect, drop, duplicate, remember, recall],
  ...[tick, tick, tick, settle, settle, settle, persist, persist, persist],
  ...[propose, propose, propose, read, read, crash, restart, restart, isolate, heal],
];

/** Short times, so that a few ticks are an election. */
const TIMES = {
  heartbeatTicks: 1,
  heartbeatSlack: 1,
  electionTicks: 4,
  checkQuorumTicks: 6,
  campaignTicks: 10,
  graceTicks: 4,
  rebidTicks: 4,
  retransmitTicks: 3,
  probationTicks: 4,
  decidedFlushTicks: 2,
  readTicks: 10,
};
/** Small limits make rare paths common. */
const limits = fc.record({
  promiseInlineBytes: fc.constantFrom(0, 1_000),
  cacheBytes: fc.constantFrom(0, 100, 10_000),
  maxAcceptBytes: fc.constantFrom(1, 1_000),
  maxFetchBytes: fc.constantFrom(1, 1_000),
});

const replayPath = process.env["REPLAY"]?.split("|")[3];
const given = replayPath === undefined ? {} : { replayPath };

property(
  "whatever is delivered, lost, doubled and crashed, what was decided stays, what was said is true, and a healed cluster goes on",
  fc.property(limits, fc.commands(commands, { maxCommands: 1_000, size: "max", ...given }), (drawn, list) => {
    const real = new CommandCluster({ ...TIMES, ...drawn });
    fc.modelRun(() => ({ model: {}, real }), list);
    real.recover();
  }),
);
