import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import { packet, properties, uint16 } from './bytes.ts';

test('[MQTT-3.3.2-12] every alias from 1 to the maximum is accepted, and can be given to another topic', async () => {
  await using broker = await TestBroker.start();
  await using subscriber = await broker.client();
  await subscriber.subscribe('#');
  await using client = await broker.client();
  const maximum = client.connack.properties?.topicAliasMaximum ?? 0;
  expect(maximum).toBeGreaterThan(0);
  for (const round of ['a', 'b']) {
    for (let topicAlias = 1; topicAlias <= maximum; topicAlias++) {
      client.publish({ topic: `${round}/${String(topicAlias)}`, properties: { topicAlias } });
      await subscriber.expectPublish({ topic: `${round}/${String(topicAlias)}` });
    }
    for (let topicAlias = maximum; topicAlias > 0; topicAlias--) {
      client.publish({ topic: '', properties: { topicAlias } });
      const { properties } = await subscriber.expectPublish({
        topic: `${round}/${String(topicAlias)}`,
      });
      // Aliases are between one client and the server.
      expect(properties).toBeUndefined();
    }
  }
});

test.each([
  { name: '0', topic: 'a', alias: 0, reasonCode: 0x94 },
  { name: 'above the maximum', topic: 'a', alias: 11, reasonCode: 0x94 },
  { name: 'above the maximum, without a topic', topic: '', alias: 65_535, reasonCode: 0x94 },
  { name: 'never set', topic: '', alias: 1, reasonCode: 0x82 },
])(
  '[MQTT-3.3.2-7][MQTT-3.3.2-8][MQTT-3.3.2-9] an alias that is refused: $name',
  async ({ topic, alias, reasonCode }) => {
    await using broker = await TestBroker.start({ config: { limits: { topicAliasMaximum: 10 } } });
    await using client = await broker.client();
    client.send(packet(0x30, topic, properties(0x23, uint16(alias))));
    await client.expectDisconnect(reasonCode);
  },
);

test('[MQTT-3.3.2-7] aliases end with the connection, although the session goes on', async () => {
  await using broker = await TestBroker.start();
  const fields = {
    clientId: 'c',
    clean: false,
    properties: { sessionExpiryInterval: 60, topicAliasMaximum: 5 },
  };
  await using publisher = await broker.client();
  {
    await using client = await broker.client(fields);
    await client.subscribe('a', { qos: 1 });
    await client.publishFully({ topic: 'x', qos: 1, properties: { topicAlias: 1 } });
    await publisher.publishFully({ topic: 'a', qos: 1 });
    const { properties } = await client.expectPublish({ topic: 'a', acknowledge: true });
    expect(properties?.topicAlias).toBe(1);
    await client.roundTrip();
  }
  await using client = await broker.client(fields);
  expect(client.connack.sessionPresent).toBe(true);
  // Outbound: the name is told again. Inbound: the alias is unknown.
  await publisher.publishFully({ topic: 'a', qos: 1 });
  const { properties } = await client.expectPublish({ topic: 'a' });
  expect(properties?.topicAlias).toBe(1);
  client.publish({ topic: '', properties: { topicAlias: 1 } });
  await client.expectDisconnect(0x82);
});

test('[MQTT-3.1.2-26][MQTT-3.3.2-11] outbound aliases are used from the first message of a topic, up to the maximum', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  await using client = await broker.client({ properties: { topicAliasMaximum: 2 } });
  await client.subscribe('#', { qos: 1 });
  const seen: [string, number | undefined][] = [];
  for (const [index, topic] of ['a', 'b', 'c', 'b', 'a', 'c', 'a'].entries()) {
    await publisher.publishFully({ topic, payload: topic, qos: index % 2 === 0 ? 0 : 1 });
    const publish = await client.expectPublish({ payload: topic });
    seen.push([publish.topic, publish.properties?.topicAlias]);
  }
  expect(seen).toEqual([
    ['a', 1],
    ['b', 2],
    ['c', undefined],
    ['', 2],
    ['', 1],
    ['c', undefined],
    ['', 1],
  ]);
});

test.each([{ fields: {} }, { fields: { properties: { topicAliasMaximum: 0 } } }])(
  '[MQTT-3.1.2-27] no alias goes to a client that allows none: $fields',
  async ({ fields }) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    await using client = await broker.client(fields);
    await client.subscribe('a');
    for (let i = 0; i < 3; i++) {
      publisher.publish({ topic: 'a' });
      expect((await client.expectPublish({ topic: 'a' })).properties).toBeUndefined();
    }
  },
);

test('the operator can do without aliases', async () => {
  await using broker = await TestBroker.start({
    config: { limits: { topicAliasMaximum: 0, outboundTopicAliasMax: 0 } },
  });
  await using client = await broker.client({ properties: { topicAliasMaximum: 10 } });
  expect(client.connack.properties?.topicAliasMaximum).toBeUndefined();
  await client.subscribe('a');
  client.publish({ topic: 'a' });
  expect((await client.expectPublish({ topic: 'a' })).properties).toBeUndefined();
  client.publish({ topic: 'a', properties: { topicAlias: 1 } });
  await client.expectDisconnect(0x94);
});
