import { expect, test } from '@jest/globals';
import { SeededRandom, TestNode, topicOf } from '@shoalmq/testkit';
import { Message } from '../src/message.ts';
import { RetainedDelivery } from '../src/retained/retained-delivery.ts';
import type { RetainedConsumer, RetainedRequest } from '../src/retained/retained-delivery.ts';
import { RetainedIndex } from '../src/retained/retained-index.ts';
import { Turns } from '../src/turns.ts';

type Parts = ConstructorParameters<typeof RetainedDelivery>[0];

/** A delivery whose turns of the event loop are the test's, to a consumer that takes what the test lets it. */
class Bench implements RetainedConsumer {
  readonly index = new RetainedIndex();
  readonly retained = new Map<string, string>();
  /** `topic=payload` in the order of delivery. */
  readonly delivered: string[] = [];
  readonly requests: RetainedRequest[] = [];
  /** How many names each read from the store asked for. */
  readonly reads: number[] = [];
  /** How many messages the consumer still wants. */
  appetite = Infinity;
  failed = 0;
  storeFails = false;
  readonly #deferred: (() => void)[] = [];
  readonly delivery: RetainedDelivery;
  readonly #awaited: boolean;

  /** `awaited`: the consumer takes its time over each message. */
  constructor(awaited = false) {
    this.#awaited = awaited;
    const store: Pick<Parts['store'], 'readRetained'> = {
      readRetained: (topics) => {
        this.reads.push(topics.length);
        if (this.storeFails) return Promise.reject(new Error('the store is away'));
        return Promise.resolve(topics.flatMap((topic) => this.#read(topic)));
      },
    };
    const scheduler = { defer: (callback: () => void) => void this.#deferred.push(callback) };
    this.delivery = new RetainedDelivery(
      {
        index: this.index,
        store: store,
        scheduler,
        turns: new Turns(scheduler),
      },
      this,
      () => {
        this.failed += 1;
      },
    );
  }

  get hungry(): boolean {
    return this.appetite > 0;
  }

  deliverRetained(message: Message, request: RetainedRequest): void | Promise<void> {
    this.appetite -= 1;
    const payload = new TextDecoder().decode(message.bytes);
    this.delivered.push(`${message.topic.name}=${payload}`);
    this.requests.push(request);
    return this.#awaited ? Promise.resolve() : undefined;
  }

  retain(topic: string, payload = 'x'): void {
    this.retained.set(topic, payload);
    this.index.add(topic);
  }

  clear(topic: string): void {
    this.retained.delete(topic);
    this.index.delete(topic);
  }

  add(filter: string, identifier = 0): void {
    this.delivery.add({ filter, qos: 0, identifier });
  }

  /** One turn of the event loop. False: nothing was left to do. */
  async turn(): Promise<boolean> {
    await new Promise(setImmediate);
    const callbacks = this.#deferred.splice(0);
    for (const callback of callbacks) callback();
    await new Promise(setImmediate);
    return callbacks.length > 0;
  }

  async finish(): Promise<void> {
    while (await this.turn());
  }

  #read(topic: string): Message[] {
    const payload = this.retained.get(topic);
    if (payload === undefined) return [];
    const bytes = new TextEncoder().encode(payload);
    return [Message.of(topicOf(topic), bytes, { qos: 0, retain: true })];
  }
}

test('all matching messages are delivered, a slice in each turn', async () => {
  const bench = new Bench();
  for (let i = 0; i < 1_000; i++) bench.retain(`t/${i}`);
  bench.add('t/+');
  await new Promise(setImmediate);
  let before = 0;
  do {
    expect(bench.delivered.length - before).toBeLessThanOrEqual(200);
    before = bench.delivered.length;
  } while (await bench.turn());
  expect(new Set(bench.delivered).size).toBe(1_000);
  expect(bench.delivered).toHaveLength(1_000);
  expect(Math.max(...bench.reads)).toBe(200);
});

test('large messages are read a few at a time', async () => {
  const bench = new Bench();
  for (let i = 0; i < 60; i++) bench.retain(`t/${i}`, 'x'.repeat(300_000));
  for (let i = 0; i < 1_000; i++) bench.retain(`u/${i}`);
  bench.add('t/+');
  bench.add('u/+');
  await bench.finish();
  expect(bench.delivered).toHaveLength(1_060);
  expect(Math.max(...bench.reads.slice(0, 15))).toBe(8);
  expect(bench.reads.slice(1, 15).every((count) => count <= 4)).toBe(true);
  expect(Math.max(...bench.reads)).toBe(200);
});

test('requests are served one after the other', async () => {
  const bench = new Bench();
  bench.retain('a');
  bench.retain('b');
  bench.add('#', 1);
  bench.add('nothing', 2);
  bench.add('a', 3);
  await bench.finish();
  expect(bench.delivered).toEqual(['a=x', 'b=x', 'a=x']);
  expect(bench.requests.map(({ identifier }) => identifier)).toEqual([1, 1, 3]);
});

test('a consumer that has enough gets nothing more until it is resumed, and then the rest', async () => {
  const bench = new Bench();
  for (let i = 0; i < 500; i++) bench.retain(`t/${i}`);
  bench.appetite = 3;
  bench.add('#');
  await bench.finish();
  expect(bench.delivered).toHaveLength(3);
  bench.delivery.resume();
  await bench.finish();
  expect(bench.delivered).toHaveLength(3);
  while (bench.delivered.length < 500) {
    const before = bench.delivered.length;
    bench.appetite = 7;
    bench.delivery.resume();
    await bench.finish();
    expect(bench.delivered.length).toBe(Math.min(before + 7, 500));
  }
  bench.appetite = 7;
  bench.delivery.resume();
  await bench.finish();
  expect(bench.delivered).toEqual(Array.from({ length: 500 }, (_, i) => `t/${i}=x`));
});

test('a slow consumer does not make the store read the same over and over', async () => {
  const bench = new Bench();
  for (let i = 0; i < 1_000; i++) bench.retain(`t/${i}`);
  bench.add('#');
  bench.appetite = 1;
  while (bench.delivered.length < 1_000) {
    bench.appetite = 1;
    bench.delivery.resume();
    await bench.finish();
  }
  expect(bench.reads.reduce((a, b) => a + b, 0)).toBeLessThan(4_000);
});

test('what waits for the consumer is what is retained when it goes on', async () => {
  const bench = new Bench();
  for (const topic of ['a', 'b', 'c', 'd']) bench.retain(topic, 'old');
  bench.appetite = 1;
  bench.add('#');
  await bench.finish();
  bench.retain('b', 'new');
  bench.clear('c');
  bench.appetite = Infinity;
  bench.delivery.resume();
  await bench.finish();
  expect(bench.delivered).toEqual(['a=old', 'b=new', 'd=old']);
});

test.each([1, 2, 3, 4, 5])(
  'nothing that is retained throughout is lost or repeated while names come and go (seed %i)',
  async (seed) => {
    const random = new SeededRandom(seed);
    const bench = new Bench(seed % 2 === 0);
    const lasting: string[] = [];
    for (let i = 0; i < 600; i++) {
      const topic = `${random.integer(5)}/${random.integer(5)}/${i}`;
      bench.retain(topic);
      if (i % 2 === 0) lasting.push(topic);
    }
    const fleeting = [...bench.retained.keys()].filter((topic) => !lasting.includes(topic));
    bench.appetite = random.integer(50);
    bench.add('#');
    for (let i = 0; i < 400; i++) {
      const topic = fleeting[random.integer(fleeting.length)]!;
      if (bench.retained.has(topic)) bench.clear(topic);
      else bench.retain(topic);
      bench.retain(`${random.integer(5)}/new/${i}`);
      bench.appetite += random.integer(12);
      bench.delivery.resume();
      await bench.turn();
    }
    bench.appetite = Infinity;
    bench.delivery.resume();
    await bench.finish();
    const topics = bench.delivered.map((each) => each.slice(0, -2));
    expect(new Set(topics).size).toBe(topics.length);
    expect(topics).toEqual(expect.arrayContaining(lasting));
  },
);

test('a store that fails is reported once, and nothing goes on after close', async () => {
  const bench = new Bench();
  for (let i = 0; i < 300; i++) bench.retain(`t/${i}`);
  bench.storeFails = true;
  bench.add('#');
  await bench.finish();
  expect(bench.failed).toBe(1);
  expect(bench.delivered).toEqual([]);

  const closed = new Bench();
  for (let i = 0; i < 300; i++) closed.retain(`t/${i}`);
  closed.add('#');
  await new Promise(setImmediate);
  closed.delivery.close();
  await closed.finish();
  expect(closed.delivered).toHaveLength(8);
  closed.add('#');
  await closed.finish();
  expect(closed.delivered).toHaveLength(8);
});

test('retained messages wait for a socket that takes nothing: none is dropped, and little is written ahead', async () => {
  const node = new TestNode({ limits: { outboundBytesMax: 1_048_576 } });
  const publisher = await node.connect();
  const payload = Buffer.alloc(100_000, 'x');
  for (let i = 0; i < 50; i++) {
    publisher.publish({ topic: `t/${i}`, payload, retain: true });
  }
  await node.settle();
  const client = await node.connect();
  client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: '#', qos: 0 }] });
  await node.settle();
  expect(client.channel.backlogBytes).toBeLessThan(500_000);
  const topics: string[] = [];
  for (let i = 0; i < 50; i++) {
    topics.push(...client.publishes().map(({ topic }) => topic));
    client.channel.drained();
    await node.settle();
  }
  expect(topics).toEqual(Array.from({ length: 50 }, (_, i) => `t/${i}`));
  expect(node.counters.messagesDropped.slow_consumer).toBe(0);
});

