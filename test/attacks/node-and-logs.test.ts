import { expect, test } from '@jest/globals';
import { userPropertiesOf } from '@shoalmq/testkit';
import { bytes, packet, properties, uint16 } from '../conformance/bytes.ts';
import { SECRET, attack, eventually } from './attack.ts';
import { BrokerChild } from './broker-child.ts';

const MIB = 1_048_576;

function times(count: number, one: (index: number) => Uint8Array): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, index) => one(index)));
}

const id = uint16(1);

test.each<[string, () => Buffer]>([
  [
    'a SUBSCRIBE of one filter, 200,000 times',
    () =>
      packet(
        0x82,
        id,
        0,
        times(200_000, () => bytes('#', 0)),
      ),
  ],
  [
    'a SUBSCRIBE of 10,000 filters',
    () =>
      packet(
        0x82,
        id,
        0,
        times(10_000, (i) => bytes(`f/${i}/+`, 0)),
      ),
  ],
  [
    'a SUBSCRIBE of 2,600 filters with 190 levels',
    () =>
      packet(
        0x82,
        id,
        0,
        times(2_600, (i) => bytes(`${'+/'.repeat(189)}${i}`, 0)),
      ),
  ],
  [
    'an UNSUBSCRIBE of 300,000 filters',
    () =>
      packet(
        0xa2,
        id,
        0,
        times(300_000, () => bytes('x')),
      ),
  ],
])(
  'ATTACK 49: %s does not stop the event loop until it is done',
  async (_, hog) => {
    await using broker = await BrokerChild.start();
    await using client = await broker.client();
    // Once to warm up: code that is not compiled yet is no measure.
    let blockedMs = 0;
    let tookMs = 0;
    for (let i = 0; i < 2; i++) {
      await client.roundTrip();
      await broker.vitals();
      const startedMs = performance.now();
      client.send(hog());
      await client.roundTrip();
      tookMs = performance.now() - startedMs;
      ({ blockedMs } = await broker.vitals());
    }
    expect(blockedMs).toBeLessThan(Math.max(tookMs * 0.6, 60));
  },
  30_000,
);

test('ATTACK 12: a megabyte of user properties costs no more per byte than a thousand', async () => {
  await using broker = await BrokerChild.start();
  await using client = await broker.client();
  const publish = (count: number) =>
    packet(0x30, 't', properties(times(count, () => bytes(0x26, 'name', 'value'))));
  const msPerProperty = async (count: number, repeat: number) => {
    const all = times(repeat, () => publish(count));
    const startedMs = performance.now();
    client.send(all);
    await client.roundTrip();
    return (performance.now() - startedMs) / count / repeat;
  };
  await msPerProperty(60_000, 1);
  const few = await msPerProperty(100, 600);
  const many = await msPerProperty(60_000, 1);
  expect(many).toBeLessThan(few * 20);
  expect(broker.alive).toBe(true);
}, 30_000);

test('ATTACK 11: a flood of long topic names is forgotten', async () => {
  await using broker = await BrokerChild.start();
  await using client = await broker.client();
  const { usedBytes } = await broker.vitals();
  const long = 'x'.repeat(60_000);
  for (let i = 0; i < 2_000; i++) {
    client.send(packet(0x30, `${i}/${long}`, 0));
    if (i % 20 === 0) await client.roundTrip();
  }
  await client.roundTrip();
  // 120 MB of names, which would take twice as much.
  expect((await broker.vitals()).usedBytes - usedBytes).toBeLessThan(80 * MIB);
}, 30_000);

