import { describe, expect, test } from "vitest";
import { drawSettings, PROFILES } from "../../src/testing/cluster/settings.ts";
import { SimulationFailure, simulateCluster } from "../../src/testing/cluster/simulation.ts";
import { readModule, readSource, sourceFiles } from "../support/modules.ts";

const SEEDS = [1, 2, 3, 4, 5, 6];

describe.each(PROFILES)("profile %s", (profile) => {
  test.each(SEEDS)("seed %i keeps every promise, and heals", (seed) => {
    const report = simulateCluster({ seed, profile });
    expect(report.events).toBeGreaterThanOrEqual(5_000);
    expect(report.undecidedKeys).toBe(0);
  });
});

test("the same seed leaves the same trace, another seed another", () => {
  const hash = (seed: number): string => simulateCluster({ seed, profile: "crash-storm" }).traceHash;
  expect(hash(7)).toBe(hash(7));
  expect(hash(7)).not.toBe(hash(8));
});

test("a trace that is looked at is the same trace", () => {
  let lines = 0;
  const looked = simulateCluster({ seed: 9, trace: () => (lines += 1) });
  expect(looked.traceHash).toBe(simulateCluster({ seed: 9 }).traceHash);
  expect(lines).toBeGreaterThan(looked.events);
});

test("settings survive being written down", () => {
  const settings = drawSettings(10, "partitions");
  const again: typeof settings = JSON.parse(JSON.stringify(settings));
  expect(simulateCluster({ seed: 10, profile: "partitions", settings: again }).traceHash).toBe(
    simulateCluster({ seed: 10, profile: "partitions" }).traceHash,
  );
});

test("what an observer finds ends the run, with the command that shows it again", () => {
  const nothing = (): void => {};
  const observer = { started: nothing, turned: nothing, written: nothing, asked: nothing, stopped: nothing };
  const applied = (): never => {
    throw new Error("planted");
  };
  const run = (): unknown => simulateCluster({ seed: 3, profile: "calm", observers: [{ ...observer, applied }] });
  expect(run).toThrow(SimulationFailure);
  expect(run).toThrow(/planted; again: npm run sim -- --from 3 --seeds 1 --profile calm/);
});

describe("the simulator knows nothing of the protocol", () => {
  const folder = new URL("../../src/testing/cluster/", import.meta.url);
  /** The checkers do: they are there to know better. */
  const files = sourceFiles(folder).filter((file) => !file.startsWith("safety") && file !== "observed.ts");
  /** Of paxos/core, and what of it is more than a type. `entry.ts`: the disk checks chains. The codec carries messages and does not look at them. */
  const VALUES: Readonly<Record<string, readonly string[]>> = {
    genesis: ["genesisOf"],
    options: ["resolveCoreOptions"],
    sessions: ["Sessions"],
    entry: ["continues", "RECORD_OVERHEAD"],
    "message-codec": ["messageCodec"],
  };
  const RULES =
    /^(compareBallots|sameBallot|maxBallot|quorumOf|votersOf|isVoter|advanceDecided|baseOrigin|baseChain|readSeq|hintDecided|promiseFor)$/;

  test("there is a simulator", () => {
    expect(files).toEqual(expect.arrayContaining(["cluster.ts", "disk.ts", "faults.ts", "network.ts", "simulation.ts", "workload.ts"]));
  });

  test.each(files)("%s", (file) => {
    const source = readSource(folder, file);
    const core = [...source.matchAll(/^import (type )?\{([^}]*)\} from "\.\.\/\.\.\/paxos\/core\/([a-z-]+)\.ts";$/gm)];
    expect(core.length, "every import of the core is one that this test can read").toBe(source.split("/paxos/core/").length - 1);
    for (const [, onlyTypes, names = "", module = ""] of core) {
      if (onlyTypes !== undefined) continue;
      const values = names.split(",").map((name) => name.trim());
      expect(values.filter((name) => name !== "" && !name.startsWith("type ") && VALUES[module]?.includes(name) !== true)).toEqual([]);
    }
    const words = readModule(source).tokens.filter(({ type }) => type === "word");
    expect(words.filter(({ text }) => RULES.test(text)).map(({ text, line }) => `line ${line}: ${text}`)).toEqual([]);
  });

  test("nobody asks a message what it is", () => {
    const reads = files.flatMap((file) => {
      const { tokens } = readModule(readSource(folder, file));
      const named = tokens.flatMap(({ text, line }, at) =>
        text === "message" && tokens[at + 1]?.text === "." ? [`${file} ${line}: message.${tokens[at + 2]?.text}`] : [],
      );
      return named.map((found) => found.replace(/ \d+:/, ":"));
    });
    // For the trace and for its length.
    expect([...new Set(reads)]).toEqual(["cluster.ts: message.type", "cluster.ts: message.bytes", "cluster.ts: message.entries"]);
    const compared = files.filter((file) => /message\.type\s*[!=]==|switch \(message/.test(readSource(folder, file)));
    expect(compared).toEqual([]);
  });
});
