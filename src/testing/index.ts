export { armFailpoint, type Failure } from "../base/failpoints.ts";
export { countMarks, MARKS, type Mark } from "../base/marks.ts";
export { createPrng, type Prng } from "../base/prng.ts";
export {
  type Answered,
  checkLeases,
  checkSafePoint,
  checkTimestampOrder,
  type FrontierRead,
  type HighWaterRead,
  type LeaseGrant,
  type LeaseHistory,
  type LeaseViolation,
  type Release,
  type SafePointRead,
  type SafePointViolation,
  type TimestampGrant,
  type TimestampViolation,
  type UnknownLease,
} from "./checkers.ts";
export type { Fault, ScheduledFault } from "./cluster/faults.ts";
export { type ClusterObserver, type ObservedDisk, type ObservedProcess, Violation } from "./cluster/observed.ts";
export { type ClusterSettings, drawSettings, PROFILES, type Profile } from "./cluster/settings.ts";
export { type ShrinkOptions, type Shrunk, shrinkFailure } from "./cluster/shrink.ts";
export { type ClusterReport, SimulationFailure, type SimulationOptions, simulateCluster } from "./cluster/simulation.ts";
export { type Trace, type TraceEvent, TraceRecorder } from "./cluster/trace.ts";
export { type DiagramOptions, traceDiagram } from "./diagram/diagram.ts";
export { traceText } from "./diagram/trace-text.ts";
export { type DriverUnderTest, driverConformance } from "./driver-conformance.ts";
export { DiskCrashed, FaultyDisk, type FaultyDiskOptions, type Operation, type PowerCut, systemError } from "./faulty-disk.ts";
export { checkLinearizability, historyText, type KeyOperation, type LinearizabilityVerdict } from "./linearizability.ts";
export {
  type Assigned,
  checkSequence,
  type SequenceHistory,
  type SequenceRead,
  type SequenceReport,
  type SequenceRequest,
  type SequenceSummary,
  type SequenceViolation,
} from "./sequence-checker.ts";
export { type SingleNodeReport, type SingleNodeSettings, simulateSingleNode } from "./single-node.ts";
export { type StoragePlace, storageConformance } from "./storage-conformance.ts";
export { type TransportConformanceTest, transportConformance } from "./transport-conformance.ts";
export type { TransportNetwork, TransportProcess } from "./transport-stage.ts";
