import { pino } from "pino";
import type { LogFields, Logger } from "../base/logger.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;

/** JSON lines on stderr; stdout is for what the command prints. 64-bit numbers are texts, as everywhere in our JSON. */
export function createLogger(level: (typeof LOG_LEVELS)[number]): Logger {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }), log: withTexts } },
    pino.destination({ dest: 2, sync: true }),
  );
}

function withTexts(fields: object): Record<string, unknown> {
  const texts: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields as LogFields)) {
    texts[name] = typeof value === "bigint" ? String(value) : isPlain(value) ? withTexts(value) : value;
  }
  return texts;
}

function isPlain(value: unknown): value is object {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
