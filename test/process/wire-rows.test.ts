/**
 * Every status that a client of `tsoracle.v1` can meet, over a connection: code, message, trailer and order of checks, and that a refusal consumes
 * nothing. Not here, because they cannot occur: timestamps beyond the logical range (a grant never straddles a millisecond), an overflow of the
 * window's target (53 bits hold every sum), a method that a driver does not support, a format that is not activated.
 */
import { status } from "@grpc/grpc-js";
import { PHYSICAL_MS_MAX } from "../../src/oracle/rules/timestamp.ts";
import { field, join } from "../support/raw-client.ts";
import { type ServedOptions, START_MS } from "../support/served.ts";
import {
  all,
  applied,
  type Condition,
  describeRows,
  driverRows,
  exhausted,
  follows,
  hears,
  internal,
  invalid,
  isNotConfirmed,
  NOT_SERVING,
  needsWindow,
  notLeader,
  precondition,
  type Row,
  refused,
  U32_MAX,
  U64_MAX,
  WITNESS,
  wasAsked,
} from "../support/wire-row.ts";

const needsWindowBut = (type: "sequence" | "advance", outcome: Parameters<typeof applied>[0]): Condition =>
  all(needsWindow, hears(type, applied(outcome)));

describeRows("GetTs", { count: 1 }, [
  ...NOT_SERVING,
  { what: "is refused where leadership is not confirmed", given: isNotConfirmed, answer: notLeader() },
  { what: "refuses a count of 0", request: { count: 0 }, answer: invalid("count must be >= 1") },
  { what: "refuses an absent count", request: {}, answer: invalid("count must be >= 1") },
  { what: "refuses a count of 0 before it asks who leads", given: follows(), request: { count: 0 }, answer: invalid("count must be >= 1") },
  { what: "refuses a count above a millisecond", request: { count: 262_145 }, answer: invalid("invalid count: 262145") },
  { what: "refuses the largest count", request: { count: U32_MAX }, answer: invalid(`invalid count: ${U32_MAX}`) },
  { what: "asks who leads before it looks at a count too large", given: follows(), request: { count: 262_145 }, answer: notLeader() },
  { what: "confirms before it looks at a count too large", given: isNotConfirmed, request: { count: 262_145 }, answer: notLeader() },
  ...driverRows("advance", { prefix: "persist: ", given: needsWindow }).map(
    (row): Row => (row.answer.hint === "absent" ? row : { ...row, stepsDown: true }),
  ),
  {
    what: "says so where an extension brought nothing",
    given: needsWindowBut("advance", { type: "advanced", highWater: START_MS + 1_000 }),
    answer: internal("window exhausted"),
  },
  {
    what: "fails where the range of timestamps ends",
    given: needsWindowBut("advance", { type: "refused", refusal: { reason: "out-of-range", value: 2 ** 46 } }),
    answer: internal(`persist: high-water advance ${2 ** 46} exceeds the 46-bit physical_ms maximum`),
  },
  {
    what: "fails where the driver refuses what is never refused",
    given: needsWindowBut("advance", { type: "refused", refusal: { reason: "no-limits" } }),
    answer: internal("the driver refused what only a bug submits: no-limits"),
  },
  {
    what: "fails where the driver answers with something else",
    given: needsWindowBut("advance", { type: "released" }),
    answer: internal("persist: the driver answered an advance with released"),
  },
]);

const ask = (key: string | Uint8Array, count: number): Uint8Array => join(field(1, key), field(2, count));
const batch = (...entries: readonly Uint8Array[]): Uint8Array => join(...entries.map((entry) => field(1, entry)));
const CAP_OF_ONE: ServedOptions = { limits: { maxKeys: 1 } };
/** Two more values are left. */
const isAlmostFull = wasAsked("InitSeq", { key: "full", first: U64_MAX - 2n });

