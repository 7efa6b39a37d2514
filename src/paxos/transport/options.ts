import { OracleError } from "../../base/errors.ts";
import { wholeOption } from "../../base/options.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

const DEFAULTS = {
  /** From the first attempt to reach an address until the welcome of who is there, ms; and how long a listener waits for the hello. */
  connectTimeoutMs: 2_000,
  /** Pause after the first failed attempt, ms; it doubles with each further one, and each is drawn from half of it to one and a half. Attempts are never closer. */
  reconnectMinMs: 20,
  /** That pause at most, ms: a peer that comes back is found within about that. */
  reconnectMaxMs: 1_000,
  /** After a connection was lost without a word: how long the process may take to come back before it counts as gone, ms (rule E6). */
  probeMs: 50,
  /** What was said on the control lane and not heard for this long, ms: the connection is given up. Raises nothing. */
  silenceMs: 3_000,
  /** Between two pings of an idle connection, ms. */
  keepaliveMs: 10_000,
  /** How long the answer to a ping may take, ms. Longer than a long pause of a process. */
  keepaliveTimeoutMs: 10_000,
  /** Bytes that wait to leave on one lane to one peer. One message always fits, however long. */
  controlBytesMax: 4 * MIB,
  bulkBytesMax: 64 * MIB,
  transferBytesMax: 64 * MIB,
  /** At this many bytes the bulk lane is blocked, and at that few it is free again (rule F2). */
  bulkBlockedBytes: 8 * MIB,
  bulkFreeBytes: 2 * MIB,
  /** Messages that wait to leave on one lane to one peer. Bulk is blocked at half of it. */
  laneMessagesMax: 8_192,
} as const;

export type PeerTransportSettings = { readonly [Name in keyof typeof DEFAULTS]: number };
export type PeerTransportOptions = { readonly [Name in keyof PeerTransportSettings]?: number | undefined };

const HOUR_MS = 3_600_000;
const GIB = 1024 * MIB;

/** Fills defaults and checks how values relate. @throws OracleError TSO_INVALID_OPTION, naming the option, its value and the limit */
export function resolvePeerTransportOptions(options: PeerTransportOptions = {}): PeerTransportSettings {
  const resolved: Record<keyof PeerTransportSettings, number> = { ...DEFAULTS };
  for (const [name, value] of Object.entries(options)) {
    if (!isName(name))
      throw new OracleError("TSO_INVALID_OPTION", `${name} is no option of a peer transport: there are ${Object.keys(DEFAULTS).join(", ")}`);
    if (value !== undefined) resolved[name] = value;
  }
  const check = (name: keyof PeerTransportSettings, from: number, through: number): void => {
    wholeOption(name, resolved[name], { from, through });
  };
  for (const name of ["connectTimeoutMs", "reconnectMinMs", "reconnectMaxMs", "probeMs", "silenceMs", "keepaliveMs", "keepaliveTimeoutMs"] as const) {
    check(name, 1, HOUR_MS);
  }
  for (const name of ["controlBytesMax", "bulkBytesMax", "transferBytesMax"] as const) check(name, 1, GIB);
  check("laneMessagesMax", 2, 1_048_576);
  check("reconnectMaxMs", resolved.reconnectMinMs, HOUR_MS);
  // Lower, and every reign's first entries would be dropped instead of held back.
  check("bulkBlockedBytes", 1, resolved.bulkBytesMax);
  check("bulkFreeBytes", 0, resolved.bulkBlockedBytes - 1);
  return resolved;
}

function isName(name: string): name is keyof PeerTransportSettings {
  return Object.hasOwn(DEFAULTS, name);
}
