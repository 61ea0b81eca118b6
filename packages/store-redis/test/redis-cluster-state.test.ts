import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { DEFAULT_LIMITS } from '@shoalmq/core';
import type { NodeDescriptor, SharedFact } from '@shoalmq/core';
import type { ClusterStateHarness } from '@shoalmq/testkit';
import {
  describeClusterState,
  FactReader,
  hasRedisServer,
  RedisCluster,
  RedisProcess,
  SeededRandom,
} from '@shoalmq/testkit';
import { OwnedConnections, RedisClusterState, RedisConnection, RedisStore } from '../src/index.ts';

const RUNS = { runs: 30 };

const there = hasRedisServer();
if (!there) console.warn('redis-server is not installed: the tests of store-redis are skipped');
const describeWithRedis = there ? describe : describe.skip;

describeWithRedis('on one Redis', () => {
  let redis: RedisProcess;
  beforeAll(async () => {
    redis = await RedisProcess.start();
  });
  afterAll(() => redis.stop());

  describeClusterState(
    'cluster state',
    (options) => harnessOf([redis], 'standalone', options),
    RUNS,
  );

  test('the generation changes when Redis starts again, empty or not', async () => {
    await using other = await RedisProcess.start({ args: ['--appendonly', 'yes'] });
    await using nodes = statesOf([other], 'standalone');
    const state = nodes.connect();
    const before = await state.renewLease(SELF, 60_000);
    await other.restart();
    const after = await state.renewLease(SELF, 60_000);
    expect(after.generation).not.toBe(before.generation);
    expect((await state.renewLease(SELF, 60_000)).generation).toBe(after.generation);
  });

  test('the generation changes when a replica is promoted', async () => {
    await using primary = await RedisProcess.start({
      args: ['--repl-diskless-sync-delay', '0'],
    });
    await using replica = await RedisProcess.start({
      args: ['--replicaof', '127.0.0.1', String(primary.port)],
    });
    await until(async () =>
      (await replica.command('INFO', 'replication')).includes('link_status:up'),
    );
    await using before = statesOf([primary], 'standalone');
    const { generation } = await before.connect().renewLease(SELF, 60_000);
    const key = `${before.keyPrefix}{nodes}:nodes`;
    await until(async () => (await replica.command('EXISTS', key)) === ':1');
    await primary.kill();
    await replica.command('REPLICAOF', 'NO', 'ONE');

    await using after = statesOf([replica], 'standalone', { keyPrefix: before.keyPrefix });
    const membership = await after.connect().renewLease({ ...SELF, id: 'n2' }, 60_000);
    expect(membership.nodes).toHaveLength(2);
    expect(membership.generation).not.toBe(generation);
  });

  test('changes take effect once and in order although connections break under way', async () => {
    await using nodes = statesOf([redis], 'standalone');
    const [writer, reader] = [nodes.connect(), new FactReader(nodes.connect())];
    await reader.load();
    const random = new SeededRandom(1);
    const expected = new Map<string, SharedFact>();
    const writes: Promise<unknown>[] = [];
    for (let round = 0; round < 10; round++) {
      for (let i = 0; i < 100; i++) {
        const clientId = `c${String(random.integer(20))}`;
        const filter = `f/${String(random.integer(9))}`;
        const options = String(random.integer(3));
        const fact = { kind: 'session', clientId, incarnation: 'i', filter, options } as const;
        const change = random.integer(3) === 0 ? 'remove' : 'add';
        if (change === 'add') expected.set(`${clientId} ${filter}`, fact);
        else expected.delete(`${clientId} ${filter}`);
        writes.push(writer.changeFacts([{ change, fact }]));
      }
      await redis.command('CLIENT', 'KILL', 'TYPE', 'normal');
    }
    await Promise.all(writes);
    await reader.tail();
    expect(reader.timesLost).toBe(0);
    expect(reader.facts()).toEqual([...expected.values()].sort(byText));
    const stored = new FactReader(nodes.connect());
    await stored.load();
    expect(stored.facts()).toEqual(reader.facts());
  });

  test('a dead node leaves the connections whose sessions it claimed and did not release', async () => {
    await using nodes = statesOf([redis], 'standalone');
    await expectOrphans(nodes);
  });

  test('a fact of a kind that this version does not know is passed over', async () => {
    await using nodes = statesOf([redis], 'standalone');
    const state = nodes.connect();
    const [[bucket, before]] = [
      ...(await state.changeFacts([{ change: 'add', fact: { kind: 'retained', filter: 'x' } }])),
    ] as [[number, string]];
    const prefix = nodes.keyPrefix;
    const log = `${prefix}{f${String(bucket)}}:log`;
    const last = (await redis.command('XREVRANGE', log, '+', '-', 'COUNT', '1')).split('\r\n')[3]!;
    await redis.command('HSET', `${prefix}{f${String(bucket)}}:facts`, 'z1:a', 'b');
    await redis.command('XADD', log, '*', 'f', 'z1:a', 'c', '+b', 'p', last);
    const read = (await state.readLog(new Map([[bucket, before]]), 10)).get(bucket);
    const { facts, position } = await state.loadBucket(bucket);
    expect(read).toEqual({ changes: [], position });
    expect(position > before).toBe(true);
    expect(facts).toEqual([{ kind: 'retained', filter: 'x' }]);
  });
});

