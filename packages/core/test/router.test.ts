import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TestNode } from '@shoalmq/testkit';
import type { MemoryClient, ReceivedPacket } from '@shoalmq/testkit';
import { Message } from '@shoalmq/core';
import type { AppendResult } from '@shoalmq/core';

function payloads(packets: readonly ReceivedPacket<'publish'>[]): string[] {
  return packets.map(({ payload }) => payload.toString());
}

function ids(packets: readonly ReceivedPacket<'publish'>[]): (number | undefined)[] {
  return packets.map(({ messageId }) => messageId);
}

function range(count: number, name = 'm'): string[] {
  return Array.from({ length: count }, (_, index) => `${name}${String(index)}`);
}

async function subscribed(
  node: TestNode,
  filter: string | string[],
  qos: 0 | 1 | 2,
  fields: Parameters<TestNode['connect']>[0] = {},
  options: { nl?: boolean; rap?: boolean } = {},
): Promise<MemoryClient> {
  const client = await node.connect(fields);
  await client.subscribe(filter, { qos, ...options });
  return client;
}

test.each([1, 2] as const)(
  'messages of one read go to many subscribers with each packet id in its place (QoS %s)',
  async (qos) => {
    const node = new TestNode();
    const subscribers = await Promise.all(range(3).map(() => subscribed(node, 't', qos)));
    // One of them is at another packet id than the others.
    await subscribers[1]!.subscribe('own', { qos: 1 });
    const publisher = await node.connect();
    publisher.publish({ topic: 'own', qos: 1 });
    await node.settle();
    subscribers[1]!.packets();

    publisher.publish(...range(5).map((payload) => ({ topic: 't', qos, payload })));
    for (const [index, subscriber] of subscribers.entries()) {
      const received = subscriber.publishes();
      expect(payloads(received)).toEqual(range(5));
      expect(received.every((packet) => packet.qos === qos && !packet.dup)).toBe(true);
      expect(ids(received)).toEqual(index === 1 ? [2, 3, 4, 5, 6] : [1, 2, 3, 4, 5]);
    }
  },
);

test('order is kept when messages of one read alternate between topics, sizes, properties and flags', async () => {
  const node = new TestNode();
  const subscribers = await Promise.all(range(3).map(() => subscribed(node, '#', 1)));
  const publisher = await node.connect();
  const messages = range(40).map((payload, index) => ({
    topic: index % 3 === 0 ? 'a' : 'b',
    qos: 1 as const,
    retain: index % 7 === 3,
    payload: index % 5 === 4 ? payload.padEnd(20_000) : payload,
    ...(index % 4 === 1 ? { properties: { contentType: 'c' } } : {}),
  }));
  publisher.publish(...messages);
  await node.settle();
  for (const subscriber of subscribers) {
    const received = subscriber.publishes();
    expect(payloads(received).map((payload) => payload.trim())).toEqual(range(40));
    expect(received.map(({ topic }) => topic)).toEqual(messages.map(({ topic }) => topic));
    expect(received.map(({ properties }) => properties?.contentType)).toEqual(
      messages.map(({ properties }) => properties?.contentType),
    );
  }
});

test('groups of different versions and QoS get the same messages in their own form', async () => {
  const node = new TestNode();
  const plans = [3, 4, 5].flatMap((version) =>
    [0, 1, 2].map((qos) => ({ version: version as 3 | 4 | 5, qos: qos as 0 | 1 | 2 })),
  );
  const members = await Promise.all(
    plans.flatMap(({ version, qos }) =>
      [1, 2].map(async () => ({ qos, client: await subscribed(node, 't', qos, { version }) })),
    ),
  );
  const publisher = await node.connect();
  publisher.publish(...range(4).map((payload) => ({ topic: 't', qos: 2 as const, payload })));
  for (const { qos, client } of members) {
    const received = client.publishes();
    expect(payloads(received)).toEqual(range(4));
    expect(received.map((packet) => packet.qos)).toEqual([qos, qos, qos, qos]);
  }
});

