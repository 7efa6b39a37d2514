/** `docs/replicated-log.md` names what there is, and nothing else: options with their defaults, reasons, fields. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { resolveCoreOptions } from "../../../src/paxos/core/options.ts";
import { resolvePeerTransportOptions } from "../../../src/paxos/transport/options.ts";
import { NodeWorld } from "../../support/node-world.ts";

const page = readFileSync(new URL("../../../docs/replicated-log.md", import.meta.url), "utf8");

/** Name and default, of the rows of the table that follows a text. */
function optionsAfter(text: string): Readonly<Record<string, number>> {
  const at = page.indexOf(text);
  expect(at, text).toBeGreaterThan(0);
  const table = page.slice(page.indexOf("|---|", at), page.indexOf("\n\n", page.indexOf("|---|", at)));
  return Object.fromEntries(
    [...table.matchAll(/^\| (`[^|]*) \| ([^|]*) \|/gm)].flatMap(([, names = "", defaults = ""]) => {
      const values = defaults.split(", ").map(numberOf);
      return [...names.matchAll(/`(\w+)`/g)].map(([, name = ""], index) => [name, values[index] ?? Number.NaN]);
    }),
  );
}

function numberOf(text: string): number {
  const [, digits = "", unit] = /^([\d,]+)(?: (KiB|MiB))?$/.exec(text) ?? [];
  return Number(digits.replaceAll(",", "")) * (unit === "MiB" ? 1024 * 1024 : unit === "KiB" ? 1024 : 1);
}

test("every option of the core, and its default", () => {
  expect(optionsAfter("**`core`**")).toEqual(resolveCoreOptions());
});

test("every option of the transport, and its default", () => {
  const { listen: _, credentials: __, ...options } = optionsAfter("**`grpcTransport(");
  expect(options).toEqual(resolvePeerTransportOptions());
});

test("every field of a status", async () => {
  const world = new NodeWorld(1);
  const { node } = await world.start(1, { init: true });
  const table = page.slice(page.indexOf("## What it says of itself"), page.indexOf("Everything else goes to `logger`"));
  const named = [...table.matchAll(/^\| (`[^|]*) \|/gm)].flatMap(([, names = ""]) => [...names.matchAll(/`(\w+)`/g)].map(([, name]) => name));
  expect(named.toSorted()).toEqual(Object.keys(node.status()).toSorted());
  await world.end();
});
