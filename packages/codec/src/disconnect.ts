import { ReasonCode } from '@shoalmq/core';
import type { DisconnectPacket, ProtocolVersion } from '@shoalmq/core';
import type { PacketReader } from './packet-reader.ts';
import { PropertyId, readProperties } from './properties.ts';
import { violation } from './violations.ts';

// Those a client may send (MQTT 5.0 §3.14.2.1).
const REASON_CODES: ReadonlySet<number> = new Set([
  ReasonCode.Success,
  ReasonCode.DisconnectWithWillMessage,
  ReasonCode.UnspecifiedError,
  ReasonCode.MalformedPacket,
  ReasonCode.ProtocolError,
  ReasonCode.ImplementationSpecificError,
  ReasonCode.TopicNameInvalid,
  ReasonCode.ReceiveMaximumExceeded,
  ReasonCode.TopicAliasInvalid,
  ReasonCode.PacketTooLarge,
  ReasonCode.MessageRateTooHigh,
  ReasonCode.QuotaExceeded,
  ReasonCode.AdministrativeAction,
  ReasonCode.PayloadFormatInvalid,
]);

const DISCONNECT_PROPERTIES: ReadonlySet<number> = new Set([
  PropertyId.SessionExpiryInterval,
  PropertyId.ReasonString,
  PropertyId.UserProperty,
]);

/** @throws ProtocolError 0x81 or 0x82. */
export function readDisconnect(reader: PacketReader, version: ProtocolVersion): DisconnectPacket {
  if (version < 5) reader.expectEnd('MQTT3-3.14.1-1');
  if (reader.remaining === 0) return { kind: 'disconnect', reasonCode: ReasonCode.Success };
  const reasonCode = reader.byte();
  if (!REASON_CODES.has(reasonCode)) {
    throw violation('MQTT-3.14.2-1', `DISCONNECT with reason code ${reasonCode}`);
  }
  const properties = reader.remaining === 0 ? {} : readProperties(reader, DISCONNECT_PROPERTIES);
  reader.expectEnd('MQTT-4.13.1-1');
  return { kind: 'disconnect', reasonCode, ...properties };
}
