import { expect, test } from '@jest/globals';
import { SeededRandom } from '@shoalmq/testkit';
import type { TestBroker } from '@shoalmq/testkit';
import type { Field } from '../conformance/bytes.ts';
import { bytes, packet, properties, sized, uint16, uint32 } from '../conformance/bytes.ts';
import { attack, ended } from './attack.ts';

const protocolErrors = ({ connectionsClosed }: TestBroker['broker']['counters']) =>
  connectionsClosed.protocol_error;
const id = uint16(7);

/** A valid packet of each kind that a connected 5.0 client may send. */
const valid: readonly Buffer[] = [
  packet(0x30, 't', properties(0x01, 1, 0x26, 'a', 'b', 0x09, sized(Buffer.of(1))), Buffer.of(1)),
  packet(0x32, 't', id, 0, Buffer.of(1)),
  packet(0x34, 't', id, 0, Buffer.of(1)),
  packet(0x40, id),
  packet(0x50, id, 0x80, properties(0x1f, 'why')),
  packet(0x62, id),
  packet(0x70, id),
  packet(0x82, id, properties(0x0b, 5), 'a/+', 1),
  packet(0xa2, id, 0, 'a/+'),
  packet(0xc0),
  packet(0xe0, 0, properties(0x11, uint32(0))),
];
const connectPacket = packet(0x10, 'MQTT', 5, 2, 0, 0, 0, 'fuzz');

test('ATTACK 1: random and mutated bytes end at most the connection they came on', async () => {
  const random = new SeededRandom(20_261_121);
  await attack({ counted: protocolErrors }, async ({ broker }) => {
    for (let round = 0; round < 150; round++) {
      await using client = await broker.open();
      client.stream.on('error', () => undefined);
      const mutated = Buffer.concat([
        ...(random.integer(4) === 0 ? [] : [connectPacket]),
        ...Array.from({ length: 20 }, () => valid[random.integer(valid.length)]!),
      ]);
      for (let i = random.integer(8); i >= 0; i--) {
        mutated[random.integer(mutated.length)] = random.integer(256);
      }
      const cut = random.integer(mutated.length);
      client.send(mutated.subarray(0, cut));
      client.send(mutated.subarray(cut));
      client.end();
      await ended(client);
    }
  });
}, 20_000);

test('ATTACK 1: every packet cut off at every byte, and split at every byte', async () => {
  await attack(
    { counted: ({ connectionsClosed }) => connectionsClosed.client_eof },
    async ({ broker }) => {
      for (const whole of [connectPacket, ...valid]) {
        for (let cut = 1; cut < whole.length; cut++) {
          await using client = await broker.open();
          if (whole !== connectPacket) client.send(connectPacket);
          client.send(whole.subarray(0, cut));
          client.end();
          await ended(client);
        }
      }
      await using client = await broker.open();
      for (const byte of Buffer.concat([connectPacket, ...valid.slice(0, -1)])) {
        client.send(Buffer.of(byte));
      }
      await client.roundTrip();
      client.disconnect();
    },
  );
}, 20_000);

test('ATTACK 2: a packet above Maximum Packet Size is refused by its fixed header alone', async () => {
  await attack(
    { counted: protocolErrors, config: { limits: { packetBytesMax: 1_000 } } },
    async ({ broker }) => {
      await using client = await broker.client();
      expect(client.connack.properties).toMatchObject({ maximumPacketSize: 1_000 });
      client.send('30 ff ff ff 7f');
      await client.expectDisconnect(0x95);
    },
  );
});

