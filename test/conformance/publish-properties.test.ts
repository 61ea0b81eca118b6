import { expect, test } from '@jest/globals';
import { TestBroker, userPropertiesOf } from '@shoalmq/testkit';
import type { ByteClient, ReceivedPacket } from '@shoalmq/testkit';
import { bytes, packet, properties, sized, uint16, uint32 } from './bytes.ts';

const persistent = { clean: false, properties: { sessionExpiryInterval: 60 } };

/** Everything a message can carry; the pairs are interleaved and repeated. */
const carried = bytes(
  0x26,
  'b',
  '1',
  0x01,
  1,
  0x26,
  'a',
  '2',
  0x08,
  'answers/here',
  0x26,
  'b',
  '3',
  0x09,
  sized(Buffer.from([0, 255, 0x2b, 0x23])),
  0x26,
  '__proto__',
  '\u{1f41f}',
  0x03,
  'text/plain; charset=utf-8',
  0x26,
  'b',
  '1',
  0x26,
  '',
  '',
);

/** The properties of a PUBLISH to topic `t` with a payload of one byte, their length included. */
function propertiesOf({ raw, qos }: ReceivedPacket<'publish'>): string {
  let at = 1;
  while (raw[at]! >= 0x80) at += 1;
  at += 1 + 3 + (qos > 0 ? 2 : 0);
  return raw.subarray(at, raw.length - 1).toString('hex');
}

function send(client: ByteClient, qos: 0 | 1 | 2, retain: boolean): void {
  const id = qos === 0 ? [] : [uint16(client.nextPacketId())];
  const first = 0x30 | (qos << 1) | (retain ? 1 : 0);
  client.send(packet(first, 't', ...id, properties(carried), Buffer.from('x')));
}

test.each([0, 1, 2] as const)(
  '[MQTT-3.3.2-4][MQTT-3.3.2-15][MQTT-3.3.2-16][MQTT-3.3.2-17][MQTT-3.3.2-18][MQTT-3.3.2-20] properties reach every subscriber as they were sent, in their order (QoS %s)',
  async (qos) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    await using clean = await broker.client();
    await using kept = await broker.client(persistent);
    await using shared = await broker.client();
    await using old = await broker.client({ version: 4 });
    for (const client of [clean, kept, old]) await client.subscribe('t', { qos });
    await shared.subscribe('$share/g/t', { qos });
    send(publisher, qos, true);
    for (const client of [clean, kept, shared]) {
      const publish = await client.expectPublish({ qos, payload: 'x' });
      expect(propertiesOf(publish)).toBe(properties(carried).toString('hex'));
      expect(userPropertiesOf(publish)).toEqual([
        ['b', '1'],
        ['a', '2'],
        ['b', '3'],
        ['__proto__', '\u{1f41f}'],
        ['b', '1'],
        ['', ''],
      ]);
    }
    // 3.1.1 has no properties.
    await old.expectPublish({ topic: 't', payload: 'x' });
    await publisher.roundTrip();
    await using later = await broker.client();
    await later.subscribe('t', { qos });
    expect(propertiesOf(await later.expectPublish({ retain: true }))).toBe(
      properties(carried).toString('hex'),
    );
  },
);

test('[MQTT-3.3.2-17] properties of a queued message survive until its subscriber is back', async () => {
  await using broker = await TestBroker.start();
  {
    await using away = await broker.client({ ...persistent, clientId: 'away' });
    await away.subscribe('t', { qos: 1 });
  }
  await using publisher = await broker.client();
  send(publisher, 1, false);
  await publisher.expectPacket('puback');
  await using back = await broker.client({ ...persistent, clientId: 'away' });
  expect(propertiesOf(await back.expectPublish())).toBe(properties(carried).toString('hex'));
});

test.each([
  { name: 'a response topic with a wildcard', field: bytes(0x08, 'a/+'), reasonCode: 0x90 },
  {
    name: 'a response topic that is not UTF-8',
    field: bytes(0x08, sized(Buffer.of(0xc3, 0x28))),
    reasonCode: 0x81,
  },
  {
    name: 'a content type that is not UTF-8',
    field: bytes(0x03, sized(Buffer.of(0xff))),
    reasonCode: 0x81,
  },
  {
    name: 'a name of a user property that is not UTF-8',
    field: bytes(0x26, sized(Buffer.of(0xed, 0xa0, 0x80)), 'x'),
    reasonCode: 0x81,
  },
  { name: 'a payload format of 2', field: bytes(0x01, 2), reasonCode: 0x82 },
  { name: 'a payload format given twice', field: bytes(0x01, 0, 0x01, 0), reasonCode: 0x82 },
  {
    name: 'an expiry given twice',
    field: bytes(0x02, uint32(1), 0x02, uint32(1)),
    reasonCode: 0x82,
  },
  { name: 'a content type given twice', field: bytes(0x03, 'a', 0x03, 'a'), reasonCode: 0x82 },
  { name: 'a property of another packet', field: bytes(0x21, uint16(5)), reasonCode: 0x82 },
])(
  '[MQTT-3.3.2-13][MQTT-3.3.2-14][MQTT-3.3.2-19][MQTT-1.5.7-1] $name ends the connection and reaches nobody',
  async ({ field, reasonCode }) => {
    await using broker = await TestBroker.start();
    await using subscriber = await broker.client();
    await subscriber.subscribe('#');
    await using client = await broker.client();
    client.send(packet(0x30, 't', properties(field)));
    await client.expectDisconnect(reasonCode);
    await subscriber.expectNothing();
  },
);

test('[MQTT-3.3.2-6] the expiry interval of a message that did not wait is passed on as it came', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  await using clean = await broker.client();
  await using kept = await broker.client(persistent);
  for (const client of [clean, kept]) await client.subscribe('t', { qos: 1 });
  for (const messageExpiryInterval of [1, 3_600, 0xffff_ffff]) {
    await publisher.publishFully({ topic: 't', qos: 1, properties: { messageExpiryInterval } });
    for (const client of [clean, kept]) {
      const publish = await client.expectPublish({ acknowledge: true });
      expect(publish.properties?.messageExpiryInterval).toBe(messageExpiryInterval);
    }
  }
});

test('[MQTT-3.3.2-5] a message that expired while its subscriber was away is not delivered', async () => {
  await using broker = await TestBroker.start();
  const fields = { ...persistent, clientId: 'away' };
  {
    await using away = await broker.client(fields);
    await away.subscribe('t', { qos: 1 });
  }
  await using publisher = await broker.client();
  const publish = (payload: string, messageExpiryInterval: number) =>
    publisher.publishFully({ topic: 't', payload, qos: 1, properties: { messageExpiryInterval } });
  await publish('short', 1);
  await publish('long', 100);
  await new Promise((resolve) => setTimeout(resolve, 1_050));
  await using back = await broker.client(fields);
  const long = await back.expectPublish({ payload: 'long' });
  expect(long.properties?.messageExpiryInterval).toBeLessThan(100);
  await back.expectNothing();
});
