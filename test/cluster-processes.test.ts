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
