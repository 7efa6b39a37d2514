import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

type Versions = Readonly<Record<string, string>>;

const root = new URL("../../", import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), "utf8");
const manifest: { readonly dependencies: Versions; readonly devDependencies: Versions; readonly peerDependencies: Versions } = JSON.parse(
  read("package.json"),
);
const [, runtime = "", optional = "", development = ""] = read("docs/dependencies.md").split(/^## (?:Runtime|Optional|Development)$/m);
/** What is optional is installed here for its tests, and has its row there. */
const onlyHere = Object.fromEntries(Object.entries(manifest.devDependencies).filter(([name]) => !(name in manifest.peerDependencies)));

describe.each([
  ["dependencies", manifest.dependencies, runtime],
  ["peerDependencies", manifest.peerDependencies, optional],
  ["devDependencies", onlyHere, development],
] as const)("docs/dependencies.md and %s", (_, versions, section) => {
  const rows = [...section.matchAll(/^\| `([^`]+)` *\| (\S+) *\| (.+?) *\| (.+?) *\|$/gm)];

  test("name the same packages, once each, with the same versions", () => {
    expect(rows.map(([, name, version]) => `${name} ${version}`)).toEqual(Object.entries(versions).map(([name, version]) => `${name} ${version}`));
  });

  test("agree with the licence of each installed package", () => {
    const installed = (name: string): string => JSON.parse(read(`node_modules/${name}/package.json`)).license.replace(/^\((.*)\)$/, "$1");
    expect(rows.map(([, name = "", , licence]) => `${name} ${licence}`)).toEqual(rows.map(([, name = ""]) => `${name} ${installed(name)}`));
  });
});
