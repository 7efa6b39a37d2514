/**
 * Deliberate bugs in what hands out timestamps, sequences and leases, in who may, and in how the client shares a request: replacements in the sources, of
 * texts that stand there exactly once. Each is found by the tests it names, and also where the assertions in `src` are off: then a test's own check must tell.
 */
import type { Mutant } from "./mutant.ts";

const RULES = "src/oracle/rules/";
const CLIENT = "src/client/";

export const ORACLE_MUTANTS: readonly Mutant[] = [
  {
    name: "allocator: a millisecond that is used up begins again with its first number",
    edits: [
      {
        file: `${RULES}allocator.ts`,
        find: "window.nextPhysicalMs = end === GRANT_COUNT_MAX ? physicalMs + 1 : physicalMs;",
        replace: "window.nextPhysicalMs = physicalMs;",
      },
    ],
    tests: ["test/unit/oracle/allocator.test.ts"],
  },
  {
    name: "allocator: a grant takes one number more than 18 bits can say",
    edits: [
      {
        file: `${RULES}allocator.ts`,
        find: "if (logicalStart + count > GRANT_COUNT_MAX) {",
        replace: "if (logicalStart + count > GRANT_COUNT_MAX + 1) {",
      },
    ],
    tests: ["test/unit/oracle/allocator.test.ts"],
  },
  {
    name: "allocator: grants go back with the clock",
    edits: [{ file: `${RULES}allocator.ts`, find: "if (now > physicalMs) {", replace: "if (now !== physicalMs) {" }],
    tests: ["test/unit/oracle/allocator.test.ts"],
  },
  {
    name: "allocator: what is compared with the end of the window is where the last grant ended",
    edits: [
      {
        file: `${RULES}allocator.ts`,
        find: "if (physicalMs > window.highWater) return",
        replace: "if (window.nextPhysicalMs > window.highWater) return",
      },
    ],
    tests: ["test/unit/oracle/allocator.test.ts"],
  },
  {
    name: "allocator: a safe point follows the clock, and the next grant does not",
    edits: [
      {
        file: `${RULES}allocator.ts`,
        find: `      window.nextPhysicalMs = reachable;
      window.nextLogical = 0;
    }
    return Math.max(0, Math.min(window.highWater - aheadMs - 1, window.nextPhysicalMs - 1));`,
        replace: `      return Math.max(0, Math.min(window.highWater - aheadMs - 1, reachable - 1));
    }
    return Math.max(0, Math.min(window.highWater - aheadMs - 1, window.nextPhysicalMs - 1));`,
      },
    ],
    tests: ["test/unit/oracle/allocator.test.ts"],
  },
  {
    name: "window: it is raised before its extension is durable",
    edits: [
      {
        file: "src/server/window.ts",
        find: `const submitted = await driver.submit({ type: "advance"`,
        replace: `this.#allocator.extend(epoch, atLeast);
    const submitted = await driver.submit({ type: "advance"`,
      },
    ],
    tests: ["test/unit/server/window.test.ts"],
  },
  {
    name: "window: an extension whose outcome is unknown is taken for done",
    edits: [
      {
        file: "src/server/window.ts",
        find: `const answer = notApplied(submitted, "persist: ");`,
        replace: `if (submitted.type === "unknown") this.#allocator.extend(epoch, atLeast);
    const answer = notApplied(submitted, "persist: ");`,
      },
    ],
    tests: ["test/unit/server/window.test.ts"],
  },
  {
    name: "sequence: a block begins with the last value of the one before",
    edits: [{ file: `${RULES}sequence.ts`, find: "next: next + BigInt(count) });", replace: "next: next + BigInt(count) - 1n });" }],
    tests: ["test/unit/oracle/sequence.test.ts"],
  },
  {
    name: "sequence: groups of one command count from what was there before all of them",
    edits: [
      {
        file: `${RULES}state.ts`,
        find: "return this.#sequences.get(key) ?? this.#base.sequence(key);",
        replace: "return this.#base.sequence(key) ?? this.#sequences.get(key);",
      },
    ],
    tests: ["test/unit/oracle/sequence.test.ts"],
  },
  {
    name: "sequence: a group is refused after its first keys were counted up",
    edits: [
      {
        file: `${RULES}sequence.ts`,
        find: `  const refusal = validateGroup(limits, group) ?? checkRoom(draft, limits, group);
  if (refusal !== undefined) return { type: "refused", refusal };
  const starts = group.map(({ key, count }) => {
    const { first, next } = draft.sequence(key) ?? { first: 0n, next: 0n };
    draft.change({ type: "sequence", key, first, next: next + BigInt(count) });
    return next;
  });`,
        replace: `  const refusal = validateGroup(limits, group);
  if (refusal !== undefined) return { type: "refused", refusal };
  const starts: bigint[] = [];
  for (const { key, count } of group) {
    const full = checkRoom(draft, limits, [{ key, count }]);
    if (full !== undefined) return { type: "refused", refusal: full };
    const { first, next } = draft.sequence(key) ?? { first: 0n, next: 0n };
    draft.change({ type: "sequence", key, first, next: next + BigInt(count) });
    starts.push(next);
  }`,
      },
    ],
    tests: ["test/unit/oracle/sequence.test.ts"],
  },
  {
    name: "sequence: its first value can be moved up after grants, which leaves a gap",
    edits: [
      {
        file: `${RULES}sequence.ts`,
        find: "if (sequence !== undefined && sequence.next !== sequence.first)",
        replace: "if (sequence !== undefined && sequence.next !== sequence.first && first < sequence.next)",
      },
    ],
    tests: ["test/unit/oracle/sequence.test.ts"],
  },
  {
    name: "sequence: a server submits a command once more when its outcome is unknown",
    edits: [
      {
        file: "src/server/sequence-batcher.ts",
        find: `    const submitted = await this.#driver.submit({ type: "sequence", epoch: entry[0]?.epoch, groups: entry.map(({ group }) => group) });`,
        replace: `    const command = { type: "sequence", epoch: entry[0]?.epoch, groups: entry.map(({ group }) => group) } as const;
    let submitted = await this.#driver.submit(command);
    if (submitted.type === "unknown") submitted = await this.#driver.submit(command);`,
      },
    ],
    tests: ["test/unit/server/requests.test.ts"],
  },
  {
    name: "sequence: what is in memory is granted from after a commit whose answer was lost",
    edits: [
      { file: "src/oracle/drivers/store.ts", find: "    this.#opened = undefined; // what the store holds is not known any more\n", replace: "" },
    ],
    tests: ["test/unit/oracle/store-driver.test.ts"],
  },
  {
    name: "sequence: a command is answered before its commit has returned",
    edits: [
      {
        file: "src/oracle/drivers/store.ts",
        find: "    const mustAsk = ",
        replace: `    for (const answer of answers) answer();
    const mustAsk = `,
      },
    ],
    tests: ["test/unit/oracle/store-driver.test.ts"],
  },
  {
    name: "sequence: a client asks again for a block whose request got no answer",
    edits: [{ file: `${CLIENT}verdict.ts`, find: `getSeq: "once",`, replace: `getSeq: "repeatable",` }],
    tests: ["test/unit/client/scenarios.test.ts"],
  },
  {
    name: "lease: it is renewed as long as it is on record, though its time has passed",
    edits: [
      {
        file: `${RULES}lease.ts`,
        find: `  if (isExpired(draft, lease)) return refused({ reason: "lease-expired", id, expiresAtMs: lease.expiresAtMs });\n`,
        replace: "",
      },
    ],
    tests: ["test/unit/oracle/lease.test.ts"],
  },
  {
    name: "lease: an acquire is answered with the holder's lease though its time has passed",
    edits: [
      {
        file: `${RULES}lease.ts`,
        find: "const active = last !== undefined && !isExpired(draft, last) ? last : undefined;",
        replace: "const active = last;",
      },
    ],
    tests: ["test/unit/oracle/lease.test.ts"],
  },
  {
    name: "lease: it lives a millisecond longer than it was given",
    edits: [{ file: `${RULES}lease.ts`, find: "return state.clock >= lease.expiresAtMs;", replace: "return state.clock > lease.expiresAtMs;" }],
    tests: ["test/unit/oracle/lease.test.ts"],
  },
  {
    name: "lease: the clock on record goes back with a leader's, and a lease that has expired is alive again",
    edits: [{ file: `${RULES}machine.ts`, find: "if (now > draft.clock) draft.change(", replace: "if (now !== draft.clock) draft.change(" }],
    tests: ["test/unit/oracle/lease.test.ts"],
  },
  {
    name: "lease: one that is superseded is renewed, and two believe that they hold it",
    edits: [
      {
        file: `${RULES}lease.ts`,
        find: `  if (lease.supersededBy !== undefined) return refused({ reason: "lease-superseded", id, by: lease.supersededBy });\n`,
        replace: "",
      },
    ],
    tests: ["test/unit/oracle/lease.test.ts"],
  },
  {
    name: "lease: one that is superseded is dropped, and the frontier passes it while its holder may still stamp",
    edits: [
      {
        file: `${RULES}lease.ts`,
        find: `draft.change({ type: "lease", lease: { ...active, supersededBy: holderEpoch } });`,
        replace: `draft.change({ type: "lease-dropped", id: active.id });`,
      },
    ],
    tests: ["test/unit/oracle/lease.test.ts"],
  },
  {
    name: "lease: the frontier looks at the leases that can be renewed, and no others",
    edits: [
      {
        file: `${RULES}state.ts`,
        find: "for (const lease of state.leases()) frontier = Math.min(frontier, lease.bound);",
        replace: "for (const lease of state.leases()) if (lease.supersededBy === undefined) frontier = Math.min(frontier, lease.bound);",
      },
    ],
    tests: ["test/unit/oracle/lease.test.ts"],
  },
  {
    name: "lease: a renewal makes the bound what the clock gives, lower than it was",
    edits: [
      {
        file: `${RULES}lease.ts`,
        find: "const bound = Math.max(draft.highWater, draft.clock + lease.ttlMs);",
        replace: "const bound = draft.clock + lease.ttlMs;",
      },
    ],
    tests: ["test/unit/oracle/lease.test.ts"],
  },
  {
    name: "lease: a renewal promises a bound above the high water that is durable",
    edits: [
      {
        file: `${RULES}lease.ts`,
        find: `  if (bound > draft.highWater) draft.change({ type: "high-water", highWater: bound });\n`,
        replace: "",
      },
    ],
    tests: ["test/unit/oracle/lease.test.ts"],
  },
  {
    name: "lease: the bound of a new one is the high water, which is another's id or was granted already",
    edits: [
      {
        file: `${RULES}lease.ts`,
        find: "Math.max(draft.highWater + 1, draft.clock + ttlMs)",
        replace: "Math.max(draft.highWater, draft.clock + ttlMs)",
      },
    ],
    tests: ["test/unit/oracle/lease.test.ts"],
  },
  {
    name: "lease: its holder reckons its time from the answer to the renewal",
    edits: [{ file: `${CLIENT}with-lease.ts`, find: "this.#renewed = began;", replace: "this.#renewed = momentOf(this.#context.timers);" }],
    tests: ["test/unit/client/with-lease.test.ts"],
  },
  {
    name: "fence: a command of an epoch that has not taken over is applied",
    edits: [
      {
        file: `${RULES}machine.ts`,
        find: `const current = command.type === "take-over" ? command.epoch >= draft.fence : command.epoch === draft.fence;`,
        replace: "const current = command.epoch >= draft.fence;",
      },
    ],
    tests: ["test/unit/oracle/machine.property.test.ts"],
  },
  {
    name: "fence: a command counts in the entry of another leader",
    edits: [
      {
        file: `${RULES}machine.ts`,
        find: "if (current && command.epoch === entryEpoch) return undefined;",
        replace: "if (current) return undefined;",
      },
    ],
    tests: ["test/unit/oracle/machine.property.test.ts"],
  },
  {
    name: "fence: epochs that differ in their upper half alone look alike",
    edits: [{ file: "src/base/epoch.ts", find: "return ((hi << 64n) | lo) as Epoch;", replace: "return lo as Epoch;" }],
    tests: ["test/unit/oracle/base.test.ts"],
  },
  {
    name: "fence: the window of a new leader begins with the last millisecond of the one before",
    edits: [
      {
        file: `${RULES}machine.ts`,
        find: "Math.max(draft.highWater + 1, draft.clock, now)",
        replace: "Math.max(draft.highWater, draft.clock, now)",
      },
    ],
    tests: ["test/unit/oracle/machine.property.test.ts"],
  },
  {
    name: "fence: a take-over leaves it where it was",
    edits: [{ file: `${RULES}machine.ts`, find: `  draft.change({ type: "fence", fence: epoch });\n`, replace: "" }],
    tests: ["test/unit/oracle/machine.property.test.ts"],
  },
  {
    name: "fence: the answer to an extension of an earlier reign raises the window of this one",
    edits: [
      {
        file: `${RULES}allocator.ts`,
        find: "if (window === undefined || window.epoch !== epoch || highWater <= window.highWater) return false;",
        replace: "if (window === undefined || highWater <= window.highWater) return false;",
      },
    ],
    tests: ["test/unit/oracle/allocator.test.ts"],
  },
  {
    name: "fence: the window stays open when its reign ends, for requests that are under way",
    edits: [{ file: "src/server/gate.ts", find: "    this.#reign?.window.close();\n", replace: "" }],
    tests: ["test/unit/server/window.test.ts"],
  },
  {
    name: "fence: a confirmation that comes when the reign has ended counts",
    edits: [
      {
        file: "src/server/gate.ts",
        find: "return confirmed && this.#reign === reign ? reign : undefined;",
        replace: "return confirmed ? reign : undefined;",
      },
    ],
    tests: ["test/unit/server/window.test.ts"],
  },
  {
    name: "fence: a take-over whose leadership was lost meanwhile begins to serve",
    edits: [
      {
        file: "src/server/gate.ts",
        find: `      if (this.#claim !== claim) return;
      if (submitted.type === "applied")`,
        replace: `      if (submitted.type === "applied")`,
      },
    ],
    tests: ["test/unit/server/serving.test.ts"],
  },
  {
    name: "fence: one proof of leadership serves all who ask later in the same epoch",
    edits: [
      {
        file: "src/oracle/drivers/store.ts",
        find: "      this.#proof = undefined; // a commit that begins now proves nothing to those who ask later\n",
        replace: "",
      },
    ],
    tests: ["test/unit/oracle/store-driver.test.ts"],
  },
  {
    name: "fence: a commit that the store fenced is taken for done",
    edits: [
      {
        file: "src/oracle/drivers/store.ts",
        find: `return (await this.#store.commit(changes, epoch)) === "committed" ? "committed" : { type: "fenced" };`,
        replace: `await this.#store.commit(changes, epoch);
      return "committed";`,
      },
    ],
    tests: ["test/unit/oracle/store-driver.test.ts"],
  },
  {
    name: "client: the shares of callers who want several overlap",
    edits: [{ file: `${CLIENT}timestamp-queue.ts`, find: "next += waiter.count === 1 ? 1n : BigInt(waiter.count);", replace: "next += 1n;" }],
    tests: ["test/unit/client/timestamp-queue.test.ts"],
  },
  {
    name: "client: who comes while a request is under way joins the list of those aboard, and has a share beyond the block",
    edits: [
      {
        file: `${CLIENT}timestamp-queue.ts`,
        find: "this.#waiting = taken === this.#waiting.length ? [] : this.#waiting.slice(taken);",
        replace: "if (taken < this.#waiting.length) this.#waiting = this.#waiting.slice(taken);",
      },
    ],
    tests: ["test/unit/client/timestamp-queue.test.ts"],
  },
  {
    name: "client: of a block that was handed out it remembers the first timestamp as the highest",
    edits: [{ file: `${CLIENT}timestamp-queue.ts`, find: "this.#last = next + BigInt(answer.count) - 1n;", replace: "this.#last = next;" }],
    tests: ["test/unit/client/timestamp-queue.test.ts"],
  },
  {
    name: "client: an answer may begin with the timestamp that was handed out last",
    edits: [{ file: `${CLIENT}timestamp-queue.ts`, find: "first <= this.#last && !isStale", replace: "first < this.#last && !isStale" }],
    tests: ["test/unit/client/timestamp-queue.test.ts"],
  },
  {
    name: "client: an answer of an earlier epoch is told of and handed out",
    edits: [
      {
        file: `${CLIENT}timestamp-queue.ts`,
        find: `    search.stale(endpoint, { answered: epoch, known: leaders.epoch });
    return false;`,
        replace: `    search.stale(endpoint, { answered: epoch, known: leaders.epoch });
    return true;`,
      },
    ],
    tests: ["test/unit/client/timestamp-queue.test.ts"],
  },
  {
    name: "client: a frontier of an earlier epoch is told, which may lie below the one before",
    edits: [
      {
        file: `${CLIENT}calls.ts`,
        find: `if (REPEATS[this.#method] !== "read") return true;`,
        replace: "if (reading.epoch !== undefined) return true;",
      },
    ],
    tests: ["test/unit/client/scenarios.test.ts"],
  },
  {
    name: "client: an answer with fewer timestamps than were asked for is shared out",
    edits: [{ file: `${CLIENT}timestamp-queue.ts`, find: "if (count !== total)", replace: "if (count > total)" }],
    tests: ["test/unit/client/timestamp-queue.test.ts"],
  },
  {
    name: "client: an answer whose end does not fit 18 bits is shared out into the next millisecond",
    edits: [
      {
        file: `${CLIENT}timestamp-queue.ts`,
        find: "logicalStart + count > GRANT_COUNT_MAX)",
        replace: "logicalStart >= GRANT_COUNT_MAX)",
      },
    ],
    tests: ["test/unit/client/timestamp-queue.test.ts"],
  },
];
