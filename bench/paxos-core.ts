/**
 * What the core costs, alone: one, three or five nodes in this process, messages and writes that take one round of the loop, no timers. Proposals come in a closed
 * loop, and all that are due go into one inbox, so they batch as in the runtime. Then the simulator, checkers and all.
 *
 *     npm run bench:paxos -- --seconds 0.5 --rounds 9
 */
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import type { NodeId } from "../src/base/ids.ts";
import { InvariantViolation, invariant } from "../src/base/invariant.ts";
import { createPrng } from "../src/base/prng.ts";
import type { StateMachine } from "../src/log.ts";
import type { RequestNumber } from "../src/paxos/core/effects.ts";
import { genesisOf } from "../src/paxos/core/genesis.ts";
import { messageCodec } from "../src/paxos/core/message-codec.ts";
import type { Outgoing, PaxosMessage } from "../src/paxos/core/messages.ts";
import { resolveCoreOptions } from "../src/paxos/core/options.ts";
import { type Actions, Turn, type TurnInput } from "../src/paxos/turn.ts";
import { PROFILES, type Profile } from "../src/testing/cluster/settings.ts";
import { simulateCluster } from "../src/testing/cluster/simulation.ts";
import { median, round3 } from "./figures.ts";

interface Case {
  readonly nodes: number;
  /** Proposals whose outcome is open, at any time. */
  readonly inFlight: number;
  readonly payloadBytes: number;
  /** What each node may keep of decided entries: when it is full, entries leave as fast as they come. */
  readonly cacheBytes: number;
}

/** Messages as objects, or each one encoded and decoded. */
type Column = "objects" | "codec";

interface Measured {
  readonly perSecond: number;
  /** Of all nodes together. */
  readonly proposalUs: number;
  readonly turnUs: number;
  readonly turnsPerSecond: number;
  readonly messagesPerProposal: number;
}

const COLUMNS: readonly Column[] = ["objects", "codec"];
const MIB = 1024 * 1024;
/** Full within a moment at 24 bytes, so that what is measured is a node that has run for a while. */
const CACHE_BYTES = 4 * MIB;
const TICK_MS = 10;
const ROUNDS_PER_TICK = 100;
const NOTHING = new Uint8Array();

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "0.3" },
    rounds: { type: "string", default: "7" },
    seeds: { type: "string", default: "100" },
    nodes: { type: "string", multiple: true, default: ["1", "3", "5"] },
    "in-flight": { type: "string", multiple: true, default: ["1", "64", "1024"] },
    payload: { type: "string", multiple: true, default: ["24", "1024"] },
    cache: { type: "string", default: String(CACHE_BYTES) },
    json: { type: "boolean", default: false },
  },
});
const seconds = Number(values.seconds);
const rounds = Number(values.rounds);
const seeds = Number(values.seeds);
if (!(seconds > 0) || !(rounds >= 1) || !(seeds >= 0)) throw new RangeError(`nothing to measure with ${process.argv.slice(2).join(" ")}`);

function benchCore(): void {
  const cases = values.nodes.flatMap((nodes) =>
    values.payload.flatMap((payload) =>
      values["in-flight"].map((inFlight) => ({
        nodes: Number(nodes),
        payloadBytes: Number(payload),
        inFlight: Number(inFlight),
        cacheBytes: Number(values.cache),
      })),
    ),
  );
  heading("nodes payload in flight messages  proposals/s  us/proposal  us/turn    turns/s  messages/proposal  codec/objects");
  for (const each of cases) {
    const found: Record<Column, Measured[]> = { objects: [], codec: [] };
    const clusters = { objects: new Cluster(each, "objects"), codec: new Cluster(each, "codec") };
    for (const column of COLUMNS) clusters[column].run(seconds * 2);
    for (let round = 0; round < rounds; round++) for (const column of COLUMNS) found[column].push(clusters[column].run(seconds));
    const ratio = median(found.codec.map(({ perSecond }, round) => perSecond / (found.objects[round]?.perSecond ?? Number.NaN)));
    for (const column of COLUMNS) showCase(each, column, typical(found[column]), column === "codec" ? ratio : undefined);
  }
}

