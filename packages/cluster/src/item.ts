import { Message } from '@shoalmq/core';
import type {
  ByteSink,
  LogPosition,
  OwnerToken,
  QoS,
  QueuedMessage,
  SessionRef,
  TopicTable,
} from '@shoalmq/core';
import { ItemReader, MalformedItem, textOf } from './item-reader.ts';
import {
  NUMBER_BYTES_MAX,
  textBytesMax,
  writeBytes,
  writeNumber,
  writeText,
} from './item-writer.ts';

/*
 * What travels on a link. An item is a byte that says what it is, the length of the rest as four bytes (so that a node
 * passes over what only a later version knows), and the rest.
 */
const Kind = {
  Forward: 1,
  Hint: 2,
  DeliverAt: 3,
  Looked: 4,
  Connected: 5,
  TakeOver: 6,
  Changed: 7,
  Applied: 8,
  Settled: 9,
  Digest: 10,
} as const;

const HEAD_BYTES = 5;

const FLAG_RETAIN = 0b100;
const FLAG_PLAIN = 0b1000;
const FLAG_GROUPS = 0b1_0000;
const FLAG_PROPERTIES = 0b10_0000;
const FLAG_EXPIRES = 0b100_0000;
const FLAG_UID = 0b1000_0000;

const NO_BYTES = new Uint8Array(0);
const NO_GROUPS: readonly string[] = [];

/**
 * A message for the clean sessions of another node; see `Peers.forward`. Straight from the borrowed message, without
 * an allocation. `nowMs`: the clock that messages expire by; what is sent is the time that is left.
 */
export function writeForward(
  sink: ByteSink,
  message: Message,
  plain: boolean,
  groups: readonly string[],
  uid: string,
  nowMs: number,
): void {
  let room = HEAD_BYTES + messageBytesMax(message) + textBytesMax(uid);
  if (message.namesPublisher) room += textBytesMax(message.publisher);
  for (const group of groups) room += textBytesMax(group);
  sink.reserve(room + NUMBER_BYTES_MAX);
  const start = begin(sink, Kind.Forward);
  const flags =
    (plain ? FLAG_PLAIN : 0) | (groups.length > 0 ? FLAG_GROUPS : 0) | (uid === '' ? 0 : FLAG_UID);
  writeMessage(sink, message, flags, nowMs);
  if (groups.length > 0) {
    writeNumber(sink, groups.length);
    for (const group of groups) writeText(sink, group);
  }
  if (uid !== '') writeText(sink, uid);
  // No flag is left for it: it is what remains.
  if (message.namesPublisher) writeText(sink, message.publisher);
  end(sink, start);
}

/** A session's queue has a new entry, with a copy of it. `number`: what `Looked` refers to. */
export function writeHint(
  sink: ByteSink,
  number: number,
  session: SessionRef,
  sequence: number,
  queued: QueuedMessage,
  nowMs: number,
): void {
  const { message, qos, retain, subscriptionIds } = queued;
  const start = beginForSession(sink, Kind.Hint, session, {
    bytesMax: messageBytesMax(message) + NUMBER_BYTES_MAX * (4 + subscriptionIds.length),
  });
  writeNumber(sink, number);
  writeSession(sink, session);
  writeNumber(sink, sequence);
  writeNumber(sink, qos | (retain ? FLAG_RETAIN : 0));
  writeNumbers(sink, subscriptionIds);
  writeMessage(sink, message, 0, nowMs);
  end(sink, start);
}

/** A QoS 0 message for a persistent session. `number`: what `Looked` refers to. */
export function writeDeliverAt(
  sink: ByteSink,
  number: number,
  session: SessionRef,
  delivery: {
    readonly message: Message;
    readonly retain: boolean;
    readonly subscriptionIds: readonly number[];
  },
  nowMs: number,
): void {
  const { message, retain, subscriptionIds } = delivery;
  const start = beginForSession(sink, Kind.DeliverAt, session, {
    bytesMax: messageBytesMax(message) + NUMBER_BYTES_MAX * (3 + subscriptionIds.length),
  });
  writeNumber(sink, number);
  writeSession(sink, session);
  writeNumber(sink, retain ? FLAG_RETAIN : 0);
  writeNumbers(sink, subscriptionIds);
  writeMessage(sink, message, 0, nowMs);
  end(sink, start);
}