test.each([
  { limit: 'its window', receiveMaximum: 4 },
  { limit: 'its queue', receiveMaximum: 1_000 },
])(
  'retained messages for a persistent session keep within $limit and push nothing out of its queue',
  async ({ receiveMaximum }) => {
    const node = new TestNode({ limits: { queueMessagesMax: 10 } });
    const publisher = await node.connect();
    for (let i = 0; i < 100; i++) {
      publisher.publish({ topic: `t/${i}`, payload: 'x', retain: true, qos: 1 });
    }
    await node.settle();
    const client = await node.connect({
      clientId: 'slow',
      clean: false,
      properties: { sessionExpiryInterval: 60, receiveMaximum },
    });
    await client.subscribe('#', { qos: 1 });
    const topics: string[] = [];
    for (let i = 0; i < 200; i++) {
      const publishes = client.publishes();
      expect(publishes.length).toBeLessThanOrEqual(Math.min(receiveMaximum, 10));
      topics.push(...publishes.map(({ topic }) => topic));
      for (const { messageId } of publishes) {
        client.send({ cmd: 'puback', messageId: messageId!, reasonCode: 0 });
        await node.settle();
      }
    }
    expect(new Set(topics).size).toBe(100);
    expect(topics).toHaveLength(100);
    expect(node.counters.messagesDropped.queue_full).toBe(0);
  },
);

test('retained messages that waited for the queue of a session to be read go on without a word of the client', async () => {
  const answers: (() => void)[] = [];
  const node = new TestNode({
    wrapStore: (store) =>
      new Proxy(store, {
        get: (target, name) => {
          const value: unknown = Reflect.get(target, name);
          if (typeof value !== 'function') return value;
          if (name !== 'read') return value.bind(target) as unknown;
          return async (...request: Parameters<typeof store.read>) => {
            await new Promise<void>((resolve) => answers.push(resolve));
            return target.read(...request);
          };
        },
      }),
  });
  const publisher = await node.connect();
  publisher.publish({ topic: 't', payload: 'x', retain: true, qos: 1 });
  const client = await node.connect({
    clientId: 'resuming',
    clean: false,
    properties: { sessionExpiryInterval: 60 },
  });
  await client.subscribe('#', { qos: 1 });
  expect(client.publishes()).toEqual([]);
  while (answers.length > 0) {
    answers.shift()!();
    await node.settle();
  }
  expect(client.publishes().map(({ topic }) => topic)).toEqual(['t']);
});
