import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ByteClient, WireVersion } from '@shoalmq/testkit';
import { bytes, properties } from './bytes.ts';

const versions = [3, 4, 5] as const;

/** The code for a filter that is refused: 3.x has but one. */
function refused(version: WireVersion, reasonCode: number): number {
  return version === 5 ? reasonCode : 0x80;
}

/** Filters of one SUBSCRIBE, each with a QoS of its own; returns the codes of SUBACK. */
async function subscribeEach(
  client: ByteClient,
  filters: readonly (readonly [filter: string, qos: 0 | 1 | 2])[],
): Promise<number[]> {
  client.sendPacket({
    cmd: 'subscribe',
    messageId: 77,
    subscriptions: filters.map(([topic, qos]) => ({ topic, qos })),
  });
  const { messageId, granted } = await client.expectPacket('suback');
  expect(messageId).toBe(77);
  return granted;
}

test.each(versions)(
  '[MQTT-3.8.4-1][MQTT-3.8.4-2][MQTT3-3.8.4-1][MQTT3-3.8.4-2] SUBSCRIBE is answered with a SUBACK of its packet id (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    const { raw } = await client.subscribe('a', { qos: 1, messageId: 0xabcd });
    expect(raw.toString('hex')).toBe(version === 5 ? '9004abcd0001' : '9003abcd01');
    await client.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-3.8.4-6][MQTT-3.8.4-7][MQTT-3.9.3-1][MQTT-3.9.3-2][MQTT3-3.8.4-5][MQTT3-3.9.3-1][MQTT3-3.9.3-2] SUBACK has for each filter, in order, the granted QoS or why it failed (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    const granted = await subscribeEach(client, [
      ['a', 2],
      ['b', 0],
      ['c/#/d', 1],
      ['c', 1],
      ['a#', 0],
    ]);
    expect(granted).toEqual([2, 0, refused(version, 0x8f), 1, refused(version, 0x8f)]);
  },
);

test.each(versions)(
  '[MQTT-3.8.4-5][MQTT3-3.8.4-4] several filters act like one packet each, but with a single SUBACK (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await using client = await broker.client({ version });
    await publisher.publishFully({ topic: 'a/1', payload: 'kept', retain: true });
    expect(
      await subscribeEach(client, [
        ['a/+', 1],
        ['a/1', 0],
        ['b', 2],
      ]),
    ).toEqual([1, 0, 2]);
    // Each filter brings its own retained messages, as two packets would.
    await client.expectPublish({ topic: 'a/1', payload: 'kept', retain: true });
    await client.expectPublish({ topic: 'a/1', payload: 'kept', retain: true });
    await publisher.publishFully({ topic: 'b', payload: 'live' });
    await client.expectPublish({ topic: 'b', payload: 'live' });
    await client.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-3.8.4-8][MQTT3-3.8.4-6] delivery has the lower of the published and the granted QoS (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    for (const granted of [0, 1, 2] as const) {
      await using client = await broker.client({ version });
      await client.subscribe('t', { qos: granted });
      for (const published of [0, 1, 2] as const) {
        await publisher.publishFully({ topic: 't', qos: published });
        await client.expectPublish({
          qos: Math.min(published, granted) as 0 | 1 | 2,
          acknowledge: true,
        });
      }
      await client.expectNothing();
    }
  },
);

test.each(versions)(
  '[MQTT-3.8.4-3][MQTT3-3.8.4-3] SUBSCRIBE with an existing filter replaces the subscription, options included (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await using client = await broker.client({ version });
    await publisher.publishFully({ topic: 't', payload: 'kept', retain: true });
    await client.subscribe('t', { qos: 0 });
    await client.expectPublish({ payload: 'kept', retain: true });

    await client.subscribe('t', { qos: 1 });
    await client.expectPublish({ payload: 'kept', retain: true });
    await publisher.publishFully({ topic: 't', payload: 'live', qos: 2 });
    await client.expectPublish({ payload: 'live', qos: 1, acknowledge: true });
    await client.expectNothing();

    await client.unsubscribe('t');
    await publisher.publishFully({ topic: 't', qos: 1 });
    await client.expectNothing();
  },
);

test('[MQTT-3.8.4-3] a replaced subscription has the new identifier and the new options only', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await client.subscribe('t', { qos: 1, nl: true, properties: { subscriptionIdentifier: 1 } });
  await client.publishFully({ topic: 't', qos: 1 });
  await client.expectNothing();
  await client.subscribe('t', { qos: 0, rap: true, properties: { subscriptionIdentifier: 2 } });
  await client.publishFully({ topic: 't', qos: 1, retain: true, payload: 'x' });
  const publish = await client.expectPublish({ qos: 0, retain: true });
  expect(publish.properties?.subscriptionIdentifier).toBe(2);
  await client.subscribe('t', { qos: 0, rh: 2 });
  await client.publishFully({ topic: 't', qos: 1, retain: true, payload: 'x' });
  const last = await client.expectPublish({ qos: 0, retain: false });
  expect(last.properties?.subscriptionIdentifier).toBeUndefined();
  await client.expectNothing();
});

