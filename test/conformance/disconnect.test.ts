import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ConnectFields } from '@shoalmq/testkit';
import { bytes, packet, properties, uint32 } from './bytes.ts';

const versions = [3, 4, 5] as const;

const will: Pick<ConnectFields, 'will'> & object = {
  will: { topic: 'will', payload: Buffer.from('gone'), qos: 0, retain: false },
};

test.each(versions)(
  '[MQTT-3.14.4-3][MQTT3-3.14.4-3] DISCONNECT discards the will; the server closes the connection (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watcher = await broker.client();
    await watcher.subscribe('will');
    await using client = await broker.client({ version, ...will });
    client.send('e0 00');
    expect(await client.expectClose()).toBe('end');
    await watcher.expectNothing();
  },
);

test('[MQTT-3.14.4-3] DISCONNECT 0x00 may be written in two more ways', async () => {
  await using broker = await TestBroker.start();
  await using watcher = await broker.client();
  await watcher.subscribe('will');
  for (const disconnect of ['e0 01 00', 'e0 02 00 00']) {
    await using client = await broker.client({ ...will });
    client.send(disconnect);
    expect(await client.expectClose()).toBe('end');
  }
  await watcher.expectNothing();
});

// Those a client may send but for 0x00.
const reasonCodes = [0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];

test.each(reasonCodes)(
  '[MQTT-3.14.2-1][MQTT-4.13.2-1] DISCONNECT %s closes the connection and has the will published',
  async (reasonCode) => {
    await using broker = await TestBroker.start();
    await using watcher = await broker.client();
    await watcher.subscribe('will');
    await using client = await broker.client({ ...will });
    client.send(packet(0xe0, reasonCode));
    expect(await client.expectClose()).toBe('end');
    await watcher.expectPublish({ topic: 'will', payload: 'gone' });
  },
);

test('[MQTT-3.14.2-1] DISCONNECT with a reason code that clients do not have is refused, and the will is published', async () => {
  await using broker = await TestBroker.start();
  await using watcher = await broker.client();
  await watcher.subscribe('will');
  for (const reasonCode of [
    0x01, 0x03, 0x05, 0x10, 0x18, 0x7f, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0xff,
  ]) {
    await using client = await broker.client({ ...will });
    client.send(packet(0xe0, reasonCode));
    await client.expectDisconnect(0x82);
    await watcher.expectPublish({ topic: 'will' });
  }
});

test.each(versions)(
  '[MQTT-3.14.1-1][MQTT3-3.14.1-1] DISCONNECT with reserved flags is malformed and no clean end: the will is published (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watcher = await broker.client();
    await watcher.subscribe('will');
    for (const first of [0xe1, 0xe2, 0xe4, 0xe8, 0xef]) {
      await using client = await broker.client({ version, ...will });
      client.send(packet(first));
      await client.expectDisconnect(0x81);
      await watcher.expectPublish({ topic: 'will' });
    }
  },
);

test.each([3, 4] as const)('DISCONNECT of 3.x has no body (version %s)', async (version) => {
  await using broker = await TestBroker.start();
  await using watcher = await broker.client();
  await watcher.subscribe('will');
  await using client = await broker.client({ version, ...will });
  client.send('e0 02 00 00');
  await client.expectClose();
  await watcher.expectPublish({ topic: 'will' });
});

test.each([
  ['of another packet', properties(0x21, 0, 1), 0x82],
  ['twice', properties(0x11, uint32(1), 0x11, uint32(1)), 0x82],
  ['unknown', properties(0x7e, 0), 0x81],
  ['Server Reference, which only a server has', properties(0x1c, 'elsewhere'), 0x82],
  ['longer than the packet', bytes(9, 0x11), 0x81],
] as const)('DISCONNECT with a property %s is refused', async (_, wrong, reasonCode) => {
  await using broker = await TestBroker.start();
  await using client = await broker.client({ properties: { sessionExpiryInterval: 1 } });
  client.send(packet(0xe0, 0, wrong));
  await client.expectDisconnect(reasonCode);
});

test('DISCONNECT may have a Reason String and User Properties', async () => {
  await using broker = await TestBroker.start();
  await using watcher = await broker.client();
  await watcher.subscribe('will');
  await using client = await broker.client({ ...will });
  client.send(packet(0xe0, 0, properties(0x1f, 'good night', 0x26, 'a', 'b', 0x26, 'a', 'b')));
  expect(await client.expectClose()).toBe('end');
  expect(client.received).toHaveLength(1);
  await watcher.expectNothing();
});

test.each(versions)(
  '[MQTT-3.14.4-1][MQTT-3.14.4-2] nothing that comes behind a DISCONNECT is carried out (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watcher = await broker.client();
    await watcher.subscribe('a');
    await using client = await broker.client({ version });
    const none = version === 5 ? bytes(0) : bytes();
    client.send(bytes(packet(0xe0), packet(0x30, 'a', none), packet(0xc0), packet(0xff)));
    expect(await client.expectClose()).toBe('end');
    expect(client.received).toHaveLength(1);
    await watcher.expectNothing();
  },
);

test('[MQTT-3.14.4-1][MQTT-3.14.4-2] the server sends nothing after its DISCONNECT and closes the connection', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await using publisher = await broker.client();
  await client.subscribe('a', { qos: 1 });
  // One that the client gets before, and one that it would get after.
  client.send(
    bytes(
      packet(0x30, 'a', 0, Buffer.from('before')),
      packet(0x00),
      packet(0x30, 'a', 0, Buffer.from('after')),
      packet(0xc0),
    ),
  );
  await publisher.publishFully({ topic: 'a', qos: 1 });
  await client.expectPublish({ payload: 'before' });
  await client.expectDisconnect(0x81);
  expect(client.received.at(-1)!.cmd).toBe('disconnect');
});

test('[MQTT-3.14.2-2][MQTT-3.14.2-3][MQTT-3.14.2-4] a DISCONNECT of the server has a Reason String if there is room and the client wants it, and nothing else', async () => {
  await using broker = await TestBroker.start();
  const reasonString = 'reserved packet type 0 [§2.1.2]';
  const withReason = packet(0xe0, 0x81, properties(0x1f, reasonString));
  const withoutReason = packet(0xe0, 0x81, 0);
  const cases: [ConnectFields, Buffer][] = [
    [{}, withReason],
    [{ properties: { sessionExpiryInterval: 60 } }, withReason],
    [{ properties: { requestProblemInformation: true } }, withReason],
    [{ properties: { requestProblemInformation: false } }, withoutReason],
    [{ properties: { maximumPacketSize: withReason.length } }, withReason],
    [{ properties: { maximumPacketSize: withReason.length - 1 } }, withoutReason],
    [{ properties: { maximumPacketSize: 16 } }, withoutReason],
  ];
  for (const [fields, expected] of cases) {
    await using client = await broker.client(fields);
    client.send('00 00');
    const { raw } = await client.expectPacket('disconnect');
    expect(raw).toEqual(expected);
    await client.expectClose();
  }
});

test('the server says why it goes: DISCONNECT 0x8B', async () => {
  const broker = await TestBroker.start();
  await using client = await broker.client();
  await using old = await broker.client({ version: 4 });
  const stopped = broker[Symbol.asyncDispose]();
  await Promise.all([client.expectDisconnect(0x8b), old.expectDisconnect(0x8b)]);
  await stopped;
});
