import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ByteClient, WireVersion } from '@shoalmq/testkit';
import { packet, properties, uint16 } from './bytes.ts';

const versions = [3, 4, 5] as const;

/** A subscriber to which one message at `qos` is on its way. */
async function receiving(
  broker: TestBroker,
  qos: 1 | 2,
  version: WireVersion = 5,
): Promise<ByteClient> {
  const client = await broker.client({ version });
  await client.subscribe('t', { qos });
  await broker.broker.publish({ topic: 't', payload: 'x', qos });
  return client;
}

test('[MQTT-3.4.2-1][MQTT-4.4.0-2] PUBACK with any of its reason codes ends the delivery', async () => {
  await using broker = await TestBroker.start();
  for (const reasonCode of [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]) {
    await using client = await receiving(broker, 1);
    const { messageId = 0 } = await client.expectPublish();
    client.send(packet(0x40, uint16(messageId), reasonCode));
    await client.expectNothing();
    expect(broker.broker.levels().inflightMessages).toBe(0);
  }
});

test('[MQTT-3.5.2-1][MQTT-4.3.3-4] PUBREC below 0x80 is answered with PUBREL, from 0x80 on it ends the delivery', async () => {
  await using broker = await TestBroker.start();
  for (const reasonCode of [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]) {
    await using client = await receiving(broker, 2);
    const { messageId = 0 } = await client.expectPublish();
    client.send(packet(0x50, uint16(messageId), reasonCode));
    if (reasonCode < 0x80) {
      const { raw } = await client.expectPacket('pubrel');
      expect(raw.toString('hex')).toBe(packet(0x62, uint16(messageId)).toString('hex'));
      client.pubcomp(messageId);
    }
    await client.expectNothing();
    expect(broker.broker.levels().inflightMessages).toBe(0);
  }
});

test('[MQTT-3.7.2-1] PUBCOMP with any of its reason codes ends the delivery', async () => {
  await using broker = await TestBroker.start();
  for (const reasonCode of [0x00, 0x92]) {
    await using client = await receiving(broker, 2);
    const { messageId = 0 } = await client.expectPublish();
    client.pubrec(messageId);
    await client.expectPacket('pubrel');
    client.send(packet(0x70, uint16(messageId), reasonCode));
    await client.expectNothing();
    expect(broker.broker.levels().inflightMessages).toBe(0);
  }
});

test.each([
  { name: 'PUBACK', first: 0x40, reasonCode: 0x92 },
  { name: 'PUBREC', first: 0x50, reasonCode: 0x82 },
  { name: 'PUBREL', first: 0x62, reasonCode: 0x80 },
  { name: 'PUBCOMP', first: 0x70, reasonCode: 0x10 },
])(
  '[MQTT-3.4.2-1][MQTT-3.5.2-1][MQTT-3.6.2-1][MQTT-3.7.2-1] $name with a reason code of another packet is refused',
  async ({ first, reasonCode }) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client();
    client.send(packet(first, uint16(1), reasonCode));
    await client.expectDisconnect(0x82);
  },
);

// MQTT 3.1 marks a repeated PUBREL with DUP.
const pubrelBytes = versions.flatMap((version) =>
  (version === 3 ? [0x60, 0x61] : [0x60, 0x61, 0x6a]).map((first) => ({ version, first })),
);

test.each(pubrelBytes)(
  '[MQTT-3.6.1-1][MQTT3-3.6.1-1] PUBREL with other flags than 0010 is malformed (version $version, first byte $first)',
  async ({ version, first }) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    client.send(packet(first, uint16(1)));
    await client.expectDisconnect(0x81);
  },
);

test('in MQTT 3.1 a repeated PUBREL has DUP', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client({ version: 3 });
  client.send(packet(0x6a, uint16(1)));
  await client.expectPacket('pubcomp');
});

