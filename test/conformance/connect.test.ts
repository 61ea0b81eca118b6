import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ByteClient, WireVersion } from '@shoalmq/testkit';
import { bytes, connect, packet, properties, sized, uint16 } from './bytes.ts';

const versions = [3, 4, 5] as const;

/** Sends bytes that must not be answered by anything but the end of the connection. */
async function expectRefusedSilently(broker: TestBroker, first: Uint8Array): Promise<void> {
  await using client = await broker.open();
  client.send(first);
  await client.expectClose();
}

/** Opens a connection, sends the bytes as they are, and expects CONNACK with success. */
async function accepted(
  broker: TestBroker,
  version: WireVersion,
  first: Uint8Array,
): Promise<ByteClient> {
  const client = await broker.open({ version });
  client.send(first);
  const connack = await client.expectPacket('connack');
  expect(connack.raw[3]).toBe(0);
  return client;
}

test('[MQTT-3.1.0-1][MQTT3-3.1.0-1] any first packet but CONNECT closes the connection, unanswered', async () => {
  await using broker = await TestBroker.start();
  const firstPackets = [
    packet(0x20, 0, 0),
    packet(0x30, 'a', 'hello'),
    packet(0x32, 'a', 0, 1, 'hello'),
    ...[0x40, 0x50, 0x62, 0x70].map((first) => packet(first, 0, 1)),
    packet(0x82, 0, 1, 'a', 0),
    packet(0xa2, 0, 1, 'a'),
    packet(0xc0),
    packet(0xe0),
    packet(0xf0, 0x18, properties(0x15, 'M')),
    Buffer.from('GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'),
  ];
  for (const first of firstPackets) await expectRefusedSilently(broker, first);
});

test.each(versions)(
  '[MQTT-3.1.0-2][MQTT3-3.1.0-2] a second CONNECT ends the connection and is not carried out (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version, clientId: 'one' });
    client.sendConnect({ clientId: 'two' });
    await client.expectDisconnect(0x82);
    expect(broker.broker.disconnect('two')).toBe(false);
  },
);

test.each(versions)(
  '[MQTT-3.1.0-2] a second CONNECT right behind the first is found as well (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.open({ version });
    client.send(bytes(connect('one', { version }), connect('one', { version })));
    await client.expectPacket('connack');
    await client.expectDisconnect(0x82);
  },
);

test('[MQTT-3.1.2-1][MQTT3-3.1.2-1] with another protocol name the connection ends, after CONNACK 0x84 at most', async () => {
  await using broker = await TestBroker.start();
  for (const name of ['mqtt', 'MQTT ', 'MQT', '', 'MQTTX', 'AMQP']) {
    await using client = await broker.open();
    client.send(bytes(packet(0x10, name, 5, 2, 0, 0, 0, 'id'), packet(0xc0)));
    const { raw } = await client.expectPacket('connack');
    expect(raw.toString('hex')).toBe('2003008400');
    await client.expectClose();
  }
});

test.each([6, 7, 0x45, 0x84, 0x85, 255])(
  '[MQTT-3.1.2-2] protocol level %s gets CONNACK 0x84 and the end of the connection',
  async (level) => {
    await using broker = await TestBroker.start();
    await using client = await broker.open();
    client.send(bytes(packet(0x10, 'MQTT', level, 2, 0, 0, 0, 'id'), packet(0xc0)));
    const { raw } = await client.expectPacket('connack');
    expect(raw.toString('hex')).toBe('2003008400');
    await client.expectClose();
  },
);

test.each([
  ['MQTT', 0],
  ['MQTT', 2],
  ['MQTT', 3],
  ['MQIsdp', 2],
  ['MQIsdp', 4],
] as const)(
  '[MQTT3-3.1.2-2] %s with level %s, older than what we serve, gets CONNACK 0x01 as 3.1.1 writes it',
  async (name, level) => {
    await using broker = await TestBroker.start();
    await using client = await broker.open({ version: 4 });
    client.send(packet(0x10, name, level, 2, 0, 0, 'id'));
    const { raw } = await client.expectPacket('connack');
    expect(raw.toString('hex')).toBe('20020001');
    await client.expectClose();
  },
);

