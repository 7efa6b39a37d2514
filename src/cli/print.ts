/** What verbs print is for scripts: plain values line by line, or JSON. */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Timestamps } from "../client/index.ts";
import { isErrno } from "../disk/disk.ts";

/** Written in chunks, so that a long answer neither fills the memory nor is cut off; a reader that has seen enough (`| head`) is no error. */
export async function print({ json }: { readonly json?: boolean | undefined }, value: object, lines: Iterable<unknown>): Promise<void> {
  const text = json === true ? [JSON.stringify(value, Timestamps.bigintsAsText)] : lines;
  await pipeline(Readable.from(chunksOf(text)), process.stdout, { end: false }).catch((error: unknown) => {
    if (!isErrno(error, "EPIPE")) throw error;
  });
}

const CHUNK_LINES = 4_096;

function* chunksOf(lines: Iterable<unknown>): Iterable<string> {
  let chunk: string[] = [];
  for (const line of lines) {
    chunk.push(`${line}\n`);
    if (chunk.length < CHUNK_LINES) continue;
    yield chunk.join("");
    chunk = [];
  }
  yield chunk.join("");
}
