/**
 * Checkers over histories: what callers asked and were told, judged apart from the code that answered. Pure functions, no test runner: each takes a
 * history and returns what cannot be; an empty list means that the history is one that a correct oracle could have given.
 *
 * All times of a history come from one clock, such as `process.hrtime.bigint()`: `invokedAt` is read just before a request is handed over,
 * `respondedAt` just after its answer came. "A is before B" means `A.respondedAt < B.invokedAt`; everything else is concurrent, and may stand
 * in any order. A request without an answer (a broken connection, a deadline) took effect, or did not: for sequences see `sequence-checker.ts`.
 */
import { overlaps, type Pair, type Span, stepsBack } from "./real-time.ts";

/** When a request was made, and when its answer came. */
export interface Answered {
  readonly invokedAt: bigint;
  readonly respondedAt: bigint;
}

/** `[first, first + count)`, packed as on the wire: `physical_ms << 18 | logical`. */
export interface TimestampGrant extends Answered {
  readonly first: bigint;
  readonly count: number;
}

export type TimestampViolation<G> =
  /** Two grants hold the same timestamp. */
  | { readonly type: "repeated"; readonly earlier: G; readonly later: G }
  /** `earlier` had been answered before `later` was asked for, and yet `later` is not above it. */
  | { readonly type: "went-back"; readonly earlier: G; readonly later: G };

/** No timestamp twice, and strictly increasing in real-time order across all callers. Grants without an answer need not be given. O(n log n). */
export function checkTimestampOrder<G extends TimestampGrant>(grants: readonly G[]): readonly TimestampViolation<G>[] {
  const spans = grants.map((grant) => ({ ...timesOf(grant), start: grant.first, end: grant.first + BigInt(grant.count), of: grant }));
  return [...overlaps(spans).map(violation("repeated")), ...stepsBack(spans).map(violation("went-back"))];
}

/** What GetCurrentMaxSafe answered: every timestamp granted later is above this millisecond. */
export interface SafePointRead extends Answered {
  readonly safePhysicalMs: bigint;
}

export interface SafePointViolation<R, G> {
  readonly type: "below-safe-point";
  readonly read: R;
  readonly grant: G;
}

/** Every timestamp that was asked for after a safe point was read lies above it. Answers of a node that does not serve (0) hold of themselves. */
export function checkSafePoint<R extends SafePointRead, G extends TimestampGrant>(
  reads: readonly R[],
  grants: readonly G[],
): readonly SafePointViolation<R, G>[] {
  const spans: (Span & { readonly read?: R; readonly grant?: G })[] = [
    // A read bounds what comes later and is bounded by nothing; a grant is bounded and bounds nothing.
    ...reads.map((read) => ({ ...timesOf(read), start: HIGHEST, end: (read.safePhysicalMs + 1n) << 18n, read })),
    ...grants.map((grant) => ({ ...timesOf(grant), start: grant.first, end: 0n, grant })),
  ];
  const found: SafePointViolation<R, G>[] = [];
  for (const { earlier, later } of stepsBack(spans)) {
    if (earlier.read !== undefined && later.grant !== undefined) found.push({ type: "below-safe-point", read: earlier.read, grant: later.grant });
  }
  return found;
}

/** An answered AcquireLease or RenewLease. An acquire that found the lease held already is answered like the first one. */
export interface LeaseGrant extends Answered {
  readonly type: "acquire" | "renew";
  readonly id: bigint;
  /** Who the lease is for: any text that tells holders and their epochs apart. */
  readonly holder: string;
  readonly bound: bigint;
  readonly expiresAtMs: bigint;
}

export interface LeaseHistory {
  readonly grants: readonly LeaseGrant[];
  /** Every renewal without an answer. It can have taken effect until `endedAt`; at any later time if there is none. */
  readonly uncertainRenewals: readonly { readonly id: bigint; readonly invokedAt: bigint; readonly endedAt?: bigint | undefined }[];
  /** Every release that was asked for, whatever became of it: with `respondedAt` if it was answered. */
  readonly releases: readonly Release[];
  /** Renewals that were answered "unknown lease". `atMs` as for a frontier. */
  readonly unknown: readonly UnknownLease[];
  /** Answers of GetSafeFrontier by a node that serves. `atMs`: no clock of a server had passed this when the answer came, ms since 1970. */
  readonly frontiers: readonly FrontierRead[];
  /** The durable high water, as a node's status says it. */
  readonly highWaters: readonly HighWaterRead[];
}

export interface Release {
  readonly id: bigint;
  readonly invokedAt: bigint;
  readonly respondedAt?: bigint | undefined;
}

export interface UnknownLease extends Answered {
  readonly id: bigint;
  readonly atMs: bigint;
}

export interface FrontierRead extends Answered {
  readonly frontierMs: bigint;
  readonly atMs: bigint;
}

export interface HighWaterRead extends Answered {
  readonly highWaterMs: bigint;
}

export type LeaseViolation =
  /** Two holders, or two epochs of one, were given the same id. */
  | { readonly type: "id-twice"; readonly earlier: LeaseGrant; readonly later: LeaseGrant }
  /** A lease was given out or renewed after its release had been answered. */
  | { readonly type: "came-back"; readonly release: Release; readonly grant: LeaseGrant }
  /** A lease that was acknowledged, and neither expired nor released, was not known any more. */
  | { readonly type: "forgotten"; readonly grant: LeaseGrant; readonly answer: UnknownLease }
  /** A later answer for the same lease has a lower bound. */
  | { readonly type: "bound-fell"; readonly earlier: LeaseGrant; readonly later: LeaseGrant }
  /** A bound was told, and the high water read afterwards does not cover it. */
  | { readonly type: "bound-not-covered"; readonly grant: LeaseGrant; readonly read: HighWaterRead }
  /** The frontier stood above the bound of a lease that was acknowledged, and neither expired nor released. */
  | { readonly type: "frontier-above-bound"; readonly grant: LeaseGrant; readonly read: FrontierRead }
  | { readonly type: "frontier-fell"; readonly earlier: FrontierRead; readonly later: FrontierRead }
  | { readonly type: "high-water-fell"; readonly earlier: HighWaterRead; readonly later: HighWaterRead };

