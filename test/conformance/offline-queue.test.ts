import { expect, test } from '@jest/globals';
import { TestBroker, TestNode } from '@shoalmq/testkit';
import type { ByteClient, ConnectFields, WireVersion } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;

function persistent(
  version: WireVersion = 5,
  clientId = 'away',
): ConnectFields & { version: WireVersion } {
  return {
    version,
    clientId,
    clean: false,
    ...(version === 5 && { properties: { sessionExpiryInterval: 60 } }),
  };
}

/** A session with the filter that nobody is connected to. */
async function leave(broker: TestBroker, filter: string, version: WireVersion = 5): Promise<void> {
  await using client = await broker.client(persistent(version));
  await client.subscribe(filter, { qos: 2 });
  client.disconnect();
  await client.expectClose();
}

/** Everything a session had waiting for it, acknowledged: payload and QoS. */
async function drain(client: ByteClient): Promise<string[]> {
  const found: string[] = [];
  while ((await client.roundTrip()) > 0) {
    const { payload, qos } = await client.expectPublish({ dup: false, acknowledge: true });
    found.push(`${payload.toString()}:${qos}`);
  }
  return found;
}

test.each(versions)(
  '[MQTT-3.1.2-5][MQTT-4.5.0-1][MQTT3-3.1.2-5] QoS 1 and 2 messages wait for a client that is away, in order, QoS 0 messages do not (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await leave(broker, 'a/+', version);
    for (let i = 0; i < 9; i++) {
      const qos = (i % 3) as 0 | 1 | 2;
      await publisher.publishFully({ topic: `a/${i}`, payload: String(i), qos });
    }
    await publisher.publishFully({ topic: 'b', payload: 'no match', qos: 1 });
    await using back = await broker.client(persistent(version));
    // 3.1 has no Session Present flag.
    expect(back.connack.sessionPresent).toBe(version !== 3);
    expect(await drain(back)).toEqual(['1:1', '2:2', '4:1', '5:2', '7:1', '8:2']);
    await publisher.publishFully({ topic: 'a/0', payload: 'live', qos: 0 });
    expect(await drain(back)).toEqual(['live:0']);
    // Nothing that was acknowledged is there a second time.
    await lose(back, broker);
    await using again = await broker.client(persistent(version));
    expect(await drain(again)).toEqual([]);
  },
);

test.each(versions)(
  '[MQTT-3.1.2-5][MQTT3-3.1.2-4] subscriptions of a resumed session hold, with their options (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    {
      await using client = await broker.client(persistent(version));
      await client.subscribe('zero', { qos: 0 });
      await client.subscribe('one', { qos: 1 });
      if (version === 5) {
        await client.subscribe('options', {
          qos: 2,
          nl: true,
          rap: true,
          properties: { subscriptionIdentifier: 42 },
        });
      }
      await client.subscribe('replaced', { qos: 0 });
      await client.subscribe('replaced', { qos: 1 });
      await client.subscribe('gone', { qos: 1 });
      await client.unsubscribe('gone');
    }
    for (let i = 0; i < 2; i++) {
      await using back = await broker.client(persistent(version));
      for (const topic of ['zero', 'one', 'replaced', 'gone']) {
        await publisher.publishFully({ topic, qos: 2 });
      }
      await back.expectPublish({ topic: 'zero', qos: 0 });
      await back.expectPublish({ topic: 'one', qos: 1, acknowledge: true });
      await back.expectPublish({ topic: 'replaced', qos: 1, acknowledge: true });
      if (version === 5) {
        await back.publishFully({ topic: 'options', qos: 1 });
        await publisher.publishFully({ topic: 'options', qos: 1, retain: true });
        const { properties } = await back.expectPublish({ retain: true, acknowledge: true });
        expect(properties?.subscriptionIdentifier).toBe(42);
      }
      await back.expectNothing();
      await lose(back, broker);
    }
  },
);

