import type { ConnectPacket, ConnectionFacts } from '@shoalmq/core';

/** A CONNECT of MQTT 5.0 with these credentials. */
export function connect(username?: string, password?: string): ConnectPacket {
  return {
    kind: 'connect',
    protocolVersion: 5,
    cleanStart: true,
    keepAlive: 60,
    clientId: 'c1',
    username,
    password: password === undefined ? undefined : new TextEncoder().encode(password),
    will: undefined,
    properties: {},
  };
}

export const facts: ConnectionFacts = { remoteAddress: '127.0.0.1', listener: 'mqtt' };
