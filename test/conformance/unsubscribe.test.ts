import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;

test.each(versions)(
  '[MQTT-3.10.4-4][MQTT-3.10.4-5][MQTT3-3.10.4-4][MQTT3-3.10.4-5] UNSUBACK has the packet id of UNSUBSCRIBE, also when nothing was deleted (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    await client.subscribe('a');
    const deleted = await client.unsubscribe('a', 0xabcd);
    expect(deleted.raw.toString('hex')).toBe(version === 5 ? 'b004abcd0000' : 'b002abcd');
    const nothing = await client.unsubscribe('a', 0x0102);
    expect(nothing.raw.toString('hex')).toBe(version === 5 ? 'b00401020011' : 'b0020102');
    await client.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-3.10.4-6][MQTT3-3.10.4-6] several filters act like one packet each, but with a single UNSUBACK (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    await client.subscribe(['a', 'b', 'c']);
    await client.unsubscribe(['a', 'c', 'x']);
    for (const topic of ['a', 'b', 'c']) await client.publishFully({ topic });
    await client.expectPublish({ topic: 'b' });
    await client.expectNothing();
  },
);

test('[MQTT-3.11.3-1][MQTT-3.11.3-2] UNSUBACK has a reason code for each filter, in order', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await client.subscribe(['a', 'b/+', '$share/g/c']);
  const { granted } = await client.unsubscribe([
    'x',
    'a',
    'b/#',
    'a',
    '$share/g/c',
    'c',
    'b/+',
    '#/bad',
  ]);
  expect(granted).toEqual([0x11, 0, 0x11, 0x11, 0, 0x11, 0, 0x11]);
});

test.each(versions)(
  '[MQTT-3.10.4-1][MQTT3-3.10.4-1] a filter is compared character by character, wildcards do not expand (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    await client.subscribe(['a/+', 'a/b', '$share/g/a/b']);
    await client.unsubscribe(['#', 'a/#', '+/b', 'A/b', 'a/b/', '/a/b', 'a/c', '$share/h/a/b']);
    await client.publishFully({ topic: 'a/c' });
    await client.expectPublish({ topic: 'a/c' });
    await client.unsubscribe('a/+');
    await client.publishFully({ topic: 'a/c' });
    await client.expectNothing();
    // Shared and not shared are two subscriptions, and a message comes for each.
    await client.publishFully({ topic: 'a/b' });
    await client.expectPublish({ topic: 'a/b' });
    await client.expectPublish({ topic: 'a/b' });
    await client.unsubscribe('a/b');
    await client.publishFully({ topic: 'a/b' });
    await client.expectPublish({ topic: 'a/b' });
    await client.unsubscribe('$share/g/a/b');
    await client.publishFully({ topic: 'a/b' });
    await client.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-3.10.4-2][MQTT3-3.10.4-2] after UNSUBACK no new messages are added, live or queued (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    const session = {
      version,
      clientId: 'gone',
      clean: false,
      ...(version === 5 && { properties: { sessionExpiryInterval: 60 } }),
    };
    {
      await using client = await broker.client(session);
      await client.subscribe(['t', 'u'], { qos: 2 });
      await client.unsubscribe('t');
      await publisher.publishFully({ topic: 't', qos: 2 });
      await client.expectNothing();
    }
    await publisher.publishFully({ topic: 't', qos: 1 });
    await publisher.publishFully({ topic: 'u', qos: 1 });
    await using back = await broker.client(session);
    await back.expectPublish({ topic: 'u', acknowledge: true });
    await back.expectNothing();
  },
);

test.each([
  { version: 3, clean: true },
  { version: 4, clean: true },
  { version: 5, clean: true },
  { version: 4, clean: false },
  { version: 5, clean: false },
] as const)(
  '[MQTT-3.10.4-3][MQTT3-3.10.4-3] a delivery begun before UNSUBSCRIBE is completed (version $version, clean $clean)',
  async ({ version, clean }) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    await using client = await broker.client({
      version,
      clean,
      clientId: 'completing',
      ...(version === 5 && { properties: { sessionExpiryInterval: clean ? 0 : 60 } }),
    });
    await client.subscribe('t', { qos: 2 });
    await publisher.publishFully({ topic: 't', payload: 'once', qos: 1 });
    await publisher.publishFully({ topic: 't', payload: 'exactly once', qos: 2 });
    await publisher.publishFully({ topic: 't', payload: 'half way', qos: 2 });
    const first = await client.expectPublish({ qos: 1 });
    const second = await client.expectPublish({ qos: 2 });
    const third = await client.expectPublish({ qos: 2 });
    client.pubrec(third.messageId!);
    expect((await client.expectPacket('pubrel')).messageId).toBe(third.messageId);

    await client.unsubscribe('t');
    client.puback(first.messageId!);
    client.pubrec(second.messageId!);
    expect((await client.expectPacket('pubrel')).messageId).toBe(second.messageId);
    client.pubcomp(second.messageId!);
    client.pubcomp(third.messageId!);
    await client.expectNothing();
  },
);

test('[MQTT-3.10.4-3] what was sent and not acknowledged is sent again to a session that has unsubscribed since', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  const session = { clientId: 's', clean: false, properties: { sessionExpiryInterval: 60 } };
  let packetId: number;
  {
    await using client = await broker.client(session);
    await client.subscribe('t', { qos: 1 });
    await publisher.publishFully({ topic: 't', payload: 'begun', qos: 1 });
    packetId = (await client.expectPublish()).messageId!;
    await client.unsubscribe('t');
  }
  await using back = await broker.client(session);
  await back.expectPublish({
    payload: 'begun',
    dup: true,
    messageId: packetId,
    acknowledge: true,
  });
  await back.expectNothing();
});

test('[MQTT-3.11.2-1][MQTT-3.11.2-2] UNSUBACK has no properties, so that it fits what the client can take', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client({
    properties: { maximumPacketSize: 64, requestProblemInformation: true },
  });
  const { raw } = await client.unsubscribe(['a', 'b', 'c']);
  expect([...raw]).toEqual([0xb0, 6, raw[2], raw[3], 0, 0x11, 0x11, 0x11]);
});
