import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
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
 * merge different keys into one sequence. What cannot be read is answered as an invalid argument, not as a failure of the server. `nested` is the
 * field that holds messages, if there is one.
 */
export function strictly<Request, Response>(
  method: MethodDefinition<Request, Response>,
  decoder: Decoder<Request>,
  nested?: number,
): MethodDefinition<Received<Request>, Response> {
  return {
    ...method,
    requestSerialize: () => {
      throw new TypeError("a server reads requests, it does not write them");
    },
    requestDeserialize: (bytes: Buffer): Received<Request> => {
      try {
        checkFields(bytes, nested);
        return { type: "read", request: decoder.decode(new BinaryReader(bytes, strictText)) };
      } catch (error) {
        // the reader throws plain errors of many kinds for bytes that are no message
        return { type: "malformed", reason: error instanceof InvalidText ? "invalid sequence key" : `malformed request: ${messageOf(error)}` };
      }
    },
  };
}

/**
 * Walks over all fields, and throws where one does not end where it should. The generated decoders stop at a field they take for the end of a group, and
 * read on beyond a message inside a message: other readers would see another request in the same bytes.
 */
function checkFields(bytes: Uint8Array, nested: number | undefined): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (type === WireType.LengthDelimited) checkLength(reader);
    if (field === nested && type === WireType.LengthDelimited) checkFields(reader.bytes(), undefined);
    else reader.skip(type, field);
  }
}

/** The reader takes lengths modulo 2^32. */
function checkLength(reader: BinaryReader): void {
  const at = reader.pos;
  const length = BigInt(reader.uint64());
  if (length > BigInt(reader.len - reader.pos)) throw new RangeError("a length reaches beyond the end");
  reader.pos = at;
}

/** Keys, and tokens made from them, are the only texts in requests. */
function strictText(bytes: Uint8Array): string {
  const text = decodeUtf8Strict(bytes);
  if (text === undefined) throw new InvalidText();
  return text;
}
