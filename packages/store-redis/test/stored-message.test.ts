import { expect, test } from '@jest/globals';
import { Message, TopicTable } from '@shoalmq/core';
import * as fc from 'fast-check';
import { topicOf } from '@shoalmq/testkit';
import { Appends, NativeAppend } from '../src/append-calls.ts';
import { LASTING_CONTENTS } from '../src/contents.ts';
import { keysOf } from '../src/keys.ts';
import { SessionHandle } from '../src/session-handle.ts';
import { decodeQueueEntry, encodeStoredMessage } from '../src/stored-message.ts';

const queued = fc.record({
  topic: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 200 }),
  payload: fc.uint8Array({ maxLength: 300 }),
  properties: fc.uint8Array({ maxLength: 300 }),
  publisher: fc.string({ unit: 'grapheme' }),
  uid: fc.string(),
  messageQos: fc.constantFrom(0 as const, 1 as const, 2 as const),
  messageRetain: fc.boolean(),
  qos: fc.constantFrom(1 as const, 2 as const),
  retain: fc.boolean(),
  subscriptionIds: fc.array(fc.integer({ min: 1, max: 268_435_455 }), { maxLength: 5 }),
  expiresAtMs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 2 ** 48 - 1 })),
});

test('a message comes back from its encoding as it was', () => {
  fc.assert(
    fc.property(queued, (given) => {
      const message = messageOf(given);
      const bytes = encodeStoredMessage(message, given, given.uid);
      const entry = decodeQueueEntry(bytes, 7, new TopicTable());
      expect(entry).toMatchObject({
        sequence: 7,
        qos: given.qos,
        retain: given.retain,
        subscriptionIds: given.subscriptionIds,
        message: {
          topic: { name: given.topic },
          qos: given.messageQos,
          retain: given.messageRetain,
          publisher: given.publisher,
          expiresAtMs: given.expiresAtMs,
        },
      });
      const read = entry.message;
      expect([...read.bytes.subarray(read.start, read.end)]).toEqual([...given.payload]);
      expect([...read.properties]).toEqual([...given.properties]);
      expect(bytes.readUInt32BE(1)).toBe(given.payload.length + given.properties.length);
    }),
  );
});

test('a native append is one well-formed XADD', () => {
  const handle = new SessionHandle('a}b', 'inc', {
    keys: keysOf('shoal:'),
    slotOf: () => 0,
    limits: { queueMessagesMax: 10, queueBytesMax: 10, queuePolicy: 'drop-oldest' },
    generation: 3,
  });
  const appends = new Appends(() => undefined, LASTING_CONTENTS);
  fc.assert(
    fc.property(queued, (given) => {
      const message = messageOf(given);
      const call = new NativeAppend(handle, { ...given, message }, () => undefined, appends);
      expect(argumentsOf(call.encode())).toEqual([
        ...['XADD', handle.keys.queue('inc'), 'NOMKSTREAM', '3-*', 'm'].map((text) =>
          Buffer.from(text),
        ),
        encodeStoredMessage(message, given, ''),
      ]);
    }),
  );
});

function messageOf(given: {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly properties: Uint8Array;
  readonly publisher: string;
  readonly messageQos: 0 | 1 | 2;
  readonly messageRetain: boolean;
  readonly expiresAtMs: number;
}): Message {
  const message = Message.of(topicOf(given.topic), given.payload, {
    qos: given.messageQos,
    retain: given.messageRetain,
    properties: given.properties,
    publisher: given.publisher,
  });
  message.expiresAtMs = given.expiresAtMs;
  return message;
}

/** The arguments of a command in the Redis protocol, of which nothing may be left over. */
function argumentsOf(bytes: Buffer): readonly Buffer[] {
  let at = 0;
  const line = () => {
    const end = bytes.indexOf('\r\n', at);
    const text = bytes.toString('latin1', at, end);
    at = end + 2;
    return text;
  };
  const args = Array.from({ length: Number(line().slice(1)) }, () => {
    const length = Number(line().slice(1));
    const arg = bytes.subarray(at, at + length);
    at += length + 2;
    return arg;
  });
  expect(at).toBe(bytes.length);
  return args;
}