test('messages keep their properties in the queue, and the expiry of each is counted down', async () => {
  const node = new TestNode();
  const away = await node.connect(persistent());
  await away.subscribe('t', { qos: 1, properties: { subscriptionIdentifier: 3 } });
  away.channel.disconnect();
  const publisher = await node.connect();
  publisher.publish(
    { topic: 't', payload: 'short', qos: 1, properties: { messageExpiryInterval: 10 } },
    {
      topic: 't',
      payload: 'long',
      qos: 1,
      properties: { messageExpiryInterval: 100, contentType: 'c', userProperties: { k: 'v' } },
    },
    { topic: 't', payload: 'now', qos: 1, properties: { messageExpiryInterval: 0 } },
    { topic: 't', payload: 'for ever', qos: 1 },
  );
  await node.pass(30_000);
  const back = await node.connect(persistent());
  const publishes = back.publishes();
  expect(publishes.map(({ payload }) => payload.toString())).toEqual(['long', 'for ever']);
  expect(publishes[0]?.properties).toMatchObject({
    messageExpiryInterval: 70,
    contentType: 'c',
    subscriptionIdentifier: 3,
  });
  expect(publishes[1]?.properties?.messageExpiryInterval).toBeUndefined();
});

test.each([
  { what: 'messages', limits: { queueMessagesMax: 3 }, size: 1 },
  { what: 'bytes', limits: { queueBytesMax: 3_500 }, size: 1_000 },
])(
  'limits.queuePolicy drop-oldest: at the limit of $what the oldest go, and are counted',
  async ({ limits, size }) => {
    await using broker = await TestBroker.start({
      config: { limits: { ...limits, queuePolicy: 'drop-oldest' } },
    });
    await using publisher = await broker.client();
    await leave(broker, 't');
    for (const letter of 'abcdef') {
      const payload = letter.repeat(size);
      expect(await publisher.publishFully({ topic: 't', payload, qos: 1 })).toBe(0);
    }
    expect(broker.broker.counters.messagesDropped.queue_full).toBe(3);
    await using back = await broker.client(persistent());
    const letters = (await drain(back)).map(([letter]) => letter);
    expect(letters).toEqual(['d', 'e', 'f']);
  },
);

test.each([
  { what: 'messages', limits: { queueMessagesMax: 3 }, size: 1 },
  { what: 'bytes', limits: { queueBytesMax: 3_500 }, size: 1_000 },
])(
  'limits.queuePolicy reject-new: at the limit of $what the publisher gets 0x97',
  async ({ limits, size }) => {
    await using broker = await TestBroker.start({
      config: { limits: { ...limits, queuePolicy: 'reject-new' } },
    });
    await using publisher = await broker.client();
    await using old = await broker.client({ version: 4 });
    await leave(broker, 't');
    const reasonCodes: number[] = [];
    for (const [i, letter] of Array.from('abcdef').entries()) {
      const payload = letter.repeat(size);
      const qos = i % 2 === 0 ? 1 : 2;
      reasonCodes.push(await publisher.publishFully({ topic: 't', payload, qos }));
    }
    expect(reasonCodes).toEqual([0, 0, 0, 0x97, 0x97, 0x97]);
    // 3.1.1 cannot be told.
    expect(await old.publishFully({ topic: 't', payload: 'x'.repeat(size), qos: 1 })).toBe(0);
    expect(broker.broker.counters.messagesDropped.queue_full).toBe(4);
    await using back = await broker.client(persistent());
    const letters = (await drain(back)).map(([letter]) => letter);
    expect(letters).toEqual(['a', 'b', 'c']);
    // There is room again.
    expect(await publisher.publishFully({ topic: 't', payload: 'g', qos: 1 })).toBe(0);
    expect(await drain(back)).toEqual(['g:1']);
  },
);

test('a full queue of one session costs the others nothing', async () => {
  await using broker = await TestBroker.start({
    config: { limits: { queueMessagesMax: 1, queuePolicy: 'reject-new' } },
  });
  await using publisher = await broker.client();
  await using present = await broker.client();
  await present.subscribe('t', { qos: 1 });
  await leave(broker, 't');
  for (const payload of ['1', '2', '3']) {
    await publisher.publishFully({ topic: 't', payload, qos: 1 });
    await present.expectPublish({ payload, acknowledge: true });
  }
});

