import type { NodeIdentity } from '@shoalmq/core';
import {
  DELIMITED,
  MalformedMessage,
  MessageReader,
  MessageWriter,
  VARINT,
  varintBytes,
  writeVarint,
} from './protobuf.ts';

/*
 * The messages of proto/peer.proto and their encoding. The fields mean what is said there.
 */

export interface Hello {
  readonly versionMajor: number;
  readonly versionMinor: number;
  readonly sender: NodeIdentity;
  readonly receiver: NodeIdentity;
  readonly link: number;
  readonly attempt: number;
  readonly acknowledged: number;
  readonly nonce: Uint8Array;
}

/** A numbered frame as it arrived: its items are bytes `start` to `end` of `bytes`. */
export interface ReceivedFrame {
  readonly kind: 'frame';
  readonly sequence: number;
  readonly count: number;
  readonly dropped: number;
  readonly missed: number;
  readonly continues: boolean;
  readonly urgent: boolean;
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** What a receiver reads. */
export type Request =
  | ReceivedFrame
  /** `helloBytes`: the Hello as it was sent, which the proofs cover. */
  | { readonly kind: 'hello'; readonly hello: Hello; readonly helloBytes: Uint8Array }
  | { readonly kind: 'proof'; readonly proof: Uint8Array }
  | { readonly kind: 'malformed' };

/** Why a receiver refuses, by the numbers of `Reason`. */
const REFUSALS = [
  'unspecified',
  'malformed',
  'version',
  'wrong_receiver',
  'unauthenticated',
  'not_admitted',
  'stale',
  'forgotten',
  'busy',
] as const;

/** Why a receiver refuses a stream; see `Reason` in proto/peer.proto. A closed set: the label of a metric. */
export type Refusal = (typeof REFUSALS)[number];

/** What a sender reads. */
export type Reply =
  | { readonly kind: 'challenge'; readonly nonce: Uint8Array }
  | { readonly kind: 'welcome'; readonly received: number; readonly proof: Uint8Array }
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  | { readonly kind: 'acknowledged'; readonly acknowledged: number }
  | { readonly kind: 'malformed' };

/** Most bytes that the header of a numbered frame takes: everything in front of its items. */
export const FRAME_HEADER_BYTES_MAX = 48;

/** Longest node id and incarnation, in bytes. */
const ID_BYTES_MAX = 255;

/** The fields of a numbered frame in front of its items. */
export interface FrameHeader {
  readonly sequence: number;
  readonly count: number;
  readonly dropped: number;
  readonly missed: number;
  readonly continues: boolean;
  readonly urgent: boolean;
}

/**
 * Writes the header of a frame so that it ends where its items start, and returns where it begins. There must be
 * `FRAME_HEADER_BYTES_MAX` bytes of room in front of `itemsStart`.
 */
export function writeFrameHeader(
  bytes: Uint8Array,
  itemsStart: number,
  itemsBytes: number,
  header: FrameHeader,
): number {
  const { sequence, count, dropped, missed } = header;
  let length = 1 + varintBytes(sequence);
  if (count > 0) length += 1 + varintBytes(count);
  if (dropped > 0) length += 1 + varintBytes(dropped);
  if (missed > 0) length += 1 + varintBytes(missed);
  if (header.continues) length += 2;
  if (header.urgent) length += 2;
  if (itemsBytes > 0) length += 1 + varintBytes(itemsBytes);

  const start = itemsStart - length;
  let offset = writeNumber(bytes, start, 3, sequence);
  if (count > 0) offset = writeNumber(bytes, offset, 4, count);
  if (dropped > 0) offset = writeNumber(bytes, offset, 5, dropped);
  if (missed > 0) offset = writeNumber(bytes, offset, 6, missed);
  if (header.continues) offset = writeNumber(bytes, offset, 7, 1);
  if (header.urgent) offset = writeNumber(bytes, offset, 8, 1);
  if (itemsBytes > 0) {
    bytes[offset++] = (9 << 3) | DELIMITED;
    writeVarint(bytes, offset, itemsBytes);
  }
  return start;
}

/** A frame without items. */
export function encodeEmptyFrame(header: FrameHeader): Buffer {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES_MAX);
  return bytes.subarray(writeFrameHeader(bytes, bytes.length, 0, header));
}

/** A Hello alone, as the proofs cover it. */
export function encodeHello(hello: Hello): Buffer {
  return helloWriter(hello).finish();
}

/** The frame that carries what `encodeHello` made. */
export function encodeHelloFrame(helloBytes: Uint8Array): Buffer {
  return new MessageWriter().bytes(1, helloBytes).finish();
}

export function encodeProof(proof: Uint8Array): Buffer {
  return new MessageWriter().message(2, new MessageWriter().bytes(1, proof)).finish();
}

export function encodeReply(reply: Exclude<Reply, { kind: 'malformed' }>): Buffer {
  const writer = new MessageWriter();
  switch (reply.kind) {
    case 'challenge':
      return writer.message(1, new MessageWriter().bytes(1, reply.nonce)).finish();
    case 'welcome':
      return writer
        .message(2, new MessageWriter().number(1, reply.received).bytes(2, reply.proof))
        .finish();
    case 'refused':
      return writer
        .message(3, new MessageWriter().number(1, REFUSALS.indexOf(reply.refusal)))
        .finish();
    case 'acknowledged':
      return writer.number(4, reply.acknowledged).finish();
  }
}

