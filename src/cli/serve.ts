import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { createSecureContext } from "node:tls";
import { type Command, Option } from "commander";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { ConsensusDriver } from "../oracle/driver.ts";
import { fileDriver, initFileDirectory } from "../oracle/drivers/file.ts";
import { DEFAULT_LIMITS, LIMIT_RANGES, type OracleLimits } from "../oracle/rules/limits.ts";
import { PHYSICAL_MS_MAX } from "../oracle/rules/timestamp.ts";
import { OracleServer, type TlsOptions } from "../server/server.ts";
import { applyConfigFile, option, readSwitches } from "./config.ts";
import { EXIT, usageError } from "./exit-codes.ts";
import { createLogger, LOG_LEVELS } from "./logger.ts";
import { parseAddress, parseDurationBetween, parseWait, parseWhole } from "./values.ts";

const STATE_DIR = "./tsoracle-data";
/** The default of --max-clock-jump. */
const CLOCK_JUMP_MS = 86_400_000;
const METRICS_LISTEN = "127.0.0.1:9551";

interface ServeFlags {
  readonly config?: string;
  readonly listen: string;
  readonly windowAhead: number;
  readonly failoverAdvance: number;
  readonly maxClockJump: number;
  readonly acceptClockJump?: boolean;
  readonly leaseTtlFloor: number;
  readonly leaseTtlCeiling: number;
  readonly maxSeqKeys: number;
  readonly maxSeqCount: number;
  readonly maxSeqBatchKeys: number;
  readonly maxLeases: number;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsClientCa?: string;
  readonly heartbeatInterval: number;
  readonly shutdownGrace: number;
  readonly log: (typeof LOG_LEVELS)[number];
  readonly metrics: boolean;
  readonly metricsListen: string;
}

interface ServeFileFlags extends ServeFlags {
  readonly stateDir: string;
  readonly requireData?: boolean;
}

export function addServe(program: Command): void {
  const serve = program.command("serve", { isDefault: true }).description("serve timestamps, sequences and leases (bare `tsoracle` is `serve file`)");
  const file = serve
    .command("file", { isDefault: true })
    .description("a single node, its state in a directory")
    .addOption(option("--state-dir <dir>", "where the state is; made if it is missing").default(STATE_DIR))
    .addOption(option("--require-data", "refuse to begin at zero where the directory holds no data"));
  withServeOptions(file).action(async (_: unknown, command: Command) => serveFile(command));
}

export function addInit(program: Command): void {
  program
    .command("init")
    .description("make a state directory whose timestamps begin above a given millisecond")
    .addOption(option("--state-dir <dir>", "the directory to make").default(STATE_DIR))
    .addOption(
      new Option("--seed-physical-ms <ms>", "every timestamp will be above this, ms since 1970").argParser(parseWhole(0, PHYSICAL_MS_MAX)).default(0),
    )
    .action(async ({ stateDir, seedPhysicalMs }: { readonly stateDir: string; readonly seedPhysicalMs: number }) => {
      await initFileDirectory({ directory: stateDir, seedPhysicalMs });
      process.stdout.write(`made ${stateDir}: timestamps begin above physical ms ${seedPhysicalMs}\n`);
      if (seedPhysicalMs > 0 && Date.now() > seedPhysicalMs + CLOCK_JUMP_MS) {
        process.stderr.write(
          `note: that is long before ${new Date().toISOString()}, this machine's clock: if the clock is right, start with --accept-clock-jump\n`,
        );
      }
    });
}

/** The options of every way to serve. */
function withServeOptions(command: Command): Command {
  const duration = (flags: string, description: string, standard: number, shown: string, parse: (text: string) => number) =>
    option(flags, description).argParser(parse).default(standard, shown);
  const limit = (flags: string, description: string, name: keyof OracleLimits) =>
    option(flags, `${description}; fixed by the first start`)
      .argParser(parseWhole(LIMIT_RANGES[name].from, LIMIT_RANGES[name].through))
      .default(DEFAULT_LIMITS[name]);
  return command
    .addOption(option("--config <file>", "a JSON object of these options, by their names without dashes in front"))
    .addOption(option("--listen <host:port>", "where to serve; port 0 lets the system choose").argParser(parseAddress).default("127.0.0.1:50551"))
    .addOption(
      duration("--window-ahead <time>", "how far the durable window reaches beyond the clock", 3_000, "3s", parseDurationBetween("1ms", "1h")),
    )
    .addOption(duration("--failover-advance <time>", "how far the first window of a reign reaches", 1_000, "1s", parseDurationBetween("1ms", "1h")))
    .addOption(
      duration(
        "--max-clock-jump <time>",
        "a clock further beyond the durable high water is refused",
        CLOCK_JUMP_MS,
        "1d",
        parseDurationBetween("1s", "36500d"),
      ),
    )
    .addOption(new Option("--accept-clock-jump", "accept any clock, once: at this start"))
    .addOption(duration("--lease-ttl-floor <time>", "the shortest lease", 5_000, "5s", parseDurationBetween("1ms", "365d")))
    .addOption(duration("--lease-ttl-ceiling <time>", "the longest lease", 300_000, "300s", parseDurationBetween("1ms", "365d")))
    .addOption(limit("--max-seq-keys <n>", "sequences that may exist", "maxKeys"))
    .addOption(limit("--max-seq-count <n>", "values in one block", "maxCount"))
    .addOption(limit("--max-seq-batch-keys <n>", "sequences in one batch", "maxBatchKeys"))
    .addOption(limit("--max-leases <n>", "leases at a time", "maxLeases"))
    .addOption(option("--tls-cert <file>", "PEM certificate of this server"))
    .addOption(option("--tls-key <file>", "PEM key of that certificate"))
    .addOption(option("--tls-client-ca <file>", "PEM authority that must have signed every client's certificate"))
    .addOption(duration("--heartbeat-interval <time>", "between two heartbeat lines in the log; 0s for none", 10_000, "10s", parseWait))
    .addOption(duration("--shutdown-grace <time>", "how long calls in flight may take to end", 10_000, "10s", parseWait))
    .addOption(option("--log <level>", "what to log, to stderr").choices(LOG_LEVELS).default("info"))
    .addOption(option("--metrics-listen <host:port>", "where metrics will be served; not yet").argParser(parseAddress).default(METRICS_LISTEN))
    .addOption(new Option("--no-metrics", "serve no metrics"));
}

