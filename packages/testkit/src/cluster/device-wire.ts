/** The protocol levels that devices speak: MQTT 3.1.1 and 5.0. */
export type DeviceLevel = 4 | 5;

export type Qos = 0 | 1 | 2;

/** A message that the broker publishes for a client that is gone. */
export interface DeviceWill {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: Qos;
  /** MQTT 5 only. */
  readonly delaySeconds?: number;
}

/** A packet from the broker. Fields that its type does not have are 0 or empty. */
export interface DevicePacket {
  /** The high half of the first byte: 3 is PUBLISH. */
  readonly type: number;
  readonly dup: boolean;
  readonly qos: Qos;
  readonly retain: boolean;
  readonly packetId: number;
  readonly topic: string;
  readonly payload: Buffer;
  /** The reason or return code; of SUBACK and UNSUBACK the largest, 0 for an UNSUBACK of 3.1.1. */
  readonly code: number;
  readonly sessionPresent: boolean;
  /** Of CONNACK; 65,535 when it does not say. */
  readonly receiveMaximum: number;
}

export const CONNACK = 2;
export const PUBLISH = 3;
export const PUBACK = 4;
export const PUBREC = 5;
export const PUBREL = 6;
export const PUBCOMP = 7;
export const SUBACK = 9;
export const UNSUBACK = 11;
export const PINGRESP = 13;
export const DISCONNECT = 14;

export const PINGREQ = Buffer.from([0xc0, 0]);

/** DISCONNECT with reason 0: the session goes on or ends as CONNECT said, and the will is dropped. */
export const DISCONNECT_NORMALLY = Buffer.from([0xe0, 0]);

export function encodeConnect(options: {
  readonly clientId: string;
  readonly level: DeviceLevel;
  readonly clean: boolean;
  readonly sessionExpirySeconds: number;
  readonly keepAliveSeconds: number;
  readonly receiveMaximum: number | undefined;
  readonly will: DeviceWill | undefined;
}): Buffer {
  const { level, will, receiveMaximum } = options;
  const flags = (options.clean ? 0x02 : 0) | (will === undefined ? 0 : 0x04 | (will.qos << 3));
  const parts: Uint8Array[] = [Buffer.from([0, 4, 0x4d, 0x51, 0x54, 0x54, level, flags])];
  parts.push(uint16(options.keepAliveSeconds));
  if (level === 5) {
    const properties = Buffer.concat([
      Buffer.from([0x11]),
      uint32(options.sessionExpirySeconds),
      ...(receiveMaximum === undefined ? [] : [Buffer.from([0x21]), uint16(receiveMaximum)]),
    ]);
    parts.push(variableInteger(properties.length), properties);
  }
  parts.push(text(options.clientId));
  if (will !== undefined) {
    if (level === 5) {
      parts.push(
        will.delaySeconds === undefined
          ? Buffer.from([0])
          : Buffer.concat([Buffer.from([5, 0x18]), uint32(will.delaySeconds)]),
      );
    }
    parts.push(text(will.topic), uint16(will.payload.length), will.payload);
  }
  return frame(0x10, parts);
}

export function encodeSubscribe(
  packetId: number,
  filter: string,
  qos: Qos,
  level: DeviceLevel,
): Buffer {
  return frame(0x82, [uint16(packetId), noProperties(level), text(filter), Buffer.from([qos])]);
}

export function encodeUnsubscribe(packetId: number, filter: string, level: DeviceLevel): Buffer {
  return frame(0xa2, [uint16(packetId), noProperties(level), text(filter)]);
}

export function encodePublish(
  message: {
    readonly topic: string;
    readonly payload: Uint8Array;
    readonly qos: Qos;
    readonly retain: boolean;
    readonly dup: boolean;
    readonly packetId: number;
  },
  level: DeviceLevel,
): Buffer {
  const { qos } = message;
  return frame(0x30 | (message.dup ? 8 : 0) | (qos << 1) | (message.retain ? 1 : 0), [
    text(message.topic),
    qos === 0 ? Buffer.alloc(0) : uint16(message.packetId),
    noProperties(level),
    message.payload,
  ]);
}

/** PUBACK, PUBREC, PUBREL or PUBCOMP, with success. */
export function encodeAcknowledgement(type: number, packetId: number): Buffer {
  return Buffer.from([(type << 4) | (type === PUBREL ? 2 : 0), 2, packetId >>> 8, packetId & 0xff]);
}