function benchSimulator(): void {
  simulate("default", 5); // warm
  heading("\nprofile        seeds     events    turns   events/s   turns/s   us/event");
  for (const profile of PROFILES.filter((name) => name !== "calm")) {
    const { events, turns, tookSeconds } = simulate(profile, seeds);
    const [perSecond, turnsPerSecond, eventUs] = [events / tookSeconds, turns / tookSeconds, (1e6 * tookSeconds) / events];
    tell({ line: "simulator", profile, seeds, events, turns, eventsPerSecond: Math.round(perSecond), turnsPerSecond: Math.round(turnsPerSecond) });
    row([profile.padEnd(13), [seeds, 6], [events, 10], [turns, 8], [perSecond, 10], [turnsPerSecond, 9], [eventUs.toFixed(2), 10]]);
  }
}

function simulate(profile: Profile, count: number): { readonly events: number; readonly turns: number; readonly tookSeconds: number } {
  const began = performance.now();
  let events = 0;
  let turns = 0;
  for (let seed = 1; seed <= count; seed++) {
    const report = simulateCluster({ seed, profile });
    events += report.events;
    turns += report.turns;
  }
  return { events, turns, tookSeconds: (performance.now() - began) / 1000 };
}

interface Node {
  readonly id: NodeId;
  readonly storageId: string;
  readonly turn: Turn;
  /** In its inbox when the next round begins. */
  due: TurnInput[];
}

class Cluster {
  readonly #inFlight: number;
  readonly #payload: Uint8Array;
  readonly #column: Column;
  readonly #nodes: readonly Node[];
  readonly #leader: Node;
  #round = 0;
  #nowMs = 0;
  #requests = 0;
  #settled = 0;
  #turns = 0;
  #messages = 0;

  constructor({ nodes, inFlight, payloadBytes, cacheBytes }: Case, column: Column) {
    const members = Array.from({ length: nodes }, (_, index) => {
      const id = (index + 1) as NodeId;
      return { id, storageId: `disk-${id}`, role: "voter" as const, address: "", prio: 0 };
    });
    const { image, entries } = genesisOf(members);
    const options = resolveCoreOptions({ cacheBytes });
    const runs = entries.map(({ slot, origin }) => ({ from: slot, origin }));
    this.#inFlight = inFlight;
    this.#payload = new Uint8Array(payloadBytes).fill(0x61);
    this.#column = column;
    this.#nodes = members.map(({ id, storageId }) => {
      const recovered = { node: id, storageId, boot: 1, image, runs, tail: entries };
      return { id, storageId, turn: new Turn({ recovered, options, random: createPrng(id), machine: NO_MACHINE }), due: [] };
    });
    this.#leader = this.#elect();
    this.#propose(this.#inFlight);
  }

  run(forSeconds: number): Measured {
    const before = { settled: this.#settled, turns: this.#turns, messages: this.#messages };
    const began = performance.now();
    let tookMs = 0;
    do {
      this.#deliver();
      tookMs = performance.now() - began;
    } while (tookMs < forSeconds * 1000);
    const settled = this.#settled - before.settled;
    const turns = this.#turns - before.turns;
    return {
      perSecond: (1000 * settled) / tookMs,
      proposalUs: (1000 * tookMs) / settled,
      turnUs: (1000 * tookMs) / turns,
      turnsPerSecond: (1000 * turns) / tookMs,
      messagesPerProposal: (this.#messages - before.messages) / settled,
    };
  }

  #elect(): Node {
    for (let round = 0; round < 100 * ROUNDS_PER_TICK * this.#nodes.length; round++) {
      this.#deliver();
      const leader = this.#nodes.find(({ turn }) => isEstablished(turn));
      if (leader !== undefined) return leader;
    }
    throw new InvariantViolation("nodes that hear each other elect a leader");
  }

  /** What was sent and written in the last round arrives, and every node that got something has a turn. */
  #deliver(): void {
    const ticks = this.#round++ % ROUNDS_PER_TICK === 0;
    if (ticks) this.#nowMs += TICK_MS;
    for (const { turn, due } of this.#nodes) {
      for (const input of due) turn.put(input);
      due.length = 0;
      if (ticks) turn.put(TICK);
    }
    for (const node of this.#nodes) if (node.turn.hasWork) this.#act(node, node.turn.run(this.#nowMs));
  }

  #act(node: Node, { sends, write, settled, load, serve, fence }: Actions): void {
    const asExpected = fence === undefined && load === undefined && serve.length === 0;
    if (!asExpected) throw new InvariantViolation("no node stops, and nothing is read from the disk", { fence, load, serve });
    this.#turns += 1;
    for (const outgoing of sends) this.#send(node, outgoing);
    if (write !== undefined) node.due.push(WRITTEN);
    for (const { outcome } of settled) invariant(outcome.type === "applied", "every proposal is applied", { outcome });
    this.#settled += settled.length;
    this.#propose(settled.length);
  }

  #send({ id: from, storageId }: Node, { to, message }: Outgoing<PaxosMessage>): void {
    this.#messages += 1;
    const heard = this.#column === "codec" ? messageCodec.decode(messageCodec.encode(message)) : message;
    this.#nodes[to - 1]?.due.push({ type: "message", from, storageId, boot: 1, message: heard });
  }

  #propose(count: number): void {
    for (let i = 0; i < count; i++) {
      this.#leader.due.push({ type: "propose", id: ++this.#requests as RequestNumber, payload: this.#payload });
    }
  }
}

