import { describe, expect, test } from "vitest";
import { type NodeId, type Slot, slot } from "../../../src/base/ids.ts";
import { type Ballot, epochOf } from "../../../src/paxos/core/ballot.ts";
import type { RequestNumber } from "../../../src/paxos/core/effects.ts";
import { createEntry, type Entry } from "../../../src/paxos/core/entry.ts";
import { genesisOf } from "../../../src/paxos/core/genesis.ts";
import type { Image } from "../../../src/paxos/core/image.ts";
import type { PaxosMessage } from "../../../src/paxos/core/messages.ts";
import { resolveCoreOptions } from "../../../src/paxos/core/options.ts";
import type { ReplicaView } from "../../../src/paxos/core/replica.ts";
import type { LogPoint, SnapshotMeta } from "../../../src/paxos/core/snapshot.ts";
import type { Actions } from "../../../src/paxos/turn.ts";
import { type ObservedProcess, Violation } from "../../../src/testing/cluster/observed.ts";
import { SafetyChecker } from "../../../src/testing/cluster/safety.ts";

const node = (id: number): NodeId => id as NodeId;
const request = (id: number): RequestNumber => id as RequestNumber;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const ballot = (round: number, id: number): Ballot => ({ round, prio: 0, node: node(id) });
const genesis = genesisOf([1, 2, 3].map((id) => ({ id: node(id), storageId: `d${id}`, role: "voter", address: "", prio: 0 })));
const SIZES: ReplicaView["sizes"] = {
  cachedEntries: 0,
  cachedBytes: 0,
  openProposals: 0,
  waitingReads: 0,
  uncommittedEntries: 0,
  uncommittedBytes: 0,
  inflightMessages: 0,
  inflightBytes: 0,
  stagedEntries: 0,
};

/** A process whose memory and disk are whatever a test says. */
class Fake implements ObservedProcess {
  readonly node: NodeId;
  readonly storageId: string;
  readonly boot: number;
  role: ReplicaView["role"] = "follower";
  ballot: Ballot | undefined;
  image: Image = genesis.image;
  log: Entry[] = [...genesis.entries];
  sizes = SIZES;
  appliedThrough: Slot = slot(0);
  diskImage: Image = genesis.image;
  diskLog: Entry[] = [...genesis.entries];
  readonly disk;
  readonly turn;

  constructor(id: number, storageId = `d${id}`, boot = 1) {
    this.node = node(id);
    this.storageId = storageId;
    this.boot = boot;
    const self = this;
    this.disk = {
      get image() {
        return self.diskImage;
      },
      entry: (at: Slot) => self.diskLog[at - 1],
    };
    this.turn = {
      get appliedThrough() {
        return self.appliedThrough;
      },
      replica: { inspect: () => self.view(), cachedEntry: (at: Slot) => self.log[at - 1] },
    };
  }

  view(): ReplicaView {
    const { role, ballot, image, sizes } = this;
    const [reignSlot, floor] = [undefined, undefined];
    return {
      node: this.node,
      storageId: this.storageId,
      boot: this.boot,
      role,
      ballot,
      reignSlot,
      floor,
      happy: true,
      image,
      durable: this.diskImage,
      runs: [],
      sizes,
    };
  }

  append(origin: Ballot, text: string): void {
    const last = this.log.at(-1);
    this.log.push(
      createEntry({
        slot: slot(this.log.length + 1),
        origin,
        kind: text === "" ? "start" : "app",
        payload: bytes(text),
        previousChain: last?.chain ?? 0,
      }),
    );
    this.follow(this.log);
  }

  follow(log: readonly Entry[], change: Partial<Image> = {}): void {
    this.log = [...log];
    const last = log.at(-1);
    if (last !== undefined) this.image = { ...this.image, last: last.slot, lastOrigin: last.origin, lastChain: last.chain, ...change };
  }
}

