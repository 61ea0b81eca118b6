import { expect, test } from '@jest/globals';
import { ByteClient, RedisProcess, hasRedisServer } from '@shoalmq/testkit';
import type { ShoalProcess } from '@shoalmq/testkit';
import { startNodes } from './nodes.ts';
import { residentBytes } from './resident-bytes.ts';
import { VolumeClient } from './volume-client.ts';
import type { Received } from './volume-client.ts';

const withRedis = hasRedisServer() ? test : test.skip;

/** A client with a session that is not connected, subscribed to `filter`. */
async function leaveSession(port: number, clientId: string, filter: string): Promise<void> {
  const client = await VolumeClient.connect(port, { clientId, clean: false });
  await client.subscribe(filter, 2);
  await client.disconnect();
}

/** Publishes the numbers from 0 to `count`, padded to `bytes`; QoS 1 and 2 as `qos` says. */
async function publishNumbers(
  client: VolumeClient,
  topic: string,
  count: number,
  { qos = () => 1, bytes = 8 }: { qos?: (i: number) => 1 | 2; bytes?: number } = {},
): Promise<void> {
  const failures: unknown[] = [];
  for (let i = 0; i < count; i++) {
    await client.room();
    client
      .publish(topic, String(i).padStart(bytes, ' '), { qos: qos(i) })
      .catch((error: unknown) => failures.push(error));
  }
  await client.idle();
  expect(failures).toEqual([]);
}

/** Connects, and collects the numbers that come until `last` has come; nothing comes after it. */
async function collect(port: number, clientId: string, last: number): Promise<Received[]> {
  const messages: Received[] = [];
  let done = (): void => undefined;
  const complete = new Promise<void>((resolve) => {
    done = resolve;
  });
  const client = await VolumeClient.connect(port, {
    clientId,
    clean: false,
    onMessage: (message) => {
      messages.push({ ...message, payload: Buffer.from(message.payload) });
      if (numberOf(message) === last) done();
    },
  });
  expect(client.sessionPresent).toBe(true);
  await complete;
  await client.ping();
  await client.disconnect();
  return messages;
}

function numberOf({ payload }: Received): number {
  return Number(payload.toString());
}

async function droppedQueueFull(nodes: readonly ShoalProcess[]): Promise<number> {
  let sum = 0;
  for (const { httpPort } of nodes) {
    const response = await fetch(`http://127.0.0.1:${String(httpPort)}/metrics`);
    const [, value] =
      /^mqtt_messages_dropped_total\{reason="queue_full"\} (\d+)$/m.exec(await response.text()) ??
      [];
    sum += Number(value ?? 0);
  }
  return sum;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}

withRedis(
  '10,000 messages of QoS 1 and 2 wait for a client that is away, and come in order on another node',
  async () => {
    await using redis = await RedisProcess.start();
    await using nodes = await startNodes(3, redis.url);
    const [first, second, third] = nodes.all as [ShoalProcess, ShoalProcess, ShoalProcess];
    await leaveSession(first.port, 'away', 'numbers');
    await using publisher = await VolumeClient.connect(second.port, { clientId: 'publisher' });
    await publishNumbers(publisher, 'numbers', 10_000, { qos: (i) => (i % 3 === 0 ? 2 : 1) });
    const messages = await collect(third.port, 'away', 9_999);
    expect(messages.map(numberOf)).toEqual(range(0, 10_000));
    expect(messages.filter(({ dup }) => dup)).toEqual([]);
    // Nothing is left of it for the next connection.
    await publishNumbers(publisher, 'numbers', 1);
    expect((await collect(first.port, 'away', 0)).map(numberOf)).toEqual([0]);
  },
  120_000,
);

withRedis(
  'at the bound of messages or bytes the oldest go, the rest is in order, and what went is counted',
  async () => {
    await using redis = await RedisProcess.start();
    const limits = ['limits.queueMessagesMax=1000', 'limits.queueBytesMax=200000'];
    await using nodes = await startNodes(2, redis.url, limits);
    const [first, second] = nodes.all as [ShoalProcess, ShoalProcess];
    await leaveSession(first.port, 'many', 'many');
    await leaveSession(first.port, 'large', 'large');
    await using publisher = await VolumeClient.connect(second.port, { clientId: 'publisher' });
    await publishNumbers(publisher, 'many', 3_000, { qos: (i) => (i % 2 === 0 ? 1 : 2) });
    expect(await droppedQueueFull(nodes.all)).toBe(2_000);
    await publishNumbers(publisher, 'large', 500, { bytes: 1_000 });
    expect(await droppedQueueFull(nodes.all)).toBe(2_300);
    expect((await collect(second.port, 'many', 2_999)).map(numberOf)).toEqual(range(2_000, 3_000));
    expect((await collect(first.port, 'large', 499)).map(numberOf)).toEqual(range(300, 500));
  },
  120_000,
);

