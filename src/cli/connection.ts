import { type CallOptions, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import type { Command } from "commander";
import { OracleError } from "../base/errors.ts";
import { LEADER_HINT_TRAILER } from "../base/leader-hint.ts";
import { type ClientOptions, OracleClient } from "../client/index.ts";
import { NodeServiceClient } from "../gen/tsoracle/node/v1/node.ts";
import { LeaderHint } from "../gen/tsoracle/v1/tso.ts";
import { option } from "./config.ts";
import { CliError, EXIT, type ExitCode, exitCodeOfCall, exitCodeOfStatus } from "./exit-codes.ts";
import { checkPair, readPem } from "./serve.ts";
import { parseAddress, parseDurationBetween } from "./values.ts";

export interface ConnectionFlags {
  readonly endpoint: readonly string[];
  readonly timeout: number;
  readonly clientTlsCa?: string;
  readonly clientTlsCert?: string;
  readonly clientTlsKey?: string;
  readonly json?: boolean;
}

const DEFAULT_ENDPOINTS: readonly string[] = ["127.0.0.1:50551"];

/** The options of every verb that talks to a server. */
export function withConnection(command: Command): Command {
  return command
    .addOption(
      option("--endpoint <host:port>", "a node, or several of one cluster: again, or with commas")
        .argParser(parseEndpoints)
        .default(DEFAULT_ENDPOINTS, DEFAULT_ENDPOINTS.join(",")),
    )
    .addOption(option("--timeout <time>", "how long a call may take").argParser(parseDurationBetween("1ms", "1h")).default(5_000, "5s"))
    .addOption(option("--client-tls-ca <file>", "PEM authority of the server's certificate: turns TLS on"))
    .addOption(option("--client-tls-cert <file>", "PEM certificate of this client"))
    .addOption(option("--client-tls-key <file>", "PEM key of that certificate"))
    .option("--json", "print JSON; 64-bit numbers are texts");
}

function parseEndpoints(text: string, before: readonly string[] | undefined): readonly string[] {
  const added = text.split(",").map(parseAddress);
  return before === undefined || before === DEFAULT_ENDPOINTS ? added : [...before, ...added];
}

/** The node that is asked where it is about that one node. */
export function firstEndpoint({ endpoint: [first = ""] }: ConnectionFlags): string {
  return first;
}

/** Asks the leader, wherever it is. @throws CliError with the exit code for the client's error. */
export async function withClient<T>(
  flags: ConnectionFlags,
  use: (client: OracleClient) => Promise<T>,
  options: Pick<ClientOptions, "callsMax"> = {},
): Promise<T> {
  const { endpoint, timeout } = flags;
  const tls = await tlsOf(flags);
  const client = OracleClient.connect(endpoint, { deadlineMs: timeout, tls, ...options });
  try {
    return await use(client);
  } catch (error) {
    throw error instanceof OracleError ? failureOfCall(error, endpoint) : error;
  } finally {
    await client.close();
  }
}

function failureOfCall(error: OracleError, endpoints: readonly string[]): CliError {
  const exitCode = exitCodeOfCall(error);
  const named = endpoints.some((endpoint) => error.message.includes(endpoint.toLowerCase())) ? "" : ` (endpoint ${endpoints.join(", ")})`;
  return new CliError(exitCode, `${error.message}${named}${doubtOf(exitCode)}`);
}

/** A method of the generated client, in the form that takes options. */
type Method<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  done: (error: ServiceError | null, response: Response) => void,
) => unknown;

interface NodeConnection {
  readonly node: NodeServiceClient;
  /** Asks for something that changes nothing that lasts. @throws CliError with the exit code for the status that came back. */
  read<Request, Response>(method: Method<Request, Response>, request: Request): Promise<Response>;
  /** Asks for something that lasts: after some failures it may have happened all the same, and the exit code says so. */
  change<Request, Response>(method: Method<Request, Response>, request: Request): Promise<Response>;
}

/** Asks the first node of the flags. Connects first and asks then, so that a node that cannot be reached is never an outcome that is unknown. */
export async function withNode<T>(flags: ConnectionFlags, use: (connection: NodeConnection) => Promise<T>): Promise<T> {
  const endpoint = firstEndpoint(flags);
  const deadline = Date.now() + flags.timeout;
  const tls = await tlsOf(flags);
  const node = new NodeServiceClient(
    endpoint,
    tls === undefined ? credentials.createInsecure() : credentials.createSsl(tls.ca ?? null, tls.key ?? null, tls.cert ?? null),
  );
  try {
    await ready(node, endpoint, deadline);
    const call =
      (changes: boolean) =>
      <Request, Response>(method: Method<Request, Response>, request: Request) =>
        new Promise<Response>((resolve, reject) => {
          method.call(node, request, new Metadata(), { deadline }, (error, response) => {
            if (error === null) resolve(response);
            else reject(failureOfStatus(error, endpoint, changes));
          });
        });
    return await use({ node, read: call(false), change: call(true) });
  } finally {
    node.close();
  }
}

interface TlsFiles {
  readonly ca: Buffer | undefined;
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
}

async function tlsOf({ clientTlsCa, clientTlsCert, clientTlsKey }: ConnectionFlags): Promise<TlsFiles | undefined> {
  if (clientTlsCa === undefined && clientTlsCert === undefined && clientTlsKey === undefined) return undefined;
  if ((clientTlsCert === undefined) !== (clientTlsKey === undefined)) {
    throw new OracleError("TSO_INVALID_OPTION", "--client-tls-cert and --client-tls-key go together");
  }
  const read = async (flag: string, path: string | undefined) => (path === undefined ? undefined : await readPem(flag, path));
  const [ca, key, cert] = await Promise.all([
    read("--client-tls-ca", clientTlsCa),
    read("--client-tls-key", clientTlsKey),
    read("--client-tls-cert", clientTlsCert),
  ]);
  if (key !== undefined && cert !== undefined) checkPair(`--client-tls-cert ${clientTlsCert}, --client-tls-key ${clientTlsKey}`, { cert, key });
  process.noDeprecation = true; // grpc-js names an address as the server it goes to, and Node would warn whoever runs a verb of it
  return { ca, cert, key };
}

function ready(node: NodeServiceClient, endpoint: string, deadline: number): Promise<void> {
  return new Promise((resolve, reject) => {
    node.waitForReady(deadline, (error) => {
      if (error === undefined) resolve();
      else reject(new CliError(EXIT.notApplied, `no connection to ${endpoint}: is a server there? Nothing was asked for`));
    });
  });
}

function failureOfStatus(error: ServiceError, endpoint: string, changes: boolean): CliError {
  // Without any header it is not the node's own status but one that grpc-js made, perhaps after the node had done what was asked.
  const isOwn = Object.keys(error.metadata.getMap()).length === 0;
  const exitCode = changes && isOwn ? EXIT.unknown : exitCodeOfStatus(error.code, changes);
  return new CliError(exitCode, `${endpoint}: ${error.details} (${status[error.code]})${leaderOf(error)}${doubtOf(exitCode)}`);
}

function doubtOf(exitCode: ExitCode): string {
  return exitCode === EXIT.unknown ? ": it may have happened, or may still" : "";
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