/** For one block, and for a batch of it. */
const blockRows: readonly (Omit<Row, "request"> & { readonly block?: Uint8Array })[] = [
  ...NOT_SERVING,
  ...driverRows("sequence"),
  { what: "asks who leads before it looks at the key and the count", given: follows(), block: ask("", 0), answer: notLeader() },
  { what: "refuses an empty key", block: ask("", 1), answer: invalid("invalid sequence key") },
  { what: "refuses a key of 129 bytes", block: ask("k".repeat(129), 1), answer: invalid("invalid sequence key") },
  { what: "refuses a key of 65 characters that are 130 bytes", block: ask("é".repeat(65), 1), answer: invalid("invalid sequence key") },
  { what: "refuses a key that is not UTF-8", block: ask(new Uint8Array([0x61, 0xff]), 1), answer: invalid("invalid sequence key") },
  {
    what: "refuses a key that is not UTF-8 wherever it arrives",
    given: follows(),
    block: ask(new Uint8Array([0xff]), 1),
    answer: invalid("invalid sequence key"),
  },
  { what: "refuses a count of 0", block: ask("a", 0), answer: invalid("count must be between 1 and the maximum") },
  { what: "refuses a count above the maximum", block: ask("a", 65_537), answer: invalid("count must be between 1 and the maximum") },
  { what: "refuses the largest count", block: ask("a", U32_MAX), answer: invalid("count must be between 1 and the maximum") },
  { what: "looks at the count before the key", block: ask("", 0), answer: invalid("count must be between 1 and the maximum") },
  { what: "refuses a key beyond the cap", options: CAP_OF_ONE, answer: exhausted("dense key cardinality cap 1 reached") },
  {
    what: "refuses a block that a counter of 64 bits cannot hold",
    given: isAlmostFull,
    block: ask("full", 3),
    answer: precondition("dense counter overflow"),
  },
  {
    what: "fails where the driver answers with something else",
    given: hears("sequence", applied({ type: "released" })),
    answer: internal("the driver answered a sequence with released (the outcome is unknown)"),
  },
  {
    what: "fails where the driver answers for nobody",
    given: hears("sequence", applied({ type: "sequence", groups: [] })),
    answer: internal("the driver answered a sequence with sequence (the outcome is unknown)"),
  },
  {
    what: "fails where the driver does not know the limits",
    given: hears("sequence", applied({ type: "refused", refusal: { reason: "no-limits" } })),
    answer: internal("the driver answered a sequence with refused (the outcome is unknown)"),
  },
  {
    what: "fails where the driver grants fewer blocks than were asked for",
    given: hears("sequence", applied({ type: "sequence", groups: [{ type: "granted", starts: [] }] })),
    answer: internal("the driver answered a sequence with sequence (the outcome is unknown)"),
  },
];

describeRows(
  "GetSeq",
  ask("a", 1),
  blockRows.map(({ block, ...row }) => (block === undefined ? row : { ...row, request: block })),
);

