import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import { bytes, connect, packet } from './bytes.ts';

const versions = [3, 4, 5] as const;

/** A question that the broker asks a hook, answered when the test says so. */
class Gate {
  readonly asked: Promise<void>;
  readonly answer: Promise<boolean>;
  #ask!: () => void;
  open!: (answer: boolean) => void;

  constructor() {
    this.asked = new Promise((resolve) => (this.#ask = resolve));
    this.answer = new Promise((resolve) => (this.open = resolve));
  }

  readonly hook = (): Promise<boolean> => {
    this.#ask();
    return this.answer;
  };
}

function publishQos0(version: 3 | 4 | 5, topic: string, payload: string, flags = 0): Buffer {
  const properties = version === 5 ? bytes(0) : bytes();
  return packet(0x30 | flags, topic, properties, Buffer.from(payload));
}

test.each(versions)(
  '[MQTT-3.2.0-1][MQTT3-3.2.0-1] packets sent before the CONNACK are carried out after it, in order (version %s)',
  async (version) => {
    const gate = new Gate();
    await using broker = await TestBroker.start({ hooks: { authenticate: gate.hook } });
    await using client = await broker.open({ version });
    const subscribe = packet(0x82, 0, 7, version === 5 ? bytes(0) : bytes(), 'a', 0);
    client.send(
      bytes(
        connect('id', { version }),
        packet(0xc0),
        subscribe,
        publishQos0(version, 'a', '1'),
        publishQos0(version, 'a', '2'),
      ),
    );
    await gate.asked;
    client.send(publishQos0(version, 'a', '3'));
    expect(client.received).toEqual([]);
    gate.open(true);
    await client.expectPacket('connack');
    await client.expectPacket('pingresp');
    await client.expectPacket('suback');
    for (const payload of ['1', '2', '3']) await client.expectPublish({ topic: 'a', payload });
    await client.expectNothing();
  },
);

test.each(versions)(
  'a client that sends all it has to say and closes its side is heard to the end (version %s)',
  async (version) => {
    const gate = new Gate();
    const published: string[] = [];
    let gone!: () => void;
    const disconnected = new Promise<void>((resolve) => (gone = resolve));
    await using broker = await TestBroker.start({
      hooks: {
        authenticate: gate.hook,
        published: ({ payload }) => published.push(Buffer.from(payload).toString()),
        disconnected: gone,
      },
    });
    await using client = await broker.open({ version });
    client.send(connect('id', { version }));
    await gate.asked;
    client.send(bytes(publishQos0(version, 'a', '1'), publishQos0(version, 'a', '2')));
    client.end();
    gate.open(true);
    await disconnected;
    expect(published).toEqual(['1', '2']);
  },
);

test.each([
  [3, '20020005'],
  [4, '20020005'],
  [5, '2003008700'],
] as const)(
  '[MQTT-3.1.4-2][MQTT-3.1.4-6][MQTT3-3.1.4-5][MQTT-3.2.2-6][MQTT-3.2.2-7][MQTT3-3.2.2-4][MQTT3-3.2.2-5][MQTT-4.13.2-1] a refused CONNECT ends the connection, and nothing behind it is carried out (version %s)',
  async (version, connack) => {
    const gate = new Gate();
    const published: string[] = [];
    let first = true;
    await using broker = await TestBroker.start({
      hooks: {
        authenticate: () => {
          if (!first) return true;
          first = false;
          return gate.hook();
        },
        published: ({ topic }) => published.push(topic),
      },
    });
    await using client = await broker.open({ version });
    const rest = [version === 5 ? bytes(0) : bytes(), 'will', 'refused'];
    client.send(
      bytes(connect('id', { version, flags: 0x26, rest }), publishQos0(version, 'early', 'x', 1)),
    );
    await gate.asked;
    client.send(publishQos0(version, 'waiting', 'x', 1));
    gate.open(false);
    const { raw } = await client.expectPacket('connack');
    expect(raw.toString('hex')).toBe(connack);
    client.send(publishQos0(version, 'late', 'x', 1));
    client.send('c0 00');
    expect(await client.expectClose()).toBe('end');

    await using watcher = await broker.client();
    await watcher.subscribe('#');
    await watcher.expectNothing();
    expect(published).toEqual([]);
  },
);

test.each(versions)(
  '[MQTT-3.1.4-2] a refused CONNECT neither takes over nor discards the session of its client id (version %s)',
  async (version) => {
    await using broker = await TestBroker.start({
      hooks: { authenticate: ({ username }) => username === 'good' },
    });
    await using owner = await broker.client({ version, clientId: 'id', username: 'good' });
    await owner.subscribe('a');
    await using thief = await broker.client({ version, clientId: 'id', username: 'bad' });
    await thief.expectClose();
    await using other = await broker.client({ username: 'good' });
    other.publish({ topic: 'a', payload: 'still there' });
    await owner.expectPublish({ topic: 'a', payload: 'still there' });
  },
);

test('[MQTT-3.1.4-2] a will that its client may not publish is refused with CONNACK 0x87', async () => {
  await using broker = await TestBroker.start({
    hooks: { authorize: ({ action, topic }) => action !== 'publish' || topic === 'allowed' },
  });
  const will = (topic: string) =>
    ({ topic, payload: Buffer.of(1), qos: 0, retain: false }) as const;
  await using refused = await broker.client({ will: will('forbidden') });
  expect(refused.connack.reasonCode).toBe(0x87);
  await refused.expectClose();
  await using system = await broker.client({ will: will('$SYS/x') });
  expect(system.connack.reasonCode).toBe(0x87);
  await system.expectClose();
  await using allowed = await broker.client({ will: will('allowed') });
  expect(allowed.connack.reasonCode).toBe(0);
});

test('an authentication that throws is a refusal with 0x87, and later clients are served', async () => {
  await using broker = await TestBroker.start({
    hooks: {
      authenticate: ({ clientId }) => {
        if (clientId === 'poison') throw new Error('a bug in the hook');
        return true;
      },
    },
  });
  await using poison = await broker.client({ clientId: 'poison' });
  expect(poison.connack.reasonCode).toBe(0x87);
  await poison.expectClose();
  await using client = await broker.client({ clientId: 'fine' });
  expect(client.connack.reasonCode).toBe(0);
});

test('[MQTT-3.14.0-1] a broker that stops sends no DISCONNECT to a client that has no CONNACK yet', async () => {
  const gate = new Gate();
  const broker = await TestBroker.start({ hooks: { authenticate: gate.hook } });
  await using client = await broker.open();
  client.send(connect('id'));
  await gate.asked;
  const closed = broker[Symbol.asyncDispose]();
  await client.expectClose();
  await closed;
  expect(client.received).toEqual([]);
  gate.open(true);
});

test('without a complete CONNECT a connection ends at the deadline, dribbled bytes or not', async () => {
  await using broker = await TestBroker.start({ config: { limits: { connectTimeoutMs: 500 } } });
  await using silent = await broker.open();
  await using dribbler = await broker.open();
  const bytesOfConnect = connect('a client id that takes its time', { version: 4 });
  let sent = 0;
  const dribble = setInterval(() => {
    dribbler.send(bytesOfConnect.subarray(sent, ++sent));
  }, 100);
  try {
    await silent.expectClose();
    await dribbler.expectClose();
    // Bytes came all the time, and would have for longer.
    expect(sent).toBeLessThan(bytesOfConnect.length - 5);
  } finally {
    clearInterval(dribble);
  }
  expect(silent.received).toEqual([]);
  expect(dribbler.received).toEqual([]);
});

test('the deadline is over with the CONNECT: a silent client without keep alive stays', async () => {
  await using broker = await TestBroker.start({ config: { limits: { connectTimeoutMs: 300 } } });
  await using client = await broker.client({ keepalive: 0 });
  // The end of one that came later shows that the deadline has passed for both.
  await using later = await broker.open();
  await later.expectClose();
  await client.expectNothing();
});
