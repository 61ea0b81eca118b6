import { expect, test } from '@jest/globals';
import {
  ByteClient,
  FlakyProxy,
  RedisProcess,
  ShoalCluster,
  ShoalProcess,
  freePort,
  hasRedisServer,
  pollUntil,
} from '@shoalmq/testkit';

const withRedis = hasRedisServer() ? test : test.skip;
const PATIENCE = { timeoutMs: 60_000 };
const PERSISTENT = { clean: false, properties: { sessionExpiryInterval: 600 } };

/** A node whose links from others, and whose way to Redis, lead through proxies. */
class CutNode implements AsyncDisposable {
  readonly process: ShoalProcess;
  /** The links of the other nodes to this one. */
  readonly inbound: FlakyProxy;
  readonly toRedis: FlakyProxy;

  private constructor(process: ShoalProcess, inbound: FlakyProxy, toRedis: FlakyProxy) {
    this.process = process;
    this.inbound = inbound;
    this.toRedis = toRedis;
  }

  static async start(id: string, redis: RedisProcess): Promise<CutNode> {
    const peerPort = await freePort();
    const inbound = await FlakyProxy.start(peerPort);
    const toRedis = await FlakyProxy.start(redis.port);
    const process = await ShoalProcess.start({
      args: [
        ...['--node-id', id, '--redis', `redis://${toRedis.address}`],
        ...['--peer-port', String(peerPort), '--set', `cluster.peerAddress=${inbound.address}`],
      ],
    });
    return new CutNode(process, inbound, toRedis);
  }

  get port(): number {
    return this.process.port;
  }

  logged(event: string): boolean {
    return this.process.lines.some((line) => line.includes(`"${event}"`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process.kill();
    await this.inbound.close();
    await this.toRedis.close();
  }
}

/** Takes messages as they come and acknowledges them. */
class Taker {
  readonly client: ByteClient;
  readonly payloads: string[] = [];
  ended = false;

  constructor(client: ByteClient) {
    this.client = client;
    void this.#serve();
  }

  async #serve(): Promise<void> {
    const { client } = this;
    try {
      for (;;) {
        const packet = await client.expectPacket();
        if (packet.cmd === 'publish') {
          this.payloads.push(packet.payload.toString());
          if (packet.qos === 1) client.puback(packet.messageId!);
          if (packet.qos === 2) client.pubrec(packet.messageId!);
        } else if (packet.cmd === 'pubrel') client.pubcomp(packet.messageId);
      }
    } catch {
      this.ended = true;
      client.stream.destroy();
    }
  }
}

async function subscriber(
  port: number,
  topic: string,
  fields: Parameters<typeof ByteClient.connect>[1] = {},
): Promise<Taker> {
  const client = await ByteClient.connect(port, { ...PATIENCE, ...fields });
  await client.subscribe(topic, { qos: 2 });
  return new Taker(client);
}

const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, n) => String(from + n));

withRedis.each([1, 2] as const)(
  'F4: what is published at QoS %d while a link is cut arrives in order and once when it is back',
  async (qos) => {
    await using redis = await RedisProcess.start();
    await using one = await CutNode.start('n1', redis);
    await using two = await CutNode.start('n2', redis);
    const clean = await subscriber(two.port, 't');
    const persistent = await subscriber(two.port, 't', { clientId: 'p', ...PERSISTENT });
    await using publisher = await ByteClient.connect(one.port, PATIENCE);
    const publish = (from: number, to: number): Promise<number[]> =>
      Promise.all(
        numbers(from, to).map((payload) => publisher.publishFully({ topic: 't', payload, qos })),
      );
    await publish(0, 50);

    for (const { inbound } of [one, two]) inbound.cut();
    await pollUntil('the end of the link', () => one.logged('cluster.peer_down'));
    let acknowledged = false;
    const cutAtMs = performance.now();
    const whileCut = publish(50, 100).then(() => {
      acknowledged = true;
    });
    // The queue is in Redis: whoever serves it looks there when the link is silent.
    await pollUntil('what is kept', () => persistent.payloads.length === 100);
    expect(performance.now() - cutAtMs).toBeLessThan(9_000);
    expect([acknowledged, clean.payloads.length, clean.ended]).toEqual([false, 50, false]);
    for (const { inbound } of [one, two]) inbound.mend();
    await whileCut;
    await publish(100, 150);

    for (const taker of [clean, persistent]) {
      await pollUntil('all', () => taker.payloads.length >= 150);
      expect(taker.payloads).toEqual(numbers(0, 150));
      expect(taker.ended).toBe(false);
      taker.client.stream.destroy();
    }
  },
  90_000,
);

