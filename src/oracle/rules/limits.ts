import { type WholeRange, wholeOption } from "../../base/options.ts";

/** Fixed by the first take-over and the same for ever after: every replica must refuse the same commands. */
export interface OracleLimits {
  /** Sequences that may exist. */
  readonly maxKeys: number;
  /** Bytes of a sequence's key, in UTF-8. */
  readonly maxKeyBytes: number;
  /** Values that one block may hold. */
  readonly maxCount: number;
  /** Sequences that one batch may touch. */
  readonly maxBatchKeys: number;
  /** Leases that may be held at a time, superseded ones included. */
  readonly maxLeases: number;
  /** Bytes of a lease holder's name. */
  readonly maxHolderBytes: number;
}

export const DEFAULT_LIMITS: OracleLimits = {
  maxKeys: 10_000,
  maxKeyBytes: 128,
  maxCount: 65_536,
  maxBatchKeys: 128,
  maxLeases: 10_000,
  maxHolderBytes: 128,
};

/** State lives in memory and is copied when captured: these keep that small. */
export const LIMIT_RANGES: Readonly<Record<keyof OracleLimits, WholeRange>> = {
  maxKeys: { from: 1, through: 1_000_000 },
  maxKeyBytes: { from: 1, through: 1_024 },
  maxCount: { from: 1, through: 0xffff_ffff },
  maxBatchKeys: { from: 1, through: 1_024 },
  maxLeases: { from: 1, through: 100_000 },
  maxHolderBytes: { from: 1, through: 1_024 },
};

/** The order in which limits are written and compared. */
export const LIMIT_NAMES: readonly (keyof OracleLimits)[] = ["maxKeys", "maxKeyBytes", "maxCount", "maxBatchKeys", "maxLeases", "maxHolderBytes"];

/** Fills defaults. @throws OracleError TSO_INVALID_OPTION, naming the limit and its range. */
export function resolveLimits(limits: { readonly [Name in keyof OracleLimits]?: number | undefined } = {}): OracleLimits {
  const of = (name: keyof OracleLimits): number => wholeOption(name, limits[name] ?? DEFAULT_LIMITS[name], LIMIT_RANGES[name]);
  return {
    maxKeys: of("maxKeys"),
    maxKeyBytes: of("maxKeyBytes"),
    maxCount: of("maxCount"),
    maxBatchKeys: of("maxBatchKeys"),
    maxLeases: of("maxLeases"),
    maxHolderBytes: of("maxHolderBytes"),
  };
}

/** The first limit that differs, if any. */
export function differingLimit(a: OracleLimits, b: OracleLimits): keyof OracleLimits | undefined {
  return LIMIT_NAMES.find((name) => a[name] !== b[name]);
}
