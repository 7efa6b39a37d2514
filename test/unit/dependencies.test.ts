import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

type Versions = Readonly<Record<string, string>>;

const root = new URL("../../", import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), "utf8");
const manifest: { readonly dependencies: Versions; readonly devDependencies: Versions } = JSON.parse(read("package.json"));
const [, runtime = "", development = ""] = read("docs/dependencies.md").split(/^## (?:Runtime|Development)$/m);

describe.each([
  ["dependencies", manifest.dependencies, runtime],
  ["devDependencies", manifest.devDependencies, development],
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
