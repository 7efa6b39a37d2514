/**
 * The bytes of every command, outcome and change. They are on disks and on the wire between releases: a row that must change is a change of the
 * format, and of its version.
 */
import { describe, expect, test } from "vitest";
import { epoch } from "../../../src/base/epoch.ts";
import { OracleError } from "../../../src/base/errors.ts";
import type { Codec } from "../../../src/base/shape.ts";
import { changesCodec, commandCodec, outcomeCodec, snapshotChunks } from "../../../src/oracle/rules/codec.ts";
import type { OracleCommand, OracleOutcome, Refusal } from "../../../src/oracle/rules/command.ts";
import { DEFAULT_LIMITS } from "../../../src/oracle/rules/limits.ts";
import type { Lease, OracleChange } from "../../../src/oracle/rules/state.ts";
import { PHYSICAL_MS_MAX } from "../../../src/oracle/rules/timestamp.ts";
import { checkDecoder, fromHex, toHex } from "../../support/decoding.ts";

type Row<T> = readonly [value: T, hex: string];
type Rows<T, Discriminator extends keyof T> = { readonly [Name in T[Discriminator] & string]: Row<Extract<T, Record<Discriminator, Name>>> };

const NOW = 1_700_000_000_000;
const LEADER = epoch((1n << 64n) + 2n);
const LEASE: Lease = { id: NOW, holder: Uint8Array.of(0, 255), holderEpoch: 3n, ttlMs: 5_000, bound: NOW + 9, expiresAtMs: NOW + 5_000 };

const COMMANDS: Rows<OracleCommand, "type"> = {
  "take-over": [
    { type: "take-over", epoch: LEADER, now: NOW, failoverAdvanceMs: 1_000, maxClockJumpMs: 86_400_000, limits: DEFAULT_LIMITS },
    "920192019592d30000000000000001d30000000000000002cb4278bcfe56800000cd03e8ce05265c0096cd2710cc80ce00010000cc80cd2710cc80",
  ],
  advance: [
    { type: "advance", epoch: LEADER, now: NOW, atLeast: PHYSICAL_MS_MAX },
    "920192029392d30000000000000001d30000000000000002cb4278bcfe56800000cb42cfffffffffff80",
  ],
  expire: [{ type: "expire", epoch: LEADER, now: NOW }, "920192039292d30000000000000001d30000000000000002cb4278bcfe56800000"],
  sequence: [
    {
      type: "sequence",
      groups: [
        [
          { key: "a", count: 1 },
          { key: "é", count: 65_536 },
        ],
        [],
      ],
    },
    "9201920492c0929292c401610192c402c3a9ce0001000090",
  ],
  "sequence-init": [
    { type: "sequence-init", epoch: LEADER, key: "a", first: 2n ** 64n - 1n },
    "920192059392d30000000000000001d30000000000000002c40161cfffffffffffffffff",
  ],
  "lease-acquire": [
    { type: "lease-acquire", epoch: LEADER, now: NOW, holder: Uint8Array.of(0, 255), holderEpoch: 3n, ttlMs: 5_000 },
    "920192069592d30000000000000001d30000000000000002cb4278bcfe56800000c40200ffd30000000000000003cd1388",
  ],
  "lease-renew": [
    { type: "lease-renew", epoch: LEADER, now: NOW, id: NOW },
    "920192079392d30000000000000001d30000000000000002cb4278bcfe56800000cb4278bcfe56800000",
  ],
  "lease-release": [
    { type: "lease-release", epoch: LEADER, now: NOW, id: NOW },
    "920192089392d30000000000000001d30000000000000002cb4278bcfe56800000cb4278bcfe56800000",
  ],
};

