import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { hasRedisServer, RedisCluster, RedisProcess } from '@shoalmq/testkit';
import { slotOf } from '../src/connection/hash-slot.ts';
import { RedisConnection } from '../src/index.ts';

const there = hasRedisServer();
if (!there) console.warn('redis-server is not installed: the tests of store-redis are skipped');
const describeWithRedis = there ? describe : describe.skip;

describeWithRedis('a single Redis', () => {
  let redis: RedisProcess;
  beforeAll(async () => {
    redis = await RedisProcess.start();
  });
  afterAll(() => redis.stop());

  test('commands are answered, binary arguments arrive as they are', async () => {
    await using client = connect([redis], 'standalone');
    const value = Buffer.from([0, 13, 10, 255]);
    await client.redis.command('k', ['SET', 'k', value]);
    expect(await client.redis.command('k', ['GET', 'k'])).toEqual(value);
  });

  test('an error reply that will not pass fails the call at once', async () => {
    await using client = connect([redis], 'standalone');
    await expect(client.redis.command('k', ['INCR', 'k'])).rejects.toMatchObject({
      code: 'SHOAL_STORE_REFUSED',
    });
  });

  test('a call that loses its connection is sent again, in order', async () => {
    await using client = connect([redis], 'standalone');
    await client.redis.command('list', ['DEL', 'list']);
    const calls = Array.from({ length: 500 }, (_, index) =>
      client.redis.command('list', ['RPUSH', 'list', index]),
    );
    await redis.command('CLIENT', 'KILL', 'TYPE', 'normal');
    await Promise.all(calls);
    const list = (await client.redis.command('list', ['LRANGE', 'list', 0, -1])) as Buffer[];
    // Some may have run twice; by first occurrence they are in order.
    const first = [...new Set(list.map(Number))];
    expect(first).toEqual(calls.map((_, index) => index));
  });

  test('without an answer a call fails at its deadline, and the status is down until Redis is back', async () => {
    await using paused = await RedisProcess.start();
    await using client = connect([paused], 'standalone', { deadlineMs: 200, replyTimeoutMs: 100 });
    await client.redis.command('k', ['SET', 'k', 'v']);
    expect(client.redis.status.state).toBe('up');
    const states: string[] = [];
    const down = new Promise<void>((resolve) => {
      client.redis.onStatus(({ state }) => {
        states.push(state);
        if (state === 'down') resolve();
      });
    });
    paused.pause();
    await expect(client.redis.command('k', ['GET', 'k'])).rejects.toMatchObject({
      code: 'SHOAL_STORE_UNAVAILABLE',
    });
    await down;
    const up = new Promise<void>((resolve) => {
      client.redis.onStatus(({ state }) => {
        if (state === 'up') resolve();
      });
    });
    paused.resume();
    await up;
    expect(await client.redis.command('k', ['GET', 'k'])).toEqual(Buffer.from('v'));
    expect(states).toEqual(['down', 'up']);
  });
});

describeWithRedis('a Redis Cluster', () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await RedisCluster.start();
  }, 30_000);
  afterAll(() => cluster.stop());

  test('each command goes to the primary of its key', async () => {
    await using client = connect(cluster.nodes.slice(0, 1), 'cluster');
    const keys = Array.from({ length: 50 }, (_, index) => `shoal:{${String(index)}}:x`);
    await Promise.all(keys.map((key) => client.redis.command(key, ['SET', key, key])));
    const values = await Promise.all(keys.map((key) => client.redis.command(key, ['GET', key])));
    expect(values.map(String)).toEqual(keys);
    expect(client.redis.slotsOfPrimaries()).toHaveLength(3);
  });

  test('slots are computed as Redis does', async () => {
    const [node] = cluster.nodes as [RedisProcess];
    for (const key of [
      'a',
      '{a}b',
      'a{}b',
      '{}',
      'a{b',
      '}a{b}c}',
      'shoal:{sYQ}:queue:1',
      '{{a}}',
    ]) {
      expect(await node.command('CLUSTER', 'KEYSLOT', key)).toBe(`:${slotOf(key)}`);
    }
  });

  test('a slot that moved is found', async () => {
    await using client = connect(cluster.nodes.slice(0, 1), 'cluster');
    const [first, second] = cluster.nodes as [RedisProcess, RedisProcess];
    const key = 'shoal:{empty}:y';
    const slot = Number((await first.command('CLUSTER', 'KEYSLOT', key)).slice(1));
    await client.redis.command(key, ['GET', key]);
    const target = Number((await first.command('CLUSTER', 'COUNTKEYSINSLOT', slot)).slice(1));
    expect(target).toBe(0);
    const id = (await second.command('CLUSTER', 'MYID')).split('\r\n')[1] ?? '';
    for (const node of cluster.nodes) await node.command('CLUSTER', 'SETSLOT', slot, 'NODE', id);
    await client.redis.command(key, ['SET', key, 'moved']);
    expect(await second.command('GET', key)).toContain('moved');
  });
});

function connect(
  nodes: readonly RedisProcess[],
  mode: 'standalone' | 'cluster',
  options: { readonly deadlineMs?: number; readonly replyTimeoutMs?: number } = {},
) {
  const redis = new RedisConnection({ mode, nodes, ...options });
  return { redis, [Symbol.asyncDispose]: () => redis.close() };
}
