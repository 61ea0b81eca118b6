import { Message, ProtocolError, ReasonCode, Topic } from '@shoalmq/core';
import type { AckType, PacketHandler, ProtocolVersion, QoS, TopicTable } from '@shoalmq/core';
import { readAckReason } from './acknowledgement.ts';
import { readAuth } from './auth.ts';
import { readConnect } from './connect.ts';
import { readDisconnect } from './disconnect.ts';
import {
  FIRST_BYTES_BEFORE_CONNECT,
  PacketType,
  firstBytesOf,
  packetTooLarge,
  refusedFirstByte,
} from './fixed-header.ts';
import { MessageProperties } from './message-properties.ts';
import { PacketReader } from './packet-reader.ts';
import { readSubscribe, readUnsubscribe } from './subscribe.ts';
import { checkTopicName } from './topic-name.ts';
import { stringOf } from './utf8.ts';
import { malformed, violation } from './violations.ts';

const NO_BYTES = new Uint8Array(0);
const NO_TOPIC = new Topic('', NO_BYTES, 0);
const KEPT_BYTES_MIN = 64;
/** Bytes of topic names that the aliases of one connection may stand for together. */
const ALIASED_BYTES_MAX = 65_535;
// Scanned and read out within one call, so that all decoders share it.
const messageProperties = new MessageProperties();

/** What a decoder needs to know. Sizes are of whole packets, fixed header included. */
export interface DecoderOptions {
  readonly handler: PacketHandler;
  readonly topics: TopicTable;
  /** Bytes of the largest packet after CONNECT; announced to clients as Maximum Packet Size. */
  readonly packetBytesMax: number;
  /** Bytes of the largest first packet. */
  readonly connectBytesMax: number;
  /** Topic aliases from 1 to this are accepted [MQTT-3.3.2-12]. */
  readonly topicAliasMaximum: number;
  /** Topic levels of a topic name. */
  readonly topicLevelsMax: number;
}

/**
 * Turns the bytes of one connection into calls of its `PacketHandler`: MQTT 3.1, 3.1.1 and 5.0, as a server
 * reads them, strictly.
 *
 * Packets are decoded where they lie, in the buffer they were read into; only a packet that is not complete is
 * copied. What is wrong with a packet is found as soon as its fixed header is there, if it can be. The outcome
 * never depends on how the bytes were cut into calls of `push`.
 *
 * Nothing is thrown for what a client sent: the first violation goes to `onDecodeError`, after the batch before it
 * was ended with `onBatchEnd`, and nothing is called after that. DISCONNECT, too, is the last packet
 * [MQTT-3.14.4-1]. What a handler throws, other than a ProtocolError, comes out of `push` and ends the decoder.
 */
export class Decoder {
  readonly #handler: PacketHandler;
  readonly #topics: TopicTable;
  readonly #packetBytesMax: number;
  readonly #topicAliasMaximum: number;
  readonly #topicLevelsMax: number;
  /** 0 before CONNECT. */
  #version: ProtocolVersion | 0 = 0;
  /** Which first bytes are fine now, and how large a packet may be. */
  #firstBytes = FIRST_BYTES_BEFORE_CONNECT;
  #bytesMax: number;
  #dead = false;
  #decoding = false;
  /** Packets decoded in this batch. */
  #packets = 0;
  /** Size of the packet that `#decode` stopped at because it is not complete; 0: not even its fixed header is. */
  #partialTotal = 0;
  /** The start of a packet that is not complete or, with `#backlog`, any bytes that came during a pause. */
  #kept: Uint8Array = NO_BYTES;
  #keptBytes = 0;
  #backlog = false;
  readonly #message = new Message(NO_TOPIC);
  /** The topic of the last PUBLISH: a publisher mostly repeats it. */
  #lastTopic: Topic = NO_TOPIC;
  #aliases: (Topic | undefined)[] | undefined;
  #aliasedBytes = 0;

  constructor(options: DecoderOptions) {
    this.#handler = options.handler;
    this.#topics = options.topics;
    this.#packetBytesMax = options.packetBytesMax;
    this.#bytesMax = options.connectBytesMax;
    this.#topicAliasMaximum = options.topicAliasMaximum;
    this.#topicLevelsMax = options.topicLevelsMax;
  }

  /** Memory this decoder holds for bytes it could not decode yet. At most twice what arrived of them. */
  get heldBytes(): number {
    return this.#kept.length;
  }

