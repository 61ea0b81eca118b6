import type { PacketReader } from './packet-reader.ts';
import { checkTopicName } from './topic-name.ts';
import { utf8Encode } from './utf8.ts';
import { malformed, violation } from './violations.ts';

/** Property identifiers (MQTT 5.0 §2.2.2.2). */
export const PropertyId = {
  PayloadFormatIndicator: 0x01,
  MessageExpiryInterval: 0x02,
  ContentType: 0x03,
  ResponseTopic: 0x08,
  CorrelationData: 0x09,
  SubscriptionIdentifier: 0x0b,
  SessionExpiryInterval: 0x11,
  AssignedClientIdentifier: 0x12,
  ServerKeepAlive: 0x13,
  AuthenticationMethod: 0x15,
  AuthenticationData: 0x16,
  RequestProblemInformation: 0x17,
  WillDelayInterval: 0x18,
  RequestResponseInformation: 0x19,
  ResponseInformation: 0x1a,
  ServerReference: 0x1c,
  ReasonString: 0x1f,
  ReceiveMaximum: 0x21,
  TopicAliasMaximum: 0x22,
  TopicAlias: 0x23,
  MaximumQoS: 0x24,
  RetainAvailable: 0x25,
  UserProperty: 0x26,
  MaximumPacketSize: 0x27,
  WildcardSubscriptionAvailable: 0x28,
  SubscriptionIdentifiersAvailable: 0x29,
  SharedSubscriptionAvailable: 0x2a,
} as const;

const KNOWN_IDS: ReadonlySet<number> = new Set(Object.values(PropertyId));

/** Everything a client may say in properties; what is absent is not there. */
export interface ClientProperties {
  payloadFormatIndicator?: 0 | 1;
  contentType?: string;
  responseTopic?: string;
  correlationData?: Uint8Array;
  subscriptionIdentifier?: number;
  sessionExpiryInterval?: number;
  authenticationMethod?: string;
  authenticationData?: Uint8Array;
  requestProblemInformation?: boolean;
  requestResponseInformation?: boolean;
  reasonString?: string;
  receiveMaximum?: number;
  topicAliasMaximum?: number;
  maximumPacketSize?: number;
  userProperties?: (readonly [name: string, value: string])[];
}

/**
 * The error for a property where it must not be: 0x82, or 0x81 when no such property exists. (The standard has
 * 0x81 for both, §2.2.2.2; a known property in the wrong packet is a client that breaks the protocol and not bytes
 * that cannot be read.)
 */
export function misplacedProperty(id: number): Error {
  return KNOWN_IDS.has(id)
    ? violation('§2.2.2.2', `property 0x${id.toString(16)} does not belong in this packet`)
    : malformed('§2.2.2.2', 'unknown property');
}

/** The error for a property that occurs twice and may not. */
export function repeatedProperty(id: number): Error {
  return violation('§2.2.2.2', `property 0x${id.toString(16)} occurs twice`);
}

/**
 * Reads a Property Length and the properties, of which only those in `allowed` may occur.
 *
 * @throws ProtocolError 0x81 or 0x82.
 */
export function readProperties(
  reader: PacketReader,
  allowed: ReadonlySet<number>,
): ClientProperties {
  const length = reader.variableByteInteger();
  if (length > reader.remaining) {
    throw malformed('MQTT-4.13.1-1', 'property length beyond the packet');
  }
  const packetEnd = reader.end;
  reader.end = reader.position + length;
  const properties = readPropertiesToEnd(reader, allowed);
  reader.end = packetEnd;
  return properties;
}

/** `readProperties` without a leading length: the properties reach to the end of the reader. */
export function readPropertiesToEnd(
  reader: PacketReader,
  allowed: ReadonlySet<number>,
): ClientProperties {
  const properties: ClientProperties = {};
  const seen = new Uint8Array(64);
  while (reader.remaining > 0) {
    const id = reader.byte();
    if (!allowed.has(id)) throw misplacedProperty(id);
    if (id === PropertyId.UserProperty) {
      // Repeats, in an order that means something [MQTT-3.3.2-18].
      const name = reader.string();
      (properties.userProperties ??= []).push([name, reader.string()]);
      continue;
    }
    if (seen[id] !== 0) throw repeatedProperty(id);
    seen[id] = 1;
    readProperty(reader, id, properties);
  }
  return properties;
}

