import { BinaryReader } from "@bufbuild/protobuf/wire";
import type { MethodDefinition } from "@grpc/grpc-js";
import { decodeUtf8Strict } from "../base/bytes.ts";
import { messageOf } from "../base/errors.ts";

/** A request as it came from the wire: read, or the reason why it cannot be. */
export type Received<T> = { readonly type: "read"; readonly request: T } | { readonly type: "malformed"; readonly reason: string };

interface Decoder<T> {
  decode(input: BinaryReader): T;
}

class InvalidText extends Error {}

/**
 * A method whose requests are read strictly: text that is not UTF-8 is refused. The usual decoders put U+FFFD in the place of bad bytes, which would
 * merge different keys into one sequence. What cannot be read is answered as an invalid argument, not as a failure of the server.
 */
export function strictly<Request, Response>(
  method: MethodDefinition<Request, Response>,
  decoder: Decoder<Request>,
): MethodDefinition<Received<Request>, Response> {
  return {
    ...method,
    requestSerialize: () => {
      throw new TypeError("a server reads requests, it does not write them");
    },
    requestDeserialize: (bytes: Buffer): Received<Request> => {
      try {
        return { type: "read", request: decoder.decode(new BinaryReader(bytes, strictText)) };
      } catch (error) {
        // the reader throws plain errors of many kinds for bytes that are no message
        return { type: "malformed", reason: error instanceof InvalidText ? "invalid sequence key" : `malformed request: ${messageOf(error)}` };
      }
    },
  };
}

/** Keys, and tokens made from them, are the only texts in requests. */
function strictText(bytes: Uint8Array): string {
  const text = decodeUtf8Strict(bytes);
  if (text === undefined) throw new InvalidText();
  return text;
}
