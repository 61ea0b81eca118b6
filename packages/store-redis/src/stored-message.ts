import { Message } from '@shoalmq/core';
import type { QoS, QueuedMessage, QueueEntry, TopicTable } from '@shoalmq/core';

/*
 * A message in Redis:
 *
 *   byte 0      version of this form
 *   bytes 1-4   what it counts for in limits: payload and properties; scripts read this
 *   byte 5      QoS of the message (2 bits), its RETAIN flag, QoS to deliver with (2 bits), RETAIN flag to send,
 *               whether it expires, whether it was queued for a shared subscription
 *   bytes 6-11  when it expires, in ms since 1970, if it does
 *   lengths of topic, publisher, uid and properties, number of subscription identifiers, the identifiers:
 *               variable byte integers, seven bits each, lowest first; of the shared subscription the length, if any
 *   topic, publisher, uid, shared subscription, properties, payload
 */
const VERSION = 1;
const SIZE_AT = 1;
const FLAGS_AT = 5;
const HEAD_BYTES = 6;
const EXPIRY_BYTES = 6;
/** Six lengths of at most five bytes. */
const LENGTHS_BYTES_MAX = 30;
const IDENTIFIER_BYTES_MAX = 5;

const RETAINED = 0b100;
const QUEUED_QOS_SHIFT = 3;
const SEND_RETAIN = 0b10_0000;
const EXPIRES = 0b100_0000;
const SHARED = 0b1000_0000;

const NONE: readonly number[] = [];
const NO_BYTES = new Uint8Array(0);

/** What a message counts for in `queueBytesMax`. */
export function countedBytes(message: Message): number {
  return message.payloadBytes + message.properties.length;
}

/**
 * Encodes a message into a new buffer, at `start` and with `spare` bytes behind it, so that a command can be written
 * around it. The buffer ends `spare` bytes behind the message.
 */
export function encodeStoredMessage(
  message: Message,
  queued: Pick<QueuedMessage, 'qos' | 'retain' | 'subscriptionIds' | 'group'> | undefined,
  uid: string,
  start = 0,
  spare = 0,
): Buffer {
  const { topic, publisher, properties } = message;
  const identifiers = queued?.subscriptionIds ?? NONE;
  const publisherBytes = publisher === '' ? 0 : Buffer.byteLength(publisher);
  const uidBytes = uid === '' ? 0 : Buffer.byteLength(uid);
  const group = queued?.group ?? '';
  const groupBytes = group === '' ? 0 : Buffer.byteLength(group);
  const payloadBytes = message.payloadBytes;
  const buffer = Buffer.allocUnsafe(
    start +
      HEAD_BYTES +
      EXPIRY_BYTES +
      LENGTHS_BYTES_MAX +
      identifiers.length * IDENTIFIER_BYTES_MAX +
      topic.bytes.length +
      publisherBytes +
      uidBytes +
      groupBytes +
      properties.length +
      payloadBytes +
      spare,
  );
  buffer[start] = VERSION;
  buffer.writeUInt32BE(payloadBytes + properties.length, start + SIZE_AT);
  let at = start + HEAD_BYTES;
  let flags: number = message.qos | (message.retain ? RETAINED : 0);
  if (queued !== undefined) {
    flags |= (queued.qos << QUEUED_QOS_SHIFT) | (queued.retain ? SEND_RETAIN : 0);
  }
  if (groupBytes > 0) flags |= SHARED;
  if (message.expiresAtMs !== 0) {
    flags |= EXPIRES;
    buffer.writeUIntBE(message.expiresAtMs, at, EXPIRY_BYTES);
    at += EXPIRY_BYTES;
  }
  buffer[start + FLAGS_AT] = flags;
  at = writeInteger(buffer, at, topic.bytes.length);
  at = writeInteger(buffer, at, publisherBytes);
  at = writeInteger(buffer, at, uidBytes);
  at = writeInteger(buffer, at, properties.length);
  at = writeInteger(buffer, at, identifiers.length);
  for (const identifier of identifiers) at = writeInteger(buffer, at, identifier);
  if (groupBytes > 0) at = writeInteger(buffer, at, groupBytes);
  buffer.set(topic.bytes, at);
  at += topic.bytes.length;
  if (publisherBytes > 0) at += buffer.write(publisher, at);
  if (uidBytes > 0) at += buffer.write(uid, at);
  if (groupBytes > 0) at += buffer.write(group, at);
  if (properties.length > 0) buffer.set(properties, at);
  at += properties.length;
  // `set` of a view costs an allocation, which short payloads need not pay.
  const { bytes, start: from, end } = message;
  if (payloadBytes <= 64) {
    for (let i = from; i < end; i++) buffer[at++] = bytes[i] as number;
  } else {
    buffer.set(bytes.subarray(from, end), at);
    at += payloadBytes;
  }
  return buffer.subarray(0, at + spare);
}

