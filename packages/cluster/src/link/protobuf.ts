/*
 * The little of the protobuf encoding that peer.proto needs. Written by hand because a frame must cost no copy: its
 * header is written in front of items that are in place already, and read without making an object per field.
 */

export const VARINT = 0;
export const FIXED64 = 1;
export const DELIMITED = 2;
export const FIXED32 = 5;

/** Bytes that are not a message of peer.proto. */
export class MalformedMessage extends Error {
  override readonly name = 'MalformedMessage';
}

/** Bytes of `value` as a varint; `value` is an integer in [0, 2^53). */
export function varintBytes(value: number): number {
  let bytes = 1;
  while (value >= 0x80) {
    value = Math.floor(value / 0x80);
    bytes++;
  }
  return bytes;
}

/** Writes `value`, an integer in [0, 2^53), and returns the offset behind it. */
export function writeVarint(bytes: Uint8Array, offset: number, value: number): number {
  while (value > 0x7fff_ffff) {
    bytes[offset++] = (value % 0x80) | 0x80;
    value = Math.floor(value / 0x80);
  }
  while (value >= 0x80) {
    bytes[offset++] = (value & 0x7f) | 0x80;
    value >>>= 7;
  }
  bytes[offset++] = value;
  return offset;
}

/** Builds a message off the hot path, field by field. Fields with their default value are left out, as proto3 has it. */
export class MessageWriter {
  readonly #parts: Uint8Array[] = [];

  number(field: number, value: number): this {
    if (value === 0) return this;
    const part = new Uint8Array(1 + varintBytes(value));
    part[0] = (field << 3) | VARINT;
    writeVarint(part, 1, value);
    this.#parts.push(part);
    return this;
  }

  text(field: number, value: string): this {
    return value === '' ? this : this.delimited(field, Buffer.from(value));
  }

  bytes(field: number, value: Uint8Array): this {
    return value.length === 0 ? this : this.delimited(field, value);
  }

  /** A message inside this one; there even when it is empty. */
  message(field: number, value: MessageWriter): this {
    return this.delimited(field, value.finish());
  }

  finish(): Buffer {
    return Buffer.concat(this.#parts);
  }

  private delimited(field: number, value: Uint8Array): this {
    const head = new Uint8Array(1 + varintBytes(value.length));
    head[0] = (field << 3) | DELIMITED;
    writeVarint(head, 1, value.length);
    this.#parts.push(head, value);
    return this;
  }
}

/**
 * Reads the fields of a message in the order in which they come. Everything throws `MalformedMessage` where the bytes
 * end too early.
 */
export class MessageReader {
  readonly bytes: Uint8Array;
  offset: number;
  readonly end: number;
  /** Of the field that `next` found. */
  field = 0;
  wireType = 0;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.offset = start;
    this.end = end;
  }

  /** Goes to the next field; false at the end. Its value must be read, or skipped with `skip`. */
  next(): boolean {
    if (this.offset === this.end) return false;
    const tag = this.number();
    this.field = Math.floor(tag / 8);
    this.wireType = tag & 7;
    if (this.field === 0 || this.field > 0x1fff_ffff) throw new MalformedMessage('field number');
    return true;
  }

  number(): number {
    const { bytes, end } = this;
    let { offset } = this;
    let value = 0;
    let scale = 1;
    for (;;) {
      if (offset >= end) throw new MalformedMessage('varint is cut off');
      const byte = bytes[offset++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
      scale *= 0x80;
      if (scale > 0x2_0000_0000_0000) throw new MalformedMessage('varint is too long');
    }
    if (value > Number.MAX_SAFE_INTEGER) throw new MalformedMessage('number is too large');
    this.offset = offset;
    return value;
  }

  /** The value of a number field. */
  varint(): number {
    if (this.wireType !== VARINT) throw new MalformedMessage('wire type');
    return this.number();
  }

  /** Goes behind the value of a delimited field and returns where it starts; it ends at `offset`. */
  delimitedStart(): number {
    if (this.wireType !== DELIMITED) throw new MalformedMessage('wire type');
    const length = this.number();
    const start = this.offset;
    if (length > this.end - start) throw new MalformedMessage('field is cut off');
    this.offset = start + length;
    return start;
  }

  delimited(): Uint8Array {
    const start = this.delimitedStart();
    return this.bytes.subarray(start, this.offset);
  }

  /** At most `bytesMax` bytes of UTF-8. */
  text(bytesMax: number): string {
    const bytes = this.delimited();
    if (bytes.length > bytesMax) throw new MalformedMessage('text is too long');
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8');
  }

  message(): MessageReader {
    const start = this.delimitedStart();
    return new MessageReader(this.bytes, start, this.offset);
  }

  /** A field that this version does not know. */
  skip(): void {
    if (this.wireType === VARINT) this.number();
    else if (this.wireType === DELIMITED) this.delimitedStart();
    else if (this.wireType === FIXED32 || this.wireType === FIXED64) {
      this.offset += this.wireType === FIXED32 ? 4 : 8;
      if (this.offset > this.end) throw new MalformedMessage('field is cut off');
    } else throw new MalformedMessage('wire type');
  }
}
