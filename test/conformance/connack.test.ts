import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ConnectFields } from '@shoalmq/testkit';
import { packet, properties } from './bytes.ts';

type Properties = NonNullable<ConnectFields['properties']>;

test('[MQTT-3.2.2-1] CONNACK announces our limits, and nothing that is the default', async () => {
  await using broker = await TestBroker.start({
    config: { limits: { receiveMaximum: 7, packetBytesMax: 5_000, topicAliasMaximum: 3 } },
  });
  await using client = await broker.client();
  expect(client.connack.raw.toString('hex')).toBe('200e00000b2100072700001388220003');
  await using defaults = await TestBroker.start({
    config: { limits: { receiveMaximum: 65_535, packetBytesMax: 5_000, topicAliasMaximum: 0 } },
  });
  await using other = await defaults.client();
  // Property Length, Maximum Packet Size. QoS 2, retained messages and all kinds of subscriptions are there.
  expect(other.connack.raw.toString('hex')).toBe('2008000005' + '2700001388');
});

test.each([3, 4] as const)(
  '[MQTT3-3.2.0-1][MQTT3-3.2.2-3] a CONNACK of 3.x has two bytes behind its header (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    expect(client.connack.raw.toString('hex')).toBe('20020000');
  },
);

test.each([
  [0x81, 3],
  [0x84, 1],
  [0x85, 2],
  [0x86, 4],
  [0x87, 5],
  [0x88, 3],
  [0x89, 3],
  [0x8a, 5],
  [0x8c, 4],
  [0x97, 3],
  [0x9f, 3],
])(
  '[MQTT-3.2.2-6][MQTT-3.2.2-7][MQTT-3.2.2-8][MQTT3-3.2.2-4][MQTT3-3.2.2-5] a refusal with %s has Session Present 0 although there is a session, and ends the connection',
  async (reasonCode, returnCode) => {
    let refuse = false;
    await using broker = await TestBroker.start({
      hooks: { authenticate: () => (refuse ? { accept: false, reasonCode } : true) },
    });
    for (const version of [3, 4, 5] as const) {
      const fields = {
        version,
        clientId: `id ${version}`,
        clean: false,
        ...(version === 5 && { properties: { sessionExpiryInterval: 60 } }),
      };
      refuse = false;
      await using owner = await broker.client(fields);
      owner.disconnect();
      await owner.expectClose();
      refuse = true;
      await using client = await broker.client(fields);
      expect([...client.connack.raw]).toEqual(
        version === 5 ? [0x20, 3, 0, reasonCode, 0] : [0x20, 2, 0, returnCode],
      );
      expect(await client.expectClose()).toBe('end');
    }
  },
);

test('[MQTT-3.2.2-8] a reason that CONNACK cannot have is replaced', async () => {
  for (const [reasonCode, sent] of [
    [0x8b, 0x80],
    [0x8e, 0x80],
    [0x93, 0x80],
    [0xff, 0x80],
    // Not a failure at all: Not authorized.
    [0, 0x87],
    [0x7f, 0x87],
    [256, 0x87],
    [Number.NaN, 0x87],
  ] as const) {
    await using broker = await TestBroker.start({
      hooks: { authenticate: () => ({ accept: false, reasonCode }) },
    });
    await using client = await broker.client();
    expect(client.connack.reasonCode).toBe(sent);
    await client.expectClose();
  }
});

test('[MQTT-3.2.2-19][MQTT-3.2.2-20] a refusal has a Reason String if there is room and the client wants it', async () => {
  await using broker = await TestBroker.start({ hooks: { authorize: () => false } });
  const will = { topic: 'a', payload: Buffer.of(), qos: 0, retain: false } as const;
  const withReason = packet(0x20, 0, 0x87, properties(0x1f, 'the will may not be published'));
  const withoutReason = packet(0x20, 0, 0x87, 0);
  const cases: [Properties, Buffer][] = [
    [{}, withReason],
    [{ requestProblemInformation: false }, withoutReason],
    [{ maximumPacketSize: withReason.length }, withReason],
    [{ maximumPacketSize: withReason.length - 1 }, withoutReason],
    [{ maximumPacketSize: withoutReason.length }, withoutReason],
  ];
  for (const [properties, expected] of cases) {
    await using client = await broker.client({ will, properties });
    expect(client.connack.raw).toEqual(expected);
    await client.expectClose();
  }
});

