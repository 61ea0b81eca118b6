import { ProtocolError, ReasonCode } from '@shoalmq/core';
import type { ConnectPacket, ProtocolVersion, QoS, Will } from '@shoalmq/core';
import { MessageProperties } from './message-properties.ts';
import type { PacketReader } from './packet-reader.ts';
import { PropertyId, readProperties } from './properties.ts';
import type { ClientProperties } from './properties.ts';
import { checkTopicName } from './topic-name.ts';
import { malformed, violation } from './violations.ts';

const CONNECT_PROPERTIES: ReadonlySet<number> = new Set([
  PropertyId.SessionExpiryInterval,
  PropertyId.ReceiveMaximum,
  PropertyId.MaximumPacketSize,
  PropertyId.TopicAliasMaximum,
  PropertyId.RequestResponseInformation,
  PropertyId.RequestProblemInformation,
  PropertyId.AuthenticationMethod,
  PropertyId.AuthenticationData,
  PropertyId.UserProperty,
]);

const Flag = {
  Reserved: 0x01,
  CleanStart: 0x02,
  Will: 0x04,
  WillRetain: 0x20,
  Password: 0x40,
  UserName: 0x80,
} as const;

/**
 * Decodes the body of a CONNECT of any version. Everything in the result is a copy.
 *
 * @throws ProtocolError 0x84 for another protocol or version, 0x81, 0x82 or 0x90 for what is wrong in the packet.
 */
export function readConnect(reader: PacketReader, topicLevelsMax: number): ConnectPacket {
  const protocolVersion = readProtocolVersion(reader);
  const flags = reader.byte();
  checkFlags(flags, protocolVersion);
  const keepAlive = reader.twoByteInteger();
  const properties = protocolVersion === 5 ? readConnectProperties(reader) : {};
  const clientId = reader.name();
  const will =
    (flags & Flag.Will) === 0
      ? undefined
      : readWill(reader, flags, protocolVersion, topicLevelsMax);
  const username = hasField(reader, flags, Flag.UserName, protocolVersion)
    ? reader.string()
    : undefined;
  const password = hasField(reader, flags, Flag.Password, protocolVersion)
    ? reader.binary()
    : undefined;
  reader.expectEnd('MQTT-3.1.4-1');
  return {
    kind: 'connect',
    protocolVersion,
    cleanStart: (flags & Flag.CleanStart) !== 0,
    keepAlive,
    clientId,
    username,
    password,
    will,
    properties,
  };
}

function readProtocolVersion(reader: PacketReader): ProtocolVersion {
  const name = reader.string();
  if (name !== 'MQTT' && name !== 'MQIsdp') {
    throw unsupported('MQTT-3.1.2-1', 'unknown protocol name');
  }
  const level = reader.byte();
  if (name === 'MQIsdp' ? level === 3 : level === 4 || level === 5) return level as ProtocolVersion;
  // A client older than 5.0 knows the CONNACK of 3.x only [MQTT3-3.1.2-2].
  const answerVersion = name === 'MQIsdp' ? 3 : level < 4 ? 4 : 5;
  throw unsupported('MQTT-3.1.2-2', `unsupported protocol level ${level}`, answerVersion);
}

function checkFlags(flags: number, version: ProtocolVersion): void {
  const willQos = (flags >> 3) & 3;
  if (willQos === 3) throw malformed('MQTT-3.1.2-12', 'Will QoS 3');
  // A password needs a user name in 3.x only.
  if (version < 5 && (flags & (Flag.UserName | Flag.Password)) === Flag.Password) {
    throw malformed('MQTT3-3.1.2-22', 'password without user name');
  }
  // In 3.1 the remaining combinations have no meaning, and none that would be wrong.
  if (version === 3) return;
  if ((flags & Flag.Reserved) !== 0) throw malformed('MQTT-3.1.2-3', 'reserved connect flag');
  if ((flags & Flag.Will) !== 0) return;
  if (willQos !== 0) throw malformed('MQTT-3.1.2-11', 'Will QoS without will');
  if ((flags & Flag.WillRetain) !== 0) throw malformed('MQTT-3.1.2-13', 'Will Retain without will');
}

function readConnectProperties(reader: PacketReader): ClientProperties {
  const properties = readProperties(reader, CONNECT_PROPERTIES);
  if (
    properties.authenticationData !== undefined &&
    properties.authenticationMethod === undefined
  ) {
    throw violation('§3.1.2.11.10', 'Authentication Data without Authentication Method');
  }
  return properties;
}

function readWill(
  reader: PacketReader,
  flags: number,
  version: ProtocolVersion,
  topicLevelsMax: number,
): Will {
  const properties = new MessageProperties();
  if (version === 5) {
    const length = reader.variableByteInteger();
    if (length > reader.remaining) {
      throw malformed('MQTT-4.13.1-1', 'property length beyond the packet');
    }
    properties.scan(reader.bytes, reader.position, reader.position + length, true);
    reader.position += length;
  }
  const topicStart = reader.position + 2;
  const topic = reader.string();
  checkTopicName(reader.bytes, topicStart, reader.position, topicLevelsMax, 'MQTT-4.7.0-1');
  const payload = reader.binary();
  return {
    topic,
    payload,
    qos: ((flags >> 3) & 3) as QoS,
    retain: (flags & Flag.WillRetain) !== 0,
    delayInterval: properties.delayInterval,
    messageExpiryInterval: properties.expiryInterval < 0 ? undefined : properties.expiryInterval,
    properties: properties.forwarded.slice(),
  };
}

/** Whether the field is in the payload. In 3.1 the end of the packet overrules the flag (MQTT 3.1 §3.1). */
function hasField(
  reader: PacketReader,
  flags: number,
  flag: number,
  version: ProtocolVersion,
): boolean {
  return (flags & flag) !== 0 && (version > 3 || reader.remaining > 0);
}

function unsupported(
  clause: string,
  message: string,
  answerVersion: ProtocolVersion = 5,
): ProtocolError {
  return new ProtocolError(ReasonCode.UnsupportedProtocolVersion, clause, message, answerVersion);
}
