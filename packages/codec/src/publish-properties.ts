import type { UserProperties } from '@shoalmq/core';
import { PacketReader } from './packet-reader.ts';
import { PropertyId, PropertyWriter, readPropertiesToEnd } from './properties.ts';

/** The properties of a message that reach its subscribers as the publisher wrote them. */
export interface PublishProperties {
  /** 1: the payload is UTF-8. */
  readonly payloadFormatIndicator?: 0 | 1;
  readonly contentType?: string;
  readonly responseTopic?: string;
  readonly correlationData?: Uint8Array;
  readonly userProperties?: UserProperties;
}

const FORWARDED: ReadonlySet<number> = new Set([
  PropertyId.PayloadFormatIndicator,
  PropertyId.ContentType,
  PropertyId.ResponseTopic,
  PropertyId.CorrelationData,
  PropertyId.UserProperty,
]);

/**
 * What is in `Message.properties` (or `Will.properties`). Nothing in the result refers to `bytes`.
 *
 * @throws ProtocolError 0x81 or 0x82 for bytes that are not such properties.
 */
export function decodePublishProperties(bytes: Uint8Array): PublishProperties {
  return readPropertiesToEnd(new PacketReader(bytes, 0, bytes.length), FORWARDED);
}

/**
 * The form of `Message.properties`: encoded, without the leading length.
 *
 * @throws RangeError when a value has more than 65,535 bytes.
 */
export function encodePublishProperties(properties: PublishProperties): Uint8Array {
  const writer = new PropertyWriter();
  if (properties.payloadFormatIndicator !== undefined) {
    writer.byte(PropertyId.PayloadFormatIndicator, properties.payloadFormatIndicator);
  }
  if (properties.contentType !== undefined) {
    writer.string(PropertyId.ContentType, properties.contentType);
  }
  if (properties.responseTopic !== undefined) {
    writer.string(PropertyId.ResponseTopic, properties.responseTopic);
  }
  if (properties.correlationData !== undefined) {
    writer.binary(PropertyId.CorrelationData, properties.correlationData);
  }
  for (const [name, value] of properties.userProperties ?? []) {
    writer.pair(PropertyId.UserProperty, name, value);
  }
  return writer.bytes();
}
