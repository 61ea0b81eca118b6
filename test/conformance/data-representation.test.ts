import { expect, test } from '@jest/globals';
import { TestBroker, userPropertiesOf } from '@shoalmq/testkit';
import type { ByteClient, WireVersion } from '@shoalmq/testkit';
import { bytes, connect, packet, properties, sized, uint16 } from './bytes.ts';

const versions = [3, 4, 5] as const;

/** An empty property section where the version has one. */
function none(version: WireVersion): Buffer {
  return version === 5 ? bytes(0) : bytes();
}

async function expectRefused(
  broker: TestBroker,
  version: WireVersion,
  wrong: Uint8Array,
  reasonCode: number,
): Promise<void> {
  await using client = await broker.client({ version });
  client.send(wrong);
  await client.expectDisconnect(reasonCode);
}

const illFormed = ['c328', 'c080', 'e08080', 'eda080', 'edbfbf', 'f4908080', 'f8', 'ff', 'e282'];

test.each(versions)(
  '[MQTT-1.5.4-1][MQTT3-1.5.3-1] ill-formed UTF-8 in a topic name or filter is malformed, and goes nowhere (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watcher = await broker.client();
    await watcher.subscribe('#');
    for (const hex of illFormed) {
      const text = sized(Buffer.from(`61${hex}`, 'hex'));
      await expectRefused(broker, version, packet(0x30, text, none(version)), 0x81);
      await expectRefused(broker, version, packet(0x82, 0, 1, none(version), text, 0), 0x81);
      await expectRefused(broker, version, packet(0xa2, 0, 1, none(version), text), 0x81);
    }
    await watcher.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-1.5.4-2][MQTT3-1.5.3-2] U+0000 is refused in every string (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    const text = 'a\u0000b';
    await expectRefused(broker, version, packet(0x30, text, none(version)), 0x81);
    await expectRefused(broker, version, packet(0x82, 0, 1, none(version), text, 0), 0x81);
    await expectRefused(broker, version, packet(0xa2, 0, 1, none(version), text), 0x81);
    const will = [none(version), text, 'payload'];
    for (const first of [
      connect(text, { version }),
      connect('id', { version, flags: 0x82, rest: [text] }),
      connect('id', { version, flags: 0x06, rest: will }),
    ]) {
      await using client = await broker.open();
      client.send(first);
      await client.expectClose();
    }
  },
);

test.each([
  ['Content Type', 0x03],
  ['Response Topic', 0x08],
])('[MQTT-1.5.4-1][MQTT-1.5.4-2] a bad string in %s is malformed', async (_, id) => {
  await using broker = await TestBroker.start();
  for (const hex of [...illFormed, '00']) {
    const value = sized(Buffer.from(hex, 'hex'));
    await expectRefused(broker, 5, packet(0x30, 'a', properties(id, value)), 0x81);
  }
});

test('[MQTT-1.5.7-1] a bad string in the name or value of a User Property is malformed, in every packet', async () => {
  await using broker = await TestBroker.start();
  for (const hex of ['c328', '00', 'eda080']) {
    const bad = sized(Buffer.from(hex, 'hex'));
    for (const pair of [bytes(0x26, bad, 'value'), bytes(0x26, 'name', bad)]) {
      for (const wrong of [
        packet(0x30, 'a', properties(pair)),
        packet(0x82, 0, 1, properties(pair), 'a', 0),
        packet(0xa2, 0, 1, properties(pair), 'a'),
        packet(0x40, 0, 1, 0, properties(pair)),
        packet(0xe0, 0, properties(pair)),
      ]) {
        await expectRefused(broker, 5, wrong, 0x81);
      }
      await using client = await broker.open();
      client.send(connect('id', { properties: pair }));
      await client.expectClose();
    }
  }
});

test('[MQTT-1.5.7-1] User Properties with any characters reach the subscriber as they were', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await client.subscribe('a');
  const pairs = [
    ['', ''],
    ['\u0001', '\uffff'],
    ['__proto__', 'é日本😀'],
    ['', ''],
    ['\ufeffname', '\ufeff'],
  ] as const;
  const encoded = pairs.map(([name, value]) => bytes(0x26, name, value));
  client.send(packet(0x30, 'a', properties(...encoded)));
  const publish = await client.expectPublish({ topic: 'a' });
  expect(userPropertiesOf(publish)).toEqual(pairs);
});