  /**
   * Decodes everything complete in `bytes[start, end)` and keeps a copy of the rest; `bytes` may be overwritten
   * afterwards. During a pause everything is kept: whoever reads the socket stops reading meanwhile.
   */
  push(bytes: Uint8Array, start: number, end: number): void {
    if (this.#dead) return;
    if (this.#decoding) throw new Error('Decoder.push called by its own handler');
    this.#begin();
    try {
      this.#advance(plainBytes(bytes), start, end);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#finish();
  }

  /** Goes on with the bytes kept during a pause. Does nothing when called from within a handler's method. */
  resume(): void {
    if (this.#dead || this.#decoding) return;
    this.#begin();
    try {
      if (this.#backlog) this.#decodeBacklog();
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#finish();
  }

  /** Ignores all further bytes and forgets those it has. */
  close(): void {
    this.#dead = true;
    this.#dropKept();
    this.#aliases = undefined;
  }

  #begin(): void {
    this.#decoding = true;
    this.#packets = 0;
  }

  #advance(bytes: Uint8Array, start: number, end: number): void {
    if (this.#handler.decodingPaused || this.#backlog) {
      this.#keep(bytes, start, end, 0);
      this.#backlog = true;
      this.#decodeBacklog();
      return;
    }
    let position = this.#keptBytes > 0 ? this.#completeKept(bytes, start, end) : start;
    if (position < end) position = this.#decode(bytes, position, end);
    if (position < end) this.#keepRest(bytes, position, end);
  }

  #finish(): void {
    this.#decoding = false;
    // What waits behind a pause is not late: nobody tried to decode it.
    this.#handler.onBatchEnd(this.#packets, this.#backlog ? 0 : this.#keptBytes);
  }

  #fail(error: unknown): void {
    const reported = error instanceof ProtocolError && !this.#dead;
    this.close();
    this.#finish();
    if (!(error instanceof ProtocolError)) throw error;
    if (reported) this.#handler.onDecodeError(error);
  }

  /**
   * Decodes until a packet is not complete, or the handler pauses; returns how far it came: to the end when the
   * decoder was closed on the way.
   */
  #decode(bytes: Uint8Array, start: number, end: number): number {
    const handler = this.#handler;
    let position = start;
    this.#partialTotal = 0;
    while (end - position >= 2 && !handler.decodingPaused) {
      const first = bytes[position] as number;
      let remaining = bytes[position + 1] as number;
      let body = position + 2;
      if (remaining > 0x7f) {
        let last = 0x80;
        let shift = 7;
        remaining &= 0x7f;
        while (body < end) {
          last = bytes[body] as number;
          body += 1;
          remaining |= (last & 0x7f) << shift;
          shift += 7;
          if (last < 0x80 || shift === 28) break;
        }
        if (last > 0x7f) {
          if (shift === 28) throw malformed('MQTT-1.5.5-1', 'remaining length of five bytes');
          return position;
        }
        if (last === 0) throw malformed('MQTT-1.5.5-1', 'remaining length with padding');
      }
      const next = body + remaining;
      if (this.#firstBytes[first] === 0) throw refusedFirstByte(first, this.#version);
      if (next - position > this.#bytesMax) throw packetTooLarge();
      if (next > end) {
        this.#partialTotal = next - position;
        return position;
      }
      const type = first >> 4;
      if (type === PacketType.Publish) this.#decodePublish(bytes, first, body, next);
      else if (type > PacketType.Publish && type <= PacketType.Pubcomp) {
        this.#decodeAck(bytes, type as AckType, body, next);
      } else this.#decodeOther(bytes, type, body, next);
      this.#packets += 1;
      position = next;
      if (this.#dead) return end;
    }
    return position;
  }

  #decodePublish(bytes: Uint8Array, first: number, body: number, end: number): void {
    const topicStart = body + 2;
    if (topicStart > end) throw malformed('MQTT-3.3.2-1', 'PUBLISH without topic name');
    const topicEnd = topicStart + (((bytes[body] as number) << 8) | (bytes[body + 1] as number));
    if (topicEnd > end) throw malformed('MQTT-3.3.2-1', 'topic name beyond the packet');
    let position = topicEnd;
    const qos = (first >> 1) & 3;
    let packetId = 0;
    if (qos !== 0) {
      position += 2;
      if (position > end) throw malformed('MQTT-4.13.1-1', 'PUBLISH without packet identifier');
      packetId = ((bytes[topicEnd] as number) << 8) | (bytes[topicEnd + 1] as number);
      if (packetId === 0) throw violation('MQTT-2.2.1-3', 'packet identifier 0');
    }
    const message = this.#message;
    message.properties = NO_BYTES;
    message.expiryInterval = -1;
    let alias = 0;
    if (this.#version === 5) {
      if (position < end && bytes[position] === 0) position += 1;
      else {
        position = scanProperties(bytes, position, end);
        alias = messageProperties.topicAlias;
        message.properties = messageProperties.forwarded;
        message.expiryInterval = messageProperties.expiryInterval;
        messageProperties.clear();
      }
    }
    let topic = this.#lastTopic;
    if (alias !== 0) topic = this.#aliasedTopic(bytes, topicStart, topicEnd, alias);
    else if (!isSame(topic.bytes, bytes, topicStart, topicEnd)) {
      topic = this.#topicOf(bytes, topicStart, topicEnd);
      this.#lastTopic = topic;
    } else if (topicStart === topicEnd) throw violation('MQTT-4.7.3-1', 'empty topic name');
    message.topic = topic;
    message.bytes = bytes;
    message.start = position;
    message.end = end;
    message.qos = qos as QoS;
    message.retain = (first & 1) !== 0;
    message.dup = (first & 8) !== 0;
    message.packetId = packetId;
    this.#handler.onPublish(message);
  }

  #decodeAck(bytes: Uint8Array, type: AckType, body: number, end: number): void {
    if (end - body < 2) throw malformed('MQTT-2.2.1-5', 'acknowledgement without identifier');
    const packetId = ((bytes[body] as number) << 8) | (bytes[body + 1] as number);
    if (packetId === 0) throw violation('MQTT-2.2.1-5', 'packet identifier 0');
    const reasonCode =
      end - body === 2
        ? ReasonCode.Success
        : readAckReason(new PacketReader(bytes, body + 2, end), type, this.#establishedVersion());
    this.#handler.onAck(type, packetId, reasonCode);
  }

  #decodeOther(bytes: Uint8Array, type: number, body: number, end: number): void {
    const handler = this.#handler;
    const reader = new PacketReader(bytes, body, end);
    switch (type) {
      case PacketType.Connect: {
        const packet = readConnect(reader, this.#topicLevelsMax);
        this.#version = packet.protocolVersion;
        this.#firstBytes = firstBytesOf(packet.protocolVersion);
        this.#bytesMax = this.#packetBytesMax;
        handler.onConnect(packet);
        return;
      }
      case PacketType.Subscribe:
        handler.onSubscribe(readSubscribe(reader, this.#establishedVersion()));
        return;
      case PacketType.Unsubscribe:
        handler.onUnsubscribe(readUnsubscribe(reader, this.#establishedVersion()));
        return;
      case PacketType.Pingreq:
        reader.expectEnd('§3.12.1');
        handler.onPingreq();
        return;
      case PacketType.Disconnect: {
        const packet = readDisconnect(reader, this.#establishedVersion());
        this.close();
        handler.onDisconnect(packet);
        return;
      }
      default:
        handler.onAuth(readAuth(reader));
    }
  }

  #establishedVersion(): ProtocolVersion {
    // Before CONNECT the table of first bytes lets nothing through that asks for a version.
    return this.#version as ProtocolVersion;
  }

  #topicOf(bytes: Uint8Array, start: number, end: number): Topic {
    const known = this.#topics.find(bytes, start, end);
    if (known !== undefined) return known;
    const found = checkTopicName(bytes, start, end, this.#topicLevelsMax, 'MQTT-3.3.2-2');
    return this.#topics.add(stringOf(bytes, start, end, found), bytes.slice(start, end));
  }

  #aliasedTopic(bytes: Uint8Array, start: number, end: number, alias: number): Topic {
    if (alias > this.#topicAliasMaximum) {
      throw new ProtocolError(
        ReasonCode.TopicAliasInvalid,
        'MQTT-3.3.2-9',
        'topic alias above the maximum',
      );
    }
    // Lives as long as the connection [MQTT-3.3.2-7].
    const aliases = (this.#aliases ??= []);
    if (start === end) {
      const topic = aliases[alias];
      if (topic === undefined) throw violation('MQTT-3.3.2-7', 'topic alias that was never set');
      return topic;
    }
    const topic = this.#topicOf(bytes, start, end);
    while (aliases.length <= alias) aliases.push(undefined);
    this.#aliasedBytes += topic.bytes.length - (aliases[alias]?.bytes.length ?? 0);
    if (this.#aliasedBytes > ALIASED_BYTES_MAX) {
      throw new ProtocolError(
        ReasonCode.QuotaExceeded,
        '§3.3.2.3.4',
        'topic aliases for too many bytes of topic names',
      );
    }
    aliases[alias] = topic;
    return topic;
  }

  /**
   * Adds to the kept start of a packet what is missing of it and, when complete, decodes it. Returns how far it
   * came in `bytes`: to the end when the decoder was closed on the way.
   */
  #completeKept(bytes: Uint8Array, start: number, end: number): number {
    let position = start;
    // The fixed header comes first: it says how much is missing, and whether it may come at all.
    while (this.#partialTotal === 0 && position < end) {
      this.#keep(bytes, position, position + 1, 0);
      position += 1;
      if (this.#decode(this.#kept, 0, this.#keptBytes) > 0) {
        this.#dropKept();
        return this.#dead ? end : position;
      }
    }
    if (position === end) return position;
    const missing = this.#partialTotal - this.#keptBytes;
    const taken = Math.min(missing, end - position);
    this.#keep(bytes, position, position + taken, this.#partialTotal);
    if (taken === missing) {
      this.#decode(this.#kept, 0, this.#keptBytes);
      this.#dropKept();
    }
    return this.#dead ? end : position + taken;
  }

  #decodeBacklog(): void {
    if (this.#handler.decodingPaused) return;
    const kept = this.#kept;
    const end = this.#keptBytes;
    const position = this.#decode(kept, 0, end);
    this.#dropKept();
    if (position < end) this.#keepRest(kept, position, end);
  }

  #keepRest(bytes: Uint8Array, start: number, end: number): void {
    this.#backlog = this.#handler.decodingPaused;
    this.#keep(bytes, start, end, this.#backlog ? 0 : this.#partialTotal);
  }

  /**
   * Appends to the kept bytes. The buffer doubles as bytes really arrive, up to the size of the packet if that is
   * known (`total`, otherwise 0): what was only announced costs nothing.
   */
  #keep(bytes: Uint8Array, start: number, end: number, total: number): void {
    const needed = this.#keptBytes + end - start;
    if (needed > this.#kept.length) {
      const doubled = Math.max(KEPT_BYTES_MIN, this.#kept.length * 2, needed);
      const larger = new Uint8Array(total === 0 ? doubled : Math.min(doubled, total));
      larger.set(this.#kept.subarray(0, this.#keptBytes));
      this.#kept = larger;
    }
    this.#kept.set(bytes.subarray(start, end), this.#keptBytes);
    this.#keptBytes = needed;
  }

  #dropKept(): void {
    this.#kept = NO_BYTES;
    this.#keptBytes = 0;
    this.#backlog = false;
    this.#message.bytes = NO_BYTES;
    this.#message.properties = NO_BYTES;
  }
}

/** Scans the properties of a PUBLISH into `messageProperties`; returns where the payload starts. */
function scanProperties(bytes: Uint8Array, start: number, end: number): number {
  const reader = new PacketReader(bytes, start, end);
  const length = reader.variableByteInteger();
  if (length > reader.remaining) {
    throw malformed('MQTT-4.13.1-1', 'property length beyond the packet');
  }
  const payloadStart = reader.position + length;
  messageProperties.scan(bytes, reader.position, payloadStart, false);
  return payloadStart;
}

function isSame(known: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  const length = known.length;
  if (end - start !== length) return false;
  for (let i = 0; i < length; i++) if (known[i] !== bytes[start + i]) return false;
  return true;
}

let lastBuffer: Uint8Array = NO_BYTES;
let lastPlain: Uint8Array = NO_BYTES;

/**
 * The same bytes as a Uint8Array proper. A node Buffer is one only by inheritance: its `slice` does not copy, and
 * it would make every access to bytes polymorphic.
 */
function plainBytes(bytes: Uint8Array): Uint8Array {
  if (bytes.constructor === Uint8Array) return bytes;
  // Connections read into the same buffer again and again.
  if (bytes !== lastBuffer) {
    lastBuffer = bytes;
    lastPlain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  return lastPlain;
}