const OUTCOMES: Rows<OracleOutcome, "type"> = {
  fenced: [{ type: "fenced", by: LEADER }, "920192019192d30000000000000001d30000000000000002"],
  refused: [{ type: "refused", refusal: { reason: "no-limits" } }, "9201920291920290"],
  "taken-over": [{ type: "taken-over", floor: NOW, highWater: NOW + 1_000 }, "9201920392cb4278bcfe56800000cb4278bcfe56be8000"],
  advanced: [{ type: "advanced", highWater: 0 }, "920192049100"],
  expired: [{ type: "expired", count: 200 }, "9201920591ccc8"],
  sequence: [
    {
      type: "sequence",
      groups: [
        { type: "granted", starts: [0n, 2n ** 63n] },
        { type: "refused", refusal: { reason: "empty-group" } },
      ],
    },
    "92019206919292019192d30000000000000000cf8000000000000000920291920890",
  ],
  "sequence-ready": [{ type: "sequence-ready", sequence: { first: 1n, next: 2n } }, "920192079192d30000000000000001d30000000000000002"],
  lease: [
    { type: "lease", lease: LEASE, highWater: NOW + 9 },
    "920192089297cb4278bcfe56800000c40200ffd30000000000000003cd1388cb4278bcfe56809000cb4278bcfe57b88000c0cb4278bcfe56809000",
  ],
  released: [{ type: "released" }, "9201920990"],
};

const REFUSALS: Rows<Refusal, "reason"> = {
  malformed: [{ reason: "malformed", detail: "why" }, "9201920291920191c403776879"],
  "no-limits": [{ reason: "no-limits" }, "9201920291920290"],
  "limits-differ": [{ reason: "limits-differ", name: "maxLeases", kept: 1, asked: 2 }, "9201920291920393040102"],
  "clock-too-far": [{ reason: "clock-too-far", now: 3, highWater: 1, maxClockJumpMs: 1 }, "9201920291920493030101"],
  "out-of-range": [{ reason: "out-of-range", value: Number.MAX_SAFE_INTEGER }, "9201920291920591cb433fffffffffffff"],
  "invalid-key": [{ reason: "invalid-key" }, "9201920291920690"],
  "invalid-count": [{ reason: "invalid-count", count: 0, max: 10 }, "9201920291920792000a"],
  "empty-group": [{ reason: "empty-group" }, "9201920291920890"],
  "too-many-keys": [{ reason: "too-many-keys", count: 129, max: 128 }, "9201920291920992cc81cc80"],
  "duplicate-key": [{ reason: "duplicate-key", key: "a" }, "9201920291920a91c40161"],
  "key-limit": [{ reason: "key-limit", limit: 10_000 }, "9201920291920b91cd2710"],
  "sequence-overflow": [{ reason: "sequence-overflow", key: "a", next: 2n ** 64n - 1n }, "9201920291920c92c40161cfffffffffffffffff"],
  "already-granted": [{ reason: "already-granted", key: "a", first: 5n, next: 6n }, "9201920291920d93c40161d30000000000000005d30000000000000006"],
  "invalid-holder": [{ reason: "invalid-holder", length: 0, max: 128 }, "9201920291920e9200cc80"],
  "lease-limit": [{ reason: "lease-limit", limit: 10_000 }, "9201920291920f91cd2710"],
  "stale-holder-epoch": [{ reason: "stale-holder-epoch", asked: 1n, active: 2n }, "9201920291921092d30000000000000001d30000000000000002"],
  "unknown-lease": [{ reason: "unknown-lease", id: 7 }, "920192029192119107"],
  "lease-expired": [{ reason: "lease-expired", id: 7, expiresAtMs: 9 }, "92019202919212920709"],
  "lease-superseded": [{ reason: "lease-superseded", id: 7, by: 4n }, "920192029192139207d30000000000000004"],
};

const CHANGES: Rows<OracleChange, "type"> = {
  limits: [{ type: "limits", limits: DEFAULT_LIMITS }, "92019192019196cd2710cc80ce00010000cc80cd2710cc80"],
  clock: [{ type: "clock", clock: NOW }, "920191920291cb4278bcfe56800000"],
  "high-water": [{ type: "high-water", highWater: NOW }, "920191920391cb4278bcfe56800000"],
  fence: [{ type: "fence", fence: LEADER }, "92019192049192d30000000000000001d30000000000000002"],
  sequence: [{ type: "sequence", key: "a", first: 1n, next: 2n }, "920191920593c40161d30000000000000001d30000000000000002"],
  lease: [
    { type: "lease", lease: { ...LEASE, supersededBy: 4n } },
    "92019192069197cb4278bcfe56800000c40200ffd30000000000000003cd1388cb4278bcfe56809000cb4278bcfe57b88000d30000000000000004",
  ],
  "lease-dropped": [{ type: "lease-dropped", id: 7 }, "92019192079107"],
};