const actions = (some: Partial<Actions> = {}): Actions => ({ sends: [], serve: [], settled: [], answered: [], events: [], snapshots: [], ...some });
const sends = (...messages: PaxosMessage[]): Partial<Actions> => ({ sends: messages.map((message) => ({ to: node(1), message })) });

/** Nodes 1 to 3 just formed; 1 leads at 1.0.1 with Start at slot 2 and "a" at slot 3, all on its disk. */
function cluster() {
  const checker = new SafetyChecker({ core: resolveCoreOptions() });
  const [one, two, three] = [new Fake(1), new Fake(2), new Fake(3)] as const;
  for (const process of [one, two, three]) checker.started(process);
  const flush = (process: Fake): void => {
    process.diskImage = process.image;
    process.diskLog = [...process.log];
    checker.written(process);
  };
  const lead = (process: Fake, b: Ballot): void => {
    process.image = { ...process.image, promised: b };
    flush(process);
    process.append(b, "");
    process.image = { ...process.image, accepted: b };
    Object.assign(process, { role: "leader", ballot: b });
    checker.turned(process, actions({ events: [{ type: "role", role: "leader", ballot: b, reason: "elected" }] }));
  };
  const b = ballot(1, 1);
  checker.proposed(one, request(1), bytes("a"));
  lead(one, b);
  one.append(b, "a");
  checker.turned(one, actions());
  flush(one);
  const copy = (process: Fake): void => {
    process.follow(one.log, { promised: b, accepted: b });
    flush(process);
  };
  const ack = (process: Fake, through = 3): void =>
    checker.turned(process, actions(sends({ type: "accepted", ballot: b, through: slot(through), cut: 0 })));
  const decide = (process: Fake, through = 3): void => {
    process.image = { ...process.image, decidedThrough: slot(through) };
    checker.turned(process, actions());
  };
  return { checker, one, two, three, b, lead, flush, copy, ack, decide };
}

function checkOf(run: () => void): string {
  try {
    run();
  } catch (error) {
    if (error instanceof Violation) return error.check;
    throw error;
  }
  return "none";
}

