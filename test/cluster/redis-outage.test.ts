import { describe, expect, test } from '@jest/globals';
import { ByteClient, RedisProcess, hasRedisServer } from '@shoalmq/testkit';
import { Deliveries, events, persistent, sleep, startNode } from './redis-scenario.ts';

const describeWithRedis = hasRedisServer() ? describe : describe.skip;
const OUTAGE_MS = 30_000;
/** Longer than the outage: what waits for it comes after it. */
const timeoutMs = OUTAGE_MS + 30_000;
const keepalive = 8;

describeWithRedis('P9: Redis is away for 30 s', () => {
  test(
    'it hangs (SIGSTOP)',
    () =>
      scenario([], {
        stop: (redis) => {
          redis.pause();
          return Promise.resolve();
        },
        start: (redis) => {
          redis.resume();
          return Promise.resolve();
        },
      }),
    120_000,
  );

  test(
    'it stops (SIGTERM) and starts again with its append-only file',
    () =>
      scenario(['--appendonly', 'yes', '--appendfsync', 'always'], {
        stop: (redis) => redis.terminate(),
        start: (redis) => redis.restart(),
      }),
    120_000,
  );
});

interface Outage {
  readonly stop: (redis: RedisProcess) => Promise<void>;
  readonly start: (redis: RedisProcess) => Promise<void>;
}

async function scenario(redisArgs: readonly string[], outage: Outage): Promise<void> {
  await using redis = await RedisProcess.start({ args: redisArgs });
  await using one = await startNode('n1', ['--redis', redis.url]);
  await using two = await startNode('n2', ['--redis', redis.url]);

  const will = { topic: 'wills/x', payload: Buffer.from('dead'), qos: 1 as const, retain: false };
  const clean = { timeoutMs, keepalive };
  const kept = (clientId: string) => ({ ...persistent(clientId, timeoutMs), keepalive });
  await using watcher = await ByteClient.connect(one.port, clean);
  await watcher.subscribe('wills/#', { qos: 1 });
  await using local = await ByteClient.connect(one.port, clean);
  await local.subscribe('zero/#');
  await using remote = await ByteClient.connect(two.port, { ...clean, will });
  await remote.subscribe('zero/#');
  await using subscriber = await ByteClient.connect(two.port, kept('subscriber'));
  await subscriber.subscribe('kept/#', { qos: 2 });
  await using offline = await ByteClient.connect(one.port, kept('offline'));
  await offline.subscribe('kept/#', { qos: 1 });
  offline.disconnect();
  await using zero = await ByteClient.connect(one.port, clean);
  await using five = await ByteClient.connect(one.port, { ...clean, will });
  await using three = await ByteClient.connect(two.port, { ...clean, version: 4 });
  await using twice = await ByteClient.connect(one.port, { ...kept('twice'), will });
  await five.publishFully({ topic: 'kept/five', payload: 'before', qos: 1 });
  await subscriber.expectPublish({ topic: 'kept/five', payload: 'before', acknowledge: true });

  await outage.stop(redis);
  const began = performance.now();
  await using late = await ByteClient.open(two.port, { timeoutMs });
  late.sendConnect({ clientId: 'late', properties: { sessionExpiryInterval: 60 } });
  // What waits must not keep the next PINGREQ from its answer.
  three.sendPacket({ cmd: 'subscribe', messageId: 99, subscriptions: [{ topic: 's', qos: 1 }] });
  const clients = [watcher, local, remote, subscriber, zero, five, three, twice];
  const payloads: string[] = [];
  while (performance.now() - began < OUTAGE_MS) {
    const payload = String(payloads.length);
    payloads.push(payload);
    five.publish({ topic: 'kept/five', payload, qos: 1 });
    three.publish({ topic: 'kept/three', payload, qos: 1 });
    twice.publish({ topic: 'kept/twice', payload, qos: 2 });
    zero.publish({ topic: 'zero/a', payload });
    await local.expectPublish({ topic: 'zero/a', payload });
    await remote.expectPublish({ topic: 'zero/a', payload });
    // Pings are answered, and nothing else comes: no acknowledgement, no will.
    for (const client of clients) await client.expectNothing();
    await sleep(1_000);
  }
  expect(late.received).toEqual([]);

  await outage.start(redis);
  await acknowledged(five, payloads.length);
  let completed = 0;
  while (completed < payloads.length) {
    const packet = await twice.expectPacket();
    if (packet.cmd === 'pubrec') twice.pubrel(packet.messageId);
    else if (packet.cmd === 'pubcomp') completed += 1;
    else throw new Error(`${packet.cmd} came`);
  }
  expect(await late.expectPacket('connack')).toMatchObject({ reasonCode: 0 });
  expect(await three.expectPacket('suback')).toMatchObject({ messageId: 99 });
  await acknowledged(three, payloads.length);

  // A QoS 1 append whose reply was lost may be there twice; nothing is missing, and first deliveries are in order.
  const expected = { 'kept/five': payloads, 'kept/three': payloads, 'kept/twice': payloads };
  await using resumed = await ByteClient.connect(one.port, kept('offline'));
  expect(resumed.connack.sessionPresent).toBe(true);
  const later = { ...expected, 'kept/five': ['before', ...payloads] };
  for (const [client, wanted] of [
    [subscriber, expected],
    [resumed, later],
  ] as const) {
    const deliveries = new Deliveries();
    await deliveries.takeUntil(client, wanted);
    for (const [topic, all] of Object.entries(wanted)) expect(deliveries.first(topic)).toEqual(all);
    if (client === subscriber) expect(deliveries.all('kept/twice')).toEqual(payloads);
  }

  // Nobody died of it: no will, nobody buried, and every connection is there.
  for (const client of clients) await client.roundTrip();
  await watcher.expectNothing();
  for (const node of [one, two]) {
    expect(events(node)).toContain('cluster.resumed');
    expect(events(node)).not.toContain('cluster.buried');
    expect(events(node)).not.toContain('cluster.peer_gone');
  }
}

async function acknowledged(client: ByteClient, messages: number): Promise<void> {
  for (let count = 0; count < messages; count++) await client.expectPacket('puback');
}
