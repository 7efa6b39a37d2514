/**
 * What the client library costs beside a bare call, and beside bare coalescing. Both sides of a ratio alternate in one run, each
 * called by the same code in a process of its own. JSON lines on stdout; `bench/README.md` says what each means.
 *
 *     npm run bench:client -- --only client-1 --seconds 0.6 --rounds 31
 */
import { type Bench, type Part, type Place, runBenches } from "./rounds.ts";
import { remoteSide, type Side } from "./sides.ts";

type SideName = "echo" | "bare" | "client";

const coalesced = (callers: number): [Part<SideName>, Part<SideName>] => [
  { side: "bare", callers },
  { side: "client", callers },
];
const single: [Part<SideName>, Part<SideName>] = [
  { side: "echo", callers: 1 },
  { side: "client", callers: 1 },
];
const scale: [Part<SideName>, Part<SideName>] = [
  { side: "client", callers: 1_024 },
  { side: "client", callers: 10_000 },
];

const BENCHES: readonly Bench<SideName>[] = [
  { name: "client-1", parts: single, aim: { figure: "p50Us", atMost: 1.25 }, limit: { figure: "p50Us", value: 200 } },
  { name: "client-64", parts: coalesced(64), limit: { figure: "perSecond", value: 171_000 } },
  { name: "client-1024", parts: coalesced(1_024), aim: { figure: "perSecond", atLeast: 0.7 }, limit: { figure: "perSecond", value: 2_200_000 } },
  { name: "client-10000", parts: coalesced(10_000), aim: { figure: "perSecond", atLeast: 0.7 }, limit: { figure: "perSecond", value: 3_100_000 } },
  { name: "client-scale", parts: scale, aim: { figure: "perSecond", atLeast: 0.95 } },
];

await runBenches(BENCHES, openSide);

async function openSide(side: SideName, { directory, profile }: Place): Promise<Side> {
  if (side === "client") return remoteSide("timestamps", { script: "node.ts", args: ["file", directory], profile }, side);
  return remoteSide(side === "echo" ? "rpc" : "timestamps", { script: "baseline/echo-server.ts", profile }, side);
}
