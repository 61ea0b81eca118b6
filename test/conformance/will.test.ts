import { expect, test } from '@jest/globals';
import { TestBroker, userPropertiesOf } from '@shoalmq/testkit';
import type { ByteClient, ConnectFields, WireVersion } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;
/** Nothing that takes a second or two is cut short by a busy machine. */
const PATIENT_MS = 15_000;

type Will = NonNullable<ConnectFields['will']>;

function will(fields: Partial<Will> = {}): Will {
  return {
    topic: 'will',
    payload: Buffer.from('gone'),
    qos: 0,
    retain: false,
    ...fields,
  };
}

async function watcher(
  broker: TestBroker,
  { version = 5, topic = 'will' }: { version?: WireVersion; topic?: string } = {},
): Promise<ByteClient> {
  const client = await broker.client({ version, timeoutMs: PATIENT_MS });
  await client.subscribe(topic, { qos: 2 });
  return client;
}

/** Resolves when the server has seen the end of the client's connection. */
async function lose(client: ByteClient, broker: TestBroker): Promise<void> {
  const before = ended(broker);
  client.abort();
  while (ended(broker) === before) await new Promise(setImmediate);
}

function ended(broker: TestBroker): number {
  return Object.values(broker.broker.counters.connectionsClosed).reduce((a, b) => a + b, 0);
}

test.each(versions)(
  '[MQTT-3.1.2-7][MQTT-3.1.2-8][MQTT-3.1.2-10][MQTT3-3.1.2-8][MQTT3-3.1.2-10] the will of a lost connection is published, once (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watching = await watcher(broker, { version });
    await using client = await broker.client({ version, clientId: 'c', will: will({ qos: 1 }) });
    await watching.expectNothing();
    await lose(client, broker);
    await watching.expectPublish({ topic: 'will', payload: 'gone', qos: 1, acknowledge: true });

    // The next connection of the client has no will.
    await using back = await broker.client({ version, clientId: 'c' });
    await lose(back, broker);
    await watching.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-3.1.2-8][MQTT-3.1.2-10][MQTT-3.14.4-3][MQTT3-3.1.2-10][MQTT3-3.14.4-3] DISCONNECT 0x00 discards the will (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watching = await watcher(broker, { version });
    await using client = await broker.client({ version, will: will() });
    client.disconnect();
    await client.expectClose();
    await watching.expectNothing();
  },
);

test('[MQTT-3.1.2-8] DISCONNECT 0x04 publishes the will', async () => {
  await using broker = await TestBroker.start();
  await using watching = await watcher(broker);
  await using client = await broker.client({ will: will() });
  client.disconnect(0x04);
  await client.expectClose();
  await watching.expectPublish({ payload: 'gone' });
  await watching.expectNothing();
});

test.each(versions)(
  '[MQTT3-3.1.2-12] without the Will Flag nothing is published when the connection is lost (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watching = await watcher(broker, { version, topic: '#' });
    await using client = await broker.client({ version });
    await lose(client, broker);
    await watching.expectNothing();
  },
);

test.each([
  { what: 'the end of the stream', cause: (client: ByteClient) => client.end() },
  { what: 'a reset', cause: (client: ByteClient) => client.abort() },
  { what: 'a malformed packet', cause: (client: ByteClient) => client.send('c1 00') },
  { what: 'a protocol error', cause: (client: ByteClient) => client.sendConnect() },
])('[MQTT-3.1.2-8][MQTT3-3.1.2-8] the will is published after $what', async ({ cause }) => {
  await using broker = await TestBroker.start();
  await using watching = await watcher(broker);
  for (const version of [4, 5] as const) {
    await using client = await broker.client({ version, will: will({ qos: 2 }) });
    cause(client);
    await watching.expectPublish({ payload: 'gone', qos: 2, acknowledge: true });
    await watching.expectNothing();
  }
});

test.each(versions)(
  '[MQTT-3.1.2-22][MQTT3-3.1.2-24] silence for one and a half times Keep Alive ends the connection and publishes the will (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watching = await watcher(broker, { version });
    await using client = await broker.client({
      version,
      keepalive: 1,
      will: will(),
      timeoutMs: PATIENT_MS,
    });
    const connectedMs = performance.now();
    await client.expectDisconnect(0x8d);
    expect(performance.now() - connectedMs).toBeGreaterThanOrEqual(1_400);
    await watching.expectPublish({ payload: 'gone' });
  },
  PATIENT_MS,
);

