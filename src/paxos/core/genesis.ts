/** What every disk of a new cluster holds (rule I7.5): slot 1 is the first configuration, and it is decided. */
import { slot } from "../../base/ids.ts";
import { invariant } from "../../base/invariant.ts";
import { BALLOT_ZERO, type Ballot } from "./ballot.ts";
import { type Configuration, configurationCodec, VOTERS_MAX, votersOf } from "./configuration.ts";
import { createEntry, type Entry } from "./entry.ts";
import type { Image } from "./image.ts";

export interface Genesis {
  readonly image: Image;
  readonly entries: readonly Entry[];
}

/** The same bytes for the same members, on every disk. */
export function genesisOf(members: Configuration["members"]): Genesis {
  const ordered = members.toSorted((a, b) => a.id - b.id);
  const first = ordered[0];
  invariant(first !== undefined, "a cluster has a member");
  const origin: Ballot = { round: 0, prio: 0, node: first.id };
  const nextNodeId = (Math.max(...ordered.map(({ id }) => id)) + 1) as Configuration["nextNodeId"];
  const configuration: Configuration = { version: 1, slot: slot(1), members: ordered, nextNodeId };
  const voters = votersOf(configuration).length;
  invariant(voters >= 1 && voters <= VOTERS_MAX, "a cluster has one to seven voters", { voters });
  const entry = createEntry({ slot: slot(1), origin, kind: "config", payload: configurationCodec.encode(configuration), previousChain: 0 });
  return {
    entries: [entry],
    image: {
      promised: origin,
      accepted: origin,
      last: entry.slot,
      lastOrigin: origin,
      lastChain: entry.chain,
      decidedThrough: entry.slot,
      configuration,
      cut: 0,
      compactedThrough: slot(0),
      compactedOrigin: BALLOT_ZERO,
      compactedChain: 0,
    },
  };
}