test('ATTACK 45: what clients say reaches the log escaped, cut and without secrets', async () => {
  await using broker = await BrokerChild.start('auth.users=[{"username":"u","password":"right"}]');
  const evil = [
    '%s%d%o',
    '<script>alert(1)</script>',
    '"},{"event":"x',
    '\u{1f600}',
    '\u202eabc',
    '\u2028',
  ];
  for (const name of evil) {
    for (const password of [SECRET, 'right']) {
      await using client = await broker.client({
        clientId: `${name}${'y'.repeat(2_000)}`,
        username: password === 'right' ? 'u' : `${name}\r\n\u001b[31m`,
        password,
        will: { topic: name, payload: Buffer.from(SECRET), qos: 0, retain: false },
      });
      client.send('00 00');
      await client.expectDisconnect(0x81).catch(() => client.expectClose());
    }
  }
  // Refused as names before anybody logs them.
  for (const name of ['a\r\nb', 'a\u001b[2Jb', 'a\u0085b', 'a\u0000b']) {
    await using client = await broker.open();
    client.send(packet(0x10, 'MQTT', 5, 2, 0, 0, 0, name));
    await client.expectClose();
  }
  await using witness = await broker.client({ username: 'u', password: 'right' });
  await witness.roundTrip();
  // The log takes its time.
  await eventually(() => {
    const lines = broker.output.filter((line) => line.includes('"client.connected"'));
    expect(lines.length).toBeGreaterThan(evil.length);
  });
  expect(broker.alive).toBe(true);
  const text = broker.output.join('\n');
  expect(text).not.toContain(SECRET);
  expect(text).not.toContain('right"');
  // eslint-disable-next-line no-control-regex -- what must not be there
  expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202e]/);
  for (const line of broker.output) {
    expect(() => JSON.parse(line) as unknown).not.toThrow();
    expect(line).not.toContain('y'.repeat(300));
  }
}, 30_000);

test.each([
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  'valueOf',
  '__defineGetter__',
])('ATTACK 47: %s is a name like any other', async (name) => {
  await attack(
    { counted: ({ publishReceived }) => publishReceived[1], leaves: ['retainedMessages'] },
    async ({ broker }) => {
      await using client = await broker.client({ clientId: name, username: name, password: name });
      const { granted } = await client.subscribe([name, `$share/${name}/${name}/+`], { qos: 1 });
      expect(granted).toEqual([1, 1]);
      const pairs = [
        [name, '1'],
        ['a', '2'],
        [name, '3'],
        ['', ''],
        ['a', name],
      ];
      const section = properties(...pairs.flatMap(([key, value]) => [0x26, key!, value!]));
      for (const topic of [name, `${name}/${name}`]) {
        client.send(packet(0x33, topic, id, section, Buffer.from(name)));
        const puback = client.received.length;
        await client.roundTrip();
        const publish = client.received.slice(puback - 1).find((each) => each.cmd === 'publish');
        expect(publish).toMatchObject({ topic, payload: Buffer.from(name) });
        expect(userPropertiesOf(publish as never)).toEqual(pairs);
        client.puback((publish as unknown as { messageId: number }).messageId);
      }
      await client.unsubscribe([name, `$share/${name}/${name}/+`]);
      expect(({} as Record<string, unknown>)['1']).toBeUndefined();
      client.disconnect();
    },
  );
});

test.each<[string, () => unknown]>([
  [
    'throws',
    () => {
      throw new Error('poison');
    },
  ],
  ['rejects', () => Promise.reject(new Error('poison'))],
])('ATTACK 48: a hook that %s on one message harms nobody', async (_, fail) => {
  const failed: unknown[] = [];
  await attack(
    {
      counted: ({ publishReceived }) => publishReceived[1],
      hooks: {
        connected: ({ clientId }) => (clientId === 'poisoner' ? fail() : undefined) as undefined,
        disconnected: ({ clientId }) => (clientId === 'poisoner' ? fail() : undefined) as undefined,
        published: ({ topic }) => (topic === 'poison' ? fail() : undefined) as undefined,
      },
      hookFailed: (error, hook) => failed.push([hook, (error as Error).message]),
    },
    async ({ broker }) => {
      await using client = await broker.client({ clientId: 'poisoner' });
      await client.subscribe('poison', { qos: 1 });
      expect(await client.publishFully({ topic: 'poison', qos: 1 })).toBe(0);
      await client.expectPublish({ topic: 'poison', acknowledge: true });
      client.disconnect();
    },
  );
  expect(failed).toEqual([
    ['connected', 'poison'],
    ['published', 'poison'],
    ['disconnected', 'poison'],
  ]);
});
