import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  checkLeases,
  checkSafePoint,
  checkTimestampOrder,
  type LeaseGrant,
  type LeaseHistory,
  type TimestampGrant,
} from "../../../src/testing/checkers.ts";
import { checkSequence, type SequenceRead, type SequenceReport, type SequenceRequest } from "../../../src/testing/sequence-checker.ts";
import { property } from "../../support/property.ts";

const during = (invokedAt: number, respondedAt: number) => ({ invokedAt: BigInt(invokedAt), respondedAt: BigInt(respondedAt) });
const typesOf = (violations: readonly { readonly type: string }[]): readonly string[] => violations.map(({ type }) => type);

describe("timestamps", () => {
  const grant = (first: number, count: number, from: number, to: number): TimestampGrant => ({ first: BigInt(first), count, ...during(from, to) });

  test("accepts grants that rise in real time, and any order among those that overlap in time", () => {
    expect(checkTimestampOrder([grant(10, 5, 0, 1), grant(15, 1, 2, 3), grant(90, 1, 4, 9), grant(20, 70, 5, 8)])).toEqual([]);
  });

  test("accepts a grant that began in the very instant in which the other was answered: they are concurrent", () => {
    expect(checkTimestampOrder([grant(10, 1, 0, 5), grant(9, 1, 5, 6)])).toEqual([]);
  });

  test("catches a timestamp that two grants hold, however long the one and however far apart", () => {
    const long = grant(10, 100, 0, 1);
    const inside = grant(50, 1, 0, 1);
    expect(checkTimestampOrder([grant(1, 1, 0, 1), inside, grant(30, 2, 0, 1), long])).toEqual([
      { type: "repeated", earlier: long, later: grant(30, 2, 0, 1) },
      { type: "repeated", earlier: long, later: inside },
    ]);
  });

  test("catches a step back in real time, between callers and after many grants", () => {
    const high = grant(500, 10, 0, 10);
    const late = grant(509, 1, 11, 12);
    expect(checkTimestampOrder([...Array.from({ length: 20 }, (_, i) => grant(i, 1, 0, 11)), high, { ...late, first: 400n }])).toEqual([
      { type: "went-back", earlier: high, later: { ...late, first: 400n } },
    ]);
    expect(typesOf(checkTimestampOrder([high, late]))).toEqual(["repeated", "went-back"]);
  });

  const anyGrant = fc.record({
    first: fc.bigInt({ min: 0n, max: 20n }),
    count: fc.integer({ min: 1, max: 4 }),
    invokedAt: fc.bigInt({ min: 0n, max: 12n }),
    respondedAt: fc.bigInt({ min: 1n, max: 5n }),
  });
  const anyGrants = fc.array(
    anyGrant.map((each) => ({ ...each, respondedAt: each.invokedAt + each.respondedAt })),
    { maxLength: 8 },
  );
  property(
    "the verdict on timestamps is that of comparing all pairs",
    fc.property(anyGrants, (grants) => {
      const pairs = grants.flatMap((a) => grants.filter((b) => b !== a).map((b) => [a, b] as const));
      const endOf = (of: TimestampGrant): bigint => of.first + BigInt(of.count);
      const repeated = pairs.some(([a, b]) => a.first < endOf(b) && b.first < endOf(a));
      const back = pairs.some(([a, b]) => a.respondedAt < b.invokedAt && b.first < endOf(a));
      const types = new Set(typesOf(checkTimestampOrder(grants)));
      expect([types.has("repeated"), types.has("went-back")]).toEqual([repeated, back]);
    }),
  );

  test("a safe point bounds the grants that were asked for after it was read, and no others", () => {
    const read = { safePhysicalMs: 7n, ...during(0, 10) };
    const at = (ms: number, from: number, to: number) => grant(ms * 2 ** 18, 1, from, to);
    expect(checkSafePoint([read], [at(7, 5, 20), at(8, 11, 12), at(2, 0, 1)])).toEqual([]);
    expect(checkSafePoint([read], [at(7, 11, 12)])).toEqual([{ type: "below-safe-point", read, grant: at(7, 11, 12) }]);
    expect(checkSafePoint([{ ...read, safePhysicalMs: 0n }], [at(1, 11, 12)])).toEqual([]);
  });
});