/**
 * All hints and deliveries up to the number `upTo` have been looked at; the sessions of those in `notHere` are not
 * connected here.
 */
export function writeLooked(sink: ByteSink, upTo: number, notHere: readonly number[]): void {
  sink.reserve(HEAD_BYTES + NUMBER_BYTES_MAX * (2 + notHere.length));
  const start = begin(sink, Kind.Looked);
  writeNumber(sink, upTo);
  writeNumbers(sink, notHere);
  end(sink, start);
}

/** A persistent session is connected to the sender. Answered with `Applied`. */
export function writeConnected(sink: ByteSink, number: number, session: SessionRef): void {
  const start = beginForSession(sink, Kind.Connected, session, { bytesMax: NUMBER_BYTES_MAX });
  writeNumber(sink, number);
  writeSession(sink, session);
  end(sink, start);
}

/** The connection of `token` has lost its session. */
export function writeTakeOver(sink: ByteSink, clientId: string, token: OwnerToken): void {
  sink.reserve(HEAD_BYTES + textBytesMax(clientId) + textBytesMax(token));
  const start = begin(sink, Kind.TakeOver);
  writeText(sink, clientId);
  writeText(sink, token);
  end(sink, start);
}

/**
 * Shared facts have changed: the logs of these buckets must be applied up to these positions. Answered with `Applied`.
 * The changes themselves are not sent: a node that applied them as they arrive would not apply them in the order of
 * the log, and would go back and forth.
 */
export function writeChanged(
  sink: ByteSink,
  number: number,
  positions: ReadonlyMap<number, LogPosition>,
): void {
  let room = HEAD_BYTES + 2 * NUMBER_BYTES_MAX;
  for (const position of positions.values()) room += NUMBER_BYTES_MAX + textBytesMax(position);
  sink.reserve(room);
  const start = begin(sink, Kind.Changed);
  writeNumber(sink, number);
  writeNumber(sink, positions.size);
  for (const [bucket, position] of positions) {
    writeNumber(sink, bucket);
    writeText(sink, position);
  }
  end(sink, start);
}

/** What was asked under `number` holds at the sender now. */
export function writeApplied(sink: ByteSink, number: number): void {
  sink.reserve(HEAD_BYTES + NUMBER_BYTES_MAX);
  const start = begin(sink, Kind.Applied);
  writeNumber(sink, number);
  end(sink, start);
}

/** What the tables of the sender sum up to; see `FactDigest`. */
export function writeDigest(sink: ByteSink, sums: Uint32Array): void {
  sink.reserve(HEAD_BYTES + NUMBER_BYTES_MAX * (1 + sums.length));
  const start = begin(sink, Kind.Digest);
  writeNumber(sink, sums.length);
  for (const sum of sums) writeNumber(sink, sum);
  end(sink, start);
}

/** What was forwarded under `uid` will not be forwarded again. */
export function writeSettled(sink: ByteSink, uid: string): void {
  sink.reserve(HEAD_BYTES + textBytesMax(uid));
  const start = begin(sink, Kind.Settled);
  writeText(sink, uid);
  end(sink, start);
}

/** Who gets the items of one peer. Messages are borrowed for the time of the call. */
export interface ItemHandler {
  onForward(message: Message, plain: boolean, groups: readonly string[], uid: string): void;
  onHint(number: number, session: SessionRef, sequence: number, queued: QueuedMessage): void;
  onDeliverAt(
    number: number,
    session: SessionRef,
    message: Message,
    retain: boolean,
    subscriptionIds: readonly number[],
  ): void;
  onLooked(upTo: number, notHere: readonly number[]): void;
  onConnected(number: number, session: SessionRef): void;
  onTakeOver(clientId: string, token: OwnerToken): void;
  onChanged(number: number, positions: ReadonlyMap<number, LogPosition>): void;
  onApplied(number: number): void;
  onSettled(uid: string): void;
  onDigest(sums: Uint32Array): void;
}

