import type {
  ProtocolVersion,
  QoS,
  SubscribePacket,
  SubscribeRequest,
  UnsubscribePacket,
} from '@shoalmq/core';
import type { PacketReader } from './packet-reader.ts';
import { PropertyId, readProperties } from './properties.ts';
import type { ClientProperties } from './properties.ts';
import { malformed, violation } from './violations.ts';

const SUBSCRIBE_PROPERTIES: ReadonlySet<number> = new Set([
  PropertyId.SubscriptionIdentifier,
  PropertyId.UserProperty,
]);
const UNSUBSCRIBE_PROPERTIES: ReadonlySet<number> = new Set([PropertyId.UserProperty]);

/** @throws ProtocolError 0x81 or 0x82. */
export function readSubscribe(reader: PacketReader, version: ProtocolVersion): SubscribePacket {
  const packetId = readPacketId(reader);
  const properties: ClientProperties =
    version === 5 ? readProperties(reader, SUBSCRIBE_PROPERTIES) : {};
  if (reader.remaining === 0) throw violation('MQTT-3.8.3-2', 'SUBSCRIBE without topic filter');
  const requests: SubscribeRequest[] = [];
  while (reader.remaining > 0) requests.push(readRequest(reader, version));
  return {
    kind: 'subscribe',
    packetId,
    requests,
    subscriptionIdentifier: properties.subscriptionIdentifier ?? 0,
    ...(properties.userProperties && { userProperties: properties.userProperties }),
  };
}

/** @throws ProtocolError 0x81 or 0x82. */
export function readUnsubscribe(reader: PacketReader, version: ProtocolVersion): UnsubscribePacket {
  const packetId = readPacketId(reader);
  const properties: ClientProperties =
    version === 5 ? readProperties(reader, UNSUBSCRIBE_PROPERTIES) : {};
  if (reader.remaining === 0) throw violation('MQTT-3.10.3-2', 'UNSUBSCRIBE without topic filter');
  const filters: string[] = [];
  while (reader.remaining > 0) filters.push(reader.name());
  return { kind: 'unsubscribe', packetId, filters, ...properties };
}

function readRequest(reader: PacketReader, version: ProtocolVersion): SubscribeRequest {
  const filter = reader.name();
  const options = reader.byte();
  const qos = options & 3;
  if (version < 5) {
    if (options > 2) throw malformed('MQTT3-3.8.3-4', 'invalid requested QoS');
    return {
      filter,
      qos: qos as QoS,
      noLocal: false,
      retainAsPublished: false,
      retainHandling: 0,
    };
  }
  const retainHandling = (options >> 4) & 3;
  const noLocal = (options & 4) !== 0;
  if (options > 0x3f) throw malformed('MQTT-3.8.3-5', 'reserved subscription options');
  if (qos === 3) throw violation('§3.8.3.1', 'Maximum QoS 3');
  if (retainHandling === 3) throw violation('§3.8.3.1', 'Retain Handling 3');
  if (noLocal && filter.startsWith('$share/')) {
    throw violation('MQTT-3.8.3-4', 'No Local on a shared subscription');
  }
  return {
    filter,
    qos: qos as QoS,
    noLocal,
    retainAsPublished: (options & 8) !== 0,
    retainHandling: retainHandling as 0 | 1 | 2,
  };
}

function readPacketId(reader: PacketReader): number {
  const packetId = reader.twoByteInteger();
  if (packetId === 0) throw violation('MQTT-2.2.1-3', 'packet identifier 0');
  return packetId;
}
