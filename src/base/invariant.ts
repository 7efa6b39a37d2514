export type Details = Readonly<Record<string, unknown>>;

/** A bug of ours, or damaged state: the node stops. `claim` is the true sentence that did not hold. */
export class InvariantViolation extends Error {
  override readonly name = "InvariantViolation";
  readonly claim: string;
  readonly details: Details;

  constructor(claim: string, details: Details = {}) {
    super(`does not hold: ${claim} ${describe(details)}`.trimEnd());
    this.claim = claim;
    this.details = details;
  }
}

/** Throws where `condition` is false. In hot paths write the `if` and the `throw` out, so that details cost nothing. */
export function invariant(condition: boolean, claim: string, details?: Details): asserts condition {
  if (!condition) throw new InvariantViolation(claim, details);
}

/** The `default:` of every switch over a union: compiles only while all cases are handled. */
export function unreachable(value: never): never {
  throw new InvariantViolation("every case is handled", { value });
}

/** Never throws: an error in here would hide the one that is being told of. */
function describe(details: Details): string {
  if (Object.keys(details).length === 0) return "";
  try {
    return JSON.stringify(details, (_, value) => (typeof value === "bigint" ? `${value}` : value));
  } catch {
    return `{${Object.keys(details).join(", ")}}`; // a circle, or something that does not want to be written
  }
}
