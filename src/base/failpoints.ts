import { invariant } from "./invariant.ts";

/** What happens at a named site of the real code: anything that an `await` can meet. */
export type Failure = () => void | Promise<void>;

const armed = new Map<string, Failure>();
let anyArmed = false;

/**
 * A named place where a test can make the real code throw, stall or die. Off, it costs one boolean.
 * Undefined while off, so that a caller need not await: `if (failpointsArmed()) await failpoint("x")`.
 */
export function failpoint(name: string): void | Promise<void> {
  return anyArmed ? armed.get(name)?.() : undefined;
}

/** Whether any failpoint is armed at all: keeps hot paths free of an `await`. */
export function failpointsArmed(): boolean {
  return anyArmed;
}

/** Arms one site until the returned function is called. */
export function armFailpoint(name: string, failure: Failure): () => void {
  invariant(!armed.has(name), "a failpoint is armed once", { name });
  armed.set(name, failure);
  anyArmed = true;
  return () => {
    armed.delete(name);
    anyArmed = armed.size > 0;
  };
}