/** Cuts what comes from a broker into packets. It trusts the broker: what is wrong throws somehow. */
export class DevicePacketReader {
  readonly #level: DeviceLevel;
  #rest: Buffer = Buffer.alloc(0);

  constructor(level: DeviceLevel) {
    this.#level = level;
  }

  /** Calls back for each packet that is complete. Payloads are valid during the call only. */
  read(chunk: Buffer, onPacket: (packet: DevicePacket) => void): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    for (;;) {
      const length = integerAt(bytes, at + 1);
      if (length === undefined || length.next + length.value > bytes.length) break;
      const end = length.next + length.value;
      onPacket(decode(bytes, bytes[at]!, length.next, end, this.#level));
      at = end;
    }
    this.#rest = Buffer.from(bytes.subarray(at));
  }
}

const EMPTY: Buffer = Buffer.alloc(0);

function decode(
  bytes: Buffer,
  first: number,
  start: number,
  end: number,
  level: DeviceLevel,
): DevicePacket {
  const packet = {
    ...{ type: first >>> 4, dup: false, qos: 0 as Qos, retain: false, packetId: 0, topic: '' },
    ...{ payload: EMPTY, code: 0, sessionPresent: false, receiveMaximum: 65_535 },
  };
  switch (packet.type) {
    case CONNACK:
      packet.sessionPresent = (bytes[start]! & 1) === 1;
      packet.code = bytes[start + 1]!;
      if (level === 5) packet.receiveMaximum = receiveMaximumAt(bytes, start + 2);
      break;
    case PUBLISH: {
      packet.dup = (first & 8) !== 0;
      packet.qos = ((first >>> 1) & 3) as Qos;
      packet.retain = (first & 1) !== 0;
      let at = start + 2 + bytes.readUInt16BE(start);
      packet.topic = bytes.toString('utf8', start + 2, at);
      if (packet.qos > 0) {
        packet.packetId = bytes.readUInt16BE(at);
        at += 2;
      }
      if (level === 5) at = afterProperties(bytes, at);
      packet.payload = bytes.subarray(at, end);
      break;
    }
    case PUBACK:
    case PUBREC:
    case PUBREL:
    case PUBCOMP:
      packet.packetId = bytes.readUInt16BE(start);
      if (end - start > 2) packet.code = bytes[start + 2]!;
      break;
    case SUBACK:
    case UNSUBACK: {
      packet.packetId = bytes.readUInt16BE(start);
      const at = level === 5 ? afterProperties(bytes, start + 2) : start + 2;
      packet.code = Math.max(0, ...bytes.subarray(at, end));
      break;
    }
    case DISCONNECT:
      if (end > start) packet.code = bytes[start]!;
      break;
    default:
  }
  return packet;
}

function receiveMaximumAt(bytes: Buffer, start: number): number {
  const length = integerAt(bytes, start)!;
  const end = length.next + length.value;
  for (let at = length.next; at < end;) {
    const id = bytes[at]!;
    at += 1;
    if (id === 0x21) return bytes.readUInt16BE(at);
    if ([0x24, 0x25, 0x28, 0x29, 0x2a].includes(id)) at += 1;
    else if ([0x13, 0x22].includes(id)) at += 2;
    else if ([0x11, 0x27].includes(id)) at += 4;
    else {
      // The others are text or binary; a user property is two of them.
      at += 2 + bytes.readUInt16BE(at);
      if (id === 0x26) at += 2 + bytes.readUInt16BE(at);
    }
  }
  return 65_535;
}

function afterProperties(bytes: Buffer, at: number): number {
  const length = integerAt(bytes, at)!;
  return length.next + length.value;
}

/** The variable byte integer at `at`; `undefined` when it is cut off. */
function integerAt(bytes: Buffer, at: number): { value: number; next: number } | undefined {
  let value = 0;
  for (let i = 0; i < 4; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 128 ** i;
    if (byte < 0x80) return { value, next: at + i + 1 };
  }
  throw new Error('malformed variable byte integer');
}

function frame(first: number, parts: readonly Uint8Array[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  return Buffer.concat([Buffer.from([first]), variableInteger(length), ...parts]);
}

function noProperties(level: DeviceLevel): Buffer {
  return level === 5 ? Buffer.from([0]) : EMPTY;
}

function variableInteger(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return Buffer.from(bytes);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint16(bytes.length), bytes]);
}

function uint16(value: number): Buffer {
  return Buffer.from([value >>> 8, value & 0xff]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
