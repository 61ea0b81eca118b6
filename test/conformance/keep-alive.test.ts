import { expect, test } from '@jest/globals';
import { TestBroker, TestNode } from '@shoalmq/testkit';
import type { ByteClient } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;

// How long a client with a keep alive of 1 s may be silent at least, and at most: 1.5 s, a timer of 500 ms, and
// what a busy machine takes.
const SILENCE_MIN_MS = 1_450;
const SILENCE_MAX_MS = 3_500;

/** Milliseconds until the server ends the connection. */
async function silenceUntilClosed(client: ByteClient): Promise<number> {
  const sinceMs = performance.now();
  await client.expectDisconnect(0x8d);
  return performance.now() - sinceMs;
}

test.concurrent(
  '[MQTT-3.1.2-22][MQTT3-3.1.2-24] silence for one and a half times the keep alive ends the connection with 0x8D, and the will is published',
  async () => {
    await using broker = await TestBroker.start();
    await using watcher = await broker.client({ keepalive: 0 });
    await watcher.subscribe('will/#');
    const silences = await Promise.all(
      versions.map(async (version) => {
        const topic = `will/${version}`;
        const will = { topic, payload: Buffer.of(), qos: 0, retain: false } as const;
        await using client = await broker.client({ version, keepalive: 1, will });
        return await silenceUntilClosed(client);
      }),
    );
    for (const silenceMs of silences) {
      expect(silenceMs).toBeGreaterThan(SILENCE_MIN_MS);
      expect(silenceMs).toBeLessThan(SILENCE_MAX_MS);
    }
    const topics = [];
    for (let i = 0; i < versions.length; i++) topics.push((await watcher.expectPublish()).topic);
    expect(topics.sort()).toEqual(['will/3', 'will/4', 'will/5']);
    // Keep alive 0: this one was silent all the time.
    await watcher.expectNothing();
  },
);

test.concurrent(
  '[MQTT-3.1.2-22] only what the client sends counts, and anything it sends does: what it gets keeps nobody alive',
  async () => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    await using talker = await broker.client({ keepalive: 1 });
    await using listener = await broker.client({ keepalive: 1 });
    await listener.subscribe('a');
    const sinceMs = performance.now();
    const talk = setInterval(() => {
      talker.publish({ topic: 'b' });
      publisher.publish({ topic: 'a' });
    }, 200);
    try {
      let packet = await listener.expectPacket();
      while (packet.cmd === 'publish') packet = await listener.expectPacket();
      expect(packet).toMatchObject({ cmd: 'disconnect', reasonCode: 0x8d });
      expect(performance.now() - sinceMs).toBeLessThan(SILENCE_MAX_MS);
    } finally {
      clearInterval(talk);
    }
    await talker.expectNothing();
  },
);

test.concurrent(
  '[MQTT-3.1.2-22] the bytes of a packet that is not complete are a sign of life',
  async () => {
    await using broker = await TestBroker.start();
    await using silent = await broker.client({ keepalive: 1 });
    await using slow = await broker.client({ keepalive: 1 });
    const publish = Buffer.from('300a000161006f7665722e2e', 'hex');
    let sent = 0;
    const dribble = setInterval(() => {
      if (sent < publish.length) slow.send(publish.subarray(sent, ++sent));
    }, 250);
    try {
      await silent.expectDisconnect(0x8d);
    } finally {
      clearInterval(dribble);
    }
    slow.send(publish.subarray(sent));
    await slow.expectNothing();
  },
);

test.concurrent(
  '[MQTT-3.2.2-22] a keep alive within our limit is the one that counts, without Server Keep Alive',
  async () => {
    await using broker = await TestBroker.start({ config: { limits: { keepAliveMax: 10 } } });
    for (const keepalive of [1, 10]) {
      await using client = await broker.client({ keepalive });
      expect(client.connack.properties?.serverKeepAlive).toBeUndefined();
    }
    await using client = await broker.client({ keepalive: 1 });
    const silenceMs = await silenceUntilClosed(client);
    expect(silenceMs).toBeGreaterThan(SILENCE_MIN_MS);
    expect(silenceMs).toBeLessThan(SILENCE_MAX_MS);
  },
);

test.concurrent(
  'above our limit, or without keep alive, a 5.0 client gets Server Keep Alive and is held to it',
  async () => {
    await using broker = await TestBroker.start({ config: { limits: { keepAliveMax: 1 } } });
    const silences = await Promise.all(
      [0, 2, 65_535].map(async (keepalive) => {
        await using client = await broker.client({ keepalive });
        expect(client.connack.properties?.serverKeepAlive).toBe(1);
        return await silenceUntilClosed(client);
      }),
    );
    for (const silenceMs of silences) {
      expect(silenceMs).toBeGreaterThan(SILENCE_MIN_MS);
      expect(silenceMs).toBeLessThan(SILENCE_MAX_MS);
    }
  },
);

test.each([3, 4] as const)(
  'above our limit, or without keep alive, a client of 3.x is refused: it cannot be told (version %s)',
  async (version) => {
    await using broker = await TestBroker.start({ config: { limits: { keepAliveMax: 10 } } });
    for (const keepalive of [0, 11, 65_535]) {
      await using client = await broker.client({ version, keepalive });
      expect(client.connack.returnCode).toBe(2);
      await client.expectClose();
    }
    await using client = await broker.client({ version, keepalive: 10 });
    expect(client.connack.returnCode).toBe(0);
  },
);

test.concurrent(
  'a packet that does not become complete in its time ends the connection',
  async () => {
    await using broker = await TestBroker.start({ config: { limits: { packetTimeoutMs: 300 } } });
    await using client = await broker.client();
    const publish = Buffer.from('300a000161006f7665722e2e', 'hex');
    let sent = 0;
    const dribble = setInterval(() => {
      if (sent < publish.length - 1) client.send(publish.subarray(sent, ++sent));
    }, 50);
    try {
      await client.expectDisconnect(0x82);
    } finally {
      clearInterval(dribble);
    }
  },
);

test.each([1, 2, 10, 60, 3_600, 65_535])(
  '[MQTT-3.1.2-22][MQTT3-3.1.2-24] a keep alive of %s s ends one and a half times later, and at most 500 ms after that',
  async (keepalive) => {
    for (const version of versions) {
      const node = new TestNode();
      await node.pass(137);
      const client = await node.connect({ version, keepalive });
      await node.pass(keepalive * 1_000);
      client.send({ cmd: 'pingreq' });
      await node.settle();
      expect(client.packets()).toMatchObject([{ cmd: 'pingresp' }]);

      await node.pass(keepalive * 1_500 - 1);
      expect(client.channel.ended).toBe(false);
      await node.pass(251);
      await node.pass(250);
      expect(client.channel.ended).toBe(true);
      const last = client.packets();
      expect(last).toMatchObject(version === 5 ? [{ cmd: 'disconnect', reasonCode: 0x8d }] : []);
      expect(node.counters.connectionsClosed.keepalive_timeout).toBe(1);
    }
  },
);

test('a client that is not heard because the process stood still is not taken for dead', async () => {
  const node = new TestNode();
  const client = await node.connect({ keepalive: 1 });
  node.clock.advance(5_000);
  node.node.tick(4_900);
  await node.settle();
  expect(client.channel.ended).toBe(false);
  await node.pass(2_000);
  expect(client.channel.ended).toBe(true);
});
