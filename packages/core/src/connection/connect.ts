import { PACKET_BYTES_UNLIMITED } from '../delivery/outbox.ts';
import { ProtocolError } from '../errors.ts';
import type { Limits } from '../limits.ts';
import type { ConnackProperties, ConnectPacket } from '../packet.ts';
import { ReasonCode } from '../reason-code.ts';

/** What a client asked for in CONNECT and what it gets. */
export interface ConnectGrant {
  readonly packet: ConnectPacket;
  /** Seconds, as the client asked; 3.x: 0 or for ever. */
  readonly requestedExpiry: number;
  /** Seconds, at most `sessionExpiryMax`. */
  readonly expiryInterval: number;
  /** Seconds; 0: off. */
  readonly keepAlive: number;
  readonly receiveMaximum: number;
  readonly packetBytesMax: number;
  readonly topicAliasMaximum: number;
}

/** Why this CONNECT gets no session, before anybody is asked; `undefined`: go on. */
export function refuseConnect(packet: ConnectPacket, limits: Limits): ProtocolError | undefined {
  if (packet.clientId === '' && packet.protocolVersion < 5) {
    if (packet.protocolVersion === 3 || !packet.cleanStart) {
      return new ProtocolError(
        ReasonCode.ClientIdentifierNotValid,
        'MQTT3-3.1.3-8',
        'an empty client identifier needs a clean session',
      );
    }
  }
  if (limits.keepAliveMax > 0 && packet.protocolVersion < 5) {
    // 3.x has no Server Keep Alive to tell the client about ours.
    if (packet.keepAlive === 0 || packet.keepAlive > limits.keepAliveMax) {
      return new ProtocolError(
        ReasonCode.ClientIdentifierNotValid,
        'MQTT3-3.1.2-24',
        `a keep alive above ${String(limits.keepAliveMax)} s (limits.keepAliveMax)`,
      );
    }
  }
  return undefined;
}

/** What the client gets, within our limits. */
export function grantConnect(packet: ConnectPacket, limits: Limits): ConnectGrant {
  const { properties } = packet;
  const requestedExpiry =
    packet.protocolVersion === 5
      ? (properties.sessionExpiryInterval ?? 0)
      : packet.cleanStart
        ? 0
        : 0xffff_ffff;
  const capped =
    limits.keepAliveMax > 0 && (packet.keepAlive === 0 || packet.keepAlive > limits.keepAliveMax);
  return {
    packet,
    requestedExpiry,
    expiryInterval: Math.min(requestedExpiry, limits.sessionExpiryMax),
    keepAlive: capped ? limits.keepAliveMax : packet.keepAlive,
    receiveMaximum: Math.min(properties.receiveMaximum ?? 65_535, limits.inflightMax),
    packetBytesMax: properties.maximumPacketSize ?? PACKET_BYTES_UNLIMITED,
    topicAliasMaximum: Math.min(properties.topicAliasMaximum ?? 0, limits.outboundTopicAliasMax),
  };
}

/** The properties of a successful CONNACK: only what differs from what the client would assume. */
export function connackProperties(
  grant: ConnectGrant,
  clientId: string,
  limits: Limits,
): ConnackProperties {
  const { packet } = grant;
  return {
    ...(grant.expiryInterval === grant.requestedExpiry
      ? {}
      : { sessionExpiryInterval: grant.expiryInterval }),
    ...(limits.receiveMaximum < 65_535 ? { receiveMaximum: limits.receiveMaximum } : {}),
    maximumPacketSize: limits.packetBytesMax,
    // Assigned when the client had none [MQTT-3.2.2-16].
    ...(packet.clientId === '' ? { assignedClientIdentifier: clientId } : {}),
    ...(limits.topicAliasMaximum > 0 ? { topicAliasMaximum: limits.topicAliasMaximum } : {}),
    ...(grant.keepAlive === packet.keepAlive ? {} : { serverKeepAlive: grant.keepAlive }),
  };
}