test('what does not fit into a window waits in order, goes out in order, and is counted once', async () => {
  const node = new TestNode();
  const properties = { receiveMaximum: 2 };
  const narrow = await subscribed(node, 't', 1, { properties });
  const wide = await subscribed(node, 't', 1);
  const publisher = await node.connect();
  publisher.publish(...range(3).map((payload) => ({ topic: 't', qos: 1 as const, payload })));
  publisher.publish(...range(3, 'n').map((payload) => ({ topic: 't', qos: 1 as const, payload })));
  expect(payloads(wide.publishes())).toEqual([...range(3), ...range(3, 'n')]);
  const received: string[] = [];
  for (;;) {
    const packets = narrow.publishes();
    if (packets.length === 0) break;
    expect(packets.length).toBeLessThanOrEqual(2);
    received.push(...payloads(packets));
    // One after the other, so that the window is never empty.
    for (const { messageId } of packets) narrow.send({ cmd: 'puback', messageId: messageId! });
  }
  expect(received).toEqual([...range(3), ...range(3, 'n')]);
  expect(node.counters.publishSent[1]).toBe(12);
});

test('bytes of payload are counted for what was sent, of a run that fits in part too', async () => {
  const node = new TestNode();
  await subscribed(node, 't', 1, { properties: { receiveMaximum: 2 } });
  await subscribed(node, 't', 1);
  const publisher = await node.connect();
  publisher.publish(
    ...[1, 20, 300].map((length) => ({ topic: 't', qos: 1 as const, payload: 'x'.repeat(length) })),
  );
  expect(node.counters.publishBytesSent).toBe(21 + 321);
  expect(node.counters.publishSent[1]).toBe(5);
});

test('a socket that takes nothing costs its own QoS 0 messages, counted, and nobody else any', async () => {
  const node = new TestNode({ limits: { outboundBytesMax: 1_000 } });
  const slow = await subscribed(node, 't', 0);
  const fast = await subscribed(node, 't', 0);
  const publisher = await node.connect();
  const payload = 'x'.repeat(100);
  let received = 0;
  for (let i = 0; i < 30; i++) {
    publisher.publish({ topic: 't', payload });
    received += fast.publishes().length;
    await node.pass(1_000);
  }
  expect(received).toBe(30);
  const taken = slow.publishes().length;
  expect(taken).toBeLessThan(15);
  expect(node.counters.messagesDropped.slow_consumer).toBe(30 - taken);
  expect(node.counters.publishSent[0]).toBe(30 + taken);
});

test('a large run is shared by its members and stays what it was until the last socket has taken it', async () => {
  const node = new TestNode();
  const subscribers = await Promise.all(range(5).map(() => subscribed(node, 't', 0)));
  const publisher = await node.connect();
  const messages = (from: number) =>
    range(from + 100)
      .slice(from)
      .map((name) => ({ topic: 't', qos: 0 as const, payload: name.padEnd(1_024, '.') }));
  publisher.publish(...messages(0));
  const [first] = subscribers;
  expect(payloads(first!.publishes())).toEqual(messages(0).map(({ payload }) => payload));
  publisher.publish(...messages(100));
  for (const subscriber of subscribers) {
    const all = [...messages(0), ...messages(100)].map(({ payload }) => payload);
    expect(payloads(subscriber.publishes())).toEqual(subscriber === first ? all.slice(100) : all);
  }
});

test('a publisher is held while its subscriber cannot keep up, goes on when it can, and loses nothing', async () => {
  const node = new TestNode({ limits: { waitingMessagesMax: 40 } });
  const slow = await subscribed(node, 't', 1, { properties: { receiveMaximum: 1 } });
  const publisher = await node.connect();
  for (const payload of range(100)) publisher.publish({ topic: 't', qos: 1, payload });
  expect(publisher.channel.readingPaused).toBe(true);
  expect(publisher.channel.unreadBytes).toBeGreaterThan(0);
  const received: string[] = [];
  for (let packets = slow.publishes(); packets.length > 0; packets = slow.publishes()) {
    received.push(...payloads(packets));
    for (const { messageId } of packets) slow.send({ cmd: 'puback', messageId: messageId! });
  }
  expect(received).toEqual(range(100));
  expect(publisher.channel.readingPaused).toBe(false);
});

test('a publisher of several receivers is held when none of them keeps up', async () => {
  const node = new TestNode({ limits: { waitingMessagesMax: 40 } });
  const properties = { receiveMaximum: 1 };
  const slow = [await subscribed(node, 't', 1, { properties })];
  slow.push(await subscribed(node, 't', 1, { properties }));
  const publisher = await node.connect();
  for (const payload of range(100)) publisher.publish({ topic: 't', qos: 1, payload });
  expect(publisher.channel.readingPaused).toBe(true);
  for (let progress = true; progress;) {
    progress = false;
    for (const client of slow) {
      for (const { messageId } of client.publishes()) {
        client.send({ cmd: 'puback', messageId: messageId! });
        progress = true;
      }
    }
  }
  expect(publisher.channel.readingPaused).toBe(false);
});

