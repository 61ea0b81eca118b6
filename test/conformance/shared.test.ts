import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ByteClient, ConnectFields, WireVersion } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;

function persistent(clientId: string, receiveMaximum = 100): ConnectFields {
  return { clientId, clean: false, properties: { sessionExpiryInterval: 60, receiveMaximum } };
}

async function members(
  broker: TestBroker,
  count: number,
  { version = 5, filter = '$share/g/t/#' }: { version?: WireVersion; filter?: string } = {},
): Promise<ByteClient[]> {
  const clients: ByteClient[] = [];
  for (let i = 0; i < count; i++) {
    const client = await broker.client({ version });
    await client.subscribe(filter, { qos: 2 });
    clients.push(client);
  }
  return clients;
}

/** The payloads of what each client got, acknowledged. */
async function received(clients: readonly ByteClient[]): Promise<string[][]> {
  const all: string[][] = [];
  for (const client of clients) {
    const payloads: string[] = [];
    for (let count = await client.roundTrip(); count > 0; count--) {
      const publish = await client.expectPublish();
      payloads.push(publish.payload.toString());
      if (publish.qos === 1) client.puback(publish.messageId!);
    }
    all.push(payloads);
  }
  return all;
}

function numbers(count: number): string[] {
  return Array.from({ length: count }, (_, i) => String(i));
}

async function publishNumbers(
  publisher: ByteClient,
  count: number,
  { topic = () => 't/x', qos = 1 }: { topic?: (i: number) => string; qos?: 0 | 1 | 2 } = {},
): Promise<void> {
  for (let i = 0; i < count; i++) {
    await publisher.publishFully({ topic: topic(i), payload: String(i), qos });
  }
}

async function dispose(clients: readonly ByteClient[]): Promise<void> {
  for (const client of clients) await client[Symbol.asyncDispose]();
}

/** Resolves when the server has seen that the client is gone. */
async function lose(client: ByteClient, broker: TestBroker): Promise<void> {
  const { connectionsClosed } = broker.broker.counters;
  const ended = (): number => Object.values(connectionsClosed).reduce((a, b) => a + b, 0);
  const before = ended();
  client.abort();
  while (ended() === before) await new Promise(setImmediate);
}

test.each(
  versions.flatMap((version) =>
    ['$share/', '$share/g', '$share//t', '$share/+/t', '$share/#/t', '$share/a+b/t']
      .concat(['$share/g/', '$share/g/a#', '$share/g/a+/b', '$share/g/$share/h/t'])
      .map((filter) => [version, filter] as const),
  ),
)(
  '[MQTT-4.8.2-1][MQTT-4.8.2-2] version %s: %s is not a shared subscription and is refused in SUBACK',
  async (version, filter) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version });
    expect((await client.subscribe(filter)).granted).toEqual([version === 5 ? 0x8f : 0x80]);
  },
);

test.each(
  versions.flatMap((version) => [0, 1, 2].map((qos) => [version, qos as 0 | 1 | 2] as const)),
)(
  'each message goes to exactly one member, in turns (version %s, QoS %s)',
  async (version, qos) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version });
    const group = await members(broker, 3, { version });
    await publishNumbers(publisher, 30, { qos });
    const payloads = await received(group);
    expect(payloads.map(({ length }) => length)).toEqual([10, 10, 10]);
    expect(payloads.flat().sort()).toEqual(numbers(30).sort());
    for (const own of payloads) expect(own).toEqual([...own].sort((a, b) => Number(a) - Number(b)));
    await dispose(group);
  },
);

test('each group gets each message, and so does each filter of a share name', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  const g = await members(broker, 2);
  const h = await members(broker, 2, { filter: '$share/h/t/#' });
  const other = await members(broker, 1, { filter: '$share/g/t/+' });
  const odd = await members(broker, 1, { filter: '$share/__proto__/t/x' });
  await publishNumbers(publisher, 10);
  for (const group of [g, h, other, odd]) {
    expect((await received(group)).flat().sort()).toEqual(numbers(10));
    await dispose(group);
  }
});

test('a client with a shared and a plain subscription gets what comes through each', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await client.subscribe('$share/g/t', { qos: 1, properties: { subscriptionIdentifier: 1 } });
  await client.subscribe('t', { qos: 0, properties: { subscriptionIdentifier: 2 } });
  await client.publishFully({ topic: 't', qos: 1 });
  const both = [await client.expectPublish(), await client.expectPublish()];
  const seen = both.map(({ qos, properties }) => [properties?.subscriptionIdentifier, qos]);
  expect(seen.sort()).toEqual([
    [1, 1],
    [2, 0],
  ]);
  client.puback(both.find(({ qos }) => qos === 1)!.messageId!);
  await client.expectNothing();
});

test('a shared subscription with a wildcard in the first level does not match topics that begin with $', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  await client.subscribe(['$share/g/#', '$share/h/$SYS/#']);
  await broker.broker.publish({ topic: '$SYS/x', payload: '' });
  await client.expectPublish({ topic: '$SYS/x' });
  await client.expectNothing();
});

