/** Whether the package works where it is installed: packs dist/ as it is, installs the tarball in a folder of its own, and uses it from there. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const manifest: { readonly name: string; readonly version: string; readonly exports: Readonly<Record<string, unknown>> } = JSON.parse(
  readFileSync(join(root, "package.json"), "utf8"),
);

/** `require` first: after an import it would find the module in the cache, and say nothing about a top-level await. */
const USE = `
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
for (const specifier of process.argv.slice(2)) {
  const path = fileURLToPath(import.meta.resolve(specifier));
  if (!existsSync(path)) throw new Error(specifier + " stands for no file");
  if (!path.endsWith(".js")) continue;
  require(specifier);
  if (Object.keys(await import(specifier)).length === 0) throw new Error(specifier + " exports nothing");
}
`;

const folder = mkdtempSync(join(tmpdir(), "tsoracle-package-"));
try {
  const files = pack();
  expectNone(
    files.filter((file) => file.startsWith("dist/") && !existsSync(join(root, sourceOf(file)))),
    "has no source: remove dist/ and build again",
  );
  expectNone(
    ["LICENSE", "package.json", "bin/tsoracle.js", "proto/tsoracle/v1/tso.proto"].filter((file) => !files.includes(file)),
    "is not packed",
  );

  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "user", private: true, type: "module" }));
  const tarball = `./${manifest.name}-${manifest.version}.tgz`;
  run("npm", ["install", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--no-update-notifier", tarball]);

  writeFileSync(join(folder, "use.js"), USE);
  run(process.execPath, ["use.js", ...subpaths(files).map((subpath) => manifest.name + subpath.slice(1))]);

  const version = run("npx", ["--no", "--", manifest.name, "--version"]).trim();
  if (version !== manifest.version) throw new Error(`${manifest.name} --version says ${JSON.stringify(version)} instead of ${manifest.version}`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true });
}

/** Returns the paths in the tarball. No scripts: a build would print between the lines of JSON. */
function pack(): string[] {
  const output = run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder, root]);
  const [packed]: { readonly files: readonly { readonly path: string }[] }[] = JSON.parse(output);
  return (packed?.files ?? []).map(({ path }) => path);
}

/** The subpaths of the exports map, with every packed file that a pattern stands for. */
function subpaths(files: readonly string[]): string[] {
  return Object.entries(manifest.exports).flatMap(([subpath, target]) => {
    if (!subpath.includes("*")) return [subpath];
    if (typeof target !== "string") throw new Error(`${subpath}: a pattern must stand for files`);
    const [before = "", after = ""] = target.slice(2).split("*");
    const matches = files.filter((file) => file.startsWith(before) && file.endsWith(after));
    if (matches.length === 0) throw new Error(`${subpath} stands for no packed file`);
    return matches.map((file) => subpath.replace("*", () => file.slice(before.length, file.length - after.length)));
  });
}

function sourceOf(file: string): string {
  return file.replace(/^dist\//, "src/").replace(/(?:\.d\.ts|\.js)(?:\.map)?$/, ".ts");
}

function expectNone(files: readonly string[], fault: string): void {
  if (files.length > 0) throw new Error(files.map((file) => `${file} ${fault}`).join("\n"));
}

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: folder, encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} failed\n${stdout}${stderr}${error?.message ?? ""}`);
  return stdout;
}