/** Reads what a sender sent; `malformed` when it is not a `Frame`. `bytes` belong to the result. */
export function decodeRequest(bytes: Uint8Array): Request {
  try {
    return readRequest(new MessageReader(bytes));
  } catch (error) {
    if (error instanceof MalformedMessage) return { kind: 'malformed' };
    throw error;
  }
}

/** Reads what a receiver sent; `malformed` when it is not a `Reply`. */
export function decodeReply(bytes: Uint8Array): Reply {
  try {
    return readReply(new MessageReader(bytes));
  } catch (error) {
    if (error instanceof MalformedMessage) return { kind: 'malformed' };
    throw error;
  }
}

function readRequest(reader: MessageReader): Request {
  let helloBytes: Uint8Array | undefined;
  let proof: Uint8Array | undefined;
  let sequence = 0;
  let count = 0;
  let dropped = 0;
  let missed = 0;
  let continues = false;
  let urgent = false;
  let start = 0;
  let end = 0;
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        helloBytes = reader.delimited();
        break;
      case 2:
        proof = readBytesField(reader.message());
        break;
      case 3:
        sequence = reader.varint();
        break;
      case 4:
        count = reader.varint();
        break;
      case 5:
        dropped = reader.varint();
        break;
      case 6:
        missed = reader.varint();
        break;
      case 7:
        continues = reader.varint() !== 0;
        break;
      case 8:
        urgent = reader.varint() !== 0;
        break;
      case 9:
        start = reader.delimitedStart();
        end = reader.offset;
        break;
      default:
        reader.skip();
    }
  }
  if (helloBytes !== undefined) {
    return { kind: 'hello', hello: readHello(new MessageReader(helloBytes)), helloBytes };
  }
  if (proof !== undefined) return { kind: 'proof', proof };
  if (sequence === 0) return { kind: 'malformed' };
  const { bytes } = reader;
  return {
    kind: 'frame',
    sequence,
    count,
    dropped,
    missed,
    continues,
    urgent,
    bytes,
    start,
    end,
  };
}

function readReply(reader: MessageReader): Reply {
  let reply: Reply = { kind: 'malformed' };
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        reply = { kind: 'challenge', nonce: readBytesField(reader.message()) };
        break;
      case 2:
        reply = readWelcome(reader.message());
        break;
      case 3:
        reply = { kind: 'refused', refusal: readRefusal(reader.message()) };
        break;
      case 4:
        reply = { kind: 'acknowledged', acknowledged: reader.varint() };
        break;
      default:
        reader.skip();
    }
  }
  return reply;
}

function readHello(reader: MessageReader): Hello {
  let versionMajor = 0;
  let versionMinor = 0;
  let sender: NodeIdentity = { id: '', incarnation: '' };
  let receiver = sender;
  let link = 0;
  let attempt = 0;
  let acknowledged = 0;
  let nonce: Uint8Array = new Uint8Array(0);
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        versionMajor = reader.varint();
        break;
      case 2:
        versionMinor = reader.varint();
        break;
      case 3:
        sender = readNode(reader.message());
        break;
      case 4:
        receiver = readNode(reader.message());
        break;
      case 5:
        link = reader.varint();
        break;
      case 6:
        attempt = reader.varint();
        break;
      case 7:
        acknowledged = reader.varint();
        break;
      case 8:
        nonce = reader.delimited();
        break;
      default:
        reader.skip();
    }
  }
  return {
    versionMajor,
    versionMinor,
    sender,
    receiver,
    link,
    attempt,
    acknowledged,
    nonce,
  };
}

function readNode(reader: MessageReader): NodeIdentity {
  let id = '';
  let incarnation = '';
  while (reader.next()) {
    if (reader.field === 1) id = reader.text(ID_BYTES_MAX);
    else if (reader.field === 2) incarnation = reader.text(ID_BYTES_MAX);
    else reader.skip();
  }
  return { id, incarnation };
}

function readWelcome(reader: MessageReader): Reply {
  let received = 0;
  let proof: Uint8Array = new Uint8Array(0);
  while (reader.next()) {
    if (reader.field === 1) received = reader.varint();
    else if (reader.field === 2) proof = reader.delimited();
    else reader.skip();
  }
  return { kind: 'welcome', received, proof };
}

function readRefusal(reader: MessageReader): Refusal {
  let reason = 0;
  while (reader.next()) {
    if (reader.field === 1) reason = reader.varint();
    else reader.skip();
  }
  return REFUSALS[reason] ?? 'unspecified';
}

/** Of messages whose only field is `bytes ... = 1`. */
function readBytesField(reader: MessageReader): Uint8Array {
  let bytes: Uint8Array = new Uint8Array(0);
  while (reader.next()) {
    if (reader.field === 1) bytes = reader.delimited();
    else reader.skip();
  }
  return bytes;
}

function helloWriter(hello: Hello): MessageWriter {
  return new MessageWriter()
    .number(1, hello.versionMajor)
    .number(2, hello.versionMinor)
    .message(3, nodeWriter(hello.sender))
    .message(4, nodeWriter(hello.receiver))
    .number(5, hello.link)
    .number(6, hello.attempt)
    .number(7, hello.acknowledged)
    .bytes(8, hello.nonce);
}

function nodeWriter(node: NodeIdentity): MessageWriter {
  return new MessageWriter().text(1, node.id).text(2, node.incarnation);
}

function writeNumber(bytes: Uint8Array, offset: number, field: number, value: number): number {
  bytes[offset] = (field << 3) | VARINT;
  return writeVarint(bytes, offset + 1, value);
}
