import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ByteClient } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;
const sessions = versions.flatMap((version) =>
  (['clean', 'persistent'] as const).map((session) => ({
    version,
    session,
    fields: {
      version,
      clean: session === 'clean',
      ...(version === 5 && session === 'persistent'
        ? { properties: { sessionExpiryInterval: 60 } }
        : {}),
    },
  })),
);

async function payloads(client: ByteClient): Promise<string[]> {
  const found: string[] = [];
  for (let count = await client.roundTrip(); count > 0; count--) {
    found.push((await client.expectPublish()).payload.toString());
  }
  return found;
}

test.each(sessions)(
  '[MQTT-2.2.1-4][MQTT-4.3.2-1][MQTT-4.3.2-2][MQTT3-4.3.2-1] QoS 1 to a client: a packet id of its own, DUP 0, until PUBACK (version $version, $session session)',
  async ({ fields }) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client(fields);
    await client.subscribe('t', { qos: 1 });
    const ids: number[] = [];
    for (const payload of ['a', 'b', 'c']) {
      await broker.broker.publish({ topic: 't', payload, qos: 1 });
      const { messageId } = await client.expectPublish({ payload, qos: 1, dup: false });
      ids.push(messageId!);
    }
    expect(new Set(ids).size).toBe(3);
    expect(Math.min(...ids)).toBeGreaterThan(0);
    expect(broker.broker.levels().inflightMessages).toBe(3);
    for (const id of ids) client.puback(id);
    await client.expectNothing();
    expect(broker.broker.levels().inflightMessages).toBe(0);
  },
);

test.each(sessions)(
  '[MQTT-4.3.2-4][MQTT-4.3.2-5][MQTT3-4.3.2-2] QoS 1 from a client: after PUBACK the packet id is a new message, DUP or not (version $version, $session session)',
  async ({ fields }) => {
    await using broker = await TestBroker.start();
    await using subscriber = await broker.client();
    await subscriber.subscribe('t');
    await using client = await broker.client(fields);
    for (const dup of [false, true, true, false]) {
      client.publish({ topic: 't', qos: 1, messageId: 7, dup, payload: String(dup) });
      expect((await client.expectPacket('puback')).messageId).toBe(7);
    }
    expect(await payloads(subscriber)).toEqual(['false', 'true', 'true', 'false']);
  },
);

test.each(sessions)(
  '[MQTT-4.3.3-1][MQTT-4.3.3-2][MQTT-4.3.3-3][MQTT-4.3.3-4][MQTT-4.3.3-5][MQTT3-4.3.3-1] QoS 2 to a client: DUP 0, PUBREC gets PUBREL of the same id, which waits for PUBCOMP (version $version, $session session)',
  async ({ fields }) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client(fields);
    await client.subscribe('t', { qos: 2 });
    await broker.broker.publish({ topic: 't', payload: 'a', qos: 2 });
    await broker.broker.publish({ topic: 't', payload: 'b', qos: 2 });
    const a = (await client.expectPublish({ payload: 'a', qos: 2, dup: false })).messageId!;
    const b = (await client.expectPublish({ payload: 'b', qos: 2, dup: false })).messageId!;
    expect(a).not.toBe(b);
    client.pubrec(b);
    expect((await client.expectPacket('pubrel')).messageId).toBe(b);
    // The PUBREL is unacknowledged: it is sent again when PUBREC is, the PUBLISH is not.
    client.pubrec(b);
    expect((await client.expectPacket('pubrel')).messageId).toBe(b);
    expect(broker.broker.levels().inflightMessages).toBe(2);
    client.pubcomp(b);
    await client.expectNothing();
    expect(broker.broker.levels().inflightMessages).toBe(1);
    client.pubrec(a);
    expect((await client.expectPacket('pubrel')).messageId).toBe(a);
    client.pubcomp(a);
    await client.expectNothing();
    expect(broker.broker.levels().inflightMessages).toBe(0);
  },
);

