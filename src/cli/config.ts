/** Flags over environment over configuration file over defaults, all of them the same options by the same names. */
import { readFile } from "node:fs/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import { closest, distance } from "fastest-levenshtein";
import { messageOf } from "../base/errors.ts";
import { usageError } from "./exit-codes.ts";

const PREFIX = "TSORACLE_";
/** What Kubernetes puts into the environment of every pod beside a service that is called `tsoracle`. */
const KUBERNETES = /^TSORACLE_(?:SERVICE|PORT)(?:_|$)/;

/** What the environment may say of an option that takes no value. */
const SWITCH: Readonly<Record<string, boolean>> = { true: true, "1": true, false: false, "0": false, "": false };

/** Reads the switches that the environment sets: to the parser of the command line, any text would turn them on. */
export function readSwitches(command: Command): void {
  for (const each of command.options) {
    const name = each.attributeName();
    if (!each.isBoolean() || each.envVar === undefined || command.getOptionValueSource(name) !== "env") continue;
    const text = process.env[each.envVar] ?? "";
    const value = SWITCH[text];
    if (value === undefined) throw usageError(`environment variable ${each.envVar} is "${text}", and must be true or false`);
    command.setOptionValueWithSource(name, value, "env");
  }
}

/** An option that may also come from the environment, as TSORACLE_ and its name. */
export function option(flags: string, description: string): Option {
  const made = new Option(flags, description);
  return made.env(environmentName(made));
}

/** @throws CliError for a variable of ours that no command knows. */
export function checkEnvironment(program: Command): void {
  const known = new Set(everyOption(program).flatMap((each) => each.envVar ?? []));
  for (const name of Object.keys(process.env)) {
    if (!name.startsWith(PREFIX) || known.has(name) || KUBERNETES.test(name)) continue;
    throw usageError(`environment variable ${name} is not known${suggestion(name, known)}`);
  }
}

/**
 * Fills what neither a flag nor the environment says from a JSON object whose keys are the flags' names without dashes in front.
 * @throws CliError naming the file and the key: a file that cannot be read, an unknown key, a value that does not fit.
 */
export async function applyConfigFile(command: Command, path: string): Promise<void> {
  const byName = new Map(command.options.filter((each) => each.long !== "--config").map((each) => [nameOf(each), each]));
  for (const [key, value] of Object.entries(await readObject(path))) {
    const known = byName.get(key);
    if (known === undefined) throw usageError(`${path}: key "${key}" is not known${suggestion(key, byName.keys())}`);
    const source = command.getOptionValueSource(known.attributeName());
    if (source === "cli" || source === "env") continue;
    command.setOptionValueWithSource(known.attributeName(), readValue(path, key, known, value), "config");
  }
}

function readValue(path: string, key: string, known: Option, value: unknown): unknown {
  if (known.isBoolean() || known.negate) {
    if (typeof value !== "boolean") throw usageError(`${path}: "${key}" is ${JSON.stringify(value)}, and must be true or false`);
    return known.negate ? !value : value;
  }
  if (typeof value !== "string" && typeof value !== "number") {
    throw usageError(`${path}: "${key}" is ${JSON.stringify(value)}, and must be a text or a number, as after --${key}`);
  }
  const text = String(value);
  try {
    return known.parseArg === undefined ? text : known.parseArg(text, undefined);
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw usageError(`${path}: "${key}": ${error.message}`);
  }
}

async function readObject(path: string): Promise<object> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw usageError(`${path} cannot be read as JSON: ${messageOf(error)}`);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw usageError(`${path} must hold one JSON object`);
  return parsed;
}

/** ` (did you mean X?)` where something known is near. */
export function suggestion(name: string, known: Iterable<string>): string {
  const names = [...known];
  if (names.length === 0) return "";
  const nearest = closest(name, names);
  return distance(name, nearest) <= Math.max(2, name.length / 3) ? ` (did you mean ${nearest}?)` : "";
}

function everyOption(command: Command): readonly Option[] {
  return [...command.options, ...command.commands.flatMap((inner) => everyOption(inner as Command))];
}

function environmentName(of: Option): string {
  return PREFIX + nameOf(of).toUpperCase().replaceAll("-", "_");
}

function nameOf(of: Option): string {
  return (of.long ?? "").slice(2);
}