describeRows("GetSeqBatch", batch(ask("a", 1)), [
  ...blockRows.map(({ block, ...row }) => (block === undefined ? row : { ...row, request: batch(block) })),
  { what: "refuses an empty batch", request: {}, answer: invalid("batch must contain at least one entry") },
  { what: "asks who leads before it looks into the batch", given: follows(), request: {}, answer: notLeader() },
  {
    what: "refuses a batch of too many",
    request: batch(...Array.from({ length: 129 }, (_, index) => ask(`k${index}`, 1))),
    answer: invalid("batch has 129 entries; the maximum is 128"),
  },
  {
    what: "refuses a key that comes twice",
    request: batch(ask("é%", 1), ask("b", 1), ask("é%", 2)),
    answer: invalid("duplicate key in batch: é%"),
  },
  {
    what: "counts a batch before it compares keys",
    request: batch(...Array.from({ length: 129 }, () => ask("a", 1))),
    answer: invalid("batch has 129 entries; the maximum is 128"),
  },
  { what: "compares keys before it looks at them", request: batch(ask("", 0), ask("", 0)), answer: invalid("duplicate key in batch: ") },
  {
    what: "looks at the entries in their order",
    request: batch(ask("a", 1), ask("", 1), ask("b", 0)),
    answer: invalid("invalid sequence key"),
  },
  {
    what: "takes nothing where the last entry is wrong",
    request: batch(ask(WITNESS, 5), ask("b", 0)),
    answer: invalid("count must be between 1 and the maximum"),
  },
  {
    what: "takes nothing where one counter is full",
    given: isAlmostFull,
    request: batch(ask(WITNESS, 5), ask("full", 3)),
    answer: precondition("dense counter overflow"),
  },
  {
    what: "takes nothing where one key is beyond the cap",
    options: CAP_OF_ONE,
    request: batch(ask(WITNESS, 5), ask("b", 1)),
    answer: exhausted("dense key cardinality cap 1 reached"),
  },
  {
    what: "fails where the driver grants the first block only",
    given: hears("sequence", applied({ type: "sequence", groups: [{ type: "granted", starts: [0n] }] })),
    request: batch(ask("a", 1), ask("b", 1)),
    answer: internal("the driver answered a sequence with sequence (the outcome is unknown)"),
  },
]);

const TTL_MS = 10_000;
const LEASE = { holder: new Uint8Array([1]), holder_epoch: 5n, ttl_ms: BigInt(TTL_MS) };
const holdsLease = wasAsked("AcquireLease", LEASE);
/** The first lease reaches as far as its time to live. */
const FIRST_ID = START_MS + TTL_MS;
const elsewhere = (type: "lease-acquire" | "lease-renew" | "lease-release"): Row => ({
  what: "fails where the driver answers with something else",
  given: hears(type, applied({ type: "advanced", highWater: 0 })),
  answer: internal(`the driver answered ${type} with advanced`),
});

describeRows("AcquireLease", LEASE, [
  ...NOT_SERVING,
  ...driverRows("lease-acquire", { prefix: "persist leases: " }),
  elsewhere("lease-acquire"),
  { what: "asks who leads before it looks at the request", given: follows(), request: {}, answer: notLeader() },
  { what: "refuses no holder", request: { ttl_ms: 10_000n }, answer: invalid("lease holder must be 1..=128 bytes, got 0") },
  {
    what: "refuses a holder of 129 bytes",
    request: { ...LEASE, holder: new Uint8Array(129) },
    answer: invalid("lease holder must be 1..=128 bytes, got 129"),
  },
  { what: "looks at the holder before the time to live", request: {}, answer: invalid("lease holder must be 1..=128 bytes, got 0") },
  ...[0n, 4_999n, 300_001n, 2n ** 32n + 10_000n, 2n ** 53n + 1n, U64_MAX].map((ttl_ms) => ({
    what: `refuses a time to live of ${ttl_ms} ms`,
    request: { ...LEASE, ttl_ms },
    answer: invalid(`ttl_ms ${ttl_ms} outside server bounds [5000, 300000]`),
  })),
  ...[0n, 4n].map((holder_epoch) => ({
    what: `refuses the holder epoch ${holder_epoch} where 5 holds the lease`,
    given: holdsLease,
    request: { ...LEASE, holder_epoch },
    answer: precondition(`holder epoch ${holder_epoch} is not above the active lease's epoch 5`),
  })),
  {
    what: "refuses one lease too many",
    options: { limits: { maxLeases: 1 } },
    given: holdsLease,
    request: { ...LEASE, holder: new Uint8Array([2]) },
    answer: exhausted("lease cap 1 reached"),
  },
  {
    what: "refuses a bound beyond the range of timestamps",
    options: { memory: { highWater: PHYSICAL_MS_MAX - 3_000 }, startMs: PHYSICAL_MS_MAX - 2_000 },
    answer: internal(`persist: high-water advance ${PHYSICAL_MS_MAX - 2_000 + TTL_MS} exceeds the 46-bit physical_ms maximum`),
  },
]);

