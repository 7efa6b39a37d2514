import { encodeUtf8 } from "../../base/bytes.ts";
import { U64_MAX } from "../../base/u64.ts";
import type { GroupOutcome, Refusal, SequenceGroup } from "./command.ts";
import type { OracleLimits } from "./limits.ts";
import type { OracleDraft } from "./state.ts";

/** Grants one caller's blocks, all or none. A refusal changes nothing. */
export function grantGroup(draft: OracleDraft, limits: OracleLimits, group: SequenceGroup): GroupOutcome {
  const refusal = validateGroup(limits, group) ?? checkRoom(draft, limits, group);
  if (refusal !== undefined) return { type: "refused", refusal };
  const starts = group.map(({ key, count }) => {
    const { first, next } = draft.sequence(key) ?? { first: 0n, next: 0n };
    draft.change({ type: "sequence", key, first, next: next + BigInt(count) });
    return next;
  });
  return { type: "granted", starts };
}

/** Whether `key` may name a sequence: 1 to `maxKeyBytes` bytes of well-formed text. Lone surrogates would all be stored as one key. */
export function isSequenceKey(key: string, limits: OracleLimits): boolean {
  return key.length > 0 && key.length <= limits.maxKeyBytes && key.isWellFormed() && encodeUtf8(key).length <= limits.maxKeyBytes;
}

/** Sets the first value of a sequence that has granted nothing yet; once more is allowed, until something was granted. */
export function initSequence(draft: OracleDraft, limits: OracleLimits, { key, first }: { key: string; first: bigint }): Refusal | undefined {
  if (!isSequenceKey(key, limits)) return { reason: "invalid-key" };
  const sequence = draft.sequence(key);
  if (sequence !== undefined && sequence.next !== sequence.first)
    return { reason: "already-granted", key, first: sequence.first, next: sequence.next };
  if (sequence === undefined && draft.sequenceCount >= limits.maxKeys) return { reason: "key-limit", limit: limits.maxKeys };
  if (first > U64_MAX) return { reason: "sequence-overflow", key, next: first };
  draft.change({ type: "sequence", key, first, next: first });
  return undefined;
}

/** What can be said of a group without looking at any sequence. A server asks before it proposes, the machine asks again. */
export function validateGroup(limits: OracleLimits, group: SequenceGroup): Refusal | undefined {
  if (group.length === 0) return { reason: "empty-group" };
  if (group.length > limits.maxBatchKeys) return { reason: "too-many-keys", count: group.length, max: limits.maxBatchKeys };
  const keys = new Set<string>();
  for (const { key } of group) {
    // A refusal names no key that is longer than a key may be: it could be of any length.
    if (keys.has(key)) return encodeUtf8(key).length <= limits.maxKeyBytes ? { reason: "duplicate-key", key } : { reason: "invalid-key" };
    keys.add(key);
  }
  for (const { key, count } of group) {
    if (!Number.isInteger(count) || count < 1 || count > limits.maxCount) return { reason: "invalid-count", count, max: limits.maxCount };
    if (!isSequenceKey(key, limits)) return { reason: "invalid-key" };
  }
  return undefined;
}

function checkRoom(draft: OracleDraft, limits: OracleLimits, group: SequenceGroup): Refusal | undefined {
  let created = 0;
  for (const { key, count } of group) {
    const sequence = draft.sequence(key);
    if (sequence === undefined) created += 1;
    else if (sequence.next + BigInt(count) > U64_MAX) return { reason: "sequence-overflow", key, next: sequence.next };
  }
  return draft.sequenceCount + created > limits.maxKeys ? { reason: "key-limit", limit: limits.maxKeys } : undefined;
}
