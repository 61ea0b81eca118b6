import { expect, test } from '@jest/globals';
import { ByteClient, RedisProcess, ShoalProcess, hasRedisServer } from '@shoalmq/testkit';

const withRedis = hasRedisServer() ? test : test.skip;

const persistent = { clean: false, properties: { sessionExpiryInterval: 60 } };
const will = (topic: string) => ({
  topic,
  payload: Buffer.from('gone'),
  qos: 1 as const,
  retain: false,
});

async function status(httpPort: number, path: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${httpPort}${path}`);
  await response.text();
  return response.status;
}

withRedis(
  'SIGTERM: /lb says 404 and clients are still accepted; then they are sent away at the pace that was set, and the node is gone',
  async () => {
    await using redis = await RedisProcess.start();
    const start = (id: string, ...settings: string[]) =>
      ShoalProcess.start({
        args: [
          ...['--redis', redis.url, '--peer-port', '0', '--node-id', id],
          ...settings.flatMap((setting) => ['--set', setting]),
        ],
      });
    await using one = await start('n1');
    await using two = await start(
      'n2',
      'drain.balancerDelaySeconds=2',
      'drain.connectionsPerSecond=20',
      'drain.willGraceSeconds=4',
    );
    await using watcher = await ByteClient.connect(one.port, { timeoutMs: 30_000 });
    await watcher.subscribe('wills/#', { qos: 1 });
    const clients = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        ByteClient.connect(two.port, {
          clientId: `c${i}`,
          will: will(`wills/c${i}`),
          timeoutMs: 30_000,
          ...(i % 2 === 0 ? {} : persistent),
        }),
      ),
    );
    await using old = await ByteClient.connect(two.port, { version: 4, timeoutMs: 30_000 });

    const stopped = two.stop(30_000);
    await until(async () => (await status(two.httpPort, '/lb')) === 404);
    expect(await status(two.httpPort, '/readyz')).toBe(503);
    expect(await status(two.httpPort, '/livez')).toBe(200);
    await using late = await ByteClient.connect(two.port, { timeoutMs: 30_000 });

    const sentAwayAtMs = await Promise.all(
      clients.map(async (client) => {
        await client.expectDisconnect(0x8b);
        return performance.now();
      }),
    );
    await late.expectDisconnect(0x8b);
    await old.expectClose();
    // 42 at 20 a second; a burst would take no time at all.
    expect(Math.max(...sentAwayAtMs) - Math.min(...sentAwayAtMs)).toBeGreaterThan(1_000);
    const back = await Promise.all(
      Array.from({ length: 39 }, (_, i) =>
        ByteClient.connect(one.port, {
          clientId: `c${i + 1}`,
          ...((i + 1) % 2 === 0 ? {} : persistent),
        }),
      ),
    );
    expect(back.filter(({ connack }) => connack.sessionPresent)).toHaveLength(20);
    expect(await stopped).toBe(0);
    // The one that did not come back, and nobody else.
    await watcher.expectPublish({ topic: 'wills/c0' });
    watcher.publish({ topic: 'wills/last', qos: 1, payload: '' });
    await watcher.expectPublish({ topic: 'wills/last' });
    expect(two.lines.join('\n')).not.toMatch(/"level":"(error|fatal)"/);
    for (const client of [...clients, ...back]) await client[Symbol.asyncDispose]();
  },
  60_000,
);

withRedis(
  'the last node ends without waiting, and a second signal ends any node at once',
  async () => {
    await using redis = await RedisProcess.start();
    const start = (id: string) =>
      ShoalProcess.start({
        args: ['--redis', redis.url, '--peer-port', '0', '--node-id', id],
        env: { SHOAL_DRAIN__BALANCER_DELAY_SECONDS: '600' },
      });
    await using one = await start('n1');
    await using two = await start('n2');
    const client = await ByteClient.connect(two.port);
    const stopped = two.stop(30_000);
    await until(async () => (await status(two.httpPort, '/lb')) === 404);
    process.kill(two.pid, 'SIGTERM');
    expect(await stopped).toBe(143);
    await client.expectClose();
    await client[Symbol.asyncDispose]();
    expect(await one.stop(30_000)).toBe(0);
  },
  60_000,
);

async function until(done: () => Promise<boolean>): Promise<void> {
  while (!(await done())) await new Promise((resolve) => setTimeout(resolve, 20));
}
