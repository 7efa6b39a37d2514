/** Who takes part. A configuration is decided like any other entry, under the one before it; the first is genesis (rule I7). */
import type { NodeId, Slot } from "../../base/ids.ts";
import { type Codec, createCodec, list, oneOf, record, refined, type Shape, text, whole } from "../../base/shape.ts";

/** Voters at most: with more, every write costs more and nothing is gained. */
export const VOTERS_MAX = 7;

export interface Member {
  readonly id: NodeId;
  /** 128 random bits in hex, drawn when its disk was formatted: an empty disk is another member, whatever its configuration says. */
  readonly storageId: string;
  /** A learner gets everything a voter gets, and is not counted. */
  readonly role: "voter" | "learner";
  readonly address: string;
  /** Goes into the ballots of this member. */
  readonly prio: number;
}

export interface Configuration {
  /** One more for every change; 0 is a node that was never told. */
  readonly version: number;
  /** Of the entry that decided it. */
  readonly slot: Slot;
  /** In order of their ids. */
  readonly members: readonly Member[];
  /** The next member's id. Ids are never used again. */
  readonly nextNodeId: NodeId;
}

/** The voters' ids, in order. */
export function votersOf(configuration: Configuration): readonly NodeId[] {
  return configuration.members.filter(({ role }) => role === "voter").map(({ id }) => id);
}

/** A majority of the voters. */
export function quorumOf(configuration: Configuration): number {
  return Math.floor(votersOf(configuration).length / 2) + 1;
}

/** Whether `id` votes here, with this very disk (rule I1). */
export function isVoter(configuration: Configuration, id: NodeId, storageId: string): boolean {
  return configuration.members.some((member) => member.id === id && member.role === "voter" && member.storageId === storageId);
}

/** Learners and all. */
const MEMBERS_MAX = 1_024;

export const nodeIdShape = whole(0xffff_ffff) as Shape<NodeId>;
export const slotShape = whole() as Shape<Slot>;

const member = record<Member>({ id: nodeIdShape, storageId: text, role: oneOf(["voter", "learner"]), address: text, prio: whole(0xffff) });

const fields = record<Configuration>({
  version: whole(),
  slot: slotShape,
  members: list(member, MEMBERS_MAX),
  nextNodeId: nodeIdShape,
});

/** Of a decoded configuration: what every member relies on. */
function faultOf({ members, nextNodeId }: Configuration): string | undefined {
  if (members.some(({ id }, index) => id <= (members[index - 1]?.id ?? 0))) return "members in the order of their ids, from 1";
  if (members.some(({ id }) => id >= nextNodeId)) return `ids below the next one, ${nextNodeId}`;
  return members.filter(({ role }) => role === "voter").length > VOTERS_MAX ? `at most ${VOTERS_MAX} voters` : undefined;
}

export const configurationShape: Shape<Configuration> = refined(fields, faultOf);

/** The payload of a `config` entry. */
export const configurationCodec: Codec<Configuration> = createCodec("a configuration", 1, configurationShape);
