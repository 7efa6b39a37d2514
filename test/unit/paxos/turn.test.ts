import { describe, expect, test } from "vitest";
import type { Epoch } from "../../../src/base/epoch.ts";
import type { NodeId } from "../../../src/base/ids.ts";
import { createPrng } from "../../../src/base/prng.ts";
import type { RequestNumber } from "../../../src/paxos/core/effects.ts";
import type { Entry } from "../../../src/paxos/core/entry.ts";
import { genesisOf } from "../../../src/paxos/core/genesis.ts";
import { type CoreOptions, resolveCoreOptions } from "../../../src/paxos/core/options.ts";
import { type Actions, Turn } from "../../../src/paxos/turn.ts";

const NOT_LEADER = { type: "not-applied", reason: "not-leader", leader: undefined };

/** One node of `voters`, whose log is `entries` beyond the first. Its writes end when they are told to. */
class Host {
  readonly applied: string[] = [];
  readonly turn: Turn;
  readonly disk: Entry[];
  #requests = 0;

  constructor(voters: number, options: Partial<CoreOptions> = {}) {
    const members = Array.from(
      { length: voters },
      (_, index) => ({ id: (index + 1) as NodeId, storageId: `disk-${index}`, role: "voter", address: "", prio: 0 }) as const,
    );
    const { image, entries } = genesisOf(members);
    this.disk = [...entries];
    this.turn = new Turn({
      recovered: {
        node: 1 as NodeId,
        storageId: "disk-0",
        boot: 1,
        image,
        runs: entries.map(({ slot, origin }) => ({ from: slot, origin })),
        tail: entries,
      },
      options: resolveCoreOptions(options),
      random: createPrng(1),
      machine: {
        apply: (command) => {
          this.applied.push(new TextDecoder().decode(command));
          return command;
        },
        capture: unused,
        stage: unused,
      },
    });
  }

  request(): RequestNumber {
    this.#requests += 1;
    return this.#requests as RequestNumber;
  }

  propose(text: string, epoch?: Epoch): RequestNumber {
    const id = this.request();
    this.turn.put({ type: "propose", id, payload: new TextEncoder().encode(text), epoch });
    return id;
  }

  read(): RequestNumber {
    const id = this.request();
    this.turn.put({ type: "read", id });
    return id;
  }

  /** A turn, and the end of the write that it began, if it did. */
  run(): Actions {
    const actions = this.turn.run(0);
    for (const op of actions.write?.ops ?? []) if (op.type === "append") this.disk.push(...op.entries);
    if (actions.write !== undefined) this.turn.put({ type: "written" });
    return actions;
  }

  lead(): Epoch {
    for (let tick = 0; tick < 100; tick++) {
      this.turn.put({ type: "tick" });
      const { leadership } = this.run();
      if (leadership?.role === "leader") return leadership.epoch;
    }
    throw new TypeError("a node that is alone leads soon");
  }
}

describe("a node that is alone", () => {
  test("leads, applies in order, and tells of each proposal once, with its result", () => {
    const host = new Host(1);
    const epoch = host.lead();
    const ids = ["a", "b", "c"].map((text) => host.propose(text));
    const turns = [host.run(), host.run(), host.run()];
    expect(host.applied).toEqual(["a", "b", "c"]);
    const settled = turns.flatMap((actions) => actions.settled);
    expect(settled).toEqual(
      ids.map((id, index) => ({ id, outcome: { type: "applied", slot: 3 + index, epoch, result: new TextEncoder().encode("abc"[index]) } })),
    );
  });

  test("nothing is applied before the disk has it", () => {
    const host = new Host(1);
    host.lead();
    host.propose("a");
    const { write } = host.turn.run(0);
    expect(write?.ops).toHaveLength(1);
    host.propose("b");
    host.turn.run(0);
    expect(host.applied).toEqual([]);
    host.turn.put({ type: "written" });
    host.turn.run(0);
    expect(host.applied).toEqual(["a"]);
  });

  test("what leaves, and what is written, does not wait for the machine", () => {
    const host = new Host(1);
    host.lead();
    host.propose("a");
    host.turn.run(0);
    host.turn.put({ type: "written" });
    host.propose("b");
    const { write } = host.turn.begin(0);
    expect(write?.ops).toHaveLength(1);
    expect(host.applied).toEqual([]);
    const { settled } = host.turn.finish();
    expect(host.applied).toEqual(["a"]);
    expect(settled).toHaveLength(1);
  });

  test("a read waits for its slot as long as the machine gets further", () => {
    const host = new Host(1);
    host.lead();
    for (let count = 0; count < 1_000; count++) host.propose("a");
    host.turn.run(0);
    host.turn.put({ type: "written" });
    const id = host.read();
    for (let ticks = 0; host.applied.length < 1_000; ticks += 10) {
      for (let tick = 0; tick < 10; tick++) host.turn.put({ type: "tick" });
      host.turn.begin(0);
      const { answered } = host.turn.finish(() => true); // sixteen entries a turn
      expect(answered).toEqual(host.applied.length < 1_000 ? [] : [{ id, ok: true, through: 1_002 }]);
      expect(ticks, "several times `readTicks`").toBeLessThan(1_000);
    }
  });

  test("what comes while a write is in flight is one write", () => {
    const host = new Host(1);
    host.lead();
    host.propose("a");
    host.turn.run(0);
    for (const text of ["b", "c"]) {
      host.propose(text);
      expect(host.turn.run(0).write).toBeUndefined();
    }
    host.turn.put({ type: "written" });
    const { write } = host.turn.run(0);
    expect(write?.ops.flatMap((op) => (op.type === "append" ? op.entries : [])).map(({ slot }) => slot)).toEqual([4, 5]);
  });

  test("a proposal for another epoch is not appended", () => {
    const host = new Host(1);
    const epoch = host.lead();
    const [wrong, right] = [host.propose("a", (epoch + 1n) as Epoch), host.propose("b", epoch)];
    const settled = [host.run(), host.run()].flatMap((actions) => actions.settled);
    expect(settled).toMatchObject([
      { id: wrong, outcome: { type: "not-applied", reason: "epoch-differs" } },
      { id: right, outcome: { type: "applied" } },
    ]);
  });

  test("what memory has let go of is read from the disk, once, and applied", () => {
    const host = new Host(1, { cacheBytes: 0 });
    host.lead();
    const before = host.turn.appliedThrough;
    // As after a start: the log is decided, and nothing of it is applied.
    const recovered = { image: host.turn.replica.inspect().image, disk: host.disk };
    const again = new Turn({
      recovered: {
        node: 1 as NodeId,
        storageId: "disk-0",
        boot: 2,
        image: recovered.image,
        runs: host.turn.replica.inspect().runs,
        tail: recovered.disk.slice(-1),
      },
      options: resolveCoreOptions(),
      random: createPrng(2),
      machine: { apply: (command) => command, capture: unused, stage: unused },
    });
    const { load } = again.run(0);
    expect(load).toEqual({ from: 1, through: before });
    expect(again.run(0).load).toBeUndefined();
    again.put({ type: "loaded", entries: recovered.disk });
    again.run(0);
    expect(again.appliedThrough).toBe(before);
  });
});