describe("sequences", () => {
  const granted = (blocks: Readonly<Record<string, readonly [start: number, count: number]>>, from: number, to: number): SequenceRequest => ({
    blocks: Object.entries(blocks).map(([key, [, count]]) => ({ key, count })),
    invokedAt: BigInt(from),
    answer: { starts: Object.values(blocks).map(([start]) => BigInt(start)), respondedAt: BigInt(to) },
  });
  const uncertain = (blocks: Readonly<Record<string, number>>, from: number, ended?: number): SequenceRequest => ({
    blocks: Object.entries(blocks).map(([key, count]) => ({ key, count })),
    invokedAt: BigInt(from),
    ...(ended === undefined ? {} : { endedAt: BigInt(ended) }),
  });
  const read = (key: string, next: number, from: number, to: number): SequenceRead => ({ key, next: BigInt(next), ...during(from, to) });
  const assignedOf = (report: SequenceReport<SequenceRequest>, key: string): string =>
    (report.keys.get(key)?.assigned ?? []).map(({ start, end }) => `[${start}, ${end})`).join(" ");
  const typesFor = (requests: readonly SequenceRequest[], reads: readonly SequenceRead[] = []): readonly string[] =>
    typesOf(checkSequence({ requests, reads }).violations);

  test("accepts blocks without a gap, in any order among those that overlap in time", () => {
    const report = checkSequence({
      requests: [granted({ a: [3, 2] }, 0, 9), granted({ a: [0, 3] }, 1, 8), granted({ a: [5, 1], b: [0, 4] }, 10, 11)],
    });
    expect(report.violations).toEqual([]);
    expect(report.keys.get("a")).toEqual({ first: 0n, next: 6n, blocks: 3, values: 6n, missing: [], assigned: [], uncertain: 0 });
  });

  test("finds which uncertain requests filled a gap: some of them, each whole and once", () => {
    const requests = [
      granted({ a: [0, 1] }, 0, 1),
      uncertain({ a: 4 }, 2),
      uncertain({ a: 3 }, 2),
      uncertain({ a: 3 }, 2),
      granted({ a: [7, 1] }, 5, 6),
    ];
    const report = checkSequence({ requests });
    expect(report.violations).toEqual([]);
    expect(report.keys.get("a")?.missing).toEqual([{ key: "a", start: 1n, end: 7n }]);
    expect(assignedOf(report, "a")).toBe("[1, 4) [4, 7)");
  });

  test("takes back a choice that leaves a rest which nothing fills", () => {
    const requests = [uncertain({ a: 5 }, 0), uncertain({ a: 4 }, 0), uncertain({ a: 4 }, 0), uncertain({ a: 2 }, 0), granted({ a: [10, 1] }, 0, 1)];
    expect(assignedOf(checkSequence({ requests }), "a")).toBe("[0, 4) [4, 8) [8, 10)");
  });

  test("catches a gap that no uncertain request explains", () => {
    const gap = { key: "a", start: 1n, end: 3n };
    expect(checkSequence({ requests: [granted({ a: [0, 1] }, 0, 1), granted({ a: [3, 1] }, 2, 3)] }).violations).toEqual([
      { type: "unexplained", gaps: [gap] },
    ]);
    const others = [uncertain({ a: 3 }, 0), uncertain({ b: 2 }, 0), uncertain({ a: 1 }, 0)];
    expect(checkSequence({ requests: [granted({ a: [0, 1] }, 0, 1), ...others, granted({ a: [3, 1] }, 2, 3)] }).violations).toEqual([
      { type: "unexplained", gaps: [gap] },
    ]);
  });

  test("catches values that only a read tells to be gone", () => {
    expect(typesFor([granted({ a: [0, 4] }, 0, 1)], [read("a", 6, 2, 3)])).toEqual(["unexplained"]);
    expect(typesFor([granted({ a: [0, 4] }, 0, 1), uncertain({ a: 2 }, 0)], [read("a", 6, 2, 3)])).toEqual([]);
    expect(typesFor([], [read("a", 1, 2, 3)])).toEqual(["unexplained"]);
  });

  test("catches a gap that is explained only by using one uncertain request twice", () => {
    expect(typesFor([uncertain({ a: 2 }, 0), granted({ a: [2, 1] }, 0, 1), granted({ a: [5, 1] }, 2, 3)])).toEqual(["unexplained"]);
    expect(typesFor([uncertain({ a: 2 }, 0), granted({ a: [4, 1] }, 2, 3)])).toEqual(["unexplained"]);
  });

  test("catches an atomic batch that is half there", () => {
    const half = [uncertain({ a: 2, b: 3 }, 0, 5), granted({ a: [2, 1] }, 6, 7)];
    expect(typesFor(half, [read("b", 0, 6, 7)])).toEqual(["unexplained"]);
    expect(typesFor(half, [read("b", 3, 6, 7)])).toEqual([]);
    // Where nobody looked at b since, its half may be there, above all that is known.
    expect(typesFor(half)).toEqual([]);
    expect(typesFor([uncertain({ b: 3, a: 2 }, 0, 5), granted({ a: [2, 1] }, 6, 7)], [read("b", 0, 6, 7)])).toEqual(["unexplained"]);
  });

  test("of two batches that both need a gap for one, the other may have taken what is above", () => {
    const requests = [uncertain({ a: 2, b: 1 }, 0), uncertain({ b: 1, c: 1 }, 0), granted({ a: [2, 1], b: [1, 1], c: [1, 1] }, 0, 1)];
    expect(typesFor(requests)).toEqual([]);
    expect(typesFor([uncertain({ a: 2, b: 1 }, 0, 5), uncertain({ b: 1, c: 1 }, 0, 5), ...requests.slice(2)], [read("b", 2, 6, 7)])).toEqual([
      "unexplained",
    ]);
  });

  test("a batch that would fill one gap is left out where it has no room on its other key", () => {
    const requests = [uncertain({ a: 2, b: 3 }, 0, 5), uncertain({ a: 2 }, 0, 5), granted({ a: [2, 1], b: [0, 1] }, 6, 7)];
    const report = checkSequence({ requests });
    expect(report.violations).toEqual([]);
    expect(report.keys.get("a")?.assigned.map(({ request }) => request.blocks.length)).toEqual([1]);
  });

  test("catches overlapping blocks, and blocks below the first value", () => {
    expect(typesFor([granted({ a: [0, 3] }, 0, 5), granted({ a: [2, 2] }, 0, 5)])).toContain("overlap");
    expect(typesFor([granted({ a: [0, 3] }, 0, 5), granted({ a: [0, 3] }, 0, 5)])).toContain("overlap");
    const first = new Map([["a", 100n]]);
    expect(typesOf(checkSequence({ requests: [granted({ a: [99, 1] }, 0, 1)], first }).violations)).toEqual(["below-first"]);
    expect(checkSequence({ requests: [granted({ a: [100, 1] }, 0, 1)], first }).violations).toEqual([]);
  });

  test("catches blocks and reads that go back in real time", () => {
    expect(typesFor([granted({ a: [1, 1] }, 0, 1), granted({ a: [0, 1] }, 2, 3)])).toContain("went-back");
    expect(typesFor([granted({ a: [0, 2] }, 0, 1)], [read("a", 1, 2, 3)])).toContain("went-back");
    expect(typesFor([granted({ a: [0, 2] }, 4, 5)], [read("a", 2, 1, 2)])).toContain("went-back");
    expect(typesFor([granted({ a: [0, 2] }, 0, 9)], [read("a", 0, 1, 2), read("a", 2, 1, 3)])).toEqual([]);
  });

  test("catches a read that stands in the middle of a block: a key was never there", () => {
    expect(typesFor([granted({ a: [0, 3] }, 0, 9)], [read("a", 2, 0, 9)])).toEqual(["inside-block"]);
    expect(typesFor([granted({ a: [0, 3] }, 0, 9)], [read("a", 3, 0, 9), read("a", 0, 0, 9)])).toEqual([]);
    expect(typesFor([uncertain({ a: 3 }, 0)], [read("a", 2, 0, 9), read("a", 3, 0, 9)])).toEqual(["unexplained", "unexplained"]);
  });

  test("an uncertain request is not used where real time excludes it", () => {
    // Asked for only when the gap had been passed.
    expect(typesFor([granted({ a: [2, 1] }, 0, 1), uncertain({ a: 2 }, 2)])).toEqual(["unexplained"]);
    // Over before what lies below the gap was asked for.
    expect(typesFor([uncertain({ a: 2 }, 0, 1), granted({ a: [0, 1] }, 2, 3), granted({ a: [3, 1] }, 4, 5)])).toEqual(["unexplained"]);
    expect(typesFor([uncertain({ a: 2 }, 0), granted({ a: [0, 1] }, 2, 3), granted({ a: [3, 1] }, 4, 5)])).toEqual([]);
    // Two that were not concurrent can stand in one order only: 1 and 2 fit, 2 and 1 do not.
    const [one, two] = [uncertain({ a: 1, b: 1 }, 0, 1), uncertain({ a: 2, b: 2 }, 2, 3)];
    const around = (start: number) => [granted({ b: [start, 1] }, 0, 9), granted({ a: [3, 1] }, 9, 9)];
    expect(typesFor([one, two, ...around(1)], [read("b", 4, 9, 9)])).toEqual([]);
    expect(typesFor([one, two, ...around(2)], [read("b", 4, 9, 9)])).toEqual(["unexplained"]);
  });

  test("a gap is not filled by a request that was over before what lies below it was asked for, though it could have filled another", () => {
    const below = granted({ a: [2, 1] }, 6, 7);
    const above = granted({ a: [5, 1] }, 8, 9);
    expect(typesFor([uncertain({ a: 1 }, 0, 5), uncertain({ a: 2 }, 0, 5), uncertain({ a: 1 }, 0), below, above])).toEqual(["unexplained"]);
    expect(typesFor([uncertain({ a: 1 }, 0), uncertain({ a: 2 }, 0), uncertain({ a: 1 }, 0), below, above])).toEqual([]);
  });

  test("of two alike, the one that was over soon may be the wrong one", () => {
    const [soon, late] = [uncertain({ a: 1, b: 1 }, 0, 5), uncertain({ a: 1, b: 1 }, 0, 9)];
    const requests = [soon, late, uncertain({ b: 1 }, 0, 5), granted({ b: [1, 1] }, 6, 7), granted({ a: [1, 1], b: [3, 1] }, 10, 11)];
    const report = checkSequence({ requests });
    expect(report.violations).toEqual([]);
    expect(report.keys.get("a")?.assigned.map(({ request }) => request)).toEqual([late]);
  });

  test("catches batches that two keys saw in different orders", () => {
    const crossed = [granted({ a: [0, 1], b: [1, 1] }, 0, 9), granted({ a: [1, 1], b: [0, 1] }, 0, 9)];
    expect(checkSequence({ requests: crossed }).violations).toEqual([{ type: "no-one-order", requests: crossed }]);
    // The same, with real time as one of the two: b's batch is above x, which was asked for after y, which is above a's.
    const woven = [granted({ a: [0, 1], b: [1, 1] }, 0, 20), granted({ a: [1, 1] }, 1, 2), granted({ b: [0, 1] }, 3, 4)];
    expect(typesFor(woven)).toEqual(["no-one-order"]);
    expect(typesFor([granted({ a: [0, 1], b: [0, 1] }, 0, 9), granted({ a: [1, 1], b: [1, 1] }, 0, 9)])).toEqual([]);
  });

  test("a search that gives up says so, and is no pass", () => {
    // Either gap of 3 could be filled, but only one of them.
    const requests = [
      uncertain({ a: 2 }, 0),
      uncertain({ a: 3 }, 0),
      uncertain({ a: 2 }, 0),
      granted({ a: [3, 1] }, 0, 1),
      granted({ a: [7, 1] }, 0, 1),
    ];
    expect(typesOf(checkSequence({ requests, searchMax: 2 }).violations)).toEqual(["undecided"]);
    expect(typesOf(checkSequence({ requests }).violations)).toEqual(["unexplained"]);
  });

  test("decides a large crash: many uncertain requests, and a sum that they just miss or just make", () => {
    const many = Array.from({ length: 60 }, (_, i) => uncertain({ a: 2 + 2 * (i % 3) }, i, 1_000));
    const above = granted({ a: [101, 1] }, 1_001, 1_002);
    expect(typesOf(checkSequence({ requests: [...many, above], searchMax: 100 }).violations)).toEqual(["unexplained"]);
    const one = uncertain({ a: 1 }, 30, 1_000);
    const report = checkSequence({ requests: [...many, one, above], searchMax: 200 });
    expect(report.violations).toEqual([]);
    expect(report.keys.get("a")?.assigned.some(({ request }) => request === one)).toBe(true);
  });

  test("decides large blocks", () => {
    const blocks = [uncertain({ a: 65_536 }, 0), uncertain({ a: 65_536 }, 0), uncertain({ a: 65_535 }, 0)];
    expect(typesFor([...blocks, granted({ a: [131_071, 1] }, 0, 1)])).toEqual([]);
    expect(typesFor([...blocks, granted({ a: [131_073, 1] }, 0, 1)])).toEqual(["unexplained"]);
  });

  /** A history as a correct oracle gives it: requests take effect one by one at an instant between their times; of some nobody hears. */
  const anyLife = fc.array(
    fc.record({
      blocks: fc.dictionary(fc.constantFrom("a", "b", "c"), fc.integer({ min: 1, max: 5 }), { minKeys: 1 }),
      before: fc.integer({ min: 1, max: 40 }),
      after: fc.integer({ min: 1, max: 40 }),
      fate: fc.constantFrom("answered", "answered", "taken", "dropped"),
      settles: fc.boolean(),
    }),
    { maxLength: 40 },
  );
  type Life = typeof anyLife extends fc.Arbitrary<infer T> ? T : never;
  function live(life: Life): { readonly requests: readonly SequenceRequest[]; readonly reads: readonly SequenceRead[] } {
    const next = new Map<string, bigint>();
    const requests = life.map(({ blocks: counts, before, after, fate, settles }, index): SequenceRequest => {
      const at = 100 + index * 10;
      const blocks = Object.entries(counts).map(([key, count]) => ({ key, count }));
      const starts = blocks.map(({ key }) => next.get(key) ?? 0n);
      if (fate !== "dropped") for (const { key, count } of blocks) next.set(key, (next.get(key) ?? 0n) + BigInt(count));
      const invokedAt = BigInt(at - before);
      if (fate === "answered") return { blocks, invokedAt, answer: { starts, respondedAt: BigInt(at + after) } };
      return { blocks, invokedAt, ...(settles ? { endedAt: BigInt(at + after) } : {}) };
    });
    const end = 100 + life.length * 10 + 50;
    return { requests, reads: ["a", "b", "c"].map((key) => read(key, Number(next.get(key) ?? 0n), end, end + 1)) };
  }

  property(
    "every history of a correct oracle is accepted, and its assignment tiles what is missing with whole requests, each once",
    fc.property(anyLife, (life) => {
      const { requests, reads } = live(life);
      const { violations, keys } = checkSequence({ requests, reads });
      expect(violations).toEqual([]);
      for (const [key, { missing, assigned }] of keys) {
        const tiles = assigned.map(({ start, end }) => ({ start, end }));
        for (const gap of missing) {
          let at = gap.start;
          while (at < gap.end) {
            const tile = tiles.shift();
            expect(tile?.start).toBe(at);
            at = tile?.end ?? gap.end;
          }
          expect(at).toBe(gap.end);
        }
        expect(tiles).toEqual([]);
        expect(new Set(assigned.map(({ request }) => request)).size).toBe(assigned.length);
        for (const { start, end, request } of assigned) {
          expect(request.blocks).toContainEqual({ key, count: Number(end - start) });
          for (const other of request.blocks) {
            const there = keys.get(other.key)?.assigned.some((each) => each.request === request);
            if (there === false) expect(request.endedAt, "a batch is half there").toBeUndefined();
          }
        }
      }
    }),
  );

  const anyTiny = fc.record({
    granted: fc.array(
      fc.tuple(fc.constantFrom("a", "b"), fc.integer({ min: 0, max: 6 }), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 0, max: 8 })),
      {
        maxLength: 3,
      },
    ),
    uncertain: fc.array(
      fc.tuple(
        fc.dictionary(fc.constantFrom("a", "b"), fc.integer({ min: 1, max: 3 }), { minKeys: 1 }),
        fc.integer({ min: 0, max: 8 }),
        fc.option(fc.integer({ min: 0, max: 4 }), { nil: undefined }),
      ),
      { maxLength: 4 },
    ),
    reads: fc.array(fc.tuple(fc.constantFrom("a", "b"), fc.integer({ min: 0, max: 8 }), fc.integer({ min: 0, max: 12 })), { maxLength: 2 }),
  });
  property(
    "whether the missing values are explained is what trying every choice says",
    fc.property(anyTiny, (tiny) => {
      const requests = [
        ...tiny.granted.map(([key, start, count, from]) => granted({ [key]: [start, count] }, from, from + 2)),
        ...tiny.uncertain.map(([blocks, from, length]) => uncertain(blocks, from, length === undefined ? undefined : from + length)),
      ];
      const reads = tiny.reads.map(([key, next, from]) => read(key, next, from, from + 1));
      const { violations } = checkSequence({ requests, reads });
      expect(typesOf(violations)).not.toContain("undecided");
      expect(!typesOf(violations).includes("unexplained")).toBe(isExplained(requests, reads));
    }),
  );
});