test.each<[string, Buffer]>([
  ['PUBLISH', packet(0x30, 't', 0)],
  ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n')],
  ['TLS', Buffer.from('160301020001000001fc0303', 'hex')],
  ['a CONNECT that announces 256 MB', Buffer.from('10ffffff7f00044d515454', 'hex')],
  ['a CONNECT above its cap', Buffer.from('10ffff04', 'hex')],
])('ATTACK 3: %s as the first packet is not waited for', async (_, first) => {
  await attack({ counted: protocolErrors }, async ({ broker }) => {
    await using client = await broker.open();
    client.send(first);
    await ended(client);
    expect(client.received.every(({ cmd }) => cmd === 'connack')).toBe(true);
  });
});

const string = (text: string | Buffer): Buffer =>
  typeof text === 'string' ? bytes(text) : sized(text);

test.each<[row: number, what: string, reasonCode: number, sent: Buffer]>([
  [4, 'a remaining length of five bytes', 0x81, Buffer.from('30ffffffff01', 'hex')],
  [4, 'a remaining length with padding', 0x81, Buffer.from('c08000', 'hex')],
  [4, 'a property length beyond the packet', 0x81, packet(0x30, 't', 0x20, 0x01, 1)],
  [4, 'a property length of five bytes', 0x81, packet(0x30, 't', 0xff, 0xff, 0xff, 0xff, 0x01)],
  [5, 'CONNACK', 0x82, packet(0x20, 0, 0, 0)],
  [5, 'SUBACK', 0x82, packet(0x90, id, 0, 0)],
  [5, 'UNSUBACK', 0x82, packet(0xb0, id, 0, 0)],
  [5, 'PINGRESP', 0x82, packet(0xd0)],
  [5, 'the reserved type', 0x81, packet(0x00)],
  [5, 'PUBREL with wrong flags', 0x81, packet(0x60, id)],
  [5, 'SUBSCRIBE with wrong flags', 0x81, packet(0x80, id, 0, 't', 0)],
  [5, 'AUTH without a method', 0x82, packet(0xf0, 0x18, properties(0x15, 'x'))],
  ...['c328', 'c0af', 'e08080', 'eda080', 'f5808080', 'ff', '80', 'f0828282'].flatMap(
    (hex): [number, string, number, Buffer][] => {
      const bad = string(Buffer.from(hex, 'hex'));
      return [
        [6, `${hex} in a topic`, 0x81, packet(0x30, bad, 0)],
        [6, `${hex} in a filter`, 0x81, packet(0x82, id, 0, bad, 0)],
        [6, `${hex} in a user property`, 0x81, packet(0x30, 't', properties(0x26, 'a', bad))],
        [6, `${hex} in a response topic`, 0x81, packet(0x30, 't', properties(0x08, bad))],
      ];
    },
  ),
  [7, 'U+0000 in a topic', 0x81, packet(0x30, 'a\0', 0)],
  [7, 'U+0000 in a filter', 0x81, packet(0x82, id, 0, 'a\0', 0)],
  [7, 'U+0000 in an unsubscribed filter', 0x81, packet(0xa2, id, 0, 'a\0')],
  [7, 'U+0000 in a content type', 0x81, packet(0x30, 't', properties(0x03, 'a\0'))],
  [7, 'U+0000 in a reason string', 0x81, packet(0xe0, 4, properties(0x1f, 'a\0'))],
  [8, 'an empty topic without alias', 0x82, packet(0x30, '', 0)],
  [8, '+ in a topic', 0x90, packet(0x30, 'a/+', 0)],
  [8, '# in a topic', 0x90, packet(0x30, '#', 0)],
  [8, '# in a response topic', 0x90, packet(0x30, 't', properties(0x08, '#'))],
  [9, 'a property twice', 0x82, packet(0x30, 't', properties(0x01, 1, 0x01, 1))],
  [9, 'a property of another packet', 0x82, packet(0x30, 't', properties(0x21, uint16(5)))],
  [9, 'a boolean property of 2', 0x82, packet(0x30, 't', properties(0x01, 2))],
  [9, 'an unknown property', 0x81, packet(0x30, 't', properties(0x7f, 1))],
  [10, 'topic alias 0', 0x94, packet(0x30, 't', properties(0x23, uint16(0)))],
  [10, 'a topic alias above the maximum', 0x94, packet(0x30, 't', properties(0x23, uint16(11)))],
  [10, 'a topic alias never set', 0x82, packet(0x30, '', properties(0x23, uint16(1)))],
  [14, 'a second CONNECT', 0x82, connectPacket],
  [38, 'packet identifier 0', 0x82, packet(0x32, 't', uint16(0), 0)],
  [38, 'DUP at QoS 0', 0x82, packet(0x38, 't', 0)],
  [55, 'Session Expiry raised from 0', 0x82, packet(0xe0, 0, properties(0x11, uint32(60)))],
])('ATTACK %i: %s ends the connection with the right code', async (_, __, reasonCode, sent) => {
  await attack({ counted: protocolErrors }, async ({ broker }) => {
    await using witness = await broker.client();
    await witness.subscribe(['t', 'a', 'a/+']);
    await using client = await broker.client();
    client.send(sent);
    // Not processed, whatever it is.
    client.send(packet(0x30, 't', 0));
    const disconnect = await client.expectPacket('disconnect');
    expect(disconnect.reasonCode).toBe(reasonCode);
    expect(await client.expectClose()).toBe('end');
    await witness.expectNothing();
    witness.disconnect();
  });
});

