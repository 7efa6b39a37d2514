/** What a node is made of. */
import { randomInt } from "node:crypto";
import { kindOf } from "../base/bytes.ts";
import { OracleError } from "../base/errors.ts";
import { type Logger, silentLogger } from "../base/logger.ts";
import { createPrng, type Prng } from "../base/prng.ts";
import type { StateMachine } from "../log.ts";
import { type PeerList, resolvePeerList } from "./core/forming-list.ts";
import type { ListedNode } from "./core/forming-messages.ts";
import { type CoreOptions, resolveCoreOptions } from "./core/options.ts";
import { type DiskRoomLimits, type DiskRoomOptions, resolveDiskRoom } from "./disk-room.ts";
import type { LogStorage } from "./storage/log-storage.ts";
import type { OpenTransport } from "./transport/transport.ts";
import { type PeerTimers, realTimers } from "./transport/wire.ts";

export interface PaxosNodeOptions {
  /** Opened by the caller, closed by the node. It says which node this is. */
  readonly storage: LogStorage;
  /** Opened, and closed, by the node: `grpcTransport(...)`, or one of a `MemoryNetwork`. */
  readonly transport: OpenTransport;
  /** Empty. The node makes it what its newest snapshot says, if there is one, and applies the log to it from there on. */
  readonly machine: StateMachine;
  /** The nodes that form the cluster, this one included; the same list on each of them. Once the cluster is formed its own membership counts, and not this list. */
  readonly peers: PeerList;
  /** A list of this node alone may form a cluster. @defaultValue false: a disk that is missing must not become an empty cluster */
  readonly init?: boolean | undefined;
  /** Of the protocol, most of them in ticks. */
  readonly core?: { readonly [Name in keyof CoreOptions]?: number | undefined } | undefined;
  /** When the disk counts as nearly full, and as full. */
  readonly diskRoom?: DiskRoomOptions | undefined;
  readonly logger?: Logger | undefined;
  /** Where a broken invariant leaves the inputs that led to it, for `npm run sim -- --replay FILE`. @defaultValue nowhere */
  readonly dumpDirectory?: string | undefined;
  /** @defaultValue the system's */
  readonly timers?: PeerTimers | undefined;
  /** Decides only when this node campaigns. @defaultValue seeded by the system */
  readonly random?: Prng | undefined;
}

export interface ResolvedNodeOptions {
  readonly storage: LogStorage;
  readonly transport: OpenTransport;
  readonly machine: StateMachine;
  /** As it was given, in order of the ids. */
  readonly peers: readonly ListedNode[];
  readonly init: boolean | undefined;
  readonly core: CoreOptions;
  readonly logger: Logger;
  readonly timers: PeerTimers;
  readonly random: Prng;
  readonly dumpDirectory: string | undefined;
  readonly diskRoom: DiskRoomLimits;
}

/** Every name there is. */
const NAMES: Readonly<Record<keyof PaxosNodeOptions, true>> = {
  ...{ storage: true, transport: true, machine: true, peers: true, init: true, core: true, diskRoom: true, logger: true },
  ...{ dumpDirectory: true, timers: true, random: true },
};

/** Fills defaults. @throws OracleError TSO_INVALID_OPTION, naming the option, its value and what it must be */
export function resolveNodeOptions(options: PaxosNodeOptions): ResolvedNodeOptions {
  const { storage, transport, machine, init, dumpDirectory, logger = silentLogger, timers = realTimers, random } = options;
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(NAMES, name));
  if (unknown !== undefined) throw invalid(`${unknown} is no option of a node: there are ${Object.keys(NAMES).join(", ")}`);
  mustHave(
    "storage",
    storage,
    ["write", "read", "found", "recovered", "freeBytes", "close"],
    "an open LogStorage: await openWal({ directory, node })",
  );
  if (typeof transport !== "function") throw invalid(`transport is ${kindOf(transport)}, and must be a function: grpcTransport({ listen })`);
  mustHave("machine", machine, ["apply", "capture", "stage"], "a StateMachine");
  mustHave("logger", logger, ["debug", "info", "warn", "error"], "a Logger");
  return {
    ...{ storage, transport, machine, init, dumpDirectory, logger, timers },
    peers: resolvePeerList(options.peers, storage.node),
    core: resolveCoreOptions(options.core),
    diskRoom: resolveDiskRoom(options.diskRoom, storage.reserveBytes),
    random: random ?? createPrng(randomInt(2 ** 32)),
  };
}

function mustHave(name: string, value: unknown, methods: readonly string[], what: string): void {
  const missing = methods.find((method) => typeof Reflect.get(Object(value), method) !== "function");
  if (missing !== undefined) throw invalid(`${name} is ${kindOf(value)} without ${missing}(), and must be ${what}`);
}

function invalid(why: string): OracleError {
  return new OracleError("TSO_INVALID_OPTION", why);
}
