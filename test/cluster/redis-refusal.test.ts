import { expect, test } from '@jest/globals';
import { ByteClient, RedisProcess, hasRedisServer } from '@shoalmq/testkit';
import { Deliveries, events, persistent, startNode, until } from './redis-scenario.ts';

const testWithRedis = hasRedisServer() ? test : test.skip;
const timeoutMs = 30_000;

testWithRedis(
  'a Redis without memory (noeviction): what must be kept waits, the log says why, and all goes on by itself',
  async () => {
    await using redis = await RedisProcess.start();
    await using one = await startNode('n1', ['--redis', redis.url]);
    await using two = await startNode('n2', ['--redis', redis.url]);
    await using subscriber = await ByteClient.connect(two.port, persistent('s', timeoutMs));
    await subscriber.subscribe('kept/#', { qos: 1 });
    await using zero = await ByteClient.connect(two.port, { timeoutMs });
    await zero.subscribe('zero/#');
    await using publisher = await ByteClient.connect(one.port, { timeoutMs });
    await publisher.publishFully({ topic: 'kept/1', payload: 'before', qos: 1 });

    await redis.command('CONFIG', 'SET', 'maxmemory', 1);
    const waiting = publisher.publishFully({ topic: 'kept/1', payload: 'during', qos: 1 });
    await until('the log says why', () =>
      one.lines.some((line) => line.includes('cluster.state_failed') && line.includes('OOM')),
    );
    publisher.publish({ topic: 'zero/1', payload: 'flows' });
    await zero.expectPublish({ topic: 'zero/1', payload: 'flows' });
    await publisher.roundTrip();
    expect(publisher.received.filter(({ cmd }) => cmd === 'puback')).toHaveLength(1);

    await redis.command('CONFIG', 'SET', 'maxmemory', 0);
    expect(await waiting).toBe(0);
    await new Deliveries().takeUntil(subscriber, { 'kept/1': ['before', 'during'] });
    for (const node of [one, two]) expect(events(node)).not.toContain('cluster.buried');
  },
  60_000,
);
