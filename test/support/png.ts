/** Reads a PNG as browsers make their screenshots: 8 bits a channel, red, green and blue, with or without alpha, not interlaced. */
import { inflateSync } from "node:zlib";

export type Colour = readonly [red: number, green: number, blue: number];

export class Picture {
  readonly width: number;
  readonly height: number;
  readonly #channels: number;
  readonly #pixels: Uint8Array;

  constructor(png: Uint8Array) {
    const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
    const data: Uint8Array[] = [];
    for (let at = 8; at < png.length; ) {
      const length = view.getUint32(at);
      const type = String.fromCharCode(...png.subarray(at + 4, at + 8));
      if (type === "IDAT") data.push(png.subarray(at + 8, at + 8 + length));
      at += length + 12;
    }
    const [depth, colours, , , interlaced] = png.subarray(24, 29);
    if (depth !== 8 || (colours !== 2 && colours !== 6) || interlaced !== 0)
      throw new Error(`a PNG of another kind: ${depth}, ${colours}, ${interlaced}`);
    this.width = view.getUint32(16);
    this.height = view.getUint32(20);
    this.#channels = colours === 6 ? 4 : 3;
    this.#pixels = unfiltered(inflateSync(Buffer.concat(data)), this.width * this.#channels, this.#channels);
  }

  at(x: number, y: number): Colour {
    const place = (Math.round(y) * this.width + Math.round(x)) * this.#channels;
    const [red = 0, green = 0, blue = 0] = this.#pixels.subarray(place, place + 3);
    return [red, green, blue];
  }

  /** Whether there is something of that colour there, or so many pixels away at most. */
  has(colour: Colour, x: number, y: number, within: number): boolean {
    for (let dy = -within; dy <= within; dy++) {
      for (let dx = -within; dx <= within; dx++) {
        const found = this.at(x + dx, y + dy);
        if (found.every((channel, i) => Math.abs(channel - (colour[i] ?? 0)) <= NEAR)) return true;
      }
    }
    return false;
  }
}

/** Two pixels count as of one colour: a line that lies between two of them is paler in both. */
const NEAR = 40;

function unfiltered(filtered: Uint8Array, stride: number, channels: number): Uint8Array {
  const rows = filtered.length / (stride + 1);
  const pixels = new Uint8Array(rows * stride);
  for (let row = 0; row < rows; row++) {
    const filter = filtered[row * (stride + 1)] ?? 0;
    for (let i = 0; i < stride; i++) {
      const place = row * stride + i;
      const left = i < channels ? 0 : (pixels[place - channels] ?? 0);
      const above = row === 0 ? 0 : (pixels[place - stride] ?? 0);
      const corner = row === 0 || i < channels ? 0 : (pixels[place - stride - channels] ?? 0);
      pixels[place] = (filtered[row * (stride + 1) + 1 + i] ?? 0) + predicted(filter, left, above, corner);
    }
  }
  return pixels;
}

function predicted(filter: number, left: number, above: number, corner: number): number {
  switch (filter) {
    case 0:
      return 0;
    case 1:
      return left;
    case 2:
      return above;
    case 3:
      return (left + above) >> 1;
    default:
      return paeth(left, above, corner);
  }
}

function paeth(left: number, above: number, corner: number): number {
  const [toLeft, toAbove, toCorner] = [Math.abs(above - corner), Math.abs(left - corner), Math.abs(left + above - 2 * corner)];
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}