test('a slow consumer does not delay others that get the same messages: it pays alone', async () => {
  const node = new TestNode({ limits: { waitingMessagesMax: 40 } });
  const slow = await subscribed(node, 't', 1, { properties: { receiveMaximum: 1 } });
  const quick = await subscribed(node, 't', 1);
  const publisher = await node.connect();
  for (const payload of range(100)) publisher.publish({ topic: 't', qos: 1, payload });
  expect(publisher.channel.readingPaused).toBe(false);
  expect(payloads(quick.publishes())).toEqual(range(100));
  await node.settle();
  expect(slow.packets().at(-1)).toMatchObject({ cmd: 'disconnect', reasonCode: 0x97 });
});

test('a slow consumer does not delay others that the same publisher feeds', async () => {
  const node = new TestNode({ limits: { waitingMessagesMax: 400 } });
  await subscribed(node, 'slow', 1, { properties: { receiveMaximum: 1 } });
  const quick = await subscribed(node, 'quick', 1);
  const publisher = await node.connect();
  for (const payload of range(200)) {
    for (const topic of ['slow', 'quick']) publisher.publish({ topic, qos: 1, payload });
  }
  expect(publisher.channel.readingPaused).toBe(false);
  expect(payloads(quick.publishes())).toEqual(range(200));
  // Only when it has fed nobody else for a while does a publisher go at the pace of its consumer.
  publisher.publish({ topic: 'slow', qos: 1, payload: 'first of many' });
  expect(publisher.channel.readingPaused).toBe(false);
  await node.pass(2_000);
  publisher.publish({ topic: 'slow', qos: 1, payload: 'another' });
  expect(publisher.channel.readingPaused).toBe(true);
});

test('a publisher is held for a moment only when the subscriber makes no headway: then that one is closed', async () => {
  const node = new TestNode({ limits: { waitingMessagesMax: 40 } });
  const slow = await subscribed(node, 't', 1, { properties: { receiveMaximum: 1 } });
  const publisher = await node.connect();
  for (const payload of range(100)) publisher.publish({ topic: 't', qos: 1, payload });
  await node.pass(999);
  expect(publisher.channel.readingPaused).toBe(true);
  await node.pass(1);
  expect(publisher.channel.unreadBytes).toBe(0);
  const packets = slow.packets();
  expect(packets.at(-1)).toMatchObject({ cmd: 'disconnect', reasonCode: 0x97 });
  expect(node.counters.connectionsClosed.slow_consumer).toBe(1);
});

test('a publisher is held for as long as a slow subscriber makes headway', async () => {
  const node = new TestNode({ limits: { waitingMessagesMax: 3_200 } });
  const slow = await subscribed(node, 't', 1, { properties: { receiveMaximum: 1 } });
  const publisher = await node.connect();
  for (const payload of range(4_000)) publisher.publish({ topic: 't', qos: 1, payload });
  const received: string[] = [];
  // 800 messages wait when publishers are held, 400 when they may go on; 100 in a second are headway.
  for (let second = 0; second < 3; second++) {
    for (let i = 0; i < 120; i++) {
      const packets = slow.publishes();
      received.push(...payloads(packets));
      for (const { messageId } of packets) slow.send({ cmd: 'puback', messageId: messageId! });
    }
    expect(publisher.channel.unreadBytes).toBeGreaterThan(0);
    await node.pass(1_000);
  }
  for (let packets = slow.publishes(); packets.length > 0; packets = slow.publishes()) {
    received.push(...payloads(packets));
    for (const { messageId } of packets) slow.send({ cmd: 'puback', messageId: messageId! });
  }
  expect(received).toEqual(range(4_000));
  expect(node.counters.connectionsClosed.slow_consumer).toBe(0);
});

test('[MQTT-3.8.3-3] No Local leaves out the publisher alone, whoever shares its group and whatever else it subscribes', async () => {
  const node = new TestNode();
  const clients = await Promise.all(
    ['a', 'b', 'c'].map((clientId) => subscribed(node, 't', 1, { clientId }, { nl: true })),
  );
  const both = await subscribed(node, 't', 1, { clientId: 'both' }, { nl: true });
  await both.subscribe('+', { qos: 1 });
  const all = [...clients, both];
  for (const client of all)
    client.publish(...range(3).map((n) => ({ topic: 't', qos: 1 as const, payload: n })));
  await node.settle();
  const counts = all.map((client) => client.publishes().length);
  expect(counts).toEqual([9, 9, 9, 12]);
});

