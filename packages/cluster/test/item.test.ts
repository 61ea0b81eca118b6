import { expect, test } from '@jest/globals';
import { Message, TopicTable } from '@shoalmq/core';
import type { ByteSink, QoS } from '@shoalmq/core';
import fc from 'fast-check';
import {
  ItemDecoder,
  writeApplied,
  writeChanged,
  writeConnected,
  writeDeliverAt,
  writeForward,
  writeHint,
  writeLooked,
  writeDigest,
  writeSettled,
  writeTakeOver,
} from '../src/item.ts';
import type { ItemHandler } from '../src/item.ts';
import { MalformedItem } from '../src/item-reader.ts';

const NOW_MS = 1_700_000_000_000;

class Sink implements ByteSink {
  bytes = new Uint8Array(8);
  length = 0;
  reserve(count: number): void {
    if (this.bytes.length - this.length >= count) return;
    const larger = new Uint8Array(this.length + count);
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }
}

/** What a message says, as plain data. */
function plainMessage(message: Message) {
  return {
    topic: message.topic.name,
    qos: message.qos,
    retain: message.retain,
    properties: [...message.properties],
    expiryInterval: message.expiryInterval,
    expiresAtMs: message.expiresAtMs,
    payload: [...message.bytes.subarray(message.start, message.end)],
  };
}

const texts = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 200 });
const numbers = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const sessions = fc.record({ clientId: texts, incarnation: fc.constantFrom('i1', 'ABCDEF_-9') });
const messages = fc.record({
  topic: texts,
  payload: fc.uint8Array({ maxLength: 300 }),
  qos: fc.constantFrom<QoS>(0, 1, 2),
  retain: fc.boolean(),
  properties: fc.uint8Array({ maxLength: 100 }),
  expiryInterval: fc.integer({ min: -1, max: 100_000 }),
});
type MessageFields = typeof messages extends fc.Arbitrary<infer T> ? T : never;

const items = fc.oneof(
  fc.record({
    item: fc.constant('forward' as const),
    message: messages,
    plain: fc.boolean(),
    groups: fc.array(texts, { maxLength: 3 }),
    uid: texts,
    publisher: fc.option(texts),
  }),
  fc.record({
    item: fc.constant('hint' as const),
    number: numbers,
    session: sessions,
    sequence: numbers,
    message: messages,
    qos: fc.constantFrom<1 | 2>(1, 2),
    retain: fc.boolean(),
    ids: fc.array(fc.integer({ min: 1, max: 268_435_455 }), { maxLength: 4 }),
  }),
  fc.record({
    item: fc.constant('deliverAt' as const),
    number: numbers,
    session: sessions,
    message: messages,
    retain: fc.boolean(),
    ids: fc.array(fc.integer({ min: 1, max: 268_435_455 }), { maxLength: 4 }),
  }),
  fc.record({
    item: fc.constant('looked' as const),
    upTo: numbers,
    notHere: fc.array(numbers),
  }),
  fc.record({ item: fc.constant('connected' as const), number: numbers, session: sessions }),
  fc.record({ item: fc.constant('takeOver' as const), clientId: texts, token: texts }),
  fc.record({
    item: fc.constant('changed' as const),
    number: numbers,
    positions: fc.array(fc.tuple(fc.integer({ min: 0, max: 63 }), texts), { maxLength: 5 }),
  }),
  fc.record({ item: fc.constant('applied' as const), number: numbers }),
  fc.record({ item: fc.constant('settled' as const), uid: texts }),
  fc.record({ item: fc.constant('digest' as const), sums: fc.uint32Array({ maxLength: 128 }) }),
);
type Item = typeof items extends fc.Arbitrary<infer T> ? T : never;

function messageOf(fields: MessageFields): Message {
  const topics = new TopicTable();
  const topic = topics.add(fields.topic, new TextEncoder().encode(fields.topic));
  const message = Message.of(topic, fields.payload, fields);
  if (fields.expiryInterval >= 0) {
    message.expiryInterval = fields.expiryInterval;
    message.expiresAtMs = NOW_MS + fields.expiryInterval * 1000;
  }
  return message;
}

function write(sink: ByteSink, item: Item): void {
  switch (item.item) {
    case 'forward': {
      const message = messageOf(item.message);
      message.namesPublisher = item.publisher !== null;
      message.publisher = item.publisher ?? 'whom nobody needs to know';
      return writeForward(sink, message, item.plain, item.groups, item.uid, NOW_MS);
    }
    case 'hint': {
      const { number, session, sequence, qos, retain, ids } = item;
      const message = messageOf(item.message);
      const queued = { message, qos, retain, subscriptionIds: ids };
      return writeHint(sink, number, session, sequence, queued, NOW_MS);
    }
    case 'deliverAt': {
      const { number, session, retain, ids } = item;
      const delivery = { message: messageOf(item.message), retain, subscriptionIds: ids };
      return writeDeliverAt(sink, number, session, delivery, NOW_MS);
    }
    case 'looked':
      return writeLooked(sink, item.upTo, item.notHere);
    case 'connected':
      return writeConnected(sink, item.number, item.session);
    case 'takeOver':
      return writeTakeOver(sink, item.clientId, item.token);
    case 'changed':
      return writeChanged(sink, item.number, new Map(item.positions));
    case 'applied':
      return writeApplied(sink, item.number);
    case 'settled':
      return writeSettled(sink, item.uid);
    case 'digest':
      return writeDigest(sink, item.sums);
  }
}

