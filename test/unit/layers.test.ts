import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type House, readModule, readSource, sourceFiles, violations } from "../support/modules.ts";

const root = new URL("../../", import.meta.url);
const src = new URL("src/", root);
const { dependencies }: { dependencies: Record<string, string> } = JSON.parse(readFileSync(new URL("package.json", root), "utf8"));

const JOINT = ["base", "log.ts"];
const PAXOS = ["paxos", "paxos/core", "paxos/turn.ts", "paxos/storage", "paxos/transport"];
const ORACLE = ["oracle", "oracle/rules", "oracle/drivers"];
const WIRE = ["@grpc/grpc-js", "@bufbuild/protobuf"];

/** Who may import whom: section 2 of the design. */
const HOUSE: House = {
  units: {
    base: { imports: [], packages: ["msgpackr"], purity: "pure", node: ["node:zlib"] }, // the pure parts stand on it; zlib for its crc32
    "log.ts": { imports: ["base"], purity: "pure" },
    disk: { imports: JOINT },

    "paxos/core": { imports: JOINT, purity: "synchronous", node: ["node:zlib"] }, // for its crc32
    "paxos/turn.ts": { imports: [...JOINT, "paxos/core"], purity: "synchronous" },
    "paxos/storage": { imports: [...JOINT, "disk", "paxos/core"] },
    "paxos/transport": { imports: [...JOINT, "paxos/core", "grpc", "gen"], packages: WIRE },
    paxos: { imports: [...JOINT, "disk", ...PAXOS] },

    envelope: { imports: JOINT, packages: ["msgpackr"], purity: "pure" },
    channels: { imports: [...JOINT, "envelope"] },

    "oracle/rules": { imports: JOINT, packages: ["msgpackr"], purity: "pure" },
    oracle: { imports: [...JOINT, "disk", "oracle/rules"] },
    "oracle/drivers": { imports: [...JOINT, "disk", "oracle/rules", "oracle"] },

    // The log, the envelope and the oracle meet in oracle/drivers/log.ts and where the CLI composes them: not in the server.
    server: { imports: [...JOINT, ...ORACLE, "gen"], packages: WIRE },
    client: { imports: [...JOINT, "oracle/rules", "grpc", "gen"], packages: WIRE },
    cli: {
      imports: [...JOINT, "disk", ...PAXOS, "envelope", "channels", ...ORACLE, "server", "client", "gen"],
      packages: [...WIRE, "commander", "valibot", "pino", "fastest-levenshtein"],
    },
    testing: {
      imports: [...JOINT, "disk", ...PAXOS, "envelope", "channels", ...ORACLE, "server", "client", "gen"],
      packages: Object.keys(dependencies), // what a user has installed: no test runner
    },
    grpc: { imports: JOINT, packages: WIRE }, // what is to be known of grpc-js by whoever dials with it
    gen: { imports: [], packages: WIRE },
    "index.ts": { imports: [...JOINT, "disk", ...PAXOS, "envelope", "channels", ...ORACLE, "server", "client"], explicitExports: true },
  },
  /** Two verbs of the CLI, at most, load `testing`, and only when they are called. */
  lazy: {},
};

describe("src keeps to the house", () => {
  for (const file of sourceFiles(src)) {
    test(`layers: ${file}`, () => {
      expect(violations(file, readSource(src, file), HOUSE)).toEqual([]);
    });
  }
});

test("the arrows name units of the house and never come back", () => {
  const below = (unit: string, path: readonly string[]): string[] => {
    expect(HOUSE.units, "an arrow ends in a unit").toHaveProperty([unit]);
    expect(path, "a unit below itself").not.toContain(unit);
    return (HOUSE.units[unit]?.imports ?? []).filter((to) => to !== unit).flatMap((to) => below(to, [...path, unit]));
  };
  for (const unit of Object.keys(HOUSE.units)) below(unit, []);
});

test("only two verbs of the CLI load testing", () => {
  expect(Object.keys(HOUSE.lazy).filter((file) => !file.startsWith("cli/"))).toEqual([]);
  expect(Object.keys(HOUSE.lazy).length).toBeLessThanOrEqual(2);
});

test("the log reads no wall clock, so that none can mislead it", () => {
  const readsIt = (source: string): boolean => readModule(source).tokens.some(({ type, text }) => type === "word" && text === "Date");
  expect(readsIt("const now = () => Date.now();")).toBe(true);
  const log = sourceFiles(src).filter((file) => file.startsWith("paxos/"));
  expect(log.length).toBeGreaterThan(30);
  expect(log.filter((file) => readsIt(readSource(src, file)))).toEqual([]);
});

test("the baseline of the benchmarks imports nothing of ours", () => {
  const folder = new URL("bench/baseline/", root);
  const ours = sourceFiles(folder).flatMap((file) =>
    readModule(readSource(folder, file)).imports.filter(({ specifier }) => specifier === undefined || /\/src\/|^tsoracle(\/|$)/.test(specifier)),
  );
  expect(ours).toEqual([]);
});

