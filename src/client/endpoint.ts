import { OracleError } from "../base/errors.ts";

/** Where a node listens, `host:port` in lower case, without a scheme. Two texts that are equal are one endpoint. */
export type Endpoint = string;

export interface ParsedEndpoint {
  readonly endpoint: Endpoint;
  /** As it was given: what says whether the connection is to be encrypted. */
  readonly scheme: "http" | "https" | undefined;
}

const TEXT_MAX = 300; // a name of DNS has at most 253 characters
const FORM = /^(?:(https?):\/\/)?((?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\.?)|\[[0-9a-f:.]+\]):(\d{1,5})$/;

/** Reads `host:port`, `[ipv6]:port`, or either behind `http://` or `https://`. Nothing else is an endpoint: no path, no user, no other scheme. */
export function parseEndpoint(text: string): ParsedEndpoint | undefined {
  if (text.length > TEXT_MAX) return undefined;
  const [, scheme, host, port] = FORM.exec(text.toLowerCase()) ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) return undefined;
  return { endpoint: `${host}:${Number(port)}`, scheme: scheme === "http" || scheme === "https" ? scheme : undefined };
}

/** Those a client starts from, each once. @throws OracleError TSO_INVALID_OPTION, naming the one that is none, or how the schemes do not fit. */
export function resolveEndpoints(texts: readonly string[], tls: boolean): { readonly endpoints: readonly Endpoint[]; readonly secure: boolean } {
  if (texts.length === 0 || texts.length > ENDPOINTS_MAX) throw refused(`endpoints must be 1 to ${ENDPOINTS_MAX}, not ${texts.length}`);
  const parsed = texts.map((text) => {
    const endpoint = parseEndpoint(text);
    if (endpoint === undefined) throw refused(`endpoint ${JSON.stringify(text.slice(0, TEXT_MAX))} must be host:port, with a port from 1 to 65535`);
    return endpoint;
  });
  const secure = tls || parsed.some(({ scheme }) => scheme === "https");
  const plain = parsed.find(({ scheme }) => scheme === "http");
  if (secure && plain !== undefined) throw refused(`endpoint http://${plain.endpoint} would not be encrypted, and the client uses TLS`);
  return { endpoints: [...new Set(parsed.map(({ endpoint }) => endpoint))], secure };
}

const ENDPOINTS_MAX = 64;

function refused(detail: string): OracleError {
  return new OracleError("TSO_INVALID_OPTION", detail);
}