/** Takes down what was decoded, as plain data. */
class Recorder implements ItemHandler {
  readonly got: unknown[] = [];
  onForward(...[message, plain, groups, uid]: Parameters<ItemHandler['onForward']>): void {
    this.got.push({
      item: 'forward',
      message: plainMessage(message),
      plain,
      groups: [...groups],
      uid,
      publisher: message.namesPublisher ? message.publisher : null,
    });
  }
  onHint(...[number, session, sequence, queued]: Parameters<ItemHandler['onHint']>): void {
    const { message, qos, retain, subscriptionIds: ids } = queued;
    const plain = plainMessage(message);
    this.got.push({ item: 'hint', number, session, sequence, message: plain, qos, retain, ids });
  }
  onDeliverAt(...args: Parameters<ItemHandler['onDeliverAt']>): void {
    const [number, session, message, retain, ids] = args;
    this.got.push({
      item: 'deliverAt',
      number,
      session,
      message: plainMessage(message),
      retain,
      ids,
    });
  }
  onLooked(upTo: number, notHere: readonly number[]): void {
    this.got.push({ item: 'looked', upTo, notHere });
  }
  onConnected(...[number, session]: Parameters<ItemHandler['onConnected']>): void {
    this.got.push({ item: 'connected', number, session });
  }
  onTakeOver(clientId: string, token: string): void {
    this.got.push({ item: 'takeOver', clientId, token });
  }
  onChanged(...[number, positions]: Parameters<ItemHandler['onChanged']>): void {
    this.got.push({ item: 'changed', number, positions: [...positions] });
  }
  onApplied(number: number): void {
    this.got.push({ item: 'applied', number });
  }
  onSettled(uid: string): void {
    this.got.push({ item: 'settled', uid });
  }
  onDigest(sums: Uint32Array): void {
    this.got.push({ item: 'digest', sums });
  }
}

function expected(item: Item): unknown {
  if (item.item === 'changed') return { ...item, positions: [...new Map(item.positions)] };
  return 'message' in item ? { ...item, message: plainMessage(messageOf(item.message)) } : item;
}

test('what was written is read again, item by item', () => {
  fc.assert(
    fc.property(fc.array(items, { maxLength: 6 }), (written) => {
      const sink = new Sink();
      for (const item of written) write(sink, item);
      const recorder = new Recorder();
      const decoder = new ItemDecoder(new TopicTable(), () => NOW_MS);
      decoder.decode(sink.bytes, 0, sink.length, written.length, recorder);
      expect(recorder.got).toEqual(written.map(expected));
    }),
    { numRuns: 300 },
  );
});

test('forwarded messages are decoded into one message, and known topics are found', () => {
  const sink = new Sink();
  const fields = {
    qos: 1,
    retain: false,
    properties: new Uint8Array(0),
    expiryInterval: -1,
  } as const;
  for (const text of ['one', 'two']) {
    const payload = new TextEncoder().encode(text);
    writeForward(sink, messageOf({ ...fields, topic: 'a/b', payload }), true, [], '', NOW_MS);
  }
  const seen: Message[] = [];
  const recorder = new Recorder();
  recorder.onForward = (message) => seen.push(message);
  const topics = new TopicTable();
  new ItemDecoder(topics, () => NOW_MS).decode(sink.bytes, 0, sink.length, 2, recorder);

  expect(seen[0]).toBe(seen[1]);
  expect(new Set(seen.map(({ topic }) => topic)).size).toBe(1);
});

test('an item that only a later version knows is passed over', () => {
  const sink = new Sink();
  writeApplied(sink, 1);
  sink.bytes[0] = 0xee;
  writeApplied(sink, 2);
  const recorder = new Recorder();
  new ItemDecoder(new TopicTable(), () => NOW_MS).decode(sink.bytes, 0, sink.length, 2, recorder);

  expect(recorder.got).toEqual([{ item: 'applied', number: 2 }]);
});

test('arbitrary bytes are malformed and nothing else', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), fc.uint8Array({ maxLength: 60 }), (kind, rest) => {
      const bytes = Uint8Array.of(kind, rest.length, 0, 0, 0, ...rest);
      const decoder = new ItemDecoder(new TopicTable(), () => NOW_MS);
      try {
        decoder.decode(bytes, 0, bytes.length, 1, new Recorder());
      } catch (error) {
        expect(error).toBeInstanceOf(MalformedItem);
      }
    }),
    { numRuns: 500 },
  );
});
