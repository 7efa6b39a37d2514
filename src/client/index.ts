export type { Epoch } from "../base/epoch.ts";
export { type ErrorCode, OracleError, type Outcome } from "../base/errors.ts";
export type { LogFields, Logger } from "../base/logger.ts";
export type { Timestamp } from "../oracle/rules/timestamp.ts";
export type { Leader } from "./leader-cache.ts";
export type { CallOptions } from "./limits.ts";
export type { ClientCounter, ClientGauge, ClientHistogram, ClientMetrics, RetryReason } from "./metrics.ts";
export type { ClientOptions, ClientTls } from "./options.ts";
export {
  type AcquireLeaseOptions,
  type Bound,
  type LeaseGrant,
  OracleClient,
  type SequenceBlock,
  type TimestampRange,
} from "./oracle-client.ts";
export * as Timestamps from "./timestamps.ts";
export type { HeldLease, WithLeaseOptions } from "./with-lease.ts";
