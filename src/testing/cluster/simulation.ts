/**
 * A run: chaos; then a quorum of the nodes is healed while the others stay as broken as they are, and every healed node's client must get a proposal decided; then
 * everything is healed, and all nodes must come to hold the same. Whatever a checker finds ends it, with the seed that shows it again.
 */
import type { NodeId } from "../../base/ids.ts";
import { createPrng } from "../../base/prng.ts";
import { resolveCoreOptions } from "../../paxos/core/options.ts";
import { checkLinearizability, historyText } from "../linearizability.ts";
import { Cluster, type ClusterEvent, type SimulatedNode } from "./cluster.ts";
import type { SimulatedDisk } from "./disk.ts";
import { Faults, type ScheduledFault } from "./faults.ts";
import { type ClusterObserver, Violation } from "./observed.ts";
import type { SimulatedProcess } from "./process.ts";
import { SafetyChecker } from "./safety.ts";
import { wentBack } from "./safety-disk.ts";
import { type ClusterSettings, drawSettings, type FaultKind, type Profile } from "./settings.ts";
import type { Trace } from "./trace.ts";
import { Workload } from "./workload.ts";

export interface SimulationOptions {
  readonly seed: number;
  /** @defaultValue "default" */
  readonly profile?: Profile | undefined;
  /** Instead of what the seed draws. */
  readonly settings?: ClusterSettings | undefined;
  /** Besides the safety checker. */
  readonly observers?: readonly ClusterObserver[] | undefined;
  readonly trace?: Trace | undefined;
}

export interface ClusterReport {
  readonly seed: number;
  readonly profile: Profile;
  readonly settings: ClusterSettings;
  readonly events: number;
  readonly turns: number;
  readonly messages: number;
  /** Entries, those of no value as well. */
  readonly decided: number;
  /** Reigns after the first one. */
  readonly leaderChanges: number;
  readonly campaigns: number;
  readonly requests: Workload["counts"];
  readonly faults: Readonly<Record<FaultKind, number>>;
  /** In order: as `settings.faults.script` they bring about the same run. */
  readonly struck: readonly ScheduledFault[];
  readonly maxRound: number;
  readonly virtualMs: number;
  /** From the healing of a quorum, and of everything, to what was required then. */
  readonly coreSettledMs: number;
  readonly convergedMs: number;
  /** Keys whose history was too hard to judge. */
  readonly undecidedKeys: number;
  /** Of everything that happened, in order: equal for equal seeds. */
  readonly traceHash: string;
}

/** A run that went wrong. `cause` says how. */
export class SimulationFailure extends Error {
  override readonly name = "SimulationFailure";
  readonly seed: number;
  readonly profile: Profile;
  readonly settings: ClusterSettings;
  /** That had struck by then, in order. */
  readonly faults: readonly ScheduledFault[];
  /** The command that shows it again, if the settings are those that the seed draws. */
  readonly again: string;

  constructor(seed: number, profile: Profile, settings: ClusterSettings, faults: readonly ScheduledFault[], cause: unknown) {
    const again = `npm run sim -- --from ${seed} --seeds 1 --profile ${profile}`;
    super(`seed ${seed}, profile ${profile}: ${cause instanceof Error ? cause.message : String(cause)}; again: ${again}`, { cause });
    this.seed = seed;
    this.profile = profile;
    this.settings = settings;
    this.faults = faults;
    this.again = again;
  }
}

/** @throws SimulationFailure; OracleError TSO_INVALID_OPTION for settings of which nothing can be made */
export function simulateCluster(options: SimulationOptions): ClusterReport {
  const { seed, profile = "default" } = options;
  const settings = options.settings ?? drawSettings(seed, profile);
  const run = new Run(seed, profile, settings, options);
  try {
    return run.run();
  } catch (error) {
    run.failed(error);
    throw new SimulationFailure(seed, profile, settings, run.faults, error);
  }
}

/** In election timeouts of the slowest node: how long a healed quorum may decide nothing, and how long healed nodes may stand still. */
const SETTLES_WITHIN = 60;
const STANDS_STILL_FOR = 40;
const PROBE_PATIENCE = 20;
/** How long a node is given that could only succeed with a vote that does not count. */
const STANDSTILL = 8;
const LOOK_EVERY_US = 5_000;

