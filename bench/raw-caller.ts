/** The raw client of every figure: grpc-js, requests encoded once, replies walked by hand. Both sides of a ratio are called by this same code. */
import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import type { Caller, CallFigures, Load } from "./sides.ts";

export interface Method {
  readonly path: string;
  readonly request: Buffer;
  /** What is done with a reply. @defaultValue it is walked, as protobuf, and its first number taken */
  readonly decode?: ((bytes: Buffer) => unknown) | undefined;
}

/** The baseline's echo, of the smallest message. */
export const ECHO: Method = { path: "/bench.Echo/Echo", request: Buffer.of(0x08, 1) };

const identity = (bytes: Buffer): Buffer => bytes;

export class RawCaller implements Caller {
  readonly #client: Client;
  readonly #method: Method;

  constructor(address: string, method: Method) {
    this.#client = new Client(address, credentials.createInsecure());
    this.#method = method;
  }

  /** `callers` of one call each at a time, for `seconds`. @throws the status of the first call that fails */
  run({ callers, seconds }: Load): Promise<CallFigures> {
    return new Promise((resolve, reject) => {
      const client = this.#client;
      const { path, request, decode = firstNumber } = this.#method;
      const latenciesUs = new Float64Array(Math.ceil(100_000 * seconds));
      let calls = 0;
      let active = callers;
      const began = performance.now();
      const until = began + seconds * 1000;
      function call(before: number): void {
        client.makeUnaryRequest(path, identity, decode, request, (error: ServiceError | null) => {
          if (error !== null) return reject(error);
          const after = performance.now();
          latenciesUs[calls++] = (after - before) * 1000;
          if (after < until) return call(after);
          active -= 1;
          if (active === 0) resolve({ calls, seconds: (after - began) / 1000, latenciesUs: latenciesUs.subarray(0, calls) });
        });
      }
      for (let i = 0; i < callers; i++) call(performance.now());
    });
  }

  async close(): Promise<void> {
    this.#client.close();
  }
}

/** Walks a reply, and returns its first number. Texts and nested messages are skipped; 64-bit numbers lose what is above 2^53. */
function firstNumber(bytes: Buffer): number {
  let first: number | undefined;
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at++] ?? 0;
    let value = 0;
    for (let unit = 1; ; unit *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) throw new RangeError("the reply is cut off");
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) break;
    }
    if ((tag & 7) === 2) at += value;
    else first ??= value;
  }
  return first ?? 0;
}