test.each(
  versions.flatMap((version) => [0x40, 0x50, 0x62, 0x70].map((first) => ({ version, first }))),
)(
  'an acknowledgement that is too short or has packet id 0 is refused (version $version, first byte $first)',
  async ({ version, first }) => {
    await using broker = await TestBroker.start();
    for (const [body, reasonCode] of [
      [Buffer.of(1), 0x81],
      [uint16(0), 0x82],
    ] as const) {
      await using client = await broker.client({ version });
      client.send(packet(first, body));
      await client.expectDisconnect(reasonCode);
    }
  },
);

test('reason string and user properties of acknowledgements are accepted, once and more than once', async () => {
  await using broker = await TestBroker.start();
  await using client = await receiving(broker, 1);
  const { messageId = 0 } = await client.expectPublish();
  const told = properties(0x1f, 'why', 0x26, 'a', '1', 0x26, 'a', '2');
  client.send(packet(0x40, uint16(messageId), 0, told));
  await client.expectNothing();
  client.send(packet(0x40, uint16(messageId), 0, properties(0x1f, 'why', 0x1f, 'again')));
  await client.expectDisconnect(0x82);
});

test(
  '[MQTT-3.4.2-2][MQTT-3.4.2-3][MQTT-3.5.2-2][MQTT-3.5.2-3][MQTT-3.6.2-2][MQTT-3.6.2-3][MQTT-3.7.2-2][MQTT-3.7.2-3] ' +
    'acknowledgements of the server have no Reason String and no User Properties, so that they fit',
  async () => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ properties: { maximumPacketSize: 30 } });
    client.publish({ topic: 'nobody', qos: 1, messageId: 1 });
    expect((await client.expectPacket('puback')).raw.toString('hex')).toBe('4003000110');
    client.publish({ topic: '$SYS/x', qos: 1, messageId: 2 });
    expect((await client.expectPacket('puback')).raw.toString('hex')).toBe('4003000287');
    client.publish({ topic: '$SYS/x', qos: 2, messageId: 3 });
    expect((await client.expectPacket('pubrec')).raw.toString('hex')).toBe('5003000387');
    client.pubrel(4);
    expect((await client.expectPacket('pubcomp')).raw.toString('hex')).toBe('7003000492');
    client.pubrec(5);
    expect((await client.expectPacket('pubrel')).raw.toString('hex')).toBe('6203000592');
  },
);

test.each(versions)(
  'acknowledgements of unknown packet ids are no reason to end a connection (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    client.puback(1);
    client.pubcomp(2);
    await client.expectNothing();
    client.pubrec(3);
    const pubrel = await client.expectPacket('pubrel');
    expect(pubrel.messageId).toBe(3);
    client.pubcomp(3);
    client.pubrel(4);
    const pubcomp = await client.expectPacket('pubcomp');
    expect(pubcomp.messageId).toBe(4);
    if (version === 5) expect([pubrel.reasonCode, pubcomp.reasonCode]).toEqual([0x92, 0x92]);
    else expect([pubrel.raw.length, pubcomp.raw.length]).toEqual([4, 4]);
    await client.expectNothing();
  },
);

test.each(
  versions.flatMap((version) =>
    (
      [
        { qos: 1, cmd: 'pubrec' },
        { qos: 1, cmd: 'pubcomp' },
        { qos: 2, cmd: 'puback' },
        { qos: 2, cmd: 'pubcomp' },
      ] as const
    ).map((row) => ({ version, ...row })),
  ),
)(
  'a $cmd for a message of QoS $qos is a protocol error (version $version)',
  async ({ version, qos, cmd }) => {
    await using broker = await TestBroker.start();
    await using client = await receiving(broker, qos, version);
    const { messageId = 0 } = await client.expectPublish();
    client[cmd](messageId);
    await client.expectDisconnect(0x82);
  },
);

test.each(versions)(
  'a PUBREC at QoS 1 is one for a persistent session too (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({
      version,
      clean: false,
      ...(version === 5 ? { properties: { sessionExpiryInterval: 60 } } : {}),
    });
    await client.subscribe('t', { qos: 1 });
    await broker.broker.publish({ topic: 't', payload: 'x', qos: 1 });
    const { messageId } = await client.expectPublish({ qos: 1 });
    client.pubrec(messageId!);
    await client.expectDisconnect(0x82);
  },
);
