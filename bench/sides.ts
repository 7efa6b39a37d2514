/** One side of a ratio: what is measured, and what stands in what it is held against. */
import { type Measurement, machineCpuUs, percentiles, processCpuUs } from "./figures.ts";
import { type ChildProgram, type Served, start, startChild } from "./served.ts";

export interface Load {
  /** Each has one call at a time. */
  readonly callers: number;
  readonly seconds: number;
}

export interface CallFigures {
  readonly calls: number;
  readonly seconds: number;
  readonly latenciesUs: Float64Array;
}

/** How a load went, seen from the process that made the calls. */
export interface RunFigures {
  readonly calls: number;
  readonly seconds: number;
  /** CPU time of that process meanwhile. */
  readonly cpuUs: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** A client, in whatever process. */
interface Runner {
  run(load: Load): Promise<RunFigures>;
  close(): Promise<void>;
}

/** Makes calls from the process that it is in. */
export interface Caller {
  run(load: Load): Promise<CallFigures>;
  close(): Promise<void>;
}

export interface Side {
  /** What `perSecond` counts. */
  readonly unit: "rpc" | "timestamps" | "records" | "entries";
  measure(load: Load): Promise<Measurement>;
  close(): Promise<void>;
}

/** Calls before anything is measured: until the compilers of both processes have done their work. */
const WARM: Load = { callers: 64, seconds: 2 };

/** A server of its own, called from here; it is warm when this returns. */
export async function servedSide(unit: Side["unit"], server: ChildProgram | Served, connect: (address: string) => Caller): Promise<Side> {
  return openSide(unit, "script" in server ? await start(server) : server, async (address) => {
    const caller = connect(address);
    return { run: (load) => runCaller(caller, load), close: () => caller.close() };
  });
}

export async function runCaller(caller: Caller, load: Load): Promise<RunFigures> {
  const before = processCpuUs();
  const { calls, seconds, latenciesUs } = await caller.run(load);
  return { calls, seconds, cpuUs: processCpuUs() - before, ...percentiles(latenciesUs) };
}

/** A server of its own, and the caller of that name in `caller.ts`, which is a process too; both are warm when this returns. */
export async function remoteSide(unit: Side["unit"], server: ChildProgram, name: string): Promise<Side> {
  return openSide(unit, await start(server), async (address) => {
    const profile = server.profile === undefined ? undefined : `${server.profile}-caller`;
    const child = await startChild({ script: "caller.ts", args: [name, address], profile });
    return { run: (load) => child.ask<RunFigures>(load), close: () => child.close() };
  });
}

async function openSide(unit: Side["unit"], served: Served, connect: (address: string) => Promise<Runner>): Promise<Side> {
  const caller = await connect(served.address);
  await caller.run(WARM);
  return {
    unit,
    measure: async (load) => {
      await caller.run({ ...load, seconds: load.seconds / 4 }); // after the other side's turn its caches are cold
      const before = { server: await served.counters(), machineUs: machineCpuUs() };
      const { calls, seconds, cpuUs: clientUs, p50Us, p99Us } = await caller.run(load);
      const after = { machineUs: machineCpuUs(), server: await served.counters() };
      const serverUs = after.server.cpuUs - before.server.cpuUs;
      return {
        perSecond: calls / seconds,
        p50Us,
        p99Us,
        clientCpuUs: clientUs / calls,
        serverCpuUs: serverUs / calls,
        flushesPerRequest: (after.server.flushes - before.server.flushes) / calls,
        otherCores: coresUsed(after.machineUs - before.machineUs - clientUs - serverUs, seconds),
      };
    },
    close: async () => {
      await caller.close();
      await served.close();
    },
  };
}

/** The system counts in ticks of 10 ms, so a small remainder may come out below 0. */
export function coresUsed(cpuUs: number, seconds: number): number {
  return Math.max(0, cpuUs / (seconds * 1e6));
}
