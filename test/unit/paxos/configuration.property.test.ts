/** Who counts, and what every disk of a new cluster begins with. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { NodeId } from "../../../src/base/ids.ts";
import { InvariantViolation } from "../../../src/base/invariant.ts";
import { BALLOT_ZERO, compareBallots } from "../../../src/paxos/core/ballot.ts";
import {
  type Configuration,
  configurationCodec,
  isVoter,
  type Member,
  quorumOf,
  VOTERS_MAX,
  votersOf,
} from "../../../src/paxos/core/configuration.ts";
import { continues, decodeEntry } from "../../../src/paxos/core/entry.ts";
import { genesisOf } from "../../../src/paxos/core/genesis.ts";
import { imageCodec } from "../../../src/paxos/core/image-codec.ts";
import { toHex } from "../../support/decoding.ts";
import { anyConfiguration } from "../../support/paxos-values.ts";
import { property } from "../../support/property.ts";

property(
  "the voters are the members that vote, in order, and learners are not counted",
  fc.property(anyConfiguration, (configuration) => {
    const expected: number[] = [];
    for (const member of configuration.members) if (member.role === "voter") expected.push(member.id);
    expect(votersOf(configuration)).toEqual(expected);
    expect(votersOf(configuration)).toEqual(expected.toSorted((a, b) => a - b));
  }),
);

property(
  "a quorum is the fewest voters of which any two groups share one",
  fc.property(anyConfiguration, (configuration) => {
    const voters = votersOf(configuration).length;
    // By trying: two groups of `size` can be kept apart as long as both fit.
    let size = 0;
    while (2 * size <= voters) size++;
    expect(quorumOf(configuration)).toBe(size);
  }),
);

property(
  "only a voter's own disk votes for it (rule I1)",
  fc.property(anyConfiguration, fc.nat(), (configuration, drawn) => {
    const { members } = configuration;
    const flip = (hex: string) => (hex.startsWith("0") ? "1" : "0") + hex.slice(1);
    for (const { id, storageId, role } of members) {
      expect(isVoter(configuration, id, storageId)).toBe(role === "voter");
      expect(isVoter(configuration, id, flip(storageId))).toBe(false);
    }
    const [other] = members.slice(drawn % (members.length || 1));
    const stranger = configuration.nextNodeId;
    expect(other !== undefined && isVoter(configuration, stranger, other.storageId)).toBe(false);
  }),
);

const someMembers = anyConfiguration
  .map(({ members }) => members)
  .filter((members) => members.some(({ role }) => role === "voter"))
  .chain((members) => fc.shuffledSubarray([...members], { minLength: members.length }));

describe("genesis", () => {
  property(
    "is the same for the same members in any order, and decided at slot 1",
    fc.property(someMembers, (members) => {
      const { image, entries } = genesisOf(members);
      const ordered = members.toSorted((a, b) => a.id - b.id);
      expect(genesisOf(ordered)).toEqual({ image, entries });
      expect(genesisOf(ordered.toReversed()).entries.map(({ record }) => toHex(record))).toEqual(entries.map(({ record }) => toHex(record)));

      expect(entries).toHaveLength(1);
      for (const entry of entries) {
        expect(decodeEntry(entry.record)).toEqual(entry);
        expect(continues(0, entry), "the log begins with it").toBe(true);
        expect(entry).toMatchObject({ slot: 1, kind: "config", origin: image.promised });
        expect(configurationCodec.decode(entry.payload), "what is decided is what the image says").toEqual(image.configuration);
        expect(image).toMatchObject({
          last: entry.slot,
          lastOrigin: entry.origin,
          lastChain: entry.chain,
          decidedThrough: 1,
          compactedThrough: 0,
          cut: 0,
        });
      }
      expect(image.configuration).toMatchObject({ version: 1, slot: 1, members: ordered });
      for (const { id } of members) expect(image.configuration.nextNodeId, "a later member's id is new").toBeGreaterThan(id);
      expect(imageCodec.decode(imageCodec.encode(image))).toEqual(image);
    }),
  );

  property(
    "is below every ballot that anyone campaigns with, and above the zero",
    fc.property(someMembers, fc.nat(0xffff), (members, prio) => {
      const { accepted, promised, compactedOrigin } = genesisOf(members).image;
      expect(accepted).toEqual(promised);
      expect(compactedOrigin).toEqual(BALLOT_ZERO);
      expect(compareBallots(promised, BALLOT_ZERO)).toBeGreaterThan(0);
      expect(compareBallots(promised, { round: 1, prio, node: 1 as NodeId })).toBeLessThan(0);
    }),
  );

  test("needs a member, a voter, and not too many of them", () => {
    const member = (id: number, role: Member["role"]): Member => ({ id: id as NodeId, storageId: "00", role, address: "a", prio: 0 });
    const voters = (count: number): Configuration["members"] => Array.from({ length: count }, (_, index) => member(index + 1, "voter"));
    for (const members of [[], [member(1, "learner")], voters(VOTERS_MAX + 1)]) expect(() => genesisOf(members)).toThrow(InvariantViolation);
    expect(votersOf(genesisOf([...voters(VOTERS_MAX), member(9, "learner")]).image.configuration)).toHaveLength(VOTERS_MAX);
  });

  test("has these bytes", () => {
    const { entries } = genesisOf([{ id: 1 as NodeId, storageId: "00ff", role: "voter", address: "a:1", prio: 9 }]);
    expect(entries.map(({ record }) => toHex(record))).toEqual([
      "e702000001000000000000000000000000000000000001000000160000009201940101919501c4043030666600c403613a3109021d94771d9b886646",
    ]);
  });
});
