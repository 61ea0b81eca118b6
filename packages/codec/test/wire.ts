import { TopicTable } from '@shoalmq/core';
import type {
  AckType,
  AuthPacket,
  ConnectPacket,
  DisconnectPacket,
  Message,
  PacketHandler,
  ProtocolError,
  ProtocolVersion,
  SubscribePacket,
  UnsubscribePacket,
} from '@shoalmq/core';
import { Decoder } from '@shoalmq/codec';
import type { DecoderOptions } from '@shoalmq/codec';

/** Bytes written down: numbers are bytes, strings are UTF-8 without a length. */
export type Piece = number | string | Uint8Array;

export function bytes(...pieces: Piece[]): Uint8Array {
  return Uint8Array.from(
    pieces.flatMap((piece) =>
      typeof piece === 'number' ? [piece] : [...(typeof piece === 'string' ? utf8(piece) : piece)],
    ),
  );
}

/** With a two byte length in front. */
export function prefixed(...pieces: Piece[]): Uint8Array {
  const content = bytes(...pieces);
  return bytes(content.length >> 8, content.length & 0xff, content);
}

export function varint(value: number): Uint8Array {
  const out: number[] = [];
  let rest = value;
  do {
    out.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return Uint8Array.from(out);
}

/** Properties with their length in front. */
export function properties(...pieces: Piece[]): Uint8Array {
  const content = bytes(...pieces);
  return bytes(varint(content.length), content);
}

/** A packet: first byte, remaining length, body. */
export function packet(first: number, ...pieces: Piece[]): Uint8Array {
  const body = bytes(...pieces);
  return bytes(first, varint(body.length), body);
}

export function connect(version: ProtocolVersion, clientId = 'c'): Uint8Array {
  return packet(
    0x10,
    prefixed(version === 3 ? 'MQIsdp' : 'MQTT'),
    version,
    2,
    0,
    60,
    version === 5 ? properties() : '',
    prefixed(clientId),
  );
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function hex(data: Uint8Array): string {
  return Buffer.from(data).toString('hex');
}

export interface PublishEvent {
  readonly kind: 'publish';
  readonly topic: string;
  readonly payload: string;
  readonly qos: number;
  readonly retain: boolean;
  readonly dup: boolean;
  readonly packetId: number;
  readonly properties: string;
  readonly expiryInterval: number;
}

export type Event =
  | ConnectPacket
  | SubscribePacket
  | UnsubscribePacket
  | DisconnectPacket
  | AuthPacket
  | PublishEvent
  | { readonly kind: 'ack'; type: AckType; packetId: number; reasonCode: number }
  | { readonly kind: 'pingreq' }
  | { readonly kind: 'error'; reasonCode: number; clause: string };

/** A handler that writes down what it is called with. */
export class Recorder implements PacketHandler {
  decodingPaused = false;
  readonly events: Event[] = [];
  readonly batches: [packets: number, partialBytes: number][] = [];
  errors: unknown[] = [];
  /** Called after each packet. */
  afterPacket: () => void = () => {};

  onConnect(packet: ConnectPacket): void {
    this.#record(packet);
  }
  onPublish(message: Message): void {
    this.#record(publishEvent(message));
  }
  onAck(type: AckType, packetId: number, reasonCode: number): void {
    this.#record({ kind: 'ack', type, packetId, reasonCode });
  }
  onSubscribe(packet: SubscribePacket): void {
    this.#record(packet);
  }
  onUnsubscribe(packet: UnsubscribePacket): void {
    this.#record(packet);
  }
  onPingreq(): void {
    this.#record({ kind: 'pingreq' });
  }
  onDisconnect(packet: DisconnectPacket): void {
    this.#record(packet);
  }
  onAuth(packet: AuthPacket): void {
    this.#record(packet);
  }
  onDecodeError(error: ProtocolError): void {
    this.errors.push(error);
    this.events.push({ kind: 'error', reasonCode: error.reasonCode, clause: error.clause });
  }
  onBatchEnd(packets: number, partialBytes: number): void {
    this.batches.push([packets, partialBytes]);
  }

  #record(event: Event): void {
    this.events.push(event);
    this.afterPacket();
  }
}

export function publishEvent(message: Message): PublishEvent {
  return {
    kind: 'publish',
    topic: message.topic.name,
    payload: hex(message.bytes.subarray(message.start, message.end)),
    qos: message.qos,
    retain: message.retain,
    dup: message.dup,
    packetId: message.packetId,
    properties: hex(message.properties),
    expiryInterval: message.expiryInterval,
  };
}

export function newDecoder(
  handler: PacketHandler,
  options: Partial<Omit<DecoderOptions, 'handler'>> = {},
): Decoder {
  return new Decoder({
    handler,
    topics: new TopicTable(64),
    packetBytesMax: 1_048_576,
    connectBytesMax: 65_536,
    topicAliasMaximum: 10,
    topicLevelsMax: 200,
    ...options,
  });
}

/** What a decoder makes of these bytes, pushed at once. */
export function decode(...pieces: Uint8Array[]): Event[] {
  const recorder = new Recorder();
  const all = bytes(...pieces);
  newDecoder(recorder).push(all, 0, all.length);
  return recorder.events;
}

/** What a decoder makes of packets that follow a CONNECT. */
export function decodeAfterConnect(version: ProtocolVersion, ...pieces: Uint8Array[]): Event[] {
  return decode(connect(version), ...pieces).slice(1);
}

/** The single event of a refused packet. */
export function refusal(reasonCode: number, clause: string): Event[] {
  return [{ kind: 'error', reasonCode, clause }];
}
