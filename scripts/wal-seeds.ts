/**
 * Runs of the simulator whose disks are played again on the wal (test/support/wal-tape.ts): what a process began with must be what the real engine finds in its files, after cuts
 * that drop, keep or tear what was not flushed.
 *
 *     tsx scripts/wal-seeds.ts [--profile P] [--from S] [--seeds N] [--seconds N]
 */
import { parseArgs } from "node:util";
import { PROFILES, type Profile } from "../src/testing/cluster/settings.ts";
import { playRun } from "../test/support/wal-tape.ts";

const { values } = parseArgs({
  options: {
    profile: { type: "string" },
    from: { type: "string", default: "1" },
    seeds: { type: "string", default: "Infinity" },
    seconds: { type: "string", default: "Infinity" },
  },
});
const from = Number(values.from);
const profiles = PROFILES.filter((profile) => (values.profile === undefined ? profile !== "calm" : profile === values.profile));
if (profiles.length === 0) throw new Error(`--profile ${values.profile} is none of ${PROFILES.join(", ")}`);

const began = performance.now();
const totals = new Map<Profile, { runs: number; starts: number; writes: number; kept: number; lost: number; torn: number }>();
for (let seed = from; seed < from + Number(values.seeds) && performance.now() - began < Number(values.seconds) * 1000; seed++) {
  for (const profile of profiles) {
    const total = totals.get(profile) ?? { runs: 0, starts: 0, writes: 0, kept: 0, lost: 0, torn: 0 };
    totals.set(profile, total);
    try {
      const report = await playRun(seed, profile);
      total.runs += 1;
      for (const name of ["starts", "writes", "kept", "lost", "torn"] as const) total[name] += report[name];
    } catch (error) {
      console.error(`seed ${seed}, profile ${profile}; again: npx tsx scripts/wal-seeds.ts --profile ${profile} --from ${seed} --seeds 1`);
      throw error;
    }
  }
  if ((seed - from) % 500 === 499) console.log(`seed ${seed}: ${Math.round((performance.now() - began) / 1000)} s`);
}
for (const [profile, total] of totals) console.log(JSON.stringify({ profile, from, ...total }));
