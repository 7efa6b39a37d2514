import { type CallOptions, type Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import type { Command } from "commander";
import { OracleError } from "../base/errors.ts";
import { NodeServiceClient } from "../gen/tsoracle/node/v1/node.ts";
import { LeaderHint, TsoServiceClient } from "../gen/tsoracle/v1/tso.ts";
import { LEADER_HINT_TRAILER } from "../base/leader-hint.ts";
import { option } from "./config.ts";
import { CliError, EXIT, exitCodeOfStatus } from "./exit-codes.ts";
import { checkPair, readPem } from "./serve.ts";
import { parseAddress, parseWait } from "./values.ts";

export interface ConnectionFlags {
  readonly endpoint: string;
  readonly timeout: number;
  readonly clientTlsCa?: string;
  readonly clientTlsCert?: string;
  readonly clientTlsKey?: string;
  readonly json?: boolean;
}

/** The options of every verb that talks to a server. */
export function withConnection(command: Command): Command {
  return command
    .addOption(option("--endpoint <host:port>", "the server").argParser(parseAddress).default("127.0.0.1:50551"))
    .addOption(option("--timeout <time>", "how long it may take").argParser(parseWait).default(5_000, "5s"))
    .addOption(option("--client-tls-ca <file>", "PEM authority of the server's certificate: turns TLS on"))
    .addOption(option("--client-tls-cert <file>", "PEM certificate of this client"))
    .addOption(option("--client-tls-key <file>", "PEM key of that certificate"))
    .option("--json", "print JSON; 64-bit numbers are texts");
}

/** A method of a generated client, in the form that takes options. */
type Method<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  done: (error: ServiceError | null, response: Response) => void,
) => unknown;

export interface Connection {
  readonly tso: TsoServiceClient;
  readonly node: NodeServiceClient;
  /** Asks for something that changes nothing that lasts. @throws CliError with the exit code for the status that came back. */
  read<Request, Response>(client: Client, method: Method<Request, Response>, request: Request): Promise<Response>;
  /** Asks for something that lasts: after some failures it may have happened all the same, and the exit code says so. */
  change<Request, Response>(client: Client, method: Method<Request, Response>, request: Request): Promise<Response>;
}

/** Connects first and asks then, so that a server that cannot be reached is never an outcome that is unknown. */
export async function withConnectionTo<T>(flags: ConnectionFlags, use: (connection: Connection) => Promise<T>): Promise<T> {
  const { endpoint } = flags;
  const deadline = Date.now() + flags.timeout;
  const security = await securityOf(flags);
  const tso = new TsoServiceClient(endpoint, security);
  const node = new NodeServiceClient(endpoint, security);
  try {
    await ready(tso, endpoint, deadline);
    const call =
      (changes: boolean) =>
      <Request, Response>(client: Client, method: Method<Request, Response>, request: Request) =>
        new Promise<Response>((resolve, reject) => {
          method.call(client, request, new Metadata(), { deadline }, (error, response) => {
            if (error === null) resolve(response);
            else reject(failureOf(error, endpoint, changes));
          });
        });
    return await use({ tso, node, read: call(false), change: call(true) });
  } finally {
    tso.close();
    node.close();
  }
}

async function securityOf({ clientTlsCa, clientTlsCert, clientTlsKey }: ConnectionFlags) {
  if (clientTlsCa === undefined && clientTlsCert === undefined && clientTlsKey === undefined) return credentials.createInsecure();
  if ((clientTlsCert === undefined) !== (clientTlsKey === undefined)) {
    throw new OracleError("TSO_INVALID_OPTION", "--client-tls-cert and --client-tls-key go together");
  }
  const read = async (flag: string, path: string | undefined) => (path === undefined ? null : await readPem(flag, path));
  const [ca, key, cert] = await Promise.all([
    read("--client-tls-ca", clientTlsCa),
    read("--client-tls-key", clientTlsKey),
    read("--client-tls-cert", clientTlsCert),
  ]);
  if (key !== null && cert !== null) checkPair(`--client-tls-cert ${clientTlsCert}, --client-tls-key ${clientTlsKey}`, { cert, key });
  process.noDeprecation = true; // grpc-js names an address as the server it goes to, and Node would warn whoever runs a verb of it
  return credentials.createSsl(ca, key, cert);
}

function ready(client: Client, endpoint: string, deadline: number): Promise<void> {
  return new Promise((resolve, reject) => {
    client.waitForReady(deadline, (error) => {
      if (error === undefined) resolve();
      else reject(new CliError(EXIT.notApplied, `no connection to ${endpoint}: is a server there? Nothing was asked for`));
    });
  });
}

function failureOf(error: ServiceError, endpoint: string, changes: boolean): CliError {
  const exitCode = exitCodeOfStatus(error.code, changes);
  const outcome = exitCode === EXIT.unknown ? ": it may have happened, or may still" : "";
  return new CliError(exitCode, `${endpoint}: ${error.details} (${status[error.code]})${leaderOf(error)}${outcome}`);
}

function leaderOf(error: ServiceError): string {
  const [hint] = error.metadata.get(LEADER_HINT_TRAILER);
  if (!(hint instanceof Buffer)) return "";
  let leaderEndpoint: string | undefined;
  try {
    ({ leaderEndpoint } = LeaderHint.decode(hint));
  } catch {
    return ", and its hint cannot be read"; // not protobuf: some other server's
  }
  return leaderEndpoint === undefined ? ", and no leader is known" : `, the leader is ${leaderEndpoint}`;
}