withRedis(
  'P11: at the deadline the ack is given; when the publishing node dies before the link is back, clean sessions that missed something end',
  async () => {
    await using redis = await RedisProcess.start();
    await using one = await CutNode.start('n1', redis);
    await using two = await CutNode.start('n2', redis);
    const clean = await subscriber(two.port, 't');
    const careless = await ByteClient.connect(two.port, PATIENCE);
    await careless.subscribe('t', { qos: 0 });
    const persistent = await subscriber(two.port, 't', { clientId: 'p', ...PERSISTENT });
    await using publisher = await ByteClient.connect(one.port, PATIENCE);
    for (const { inbound } of [one, two]) inbound.cut();
    await pollUntil('the end of the link', () => two.logged('cluster.peer_down'));
    await publisher.publishFully({ topic: 't', payload: 'late', qos: 1 });
    expect(one.logged('cluster.peer_late')).toBe(true);
    expect([clean.payloads, clean.ended]).toEqual([[], false]);
    await one.process.kill();

    await pollUntil('the end of who missed it', () => clean.ended);
    expect(two.logged('cluster.missed')).toBe(true);
    expect(persistent.payloads).toEqual(['late']);
    await careless.roundTrip();
    expect(persistent.ended).toBe(false);
    for (const { client } of [persistent]) client.stream.destroy();
    careless.stream.destroy();
  },
  90_000,
);

withRedis(
  'P11: when the buffer for a cut link overflows, clean sessions that missed something end when it is back',
  async () => {
    await using redis = await RedisProcess.start();
    await using one = await CutNode.start('n1', redis);
    await using two = await CutNode.start('n2', redis);
    const clean = await subscriber(two.port, 't');
    await using publisher = await ByteClient.connect(one.port, PATIENCE);
    for (const { inbound } of [one, two]) inbound.cut();
    await pollUntil('the end of the link', () => one.logged('cluster.peer_down'));
    let acknowledged = 0;
    // More than the 64 MiB that are kept for a node.
    const published = Promise.all(
      Array.from({ length: 80 }, async () => {
        await publisher.publishFully({ topic: 't', payload: Buffer.alloc(1_000_000), qos: 1 });
        acknowledged += 1;
      }),
    );
    await publisher.roundTrip();
    expect([acknowledged, clean.ended]).toEqual([0, false]);
    for (const { inbound } of [one, two]) inbound.mend();

    await published;
    await pollUntil('the end of who missed some', () => clean.ended);
    expect(two.logged('cluster.missed')).toBe(true);
  },
  60_000,
);

withRedis(
  'P11: a node that is killed while its links are fine costs nobody else a connection',
  async () => {
    await using redis = await RedisProcess.start();
    await using one = await CutNode.start('n1', redis);
    await using two = await CutNode.start('n2', redis);
    const clean = await subscriber(two.port, 't');
    await one.process.kill();
    await pollUntil('the burial', () => two.logged('cluster.buried'));
    expect([clean.ended, two.logged('cluster.missed')]).toEqual([false, false]);
    await using publisher = await ByteClient.connect(two.port, PATIENCE);
    await publisher.publishFully({ topic: 't', payload: 'after', qos: 1 });
    await pollUntil('the message', () => clean.payloads.includes('after'));
    clean.client.stream.destroy();
  },
  60_000,
);

withRedis.each([
  ['persistent', PERSISTENT],
  ['clean', { clean: true }],
] as const)(
  'F4: with the link cut a client that moves on ends its older connection all the same (%s session)',
  async (_kind, session) => {
    await using redis = await RedisProcess.start();
    await using one = await CutNode.start('n1', redis);
    await using two = await CutNode.start('n2', redis);
    await using older = await ByteClient.connect(one.port, {
      ...PATIENCE,
      ...session,
      clientId: 'moving',
    });
    for (const { inbound } of [one, two]) inbound.cut();
    await pollUntil('the end of the link', () => one.logged('cluster.peer_down'));
    await using newer = await ByteClient.connect(two.port, {
      ...PATIENCE,
      ...session,
      clientId: 'moving',
    });
    await older.expectDisconnect(0x8e);
    await newer.roundTrip();
  },
  60_000,
);