test(
  '[MQTT-3.1.2-22][MQTT3-3.1.2-24] silence for one and a half times Keep Alive ends the connection and publishes the will',
  async () => {
    await using broker = await TestBroker.start();
    await using watching = await watcher(broker, { topic: 'will/+' });
    await Promise.all(
      versions.map(async (version) => {
        await using client = await broker.client({
          version,
          keepalive: 1,
          will: will({ topic: `will/${version}` }),
          timeoutMs: PATIENT_MS,
        });
        const connectedMs = performance.now();
        await client.expectDisconnect(0x8d);
        expect(performance.now() - connectedMs).toBeGreaterThanOrEqual(1_400);
      }),
    );
    const topics: string[] = [];
    while (topics.length < versions.length) {
      topics.push((await watching.expectPublish({ payload: 'gone' })).topic);
    }
    expect(topics.sort()).toEqual(['will/3', 'will/4', 'will/5']);
    await watching.expectNothing();
  },
  PATIENT_MS,
);

test.each(versions)(
  'a retained will with an empty payload clears the retained message and is forwarded (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watching = await watcher(broker, { version });
    await watching.publishFully({ topic: 'will', payload: 'kept', retain: true });
    await watching.expectPublish({ payload: 'kept' });
    await using client = await broker.client({
      version,
      will: will({ retain: true, payload: Buffer.alloc(0) }),
    });
    await lose(client, broker);
    await watching.expectPublish({ payload: '' });
    await using late = await broker.client({ version });
    await late.subscribe('will');
    await late.expectNothing();
  },
);

test('[MQTT-3.1.3-10] the properties of a will are published with it, its User Properties in their order', async () => {
  await using broker = await TestBroker.start();
  await using watching = await watcher(broker);
  await using client = await broker.open();
  // In bytes: mqtt-packet cannot interleave names. Will properties: payload format 1, expiry 100, content type
  // "t/p", response topic "r", correlation data 00 ff, user properties b=1, a=2, b=3.
  const properties =
    '01 01  02 00000064  03 0003 742f70  08 0001 72  09 0002 00ff ' +
    '26 0001 62 0001 31  26 0001 61 0001 32  26 0001 62 0001 33';
  const propertyBytes = properties.replaceAll(' ', '').length / 2;
  const body =
    '0004 4d515454 05 06 0000 00  0001 63 ' +
    `${propertyBytes.toString(16).padStart(2, '0')} ${properties} 0004 77696c6c 0001 78`;
  const bodyBytes = body.replaceAll(' ', '').length / 2;
  client.send(`10 ${bodyBytes.toString(16).padStart(2, '0')} ${body}`);
  await client.expectPacket('connack');
  await lose(client, broker);
  const publish = await watching.expectPublish({ topic: 'will', payload: 'x' });
  expect(publish.properties).toMatchObject({
    payloadFormatIndicator: true,
    contentType: 't/p',
    responseTopic: 'r',
    correlationData: Buffer.from([0x00, 0xff]),
  });
  expect(publish.properties?.messageExpiryInterval).toBe(100);
  expect(userPropertiesOf(publish)).toEqual([
    ['b', '1'],
    ['a', '2'],
    ['b', '3'],
  ]);
});

test(
  '[MQTT-3.1.2-8] the will is published when its delay has passed, not before',
  async () => {
    await using broker = await TestBroker.start();
    await using watching = await watcher(broker);
    await using client = await broker.client({
      clientId: 'delayed',
      clean: false,
      will: will({ properties: { willDelayInterval: 1 } }),
      properties: { sessionExpiryInterval: 60 },
    });
    const lostMs = performance.now();
    await lose(client, broker);
    await watching.expectNothing();
    await watching.expectPublish({ payload: 'gone' });
    expect(performance.now() - lostMs).toBeGreaterThanOrEqual(950);
  },
  PATIENT_MS,
);

test('[MQTT-3.1.2-8] a will whose session ends with its connection is due at once, delay or not', async () => {
  await using broker = await TestBroker.start();
  await using watching = await watcher(broker);
  await using client = await broker.client({
    will: will({ properties: { willDelayInterval: 3_600 } }),
  });
  await lose(client, broker);
  await watching.expectPublish({ payload: 'gone' });
});

test('[MQTT-3.1.2-8] Session Expiry Interval 0 in DISCONNECT 0x04 ends the session, and the delay with it', async () => {
  await using broker = await TestBroker.start();
  await using watching = await watcher(broker);
  await using client = await broker.client({
    will: will({ properties: { willDelayInterval: 3_600 } }),
    properties: { sessionExpiryInterval: 60 },
  });
  client.disconnect(0x04, { sessionExpiryInterval: 0 });
  await watching.expectPublish({ payload: 'gone' });
});