const plants: Record<string, (c: ReturnType<typeof cluster>, wrong: boolean) => void> = {
  "one-leader-per-ballot": ({ lead, copy, two, one, b }, wrong) => {
    one.role = "follower";
    copy(two);
    lead(two, wrong ? b : ballot(2, 2));
  },
  completeness: ({ copy, ack, two, three, lead }, wrong) => {
    copy(two);
    ack(two);
    if (!wrong) copy(three);
    lead(three, ballot(2, 3));
  },
  "ack-durable": ({ copy, flush, ack, two, b, one }, wrong) => {
    if (wrong) {
      two.follow(one.log, { promised: b, accepted: b });
      two.diskImage = { ...genesis.image, promised: b, accepted: b };
    } else copy(two);
    if (!wrong) flush(two);
    ack(two);
  },
  agreement: ({ copy, ack, two, one, decide }, wrong) => {
    copy(two);
    if (!wrong) ack(two);
    decide(one);
  },
  mono: ({ copy, flush, two }, wrong) => {
    copy(two);
    if (wrong) two.image = { ...two.image, promised: genesis.image.promised, accepted: genesis.image.promised };
    flush(two);
  },
  "origin-mono": ({ one, checker, b }, wrong) => {
    checker.proposed(one, request(2), bytes("b"));
    one.append(wrong ? ballot(0, 1) : b, "b");
    checker.turned(one, actions());
  },
  "only-proposed": ({ one, checker, b }, wrong) => {
    if (!wrong) checker.proposed(one, request(2), bytes("b"));
    one.append(b, "b");
    checker.turned(one, actions());
  },
  "slot-origin-unique": ({ two, one, checker, b }, wrong) => {
    checker.proposed(one, request(2), bytes("x"));
    two.follow(one.log.slice(0, 2), { promised: b, accepted: b });
    if (wrong) two.append(b, "x");
    checker.turned(two, actions());
  },
  prefix: ({ one, checker, b }, wrong) => {
    checker.proposed(one, request(2), bytes("b"));
    const previousChain = wrong ? 7 : (one.log.at(-1)?.chain ?? 0);
    one.follow([...one.log, createEntry({ slot: slot(4), origin: b, kind: "app", payload: bytes("b"), previousChain })]);
    checker.turned(one, actions());
  },
  outcome: ({ copy, ack, two, one, checker, b }, wrong) => {
    copy(two);
    ack(two);
    const outcome = { type: "applied", slot: slot(3), epoch: epochOf(b), result: bytes("") } as const;
    checker.turned(one, actions({ settled: [{ id: request(1), outcome: wrong ? { type: "not-applied", reason: "superseded" } : outcome }] }));
  },
  "read-fresh": ({ copy, ack, two, one, checker, decide }, wrong) => {
    copy(two);
    ack(two);
    decide(one);
    checker.asked(one, request(9), "read");
    checker.applied(one, slot(3), bytes("a"));
    one.appliedThrough = slot(3);
    checker.turned(one, actions({ answered: [{ id: request(9), ok: true, through: slot(wrong ? 2 : 3) }] }));
  },
  "apply-order": ({ copy, ack, two, one, checker, decide }, wrong) => {
    copy(two);
    ack(two);
    decide(one);
    checker.applied(one, slot(3), bytes(wrong ? "z" : "a"));
  },
  memory: ({ one, checker }, wrong) => {
    one.sizes = { ...SIZES, inflightMessages: wrong ? 65 : 64 };
    checker.turned(one, actions());
  },
  fence: ({ one, checker }, wrong) => {
    if (!wrong) checker.expectFence(one.node);
    checker.turned(one, actions({ fence: "disk" }));
  },
  "ballot-growth": ({ one, checker, flush }, wrong) => {
    one.image = { ...one.image, promised: ballot(wrong ? 21 : 20, 1) };
    flush(one);
    one.role = "follower";
    checker.turned(one, actions());
    checker.checkBallots(0);
  },
  convergence: ({ one, two, copy, ack, checker, decide }, wrong) => {
    copy(two);
    ack(two);
    decide(one);
    if (!wrong) decide(two);
    checker.checkConvergence([one, two]);
  },
};

test.each(Object.entries(plants))("safety: %s is caught, and what is right is not", (check, plant) => {
  expect(checkOf(() => plant(cluster(), false))).toBe("none");
  expect(checkOf(() => plant(cluster(), true))).toBe(check);
});

test("safety: a disk that the configuration does not bind to its node is not counted", () => {
  const { checker, one, b, decide, flush } = cluster();
  const stranger = new Fake(2, "other");
  checker.started(stranger);
  stranger.follow(one.log, { promised: b, accepted: b });
  flush(stranger);
  checker.turned(stranger, actions(sends({ type: "accepted", ballot: b, through: slot(3), cut: 0 })));
  expect(checkOf(() => decide(one))).toBe("agreement");
});

test("safety: a leader with a disk that is not bound to its node is caught", () => {
  const { checker, lead } = cluster();
  const stranger = new Fake(2, "other");
  checker.started(stranger);
  expect(checkOf(() => lead(stranger, ballot(2, 2)))).toBe("identity");
});

test("safety: a confirmation is caught that was asked for when a higher ballot had a leader", () => {
  for (const wrong of [false, true]) {
    const { checker, one, three, lead } = cluster();
    if (wrong) lead(three, ballot(2, 3));
    checker.asked(one, request(9), "confirm");
    if (!wrong) lead(three, ballot(2, 3));
    expect(checkOf(() => checker.turned(one, actions({ answered: [{ id: request(9), ok: true }] })))).toBe(wrong ? "read-fresh" : "none");
  }
});

test("safety: what was reported as not applied is caught when it is chosen later", () => {
  const { checker, one, two, copy, ack } = cluster();
  checker.turned(one, actions({ settled: [{ id: request(1), outcome: { type: "not-applied", reason: "superseded" } }] }));
  copy(two);
  expect(checkOf(() => ack(two))).toBe("outcome");
});

