import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ByteClient, WireVersion } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;

/** Code of a filter that is refused in SUBACK. */
function invalid(version: WireVersion): number {
  return version === 5 ? 0x8f : 0x80;
}

/** Publishes at QoS 0 and tells whether the subscriber got it. */
async function reaches(
  publisher: ByteClient,
  subscriber: ByteClient,
  topic: string,
): Promise<boolean> {
  await publisher.publishFully({ topic });
  if ((await subscriber.roundTrip()) === 0) return false;
  await subscriber.expectPublish({ topic });
  return true;
}

const matching = [
  ['sport/tennis/#', ['sport/tennis', 'sport/tennis/a', 'sport/tennis/a/b'], ['sport', 'sport/x']],
  ['#', ['a', '/', '/a', 'a/b/c', 'a//b'], ['$a', '$SYS/a']],
  ['+', ['a', 'b'], ['a/b', '/a', '$a']],
  ['+/+', ['/a', 'a/', 'a/b'], ['a', 'a/b/c', '$SYS/b']],
  ['/+', ['/a', '/'], ['a', '/a/b']],
  ['a/+/c', ['a/b/c', 'a//c'], ['a/c', 'a/b/d', 'a/b/c/d']],
  ['a/+/#', ['a/b', 'a/', 'a/b/c'], ['a']],
  ['a', ['a'], ['A', 'a/', '/a', 'ab', 'a ', ' a']],
] as const;

test.each(versions.flatMap((version) => matching.map((row) => [version, ...row] as const)))(
  '[MQTT-4.7.1-1][MQTT-4.7.1-2][MQTT-4.7.2-1][MQTT3-4.7.1-2][MQTT3-4.7.1-3][MQTT3-4.7.2-1] version %s: %s matches %j, not %j',
  async (version, filter, matched, unmatched) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await using subscriber = await broker.client({ version });
    await subscriber.subscribe(filter);
    for (const topic of matched) {
      expect([topic, await reaches(publisher, subscriber, topic)]).toEqual([topic, true]);
    }
    for (const topic of unmatched) {
      // Clients cannot publish to topics of the server, but the program that embeds it can.
      if (topic.startsWith('$')) await broker.broker.publish({ topic, payload: '' });
      else await publisher.publishFully({ topic });
      await subscriber.expectNothing();
    }
  },
);

test.each(versions)(
  '[MQTT-4.7.2-1][MQTT3-4.7.2-1] topics that begin with $ are found by filters that say so (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    await client.subscribe(['$SYS/#', '$SYS/+/x']);
    await broker.broker.publish({ topic: '$SYS/a/x', payload: '1', retain: true });
    await client.expectPublish({ topic: '$SYS/a/x', payload: '1' });
    await client.expectNothing();
    // Retained ones are no exception.
    await using broad = await broker.client({ version });
    await broad.subscribe(['#', '+/a/x', '+/#']);
    await broad.expectNothing();
    await broad.subscribe('$SYS/a/+');
    await broad.expectPublish({ topic: '$SYS/a/x', retain: true });
  },
);

test.each(
  versions.flatMap((version) =>
    ['a#', 'a/#/b', '#a', '#/', '##', 'a+', '+a', 'a/+b/c', 'a/b+', '++'].map(
      (filter) => [version, filter] as const,
    ),
  ),
)(
  '[MQTT-4.7.1-1][MQTT-4.7.1-2][MQTT3-4.7.1-2][MQTT3-4.7.1-3] version %s: %s is refused in SUBACK and the connection goes on',
  async (version, filter) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    expect((await client.subscribe(filter)).granted).toEqual([invalid(version)]);
    await client.publishFully({ topic: 'a' });
    await client.expectNothing();
  },
);

test.each(
  versions.flatMap((version) => ['a/+', '#', 'a#b', '+'].map((t) => [version, t] as const)),
)(
  '[MQTT-4.7.0-1][MQTT3-4.7.1-1] version %s: the topic name %s is refused',
  async (version, topic) => {
    await using broker = await TestBroker.start();
    await using bystander = await broker.client({ version });
    await bystander.subscribe('#');
    await using client = await broker.client({ version });
    client.publish({ topic });
    await client.expectDisconnect(0x90);
    await bystander.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-4.7.3-1][MQTT3-4.7.3-1] an empty topic name or filter is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    publisher.send(version === 5 ? '30 03 0000 00' : '30 02 0000');
    await publisher.expectDisconnect(0x82);
    await using subscriber = await broker.client({ version });
    expect((await subscriber.subscribe('')).granted).toEqual([invalid(version)]);
  },
);

