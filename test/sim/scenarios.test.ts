import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { runScenario } from "../support/data-driven.ts";
import { PaxosWorld } from "../support/paxos-world.ts";

const folder = new URL("scenarios/", import.meta.url);

describe("scenarios (UPDATE=1 rewrites them)", () => {
  for (const name of readdirSync(folder)) {
    test(name.replace(/\.txt$/, ""), () => {
      const world = new PaxosWorld();
      const { written, happened } = runScenario(new URL(name, folder), (command) => world.run(command));
      expect(happened).toBe(written);
    });
  }
});
