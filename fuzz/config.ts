/**
 * Configuration files from damaged bytes, and values from any text: refused with a reason that names the file, or read as values that the option can
 * have; never anything else.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { applyConfigFile } from "../src/cli/config.ts";
import { CliError, EXIT } from "../src/cli/exit-codes.ts";
import { addServe } from "../src/cli/serve.ts";
import { parseAddress, parseDuration, parseU64, parseWait, parseWhole } from "../src/cli/values.ts";
import { main } from "./harness.ts";

const directory = mkdtempSync(join(tmpdir(), "tsoracle-fuzz-"));
process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
const path = join(directory, "tsoracle.json");

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const keys = serveCommand().options.map(({ long }) => (long ?? "").slice(2));
if (keys.length < 20) throw new Error(`${keys.length} options, of which this target should know all`);

await main({
  name: "config",
  corpus: [
    utf8("{}"),
    utf8('{"listen": "127.0.0.1:50551", "log": "info", "max-seq-count": 65536, "require-data": false, "no-metrics": true}'),
    utf8('{"window-ahead": "3s", "failover-advance": "250ms", "max-clock-jump": "1d", "lease-ttl-floor": "5m", "shutdown-grace": "1h"}'),
    utf8('{"state-dir": "./data", "tls-cert": "a.pem", "tls-key": "a.key", "listen": "[::1]:0"}'),
    ...["0", "3s", "999999999999d", "1e3", "-1", "4294967295", "18446744073709551615", "[::1]:65535", "localhost:0", "true", ""].map(utf8),
  ],
  words: [
    ...keys.map((key) => utf8(`"${key}":`)),
    ...[
      '"__proto__":',
      '"constructor":',
      '"toString":',
      "null",
      "true",
      "false",
      "[]",
      "{}",
      '"3s"',
      '"1"',
      "1e308",
      "-0",
      "0.5",
      ",",
      ":",
      '"',
      "\\u0000",
    ].map(utf8),
    Uint8Array.of(0xff),
    Uint8Array.of(0xef, 0xbb, 0xbf),
  ],
  run: async (bytes) => {
    const text = new TextDecoder().decode(bytes);
    await readFile(bytes);
    const key = keys[(bytes[0] ?? 0) % keys.length] ?? "";
    await readFile(utf8(JSON.stringify({ [key]: text })));
    await readFile(utf8(JSON.stringify({ [key]: Number(text) })));
    for (const parse of [parseAddress, parseDuration, parseWait, parseU64, parseWhole(0, 10), parseWhole(1, Number.MAX_SAFE_INTEGER)])
      readValue(parse, text);
  },
});

function serveCommand(): Command {
  const program = new Command();
  addServe(program);
  const file = program.commands[0]?.commands[0];
  if (file?.name() !== "file") throw new Error("`serve file` is not where it was");
  return file;
}

async function readFile(content: Uint8Array): Promise<void> {
  writeFileSync(path, content);
  const command = serveCommand();
  const before = command.opts<Record<string, unknown>>();
  try {
    await applyConfigFile(command, path);
  } catch (error) {
    if (!(error instanceof CliError) || error.exitCode !== EXIT.usage || !error.message.startsWith(path)) throw error;
    return;
  }
  for (const [key, value] of Object.entries(JSON.parse(new TextDecoder().decode(content)))) {
    const option = command.options.find(({ long }) => long === `--${key}`);
    const isFit = option?.isBoolean() || option?.negate ? typeof value === "boolean" : typeof value === "string" || typeof value === "number";
    if (!isFit) throw new Error(`${key} was accepted as ${JSON.stringify(value)}`);
  }
  const after = command.opts<Record<string, unknown>>();
  for (const option of command.options) {
    const name = option.attributeName();
    const [was, is] = [before[name], after[name]];
    const expected = was !== undefined ? typeof was : option.isBoolean() ? "boolean" : "string";
    if (is !== undefined && typeof is !== expected) throw new Error(`${name} is ${JSON.stringify(is)} of type ${typeof is}, not ${expected}`);
    if (typeof is === "number" && !(Number.isFinite(is) && is >= 0)) throw new Error(`${name} is ${is}`);
    if (option.argChoices !== undefined && !option.argChoices.includes(String(is))) throw new Error(`${name} is ${String(is)}, which is no choice`);
  }
  if (Object.keys(after).some((name) => !command.options.some((option) => option.attributeName() === name))) throw new Error("an option appeared");
  if (Object.keys(Object.prototype).length > 0) throw new Error("every object has a new property");
}

function readValue(parse: (text: string) => unknown, text: string): void {
  try {
    const value = parse(text);
    if (typeof value === "number" && !(Number.isFinite(value) && value >= 0)) throw new Error(`${JSON.stringify(text)} was read as ${value}`);
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
  }
}