test('a member that leaves, by UNSUBSCRIBE or by its end, gets nothing any more, and the others everything', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  const [first, second, third] = await members(broker, 3);
  await first!.unsubscribe('$share/g/t/#');
  await lose(second!, broker);
  await publishNumbers(publisher, 10);
  expect(await received([third!])).toEqual([numbers(10)]);
  await first!.expectNothing();
  await third!.unsubscribe('$share/g/t/#');
  await publishNumbers(publisher, 1);
  await third!.expectNothing();
  await dispose([first!, third!]);
});

test('[MQTT-4.8.2-3] the QoS granted to the chosen member is respected', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  const group: ByteClient[] = [];
  for (const qos of [0, 1, 2] as const) {
    const client = await broker.client();
    await client.subscribe('$share/g/t', { qos });
    group.push(client);
  }
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 3; i++) await publisher.publishFully({ topic: 't', qos: 2 });
    for (const [qos, client] of group.entries()) {
      await client.expectPublish({ qos: qos as 0 | 1 | 2, acknowledge: true });
      await client.expectNothing();
    }
  }
  await dispose(group);
});

test.each(['before PUBREC', 'after PUBREC'])(
  '[MQTT-4.8.2-4] a QoS 2 message begun with a member that disconnects %s is completed with it when it is back',
  async (when) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    await using first = await broker.client(persistent('first'));
    await first.subscribe('$share/g/t', { qos: 2 });
    await publisher.publishFully({ topic: 't', payload: 'begun', qos: 2 });
    const { messageId } = await first.expectPublish({ qos: 2 });
    await using other = await broker.client();
    await other.subscribe('$share/g/t', { qos: 2 });
    if (when === 'after PUBREC') {
      first.pubrec(messageId!);
      await first.expectPacket('pubrel');
    }
    await lose(first, broker);
    await other.expectNothing();

    await using back = await broker.client(persistent('first'));
    if (when === 'before PUBREC') {
      await back.expectPublish({ payload: 'begun', qos: 2, dup: true, messageId: messageId! });
      back.pubrec(messageId!);
    }
    expect((await back.expectPacket('pubrel')).messageId).toBe(messageId);
    back.pubcomp(messageId!);
    await back.expectNothing();
    await other.expectNothing();
  },
);

test.each([
  { session: 'clean', fields: {} },
  { session: 'persistent', fields: persistent('ending') },
])(
  '[MQTT-4.8.2-5] when the session of a member ($session) ends, a QoS 2 message begun with it goes to nobody else',
  async ({ fields }) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    await using first = await broker.client(fields);
    await first.subscribe('$share/g/t', { qos: 2 });
    await using other = await broker.client();
    await publisher.publishFully({ topic: 't', payload: 'begun', qos: 2 });
    await first.expectPublish({ qos: 2 });
    await other.subscribe('$share/g/t', { qos: 2 });
    first.disconnect(0, { sessionExpiryInterval: 0 });
    await first.expectClose();
    await other.expectNothing();
    await publisher.publishFully({ topic: 't', payload: 'next', qos: 2 });
    await other.expectPublish({ payload: 'next', acknowledge: true });
    await using back = await broker.client({ ...fields, clean: false });
    await back.expectNothing();
  },
);

test.each([
  { session: 'clean', fields: {} },
  { session: 'persistent', fields: persistent('refusing') },
])(
  '[MQTT-4.8.2-6] what a member ($session session) refuses with PUBACK or PUBREC goes to nobody else',
  async ({ fields }) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    await using refusing = await broker.client(fields);
    await refusing.subscribe('$share/g/t', { qos: 2 });
    await publisher.publishFully({ topic: 't', qos: 1 });
    await publisher.publishFully({ topic: 't', qos: 2 });
    const first = await refusing.expectPublish({ qos: 1 });
    const second = await refusing.expectPublish({ qos: 2 });
    await using other = await broker.client();
    await other.subscribe('$share/g/t', { qos: 2 });
    refusing.puback(first.messageId!, 0x80);
    refusing.pubrec(second.messageId!, 0x97);
    await refusing.expectNothing();
    await lose(refusing, broker);
    await other.expectNothing();
  },
);

test('what was never sent to a member that disconnected goes to the others', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  await using full = await broker.client({ properties: { receiveMaximum: 1 } });
  await full.subscribe('$share/g/t/#', { qos: 1 });
  await publishNumbers(publisher, 10);
  await full.expectPublish({ payload: '0' });
  await using other = await broker.client();
  await other.subscribe('$share/g/t/#', { qos: 1 });
  await using third = await broker.client();
  await third.subscribe('$share/g/t/#', { qos: 0 });
  await lose(full, broker);
  const [toOther, toThird] = await received([other, third]);
  expect([...toOther!, ...toThird!].sort()).toEqual(numbers(10).slice(1));
  expect(toOther!.length).toBeGreaterThan(2);
  expect(toThird!.length).toBeGreaterThan(2);
});

