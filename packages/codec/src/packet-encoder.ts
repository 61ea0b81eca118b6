import { connackReturnCode } from '@shoalmq/core';
import type {
  AckType,
  ByteSink,
  ConnackProperties,
  Message,
  OutgoingPacket,
  PacketEncoder,
  ProtocolVersion,
  PublishForm,
  UserProperties,
} from '@shoalmq/core';
import { generate } from 'mqtt-packet';
import type { Packet } from 'mqtt-packet';
import {
  copyBytes,
  hasExpiry,
  publishPropertiesBytes,
  publishRemainingLength,
  variableByteIntegerBytes,
  writePublishProperties,
  writeVariableByteInteger,
} from './publish-encoder.ts';

const STRING_BYTES_MAX = 65_535;
const PUBREL = 6;

/** An encoder; it keeps no state but `packetIdOffset`, and any number of connections may share it. */
export function createPacketEncoder(): PacketEncoder {
  return new Encoder();
}

class Encoder implements PacketEncoder {
  packetIdOffset = 0;

  publishBytes(
    message: Message,
    form: PublishForm,
    qos: number,
    topicAlias: number,
    omitTopic: boolean,
  ): number {
    const propertiesBytes =
      form.version === 5
        ? publishPropertiesBytes(message, form.subscriptionIds, hasExpiry(message), topicAlias)
        : -1;
    const remaining = publishRemainingLength(message, qos, propertiesBytes, omitTopic);
    return 1 + variableByteIntegerBytes(remaining) + remaining;
  }

  publish(
    sink: ByteSink,
    message: Message,
    form: PublishForm,
    header: number,
    packetId: number,
    remainingExpiry: number,
    topicAlias: number,
    omitTopic: boolean,
    withPayload: boolean,
  ): number {
    const qos = header & 6;
    const propertiesBytes =
      form.version === 5
        ? publishPropertiesBytes(message, form.subscriptionIds, remainingExpiry >= 0, topicAlias)
        : -1;
    const remaining = publishRemainingLength(message, qos, propertiesBytes, omitTopic);
    const total = 1 + variableByteIntegerBytes(remaining) + remaining;
    sink.reserve(withPayload ? total : total - (message.end - message.start));
    const bytes = sink.bytes;
    let position = sink.length;
    bytes[position] = header;
    position = writeVariableByteInteger(bytes, position + 1, remaining);
    const topic = message.topic.bytes;
    const topicBytes = omitTopic ? 0 : topic.length;
    bytes[position] = topicBytes >> 8;
    bytes[position + 1] = topicBytes;
    position = copyBytes(bytes, position + 2, topic, 0, topicBytes);
    if (qos !== 0) {
      this.packetIdOffset = position;
      bytes[position] = packetId >> 8;
      bytes[position + 1] = packetId;
      position += 2;
    }
    if (propertiesBytes >= 0) {
      position = writePublishProperties(
        bytes,
        position,
        propertiesBytes,
        message,
        form.subscriptionIds,
        remainingExpiry,
        topicAlias,
      );
    }
    if (withPayload) {
      position = copyBytes(bytes, position, message.bytes, message.start, message.end);
    }
    sink.length = position;
    return total;
  }

  ack(
    sink: ByteSink,
    type: AckType,
    packetId: number,
    reasonCode: number,
    version: ProtocolVersion,
  ): void {
    sink.reserve(5);
    const bytes = sink.bytes;
    const at = sink.length;
    const withReason = version === 5 && reasonCode !== 0;
    bytes[at] = type === PUBREL ? 0x62 : type << 4;
    bytes[at + 1] = withReason ? 3 : 2;
    bytes[at + 2] = packetId >> 8;
    bytes[at + 3] = packetId;
    if (withReason) bytes[at + 4] = reasonCode;
    sink.length = at + (withReason ? 5 : 4);
  }

