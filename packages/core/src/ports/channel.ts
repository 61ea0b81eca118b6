import type { Message } from '../message.ts';
import type { AckType, OutgoingPacket, ProtocolVersion } from '../packet.ts';

/** Where encoded bytes go: a connection's output, or a buffer that several connections will share. */
export interface ByteSink {
  /** Write at `length`; replaced by a larger one (contents kept) or a fresh one by `reserve`. */
  bytes: Uint8Array;
  /** Bytes written so far. */
  length: number;
  /** Afterwards `bytes.length - length >= count`. A sink may start a new chunk: offsets from before are void. */
  reserve(count: number): void;
}

/** Why a connection ended, as a closed set: the label of the metric and the field of the log line. */
export type CloseReason =
  | 'client_disconnect'
  | 'client_eof'
  | 'keepalive_timeout'
  | 'takeover'
  | 'protocol_error'
  | 'not_authorized'
  | 'server_shutdown'
  | 'drain'
  | 'overload'
  | 'slow_consumer'
  | 'quota'
  | 'io_error';

/**
 * The wire side of one connection, as the core uses it. Everything written in one event-loop turn leaves
 * together. Implemented by `transport`, and by an in-memory channel in tests.
 */
export interface Channel extends ByteSink {
  /** Peer address without port, for logs and access rules. */
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Name of the listener that accepted the connection. */
  readonly listener: string;
  /** Bytes written here and not yet taken by the operating system, `length` included. */
  readonly backlogBytes: number;
  /**
   * Appends bytes by reference: they must never change afterwards. For payloads worth more than a copy.
   */
  writeShared(bytes: Uint8Array): void;
  /** Stops and starts reading the socket. Counted by nobody: the last call wins. */
  pauseReading(): void;
  resumeReading(): void;
  /** Decodes what was kept while `PacketHandler.decodingPaused` was set, then reads on. */
  resumeDecoding(): void;
  /**
   * Sends what is buffered, half-closes, reads and discards what the client still sends, and closes after at most
   * `drainMs`. Nothing received after this call reaches the core [MQTT-3.1.4-6].
   */
  end(drainMs: number): void;
  /** Closes at once; buffered bytes may be lost. */
  destroy(): void;
}

/** What a channel tells the core. Implemented by `Connection`. Never called after `onClosed`. */
export interface ChannelHandler {
  /** The backlog fell below the channel's low-water mark after `backlogBytes` had been above it. */
  onDrain(): void;
  /** The connection is gone; `server`: after `end` or `destroy`. `error` is the code of the operating system's error, when there was one. */
  onClosed(reason: 'client_eof' | 'io_error' | 'slow_consumer' | 'server', error?: string): void;
}

/** How one PUBLISH is put on the wire for one group of subscribers that get the same bytes but for packet ids. */
export interface PublishForm {
  readonly version: ProtocolVersion;
  /** Subscription identifiers of all matching subscriptions of the client, in 5.0 only [MQTT-3.3.4-3]. */
  readonly subscriptionIds: readonly number[];
}

/** Encodes packets into sinks. Implemented by `codec`. */
export interface PacketEncoder {
  /** Where `publish` put the packet identifier, as an offset into `sink.bytes`. Valid until the next call. */
  readonly packetIdOffset: number;
  /**
   * Size in bytes of the PUBLISH that `publish` would write. `topicAlias` 0: none; `omitTopic`: empty topic name.
   */
  publishBytes(
    message: Message,
    form: PublishForm,
    qos: number,
    topicAlias: number,
    omitTopic: boolean,
  ): number;
  /**
   * Appends one PUBLISH; returns its size in bytes. `header` is the first byte (0x30, with DUP, QoS and RETAIN).
   * `remainingExpiry` is the Message Expiry Interval to send in seconds, -1 for none [MQTT-3.3.2-6].
   * `withPayload` false leaves the payload to a following `writeShared` (the lengths include it).
   */
  publish(
    sink: ByteSink,
    message: Message,
    form: PublishForm,
    header: number,
    packetId: number,
    remainingExpiry: number,
    topicAlias: number,
    omitTopic: boolean,
    withPayload: boolean,
  ): number;
  /** Appends PUBACK, PUBREC, PUBREL or PUBCOMP; a reason code of 0, and any for 3.x, is left out (two bytes shorter). */
  ack(
    sink: ByteSink,
    type: AckType,
    packetId: number,
    reasonCode: number,
    version: ProtocolVersion,
  ): void;
  /**
   * Appends any other packet. When it would exceed `packetBytesMax`, reason string and user properties are left
   * out [MQTT-3.2.2-19] [MQTT-3.2.2-20]; returns false, and writes nothing, when it does not fit even so, or when
   * the version has no such packet (DISCONNECT and AUTH from the server in 3.x).
   */
  packet(
    sink: ByteSink,
    packet: OutgoingPacket,
    version: ProtocolVersion,
    packetBytesMax: number,
  ): boolean;
}