/** The question of the checker's search, answered by trying everything. */
function isExplained(requests: readonly SequenceRequest[], reads: readonly SequenceRead[]): boolean {
  interface Fixed {
    readonly start: bigint;
    readonly end: bigint;
    readonly from: bigint;
    readonly to: bigint | undefined;
  }
  const fixed = new Map<string, Fixed[]>([
    ["a", []],
    ["b", []],
  ]);
  for (const { blocks, invokedAt, answer } of requests) {
    blocks.forEach(({ key, count }, index) => {
      const start = answer?.starts[index];
      if (start !== undefined) fixed.get(key)?.push({ start, end: start + BigInt(count), from: invokedAt, to: answer?.respondedAt });
    });
  }
  for (const { key, next, invokedAt, respondedAt } of reads) fixed.get(key)?.push({ start: next, end: next, from: invokedAt, to: respondedAt });
  const free = requests.filter(({ answer }) => answer === undefined);
  const isBefore = (a: Fixed, b: Fixed): boolean => a.to !== undefined && a.to < b.from;
  const agrees = (a: Fixed, b: Fixed): boolean => (!isBefore(a, b) || a.end <= b.start) && (!isBefore(b, a) || b.end <= a.start);

  const isIn = (value: bigint, spans: readonly Fixed[]): boolean => spans.some(({ start, end }) => start <= value && value < end);
  const known = (key: string): readonly Fixed[] => fixed.get(key) ?? [];
  const missing = (key: string): readonly bigint[] => {
    const top = known(key).map(({ end }) => Number(end));
    return Array.from({ length: Math.max(0, ...top) }, (_, value) => BigInt(value)).filter((value) => !isIn(value, known(key)));
  };
  const places = (request: SequenceRequest, { key, count }: { readonly key: string; readonly count: number }): readonly (Fixed | "above")[] => {
    const found: (Fixed | "above")[] = [];
    for (const start of missing(key)) {
      const place = { start, end: start + BigInt(count), from: request.invokedAt, to: request.endedAt };
      const isFree = Array.from({ length: count }, (_, i) => start + BigInt(i)).every((value) => missing(key).includes(value));
      const isSplit = known(key).some(({ start: at, end }) => at === end && place.start < at && at < place.end); // a read saw the middle of it
      if (isFree && !isSplit && known(key).every((other) => agrees(place, other))) found.push(place);
    }
    const { endedAt } = request;
    if (endedAt === undefined || known(key).every(({ from }) => from <= endedAt)) found.push("above");
    return found;
  };
  const attempt = (index: number, chosen: ReadonlyMap<string, readonly Fixed[]>): boolean => {
    const request = free[index];
    if (request === undefined) return ["a", "b"].every((key) => missing(key).every((value) => isIn(value, chosen.get(key) ?? [])));
    if (attempt(index + 1, chosen)) return true;
    const put = (block: number, at: ReadonlyMap<string, readonly Fixed[]>): boolean => {
      const of = request.blocks[block];
      if (of === undefined) return attempt(index + 1, at);
      return places(request, of).some((place) => {
        if (place === "above") return put(block + 1, at);
        const others = at.get(of.key) ?? [];
        const goesTogether = others.every((other) => (other.end <= place.start || place.end <= other.start) && agrees(place, other));
        return goesTogether && put(block + 1, new Map([...at, [of.key, [...others, place]]]));
      });
    };
    return put(0, chosen);
  };
  return attempt(0, new Map());
}

