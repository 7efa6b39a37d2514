import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Progress } from "../../../src/cli/progress.ts";

const MIB = 1024 * 1024;
const isTTY = Object.getOwnPropertyDescriptor(process.stderr, "isTTY");
let written: string[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
  written = [];
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    written.push(String(text));
    return true;
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  Object.defineProperty(process.stderr, "isTTY", isTTY ?? { value: undefined, configurable: true });
});

/** Ten seconds of work, looked at ten times a second. */
function work(terminal: boolean): void {
  Object.defineProperty(process.stderr, "isTTY", { value: terminal, configurable: true });
  const progress = new Progress("reading snapshots");
  for (let step = 1; step <= 100; step++) {
    vi.advanceTimersByTime(100);
    progress.update(step * MIB, 100 * MIB);
  }
  progress.end();
}

test("on a terminal one line is written over, several times a second, and ends with a new line", () => {
  work(true);
  expect(written).toHaveLength(51);
  expect(written[0]).toBe("\rreading snapshots: 2.0 of 100.0 MiB, 2 %, 0 s\u001b[K");
  expect(written.at(-2)).toBe("\rreading snapshots: 100.0 of 100.0 MiB, 100 %, 10 s\u001b[K");
  expect(written.at(-1)).toBe("\n");
});

test("elsewhere there is a line every five seconds", () => {
  work(false);
  expect(written).toEqual(["reading snapshots: 50.0 of 100.0 MiB, 50 %, 5 s\n", "reading snapshots: 100.0 of 100.0 MiB, 100 %, 10 s\n"]);
});

test("work that is short says nothing", () => {
  Object.defineProperty(process.stderr, "isTTY", { value: true, configurable: true });
  const progress = new Progress("reading");
  progress.update(1, 2);
  progress.end();
  expect(written).toEqual([]);
});