function readProperty(reader: PacketReader, id: number, properties: ClientProperties): void {
  switch (id) {
    case PropertyId.PayloadFormatIndicator:
      properties.payloadFormatIndicator = readBit(reader);
      return;
    case PropertyId.ContentType:
      properties.contentType = reader.string();
      return;
    case PropertyId.ResponseTopic: {
      const start = reader.position + 2;
      properties.responseTopic = reader.string();
      checkResponseTopic(reader.bytes, start, reader.position);
      return;
    }
    case PropertyId.CorrelationData:
      properties.correlationData = reader.binary();
      return;
    case PropertyId.SubscriptionIdentifier:
      properties.subscriptionIdentifier = positive(
        reader.variableByteInteger(),
        '§3.8.2.1.2',
        'Subscription Identifier',
      );
      return;
    case PropertyId.SessionExpiryInterval:
      properties.sessionExpiryInterval = reader.fourByteInteger();
      return;
    case PropertyId.AuthenticationMethod:
      properties.authenticationMethod = reader.string();
      return;
    case PropertyId.AuthenticationData:
      properties.authenticationData = reader.binary();
      return;
    case PropertyId.RequestProblemInformation:
      properties.requestProblemInformation = readBit(reader) === 1;
      return;
    case PropertyId.RequestResponseInformation:
      properties.requestResponseInformation = readBit(reader) === 1;
      return;
    case PropertyId.ReasonString:
      properties.reasonString = reader.string();
      return;
    case PropertyId.ReceiveMaximum:
      properties.receiveMaximum = positive(
        reader.twoByteInteger(),
        '§3.1.2.11.3',
        'Receive Maximum',
      );
      return;
    case PropertyId.TopicAliasMaximum:
      properties.topicAliasMaximum = reader.twoByteInteger();
      return;
    case PropertyId.MaximumPacketSize:
      properties.maximumPacketSize = positive(
        reader.fourByteInteger(),
        '§3.1.2.11.4',
        'Maximum Packet Size',
      );
      return;
    default:
      throw misplacedProperty(id);
  }
}

/** @throws ProtocolError like `checkTopicName`; a Response Topic has no wildcards [MQTT-3.3.2-14]. */
export function checkResponseTopic(bytes: Uint8Array, start: number, end: number): void {
  checkTopicName(bytes, start, end, Number.POSITIVE_INFINITY, 'MQTT-3.3.2-14');
}

function readBit(reader: PacketReader): 0 | 1 {
  const value = reader.byte();
  if (value > 1) throw violation('§2.2.2.2', 'property that is neither 0 nor 1');
  return value as 0 | 1;
}

function positive(value: number, clause: string, name: string): number {
  if (value === 0) throw violation(clause, `${name} of 0`);
  return value;
}

/** Properties in their encoded form, written one after another. */
export class PropertyWriter {
  readonly #pieces: Uint8Array[] = [];
  #length = 0;

  byte(id: number, value: number): void {
    this.#push(Uint8Array.of(id, value));
  }

  string(id: number, value: string): void {
    this.#push(Uint8Array.of(id));
    this.#prefixed(utf8Encode(value));
  }

  binary(id: number, value: Uint8Array): void {
    this.#push(Uint8Array.of(id));
    this.#prefixed(value);
  }

  pair(id: number, name: string, value: string): void {
    this.string(id, name);
    this.#prefixed(utf8Encode(value));
  }

  bytes(): Uint8Array {
    const bytes = new Uint8Array(this.#length);
    let at = 0;
    for (const piece of this.#pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  #prefixed(value: Uint8Array): void {
    if (value.length > 0xffff) throw new RangeError('a property value has at most 65,535 bytes');
    this.#push(Uint8Array.of(value.length >> 8, value.length & 0xff));
    this.#push(value);
  }

  #push(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#length += piece.length;
  }
}
