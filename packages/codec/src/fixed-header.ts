import { ProtocolError, ReasonCode } from '@shoalmq/core';
import type { ProtocolVersion } from '@shoalmq/core';
import { malformed, violation } from './violations.ts';

/** Packet types (MQTT 5.0 §2.1.2). */
export const PacketType = {
  Connect: 1,
  Connack: 2,
  Publish: 3,
  Puback: 4,
  Pubrec: 5,
  Pubrel: 6,
  Pubcomp: 7,
  Subscribe: 8,
  Suback: 9,
  Unsubscribe: 10,
  Unsuback: 11,
  Pingreq: 12,
  Pingresp: 13,
  Disconnect: 14,
  Auth: 15,
} as const;

const SERVER_TYPES: ReadonlySet<number> = new Set([
  PacketType.Connack,
  PacketType.Suback,
  PacketType.Unsuback,
  PacketType.Pingresp,
]);

const CLIENT_FIRST_BYTES = [
  // PUBLISH: DUP needs QoS 1 or 2 [MQTT-3.3.1-2], and there is no QoS 3 [MQTT-3.3.1-4].
  ...[0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3a, 0x3b, 0x3c, 0x3d],
  ...[0x40, 0x50, 0x62, 0x70, 0x82, 0xa2, 0xc0, 0xe0],
];

/** First bytes that a client may send before its CONNECT was decoded: 1 where it may. */
export const FIRST_BYTES_BEFORE_CONNECT = table([0x10]);

const FIRST_BYTES = {
  // 3.1 has a DUP flag in packets of QoS 1 (MQTT 3.1 §2.1).
  3: table([...CLIENT_FIRST_BYTES, 0x6a, 0x8a, 0xaa]),
  4: table(CLIENT_FIRST_BYTES),
  5: table([...CLIENT_FIRST_BYTES, 0xf0]),
} as const;

/** First bytes that a client may send after its CONNECT. */
export function firstBytesOf(version: ProtocolVersion): Uint8Array {
  return FIRST_BYTES[version];
}

/** Says what is wrong with a first byte that its table refuses. `version` 0: before CONNECT. */
export function refusedFirstByte(first: number, version: ProtocolVersion | 0): ProtocolError {
  const type = first >> 4;
  if (type === 0) return malformed('§2.1.2', 'reserved packet type 0');
  if (version === 0) {
    return type === PacketType.Connect
      ? malformed('MQTT-2.1.3-1', 'reserved flags of CONNECT')
      : violation('MQTT-3.1.0-1', 'first packet is not CONNECT');
  }
  if (type === PacketType.Connect) return violation('MQTT-3.1.0-2', 'second CONNECT');
  if (SERVER_TYPES.has(type)) return violation('§2.1.2', 'packet type that only a server sends');
  if (type === PacketType.Auth && version < 5) {
    return malformed('§2.1.2', 'reserved packet type 15');
  }
  if (type === PacketType.Publish) {
    return (first & 6) === 6
      ? malformed('MQTT-3.3.1-4', 'PUBLISH with QoS 3')
      : violation('MQTT-3.3.1-2', 'DUP with QoS 0');
  }
  return malformed('MQTT-2.1.3-1', 'reserved flags of the fixed header');
}

/** The error for a packet larger than the limit. */
export function packetTooLarge(): ProtocolError {
  return new ProtocolError(ReasonCode.PacketTooLarge, 'MQTT-3.2.2-15', 'packet too large');
}

function table(firstBytes: readonly number[]): Uint8Array {
  const accepted = new Uint8Array(256);
  for (const first of firstBytes) accepted[first] = 1;
  return accepted;
}
