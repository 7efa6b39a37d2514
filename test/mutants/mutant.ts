/** A replacement in the sources of a text that stands there exactly once. There is no switch for it in `src`. */
export interface Edit {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/** A deliberate bug. One that two rules guard against has an edit for each of them. */
export interface Mutant {
  readonly name: string;
  readonly edits: readonly [Edit, ...Edit[]];
  /** Test files that must tell; without any, simulated clusters must, or else the scenarios. */
  readonly tests?: readonly [string, ...string[]] | undefined;
}

/**
 * Without it the assertions in `src` still cost what they cost, and say nothing. A mutant must be found so, too: by a checker that knows better, and not by the
 * code that it is in.
 */
export const ASSERTION = { find: "throw new InvariantViolation(", replace: "void new InvariantViolation(" };
