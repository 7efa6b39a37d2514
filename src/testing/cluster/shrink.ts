/**
 * Makes a failing run small: first without the faults that it does not need, then with simpler settings, for as long as it fails in the same way. What is left is what a
 * person has to understand.
 */
import { ddmin } from "./ddmin.ts";
import type { Fault, ScheduledFault } from "./faults.ts";
import { type ClusterObserver, Violation } from "./observed.ts";
import type { ClusterSettings } from "./settings.ts";
import { SimulationFailure, simulateCluster } from "./simulation.ts";

export interface ShrinkOptions {
  /** Of a run, besides the safety checker: new ones for each. */
  readonly observers?: (() => readonly ClusterObserver[]) | undefined;
  /** Runs at most, from 1 up. With fewer than are needed the result fails too, and is larger. @defaultValue 4000 */
  readonly maxRuns?: number | undefined;
  /** A smaller one was found. */
  readonly onSmaller?: ((smaller: SimulationFailure, runs: number) => void) | undefined;
}

export interface Shrunk {
  /** The smallest that was found; its settings have the faults as a script. */
  readonly failure: SimulationFailure;
  readonly runs: number;
  /** Whether nothing more can be left out, one thing at a time. */
  readonly isSmallest: boolean;
}

/** What may make a run simpler, in the order in which it is tried: the most telling first. Undefined where it is so already. */
type Simplification = (settings: ClusterSettings) => ClusterSettings | undefined;

const DEFAULT_RUNS = 4_000;
const SEEDS = 6;
/** Below this a fault's duration is not worth a run. */
const SHORTEST_US = 1_000;

export function shrinkFailure(failure: SimulationFailure, options: ShrinkOptions = {}): Shrunk {
  return new Shrinking(failure, options).run();
}

class Shrinking {
  #smallest: SimulationFailure;
  #runs = 0;
  readonly #wanted: string;
  readonly #options: ShrinkOptions;

  constructor(failure: SimulationFailure, options: ShrinkOptions) {
    this.#smallest = failure;
    this.#wanted = signatureOf(failure.cause);
    this.#options = options;
  }

