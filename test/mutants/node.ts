/** Of what is around the core: engine, runtime, forming, transport. */
import type { Mutant } from "./mutant.ts";

const PAXOS = "src/paxos/";
const STORAGE = [
  "test/unit/paxos/storage/wal.test.ts",
  "test/unit/paxos/storage/conformance.test.ts",
  "test/sim/wal-crashes.test.ts",
  "test/sim/wal-clusters.test.ts",
] as const;
const NODE = ["test/unit/paxos/node.test.ts"] as const;
const FORMING = ["test/unit/paxos/forming.test.ts", "test/sim/forming.property.test.ts"] as const;
const TRANSPORT = ["test/unit/paxos/transport-conformance.test.ts"] as const;

export const NODE_MUTANTS: readonly Mutant[] = [
  {
    name: "wal: what was cut off comes back with the next start",
    edits: [
      {
        file: `${PAXOS}storage/log-replay.ts`,
        find: `if (op.type === "truncate") this.#truncate(op.from, op.last);`,
        replace: `if (op.type === "truncate") continue;`,
      },
    ],
    tests: STORAGE,
  },
  {
    name: "wal: a start is not counted",
    edits: [{ file: `${PAXOS}storage/wal.ts`, find: "boot: found.boot + 1", replace: "boot: found.boot" }],
    tests: STORAGE,
  },
  {
    name: "wal: the files of another node are opened",
    edits: [{ file: `${PAXOS}storage/wal.ts`, find: "if (found.node !== node)", replace: "if (found.node > 2 ** 40)" }],
    tests: STORAGE,
  },
  {
    name: "wal: where the newest frame is after a start is not noted",
    edits: [{ file: `${PAXOS}storage/wal.ts`, find: "  reading.replay.move(newest.ops, journal.newest);\n", replace: "" }],
    tests: STORAGE,
  },
  {
    name: "wal: a segment is let go that still has entries",
    edits: [
      {
        file: `${PAXOS}storage/wal.ts`,
        find: "const firstSegment = this.#extents.oldestSegment ?? this.#journal.segment;",
        replace: "const firstSegment = this.#journal.segment;",
      },
    ],
    tests: STORAGE,
  },
  {
    name: "wal: entries that do not continue each other are taken",
    edits: [
      { file: `${PAXOS}storage/log-replay.ts`, find: "if (!continues(end.chain, entry)) throw", replace: "if (entry.slot === 0) throw" },
      { file: `${PAXOS}storage/log-replay.ts`, find: "if (end.chain !== image.lastChain) throw", replace: "if (image.last < 0) throw" },
    ],
    tests: ["test/unit/paxos/storage/wal.test.ts"],
  },
  {
    name: "wal: the directory of another engine is opened",
    edits: [{ file: `${PAXOS}storage/directory.ts`, find: "if (keptBy !== engine) throw", replace: `if (keptBy === "") throw` }],
    tests: STORAGE,
  },
  {
    name: "runtime: a write is taken for done when it has begun",
    edits: [
      {
        file: `${PAXOS}runtime.ts`,
        find: "await this.#parts.storage.write(batch);",
        replace: "void this.#parts.storage.write(batch).catch(() => undefined);",
      },
    ],
    tests: NODE,
  },
  {
    name: "runtime: a write that failed is taken for done",
    edits: [{ file: `${PAXOS}runtime.ts`, find: "return this.#fail(error); // whether it is durable is not known", replace: "void error;" }],
    tests: NODE,
  },
  {
    name: "runtime: all ticks that were missed are made up for",
    edits: [{ file: `${PAXOS}runtime.ts`, find: "const LATE_TICKS_MAX = 2;", replace: "const LATE_TICKS_MAX = 10_000;" }],
    tests: NODE,
  },
  {
    name: "runtime: a proposal that was taken is not applied once its node stops",
    edits: [{ file: `${PAXOS}turn.ts`, find: `queued.has(id) ? "not-applied" : "unknown"`, replace: `queued.has(id) ? "unknown" : "not-applied"` }],
    tests: NODE,
  },
  {
    name: "node: a bug leaves no run",
    edits: [
      {
        file: `${PAXOS}node.ts`,
        find: "fault instanceof InvariantViolation ? this.#runtime?.recorder.run() : undefined",
        replace: "undefined as ReturnType<Runtime['recorder']['run']>",
      },
    ],
    tests: NODE,
  },
  {
    name: "I7: a charter is drawn with a disk that was heard long ago",
    edits: [{ file: `${PAXOS}core/forming.ts`, find: "if (heard.age + 1 >= HEARD_TICKS) this.#heard.delete(node);\n      else ", replace: "" }],
    tests: FORMING,
  },
  {
    name: "I7: a cluster is formed with a pledge missing",
    edits: [
      {
        file: `${PAXOS}core/forming.ts`,
        find: "if (this.#peers.every((id) => this.#pledged.has(id))) this.#persist",
        replace: "if (this.#pledged.size + 1 >= this.#peers.length) this.#persist",
      },
    ],
    tests: FORMING,
  },
  {
    name: "I7: a pledge is exchanged for another",
    edits: [{ file: `${PAXOS}core/forming.ts`, find: "const isOurs = sameCharter(charter, ours);", replace: "const isOurs = true;" }],
    tests: FORMING,
  },
  {
    name: "I7: a formed cluster's node with another disk takes part",
    edits: [
      {
        file: `${PAXOS}core/forming.ts`,
        find: "if (named !== from.storageId) return this.#say",
        replace: "if (named === undefined) return this.#say",
      },
    ],
    tests: FORMING,
  },
  {
    name: "transport: messages of another cluster are heard",
    edits: [
      {
        file: `${PAXOS}transport/reception.ts`,
        find: "return clusterId !== undefined && clusterId === this.#self.clusterId;",
        replace: "return clusterId !== undefined;",
      },
      {
        file: `${PAXOS}transport/reception.ts`,
        find: "claim.clusterId !== undefined && self.clusterId !== undefined && claim.clusterId !== self.clusterId",
        replace: "claim.clusterId === 'none'",
      },
    ],
    tests: TRANSPORT,
  },
  {
    name: "transport: a connection is lost although another way to the process stands",
    edits: [{ file: `${PAXOS}transport/lost-connections.ts`, find: " || session.streams.size > 0) return;", replace: ") return;" }],
    tests: TRANSPORT,
  },
  {
    name: "transport: a process that leaves with a word is told of as lost",
    edits: [
      { file: `${PAXOS}transport/lost-connections.ts`, find: `if (ending !== "broken") {`, replace: `if (ending === ("none" as typeof ending)) {` },
    ],
    tests: TRANSPORT,
  },
  {
    name: "transport: a buffer has no bound",
    edits: [
      {
        file: `${PAXOS}transport/lane-buffer.ts`,
        find: "this.#waiting.length < messagesMax && this.#bytes + bytes <= bytesMax",
        replace: "messagesMax > 0 && bytesMax > 0",
      },
    ],
    tests: TRANSPORT,
  },
];