withRedis(
  'with reject-new the publisher is told 0x97, and what was kept stays',
  async () => {
    await using redis = await RedisProcess.start();
    const limits = ['limits.queueMessagesMax=100', 'limits.queuePolicy=reject-new'];
    await using nodes = await startNodes(2, redis.url, limits);
    const [first, second] = nodes.all as [ShoalProcess, ShoalProcess];
    await leaveSession(first.port, 'away', 'numbers');
    await using publisher = await ByteClient.connect(second.port);
    const reasonCodes: number[] = [];
    for (let i = 0; i < 150; i++) {
      const qos = i % 2 === 0 ? 1 : 2;
      reasonCodes.push(await publisher.publishFully({ topic: 'numbers', payload: String(i), qos }));
    }
    expect(reasonCodes).toEqual([...range(0, 100).map(() => 0), ...range(0, 50).map(() => 0x97)]);
    expect(await droppedQueueFull(nodes.all)).toBe(50);
    expect((await collect(second.port, 'away', 99)).map(numberOf)).toEqual(range(0, 100));
  },
  120_000,
);

withRedis(
  'a million queued messages are read in pages: in order, and in a fraction of their memory',
  async () => {
    const count = 1_000_000;
    const bytes = 600;
    await using redis = await RedisProcess.start();
    const limits = ['limits.queueMessagesMax=2000000', 'limits.queueBytesMax=2000000000'];
    await using nodes = await startNodes(2, redis.url, limits);
    const [first, second] = nodes.all as [ShoalProcess, ShoalProcess];
    await leaveSession(first.port, 'away', 'numbers');
    await using publisher = await VolumeClient.connect(first.port, { clientId: 'publisher' });
    await publishNumbers(publisher, 'numbers', 1, { bytes });
    const [, queue = ''] = /(\S+queue:\S+)/.exec(await redis.command('KEYS', '*queue:*')) ?? [];
    // Copies of the message that the node wrote, with the next numbers at their end.
    const copy = `local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2][2]
      local head = string.sub(first, 1, -9)
      for i = ARGV[1], ARGV[2] do
        redis.call('XADD', KEYS[1], '1-*', 'm', head .. string.format('%8d', i))
      end`;
    for (let from = 1; from < count; from += 50_000) {
      await redis.command('EVAL', copy, 1, queue, from, Math.min(from + 50_000, count) - 1);
    }
    expect(await redis.command('XLEN', queue)).toBe(`:${String(count)}`);

    const before = await residentBytes(second.pid);
    let next = 0;
    let wrong: number | undefined;
    let done = (): void => undefined;
    const complete = new Promise<void>((resolve) => {
      done = resolve;
    });
    await using client = await VolumeClient.connect(second.port, {
      clientId: 'away',
      clean: false,
      onMessage: (message) => {
        if (numberOf(message) !== next) wrong ??= next;
        next += 1;
        if (next === count || wrong !== undefined) done();
        // A client that does not read for a while.
        if (next === count / 2) client.pause();
      },
    });
    await using bystander = await VolumeClient.connect(second.port, { clientId: 'bystander' });
    let most = 0;
    const watch = async () => {
      await bystander.ping();
      most = Math.max(most, (await residentBytes(second.pid)) - before);
    };
    while (next < count / 2) await watch();
    for (let i = 0; i < 500; i++) await watch();
    client.resume();
    while (next < count && wrong === undefined) await watch();
    await complete;
    expect(wrong).toBeUndefined();
    // Most of it is what a garbage collector takes for such a rate, whatever the queue has.
    expect(most).toBeLessThan((count * bytes) / 3);
    // What is published now comes after all that.
    await client.ping();
    await publisher.publish('numbers', String(count), { qos: 1 });
    while (next <= count) await watch();
    expect(wrong).toBeUndefined();
  },
  300_000,
);
