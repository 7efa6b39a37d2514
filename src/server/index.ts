export { OracleError } from "../base/errors.ts";
export type { ServingState } from "./gate.ts";
export type { OracleServerOptions } from "./options.ts";
export { type CloseOptions, type ListenOptions, OracleServer, type TlsOptions } from "./server.ts";
