/**
 * The generated stubs as a client with nothing of ours in between: one connection, no retries, every status as it came. Each answer has the times just
 * before the call and just after the answer, by the clock that all processes of a machine share.
 */
import { type Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { NodeServiceClient } from "../../src/gen/tsoracle/node/v1/node.ts";
import { TsoServiceClient } from "../../src/gen/tsoracle/v1/tso.ts";

export type Answer<Response> = { readonly invokedAt: bigint; readonly respondedAt: bigint } & (
  | { readonly ok: true; readonly value: Response }
  | { readonly ok: false; readonly error: ServiceError }
);

export type Method<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: { readonly deadline: number },
  done: (error: ServiceError | null, response: Response) => void,
) => unknown;

/** Only what hangs takes so long. */
const HANG_MS = 60_000;

export class Stubs {
  readonly tso: TsoServiceClient;
  readonly node: NodeServiceClient;

  constructor(address: string) {
    const options = { "grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0 };
    this.tso = new TsoServiceClient(address, credentials.createInsecure(), options);
    this.node = new NodeServiceClient(address, credentials.createInsecure(), { channelOverride: this.tso.getChannel() });
  }

  ask<Request, Response>(client: Client, method: Method<Request, Response>, request: Request): Promise<Answer<Response>> {
    return new Promise((resolve) => {
      const invokedAt = process.hrtime.bigint();
      method.call(client, request, new Metadata(), { deadline: Date.now() + HANG_MS }, (error, value) => {
        const times = { invokedAt, respondedAt: process.hrtime.bigint() };
        resolve(error === null ? { ok: true, value, ...times } : { ok: false, error, ...times });
      });
    });
  }

  close(): void {
    this.tso.close();
  }
}

export function timesOf({ invokedAt, respondedAt }: Answer<unknown>): { readonly invokedAt: bigint; readonly respondedAt: bigint } {
  return { invokedAt, respondedAt };
}