test.each<[what: string, fields: readonly Field[]]>([
  ['bad UTF-8 in the client id', ['MQTT', 5, 2, 0, 0, 0, sized(Buffer.from('c328', 'hex'))]],
  ['U+0000 in the client id', ['MQTT', 5, 2, 0, 0, 0, 'a\0']],
  ['bad UTF-8 in the user name', ['MQTT', 5, 0x82, 0, 0, 0, 'c', sized(Buffer.of(0xff))]],
  ['U+0000 in the user name', ['MQTT', 5, 0x82, 0, 0, 0, 'c', 'u\0']],
  ['bad UTF-8 in the will topic', ['MQTT', 5, 6, 0, 0, 0, 'c', 0, sized(Buffer.of(0xff)), 'x']],
  ['a will for a filter', ['MQTT', 5, 6, 0, 0, 0, 'c', 0, 'a/#', 'x']],
  ['Will QoS 3', ['MQTT', 5, 0x1e, 0, 0, 0, 'c', 0, 't', 'x']],
  ['Will QoS without will', ['MQTT', 5, 0x0a, 0, 0, 0, 'c']],
  ['Will Retain without will', ['MQTT', 5, 0x22, 0, 0, 0, 'c']],
  ['a will property twice', ['MQTT', 5, 6, 0, 0, 0, 'c', properties(0x01, 1, 0x01, 1), 't', 'x']],
  [
    'a topic alias in the will',
    ['MQTT', 5, 6, 0, 0, 0, 'c', properties(0x23, uint16(1)), 't', 'x'],
  ],
  ['Receive Maximum 0', ['MQTT', 5, 2, 0, 0, properties(0x21, uint16(0)), 'c']],
  ['a reserved flag', ['MQTT', 5, 3, 0, 0, 0, 'c']],
  ['bytes behind its end', ['MQTT', 5, 2, 0, 0, 0, 'c', 0, 0]],
])('ATTACK 6, 7, 13: a CONNECT with %s gets no session', async (_, fields) => {
  await attack({ counted: protocolErrors }, async ({ broker }) => {
    await using client = await broker.open();
    client.send(packet(0x10, ...fields));
    await ended(client);
    expect(client.received.filter(({ raw }) => raw[0] === 0x20 && raw[3]! < 0x80)).toEqual([]);
    expect(broker.broker.levels().sessionsConnected).toBe(2);
  });
});

