import { describe, expect, test } from '@jest/globals';
import { RedisCluster, RedisProcess, hasRedisServer } from '@shoalmq/testkit';
import { RedisConnection, inspectRedis, redisWarnings } from '../src/index.ts';
import type { RedisOptions, RedisServer } from '../src/index.ts';

const well: RedisServer = {
  version: '7.0.15',
  connectedReplicas: 2,
  memoryBytes: 1,
  memoryBytesMax: 0,
  evictionPolicy: 'noeviction',
  appendOnly: true,
  appendFsync: 'everysec',
  snapshots: true,
  minReplicas: 1,
  unknown: [],
};

test('a Redis as it should be gets no warning', () => {
  expect(redisWarnings([well], { replicas: 2 })).toEqual([]);
});

test.each<[Partial<RedisServer>, RegExp]>([
  [{ version: '6.2.14' }, /^Redis 6\.2\.14 is older than 7\.0: nothing can be queued/],
  [{ evictionPolicy: 'allkeys-lru' }, /^maxmemory-policy is allkeys-lru, not noeviction: .*delete/],
  [{ appendOnly: false }, /^appendonly is no: when Redis restarts, .*last snapshot is lost/],
  [{ appendOnly: false, snapshots: false }, /^appendonly is no and save is empty: .*are lost/],
  [{ appendFsync: 'no' }, /^appendfsync is no: when the machine/],
  [{ minReplicas: 0 }, /^min-replicas-to-write is 0: a primary that is cut off/],
  [{ connectedReplicas: 0 }, /^0 replicas are connected and 1 must confirm each write/],
  [{ unknown: ['save'] }, /does not let this user read its settings: save not checked$/],
])('%j costs something, and the warning says what', (differs, warning) => {
  const warnings = redisWarnings([{ ...well, ...differs }], { replicas: 1 });
  expect(warnings).toEqual([expect.stringMatching(warning)]);
});

test('replicas matter only when they must confirm; of several primaries the count is told', () => {
  const lonely = { ...well, minReplicas: 0, connectedReplicas: 0 };
  expect(redisWarnings([lonely], { replicas: 0 })).toEqual([]);
  const [warning] = redisWarnings([well, lonely, lonely], { replicas: 1 });
  expect(warning).toMatch(/\(2 of 3 primaries\)$/);
});

const describeWithRedis = hasRedisServer() ? describe : describe.skip;

describeWithRedis('a real Redis', () => {
  test('tells its settings', async () => {
    await using redis = await RedisProcess.start({
      args: ['--maxmemory-policy', 'volatile-ttl', '--min-replicas-to-write', '2'],
    });
    expect(await inspect([redis], {})).toMatchObject([
      {
        ...{ evictionPolicy: 'volatile-ttl', appendOnly: false, snapshots: false },
        ...{ minReplicas: 2, appendFsync: 'everysec', connectedReplicas: 0, unknown: [] },
        version: expect.stringMatching(/^\d+\.\d+/),
      },
    ]);
  });

  test('that forbids CONFIG is asked with INFO, and what that does not tell is named', async () => {
    await using redis = await RedisProcess.start({ args: ['--maxmemory-policy', 'allkeys-lru'] });
    await redis.command('ACL', 'SETUSER', 'u', 'on', '>p', '~*', '+@all', '-config');
    const servers = await inspect([redis], { username: 'u', password: 'p' });
    expect(servers).toMatchObject([
      { evictionPolicy: 'allkeys-lru', appendOnly: false, unknown: ['appendfsync', 'save'] },
    ]);
    expect(servers[0]?.minReplicas).toBe(0);
  });

  test('in a cluster every primary is asked', async () => {
    await using cluster = await RedisCluster.start();
    await cluster.nodes[1]!.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-random');
    const servers = await inspect(cluster.nodes, { mode: 'cluster' });
    expect(servers.map(({ evictionPolicy }) => evictionPolicy).sort()).toEqual([
      ...['allkeys-random', 'noeviction', 'noeviction'],
    ]);
  });
});

async function inspect(
  nodes: readonly RedisProcess[],
  options: Partial<RedisOptions>,
): Promise<readonly RedisServer[]> {
  const addresses = nodes.map(({ host, port }) => ({ host, port }));
  const redis = new RedisConnection({ mode: 'standalone', nodes: addresses, ...options });
  try {
    // Any answer means that the servers are known.
    await redis.command('k', ['EXISTS', 'k']);
    return await inspectRedis(redis.within(5_000));
  } finally {
    await redis.close();
  }
}