withRedis(
  'F5: a node that is cut off from Redis is buried, and on its return ends what has moved on or was ended',
  async () => {
    await using redis = await RedisProcess.start();
    await using one = await CutNode.start('n1', redis);
    await using two = await CutNode.start('n2', redis);
    const watcher = await subscriber(two.port, 'wills/#');
    const will = { topic: 'wills/x', payload: Buffer.from('will'), qos: 1, retain: false } as const;
    const moved = await subscriber(one.port, 't', { clientId: 'moved', ...PERSISTENT });
    const buried = await subscriber(one.port, 't', { clientId: 'buried', will });
    await using publisher = await ByteClient.connect(one.port, { ...PATIENCE, clientId: 'cut' });
    await using source = await ByteClient.connect(two.port, PATIENCE);
    one.toRedis.cut();
    await pollUntil('the suspension', () => one.logged('cluster.suspended'));
    let acknowledged = false;
    void publisher
      .publishFully({ topic: 't', payload: 'from the cut', qos: 1 })
      .then(() => {
        acknowledged = true;
      })
      .catch(() => undefined);
    await pollUntil('the burial', () => two.logged('cluster.buried'));
    const after = await subscriber(two.port, 't', { clientId: 'moved', ...PERSISTENT });
    await source.publishFully({ topic: 't', payload: 'meanwhile', qos: 2 });
    await pollUntil('the message', () => after.payloads.includes('meanwhile'));
    expect([moved.payloads, buried.payloads, acknowledged]).toEqual([[], [], false]);
    expect(watcher.payloads).toEqual(['will']);
    one.toRedis.mend();

    await pollUntil('the end of both', () => moved.ended && buried.ended);
    const again = await subscriber(one.port, 't');
    await source.publishFully({ topic: 't', payload: 'after', qos: 1 });
    for (const taker of [after, again]) {
      await pollUntil('the last message', () => taker.payloads.includes('after'));
    }
    expect(after.payloads).toEqual(['meanwhile', 'after']);
    expect(watcher.payloads).toEqual(['will']);
    for (const { client } of [watcher, after, again]) client.stream.destroy();
  },
  90_000,
);

withRedis(
  'what a node that is killed has not taken for a shared group goes to other members, at QoS 1',
  async () => {
    await using cluster = await ShoalCluster.start({ nodes: 3 });
    const [one, two, three] = cluster.ports as [number, number, number];
    const lost = await subscriber(two, '$share/g/jobs');
    const left = await subscriber(three, '$share/g/jobs');
    await using publisher = await ByteClient.connect(one, PATIENCE);
    const publish = (from: number, to: number): Promise<number[]> =>
      Promise.all(
        numbers(from, to).map((payload) =>
          publisher.publishFully({ topic: 'jobs', payload, qos: 1 }),
        ),
      );
    await publish(0, 10);
    await pollUntil('a first part', () => lost.payloads.length === 5);
    // It stands still, so that half of what follows is on its way to it when it dies.
    cluster.pause('n2');
    const published = publish(10, 110);
    await pollUntil('the other half', () => left.payloads.length >= 55);
    await cluster.kill('n2');

    await published;
    await pollUntil('all', () => new Set(left.payloads).size >= 105);
    const got = [...left.payloads, ...lost.payloads].sort((a, b) => Number(a) - Number(b));
    expect(got).toEqual(numbers(0, 110));
    // As long as its routes are there nobody is given anything for it.
    await publish(110, 120);
    await pollUntil('the last', () => left.payloads.includes('119'));
    left.client.stream.destroy();
  },
  60_000,
);

withRedis(
  '[MQTT-3.8.3-3] No Local: a client that moves on while what it published is under way does not get it',
  async () => {
    await using redis = await RedisProcess.start();
    await using one = await CutNode.start('n1', redis);
    await using two = await CutNode.start('n2', redis);
    const own = { topic: 't', qos: 1, nl: true } as const;
    await using before = await ByteClient.connect(one.port, { ...PATIENCE, clientId: 'moving' });
    before.sendPacket({ cmd: 'subscribe', messageId: 1, subscriptions: [own] });
    await before.expectPacket('suback');
    const other = await subscriber(two.port, 't');
    for (const { inbound } of [one, two]) inbound.cut();
    await pollUntil('the end of the link', () => one.logged('cluster.peer_down'));
    before.publish({ topic: 't', payload: 'mine', qos: 1 });
    await before.roundTrip();
    await using after = await ByteClient.connect(two.port, { ...PATIENCE, clientId: 'moving' });
    after.sendPacket({ cmd: 'subscribe', messageId: 1, subscriptions: [own] });
    await after.expectPacket('suback');
    for (const { inbound } of [one, two]) inbound.mend();
    await pollUntil('the message', () => other.payloads.includes('mine'));
    await after.expectNothing();
    other.client.stream.destroy();
  },
  60_000,
);