test('[MQTT-3.1.2-8] Clean Start ends the session, and so publishes the will that was waiting', async () => {
  await using broker = await TestBroker.start();
  await using watching = await watcher(broker);
  await using client = await broker.client({
    clientId: 'c',
    will: will({ properties: { willDelayInterval: 3_600 } }),
    properties: { sessionExpiryInterval: 60 },
  });
  await lose(client, broker);
  await watching.expectNothing();
  await using back = await broker.client({ clientId: 'c', clean: true });
  expect(back.connack.sessionPresent).toBe(false);
  await watching.expectPublish({ payload: 'gone' });
  await watching.expectNothing();
});

test.each([
  { version: 3, clean: true },
  { version: 4, clean: true },
  { version: 4, clean: false },
  { version: 5, clean: true },
  { version: 5, clean: false },
] as const)(
  '[MQTT-3.1.2-8][MQTT3-3.1.2-8] a takeover publishes the will of the connection that loses (version $version, clean $clean)',
  async ({ version, clean }) => {
    await using broker = await TestBroker.start();
    await using watching = await watcher(broker, { version });
    const session = {
      version,
      clientId: 'taken',
      clean,
      ...(version === 5 && { properties: { sessionExpiryInterval: 60 } }),
    };
    await using first = await broker.client({ ...session, will: will() });
    await using second = await broker.client({
      ...session,
      will: will({ payload: Buffer.from('2') }),
    });
    await first.expectDisconnect(0x8e);
    await watching.expectPublish({ payload: 'gone' });
    await watching.expectNothing();
    await lose(second, broker);
    await watching.expectPublish({ payload: '2' });
    await watching.expectNothing();
  },
);

test('[MQTT-3.1.3-9] a takeover that resumes the session cancels a delayed will, one that ends it does not', async () => {
  await using broker = await TestBroker.start();
  await using watching = await watcher(broker);
  const fields = {
    clientId: 'taken',
    will: will({ properties: { willDelayInterval: 3_600 } }),
    properties: { sessionExpiryInterval: 60 },
  };
  await using first = await broker.client({ ...fields, clean: false });
  await using second = await broker.client({ ...fields, clean: false });
  await first.expectDisconnect(0x8e);
  await watching.expectNothing();
  await using third = await broker.client({ clientId: 'taken', clean: true });
  await second.expectDisconnect(0x8e);
  await watching.expectPublish({ payload: 'gone' });
  await third.expectNothing();
});

test.each(versions)(
  'a will to a topic of the server, or one that may not be published to, is refused at CONNECT (version %s)',
  async (version) => {
    await using broker = await TestBroker.start({
      hooks: { authorize: ({ action, topic }) => action !== 'publish' || topic !== 'forbidden' },
    });
    for (const topic of ['$SYS/broker/uptime', '$anything', 'forbidden']) {
      await using client = await broker.client({ version, will: will({ topic }) });
      const { returnCode, reasonCode } = client.connack;
      expect(version === 5 ? reasonCode : returnCode).toBe(version === 5 ? 0x87 : 5);
      await client.expectClose();
    }
    await using allowed = await broker.client({ version, will: will({ topic: 'fine' }) });
    expect(allowed.connack.returnCode ?? allowed.connack.reasonCode).toBe(0);
  },
);

test.each([
  { what: 'a wildcard', topic: 'a/+' },
  { what: 'no character', topic: '' },
  { what: 'U+0000', topic: 'a\0b' },
  { what: 'more than 200 levels', topic: '/'.repeat(200) },
])('a will topic with $what ends the connection', async ({ topic }) => {
  await using broker = await TestBroker.start();
  await using refused = await broker.open();
  refused.send(connectWithWill(topic));
  await refused.expectClose();
  await using accepted = await broker.open();
  accepted.send(connectWithWill('/'.repeat(199)));
  expect((await accepted.expectPacket('connack')).reasonCode).toBe(0);
});

/** CONNECT in bytes, with whatever will topic. */
function connectWithWill(topic: string): Buffer {
  const text = Buffer.from(topic);
  const body = Buffer.concat([
    Buffer.from('00044d515454' + '0506' + '0000' + '00' + '000163' + '00', 'hex'),
    Buffer.from([text.length >> 8, text.length & 0xff]),
    text,
    Buffer.from('000178', 'hex'),
  ]);
  const { length } = body;
  const size = length < 128 ? [length] : [(length & 0x7f) | 0x80, length >> 7];
  return Buffer.concat([Buffer.from([0x10, ...size]), body]);
}

test('rights revoked after CONNECT: the will is not published', async () => {
  let allowed = true;
  await using broker = await TestBroker.start({
    hooks: { authorize: ({ action }) => action !== 'publish' || allowed },
  });
  await using watching = await watcher(broker);
  await using client = await broker.client({ will: will() });
  allowed = false;
  await lose(client, broker);
  await watching.expectNothing();
  expect(broker.broker.counters.messagesDropped.unauthorized).toBe(1);
});
