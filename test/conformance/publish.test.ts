import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import { bytes, packet, properties, uint16 } from './bytes.ts';

const versions = [3, 4, 5] as const;
const levels = [0, 1, 2] as const;

test.each(versions)(
  '[MQTT-2.2.1-2][MQTT-3.3.1-2][MQTT-4.3.1-1][MQTT3-2.3.1-5][MQTT3-3.3.1-2][MQTT3-4.3.1-1] a QoS 0 message has neither DUP nor a packet id (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using subscriber = await broker.client({ version });
    await using publisher = await broker.client({ version });
    await subscriber.subscribe('a/b', { qos: 2 });
    publisher.publish({ topic: 'a/b', payload: 'x' });
    const { raw } = await subscriber.expectPublish();
    const body = bytes('a/b', ...(version === 5 ? [0] : []), Buffer.from('x'));
    expect(raw.toString('hex')).toBe(packet(0x30, body).toString('hex'));
  },
);

test.each(versions)(
  '[MQTT-3.3.1-2][MQTT3-3.3.1-2] DUP at QoS 0 is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    client.send(packet(0x38, 'a', ...(version === 5 ? [0] : [])));
    await client.expectDisconnect(0x82);
  },
);

test.each(versions.flatMap((version) => [0x36, 0x37, 0x3e].map((first) => ({ version, first }))))(
  '[MQTT-3.3.1-4][MQTT3-3.3.1-4] QoS 3 is malformed (version $version, first byte $first)',
  async ({ version, first }) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    client.send(packet(first, 'a', uint16(1), ...(version === 5 ? [0] : [])));
    await client.expectDisconnect(0x81);
  },
);

test.each(versions.flatMap((version) => ([1, 2] as const).map((qos) => ({ version, qos }))))(
  '[MQTT-2.2.1-3][MQTT3-2.3.1-1] packet id 0 is refused (version $version, QoS $qos)',
  async ({ version, qos }) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    client.send(packet(0x30 | (qos << 1), 'a', uint16(0), ...(version === 5 ? [0] : [])));
    await client.expectDisconnect(0x82);
  },
);

test.each(versions.flatMap((version) => ([1, 2] as const).map((qos) => ({ version, qos }))))(
  '[MQTT-3.3.1-3][MQTT3-3.3.1-3] DUP of an unseen id is ignored and not passed on (version $version, QoS $qos)',
  async ({ version, qos }) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await using clean = await broker.client({ version });
    await using kept = await broker.client({
      version,
      clean: false,
      ...(version === 5 ? { properties: { sessionExpiryInterval: 60 } } : {}),
    });
    for (const client of [clean, kept]) await client.subscribe('a', { qos });
    await publisher.publishFully({ topic: 'a', payload: 'x', qos, dup: true });
    await clean.expectPublish({ payload: 'x', dup: false, qos });
    await kept.expectPublish({ payload: 'x', dup: false, qos });
  },
);

test.each(versions)(
  '[MQTT-3.3.4-1][MQTT3-3.3.4-1][MQTT-2.2.1-5][MQTT3-2.3.1-6] PUBLISH is answered as its QoS demands, with its packet id (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using subscriber = await broker.client({ version });
    await subscriber.subscribe('a', { qos: 2 });
    await using client = await broker.client({ version });
    client.publish({ topic: 'a', qos: 0 });
    await client.expectNothing();
    client.publish({ topic: 'a', qos: 1, messageId: 0xabcd });
    expect((await client.expectPacket('puback')).raw.toString('hex')).toBe('4002abcd');
    client.publish({ topic: 'a', qos: 2, messageId: 0xfffe });
    expect((await client.expectPacket('pubrec')).raw.toString('hex')).toBe('5002fffe');
    client.pubrel(0xfffe);
    expect((await client.expectPacket('pubcomp')).raw.toString('hex')).toBe('7002fffe');
    await client.expectNothing();
  },
);

test('nobody subscribed: 5.0 publishers are told with reason code 0x10, others are not', async () => {
  await using broker = await TestBroker.start();
  for (const version of versions) {
    await using client = await broker.client({ version });
    client.publish({ topic: 'a', qos: 1, messageId: 1 });
    const { raw: puback } = await client.expectPacket('puback');
    expect(puback.toString('hex')).toBe(version === 5 ? '4003000110' : '40020001');
    client.publish({ topic: 'a', qos: 2, messageId: 2 });
    const { raw: pubrec } = await client.expectPacket('pubrec');
    expect(pubrec.toString('hex')).toBe(version === 5 ? '5003000210' : '50020002');
  }
});

test.each(versions)(
  '[MQTT-3.3.2-3][MQTT3-3.3.2-3] a message comes with the topic name that was published, to those whose filter matches (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    const filters = ['a/b', 'a/+', '#', '+/b/#'];
    const clients = await Promise.all(filters.map(() => broker.client({ version })));
    await using stranger = await broker.client({ version });
    await stranger.subscribe(['a', 'a/b/c', 'b/+', '/a/b']);
    for (const [index, client] of clients.entries()) await client.subscribe(filters[index]!);
    await publisher.publishFully({ topic: 'a/b' });
    for (const client of clients) {
      await client.expectPublish({ topic: 'a/b' });
      await client.expectNothing();
    }
    await stranger.expectNothing();
    for (const client of clients) await client[Symbol.asyncDispose]();
  },
);