test('[MQTT-3.1.2-23] a session ends when its expiry interval has passed: its routes, its queue and its subscriptions go', async () => {
  const node = new TestNode();
  const publisher = await node.connect();
  const client = await node.connect({
    clientId: 'short',
    clean: false,
    properties: { sessionExpiryInterval: 10 },
  });
  await client.subscribe(['t', '+/x', '$share/g/t'], { qos: 1 });
  expect(node.node.routeCounts()).toEqual({ clean: 0, persistent: 3, elsewhere: 0 });
  client.channel.disconnect();
  await node.pass(9_999);
  expect(node.node.routeCounts()).toEqual({ clean: 0, persistent: 3, elsewhere: 0 });
  await node.pass(1);
  expect(node.node.routeCounts()).toEqual({ clean: 0, persistent: 0, elsewhere: 0 });
  publisher.publish({ topic: 't', qos: 1 });
  await node.settle();
  expect(publisher.packets()).toMatchObject([{ cmd: 'puback', reasonCode: 0x10 }]);
  const back = await node.connect({
    clientId: 'short',
    clean: false,
    properties: { sessionExpiryInterval: 10 },
  });
  expect(back.connack.sessionPresent).toBe(false);
  expect(back.packets()).toEqual([]);
});

test('[MQTT-3.1.2-23] the expiry interval counts from the end of the last connection', async () => {
  const node = new TestNode();
  const fields = { clientId: 's', clean: false, properties: { sessionExpiryInterval: 10 } };
  for (let i = 0; i < 3; i++) {
    const client = await node.connect(fields);
    expect(client.connack.sessionPresent).toBe(i > 0);
    if (i === 0) await client.subscribe('t', { qos: 1 });
    await node.pass(60_000);
    client.channel.disconnect();
    await node.pass(9_000);
  }
});

test.each([
  { version: 3, fields: { clean: true } },
  { version: 4, fields: { clean: true } },
  { version: 5, fields: { clean: true } },
  { version: 5, fields: { clean: false } },
] as const)(
  '[MQTT-3.1.2-23][MQTT3-3.1.2-6] a session without expiry ends with its connection (version $version, $fields)',
  async ({ version, fields }) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await using client = await broker.client({ version, clientId: 'c', ...fields });
    await client.subscribe(['t', '+'], { qos: 1 });
    await lose(client, broker);
    expect(broker.broker.levels().subscriptions).toBe(0);
    await publisher.publishFully({ topic: 't', qos: 1 });
    await using back = await broker.client({
      version,
      clientId: 'c',
      clean: false,
    });
    expect(back.connack.sessionPresent).toBe(false);
    await back.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-3.1.2-4][MQTT3-3.1.2-6] a clean start discards subscriptions and queue (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await leave(broker, 't', version);
    await publisher.publishFully({ topic: 't', payload: 'old', qos: 1 });
    await using fresh = await broker.client({ ...persistent(version), clean: true });
    expect(fresh.connack.sessionPresent).toBe(false);
    await publisher.publishFully({ topic: 't', payload: 'new', qos: 1 });
    await fresh.expectNothing();
    expect(broker.broker.levels().queuedMessages).toBe(0);
  },
);

test('rights revoked while a session was away: its subscription is dropped when it resumes', async () => {
  let allowed = true;
  const asked: string[] = [];
  await using broker = await TestBroker.start({
    hooks: {
      authorize: ({ action, topic }) => {
        if (action !== 'subscribe') return true;
        asked.push(topic);
        return allowed || topic === 'open';
      },
    },
  });
  await using publisher = await broker.client();
  {
    await using client = await broker.client(persistent());
    await client.subscribe(['secret', 'open', '$share/g/secret'], { qos: 1 });
  }
  allowed = false;
  asked.length = 0;
  await using back = await broker.client(persistent());
  expect(back.connack.sessionPresent).toBe(true);
  expect(asked.sort()).toEqual(['open', 'secret', 'secret']);
  await publisher.publishFully({ topic: 'secret', qos: 1 });
  await publisher.publishFully({ topic: 'open', qos: 1 });
  await back.expectPublish({ topic: 'open', acknowledge: true });
  await back.expectNothing();
  expect((await back.unsubscribe(['secret', 'open'])).granted).toEqual([0x11, 0]);
});

/** Resolves when the server has seen that the client is gone. */
async function lose(client: ByteClient, broker: TestBroker): Promise<void> {
  const { connectionsClosed } = broker.broker.counters;
  const ended = (): number => Object.values(connectionsClosed).reduce((a, b) => a + b, 0);
  const before = ended();
  client.abort();
  while (ended() === before) await new Promise(setImmediate);
}
