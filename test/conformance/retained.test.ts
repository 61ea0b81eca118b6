import { expect, test } from '@jest/globals';
import { TestBroker, TestNode } from '@shoalmq/testkit';
import type { ByteClient, PublishFields, WireVersion } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;

/** What a new subscriber to `filter` gets, in any order: `topic=payload`. */
async function retainedBy(
  broker: TestBroker,
  filter: string,
  version: WireVersion = 5,
): Promise<string[]> {
  await using client = await broker.client({ version });
  await client.subscribe(filter);
  const found: string[] = [];
  for (let count = await client.roundTrip(); count > 0; count--) {
    const { topic, payload } = await client.expectPublish({ retain: true });
    found.push(`${topic}=${payload.toString()}`);
  }
  return found.sort();
}

async function retain(
  client: ByteClient,
  topic: string,
  payload: string,
  fields: Partial<PublishFields> = {},
): Promise<number> {
  return client.publishFully({ topic, payload, retain: true, ...fields });
}

test.each(versions)(
  '[MQTT-3.3.1-5][MQTT3-3.3.1-5][MQTT3-3.3.1-6][MQTT3-3.3.1-7] the last retained message of each topic is kept, at every QoS (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await retain(publisher, 'a', 'first', { qos: 2 });
    await retain(publisher, 'a', 'second', { qos: 0 });
    await retain(publisher, 'b/c', 'other', { qos: 1 });
    expect(await retainedBy(broker, '#', version)).toEqual(['a=second', 'b/c=other']);
    expect(await retainedBy(broker, 'b/+', version)).toEqual(['b/c=other']);
    expect(await retainedBy(broker, 'b', version)).toEqual([]);
    expect(await retainedBy(broker, 'b/#', version)).toEqual(['b/c=other']);
  },
);

test.each(versions)(
  '[MQTT-3.3.1-9][MQTT3-3.3.1-5][MQTT3-3.3.1-8] a retained message comes with RETAIN 1 and the lower of its QoS and the granted one (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    for (const published of [0, 1, 2] as const) {
      await retain(publisher, `t/${published}`, 'x', { qos: published });
      for (const granted of [0, 1, 2] as const) {
        await using client = await broker.client({ version });
        await client.subscribe(`t/${published}`, { qos: granted });
        await client.expectPublish({
          retain: true,
          dup: false,
          qos: Math.min(published, granted) as 0 | 1 | 2,
          acknowledge: true,
        });
        await client.expectNothing();
      }
    }
  },
);

test.each(versions)(
  '[MQTT-3.3.1-6][MQTT-3.3.1-7][MQTT3-3.3.1-10][MQTT3-3.3.1-11] RETAIN 1 with an empty payload clears the topic, and is forwarded (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await using client = await broker.client({ version });
    await retain(publisher, 'a', 'kept');
    await retain(publisher, 'b', 'kept');
    await client.subscribe('a');
    await client.expectPublish({ payload: 'kept', retain: true });
    await retain(publisher, 'a', '', { qos: 1 });
    await client.expectPublish({ topic: 'a', payload: '', retain: false });
    expect(await retainedBy(broker, '#', version)).toEqual(['b=kept']);
    // Also where nothing was.
    await retain(publisher, 'c', '');
    expect(await retainedBy(broker, '#', version)).toEqual(['b=kept']);
    await retain(publisher, 'a', 'again');
    expect(await retainedBy(broker, '#', version)).toEqual(['a=again', 'b=kept']);
  },
);

test.each(versions)(
  '[MQTT-3.3.1-8][MQTT3-3.3.1-12] RETAIN 0 neither keeps nor replaces nor clears (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await publisher.publishFully({ topic: 'a', payload: 'not kept', qos: 1 });
    expect(await retainedBy(broker, '#', version)).toEqual([]);
    await retain(publisher, 'a', 'kept');
    await publisher.publishFully({ topic: 'a', payload: 'not kept', qos: 1 });
    await publisher.publishFully({ topic: 'a', payload: '', qos: 1 });
    expect(await retainedBy(broker, '#', version)).toEqual(['a=kept']);
  },
);

test.each(versions)(
  '[MQTT-3.3.1-12][MQTT3-3.3.1-9] what reaches an established subscription has RETAIN 0 (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await using client = await broker.client({ version });
    await client.subscribe('a', { qos: 1 });
    await retain(publisher, 'a', 'x', { qos: 1 });
    await client.expectPublish({ payload: 'x', retain: false, acknowledge: true });
    await client.expectNothing();
  },
);

