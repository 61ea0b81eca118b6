import { expect, test } from '@jest/globals';
import { TestNode } from '@shoalmq/testkit';
import type { ConnectFields, MemoryClient } from '@shoalmq/testkit';

interface DelayedWill {
  readonly payload?: string;
  readonly delay: number;
  readonly expiry?: number;
  readonly qos?: 0 | 1 | 2;
}

function will({
  payload = 'gone',
  delay,
  expiry,
  qos = 0,
}: DelayedWill): NonNullable<ConnectFields['will']> {
  return {
    topic: 'will',
    payload: Buffer.from(payload),
    qos,
    retain: false,
    properties: {
      willDelayInterval: delay,
      ...(expiry === undefined ? {} : { messageExpiryInterval: expiry }),
    },
  };
}

function session(sessionExpiryInterval: number, clean = false): ConnectFields {
  return { clientId: 'c', clean, properties: { sessionExpiryInterval } };
}

async function watcher(node: TestNode): Promise<MemoryClient> {
  const client = await node.connect();
  await client.subscribe('will');
  return client;
}

function payloads(client: MemoryClient): string[] {
  return client.publishes().map(({ payload }) => payload.toString());
}

test('[MQTT-3.1.2-8] a will is published when its delay has passed since the connection ended, and once', async () => {
  const node = new TestNode();
  const watching = await watcher(node);
  const client = await node.connect({ ...session(3_600), will: will({ delay: 30 }) });
  await node.pass(60_000);
  client.channel.disconnect();
  await node.pass(29_999);
  expect(payloads(watching)).toEqual([]);
  await node.pass(1);
  expect(payloads(watching)).toEqual(['gone']);
  // Longer than a will may stay unsettled.
  await node.pass(120_000);
  expect(payloads(watching)).toEqual([]);
});

test('[MQTT-3.1.2-8] a will is due when its session expires, delay or not', async () => {
  const node = new TestNode();
  const watching = await watcher(node);
  const client = await node.connect({ ...session(10), will: will({ delay: 3_600 }) });
  client.channel.disconnect();
  await node.pass(9_999);
  expect(payloads(watching)).toEqual([]);
  await node.pass(1);
  expect(payloads(watching)).toEqual(['gone']);
});

test('[MQTT-3.1.2-8] what DISCONNECT says about the session counts for the will too', async () => {
  const node = new TestNode();
  const watching = await watcher(node);
  const client = await node.connect({ ...session(3_600), will: will({ delay: 600 }) });
  client.send({ cmd: 'disconnect', reasonCode: 4, properties: { sessionExpiryInterval: 5 } });
  await node.pass(4_999);
  expect(payloads(watching)).toEqual([]);
  await node.pass(1);
  expect(payloads(watching)).toEqual(['gone']);
});

test('[MQTT-3.1.3-9][MQTT-3.1.2-10] a connection to the session before the delay has passed prevents the will for good', async () => {
  const node = new TestNode();
  const watching = await watcher(node);
  const client = await node.connect({ ...session(3_600), will: will({ delay: 30 }) });
  client.channel.disconnect();
  await node.pass(29_999);
  const back = await node.connect(session(3_600));
  expect(back.connack.sessionPresent).toBe(true);
  await node.pass(120_000);
  back.channel.disconnect();
  await node.pass(3_600_000);
  expect(payloads(watching)).toEqual([]);
});

test('[MQTT-3.1.2-7] each connection has a will of its own', async () => {
  const node = new TestNode();
  const watching = await watcher(node);
  const first = await node.connect({ ...session(600), will: will({ payload: '1', delay: 30 }) });
  first.channel.disconnect();
  await node.pass(20_000);
  const second = await node.connect({ ...session(600), will: will({ payload: '2', delay: 30 }) });
  second.channel.disconnect();
  await node.pass(29_999);
  expect(payloads(watching)).toEqual([]);
  await node.pass(1);
  expect(payloads(watching)).toEqual(['2']);
});

test('[MQTT-3.1.2-8] a will that is due, but that no sweep has met yet, is published when the client is back too late', async () => {
  const node = new TestNode();
  const watching = await watcher(node);
  const client = await node.connect({ ...session(600), will: will({ delay: 30 }) });
  client.channel.disconnect();
  await node.settle();
  node.clock.advance(30_000);
  const back = await node.connect(session(600));
  expect(back.connack.sessionPresent).toBe(true);
  expect(payloads(watching)).toEqual(['gone']);
  await node.pass(60_000);
  expect(payloads(watching)).toEqual([]);
});

test('the expiry of a will counts from its publication', async () => {
  const node = new TestNode();
  const away = await node.connect({
    clientId: 'away',
    clean: false,
    properties: { sessionExpiryInterval: 3_600 },
  });
  await away.subscribe('will', { qos: 1 });
  away.channel.disconnect();
  for (const [clientId, expiry] of [
    ['long', 50],
    ['short', 20],
  ] as const) {
    const client = await node.connect({
      clientId,
      properties: { sessionExpiryInterval: 600 },
      will: will({ payload: clientId, delay: 100, expiry, qos: 1 }),
    });
    client.channel.disconnect();
  }
  await node.pass(100_000);
  await node.pass(20_000);
  const back = await node.connect({
    clientId: 'away',
    clean: false,
    properties: { sessionExpiryInterval: 3_600 },
  });
  const [publish, ...more] = back.publishes();
  expect(publish?.payload.toString()).toBe('long');
  expect(publish?.properties?.messageExpiryInterval).toBe(30);
  expect(more).toEqual([]);
});
