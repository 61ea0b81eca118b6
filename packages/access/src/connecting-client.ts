import type { ConnectPacket, ConnectionFacts, ProtocolVersion } from '@shoalmq/core';

/** What a hook gets to see of a client that connects. */
export interface ConnectingClient {
  /** Empty when the client left the choice of an id to the server. */
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: Buffer | undefined;
  readonly remoteAddress: string;
  readonly listener: string;
  /** 3: MQTT 3.1, 4: MQTT 3.1.1, 5: MQTT 5.0. */
  readonly protocolVersion: ProtocolVersion;
}

/** The part of a CONNECT that hooks get to see. */
export function connectingClient(packet: ConnectPacket, facts: ConnectionFacts): ConnectingClient {
  const { clientId, username, password, protocolVersion } = packet;
  return {
    clientId,
    username,
    // A copy: what the hook keeps must not change with the read buffer.
    password: password === undefined ? undefined : Buffer.from(password),
    remoteAddress: facts.remoteAddress,
    listener: facts.listener,
    protocolVersion,
  };
}
