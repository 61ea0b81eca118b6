import { AckType, ReasonCode } from '@shoalmq/core';
import type { ProtocolVersion } from '@shoalmq/core';
import type { PacketReader } from './packet-reader.ts';
import { PropertyId, readProperties } from './properties.ts';
import { malformed, violation } from './violations.ts';

// PUBACK and PUBREC (MQTT 5.0 §3.4.2.1, §3.5.2.1).
const RECEIVED_CODES: ReadonlySet<number> = new Set([
  ReasonCode.Success,
  ReasonCode.NoMatchingSubscribers,
  ReasonCode.UnspecifiedError,
  ReasonCode.ImplementationSpecificError,
  ReasonCode.NotAuthorized,
  ReasonCode.TopicNameInvalid,
  ReasonCode.PacketIdentifierInUse,
  ReasonCode.QuotaExceeded,
  ReasonCode.PayloadFormatInvalid,
]);
// PUBREL and PUBCOMP (§3.6.2.1, §3.7.2.1).
const RELEASED_CODES: ReadonlySet<number> = new Set([
  ReasonCode.Success,
  ReasonCode.PacketIdentifierNotFound,
]);
const ACK_PROPERTIES: ReadonlySet<number> = new Set([
  PropertyId.ReasonString,
  PropertyId.UserProperty,
]);
const CODE_CLAUSE = {
  [AckType.Puback]: 'MQTT-3.4.2-1',
  [AckType.Pubrec]: 'MQTT-3.5.2-1',
  [AckType.Pubrel]: 'MQTT-3.6.2-1',
  [AckType.Pubcomp]: 'MQTT-3.7.2-1',
} as const;

/**
 * Reads what follows the packet identifier in an acknowledgement that has more than that, and returns the reason
 * code. Its properties are checked and dropped: nobody acts on them.
 *
 * @throws ProtocolError 0x81 or 0x82.
 */
export function readAckReason(
  reader: PacketReader,
  type: AckType,
  version: ProtocolVersion,
): number {
  if (version < 5) throw malformed('MQTT3-4.8.0-1', 'acknowledgement of more than two bytes');
  const reasonCode = reader.byte();
  const codes = type <= AckType.Pubrec ? RECEIVED_CODES : RELEASED_CODES;
  if (!codes.has(reasonCode)) {
    throw violation(CODE_CLAUSE[type], `acknowledgement with reason code ${reasonCode}`);
  }
  if (reader.remaining > 0) readProperties(reader, ACK_PROPERTIES);
  reader.expectEnd('MQTT-4.13.1-1');
  return reasonCode;
}
