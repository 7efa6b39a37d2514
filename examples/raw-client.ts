/** A client that knows only the .proto files, as anyone has it in any language. */
import { fileURLToPath } from "node:url";
import { type Client, credentials, loadPackageDefinition, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const proto = fileURLToPath(import.meta.resolve("tsoracle/proto/tsoracle/v1/tso.proto"));

type Call = (request: object, done: (error: ServiceError | null, response: Readonly<Record<string, string>>) => void) => void;

export interface RawClient {
  /** Calls a method by its name; 64-bit numbers come back as texts. */
  call(method: string, request?: object): Promise<Readonly<Record<string, string>>>;
  close(): void;
}

export function rawClient(address: string): RawClient {
  const loaded = loadPackageDefinition(loadSync(proto, { longs: String, defaults: true })) as unknown as {
    readonly tsoracle: { readonly v1: { readonly TsoService: new (address: string, security: object) => Client } };
  };
  const client = new loaded.tsoracle.v1.TsoService(address, credentials.createInsecure());
  const methods = client as unknown as Readonly<Record<string, Call>>;
  return {
    call: (method, request = {}) =>
      new Promise((resolve, reject) => {
        methods[method]?.call(client, request, (error, response) => (error === null ? resolve(response) : reject(error)));
      }),
    close: () => client.close(),
  };
}

/** A timestamp as one number: what a client in any language computes from the reply. */
export function packed(reply: Readonly<Record<string, string>>): bigint {
  return (BigInt(reply["physicalMs"] ?? 0) << 18n) | BigInt(reply["logicalStart"] ?? 0);
}