test.each([
  { kind: 'clean', clean: true, sessionExpiryInterval: 0 },
  { kind: 'persistent', clean: false, sessionExpiryInterval: 60 },
])(
  '[MQTT-3.3.1-12][MQTT-3.3.1-13] Retain As Published 1 keeps RETAIN as it came, 0 clears it ($kind session)',
  async ({ clean, sessionExpiryInterval }) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    const properties = { sessionExpiryInterval };
    await using keeping = await broker.client({ clientId: 'keeping', clean, properties });
    await using clearing = await broker.client({ clientId: 'clearing', clean, properties });
    await keeping.subscribe('a', { qos: 1, rap: true });
    await clearing.subscribe('a', { qos: 1, rap: false });
    for (const qos of [0, 1] as const) {
      for (const sent of [true, false]) {
        await publisher.publishFully({ topic: 'a', payload: 'x', retain: sent, qos });
        await keeping.expectPublish({ retain: sent, qos, acknowledge: true });
        await clearing.expectPublish({ retain: false, qos, acknowledge: true });
      }
    }
  },
);

test('[MQTT-3.3.1-13] a message that matches several subscriptions keeps RETAIN if one of them wants it', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await client.subscribe('a', { rap: false });
  await client.subscribe('+', { rap: true });
  await retain(client, 'a', 'x');
  await client.expectPublish({ retain: true });
  await client.expectNothing();
});

test('[MQTT-3.3.1-9][MQTT-3.8.4-4] Retain Handling 0 sends the retained messages at every SUBSCRIBE', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await retain(client, 'a', 'x');
  for (let i = 0; i < 2; i++) {
    await client.subscribe('a', { rh: 0 });
    await client.expectPublish({ payload: 'x', retain: true });
  }
  await client.expectNothing();
});

test('[MQTT-3.3.1-10] Retain Handling 1 sends them only for a subscription that did not exist', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await retain(client, 'a', 'x');
  await client.subscribe('a', { rh: 1 });
  await client.expectPublish({ payload: 'x', retain: true });
  await client.subscribe('a', { rh: 1, qos: 2 });
  await client.expectNothing();
  // Another filter is another subscription, also when it matches the same.
  await client.subscribe('+', { rh: 1 });
  await client.expectPublish({ payload: 'x', retain: true });
  await client.unsubscribe('a');
  await client.subscribe('a', { rh: 1 });
  await client.expectPublish({ payload: 'x', retain: true });
  await client.expectNothing();
});

test('[MQTT-3.3.1-10] Retain Handling 1: the subscription of a resumed session exists already', async () => {
  await using broker = await TestBroker.start();
  const session = { clientId: 's', clean: false, properties: { sessionExpiryInterval: 60 } };
  {
    await using client = await broker.client(session);
    await client.subscribe('a', { rh: 1 });
    await retain(client, 'a', 'x');
    await client.expectPublish({ retain: false });
  }
  await using back = await broker.client(session);
  await back.subscribe('a', { rh: 1 });
  await back.expectNothing();
});

test('[MQTT-3.3.1-11] Retain Handling 2 sends none', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await retain(client, 'a', 'x');
  await client.subscribe('a', { rh: 2 });
  await client.subscribe('+', { rh: 2, qos: 1 });
  await client.expectNothing();
});

test('retained messages carry the properties they were published with and the identifier of the new subscription', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  await using client = await broker.client();
  await retain(publisher, 'a', 'x', {
    properties: { contentType: 't/p', userProperties: { k: 'v' } },
  });
  await client.subscribe('a', { properties: { subscriptionIdentifier: 7 } });
  const first = await client.expectPublish({ retain: true });
  expect(first.properties).toMatchObject({ contentType: 't/p', subscriptionIdentifier: 7 });
  // Not those of other subscriptions that match: this copy is because of one.
  await client.subscribe('+', { properties: { subscriptionIdentifier: 8 } });
  const second = await client.expectPublish({ retain: true });
  expect(second.properties).toMatchObject({ contentType: 't/p', subscriptionIdentifier: 8 });
});

test.each(versions)(
  'shared subscriptions get no retained messages (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    await retain(client, 'a', 'x');
    await client.subscribe(['$share/g/a', '$share/g/#'], { qos: 1 });
    await client.expectNothing();
  },
);

