import { describe, expect, test } from "vitest";
import { type Links, modelLinks, runElection, shapedLinks } from "../support/election-world.ts";

const seeds = [...Array.from({ length: 12 }, (_, index) => index + 1), 29, 33, 40, 173];

const kinds: readonly (readonly [name: string, linksOf: (seed: number) => Links, falseHints: number])[] = [
  ["the topologies of the election model", modelLinks, 0],
  ["stars", (seed) => shapedLinks("star", seed), 0],
  ["chains", (seed) => shapedLinks("chain", seed), 0],
  ["rings", (seed) => shapedLinks("ring", seed), 0],
  ["the topologies of the election model, with false words of lost connections", modelLinks, 0.01],
];

describe.each(kinds)("on %s", (_, linksOf, falseHints) => {
  test.each(seeds)("one leader that lasts, if a node reaches a quorum; else no campaign (seed %i; 2,000 by `npm run elections`)", (seed) => {
    const report = runElection({ seed, links: linksOf(seed), falseHints });
    expect(report).toMatchObject({ leaders: report.winnable ? 1 : 0, lateReigns: 0, lateCampaigns: 0, outside: 0 });
  });
});
