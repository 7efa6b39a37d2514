/**
 * What a single node costs beside the bare transport, and its disk beside memory. Both sides of a ratio alternate in one run, called by the same
 * client code in this process. JSON lines on stdout; `bench/README.md` says what each means.
 *
 *     npm run bench -- --only ts --seconds 0.5 --rounds 25
 */
import { mkdirSync } from "node:fs";
import { measureDisk } from "./baseline/disk.ts";
import { type Measurement, machineCpuUs, percentiles, processCpuUs } from "./figures.ts";
import { ECHO, type Method, RawCaller } from "./raw-caller.ts";
import { type Bench, type Part, type Place, runBenches } from "./rounds.ts";
import type { ChildProgram } from "./served.ts";
import { coresUsed, type Load, type Side, servedSide } from "./sides.ts";

type SideName = "echo" | "get-ts" | "memory" | "file" | "disk";

const GET_TS: Method = { path: "/tsoracle.v1.TsoService/GetTs", request: Buffer.of(0x08, 1) };
const GET_SEQ: Method = { path: "/tsoracle.v1.TsoService/GetSeq", request: Buffer.of(0x0a, 1, 0x6b, 0x10, 1) }; // one value of the sequence "k"

const ts = (callers: number): [Part<SideName>, Part<SideName>] => [
  { side: "echo", callers },
  { side: "get-ts", callers },
];
const seq = (callers: number): [Part<SideName>, Part<SideName>] => [
  { side: "memory", callers },
  { side: "file", callers },
];
const disk = (callers: number): [Part<SideName>] => [{ side: "disk", callers }];

const BENCHES: readonly Bench<SideName>[] = [
  { name: "ts-1", parts: ts(1), aim: { figure: "p50Us", atMost: 1.15 }, limit: { figure: "p50Us", value: 200 } },
  { name: "ts-64", parts: ts(64), aim: { figure: "perSecond", atLeast: 0.9 }, limit: { figure: "perSecond", value: 9_100 } },
  { name: "seq-1", parts: seq(1) },
  { name: "seq-64", parts: seq(64), aim: { figure: "perSecond", atLeast: 0.7 } },
  { name: "seq-256", parts: seq(256) },
  { name: "disk-1", parts: disk(1), limit: { figure: "p50Us", value: 149 } },
  { name: "disk-64", parts: disk(64), limit: { figure: "perSecond", value: 340_000 } },
  { name: "disk-256", parts: disk(256), limit: { figure: "perSecond", value: 902_000 } },
];

await runBenches(BENCHES, openSide);

async function openSide(side: SideName, { directory, profile }: Place): Promise<Side> {
  const raw = (server: ChildProgram, method: Method): Promise<Side> =>
    servedSide("rpc", { ...server, profile }, (address) => new RawCaller(address, method));
  switch (side) {
    case "echo":
      return raw({ script: "baseline/echo-server.ts" }, ECHO);
    case "get-ts":
      return raw({ script: "node.ts", args: ["file", directory] }, GET_TS);
    case "memory":
      return raw({ script: "node.ts", args: ["memory"] }, GET_SEQ);
    case "file":
      return raw({ script: "node.ts", args: ["file", directory] }, GET_SEQ);
    case "disk":
      mkdirSync(directory);
      return { unit: "records", measure: (load) => measureWriters(directory, load), close: async () => undefined };
  }
}

async function measureWriters(directory: string, { callers, seconds }: Load): Promise<Measurement> {
  const before = { ownUs: processCpuUs(), machineUs: machineCpuUs() };
  const { records, seconds: took, flushes, latenciesUs } = await measureDisk({ directory, writers: callers, seconds });
  const otherUs = machineCpuUs() - before.machineUs - (processCpuUs() - before.ownUs);
  return { perSecond: records / took, ...percentiles(latenciesUs), flushesPerRequest: flushes / records, otherCores: coresUsed(otherUs, took) };
}
