/** The seam under the client: one request to one node. Real in `grpc-transport.ts`; tests put a scripted network here. */
import type { status } from "@grpc/grpc-js";
import type {
  AcquireLeaseRequest,
  AcquireLeaseResponse,
  GetCurrentMaxSafeRequest,
  GetCurrentMaxSafeResponse,
  GetSafeFrontierRequest,
  GetSafeFrontierResponse,
  GetSeqBatchRequest,
  GetSeqBatchResponse,
  GetSeqRequest,
  GetSeqResponse,
  GetTsRequest,
  GetTsResponse,
  ReleaseLeaseRequest,
  ReleaseLeaseResponse,
  RenewLeaseRequest,
  RenewLeaseResponse,
} from "../gen/tsoracle/v1/tso.ts";
import type { Endpoint } from "./endpoint.ts";
import type { RetryReason } from "./metrics.ts";

/** What each method of `tsoracle.v1` takes and gives. */
export interface Messages {
  readonly getTs: { readonly request: GetTsRequest; readonly response: GetTsResponse };
  readonly getCurrentMaxSafe: { readonly request: GetCurrentMaxSafeRequest; readonly response: GetCurrentMaxSafeResponse };
  readonly getSeq: { readonly request: GetSeqRequest; readonly response: GetSeqResponse };
  readonly getSeqBatch: { readonly request: GetSeqBatchRequest; readonly response: GetSeqBatchResponse };
  readonly acquireLease: { readonly request: AcquireLeaseRequest; readonly response: AcquireLeaseResponse };
  readonly renewLease: { readonly request: RenewLeaseRequest; readonly response: RenewLeaseResponse };
  readonly releaseLease: { readonly request: ReleaseLeaseRequest; readonly response: ReleaseLeaseResponse };
  readonly getSafeFrontier: { readonly request: GetSafeFrontierRequest; readonly response: GetSafeFrontierResponse };
}

export type Method = keyof Messages;

/** How a request that was handed to the network ended. */
export type Reply<T> =
  | { readonly type: "answer"; readonly value: T }
  /** What the node itself said. `hint` is the leader-hint trailer, as it came. */
  | { readonly type: "status"; readonly code: status; readonly details: string; readonly hint: Uint8Array | undefined }
  /** No usable word from the node. `sent` is false only where the request provably never left. */
  | { readonly type: "lost"; readonly sent: boolean; readonly reason: LossReason; readonly details: string };

/** "abandoned": nobody waits for it any more, which says nothing about the node. */
export type LossReason = Exclude<RetryReason, "not_leader"> | "abandoned";

/** Gives an attempt up: its callback is not called any more. "drop" where the connection itself is in doubt, so that the next attempt has a new one. */
export type Cancel = (connection: "keep" | "drop") => void;

/** How connecting ended. "refused": a request that is sent is told why. "silent": nothing came of it in time, or none could be begun. */
export type Connected = { readonly type: "ready" } | { readonly type: "refused" } | { readonly type: "silent"; readonly details: string };

export interface Transport {
  /** Whether a request would leave at once. */
  isReady(endpoint: Endpoint): boolean;
  /** Tries to be ready. Calls `done`, later, once, within the time that the transport allows a connection. */
  connect(endpoint: Endpoint, done: (result: Connected) => void): Cancel;
  /** Hands one request to the network, once: it is never sent a second time. Calls `done`, later, once. */
  send<M extends Method>(
    endpoint: Endpoint,
    method: M,
    request: Messages[M]["request"],
    done: (reply: Reply<Messages[M]["response"]>) => void,
  ): Cancel;
  /** Ends all connections; callbacks of what is under way may not be called any more. Nothing is sent afterwards. */
  close(): void;
}
