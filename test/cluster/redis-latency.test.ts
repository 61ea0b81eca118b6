import { expect, test } from '@jest/globals';
import { ByteClient, FlakyProxy, RedisProcess, hasRedisServer } from '@shoalmq/testkit';
import { Deliveries, events, persistent, startNode } from './redis-scenario.ts';

const withRedis = hasRedisServer() ? test : test.skip;
const timeoutMs = 20_000;

withRedis(
  'F9: with 200 ms to Redis and back everything works, no lease is lost, and nobody is taken for dead',
  async () => {
    await using redis = await RedisProcess.start();
    await using proxy = await FlakyProxy.start(redis.port);
    proxy.delayMs = 100;
    const url = `redis://127.0.0.1:${String(proxy.port)}`;
    await using one = await startNode('n1', ['--redis', url]);
    await using two = await startNode('n2', ['--redis', url]);
    const will = { topic: 'wills/x', payload: Buffer.from('dead'), qos: 1 as const, retain: false };

    await using clean = await ByteClient.connect(two.port, { timeoutMs });
    await clean.subscribe(['to/#', 'wills/#'], { qos: 1 });
    await using kept = await ByteClient.connect(two.port, persistent('kept', timeoutMs));
    await kept.subscribe('to/#', { qos: 2 });
    await using publisher = await ByteClient.connect(one.port, { timeoutMs });
    const payloads = Array.from({ length: 500 }, (_, index) => String(index));
    for (const payload of payloads) {
      publisher.publish({ topic: 'to/1', payload, qos: 1 });
      publisher.publish({ topic: 'to/0', payload });
    }
    const expected = { 'to/1': payloads, 'to/0': payloads };
    for (const client of [clean, kept]) {
      const deliveries = new Deliveries();
      await deliveries.takeUntil(client, expected);
      for (const topic of ['to/1', 'to/0']) expect(deliveries.all(topic)).toEqual(payloads);
    }
    while (publisher.received.filter(({ cmd }) => cmd === 'puback').length < payloads.length) {
      await publisher.roundTrip();
    }

    // A takeover from node to node, QoS 2, a retained message, a will.
    await using moved = await ByteClient.connect(one.port, {
      ...persistent('kept', timeoutMs),
      will,
    });
    expect(moved.connack.sessionPresent).toBe(true);
    await kept.expectDisconnect(0x8e);
    await publisher.publishFully({ topic: 'to/2', payload: 'twice', qos: 2 });
    await new Deliveries().takeUntil(moved, { 'to/2': ['twice'] });
    await publisher.publishFully({ topic: 'kept/1', payload: 'x', qos: 1, retain: true });
    await using reader = await ByteClient.connect(two.port, { timeoutMs });
    await reader.subscribe('kept/#', { qos: 1 });
    await reader.expectPublish({ topic: 'kept/1', payload: 'x', retain: true });
    moved.abort();
    await new Deliveries().takeUntil(clean, { 'to/2': ['twice'], 'wills/x': ['dead'] });

    for (const node of [one, two]) {
      for (const event of ['suspended', 'resumed', 'buried', 'peer_gone', 'state_replaced']) {
        expect(events(node)).not.toContain(`cluster.${event}`);
      }
    }
  },
  90_000,
);
