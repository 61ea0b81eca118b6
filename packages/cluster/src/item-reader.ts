/** The bytes are not what a node of this version writes. */
export class MalformedItem extends Error {
  override readonly name = 'MalformedItem';
}

/** Reads what `item-writer.ts` writes. Everything throws `MalformedItem` where the bytes end too early. */
export class ItemReader {
  bytes: Uint8Array = new Uint8Array(0);
  offset = 0;
  end = 0;

  byte(): number {
    if (this.offset >= this.end) throw new MalformedItem('an item is cut off');
    return this.bytes[this.offset++]!;
  }

  number(): number {
    let value = this.byte();
    if (value < 0x80) return value;
    value &= 0x7f;
    for (let scale = 0x80; ; scale *= 0x80) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (value > Number.MAX_SAFE_INTEGER) throw new MalformedItem('a number is too large');
      if (byte < 0x80) return value;
    }
  }

  /** Goes behind bytes that are preceded by their count, and returns where they start; they end at `offset`. */
  skipBytes(): number {
    const count = this.number();
    const start = this.offset;
    if (count > this.end - start) throw new MalformedItem('an item is cut off');
    this.offset = start + count;
    return start;
  }

  text(): string {
    const start = this.skipBytes();
    return textOf(this.bytes, start, this.offset);
  }
}

/** UTF-8 as text. */
export function textOf(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8');
}
