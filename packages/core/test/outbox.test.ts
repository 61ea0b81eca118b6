import { expect, test } from '@jest/globals';
import { TestNode } from '@shoalmq/testkit';

test('[MQTT-3.3.2-6] the seconds that are left are sent, and never more than the publisher asked for', async () => {
  const node = new TestNode();
  const client = await node.connect({ properties: { receiveMaximum: 1 } });
  await client.subscribe('t', { qos: 1 });
  const publisher = await node.connect();
  const properties = { messageExpiryInterval: 10 };
  publisher.publish(...[1, 2, 3].map(() => ({ topic: 't', qos: 1 as const, properties })));
  const left: (number | undefined)[] = [];
  for (const waitMs of [0, 3_500, 2_000]) {
    node.clock.advance(waitMs);
    if (left.length > 0) client.send({ cmd: 'puback', messageId: left.length });
    left.push(...client.publishes().map((packet) => packet.properties?.messageExpiryInterval));
  }
  expect(left).toEqual([10, 7, 5]);
});

test('[MQTT-3.3.2-5] what expired while it waited is dropped, and those behind it take its place', async () => {
  const node = new TestNode();
  const client = await node.connect({ properties: { receiveMaximum: 1 } });
  await client.subscribe('t', { qos: 2 });
  const publisher = await node.connect();
  publisher.publish(
    { topic: 't', qos: 1, payload: 'first' },
    { topic: 't', qos: 1, payload: 'short', properties: { messageExpiryInterval: 1 } },
    { topic: 't', qos: 2, payload: 'shorter', properties: { messageExpiryInterval: 1 } },
    { topic: 't', qos: 1, payload: 'last' },
  );
  node.clock.advance(1_000);
  client.publishes();
  client.send({ cmd: 'puback', messageId: 1 });
  expect(client.publishes().map(({ payload }) => payload.toString())).toEqual(['last']);
  expect(node.counters.messagesDropped.expired).toBe(2);
  expect(node.counters.inflightMessages).toBe(1);
});

test('[MQTT-3.1.2-25] a message too large for one subscriber is dropped for that one, and takes no place in its window', async () => {
  const node = new TestNode();
  const small = await node.connect({ properties: { maximumPacketSize: 30, receiveMaximum: 1 } });
  const large = await node.connect();
  for (const client of [small, large]) await client.subscribe('t', { qos: 1 });
  const publisher = await node.connect();
  const payloads = ['x'.repeat(30), 'y'.repeat(30), 'z'];
  publisher.publish(...payloads.map((payload) => ({ topic: 't', qos: 1 as const, payload })));
  expect(small.publishes().map(({ payload }) => payload.toString())).toEqual(['z']);
  expect(large.publishes().map(({ payload }) => payload.toString())).toEqual(payloads);
  expect(node.counters.messagesDropped.too_large).toBe(2);
});

test('[MQTT-3.1.2-24] the limit is met to the byte, and an alias that would pass it is left out', async () => {
  const node = new TestNode();
  const properties = { maximumPacketSize: 30, topicAliasMaximum: 1 };
  const client = await node.connect({ properties });
  await client.subscribe('t', { qos: 0 });
  const publisher = await node.connect();
  // Fixed header 2, topic 3, property length 1: 24 bytes are left without an alias, 21 with it, 22 with it alone.
  for (const length of [25, 24, 22, 21, 22, 24]) {
    publisher.publish({ topic: 't', payload: 'x'.repeat(length) });
  }
  const received = client.publishes().map((packet) => ({
    bytes: packet.raw.length,
    topic: packet.topic,
    alias: packet.properties?.topicAlias,
  }));
  expect(received).toEqual([
    { bytes: 30, topic: 't', alias: undefined },
    { bytes: 28, topic: 't', alias: undefined },
    { bytes: 30, topic: 't', alias: 1 },
    { bytes: 30, topic: '', alias: 1 },
    { bytes: 30, topic: 't', alias: undefined },
  ]);
});

test('a large payload goes out whole to everybody, in order with small ones', async () => {
  const node = new TestNode();
  const clients = await Promise.all([1, 2].map(() => node.connect()));
  for (const client of clients) await client.subscribe('t', { qos: 1 });
  const publisher = await node.connect();
  const payloads = ['a', 'b'.repeat(70_000), 'c', 'd'.repeat(16_384), 'e'.repeat(16_383)];
  publisher.publish(...payloads.map((payload) => ({ topic: 't', qos: 1 as const, payload })));
  for (const client of clients) {
    const received = client.publishes();
    expect(received.map(({ messageId }) => messageId)).toEqual([1, 2, 3, 4, 5]);
    expect(received.map(({ payload }) => payload.toString())).toEqual(payloads);
  }
});

test('messages that wait because the socket is full go on with the acknowledgements, not only when it reports to have drained', async () => {
  const node = new TestNode({ limits: { outboundBytesMax: 1_000 } });
  const client = await node.connect();
  await client.subscribe('#', { qos: 1 });
  const publisher = await node.connect();
  const payloads = ['a', 'b', 'c'];
  publisher.publish(
    { topic: 'zero', payload: 'x'.repeat(2_500) },
    ...payloads.map((payload) => ({ topic: 't', qos: 1 as const, payload })),
  );
  const received: string[] = [];
  for (let publishes = client.publishes(); publishes.length > 0; publishes = client.publishes()) {
    for (const { qos, messageId, payload } of publishes) {
      if (qos === 0) continue;
      received.push(payload.toString());
      client.send({ cmd: 'puback', messageId: messageId! });
    }
  }
  expect(received).toEqual(payloads);
});