test.each(versions)(
  '[MQTT-3.3.4-2][MQTT3-3.3.5-1] overlapping subscriptions get one copy with the highest QoS granted (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await using client = await broker.client({ version });
    await client.subscribe('a/+', { qos: 1 });
    await client.subscribe('a/b', { qos: 0 });
    await client.subscribe('#', { qos: 2 });
    for (const qos of levels) {
      await publisher.publishFully({ topic: 'a/b', qos });
      await client.expectPublish({ qos, acknowledge: true });
      await client.expectNothing();
    }
    await client.unsubscribe('#');
    await publisher.publishFully({ topic: 'a/b', qos: 2 });
    await client.expectPublish({ qos: 1, acknowledge: true });
    await client.expectNothing();
  },
);

test('[MQTT-3.3.4-3][MQTT-3.3.4-4] the one copy for overlapping subscriptions carries all their identifiers, none twice', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  await using clean = await broker.client();
  await using kept = await broker.client({
    clean: false,
    properties: { sessionExpiryInterval: 60 },
  });
  for (const client of [clean, kept]) {
    await client.subscribe('a/+', { qos: 1, properties: { subscriptionIdentifier: 268_435_455 } });
    await client.subscribe('a/b', { qos: 2, properties: { subscriptionIdentifier: 1 } });
    await client.subscribe('#', { qos: 0 });
    await client.subscribe('b', { properties: { subscriptionIdentifier: 3 } });
  }
  for (const qos of levels) {
    await publisher.publishFully({ topic: 'a/b', qos });
    for (const client of [clean, kept]) {
      const publish = await client.expectPublish({ qos, acknowledge: true });
      const identifiers = [publish.properties?.subscriptionIdentifier ?? []].flat();
      expect(identifiers.sort((a, b) => a - b)).toEqual([1, 268_435_455]);
      await client.expectNothing();
    }
  }
  await publisher.publishFully({ topic: 'other' });
  expect((await clean.expectPublish()).properties).toBeUndefined();
});

test('[MQTT-3.3.4-5] the copy for a shared subscription carries its identifier alone', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  await using client = await broker.client();
  await client.subscribe('a', { properties: { subscriptionIdentifier: 1 } });
  await client.subscribe('$share/g/a', { properties: { subscriptionIdentifier: 2 } });
  await publisher.publishFully({ topic: 'a' });
  const copies = [await client.expectPublish(), await client.expectPublish()];
  expect(copies.map((copy) => [copy.properties?.subscriptionIdentifier].flat()).sort()).toEqual([
    [1],
    [2],
  ]);
  await client.expectNothing();
});

test('[MQTT-3.3.4-6] a subscription identifier in a PUBLISH of a client is a Protocol Error', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  client.send(packet(0x30, 'a', properties(0x0b, 1)));
  await client.expectDisconnect(0x82);
});

test.each(versions.flatMap((version) => ([1, 2] as const).map((qos) => ({ version, qos }))))(
  '[MQTT3-3.3.5-2] a message that may not be published is acknowledged and goes nowhere (version $version, QoS $qos)',
  async ({ version, qos }) => {
    await using broker = await TestBroker.start({
      hooks: { authorize: ({ action, topic }) => action !== 'publish' || topic !== 'secret' },
    });
    await using subscriber = await broker.client();
    await subscriber.subscribe('#', { qos: 2 });
    await using client = await broker.client({ version });
    const refused = await client.publishFully({ topic: 'secret', qos, retain: true });
    expect(refused).toBe(version === 5 ? 0x87 : 0);
    const system = await client.publishFully({ topic: '$SYS/broker/uptime', qos });
    expect(system).toBe(version === 5 ? 0x87 : 0);
    await client.publishFully({ topic: 'open', qos });
    await subscriber.expectPublish({ topic: 'open', acknowledge: true });
    await subscriber.expectNothing();
    await using later = await broker.client();
    await later.subscribe('#');
    await later.expectNothing();
  },
);

test('a message that may not be published at QoS 0 goes nowhere, and the connection goes on', async () => {
  await using broker = await TestBroker.start({
    hooks: { authorize: ({ action, topic }) => action !== 'publish' || topic !== 'secret' },
  });
  await using client = await broker.client();
  await client.subscribe('#');
  client.publish({ topic: 'secret' });
  client.publish({ topic: 'open' });
  await client.expectPublish({ topic: 'open' });
  await client.expectNothing();
});

test.each(versions)(
  '[MQTT-4.5.0-1][MQTT3-4.5.0-1] a message reaches all who match, connected or not, once each (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    const fields = {
      version,
      clientId: 'away',
      clean: false,
      ...(version === 5 ? { properties: { sessionExpiryInterval: 60 } } : {}),
    };
    {
      await using away = await broker.client(fields);
      await away.subscribe(['a/+', 'a/#'], { qos: 2 });
    }
    const clients = await Promise.all(levels.map(() => broker.client({ version })));
    for (const [qos, client] of clients.entries()) {
      await client.subscribe('a/#', { qos: qos as 0 | 1 | 2 });
    }
    await using publisher = await broker.client({ version });
    for (const qos of levels)
      await publisher.publishFully({ topic: 'a/b', payload: `${qos}`, qos });
    for (const client of clients) {
      for (const qos of levels)
        await client.expectPublish({ payload: `${qos}`, acknowledge: true });
      await client.expectNothing();
      await client[Symbol.asyncDispose]();
    }
    await using away = await broker.client(fields);
    await away.expectPublish({ payload: '1', qos: 1, acknowledge: true });
    await away.expectPublish({ payload: '2', qos: 2, acknowledge: true });
    await away.expectNothing();
  },
);