describe("the check catches what it is there for", () => {
  const house: House = { ...HOUSE, lazy: { "cli/simulate.ts": ["testing"] } };
  const planted: readonly (readonly [file: string, source: string, fault: RegExp])[] = [
    ["base/x.ts", 'import { a } from "../log.ts";', /base must not import log\.ts/],
    ["envelope/x.ts", 'import type { A } from "../oracle/rules/machine.ts";', /envelope must not import oracle\/rules/],
    ["oracle/rules/x.ts", 'export { a } from "../../paxos/core/log.ts";', /oracle\/rules must not import paxos\/core/],
    ["oracle/rules/x.ts", 'export type * from "../driver.ts";', /oracle\/rules must not import oracle$/],
    ["paxos/core/x.ts", 'import "../turn.ts";', /paxos\/core must not import paxos\/turn\.ts/],
    ["paxos/turn.ts", 'import { a } from "./node.ts";', /paxos\/turn\.ts must not import paxos$/],
    ["oracle/driver.ts", 'import { a } from "./drivers/log.ts";', /oracle must not import oracle\/drivers/],
    ["server/x.ts", 'type A = import("../paxos/node.ts").A;', /server must not import paxos/],
    ["server/x.ts", 'const a = await import("../testing/index.ts");', /server must not import testing/],
    ["cli/simulate.ts", 'import { simulate } from "../testing/index.ts";', /cli must not import testing but by import\(\)/],
    ["cli/serve.ts", 'await import("../testing/index.ts");', /cli must not import testing$/],
    ["cli/serve.ts", "await import(path);", /not a literal/],
    ["client/x.ts", 'import { a } from "../server/index.ts";', /client must not import server/],
    ["client/x.ts", 'import { a } from "../index.ts";', /client must not import index\.ts/],
    ["disk/x.ts", 'import { helper } from "../../test/support/x.ts";', /no place in the house/],
    ["basement/x.ts", "", /no place in the house/],
    ["oracle/drivers/x.ts", 'import { a } from "../../gen/tsoracle/v1/tso.ts";', /oracle\/drivers must not import gen/],
    ["oracle/drivers/x.ts", 'import { credentials } from "@grpc/grpc-js";', /must not import the package @grpc\/grpc-js/],
    ["oracle/drivers/x.ts", 'import { Reader } from "@bufbuild/protobuf/wire";', /must not import the package @bufbuild\/protobuf/],
    ["testing/x.ts", 'import { test } from "vitest";', /must not import the package vitest/],
    ["envelope/x.ts", 'import { open } from "node:fs/promises";', /envelope is pure: it must not import node:fs\/promises/],
    ["base/x.ts", 'import { randomBytes } from "node:crypto";', /base is pure: it must not import node:crypto/],
    ["oracle/rules/x.ts", "const now = Date.now();", /oracle\/rules is pure: line 1: Date/],
    ["oracle/rules/x.ts", "const copy = Buffer.from(bytes);", /Buffer/],
    ["envelope/x.ts", "const { random } = Math;", /Math\.random/],
    ["envelope/x.ts", 'Math["random"]();', /Math\.random/],
    ["envelope/x.ts", "const x = 1 / Math.random() / 2;", /Math\.random/],
    ["envelope/x.ts", `const x = \`\${\`\${process.pid}\`}\`;`, /process/],
    ["envelope/x.ts", 'globalThis["Date"];', /globalThis/],
    ["paxos/turn.ts", "setTimeout(turn, 1);", /setTimeout/],
    ["paxos/core/x.ts", "export async function step() {}", /paxos\/core is synchronous: line 1: async/],
    ["paxos/core/x.ts", "function step(): Promise<void> {}", /Promise/],
    ["index.ts", 'export * from "./log.ts";', /index\.ts exports explicit names only/],
    ["index.ts", 'export * as log from "./log.ts";', /index\.ts exports explicit names only/],
    ["index.ts", 'export type * from "./log.ts";', /index\.ts exports explicit names only/],
  ];
  test.each(planted)("%s: %s", (file, source, fault) => {
    const found = violations(file, source, house);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(fault);
  });

  const impure = "Date performance process global globalThis crypto fetch console Buffer setTimeout setInterval setImmediate queueMicrotask";
  test.each(impure.split(" "))("a pure file must not use %s", (name) => {
    expect(violations("oracle/rules/x.ts", `const x = ${name};`, house)).toHaveLength(1);
  });

  const harmless: readonly (readonly [file: string, source: string])[] = [
    ["base/x.ts", 'import { crc32 } from "node:zlib";\nimport { slot } from "./ids.ts";'],
    ["oracle/rules/x.ts", '/** Not Date.now(). */\nconst text = "process.exit() and import(\\"../../cli/x.ts\\")"; // setTimeout'],
    ["oracle/rules/x.ts", "const pattern = /[/'\"`]Date/; const floor = Math.floor(a / b) + entry.process + entry?.fetch;"],
    ["oracle/rules/x.ts", `import { Packr } from "msgpackr";\nconst text = \`Date \${count} Date\`;`],
    ["envelope/x.ts", "async function chunks(): Promise<void> { for await (const chunk of source) sink.write(chunk); }"],
    ["paxos/node.ts", 'import { turn } from "./turn.ts";\nimport { performance } from "node:perf_hooks";\nsetTimeout(tick, 1);'],
    ["cli/simulate.ts", 'const { simulate } = await import("../testing/index.ts");'],
    ["testing/x.ts", 'import { pack } from "msgpackr";\nimport { Server } from "@grpc/grpc-js";'],
    ["envelope/x.ts", 'import { Unpackr } from "msgpackr/unpack";'],
    ["index.ts", 'export { OracleError, type ErrorCode } from "./base/errors.ts";'],
  ];
  test.each(harmless)("%s may say: %s", (file, source) => {
    expect(violations(file, source, house)).toEqual([]);
  });
});
