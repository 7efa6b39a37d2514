/**
 * A node of the log as a process: what it logs and who leads goes to stdout, a JSON object a line; a parent proposes by messages. It ends with 1, and the reason on stderr, where it must
 * not go on.
 */
import { Buffer } from "node:buffer";
import type { Logger } from "../../src/base/logger.ts";
import { PaxosNode } from "../../src/paxos/node.ts";
import type { PaxosNodeOptions } from "../../src/paxos/node-options.ts";
import { openWal } from "../../src/paxos/storage/wal.ts";
import { grpcTransport } from "../../src/paxos/transport/grpc.ts";

/** The first argument, as JSON. */
export interface LogProcessOptions extends Pick<PaxosNodeOptions, "init" | "core" | "diskRoom"> {
  readonly node: number;
  readonly peers: string;
  readonly listen: string;
  readonly directory: string;
  readonly segmentBytes?: number | undefined;
}

/** From the parent, and back. */
export interface Asked {
  readonly number: number;
  /** To be proposed; the whole list is asked for if there is none. */
  readonly text?: string | undefined;
}
export interface Told {
  readonly number: number;
  readonly answer: unknown;
}

const json = (value: unknown): string => JSON.stringify(value, (_, part) => (typeof part === "bigint" ? `${part}` : part));
const say = (line: object): void => void process.stdout.write(`${json(line)}\n`);
const at = (level: string) => (fields: object, text: string) => say({ level, text, ...fields });
const logger: Logger = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };

const commands: string[] = [];
const machine = {
  apply: (command: Uint8Array): Uint8Array => {
    commands.push(Buffer.from(command).toString());
    return Buffer.from(String(commands.length));
  },
  capture: (): never => {
    throw new Error("nothing takes a snapshot here");
  },
  stage: (): never => {
    throw new Error("nothing is restored here");
  },
};

async function run({ node: id, peers, listen, directory, segmentBytes, init, core, diskRoom }: LogProcessOptions): Promise<void> {
  const storage = await openWal({ directory, node: id, segmentBytes });
  const node = await PaxosNode.start({ storage, machine, peers, init, core, diskRoom, logger, transport: grpcTransport({ listen }) });
  process.on("message", async ({ number, text }: Asked) => {
    const answer = text === undefined ? await all(node) : await node.propose(Buffer.from(text));
    process.send?.({ number, answer: JSON.parse(json(answer)) } satisfies Told);
  });
  for await (const { role } of node.leadership()) say({ role });
  await node.done;
}

/** What is decided by now, or why that cannot be told. */
async function all(node: PaxosNode): Promise<unknown> {
  try {
    await node.barrier();
    return commands;
  } catch (error) {
    return String(error);
  }
}

run(JSON.parse(process.argv[2] ?? "{}")).catch((fault: unknown) => {
  process.stderr.write(`${fault instanceof Error ? fault.message : fault}\n`, () => process.exit(1));
});
