import { expect, test } from '@jest/globals';
import { ByteClient, RedisProcess, ShoalProcess, hasRedisServer } from '@shoalmq/testkit';

const withRedis = hasRedisServer() ? test : test.skip;

withRedis(
  'two nodes and a Redis: what is published on one arrives on the other',
  async () => {
    await using redis = await RedisProcess.start();
    const start = (id: string) =>
      ShoalProcess.start({ args: ['--redis', redis.url, '--peer-port', '0', '--node-id', id] });
    await using one = await start('n1');
    await using two = await start('n2');
    await using publisher = await ByteClient.connect(one.port);
    await using clean = await ByteClient.connect(two.port);
    const persistent = {
      clientId: 'persistent',
      clean: false,
      properties: { sessionExpiryInterval: 60 },
    };
    await using before = await ByteClient.connect(two.port, persistent);

    await clean.subscribe('to/+', { qos: 1 });
    await before.subscribe('to/all', { qos: 1 });
    publisher.publish({ topic: 'to/all', payload: 'hello', qos: 1 });
    await publisher.expectPacket('puback');
    await clean.expectPublish({ topic: 'to/all', payload: Buffer.from('hello') });
    await before.expectPublish({ topic: 'to/all', payload: Buffer.from('hello') });

    await using after = await ByteClient.connect(one.port, persistent);
    expect(after.connack.sessionPresent).toBe(true);
    await before.expectDisconnect(0x8e);
    await after.expectPublish({ topic: 'to/all', payload: Buffer.from('hello'), dup: true });

    publisher.publish({ topic: 'kept/1', payload: 'retained', qos: 1, retain: true });
    await publisher.expectPacket('puback');
    await clean.subscribe('kept/#', { qos: 1 });
    await clean.expectPublish({ topic: 'kept/1', payload: Buffer.from('retained'), retain: true });
  },
  60_000,
);

withRedis(
  'P6: a node that is killed is buried by the other one, its wills are published',
  async () => {
    await using redis = await RedisProcess.start();
    const start = (id: string) =>
      ShoalProcess.start({ args: ['--redis', redis.url, '--peer-port', '0', '--node-id', id] });
    await using one = await start('n1');
    await using two = await start('n2');
    await using watcher = await ByteClient.connect(one.port, { timeoutMs: 30_000 });
    await watcher.subscribe('wills/#', { qos: 1 });
    const will = { topic: 'wills/x', payload: Buffer.from('gone'), qos: 1 as const, retain: false };
    await using lost = await ByteClient.connect(two.port, { will });
    const persistent = { clientId: 'p', clean: false, properties: { sessionExpiryInterval: 60 } };
    await using before = await ByteClient.connect(two.port, persistent);
    await before.subscribe('q', { qos: 1 });
    await two.kill();
    await lost.expectClose();

    await using after = await ByteClient.connect(one.port, persistent);
    expect(after.connack.sessionPresent).toBe(true);
    watcher.publish({ topic: 'q', payload: 'still here', qos: 1 });
    await after.expectPublish({ topic: 'q', payload: Buffer.from('still here') });
    await watcher.expectPacket('puback');
    await watcher.expectPublish({ topic: 'wills/x', payload: Buffer.from('gone') });
  },
  60_000,
);