describe("the bytes of a command", () => {
  test.each(Object.entries(COMMANDS))("%s", (_, [command, hex]) => {
    expect(toHex(commandCodec.encode(command))).toBe(hex);
    expect(commandCodec.decode(fromHex(hex))).toEqual(command);
  });
});

describe("the bytes of an outcome", () => {
  test.each(Object.entries(OUTCOMES))("%s", (_, [outcome, hex]) => {
    expect(toHex(outcomeCodec.encode(outcome))).toBe(hex);
    expect(outcomeCodec.decode(fromHex(hex))).toEqual(outcome);
  });
});

describe("the bytes of a refusal, in its outcome", () => {
  test.each(Object.entries(REFUSALS))("%s", (_, [refusal, hex]) => {
    const outcome: OracleOutcome = { type: "refused", refusal };
    expect(toHex(outcomeCodec.encode(outcome))).toBe(hex);
    expect(outcomeCodec.decode(fromHex(hex))).toEqual(outcome);
  });
});

describe("the bytes of a change, in a list", () => {
  test.each(Object.entries(CHANGES))("%s", (_, [change, hex]) => {
    expect(toHex(changesCodec.encode([change]))).toBe(hex);
    expect(changesCodec.decode(fromHex(hex))).toEqual([change]);
  });
});

test("the bytes of a snapshot: chunks of at most 1,000 changes, and an end that counts them", () => {
  const dropped = (id: number): OracleChange => ({ type: "lease-dropped", id });
  expect([...snapshotChunks([dropped(7), dropped(8)])].map(toHex)).toEqual(["920192019200929207910792079108", "920192029101"]);
  expect([...snapshotChunks([])].map(toHex)).toEqual(["920192029100"]);
  expect([...snapshotChunks(Array.from({ length: 1_001 }, (_, id) => dropped(id)))]).toHaveLength(3);
});

test("what is cut short anywhere, or has any bit flipped, is refused or is of the same type still", () => {
  const check = (codec: Codec<unknown>, rows: object): void => {
    for (const [, hex] of Object.values(rows)) for (const bytes of damaged(fromHex(hex))) checkDecoder(codec, bytes);
  };
  check(commandCodec, COMMANDS);
  check(outcomeCodec, OUTCOMES);
  check(changesCodec, CHANGES);
});

test("an epoch may be left out of a sequence command only, and a lease need not be superseded", () => {
  const withEpoch: OracleCommand = { type: "sequence", epoch: LEADER, groups: [] };
  expect(commandCodec.decode(commandCodec.encode(withEpoch))).toEqual(withEpoch);
  expect(commandCodec.decode(commandCodec.encode({ type: "sequence", groups: [] }))).not.toHaveProperty("epoch");
  expect(changesCodec.decode(changesCodec.encode([{ type: "lease", lease: LEASE }]))).not.toHaveProperty("0.lease.supersededBy");
});

describe.each([
  ["an oracle command", commandCodec, COMMANDS.expire[1]],
  ["an oracle outcome", outcomeCodec, OUTCOMES.released[1]],
  ["a list of oracle changes", changesCodec, CHANGES.clock[1]],
] as const)("%s", (what, codec, hex) => {
  test("of a later format is refused, and the format is named", () => {
    const later = fromHex(hex);
    later[1] = 2;
    expect(() => codec.decode(later)).toThrow(new OracleError("TSO_WRONG_FORMAT", `${what} has format 2, and this release reads up to 1`));
  });

  test("of no format is refused", () => {
    const none = fromHex(hex);
    none[1] = 0;
    expect(() => codec.decode(none)).toThrow(`TSO_WRONG_FORMAT: ${what} is malformed`);
  });

  test("that is empty, or followed by anything, is refused", () => {
    for (const bytes of [new Uint8Array(), fromHex(`${hex}00`)]) expect(() => codec.decode(bytes)).toThrow(`TSO_WRONG_FORMAT: ${what} is malformed`);
  });
});

function* damaged(bytes: Uint8Array): Generator<Uint8Array> {
  for (let length = 0; length < bytes.length; length++) yield bytes.subarray(0, length);
  for (let bit = 0; bit < 8 * bytes.length; bit++) yield bytes.map((byte, index) => (index === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
}
