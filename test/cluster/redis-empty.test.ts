import { describe, expect, test } from '@jest/globals';
import { ByteClient, RedisProcess, hasRedisServer } from '@shoalmq/testkit';
import { Deliveries, events, persistent, startNode, until } from './redis-scenario.ts';

const describeWithRedis = hasRedisServer() ? describe : describe.skip;
const timeoutMs = 30_000;

describeWithRedis('P9: Redis comes back empty', () => {
  test(
    'FLUSHALL under load',
    () =>
      scenario(async (redis) => {
        await redis.command('FLUSHALL');
      }),
    120_000,
  );

  test('it starts again without persistence', () => scenario((redis) => redis.restart()), 120_000);
});

/** Connected clients survive it: they get what is published afterwards, and their sessions are whole again. */
async function scenario(lose: (redis: RedisProcess) => Promise<void>): Promise<void> {
  await using redis = await RedisProcess.start();
  await using one = await startNode('n1', ['--redis', redis.url]);
  await using two = await startNode('n2', ['--redis', redis.url]);
  const will = { topic: 'wills/x', payload: Buffer.from('dead'), qos: 1 as const, retain: false };

  await using clean = await ByteClient.connect(one.port, { timeoutMs, clientId: 'clean', will });
  await clean.subscribe('to/#', { qos: 1 });
  const kept = { ...persistent('kept', timeoutMs), will };
  await using subscriber = await ByteClient.connect(two.port, kept);
  await subscriber.subscribe('to/#', { qos: 2 });
  await using watcher = await ByteClient.connect(one.port, { timeoutMs });
  await watcher.subscribe('wills/#', { qos: 1 });
  await using publisher = await ByteClient.connect(one.port, persistent('publisher', timeoutMs));
  for (const topic of ['kept/1', 'kept/2']) {
    await publisher.publishFully({ topic, payload: 'old', qos: 1, retain: true });
  }
  const before = ['a', 'b', 'c'];
  const deliveries = new Deliveries();
  for (const payload of before) {
    await publisher.publishFully({ topic: 'to/before', payload, qos: 1 });
  }
  await deliveries.takeUntil(subscriber, { 'to/before': before });

  // Nothing that is acknowledged from here on may be missing, while the nodes have still to notice.
  const lost = lose(redis);
  const payloads = Array.from({ length: 40 }, (_, index) => String(index));
  const acknowledged = { 'to/1': [] as string[], 'to/2': [] as string[] };
  await lost;
  for (const payload of payloads) {
    expect(await publisher.publishFully({ topic: 'to/1', payload, qos: 1 })).toBe(0);
    acknowledged['to/1'].push(payload);
    expect(await publisher.publishFully({ topic: 'to/2', payload, qos: 2 })).toBe(0);
    acknowledged['to/2'].push(payload);
  }
  await deliveries.takeUntil(subscriber, acknowledged);
  for (const topic of ['to/1', 'to/2']) expect(deliveries.first(topic)).toEqual(payloads);
  expect(deliveries.all('to/2')).toEqual(payloads);
  const deliveredClean = new Deliveries();
  await deliveredClean.takeUntil(clean, { ...acknowledged, 'to/before': before });
  for (const node of [one, two]) expect(events(node)).toContain('cluster.state_replaced');

  // The payload of this one is new, whatever becomes of the names.
  await publisher.publishFully({ topic: 'kept/2', payload: 'new', qos: 1, retain: true });
  for (const node of [one, two]) {
    await until('the lost names are dropped', () => events(node).includes('cluster.retained_lost'));
  }
  await using reader = await ByteClient.connect(two.port, { timeoutMs });
  await reader.subscribe('kept/#', { qos: 1 });
  await reader.expectPublish({ topic: 'kept/2', payload: 'new', retain: true });
  await reader.expectNothing();

  // The session is in Redis again, with its subscriptions, its claim and its will.
  await using moved = await ByteClient.connect(one.port, kept);
  expect(moved.connack.sessionPresent).toBe(true);
  await subscriber.expectDisconnect(0x8e);
  await watcher.expectPublish({ topic: 'wills/x', payload: 'dead', acknowledge: true });
  await publisher.publishFully({ topic: 'to/moved', payload: 'here', qos: 1 });
  await deliveries.takeUntil(moved, { 'to/moved': ['here'] });
  await using other = await ByteClient.connect(two.port, { timeoutMs, clientId: 'clean' });
  expect(other.connack.reasonCode).toBe(0);
  await new Deliveries().takeUntil(clean, { 'to/moved': ['here'] });
  await clean.expectDisconnect(0x8e);
  await watcher.expectPublish({ topic: 'wills/x', payload: 'dead', acknowledge: true });
  moved.abort();
  await watcher.expectPublish({ topic: 'wills/x', payload: 'dead', acknowledge: true });
  await watcher.expectNothing();
  for (const node of [one, two]) expect(events(node)).not.toContain('cluster.buried');
}