describeWithRedis('on a Redis Cluster', () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await RedisCluster.start();
  }, 30_000);
  afterAll(() => cluster.stop());

  describeClusterState('cluster state', (options) => harnessOf(cluster.nodes, 'cluster', options), {
    runs: 10,
  });

  test('a dead node leaves the connections whose sessions it claimed and did not release', async () => {
    await using nodes = statesOf(cluster.nodes, 'cluster');
    await expectOrphans(nodes);
  });

  test('the generation changes when any of the primaries starts again', async () => {
    await using other = await RedisCluster.start({ args: ['--appendonly', 'yes'] });
    await using nodes = statesOf(other.nodes, 'cluster');
    const state = nodes.connect();
    let { generation } = await state.renewLease(SELF, 60_000);
    for (const node of other.nodes) {
      await node.restart();
      await until(async () => (await node.command('CLUSTER', 'INFO')).includes('state:ok'));
      await until(async () => (await state.renewLease(SELF, 60_000)).generation !== generation);
      generation = (await state.renewLease(SELF, 60_000)).generation;
    }
  }, 60_000);
});

const SELF: NodeDescriptor = {
  id: 'n1',
  incarnation: 'a',
  address: 'n1:7883',
  version: '1.2.3',
  state: 'serving',
};

function byText(a: SharedFact, b: SharedFact): number {
  return JSON.stringify(a) < JSON.stringify(b) ? -1 : 1;
}

/** What a node does to its sessions, and what others find when it died. */
async function expectOrphans(nodes: ReturnType<typeof statesOf>): Promise<void> {
  const { redis } = nodes;
  const store = new RedisStore({ redis, limits: DEFAULT_LIMITS });
  const state = nodes.connect();
  const claim = (clientId: string, token: string) =>
    store.claim({
      clientId,
      token,
      cleanStart: false,
      expiryInterval: 100,
      protocolVersion: 5,
      username: '',
      will: undefined,
    });
  const release = (clientId: string, token: string) =>
    store.release({
      clientId,
      token,
      discardWill: false,
      expiryInterval: undefined,
      sentBelow: Number.MAX_SAFE_INTEGER,
    });
  const orphansOf = async (incarnation: string) => {
    const found: string[] = [];
    let cursor = '';
    do {
      const page = await state.orphans({ id: 'n1', incarnation }, cursor, 2);
      found.push(...page.connections.map(({ clientId, token }) => `${clientId} ${token}`));
      cursor = page.next;
    } while (cursor !== '');
    return found.sort();
  };

  for (const clientId of ['kept', 'left', 'moved', '}{#:']) await claim(clientId, 'n1#a#1');
  await release('left', 'n1#a#1');
  await claim('moved', 'n1#b#1');
  await until(async () => (await orphansOf('a')).length === 2);
  expect(await orphansOf('a')).toEqual(['kept n1#a#1', '}{#: n1#a#1']);
  expect(await orphansOf('b')).toEqual(['moved n1#b#1']);
  expect((await release('kept', 'n1#a#1')).outcome).toBe('ok');
  await claim('}{#:', 'n2#x#1');
  expect((await release('}{#:', 'n1#a#1')).outcome).toBe('fenced');
  await until(async () => (await orphansOf('a')).length === 0);
}

let prefixes = 0;

/** Cluster states of nodes that share a prefix of their own. */
function statesOf(
  nodes: readonly RedisProcess[],
  mode: 'standalone' | 'cluster',
  {
    keyPrefix = `test${String((prefixes += 1))}:`,
    ...options
  }: { readonly keyPrefix?: string; readonly logLengthMax?: number } = {},
) {
  const redis = new RedisConnection({ mode, nodes, keyPrefix });
  const random = new SeededRandom(prefixes);
  return {
    keyPrefix,
    redis,
    connect: () => new RedisClusterState({ redis, random, ...options }),
    [Symbol.asyncDispose]: () => redis.close(),
  };
}

function harnessOf(
  nodes: readonly RedisProcess[],
  mode: 'standalone' | 'cluster',
  options: { readonly logLengthMax: number },
): Promise<ClusterStateHarness> {
  const { redis, connect } = statesOf(nodes, mode, options);
  const owned = new OwnedConnections(redis);
  return Promise.resolve({
    connect,
    own: (token: string, clientId: string) => owned.add(token, clientId),
    disown: (token: string, clientId: string) => owned.remove(token, clientId),
    passTime: async (ms: number) => {
      const endsAtMs = Date.now() + ms;
      await until(() => Promise.resolve(Date.now() > endsAtMs));
    },
    lose: async () => {
      for (const node of nodes) await node.command('FLUSHALL');
    },
    close: () => redis.close(),
  });
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadlineAtMs = Date.now() + 20_000;
  while (!(await holds())) {
    if (Date.now() > deadlineAtMs) throw new Error('timed out');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
