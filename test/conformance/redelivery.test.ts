import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ByteClient, WireVersion } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;

function connect(
  broker: TestBroker,
  version: WireVersion,
  { clean = false, receiveMaximum = 100 } = {},
): Promise<ByteClient> {
  return broker.client({
    version,
    clientId: 'kept',
    clean,
    ...(version === 5 ? { properties: { sessionExpiryInterval: 60, receiveMaximum } } : {}),
  });
}

/** Loses the connection once the server has read everything. */
async function lose(client: ByteClient): Promise<void> {
  await client.roundTrip();
  await client[Symbol.asyncDispose]();
}

test.each(versions)(
  '[MQTT-3.3.1-1][MQTT-4.3.2-3][MQTT-4.4.0-1][MQTT3-2.3.1-4][MQTT3-3.3.1-1][MQTT3-4.3.2-1][MQTT3-4.4.0-1] what was not acknowledged comes again on reconnect, with DUP, the same packet id and the same bytes (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    const first = await connect(broker, version);
    await first.subscribe('#', { qos: 2 });
    for (const [payload, qos] of [
      ['a', 1],
      ['b', 2],
      ['c', 1],
      ['d', 0],
    ] as const) {
      await broker.broker.publish({ topic: `t/${payload}`, payload, qos });
    }
    const sent = [];
    for (const payload of ['a', 'b', 'c']) {
      sent.push(await first.expectPublish({ payload, dup: false }));
    }
    await first.expectPublish({ payload: 'd', qos: 0 });
    first.puback(sent[0]!.messageId!);
    await lose(first);
    await using second = await connect(broker, version);
    for (const before of sent.slice(1)) {
      const { messageId, raw } = await second.expectPublish({ dup: true, qos: before.qos });
      expect(messageId).toBe(before.messageId);
      expect(raw.subarray(1).toString('hex')).toBe(before.raw.subarray(1).toString('hex'));
    }
    // A message of QoS 0 does not come again, and a new one gets an id of its own.
    await broker.broker.publish({ topic: 't/e', payload: 'e', qos: 1 });
    const { messageId } = await second.expectPublish({ payload: 'e', dup: false });
    expect(sent.map((before) => before.messageId)).not.toContain(messageId);
    await second.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-4.3.3-5][MQTT-4.3.3-6][MQTT-4.4.0-1][MQTT3-4.3.3-1][MQTT3-4.4.0-1] a PUBREL that was not answered comes again, its PUBLISH does not (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    const first = await connect(broker, version);
    await first.subscribe('#', { qos: 2 });
    await broker.broker.publish({ topic: 't', payload: 'a', qos: 2 });
    const { messageId } = await first.expectPublish({ payload: 'a' });
    first.pubrec(messageId!);
    expect(await first.expectPacket('pubrel')).toMatchObject({ messageId });
    await lose(first);
    for (let i = 0; i < 2; i++) {
      const again = await connect(broker, version);
      const { raw } = await again.expectPacket('pubrel');
      expect(raw.toString('hex')).toBe(`6202${messageId!.toString(16).padStart(4, '0')}`);
      await again.expectNothing();
      await lose(again);
    }
    const last = await connect(broker, version);
    expect(await last.expectPacket('pubrel')).toMatchObject({ messageId });
    last.pubcomp(messageId!);
    await lose(last);
    await using done = await connect(broker, version);
    await done.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-4.4.0-1][MQTT3-4.4.0-1] nothing is sent again within a connection, nor to a clean start (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    const first = await connect(broker, version);
    await first.subscribe('#', { qos: 2 });
    await broker.broker.publish({ topic: 't', payload: 'a', qos: 1 });
    await broker.broker.publish({ topic: 't', payload: 'b', qos: 2 });
    await first.expectPublish({ payload: 'a' });
    const { messageId } = await first.expectPublish({ payload: 'b' });
    await first.expectNothing();
    first.pubrec(messageId!);
    await first.expectPacket('pubrel');
    await first.expectNothing();
    await lose(first);
    await using clean = await connect(broker, version, { clean: true });
    await clean.expectNothing();
  },
);

