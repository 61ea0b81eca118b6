import type { ConnectPacket, QoS } from '../packet.ts';

/** Who a connection is, once authenticated. Opaque to the core but for these fields. */
export interface Principal {
  /** User name that access rules apply to; '' when anonymous. */
  readonly username: string;
  /** Everything is allowed: the core does not ask `authorize`. */
  readonly unrestricted: boolean;
  /** Point in time (`Clock.wallMs`) at which the connection must end; `undefined`: never. */
  readonly expiresAtMs?: number;
}

/** Facts about a connection that authentication may look at. */
export interface ConnectionFacts {
  readonly remoteAddress: string;
  readonly listener: string;
}

export type AuthenticateResult =
  | {
      readonly outcome: 'accepted';
      readonly principal: Principal;
      readonly authenticationData?: Uint8Array;
    }
  /** Enhanced authentication: send AUTH 0x18 with this data and wait for the client's AUTH. */
  | { readonly outcome: 'continue'; readonly authenticationData?: Uint8Array }
  /** Reason code 0x80 or above, sent in CONNACK (or DISCONNECT when re-authenticating). */
  | { readonly outcome: 'rejected'; readonly reasonCode: number; readonly reasonString?: string };

/** One exchange of enhanced authentication (MQTT 5.0 §4.12). */
export interface EnhancedAuthentication {
  /** The data of the CONNECT or AUTH packet; `undefined` when the packet had none. */
  step(data: Uint8Array | undefined): Promise<AuthenticateResult>;
  /** The connection is gone; nothing is asked any more. */
  abandon(): void;
}

export interface AuthorizeRequest {
  readonly principal: Principal;
  readonly clientId: string;
  /** `publish` names a topic; `subscribe` a topic filter (the one inside `$share`); `receive` a topic. */
  readonly action: 'publish' | 'subscribe' | 'receive';
  readonly topic: string;
  readonly qos: QoS;
  readonly retain: boolean;
}

/**
 * Authentication and authorization. Every failure, late answer or exception means "no". The core asks at each
 * door: CONNECT with its will, PUBLISH, SUBSCRIBE, the publication of a will, delivery of retained messages,
 * and again on session resume.
 */
export interface Access {
  /** Simple authentication, for a CONNECT without Authentication Method. */
  authenticate(packet: ConnectPacket, facts: ConnectionFacts): Promise<AuthenticateResult>;
  /** Starts enhanced authentication; `undefined`: the method is not supported (0x8C) [MQTT-4.12.0-1]. */
  enhanced(
    method: string,
    packet: ConnectPacket,
    facts: ConnectionFacts,
  ): EnhancedAuthentication | undefined;
  /** Answers at once when it can: `true` and `false` cost no promise. */
  authorize(request: AuthorizeRequest): boolean | Promise<boolean>;
  /** Raised whenever earlier answers of `authorize` may have become wrong. */
  readonly revision: number;
}