test('[MQTT-3.1.2-28] there is never Response Information in CONNACK, asked for or not', async () => {
  await using broker = await TestBroker.start();
  for (const requestResponseInformation of [undefined, false, true]) {
    await using client = await broker.client(
      requestResponseInformation === undefined
        ? {}
        : { properties: { requestResponseInformation } },
    );
    expect(client.connack.properties).not.toHaveProperty('responseInformation');
  }
});

test('[MQTT-3.1.2-29] with Request Problem Information 0 no acknowledgement has a Reason String or User Property', async () => {
  await using broker = await TestBroker.start({
    hooks: { authorize: ({ action, topic }) => action === 'receive' || topic === 'good' },
  });
  await using client = await broker.client({ properties: { requestProblemInformation: false } });
  const acknowledgements = [
    await client.subscribe(['good', 'bad', 'a/#/b', '$share//x']),
    await client.unsubscribe(['good', 'not there']),
  ];
  client.publish({ topic: 'bad', qos: 1 });
  acknowledgements.push((await client.expectPacket('puback')) as never);
  client.publish({ topic: 'bad', qos: 2 });
  acknowledgements.push((await client.expectPacket('pubrec')) as never);
  client.pubrel(99);
  acknowledgements.push((await client.expectPacket('pubcomp')) as never);
  for (const packet of acknowledgements) {
    expect(packet.properties?.reasonString).toBeUndefined();
    expect(packet.properties?.userProperties).toBeUndefined();
  }
  expect(client.received).toHaveLength(6);
});

test.each([1, 4, 5, 10, 15])(
  '[MQTT-3.1.2-24][MQTT-3.2.0-1] a client that is too small for our CONNACK is refused with 0x95, if it can have that (Maximum Packet Size %s)',
  async (maximumPacketSize) => {
    await using broker = await TestBroker.start();
    await using client = await broker.open();
    client.sendConnect({ clientId: 'id', properties: { maximumPacketSize } });
    if (maximumPacketSize >= 5) {
      const { raw } = await client.expectPacket('connack');
      expect(raw.toString('hex')).toBe('2003009500');
    }
    await client.expectClose();
    expect(broker.broker.levels().sessionsConnected).toBe(0);
  },
);

test('[MQTT-3.1.2-24] a client that is just large enough for our CONNACK is served', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client({ properties: { maximumPacketSize: 16 } });
  expect(client.connack.reasonCode).toBe(0);
  expect(client.connack.raw.length).toBe(16);
  await client.expectNothing();
});

test('[MQTT-3.2.2-19][MQTT-3.2.2-20] CONNACK fits the Maximum Packet Size with an assigned client id, or is a refusal', async () => {
  await using broker = await TestBroker.start();
  for (let maximumPacketSize = 20; maximumPacketSize <= 60; maximumPacketSize += 5) {
    await using client = await broker.client({
      clientId: '',
      properties: { maximumPacketSize },
    });
    expect(client.connack.raw.length).toBeLessThanOrEqual(maximumPacketSize);
    const { reasonCode, properties } = client.connack;
    expect(properties?.assignedClientIdentifier === undefined).toBe(reasonCode === 0x95);
  }
});

test('[MQTT-3.1.2-24][MQTT-3.1.2-25] a message that is too large for a client is dropped for that one, and takes no place in its window', async () => {
  await using broker = await TestBroker.start();
  await using small = await broker.client({
    properties: { maximumPacketSize: 60, receiveMaximum: 2 },
  });
  await using large = await broker.client();
  await using publisher = await broker.client();
  await small.subscribe('a', { qos: 2 });
  await large.subscribe('a', { qos: 2 });
  // PUBLISH of QoS 1: 2 of the header, 3 of the topic, 2 of the packet id, 1 of the properties.
  for (const bytes of [52, 53, 1_000, 53, 100, 52]) {
    for (const qos of [1, 2] as const) {
      await publisher.publishFully({ topic: 'a', payload: 'x'.repeat(bytes), qos });
    }
  }
  for (const bytes of [52, 53, 1_000, 53, 100, 52]) {
    for (const qos of [1, 2] as const) {
      await large.expectPublish({ payload: 'x'.repeat(bytes), qos, acknowledge: true });
    }
  }
  for (const qos of [1, 2, 1, 2] as const) {
    const { raw } = await small.expectPublish({ payload: 'x'.repeat(52), qos, acknowledge: true });
    expect(raw.length).toBe(60);
  }
  await small.expectNothing();
});

