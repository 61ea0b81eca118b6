import { describe, expect, test } from '@jest/globals';
import {
  ByteClient,
  FlakyProxy,
  RedisCluster,
  RedisProcess,
  RedisSentinels,
  hasRedisServer,
} from '@shoalmq/testkit';
import { Deliveries, events, persistent, sleep, startNode, until } from './redis-scenario.ts';

const describeWithRedis = hasRedisServer() ? describe : describe.skip;
const timeoutMs = 60_000;
const replicated = ['--set', 'cluster.durability=replicated', '--set', 'cluster.replicas=1'];

describeWithRedis('P9: a primary of Redis is killed at durability `replicated`', () => {
  test('Sentinel promotes one of two replicas', async () => {
    await using redis = await RedisSentinels.start();
    await scenario(redis.url, async () => {
      await (await redis.primary()).kill();
    });
  }, 120_000);

  test.each(['has the leases', 'does not have the leases'])(
    'a Redis Cluster promotes the replica of a primary that %s, which comes back as its replica',
    async (which) => {
      await using redis = await RedisCluster.start({ replicas: 1 });
      const slot = Number(
        (await redis.nodes[0]!.command('CLUSTER', 'KEYSLOT', 'x{nodes}')).slice(1),
      );
      const leases = Math.floor(slot / Math.ceil(16_384 / 3));
      const index = which === 'has the leases' ? leases : (leases + 1) % 3;
      const nodes = redis.nodes.map(({ host, port }) => `${host}:${String(port)}`);
      await scenario(`redis+cluster://${nodes.join(',')}`, async () => {
        const [primary, replica] = [redis.nodes[index]!, redis.nodes[index + 3]!];
        await primary.kill();
        await until('the replica is promoted', async () =>
          (await replica.command('INFO', 'replication')).includes('role:master'),
        );
        await primary.restart();
      });
    },
    120_000,
  );
});

/** Service goes on by itself, and what was acknowledged is there: every session gets it, at QoS 2 once, in order. */
async function scenario(url: string, kill: () => Promise<void>): Promise<void> {
  await using one = await startNode('n1', ['--redis', url], replicated);
  await using two = await startNode('n2', ['--redis', url], replicated);
  // Several sessions: in a Redis Cluster they are on different servers.
  const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
  const subscribers = await Promise.all(
    ids.map(async (id, index) => {
      const { port } = index % 2 === 0 ? one : two;
      const client = await ByteClient.connect(port, persistent(id, timeoutMs));
      await client.subscribe('to/#', { qos: 2 });
      return client;
    }),
  );
  const [away] = subscribers.splice(-1);
  away!.disconnect();
  await using five = await ByteClient.connect(one.port, { timeoutMs });
  await using twice = await ByteClient.connect(two.port, persistent('twice', timeoutMs));
  twice.stream.on('data', () => {
    for (const packet of twice.received.splice(0)) {
      if (packet.cmd === 'pubrec') twice.pubrel(packet.messageId);
      if (packet.cmd === 'pubcomp') completed += 1;
    }
  });
  let completed = 0;
  const payloads: string[] = [];
  const acknowledged = () => five.received.filter(({ cmd }) => cmd === 'puback').length;
  const publish = async (messages: number) => {
    for (let count = 0; count < messages; count++) {
      const payload = String(payloads.length);
      payloads.push(payload);
      five.publish({ topic: 'to/1', payload, qos: 1 });
      twice.publish({ topic: 'to/2', payload, qos: 2 });
      await sleep(10);
    }
  };
  const deliveries = subscribers.map(() => new Deliveries());
  const expected = { 'to/1': payloads, 'to/2': payloads };
  await publish(100);
  const killing = kill();
  await publish(300);
  await killing;
  await until(
    'everything is acknowledged',
    async () => {
      await publish(1);
      return acknowledged() >= 450 && completed >= 450;
    },
    timeoutMs,
  );
  await until('the rest is acknowledged', () => {
    return acknowledged() === payloads.length && completed === payloads.length;
  });
  await Promise.all(
    subscribers.map(async (client, index) => {
      const got = deliveries[index]!;
      await got.takeUntil(client, expected);
      expect(got.first('to/1')).toEqual(payloads);
      expect(got.all('to/2')).toEqual(payloads);
    }),
  );

  // Sessions can be claimed, and those that were away have everything.
  await using back = await ByteClient.connect(one.port, persistent(ids.at(-1)!, timeoutMs));
  expect(back.connack.sessionPresent).toBe(true);
  const got = new Deliveries();
  await got.takeUntil(back, expected);
  expect(got.first('to/1')).toEqual(payloads);
  expect(got.all('to/2')).toEqual(payloads);
  await using moved = await ByteClient.connect(two.port, persistent('a', timeoutMs));
  expect(moved.connack.sessionPresent).toBe(true);
  await subscribers[0]!.expectDisconnect(0x8e);
  for (const node of [one, two]) expect(events(node)).not.toContain('cluster.buried');
  for (const client of subscribers) await client[Symbol.asyncDispose]();
}

describeWithRedis('H6: a failover that loses writes, at durability `primary`', () => {
  test('nothing that is acknowledged afterwards is passed over by who has read further than the new primary', async () => {
    await using first = await RedisProcess.start();
    await using second = await RedisProcess.start({
      args: [
        '--replicaof',
        `${first.host} ${String(first.port)}`,
        '--repl-diskless-sync-delay',
        '0',
      ],
    });
    await until('the replica is in sync', async () =>
      (await second.command('INFO', 'replication')).includes('master_link_status:up'),
    );
    await using proxy = await FlakyProxy.start(first.port);
    const url = `redis://127.0.0.1:${String(proxy.port)}`;
    await using one = await startNode('n1', ['--redis', url]);
    await using two = await startNode('n2', ['--redis', url]);
    await using subscriber = await ByteClient.connect(two.port, persistent('s', timeoutMs));
    await subscriber.subscribe('to/#', { qos: 2 });
    await using publisher = await ByteClient.connect(one.port, { timeoutMs });
    const deliveries = new Deliveries();
    const publish = async (payloads: readonly string[], qos: 1 | 2) => {
      for (const payload of payloads) await publisher.publishFully({ topic: 'to/1', payload, qos });
    };

    await publish(['a', 'b'], 1);
    await deliveries.takeUntil(subscriber, { 'to/1': ['a', 'b'] });
    await until('the replica has it', async () => {
      const [ours, theirs] = await Promise.all(
        [first, second].map((redis) => redis.command('INFO', 'replication')),
      );
      return (
        /master_repl_offset:(\d+)/.exec(ours!)?.[1] === /slave_repl_offset:(\d+)/.exec(theirs!)?.[1]
      );
    });
    await second.command('REPLICAOF', 'NO', 'ONE');
    const lost = Array.from({ length: 20 }, (_, index) => `lost ${String(index)}`);
    await publish(lost, 1);
    await deliveries.takeUntil(subscriber, { 'to/1': lost });
    proxy.retarget(second.port);
    const after = Array.from({ length: 30 }, (_, index) => `after ${String(index)}`);
    await publish(after.slice(0, 15), 1);
    await publish(after.slice(15), 2);
    await deliveries.takeUntil(subscriber, { 'to/1': after });
    expect(deliveries.first('to/1')).toEqual(['a', 'b', ...lost, ...after]);
    for (const node of [one, two]) expect(events(node)).toContain('cluster.state_replaced');
  }, 60_000);
});
