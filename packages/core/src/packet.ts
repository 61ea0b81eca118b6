/**
 * MQTT packets as the core sees them: decoded, checked, and without a trace of their encoding. PUBLISH is a
 * `Message` (message.ts) because it is on the hot path; everything else is a plain object.
 */
import type { ProtocolError } from './errors.ts';
import type { Message } from './message.ts';

/** Protocol level: 3 is MQTT 3.1 ("MQIsdp"), 4 is MQTT 3.1.1, 5 is MQTT 5.0. */
export type ProtocolVersion = 3 | 4 | 5;

/** Quality of service. */
export type QoS = 0 | 1 | 2;

/** User properties in the order in which they arrived; names may repeat [MQTT-3.3.2-18]. */
export type UserProperties = readonly (readonly [name: string, value: string])[];

/** Properties of CONNECT (MQTT 5.0 §3.1.2.11). Absent properties are `undefined`. */
export interface ConnectProperties {
  /** Seconds; 0xFFFFFFFF means that the session does not expire. */
  readonly sessionExpiryInterval?: number;
  readonly receiveMaximum?: number;
  /** Bytes. */
  readonly maximumPacketSize?: number;
  readonly topicAliasMaximum?: number;
  readonly requestResponseInformation?: boolean;
  readonly requestProblemInformation?: boolean;
  readonly authenticationMethod?: string;
  readonly authenticationData?: Uint8Array;
  readonly userProperties?: UserProperties;
}

/** The Will Message of a CONNECT. */
export interface Will {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: QoS;
  readonly retain: boolean;
  /** Seconds between the end of the connection and the publication (MQTT 5.0 §3.1.3.2.2). */
  readonly delayInterval: number;
  /** Seconds, counted from the publication; `undefined`: never expires. */
  readonly messageExpiryInterval: number | undefined;
  /** Encoded properties that subscribers get; the form is described at `Message.properties`. */
  readonly properties: Uint8Array;
}

export interface ConnectPacket {
  readonly kind: 'connect';
  readonly protocolVersion: ProtocolVersion;
  /** Clean Start of MQTT 5.0, Clean Session of 3.x. */
  readonly cleanStart: boolean;
  /** Seconds; 0 turns keep alive off. */
  readonly keepAlive: number;
  /** May be empty [MQTT-3.1.3-6]. */
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: Uint8Array | undefined;
  readonly will: Will | undefined;
  /** Empty object for 3.x. */
  readonly properties: ConnectProperties;
}

/** One Topic Filter of a SUBSCRIBE with its options, checked for UTF-8 but not yet for filter syntax. */
export interface SubscribeRequest {
  readonly filter: string;
  readonly qos: QoS;
  readonly noLocal: boolean;
  readonly retainAsPublished: boolean;
  /** 0: send retained messages; 1: only for a new subscription; 2: never. */
  readonly retainHandling: 0 | 1 | 2;
}

export interface SubscribePacket {
  readonly kind: 'subscribe';
  readonly packetId: number;
  readonly requests: readonly SubscribeRequest[];
  /** 1 to 268,435,455; 0 when absent. */
  readonly subscriptionIdentifier: number;
  readonly userProperties?: UserProperties;
}

export interface UnsubscribePacket {
  readonly kind: 'unsubscribe';
  readonly packetId: number;
  readonly filters: readonly string[];
  readonly userProperties?: UserProperties;
}

/** DISCONNECT from a client. 3.x: reason code 0 and nothing else. */
export interface DisconnectPacket {
  readonly kind: 'disconnect';
  readonly reasonCode: number;
  readonly sessionExpiryInterval?: number;
  readonly reasonString?: string;
  readonly userProperties?: UserProperties;
}

export interface AuthPacket {
  readonly kind: 'auth';
  readonly reasonCode: number;
  readonly authenticationMethod?: string;
  readonly authenticationData?: Uint8Array;
  readonly reasonString?: string;
  readonly userProperties?: UserProperties;
}