  run(): Shrunk {
    // From here on its faults are a list, and come at the same times as before.
    this.#tries(withScript(this.#smallest.settings, this.#smallest.faults));
    let before: SimulationFailure;
    do {
      before = this.#smallest;
      this.#dropFaults();
      for (const simplify of SIMPLIFICATIONS) while (this.#simplifies(simplify)) if (this.#isOver) break;
      this.#shortenFaults();
    } while (before !== this.#smallest && !this.#isOver);
    return { failure: this.#smallest, runs: this.#runs, isSmallest: !this.#isOver };
  }

  get #isOver(): boolean {
    return this.#runs >= (this.#options.maxRuns ?? DEFAULT_RUNS);
  }

  /** Runs with these settings; if it fails in the same way, that is the smallest one now. Where less happens chance falls otherwise, so a few other seeds may show it too. */
  #tries(settings: ClusterSettings): boolean {
    const { seed } = this.#smallest;
    for (let other = 0; other < SEEDS && !this.#isOver; other++) if (this.#fails(seed + other, settings)) return true;
    return false;
  }

  #fails(seed: number, settings: ClusterSettings): boolean {
    this.#runs += 1;
    const { profile } = this.#smallest;
    try {
      simulateCluster({ seed, profile, settings, observers: this.#options.observers?.() });
    } catch (error) {
      if (!(error instanceof SimulationFailure) || signatureOf(error.cause) !== this.#wanted) return false;
      this.#smallest = error;
      this.#options.onSmaller?.(error, this.#runs);
      return true;
    }
    return false;
  }

  #simplifies(simplify: Simplification): boolean {
    const simpler = simplify(this.#smallest.settings);
    return simpler !== undefined && this.#tries(simpler);
  }

  #dropFaults(): void {
    const { settings } = this.#smallest;
    ddmin(settings.faults.script ?? [], (script) => this.#tries(withScript(settings, script)));
  }

  #shortenFaults(): void {
    const faults = this.#smallest.settings.faults.script?.length ?? 0;
    for (let place = 0; place < faults; place++) {
      while (!this.#isOver && this.#simplifies((settings) => shortened(settings, place)));
    }
  }
}

/** Two runs fail in the same way if the same check found them out. */
function signatureOf(cause: unknown): string {
  if (cause instanceof Violation) return `Violation ${cause.check}`;
  if (!(cause instanceof Error)) return String(cause);
  const { name, message: claim } = cause;
  return `${name} ${claim.split(/[:\d]/)[0]}`;
}

function withScript(settings: ClusterSettings, script: readonly ScheduledFault[]): ClusterSettings {
  return { ...settings, faults: { ...settings.faults, script } };
}

function shortened(settings: ClusterSettings, place: number): ClusterSettings | undefined {
  const script = settings.faults.script ?? [];
  const scheduled = script[place];
  if (scheduled === undefined || !("forUs" in scheduled.fault) || scheduled.fault.forUs < 2 * SHORTEST_US) return undefined;
  const fault: Fault = { ...scheduled.fault, forUs: Math.floor(scheduled.fault.forUs / 2) };
  return withScript(settings, script.with(place, { ...scheduled, fault }));
}

const SIMPLIFICATIONS: readonly Simplification[] = [
  fewerNodes,
  earlier,
  (settings) => (settings.lostDisk === "none" ? undefined : { ...settings, lostDisk: "none" }),
  (settings) => (settings.encoded ? { ...settings, encoded: false } : undefined),
  (settings) => (settings.turnDelayUs === 0 ? undefined : { ...settings, turnDelayUs: 0 }),
  (settings) => (settings.prios.every((prio) => prio === 0) ? undefined : { ...settings, prios: settings.prios.map(() => 0) }),
  evenTicks,
  ...(["echo", "loss", "duplication", "reordering", "tail", "bytesPerMs"] as const).map(
    (name): Simplification =>
      (settings) =>
        settings.network[name] === 0 ? undefined : { ...settings, network: { ...settings.network, [name]: 0 } },
  ),
  ...(["tail", "durableAtCut"] as const).map(
    (name): Simplification =>
      (settings) =>
        settings.disk[name] === 0 ? undefined : { ...settings, disk: { ...settings.disk, [name]: 0 } },
  ),
  ...Object.entries({ clients: 1, burst: 1, reads: 0, appends: 0, anywhere: 0, fenced: 0, confirms: 0, paddingBytes: 0 } as const).map(
    ([name, least]): Simplification =>
      ({ workload, ...rest }) =>
        workload[name as keyof typeof workload] === least ? undefined : { ...rest, workload: { ...workload, [name]: least } },
  ),
  (settings) => (settings.chaosEvents < 20 ? undefined : { ...settings, chaosEvents: Math.floor(settings.chaosEvents / 2) }),
];

/** One node fewer, the last, and no fault at it. */
function fewerNodes(settings: ClusterSettings): ClusterSettings | undefined {
  const nodes = settings.nodes - 1;
  if (nodes < 1) return undefined;
  const script = (settings.faults.script ?? []).flatMap((scheduled) => {
    const fault = amongNodes(scheduled.fault, nodes);
    return fault === undefined ? [] : [{ ...scheduled, fault }];
  });
  return withScript({ ...settings, nodes, prios: settings.prios.slice(0, nodes), ticksUs: settings.ticksUs.slice(0, nodes) }, script);
}

function amongNodes(fault: Fault, nodes: number): Fault | undefined {
  switch (fault.type) {
    case "topology":
      return { ...fault, cut: fault.cut.filter((link) => link.every((node) => node <= nodes)) };
    case "falseHint":
      return fault.node <= nodes && fault.about <= nodes ? fault : undefined;
    case "sendBlocked":
      return fault.node <= nodes ? { ...fault, peers: fault.peers.filter((peer) => peer <= nodes) } : undefined;
    default:
      return fault.node <= nodes ? fault : undefined;
  }
}

/** All faults by half of the time that passes before the first. */
function earlier(settings: ClusterSettings): ClusterSettings | undefined {
  const { script = [] } = settings.faults;
  const by = Math.floor((script[0]?.atUs ?? 0) / 2);
  return by < SHORTEST_US
    ? undefined
    : withScript(
        settings,
        script.map(({ atUs, fault }) => ({ atUs: atUs - by, fault })),
      );
}

function evenTicks(settings: ClusterSettings): ClusterSettings | undefined {
  const [first = 0] = settings.ticksUs;
  return settings.ticksUs.every((ticks) => ticks === first) ? undefined : { ...settings, ticksUs: settings.ticksUs.map(() => first) };
}
