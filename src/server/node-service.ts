/** `tsoracle.node.v1.NodeService`: the state of this node, and the administration of sequences. */
import { status, type UntypedServiceImplementation } from "@grpc/grpc-js";
import { compareUtf8 } from "../base/bytes.ts";
import { epochParts } from "../base/epoch.ts";
import {
  InitSeqRequest,
  type InitSeqResponse,
  ListSeqsRequest,
  type ListSeqsResponse,
  NodeServiceService,
  PeekSeqRequest,
  type PeekSeqResponse,
  type Sequence,
  StatusRequest,
  type StatusResponse,
  StatusResponse_Role,
} from "../gen/tsoracle/node/v1/node.ts";
import type { OracleView } from "../oracle/driver.ts";
import { failed, ok, refusedBy } from "./answer.ts";
import { strictly } from "./request.ts";
import type { Serving } from "./serving.ts";
import { unary } from "./tso-service.ts";

const PAGE_DEFAULT = 100;
const PAGE_MAX = 1_000;

export const nodeServiceDefinition = {
  status: strictly(NodeServiceService.status, StatusRequest),
  initSeq: strictly(NodeServiceService.initSeq, InitSeqRequest),
  peekSeq: strictly(NodeServiceService.peekSeq, PeekSeqRequest),
  listSeqs: strictly(NodeServiceService.listSeqs, ListSeqsRequest),
};

export interface NodeInfo {
  readonly version: string;
  readonly startedAtMs: number;
}

export function nodeHandlers(serving: Serving, info: NodeInfo): UntypedServiceImplementation {
  return {
    status: unary<StatusRequest, StatusResponse>(serving, async () => ok(statusOf(serving, info))),
    initSeq: unary<InitSeqRequest, InitSeqResponse>(serving, async ({ key, first }) => {
      const answer = await serving.initSequence(key, first);
      return answer.ok ? ok({ sequence: { key, ...answer.value.sequence }, epoch: epochParts(answer.value.epoch) }) : answer;
    }),
    peekSeq: unary<PeekSeqRequest, PeekSeqResponse>(serving, async ({ key }) => {
      const answer = await serving.readView();
      if (!answer.ok) return answer;
      if (!serving.acceptsKey(key)) return refusedBy({ reason: "invalid-key" });
      const sequence = answer.value.view.sequence(key);
      if (sequence === undefined) return failed(status.NOT_FOUND, `unknown sequence: ${key}`);
      return ok({ sequence: { key, ...sequence }, epoch: epochParts(answer.value.epoch) });
    }),
    listSeqs: unary<ListSeqsRequest, ListSeqsResponse>(serving, async ({ pageSize, pageToken }) => {
      if (pageSize > PAGE_MAX) return failed(status.INVALID_ARGUMENT, `page_size ${pageSize} must be at most ${PAGE_MAX}`);
      const answer = await serving.readView();
      if (!answer.ok) return answer;
      return ok({ ...pageOf(answer.value.view, pageToken, pageSize === 0 ? PAGE_DEFAULT : pageSize), epoch: epochParts(answer.value.epoch) });
    }),
  };
}

function statusOf(serving: Serving, { version, startedAtMs }: NodeInfo): StatusResponse {
  const { state, view } = serving;
  const leads = state.type === "serving";
  const epoch = leads ? state.epoch : state.hint.epoch;
  return {
    version,
    role: leads || state.role === "leader" ? StatusResponse_Role.ROLE_LEADER : ROLES[state.role],
    serving: leads,
    epoch: epoch === undefined ? undefined : epochParts(epoch),
    leaderEndpoint: leads ? undefined : state.hint.endpoint,
    highWaterMs: BigInt(view.highWater),
    clockMs: BigInt(view.clock),
    frontierMs: BigInt(view.frontier),
    safePointMs: BigInt(serving.unconfirmedSafePoint()),
    sequences: view.sequenceCount,
    leases: view.leaseCount,
    uptimeSeconds: (Date.now() - startedAtMs) / 1000,
    lastFault: serving.lastFault ?? "",
  };
}

const ROLES = { follower: StatusResponse_Role.ROLE_FOLLOWER, unknown: StatusResponse_Role.ROLE_UNKNOWN } as const;

/**
 * A page token is the last key of the page before: it stays good whatever is created meanwhile. One pass over all keys, which keeps the smallest that
 * fit the page and one more.
 */
function pageOf(view: OracleView, after: string, size: number): { readonly sequences: Sequence[]; readonly nextPageToken: string } {
  const smallest: Sequence[] = [];
  for (const [key, { first, next }] of view.sequences()) {
    if (after !== "" && compareUtf8(key, after) <= 0) continue;
    const last = smallest.at(-1);
    if (smallest.length > size && last !== undefined && compareUtf8(key, last.key) > 0) continue;
    smallest.splice(placeOf(smallest, key), 0, { key, first, next });
    if (smallest.length > size + 1) smallest.pop();
  }
  const sequences = smallest.slice(0, size);
  return { sequences, nextPageToken: smallest.length > size ? (sequences.at(-1)?.key ?? "") : "" };
}

/** Where `key` belongs among keys in order. */
function placeOf(sorted: readonly Sequence[], key: string): number {
  let from = 0;
  let to = sorted.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (compareUtf8(sorted[middle]?.key ?? "", key) < 0) from = middle + 1;
    else to = middle;
  }
  return from;
}
