/**
 * Deliberate bugs of the protocol, numbered as in `docs/protocol.md` 7.9 where they are of its list. Of that list 11 to 14, 24 and 31, and the configuration of 22, wait for membership changes:
 * with one configuration nobody can tell them.
 */
import type { Mutant } from "./mutant.ts";

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
    name: "5: Sync brings a part of the adopted log",
    edits: [
      {
        file: `${CORE}acceptor.ts`,
        find: `  if (end < m.floor) return replica.drop(from, "sync", "stale"); // half`,
        replace: `  if (end < m.base) return replica.drop(from, "sync", "stale"); // half`,
      },
      {
        file: `${CORE}replication.ts`,
        find: "const through = maxSlot(needed, log.slice(base, log.last, options.maxAcceptBytes).at(-1)?.slot ?? base);",
        replace: "const through = log.slice(base, log.last, options.maxAcceptBytes).at(-1)?.slot ?? needed;",
      },
    ],
  },
  {
    name: "6: a Sync of the reign that is followed already may shorten the log",
    edits: [
      {
        file: `${CORE}acceptor.ts`,
        find: `const sameReign = sameBallot(replica.accepted, m.ballot);
  if (sameReign)`,
        replace: `const sameReign = sameBallot(replica.accepted, m.ballot) && replica.fenced !== undefined;
  if (sameReign)`,
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
    name: "15: a read is confirmed by one voter too few",
    edits: [
      {
        file: `${CORE}reads.ts`,
        find: "return echoes[replica.quorum - 1] ?? 0;",
        replace: "return echoes[Math.max(0, replica.quorum - 2)] ?? 0;",
      },
    ],
  },
  {
    name: "16: a new leader reads before it has decided anything of its own",
    edits: [
      {
        file: `${CORE}reads.ts`,
        find: "return role.reignSlot !== undefined && replica.decidedThrough >= role.reignSlot;",
        replace: "return role.reignSlot === undefined || replica.decidedThrough > 0;",
      },
    ],
  },
  {
    name: "17: a read is confirmed by a voter that has promised another",
    edits: [
      {
        file: `${CORE}heartbeat.ts`,
        find: "readSeq: reign ? m.readSeq : 0,",
        replace: "readSeq: m.readSeq,",
      },
      {
        file: `${CORE}reads.ts`,
        find: "if (peer === undefined || m.readSeq <= peer.readAck || !sameBallot(m.promised, role.ballot)) return;",
        replace: "if (peer === undefined || m.readSeq <= peer.readAck) return;",
      },
    ],
  },
  {
    name: "18: a read joins a batch whose heartbeat has left",
    edits: [
      {
        file: `${CORE}reads.ts`,
        find: "  role.reads.open.push(ticket);",
        replace: `  const sent = role.reads.batches.at(-1);
  if (sent === undefined) role.reads.open.push(ticket);
  else (sent.tickets as ReadTicket[]).push(ticket);`,
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
    name: "20: a leader takes facts",
    edits: [
      {
        file: `${CORE}candidate.ts`,
        find: "  replica.pull = undefined; // P7",
        replace: "  // P7",
      },
      {
        file: `${CORE}replica.ts`,
        find: `import { onCatchupHint, onFactsFetched, onFetch } from "./catchup.ts";`,
        replace: `import { ingestFacts, onCatchupHint, onFactsFetched, onFetch } from "./catchup.ts";`,
      },
      {
        file: `${CORE}replica.ts`,
        find: `      return replica.drop(from, message.type, "wrong-role"); // P7`,
        replace: "      return void ingestFacts(replica, message.entries);",
      },
    ],
  },
  {
    name: "21: a node that was started again, or campaigns again, takes the ballot that it had",
    edits: [
      {
        file: `${CORE}candidate.ts`,
        find: "replica.log.lastOrigin.round) + 1;",
        replace: "replica.log.lastOrigin.round) + (replica.promised.node === replica.node ? 0 : 1);",
      },
    ],
  },
  {
    name: "25: a disk that is not the member's is heard",
    edits: [
      {
        file: `${CORE}replica.ts`,
        find: "member.storageId === storageId;",
        replace: "member.id === from;",
      },
      {
        file: `${CORE}configuration.ts`,
        find: `member.role === "voter" && member.storageId === storageId);`,
        replace: `member.role === "voter" && storageId !== "");`,
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
    name: "27: an entry is applied before the own disk has it",
    edits: [
      {
        file: `${CORE}replica.ts`,
        find: `  const through = minSlot(replica.decidedThrough, replica.storedThrough);
  if (through <= replica.handedOut)`,
        replace: `  const through = replica.decidedThrough;
  if (through <= replica.handedOut)`,
      },
    ],
  },
  {
    name: "28: a write that failed is taken for done",
    edits: [
      {
        file: "src/paxos/turn.ts",
        find: `        this.#inbox.push({ type: "persist-failed", reason: input.reason });
        return;`,
        replace: `        this.#inbox.push({ type: "persisted", seq: this.#takeInFlight().seq });
        return;`,
      },
    ],
  },
  {
    name: "29: whoever asks is promised, whatever leader there is",
    edits: [
      {
        file: `${CORE}acceptor.ts`,
        find: "const why = stickiness(replica, from);",
        replace: "const why = replica.fenced === undefined ? undefined : stickiness(replica, from);",
      },
    ],
    tests: ["test/sim/scenarios.test.ts", "test/sim/elections.test.ts"],
  },
  {
    name: "30: a node campaigns although its neighbours have a leader",
    edits: [
      {
        file: `${CORE}election.ts`,
        find: "if (!calm && mayCampaign(replica, connected))",
        replace: "if (!election.happy && mayCampaign(replica, connected))",
      },
    ],
    tests: ["test/sim/scenarios.test.ts", "test/sim/elections.test.ts"],
  },
  {
    name: "32: a new promise leaves the follower in step with its old leader",
    edits: [
      {
        file: `${CORE}acceptor.ts`,
        find: `  follower.hintDecided = hintDecided;
`,
        replace: `  follower.hintDecided = hintDecided;
  if (role.type === "follower") [follower.synced, follower.match] = [role.synced, role.match];
`,
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
  {
    name: "C3: what facts cut off is not counted",
    edits: [
      {
        file: `${CORE}catchup.ts`,
        find: `      replica.cut += 1;
`,
        replace: "",
      },
    ],
  },
  {
    name: "D4: a fact is taken for the own proposal that had its slot",
    edits: [
      {
        file: `${CORE}roles.ts`,
        find: `      sameBallot(origin, decided)
        ?`,
        replace: `      origin.round > 0
        ?`,
      },
    ],
  },
  {
    name: "E3: a follower keeps a leader that decides nothing, though there is a quorum without it",
    edits: [{ file: `${CORE}election.ts`, find: " && !isHeldUp(replica, follower, connected);", replace: ";" }],
    tests: ["test/sim/scenarios.test.ts"],
  },
  {
    name: "F1: proposals are taken without limit",
    edits: [
      {
        file: `${CORE}leader.ts`,
        find: `full ? "overloaded" : `,
        replace: "",
      },
    ],
  },
  {
    name: "I2: two processes on copies of one disk are both believed",
    edits: [
      {
        file: `${CORE}sessions.ts`,
        find: `      known.disputed = true;
`,
        replace: "",
      },
    ],
  },
  {
    name: "I3: a disk that went back is not found out",
    edits: [
      {
        file: `${CORE}heartbeat.ts`,
        find: "return (compareBallots(seen.accepted, durable.accepted) || seen.cut - durable.cut || seen.last - durable.last) > 0;",
        replace: "return seen.cut < 0;",
      },
      {
        file: `${CORE}heartbeat.ts`,
        find: "if (compareBallots(seen.promised, durable.promised) > 0) return true;",
        replace: "",
      },
    ],
  },
  {
    name: "F6: a node whose disk is full campaigns",
    edits: [
      {
        file: `${CORE}election.ts`,
        find: '  if (replica.room === "none" || needsSnapshot(replica)) return false;\n',
        replace: "  if (needsSnapshot(replica)) return false;\n",
      },
    ],
    tests: ["test/sim/scenarios.test.ts"],
  },
  {
    name: "F6: a leader whose disk is full stays",
    edits: [{ file: `${CORE}election.ts`, find: `giveUp(replica, "full-disk");`, replace: "return;" }],
    tests: ["test/sim/scenarios.test.ts"],
  },
  {
    name: "F6: a follower whose disk is full takes entries",
    edits: [{ file: `${CORE}state.ts`, find: 'return this.room === "none" || this', replace: "return this" }],
    tests: ["test/sim/scenarios.test.ts"],
  },
  {
    name: "F6: a follower whose disk is full takes a Sync",
    edits: [
      {
        file: `${CORE}acceptor.ts`,
        find: 'differs !== undefined && replica.room === "none"',
        replace: 'replica.room === "low" && differs === undefined',
      },
    ],
    tests: ["test/sim/scenarios.test.ts"],
  },
  {
    name: "F6: a leader takes proposals although its disk is nearly full",
    edits: [{ file: `${CORE}leader.ts`, find: 'replica.room !== "enough" ? "disk-low" : ', replace: "" }],
    tests: ["test/sim/scenarios.test.ts"],
  },
  {
    name: "F6: a leader with little room does not give way",
    edits: [
      {
        file: `${CORE}election.ts`,
        find: 'replica.room === "low" && now >= role.givesWayFrom',
        replace: 'replica.room === "none" && now >= role.givesWayFrom',
      },
    ],
    tests: ["test/sim/scenarios.test.ts"],
  },
  {
    name: "22: a snapshot keeps a tail that follows another entry",
    edits: [
      {
        file: `${CORE}snapshots.ts`,
        find: "meta.slot <= log.last && sameBallot(log.originAt(meta.slot), meta.origin);",
        replace: "meta.slot <= log.last && sameBallot(meta.origin, meta.origin);",
      },
    ],
  },
  {
    name: "23: the log is compacted through what no snapshot covers that could be begun with",
    edits: [{ file: `${CORE}snapshots.ts`, find: "images.durable.decidedThrough >= made.slot", replace: "images.durable.decidedThrough >= 0" }],
  },
  {
    name: "S2: entries that a snapshot takes the place of are not counted",
    edits: [
      {
        file: `${CORE}snapshots.ts`,
        find: "replica.cut += 1; // no ballot explains what goes",
        replace: "replica.cut += 0; // no ballot explains what goes",
      },
    ],
  },
  {
    name: "S2: a leader takes a snapshot in place of its log",
    edits: [
      {
        file: `${CORE}snapshots.ts`,
        find: 'if (role.type !== "follower" || snapshots.installing',
        replace: "if (snapshots.installing",
      },
      {
        file: `${CORE}snapshots.ts`,
        find: "  role.synced = false;\n  role.match = slot(0);\n",
        replace: '  if (role.type === "follower") {\n    role.synced = false;\n    role.match = slot(0);\n  }\n',
      },
      {
        file: `${CORE}election.ts`,
        find: '  if (replica.room === "none" || needsSnapshot(replica)) return false;\n',
        replace: '  if (replica.room === "none") return false;\n',
      },
    ],
  },
  {
    name: "S3: the machine becomes a snapshot before the log begins after it",
    edits: [
      {
        file: `${CORE}snapshots.ts`,
        find: "if (installing === undefined || images.durable.decidedThrough < installing.slot) return undefined;",
        replace: "if (installing === undefined) return undefined;",
      },
    ],
  },
  {
    name: "S4: the newest snapshot is dropped with the older ones",
    edits: [{ file: `${CORE}snapshot-transfer.ts`, find: "(meta) => meta.slot < newest && (", replace: "(meta) => meta.slot <= newest && (" }],
  },
  {
    name: "D4: a proposal whose slot came with a snapshot is reported as never applied",
    edits: [
      {
        file: `${CORE}snapshots.ts`,
        find: 'replica.proposalResults.push({ id, type: "unknown" });',
        replace: 'replica.proposalResults.push({ id, type: "not-applied", reason: "superseded" });',
      },
    ],
  },
  {
    name: "S1: pieces of two snapshots are put together",
    edits: [
      {
        file: `${CORE}snapshot-transfer.ts`,
        find: "const stored = before?.meta.id === meta.id && !before.isFinishing ? before.stored : 0;",
        replace: "const stored = before !== undefined && !before.isFinishing ? Math.min(before.stored, meta.bytes) : 0;",
      },
      {
        file: "src/testing/cluster/snapshots.ts",
        find: "if (this.#staged?.id !== step.meta.id) this.#staged = {",
        replace: "if (this.#staged === undefined) this.#staged = {",
      },
      {
        file: "src/testing/cluster/snapshots.ts",
        find: "if (bytes.length !== step.meta.bytes || sha256(bytes) !== step.meta.sha256) return {",
        replace: "if (bytes.length !== step.meta.bytes) return {",
      },
    ],
  },
];
