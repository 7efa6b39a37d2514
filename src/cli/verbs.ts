/** The verbs that ask a server. What they print is for scripts: plain values line by line, or JSON. */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Command, Option } from "commander";
import { isErrno } from "../disk/disk.ts";
import { StatusResponse_Role } from "../gen/tsoracle/node/v1/node.ts";
import type { EpochWire } from "../gen/tsoracle/v1/tso.ts";
import { GRANT_COUNT_MAX, logicalOf, packTimestamp, physicalMsOf, timestamp } from "../oracle/rules/timestamp.ts";
import { type ConnectionFlags, withConnection, withConnectionTo } from "./connection.ts";
import { CliError, EXIT } from "./exit-codes.ts";
import { parseDuration, parseU64, parseWhole } from "./values.ts";

const LIST_PAGE = 1_000;

export function addVerbs(program: Command): void {
  addTimestamps(program);
  addSequences(program);
  addLeases(program);
  addStatus(program);
}

function addTimestamps(program: Command): void {
  withConnection(program.command("ts"))
    .description("take timestamps: strictly increasing, unique")
    .addOption(new Option("-n, --count <n>", "how many").argParser(parseWhole(1, 10_000_000)).default(1))
    .action(async (flags: ConnectionFlags & { readonly count: number }) => {
      await withConnectionTo(flags, async ({ tso, read }) => {
        const timestamps: bigint[] = [];
        let epoch: EpochWire = { hi: 0n, lo: 0n };
        while (timestamps.length < flags.count) {
          const count = Math.min(flags.count - timestamps.length, GRANT_COUNT_MAX);
          const grant = await read(tso, tso.getTs, { count });
          const first = packTimestamp({ physicalMs: Number(grant.physicalMs), logical: grant.logicalStart });
          for (let i = 0; i < grant.count; i++) timestamps.push(first + BigInt(i));
          epoch = { hi: grant.epochHi, lo: grant.epochLo };
        }
        await print(flags, { timestamps, epoch }, timestamps);
      });
    });
  program
    .command("decode")
    .description("take a timestamp apart; asks no server")
    .argument("<timestamp>", "in decimal", parseU64)
    .option("--json", "print JSON; 64-bit numbers are texts")
    .action(async (value: bigint, flags: { readonly json?: boolean }) => {
      const parts = timestamp(value);
      const physicalMs = physicalMsOf(parts);
      const time = physicalMs <= 8_640_000_000_000_000 ? new Date(physicalMs).toISOString() : undefined;
      await print(flags, { timestamp: value, physicalMs, logical: logicalOf(parts), time }, [
        `physical ms  ${physicalMs}`,
        `time         ${time ?? "beyond what a date can say"}`,
        `logical      ${logicalOf(parts)}`,
      ]);
    });
}

function addSequences(program: Command): void {
  const seq = program.command("seq").description("gapless sequences, one for each key");
  const key = ["<key>", "the sequence: 1 to 128 bytes of UTF-8"] as const;
  withConnection(seq.command("next"))
    .description("take the next block: exit code 4 says that it may be used up")
    .argument(...key)
    .addOption(new Option("-n, --count <n>", "how many values").argParser(parseWhole(1, 0xffff_ffff)).default(1))
    .action(async (name: string, flags: ConnectionFlags & { readonly count: number }) => {
      await withConnectionTo(flags, async ({ tso, change }) => {
        const block = await change(tso, tso.getSeq, { key: name, count: flags.count });
        await print(flags, { ...block }, valuesOf(block.start, block.count));
      });
    });
  withConnection(seq.command("peek"))
    .description("what the sequence gives next, without taking it")
    .argument(...key)
    .action(async (name: string, flags: ConnectionFlags) => {
      await withConnectionTo(flags, async ({ node, read }) => {
        const { sequence } = await read(node, node.peekSeq, { key: name });
        await print(flags, { ...sequence }, [sequence?.next]);
      });
    });
  withConnection(seq.command("init"))
    .description("set a sequence's first value, before its first grant")
    .argument(...key)
    .addOption(new Option("--first <n>", "the first value").argParser(parseU64).makeOptionMandatory())
    .action(async (name: string, flags: ConnectionFlags & { readonly first: bigint }) => {
      await withConnectionTo(flags, async ({ node, change }) => {
        const { sequence } = await change(node, node.initSeq, { key: name, first: flags.first });
        await print(flags, { ...sequence }, [sequence?.next]);
      });
    });
  withConnection(seq.command("list"))
    .description("all sequences: key, first value, next value")
    .addOption(new Option("--limit <n>", "at most this many").argParser(parseWhole(1, 1_000_000)))
    .option("--after <key>", "begin behind this key", "")
    .action(async (flags: ConnectionFlags & { readonly limit?: number; readonly after: string }) => {
      await withConnectionTo(flags, async ({ node, read }) => {
        const sequences: { readonly key: string; readonly first: bigint; readonly next: bigint }[] = [];
        let pageToken = flags.after;
        for (let left = flags.limit ?? Number.POSITIVE_INFINITY; left > 0; left = (flags.limit ?? Number.POSITIVE_INFINITY) - sequences.length) {
          const request = { pageSize: Math.min(left, LIST_PAGE), pageToken };
          const page = await read(node, node.listSeqs, request);
          sequences.push(...page.sequences);
          pageToken = page.nextPageToken;
          if (pageToken === "") break;
        }
        await print(
          flags,
          { sequences },
          sequences.map((each) => `${each.key}\t${each.first}\t${each.next}`),
        );
      });
    });
}

