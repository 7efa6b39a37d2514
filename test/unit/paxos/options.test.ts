import { describe, expect, test } from "vitest";
import { OracleError } from "../../../src/base/errors.ts";
import { PAYLOAD_BYTES_MAX, RECORD_OVERHEAD } from "../../../src/paxos/core/entry.ts";
import { type CoreOptions, MESSAGE_ENTRIES_MAX, resolveCoreOptions } from "../../../src/paxos/core/options.ts";

const MIB = 1024 * 1024;
const ANY = 2 ** 40;
const LONGEST = 192 * MIB;
/** Where an option's range ends before `ANY`. */
const ENDS: Partial<Record<string, number>> = {
  promiseInlineBytes: LONGEST,
  maxSyncBytes: LONGEST,
  maxAcceptBytes: LONGEST,
  maxFetchBytes: LONGEST,
  snapshotChunkBytes: 16 * MIB,
  snapshotWindowBytes: 64 * MIB,
  maxEntryBytes: PAYLOAD_BYTES_MAX,
  maxUncommittedEntries: MESSAGE_ENTRIES_MAX / 2,
};
const DEFAULTS = resolveCoreOptions();
const NAMES = Object.keys(DEFAULTS) as readonly (keyof CoreOptions)[];

test("the defaults resolve, and are whole numbers", () => {
  expect(NAMES.length).toBeGreaterThan(20);
  for (const name of NAMES) expect(Number.isSafeInteger(DEFAULTS[name]), name).toBe(true);
  expect(DEFAULTS).toMatchObject({ tickMs: 10, heartbeatTicks: 10, electionTicks: 100, maxEntryBytes: 4 * MIB, maxSyncBytes: 48 * MIB });
});

test("what is given replaces its default and nothing else; undefined is not given", () => {
  expect(resolveCoreOptions({ readTicks: 7, cacheBytes: undefined })).toEqual({ ...DEFAULTS, readTicks: 7 });
});

test("a name that is no option is refused, with the names that there are", () => {
  expect(() => resolveCoreOptions({ readTick: 7 } as object)).toThrow(/readTick is no option of the log: there are tickMs, /);
});

test("what was resolved resolves to itself", () => {
  expect(resolveCoreOptions(DEFAULTS)).toEqual(DEFAULTS);
});

describe("a value that is no whole number in its range is refused, by its name, its value and the range", () => {
  test.each(NAMES)("%s", (name) => {
    const most = ENDS[name] ?? ANY;
    const smallest = ["promiseInlineBytes", "cacheBytes"].includes(name) ? 0 : 1;
    for (const value of [smallest - 1, -5, 1.5, Number.NaN, Number.POSITIVE_INFINITY, most + 1, "10" as unknown as number]) {
      const why = `${name} ${typeof value === "string" ? `"${value}"` : value} must be a whole number from ${smallest} to ${most}`;
      expect(() => resolveCoreOptions({ [name]: value })).toThrow(new OracleError("TSO_INVALID_OPTION", why));
    }
  });
});

describe("values that do not go together are refused: the option, its value and its limit are named", () => {
  const margin = 64 * RECORD_OVERHEAD;

  test.each<readonly [why: string, refused: Partial<CoreOptions>, message: string, accepted: Partial<CoreOptions>]>([
    [
      "a follower would campaign before it can know that its leader is gone",
      { electionTicks: 40 },
      `electionTicks 40 must be a whole number from 41 to ${ANY}`,
      { electionTicks: 41 },
    ],
    [
      "so it would with slower heartbeats",
      { heartbeatTicks: 25 },
      `electionTicks 100 must be a whole number from 101 to ${ANY}`,
      { heartbeatTicks: 24 },
    ],
    ["or with more of them missed", { heartbeatSlack: 9 }, `electionTicks 100 must be a whole number from 101 to ${ANY}`, { heartbeatSlack: 8 }],
    [
      "a leader would step down before a peer can count as gone",
      { checkQuorumTicks: 29 },
      `checkQuorumTicks 29 must be a whole number from 30 to ${ANY}`,
      { checkQuorumTicks: 30 },
    ],
    [
      "an entry would not fit a record",
      { maxEntryBytes: PAYLOAD_BYTES_MAX + 1, maxSyncBytes: LONGEST },
      `maxEntryBytes ${PAYLOAD_BYTES_MAX + 1} must be a whole number from 1 to ${PAYLOAD_BYTES_MAX}`,
      { maxEntryBytes: PAYLOAD_BYTES_MAX, maxSyncBytes: LONGEST },
    ],
    [
      "an undecided tail would not fit a Sync",
      { maxSyncBytes: 36 * MIB + margin - 1 },
      `maxSyncBytes ${36 * MIB + margin - 1} must be a whole number from ${36 * MIB + margin} to ${LONGEST}`,
      { maxSyncBytes: 36 * MIB + margin },
    ],
    [
      "nor would one of a larger window",
      { maxUncommittedBytes: 44 * MIB },
      `maxSyncBytes ${48 * MIB} must be a whole number from ${48 * MIB + margin} to ${LONGEST}`,
      { maxUncommittedBytes: 44 * MIB - margin },
    ],
    [
      "nor one with a larger entry",
      { maxEntryBytes: 16 * MIB },
      `maxSyncBytes ${48 * MIB} must be a whole number from ${48 * MIB + margin} to ${LONGEST}`,
      { maxEntryBytes: 16 * MIB - margin },
    ],
    [
      "a window of proposals would not be open all at once",
      { maxProposals: 16_383 },
      `maxProposals 16383 must be a whole number from 16384 to ${ANY}`,
      { maxProposals: 16_384 },
    ],
  ])("%s", (_, refused, message, accepted) => {
    expect(() => resolveCoreOptions(refused)).toThrow(new OracleError("TSO_INVALID_OPTION", message));
    expect(resolveCoreOptions(accepted)).toEqual({ ...DEFAULTS, ...accepted });
  });
});
