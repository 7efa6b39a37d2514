/** What a measurement says, and how several of them become one. */
import { cpus } from "node:os";

export interface Measurement {
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** CPU time of one call, where there are two processes. */
  readonly clientCpuUs?: number;
  readonly serverCpuUs?: number;
  readonly flushesPerRequest: number;
  /** Cores that neither client nor server used meanwhile, but somebody did. */
  readonly otherCores: number;
}

export function percentiles(latenciesUs: Float64Array): { readonly p50Us: number; readonly p99Us: number } {
  const sorted = latenciesUs.sort();
  const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
  return { p50Us: at(0.5), p99Us: at(0.99) };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** The median of each figure. */
export function medians(list: readonly Measurement[]): Measurement {
  const of = (name: keyof Measurement): number => median(list.map((each) => each[name] ?? Number.NaN));
  return {
    perSecond: of("perSecond"),
    p50Us: of("p50Us"),
    p99Us: of("p99Us"),
    clientCpuUs: of("clientCpuUs"),
    serverCpuUs: of("serverCpuUs"),
    flushesPerRequest: of("flushesPerRequest"),
    otherCores: of("otherCores"),
  };
}

/** The median of what each round's second side is over its first: neighbours in time, so a machine that slows down for a while slows both. */
export function medianRatio(figure: keyof Measurement, rounds: readonly (readonly Measurement[])[]): number {
  return median(rounds.map(([first, second]) => (second?.[figure] ?? Number.NaN) / (first?.[figure] ?? Number.NaN)));
}

/** To three digits; `undefined` for what was not measured. */
export function round3(value: number | undefined): number | undefined {
  return value === undefined || Number.isNaN(value) ? undefined : Number(value.toPrecision(3));
}

/** CPU time that this process has used, us. */
export function processCpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** CPU time that all processes of the machine have used, us. */
export function machineCpuUs(): number {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) * 1000;
}