/** Reads a queue entry. The message owns its bytes as far as anybody may write to them: nobody writes to replies. */
export function decodeQueueEntry(bytes: Buffer, sequence: number, topics: TopicTable): QueueEntry {
  const reader = new Reader(bytes);
  const message = reader.message(topics);
  const { flags } = reader;
  return {
    sequence,
    message,
    qos: ((flags >> QUEUED_QOS_SHIFT) & 0b11) as 1 | 2,
    retain: (flags & SEND_RETAIN) !== 0,
    subscriptionIds: reader.subscriptionIds,
    ...(reader.group === '' ? {} : { group: reader.group }),
  };
}

/** Reads a message that was not queued for anybody. */
export function decodeStoredMessage(bytes: Buffer, topics: TopicTable): Message {
  return new Reader(bytes).message(topics);
}

class Reader {
  flags = 0;
  group = '';
  subscriptionIds: readonly number[] = NONE;
  readonly #bytes: Buffer;
  #at = HEAD_BYTES;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  message(topics: TopicTable): Message {
    const bytes = this.#bytes;
    if (bytes[0] !== VERSION) throw new Error(`a stored message has the form ${bytes[0]}`);
    this.flags = bytes[FLAGS_AT] as number;
    let expiresAtMs = 0;
    if ((this.flags & EXPIRES) !== 0) {
      expiresAtMs = bytes.readUIntBE(this.#at, EXPIRY_BYTES);
      this.#at += EXPIRY_BYTES;
    }
    const topicBytes = this.#integer();
    const publisherBytes = this.#integer();
    const uidBytes = this.#integer();
    const propertiesBytes = this.#integer();
    const identifiers = this.#integer();
    if (identifiers > 0) {
      this.subscriptionIds = Array.from({ length: identifiers }, () => this.#integer());
    }
    const groupBytes = (this.flags & SHARED) === 0 ? 0 : this.#integer();
    const topicAt = this.#at;
    const publisherAt = topicAt + topicBytes;
    const groupAt = publisherAt + publisherBytes + uidBytes;
    const propertiesAt = groupAt + groupBytes;
    if (groupBytes > 0) this.group = bytes.toString('utf8', groupAt, propertiesAt);
    const payloadAt = propertiesAt + propertiesBytes;
    const topic =
      topics.find(bytes, topicAt, publisherAt) ??
      topics.add(
        bytes.toString('utf8', topicAt, publisherAt),
        Uint8Array.prototype.slice.call(bytes, topicAt, publisherAt),
      );
    const message = Message.of(topic, bytes.subarray(payloadAt), {
      qos: (this.flags & 0b11) as QoS,
      retain: (this.flags & RETAINED) !== 0,
      properties: propertiesBytes === 0 ? NO_BYTES : bytes.subarray(propertiesAt, payloadAt),
      publisher: bytes.toString('utf8', publisherAt, publisherAt + publisherBytes),
    });
    message.expiresAtMs = expiresAtMs;
    return message;
  }

  #integer(): number {
    let value = 0;
    for (let unit = 1; ; unit *= 128) {
      const byte = this.#bytes[this.#at++] as number;
      value += (byte & 127) * unit;
      if (byte < 128) return value;
    }
  }
}

function writeInteger(buffer: Buffer, start: number, value: number): number {
  let at = start;
  let rest = value;
  while (rest > 127) {
    buffer[at++] = (rest & 127) | 128;
    rest = Math.floor(rest / 128);
  }
  buffer[at++] = rest;
  return at;
}
