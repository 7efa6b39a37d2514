/**
 * Deliberate bugs, numbered as in `docs/protocol.md` 7.9 where they are of its list: replacements in the sources, of texts that stand there exactly once. There is no switch for them in `src`.
 * `npm run mutants` shows that the simulator finds each.
 */
export interface Edit {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/** A bug that two rules guard against has an edit for each of them. */
export interface Mutant {
  readonly name: string;
  readonly edits: readonly [Edit, ...Edit[]];
}

const CORE = "src/paxos/core/";

export const PROTOCOL_MUTANTS: readonly Mutant[] = [
  {
    name: "1: a promise leaves before it is durable",
    edits: [
      {
        file: `${CORE}vouch.ts`,
        find: `  if (role.owed === undefined || !replica.settled) return;
  const { durable } = replica.images;`,
        replace: `  if (role.owed === undefined) return;
  const durable = replica.image();`,
      },
    ],
  },
  {
    name: "2: a prepare leaves before the own promise is durable",
    edits: [
      {
        file: `${CORE}candidate.ts`,
        find: `role.phase !== "self" || !sameBallot(replica.images.durable.promised, role.ballot)) return;`,
        replace: `role.phase !== "self") return;`,
      },
    ],
  },
  {
    name: "3: a leader counts its own entries before they are durable",
    edits: [
      {
        file: `${CORE}leader.ts`,
        find: "return sameBallot(durable.accepted, role.ballot) ? durable.last : slot(0);",
        replace: "return durable.promised === undefined || role.type !== " + '"leader"' + " ? slot(0) : replica.log.last;",
      },
    ],
  },
  {
    name: "4: an acknowledgement speaks of what is in memory",
    edits: [
      {
        file: `${CORE}vouch.ts`,
        find: "through: minSlot(role.match, durable.last), cut",
        replace: "through: replica.log.last, cut",
      },
    ],
  },
  {
    name: "7: the base of Sync is not compared",
    edits: [
      {
        file: `${CORE}acceptor.ts`,
        find: "if (m.base > log.last || !log.agrees(m.base, m.baseOrigin)) {",
        replace: "if (m.base > log.last) {",
      },
      {
        file: `${CORE}replication.ts`,
        find: "  if (!sameReign && !sameBallot(info.accepted, role.sourceAccepted)) return info.decidedThrough;",
        replace: "  if (!sameReign) return minSlot(info.last, log.last);",
      },
    ],
  },
  {
    name: "8: the longest log is adopted, whatever its ballot",
    edits: [
      {
        file: `${CORE}candidate.ts`,
        find: "compareBallots(info.accepted, best.accepted) || info.last - best.last",
        replace: "info.last - best.last",
      },
    ],
  },
  {
    name: "9: a promise for another ballot is counted",
    edits: [
      {
        file: `${CORE}candidate.ts`,
        find: `  if (!sameBallot(m.ballot, role.ballot)) return replica.drop(from, "promise", "other-ballot");`,
        replace: "",
      },
    ],
  },
  {
    name: "10: half of the voters are a quorum",
    edits: [
      {
        file: `${CORE}configuration.ts`,
        find: "Math.floor(votersOf(configuration).length / 2) + 1",
        replace: "Math.max(1, Math.floor(votersOf(configuration).length / 2))",
      },
    ],
  },
  {
    name: "19: what is decided is taken beyond what is known to be the leader's",
    edits: [
      {
        file: `${CORE}acceptor.ts`,
        find: "if (follower.synced) advanceDecided(replica, minSlot(through, follower.match));",
        replace: "if (follower.leader !== undefined) advanceDecided(replica, minSlot(through, replica.log.last));",
      },
    ],
  },
  {
    name: "26: a leader that steps down says that its proposals were not applied",
    edits: [
      {
        file: `${CORE}roles.ts`,
        find: `    failReads(replica, role, "not-leader");`,
        replace: `    failReads(replica, role, "not-leader");
    for (const waiting of replica.proposals.values())
      for (const { id } of waiting) replica.proposalResults.push({ id, type: "not-applied", reason: "not-leader", leader: undefined });
    replica.proposals.clear();
    replica.openProposals = 0;`,
      },
    ],
  },
  {
    name: "P6: what a promiser knows to be decided is taken by its number alone",
    edits: [
      {
        file: `${CORE}candidate.ts`,
        find: "  if (!holds) return giveWay(replica);",
        replace: "  if (!holds && replica.fenced !== undefined) return;",
      },
    ],
  },
];