/** What leases promise, across restarts and leaders. O(leases * frontier reads). */
export function checkLeases(history: LeaseHistory): readonly LeaseViolation[] {
  const frontiers = history.frontiers.map((read) => ({ ...timesOf(read), start: read.frontierMs, end: read.frontierMs, of: read }));
  const highWaters = history.highWaters.map((read) => ({ ...timesOf(read), start: read.highWaterMs, end: read.highWaterMs, of: read }));
  return [
    ...[...groupById(history.grants)].flatMap(([id, grants]) => checkOneLease(id, grants, history)),
    ...checkCovered(history),
    ...stepsBack(frontiers).map(violation("frontier-fell")),
    ...stepsBack(highWaters).map(violation("high-water-fell")),
  ];
}

/** All answers for one id. */
function checkOneLease(id: bigint, grants: readonly LeaseGrant[], history: LeaseHistory): readonly LeaseViolation[] {
  const found: LeaseViolation[] = [];
  const releases = history.releases.filter((release) => release.id === id);
  const ended = (by: Answered): boolean => releases.some(({ invokedAt }) => invokedAt < by.respondedAt);
  const [first] = grants;
  for (const grant of grants) {
    if (first !== undefined && grant.holder !== first.holder) found.push({ type: "id-twice", earlier: first, later: grant });
    const release = releases.find(({ respondedAt }) => respondedAt !== undefined && respondedAt < grant.invokedAt);
    if (release !== undefined) found.push({ type: "came-back", release, grant });
  }
  const bounds = grants.map((grant) => ({ ...timesOf(grant), start: grant.bound, end: grant.bound, of: grant }));
  found.push(...stepsBack(bounds).map(violation("bound-fell")));
  for (const read of history.frontiers) {
    const grant = ended(read) ? undefined : holding(grants, history, read);
    if (grant !== undefined && read.frontierMs > grant.bound) found.push({ type: "frontier-above-bound", grant, read });
  }
  for (const answer of history.unknown) {
    if (answer.id !== id || ended(answer)) continue;
    const grant = toldBefore(grants, answer).find(({ expiresAtMs }) => expiresAtMs > answer.atMs);
    if (grant !== undefined) found.push({ type: "forgotten", grant, answer });
  }
  return found;
}

function toldBefore(grants: readonly LeaseGrant[], { invokedAt }: Answered): readonly LeaseGrant[] {
  return grants.filter(({ respondedAt }) => respondedAt < invokedAt);
}

/** The answer whose bound the frontier must not exceed when `read` was answered; `undefined` where the lease may have ended, or its bound is not known. */
function holding(grants: readonly LeaseGrant[], history: LeaseHistory, read: FrontierRead): LeaseGrant | undefined {
  const told = toldBefore(grants, read);
  if (told.every(({ expiresAtMs }) => expiresAtMs <= read.atMs)) return undefined;
  const asked = grants.filter(({ invokedAt }) => invokedAt < read.respondedAt);
  const [id] = told.map((grant) => grant.id);
  for (const renewal of history.uncertainRenewals) {
    if (renewal.id !== id || renewal.invokedAt >= read.respondedAt) continue;
    // It may have raised the bound: harmless only where a later answer tells what came of it.
    const { endedAt } = renewal;
    if (endedAt === undefined || !asked.some(({ invokedAt }) => invokedAt > endedAt)) return undefined;
  }
  return asked.reduce<LeaseGrant | undefined>(
    (highest, grant) => (highest === undefined || grant.bound > highest.bound ? grant : highest),
    undefined,
  );
}

function checkCovered({ grants, highWaters }: LeaseHistory): readonly LeaseViolation[] {
  const spans: (Span & { readonly grant?: LeaseGrant; readonly read?: HighWaterRead })[] = [
    ...grants.map((grant) => ({ ...timesOf(grant), start: HIGHEST, end: grant.bound, grant })),
    ...highWaters.map((read) => ({ ...timesOf(read), start: read.highWaterMs, end: 0n, read })),
  ];
  return stepsBack(spans).flatMap(({ earlier: { grant }, later: { read } }): LeaseViolation[] =>
    grant === undefined || read === undefined ? [] : [{ type: "bound-not-covered", grant, read }],
  );
}

/** Above every timestamp and every bound. */
const HIGHEST = 1n << 64n;

function groupById(grants: readonly LeaseGrant[]): ReadonlyMap<bigint, readonly LeaseGrant[]> {
  const groups = new Map<bigint, LeaseGrant[]>();
  for (const grant of grants) {
    const group = groups.get(grant.id);
    if (group === undefined) groups.set(grant.id, [grant]);
    else group.push(grant);
  }
  return groups;
}

function timesOf({ invokedAt, respondedAt }: Answered): Answered {
  return { invokedAt, respondedAt };
}

function violation<Type extends string>(
  type: Type,
): <T>(pair: Pair<{ readonly of: T }>) => { readonly type: Type; readonly earlier: T; readonly later: T } {
  return ({ earlier, later }) => ({ type, earlier: earlier.of, later: later.of });
}