describe("a proposal that nobody waits for any more", () => {
  test("is not applied, for certain, if no turn has taken it up", () => {
    const host = new Host(1);
    host.lead();
    const id = host.propose("a");
    host.turn.put({ type: "abandon", id });
    expect(host.run().settled).toEqual([{ id, outcome: { type: "not-applied", reason: "aborted" } }]);
    expect(host.applied).toEqual([]);
  });

  test("is unknown afterwards, and may be applied", () => {
    const host = new Host(1);
    host.lead();
    const id = host.propose("a");
    host.turn.run(0);
    host.turn.put({ type: "abandon", id });
    expect(host.turn.run(0).settled).toEqual([{ id, outcome: { type: "unknown", reason: "aborted" } }]);
    host.turn.put({ type: "written" });
    expect(host.run().settled).toEqual([]);
    expect(host.applied).toEqual(["a"]);
  });
});

describe("bounds: beyond them the answer comes at once, and nothing is done", () => {
  test("proposals whose outcome is open", () => {
    const host = new Host(1, { maxUncommittedEntries: 2, maxProposals: 2 });
    host.lead();
    const ids = ["a", "b", "c"].map((text) => host.propose(text));
    expect(host.turn.run(0).settled).toEqual([{ id: ids[2], outcome: { type: "not-applied", reason: "overloaded" } }]);
  });

  test("an outcome makes room for the next proposal", () => {
    const host = new Host(1, { maxUncommittedEntries: 1, maxProposals: 1 });
    host.lead();
    for (const text of ["a", "b", "c"]) {
      host.propose(text);
      const settled = [host.run(), host.run()].flatMap((actions) => actions.settled);
      expect(settled).toMatchObject([{ outcome: { type: "applied" } }]);
    }
  });

  test("a payload", () => {
    const host = new Host(1, { maxEntryBytes: 3 });
    host.lead();
    host.propose("abc");
    const id = host.propose("abcd");
    expect(host.turn.run(0).settled).toMatchObject([{ id, outcome: { type: "not-applied", reason: "too-large" } }]);
  });

  test("bytes and entries that are not decided", () => {
    for (const options of [{ maxUncommittedEntries: 1 }, { maxUncommittedBytes: 1 }]) {
      const host = new Host(1, options);
      host.lead();
      host.propose("a");
      const id = host.propose("b");
      expect(host.turn.run(0).settled).toMatchObject([{ id, outcome: { type: "not-applied", reason: "overloaded" } }]);
    }
  });

  test("reads that wait for a reign to be established", () => {
    const host = new Host(1, { maxWaitingReads: 1 });
    while (host.turn.replica.leading === undefined) {
      host.turn.put({ type: "tick" });
      const { write } = host.turn.run(0);
      if (write !== undefined && host.turn.replica.leading === undefined) host.turn.put({ type: "written" });
    }
    const ids = [host.read(), host.read()];
    expect(host.turn.run(0).answered).toEqual([{ id: ids[1], ok: false, reason: "overloaded" }]);
    host.turn.put({ type: "written" });
    const answered = [host.run(), host.run()].flatMap((actions) => actions.answered);
    expect(answered).toEqual([{ id: ids[0], ok: true, through: 2 }]);
  });
});

describe("a node that does not lead", () => {
  test("takes no proposal, and knows of no read", () => {
    const host = new Host(3);
    const [proposal, read] = [host.propose("a"), host.read()];
    const { settled, answered } = host.run();
    expect(settled).toEqual([{ id: proposal, outcome: NOT_LEADER }]);
    expect(answered).toEqual([{ id: read, ok: false, reason: "not-leader" }]);
  });

  test("stops when a write fails, and says nothing more", () => {
    const host = new Host(1);
    host.lead();
    host.propose("a");
    host.turn.run(0);
    host.turn.put({ type: "write-failed", reason: "EIO" });
    expect(host.turn.run(0)).toMatchObject({ fence: "a write to the log failed: EIO", sends: [], settled: [] });
    host.propose("b");
    expect(host.turn.run(0)).toEqual({ sends: [], serve: [], settled: [], answered: [], events: [], snapshots: [] });
    expect(host.turn.hasWork).toBe(false);
  });
});

function unused(): never {
  throw new TypeError("no snapshots here");
}