test.each(versions)(
  '[MQTT3-3.1.2-7] retained messages outlive the session and the subscriptions of their publisher (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    {
      await using publisher = await broker.client({ version });
      await publisher.subscribe('a');
      await retain(publisher, 'a', 'x', { qos: 1 });
      publisher.disconnect();
      await publisher.expectPublish();
      await publisher.expectClose();
    }
    expect(await retainedBy(broker, 'a', version)).toEqual(['a=x']);
  },
);

test('an expired retained message is sent to nobody, and the interval of others is counted down', async () => {
  const node = new TestNode();
  const publisher = await node.connect();
  publisher.publish(
    {
      topic: 'short',
      payload: 's',
      retain: true,
      properties: { messageExpiryInterval: 10 },
    },
    { topic: 'long', payload: 'l', retain: true, properties: { messageExpiryInterval: 100 } },
    { topic: 'for ever', payload: 'e', retain: true },
  );
  await node.pass(9_999);
  const early = await node.connect();
  await early.subscribe('#');
  expect(early.publishes().map(({ topic }) => topic)).toEqual(['short', 'long', 'for ever']);
  await node.pass(1);
  const late = await node.connect();
  await late.subscribe('#');
  const found = late.publishes();
  expect(found.map(({ topic }) => topic)).toEqual(['long', 'for ever']);
  expect(found.map(({ properties }) => properties?.messageExpiryInterval)).toEqual([90, undefined]);
});

test('limits.retainedMessagesMax: one more topic is refused, a known one is not', async () => {
  await using broker = await TestBroker.start({ config: { limits: { retainedMessagesMax: 2 } } });
  await using client = await broker.client();
  expect(await retain(client, 'a', '1', { qos: 1 })).toBe(0);
  expect(await retain(client, 'b', '1', { qos: 2 })).toBe(0);
  expect(await retain(client, 'c', '1', { qos: 1 })).toBe(0x97);
  expect(await retain(client, 'a', '2', { qos: 1 })).toBe(0);
  expect(await retainedBy(broker, '#')).toEqual(['a=2', 'b=1']);
  await retain(client, 'b', '');
  expect(await retain(client, 'c', '1', { qos: 1 })).toBe(0);
});

test('the authorize hook is asked for each retained message', async () => {
  await using broker = await TestBroker.start({
    hooks: { authorize: ({ action, topic }) => action !== 'receive' || topic !== 'a/secret' },
  });
  await using client = await broker.client();
  await retain(client, 'a/open', 'x');
  await retain(client, 'a/secret', 'x');
  await client.subscribe('a/#');
  await client.expectPublish({ topic: 'a/open' });
  await client.expectNothing();
});

test.each([
  { kind: 'clean', clean: true, sessionExpiryInterval: 0 },
  { kind: 'persistent', clean: false, sessionExpiryInterval: 60 },
])(
  'a slow client gets all retained messages, once, although its queue and window are small ($kind session)',
  async ({ clean, sessionExpiryInterval }) => {
    const count = 1_000;
    await using broker = await TestBroker.start({
      config: { limits: { queueMessagesMax: 20, waitingMessagesMax: 20 } },
    });
    await using publisher = await broker.client();
    for (let i = 0; i < count; i++) {
      publisher.publish({ topic: `t/${i}`, payload: 'x', retain: true, qos: 1 });
      await publisher.expectPacket('puback');
    }
    await using client = await broker.client({
      clientId: 'slow',
      clean,
      properties: { sessionExpiryInterval, receiveMaximum: 3 },
    });
    await client.subscribe('#', { qos: 1 });
    const topics = new Set<string>();
    while (topics.size < count) {
      const { topic, messageId } = await client.expectPublish({ retain: true });
      expect(topics.has(topic)).toBe(false);
      topics.add(topic);
      client.puback(messageId!);
    }
    await client.expectNothing();
  },
);

test('retained messages beyond limits.outboundBytesMax all arrive, at QoS 0 too', async () => {
  const count = 40;
  await using broker = await TestBroker.start({
    config: { limits: { outboundBytesMax: 1_048_576 } },
  });
  await using publisher = await broker.client();
  const payload = Buffer.alloc(100_000, 'x');
  for (let i = 0; i < count; i++) {
    await publisher.publishFully({ topic: `t/${i}`, payload, retain: true });
  }
  await using client = await broker.client();
  await client.subscribe('#');
  const topics = new Set<string>();
  while (topics.size < count) topics.add((await client.expectPublish({ retain: true })).topic);
  await client.expectNothing();
});