test.each(versions)(
  '[MQTT-1.5.4-3][MQTT3-1.5.3-3] U+FEFF is a character like any other: topics with and without it differ (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    await client.subscribe('\ufefftopic');
    client.publish({ topic: 'topic', payload: 'without' });
    client.publish({ topic: 'topic\ufeff', payload: 'behind' });
    client.publish({ topic: '\ufefftopic', payload: 'with' });
    const publish = await client.expectPublish({ payload: 'with' });
    expect(publish.raw.subarray(2, 12).toString('hex')).toBe('0008efbbbf746f706963');
    await client.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-1.5.5-1] a Remaining Length in more bytes than it needs is malformed (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await expectRefused(broker, version, bytes(0xc0, 0x80, 0x00), 0x81);
    await expectRefused(broker, version, bytes(0x40, 0x82, 0x80, 0x00, 0, 1), 0x81);
    await expectRefused(broker, version, bytes(0x30, 0xff, 0xff, 0xff, 0xff), 0x81);
  },
);

test('[MQTT-1.5.5-1] a Property Length or Subscription Identifier in more bytes than it needs is malformed', async () => {
  await using broker = await TestBroker.start();
  await expectRefused(broker, 5, packet(0x30, 'a', 0x80, 0x00), 0x81);
  const identifier = properties(0x0b, 0x81, 0x00);
  await expectRefused(broker, 5, packet(0x82, 0, 1, identifier, 'a', 0), 0x81);
});

test.each([4, 5] as const)(
  '[MQTT-1.5.5-1] the server writes lengths in as few bytes as possible (version %s)',
  async (version) => {
    await using broker = await TestBroker.start({
      config: { limits: { packetBytesMax: 3_000_000 } },
    });
    await using client = await broker.client({ version });
    await client.subscribe('a');
    const overhead = version === 5 ? 4 : 3;
    for (const [remaining, lengthBytes] of [
      [127, 1],
      [128, 2],
      [16_383, 2],
      [16_384, 3],
      [2_097_151, 3],
      [2_097_152, 4],
    ] as const) {
      client.publish({ topic: 'a', payload: Buffer.alloc(remaining - overhead) });
      const { raw } = await client.expectPublish({ topic: 'a' });
      expect(raw.length).toBe(1 + lengthBytes + remaining);
    }
  },
);

// SUBSCRIBE, UNSUBSCRIBE and PUBREL have 0010, the others 0000; PUBLISH has meaningful flags.
const flags: [name: string, body: (version: WireVersion) => Buffer, type: number, good: number][] =
  [
    ['PUBACK', () => bytes(0, 1), 4, 0],
    ['PUBREC', () => bytes(0, 1), 5, 0],
    ['PUBREL', () => bytes(0, 1), 6, 2],
    ['PUBCOMP', () => bytes(0, 1), 7, 0],
    ['SUBSCRIBE', (version) => bytes(0, 1, none(version), 'a', 0), 8, 2],
    ['UNSUBSCRIBE', (version) => bytes(0, 1, none(version), 'a'), 10, 2],
    ['PINGREQ', () => bytes(), 12, 0],
    ['DISCONNECT', () => bytes(), 14, 0],
  ];

test.each(flags)(
  '[MQTT-2.1.3-1][MQTT3-2.2.2-1][MQTT3-2.2.2-2] %s with other flags than the standard has is malformed',
  async (_, body, type, good) => {
    await using broker = await TestBroker.start();
    for (const version of [4, 5] as const) {
      for (let flag = 0; flag < 16; flag++) {
        if (flag === good) continue;
        await expectRefused(broker, version, packet((type << 4) | flag, body(version)), 0x81);
      }
    }
  },
);

test('3.1 has a DUP flag in PUBREL, SUBSCRIBE and UNSUBSCRIBE', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client({ version: 3 });
  client.send(packet(0x8a, 0, 1, 'a', 0));
  await client.expectPacket('suback');
  client.send(packet(0xaa, 0, 2, 'a'));
  await client.expectPacket('unsuback');
  client.send(packet(0x6a, 0, 3));
  await client.expectPacket('pubcomp');
});

test.each(versions)(
  '[MQTT-2.2.1-2][MQTT3-2.3.1-5] a PUBLISH with QoS 0 has no packet id, in either direction (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    await client.subscribe('a', { qos: 2 });
    const publish = packet(0x30, 'a', none(version), Buffer.from('payload'));
    client.send(publish);
    const { raw } = await client.expectPublish();
    expect(raw).toEqual(publish);
  },
);

test.each(versions)(
  '[MQTT-2.2.1-3][MQTT3-2.3.1-1] packet id 0 is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    for (const wrong of [
      packet(0x32, 'a', 0, 0, none(version)),
      packet(0x34, 'a', 0, 0, none(version)),
      packet(0x82, 0, 0, none(version), 'a', 0),
      packet(0xa2, 0, 0, none(version), 'a'),
    ]) {
      await expectRefused(broker, version, wrong, 0x82);
    }
  },
);

async function packetIdsOf(client: ByteClient, count: number): Promise<number[]> {
  const ids: number[] = [];
  for (let i = 0; i < count; i++) ids.push((await client.expectPublish()).messageId!);
  return ids;
}

