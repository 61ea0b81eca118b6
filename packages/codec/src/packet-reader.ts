import { checkName, checkString, stringOf } from './utf8.ts';
import { malformed } from './violations.ts';

/**
 * A cursor over the body of one packet, for everything off the hot path. Each read throws a ProtocolError 0x81
 * when the packet ends before the value does, so that nothing is ever read from the packet behind it.
 */
export class PacketReader {
  readonly bytes: Uint8Array;
  position: number;
  end: number;

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.bytes = bytes;
    this.position = start;
    this.end = end;
  }

  get remaining(): number {
    return this.end - this.position;
  }

  byte(): number {
    return this.bytes[this.#take(1)] as number;
  }

  twoByteInteger(): number {
    const at = this.#take(2);
    return ((this.bytes[at] as number) << 8) | (this.bytes[at + 1] as number);
  }

  fourByteInteger(): number {
    const high = this.twoByteInteger();
    return high * 0x10000 + this.twoByteInteger();
  }

  /** @throws ProtocolError 0x81 for a fifth byte, and for more bytes than needed [MQTT-1.5.5-1]. */
  variableByteInteger(): number {
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.byte();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (byte === 0 && shift > 0) throw malformed('MQTT-1.5.5-1', 'integer with padding');
        return value;
      }
    }
    throw malformed('MQTT-1.5.5-1', 'integer of more than four bytes');
  }

  string(): string {
    const length = this.twoByteInteger();
    const at = this.#take(length);
    return stringOf(this.bytes, at, at + length, checkString(this.bytes, at, at + length));
  }

  /** A string under the stricter rules of `checkName`. */
  name(): string {
    const length = this.twoByteInteger();
    const at = this.#take(length);
    return stringOf(this.bytes, at, at + length, checkName(this.bytes, at, at + length));
  }

  /** A copy of Binary Data. */
  binary(): Uint8Array {
    const length = this.twoByteInteger();
    const at = this.#take(length);
    // Not `slice`, which does not copy when the bytes are a node Buffer.
    return new Uint8Array(this.bytes.subarray(at, at + length));
  }

  /** @throws ProtocolError 0x81 when there is something behind what was read. */
  expectEnd(clause: string): void {
    if (this.position !== this.end) throw malformed(clause, 'bytes left over in the packet');
  }

  /** Skips `length` bytes and returns where they start. */
  #take(length: number): number {
    const at = this.position;
    if (length > this.end - at) throw malformed('MQTT-4.13.1-1', 'packet ends within a field');
    this.position = at + length;
    return at;
  }
}
