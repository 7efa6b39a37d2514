/**
 * The charter of a cluster: its id, and the disks that it begins with (rule I7). Every one of these disks pledges itself to it, once and for ever; when all have, the
 * cluster is formed. Two charters that were formed share no disk.
 */
import type { NodeId } from "../../base/ids.ts";
import { type Codec, createCodec, list, record, refined, type Shape, text } from "../../base/shape.ts";
import { type Configuration, nodeIdShape, VOTERS_MAX } from "./configuration.ts";

/** A founding member, and the disk that it brings. */
export interface Founder {
  readonly id: NodeId;
  /** 128 random bits in hex, drawn when its disk was formatted. */
  readonly storageId: string;
  /** HOST:PORT of its peer listener. */
  readonly address: string;
}

export interface Charter {
  /** 128 random bits in hex, drawn with the charter: no two charters have the same. */
  readonly clusterId: string;
  /** In order of their ids. All become voters. */
  readonly founders: readonly Founder[];
}

/** The first configuration of the cluster (rule I7.5). */
export function membersOf({ founders }: Charter): Configuration["members"] {
  return founders.map(({ id, storageId, address }) => ({ id, storageId, role: "voter", address, prio: 0 }));
}

/** Whether both say the same, word for word. */
export function sameCharter(a: Charter, b: Charter): boolean {
  return (
    a.clusterId === b.clusterId &&
    a.founders.length === b.founders.length &&
    a.founders.every((founder, index) => {
      const other = b.founders[index];
      return founder.id === other?.id && founder.storageId === other.storageId && founder.address === other.address;
    })
  );
}

/** 128 bits in hex. */
export const randomId: Shape<string> = refined(text, (value) => (/^[0-9a-f]{32}$/.test(value) ? undefined : "expected 32 hex digits"));

/** Longest HOST:PORT, in characters: the name of a host has at most 253, and a port five digits. */
export const ADDRESS_LENGTH_MAX = 259;

export const addressShape: Shape<string> = refined(text, ({ length }) =>
  length <= ADDRESS_LENGTH_MAX ? undefined : `expected an address of at most ${ADDRESS_LENGTH_MAX} characters, got ${length}`,
);

/** The last one is not a founder's: there must be a next id (rule I7.5). */
export const FOUNDER_ID_MAX = 0xffff_fffe;

const fields = record<Charter>({
  clusterId: randomId,
  founders: list(record<Founder>({ id: nodeIdShape, storageId: randomId, address: addressShape }), VOTERS_MAX),
});

export const charterShape: Shape<Charter> = refined(fields, ({ founders }) => {
  if (founders.length === 0) return "expected a founder";
  if (founders.some(({ id }, index) => id <= (founders[index - 1]?.id ?? 0))) return "expected founders in the order of their ids, from 1";
  if (founders.some(({ id }) => id > FOUNDER_ID_MAX)) return `expected ids up to ${FOUNDER_ID_MAX}`;
  return new Set(founders.map(({ storageId }) => storageId)).size < founders.length ? "expected a disk of its own for each founder" : undefined;
});

/** A charter by itself, with its version. */
export const charterCodec: Codec<Charter> = createCodec("a charter", 1, charterShape);
