/** What a campaign has come to so far: a folder with a file for each part that is done. Whoever starts the campaign again goes on with the parts that are not. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mark } from "../../src/base/marks.ts";
import type { Profile } from "../../src/testing/cluster/settings.ts";
import type { ClusterReport } from "../../src/testing/cluster/simulation.ts";

/** Of a report, with their distributions over all runs. */
export const ROWS = [
  "events",
  "decided",
  "leaderChanges",
  "campaigns",
  "maxRound",
  "coreSettledMs",
  "convergedMs",
  "undecidedKeys",
] as const satisfies readonly (keyof ClusterReport)[];
export type Row = (typeof ROWS)[number];

/** What a run should come to, or it shows little. */
export const ENOUGH = { decided: 200, leaderChanges: 2 } as const;
/** So many seeds are run twice, and must leave the same trace. */
export const TWICE_EVERY = 50;

/** Seeds of one profile, one after the other. */
export interface Chunk {
  readonly profile: Profile;
  readonly from: number;
  /** Of one core. */
  readonly seconds: number;
  /** Of each run the values of `ROWS`. */
  readonly runs: readonly (readonly number[])[];
  readonly marks: Readonly<Partial<Record<Mark, number>>>;
}

export interface ChunkName {
  readonly profile: Profile;
  readonly from: number;
  readonly count: number;
}

/** Anything but seeds of clusters: what it printed. */
export interface StepResult {
  readonly name: string;
  readonly command: string;
  readonly seconds: number;
  readonly output: string;
}

export class Results {
  readonly #folder: string;

  constructor(folder: string) {
    mkdirSync(folder, { recursive: true });
    this.#folder = folder;
  }

  chunkFile({ profile, from, count }: ChunkName): string {
    return join(this.#folder, `seeds-${profile}-${from}-${count}.json`);
  }

  hasChunk(name: ChunkName): boolean {
    return existsSync(this.chunkFile(name));
  }

  /** In order. One that a longer one repeats, because fewer seeds were asked for once, is left out. */
  chunks(): readonly Chunk[] {
    const all = this.#read<Chunk>("seeds-").toSorted((a, b) => a.from - b.from || b.runs.length - a.runs.length);
    return all.filter((chunk, place) => !all.slice(0, place).some(({ profile, from }) => profile === chunk.profile && from === chunk.from));
  }

  steps(): readonly StepResult[] {
    return this.#read<StepResult>("step-");
  }

  add(step: StepResult): void {
    const file = join(this.#folder, `step-${step.name.replaceAll(/[^a-z0-9]+/g, "-")}.json`);
    writeFileSync(`${file}.part`, JSON.stringify(step));
    renameSync(`${file}.part`, file);
  }

  #read<T>(prefix: string): T[] {
    const names = readdirSync(this.#folder).filter((name) => name.startsWith(prefix) && name.endsWith(".json"));
    return names.map((name): T => JSON.parse(readFileSync(join(this.#folder, name), "utf8")));
  }
}
