import { generate, parser } from 'mqtt-packet';
import type {
  IPublishPacket,
  ISubackPacket,
  IUnsubackPacket,
  Packet,
  PacketCmd,
  UserProperties,
} from 'mqtt-packet';

/** The protocol levels of MQTT 3.1, 3.1.1 and 5.0, as CONNECT carries them. */
export type WireVersion = 3 | 4 | 5;

/** A packet to send, in the words of mqtt-packet. */
export type WirePacket = Packet;

/** The name of a packet type, in the words of mqtt-packet: `puback`. */
export type WirePacketType = PacketCmd;

/** User properties to send. The order of different names is theirs here; a repeated name has its values in an array. */
export type WireUserProperties = UserProperties;

/** A packet that came from the server: its fields as mqtt-packet decodes them, and the bytes. */
export type ReceivedPacket<T extends WirePacketType = WirePacketType> = T extends WirePacketType
  ? Fields<T> & {
      /** The whole packet, fixed header included. */
      readonly raw: Buffer;
    }
  : never;

type Fields<T extends WirePacketType> = T extends 'publish'
  ? Omit<IPublishPacket, 'payload'> & { payload: Buffer }
  : T extends 'suback'
    ? Omit<ISubackPacket, 'granted'> & { messageId: number; granted: number[] }
    : T extends 'unsuback'
      ? // MQTT 3 has no reason codes here.
        Omit<IUnsubackPacket, 'granted'> & { messageId: number; granted?: number[] }
      : T extends 'puback' | 'pubrec' | 'pubrel' | 'pubcomp'
        ? Extract<Packet, { cmd: T }> & { messageId: number }
        : Extract<Packet, { cmd: T }>;

/** What the server sent where a packet should be; nothing after it can be read. */
export interface Unreadable {
  readonly cmd: 'unreadable';
  readonly reason: string;
  readonly raw: Buffer;
}

/**
 * Encodes a packet, to be sent as it is or after the test has spoiled it.
 *
 * @throws Error when mqtt-packet refuses the packet. What a client may not send has to be written in bytes.
 */
export function encodePacket(packet: WirePacket, version: WireVersion): Buffer {
  const versioned =
    packet.cmd === 'connect'
      ? { protocolId: version === 3 ? 'MQIsdp' : 'MQTT', protocolVersion: version, ...packet }
      : packet;
  return generate(versioned as WirePacket, { protocolVersion: version });
}

/** Cuts a stream of bytes into packets. Lenient as mqtt-packet is: what it shows of `raw` is the truth. */
export class PacketReader {
  #chunks: Uint8Array[] = [];
  #buffered = 0;
  /** How many bytes are needed before it is worth looking again. */
  #needed = 2;
  #unreadable = false;

  /** Bytes of a packet that is not complete yet. */
  get buffered(): number {
    return this.#buffered;
  }

  /** Returns the packets that the chunk completes. After an unreadable one there are no more. */
  read(chunk: Uint8Array, version: WireVersion): (ReceivedPacket | Unreadable)[] {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    const packets: (ReceivedPacket | Unreadable)[] = [];
    if (this.#buffered < this.#needed || this.#unreadable) return packets;

    let bytes = Buffer.concat(this.#chunks);
    this.#needed = packetLength(bytes);
    while (bytes.length >= this.#needed) {
      const raw = bytes.subarray(0, this.#needed);
      const packet = decode(raw, version);
      packets.push(packet);
      bytes = bytes.subarray(raw.length);
      if (packet.cmd === 'unreadable') {
        this.#unreadable = true;
        break;
      }
      this.#needed = packetLength(bytes);
    }
    this.#chunks = [bytes];
    this.#buffered = bytes.length;
    return packets;
  }
}

/**
 * Lists the user properties of a packet from a 5.0 server in the order of the bytes, which mqtt-packet does not keep
 * [MQTT-3.3.2-18].
 */
export function userPropertiesOf({ cmd, raw }: ReceivedPacket): [name: string, value: string][] {
  const found: [string, string][] = [];
  let at = propertiesOffset(cmd, raw);
  if (at >= raw.length) return found;
  const section = variableByteInteger(raw, at);
  at = section.end;
  const end = at + section.value;
  while (at < end) {
    const id = raw[at++]!;
    if (id === 0x26) {
      const name = sized(raw, at);
      const value = sized(raw, name.end);
      found.push([name.bytes.toString(), value.bytes.toString()]);
      at = value.end;
    } else if (id === 0x0b) {
      at = variableByteInteger(raw, at).end;
    } else if (id in FIXED_PROPERTY_BYTES) {
      at += FIXED_PROPERTY_BYTES[id]!;
    } else {
      at = sized(raw, at).end;
    }
  }
  return found;
}

// Properties of one, two and four bytes; the others begin with their length. MQTT 5.0 §2.2.2.2.
const FIXED_PROPERTY_BYTES: Readonly<Record<number, number>> = {
  ...{ 0x01: 1, 0x17: 1, 0x19: 1, 0x24: 1, 0x25: 1, 0x28: 1, 0x29: 1, 0x2a: 1 },
  ...{ 0x13: 2, 0x21: 2, 0x22: 2, 0x23: 2 },
  ...{ 0x02: 4, 0x11: 4, 0x18: 4, 0x27: 4 },
};

function propertiesOffset(cmd: WirePacketType, raw: Buffer): number {
  const start = variableByteInteger(raw, 1).end;
  switch (cmd) {
    case 'connack':
    case 'suback':
    case 'unsuback':
      return start + 2;
    case 'puback':
    case 'pubrec':
    case 'pubrel':
    case 'pubcomp':
      return start + 3;
    case 'disconnect':
    case 'auth':
      return start + 1;
    case 'publish': {
      const afterTopic = sized(raw, start).end;
      return (raw[0]! & 0x06) === 0 ? afterTopic : afterTopic + 2;
    }
    default:
      return raw.length;
  }
}

function sized(raw: Buffer, at: number): { bytes: Buffer; end: number } {
  const end = at + 2 + raw.readUInt16BE(at);
  return { bytes: raw.subarray(at + 2, end), end };
}

function variableByteInteger(raw: Buffer, at: number): { value: number; end: number } {
  let value = 0;
  for (let i = 0; i < 4; i++) {
    const byte = raw.readUInt8(at + i);
    value += (byte & 0x7f) * 128 ** i;
    if (byte < 0x80) return { value, end: at + i + 1 };
  }
  throw new RangeError('a variable byte integer has at most four bytes');
}

/** Length of the packet at the start of `bytes`, or how many bytes it takes to know more. */
function packetLength(bytes: Buffer): number {
  for (let i = 1; i <= 4; i++) {
    if (i >= bytes.length) return i + 1;
    if (bytes[i]! < 0x80) {
      const { value, end } = variableByteInteger(bytes, 1);
      return end + value;
    }
  }
  // No packet at all; five bytes are enough to say so.
  return 5;
}

function decode(raw: Buffer, version: WireVersion): ReceivedPacket | Unreadable {
  const decoded: ReceivedPacket[] = [];
  let reason = 'not one packet';
  try {
    const decoder = parser({ protocolVersion: version });
    decoder.on('packet', (packet) =>
      decoded.push(Object.assign(packet, { raw }) as ReceivedPacket),
    );
    decoder.on('error', (error: unknown) => {
      decoded.length = 0;
      reason = (error as Error).message;
    });
    decoder.parse(raw);
  } catch (error) {
    // A length beyond the end of the packet.
    reason = (error as Error).message;
  }
  const [packet] = decoded;
  return packet && decoded.length === 1 ? packet : { cmd: 'unreadable', reason, raw };
}