test('messages and DISCONNECT in one read: the messages reach everybody', async () => {
  const node = new TestNode();
  const subscribers = await Promise.all(range(2).map(() => subscribed(node, 't', 0)));
  const publisher = await node.connect();
  publisher.send(
    { cmd: 'publish', topic: 't', payload: 'last', qos: 0, dup: false, retain: false },
    { cmd: 'disconnect' },
  );
  for (const subscriber of subscribers) expect(payloads(subscriber.publishes())).toEqual(['last']);
});

test('a subscriber that is closed in the middle of a fan-out does not disturb it, even if a hook publishes then', async () => {
  const node: TestNode = new TestNode({
    limits: { waitingMessagesMax: 4 },
    events: {
      disconnected: (client) => {
        const topic = client.clientId === 'narrow' ? 't' : 'other';
        const { topics } = node.node;
        const bytes = Buffer.from(topic);
        void node.node.publish(
          Message.of(
            topics.find(bytes, 0, bytes.length) ?? topics.add(topic, bytes),
            Buffer.from('gone'),
            {
              qos: 1,
              retain: false,
            },
          ),
        );
      },
    },
  });
  const fields = { clientId: 'narrow', properties: { receiveMaximum: 1 } };
  const before = await subscribed(node, 't', 1);
  const narrow = await subscribed(node, 't', 1, fields);
  const others = [before, ...(await Promise.all(range(2).map(() => subscribed(node, 't', 1))))];
  const publisher = await node.connect();
  publisher.publish(...range(20).map((payload) => ({ topic: 't', qos: 1 as const, payload })));
  await node.settle();
  expect(narrow.packets().at(-1)).toMatchObject({ cmd: 'disconnect', reasonCode: 0x97 });
  for (const other of others) {
    const received = other.publishes();
    expect(payloads(received).filter((payload) => payload !== 'gone')).toEqual(range(20));
    expect(payloads(received).filter((payload) => payload === 'gone')).toHaveLength(1);
    expect(ids(received)).toEqual(range(21).map((_, index) => index + 1));
  }
});

test('an acknowledgement waits for the queue although a message of another session is passed on meanwhile', async () => {
  const appends: (() => void)[] = [];
  const node = new TestNode({
    limits: { waitingMessagesMax: 1 },
    wrapStore: (store) =>
      new Proxy(store, {
        get: (target, name) =>
          name === 'append'
            ? (...[session, message, uid, done]: Parameters<typeof store.append>) => {
                const kept = message.message.owned();
                appends.push(() => {
                  target.append(
                    session,
                    { ...message, message: kept },
                    uid,
                    (result: AppendResult) => done(result),
                  );
                });
              }
            : bound(target, name),
      }),
  });
  const persistent = { clean: false, properties: { sessionExpiryInterval: 100 } };
  const durable = await subscribed(node, 't', 1, { clientId: 'durable', ...persistent });
  // The only member of the group, with a window of one: the third message closes it, and the second is passed on.
  const member = await subscribed(node, '$share/g/t', 1, { properties: { receiveMaximum: 1 } });
  const publisher = await node.connect();
  const acknowledgements = async (client: MemoryClient): Promise<string[]> => {
    await node.settle();
    return client.packets().map(({ cmd }) => cmd);
  };
  publisher.publish(...range(2).map((payload) => ({ topic: 't', qos: 1 as const, payload })));
  expect(await acknowledgements(publisher)).toEqual([]);
  for (const append of appends.splice(0)) append();
  expect(await acknowledgements(publisher)).toEqual(['puback', 'puback']);
  const other = await node.connect();
  other.publish({ topic: 't', qos: 1, payload: 'm2' });
  expect(await acknowledgements(other)).toEqual([]);
  expect(member.packets().at(-1)?.cmd).toBe('disconnect');
  for (const append of appends.splice(0)) append();
  expect(await acknowledgements(other)).toEqual(['puback']);
  expect(payloads(durable.publishes())).toEqual(range(3));
});

