import { ReasonCode } from '@shoalmq/core';
import type { AuthPacket } from '@shoalmq/core';
import type { PacketReader } from './packet-reader.ts';
import { PropertyId, readProperties } from './properties.ts';
import { violation } from './violations.ts';

const AUTH_PROPERTIES: ReadonlySet<number> = new Set([
  PropertyId.AuthenticationMethod,
  PropertyId.AuthenticationData,
  PropertyId.ReasonString,
  PropertyId.UserProperty,
]);

/**
 * Decodes an AUTH from a client, which is only ever 0x18 or 0x19 and has an Authentication Method (§3.15.2).
 *
 * @throws ProtocolError 0x81 or 0x82.
 */
export function readAuth(reader: PacketReader): AuthPacket {
  // An empty AUTH means reason code 0x00, which is the server's [MQTT-3.15.2-1].
  const reasonCode = reader.remaining === 0 ? ReasonCode.Success : reader.byte();
  if (
    reasonCode !== ReasonCode.ContinueAuthentication &&
    reasonCode !== ReasonCode.ReAuthenticate
  ) {
    throw violation('MQTT-3.15.2-1', `AUTH with reason code ${reasonCode}`);
  }
  const properties = reader.remaining === 0 ? {} : readProperties(reader, AUTH_PROPERTIES);
  reader.expectEnd('MQTT-4.13.1-1');
  if (properties.authenticationMethod === undefined) {
    throw violation('§3.15.2.2.2', 'AUTH without Authentication Method');
  }
  return { kind: 'auth', reasonCode, ...properties };
}