test('ATTACK 7: a BOM is kept, and composed is not decomposed', async () => {
  await attack({ counted: ({ publishReceived }) => publishReceived[0] }, async ({ broker }) => {
    await using client = await broker.client();
    await client.subscribe(['x/\u00e9', '\ufeffx/a']);
    for (const topic of ['x/e\u0301', 'x/a', '\ufeffx/a', 'x/\u00e9']) client.publish({ topic });
    await client.roundTrip();
    const topics = client.received.flatMap((each) =>
      each.cmd === 'publish' ? each.raw.toString('hex').slice(8, -2) : [],
    );
    expect(topics).toEqual(
      ['\ufeffx/a', 'x/\u00e9'].map((topic) => Buffer.from(topic).toString('hex')),
    );
    client.disconnect();
  });
});

test('ATTACK 8: misplaced wildcards in filters are refused one by one', async () => {
  await attack({ counted: ({ packetsReceived }) => packetsReceived[8]! }, async ({ broker }) => {
    await using client = await broker.client();
    const filters = ['a/#/b', 'a#', '#a', '##', 'a+', '+a', '++', 'a/b+/c', 'fine'];
    const { granted } = await client.subscribe(filters);
    expect(granted).toEqual(filters.map((filter) => (filter === 'fine' ? 0 : 0x8f)));
    client.disconnect();
  });
});

test('ATTACK 10: topic aliases end with the connection', async () => {
  await attack({ counted: protocolErrors }, async ({ broker }) => {
    for (const topic of ['t', '']) {
      await using client = await broker.client({ clientId: 'aliasing' });
      client.publish({ topic, properties: { topicAlias: 1 } });
      if (topic === '') await client.expectDisconnect(0x82);
      else {
        await client.roundTrip();
        client.disconnect();
      }
    }
  });
});

test('ATTACK 12: a PUBLISH full of user properties arrives whole, in order', async () => {
  await attack({ counted: ({ publishReceived }) => publishReceived[0] }, async ({ broker }) => {
    await using client = await broker.client();
    await client.subscribe('t');
    const many = Array.from({ length: 5_000 }, (_, i) => [0x26, `n${i % 3}`, String(i)]).flat();
    const sent = packet(0x30, 't', properties(...many), Buffer.from('x'));
    client.send(sent);
    const { raw } = await client.expectPublish();
    expect(raw.equals(sent)).toBe(true);
    const long = 'n'.repeat(60_000);
    const large = packet(0x30, 't', properties(0x26, long, long, 0x26, long, long));
    client.send(large);
    expect((await client.expectPublish()).raw.equals(large)).toBe(true);
    client.send(
      packet(0x30, 't', properties(...Array.from({ length: 10 }, () => [0x26, long, long]).flat())),
    );
    await client.expectDisconnect(0x95);
  });
});

test('ATTACK 13: a huge will does not fit the cap of CONNECT', async () => {
  await attack({ counted: protocolErrors }, async ({ broker }) => {
    await using client = await broker.open();
    client.send(packet(0x10, 'MQTT', 5, 6, 0, 0, 0, 'c', 0, 't', sized(Buffer.alloc(65_535))));
    await ended(client);
    expect(broker.broker.levels().sessionsConnected).toBe(2);
  });
});

test('ATTACK 55: correlation data of 64 KB and the longest expiry pass through', async () => {
  await attack(
    { counted: ({ publishReceived }) => publishReceived[1], leaves: ['retainedMessages'] },
    async ({ broker }) => {
      await using client = await broker.client();
      await client.subscribe('t', { qos: 1 });
      const correlationData = Buffer.alloc(65_535, 1);
      const fields = { correlationData, messageExpiryInterval: 0xffff_ffff };
      client.publish({ topic: 't', qos: 1, retain: true, properties: fields });
      const [first, second] = [await client.expectPacket(), await client.expectPacket()];
      const publish = first.cmd === 'publish' ? first : second;
      expect(publish).toMatchObject({ properties: fields });
      client.puback((publish as { messageId?: number }).messageId!);
      client.disconnect();
    },
  );
});