test.each(sessions)(
  '[MQTT-4.3.3-8][MQTT-4.3.3-10][MQTT-4.3.3-11][MQTT-4.3.3-12][MQTT3-4.3.3-2] QoS 2 from a client: repeats get PUBREC and are not delivered until PUBREL (version $version, $session session)',
  async ({ fields }) => {
    await using broker = await TestBroker.start();
    await using subscriber = await broker.client();
    await subscriber.subscribe('t', { qos: 0 });
    await using client = await broker.client(fields);
    const publish = async (payload: string, dup: boolean) => {
      client.publish({ topic: 't', qos: 2, messageId: 9, dup, payload });
      expect((await client.expectPacket('pubrec')).messageId).toBe(9);
    };
    await publish('first', false);
    // The subscriber has it before PUBREL.
    expect(await payloads(subscriber)).toEqual(['first']);
    for (const dup of [true, false, true, true]) await publish('first', dup);
    client.pubrel(9);
    expect(await client.expectPacket('pubcomp')).toMatchObject({ messageId: 9 });
    await publish('second', true);
    client.pubrel(9);
    expect(await client.expectPacket('pubcomp')).toMatchObject({ messageId: 9 });
    client.pubrel(9);
    const { messageId, raw } = await client.expectPacket('pubcomp');
    expect(messageId).toBe(9);
    expect(raw.subarray(4).toString('hex')).toBe(fields.version === 5 ? '92' : '');
    expect(await payloads(subscriber)).toEqual(['second']);
    await client.expectNothing();
  },
);

test('[MQTT-4.3.3-9] after PUBREC with a reason of 0x80 or more the packet id is a new message', async () => {
  await using broker = await TestBroker.start();
  await using subscriber = await broker.client();
  await subscriber.subscribe('#');
  for (const clean of [true, false]) {
    await using client = await broker.client({
      clean,
      properties: { sessionExpiryInterval: clean ? 0 : 60 },
    });
    client.publish({ topic: '$forbidden', qos: 2, messageId: 5 });
    expect(await client.expectPacket('pubrec')).toMatchObject({ messageId: 5, reasonCode: 0x87 });
    client.publish({ topic: 't', qos: 2, messageId: 5, payload: 'new' });
    expect(await client.expectPacket('pubrec')).toMatchObject({ messageId: 5, reasonCode: 0 });
    await subscriber.expectPublish({ payload: 'new' });
    client.pubrel(5);
    expect(await client.expectPacket('pubcomp')).toMatchObject({ reasonCode: 0 });
  }
});

test('[MQTT-4.3.3-13] the handshake of a message that has expired goes on, in both directions', async () => {
  await using broker = await TestBroker.start();
  await using subscriber = await broker.client({ properties: { receiveMaximum: 1 } });
  await subscriber.subscribe('t', { qos: 2 });
  await using client = await broker.client();
  const properties = { messageExpiryInterval: 1 };
  client.publish({ topic: 't', qos: 2, messageId: 1, properties });
  await client.expectPacket('pubrec');
  const { messageId } = await subscriber.expectPublish({ qos: 2 });
  await new Promise((resolve) => setTimeout(resolve, 1_050));
  client.publish({ topic: 't', qos: 2, messageId: 1, dup: true, properties });
  expect(await client.expectPacket('pubrec')).toMatchObject({ messageId: 1, reasonCode: 0 });
  client.pubrel(1);
  expect(await client.expectPacket('pubcomp')).toMatchObject({ messageId: 1, reasonCode: 0 });
  subscriber.pubrec(messageId!);
  expect(await subscriber.expectPacket('pubrel')).toMatchObject({ messageId });
  subscriber.pubcomp(messageId!);
  await subscriber.expectNothing();
});

test.each(versions)(
  '[MQTT-2.2.1-5][MQTT-2.2.1-6][MQTT3-2.3.1-6][MQTT3-2.3.1-7] packet ids of a client and of the server are two sets: the same id in both directions at once (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    const suback = await client.subscribe('t', { qos: 2, messageId: 1 });
    expect(suback.messageId).toBe(1);
    client.publish({ topic: 't', qos: 2, messageId: 1, payload: 'x' });
    const packets = [await client.expectPacket(), await client.expectPacket()];
    expect(packets.map(({ cmd, messageId }) => [cmd, messageId]).sort()).toEqual([
      ['publish', 1],
      ['pubrec', 1],
    ]);
    client.pubrec(1);
    expect(await client.expectPacket('pubrel')).toMatchObject({ messageId: 1 });
    client.pubrel(1);
    expect(await client.expectPacket('pubcomp')).toMatchObject({ messageId: 1 });
    client.pubcomp(1);
    expect((await client.unsubscribe('t', 0xffff)).messageId).toBe(0xffff);
    await client.expectNothing();
  },
);