/** Decodes items. A message of a known topic costs no string and no allocation. */
export class ItemDecoder {
  readonly #topics: TopicTable;
  readonly #wallMs: () => number;
  readonly #reader = new ItemReader();
  #message: Message | undefined;
  /** Behind the flags of the message that was read last. */
  #flags = 0;

  constructor(topics: TopicTable, wallMs: () => number) {
    this.#topics = topics;
    this.#wallMs = wallMs;
  }

  /**
   * Decodes `count` items in bytes `start` to `end`.
   *
   * @throws MalformedItem when that is not what the bytes are
   */
  decode(bytes: Uint8Array, start: number, end: number, count: number, handler: ItemHandler): void {
    const reader = this.#reader;
    for (let at = start; count > 0; count--) {
      if (end - at < HEAD_BYTES) throw new MalformedItem('an item is cut off');
      const kind = bytes[at]!;
      const length =
        (bytes[at + 1]! |
          (bytes[at + 2]! << 8) |
          (bytes[at + 3]! << 16) |
          (bytes[at + 4]! << 24)) >>>
        0;
      at += HEAD_BYTES;
      if (length > end - at) throw new MalformedItem('an item is cut off');
      reader.bytes = bytes;
      reader.offset = at;
      at += length;
      reader.end = at;
      this.#decodeItem(kind, handler);
    }
  }

