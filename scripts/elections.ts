/**
 * Elections of the real core on the topologies of the election model (`docs/models/`), on stars, chains and rings, and with false words of lost connections.
 *
 *     npx tsx scripts/elections.ts [--seeds N] [--from N]
 *
 * Prints settle times; exits with 1 where a topology that can have a leader has none, or does not keep it.
 */
import { parseArgs } from "node:util";
import { type ElectionReport, type Links, modelLinks, runElection, type Shape, shapedLinks } from "../test/support/election-world.ts";

const { values } = parseArgs({ options: { seeds: { type: "string" }, from: { type: "string" } } });
const first = Number(values.from ?? 1);
const seeds = Array.from({ length: Number(values.seeds ?? 2_000) }, (_, index) => first + index);

const shaped = (shape: Shape) => (seed: number) => shapedLinks(shape, seed);
campaign("the model's topologies", seeds, modelLinks);
campaign("stars", seeds.slice(0, 200), shaped("star"));
campaign("chains", seeds.slice(0, 200), shaped("chain"));
campaign("rings", seeds.slice(0, 200), shaped("ring"));
campaign("the model's topologies, 1 % false hints", seeds, modelLinks, 0.01);
for (const shape of ["star", "chain", "ring"] as const) campaign(`${shape}s, 1 % false hints`, seeds.slice(0, 200), shaped(shape), 0.01);

function campaign(name: string, of: readonly number[], linksOf: (seed: number) => Links, falseHints = 0): void {
  const settle: number[] = [];
  const bad: string[] = [];
  let unwinnable = 0;
  for (const seed of of) {
    const report = runElection({ seed, links: linksOf(seed), falseHints });
    const fault = faultOf(report);
    if (fault !== undefined) bad.push(`seed ${seed}: ${fault}`);
    if (report.winnable) settle.push(report.settledAfter);
    else unwinnable += 1;
  }
  settle.sort((a, b) => a - b);
  const at = (share: number): string => `${((settle[Math.min(settle.length - 1, Math.floor(settle.length * share))] ?? 0) / 100).toFixed(2)} s`;
  console.log(
    `${name}: ${of.length} seeds, ${settle.length} with a node that reaches a quorum, ${unwinnable} without; settled after median ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)}; ${bad.length} bad`,
  );
  for (const text of bad.slice(0, 10)) console.log(`  ${text}`);
  if (bad.length > 0) process.exitCode = 1;
}

function faultOf({ winnable, leaders, lateReigns, lateCampaigns, outside }: ElectionReport): string | undefined {
  if (!winnable) return lateCampaigns > 0 || leaders > 0 ? `no node reaches a quorum, and there were ${lateCampaigns} campaigns` : undefined;
  if (leaders !== 1) return `${leaders} leaders that work`;
  if (lateReigns > 0) return `${lateReigns} changes of leader after it had settled`;
  if (lateCampaigns > 0) return `${lateCampaigns} campaigns after it had settled`;
  return outside > 0 ? `${outside} members that the leader reaches do not follow it` : undefined;
}