  packet(
    sink: ByteSink,
    packet: OutgoingPacket,
    version: ProtocolVersion,
    packetBytesMax: number,
  ): boolean {
    if (version < 5 && (packet.kind === 'disconnect' || packet.kind === 'auth')) return false;
    for (const detail of DETAILS) {
      const encoded = generate(toGenerate(packet, version, detail), { protocolVersion: version });
      if (encoded.length > packetBytesMax) continue;
      sink.reserve(encoded.length);
      sink.bytes.set(encoded, sink.length);
      sink.length += encoded.length;
      return true;
    }
    return false;
  }
}

/** What may be left out of a packet that is too large otherwise, in this order. */
interface Detail {
  readonly userProperties: boolean;
  readonly reasonString: boolean;
}

const DETAILS: readonly Detail[] = [
  { userProperties: true, reasonString: true },
  { userProperties: false, reasonString: true },
  { userProperties: false, reasonString: false },
];

function toGenerate(packet: OutgoingPacket, version: ProtocolVersion, detail: Detail): Packet {
  switch (packet.kind) {
    case 'connack':
      return version === 5
        ? {
            cmd: 'connack',
            sessionPresent: packet.sessionPresent,
            reasonCode: packet.reasonCode,
            properties: connackProperties(packet.properties, detail),
          }
        : {
            cmd: 'connack',
            // Reserved in 3.1.
            sessionPresent: version === 4 && packet.sessionPresent,
            returnCode: connackReturnCode(packet.reasonCode),
          };
    case 'suback':
      return {
        cmd: 'suback',
        messageId: packet.packetId,
        // 3.x knows one failure only [MQTT3-3.9.3-2].
        granted: packet.reasonCodes.map((code) => (version < 5 && code >= 0x80 ? 0x80 : code)),
        properties: reasonStringOf(packet.reasonString, detail),
      };
    case 'unsuback':
      return {
        cmd: 'unsuback',
        messageId: packet.packetId,
        granted: [...packet.reasonCodes],
        properties: reasonStringOf(packet.reasonString, detail),
      };
    case 'puback':
    case 'pubrec':
    case 'pubrel':
    case 'pubcomp': {
      const properties = reasonStringOf(packet.reasonString, detail);
      return {
        cmd: packet.kind,
        messageId: packet.packetId,
        reasonCode: packet.reasonCode,
        // An empty object would be written as a length of 0, which may be left out.
        ...(properties.reasonString !== undefined && { properties }),
      };
    }
    case 'pingresp':
      return { cmd: 'pingresp' };
    case 'disconnect':
      return {
        cmd: 'disconnect',
        reasonCode: packet.reasonCode,
        properties: {
          ...reasonStringOf(packet.reasonString, detail),
          ...(packet.serverReference !== undefined && { serverReference: packet.serverReference }),
        },
      };
    case 'auth':
      return {
        cmd: 'auth',
        reasonCode: packet.reasonCode,
        properties: {
          ...reasonStringOf(packet.reasonString, detail),
          ...(packet.authenticationMethod !== undefined && {
            authenticationMethod: packet.authenticationMethod,
          }),
          ...authenticationDataOf(packet.authenticationData),
        },
      };
  }
}

function connackProperties(properties: ConnackProperties, detail: Detail) {
  const { userProperties, reasonString, authenticationData, ...rest } = properties;
  return {
    ...rest,
    ...reasonStringOf(reasonString, detail),
    ...authenticationDataOf(authenticationData),
    ...(userProperties !== undefined &&
      detail.userProperties && { userProperties: byName(userProperties) }),
  };
}

function reasonStringOf(text: string | undefined, detail: Detail): { reasonString?: string } {
  if (text === undefined || !detail.reasonString) return {};
  return Buffer.byteLength(text) > STRING_BYTES_MAX ? {} : { reasonString: text };
}

function authenticationDataOf(data: Uint8Array | undefined): { authenticationData?: Buffer } {
  if (data === undefined) return {};
  return { authenticationData: Buffer.from(data.buffer, data.byteOffset, data.length) };
}

/** The form of mqtt-packet, which keeps the order of values of one name but not across names. */
function byName(userProperties: UserProperties): Record<string, string[]> {
  const grouped = Object.create(null) as Record<string, string[]>;
  for (const [name, value] of userProperties) (grouped[name] ??= []).push(value);
  return grouped;
}
