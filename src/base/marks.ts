/**
 * Coverage marks: named places that a long simulation must have been through, or it shows less than it seems to (protocol, 7.8). A rare path that no run takes has
 * not been tested, whatever the coverage of lines says.
 */
import { invariant } from "./invariant.ts";

/** What each stands for. */
export const MARKS = {
  "single-voter-election": "the only voter campaigns",
  "candidate-yields": "a candidate promises a higher ballot",
  "candidate-refused": "so many refused that a campaign cannot win",
  "candidate-timeout": "a campaign was not won in time",
  "hint-campaign": "a node campaigns because the connection to its leader was lost (E6)",
  rebid: "a leader campaigns again, for a member is stuck above it (Q3)",
  "held-up": "a follower gives up a leader that decides nothing, for there is a quorum without it (E3)",
  "sticky-reject": "a prepare is refused: this node has a leader, or is one (P1)",
  "grace-reject": "a prepare is refused: another was promised a moment ago (P1)",
  "probation-timeout": "a process begins to vouch although few peers were heard (I4)",

  "promise-inline-tail": "a promise carries what the candidate lacks (P3)",
  "promise-re-same-ballot": "a promise is given again (P1)",
  "adopt-foreign-suffix": "a new leader takes entries from another's log (P6)",
  "adopt-with-gap": "a new leader's log ended before what a promiser knows to be decided (P6)",
  "adopt-facts-first": "the tail that a candidate wants begins with facts that are no longer in memory (C2)",
  "adopt-tail-mismatch": "a candidate's log was not a prefix of its source's: it begins again at what is decided (P6)",
  "adopt-source-cut-short": "a later reign has cut the tail that a candidate fetches (P6)",
  "adopt-facts-from-above": "a promiser knows facts that the best log does not have: a later reign decided them (P5, P6)",

  "adopt-needs-snapshot": "what a candidate lacks is no longer entries at its source (P6)",

  "snapshot-pull": "a follower pulls a snapshot, for nobody has the entries (S1)",
  "snapshot-restart": "a pull is given up, and another source is looked for (S1)",
  "snapshot-resume": "a pull goes on where an earlier one of the same snapshot ended (S1)",
  "snapshot-install": "a snapshot takes the place of a log that ends before it (S2)",
  "snapshot-keeps-tail": "a snapshot leaves what follows it in the log (S2)",
  "snapshot-drops-tail": "a snapshot takes the place of a log with another end (S2)",
  "snapshot-discard": "a snapshot is of no use by the time it is there (S2)",
  "snapshot-missing": "a node starts, and has no snapshot that it could begin with (S3)",
  compact: "the log begins later from here on (S4)",
  "compact-waits": "the log is kept for a peer that pulls a snapshot (S4)",
  "outcome-unknown-snapshot": "a proposal's slot came with a snapshot (D4)",

  "sync-truncates": "a follower cuts off entries of its own (A2)",
  "sync-same-ballot-extend": "a second Sync of one reign brings more (A2)",
  "sync-base-mismatch": "a Sync begins where the follower has another entry (A2)",
  "sync-reject-stale": "a Sync contradicts facts: its leader is deposed (A2)",
  "accept-gap-nack": "an Accept came before what it follows (A4)",
  "accept-dup-prefix": "an Accept brings entries that are here already (A4)",
  "accept-vs-facts": "an Accept contradicts facts: its leader is deposed (A4)",
  "busy-nack": "an Accept is refused: too much waits for the disk (A4, F3)",
  "catchup-hint": "a peer is too far behind for what its leader has in memory (C1)",
  "facts-truncate": "facts replace what stood there undecided (C3)",
  "facts-while-unsynced": "facts come to a follower that is not in step (C3)",
  "serve-from-disk": "facts that a peer wants are no longer in memory (C2)",
  "load-to-apply": "what is to be applied is no longer in memory",

  "deposed-by-prepare": "a leader promises another (P2)",
  "deposed-by-info": "a leader learns from a promise that a later reign decided something (A1)",
  "check-quorum-stepdown": "a leader loses its quorum (Q1)",
  "disk-stall-abdicate": "a leader's disk is too slow (Q1)",
  "disk-low-abdicate": "a leader with little room on its disk gives way to voters that have more (F6)",
  "disk-full-abdicate": "a leader's disk has no room (F6)",
  "no-progress-abdicate": "a leader decides nothing although its quorum is there (Q4)",
  "self-ack-last-to-arrive": "the leader's own disk was the last of the quorum (D1)",
  "quorum-without-leader-disk": "an entry is decided before the leader's own disk has it (D1, W3)",
  "outcome-dropped-by-origin": "a proposal's slot was decided otherwise (D4)",
  "overload-drop": "a proposal is refused: too much is undecided (F1)",
  "disk-low-drop": "a proposal is refused: the leader's disk is nearly full (F6)",
  "sync-without-room": "a follower whose disk is full does not take a log that is longer than its own (F6)",
  "persist-merged": "several steps wait for one write (section 4)",

  "read-waits-reign": "a read waits until its leader has decided something of its own (R1)",
  "read-at-follower": "a read is sent on to the leader (R4)",
  "read-failed-stepdown": "a read fails because its leader steps down (Q2)",

  "identity-drop": "a message of a disk that is not the member's (I1)",
  "duplicate-process": "two processes on copies of one disk (I2)",
  "reversion-fence": "a node learns that its disk went back in time (I3)",
} as const;

export type Mark = keyof typeof MARKS;

let counts: Map<Mark, number> | undefined;

/** This place was reached. Costs a comparison while nobody counts. */
export function mark(name: Mark): void {
  if (counts !== undefined) counts.set(name, (counts.get(name) ?? 0) + 1);
}

/** For a mark that takes a computation of its own. */
export function marksCounted(): boolean {
  return counts !== undefined;
}

/** Counts from now on, until `stop`. */
export function countMarks(): { readonly counts: ReadonlyMap<Mark, number>; stop(): void } {
  invariant(counts === undefined, "marks are counted by one at a time");
  const counting = new Map<Mark, number>();
  counts = counting;
  return {
    counts: counting,
    stop: () => {
      counts = undefined;
    },
  };
}