test.each([
  { kind: 'clean', clean: true, properties: {} },
  { kind: 'persistent', clean: false, properties: { sessionExpiryInterval: 60 } },
])(
  '[MQTT-3.8.4-4] a subscription can be replaced again and again without a message being lost or repeated ($kind session)',
  async ({ clean, properties }) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    await using client = await broker.client({ clientId: 'replacing', clean, properties });
    await client.subscribe('t', { qos: 1 });
    const count = 300;
    for (let i = 0; i < count; i++) {
      publisher.publish({ topic: 't', payload: String(i), qos: 1 });
      if (i % 3 === 0) {
        client.sendPacket({
          cmd: 'subscribe',
          messageId: client.nextPacketId(),
          subscriptions: [{ topic: 't', qos: 1 }],
        });
        // Lets both connections be read in turns.
        await new Promise(setImmediate);
      }
    }
    const payloads: string[] = [];
    while (payloads.length < count) {
      const packet = await client.expectPacket();
      if (packet.cmd !== 'publish') continue;
      payloads.push(packet.payload.toString());
      client.puback(packet.messageId!);
    }
    expect(payloads).toEqual(Array.from({ length: count }, (_, i) => String(i)));
  },
);

test('[MQTT-3.8.3-3] No Local: nothing comes back to the client id that published it', async () => {
  await using broker = await TestBroker.start();
  await using other = await broker.client({ clientId: 'other' });
  await using client = await broker.client({ clientId: 'own' });
  await client.subscribe('t', { qos: 2, nl: true });
  await other.subscribe('t', { qos: 2, nl: true });
  await client.publishFully({ topic: 't', payload: 'from own', qos: 1 });
  await other.expectPublish({ payload: 'from own', acknowledge: true });
  await client.expectNothing();
  await other.publishFully({ topic: 't', payload: 'from other', qos: 0 });
  await client.expectPublish({ payload: 'from other' });
  await other.expectNothing();
});

test('[MQTT-3.8.3-3] No Local holds for a client id beyond its connection', async () => {
  await using broker = await TestBroker.start();
  const session = { clientId: 'own', clean: false, properties: { sessionExpiryInterval: 60 } };
  {
    await using first = await broker.client(session);
    await first.subscribe('t', { qos: 1, nl: true });
    await first.publishFully({ topic: 't', qos: 1 });
  }
  await using second = await broker.client(session);
  expect(second.connack.sessionPresent).toBe(true);
  await second.publishFully({ topic: 't', qos: 1 });
  await second.expectNothing();
});

test('[MQTT-3.8.3-3] a message of its own matches only those subscriptions of a client that are not No Local', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await using other = await broker.client();
  await client.subscribe('t', { qos: 2, nl: true, properties: { subscriptionIdentifier: 1 } });
  await client.subscribe('+', { qos: 1, properties: { subscriptionIdentifier: 2 } });
  await client.publishFully({ topic: 't', qos: 2 });
  const own = await client.expectPublish({ qos: 1, acknowledge: true });
  expect(own.properties?.subscriptionIdentifier).toBe(2);
  await other.publishFully({ topic: 't', qos: 2 });
  const foreign = await client.expectPublish({ qos: 2, acknowledge: true });
  expect([foreign.properties?.subscriptionIdentifier].flat().sort()).toEqual([1, 2]);
  await client.expectNothing();
});

test('[MQTT-3.8.3-4] No Local on a shared subscription is a Protocol Error', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  client.sendPacket({
    cmd: 'subscribe',
    messageId: 1,
    subscriptions: [{ topic: '$share/g/t', qos: 0, nl: true }],
  });
  await client.expectDisconnect(0x82);
});

test.each(versions)(
  'a client gets one copy at the highest QoS granted, however many of its subscriptions match (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await using client = await broker.client({ version });
    await subscribeEach(client, [
      ['a/b', 0],
      ['a/+', 2],
      ['#', 1],
    ]);
    await publisher.publishFully({ topic: 'a/b', qos: 2 });
    await client.expectPublish({ qos: 2, acknowledge: true });
    await client.expectNothing();
  },
);

