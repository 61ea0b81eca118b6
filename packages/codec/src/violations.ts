import { ProtocolError, ReasonCode } from '@shoalmq/core';

/** Bytes that cannot be parsed, or hold a value of the wrong type: reason code 0x81. */
export function malformed(clause: string, message: string): ProtocolError {
  return new ProtocolError(ReasonCode.MalformedPacket, clause, message);
}

/** Bytes that parse and still say what they must not say: reason code 0x82. */
export function violation(clause: string, message: string): ProtocolError {
  return new ProtocolError(ReasonCode.ProtocolError, clause, message);
}