test('what was never sent waits in the queue of a member with a persistent session, if that is all there is', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  await using full = await broker.client({ properties: { receiveMaximum: 1 } });
  await full.subscribe('$share/g/t/#', { qos: 1 });
  await publishNumbers(publisher, 4);
  await full.expectPublish({ payload: '0' });
  await using away = await broker.client(persistent('away'));
  await away.subscribe('$share/g/t/#', { qos: 1 });
  await lose(away, broker);
  await lose(full, broker);
  await using back = await broker.client(persistent('away'));
  expect(await received([back])).toEqual([['1', '2', '3']]);
});

test('connected members come before those that are away, whose queues are for when there is nobody else', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  {
    await using away = await broker.client(persistent('away'));
    await away.subscribe('$share/g/t/#', { qos: 1 });
  }
  const [connected] = await members(broker, 1);
  await publishNumbers(publisher, 5);
  expect(await received([connected!])).toEqual([numbers(5)]);
  await lose(connected!, broker);
  await publisher.publishFully({ topic: 't/x', payload: 'queued', qos: 1 });
  await publisher.publishFully({ topic: 't/x', payload: 'not queued', qos: 0 });
  await using back = await broker.client(persistent('away'));
  expect(await received([back])).toEqual([['queued']]);
});

test('members that are all away share too', async () => {
  await using broker = await TestBroker.start();
  await using publisher = await broker.client();
  for (const clientId of ['a', 'b']) {
    await using client = await broker.client(persistent(clientId));
    await client.subscribe('$share/g/t/#', { qos: 1 });
  }
  await publishNumbers(publisher, 10);
  await using a = await broker.client(persistent('a'));
  await using b = await broker.client(persistent('b'));
  const payloads = await received([a, b]);
  expect(payloads.map(({ length }) => length)).toEqual([5, 5]);
  expect(payloads.flat().sort()).toEqual(numbers(10));
});

test.each(['round-robin', 'random', 'local-first'] as const)(
  'shared.strategy %s uses every member',
  async (strategy) => {
    await using broker = await TestBroker.start({ config: { shared: { strategy } } });
    await using publisher = await broker.client();
    const group = await members(broker, 4);
    await publishNumbers(publisher, 200);
    const payloads = await received(group);
    expect(payloads.flat().sort()).toEqual(numbers(200).sort());
    for (const own of payloads) {
      // Random: 50 on average, with a standard deviation of 6.
      if (strategy === 'random') expect(own.length).toBeGreaterThan(10);
      else expect(own).toHaveLength(50);
    }
    await dispose(group);
  },
);

test('shared.strategy sticky stays with a member until it goes', async () => {
  await using broker = await TestBroker.start({ config: { shared: { strategy: 'sticky' } } });
  await using publisher = await broker.client();
  const group = await members(broker, 3);
  const got = async (): Promise<number> => {
    await publishNumbers(publisher, 12);
    const payloads = await received(group);
    const index = payloads.findIndex(({ length }) => length === 12);
    expect(payloads.flat()).toHaveLength(12);
    expect(index).toBeGreaterThanOrEqual(0);
    return index;
  };
  const first = await got();
  expect(await got()).toBe(first);
  await lose(group[first]!, broker);
  group.splice(first, 1);
  const second = await got();
  expect(await got()).toBe(second);
  await dispose(group);
});

test('shared.strategy hash-topic: a topic has its member, and many topics have them all', async () => {
  await using broker = await TestBroker.start({ config: { shared: { strategy: 'hash-topic' } } });
  await using publisher = await broker.client();
  const group = await members(broker, 3);
  const topic = (i: number): string => `t/${i % 20}`;
  await publishNumbers(publisher, 100, { topic });
  const payloads = await received(group);
  expect(payloads.flat()).toHaveLength(100);
  const owner = new Map<string, number>();
  for (const [index, own] of payloads.entries()) {
    expect(own.length).toBeGreaterThan(0);
    for (const payload of own) {
      const known = owner.get(topic(Number(payload)));
      expect(known ?? index).toBe(index);
      owner.set(topic(Number(payload)), index);
    }
  }
  await dispose(group);
});

test('shared.strategy hash-client-id: a publisher has its member, and many publishers have them all', async () => {
  await using broker = await TestBroker.start({
    config: { shared: { strategy: 'hash-client-id' } },
  });
  const group = await members(broker, 3);
  const used = new Set<number>();
  for (let i = 0; i < 20; i++) {
    await using publisher = await broker.client({ clientId: `publisher-${i}` });
    await publishNumbers(publisher, 5, { topic: (n) => `t/${n}` });
    const payloads = await received(group);
    const index = payloads.findIndex(({ length }) => length === 5);
    expect(payloads.flat()).toHaveLength(5);
    used.add(index);
  }
  expect(used).toEqual(new Set([0, 1, 2]));
  await dispose(group);
});
