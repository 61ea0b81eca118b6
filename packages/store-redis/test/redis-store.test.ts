import { afterAll, beforeAll, describe, jest } from '@jest/globals';
import { describeStateStore, hasRedisServer, RedisCluster, RedisProcess } from '@shoalmq/testkit';
import type { StateStoreHarness, StateStoreLimits } from '@shoalmq/testkit';
import { RedisConnection, RedisStore, WILL_LEASE_MS } from '../src/index.ts';
import type { RedisOptions } from '../src/index.ts';

// Random operations make thousands of round trips.
jest.setTimeout(120_000);

const there = hasRedisServer();
if (!there) console.warn('redis-server is not installed: the tests of store-redis are skipped');
const describeWithRedis = there ? describe : describe.skip;

describeWithRedis('on one server', () => {
  let redis: RedisProcess;
  beforeAll(async () => {
    redis = await RedisProcess.start();
  });
  afterAll(() => redis.stop());

  describeStateStore(
    'redis store',
    (limits) => harness({ mode: 'standalone', nodes: [redis] }, limits),
    { willLeaseMs: WILL_LEASE_MS, runs: 60 },
  );
});

describeWithRedis('on a cluster', () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await RedisCluster.start();
  }, 30_000);
  afterAll(() => cluster.stop());

  describeStateStore(
    'redis store',
    (limits) => harness({ mode: 'cluster', nodes: cluster.nodes.slice(0, 1) }, limits),
    { willLeaseMs: WILL_LEASE_MS, runs: 30 },
  );
});

let stores = 0;

/** A store with keys that no other store has. Time passes by an offset on Redis's clock. */
function harness(
  options: Pick<RedisOptions, 'mode' | 'nodes'>,
  limits: StateStoreLimits,
): Promise<StateStoreHarness> {
  stores += 1;
  const redis = new RedisConnection({ ...options, keyPrefix: `test${stores}:` });
  let offsetMs = 0;
  const nowMs = () => Date.now() + offsetMs;
  const store = new RedisStore({
    redis,
    limits,
    clock: { wallMs: nowMs },
    clockOffsetMs: () => offsetMs,
    holdMs: 0,
  });
  return Promise.resolve({
    store,
    nowMs,
    advance: (ms: number) => {
      offsetMs += ms;
    },
    close: () => store.close(),
  });
}
