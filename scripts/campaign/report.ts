/** A campaign as a page of `docs/campaigns/`. */
import { MARKS, type Mark } from "../../src/base/marks.ts";
import type { Profile } from "../../src/testing/cluster/settings.ts";
import { type Chunk, ENOUGH, ROWS, type Row, type StepResult, TWICE_EVERY } from "./results.ts";

export interface Campaign {
  readonly date: string;
  readonly commit: string;
  readonly command: string;
  readonly machine: string;
  readonly chunks: readonly Chunk[];
  readonly steps: readonly StepResult[];
  /** Of the scenarios, by mark. */
  readonly scenarioMarks: ReadonlyMap<Mark, number>;
  /** What went wrong, if anything did. */
  readonly failure: string | undefined;
}

export function campaignPage(campaign: Campaign): string {
  const { date, commit, command, machine, chunks, failure } = campaign;
  const runs = chunks.reduce((sum, chunk) => sum + chunk.runs.length, 0);
  return [
    `# Campaign of ${date}`,
    "",
    `Commit ${commit}, \`${command}\`, ${machine}. ${runs.toLocaleString("en")} runs of clusters, ${failure === undefined ? "no violation" : `**ended by: ${failure}**`}. Every ${TWICE_EVERY}th seed was run twice and left the same trace.`,
    "",
    ...seedTable(chunks),
    "",
    ...markTable(campaign),
    "",
    ...campaign.steps.flatMap(({ name, command: how, seconds, output }) => [
      `## ${capitalized(name)}`,
      "",
      `\`${how}\`, ${Math.round(seconds)} s.`,
      "",
      "```text",
      output.trim(),
      "```",
      "",
    ]),
  ].join("\n");
}

/** Marks that neither a seed nor a scenario reached. */
export function missingMarks({ chunks, scenarioMarks }: Pick<Campaign, "chunks" | "scenarioMarks">): readonly Mark[] {
  const seeds = totalMarks(chunks);
  return names().filter((name) => (seeds.get(name) ?? 0) === 0 && (scenarioMarks.get(name) ?? 0) === 0);
}

function names(): readonly Mark[] {
  return Object.keys(MARKS) as Mark[];
}

function seedTable(chunks: readonly Chunk[]): string[] {
  const profiles = [...new Set(chunks.map(({ profile }) => profile))];
  return [
    "## Seeds",
    "",
    `| profile | seeds | runs | events | decided entries, median (99 %) | leader changes, median (99 %) | below ${ENOUGH.decided} decided | below ${ENOUGH.leaderChanges} leader changes | core seconds | events/s |`,
    "|---|---|---|---|---|---|---|---|---|---|",
    ...profiles.map((profile) =>
      seedRow(
        profile,
        chunks.filter((chunk) => chunk.profile === profile),
      ),
    ),
  ];
}

function seedRow(profile: Profile, chunks: readonly Chunk[]): string {
  const runs = chunks.flatMap((chunk) => chunk.runs);
  const column = (row: Row): number[] => runs.map((run) => run[ROWS.indexOf(row)] ?? 0).toSorted((a, b) => a - b);
  const spread = (row: Row): string => `${format(at(column(row), 0.5))} (${format(at(column(row), 0.99))})`;
  const below = (row: keyof typeof ENOUGH): string => format(column(row).filter((value) => value < ENOUGH[row]).length);
  const events = column("events").reduce((sum, value) => sum + value, 0);
  const seconds = chunks.reduce((sum, chunk) => sum + chunk.seconds, 0);
  const cells = [
    profile,
    seedRanges(chunks),
    format(runs.length),
    format(events),
    spread("decided"),
    spread("leaderChanges"),
    below("decided"),
    below("leaderChanges"),
    format(Math.round(seconds)),
    format(Math.round(events / seconds)),
  ];
  return `| ${cells.join(" | ")} |`;
}

function seedRanges(chunks: readonly Chunk[]): string {
  const ranges: [from: number, end: number][] = [];
  for (const { from, runs } of chunks) {
    const last = ranges.at(-1);
    if (last?.[1] === from) last[1] = from + runs.length;
    else ranges.push([from, from + runs.length]);
  }
  return ranges.map(([from, end]) => `${from} to ${end - 1}`).join(", ");
}

function markTable({ chunks, scenarioMarks }: Campaign): string[] {
  const profiles = [...new Set(chunks.map(({ profile }) => profile))];
  const columns = profiles.map((profile) => totalMarks(chunks.filter((chunk) => chunk.profile === profile)));
  return [
    "## Marks",
    "",
    "How often each was reached (`src/base/marks.ts` says what they stand for).",
    "",
    `| mark | ${profiles.join(" | ")} | scenarios |`,
    `|---|${profiles.map(() => "---|").join("")}---|`,
    ...names().map((name) => `| ${name} | ${[...columns, scenarioMarks].map((counts) => format(counts.get(name) ?? 0)).join(" | ")} |`),
  ];
}

function totalMarks(chunks: readonly Chunk[]): ReadonlyMap<Mark, number> {
  const total = new Map<Mark, number>();
  for (const { marks } of chunks)
    for (const [name, count] of Object.entries(marks) as [Mark, number][]) total.set(name, (total.get(name) ?? 0) + count);
  return total;
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

function format(value: number): string {
  return value.toLocaleString("en");
}

function capitalized(name: string): string {
  return name.slice(0, 1).toUpperCase() + name.slice(1);
}
