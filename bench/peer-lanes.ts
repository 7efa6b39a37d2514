/**
 * What the lanes of the peer transport are for: round trips on the control lane while bulk is under way over a way that is slow for each connection, in one process.
 *
 *   npx tsx bench/peer-lanes.ts [--mib 16] [--rate-mib 16] [--seconds 5]
 */
import { createHistogram } from "node:perf_hooks";
import { parseArgs } from "node:util";
import type { NodeId, Slot } from "../src/base/ids.ts";
import { createEntry } from "../src/paxos/core/entry.ts";
import type { AcceptMessage, HeartbeatMessage } from "../src/paxos/core/messages.ts";
import { grpcTransport } from "../src/paxos/transport/grpc.ts";
import { PeerProxy } from "../test/support/peer-proxy.ts";
import { claimOf, Told } from "../test/support/peer-raw.ts";

const MIB = 1024 * 1024;
const { values } = parseArgs({ options: { mib: { type: "string" }, "rate-mib": { type: "string" }, seconds: { type: "string" } } });
const inFlight = Number(values.mib ?? 16);
const rate = Number(values["rate-mib"] ?? 16) * MIB;
const seconds = Number(values.seconds ?? 5);
/** Between two heartbeats, ms: each is sent when the one before it has been answered, and not before this. */
const EVERY_MS = 5;

const ballot = { round: 1, prio: 0, node: 1 as NodeId };
const payload = new Uint8Array(MIB - 100).fill(7);

function bulk(base: number): AcceptMessage {
  const entry = createEntry({ slot: (base + 1) as Slot, origin: ballot, kind: "app", payload, previousChain: 0 });
  return { type: "accept", ballot, base: base as Slot, baseChain: 0, entries: [entry], decidedThrough: 0 as Slot };
}

const heartbeat = (round: number): HeartbeatMessage => ({ type: "heartbeat", round, decidedThrough: 0 as Slot, readSeq: 0, configVersion: 1 });

const [toldA, toldB] = [new Told(), new Told()];
const open = grpcTransport({ listen: "127.0.0.1:0" });
const a = await open(claimOf(1), toldA);
const b = await open(claimOf(2), toldB);
const [way, back] = [new PeerProxy(), new PeerProxy()];
way.open(b.address);
back.open(a.address);
a.setPeers(new Map([[2 as NodeId, way.address]]));
b.setPeers(new Map([[1 as NodeId, back.address]]));
while (a.links()[0]?.open.length !== 3 || b.links()[0]?.open.length !== 3) await new Promise((resolve) => setTimeout(resolve, 5));

/** Measures round trips for as long as it is said; with bulk in flight all the time, or without. */
async function measure(withBulk: boolean): Promise<void> {
  const histogram = createHistogram();
  let base = 0;
  let received = 0;
  let sentAt = 0;
  let round = 0;
  let ended = false;
  const beat = (): void => {
    if (ended) return;
    round += 1;
    sentAt = performance.now();
    a.send(2 as NodeId, heartbeat(round));
  };
  const more = (): void => {
    base += 1;
    a.send(2 as NodeId, bulk(base));
  };
  toldB.answer = (message) => {
    toldB.heard.length = 0;
    if (message.type === "heartbeat") b.send(1 as NodeId, message);
    if (message.type !== "accept") return;
    received += 1;
    if (!ended) setImmediate(more);
  };
  toldA.answer = (message) => {
    toldA.heard.length = 0;
    if (message.type !== "heartbeat") return;
    histogram.record(Math.max(1, Math.round((performance.now() - sentAt) * 1_000)));
    setTimeout(beat, EVERY_MS);
  };
  if (withBulk) for (let piece = 0; piece < inFlight; piece++) more();
  beat();
  const from = performance.now();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  ended = true;
  const took = (performance.now() - from) / 1_000;
  const ms = (us: number): string => (us / 1_000).toFixed(2);
  console.log(
    `${withBulk ? `${inFlight} MiB of bulk in flight` : "no bulk"}: ${histogram.count} round trips, ms p50 ${ms(histogram.percentile(50))} ` +
      `p99 ${ms(histogram.percentile(99))} max ${ms(histogram.max)}; bulk ${(received / took).toFixed(1)} MiB/s`,
  );
  while (a.links()[0]?.queuedBytes !== 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await new Promise((resolve) => setTimeout(resolve, 100));
}

await measure(false);
way.throttle(rate);
back.throttle(rate);
console.log(`each connection throttled to ${rate / MIB} MiB/s`);
await measure(false);
await measure(true);
way.throttle(Number.POSITIVE_INFINITY);
console.log("not throttled");
await measure(true);
await Promise.all([a.close(), b.close()]);
way.refuse();
back.refuse();
