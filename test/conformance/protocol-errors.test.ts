import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import { bytes, packet, properties, sized, uint16, uint32 } from './bytes.ts';

const publish = packet(0x30, 'a', 0);

// What a 5.0 client must not send, and the reason code that the standard has for it.
test.each<[string, Uint8Array, number]>([
  ['packet type 0', packet(0x00), 0x81],
  ['CONNACK', packet(0x20, 0, 0, 0), 0x82],
  ['SUBACK', packet(0x90, 0, 1, 0, 0), 0x82],
  ['UNSUBACK', packet(0xb0, 0, 1, 0, 0), 0x82],
  ['PINGRESP', packet(0xd0), 0x82],
  ['PINGREQ with a body', packet(0xc0, 0), 0x81],
  ['PUBLISH with QoS 3', packet(0x36, 'a', 0, 1, 0), 0x81],
  ['PUBLISH without topic', packet(0x30), 0x81],
  ['PUBLISH that ends within its properties', packet(0x30, 'a', 5, 1), 0x81],
  ['PUBLISH with an unknown property', packet(0x30, 'a', properties(0x7e, 0)), 0x81],
  ['PUBLISH with a property of CONNECT', packet(0x30, 'a', properties(0x21, 0, 1)), 0x82],
  [
    'PUBLISH with a property twice',
    packet(0x30, 'a', properties(0x02, uint32(1), 0x02, uint32(1))),
    0x82,
  ],
  ['PUBLISH to nothing', packet(0x30, '', 0), 0x82],
  ['PUBLISH to a wildcard', packet(0x30, 'a/#', 0), 0x90],
  ['SUBSCRIBE without filter', packet(0x82, 0, 1, 0), 0x82],
  ['SUBSCRIBE that ends within a filter', packet(0x82, 0, 1, 0, 0, 5, 0x61), 0x81],
  ['UNSUBSCRIBE without filter', packet(0xa2, 0, 1, 0), 0x82],
  ['PUBACK that is too short', packet(0x40, 0), 0x81],
  ['PUBACK with bytes left over', packet(0x40, 0, 1, 0, 0, 9), 0x81],
  ['PUBREC with a reason code of SUBACK', packet(0x50, 0, 1, 1), 0x82],
  ['Remaining Length of five bytes', bytes(0x30, 0x80, 0x80, 0x80, 0x80, 0x01), 0x81],
])(
  '[MQTT-4.13.1-1][MQTT-4.13.2-1] %s closes the connection, with DISCONNECT and the reason',
  async (_, wrong, reasonCode) => {
    await using broker = await TestBroker.start();
    await using bystander = await broker.client();
    await bystander.subscribe('a');
    await using client = await broker.client();
    client.send(bytes(publish, wrong, publish));
    await client.expectDisconnect(reasonCode);
    // What came before is carried out, what came behind is not, and others are not disturbed.
    await bystander.expectPublish({ topic: 'a' });
    await bystander.expectNothing();
  },
);

test.each([3, 4] as const)(
  '[MQTT3-4.8.0-1] a protocol violation closes the connection it came on, and no other (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    const violations = [
      packet(0x00),
      packet(0x20, 0, 0),
      packet(0x90, 0, 1, 0),
      packet(0xb0, 0, 1),
      packet(0xd0),
      packet(0xf0),
      packet(0xc0, 0),
      packet(0x36, 'a', 0, 1),
      packet(0x30, ''),
      packet(0x30, 'a/+'),
      packet(0x82, 0, 1),
      packet(0xa2, 0, 1),
      packet(0x40, 0, 1, 0),
      bytes(0x30, 0x80, 0x80, 0x80, 0x80, 0x01),
    ];
    await using bystander = await broker.client({ version });
    for (const wrong of violations) {
      await using client = await broker.client({ version });
      client.send(wrong);
      expect(await client.expectClose()).toBe('end');
    }
    await bystander.expectNothing();
  },
);

test('a failed authentication closes the connection it happened on, and no other', async () => {
  let down = false;
  await using broker = await TestBroker.start({
    hooks: {
      authenticate: () => {
        if (down) throw new Error('the directory is down');
        return true;
      },
    },
  });
  await using bystander = await broker.client({ version: 4 });
  down = true;
  await using client = await broker.client({ version: 4, clientId: 'id' });
  expect(client.connack.returnCode).toBe(5);
  await client.expectClose();
  await bystander.expectNothing();
  down = false;
  await using again = await broker.client({ version: 4, clientId: 'id' });
  expect(again.connack.returnCode).toBe(0);
});

test('[MQTT-4.13.1-1] a client that goes on writing reads the DISCONNECT, and is cut off when it does not stop', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  const ended = new Promise<void>((resolve) => client.stream.once('end', resolve));
  const closed = new Promise<void>((resolve) => client.stream.once('close', resolve));
  client.send('00 00');
  const chunk = Buffer.alloc(65_536, publish);
  const flood = setInterval(() => {
    if (client.stream.writable && client.stream.writableLength < 1_000_000) {
      client.stream.write(chunk);
    }
  }, 5);
  try {
    const { reasonCode } = await client.expectPacket('disconnect');
    expect(reasonCode).toBe(0x81);
    // Half-closed: what is sent now is read and thrown away, for a while.
    await ended;
    await closed;
  } finally {
    clearInterval(flood);
  }
});

test('a malformed packet cut off anywhere is not taken for another', async () => {
  await using broker = await TestBroker.start();
  await using watcher = await broker.client();
  await watcher.subscribe('#');
  const whole = packet(
    0x32,
    'topic',
    uint16(7),
    properties(0x26, 'name', 'value'),
    sized(Buffer.of(1)),
  );
  for (let length = 1; length < whole.length; length++) {
    await using client = await broker.client();
    client.send(whole.subarray(0, length));
    client.end();
    await client.expectClose();
  }
  await watcher.expectNothing();
});

test('[MQTT-4.2-1][MQTT3-7.1.1-1] bytes may come in pieces of any size, in order and without loss', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await client.subscribe('a');
  const payloads = Array.from({ length: 40 }, (_, i) => String(i).repeat(i));
  const stream = Buffer.concat(payloads.map((text) => packet(0x30, 'a', 0, Buffer.from(text))));
  let at = 0;
  for (let size = 1; at < stream.length; size = (size % 13) + 1) {
    client.send(stream.subarray(at, at + size));
    at += size;
    await new Promise(setImmediate);
  }
  for (const payload of payloads) await client.expectPublish({ topic: 'a', payload });
  await client.expectNothing();
});
