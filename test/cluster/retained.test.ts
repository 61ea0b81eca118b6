import { expect, test } from '@jest/globals';
import type { ShoalProcess } from '@shoalmq/testkit';
import { ByteClient, RedisCluster, RedisProcess, hasRedisServer } from '@shoalmq/testkit';
import { startNodes } from './nodes.ts';
import { residentBytes } from './resident-bytes.ts';
import { VolumeClient } from './volume-client.ts';

const withRedis = hasRedisServer() ? test : test.skip;

const TRIALS = 50;
const WORKERS = 8;
const RETAINED = 100_000;
const MIB = 1_048_576;

/**
 * What one client publishes with RETAIN, or clears, is there, or gone, for whoever subscribes on any node from PUBACK
 * on. Each trial goes from node to node: publish, subscribe, clear, subscribe.
 */
async function tryAtOnce(nodes: readonly ShoalProcess[]): Promise<void> {
  await using marker = await ByteClient.connect(nodes[0]!.port);
  // Retained messages come in the order of the filters: after this one nothing more is to be expected.
  await marker.publishFully({ topic: 'marker', payload: 'marker', qos: 1, retain: true });
  const work = async (worker: number): Promise<void> => {
    const clients = await Promise.all(
      nodes.map(({ port }) => ByteClient.connect(port, { timeoutMs: 20_000 })),
    );
    for (let trial = 0; trial < TRIALS; trial++) {
      const at = (step: number) => clients[(worker + trial * 7 + step) % clients.length]!;
      const topic = `at-once/${String(worker)}/${String(trial)}`;
      const filter = trial % 2 === 0 ? topic : topic.replace('at-once', '+');
      await at(0).publishFully({ topic, payload: 'kept', qos: 1, retain: true });
      const step = 1 + (trial % 3);
      await at(step).subscribe([filter, 'marker'], { qos: 1 });
      await at(step).expectPublish({ topic, retain: true, acknowledge: true });
      await at(step).expectPublish({ topic: 'marker', retain: true, acknowledge: true });
      await at(step).unsubscribe([filter, 'marker']);
      await at(step + 1).publishFully({ topic, qos: 1, retain: true });
      await at(step + 2).subscribe([filter, 'marker'], { qos: 1 });
      await at(step + 2).expectPublish({ topic: 'marker', retain: true, acknowledge: true });
      await at(step + 2).unsubscribe([filter, 'marker']);
    }
    for (const client of clients) await client[Symbol.asyncDispose]();
  };
  await Promise.all(Array.from({ length: WORKERS }, (_, worker) => work(worker)));
}

withRedis(
  'a retained message is seen on every node from PUBACK on, and gone from PUBACK on once it is cleared',
  async () => {
    await using redis = await RedisProcess.start();
    await using nodes = await startNodes(3, redis.url);
    await tryAtOnce(nodes.all);
  },
  300_000,
);

withRedis(
  'the same in a Redis Cluster',
  async () => {
    await using redis = await RedisCluster.start();
    const url = `redis+cluster://${redis.nodes.map(({ port }) => `127.0.0.1:${String(port)}`).join(',')}`;
    await using nodes = await startNodes(3, url);
    await tryAtOnce(nodes.all);
  },
  300_000,
);

withRedis(
  '100,000 retained messages and a subscriber to # on another node: paced, and in bounded memory',
  async () => {
    await using redis = await RedisProcess.start();
    await using nodes = await startNodes(2, redis.url);
    const [first, second] = nodes.all as [ShoalProcess, ShoalProcess];
    await using publisher = await VolumeClient.connect(first.port, { clientId: 'publisher' });
    const payload = Buffer.alloc(1_000, 'x');
    for (let i = 0; i < RETAINED; i++) {
      await publisher.room();
      const topic = `kept/${String(i % 100)}/${String(i)}`;
      publisher.publish(topic, payload, { retain: true }).catch(() => undefined);
    }
    await publisher.ping();
    await publisher.publish('kept/last', payload, { retain: true });

    // Does not read: what it does not take must not be taken from Redis.
    const before = await residentBytes(second.pid);
    let came = 0;
    const topics = new Set<string>();
    const onMessage = ({ topic, retain }: { topic: string; retain: boolean }) => {
      came += 1;
      if (retain) topics.add(topic);
    };
    await using greedy = await VolumeClient.connect(second.port, { clientId: 'greedy', onMessage });
    await using bystander = await VolumeClient.connect(second.port, { clientId: 'bystander' });
    await greedy.subscribe('#', 1);
    greedy.pause();
    for (let i = 0; i < 200; i++) await bystander.ping();
    const held = await residentBytes(second.pid);
    expect(held - before).toBeLessThan(48 * MIB);

    // Between the messages others are served, all the time.
    greedy.resume();
    let between = 0;
    let most = 0;
    while (topics.size < RETAINED + 1) {
      const had = came;
      await bystander.ping();
      if (came > had && had < RETAINED) between += 1;
      most = Math.max(most, came - had);
    }
    expect(came).toBe(RETAINED + 1);
    expect(between).toBeGreaterThan(50);
    // No round trip had to wait for a large part of them.
    expect(most).toBeLessThan(RETAINED / 10);
    const after = await residentBytes(second.pid);
    expect(after - before).toBeLessThan(64 * MIB);
  },
  300_000,
);
