import type { PeerCertificate } from 'node:tls';
import type { Reply, Request } from './messages.ts';
import type { LinkSecurity } from './security.ts';

/** What carries the streams between nodes: gRPC, or a simulation of a network. */
export interface LinkTransport {
  /** Begins to connect; whatever comes of it, the stream tells. */
  connect(to: Destination): OutgoingCall;
  /** Starts to listen. Rejects with the system's error when it cannot. */
  listen(options: ListenOptions): Promise<LinkListener>;
}

export interface Destination {
  /** host:port */
  readonly address: string;
  readonly peerId: string;
  readonly security: LinkSecurity;
  /** Milliseconds between signs of life of a silent connection, and until the missing answer ends it. */
  readonly keepAliveMs: number;
}

/** The sender's end of one stream, on a connection of its own. */
export interface OutgoingCall {
  on(event: 'data', listener: (reply: Reply) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'drain' | 'end', listener: () => void): unknown;
  /** Sends bytes, which must not change. False: wait for `drain`. */
  write(request: Buffer): boolean;
  /** Ends the connection at once. */
  close(): void;
}

/** The receiver's end of one stream. */
export interface IncomingCall {
  on(event: 'data', listener: (request: Request) => void): unknown;
  on(event: 'drain' | 'error' | 'cancelled' | 'end', listener: () => void): unknown;
  write(reply: Buffer): boolean;
  pause(): unknown;
  resume(): unknown;
  /** No more is written; what was is still sent. */
  end(): unknown;
  /** Address of the other side. */
  getPeer(): string;
  getAuthContext(): { readonly sslPeerCertificate?: PeerCertificate | undefined };
}

export interface ListenOptions {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly security: LinkSecurity;
  readonly limits: ListenerLimits;
  onCall(call: IncomingCall): void;
  onTurnedAway(reason: TurnedAway, remoteAddress: string): void;
}

/**
 * Why a connection was closed that had not shown who it is. `handshake_failed`: it ended without a stream, which is what
 * TLS does to whoever has no certificate, or has one of another authority.
 */
export type TurnedAway = 'handshake_timeout' | 'handshake_failed' | 'too_many_connections';

export interface ListenerLimits {
  /** Bytes of one frame; a larger one ends its stream. */
  readonly frameBytesMax: number;
  /** Connections that have not shown who they are; more are closed. */
  readonly pendingConnectionsMax: number;
  /** Milliseconds from accept until a connection must have shown who it is. */
  readonly handshakeTimeoutMs: number;
  /** Milliseconds of silence after which the peer is asked for a sign of life, and in which it must give one. */
  readonly keepAliveMs: number;
}

export interface LinkListener {
  /** The port that is listened on. */
  readonly port: number;
  /** The connection of this call has shown that it belongs to a node. */
  trust(call: IncomingCall): void;
  /** The stream of this call is over. */
  ended(call: IncomingCall): void;
  /** Stops listening and ends all connections. Resolves when the port is free. */
  close(): Promise<void>;
}