class Run {
  readonly #seed: number;
  readonly #profile: Profile;
  readonly #settings: ClusterSettings;
  readonly #safety: SafetyChecker;
  readonly #cluster: Cluster;
  readonly #workload: Workload;
  readonly #faults: Faults;
  /** Of the slowest node. */
  readonly #electionUs: number;

  constructor(seed: number, profile: Profile, settings: ClusterSettings, { observers = [], trace }: SimulationOptions) {
    const core = resolveCoreOptions(settings.core);
    this.#seed = seed;
    this.#profile = profile;
    this.#settings = settings;
    this.#electionUs = core.electionTicks * Math.max(...settings.ticksUs);
    this.#safety = new SafetyChecker({ core });
    this.#cluster = new Cluster(settings, seed, [this.#safety, ...observers], trace);
    this.#workload = new Workload(this.#cluster, [this.#safety], createPrng(seed ^ 0xc11e47));
    this.#faults = new Faults(this.#cluster, createPrng(seed ^ 0xfa117));
    this.#cluster.attach({
      settled: (_, settled) => this.#workload.onSettled(settled),
      answered: (process, answered) => this.#workload.onAnswered(process, answered),
      stopped: (process, fenced) => {
        this.#workload.onStopped(process);
        if (fenced) this.#faults.onFenced(process);
      },
      writeFailed: ({ id }) => this.#safety.expectFence(id),
    });
  }

  get faults(): readonly ScheduledFault[] {
    return this.#faults.struck;
  }

  /** For the trace. */
  failed(error: unknown): void {
    this.#cluster.failed(error);
  }

  run(): ClusterReport {
    const { counts, nodes } = this.#cluster;
    for (const { index } of nodes) this.#cluster.start(index);
    this.#workload.start();
    this.#faults.start();
    const { chaosEvents } = this.#settings;
    while (counts.events < chaosEvents || this.#faults.isAwaited) this.#step();
    const earlier = nodes.map(({ disk }) => disk.copy());
    const coreSettledMs = this.#requireProgress();
    const convergedMs = this.#requireConvergence(nodes.map(({ index }) => index));
    if (this.#settings.lostDisk !== "none") this.#loseDisk(this.#settings.lostDisk, earlier);
    this.#safety.checkBallots(this.#faults.struck.length);
    return this.#report(coreSettledMs, convergedMs, this.#judgeHistory());
  }

  #step(): void {
    const event: ClusterEvent = this.#cluster.next();
    switch (event.type) {
      case "client":
        return this.#workload.onClient(event.client);
      case "patience":
        return this.#workload.onPatience(event.client, event.round);
      case "fault":
        return this.#faults.onFault(event.fault);
      case "repair":
        return this.#faults.onRepair(event.repair);
      default:
        return this.#cluster.handle(event);
    }
  }

  #stepUntil(time: number): void {
    while (this.#cluster.now < time) this.#step();
  }

  /** @returns how long it took, in ms. */
  #requireProgress(): number {
    const healthy = this.#drawQuorum();
    const began = this.#cluster.now;
    this.#cluster.note(undefined, "a quorum is healed", healthy);
    this.#workload.stop();
    this.#faults.freeze();
    this.#faults.mend(healthy);
    this.#requireDecisions(healthy);
    return (this.#cluster.now - began) / 1000;
  }

  /** A client of each of these nodes gets a proposal decided. */
  #requireDecisions(nodes: readonly number[]): void {
    const began = this.#cluster.now;
    this.#workload.probe(nodes, PROBE_PATIENCE * this.#electionUs);
    let progress = -1;
    let movedAt = began;
    while (this.#workload.probing) {
      this.#step();
      const { now, nodes: all } = this.#cluster;
      // A leader outside of the healed quorum, whose links are bad and not dead, may go on deciding slowly, or wait for a member that pulls facts slowly: then it may
      // take longer, as long as it moves. While nothing is chosen that ends by itself, for there are only so many facts to learn.
      const moved = all.reduce<number>((sum, { disk }) => sum + disk.image.decidedThrough, this.#safety.chosenThrough);
      if (moved > progress) movedAt = now;
      progress = moved;
      if (now > movedAt + SETTLES_WITHIN * this.#electionUs || now > began + 10 * SETTLES_WITHIN * this.#electionUs)
        throw new Violation("liveness", "a healed quorum decides what its clients propose", this.#state());
    }
  }

  /**
   * A node comes back on another disk than its own. An empty one is not the member's (rule I1), and one that is older is found out by those who heard it vouch for more
   * (I3). Nobody else is held up; and once it has its own disk again all is as before.
   */
  #loseDisk(how: "wiped" | "rolled-back", earlier: readonly SimulatedDisk[]): void {
    const cluster = this.#cluster;
    const followers = cluster.nodes.filter(({ process }) => process?.turn.replica.leading === undefined);
    const { index } = createPrng(this.#seed ^ 0x105e).pick(followers as [SimulatedNode, ...SimulatedNode[]]);
    const old = earlier[index];
    if (old === undefined || (how === "rolled-back" && !this.#isMissed(index, old))) return;
    cluster.note(undefined, `a disk is ${how}`, { node: index + 1 });
    cluster.crash(index);
    old.countBootsFrom(cluster.node(index).disk.boot);
    cluster.startImpostor(index, how === "wiped" ? cluster.emptyDisk() : old, "started");
    const others = cluster.nodes.map((node) => node.index).filter((other) => other !== index);
    if (how === "rolled-back") {
      this.#requireFence(index);
      cluster.endImpostor(); // it votes by now, and no checker knows
    } else {
      this.#requireStandstill(others);
    }
    this.#requireDecisions(others);
    cluster.endImpostor();
    // It may have promised more than the disk it took the place of: then that is the one that went back, and must not return.
    if (this.#isMissed(index, cluster.node(index).disk)) return void this.#requireConvergence(others);
    // The impostor had the next boot count of this disk: what has that now is taken for its double, and only the one after is believed (rule I2).
    cluster.start(index);
    cluster.crash(index);
    cluster.start(index);
    this.#requireConvergence([...others, index]);
  }

  /** With one node fewer than a quorum nothing is decided, whatever an empty disk would vote for. */
  #requireStandstill(others: readonly number[]): void {
    const cluster = this.#cluster;
    const up = others.slice(0, Math.floor(cluster.nodes.length / 2));
    const down = others.slice(up.length);
    for (const index of down) cluster.crash(index);
    this.#workload.probe(up, PROBE_PATIENCE * this.#electionUs);
    this.#stepUntil(cluster.now + this.#electionUs / 2); // no campaign begins before
    // What is under way by now may have votes of those who are down, and may need no other than one that was lost on its way. Nothing that comes later can.
    const underWay = Math.max(
      ...cluster.nodes.map(({ disk, process }) => Math.max(disk.image.last, process?.turn.replica.inspect().image.last ?? 0)),
    );
    this.#stepUntil(cluster.now + STANDSTILL * this.#electionUs);
    if (this.#safety.chosenThrough > underWay) throw new Violation("identity", "a disk that is not the member's decides nothing", this.#state());
    for (const index of down) cluster.start(index);
  }

  /** Whether a peer has heard node `index` vouch for more than this disk holds. */
  #isMissed(index: number, { image }: SimulatedDisk): boolean {
    const node = this.#cluster.node(index).id;
    return this.#processes().some(({ turn }) => {
      const claims = turn.replica.state.claims.get(node);
      return claims !== undefined && wentBack(image, claims);
    });
  }

  /** Or that it was taught again all that it had forgotten, before anyone asked. */
  #requireFence(index: number): void {
    const began = this.#cluster.now;
    for (;;) {
      const { impostor } = this.#cluster;
      if (impostor === undefined || !this.#isMissed(index, impostor.disk)) return;
      this.#step();
      if (this.#cluster.now > began + STANDS_STILL_FOR * this.#electionUs)
        throw new Violation("reversion", "a disk that was rolled back is found out", this.#state());
    }
  }

  #drawQuorum(): number[] {
    const prng = createPrng(this.#seed ^ 0xc0de);
    const { nodes } = this.#cluster;
    // A disk whose snapshots are lost is a lost disk, until it has got another: with one that is behind it may not know together what was decided.
    const rest = nodes.filter(({ disk }) => !disk.lacksSnapshot).map(({ index }) => index);
    const size = Math.floor(nodes.length / 2) + 1;
    return Array.from({ length: size }, () => rest.splice(prng.below(rest.length), 1)).flat();
  }

  /** However far behind a node is: as long as it moves, it may go on. */
  #requireConvergence(nodes: readonly number[]): number {
    const began = this.#cluster.now;
    this.#cluster.note(undefined, "everything is healed");
    this.#faults.mend(nodes);
    let progress = -1;
    let lookAt = began;
    let movedAt = began;
    for (;;) {
      const { events } = this.#cluster.counts;
      this.#step();
      // A fault that is left over happens to nobody, and a run by script has none: it must not be what makes this look.
      if (this.#cluster.now < lookAt || this.#cluster.counts.events === events) continue;
      lookAt = this.#cluster.now + LOOK_EVERY_US;
      if (this.#isConverged(nodes.length)) break;
      const now = this.#processes().reduce((sum, { turn }) => sum + turn.appliedThrough, 0);
      if (now !== progress) movedAt = this.#cluster.now;
      progress = now;
      if (this.#cluster.now > movedAt + STANDS_STILL_FOR * this.#electionUs)
        throw new Violation("convergence", "healed nodes come to hold the same", this.#state());
    }
    this.#safety.checkConvergence(this.#processes());
    return (this.#cluster.now - began) / 1000;
  }

  #isConverged(nodes: number): boolean {
    if (this.#workload.openRequests > 0) return false;
    const processes = this.#processes();
    const [first] = processes;
    if (first === undefined || processes.length < nodes) return false;
    const through = this.#safety.chosenThrough;
    return processes.every(
      ({ turn, machine, disk }) =>
        turn.appliedThrough === through &&
        disk.image.decidedThrough === through &&
        machine.hash === first.machine.hash &&
        machine.applied === first.machine.applied,
    );
  }

  #processes(): SimulatedProcess[] {
    return this.#cluster.nodes.flatMap(({ process }) => (process === undefined ? [] : [process]));
  }

  /** @returns for how many keys nobody could tell. */
  #judgeHistory(): number {
    const [reader] = this.#processes();
    if (reader !== undefined) this.#workload.readAll(reader);
    const verdict = checkLinearizability(this.#workload.operations());
    if (verdict.type === "violation")
      throw new Violation("linearizability", `no order explains what clients saw:\n${historyText(verdict.excerpt)}`, { key: verdict.key });
    return verdict.type === "undecided" ? verdict.keys.length : 0;
  }

  /** For a failure. */
  #state(): Record<string, unknown> {
    const nodes = this.#cluster.nodes.map(({ id, process, disk }) => nodeState(id, process, disk.image.decidedThrough));
    return { chosenThrough: this.#safety.chosenThrough, openRequests: this.#workload.openRequests, nodes };
  }

  #report(coreSettledMs: number, convergedMs: number, undecidedKeys: number): ClusterReport {
    const { counts, nodes, network, hash, now } = this.#cluster;
    return {
      seed: this.#seed,
      profile: this.#profile,
      settings: this.#settings,
      events: counts.events,
      turns: counts.turns,
      messages: network.sent,
      decided: this.#safety.chosenThrough,
      leaderChanges: Math.max(0, counts.reigns - 1),
      campaigns: counts.campaigns,
      requests: this.#workload.counts,
      faults: this.#faults.counts,
      struck: this.#faults.struck,
      maxRound: Math.max(...nodes.map(({ disk }) => disk.image.promised.round)),
      virtualMs: now / 1000,
      coreSettledMs,
      convergedMs,
      undecidedKeys,
      traceHash: hash.text,
    };
  }
}

function nodeState(id: NodeId, process: SimulatedProcess | undefined, decidedThrough: number): object {
  if (process === undefined) return { id, down: true, decidedThrough };
  const { role, ballot, happy, image, sizes } = process.turn.replica.inspect();
  const { paused, boot, turn } = process;
  const applied = turn.appliedThrough;
  return {
    id,
    boot,
    paused,
    role,
    ballot,
    happy,
    promised: image.promised,
    accepted: image.accepted,
    last: image.last,
    decidedThrough,
    applied,
    sizes,
  };
}
