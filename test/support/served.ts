/** A server on loopback over a driver that the test writes, with a clock that stands still until it is moved. */
import { type MemoryDriver, type MemoryDriverOptions, memoryDriver } from "../../src/oracle/drivers/memory.ts";
import { type ListenOptions, OracleServer } from "../../src/server/index.ts";
import type { OracleServerOptions } from "../../src/server/options.ts";
import { decode, type Fields, isFields, RawClient, type Reply, type Value } from "./raw-client.ts";

/** A moment of no importance. */
export const START_MS = 1_700_000_000_000;

export interface ServedOptions extends Partial<OracleServerOptions & ListenOptions> {
  readonly memory?: MemoryDriverOptions | undefined;
  readonly startMs?: number | undefined;
}

export interface Served {
  readonly driver: MemoryDriver;
  readonly server: OracleServer;
  readonly client: RawClient;
  readonly clock: { now: number };
  /** A connection of its own. */
  connect(): RawClient;
  /** Ends calls at once. */
  close(): Promise<void>;
}

/** Serves, unless `memory.leads` is false. */
export async function serve({ memory, startMs = START_MS, ...options }: ServedOptions = {}): Promise<Served> {
  const clock = { now: startMs };
  const driver = memoryDriver(memory);
  const server = await OracleServer.start({ driver, listen: "127.0.0.1:0", clock: () => clock.now, heartbeatMs: 0, ...options });
  const clients: RawClient[] = [];
  const connect = (): RawClient => {
    const client = new RawClient(addressOf(server));
    clients.push(client);
    return client;
  };
  if (memory?.leads !== false) await serves(server);
  return {
    driver,
    server,
    client: connect(),
    clock,
    connect,
    close: async () => {
      for (const client of clients) client.close();
      await server.close({ graceMs: 0 });
      await driver.close();
    },
  };
}

export function addressOf(server: OracleServer): string {
  if (server.address === undefined) throw new Error("the server does not listen");
  return server.address;
}

export async function serves(server: OracleServer): Promise<void> {
  for await (const state of server.states()) if (state.type === "serving") return;
  throw new Error("the server ended");
}

export async function servesNot(server: OracleServer): Promise<void> {
  for await (const state of server.states()) if (state.type === "not-serving") return;
}

/** What a client can tell of a failure: "absent" is no trailer at all, `{}` one of no bytes. */
export interface Failed {
  readonly code: number;
  readonly message: string;
  readonly hint: "absent" | Hint;
}

export interface Hint {
  readonly endpoint?: string;
  readonly epoch?: bigint;
}

export function failureOf({ code, message, hint }: Reply): Failed {
  return { code, message, hint: hint === undefined ? "absent" : readHint(hint) };
}

/** The trailer of a refusal. */
export function readHint(bytes: Uint8Array): Hint {
  const { leader_endpoint, leader_epoch } = decode("LeaderHint", bytes);
  return {
    ...(typeof leader_endpoint === "string" ? { endpoint: leader_endpoint } : {}),
    ...(leader_epoch === undefined ? {} : { epoch: epochOf(leader_epoch) }),
  };
}

/** An epoch from its message. */
export function epochOf(message: Value): bigint {
  if (!isFields(message)) throw new Error(`${typeof message} where an epoch should be`);
  return (big(message["hi"]) << 64n) | big(message["lo"]);
}

/** The fields of a reply that must be a success. */
export function granted({ code, message, response }: Reply): Fields {
  if (code !== 0 || response === undefined) throw new Error(`answered with ${code}: ${message}`);
  return response;
}

export function big(value: Value): bigint {
  if (typeof value !== "bigint") throw new Error(`${typeof value} where a 64-bit number should be`);
  return value;
}

export function small(value: Value): number {
  if (typeof value !== "number") throw new Error(`${typeof value} where a 32-bit number should be`);
  return value;
}

/** The next timestamp, packed. */
export async function nextTimestamp(client: RawClient): Promise<bigint> {
  const { physical_ms, logical_start } = granted(await client.call("GetTs", { count: 1 }));
  return packed(Number(big(physical_ms)), small(logical_start));
}

export function packed(physicalMs: number, logical = 0): bigint {
  return (BigInt(physicalMs) << 18n) + BigInt(logical);
}

/** The next value of the sequence `key`. */
export async function nextOf(client: RawClient, key: string): Promise<bigint> {
  return big(granted(await client.call("GetSeq", { key, count: 1 }))["start"]);
}