/** Properties of CONNACK (MQTT 5.0 §3.2.2.3). */
export interface ConnackProperties {
  readonly sessionExpiryInterval?: number;
  readonly receiveMaximum?: number;
  readonly maximumQoS?: 0 | 1;
  readonly retainAvailable?: boolean;
  readonly maximumPacketSize?: number;
  readonly assignedClientIdentifier?: string;
  readonly topicAliasMaximum?: number;
  readonly reasonString?: string;
  readonly userProperties?: UserProperties;
  readonly wildcardSubscriptionAvailable?: boolean;
  readonly subscriptionIdentifiersAvailable?: boolean;
  readonly sharedSubscriptionAvailable?: boolean;
  /** Seconds. */
  readonly serverKeepAlive?: number;
  readonly responseInformation?: string;
  readonly serverReference?: string;
  readonly authenticationMethod?: string;
  readonly authenticationData?: Uint8Array;
}

/**
 * A packet that the server sends off the hot path. Reason codes are MQTT 5.0's; the encoder translates them for
 * 3.x and leaves out what an older version cannot say (properties, server DISCONNECT, AUTH).
 */
export type OutgoingPacket =
  | {
      readonly kind: 'connack';
      readonly sessionPresent: boolean;
      readonly reasonCode: number;
      readonly properties: ConnackProperties;
    }
  | {
      readonly kind: 'suback' | 'unsuback';
      readonly packetId: number;
      readonly reasonCodes: readonly number[];
      readonly reasonString?: string;
    }
  | {
      readonly kind: 'puback' | 'pubrec' | 'pubrel' | 'pubcomp';
      readonly packetId: number;
      readonly reasonCode: number;
      readonly reasonString?: string;
    }
  | { readonly kind: 'pingresp' }
  | {
      readonly kind: 'disconnect';
      readonly reasonCode: number;
      readonly reasonString?: string;
      readonly serverReference?: string;
    }
  | {
      readonly kind: 'auth';
      readonly reasonCode: number;
      readonly authenticationMethod?: string;
      readonly authenticationData?: Uint8Array;
      readonly reasonString?: string;
    };

/** The four acknowledgements of QoS 1 and 2, by their packet type number. */
export const AckType = { Puback: 4, Pubrec: 5, Pubrel: 6, Pubcomp: 7 } as const;
export type AckType = (typeof AckType)[keyof typeof AckType];

/**
 * What the decoder calls, once per packet, in the order of the wire. Implemented by the core's `Connection`.
 * Nothing here may throw for what a client sent.
 */
export interface PacketHandler {
  /**
   * While true the decoder keeps bytes instead of decoding them. Checked after each packet: a handler that
   * waits for something sets it, and calls the channel's `resumeDecoding` later.
   */
  readonly decodingPaused: boolean;
  /** MQTT version of the connection once CONNECT was decoded. */
  onConnect(packet: ConnectPacket): void;
  /** `message` and its bytes are borrowed: valid until this call returns (`Message.owned` makes a copy). */
  onPublish(message: Message): void;
  /** PUBACK, PUBREC, PUBREL or PUBCOMP; `reasonCode` is 0 where the packet has none. */
  onAck(type: AckType, packetId: number, reasonCode: number): void;
  onSubscribe(packet: SubscribePacket): void;
  onUnsubscribe(packet: UnsubscribePacket): void;
  onPingreq(): void;
  onDisconnect(packet: DisconnectPacket): void;
  onAuth(packet: AuthPacket): void;
  /** The bytes were not MQTT, or broke a rule the decoder knows. Nothing is called after this. */
  onDecodeError(error: ProtocolError): void;
  /**
   * Called at the end of each batch of bytes, so that work that was gathered per batch is finished. `packets` were
   * decoded in it; `partialBytes` of a packet that is not complete are kept.
   */
  onBatchEnd(packets: number, partialBytes: number): void;
}
