/**
 * A client in a process of its own, as a program has it: in a process that both sides share, each makes grpc-js slower for the other.
 * Runs as a child of the benchmark: it says that it is ready, and answers each load with its figures.
 *
 *     node --import tsx bench/caller.ts echo|bare|client ADDRESS
 */
import { OracleClient } from "tsoracle/client";
import { AwaitingCaller } from "./awaiting-caller.ts";
import { Coalescer } from "./baseline/coalescer.ts";
import { ECHO, RawCaller } from "./raw-caller.ts";
import { type Caller, type Load, runCaller } from "./sides.ts";

const [side = "", address = ""] = process.argv.slice(2);
const caller = callerOf(side);

process.on("message", async (load: Load) => {
  process.send?.(await runCaller(caller, load));
});
process.on("disconnect", () => process.exit());
process.send?.("ready");

function callerOf(name: string): Caller {
  switch (name) {
    case "echo":
      return new RawCaller(address, ECHO);
    case "bare":
      return new AwaitingCaller(new Coalescer(address));
    case "client":
      return new AwaitingCaller(OracleClient.connect(address));
    default:
      throw new RangeError(`no caller is called ${name}`);
  }
}
