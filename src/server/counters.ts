/** What the heartbeat line tells of, since the start. */
export interface Counters {
  requests: number;
  timestampsIssued: number;
  sequenceValuesIssued: number;
  notLeader: number;
  transitions: number;
  fenceRetries: number;
  extensions: number;
  /** Requests that had to wait for an extension: 0 while the window is extended ahead of need. */
  waitedForExtension: number;
  /** Extensions that came back after their reign had ended, or brought nothing. */
  extensionsIgnored: number;
}

export function zeroCounters(): Counters {
  return {
    requests: 0,
    timestampsIssued: 0,
    sequenceValuesIssued: 0,
    notLeader: 0,
    transitions: 0,
    fenceRetries: 0,
    extensions: 0,
    waitedForExtension: 0,
    extensionsIgnored: 0,
  };
}
