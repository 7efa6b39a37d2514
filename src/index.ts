export { type Epoch, epoch, epochFromParts, epochParts } from "./base/epoch.ts";
export { ERROR_OUTCOMES, type ErrorCode, OracleError, type Outcome } from "./base/errors.ts";
export type { NodeId, Slot } from "./base/ids.ts";
export { InvariantViolation } from "./base/invariant.ts";
export { type LogFields, type Logger, silentLogger } from "./base/logger.ts";
export { type FrozenEntries, SnapshotMap } from "./base/snapshot-map.ts";
export { VERSION } from "./base/version.ts";
export type { DirectoryLock, Disk, DiskFile, DurableFile } from "./disk/disk.ts";
export { nodeDisk } from "./disk/node-disk.ts";
export type {
  AppliedAt,
  Leadership,
  NotAppliedReason,
  Prepared,
  ProposalOutcome,
  ReplicatedLog,
  RestoreSink,
  SnapshotView,
  StateMachine,
  UnknownReason,
} from "./log.ts";
export type { ConsensusDriver, FencedStore, OracleView, ServedLeadership, Submitted } from "./oracle/driver.ts";
export { type FileDriverOptions, fileDriver, initFileDirectory } from "./oracle/drivers/file.ts";
export { type MemoryCommit, type MemoryDriver, type MemoryDriverOptions, memoryDriver } from "./oracle/drivers/memory.ts";
export { type StoreDriverOptions, storeDriver } from "./oracle/drivers/store.ts";
export { changesCodec } from "./oracle/rules/codec.ts";
export type {
  BlockRequest,
  GroupOutcome,
  OracleCommand,
  OracleOutcome,
  Refusal,
  SequenceGroup,
} from "./oracle/rules/command.ts";
export { DEFAULT_LIMITS, type OracleLimits } from "./oracle/rules/limits.ts";
export { OracleMachine, type Transaction } from "./oracle/rules/machine.ts";
export { type Lease, type OracleChange, type OracleState, OracleTables, type SequenceState } from "./oracle/rules/state.ts";
export {
  GRANT_COUNT_MAX,
  LOGICAL_MAX,
  logicalOf,
  PHYSICAL_MS_MAX,
  packTimestamp,
  physicalMsOf,
  type Timestamp,
  timestamp,
} from "./oracle/rules/timestamp.ts";
export type { Configuration, Member } from "./paxos/core/configuration.ts";
export type { PeerList } from "./paxos/core/forming-list.ts";
export type { DiskRoomOptions } from "./paxos/disk-room.ts";
export { PaxosNode } from "./paxos/node.ts";
export type { PaxosNodeOptions } from "./paxos/node-options.ts";
export type { NodeStatus, PeerStatus } from "./paxos/node-status.ts";
export type { LogStorage, SnapshotMeta, SnapshotSink } from "./paxos/storage/log-storage.ts";
export { MemoryVolume, openMemory } from "./paxos/storage/memory.ts";
export { openWal, type WalOptions } from "./paxos/storage/wal.ts";
export { type GrpcPeerOptions, grpcTransport } from "./paxos/transport/grpc.ts";
export { MemoryNetwork, type MemoryNetworkOptions } from "./paxos/transport/memory.ts";