describeRows("RenewLease", { lease_id: BigInt(FIRST_ID) }, [
  ...NOT_SERVING,
  ...driverRows("lease-renew", { prefix: "persist leases: ", given: holdsLease }),
  elsewhere("lease-renew"),
  { what: "asks who leads before it looks at the id", given: follows(), request: { lease_id: U64_MAX }, answer: notLeader() },
  {
    what: "refuses what has expired",
    given: all(holdsLease, ({ clock }) => {
      clock.now += TTL_MS;
      return () => {
        clock.now -= TTL_MS;
      };
    }),
    answer: precondition(`lease ${FIRST_ID} expired at ${START_MS + TTL_MS} ms; acquire a new lease`),
  },
  {
    what: "refuses what a higher epoch of the holder took over",
    given: wasAsked("AcquireLease", LEASE, { ...LEASE, holder_epoch: U64_MAX }),
    answer: precondition(`lease ${FIRST_ID} was superseded by holder epoch ${U64_MAX}`),
  },
  ...[0n, 7n, 2n ** 46n, 2n ** 53n + 1n, U64_MAX].map((lease_id) => ({
    what: `does not know the lease ${lease_id}`,
    given: holdsLease,
    request: { lease_id },
    answer: refused(status.NOT_FOUND, `unknown lease id ${lease_id}`),
  })),
]);

describeRows("ReleaseLease", { lease_id: BigInt(FIRST_ID) }, [
  ...NOT_SERVING,
  ...driverRows("lease-release", { prefix: "persist leases: ", given: holdsLease }),
  elsewhere("lease-release"),
  { what: "asks who leads before it looks at the id", given: follows(), request: { lease_id: U64_MAX }, answer: notLeader() },
]);

describeRows("InitSeq", { key: "a", first: 9n }, [
  ...NOT_SERVING,
  ...driverRows("sequence-init"),
  { what: "refuses an empty key", request: { first: 5n }, answer: invalid("invalid sequence key") },
  { what: "refuses a key of 129 bytes", request: { key: "k".repeat(129) }, answer: invalid("invalid sequence key") },
  { what: "refuses a key that is not UTF-8", request: field(1, new Uint8Array([0xff])), answer: invalid("invalid sequence key") },
  { what: "asks who leads before it looks at the key", given: follows(), request: {}, answer: notLeader() },
  { what: "refuses a key beyond the cap", options: CAP_OF_ONE, answer: exhausted("dense key cardinality cap 1 reached") },
  {
    what: "refuses what has granted",
    request: { key: WITNESS, first: 9n },
    answer: precondition(`sequence ${WITNESS} has granted [0, 1); its first value is fixed`),
  },
]);

describeRows("PeekSeq", { key: WITNESS }, [
  ...NOT_SERVING,
  { what: "is refused where leadership is not confirmed", given: isNotConfirmed, answer: notLeader() },
  { what: "refuses an empty key", request: {}, answer: invalid("invalid sequence key") },
  { what: "refuses a key of 129 bytes", request: { key: "k".repeat(129) }, answer: invalid("invalid sequence key") },
  { what: "does not know what was never used", request: { key: "é" }, answer: refused(status.NOT_FOUND, "unknown sequence: é") },
]);

describeRows("ListSeqs", {}, [
  ...NOT_SERVING,
  { what: "is refused where leadership is not confirmed", given: isNotConfirmed, answer: notLeader() },
  { what: "refuses a page too large", request: { page_size: 1_001 }, answer: invalid("page_size 1001 must be at most 1000") },
  {
    what: "looks at the page before it asks who leads",
    given: follows(),
    request: { page_size: 1_001 },
    answer: invalid("page_size 1001 must be at most 1000"),
  },
]);