describe("leases", () => {
  const lease = (type: LeaseGrant["type"], bound: number, from: number, to: number, more: Partial<LeaseGrant> = {}): LeaseGrant => ({
    type,
    id: 100n,
    holder: "h/1",
    bound: BigInt(bound),
    expiresAtMs: 1_000n,
    ...during(from, to),
    ...more,
  });
  const frontier = (frontierMs: number, from: number, to: number, atMs = 0) => ({
    frontierMs: BigInt(frontierMs),
    atMs: BigInt(atMs),
    ...during(from, to),
  });
  const highWater = (highWaterMs: number, from: number, to: number) => ({ highWaterMs: BigInt(highWaterMs), ...during(from, to) });
  const typesFor = (history: Partial<LeaseHistory>): readonly string[] =>
    typesOf(checkLeases({ grants: [], uncertainRenewals: [], releases: [], unknown: [], frontiers: [], highWaters: [], ...history }));
  const held = lease("acquire", 100, 0, 1);

  test("accepts a life: acquired, found held, renewed, released; the frontier below its bound until then", () => {
    const grants = [held, lease("acquire", 100, 2, 3), lease("renew", 120, 4, 5), lease("acquire", 300, 20, 21, { id: 300n })];
    const frontiers = [frontier(100, 2, 3), frontier(120, 6, 7), frontier(120, 8, 9), frontier(200, 12, 13)];
    const highWaters = [highWater(100, 2, 3), highWater(250, 10, 11), highWater(300, 22, 23)];
    expect(typesFor({ grants, frontiers, highWaters, releases: [{ id: 100n, invokedAt: 10n, respondedAt: 11n }] })).toEqual([]);
  });

  test("catches an id that two holders have, or two epochs of one", () => {
    expect(typesFor({ grants: [held, lease("acquire", 100, 5, 6, { holder: "h/2" })] })).toEqual(["id-twice"]);
  });

  test("catches a released lease that comes back, and a live one that is forgotten", () => {
    const releases = [{ id: 100n, invokedAt: 2n, respondedAt: 3n }];
    expect(typesFor({ grants: [held, lease("renew", 120, 4, 5)], releases })).toEqual(["came-back"]);
    expect(typesFor({ grants: [held, lease("renew", 120, 3, 5)], releases })).toEqual([]);
    const unknown = [{ id: 100n, atMs: 999n, ...during(4, 5) }];
    expect(typesFor({ grants: [held], unknown })).toEqual(["forgotten"]);
    expect(typesFor({ grants: [held], unknown, releases })).toEqual([]);
    expect(typesFor({ grants: [held], unknown: [{ id: 100n, atMs: 1_000n, ...during(4, 5) }] })).toEqual([]);
  });

  test("catches a bound that falls, or that the high water does not cover", () => {
    expect(typesFor({ grants: [held, lease("renew", 99, 2, 3)] })).toEqual(["bound-fell"]);
    expect(typesFor({ grants: [held], highWaters: [highWater(99, 2, 3)] })).toEqual(["bound-not-covered"]);
    expect(typesFor({ grants: [held], highWaters: [highWater(99, 1, 3), highWater(100, 4, 5)] })).toEqual([]);
  });

  test("catches a frontier above the bound of a live lease", () => {
    expect(typesFor({ grants: [held], frontiers: [frontier(101, 2, 3)] })).toEqual(["frontier-above-bound"]);
    expect(typesFor({ grants: [held], frontiers: [frontier(101, 1, 3)] }), "concurrent").toEqual([]);
    expect(typesFor({ grants: [held], frontiers: [frontier(101, 2, 3, 1_000)] }), "expired").toEqual([]);
    expect(typesFor({ grants: [held], frontiers: [frontier(101, 2, 4)], releases: [{ id: 100n, invokedAt: 3n }] }), "may be released").toEqual([]);
    const renewed = lease("renew", 120, 2, 9);
    expect(typesFor({ grants: [held, renewed], frontiers: [frontier(120, 3, 4)] }), "may be renewed").toEqual([]);
    expect(typesFor({ grants: [held, renewed], frontiers: [frontier(121, 3, 4)] })).toEqual(["frontier-above-bound"]);
  });

  test("an uncertain renewal may have raised the bound, until a later answer tells", () => {
    const frontiers = [frontier(150, 6, 7)];
    expect(typesFor({ grants: [held], frontiers, uncertainRenewals: [{ id: 100n, invokedAt: 2n, endedAt: 3n }] })).toEqual([]);
    expect(typesFor({ grants: [held], frontiers, uncertainRenewals: [{ id: 7n, invokedAt: 2n }] })).toEqual(["frontier-above-bound"]);
    const told = lease("renew", 120, 4, 5);
    expect(typesFor({ grants: [held, told], frontiers, uncertainRenewals: [{ id: 100n, invokedAt: 2n, endedAt: 3n }] })).toEqual([
      "frontier-above-bound",
    ]);
    expect(typesFor({ grants: [held, told], frontiers, uncertainRenewals: [{ id: 100n, invokedAt: 2n }] })).toEqual([]);
  });

  test("catches a frontier or a high water that goes down", () => {
    expect(typesFor({ frontiers: [frontier(5, 0, 1), frontier(4, 2, 3)] })).toEqual(["frontier-fell"]);
    expect(typesFor({ frontiers: [frontier(5, 0, 2), frontier(4, 2, 3)] })).toEqual([]);
    expect(typesFor({ highWaters: [highWater(5, 0, 1), highWater(4, 2, 3)] })).toEqual(["high-water-fell"]);
  });
});
