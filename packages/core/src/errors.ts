import type { ProtocolVersion } from './packet.ts';

/**
 * A client broke the protocol or a limit. The connection ends with `reasonCode` (sent in CONNACK or DISCONNECT
 * to MQTT 5.0 clients that may get one; 3.x connections are closed).
 */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
  /** The MQTT 5.0 reason code, 0x80 or above. */
  readonly reasonCode: number;
  /** The statement that was violated, as the specification numbers it (`MQTT-3.1.0-2`), or a section (`§3.3.2.3.4`). */
  readonly clause: string;
  /** For a CONNECT that is not understood: the version whose CONNACK its sender may understand. */
  readonly answerVersion: ProtocolVersion | undefined;
  constructor(
    reasonCode: number,
    clause: string,
    message: string,
    answerVersion?: ProtocolVersion,
  ) {
    super(`${message} [${clause}]`);
    this.reasonCode = reasonCode;
    this.clause = clause;
    this.answerVersion = answerVersion;
  }
}