async function serveFile(command: Command): Promise<void> {
  readSwitches(command);
  const config = command.opts<ServeFileFlags>().config;
  if (config !== undefined) await applyConfigFile(command, config);
  const flags = command.opts<ServeFileFlags>();
  await serve(flags, (logger) => fileDriver({ directory: flags.stateDir, create: flags.requireData !== true, logger }));
}

/** Serves until a signal or a failure. A failure is thrown, after everything is closed. */
async function serve(flags: ServeFlags, openDriver: (logger: Logger) => Promise<ConsensusDriver>): Promise<void> {
  if (flags.metrics && flags.metricsListen !== METRICS_LISTEN) {
    throw usageError(
      `--metrics-listen ${flags.metricsListen}: this release serves no metrics yet, so only the default ${METRICS_LISTEN} is accepted`,
    );
  }
  if (flags.leaseTtlFloor > flags.leaseTtlCeiling) throw usageError("--lease-ttl-floor must not exceed --lease-ttl-ceiling");
  const tls = await readTls(flags);
  const logger = createLogger(flags.log);
  const driver = await openDriver(logger);
  try {
    const server = await OracleServer.start({
      driver,
      listen: flags.listen,
      tls,
      windowAheadMs: flags.windowAhead,
      failoverAdvanceMs: flags.failoverAdvance,
      maxClockJumpMs: flags.maxClockJump,
      acceptClockJump: flags.acceptClockJump,
      leaseTtlFloorMs: flags.leaseTtlFloor,
      leaseTtlCeilingMs: flags.leaseTtlCeiling,
      limits: {
        maxKeys: flags.maxSeqKeys,
        maxCount: flags.maxSeqCount,
        maxBatchKeys: flags.maxSeqBatchKeys,
        maxLeases: flags.maxLeases,
      },
      heartbeatMs: flags.heartbeatInterval,
      logger,
    });
    await runUntilEnd(server, { graceMs: flags.shutdownGrace, logger });
  } finally {
    await closeWithin(driver, flags.shutdownGrace, logger);
  }
}

/** A driver waits for its disk, and a disk can hang. The grace is for calls; closing needs some time of its own. */
async function closeWithin(driver: ConsensusDriver, graceMs: number, logger: Logger): Promise<void> {
  const late = Symbol("late");
  const ended = await Promise.race([driver.close(), delay(Math.max(graceMs, 5_000), late, { ref: false })]);
  if (ended !== late) return;
  logger.error({ graceMs }, "the driver did not close in time: leaving it as a crash would");
  process.exit(EXIT.failed);
}

async function runUntilEnd(server: OracleServer, { graceMs, logger }: { readonly graceMs: number; readonly logger: Logger }): Promise<void> {
  const close = (signal: NodeJS.Signals): void => {
    logger.info({ signal, graceMs }, "closing: a second signal ends this at once");
    for (const each of SIGNALS) process.once(each, () => process.exit(128 + SIGNAL_NUMBERS[each]));
    void server.close({ graceMs });
  };
  for (const each of SIGNALS) process.once(each, close);
  process.stdout.on("error", () => undefined); // nobody reads it any more: no reason to stop serving
  try {
    for await (const state of server.states()) {
      if (state.type !== "serving") continue;
      process.stdout.write(`serving on ${server.address}\n`);
      break;
    }
    await server.done;
  } finally {
    for (const each of SIGNALS) process.off(each, close);
    await server.close({ graceMs });
  }
}

const SIGNALS = ["SIGINT", "SIGTERM"] as const;
const SIGNAL_NUMBERS = { SIGINT: 2, SIGTERM: 15 } as const;

async function readTls({ tlsCert, tlsKey, tlsClientCa }: ServeFlags): Promise<TlsOptions | undefined> {
  if (tlsCert === undefined && tlsKey === undefined) {
    if (tlsClientCa !== undefined) throw usageError("--tls-client-ca needs --tls-cert and --tls-key");
    return undefined;
  }
  if (tlsCert === undefined || tlsKey === undefined) throw usageError("--tls-cert and --tls-key go together");
  const [cert, key, clientCa] = await Promise.all([
    readPem("--tls-cert", tlsCert),
    readPem("--tls-key", tlsKey),
    tlsClientCa === undefined ? undefined : readPem("--tls-client-ca", tlsClientCa),
  ]);
  checkPair(`--tls-cert ${tlsCert}, --tls-key ${tlsKey}`, { cert, key });
  return { cert, key, clientCa };
}

/** @throws CliError that names the files of a certificate and a key that cannot be used together. */
export function checkPair(files: string, { cert, key }: { readonly cert: Buffer; readonly key: Buffer }): void {
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw usageError(`TSO_INVALID_OPTION: ${files}: ${messageOf(error)}`);
  }
}

export async function readPem(flag: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw usageError(`${flag} ${path}: ${messageOf(error)}`);
  }
}