test('[MQTT-4.4.0-2] a PUBACK or PUBREC of 0x80 or more acknowledges: the message does not come again', async () => {
  await using broker = await TestBroker.start();
  const first = await connect(broker, 5);
  await first.subscribe('#', { qos: 2 });
  await broker.broker.publish({ topic: 't', payload: 'a', qos: 1 });
  await broker.broker.publish({ topic: 't', payload: 'b', qos: 2 });
  first.puback((await first.expectPublish({ payload: 'a' })).messageId!, 0x83);
  first.pubrec((await first.expectPublish({ payload: 'b' })).messageId!, 0x97);
  await first.expectNothing();
  await lose(first);
  await using second = await connect(broker, 5);
  await second.expectNothing();
});

test.each(versions)(
  '[MQTT-4.6.0-1][MQTT3-4.6.0-1] messages are sent again in the order in which they were sent (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    const first = await connect(broker, version);
    await first.subscribe('#', { qos: 2 });
    const payloads = Array.from({ length: 40 }, (_, index) => String(index));
    for (const [index, payload] of payloads.entries()) {
      await broker.broker.publish({
        topic: `t/${index % 3}`,
        payload,
        qos: index % 2 === 0 ? 1 : 2,
      });
    }
    const ids: number[] = [];
    for (const payload of payloads) ids.push((await first.expectPublish({ payload })).messageId!);
    // Acknowledged from the end, with holes.
    for (const index of [38, 20, 4]) first.puback(ids[index]!);
    await lose(first);
    await using second = await connect(broker, version);
    for (const [index, payload] of payloads.entries()) {
      if ([38, 20, 4].includes(index)) continue;
      await second.expectPublish({ payload, dup: true, messageId: ids[index]! });
    }
    await second.expectNothing();
  },
);

test('redelivery keeps to a smaller Receive Maximum of the new connection', async () => {
  await using broker = await TestBroker.start();
  const first = await connect(broker, 5);
  await first.subscribe('#', { qos: 1 });
  for (const payload of ['a', 'b', 'c'])
    await broker.broker.publish({ topic: 't', payload, qos: 1 });
  for (const payload of ['a', 'b', 'c']) await first.expectPublish({ payload });
  await lose(first);
  await using second = await connect(broker, 5, { receiveMaximum: 1 });
  for (const payload of ['a', 'b', 'c']) {
    const { messageId } = await second.expectPublish({ payload, dup: true });
    await second.expectNothing();
    second.puback(messageId!);
  }
  await second.expectNothing();
});

test('a message that was queued and never sent has DUP 0, also after the session was taken over', async () => {
  await using broker = await TestBroker.start();
  await using first = await connect(broker, 5, { receiveMaximum: 1 });
  await first.subscribe('#', { qos: 1 });
  for (const payload of ['a', 'b']) await broker.broker.publish({ topic: 't', payload, qos: 1 });
  await first.expectPublish({ payload: 'a', dup: false });
  await using second = await connect(broker, 5);
  await second.expectPublish({ payload: 'a', dup: true });
  await second.expectPublish({ payload: 'b', dup: false });
});

test.each(versions)(
  '[MQTT-4.3.3-10][MQTT3-4.3.3-2] a QoS 2 message that the client repeats after a reconnect is not delivered again (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using subscriber = await broker.client();
    await subscriber.subscribe('t');
    for (const dup of [false, true, true]) {
      const client = await connect(broker, version);
      client.publish({ topic: 't', qos: 2, messageId: 77, dup, payload: 'once' });
      await client.expectPacket('pubrec');
      await lose(client);
    }
    await using client = await connect(broker, version);
    client.pubrel(77);
    expect(await client.expectPacket('pubcomp')).toMatchObject({ messageId: 77 });
    await subscriber.expectPublish({ payload: 'once' });
    await subscriber.expectNothing();
    client.publish({ topic: 't', qos: 2, messageId: 77, payload: 'next' });
    await client.expectPacket('pubrec');
    await subscriber.expectPublish({ payload: 'next' });
  },
);