test.each(versions)(
  '[MQTT-2.2.1-4][MQTT3-2.3.1-4] the server gives each message under way a packet id of its own, and an id again only when it is free (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    await using publisher = await broker.client();
    await client.subscribe('a', { qos: 2 });
    for (let i = 0; i < 10; i++) {
      await publisher.publishFully({ topic: 'a', qos: i % 2 === 0 ? 1 : 2 });
    }
    const ids = await packetIdsOf(client, 10);
    expect(new Set(ids).size).toBe(10);
    expect(Math.min(...ids)).toBeGreaterThan(0);
    // QoS 2: not free until PUBCOMP. Half of the QoS 1 messages are acknowledged too.
    client.pubrec(ids[1]!);
    await client.expectPacket('pubrel');
    client.puback(ids[0]!);
    client.puback(ids[4]!);
    await client.expectNothing();
    const inUse = new Set(ids.filter((id) => id !== ids[0] && id !== ids[4]));
    for (let i = 0; i < 300; i++) {
      publisher.publish({ topic: 'a', qos: 1 });
      const { messageId } = await client.expectPublish();
      expect(messageId).toBeGreaterThan(0);
      expect(inUse.has(messageId!)).toBe(false);
      client.puback(messageId!);
    }
  },
);

test.each([4, 5] as const)(
  '[MQTT3-2.3.1-4] a message that is sent again keeps its packet id (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    const fields = {
      version,
      clientId: 'id',
      clean: false,
      ...(version === 5 && { properties: { sessionExpiryInterval: 60 } }),
    };
    let first: number[];
    {
      await using client = await broker.client(fields);
      await client.subscribe('a', { qos: 2 });
      for (const qos of [1, 2, 1] as const) await publisher.publishFully({ topic: 'a', qos });
      first = await packetIdsOf(client, 3);
      client.puback(first[0]!);
      await client.expectNothing();
    }
    await using client = await broker.client(fields);
    expect(await packetIdsOf(client, 2)).toEqual(first.slice(1));
  },
);

test.each(versions)(
  '[MQTT-2.2.1-5][MQTT-2.2.1-6][MQTT3-2.3.1-6][MQTT3-2.3.1-7] every answer of the server repeats the packet id it answers (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    for (const id of [1, 0xff, 0x100, 0x1234, 0xffff]) {
      client.send(packet(0x32, 'a', uint16(id), none(version)));
      expect((await client.expectPacket('puback')).messageId).toBe(id);
      client.send(packet(0x34, 'a', uint16(id), none(version)));
      expect((await client.expectPacket('pubrec')).messageId).toBe(id);
      client.send(packet(0x62, uint16(id)));
      expect((await client.expectPacket('pubcomp')).messageId).toBe(id);
      client.send(packet(0x82, uint16(id), none(version), 'x', 0));
      expect((await client.expectPacket('suback')).messageId).toBe(id);
      client.send(packet(0xa2, uint16(id), none(version), 'x'));
      expect((await client.expectPacket('unsuback')).messageId).toBe(id);
    }
    // The other way: PUBREL repeats the id of the server's PUBLISH.
    await client.subscribe('b', { qos: 2 });
    await using publisher = await broker.client();
    await publisher.publishFully({ topic: 'b', qos: 2 });
    const { messageId } = await client.expectPublish({ qos: 2 });
    client.pubrec(messageId!);
    expect((await client.expectPacket('pubrel')).messageId).toBe(messageId);
  },
);

test('the packet ids of client and server are two spaces: the same id may be under way in both', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await client.subscribe('a', { qos: 2 });
  await using publisher = await broker.client();
  await publisher.publishFully({ topic: 'a', payload: 'ours', qos: 2 });
  const { messageId } = await client.expectPublish({ payload: 'ours' });
  client.publish({ topic: 'b', qos: 2, messageId: messageId! });
  expect((await client.expectPacket('pubrec')).messageId).toBe(messageId);
  client.pubrec(messageId!);
  expect((await client.expectPacket('pubrel')).messageId).toBe(messageId);
  client.pubrel(messageId!);
  expect((await client.expectPacket('pubcomp')).messageId).toBe(messageId);
  client.pubcomp(messageId!);
  await client.expectNothing();
});

test('[MQTT-2.2.2-1] a packet without properties says so with Property Length 0', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  const suback = await client.subscribe('a', { messageId: 5 });
  expect(suback.raw.toString('hex')).toBe('900400050000');
  const unsuback = await client.unsubscribe('b', 6);
  expect(unsuback.raw.toString('hex')).toBe('b00400060011');
  client.publish({ topic: 'a', payload: 'x' });
  const publish = await client.expectPublish();
  expect(publish.raw.toString('hex')).toBe('3005' + '000161' + '00' + '78');
  // A client, too, has to write it; without it the payload would be taken for properties.
  await expectRefused(broker, 5, packet(0x30, 'a'), 0x81);
  await expectRefused(broker, 5, packet(0x82, 0, 1, 'a', 0), 0x81);
});
