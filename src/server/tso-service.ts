/** `tsoracle.v1.TsoService`: validate, ask, encode. Statuses, messages and the order of checks are the wire's. */
import { type handleUnaryCall, type ServerUnaryCall, type sendUnaryData, status, type UntypedServiceImplementation } from "@grpc/grpc-js";
import { EPOCH_ZERO, type Epoch, epochParts } from "../base/epoch.ts";
import {
  AcquireLeaseRequest,
  type AcquireLeaseResponse,
  GetCurrentMaxSafeRequest,
  type GetCurrentMaxSafeResponse,
  GetSafeFrontierRequest,
  type GetSafeFrontierResponse,
  GetSeqBatchRequest,
  type GetSeqBatchResponse,
  GetSeqRequest,
  type GetSeqResponse,
  GetTsRequest,
  type GetTsResponse,
  ReleaseLeaseRequest,
  type ReleaseLeaseResponse,
  RenewLeaseRequest,
  type RenewLeaseResponse,
  TsoServiceService,
} from "../gen/tsoracle/v1/tso.ts";
import { type Answer, failed, ok } from "./answer.ts";
import { type Received, strictly } from "./request.ts";
import type { Serving } from "./serving.ts";

/** The methods of the service, with requests read strictly. */
export const tsoServiceDefinition = {
  getTs: strictly(TsoServiceService.getTs, GetTsRequest),
  getCurrentMaxSafe: strictly(TsoServiceService.getCurrentMaxSafe, GetCurrentMaxSafeRequest),
  getSeq: strictly(TsoServiceService.getSeq, GetSeqRequest),
  getSeqBatch: strictly(TsoServiceService.getSeqBatch, GetSeqBatchRequest, 1),
  acquireLease: strictly(TsoServiceService.acquireLease, AcquireLeaseRequest),
  renewLease: strictly(TsoServiceService.renewLease, RenewLeaseRequest),
  releaseLease: strictly(TsoServiceService.releaseLease, ReleaseLeaseRequest),
  getSafeFrontier: strictly(TsoServiceService.getSafeFrontier, GetSafeFrontierRequest),
};

export function tsoHandlers(serving: Serving): UntypedServiceImplementation {
  const on = <Request, Response>(handle: (request: Request) => Promise<Answer<Response>>) => unary(serving, handle);
  return {
    getTs: on<GetTsRequest, GetTsResponse>(async ({ count }) => {
      if (count === 0) return failed(status.INVALID_ARGUMENT, "count must be >= 1");
      const answer = await serving.getTs(count);
      if (!answer.ok) return answer;
      const { grant, epoch } = answer.value;
      const { hi, lo } = epochParts(epoch);
      return ok({ physicalMs: BigInt(grant.physicalMs), logicalStart: grant.logicalStart, count: grant.count, epochHi: hi, epochLo: lo });
    }),
    getCurrentMaxSafe: on<GetCurrentMaxSafeRequest, GetCurrentMaxSafeResponse>(async () => {
      const { physicalMs, epoch } = (await serving.safePoint()) ?? NOT_SERVING;
      const { hi, lo } = epochParts(epoch);
      return ok({ maxSafePhysicalMs: BigInt(physicalMs), epochHi: hi, epochLo: lo });
    }),
    getSeq: on<GetSeqRequest, GetSeqResponse>(async ({ key, count }) => {
      const answer = await serving.getBlocks([{ key, count }]);
      if (!answer.ok) return answer;
      return ok({ key, start: answer.value.starts[0] ?? 0n, count, epoch: epochParts(answer.value.epoch) });
    }),
    getSeqBatch: on<GetSeqBatchRequest, GetSeqBatchResponse>(async ({ entries }) => {
      const answer = await serving.getBlocks(entries);
      if (!answer.ok) return answer;
      const { starts, epoch } = answer.value;
      return ok({ grants: entries.map(({ key, count }, index) => ({ key, start: starts[index] ?? 0n, count })), epoch: epochParts(epoch) });
    }),
    acquireLease: on<AcquireLeaseRequest, AcquireLeaseResponse>(async ({ holder, holderEpoch, ttlMs }) => {
      const answer = await serving.acquireLease({ holder, holderEpoch, ttlMs });
      if (!answer.ok) return answer;
      const { lease, epoch } = answer.value;
      return ok({ leaseId: BigInt(lease.id), tsUpperBound: BigInt(lease.bound), expiresAtMs: BigInt(lease.expiresAtMs), epoch: epochParts(epoch) });
    }),
    renewLease: on<RenewLeaseRequest, RenewLeaseResponse>(async ({ leaseId }) => {
      const answer = await serving.renewLease(leaseId);
      if (!answer.ok) return answer;
      const { lease, epoch } = answer.value;
      return ok({ tsUpperBound: BigInt(lease.bound), expiresAtMs: BigInt(lease.expiresAtMs), epoch: epochParts(epoch) });
    }),
    releaseLease: on<ReleaseLeaseRequest, ReleaseLeaseResponse>(async ({ leaseId }) => {
      const answer = await serving.releaseLease(leaseId);
      return answer.ok ? ok({}) : answer;
    }),
    getSafeFrontier: on<GetSafeFrontierRequest, GetSafeFrontierResponse>(async () => {
      const { physicalMs, epoch } = (await serving.frontier()) ?? NOT_SERVING;
      const { hi, lo } = epochParts(epoch);
      return ok({ frontierPhysicalMs: BigInt(physicalMs), epochHi: hi, epochLo: lo });
    }),
  };
}

/** Some questions are never an error: where this node does not serve, all is zero. */
const NOT_SERVING: { readonly physicalMs: number; readonly epoch: Epoch } = { physicalMs: 0, epoch: EPOCH_ZERO };

/** A handler for grpc-js. Offered load is counted first, whatever becomes of the request. */
export function unary<Request, Response>(
  serving: Serving,
  handle: (request: Request) => Promise<Answer<Response>>,
): handleUnaryCall<Received<Request>, Response> {
  return (call: ServerUnaryCall<Received<Request>, Response>, reply: sendUnaryData<Response>) => {
    serving.counters.requests += 1;
    if (call.request.type === "malformed") return reply({ code: status.INVALID_ARGUMENT, details: call.request.reason });
    handle(call.request.request).then(
      (answer) => (answer.ok ? reply(null, answer.value) : reply(answer.failure)),
      // A bug: said to the client as such, and to the operator in full.
      (error: unknown) => reply({ code: status.INTERNAL, details: serving.bug(error) }),
    );
  };
}
