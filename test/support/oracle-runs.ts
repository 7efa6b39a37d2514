/** Runs of a single node's oracle over several processes, drawn from a seed: what each step submits, and what the state is after it. */
import { type Epoch, epoch } from "../../src/base/epoch.ts";
import { createPrng, type Prng } from "../../src/base/prng.ts";
import type { OracleView } from "../../src/oracle/driver.ts";
import type { OracleCommand } from "../../src/oracle/rules/command.ts";
import type { OracleLimits } from "../../src/oracle/rules/limits.ts";
import { OracleMachine } from "../../src/oracle/rules/machine.ts";
import type { Lease } from "../../src/oracle/rules/state.ts";
import { OracleModel } from "./oracle-model.ts";

/** Commands that are submitted in one turn, and so share one commit. */
export type Step = readonly OracleCommand[];

export interface Run {
  /** The steps of each process that opens the directory, one after the other. The first of each is its take-over. */
  readonly processes: readonly (readonly Step[])[];
  /** What the state is after the first n steps, printed. */
  readonly states: readonly string[];
  /** The high water after the first n steps: it only rises. */
  readonly highWaters: readonly number[];
  readonly commands: number;
}

export interface RunOptions {
  readonly seed: number;
  readonly commands: number;
  /** Processes that open the directory. */
  readonly processes: number;
  readonly limits: OracleLimits;
}

const KEYS = ["a", "b", "c", "d", "e"] as const;

/** The n-th process leads epoch n: the count of opens. */
export function drawRun({ seed, commands, processes, limits }: RunOptions): Run {
  const prng = createPrng(seed);
  const drawing = new Drawing(prng, limits);
  const drawn: Step[][] = [];
  for (let process = 1; process <= processes; process++) {
    const steps = [drawing.takeOver(epoch(BigInt(process)))];
    while (drawing.commands < (commands * process) / processes) steps.push(drawing.step());
    drawn.push(steps);
  }
  return { ...drawing, processes: drawn };
}

/** One process that takes over and submits each of `commands` by itself. For states too large for the model: the machine itself tells them. */
export function runOf(limits: OracleLimits, commands: readonly OracleCommand[]): Run {
  const machine = new OracleMachine();
  const reign = epoch(1n);
  const window = { now: 1_700_000_000_000, failoverAdvanceMs: 500, maxClockJumpMs: 86_400_000 };
  const steps: Step[] = [[{ type: "take-over", epoch: reign, ...window, limits }], ...commands.map((command) => [command])];
  const states = [printView(machine.state)];
  const highWaters = [0];
  for (const step of steps) {
    const transaction = machine.begin({ epoch: reign });
    for (const command of step) transaction.apply(command);
    transaction.commit();
    states.push(printView(machine.state));
    highWaters.push(machine.state.highWater);
  }
  return { processes: [steps], states, highWaters, commands: steps.length };
}

/** Draws each command from what a model holds by then, and keeps what the model holds after each step. */
class Drawing {
  readonly states: string[] = [];
  readonly highWaters: number[] = [];
  commands = 0;
  readonly #prng: Prng;
  readonly #limits: OracleLimits;
  readonly #model = new OracleModel();
  #epoch: Epoch = epoch(0n);
  #now = 1_700_000_000_000;

  constructor(prng: Prng, limits: OracleLimits) {
    this.#prng = prng;
    this.#limits = limits;
    this.#keep();
  }

  takeOver(reign: Epoch): Step {
    this.#epoch = reign;
    const window = { failoverAdvanceMs: 500, maxClockJumpMs: 86_400_000 };
    return this.#apply([{ type: "take-over", epoch: reign, now: this.#now, ...window, limits: this.#limits }]);
  }

  /** Mostly one command, else several at once. */
  step(): Step {
    const count = this.#prng.chance(0.6) ? 1 : 2 + this.#prng.below(5);
    return this.#apply(Array.from({ length: count }, () => this.#command()));
  }

  #apply(step: Step): Step {
    for (const command of step) this.#model.apply(command, this.#epoch);
    this.commands += step.length;
    this.#keep();
    return step;
  }

  #keep(): void {
    this.states.push(printed(this.#model.state, this.#model.state.sequences));
    this.highWaters.push(this.#model.state.highWater);
  }

  #command(): OracleCommand {
    const prng = this.#prng;
    this.#now += prng.below(300);
    const [now, reign] = [this.#now, this.#epoch];
    const block = (key: string) => ({ key, count: 1 + prng.below(20) });
    const lease = this.#model.state.leases[prng.below(this.#model.state.leases.length + 1)];
    const draws: readonly [() => OracleCommand, ...(() => OracleCommand)[]] = [
      () => ({ type: "sequence", groups: [[block(prng.pick(KEYS))]] }),
      () => ({ type: "sequence", epoch: reign, groups: [[block(prng.pick(KEYS))]] }),
      () => ({ type: "sequence", groups: [[block("a"), block("c"), block("e")], [block(prng.pick(KEYS))]] }),
      // The second group is refused, and the others are not.
      () => ({ type: "sequence", groups: [[block("b")], [block("d"), { key: "", count: 1 }], [block("d")]] }),
      () => ({ type: "sequence-init", epoch: reign, key: `init ${prng.below(20)}`, first: BigInt(prng.below(1_000)) }),
      () => ({ type: "advance", epoch: reign, now, atLeast: this.#model.state.highWater + prng.below(2_000) - 500 }),
      () => ({ type: "expire", epoch: reign, now }),
      () => ({
        type: "lease-acquire",
        epoch: reign,
        now,
        holder: this.#holder(),
        holderEpoch: BigInt(prng.below(4)),
        ttlMs: 500 + prng.below(3_000),
      }),
      () => ({ type: "lease-acquire", epoch: reign, now, holder: this.#holder(), holderEpoch: 9n, ttlMs: 2_000 }),
      () => ({ type: "lease-renew", epoch: reign, now, id: lease?.id ?? 7 }),
      () => ({ type: "lease-release", epoch: reign, now, id: lease?.id ?? 7 }),
    ];
    return prng.pick(draws)();
  }

  /** Some are long, so that frames of several sectors are common, and some of their sectors zero on purpose. */
  #holder(): Uint8Array {
    const holder = new Uint8Array(this.#prng.chance(0.2) ? 900 : 1);
    holder[0] = this.#prng.below(3);
    return holder;
  }
}

/** Everything there is to see of a driver's state. */
export function printView(view: OracleView): string {
  const sequences = [...view.sequences()].map(([key, { first, next }]) => ({ key, first, next }));
  return printed(
    { ...view, limits: view.limits, clock: view.clock, highWater: view.highWater, fence: view.fence, leases: [...view.leases()] },
    sequences,
  );
}

interface Printed {
  readonly limits: OracleLimits | undefined;
  readonly clock: number;
  readonly highWater: number;
  readonly fence: Epoch;
  readonly leases: readonly Lease[];
}

function printed({ limits, clock, highWater, fence, leases }: Printed, sequences: readonly { readonly key: string }[]): string {
  const byKey = [...sequences].sort((a, b) => (a.key < b.key ? -1 : 1));
  const byId = leases.map((lease) => ({ ...lease, holder: Buffer.from(lease.holder).toString("hex") })).sort((a, b) => a.id - b.id);
  return JSON.stringify([limits, clock, highWater, fence, byKey.map(sorted), byId.map(sorted)], (_, value) =>
    typeof value === "bigint" ? `${value}` : value,
  );
}

/** The order in which an object got its fields is no part of what it says. */
function sorted(fields: object): readonly (readonly [string, unknown])[] {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
