/** What may stand on the command line, in the environment and in the configuration file. Each refusal names the value and what is expected. */
import { InvalidArgumentError } from "commander";
import { U64_MAX } from "../base/u64.ts";

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `250ms`, `3s`, `5m`, `1h`, `1d` as milliseconds. */
export function parseDuration(text: string): number {
  const [, digits, unit] = /^(\d{1,12})(ms|s|m|h|d)$/.exec(text) ?? [];
  if (digits === undefined || unit === undefined) {
    throw new InvalidArgumentError(`"${text}" is not a duration: a whole number and a unit (ms, s, m, h or d), like 250ms or 3s.`);
  }
  return Number(digits) * (UNIT_MS[unit] ?? 1);
}

/** As `parseDuration` reads it. */
export function formatDuration(ms: number): string {
  return ms % 1_000 === 0 ? `${ms / 1_000}s` : `${ms}ms`;
}

/** A duration from one to another, both as they would be written. */
export function parseDurationBetween(from: string, through: string): (text: string) => number {
  const [fromMs, throughMs] = [parseDuration(from), parseDuration(through)];
  return (text) => {
    const ms = parseDuration(text);
    if (ms >= fromMs && ms <= throughMs) return ms;
    throw new InvalidArgumentError(`"${text}" must be from ${from} to ${through}.`);
  };
}

/** How long to wait: at most a day, since longer timers overflow. */
export const parseWait: (text: string) => number = parseDurationBetween("0s", "1d");

export function parseWhole(from: number, through: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (Number.isSafeInteger(value) && value >= from && value <= through) return value;
    throw new InvalidArgumentError(`"${text}" is not a whole number from ${from} to ${through}.`);
  };
}

/** An unsigned 64-bit number, in decimal. */
export function parseU64(text: string): bigint {
  const value = /^\d{1,20}$/.test(text) ? BigInt(text) : undefined;
  if (value === undefined || value > U64_MAX) throw new InvalidArgumentError(`"${text}" is not a whole number from 0 to 2^64-1.`);
  return value;
}

/** `HOST:PORT`, without a scheme; an IPv6 host in brackets. */
export function parseAddress(text: string): string {
  const [, port] = /^(?:\[[0-9a-fA-F:.]+\]|[^\s:/[\]]+):(\d{1,5})$/.exec(text) ?? [];
  if (port === undefined || Number(port) > 65_535) throw new InvalidArgumentError(`"${text}" is not HOST:PORT, like 127.0.0.1:50551.`);
  return text;
}
