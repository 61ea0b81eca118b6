import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from '@jest/globals';
import {
  ByteClient,
  FlakyProxy,
  RedisProcess,
  SHOAL_MAIN,
  ShoalProcess,
  freePort,
  hasRedisServer,
  pollUntil,
} from '@shoalmq/testkit';

const withRedis = hasRedisServer() ? test : test.skip;
const SETTINGS = 'cluster.peerHost, cluster.peerPort and cluster.peerAddress';

/** A node that the others reach through a proxy only. */
interface Place {
  readonly id: string;
  readonly httpPort: number;
  readonly args: readonly string[];
  readonly proxy: FlakyProxy;
}

async function placeOf(id: string, redisUrl: string): Promise<Place> {
  const peerPort = await freePort();
  const proxy = await FlakyProxy.start(peerPort);
  const args = [
    ...['--redis', redisUrl, '--node-id', id, '--peer-port', String(peerPort)],
    ...['--set', `cluster.peerAddress=${proxy.address}`],
  ];
  return { id, httpPort: await freePort(), args, proxy };
}

async function readiness(httpPort: number): Promise<{ status: number; reason: string }> {
  try {
    const response = await fetch(`http://127.0.0.1:${httpPort}/readyz`);
    const { reason } = (await response.json()) as { reason: string };
    return { status: response.status, reason };
  } catch {
    return { status: 0, reason: 'nobody answers' };
  }
}

function unreachable(node: ShoalProcess): string[] {
  return node.lines
    .map((line) => JSON.parse(line) as { event: string; message: string })
    .filter(({ event }) => event === 'cluster.unreachable')
    .map(({ message }) => message);
}

withRedis(
  'a node whose peer port cannot be reached says so, is not ready and takes no clients; it is and does when the port opens',
  async () => {
    await using redis = await RedisProcess.start();
    const [first, second] = [await placeOf('n1', redis.url), await placeOf('n2', redis.url)];
    second.proxy.cut();
    await using one = await ShoalProcess.start(first);
    const starting = ShoalProcess.start(second);
    await pollUntil('n1 says so', () => unreachable(one).length > 0);
    await pollUntil('n2 says so', async () =>
      (await readiness(second.httpPort)).reason.includes(SETTINGS),
    );
    expect(await readiness(second.httpPort)).toEqual({
      status: 503,
      reason: `node n1 has not reached this node at ${second.proxy.address}, its ${SETTINGS}`,
    });
    // Nothing is lost on the node that was there, and nobody waits.
    expect((await readiness(one.httpPort)).status).toBe(200);
    await using subscriber = await ByteClient.connect(one.port);
    await subscriber.subscribe('a/+', { qos: 1 });

    second.proxy.mend();
    await using two = await starting;
    await pollUntil('n2 is ready', async () => (await readiness(two.httpPort)).status === 200);
    await using publisher = await ByteClient.connect(two.port);
    publisher.publish({ topic: 'a/b', qos: 1, payload: 'across' });
    await subscriber.expectPublish({ topic: 'a/b', payload: Buffer.from('across') });
    expect(unreachable(one)).toEqual([
      `node n2 cannot be reached at ${second.proxy.address}: look at its ${SETTINGS}`,
    ]);
    expect(unreachable(two)).toHaveLength(1);
    await Promise.all([first.proxy.close(), second.proxy.close()]);
  },
  60_000,
);

withRedis(
  'two nodes that cannot reach each other and start together are not both ready; a node that joins leaves on SIGTERM',
  async () => {
    await using redis = await RedisProcess.start();
    const places = [await placeOf('n1', redis.url), await placeOf('n2', redis.url)];
    for (const { proxy } of places) proxy.cut();
    const children = places.map(({ httpPort, args }) =>
      spawn(
        process.execPath,
        [SHOAL_MAIN, 'start', '--port', '0', '--http-port', String(httpPort), ...args],
        { stdio: 'ignore', env: { ...process.env, NODE_OPTIONS: '' } },
      ),
    );
    try {
      const waiting = async () => {
        const answers = await Promise.all(places.map(({ httpPort }) => readiness(httpPort)));
        // At most one, which was alone when it looked.
        expect(answers.filter(({ status }) => status === 200).length).toBeLessThan(2);
        return answers.filter(({ reason }) => reason.includes(SETTINGS)).length;
      };
      await pollUntil('they say so', async () => (await waiting()) > 0);
      const joining = children.map(async (child, index) => {
        if ((await readiness(places[index]!.httpPort)).status === 200) return;
        child.kill('SIGTERM');
        expect(await once(child, 'exit')).toEqual([0, null]);
      });
      await Promise.all(joining);
    } finally {
      for (const child of children) child.kill('SIGKILL');
      for (const { proxy } of places) await proxy.close();
    }
  },
  60_000,
);

withRedis(
  'serving nodes whose link is cut for long stay ready, and say what is wrong',
  async () => {
    await using redis = await RedisProcess.start();
    const [first, second] = [await placeOf('n1', redis.url), await placeOf('n2', redis.url)];
    await using one = await ShoalProcess.start(first);
    await using two = await ShoalProcess.start(second);
    second.proxy.cut();
    await pollUntil('both say so', () => unreachable(one).length + unreachable(two).length === 2);
    for (const { httpPort } of [one, two]) {
      const { status, reason } = await readiness(httpPort);
      expect(status).toBe(200);
      expect(reason).toContain(SETTINGS);
    }
    second.proxy.mend();
    for (const { httpPort } of [one, two]) {
      await pollUntil(
        'all is well',
        async () => (await readiness(httpPort)).reason === 'listening',
      );
    }
    await Promise.all([first.proxy.close(), second.proxy.close()]);
  },
  60_000,
);
