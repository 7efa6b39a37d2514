/** Every command, outcome and change that the types allow, whether or not a machine would ever say it. */
import fc from "fast-check";
import { type Epoch, epochFromParts } from "../../src/base/epoch.ts";
import type { GroupOutcome, OracleCommand, OracleOutcome, Refusal } from "../../src/oracle/rules/command.ts";
import { LIMIT_NAMES, LIMIT_RANGES, type OracleLimits } from "../../src/oracle/rules/limits.ts";
import type { Lease, OracleChange, SequenceState } from "../../src/oracle/rules/state.ts";
import { PHYSICAL_MS_MAX } from "../../src/oracle/rules/timestamp.ts";

/** Lower bounds of the ranges in which numbers are written differently. */
const WIDTHS = [0, 2 ** 7, 2 ** 8, 2 ** 16, 2 ** 31, 2 ** 32, 2 ** 45];

const upTo = (max: number): fc.Arbitrary<number> =>
  fc.oneof(fc.nat(100), fc.integer({ min: 0, max }), fc.constantFrom(max, ...WIDTHS.filter((width) => width < max)));
const physicalMs = upTo(PHYSICAL_MS_MAX);
/** Two of them can be added. */
const asked = upTo(2 ** 52 - 1);
const count = upTo(0xffff_ffff);
const u64 = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.constantFrom(0n, 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n));
const anyEpoch: fc.Arbitrary<Epoch> = fc.tuple(u64, u64).map(([hi, lo]) => epochFromParts(hi, lo));
/** Any well-formed text, long ones and those that begin with a byte order mark too. */
export const anyText = fc
  .tuple(fc.constantFrom("", "\ufeff", "\0"), fc.string({ unit: "binary" }), fc.constantFrom(0, 20, 100, 300))
  .map(([start, middle, padding]) => start + middle + "é".repeat(padding));
const anyBytes = fc.oneof(
  fc.uint8Array({ maxLength: 20 }),
  fc.nat(300).map((length) => new Uint8Array(length).fill(0xc1)),
);

const inRange = (name: keyof OracleLimits): fc.Arbitrary<number> => fc.integer({ min: LIMIT_RANGES[name].from, max: LIMIT_RANGES[name].through });
const anyLimits: fc.Arbitrary<OracleLimits> = fc.record({
  maxKeys: inRange("maxKeys"),
  maxKeyBytes: inRange("maxKeyBytes"),
  maxCount: inRange("maxCount"),
  maxBatchKeys: inRange("maxBatchKeys"),
  maxLeases: inRange("maxLeases"),
  maxHolderBytes: inRange("maxHolderBytes"),
});
const anySequence: fc.Arbitrary<SequenceState> = fc.record({ first: u64, next: u64 });
const anyLease: fc.Arbitrary<Lease> = fc.record(
  { id: physicalMs, holder: anyBytes, holderEpoch: u64, ttlMs: asked, bound: physicalMs, expiresAtMs: asked, supersededBy: u64 },
  { requiredKeys: ["id", "holder", "holderEpoch", "ttlMs", "bound", "expiresAtMs"] },
);

const type = <const Type extends string>(name: Type): { type: fc.Arbitrary<Type> } => ({ type: fc.constant(name) });
const led = { epoch: anyEpoch, now: asked };
const anyBlocks = fc.array(fc.record({ key: anyText, count }), { maxLength: 3 });

export const anyCommand: fc.Arbitrary<OracleCommand> = fc.oneof(
  fc.record({ ...type("take-over"), ...led, failoverAdvanceMs: asked, maxClockJumpMs: asked, limits: anyLimits }),
  fc.record({ ...type("advance"), ...led, atLeast: asked }),
  fc.record({ ...type("expire"), ...led }),
  fc.record({ ...type("sequence"), epoch: anyEpoch, groups: fc.array(anyBlocks, { maxLength: 3 }) }, { requiredKeys: ["type", "groups"] }),
  fc.record({ ...type("sequence-init"), epoch: anyEpoch, key: anyText, first: u64 }, { requiredKeys: ["type", "key", "first"] }),
  fc.record({ ...type("lease-acquire"), ...led, holder: anyBytes, holderEpoch: u64, ttlMs: asked }),
  fc.record({ ...type("lease-renew"), ...led, id: asked }),
  fc.record({ ...type("lease-release"), ...led, id: asked }),
);