  #decodeItem(kind: number, handler: ItemHandler): void {
    const reader = this.#reader;
    switch (kind) {
      case Kind.Forward: {
        const message = this.#readMessage(this.#message);
        this.#message = message;
        const flags = this.#flags;
        const groups = (flags & FLAG_GROUPS) === 0 ? NO_GROUPS : this.#readTexts();
        const uid = (flags & FLAG_UID) === 0 ? '' : reader.text();
        message.namesPublisher = reader.offset < reader.end;
        message.publisher = message.namesPublisher ? reader.text() : '';
        handler.onForward(message, (flags & FLAG_PLAIN) !== 0, groups, uid);
        return;
      }
      case Kind.Hint: {
        const number = reader.number();
        const session = this.#readSession();
        const sequence = reader.number();
        const flags = reader.number();
        const subscriptionIds = this.#readNumbers();
        const message = this.#readMessage(undefined);
        const qos = (flags & 3) === 2 ? 2 : 1;
        const retain = (flags & FLAG_RETAIN) !== 0;
        handler.onHint(number, session, sequence, { message, qos, retain, subscriptionIds });
        return;
      }
      case Kind.DeliverAt: {
        const number = reader.number();
        const session = this.#readSession();
        const retain = (reader.number() & FLAG_RETAIN) !== 0;
        const subscriptionIds = this.#readNumbers();
        const message = this.#readMessage(undefined);
        handler.onDeliverAt(number, session, message, retain, subscriptionIds);
        return;
      }
      case Kind.Looked: {
        const upTo = reader.number();
        handler.onLooked(upTo, this.#readNumbers());
        return;
      }
      case Kind.Connected: {
        const number = reader.number();
        handler.onConnected(number, this.#readSession());
        return;
      }
      case Kind.TakeOver: {
        const clientId = reader.text();
        handler.onTakeOver(clientId, reader.text());
        return;
      }
      case Kind.Changed: {
        const number = reader.number();
        const positions = new Map<number, LogPosition>();
        for (let count = reader.number(); count > 0; count--) {
          const bucket = reader.number();
          positions.set(bucket, reader.text());
        }
        handler.onChanged(number, positions);
        return;
      }
      case Kind.Applied:
        handler.onApplied(reader.number());
        return;
      case Kind.Settled:
        handler.onSettled(reader.text());
        return;
      case Kind.Digest:
        handler.onDigest(Uint32Array.from(this.#readNumbers()));
        return;
      // Anything else is of a later version.
    }
  }

  #readMessage(reused: Message | undefined): Message {
    const reader = this.#reader;
    const { bytes } = reader;
    const flags = reader.byte();
    this.#flags = flags;
    const topicStart = reader.skipBytes();
    const topicEnd = reader.offset;
    const topic =
      this.#topics.find(bytes, topicStart, topicEnd) ??
      this.#topics.add(
        textOf(bytes, topicStart, topicEnd),
        Uint8Array.prototype.slice.call(bytes, topicStart, topicEnd),
      );
    const message = reused ?? new Message(topic);
    message.topic = topic;
    message.qos = (flags & 3) as QoS;
    message.retain = (flags & FLAG_RETAIN) !== 0;
    if ((flags & FLAG_PROPERTIES) === 0) message.properties = NO_BYTES;
    else {
      const start = reader.skipBytes();
      message.properties = bytes.subarray(start, reader.offset);
    }
    message.expiryInterval = -1;
    message.expiresAtMs = 0;
    if ((flags & FLAG_EXPIRES) !== 0) {
      message.expiryInterval = reader.number();
      message.expiresAtMs = Math.max(1, this.#wallMs() + reader.number());
    }
    message.start = reader.skipBytes();
    message.end = reader.offset;
    message.bytes = bytes;
    return message;
  }

  #readSession(): SessionRef {
    const clientId = this.#reader.text();
    return { clientId, incarnation: this.#reader.text() };
  }

  #readNumbers(): readonly number[] {
    const numbers: number[] = [];
    for (let count = this.#reader.number(); count > 0; count--) numbers.push(this.#reader.number());
    return numbers;
  }

  #readTexts(): readonly string[] {
    const texts: string[] = [];
    for (let count = this.#reader.number(); count > 0; count--) texts.push(this.#reader.text());
    return texts;
  }
}

/** Returns where the item starts. Afterwards the sink must not be asked for room: it may move. */
function begin(sink: ByteSink, kind: number): number {
  const start = sink.length;
  sink.bytes[start] = kind;
  sink.length = start + HEAD_BYTES;
  return start;
}

function beginForSession(
  sink: ByteSink,
  kind: number,
  session: SessionRef,
  { bytesMax }: { readonly bytesMax: number },
): number {
  const sessionBytesMax = textBytesMax(session.clientId) + textBytesMax(session.incarnation);
  sink.reserve(HEAD_BYTES + sessionBytesMax + bytesMax);
  return begin(sink, kind);
}

function end({ bytes, length: end }: ByteSink, start: number): void {
  const length = end - start - HEAD_BYTES;
  bytes[start + 1] = length;
  bytes[start + 2] = length >>> 8;
  bytes[start + 3] = length >>> 16;
  bytes[start + 4] = length >>> 24;
}

function messageBytesMax(message: Message): number {
  const { topic, properties, payloadBytes } = message;
  return 1 + 5 * NUMBER_BYTES_MAX + topic.bytes.length + properties.length + payloadBytes;
}

function writeMessage(sink: ByteSink, message: Message, moreFlags: number, nowMs: number): void {
  const { topic, properties, expiresAtMs } = message;
  sink.bytes[sink.length++] =
    message.qos |
    (message.retain ? FLAG_RETAIN : 0) |
    (properties.length > 0 ? FLAG_PROPERTIES : 0) |
    (expiresAtMs !== 0 ? FLAG_EXPIRES : 0) |
    moreFlags;
  writeBytes(sink, topic.bytes, 0, topic.bytes.length);
  if (properties.length > 0) writeBytes(sink, properties, 0, properties.length);
  if (expiresAtMs !== 0) {
    writeNumber(sink, Math.max(0, message.expiryInterval));
    writeNumber(sink, Math.max(0, Math.round(expiresAtMs - nowMs)));
  }
  writeBytes(sink, message.bytes, message.start, message.end);
}

function writeSession(sink: ByteSink, session: SessionRef): void {
  writeText(sink, session.clientId);
  writeText(sink, session.incarnation);
}

function writeNumbers(sink: ByteSink, numbers: readonly number[]): void {
  writeNumber(sink, numbers.length);
  for (const number of numbers) writeNumber(sink, number);
}