test.each([4, 5] as const)(
  '[MQTT-3.1.2-3][MQTT3-3.1.2-3] a CONNECT with the reserved flag set is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await expectRefusedSilently(broker, connect('id', { version, flags: 0x03 }));
  },
);

const noProperties = { 3: bytes(), 4: bytes(), 5: bytes(0) };

test.each(versions)(
  '[MQTT-3.1.2-9][MQTT3-3.1.2-9] Will Flag without will topic or payload is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    for (const rest of [[], [noProperties[version]], [noProperties[version], 'topic']]) {
      await expectRefusedSilently(broker, connect('id', { version, flags: 0x06, rest }));
    }
  },
);

test.each([4, 5] as const)(
  '[MQTT-3.1.2-11][MQTT-3.1.2-13][MQTT3-3.1.2-11][MQTT3-3.1.2-13][MQTT3-3.1.2-15] Will QoS, Will Retain and will fields without Will Flag are refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    for (const flags of [0x0a, 0x12, 0x1a, 0x22]) {
      await expectRefusedSilently(broker, connect('id', { version, flags }));
    }
    const rest = [noProperties[version], 'topic', 'payload'];
    await expectRefusedSilently(broker, connect('id', { version, rest }));
  },
);

test.each(versions)(
  '[MQTT-3.1.2-12][MQTT3-3.1.2-14] Will QoS 0, 1 and 2 are accepted, 3 is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    const rest = [noProperties[version], 'topic', 'payload'];
    for (const qos of [0, 1, 2]) {
      const flags = 0x06 | (qos << 3);
      await using client = await accepted(broker, version, connect('id', { version, flags, rest }));
      await client.expectNothing();
    }
    await expectRefusedSilently(broker, connect('id', { version, flags: 0x1e, rest }));
  },
);

test.each([4, 5] as const)(
  '[MQTT-3.1.2-16][MQTT-3.1.2-18][MQTT3-3.1.2-18][MQTT3-3.1.2-20] a user name or password without its flag is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await expectRefusedSilently(broker, connect('id', { version, rest: ['user'] }));
    await expectRefusedSilently(
      broker,
      connect('id', { version, flags: 0x82, rest: ['user', 'password'] }),
    );
  },
);

test.each([4, 5] as const)(
  '[MQTT-3.1.2-17][MQTT-3.1.2-19][MQTT3-3.1.2-19][MQTT3-3.1.2-21] a flag without its user name or password is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await expectRefusedSilently(broker, connect('id', { version, flags: 0x82 }));
    await expectRefusedSilently(broker, connect('id', { version, flags: 0xc2, rest: ['user'] }));
  },
);

test('[MQTT3-3.1.2-22] a password without user name is refused in 3.1.1 and accepted in 5.0', async () => {
  await using broker = await TestBroker.start();
  const fields = { flags: 0x42, rest: ['password'] } as const;
  await expectRefusedSilently(broker, connect('id', { version: 4, ...fields }));
  await using client = await accepted(broker, 5, connect('id', { version: 5, ...fields }));
  await client.expectNothing();
});

test.each(versions)(
  '[MQTT-3.1.3-1][MQTT3-3.1.3-1] client id, will, user name and password are read in this order (version %s)',
  async (version) => {
    const seen: unknown[] = [];
    await using broker = await TestBroker.start({
      hooks: {
        authenticate: ({ clientId, username, password }) => {
          seen.push(clientId, username, password?.toString());
          return true;
        },
      },
    });
    await using watcher = await broker.client({ clientId: 'watcher' });
    await watcher.subscribe('#');
    seen.length = 0;
    const willProperties = version === 5 ? properties(0x03, 'type') : bytes();
    const rest = [willProperties, 'w/t', sized(Buffer.from('gone')), 'user', 'password'];
    {
      await using client = await accepted(
        broker,
        version,
        connect('id', { version, flags: 0xc6, rest }),
      );
      expect(seen).toEqual(['id', 'user', 'password']);
      await client.expectNothing();
    }
    const will = await watcher.expectPublish({ topic: 'w/t', payload: 'gone', qos: 0 });
    expect(will.properties?.contentType).toBe(version === 5 ? 'type' : undefined);
  },
);