const reason = <const Reason extends string>(name: Reason): { reason: fc.Arbitrary<Reason> } => ({ reason: fc.constant(name) });
const whole = upTo(Number.MAX_SAFE_INTEGER);

const anyRefusal: fc.Arbitrary<Refusal> = fc.oneof(
  fc.record({ ...reason("malformed"), detail: anyText }),
  fc.record(reason("no-limits")),
  fc.record({ ...reason("limits-differ"), name: fc.constantFrom(...LIMIT_NAMES), kept: whole, asked: whole }),
  fc.record({ ...reason("clock-too-far"), now: asked, highWater: physicalMs, maxClockJumpMs: asked }),
  fc.record({ ...reason("out-of-range"), value: whole }),
  fc.record(reason("invalid-key")),
  fc.record({ ...reason("invalid-count"), count: whole, max: whole }),
  fc.record(reason("empty-group")),
  fc.record({ ...reason("too-many-keys"), count: whole, max: whole }),
  fc.record({ ...reason("duplicate-key"), key: anyText }),
  fc.record({ ...reason("key-limit"), limit: whole }),
  fc.record({ ...reason("sequence-overflow"), key: anyText, next: u64 }),
  fc.record({ ...reason("already-granted"), key: anyText, first: u64, next: u64 }),
  fc.record({ ...reason("invalid-holder"), length: whole, max: whole }),
  fc.record({ ...reason("lease-limit"), limit: whole }),
  fc.record({ ...reason("stale-holder-epoch"), asked: u64, active: u64 }),
  fc.record({ ...reason("unknown-lease"), id: asked }),
  fc.record({ ...reason("lease-expired"), id: asked, expiresAtMs: asked }),
  fc.record({ ...reason("lease-superseded"), id: asked, by: u64 }),
);
const anyGroupOutcome: fc.Arbitrary<GroupOutcome> = fc.oneof(
  fc.record({ ...type("granted"), starts: fc.array(u64, { maxLength: 3 }) }),
  fc.record({ ...type("refused"), refusal: anyRefusal }),
);

export const anyOutcome: fc.Arbitrary<OracleOutcome> = fc.oneof(
  fc.record({ ...type("fenced"), by: anyEpoch }),
  fc.record({ ...type("refused"), refusal: anyRefusal }),
  fc.record({ ...type("taken-over"), floor: physicalMs, highWater: physicalMs }),
  fc.record({ ...type("advanced"), highWater: physicalMs }),
  fc.record({ ...type("expired"), count: whole }),
  fc.record({ ...type("sequence"), groups: fc.array(anyGroupOutcome, { maxLength: 3 }) }),
  fc.record({ ...type("sequence-ready"), sequence: anySequence }),
  fc.record({ ...type("lease"), lease: anyLease, highWater: physicalMs }),
  fc.record(type("released")),
);

const anyChange: fc.Arbitrary<OracleChange> = fc.oneof(
  fc.record({ ...type("limits"), limits: anyLimits }),
  fc.record({ ...type("clock"), clock: physicalMs }),
  fc.record({ ...type("high-water"), highWater: physicalMs }),
  fc.record({ ...type("fence"), fence: anyEpoch }),
  fc.record({ ...type("sequence"), key: anyText, first: u64, next: u64 }),
  fc.record({ ...type("lease"), lease: anyLease }),
  fc.record({ ...type("lease-dropped"), id: physicalMs }),
);

export const anyChanges = fc.array(anyChange, { maxLength: 5 });