test.each(versions)(
  '[MQTT-4.7.3-2][MQTT3-4.7.3-2] U+0000 in a topic name or filter ends the connection (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    publisher.publish({ topic: 'a\0b' });
    await publisher.expectDisconnect(0x81);
    await using subscriber = await broker.client({ version });
    subscriber.sendPacket({
      cmd: 'subscribe',
      messageId: 1,
      subscriptions: [{ topic: 'a\0b', qos: 0 }],
    });
    await subscriber.expectDisconnect(0x81);
    await using unsubscriber = await broker.client({ version });
    unsubscriber.sendPacket({ cmd: 'unsubscribe', messageId: 1, unsubscriptions: ['a\0b'] });
    await unsubscriber.expectDisconnect(0x81);
  },
);

test.each(
  versions.flatMap((version) =>
    ['a\u0001b', 'a\u001f', '\u007f', 'a\u009f', 'a\ufffe', 'a\uffff', '\ufdd0', '\u{1ffff}'].map(
      (topic) => [version, JSON.stringify(topic), topic] as const,
    ),
  ),
)(
  'version %s: control characters and non-characters are refused in names and filters: %s',
  async (version, _shown, topic) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    publisher.publish({ topic });
    await publisher.expectDisconnect(0x81);
    await using subscriber = await broker.client({ version });
    subscriber.sendPacket({
      cmd: 'subscribe',
      messageId: 1,
      subscriptions: [{ topic, qos: 0 }],
    });
    await subscriber.expectDisconnect(0x81);
  },
);

test.each(versions)(
  '[MQTT-4.7.3-3][MQTT3-4.7.3-3] topic names and filters of 65,535 bytes are as good as any (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    const topic = 'é'.repeat(32_767) + 'e';
    expect((await client.subscribe(topic)).granted).toEqual([0]);
    await client.publishFully({ topic, payload: 'long' });
    await client.expectPublish({ topic, payload: 'long' });
    await client.publishFully({ topic: topic.slice(0, -1) });
    await client.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-4.7.3-4][MQTT3-4.7.3-4] names are compared as they are: case, composition, U+FEFF and unknown characters count (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await using client = await broker.client({ version });
    const composed = 'caf\u00e9';
    const decomposed = 'cafe\u0301';
    const topics = [
      composed,
      decomposed,
      'CAF\u00c9',
      `\ufeff${composed}`,
      '\u{1f600}',
      '\u{e0100}',
      'a b',
      'ﬀ',
      'ff',
      '__proto__',
      'constructor',
    ];
    for (const subscribed of topics) {
      await client.subscribe(subscribed);
      for (const topic of topics) {
        const reached = await reaches(publisher, client, topic);
        expect([subscribed, topic, reached]).toEqual([subscribed, topic, topic === subscribed]);
      }
      await client.unsubscribe(subscribed);
    }
  },
);

test('[MQTT-4.7.3-4] retained messages of NFC and NFD names are two', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await client.publishFully({ topic: '\u00e9', payload: 'NFC', retain: true });
  await client.publishFully({ topic: 'e\u0301', payload: 'NFD', retain: true });
  await client.subscribe('e\u0301');
  await client.expectPublish({ topic: 'e\u0301', payload: 'NFD' });
  await client.expectNothing();
});

test.each(versions)(
  'more than 200 topic levels are refused: filters in SUBACK, names by closing (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    const levels = (count: number): string => Array(count).fill('a').join('/');
    const { granted } = await client.subscribe([
      levels(200),
      levels(201),
      '/'.repeat(200),
      `${levels(199)}/#`,
      `${levels(200)}/#`,
      `$share/g/${levels(201)}`,
    ]);
    const no = invalid(version);
    expect(granted).toEqual([0, no, no, 0, no, no]);
    await client.publishFully({ topic: levels(200) });
    await client.expectPublish({ topic: levels(200) });
    client.publish({ topic: levels(201) });
    await client.expectDisconnect(0x90);
  },
);

test.each(versions)(
  'what clients publish to topics of the server reaches nobody (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watching = await broker.client({ version });
    await watching.subscribe(['$SYS/#', '$foo/#', '$share/g/$SYS/#'], { qos: 2 });
    await using client = await broker.client({ version });
    for (const topic of ['$SYS/broker/uptime', '$foo/x', '$share/g/a', '$']) {
      for (const qos of [0, 1, 2] as const) {
        const reasonCode = await client.publishFully({ topic, qos, retain: true, payload: 'x' });
        expect(reasonCode).toBe(version === 5 && qos > 0 ? 0x87 : 0);
      }
    }
    await watching.expectNothing();
    await client.subscribe(['$SYS/#', '$foo/#']);
    await client.expectNothing();
  },
);