function addLeases(program: Command): void {
  const lease = program.command("lease").description("the right to stamp records up to a bound");
  const id = ["<id>", "the lease's id", parseU64] as const;
  withConnection(lease.command("acquire"))
    .description("acquire, or find held already, the lease of a holder")
    .argument("<holder>", "1 to 128 bytes")
    .addOption(new Option("--holder-epoch <n>", "a higher one takes over from a lower").argParser(parseU64).default(0n, "0"))
    .addOption(new Option("--ttl <time>", "how long it holds without renewal").argParser(parseDuration).default(10_000, "10s"))
    .action(async (holder: string, flags: ConnectionFlags & { readonly holderEpoch: bigint; readonly ttl: number }) => {
      await withConnectionTo(flags, async ({ tso, change }) => {
        const request = { holder: Buffer.from(holder), holderEpoch: flags.holderEpoch, ttlMs: BigInt(flags.ttl) };
        const granted = await change(tso, tso.acquireLease, request);
        await print(flags, { ...granted }, [
          `lease id     ${granted.leaseId}`,
          `upper bound  ${granted.tsUpperBound} ms`,
          `expires at   ${granted.expiresAtMs} ms`,
        ]);
      });
    });
  withConnection(lease.command("renew"))
    .description("give a lease its time again")
    .argument(...id)
    .action(async (leaseId: bigint, flags: ConnectionFlags) => {
      await withConnectionTo(flags, async ({ tso, change }) => {
        const renewed = await change(tso, tso.renewLease, { leaseId });
        await print(flags, { ...renewed }, [`upper bound  ${renewed.tsUpperBound} ms`, `expires at   ${renewed.expiresAtMs} ms`]);
      });
    });
  withConnection(lease.command("release"))
    .description("end a lease at once; an unknown one is no error")
    .argument(...id)
    .action(async (leaseId: bigint, flags: ConnectionFlags) => {
      await withConnectionTo(flags, async ({ tso, change }) => {
        await change(tso, tso.releaseLease, { leaseId });
        await print(flags, { released: leaseId }, [`released ${leaseId}`]);
      });
    });
}

function addStatus(program: Command): void {
  withConnection(program.command("frontier"))
    .description("the lowest bound that any live lease, or the window, is held to, in physical ms")
    .action(async (flags: ConnectionFlags) => {
      await withConnectionTo(flags, async ({ tso, read }) => {
        const { frontierPhysicalMs, epochHi, epochLo } = await read(tso, tso.getSafeFrontier, {});
        if (epochHi === 0n && epochLo === 0n) throw new CliError(EXIT.notApplied, `${flags.endpoint} does not serve now, so it knows no frontier`);
        await print(flags, { frontierPhysicalMs, epoch: { hi: epochHi, lo: epochLo } }, [frontierPhysicalMs]);
      });
    });
  withConnection(program.command("status"))
    .description("what a node says of itself")
    .action(async (flags: ConnectionFlags) => {
      await withConnectionTo(flags, async ({ node, read }) => {
        const { role, ...rest } = await read(node, node.status, {});
        const status = { endpoint: flags.endpoint, role: ROLE_NAMES[role] ?? "unknown", ...rest };
        await print(
          flags,
          status,
          Object.entries(status).map(([name, value]) => `${name.padEnd(16)} ${shown(value)}`),
        );
      });
    });
}

const ROLE_NAMES: Readonly<Record<number, string>> = {
  [StatusResponse_Role.ROLE_LEADER]: "leader",
  [StatusResponse_Role.ROLE_FOLLOWER]: "follower",
};

function* valuesOf(start: bigint, count: number): Iterable<bigint> {
  for (let i = 0; i < count; i++) yield start + BigInt(i);
}

function shown(value: unknown): string {
  if (value === undefined || value === "") return "-";
  return typeof value === "object" ? JSON.stringify(value, bigintAsText) : String(value);
}

/** Written in chunks, so that a long answer neither fills the memory nor is cut off; a reader that has seen enough (`| head`) is no error. */
async function print({ json }: { readonly json?: boolean | undefined }, value: object, lines: Iterable<unknown>): Promise<void> {
  const text = json === true ? [JSON.stringify(value, bigintAsText)] : lines;
  await pipeline(Readable.from(chunksOf(text)), process.stdout, { end: false }).catch((error: unknown) => {
    if (!isErrno(error, "EPIPE")) throw error;
  });
}

const CHUNK_LINES = 4_096;

function* chunksOf(lines: Iterable<unknown>): Iterable<string> {
  let chunk: string[] = [];
  for (const line of lines) {
    chunk.push(`${line}\n`);
    if (chunk.length < CHUNK_LINES) continue;
    yield chunk.join("");
    chunk = [];
  }
  yield chunk.join("");
}

/** JSON has no 64-bit numbers: a reader would round them. */
function bigintAsText(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
