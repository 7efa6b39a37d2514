/** The verbs that ask a server: for what it grants, the leader, through the client; for what a node says of itself, that node. */
import { type Command, Option } from "commander";
import { EPOCH_ZERO, type Epoch, epochParts } from "../base/epoch.ts";
import { type LeaseGrant, Timestamps } from "../client/index.ts";
import { StatusResponse_Role } from "../gen/tsoracle/node/v1/node.ts";
import { GRANT_COUNT_MAX, logicalOf, physicalMsOf, timestamp } from "../oracle/rules/timestamp.ts";
import { type ConnectionFlags, firstEndpoint, withClient, withConnection, withNode } from "./connection.ts";
import { print } from "./print.ts";
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
      await withClient(flags, async (client) => {
        const timestamps: bigint[] = [];
        let epoch: Epoch = EPOCH_ZERO;
        while (timestamps.length < flags.count) {
          const range = await client.getTsRange(Math.min(flags.count - timestamps.length, GRANT_COUNT_MAX));
          for (const value of valuesOf(range.first, range.count)) timestamps.push(value);
          epoch = range.epoch;
        }
        await print(flags, { timestamps, epoch: epochParts(epoch) }, timestamps);
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
      await withClient(flags, async (client) => {
        const { key, start, count, epoch } = await client.getSeq(name, flags.count);
        await print(flags, { key, start, count, epoch: epochParts(epoch) }, valuesOf(start, count));
      });
    });
  withConnection(seq.command("peek"))
    .description("what the sequence gives next, without taking it")
    .argument(...key)
    .action(async (name: string, flags: ConnectionFlags) => {
      await withNode(flags, async ({ node, read }) => {
        const { sequence } = await read(node.peekSeq, { key: name });
        await print(flags, { ...sequence }, [sequence?.next]);
      });
    });
  withConnection(seq.command("init"))
    .description("set a sequence's first value, before its first grant")
    .argument(...key)
    .addOption(new Option("--first <n>", "the first value").argParser(parseU64).makeOptionMandatory())
    .action(async (name: string, flags: ConnectionFlags & { readonly first: bigint }) => {
      await withNode(flags, async ({ node, change }) => {
        const { sequence } = await change(node.initSeq, { key: name, first: flags.first });
        await print(flags, { ...sequence }, [sequence?.next]);
      });
    });
  withConnection(seq.command("list"))
    .description("all sequences: key, first value, next value")
    .addOption(new Option("--limit <n>", "at most this many").argParser(parseWhole(1, 1_000_000)))
    .option("--after <key>", "begin behind this key", "")
    .action(async (flags: ConnectionFlags & { readonly limit?: number; readonly after: string }) => {
      await withNode(flags, async ({ node, read }) => {
        const sequences: { readonly key: string; readonly first: bigint; readonly next: bigint }[] = [];
        let pageToken = flags.after;
        for (let left = flags.limit ?? Number.POSITIVE_INFINITY; left > 0; left = (flags.limit ?? Number.POSITIVE_INFINITY) - sequences.length) {
          const request = { pageSize: Math.min(left, LIST_PAGE), pageToken };
          const page = await read(node.listSeqs, request);
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
      await withClient(flags, async (client) => {
        const granted = await client.acquireLease(holder, { holderEpoch: flags.holderEpoch, ttlMs: flags.ttl });
        await print(flags, { leaseId: granted.id, ...wireOf(granted) }, [`lease id     ${granted.id}`, ...boundsOf(granted)]);
      });
    });
  withConnection(lease.command("renew"))
    .description("give a lease its time again")
    .argument(...id)
    .action(async (leaseId: bigint, flags: ConnectionFlags) => {
      await withClient(flags, async (client) => {
        const renewed = await client.renewLease(leaseId);
        await print(flags, wireOf(renewed), boundsOf(renewed));
      });
    });
  withConnection(lease.command("release"))
    .description("end a lease at once; an unknown one is no error")
    .argument(...id)
    .action(async (leaseId: bigint, flags: ConnectionFlags) => {
      await withClient(flags, async (client) => {
        await client.releaseLease(leaseId);
        await print(flags, { released: leaseId }, [`released ${leaseId}`]);
      });
    });
}

function boundsOf({ upperBoundMs, expiresAtMs }: LeaseGrant): readonly string[] {
  return [`upper bound  ${upperBoundMs} ms`, `expires at   ${expiresAtMs} ms`];
}

/** As the wire names them, 64-bit numbers and all. */
function wireOf({ upperBoundMs, expiresAtMs, epoch }: LeaseGrant): object {
  return { tsUpperBound: BigInt(upperBoundMs), expiresAtMs: BigInt(expiresAtMs), epoch: epochParts(epoch) };
}

function addStatus(program: Command): void {
  withConnection(program.command("frontier"))
    .description("the lowest bound that any live lease, or the window, is held to, in physical ms")
    .action(async (flags: ConnectionFlags) => {
      await withClient(flags, async (client) => {
        const { physicalMs, epoch } = await client.getSafeFrontier();
        await print(flags, { frontierPhysicalMs: BigInt(physicalMs), epoch: epochParts(epoch) }, [physicalMs]);
      });
    });
  withConnection(program.command("status"))
    .description("what a node says of itself")
    .action(async (flags: ConnectionFlags) => {
      await withNode(flags, async ({ node, read }) => {
        const { role, ...rest } = await read(node.status, {});
        const status = { endpoint: firstEndpoint(flags), role: ROLE_NAMES[role] ?? "unknown", ...rest };
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
  return typeof value === "object" ? JSON.stringify(value, Timestamps.bigintsAsText) : String(value);
}