test('an acknowledgement waits for the retained store although a hook publishes while its message is delivered', async () => {
  const retains: (() => void)[] = [];
  const node: TestNode = new TestNode({
    limits: { waitingMessagesMax: 1 },
    wrapStore: (store) =>
      new Proxy(store, {
        get: (target, name) =>
          name === 'retain'
            ? (message: Message) =>
                new Promise((resolve) => {
                  const kept = message.owned();
                  retains.push(() => {
                    resolve(target.retain(kept));
                  });
                })
            : bound(target, name),
      }),
    events: {
      disconnected: () => {
        const gone = { qos: 1, retain: false } as const;
        void node.node.publish(
          Message.of(node.node.topics.add('gone', Buffer.from('gone')), Buffer.of(1), gone),
        );
      },
    },
  });
  const watcher = await subscribed(node, 'gone', 0);
  const narrow = await subscribed(node, 't', 1, { properties: { receiveMaximum: 1 } });
  const first = await node.connect();
  first.publish(...range(2).map((payload) => ({ topic: 't', qos: 1 as const, payload })));
  const second = await node.connect();
  second.publish({ topic: 't', qos: 1, payload: 'kept', retain: true });
  await node.settle();
  expect(narrow.packets().at(-1)?.cmd).toBe('disconnect');
  expect(watcher.publishes()).toHaveLength(1);
  expect(second.packets()).toEqual([]);
  for (const retain of retains) retain();
  await node.settle();
  expect(second.packets().map(({ cmd }) => cmd)).toEqual(['puback']);
});

test('any batches to any groups: each member gets every message once, in order', async () => {
  const message = fc.record({
    topic: fc.constantFrom('a', 'b'),
    qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
    large: fc.boolean(),
  });
  const member = fc.record({
    filter: fc.constantFrom('a', '+', 'b'),
    qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
    version: fc.constantFrom(4 as const, 5 as const),
    nl: fc.boolean(),
    identified: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(member, { minLength: 1, maxLength: 6 }),
      fc.array(fc.array(message, { minLength: 1, maxLength: 12 }), { maxLength: 6 }),
      async (members, batches) => {
        const node = new TestNode();
        const clients = await Promise.all(
          members.map(async ({ filter, qos, version, nl, identified }) => {
            const client = await node.connect({ version });
            await client.subscribe(filter, {
              qos,
              ...(version === 5 ? { nl } : {}),
              ...(version === 5 && identified ? { properties: { subscriptionIdentifier: 7 } } : {}),
            });
            return client;
          }),
        );
        // The first member publishes: its own messages come back to it unless it said No Local.
        const publisher = clients[0]!;
        const expected = members.map((): string[] => []);
        let number = 0;
        for (const batch of batches) {
          publisher.publish(
            ...batch.map(({ topic, qos, large }) => {
              number += 1;
              for (const [index, { filter, qos: granted, version, nl }] of members.entries()) {
                if (filter !== '+' && filter !== topic) continue;
                if (index === 0 && nl && version === 5) continue;
                expected[index]!.push(
                  `${String(number)} ${topic} ${String(Math.min(qos, granted))}`,
                );
              }
              const payload = String(number);
              return { topic, qos, payload: large ? payload.padEnd(9_000) : payload };
            }),
          );
        }
        await node.settle();
        for (const [index, client] of clients.entries()) {
          const received = client
            .publishes()
            .map(
              ({ payload, topic, qos }) => `${payload.toString().trim()} ${topic} ${String(qos)}`,
            );
          expect(received).toEqual(expected[index]);
        }
      },
    ),
    { numRuns: 100 },
  );
});

function bound(target: object, name: string | symbol): unknown {
  const value: unknown = Reflect.get(target, name);
  return typeof value === 'function' ? (value.bind(target) as unknown) : value;
}

test('a retained message is not acknowledged before all nodes know its topic, whoever announced that', async () => {
  const announced: (() => void)[] = [];
  const node = new TestNode({
    peers: {
      announceRetained: () => new Promise((resolve) => announced.push(resolve)),
    },
  });
  const [first, second] = [await node.connect(), await node.connect()];
  first.publish({ topic: 't', payload: 'a', qos: 1, retain: true });
  await node.settle();
  second.publish({ topic: 't', payload: 'b', qos: 1, retain: true });
  await node.settle();
  expect([...first.packets(), ...second.packets()]).toEqual([]);
  expect(announced).toHaveLength(1);
  announced[0]!();
  await node.settle();
  expect([...first.packets(), ...second.packets()].map(({ cmd }) => cmd)).toEqual([
    'puback',
    'puback',
  ]);
  second.publish({ topic: 't', payload: 'c', qos: 1, retain: true });
  await node.settle();
  expect(second.packets().map(({ cmd }) => cmd)).toEqual(['puback']);
});
