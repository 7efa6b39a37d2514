/** Commands, outcomes, changes and snapshots from damaged bytes: refused by TSO_WRONG_FORMAT, or read as what their types say. */
import fc from "fast-check";
import { epoch } from "../src/base/epoch.ts";
import { OracleError } from "../src/base/errors.ts";
import { changesCodec, commandCodec, outcomeCodec, snapshotChunks } from "../src/oracle/rules/codec.ts";
import { DEFAULT_LIMITS } from "../src/oracle/rules/limits.ts";
import { OracleMachine } from "../src/oracle/rules/machine.ts";
import { checkDecoder } from "../test/support/decoding.ts";
import { at, commitOne, restored } from "../test/support/oracle-life.ts";
import { anyChanges, anyCommand, anyOutcome } from "../test/support/oracle-values.ts";
import { main } from "./harness.ts";

const sample = { numRuns: 200, seed: 1 };
const leader = epoch(1n);
/** Ends a snapshot of one chunk. */
const end = [...snapshotChunks([{ type: "clock", clock: 0 }])].slice(1);
/** Types that the format has no use for, and that msgpack may still be given: numbers of any size, dates, classes, definitions, references. */
const MSGPACK = [
  ...["c0", "c1", "c2", "80", "81", "de0001", "a0", "d9ff", "dbffffffff", "ddffffffff", "c6ffffffff", "ca3f800000", "cb8000000000000000"],
  ...["cf8000000000000000", "d38000000000000000", "d3ffffffffffffffff", "ff", "d0ff"],
  ...["c7094201ffffffffffffffff", "d442ff", "d64200000001", "d6ff00000001", "d7ff0000000000000001", "c70cff000000000000000000000001"],
  ...["d40000", "d47301", "d47890", "d46590", "d5740100", "c7027401", "d6740800", "d47240", "d472409201a161", "d57240e0", "40", "41"],
  ...["d66200000004", "d662fffffff0", "d66900000001", "d66900000001929200", "d67000000001"],
].map((hex) => new Uint8Array(Buffer.from(hex, "hex")));

await main({
  name: "oracle-codec",
  corpus: [
    ...fc.sample(anyCommand, sample).map((command) => commandCodec.encode(command)),
    ...fc.sample(anyOutcome, sample).map((outcome) => outcomeCodec.encode(outcome)),
    ...fc.sample(anyChanges, sample).map((changes) => changesCodec.encode(changes)),
    ...fc.sample(anyChanges, sample).flatMap((changes) => [...snapshotChunks(changes)]),
  ],
  words: MSGPACK,
  run: (bytes) => {
    checkDecoder(commandCodec, bytes);
    checkDecoder(outcomeCodec, bytes);
    checkDecoder(changesCodec, bytes);
    outcomeCodec.decode(ledMachine().apply(bytes, at(leader))); // whatever they are, the answer can be read
    checkSnapshot([bytes]);
    checkSnapshot([bytes, ...end]);
  },
});

function ledMachine(): OracleMachine {
  const machine = new OracleMachine();
  const takeOver = { type: "take-over", epoch: leader, now: 1_000, failoverAdvanceMs: 1_000, maxClockJumpMs: 0, limits: DEFAULT_LIMITS } as const;
  commitOne(machine, { command: takeOver, epoch: leader });
  return machine;
}

function checkSnapshot(chunks: readonly Uint8Array[]): void {
  try {
    restored(chunks);
  } catch (error) {
    if (!(error instanceof OracleError) || error.code !== "TSO_WRONG_FORMAT") throw error;
  }
}
