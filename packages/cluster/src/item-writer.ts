import type { ByteSink } from '@shoalmq/core';

/** Bytes of a number at most: 53 bits, seven at a time. */
export const NUMBER_BYTES_MAX = 8;

/*
 * Primitives of items, written to a sink that has room for them. A number takes one byte for each seven of its bits;
 * a text is the length of its UTF-8, and its UTF-8.
 */

/** Writes an integer of [0, 2^53). */
export function writeNumber(sink: ByteSink, value: number): void {
  const { bytes } = sink;
  let { length } = sink;
  while (value > 0x7fff_ffff) {
    bytes[length++] = (value % 0x80) | 0x80;
    value = Math.floor(value / 0x80);
  }
  while (value >= 0x80) {
    bytes[length++] = (value & 0x7f) | 0x80;
    value >>>= 7;
  }
  bytes[length++] = value;
  sink.length = length;
}

/** Writes bytes `start` to `end` of `source`, their count first. */
export function writeBytes(sink: ByteSink, source: Uint8Array, start: number, end: number): void {
  writeNumber(sink, end - start);
  const { bytes, length } = sink;
  if (end - start < 64) {
    for (let i = start, at = length; i < end; i++) bytes[at++] = source[i]!;
  } else {
    bytes.set(source.subarray(start, end), length);
  }
  sink.length = length + end - start;
}

export function writeText(sink: ByteSink, text: string): void {
  const { bytes, length } = sink;
  if (text.length < 0x80) {
    // Most texts are short and ASCII.
    let i = 0;
    for (; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      if (unit >= 0x80) break;
      bytes[length + 1 + i] = unit;
    }
    if (i === text.length) {
      bytes[length] = text.length;
      sink.length = length + 1 + text.length;
      return;
    }
  }
  const utf8 = Buffer.from(text);
  writeBytes(sink, utf8, 0, utf8.length);
}

/** Bytes that `writeText` takes at most. */
export function textBytesMax(text: string): number {
  return NUMBER_BYTES_MAX + 3 * text.length;
}