test.each(versions)(
  '[MQTT-3.1.3-3][MQTT3-3.1.3-3] a CONNECT that ends before the client id is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await expectRefusedSilently(broker, connect(bytes(), { version }));
    await expectRefusedSilently(broker, connect(bytes(0), { version }));
    await expectRefusedSilently(broker, connect(bytes(0, 3, 0x69, 0x64), { version }));
  },
);

const illFormed = ['c328', 'c080', 'eda080', 'f4908080', 'ff', 'e282', '6100', 'efbf'].map((hex) =>
  sized(Buffer.from(hex, 'hex')),
);

test.each(versions)(
  '[MQTT-3.1.3-4][MQTT3-3.1.3-4] a client id that is not UTF-8 is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    for (const id of illFormed) await expectRefusedSilently(broker, connect(id, { version }));
  },
);

test.each(versions)(
  '[MQTT-3.1.3-11][MQTT3-3.1.3-10] a will topic that is not UTF-8 is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    for (const topic of illFormed) {
      const rest = [noProperties[version], topic, 'payload'];
      await expectRefusedSilently(broker, connect('id', { version, flags: 0x06, rest }));
    }
  },
);

test.each(versions)(
  '[MQTT-3.1.3-12][MQTT3-3.1.3-11] a user name that is not UTF-8 is refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    for (const name of illFormed) {
      await expectRefusedSilently(broker, connect('id', { version, flags: 0x82, rest: [name] }));
    }
  },
);

test.each(versions)(
  'control characters and non-characters in a client id are refused (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    for (const id of ['a\u0001', '\u007f', 'a\u009f', '\ufdd0', 'a\uffff', '\u{1fffe}']) {
      await expectRefusedSilently(broker, connect(id, { version }));
    }
  },
);

test.each(versions)(
  '[MQTT-3.1.3-5][MQTT3-3.1.3-5] client ids of 1 to 23 letters and digits are accepted (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    for (const clientId of [
      '0',
      'Z',
      'abcdefghijklmnopqrstuvw',
      'xyzABCDEFGHIJKLMNOPQRST',
      'UVWXYZ0123456789',
    ]) {
      await using client = await accepted(broker, version, connect(clientId, { version }));
      await client.expectNothing();
    }
  },
);

test.each(versions)(
  'longer client ids, and those with characters of other alphabets or of topic filters, are accepted (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    for (const clientId of [
      'é/日本/😀',
      '+/#',
      '}x',
      '$SYS',
      '\ufeffa',
      'x'.repeat(65_000 - 1_000),
    ]) {
      await using client = await accepted(broker, version, connect(clientId, { version }));
      await client.expectNothing();
    }
  },
);

test('[MQTT-3.1.3-6][MQTT-3.1.3-7][MQTT-3.2.2-16] an empty client id gets one of its own, told in CONNACK and good for coming back', async () => {
  await using broker = await TestBroker.start();
  const fields = { clientId: '', properties: { sessionExpiryInterval: 60 } };
  await using first = await broker.client(fields);
  await using second = await broker.client(fields);
  const ids = [first, second].map(({ connack }) => connack.properties?.assignedClientIdentifier);
  expect(ids[0]).toMatch(/./);
  expect(ids[1]).toMatch(/./);
  expect(ids[0]).not.toBe(ids[1]);
  // Processed as if the client had sent the id: the session is found under it, the connection is taken over.
  await using back = await broker.client({ ...fields, clientId: ids[0]!, clean: false });
  expect(back.connack.sessionPresent).toBe(true);
  expect(back.connack.properties?.assignedClientIdentifier).toBeUndefined();
  await first.expectDisconnect(0x8e);
  await second.expectNothing();
});