const TICK: TurnInput = { type: "tick" };
const WRITTEN: TurnInput = { type: "written" };
const NO_MACHINE: StateMachine = { apply: () => NOTHING, capture: unused, stage: unused };

function isEstablished({ replica, appliedThrough }: Turn): boolean {
  const reignSlot = replica.leading?.reignSlot;
  return reignSlot !== undefined && reignSlot <= appliedThrough;
}

function unused(): never {
  throw new TypeError("no snapshots here");
}

function typical(all: readonly Measured[]): Measured {
  const of = (name: keyof Measured): number => median(all.map((each) => each[name]));
  return {
    perSecond: of("perSecond"),
    proposalUs: of("proposalUs"),
    turnUs: of("turnUs"),
    turnsPerSecond: of("turnsPerSecond"),
    messagesPerProposal: of("messagesPerProposal"),
  };
}

function showCase(each: Case, column: Column, found: Measured, codecOverObjects: number | undefined): void {
  const { perSecond, proposalUs, turnUs, turnsPerSecond, messagesPerProposal } = found;
  tell({
    line: "core",
    ...each,
    messages: column,
    proposalsPerSecond: Math.round(perSecond),
    proposalUs: round3(proposalUs),
    turnUs: round3(turnUs),
    turnsPerSecond: Math.round(turnsPerSecond),
    messagesPerProposal: round3(messagesPerProposal),
    codecOverObjects: round3(codecOverObjects),
    load: round3(loadavg()[0]),
  });
  row([
    [each.nodes, 5],
    [each.payloadBytes, 7],
    [each.inFlight, 9],
    ` ${column.padEnd(8)}`,
    [perSecond, 12],
    [proposalUs.toFixed(2), 12],
    [turnUs.toFixed(2), 8],
    [turnsPerSecond, 10],
    [messagesPerProposal.toFixed(3), 18],
    codecOverObjects === undefined ? "" : `${codecOverObjects.toFixed(2)}x`.padStart(14),
  ]);
}

function heading(text: string): void {
  if (!values.json) console.log(text);
}

/** Numbers are whole ones, to the right of their columns. */
function row(cells: readonly (string | readonly [value: number | string, width: number])[]): void {
  if (values.json) return;
  const text = (value: number | string): string => (typeof value === "number" ? Math.round(value).toLocaleString("en") : value);
  console.log(cells.map((cell) => (typeof cell === "string" ? cell : text(cell[0]).padStart(cell[1]))).join(" "));
}

function tell(line: { readonly line: string; readonly [figure: string]: unknown }): void {
  if (values.json) console.log(JSON.stringify(line));
}

const machine = { cores: cpus().length, cpu: cpus()[0]?.model, node: process.version, load: round3(loadavg()[0]), seconds, rounds };
tell({ line: "machine", ...machine });
heading(`${machine.cores} cores (${machine.cpu}), Node ${machine.node}, load ${machine.load}; medians of ${rounds} rounds of ${seconds} s\n`);
benchCore();
if (seeds > 0) benchSimulator();
