import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ByteClient } from '@shoalmq/testkit';

const sessions = [
  { session: 'clean', clean: true, sessionExpiryInterval: 0 },
  { session: 'persistent', clean: false, sessionExpiryInterval: 60 },
] as const;

interface SessionFields {
  readonly clean: boolean;
  readonly sessionExpiryInterval: number;
}

function connect(
  broker: TestBroker,
  { clean, sessionExpiryInterval }: SessionFields,
  receiveMaximum: number,
): Promise<ByteClient> {
  return broker.client({ clean, properties: { sessionExpiryInterval, receiveMaximum } });
}

async function publish(broker: TestBroker, qos: 0 | 1 | 2, ...payloads: string[]): Promise<void> {
  for (const payload of payloads) await broker.broker.publish({ topic: 't', payload, qos });
}

test.each(sessions)(
  '[MQTT-3.3.4-9][MQTT-4.9.0-1][MQTT-4.9.0-2] no more than Receive Maximum messages are under way to a client ($session session)',
  async (fields) => {
    await using broker = await TestBroker.start();
    await using client = await connect(broker, fields, 2);
    await client.subscribe('t', { qos: 2 });
    await publish(broker, 1, 'a', 'b', 'c');
    await publish(broker, 2, 'd', 'e');
    const a = (await client.expectPublish({ payload: 'a' })).messageId!;
    const b = (await client.expectPublish({ payload: 'b' })).messageId!;
    await client.expectNothing();
    client.puback(a);
    const c = (await client.expectPublish({ payload: 'c' })).messageId!;
    await client.expectNothing();
    client.puback(b);
    const d = (await client.expectPublish({ payload: 'd' })).messageId!;
    await client.expectNothing();
    // PUBREC is not the end of a QoS 2 message, PUBCOMP is.
    client.pubrec(d);
    await client.expectPacket('pubrel');
    await client.expectNothing();
    client.pubcomp(d);
    const e = (await client.expectPublish({ payload: 'e' })).messageId!;
    await publish(broker, 1, 'f');
    await client.expectNothing();
    // A PUBREC of 0x80 or more is.
    client.pubrec(e, 0x83);
    await client.expectPublish({ payload: 'f' });
    client.puback(c);
    await client.expectNothing();
  },
);

test.each(sessions)(
  '[MQTT-3.3.4-10][MQTT-4.9.0-3] with the window full all other packets go on, QoS 0 too ($session session)',
  async (fields) => {
    await using broker = await TestBroker.start();
    await using client = await connect(broker, fields, 1);
    await client.subscribe('t', { qos: 1 });
    await publish(broker, 1, 'a', 'b');
    await client.expectPublish({ payload: 'a' });
    await client.expectNothing();
    await publish(broker, 0, 'zero');
    await client.expectPublish({ payload: 'zero', qos: 0 });
    expect((await client.subscribe('other', { qos: 1 })).granted).toEqual([1]);
    expect((await client.unsubscribe('other')).granted).toEqual([0]);
    client.publish({ topic: 'x', qos: 1, messageId: 1 });
    await client.expectPacket('puback');
    client.publish({ topic: 'x', qos: 2, messageId: 2 });
    await client.expectPacket('pubrec');
    client.pubrel(2);
    await client.expectPacket('pubcomp');
    await client.expectNothing();
  },
);

test('a Receive Maximum of 0 is refused', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.open();
  client.sendConnect({ properties: { receiveMaximum: 0 } });
  await client.expectClose();
});

test('without a Receive Maximum, or with one above it, limits.inflightMax holds', async () => {
  await using broker = await TestBroker.start({ config: { limits: { inflightMax: 3 } } });
  for (const fields of [{}, { version: 4 as const }, { properties: { receiveMaximum: 65_535 } }]) {
    await using client = await broker.client(fields);
    await client.subscribe('t', { qos: 1 });
    await publish(broker, 1, 'a', 'b', 'c', 'd');
    for (const payload of ['a', 'b', 'c']) await client.expectPublish({ payload });
    await client.expectNothing();
  }
});

test.each(sessions)(
  '[MQTT-3.3.4-7] a client that exceeds the Receive Maximum of the server gets 0x93 ($session session)',
  async (fields) => {
    await using broker = await TestBroker.start({ config: { limits: { receiveMaximum: 3 } } });
    await using client = await connect(broker, fields, 10);
    expect(client.connack.properties?.receiveMaximum).toBe(3);
    for (const messageId of [1, 2, 3]) {
      client.publish({ topic: 't', qos: 2, messageId });
      expect(await client.expectPacket('pubrec')).toMatchObject({ messageId });
    }
    // Repeats and QoS 0 do not count; PUBREL gives a place back.
    client.publish({ topic: 't', qos: 2, messageId: 2, dup: true });
    await client.expectPacket('pubrec');
    client.publish({ topic: 't', qos: 0 });
    client.pubrel(1);
    await client.expectPacket('pubcomp');
    client.publish({ topic: 't', qos: 2, messageId: 4 });
    expect(await client.expectPacket('pubrec')).toMatchObject({ messageId: 4 });
    client.publish({ topic: 't', qos: 1, messageId: 5 });
    await client.expectDisconnect(0x93);
  },
);

test('messages of QoS 1 are under way until their PUBACK only: any number may be sent in a row', async () => {
  await using broker = await TestBroker.start({ config: { limits: { receiveMaximum: 1 } } });
  await using client = await broker.client();
  for (let messageId = 1; messageId <= 20; messageId++)
    client.publish({ topic: 't', qos: 1, messageId });
  for (let messageId = 1; messageId <= 20; messageId++) {
    expect(await client.expectPacket('puback')).toMatchObject({ messageId });
  }
});

test.each(sessions)(
  '[MQTT-3.1.2-24][MQTT-3.1.2-25] a message too large for one subscriber is dropped for that one only, and takes no place ($session session)',
  async ({ clean, sessionExpiryInterval }) => {
    await using broker = await TestBroker.start();
    const properties = { sessionExpiryInterval, receiveMaximum: 1, maximumPacketSize: 100 };
    await using small = await broker.client({ clean, properties });
    await using large = await broker.client();
    for (const client of [small, large]) await client.subscribe('t', { qos: 2 });
    for (const qos of [0, 1, 2] as const) await publish(broker, qos, 'x'.repeat(100));
    await publish(broker, 1, 'fits');
    await small.expectPublish({ payload: 'fits', acknowledge: true });
    await small.expectNothing();
    for (const qos of [0, 1, 2] as const) {
      await large.expectPublish({ payload: 'x'.repeat(100), qos, acknowledge: true });
    }
    await large.expectPublish({ payload: 'fits' });
    expect(broker.broker.counters.messagesDropped.too_large).toBe(3);
  },
);
