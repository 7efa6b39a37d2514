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

/** Why an attempt is given up: after a timeout the connection itself is in doubt. */
export type CancelReason = "timeout" | "abandoned";

/** Gives an attempt up: its callback is not called any more. */
export type Cancel = (reason: CancelReason) => void;

export interface Transport {
  /** Whether a request would leave at once. */
  isReady(endpoint: Endpoint): boolean;
  /**
   * Tries to be ready. Calls `done`, later, when it is, or with what is known of a failure; never both. After a failure `send` may still be called: it
   * tells the cause.
   */
  connect(endpoint: Endpoint, done: (connected: boolean) => void): Cancel;
  /** Hands one request to the network, once: it is never sent a second time. Calls `done`, later, once. */
  send<M extends Method>(
    endpoint: Endpoint,
    method: M,
    request: Messages[M]["request"],
    done: (reply: Reply<Messages[M]["response"]>) => void,
  ): Cancel;
  /** Ends all connections; callbacks of what is under way may not be called any more. */
  close(): void;
}
