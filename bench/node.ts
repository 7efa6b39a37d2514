/**
 * The node under test, from the built package: an oracle on the file driver or the memory driver, which counts its flushes.
 * Runs as a child of the benchmark: it says its address once it serves, and answers every message with its counters.
 *
 *     node --import tsx bench/node.ts memory
 *     node --import tsx bench/node.ts file DIRECTORY
 */
import { type ConsensusDriver, type Disk, fileDriver, memoryDriver, nodeDisk } from "tsoracle";
import { OracleServer } from "tsoracle/server";

interface Counted {
  readonly driver: ConsensusDriver;
  readonly flushes: () => number;
}

const [kind, directory = ""] = process.argv.slice(2);
const { driver, flushes } = kind === "memory" ? onMemory() : await onFile();
const server = await OracleServer.start({ driver, listen: "127.0.0.1:0" });

process.on("message", () => {
  const { user, system } = process.cpuUsage();
  process.send?.({ cpuUs: user + system, flushes: flushes() });
});
process.on("disconnect", () => process.exit());

for await (const state of server.states()) {
  if (state.type !== "serving") continue;
  process.send?.({ address: server.address });
  break;
}

/** There is no flush in memory: its commits stand for them. */
function onMemory(): Counted {
  const memory = memoryDriver();
  return { driver: memory, flushes: () => memory.commits };
}

async function onFile(): Promise<Counted> {
  let count = 0;
  const disk: Disk = {
    ...nodeDisk,
    createDurable: async (path) => {
      const file = await nodeDisk.createDurable(path);
      return {
        write: (bytes, position) => {
          count += 1;
          return file.write(bytes, position);
        },
        close: () => file.close(),
      };
    },
  };
  return { driver: await fileDriver({ directory, disk }), flushes: () => count };
}