test("safety: a disk whose node is expected to stop may have gone back", () => {
  for (const expected of [true, false]) {
    const { checker, two, copy } = cluster();
    copy(two);
    checker.stopped(two);
    if (expected) checker.expectFence(two.node);
    const again = Object.assign(Object.create(Object.getPrototypeOf(two)), two, { boot: 2 });
    two.diskImage = genesis.image;
    expect(checkOf(() => checker.started(again))).toBe(expected ? "none" : "mono");
  }
});

describe("safety: snapshots", () => {
  /** "a" at slot 3 is chosen; node 3 has nothing of it, and is offered a snapshot through slot 3. */
  function offered() {
    const c = cluster();
    c.copy(c.two);
    c.ack(c.two);
    const [, , third] = c.one.log;
    if (third === undefined) throw new Error("the leader has three entries");
    const { slot: at, origin, chain } = third;
    const meta: SnapshotMeta = {
      id: "a".repeat(32),
      slot: at,
      origin,
      chain,
      configuration: genesis.image.configuration,
      bytes: 1,
      sha256: "0".repeat(64),
    };
    const image: Image = {
      ...c.three.image,
      ...{ last: at, lastOrigin: origin, lastChain: chain, decidedThrough: at, compactedThrough: at, compactedOrigin: origin, compactedChain: chain },
    };
    /** Its log begins after `point`, in memory and on the disk. */
    const install = (point: LogPoint, keepTail = false): void => {
      c.three.follow([], {});
      c.three.image = image;
      c.checker.turned(c.three, actions({ write: { seq: 1, image, ops: [{ type: "install", point, keepTail }] } }));
      c.flush(c.three);
    };
    return { ...c, meta, install };
  }

  const offer = (meta: SnapshotMeta): Partial<Actions> =>
    sends({ type: "fetch-reply", id: { boot: 1, count: 1 }, after: slot(0), entries: [], decidedThrough: slot(3), snapshot: meta });
  const other = ballot(9, 2);

  test.each<[string, string, (c: ReturnType<typeof offered>, wrong: boolean) => void]>([
    [
      "an offer of what is not chosen",
      "agreement",
      ({ checker, one, meta }, wrong) => checker.turned(one, actions(offer(wrong ? { ...meta, origin: other } : meta))),
    ],
    [
      "an offer with another configuration",
      "config-lemma",
      ({ checker, one, meta }, wrong) =>
        checker.turned(
          one,
          actions(offer({ ...meta, configuration: { ...meta.configuration, version: meta.configuration.version + (wrong ? 1 : 0) } })),
        ),
    ],
    [
      "a log that begins after what is not chosen",
      "agreement",
      ({ install, meta }, wrong) => install(wrong ? { ...meta, chain: meta.chain + 1 } : meta),
    ],
    ["a tail that is kept without the entry before it", "prefix", ({ install, meta }, wrong) => install(meta, wrong)],
    [
      "a machine that becomes what its disk does not begin with",
      "apply-order",
      ({ checker, three, install, meta }, wrong) => {
        install(meta);
        if (wrong) three.diskImage = { ...three.diskImage, decidedThrough: slot(2), compactedThrough: slot(2) };
        three.appliedThrough = slot(3);
        checker.turned(three, actions({ installed: meta }));
      },
    ],
    [
      "a machine that goes on without what a snapshot would have brought",
      "apply-order",
      ({ checker, three, install, meta }, wrong) => {
        install(meta);
        three.appliedThrough = slot(3);
        checker.turned(three, actions({ installed: wrong ? undefined : meta }));
      },
    ],
  ])("%s is caught as %s, and what is right is not", (_, check, plant) => {
    expect(checkOf(() => plant(offered(), false))).toBe("none");
    expect(checkOf(() => plant(offered(), true))).toBe(check);
  });
});