test('[MQTT-3.1.3-6] an empty client id is accepted without Clean Start in 5.0, and starts a new session', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.open();
  client.send(connect('', { flags: 0 }));
  const { reasonCode, sessionPresent, properties } = await client.expectPacket('connack');
  expect({ reasonCode, sessionPresent }).toEqual({ reasonCode: 0, sessionPresent: false });
  expect(properties?.assignedClientIdentifier).toMatch(/./);
});

test('[MQTT3-3.1.3-6] two 3.1.1 clients with an empty id and a clean session live side by side', async () => {
  await using broker = await TestBroker.start();
  await using first = await accepted(broker, 4, connect('', { version: 4 }));
  await using second = await accepted(broker, 4, connect('', { version: 4 }));
  await first.subscribe('a');
  second.publish({ topic: 'a', payload: 'hello' });
  await first.expectPublish({ topic: 'a', payload: 'hello' });
});

test('[MQTT3-3.1.3-7][MQTT3-3.1.3-8][MQTT3-3.1.3-9] an empty id without a clean session gets CONNACK 0x02 in 3.1.1', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.open({ version: 4 });
  client.send(connect('', { version: 4, flags: 0 }));
  const { raw } = await client.expectPacket('connack');
  expect(raw.toString('hex')).toBe('20020002');
  await client.expectClose();
});

test('an empty id gets CONNACK 0x02 in 3.1, where a client has to have one', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.open({ version: 3 });
  client.send(connect('', { version: 3 }));
  const { raw } = await client.expectPacket('connack');
  expect(raw.toString('hex')).toBe('20020002');
  await client.expectClose();
});

test.each([
  [3, '20020002'],
  [4, '20020002'],
  [5, '2003008500'],
] as const)(
  '[MQTT-3.1.3-8][MQTT3-3.1.3-9] a client id that is not welcome is refused, and the connection ends (version %s)',
  async (version, expected) => {
    await using broker = await TestBroker.start({
      hooks: { authenticate: () => ({ accept: false, reasonCode: 0x85 }) },
    });
    await using client = await broker.open({ version });
    client.send(connect('id', { version }));
    const { raw } = await client.expectPacket('connack');
    expect(raw.toString('hex')).toBe(expected);
    await client.expectClose();
  },
);

test.each(versions)(
  '[MQTT-3.1.4-1][MQTT3-3.1.4-1] a CONNECT that breaks its format closes the connection without CONNACK (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    const good = connect('id', { version });
    // Bytes behind the payload, flags in the fixed header, a packet that ends too soon.
    await expectRefusedSilently(broker, connect('id', { version, rest: [0] }));
    await expectRefusedSilently(broker, bytes(0x11, good.subarray(1)));
    await expectRefusedSilently(broker, packet(0x10, good.subarray(2, -1)));
  },
);

test.each([
  ['unknown', bytes(0x7f, 0)],
  ['of another packet', bytes(0x23, uint16(1))],
  ['twice', bytes(0x21, uint16(1), 0x21, uint16(1))],
  ['Receive Maximum 0', bytes(0x21, uint16(0))],
  ['Maximum Packet Size 0', bytes(0x27, 0, 0, 0, 0)],
  ['Request Problem Information 2', bytes(0x17, 2)],
  ['Request Response Information 2', bytes(0x19, 2)],
  ['Authentication Data without method', bytes(0x16, 'data')],
  ['cut off', bytes(0x11, 0, 0)],
])('[MQTT-3.1.4-1] a CONNECT with a property %s is refused', async (_, wrong) => {
  await using broker = await TestBroker.start();
  await expectRefusedSilently(broker, connect('id', { properties: wrong }));
});

test('a CONNECT larger than its limit is refused before its body came', async () => {
  await using broker = await TestBroker.start({ config: { limits: { connectBytesMax: 1_000 } } });
  await using client = await broker.open();
  // The fixed header announces 256 MB.
  client.send('10 ff ff ff 7f');
  await client.expectClose();
});

test.each(versions)('a CONNECT may come byte by byte (version %s)', async (version) => {
  await using broker = await TestBroker.start();
  await using client = await broker.open({ version });
  for (const byte of connect('id', { version })) client.send(Buffer.of(byte));
  const { raw } = await client.expectPacket('connack');
  expect(raw[3]).toBe(0);
});