test('a message has the identifiers of all matching subscriptions', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  await using client = await broker.client();
  await client.subscribe('a/+', { properties: { subscriptionIdentifier: 268_435_455 } });
  await client.subscribe('a/b', { properties: { subscriptionIdentifier: 1 } });
  await client.subscribe('#', {});
  await client.subscribe('other', { properties: { subscriptionIdentifier: 9 } });
  await publisher.publishFully({ topic: 'a/b' });
  const { properties } = await client.expectPublish();
  const identifiers = [properties?.subscriptionIdentifier].flat();
  expect(new Set(identifiers)).toEqual(new Set([1, 268_435_455]));
  expect(identifiers).toHaveLength(2);
  await client.expectNothing();
});

test.each(versions)(
  'a filter that is not authorized is refused in SUBACK and costs nothing else (version %s)',
  async (version) => {
    const asked: string[] = [];
    await using broker = await TestBroker.start({
      hooks: {
        authorize: ({ action, topic }) => {
          if (action === 'subscribe') asked.push(topic);
          return action !== 'subscribe' || !topic.startsWith('secret');
        },
      },
    });
    await using publisher = await broker.client({ version });
    await using client = await broker.client({ version });
    expect(
      await subscribeEach(client, [
        ['secret/#', 1],
        ['open', 1],
        ['$share/g/secret/1', 1],
      ]),
    ).toEqual([refused(version, 0x87), 1, refused(version, 0x87)]);
    // What is asked about is the filter, not the share it is in.
    expect(asked).toEqual(['secret/#', 'open', 'secret/1']);
    await publisher.publishFully({ topic: 'secret/1', qos: 1 });
    await publisher.publishFully({ topic: 'open', qos: 1 });
    await client.expectPublish({ topic: 'open', acknowledge: true });
    await client.expectNothing();
  },
);

test('an authorize hook that throws or rejects refuses the filter', async () => {
  await using broker = await TestBroker.start({
    hooks: {
      authorize: ({ topic }) => {
        if (topic === 'throws') throw new Error('the hook threw');
        return topic === 'rejects' ? Promise.reject(new Error('the hook rejected')) : true;
      },
    },
  });
  await using client = await broker.client();
  expect(
    await subscribeEach(client, [
      ['throws', 0],
      ['rejects', 0],
      ['fine', 0],
    ]),
  ).toEqual([0x87, 0x87, 0]);
});

test.each(versions)(
  'subscriptions beyond limits.subscriptionsMax are refused, replacing is not (version %s)',
  async (version) => {
    await using broker = await TestBroker.start({ config: { limits: { subscriptionsMax: 2 } } });
    await using client = await broker.client({ version });
    const quota = refused(version, 0x97);
    // A filter twice in one packet is one subscription.
    expect(
      await subscribeEach(client, [
        ['a', 0],
        ['a', 1],
        ['b', 0],
        ['b', 2],
        ['c', 0],
      ]),
    ).toEqual([0, 1, 0, 2, quota]);
    expect(await subscribeEach(client, [['b', 2]])).toEqual([2]);
    await client.unsubscribe('a');
    expect(await subscribeEach(client, [['c', 0]])).toEqual([0]);
    expect(await subscribeEach(client, [['d', 0]])).toEqual([quota]);
  },
);

test('[MQTT-3.9.2-1][MQTT-3.9.2-2] SUBACK says why the first refused filter is, if there is room and the client wants to know', async () => {
  await using broker = await TestBroker.start({
    hooks: { authorize: ({ topic }) => topic !== 'secret' },
  });
  const plain = '9006000100' + '00878f';
  const reason = properties(0x1f, 'not authorized');
  const full = bytes(0x90, 5 + reason.length, 0, 1, reason, 0x00, 0x87, 0x8f);
  for (const [asked, expected] of [
    [{}, full.toString('hex')],
    [{ requestProblemInformation: true }, full.toString('hex')],
    [{ requestProblemInformation: false }, plain],
    [{ maximumPacketSize: full.length }, full.toString('hex')],
    [{ maximumPacketSize: full.length - 1 }, plain],
  ] as const) {
    await using client = await broker.client({ properties: asked });
    const { raw } = await client.subscribe(['a', 'secret', 'a#'], { messageId: 1 });
    expect(raw.toString('hex')).toBe(expected);
  }
});

test.each([
  ['a#', '# is not the whole of the last level'],
  ['$share//a', 'not a shared subscription: $share/<name>/<filter>'],
  ['$share/g/a+', '+ is not the whole of a level'],
])('the Reason String of SUBACK for %s', async (filter, reasonString) => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  const { properties } = await client.subscribe(['good', filter]);
  expect(properties?.reasonString).toBe(reasonString);
});