test('[MQTT-3.2.2-15] a packet larger than our Maximum Packet Size ends the connection with 0x95, before its body came', async () => {
  await using broker = await TestBroker.start({ config: { limits: { packetBytesMax: 1_000 } } });
  await using client = await broker.client();
  // 1 of the first byte, 2 of the Remaining Length, 3 of the topic, 1 of the properties.
  await client.publishFully({ topic: 'a', payload: 'x'.repeat(993) });
  client.send('30 e6 07');
  await client.expectDisconnect(0x95);
});

test('[MQTT-3.1.2-26][MQTT-3.1.2-27] topic aliases are used up to the Topic Alias Maximum of the client, and not without one', async () => {
  await using broker = await TestBroker.start();
  const asked: Properties[] = [{}, { topicAliasMaximum: 0 }, { topicAliasMaximum: 2 }];
  await using publisher = await broker.client();
  for (const properties of asked) {
    const { topicAliasMaximum = 0 } = properties;
    await using client = await broker.client({ properties });
    await client.subscribe('t/#');
    const aliases = new Map<number, string>();
    for (const topic of ['t/a', 't/b', 't/c', 't/a', 't/b', 't/c', 't/d', 't/a']) {
      publisher.publish({ topic, payload: topic });
      const publish = await client.expectPublish({ payload: topic });
      const alias = publish.properties?.topicAlias ?? 0;
      expect(alias).toBeLessThanOrEqual(topicAliasMaximum);
      if (alias > 0 && publish.topic !== '') aliases.set(alias, publish.topic);
      expect(alias > 0 ? aliases.get(alias) : publish.topic).toBe(topic);
    }
    expect(aliases.size).toBe(topicAliasMaximum);
  }
});

test.each([
  [0, 1],
  [3, 4],
])(
  '[MQTT-3.2.2-17][MQTT-3.2.2-18] with Topic Alias Maximum %s in CONNACK, alias %s of a client is refused with 0x94',
  async (topicAliasMaximum, topicAlias) => {
    await using broker = await TestBroker.start({ config: { limits: { topicAliasMaximum } } });
    await using client = await broker.client();
    expect(client.connack.properties?.topicAliasMaximum ?? 0).toBe(topicAliasMaximum);
    for (let alias = 1; alias < topicAlias; alias++) {
      client.publish({ topic: 'a', properties: { topicAlias: alias } });
    }
    await client.expectNothing();
    client.publish({ topic: 'a', properties: { topicAlias } });
    await client.expectDisconnect(0x94);
  },
);

test('[MQTT-3.3.4-9] no more messages are under way to a client than its Receive Maximum', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client({ properties: { receiveMaximum: 2 } });
  await using publisher = await broker.client();
  await client.subscribe('a', { qos: 2 });
  for (const payload of ['1', '2', '3', '4']) {
    await publisher.publishFully({ topic: 'a', payload, qos: 1 });
  }
  const first = await client.expectPublish({ payload: '1' });
  await client.expectPublish({ payload: '2' });
  await client.expectNothing();
  client.puback(first.messageId!);
  await client.expectPublish({ payload: '3' });
  await client.expectNothing();
});

test('[MQTT-3.3.4-7] more messages under way than our Receive Maximum end the connection with 0x93', async () => {
  await using broker = await TestBroker.start({ config: { limits: { receiveMaximum: 2 } } });
  await using client = await broker.client();
  for (let i = 0; i < 2; i++) {
    client.publish({ topic: 'a', qos: 2 });
    await client.expectPacket('pubrec');
  }
  client.publish({ topic: 'a', qos: 2 });
  await client.expectDisconnect(0x93);
});

test('what MQTT lets a server leave out is there: QoS 2, retained messages, wildcards, identifiers, shared subscriptions', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  const { granted } = await client.subscribe(['a/+', 'a/#', '$share/g/a'], {
    qos: 2,
    properties: { subscriptionIdentifier: 1 },
  });
  expect(granted).toEqual([2, 2, 2]);
  for (const name of [
    'maximumQoS',
    'retainAvailable',
    'wildcardSubscriptionAvailable',
    'subscriptionIdentifiersAvailable',
    'sharedSubscriptionAvailable',
  ]) {
    expect(client.connack.properties).not.toHaveProperty(name);
  }
});
